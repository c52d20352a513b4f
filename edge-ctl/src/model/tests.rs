//! Properties of planning, over sequences of random configurations.

#![expect(clippy::cast_possible_truncation, reason = "every number here is small")]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use edge_common::{
    abi::{BackendNumber, CELL, Cell, Failover, HashKey, Mode, State, Target, Tracking, VIP_ENTRY, WhenExhausted},
    lookup::service_index::Key as _,
    tables::candidates::{self, Member},
};

use super::*;
use crate::{
    config::{Announce, Backend, Config, Limits, Pool, Protocol, Service, Tunnel},
    health::Health,
};

const ADMINS: [Admin; 3] = [Admin::Enabled, Admin::Drained, Admin::Disabled];
const HEALTHS: [Health; 3] = [Health::Unknown, Health::Up, Health::Down];

pub(crate) const LIMITS: Limits =
    Limits { services: 6, pools: 5, backends: 30, flows: 1024, flows_per_second: 256, fragments: 64 };

/// A configuration with nothing in it.
pub(crate) fn empty(slots: u32) -> Config {
    Config {
        hash_key: HashKey(std::array::from_fn(|i| 0x9e37_79b9_u32.wrapping_mul(i as u32 + 1))),
        slots,
        interfaces: Vec::new(),
        tunnel: Tunnel { source_v4: Some(Ipv4Addr::new(10, 0, 0, 1)), source_v6: None },
        limits: LIMITS,
        pools: Vec::new(),
        services: Vec::new(),
        text: "# nothing\n".to_owned(),
    }
}

/// A pool of backends `b0`, `b1` and so on, each with the last byte of its address.
pub(crate) fn pool(name: &str, addresses: &[(usize, u8)]) -> Pool {
    let backends = addresses
        .iter()
        .map(|&(n, last)| Backend {
            name: format!("b{n}"),
            address: IpAddr::V4(Ipv4Addr::new(10, 1, name.bytes().map(|b| b % 100).sum(), last)),
            weight: 100,
        })
        .collect();
    Pool { name: name.to_owned(), min_healthy: 1, probe: None, backends }
}

pub(crate) fn service(name: &str, vip: IpAddr, port: u16, protocol: Protocol, pools: Vec<usize>) -> Service {
    Service {
        name: name.to_owned(),
        vip,
        port,
        protocol,
        mode: Mode::Ipip,
        pools,
        when_exhausted: WhenExhausted::Open,
        announce: Announce::None,
        tracking: if protocol == Protocol::Tcp { Tracking::Tcp } else { Tracking::Stateless },
        linger: Duration::from_mins(5),
        learn: Duration::from_secs(30),
        affinity_prefix: None,
    }
}

/// For every pool of five: absent, or for each of its six backends: absent, or which of two addresses, and a weight.
type Pools = Vec<Option<Vec<Option<(bool, u32)>>>>;
/// For every service of six: absent, or its VIP, its protocol, and where its list of pools begins.
type Services = Vec<Option<(u8, bool, usize)>>;

fn configurations() -> impl Strategy<Value = Config> {
    let backends = vec(proptest::option::weighted(0.8, (any::<bool>(), 1u32..4)), 6);
    let pools = vec(proptest::option::weighted(0.8, backends), 5);
    let services = vec(proptest::option::weighted(0.8, (0u8..4, any::<bool>(), 0usize..5)), 6);
    (pools, services).prop_map(|(pools, services)| configuration(&pools, &services))
}

fn configuration(pools: &Pools, services: &Services) -> Config {
    let mut config = empty(1024);
    for (p, backends) in pools.iter().enumerate() {
        let mut made = pool(&format!("p{p}"), &[]);
        for (b, choice) in backends.iter().flatten().enumerate() {
            let Some((other, weight)) = *choice else { continue };
            let last = u8::try_from(b * 2 + usize::from(other)).expect("six backends") + 1;
            let address = IpAddr::V4(Ipv4Addr::new(10, 1, u8::try_from(p).expect("five pools"), last));
            made.backends.push(Backend { name: format!("b{b}"), address, weight });
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
        config.services.push(service(&format!("s{s}"), vip, port, protocol, listed));
    }
    config.text = format!("{pools:?} {services:?}");
    config
}

/// What the maps would hold.
#[derive(Default)]
struct World {
    states: BTreeMap<BackendNumber, State>,
    failovers: BTreeMap<u32, Failover>,
    candidates: Vec<Cell>,
    /// Backends that an owner or a record names.
    used: BTreeSet<BackendNumber>,
    published: Option<Snapshot>,
}

impl World {
    fn plan(&self, config: &Config, capacity: &Capacity) -> Image {
        let state = |number| self.states.get(&number).copied().unwrap_or_default();
        let failover = |number| self.failovers.get(&number).copied().unwrap_or_default();
        let in_use = |number| self.used.contains(&number);
        let previous = self.published.as_ref();
        let previous =
            previous.map(|snapshot| Previous { snapshot, state: &state, failover: &failover, in_use: &in_use });
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
        for gone in &image.snapshot.retired {
            let state = self.states.entry(gone.number).or_default();
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
        let protocol = if service.protocol == Protocol::Tcp { 6 } else { 17 };
        wanted.insert((service.vip, service.port, protocol), number);
        wanted.insert((service.vip, 0, if service.vip.is_ipv4() { 1 } else { 58 }), VIP_ENTRY);
    }
    let key = &config.hash_key;
    let mut found = BTreeMap::new();
    assert_eq!(image.index_v4.len() as u32, image.generation.index_mask_v4 + 1);
    assert_eq!(image.index_v6.len() as u32, image.generation.index_mask_v6 + 1);
    for (at, entry) in (0u32..).zip(&image.index_v4).filter(|(_, entry)| entry.key.used == 1) {
        assert!(entry.key.positions(key, image.generation.index_mask_v4).contains(&at));
        let destination = (IpAddr::from(entry.key.vip), u16::from_be_bytes(entry.key.port), entry.key.protocol);
        assert_eq!(found.insert(destination, entry.target.service), None);
    }
    for (at, entry) in (0u32..).zip(&image.index_v6).filter(|(_, entry)| entry.key.used == 1) {
        assert!(entry.key.positions(key, image.generation.index_mask_v6).contains(&at));
        let destination = (IpAddr::from(entry.key.vip), u16::from_be_bytes(entry.key.port), entry.key.protocol);
        assert_eq!(found.insert(destination, entry.target.service), None);
    }
    assert_eq!(found, wanted);
}

/// Numbers stay with names and addresses, and are not given to others while the generation before has them, or, of
/// backends, while a flow may be known by them.
fn check_numbers(before: Option<&Snapshot>, after: &Snapshot, used: &BTreeSet<BackendNumber>) {
    /// `held` says of which of the numbers before.
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
        let gone = s.retired.iter();
        gone.map(|b| ((b.pool.clone(), b.name.clone(), b.address), b.number.into())).collect::<Vec<_>>()
    };
    let backends = |s: &Snapshot| [configured(s), retired(s)].concat();
    check(before.map(services).unwrap_or_default(), &services(after), |_| true);
    check(before.map(pools).unwrap_or_default(), &pools(after), |_| true);
    let free: BTreeSet<_> = before.map(retired).unwrap_or_default().into_iter().map(|(_, number)| number).collect();
    let is_used = |number: u32| used.iter().any(|&used| u32::from(used) == number);
    check(before.map(backends).unwrap_or_default(), &backends(after), |n| !free.contains(&n) || is_used(n));
    assert!(after.backends().all(|(_, b)| b.number != 0));

    // Who left in this generation, or is still used, is retired; who comes back is not, and nobody else is.
    let now: BTreeSet<_> = configured(after).into_iter().collect();
    let expected: BTreeSet<_> = before
        .map(backends)
        .unwrap_or_default()
        .into_iter()
        .filter(|known| !now.contains(known) && (!free.contains(&known.1) || is_used(known.1)))
        .collect();
    assert_eq!(retired(after).into_iter().collect::<BTreeSet<_>>(), expected);
}

/// What the new generation writes lies outside of what the old one reads, and each pool finds its table.
fn check_cells(config: &Config, before: Option<&Snapshot>, image: &Image, world: &World, capacity: &Capacity) {
    let after = &image.snapshot;
    for region in &image.candidates {
        let run = (region.first, u32::try_from(region.cells.len()).expect("small"));
        let old = before.iter().flat_map(|s| s.candidate_cells());
        assert!(old.into_iter().all(|old| !overlap(run, old)), "{run:?} is still read");
    }
    assert_disjoint(&after.candidate_cells().collect::<Vec<_>>(), capacity.candidates);
    assert_disjoint(&after.owner_cells().collect::<Vec<_>>(), capacity.owners);
    for record in &after.services {
        let kept = before.and_then(|s| s.service(&record.name));
        if let Some(old) = kept {
            assert_eq!(record.owners, old.owners, "a kept service's owners moved");
        } else {
            let run = (record.owners, after.slots / LANES);
            assert!(before.iter().flat_map(|s| s.owner_cells()).all(|old| !overlap(run, old)));
        }
        let new = image.services.iter().find(|new| new.number == record.number).expect("every service is written");
        assert_eq!(new.fresh_owners, kept.is_none());
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
        let table = written.table as usize;
        assert_eq!(
            world.candidates[table..table + after.slots as usize],
            candidates::build(&members, after.slots)[..],
            "the table of pool {number}"
        );
        let list = &world.candidates[written.member_list as usize..][..members.len().div_ceil(CELL)];
        let mut listed: Vec<_> = list.iter().flat_map(|cell| cell.0).filter(|&number| number != 0).collect();
        let rank = |number: &u16| {
            let state = world.states[number];
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
        let has = |bit| numbers.iter().filter(|n| world.states[n].has_all(bit)).count() as u32;
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
        let capacity = Capacity::of(&empty(1024));
        let mut world = World::default();
        for (config, states, failovers) in steps {
            let before = world.published.clone();
            let image = world.plan(&config, &capacity);
            world.publish(&image, &capacity);
            check_index(&config, &image);
            check_numbers(before.as_ref(), &image.snapshot, &world.used);
            check_cells(&config, before.as_ref(), &image, &world, &capacity);
            let read: Snapshot = serde_json::from_slice(&image.json).expect("it is JSON");
            prop_assert_eq!(&read, &image.snapshot);

            // Time goes by: probes and the operator have their say.
            for (number, state_now) in &mut world.states {
                let (word, evidence) = states[usize::from(*number) % states.len()];
                *state_now = changed(*state_now, ADMINS[word], HEALTHS[evidence]);
            }
            world.used = world.states.keys().copied().filter(|n| states[usize::from(*n + 7) % states.len()].0 > 0).collect();
            for (service, new) in config.services.iter().zip(&image.services) {
                let (first, evacuate) = failovers[new.number as usize % failovers.len()];
                let first = first % u8::try_from(service.pools.len()).expect("few");
                world.failovers.insert(new.number, Failover { first, evacuate });
            }
        }
    }
}

#[test]
fn state_and_its_meaning_are_the_same_both_ways() {
    for word in ADMINS {
        for evidence in HEALTHS {
            let state = state(word, evidence);
            assert_eq!(admin(state), word);
            let kept = if word == Admin::Disabled { Health::Unknown } else { evidence };
            assert_eq!(health(state), kept);
        }
    }
    let bits = |word, evidence| state(word, evidence).0;
    assert_eq!(bits(Admin::Enabled, Health::Unknown), State::NEW | State::ALIVE | State::ENABLED);
    assert_eq!(bits(Admin::Enabled, Health::Up), State::NEW | State::ALIVE | State::ENABLED | State::UP);
    assert_eq!(bits(Admin::Enabled, Health::Down), State::ENABLED | State::DOWN);
    assert_eq!(bits(Admin::Drained, Health::Up), State::ALIVE | State::ENABLED | State::DRAINED | State::UP);
    assert_eq!(bits(Admin::Drained, Health::Down), State::ENABLED | State::DRAINED | State::DOWN);
    assert_eq!(bits(Admin::Disabled, Health::Up), State::DISABLED);
}

#[test]
fn who_has_left_takes_no_new_flows_whatever_is_said_until_it_returns() {
    for (word, evidence) in ADMINS.into_iter().flat_map(|word| HEALTHS.map(|evidence| (word, evidence))) {
        let before = state(word, evidence);
        let gone = removed(before);
        assert_eq!(gone.0 & !State::RETIRED, before.0 & !State::NEW);
        assert_eq!((admin(gone), health(gone)), (admin(before), health(before)));
        assert_eq!(returned(gone), before);
        for (other, found) in ADMINS.into_iter().flat_map(|word| HEALTHS.map(|evidence| (word, evidence))) {
            assert_eq!(changed(gone, other, found), removed(state(other, found)));
            assert_eq!(changed(before, other, found), state(other, found));
        }
    }
}

/// Two pools, one service.
fn simple() -> Config {
    let mut config = empty(1024);
    config.pools = vec![pool("one", &[(0, 1), (1, 2)]), pool("two", &[(0, 1)])];
    config.services = vec![service("web", Ipv4Addr::new(192, 0, 2, 1).into(), 80, Protocol::Tcp, vec![0, 1])];
    config
}

#[test]
fn the_same_configuration_again_writes_no_cell() {
    let config = simple();
    let capacity = Capacity::of(&config);
    let mut world = World::default();
    let first = world.plan(&config, &capacity);
    world.publish(&first, &capacity);
    let second = world.plan(&config, &capacity);
    assert!(second.candidates.is_empty());
    assert!(second.backends.is_empty());
    assert_eq!(second.snapshot.pools, first.snapshot.pools);
    assert_eq!(second.generation.number, 2);
}

#[test]
fn what_a_service_says_of_its_flows_reaches_the_packet_path() {
    let mut config = simple();
    config.limits.flows_per_second = 77;
    let vips = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
    for (port, tracking) in (81..).zip([Tracking::Stateless, Tracking::Tcp, Tracking::Quic, Tracking::Learn]) {
        let made = service(&format!("s{port}"), vips[0], port, Protocol::Udp, vec![0]);
        config.services.push(Service { tracking, ..made });
    }
    for (port, vip) in (90..).zip(vips) {
        let made = service(&format!("s{port}"), vip, port, Protocol::Tcp, vec![0]);
        config.services.push(Service { affinity_prefix: Some(24), ..made });
    }
    let image = plan(&config, &Capacity::of(&config), None).expect("it is within the limits");
    assert_eq!(image.generation.records_per_second, 77);
    let (v4, v6) = (image.index_v4.iter().map(|e| e.target), image.index_v6.iter().map(|e| e.target));
    let targets: Vec<_> = v4.chain(v6).collect();
    for (service, new) in config.services.iter().zip(&image.services) {
        assert_eq!(Tracking::from_raw(new.service.tracking), service.tracking, "{}", service.name);
        assert_eq!(new.service.in_transition, 1, "{}", service.name);
        assert_eq!(new.service.affinity_prefix, service.affinity_prefix.unwrap_or(0), "{}", service.name);
        let is_its = |target: &&Target| target.service == new.number && target.owners() == new.service.owners;
        let target = targets.iter().find(is_its).expect("in the index");
        assert_eq!(target.by_source(), service.affinity_prefix.is_some(), "{}", service.name);
    }
}

#[test]
fn the_operators_word_stays_with_a_name_whose_address_changes() {
    let mut config = simple();
    let capacity = Capacity::of(&config);
    let mut world = World::default();
    let image = world.plan(&config, &capacity);
    world.publish(&image, &capacity);
    let old = image.snapshot.backend("one/b0").expect("configured").number;
    world.states.insert(old, state(Admin::Drained, Health::Down));

    config.pools[0].backends[0].address = Ipv4Addr::new(10, 9, 9, 9).into();
    let image = world.plan(&config, &capacity);
    let (number, backend) = image.backends[0];
    assert_ne!(number, old);
    assert_eq!(State(backend.state), state(Admin::Drained, Health::Unknown));
}

#[test]
fn a_number_is_free_when_nothing_names_it_and_comes_back_with_its_backend_until_then() {
    let full = simple();
    let capacity = Capacity::of(&full);
    let mut world = World::default();
    let image = world.plan(&full, &capacity);
    world.publish(&image, &capacity);
    let number = image.snapshot.backend("one/b1").expect("configured").number;
    world.states.insert(number, state(Admin::Drained, Health::Up));

    let mut smaller = full.clone();
    smaller.pools[0].backends.remove(1);
    let image = world.plan(&smaller, &capacity);
    world.publish(&image, &capacity);
    assert_eq!(image.snapshot.retired.iter().map(|gone| gone.number).collect::<Vec<_>>(), [number]);

    // Another backend of its name, while a record names it, and then while none does.
    let mut other = smaller.clone();
    other.pools[0]
        .backends
        .push(Backend { address: Ipv4Addr::new(10, 9, 9, 9).into(), ..full.pools[0].backends[1].clone() });
    world.used.insert(number);
    assert_ne!(world.plan(&other, &capacity).snapshot.backend("one/b1").expect("configured").number, number);
    world.used.clear();
    assert_eq!(world.plan(&other, &capacity).snapshot.backend("one/b1").expect("configured").number, number);

    for used in [BTreeSet::from([number]), BTreeSet::new()] {
        world.used = used;
        let image = world.plan(&full, &capacity);
        assert_eq!(image.snapshot.backend("one/b1").expect("configured").number, number);
        let pool = image.snapshot.pool("one").expect("configured").number;
        assert_eq!(image.returned, [Returned { number, pool, state: state(Admin::Drained, Health::Up) }]);
        assert!(image.backends.is_empty() && image.snapshot.retired.is_empty());
    }
    let image = world.plan(&smaller, &capacity);
    assert!(image.snapshot.retired.is_empty(), "nothing names it");
}

#[test]
fn no_room_for_backends_may_be_a_matter_of_time() {
    let mut config = simple();
    let capacity = Capacity { backends: 5, ..Capacity::of(&config) };
    let mut world = World::default();
    for last in [1, 100] {
        config.pools[1].backends[0].address = Ipv4Addr::new(10, 9, 9, last).into();
        let image = world.plan(&config, &capacity);
        world.publish(&image, &capacity);
    }
    config.pools[1].backends[0].address = Ipv4Addr::new(10, 9, 9, 200).into();
    world.used.extend(1..5);
    let state = |number| world.states.get(&number).copied().unwrap_or_default();
    let (failover, in_use) = (|_| Failover::default(), |number| world.used.contains(&number));
    let snapshot = world.published.as_ref().expect("published");
    let previous = Previous { snapshot, state: &state, failover: &failover, in_use: &in_use };
    let error = plan(&config, &capacity, Some(previous)).expect_err("all four numbers are taken").to_string();
    assert!(error.contains("wait until the flows of the backend that was removed have ended"), "{error}");
    assert!(error.contains("BACKENDS has room for 5"), "{error}");
}

#[test]
fn a_failover_follows_its_pool_through_the_list() {
    let mut config = simple();
    config.pools.push(pool("three", &[(0, 1)]));
    config.services[0].pools = vec![0, 1, 2];
    let capacity = Capacity::of(&config);
    let after = |pools: Vec<usize>, first: u8| {
        let mut world = World::default();
        let image = world.plan(&config, &capacity);
        world.publish(&image, &capacity);
        world.failovers.insert(image.services[0].number, Failover { first, evacuate: true });
        let mut changed = config.clone();
        changed.services[0].pools = pools;
        Failover::from_raw(world.plan(&changed, &capacity).services[0].service.failover)
    };
    assert_eq!(after(vec![0, 1, 2], 1), Failover { first: 1, evacuate: true });
    assert_eq!(after(vec![0, 2, 1], 1), Failover { first: 2, evacuate: true });
    assert_eq!(after(vec![0, 2], 1), Failover { first: 1, evacuate: true }, "to the one behind it");
    assert_eq!(after(vec![0], 1), Failover::default(), "nowhere left to go");
    assert_eq!(after(vec![1, 0], 1), Failover::default(), "it is the first now");
}

#[test]
fn other_slots_give_other_cells() {
    let mut config = simple();
    let capacity = Capacity::of(&Config { slots: 4096, ..config.clone() });
    let mut world = World::default();
    let first = world.plan(&config, &capacity);
    world.publish(&first, &capacity);
    config.slots = 2048;
    let second = world.plan(&config, &capacity);
    assert!(second.services[0].fresh_owners);
    let old: Vec<_> = first.snapshot.candidate_cells().chain(first.snapshot.candidate_cells()).collect();
    assert!(second.snapshot.candidate_cells().all(|run| old.iter().all(|&old| !overlap(run, old))));
    assert!(second.snapshot.owner_cells().all(|run| first.snapshot.owner_cells().all(|old| !overlap(run, old))));
}

#[test]
fn what_does_not_fit_names_the_map_and_the_way_out() {
    let config = simple();
    let mut capacity = Capacity::of(&config);
    capacity.backends = 3;
    let error = plan(&config, &capacity, None).expect_err("three backends and number 0 need four").to_string();
    assert!(error.contains("BACKENDS has room for 3"), "{error}");
    assert!(error.contains("edge-ctl detach"), "{error}");

    for shrink in [
        |c: &mut Capacity| c.candidates = 1500,
        |c: &mut Capacity| c.owners = 255,
        |c: &mut Capacity| c.services = 0,
        |c: &mut Capacity| c.pools = 1,
        |c: &mut Capacity| c.snapshot = 0,
        |c: &mut Capacity| c.index_v4 = 1,
    ] {
        let mut capacity = Capacity::of(&config);
        shrink(&mut capacity);
        assert!(plan(&config, &capacity, None).is_err());
    }
}
