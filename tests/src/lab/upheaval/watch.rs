//! What the load balancer says of its flow records while things change.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::{
    Lab,
    topology::{Family, Service},
};

/// What was seen over time.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Slots whose owner is not their pick, by service; as last seen.
    differing: BTreeMap<String, u64>,
    /// The transitions of services; as last seen.
    pub under_way: BTreeMap<String, Value>,
    /// How often all slots of a service were handed over.
    pub handed_over: u64,
    /// Records of IPv4 and of IPv6; as last seen.
    pub records: [u64; 2],
    /// The most of them that there were.
    pub most_records: [u64; 2],
    /// What the packet path did with records, of all services, by name; as last seen.
    pub counts: BTreeMap<String, u64>,
}

impl Watch {
    /// Looks once.
    pub fn look(&mut self, lab: &Lab) -> Result<()> {
        let status = lab.status()?;
        let services = status.get("services").and_then(Value::as_array).context("a status has services")?;
        self.records = [0, 0];
        self.counts.clear();
        self.under_way.clear();
        for service in services {
            let name = service.get("name").and_then(Value::as_str).context("a service has a name")?;
            for (count, value) in service.get("flows").and_then(Value::as_object).into_iter().flatten() {
                *self.counts.entry(count.clone()).or_default() += value.as_u64().unwrap_or_default();
            }
            let transition = service.get("transition").filter(|transition| !transition.is_null());
            if let Some(transition) = transition {
                self.under_way.insert(name.to_owned(), transition.clone());
            }
            let number = |key: &str| transition.and_then(|transition| transition.get(key)?.as_u64());
            self.records[family(name) as usize] += number("records").unwrap_or_default();
            // Nobody may have looked yet.
            let differing = if transition.is_some() { number("slots_differing") } else { Some(0) };
            let Some(differing) = differing else { continue };
            let before = self.differing.insert(name.to_owned(), differing).unwrap_or_default();
            self.handed_over += u64::from(before > 0 && differing == 0);
        }
        for (most, now) in self.most_records.iter_mut().zip(self.records) {
            *most = now.max(*most);
        }
        Ok(())
    }

    /// How often the packet path did what has this name.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }
}

/// Of the clients.
fn family(service: &str) -> Family {
    if Service::named(service).vip.is_ipv4() { Family::V4 } else { Family::V6 }
}
