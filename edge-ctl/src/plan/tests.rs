//! Properties of planning, over sequences of random configurations.

#![expect(clippy::cast_possible_truncation, reason = "every number here is small")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use proptest::{collection::vec, prelude::*};

use edge_common::{
    abi::{BackendNumber, CELL, Cell, Failover, SLOTS_PER_CELL, ServiceRef, State, Tracking, VIP_ENTRY, VipOther},
    lookup::service_index::Key as _,
    tables::candidates::{self, Member},
};

mod cases;

use super::{
    samples::{SLOTS, empty, pool, service},
    *,
};
use crate::{
    config::{self, Backend, Config, Protocol, Service},
    health::Health,
};

const ADMINS: [Admin; 3] = [Admin::Enabled, Admin::Drained, Admin::Disabled];
const HEALTHS: [Health; 3] = [Health::Unknown, Health::Up, Health::Down];

/// For each of five pools: absent, or for each of its six backends: absent, or a choice of two addresses and a weight.
type Pools = Vec<Option<Vec<Option<(bool, u32)>>>>;
/// For each of six services: absent, or its VIP, its protocol, and the start of its list of pools.
type Services = Vec<Option<(u8, bool, usize)>>;

fn configurations() -> impl Strategy<Value = Config> {
    let backends = vec(proptest::option::weighted(0.8, (any::<bool>(), 1u32..4)), 6);
    let pools = vec(proptest::option::weighted(0.8, backends), 5);
    let services = vec(proptest::option::weighted(0.8, (0u8..4, any::<bool>(), 0usize..5)), 6);
    (pools, services).prop_map(|(pools, services)| configuration(&pools, &services))
}

fn configuration(pools: &Pools, services: &Services) -> Config {
    let mut config = empty();
    for (p, backends) in pools.iter().enumerate() {
        let mut made = pool(&format!("p{p}"), &[]);
        for (b, choice) in backends.iter().flatten().enumerate() {
            let Some((other, weight)) = *choice else { continue };
            let last = u8::try_from(b * 2 + usize::from(other)).expect("six backends") + 1;
            let address = IpAddr::V4(Ipv4Addr::new(10, 1, u8::try_from(p).expect("five pools"), last));
            made.backends.push(Backend {
                name: format!("b{b}"),
                address,
                weight,
                file_weight: weight,
                probe_port: None,
                probe_host: None,
                port: None,
                server_number: None,
            });
        }
        if !made.backends.is_empty() {
            config.pools.push(made);
        }
    }
    for (s, choice) in services.iter().enumerate() {
        let Some((vip, udp, first)) = *choice else { continue };
        if config.pools.is_empty() {
            continue;
        }
        let vip = match vip {
            0 | 1 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, vip)),
            _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, vip.into())),
        };
        let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
        let listed = (0..config.pools.len()).map(|n| (first + n) % config.pools.len()).collect();
        let port = 80 + u16::try_from(s).expect("six services");
        let mut made = service(&format!("s{s}"), vip, port, protocol, listed);
        made.slots = if first % 2 == 0 { 2048 } else { SLOTS };
        made.vips.extend((first > 2).then_some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9))));
        made.ports[0].last += u16::try_from(first).expect("few") * 100;
        made.ports[0].first = made.ports[0].last;
        config.services.push(made);
    }
    config.text = format!("{pools:?} {services:?}");
    config
}

/// Simulated content of the maps.
#[derive(Default)]
struct FakeMaps {
    states: BTreeMap<BackendNumber, State>,
    failovers: BTreeMap<u32, Failover>,
    candidates: Vec<Cell>,
    /// Backends that an owner or a record names.
    used: BTreeSet<BackendNumber>,
    published: Option<Snapshot>,
}

impl FakeMaps {
    fn plan(&self, config: &Config, capacity: &Capacity) -> Image {
        let state = |number| self.states.get(&number).copied().unwrap_or_default();
        let failover = |number| self.failovers.get(&number).copied().unwrap_or_default();
        let in_use = |number| self.used.contains(&number);
        let previous = self.published.as_ref();
        let previous = previous.map(|snapshot| Previous {
            snapshot,
            edition: Edition::default(),
            state: &state,
            failover: &failover,
            in_use: &in_use,
        });
        plan(config, capacity, previous).expect("it is within the limits")
    }

    fn publish(&mut self, image: &Image, capacity: &Capacity) {
        self.candidates.resize(capacity.candidates as usize, Cell::default());
        for region in &image.candidates {
            let first = region.first as usize;
            self.candidates[first..first + region.cells.len()].copy_from_slice(&region.cells);
        }
        self.states.extend(image.backends.iter().map(|(number, backend)| (*number, State(backend.state))));
        self.states.extend(image.returned.iter().map(|back| (back.number, back.state)));
        for retired in &image.snapshot.retired {
            let state = self.states.entry(retired.number).or_default();
            *state = removed(*state);
        }
        self.failovers =
            image.services.iter().map(|new| (new.number, Failover::from_raw(new.service.failover))).collect();
        self.published = Some(image.snapshot.clone());
    }
}

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    a.1 > 0 && b.1 > 0 && a.0 < b.0 + b.1 && b.0 < a.0 + a.1
}

fn assert_disjoint(runs: &[(u32, u32)], size: u32) {
    for (n, &run) in runs.iter().enumerate() {
        assert!(run.0 + run.1 <= size, "{run:?} is past the end");
        assert!(runs[..n].iter().all(|&other| !overlap(run, other)), "{run:?} overlaps in {runs:?}");
    }
}

/// The index holds the configured destinations and VIPs, and nothing else.
fn check_index(config: &Config, image: &Image) {
    let mut wanted = BTreeMap::new();
    for service in &config.services {
        let number = image.snapshot.service(&service.name).expect("it was given a number").number;
        for (vip, port, ports) in service.destinations() {
            let protocol = if ports.protocol == Protocol::Tcp { 6 } else { 17 };
            wanted.insert((vip, port, protocol), number);
            wanted.insert((vip, 0, if vip.is_ipv4() { 1 } else { 58 }), VIP_ENTRY.into());
        }
    }
    let key = &config.hash_key;
    let mut found = BTreeMap::new();
    assert_eq!(image.index_v4.len() as u32, image.generation.index_mask_v4 + 1);
    assert_eq!(image.index_v6.len() as u32, image.generation.index_mask_v6 + 1);
    for (at, entry) in (0u32..).zip(&image.index_v4).filter(|(_, entry)| entry.key.used == 1) {
        assert!(entry.key.positions(key, image.generation.index_mask_v4).contains(&at));
        let destination = (IpAddr::from(entry.key.vip), u16::from_be_bytes(entry.key.port), entry.key.protocol);
        assert_eq!(found.insert(destination, entry.service_ref.service()), None);
    }
    for (at, entry) in (0u32..).zip(&image.index_v6).filter(|(_, entry)| entry.key.used == 1) {
        assert!(entry.key.positions(key, image.generation.index_mask_v6).contains(&at));
        let destination = (IpAddr::from(entry.key.vip), u16::from_be_bytes(entry.key.port), entry.key.protocol);
        assert_eq!(found.insert(destination, entry.service_ref.service()), None);
    }
    assert_eq!(found, wanted);
}

/// Numbers stay with names and addresses. A number is not reassigned while the previous generation uses it nor, for
/// backends, while a flow may have a record with it.
fn check_numbers(before: Option<&Snapshot>, after: &Snapshot, used: &BTreeSet<BackendNumber>) {
    /// `held` returns whether an old number must not be reassigned.
    fn check<K: Ord + Clone>(before: Vec<(K, u32)>, after: &[(K, u32)], held: impl Fn(u32) -> bool) {
        let held: BTreeMap<_, _> =
            before.iter().filter(|(_, number)| held(*number)).cloned().map(|(key, number)| (number, key)).collect();
        let old: BTreeMap<_, _> = before.into_iter().collect();
        let distinct: BTreeSet<_> = after.iter().map(|&(_, number)| number).collect();
        assert_eq!(distinct.len(), after.len(), "a number was given twice");
        for (key, number) in after {
            if let Some(old) = old.get(key) {
                assert_eq!(number, old, "a number changed");
            }
            if let Some(holder) = held.get(number) {
                assert!(*holder == *key, "a number was reused at once");
            }
        }
    }
    let services = |s: &Snapshot| s.services.iter().map(|x| (x.name.clone(), x.number)).collect::<Vec<_>>();
    let pools = |s: &Snapshot| s.pools.iter().map(|x| (x.name.clone(), x.number.into())).collect::<Vec<_>>();
    let configured = |s: &Snapshot| {
        s.backends()
            .map(|(pool, b)| ((pool.name.clone(), b.name.clone(), b.address), b.number.into()))
            .collect::<Vec<_>>()
    };
    let retired = |s: &Snapshot| {
        let retired = s.retired.iter();
        retired.map(|b| ((b.pool.clone(), b.name.clone(), b.address), b.number.into())).collect::<Vec<_>>()
    };
    let backends = |s: &Snapshot| [configured(s), retired(s)].concat();
    check(before.map(services).unwrap_or_default(), &services(after), |_| true);
    check(before.map(pools).unwrap_or_default(), &pools(after), |_| true);
    let free: BTreeSet<_> = before.map(retired).unwrap_or_default().into_iter().map(|(_, number)| number).collect();
    let is_used = |number: u32| used.iter().any(|&used| u32::from(used) == number);
    check(before.map(backends).unwrap_or_default(), &backends(after), |n| !free.contains(&n) || is_used(n));
    assert!(after.backends().all(|(_, b)| b.number != 0));

    // Backends that are removed in this generation or still in use are retired; backends that come back and all others
    // are not.
    let now: BTreeSet<_> = configured(after).into_iter().collect();
    let expected: BTreeSet<_> = before
        .map(backends)
        .unwrap_or_default()
        .into_iter()
        .filter(|known| !now.contains(known) && (!free.contains(&known.1) || is_used(known.1)))
        .collect();
    assert_eq!(retired(after).into_iter().collect::<BTreeSet<_>>(), expected);
}

/// New cells do not overlap the cells that the old generation reads, and each pool finds its table.
fn check_cells(config: &Config, before: Option<&Snapshot>, image: &Image, maps: &FakeMaps, capacity: &Capacity) {
    let after = &image.snapshot;
    for region in &image.candidates {
        let run = (region.first, u32::try_from(region.cells.len()).expect("small"));
        let old = before.iter().flat_map(|s| s.candidate_cells());
        assert!(old.into_iter().all(|old| !overlap(run, old)), "{run:?} is still read");
    }
    assert_disjoint(&after.candidate_cells().collect::<Vec<_>>(), capacity.candidates);
    assert_disjoint(&after.slot_cells().chain(after.table_cells()).collect::<Vec<_>>(), capacity.slots);
    for record in &after.services {
        let kept = before.and_then(|s| s.service(&record.name)).filter(|old| old.slots == record.slots);
        if let Some(old) = kept {
            assert_eq!(record.cell, old.cell, "a kept service's owners moved");
        } else {
            let run = (record.cell, record.slots / SLOTS_PER_CELL);
            assert!(before.iter().flat_map(|s| s.slot_cells()).all(|old| !overlap(run, old)));
        }
        let new = image.services.iter().find(|new| new.number == record.number).expect("every service is written");
        assert_eq!(new.owners == NewOwners::Kept, kept.is_some());
    }
    for ((pool, record), (number, written)) in config.pools.iter().zip(&after.pools).zip(&image.pools) {
        let members: Vec<_> = pool
            .backends
            .iter()
            .zip(&record.backends)
            .map(|(backend, given)| {
                let IpAddr::V4(v4) = backend.address else { panic!("these are IPv4") };
                Member { number: given.number, weight: backend.weight, identity: v4.to_ipv6_mapped().octets() }
            })
            .collect();
        let users = config
            .services
            .iter()
            .zip(&image.services)
            .filter(|(_, new)| new.service.pools[..new.service.pool_count.into()].contains(number));
        for (service, new) in users {
            let table = written.table_of(new.service.slot_mask) as usize;
            assert_eq!(
                maps.candidates[table..table + service.slots as usize],
                candidates::build(&members, service.slots)[..],
                "the table of pool {number}"
            );
        }
        let list = &maps.candidates[written.member_list as usize..][..members.len().div_ceil(CELL)];
        let mut listed: Vec<_> = list.iter().flat_map(|cell| cell.0).filter(|&number| number != 0).collect();
        let rank = |number: &u16| {
            let state = maps.states[number];
            (!state.has_all(State::NEW), !state.has_all(State::ENABLED))
        };
        if image.candidates.iter().any(|region| region.first == written.member_list) {
            assert!(listed.is_sorted_by_key(rank), "those that take flows stand first");
        }
        let mut numbers: Vec<_> = members.iter().map(|member| member.number).collect();
        listed.sort_unstable();
        numbers.sort_unstable();
        assert_eq!(listed, numbers);
        assert_eq!(usize::from(written.members), numbers.len());
        let has = |bit| numbers.iter().filter(|n| maps.states[n].has_all(bit)).count() as u32;
        assert_eq!(written.available, has(State::NEW));
        assert_eq!(written.enabled, has(State::ENABLED));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_configurations_is_published_without_touching_what_is_read(
        steps in vec((configurations(), vec((0usize..3, 0usize..3), 80), vec((0u8..5, any::<bool>()), 16)), 1..7),
    ) {
        let capacity = Capacity::of(&empty());
        let mut maps = FakeMaps::default();
        for (config, states, failovers) in steps {
            let before = maps.published.clone();
            let image = maps.plan(&config, &capacity);
            maps.publish(&image, &capacity);
            check_index(&config, &image);
            check_numbers(before.as_ref(), &image.snapshot, &maps.used);
            check_cells(&config, before.as_ref(), &image, &maps, &capacity);
            let read: Snapshot = serde_json::from_slice(&image.json).expect("it is JSON");
            prop_assert_eq!(&read, &image.snapshot);

            // Time passes: probes and the operator change states.
            for (number, state_now) in &mut maps.states {
                let (word, evidence) = states[usize::from(*number) % states.len()];
                *state_now = changed(*state_now, ADMINS[word], HEALTHS[evidence]);
            }
            maps.used = maps.states.keys().copied().filter(|n| states[usize::from(*n + 7) % states.len()].0 > 0).collect();
            for (service, new) in config.services.iter().zip(&image.services) {
                let (first, evacuate) = failovers[new.number as usize % failovers.len()];
                let first = first % u8::try_from(service.pools.len()).expect("few");
                maps.failovers.insert(new.number, Failover { first, evacuate });
            }
        }
    }
}
