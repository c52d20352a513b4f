//! Traces in an operator's terms: what is to be traced, and the fate of a traced frame.

use std::collections::BTreeMap;

use edge_common::abi::{
    BackendNumber, ClientPrefix, Exit, TraceFilter, TraceState, TracedFrame, Verdict, traced_flags as flags,
};
use serde::Serialize;

use super::inventory::{Inventory, NameError};
use crate::bpf::PinnedMaps;

/// What an operator wants to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) service: Option<&'a str>,
    pub(crate) backend: Option<&'a str>,
    pub(crate) client: Option<ClientPrefix>,
    /// None: all.
    pub(crate) exits: Vec<Exit>,
    pub(crate) bounds: Bounds,
}

/// Bounds of what a trace costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// One packet in this many is looked at.
    pub(crate) sample: u32,
    /// Frames that each CPU writes in a second.
    pub(crate) rate: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { sample: 1, rate: 1000 }
    }
}

/// Packets that each CPU looks at in a second, if that many come.
const LOOKS: u32 = 100_000;

/// `a_second`, for one window of a trace; at least 1.
fn in_a_window(a_second: u32) -> u32 {
    let nanoseconds = u64::from(a_second) << TraceState::WINDOW_BITS;
    u32::try_from(nanoseconds / 1_000_000_000).unwrap_or(u32::MAX).max(1)
}

impl Wanted<'_> {
    /// The filter that the packet path compares numbers with.
    ///
    /// # Errors
    /// If there is no such service or backend.
    pub(crate) fn filter(&self, inventory: &Inventory) -> Result<TraceFilter, NameError> {
        let Bounds { sample, rate } = self.bounds;
        let mut filter = TraceFilter::everything(sample.max(1), in_a_window(LOOKS), in_a_window(rate));
        if let Some(word) = self.service {
            let numbers: Vec<u32> = inventory.service(word)?.into_iter().map(|(_, number)| number).collect();
            (filter.by_service, filter.services) = (1, both(&numbers));
        }
        if let Some(word) = self.backend {
            let numbers: Vec<u32> = inventory.backend(word)?.numbers.into_iter().map(u32::from).collect();
            (filter.by_backend, filter.backends) = (1, both(&numbers));
        }
        if !self.exits.is_empty() {
            filter.exits = [0; 2];
            for exit in self.exits.iter().map(|exit| *exit as usize) {
                filter.exits[exit / 64] |= 1 << (exit % 64);
            }
        }
        filter.client = self.client.unwrap_or_default();
        Ok(filter)
    }
}

/// The numbers of the one or two parts of a service, or of a backend's one or two addresses.
fn both(numbers: &[u32]) -> [u32; 2] {
    let first = numbers.first().copied().unwrap_or(u32::MAX);
    [first, numbers.get(1).copied().unwrap_or(first)]
}

/// What became of a frame.
#[expect(clippy::struct_excessive_bools, reason = "each is a word of its own in the output")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fate {
    pub(crate) service: Option<String>,
    /// Number of the flow's slot in its service.
    pub(crate) slot: Option<u32>,
    /// The backend of the slot's established flows.
    pub(crate) owner: Option<String>,
    /// Whether the packet had to look further than the owner.
    pub(crate) in_transition: bool,
    /// Whether the packet looked for its flow's record.
    pub(crate) looked_up: bool,
    /// The backend of the flow's record.
    pub(crate) record: Option<String>,
    /// Whether the record was made, changed or removed.
    pub(crate) record_changed: bool,
    pub(crate) starts_flow: bool,
    /// The backend that the packet went to, or came from.
    pub(crate) backend: Option<String>,
    pub(crate) exit: &'static str,
    pub(crate) verdict: &'static str,
}

/// The names of what frames have as numbers, of one generation.
pub(crate) struct Names {
    services: BTreeMap<u32, String>,
    backends: BTreeMap<BackendNumber, String>,
}

impl Names {
    pub(crate) fn of(inventory: &Inventory) -> Self {
        Self {
            services: inventory.services().map(|(service, number)| (number, service.name.clone())).collect(),
            backends: inventory.known().map(|known| (known.number, known.name)).collect(),
        }
    }

    /// The fate of a frame. The slots of its service are those of the maps at present.
    pub(crate) fn fate(&self, frame: &TracedFrame, maps: &PinnedMaps) -> Fate {
        let has = |flag: u16| frame.flags & flag != 0;
        let backend = |number: BackendNumber| match number {
            0 => None,
            _ => Some(self.backends.get(&number).cloned().unwrap_or_else(|| format!("number {number}"))),
        };
        let exit = Exit::from_raw(frame.exit);
        let knows_service = has(flags::SERVICE);
        let slot = (has(flags::SLOT) && knows_service).then(|| maps.slot_in(frame.bank, frame.service, frame.slot));
        Fate {
            service: knows_service.then(|| {
                let name = self.services.get(&frame.service).cloned();
                name.unwrap_or_else(|| format!("number {}", frame.service))
            }),
            slot: slot.flatten(),
            owner: has(flags::SLOT).then(|| backend(frame.owner)).flatten(),
            in_transition: has(flags::LOOKS),
            looked_up: has(flags::RECORD),
            record: backend(frame.record),
            record_changed: has(flags::CHANGED),
            starts_flow: has(flags::STARTS),
            backend: backend(frame.backend),
            exit: exit.name(),
            verdict: match exit.verdict() {
                Verdict::Pass => "passed",
                Verdict::Drop => "dropped",
                Verdict::Tx | Verdict::Redirect => "sent",
            },
        }
    }
}

/// Whether a frame left the host by the packet path.
pub(crate) fn is_sent(frame: &TracedFrame) -> bool {
    matches!(Exit::from_raw(frame.exit).verdict(), Verdict::Tx | Verdict::Redirect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_a_second_are_shared_among_its_windows() {
        assert_eq!([in_a_window(1), in_a_window(1000), in_a_window(LOOKS)], [1, 67, 6710]);
    }

    #[test]
    fn exits_are_bits_of_two_words() {
        let mut frame: TracedFrame = bytemuck::Zeroable::zeroed();
        let (first, last) = (Exit::ALL[0], *Exit::ALL.last().expect("exits"));
        let mut filter = TraceFilter::everything(1, 1, 1);
        filter.exits = [0; 2];
        filter.exits[last as usize / 64] |= 1 << (last as usize % 64);
        for exit in Exit::ALL {
            frame.exit = *exit as u32;
            assert_eq!(filter.takes(&frame), *exit == last, "{}", exit.name());
        }
        frame.exit = first as u32;
        assert!(TraceFilter::everything(1, 1, 1).takes(&frame));
    }
}
