//! One reading of the status, and what is computed from it and the one before.

use std::collections::BTreeMap;

use crate::control::{
    headline::{Headline, headline},
    status::{Rates, Status},
};

#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) status: Status,
    pub(super) headline: Headline,
    /// Packets per second by the name of the exit; empty before the second reading.
    exits: BTreeMap<String, f64>,
}

impl Snapshot {
    pub(super) fn new(status: Status, earlier: Option<&Self>) -> Self {
        let exits = earlier.map_or_else(BTreeMap::new, |earlier| exit_rates(&status, earlier));
        Self { headline: headline(&status), status, exits }
    }

    /// Packets per second that leave by an exit.
    pub(super) fn exit(&self, name: &str) -> Option<f64> {
        self.exits.get(name).copied()
    }

    /// The rates of all services together; `None` while none has any.
    pub(super) fn total(&self) -> Option<Rates> {
        let rates = self.status.services.iter().filter_map(|service| service.traffic.rates);
        rates.reduce(Rates::and)
    }

    /// Packets per second that are dropped.
    pub(super) fn drops(&self) -> Option<f64> {
        let drops = self.status.exits.iter().filter(|exit| exit.verdict == "drop");
        drops.map(|exit| self.exit(&exit.name)).sum()
    }
}

fn exit_rates(status: &Status, earlier: &Snapshot) -> BTreeMap<String, f64> {
    let elapsed = status.at.saturating_sub(earlier.status.at);
    if elapsed == 0 {
        // The same reading again, or a clock that was set.
        return earlier.exits.clone();
    }
    let before: BTreeMap<_, _> = earlier.status.exits.iter().map(|exit| (&exit.name, exit.packets)).collect();
    let rate = |name, packets: u64| {
        // New maps count from zero.
        let more = packets.saturating_sub(*before.get(name)?);
        #[expect(clippy::cast_precision_loss, reason = "packets and milliseconds of a few seconds")]
        Some(more as f64 * 1000.0 / elapsed as f64)
    };
    status.exits.iter().filter_map(|exit| Some((exit.name.clone(), rate(&exit.name, exit.packets)?))).collect()
}
