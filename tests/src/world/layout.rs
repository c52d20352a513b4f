//! The maps' content that a controller would publish for a world.

use std::net::IpAddr;

use edge_common::{
    abi::{
        BackendNumber, CELL, Cell, Family, Generation, Mode, NatChoice, NatHead, NatSource, Pool, SLOTS_PER_CELL,
        Service, ServiceKeyV4, ServiceKeyV6, ServiceRef, Slot, SlotAddress, SlotCell, State, Tracking, VIP_ENTRY,
        slot_address,
    },
    host::{Memory, Nat},
    lookup::service_index::Key,
    maps::{Maps as _, View},
    select,
    tables::{
        self,
        candidates::{self, Member},
        servers, service_index,
    },
};

use crate::namespace::{EDGE0, LO};

use super::{KEY, NatWorld, PoolPlan, Side, World, octets, stations};

impl World {
    /// The maps' content, with the owners that a controller gives to new services.
    pub fn memory(&self) -> Memory {
        let memory = self.without_slots();
        let mut cells = Vec::new();
        for number in 0..self.services.len() {
            let mut owners = self.picks(&memory, number);
            owners.resize((self.slot_cells() * SLOTS_PER_CELL) as usize, 0);
            cells.extend(owners.as_chunks().0.iter().map(|owners| SlotCell(owners.map(Slot::of))));
        }
        *memory.slots.borrow_mut() = cells;
        self.look(&memory);
        memory
    }

    /// The maps' content with the slots of `before`. `look` is set in all slots of services in transition, and in no
    /// other.
    pub fn memory_after(&self, before: &Memory) -> Memory {
        let memory = self.without_slots();
        memory.slots.borrow_mut().clone_from(&before.slots.borrow());
        self.look(&memory);
        memory
    }

    fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.nat.iter().flat_map(|nat| nat.sources.iter().copied())
    }

    fn look(&self, memory: &Memory) {
        for (number, service) in (0..).zip(&self.services) {
            for slot in 0..self.slots {
                memory.write_slot(self.slot_address(number, slot), |slot| slot.look = service.in_transition.into());
            }
        }
    }

    /// Position of a service's slot.
    pub const fn slot_address(&self, service: u32, slot: u32) -> SlotAddress {
        slot_address(service * self.slot_cells(), slot)
    }

    /// The backends that take new flows, by slot of a service; 0 where there is none.
    pub fn picks(&self, memory: &Memory, service: usize) -> Vec<BackendNumber> {
        let view = View { bank: ACTIVE, generation: &memory.published.generations[ACTIVE as usize] };
        let number = u32::try_from(service).expect("a small world");
        let service = memory.service(ACTIVE, number).expect("it was just laid out");
        (0..self.slots).map(|slot| select::pick(memory, view, service, slot).unwrap_or(0)).collect()
    }

    fn without_slots(&self) -> Memory {
        let mut memory = Memory::default();
        memory.published.active = ACTIVE;
        memory.backends.clone_from(&self.backends);
        memory.routes.clone_from(&self.routes);
        // The MTUs of a test's namespace.
        memory.mtus = [(LO, 65_536), (EDGE0, 1_500)].into();
        memory.decap_addresses.clone_from(&self.decap_addresses);
        memory.decap_vips.clone_from(&self.decap_vips);
        memory.decap_edges.clone_from(&self.decap_edges);
        memory.decap_settings = self.decap_settings;
        let generation = &mut memory.published.generations[ACTIVE as usize];
        *generation = Generation {
            number: 7,
            hash_key: KEY,
            any_port: self.services.iter().any(|service| service.port == 0).into(),
            stations: stations(),
            records_per_second: self.records_per_second,
            answers_per_second: self.answers_per_second,
            first_fragments_per_second: self.first_fragments_per_second,
            vip_other: self.vip_other as u32,
            translates: self.nat.is_some().into(),
            vip_bits: service_index::vip_bits(self.services.iter().map(|service| service.vip).chain(self.sources())),
            ..Generation::default()
        };
        generation.tunnel_source_v4.copy_from_slice(&octets(Side::V4.tunnel())[..4]);
        generation.tunnel_source_v6 = octets(Side::V6.tunnel());
        let of = |side: Side| octets(if self.ranges { side.range() } else { side.tunnel() });
        generation.tunnel_range_v4.copy_from_slice(&of(Side::V4)[..4]);
        generation.tunnel_range_v6 = of(Side::V6);
        let hosts = if self.ranges { 0xff_u32.to_be() } else { 0 };
        (generation.tunnel_hosts_v4, generation.tunnel_hosts_v6) = (hosts, hosts);
        (generation.gue_port, generation.gue_variant) = (super::GUE_PORT.to_be_bytes(), self.gue_variant);

        for (number, pool) in self.pools.iter().enumerate() {
            let laid_out = self.lay_out(pool, &mut memory.candidates);
            put(&mut memory.pools, number, laid_out);
        }
        for (number, service) in self.services.iter().enumerate() {
            let mut pools = [0; 8];
            pools[..service.pools.len()].copy_from_slice(&service.pools);
            let number_32 = u32::try_from(number).expect("a small world");
            let (cid_offset, cid_length) = service.quic_cid.unwrap_or_default();
            let members = service.pools.iter().flat_map(|pool| &self.pools[usize::from(*pool)].members);
            let named: Vec<_> = members.map(|member| (Self::server_number(*member), *member)).collect();
            let (servers, table) = (memory.candidates.len(), servers::build(&named));
            memory.candidates.extend(&table);
            put(
                &mut memory.services,
                number,
                Service {
                    failover: service.failover.to_raw(),
                    slots: number_32 * self.slot_cells(),
                    pools,
                    pool_count: u8::try_from(service.pools.len()).expect("at most eight"),
                    when_exhausted: service.when_exhausted as u8,
                    in_transition: service.in_transition.into(),
                    redirected: service.redirected,
                    slot_mask: self.slots - 1,
                    backend_port: service.backend_port.to_be_bytes(),
                    sticks: service.sticks.into(),
                    tells_client: service.tells_client.into(),
                    cid_offset,
                    cid_length,
                    servers: u32::try_from(servers).expect("a small world"),
                    server_mask: u32::try_from(table.len()).expect("a small world") - 1,
                    ..Service::default()
                },
            );
        }
        self.index(&mut memory);
        if let Some(nat) = &self.nat {
            memory.nat = Nat::new(nat_head(nat));
        }
        memory
    }

    /// Writes a pool's cells to the end of `candidates`.
    fn lay_out(&self, pool: &PoolPlan, candidates: &mut Vec<Cell>) -> Pool {
        let state = |number: u16| State(self.backends[usize::from(number)].state);
        let count = |bits| pool.members.iter().filter(|number| state(**number).has_all(bits)).count();
        let small = |number: usize| u32::try_from(number).expect("a small world");
        let identity = |number: u16| self.backends[usize::from(number)].address;
        let weight = |number| pool.weights.get(number).copied().unwrap_or(100);
        let members: Vec<_> = pool
            .members
            .iter()
            .map(|number| Member { number: *number, weight: weight(number), identity: identity(*number) })
            .collect();
        let table = small(candidates.len());
        // As if services with more slots used the pool as well.
        let sizes = [self.slots * 2, self.slots];
        for size in sizes {
            candidates.extend(candidates::build(&members, size));
        }
        let member_list = small(candidates.len());
        let states: Vec<_> = pool.members.iter().map(|number| (*number, state(*number))).collect();
        for four in tables::member_list(&states).chunks(CELL) {
            let mut cell = Cell::default();
            cell.0[..four.len()].copy_from_slice(four);
            candidates.push(cell);
        }
        Pool {
            table,
            sizes: sizes.into_iter().sum(),
            member_list,
            members: u16::try_from(pool.members.len()).expect("a small world"),
            min_healthy: pool.min_healthy,
            available: small(count(State::NEW)),
            enabled: small(count(State::ENABLED)),
            withheld: pool.withheld,
            reserved: 0,
        }
    }

    fn forwards(&self, mode: Mode) -> Mode {
        if self.ranges && mode == Mode::Ipip { Mode::IpipRange } else { mode }
    }

    fn index(&self, memory: &mut Memory) {
        let mut keys = self.strays.clone();
        for (number, service) in self.services.iter().enumerate() {
            let number = u16::try_from(number).expect("a small world");
            keys.push((service.vip, service.port, service.protocol, number));
            let icmp = if service.vip.is_ipv4() { 1 } else { 58 };
            keys.push((service.vip, 0, icmp, VIP_ENTRY));
        }
        keys.sort_unstable();
        keys.dedup();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (vip, port, protocol, service) in keys {
            let port = port.to_be_bytes();
            // Strays and the VIPs' own entries have no slots.
            let first = memory.service(ACTIVE, service.into()).map_or(0, |service| service.slots);
            let service_ref = ServiceRef::new(service, self.slots, first);
            let is_routed = self
                .services
                .get(usize::from(service))
                .is_some_and(|plan| plan.quic_cid.is_some() && plan.tracking == Tracking::Quic);
            let service_ref = if is_routed { service_ref.by_connection() } else { service_ref };
            let service_ref = match self.services.get(usize::from(service)) {
                Some(service) => {
                    service_ref.with_flows(service.tracking, service.affinity).with_mode(self.forwards(service.mode))
                }
                None => service_ref,
            };
            let is_host = service_ref.is_vip() && self.host_vips.contains(&vip);
            let service_ref = if is_host { service_ref.with_host(true) } else { service_ref };
            match vip {
                IpAddr::V4(vip) => {
                    let key = ServiceKeyV4::new(vip.octets(), port, protocol);
                    v4.push((key, service_ref));
                }
                IpAddr::V6(vip) => {
                    let key = ServiceKeyV6::new(vip.octets(), port, protocol);
                    v6.push((key, service_ref));
                }
            }
        }
        let generation = &mut memory.published.generations[ACTIVE as usize];
        (memory.service_index_v4, generation.index_mask_v4) = index(&v4);
        (memory.service_index_v6, generation.index_mask_v6) = index(&v6);
    }
}

/// The head of the table of translated flows: what the packet path reads before any entry.
fn nat_head(nat: &NatWorld) -> NatHead {
    let mut head = NatHead::new(KEY, nat.first_port, nat.ports, nat.lanes, |_| 300_000_000_000);
    if nat.keeps {
        head.flows.timeouts.0[4..].iter_mut().for_each(|limits| (limits.timeout, limits.kept) = (i32::MAX, i32::MAX));
    }
    let mut numbers = [Vec::new(), Vec::new()];
    for (number, source) in (0u8..).zip(&nat.sources) {
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        head.sources[usize::from(number)] = NatSource { address: octets(*source), family: family as u32, reserved: 0 };
        numbers[usize::from(source.is_ipv6())].push(number);
    }
    let choice = |numbers: &Vec<u8>| {
        let mut choice = NatChoice { count: u32::try_from(numbers.len()).expect("a few"), ..NatChoice::default() };
        choice.numbers[..numbers.len()].copy_from_slice(numbers);
        choice
    };
    (head.sources_v4, head.sources_v6) = (choice(&numbers[0]), choice(&numbers[1]));
    head
}

/// The published bank. It is not 0, so that code that ignores banks fails.
const ACTIVE: u32 = 1;

/// Puts `value` into the published bank of a map, at `number`.
fn put<T: Clone + Default>(map: &mut Vec<T>, number: usize, value: T) {
    let place = 2 * number + ACTIVE as usize;
    if map.len() <= place {
        map.resize(place + 1, T::default());
    }
    map[place] = value;
}

/// A service index in the published bank, and its mask.
fn index<K: Key>(destinations: &[(K, ServiceRef)]) -> (Vec<K::Entry>, u32) {
    let index = service_index::build(destinations, &KEY, 1 << 16).expect("room for a few services");
    let mut entries = Vec::new();
    for (number, entry) in index.iter().enumerate() {
        put(&mut entries, number, *entry);
    }
    (entries, u32::try_from(index.len()).expect("a small index") - 1)
}
