//! Manages the records in the kernel's flow table.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use edge_common::{
    abi::{FlowHead, Timeouts, Tracking},
    flow_table::{self, Birth, Certainty, Class, FlowMemory as _, FlowTable, Life, Served, Stage, Word},
};
use edge_tests::kernel::MappedFlows;

use super::super::places::orders;
use super::{
    frames::Frame,
    records::{self, Flow},
    state::Records,
    world::{KEY, Side, World},
};

/// No flow ever times out.
const TIMEOUTS: Timeouts = Timeouts::all([i32::MAX; 4]);

/// The head of a table with this number of entries.
pub(super) const fn head(entries: u32) -> FlowHead {
    FlowHead { timeouts: TIMEOUTS, mask: entries - 1, reserved: 0 }
}

/// A flow table in the kernel, and its records.
pub(super) struct Recorded {
    memory: MappedFlows,
    entries: u32,
    world: World,
    /// A flow to the VIP of all records, and its family; `None` before the first record.
    template: Option<(flow_table::Flow, Side)>,
    /// Whether no entry is free.
    is_full: bool,
    /// Records exist of the driver's flows with numbers below `own`; `is_aged` if others were added and removed among
    /// them.
    own: u32,
    is_aged: bool,
    /// Flows that the program has recorded since, as ranges of the driver's rounds; the first round that they may
    /// belong to; and the number of flows that the driver cycles through.
    added: Vec<Range<u64>>,
    since: u64,
    flows: u32,
}

impl Recorded {
    pub(super) fn new(memory: MappedFlows, entries: u32, world: &World) -> Self {
        Self {
            memory,
            entries,
            world: world.clone(),
            template: None,
            is_full: false,
            own: 0,
            is_aged: false,
            added: Vec::new(),
            since: 0,
            flows: 1,
        }
    }

    fn table(&self) -> FlowTable<'_, MappedFlows> {
        FlowTable { memory: &self.memory, mask: self.entries - 1, timeouts: &TIMEOUTS, now: 0 }
    }

    /// Prepares the records that packets of `flows` flows, like the one of `frame`, must find.
    pub(super) fn prepare(&mut self, frame: &Frame, side: Side, wanted: Records, flows: u32) -> Result<()> {
        self.forget()?;
        let template = Some((records::flow_of(frame, side)?, side));
        let own = if matches!(wanted, Records::Own | Records::Aged) { flows } else { 0 };
        let ages = wanted == Records::Aged;
        if self.is_full || self.template != template || self.is_aged || ages {
            self.clear();
        }
        self.template = template;
        (own..self.own).try_for_each(|number| self.remove(Flow::Own(number)))?;
        if ages {
            self.add_among_others(own)?;
        } else {
            (self.own..own).try_for_each(|number| self.add(Flow::Own(number)))?;
        }
        (self.own, self.is_aged) = (own, ages);
        if wanted == Records::Full {
            self.fill();
        }
        Ok(())
    }

    /// Makes room for the flows that the driver's `rounds` rounds from `start` on will record, of `flows` in all. If
    /// there is too little room, or some of them are recorded already, all recorded ones are removed.
    pub(super) fn make_room(&mut self, start: u64, rounds: u32, flows: u32) -> Result<()> {
        let end = start + u64::from(rounds);
        let recorded: u64 = self.added.iter().map(|range| range.end - range.start).sum();
        // Half of the table stays free.
        let free = u64::from((self.entries / 2).saturating_sub(self.own)).saturating_sub(recorded);
        if free < u64::from(rounds) || self.flows != flows || end - self.since > u64::from(flows) {
            self.forget()?;
            (self.since, self.flows) = (start, flows);
        }
        self.added.push(start..end);
        Ok(())
    }

    /// Removes the records that the program has added. In a half-full table the program tries few places, and leaves some
    /// flow or other without a record.
    fn forget(&mut self) -> Result<()> {
        let mask = u64::from(self.flows - 1);
        let numbers: Vec<_> = self.added.drain(..).flatten().map(|round| round & mask).collect();
        self.flows = 1;
        let all = numbers.len();
        let mut missing = 0;
        for number in numbers.into_iter().filter_map(|number| u32::try_from(number).ok()) {
            missing += usize::from(self.remove(Flow::Own(number)).is_err());
        }
        ensure!(missing * 100 <= all, "{missing} of {all} flows that were recorded are not there");
        Ok(())
    }

    /// Removes all records.
    fn clear(&mut self) {
        for entry in (0..self.entries).filter_map(|number| self.memory.entry(number)) {
            Word::store(&entry.life, 0);
        }
        for slot in (0..self.entries / 8).filter_map(|number| self.memory.bucket(number)).flatten() {
            Word::store(slot, 0);
        }
        (self.own, self.is_full, self.is_aged) = (0, false, false);
    }

    /// Adds flows while others occupy an eighth of the table, each of them for a while.
    fn add_among_others(&self, own: u32) -> Result<()> {
        let stays = self.entries / 8;
        (0..stays).try_for_each(|number| self.add(Flow::Other(number)))?;
        for number in 0..own {
            self.add(Flow::Own(number))?;
            self.remove(Flow::Other(number))?;
            self.add(Flow::Other(number + stays))?;
        }
        (own..own + stays).try_for_each(|number| self.remove(Flow::Other(number)))
    }

    /// Fills each free entry with a live record that belongs to no flow.
    fn fill(&mut self) {
        for entry in (0..self.entries).filter_map(|number| self.memory.entry(number)) {
            let life = Life(Word::load(&entry.life));
            if !life.is_live() {
                let class = Class::from(Tracking::Tcp);
                Word::store(&entry.life, life.taken(0).born(Stage::Established, class, Certainty::Certain).0);
            }
        }
        self.is_full = true;
    }

    fn add(&self, flow: Flow) -> Result<()> {
        let Some((template, side)) = &self.template else { return Ok(()) };
        let served = Served { backend: flow.backend(&self.world, *side), ..Served::default() };
        let class = Tracking::Tcp.into();
        let (flow, table) = (flow.to(template, *side), self.table());
        let hash = flow.hash(&KEY);
        let birth = Birth { stage: Stage::Established, class, certainty: Certainty::Certain, served };
        let is_added = orders(hash, table.mask).any(|places| table.insert(&flow, hash, &birth, &places).is_ok());
        ensure!(is_added, "a half-empty table refused a flow");
        Ok(())
    }

    fn remove(&self, flow: Flow) -> Result<()> {
        let Some((template, side)) = &self.template else { return Ok(()) };
        let (flow, table) = (flow.to(template, *side), self.table());
        table.remove(&table.find(&flow, flow.hash(&KEY)).context("a flow that was recorded is not there")?);
        Ok(())
    }
}
