//! The living flows, and the time of each flow's next packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use edge_common::abi::{BackendNumber, Tracking};

use crate::{
    flow::Flow,
    plan::{HANDSHAKE, IDLE_TIMEOUT, LEARN},
    random::Random,
    scene::{Incarnation, Scene},
};

/// A living flow.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a flow, of which each combination occurs")]
pub(crate) struct Life {
    pub(crate) flow: Flow,
    /// The flow's backend: its number, and its incarnation.
    pub(crate) home: BackendNumber,
    pub(crate) incarnation: Incarnation,
    /// Time of the last packet: virtual milliseconds, and the moment.
    pub(crate) sent: u64,
    pub(crate) moment: u64,
    /// Whether the last packet started the flow.
    pub(crate) started: bool,
    /// Whether its slot was given to another backend, since there was no room for a record and its own backend had
    /// left.
    pub(crate) yielded: bool,
    /// Whether its client has closed its side, and waits for the answer.
    pub(crate) closed: bool,
    /// The first sequence number of its last start.
    pub(crate) first: u32,
    /// Time of the last forged packet of the flow, virtual milliseconds; 0 for none.
    pub(crate) forged: u64,
    /// Whether its backend was dead between two of its packets, unnoticed by the flow.
    pub(crate) shaken: bool,
    /// Time at which the flow ends in silence.
    pub(crate) ends: u64,
}

#[derive(Default)]
pub(crate) struct Population {
    lives: BTreeMap<Flow, Life>,
    due: BTreeSet<(u64, Flow)>,
    /// All flows so far: the record of an ended flow would affect a new one with the same ends.
    had: BTreeSet<Flow>,
}

impl Population {
    /// A flow of any service that never existed before.
    pub(crate) fn any(&mut self, random: &mut Random, scene: &Scene) -> Flow {
        loop {
            let service = random.place(scene.world.services.len());
            let bits = random.next();
            let client = match scene.world.services[service].vip {
                // In a few networks, so that some of those that are hashed by source share a network.
                IpAddr::V4(_) => {
                    let [network, host, ..] = bits.to_be_bytes();
                    IpAddr::V4(Ipv4Addr::from_octets([100, 64, network % 64, host]))
                }
                IpAddr::V6(_) => {
                    let network = u128::from(bits % 64) << 64 | 0x2001_0db8_00ff << 80;
                    IpAddr::V6(Ipv6Addr::from_bits(network | u128::from(bits >> 32)))
                }
            };
            let flow = Flow { service, client, port: random.port() };
            if self.had.insert(flow) {
                return flow;
            }
        }
    }

    /// Adds a flow that has started, or been found, at a backend.
    pub(crate) fn begin(&mut self, random: &mut Random, life: Life) {
        let timeouts = if random.chance(150) { 20 } else { 2 };
        let ends = life.sent + random.below(timeouts * IDLE_TIMEOUT);
        self.sent(random, Life { ends, ..life });
    }

    /// Schedules the next packet of a flow that has just sent one.
    pub(crate) fn sent(&mut self, random: &mut Random, life: Life) {
        // At the latest possible time, or at any time before.
        let promise = match Scene::tracking(life.flow.service) {
            Tracking::Learn => LEARN,
            Tracking::Tcp | Tracking::Quic if life.started => HANDSHAKE,
            Tracking::Tcp | Tracking::Quic | Tracking::Stateless => IDLE_TIMEOUT,
        };
        let due = life.sent + if random.chance(400) { promise } else { random.below(promise) };
        self.lives.insert(life.flow, life);
        if due < life.ends {
            self.due.insert((due, life.flow));
        }
    }

    /// Any living flow, to be forged.
    pub(crate) fn living(&mut self, random: &mut Random) -> Option<&mut Life> {
        if self.due.is_empty() {
            return None;
        }
        let (_, flow) = self.due.iter().nth(random.place(self.due.len()))?;
        self.lives.get_mut(flow)
    }

    /// All living flows.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Life> {
        self.lives.values_mut()
    }

    /// Time of the next packet.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Removes and returns the flow that sends next.
    pub(crate) fn take(&mut self) -> Option<Life> {
        let (_, flow) = self.due.pop_first()?;
        self.lives.remove(&flow)
    }

    /// Drops flows whose last packet was long ago.
    pub(crate) fn bury(&mut self, now: u64) {
        self.lives.retain(|_, life| life.ends.max(life.sent + IDLE_TIMEOUT) >= now);
    }

    /// Flows of this backend that will send again.
    pub(crate) fn of(&self, incarnation: Incarnation) -> impl Iterator<Item = &Life> {
        let sending = self.due.iter().map(|(_, flow)| &self.lives[flow]);
        sending.filter(move |life| life.incarnation == incarnation)
    }

    pub(crate) fn len(&self) -> usize {
        self.due.len()
    }
}

impl Life {
    pub(crate) fn new(flow: Flow, sent: u64) -> Self {
        Self {
            flow,
            home: 0,
            incarnation: 0,
            sent,
            moment: 0,
            started: false,
            yielded: false,
            closed: false,
            first: 1000,
            forged: 0,
            shaken: false,
            ends: u64::MAX,
        }
    }
}
