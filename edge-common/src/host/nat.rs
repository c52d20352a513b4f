//! The table of translated flows in plain memory.

use std::{collections::BTreeMap, fmt};

use super::FlowArrays;
use crate::{
    abi::{FlowEnds, FlowHead, HashKey, NAT_HOPS, NAT_SOURCES, NatChoice, NatHead, NatSource, Tracking},
    flow_table::{FlowTable, Native, Stage, Word},
    maps::HopWords,
    nat::{self, Hop, Translation},
};

/// The table of translated flows of a [`Memory`](super::Memory), and the return routes.
pub struct Nat {
    pub head: NatHead,
    pub arrays: FlowArrays<Native>,
    pub hops: Vec<HopWords>,
}

/// A translated flow in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    pub translation: Translation,
    /// Port of the source, host order.
    pub port: u16,
    pub stage: Stage,
    pub seen: u32,
    /// The number that the client has to quote, or that its next connection must exceed.
    pub sequence: u32,
}

impl NatHead {
    /// Parameters of a table whose sources have these ports, with `lanes` entries for each port; `idle_ns` gives the idle
    /// timeout of a flow by its tracking.
    pub fn new(hash_key: HashKey, first_port: u16, ports: u32, lanes: u32, idle_ns: impl Fn(Tracking) -> u64) -> Self {
        let entries = (ports * lanes).next_power_of_two().max(1);
        let flows = FlowHead { timeouts: nat::timeouts(idle_ns), mask: entries - 1, reserved: 0 };
        Self {
            flows,
            hash_key,
            first_port: first_port.into(),
            ports,
            lanes,
            reserved: 0,
            sources: [NatSource::default(); NAT_SOURCES],
            sources_v4: NatChoice::default(),
            sources_v6: NatChoice::default(),
        }
    }
}

impl Nat {
    /// An empty table.
    pub fn new(head: NatHead) -> Self {
        let arrays = FlowArrays::new(head.flows.mask as usize + 1);
        Self { head, arrays, hops: (0..NAT_HOPS).map(|_| HopWords::default()).collect() }
    }

    /// The table at the time `now`, in units.
    pub fn table(&self, now: u32) -> FlowTable<'_, FlowArrays<Native>> {
        FlowTable { memory: &self.arrays, mask: self.head.flows.mask, timeouts: &self.head.flows.timeouts, now }
    }

    /// All flows.
    pub fn flows(&self) -> BTreeMap<FlowEnds, Translated> {
        let table = self.table(0);
        let live = (0..=self.head.flows.mask).filter_map(|number| table.read(number));
        live.map(|(flow, found)| {
            let translated = Translated {
                translation: Translation::of(found.served),
                port: nat::port_of(&self.head, found.number),
                stage: found.life.stage(),
                seen: found.life.seen(),
                sequence: found.served.sequence,
            };
            (flow.ends(), translated)
        })
        .collect()
    }

    /// The known return routes with their numbers.
    pub fn hops(&self) -> Vec<(usize, [u64; 4])> {
        let words = |hop: &HopWords| hop.each_ref().map(Word::load);
        let known = self.hops.iter().enumerate().filter(|(_, hop)| Hop(hop).leads_to().is_some());
        known.map(|(number, hop)| (number, words(hop))).collect()
    }
}

impl Default for Nat {
    /// A table with which nothing is translated.
    fn default() -> Self {
        Self::new(NatHead::new(HashKey::default(), 0, 0, 0, |_| 0))
    }
}

impl Clone for Nat {
    fn clone(&self) -> Self {
        let hops = self.hops.iter().map(|hop| hop.each_ref().map(|word| Word::load(word).into())).collect();
        Self { head: self.head, arrays: self.arrays.clone(), hops }
    }
}

impl fmt::Debug for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.flows()).finish()
    }
}
