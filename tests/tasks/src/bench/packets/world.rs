//! The maps' contents for the bench: as many services as wanted, in every forwarding mode.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use edge_common::{
    abi::{
        AnswerLimits, Backend, CELL, Cell, Generation, HashKey, Mac, Mode, Pool, Role, SLOTS_PER_CELL, Service,
        ServiceKeyV4, ServiceKeyV6, ServiceRef, Slot, SlotCell, State, Station, Tracking, WhenExhausted, banked,
    },
    host::{self, Memory},
    lookup::service_index::Key,
    tables::{
        self,
        candidates::{self, Member},
        service_index,
    },
    wire::{gue, protocol},
};
use edge_tests::world;

use super::{
    frames::EDGE_MAC,
    state::{self, Owners},
};

/// Default number of slots of a service.
pub(super) const USUAL_SLOTS: u32 = 65_536;
/// Port of the first service of a VIP; the others follow.
pub(super) const FIRST_PORT: u16 = 1000;
/// The published bank.
const BANK: u32 = 0;
/// The edge's end of tunnels.
pub(super) const TUNNEL_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const TUNNEL_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// A backend's end of tunnels.
pub(super) const ENDPOINT_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub(super) const ENDPOINT_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

pub(super) const KEY: HashKey = HashKey(edge_bench_ebpf::HASH_KEY);

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    V4,
    V6,
}

/// How a service's packets are forwarded, and the family of its backends; `None` if there are no backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    pub(super) vip: Side,
    pub(super) backends: Option<Side>,
    /// Name of the mode in a configuration.
    pub(super) mode: &'static str,
    pub(super) protocol: u8,
}

/// Sizes of the maps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct World {
    /// Number of services of each form.
    pub(super) services: u32,
    /// Number of ports of each service.
    pub(super) ports: u32,
    /// Number of backends of each family.
    pub(super) backends: u16,
    /// Number of slots of each service; a power of two.
    pub(super) slots: u32,
    /// Interface of all backends, which is also the ingress: packets are sent back.
    pub(super) interface: u32,
    pub(super) forms: Vec<Form>,
    /// The flow table. With a table, each service is in transition; without one, none is.
    pub(super) table: Option<Table>,
}

/// A table of flow records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    /// Number of entries, a power of two.
    pub(super) room: u32,
}

/// The VIP of the form at index `place` of a world's list, if the form is IPv4.
pub(super) const fn vip_v4(place: u8) -> [u8; 4] {
    [192, 0, 2, 10 + place]
}

pub(super) const fn vip_v6(place: u8) -> [u8; 16] {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10 + place as u16).octets()
}

impl World {
    /// Ports and slots of a service, where they differ from the default.
    pub(super) fn layout(&self) -> String {
        let ports = if self.ports == 1 { String::new() } else { format!("x{}", self.ports) };
        // A world with a flow table has its own number of slots.
        let slots =
            if self.slots == USUAL_SLOTS || self.table.is_some() { String::new() } else { format!("/{}", self.slots) };
        ports + &slots
    }

    /// The maps' content, with the owners that a controller gives to new services.
    pub(super) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        memory.published.active = BANK;
        self.fill_backends(&mut memory);
        let pools = [
            Some(self.pool(&mut memory, &self.numbers(Side::V4))),
            Some(self.pool(&mut memory, &self.numbers(Side::V6))),
            Some(Pool { min_healthy: 1, ..Pool::default() }),
        ];
        memory.pools = pools.into_iter().flatten().flat_map(|pool| [pool, Pool::default()]).collect();

        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut slots = Vec::new();
        for (place, form) in (0u8..).zip(&self.forms) {
            let first = u32::try_from(memory.services.len() / 2)?;
            let pool: u16 = match form.backends {
                Some(Side::V4) => 0,
                Some(Side::V6) => 1,
                None => 2,
            };
            let cells = self.first_candidates(&memory, pool);
            // Services that are alike share a table while they are stable.
            let common = (self.services > 1 && self.table.is_none()).then_some(u32::try_from(slots.len())?);
            if common.is_some() {
                slots.extend_from_slice(&cells);
            }
            for number in 0..self.services {
                let service = Service {
                    slots: u32::try_from(slots.len())?,
                    pools: [pool, 0, 0, 0, 0, 0, 0, 0],
                    pool_count: 1,
                    when_exhausted: WhenExhausted::Reject as u8,
                    slot_mask: self.slots - 1,
                    in_transition: self.table.is_some().into(),
                    ..Service::default()
                };
                slots.extend_from_slice(&cells);
                memory.services.extend([service, Service::default()]);
                let tracking = if form.protocol == protocol::TCP { Tracking::Tcp } else { Tracking::Stateless };
                let service =
                    ServiceRef::new(u16::try_from(first + number)?, self.slots, common.unwrap_or(service.slots))
                        .with_flows(tracking, None)
                        .with_mode(match form.mode {
                            "ipip" => Mode::Ipip,
                            "gue" => Mode::Gue,
                            _ => Mode::Dsr,
                        });
                for port in number * self.ports..(number + 1) * self.ports {
                    let port = (FIRST_PORT + u16::try_from(port)?).to_be_bytes();
                    match form.vip {
                        Side::V4 => v4.push((ServiceKeyV4::new(vip_v4(place), port, form.protocol), service)),
                        Side::V6 => v6.push((ServiceKeyV6::new(vip_v6(place), port, form.protocol), service)),
                    }
                }
            }
            match form.vip {
                Side::V4 => {
                    v4.push((ServiceKeyV4::new(vip_v4(place), [0; 2], protocol::ICMP), ServiceRef::vip(false)));
                }
                Side::V6 => {
                    v6.push((ServiceKeyV6::new(vip_v6(place), [0; 2], protocol::ICMPV6), ServiceRef::vip(false)));
                }
            }
        }
        *memory.slots.get_mut() = slots;
        if let Some(Table { room }) = self.table {
            memory.flows = host::Flows::new(usize::try_from(room)?);
        }

        let (service_index_v4, index_mask_v4) = index(&v4)?;
        let (service_index_v6, index_mask_v6) = index(&v6)?;
        (memory.service_index_v4, memory.service_index_v6) = (service_index_v4, service_index_v6);
        memory.published.generations[BANK as usize] = Generation {
            number: 1,
            hash_key: KEY,
            index_mask_v4,
            index_mask_v6,
            tunnel_source_v4: TUNNEL_V4.octets(),
            tunnel_source_v6: TUNNEL_V6.octets(),
            tunnel_range_v4: TUNNEL_V4.octets(),
            tunnel_range_v6: TUNNEL_V6.octets(),
            gue_port: gue::PORT.to_be_bytes(),
            gue_variant: 1,
            // No test run is that fast.
            records_per_second: u32::MAX,
            answers_per_second: AnswerLimits::all(u32::MAX),
            first_fragments_per_second: u32::MAX,
            vip_bits: service_index::vip_bits((0u8..).zip(&self.forms).map(|(place, form)| match form.vip {
                Side::V4 => vip_v4(place).into(),
                Side::V6 => vip_v6(place).into(),
            })),
            ..Generation::default()
        };
        memory.published.generations[BANK as usize].stations[0] = Station::new(self.interface, EDGE_MAC);
        let edge = |address| (world::mapped(address), Role::EDGE);
        let own = |address| (world::mapped(address), Role::ENDPOINT | Role::OWN);
        memory.decap_addresses =
            vec![edge(TUNNEL_V4.into()), edge(TUNNEL_V6.into()), own(ENDPOINT_V4.into()), own(ENDPOINT_V6.into())];
        memory.decap_vips = (0..u8::try_from(self.forms.len())?)
            .flat_map(|place| [IpAddr::from(vip_v4(place)), IpAddr::from(vip_v6(place))])
            .map(world::single_vip)
            .collect();
        Ok(memory)
    }

    /// The slots for packets in `state`, if `memory` has the owners that a controller gives to new services.
    pub(super) fn slots(&self, memory: &Memory, state: state::State) -> Vec<SlotCell> {
        let other = |number: u16| match number {
            0 => 0,
            number if number.is_multiple_of(self.backends) => number + 1 - self.backends,
            number => number + 1,
        };
        let slot = |slot: Slot| {
            let owner = match state.owners() {
                Owners::Picks => slot.owner,
                Owners::Others => other(slot.owner),
                Owners::Nobody => 0,
            };
            Slot { look: state.looks().into(), ..Slot::of(owner) }
        };
        memory.slots.borrow().iter().map(|cell| SlotCell(cell.0.map(slot))).collect()
    }

    /// Numbers of the backends of one family.
    fn numbers(&self, side: Side) -> Vec<u16> {
        let first = self.first_backend(side);
        (first..first + self.backends).collect()
    }

    pub(super) const fn first_backend(&self, side: Side) -> u16 {
        if matches!(side, Side::V4) { 1 } else { 1 + self.backends }
    }

    fn fill_backends(&self, memory: &mut Memory) {
        memory.backends.push(Backend::default());
        for side in [Side::V4, Side::V6] {
            for number in self.numbers(side) {
                let [high, low] = number.to_be_bytes();
                let (family, address) = match side {
                    Side::V4 => (4, [10, 1, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                    Side::V6 => (6, Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, number).octets()),
                };
                memory.backends.push(Backend {
                    state: State::NEW | State::ALIVE | State::ENABLED | State::UP,
                    egress: self.interface,
                    next_hop: Mac::new([2, 0, 0, 0xbb, high, low]),
                    source_mac: Mac::new([2, 0, 0, 0xee, 0, 1]),
                    mtu: 1500,
                    pool: u16::from(side == Side::V6),
                    family,
                    address,
                    ..Backend::default()
                });
            }
        }
    }

    /// Adds a pool of backends that are all up, with its cells at the end of the candidates.
    fn pool(&self, memory: &mut Memory, numbers: &[u16]) -> Pool {
        let all = &memory.backends;
        let identity = |number: u16| all[usize::from(number)].address;
        let members: Vec<_> =
            numbers.iter().map(|&number| Member { number, weight: 100, identity: identity(number) }).collect();
        let states: Vec<_> = numbers.iter().map(|&number| (number, State(all[usize::from(number)].state))).collect();
        let candidates = &mut memory.candidates;
        let end = |candidates: &Vec<Cell>| u32::try_from(candidates.len()).expect("far fewer cells");
        let table = end(candidates);
        candidates.extend(candidates::build(&members, self.slots));
        let member_list = end(candidates);
        for four in tables::member_list(&states).chunks(CELL) {
            let mut cell = Cell::default();
            cell.0[..four.len()].copy_from_slice(four);
            candidates.push(cell);
        }
        let count = u16::try_from(numbers.len()).expect("no more than there are numbers");
        let (available, enabled) = (count.into(), count.into());
        Pool {
            table,
            sizes: self.slots,
            member_list,
            members: count,
            min_healthy: 1,
            available,
            enabled,
            ..Pool::default()
        }
    }

    /// Slots of a service of `pool`: all backends are up, so each slot's owner is its first candidate.
    fn first_candidates(&self, memory: &Memory, pool: u16) -> Vec<SlotCell> {
        let pool = memory.pools[banked(BANK, pool.into()) as usize];
        let start = pool.table as usize;
        if pool.members == 0 {
            return vec![SlotCell::default(); (self.slots / SLOTS_PER_CELL) as usize];
        }
        let table = &memory.candidates[start..start + self.slots as usize];
        table.as_chunks().0.iter().map(|cells| SlotCell(cells.map(|Cell([first, ..])| Slot::of(first)))).collect()
    }
}

/// A service index interleaved with an empty one, and the mask of both.
fn index<K: Key>(destinations: &[(K, ServiceRef)]) -> Result<(Vec<K::Entry>, u32)> {
    let index = service_index::build(destinations, &KEY, 1 << 20).context("the service index has no room")?;
    let mask = u32::try_from(index.len())? - 1;
    Ok((index.into_iter().flat_map(|entry| [entry, K::Entry::default()]).collect(), mask))
}
