//! Observes the load balancer's status of flow records during changes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::lab::{
    Lab,
    topology::{Family, Service},
};

/// Observations over time.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Number of slots whose owner is not their pick, by service, at the last poll.
    differing: BTreeMap<String, u64>,
    /// The transitions of services, at the last poll.
    pub transitions: BTreeMap<String, Value>,
    /// How often all slots of a service were handed over.
    pub handed_over: u64,
    /// Records of IPv4 and of IPv6, at the last poll.
    pub records: [u64; 2],
    /// Maxima of `records`.
    pub most_records: [u64; 2],
    /// The packet path's operations on records, over all services, by name, at the last poll.
    pub counts: BTreeMap<String, u64>,
}

impl Watch {
    /// Polls the status.
    pub fn look(&mut self, lab: &Lab) -> Result<()> {
        let status = lab.status()?;
        let services = status.get("services").and_then(Value::as_array).context("a status has services")?;
        self.records = [0, 0];
        self.counts.clear();
        self.transitions.clear();
        for service in services {
            let name = service.get("name").and_then(Value::as_str).context("a service has a name")?;
            for (count, value) in service.get("flows").and_then(Value::as_object).into_iter().flatten() {
                *self.counts.entry(count.clone()).or_default() += value.as_u64().unwrap_or_default();
            }
            let transition = service.get("transition").filter(|transition| !transition.is_null());
            if let Some(transition) = transition {
                self.transitions.insert(name.to_owned(), transition.clone());
            }
            let number = |key: &str| transition.and_then(|transition| transition.get(key)?.as_u64());
            self.records[family(name) as usize] += number("records").unwrap_or_default();
            // The controller may not have counted the slots yet.
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

    /// Number of the packet path's operations of this name.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }
}

/// The IP version of the service's clients.
fn family(service: &str) -> Family {
    if Service::named(service).vip.is_ipv4() { Family::V4 } else { Family::V6 }
}
