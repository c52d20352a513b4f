//! The flow records in one of the kernel's tables: which there are, and how they came there.

use std::ops::Range;

use anyhow::Result;
use aya::maps::MapData;
use bytemuck::bytes_of;

use super::{
    batch,
    frames::Frame,
    records::{self, Flow, FlowKey},
    state::Records,
    world::{Side, Table, World},
};

/// Of an aged table, how often half of its records made way for others, chosen at random. Once would do.
const ROUNDS: usize = 2;

/// A table of the kernel's, and the records in it.
pub(super) struct FlowTable<K> {
    map: MapData,
    world: World,
    side: Side,
    /// What it is meant to be; of a world without tables it stays empty.
    plan: Option<Table>,
    /// Some flow to the VIP that all records are of; none before there are any.
    template: Option<K>,
    /// Records of flows that the driver sends, and of others: those whose numbers are below these.
    own: u32,
    others: u32,
    /// Flows that the program has recorded since, by the driver's rounds; the first round that they may be of; and how many
    /// flows the driver goes through.
    recorded: Vec<Range<u64>>,
    since: u64,
    flows: u32,
    random: Random,
}

impl<K: FlowKey> FlowTable<K> {
    pub(super) fn new(map: MapData, world: &World, side: Side) -> Self {
        Self {
            map,
            world: world.clone(),
            side,
            plan: world.table,
            template: None,
            own: 0,
            others: 0,
            recorded: Vec::new(),
            since: 0,
            flows: 1,
            random: Random(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Makes the records those that packets of `flows` flows, like the one of `frame`, are to find.
    pub(super) fn prepare(&mut self, frame: &Frame, wanted: Records, flows: u32) -> Result<()> {
        let Some(Table { room, aged }) = self.plan else { return Ok(()) };
        if self.template.is_none() {
            self.template = Some(K::of(frame)?);
            if aged {
                self.age(room)?;
            }
        }
        self.forget()?;
        let usual = if aged { taken(room) } else { 0 };
        let (own, others) = match wanted {
            Records::Free => (0, usual),
            Records::Own => (flows, usual.saturating_sub(flows)),
            Records::Full => (0, room),
        };
        // What goes makes room for what comes.
        self.resize(Flow::Own, self.own, own.min(self.own))?;
        self.resize(Flow::Other, self.others, others)?;
        self.resize(Flow::Own, own.min(self.own), own)?;
        (self.own, self.others) = (own, others);
        Ok(())
    }

    /// Makes room for the flows that `rounds` rounds of the driver from `start` on are about to record, of `flows` in all: if
    /// there is too little, or some of them are recorded, it takes all out that were.
    pub(super) fn make_room(&mut self, start: u64, rounds: u32, flows: u32) -> Result<()> {
        let end = start + u64::from(rounds);
        let recorded: u64 = self.recorded.iter().map(|range| range.end - range.start).sum();
        let free = self.plan.map_or(0, |plan| u64::from(plan.room - self.own - self.others)).saturating_sub(recorded);
        if free < u64::from(rounds) || self.flows != flows || end - self.since > u64::from(flows) {
            self.forget()?;
            (self.since, self.flows) = (start, flows);
        }
        self.recorded.push(start..end);
        Ok(())
    }

    /// Takes out what the program has recorded.
    fn forget(&mut self) -> Result<()> {
        let mask = u64::from(self.flows - 1);
        let numbers = self.recorded.drain(..).flatten().map(|round| round & mask);
        let numbers: Vec<_> = numbers.filter_map(|number| u32::try_from(number).ok()).collect();
        self.flows = 1;
        self.remove(numbers.into_iter().map(Flow::Own).collect())
    }

    /// Makes records come and go, until what is free lies anywhere, and so does what is next to each other in the order of
    /// flows. It leaves as many records of others as an aged table has.
    fn age(&mut self, room: u32) -> Result<()> {
        // More flows than there is room for, a part of which is recorded.
        let mut flows: Vec<_> = (0..room + room / 2).map(Flow::Other).collect();
        self.random.shuffle(&mut flows);
        let (all, half) = (room as usize, room as usize / 2);
        self.insert(flows[..all].to_vec())?;
        for _ in 0..ROUNDS {
            self.remove(flows[..half].to_vec())?;
            self.insert(flows[all..all + half].to_vec())?;
            // What went is outside now, and what came is among the others.
            flows.rotate_left(half);
            let (inside, outside) = flows.split_at_mut(all);
            self.random.shuffle(inside);
            self.random.shuffle(outside);
        }
        let others = taken(room);
        let is_wanted = |flow: &Flow| matches!(flow, Flow::Other(number) if *number < others);
        let (inside, outside) = flows.split_at(all);
        self.remove(inside.iter().copied().filter(|flow| !is_wanted(flow)).collect())?;
        self.insert(outside.iter().copied().filter(is_wanted).collect())?;
        self.others = others;
        Ok(())
    }

    /// Makes the records of flows below `now` those of flows below `then`.
    fn resize(&mut self, flow: fn(u32) -> Flow, now: u32, then: u32) -> Result<()> {
        self.remove((then..now).map(flow).collect())?;
        self.insert((now..then).map(flow).collect())
    }

    fn insert(&mut self, mut flows: Vec<Flow>) -> Result<()> {
        if self.plan.is_some_and(|plan| plan.aged) {
            self.random.shuffle(&mut flows);
        }
        let (keys, records) = self.entries(&flows);
        batch::update(&self.map, &keys, &records, flows.len())
    }

    /// From a fresh table, the last one first: so its free places are in their order again.
    fn remove(&mut self, mut flows: Vec<Flow>) -> Result<()> {
        if self.plan.is_some_and(|plan| plan.aged) {
            self.random.shuffle(&mut flows);
        } else {
            flows.reverse();
        }
        let (keys, _) = self.entries(&flows);
        batch::delete(&self.map, &keys, flows.len())
    }

    /// Keys and records of flows, one after the other.
    fn entries(&self, flows: &[Flow]) -> (Vec<u8>, Vec<u8>) {
        let (mut keys, mut records) = (Vec::new(), Vec::new());
        for (flow, template) in flows.iter().zip(self.template.iter().cycle()) {
            let key = template.with(*flow);
            keys.extend_from_slice(bytes_of(&key));
            records.extend_from_slice(bytes_of(&records::record(&key, *flow, &self.world, self.side)));
        }
        (keys, records)
    }
}

/// How much of an aged table is taken: nine tenths.
pub(super) const fn taken(room: u32) -> u32 {
    room / 10 * 9 + room % 10 * 9 / 10
}

/// The same numbers in each run (xorshift64*).
struct Random(u64);

impl Random {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * end as u64) >> 32) as usize
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }
}
