//! How soon the daemon detected that backends are unreachable or silent, according to its events.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::{Context as _, Result};
use edge_tests::lab::Lab;
use serde::Serialize;
use serde_json::Value;

/// Delays from an event of the demo to the daemon's events about backends that are down, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Known {
    pub(super) event: &'static str,
    /// Number of backends, counted once per pool.
    pub(super) backends: usize,
    pub(super) median_ms: u64,
    pub(super) longest_ms: u64,
}

/// The daemon's detection of `event`, which happened at `since`.
pub(super) fn known(lab: &Lab, event: &'static str, since: SystemTime) -> Result<Option<Known>> {
    let since = u64::try_from(since.duration_since(SystemTime::UNIX_EPOCH)?.as_millis())?;
    let events = lab.ctl(&["events", "--json"])?;
    // The first event about each backend: the loss of its flows is another event.
    let mut first = BTreeMap::new();
    for line in events.lines() {
        let one: Value = serde_json::from_str(line).context("an event")?;
        let at = one["at"].as_u64().context("an event has a time")?;
        if one["kind"] == "backend_down" && at >= since {
            first.entry(one["subject"].to_string()).or_insert(at - since);
        }
    }
    Ok(summary(event, first.into_values().collect()))
}

fn summary(event: &'static str, mut delays: Vec<u64>) -> Option<Known> {
    delays.sort_unstable();
    let (backends, longest_ms) = (delays.len(), *delays.last()?);
    Some(Known { event, backends, median_ms: delays[backends / 2], longest_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_and_the_last() {
        assert_eq!(summary("x", Vec::new()), None);
        let known = summary("x", vec![30, 10, 20]).unwrap();
        assert_eq!((known.backends, known.median_ms, known.longest_ms), (3, 20, 30));
    }
}
