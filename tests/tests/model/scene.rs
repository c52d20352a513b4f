//! The services, pools and backends of a run, and their changes by failures and by the operator.

use std::net::{IpAddr, Ipv4Addr};

use edge_common::abi::{Backend, BackendNumber, Failover, Mac, Mode, State, Tracking, WhenExhausted};
use edge_tests::{
    packet::protocol::{TCP, UDP},
    world::{DISABLED, DOWN, DRAINED, Side, UP, World, octets},
};

use crate::plan::{Broken, Plan};

pub(crate) const SLOTS: u32 = 32;
/// Number of backend numbers, including 0: few, so that numbers are reused often.
const NUMBERS: u16 = 32;
/// Initial and minimum number of backends of each pool.
const POOLS: [(usize, u16); 3] = [(4, 2), (3, 1), (2, 1)];

/// Services: port, protocol, tracking, hashed bits of the client's address by family.
const SERVICES: [(u16, u8, Tracking, [Option<u8>; 2]); 5] = [
    (443, TCP, Tracking::Tcp, [None; 2]),
    (8443, TCP, Tracking::Tcp, [Some(24), Some(64)]),
    (443, UDP, Tracking::Quic, [None; 2]),
    (51_820, UDP, Tracking::Learn, [None; 2]),
    (53, UDP, Tracking::Stateless, [None; 2]),
];

/// One life of a backend, from its addition until it is forgotten; never reused.
pub(crate) type Incarnation = u32;

#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) world: World,
    backends: Vec<Fate>,
    /// Number of incarnations so far.
    made: Incarnation,
}

/// State of the backend with a number; the default if the number is free.
#[expect(clippy::struct_excessive_bools, reason = "what probes and operators say of it comes and goes separately")]
#[derive(Clone, Copy, Default)]
struct Fate {
    incarnation: Incarnation,
    down: bool,
    drained: bool,
    disabled: bool,
    removed: bool,
}

impl Fate {
    fn state(self) -> u32 {
        let state = match self {
            Self { incarnation: 0, .. } => return 0,
            Self { disabled: true, .. } => DISABLED,
            Self { down: true, .. } => DOWN,
            Self { drained: true, .. } => DRAINED,
            _ => UP,
        };
        if self.removed { state & !State::NEW | State::RETIRED } else { state }
    }
}

/// A change of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Dies,
    Recovers,
    Drained,
    Undrained,
    Disabled,
    Enabled,
    Removed,
}

impl Scene {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut world = World::new(SLOTS);
        world.backends = vec![Backend::default(); NUMBERS.into()];
        let mut scene = Self { world, backends: vec![Fate::default(); NUMBERS.into()], made: 0 };
        for (size, min_healthy) in POOLS {
            let pool = scene.world.pool(&[], min_healthy);
            for _ in 0..size {
                scene.add(pool, 100);
            }
        }
        for (side, pools) in [(Side::V4, &[0u16, 1, 2][..]), (Side::V6, &[1, 0])] {
            for (index, (port, protocol, tracking, affinity)) in SERVICES.into_iter().enumerate() {
                let number = scene.world.service(side.vip(), port, protocol, Mode::Dsr, pools) as usize;
                let service = &mut scene.world.services[number];
                service.tracking = if plan.broken == Broken::Stateless { Tracking::Stateless } else { tracking };
                service.affinity = affinity[usize::from(side == Side::V6)];
                service.when_exhausted =
                    [WhenExhausted::Open, WhenExhausted::Open, WhenExhausted::Reject, WhenExhausted::Drop][index % 4];
            }
        }
        scene
    }

    /// Number of services, and of kinds of services with the same pools.
    pub(crate) const SERVICES: usize = Self::KINDS * SERVICES.len();
    pub(crate) const KINDS: usize = 2;

    /// The kind of a service: services of one kind have the same pools.
    pub(crate) const fn kind(service: usize) -> usize {
        service / SERVICES.len()
    }

    /// The tracking of a service, regardless of broken rules.
    pub(crate) fn tracking(service: usize) -> Tracking {
        SERVICES[service % SERVICES.len()].2
    }

    /// Adds a backend to a pool, if a number is free.
    pub(crate) fn add(&mut self, pool: u16, weight: u32) -> Option<BackendNumber> {
        let number = (1..NUMBERS).find(|number| self.backends[usize::from(*number)].incarnation == 0)?;
        self.made += 1;
        self.backends[usize::from(number)] = Fate { incarnation: self.made, ..Fate::default() };
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + self.made));
        self.world.backends[usize::from(number)] = Backend {
            egress: 1,
            next_hop: Mac::new([0x02, 0, 0, 0xbb, 0, u8::try_from(number).expect("few numbers")]),
            source_mac: Mac::new([0x02, 0, 0, 0xee, 0, 1]),
            mtu: 1500,
            pool,
            family: 4,
            address: octets(address),
            state: UP,
            ..Backend::default()
        };
        let members = &mut self.world.pools[usize::from(pool)];
        members.members.push(number);
        members.weights.insert(number, weight);
        Some(number)
    }

    pub(crate) fn turn(&mut self, number: BackendNumber, turn: Turn) {
        let fate = &mut self.backends[usize::from(number)];
        match turn {
            Turn::Dies => fate.down = true,
            Turn::Recovers => fate.down = false,
            Turn::Drained => fate.drained = true,
            Turn::Undrained => fate.drained = false,
            Turn::Disabled => fate.disabled = true,
            Turn::Enabled => fate.disabled = false,
            Turn::Removed => {
                fate.removed = true;
                let pool = &mut self.world.pools[usize::from(self.world.backends[usize::from(number)].pool)];
                pool.members.retain(|member| *member != number);
                pool.weights.remove(&number);
            }
        }
        self.world.backends[usize::from(number)].state = fate.state();
    }

    pub(crate) fn weigh(&mut self, number: BackendNumber, weight: u32) {
        let pool = self.world.backends[usize::from(number)].pool;
        self.world.pools[usize::from(pool)].weights.insert(number, weight);
    }

    pub(crate) fn fail_over(&mut self, service: usize, first: usize, evacuate: bool) {
        let plan = &mut self.world.services[service];
        let first = u8::try_from(first % plan.pools.len()).expect("a few pools");
        plan.failover = Failover { first, evacuate: evacuate && first > 0 };
    }

    /// Forgets a removed backend, whose number becomes free.
    pub(crate) fn forget(&mut self, number: BackendNumber) {
        self.backends[usize::from(number)] = Fate::default();
        self.world.backends[usize::from(number)] = Backend::default();
    }

    /// The backends whose fate is `wanted`.
    fn with(&self, wanted: impl Fn(&Fate) -> bool) -> Vec<BackendNumber> {
        let each = (0..).zip(&self.backends).filter(|(_, fate)| fate.incarnation != 0 && wanted(fate));
        each.map(|(number, _)| number).collect()
    }

    /// The backends in the configuration.
    pub(crate) fn members(&self) -> Vec<BackendNumber> {
        self.with(|fate| !fate.removed)
    }

    pub(crate) fn removed(&self) -> Vec<BackendNumber> {
        self.with(|fate| fate.removed)
    }

    /// All backends, including removed ones that are not forgotten yet.
    pub(crate) fn all(&self) -> Vec<BackendNumber> {
        self.with(|_| true)
    }

    /// Backends that would take new flows if they were not drained.
    pub(crate) fn drained(&self) -> Vec<BackendNumber> {
        self.with(|fate| fate.drained && !fate.removed && !fate.down && !fate.disabled)
    }

    /// The incarnation with a number; 0 if the number is free.
    pub(crate) fn incarnation(&self, number: BackendNumber) -> Incarnation {
        self.backends.get(usize::from(number)).map_or(0, |fate| fate.incarnation)
    }

    /// The services that use a pool.
    pub(crate) fn services_of(&self, pool: u16) -> Vec<usize> {
        let services = self.world.services.iter().enumerate();
        services.filter(|(_, service)| service.pools.contains(&pool)).map(|(number, _)| number).collect()
    }
}
