//! The flows that live, and when each sends next.

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

/// A flow that lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) flow: Flow,
    /// Whose it is: by number, and by who had the number when it became so.
    pub(crate) home: BackendNumber,
    pub(crate) incarnation: Incarnation,
    /// When it sent last: virtual milliseconds, and the moment.
    pub(crate) sent: u64,
    pub(crate) moment: u64,
    /// Whether its last packet started it.
    pub(crate) started: bool,
    /// Whether its slot was given to another backend, since there was no room for any record, and its own one had left.
    pub(crate) yielded: bool,
    /// When somebody last sent a packet in its name: virtual milliseconds; 0: never.
    pub(crate) forged: u64,
    /// Whether its backend was dead between two of its packets, of which it saw nothing.
    pub(crate) shaken: bool,
    /// When it ends in silence.
    pub(crate) ends: u64,
}

#[derive(Default)]
pub(crate) struct Population {
    lives: BTreeMap<Flow, Life>,
    due: BTreeSet<(u64, Flow)>,
    /// All that ever were: a record of one that has ended would decide about another one.
    had: BTreeSet<Flow>,
}

impl Population {
    /// A flow that nobody has or had, of any service.
    pub(crate) fn any(&mut self, random: &mut Random, scene: &Scene) -> Flow {
        loop {
            let service = random.place(scene.world.services.len());
            let bits = random.next();
            let client = match scene.world.services[service].vip {
                // In a few networks, so that some that are hashed by their source meet.
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

    /// The flow has started, or been found, at a backend.
    pub(crate) fn begin(&mut self, random: &mut Random, life: Life) {
        let timeouts = if random.chance(150) { 20 } else { 2 };
        let ends = life.sent + random.below(timeouts * IDLE_TIMEOUT);
        self.sent(random, Life { ends, ..life });
    }

    /// The flow has sent, and goes on.
    pub(crate) fn sent(&mut self, random: &mut Random, life: Life) {
        // As late as it may, or any time before.
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

    /// One that runs, for somebody else to change.
    pub(crate) fn running(&mut self, random: &mut Random) -> Option<&mut Life> {
        let running: Vec<_> = self.due.iter().map(|(_, flow)| *flow).filter(|flow| !self.lives[flow].started).collect();
        if running.is_empty() {
            return None;
        }
        self.lives.get_mut(&running[random.place(running.len())])
    }

    /// All that will still send.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut Life> {
        self.lives.values_mut()
    }

    /// When the next one sends.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next one that sends, which is taken out.
    pub(crate) fn take(&mut self) -> Option<Life> {
        let (_, flow) = self.due.pop_first()?;
        self.lives.remove(&flow)
    }

    /// Forgets flows that have sent their last packet long ago.
    pub(crate) fn bury(&mut self, now: u64) {
        self.lives.retain(|_, life| life.ends.max(life.sent + IDLE_TIMEOUT) >= now);
    }

    /// Those that will still send and are of this backend.
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
            forged: 0,
            shaken: false,
            ends: u64::MAX,
        }
    }
}
