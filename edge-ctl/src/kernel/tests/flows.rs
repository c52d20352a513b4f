//! Services that are not settled: said before the change, owners that follow, records that go, and all of it once more
//! after a controller's death in any phase.

use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::HashMap as BpfHash;

use edge_common::{
    abi::{FlowKeyV4, FlowKeyV6, FlowRecord},
    wire::protocol,
};

use super::*;

const LINGER: Duration = Duration::from_mins(5);
const WAITS: Waits = Waits { linger: LINGER, expiry: Duration::from_secs(301) };
/// When the tests begin, on the records' clock.
const START: Duration = Duration::from_secs(5000);
const VIP: [u8; 4] = [192, 0, 2, 1];

/// What a round has begun and settled.
type Round = (Vec<u32>, Vec<Settled>);

fn waits(kernel: &Kernel) -> Vec<(u32, Waits)> {
    let snapshot = kernel.snapshot().expect("readable").expect("published");
    snapshot.services.iter().map(|service| (service.number, WAITS)).collect()
}

fn round_of(kernel: &mut Kernel, waits: &[(u32, Waits)], now: Duration) -> Round {
    kernel.begin_round(waits).expect("begun");
    loop {
        match kernel.go_on(now).expect("a step") {
            Progress::Idle => return Round::default(),
            Progress::GoOn => {}
            Progress::Wait => std::thread::sleep(Duration::from_millis(1)),
            Progress::Done { begun, settled } => return (begun, settled),
        }
    }
}

pub(super) fn round(kernel: &mut Kernel, now: Duration) -> Round {
    let waits = waits(kernel);
    round_of(kernel, &waits, now)
}

/// Rounds until all is settled, which takes two more than there are looks with moves.
pub(super) fn settle_all(kernel: &mut Kernel, now: Duration) {
    for _ in 0..4 {
        round(kernel, now);
    }
    let numbers: Vec<_> = waits(kernel).into_iter().map(|(number, _)| number).collect();
    assert!(numbers.iter().all(|&number| !kernel.is_unsettled(number)), "all is settled");
}

pub(super) fn settled(pins: &PinDir, config: &Config) -> Kernel {
    let mut kernel = started(pins, config);
    settle_all(&mut kernel, START);
    kernel
}

/// A flow to the first VIP.
pub(super) fn key(client_port: u16, port: u16, protocol: u8) -> FlowKeyV4 {
    FlowKeyV4 {
        client: u32::from_ne_bytes([203, 0, 113, 9]),
        vip: u32::from_ne_bytes(VIP),
        ports: u32::from(client_port.to_be()) | u32::from(port.to_be()) << 16,
        protocol: protocol.into(),
    }
}

/// Flow records of keys of `N` words, as the packet path has them.
type Records<const N: usize> = BpfHash<MapData, [u32; N], [u32; 4]>;

fn records<const N: usize>(pins: &PinDir, name: &str) -> Records<N>
where
    [u32; N]: aya::Pod,
{
    let table = MapData::from_pin(pins.map(name)).expect("pinned");
    aya::maps::Map::from_map_data(table).and_then(BpfHash::try_from).expect("a hash")
}

/// Records a flow as the packet path does.
pub(super) fn record(pins: &PinDir, key: FlowKeyV4, backend: u16, seen: Duration) {
    let seen = u64::try_from(seen.as_nanos()).expect("small");
    let key: [u32; 4] = bytemuck::cast(key);
    let record: [u32; 4] = bytemuck::cast(FlowRecord::new(backend, 0, seen));
    records(pins, map::FLOWS_V4).insert(key, record, 0).expect("there is room");
}

fn record_v6(pins: &PinDir, key: FlowKeyV6, backend: u16) {
    let key: [u32; 10] = bytemuck::cast(key);
    let record: [u32; 4] = bytemuck::cast(FlowRecord::new(backend, 0, 0));
    records(pins, map::FLOWS_V6).insert(key, record, 0).expect("there is room");
}

/// The slot of a flow whose ports are hashed.
fn slot(kernel: &Kernel, key: FlowKeyV4) -> usize {
    let (_, generation) = kernel.maps.published().expect("published");
    generation.hash_key.hash_v4(key.client.to_ne_bytes(), key.ports).slot(generation.slot_mask) as usize
}

fn set(kernel: &mut Kernel, name: &str, admin: Admin, health: Health) {
    let number = backend(kernel, name);
    kernel.set_state(number, state(admin, health), "a test").expect("known");
}

fn why(kernel: &Kernel, service: &str) -> String {
    kernel.transition(service_number(kernel, service)).expect("it is not settled").why
}

fn miss(kernel: &Kernel, service: &str, slot: usize) {
    let first = kernel.snapshot().expect("readable").expect("published").service(service).expect(service).owners;
    let slot = u32::try_from(slot).expect("few slots");
    kernel.maps.missed.half(first + slot / 4, slot as usize % 4 * 2).expect("in range").store(1, Ordering::Relaxed);
}

#[test]
fn a_new_generation_is_settled_by_the_first_round_that_finds_nothing_to_do() {
    let bpffs = Bpffs::mount();
    let mut kernel = started(&bpffs.pins(), &config());
    let [web, dns] = ["web", "dns"].map(|name| service_number(&kernel, name));
    assert!(kernel.is_unsettled(web) && kernel.is_unsettled(dns));
    assert_eq!(why(&kernel, "web"), "generation 1");
    let (begun, settled) = round(&mut kernel, START);
    assert!(begun.is_empty());
    assert_eq!(settled.iter().map(|one| (one.service, one.moved, one.begun)).collect::<Vec<_>>().len(), 2);
    assert!(!kernel.is_unsettled(web) && !kernel.is_unsettled(dns));
    assert_eq!(kernel.transition(web), None);
    assert_eq!(round(&mut kernel, START), Round::default(), "there is nothing to be done");
}

#[test]
fn a_service_is_not_settled_before_its_backend_has_another_state() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = settled(&pins, &config());
    let (web, dns) = (service_number(&kernel, "web"), service_number(&kernel, "dns"));
    let number = backend(&kernel, "one/b0");
    let (up, down) = (state(Admin::Enabled, Health::Up), state(Admin::Enabled, Health::Down));
    kernel.set_state(number, up, "").expect("known");
    // Somebody looks all the time: who sees the new state must see that the service is not settled.
    let (end, mut eyes) = (AtomicBool::new(false), 0);
    let other = reopened(&pins);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = 0;
            while !end.load(Ordering::Relaxed) {
                // In the order of the packet path's trust: the state first, then what was to be there before it.
                if other.state(number) == down {
                    let unsettled = other.is_unsettled(web);
                    if other.state(number) == down {
                        assert!(unsettled, "the state was there first");
                        seen += 1;
                    }
                }
            }
            seen
        });
        for _ in 0..2000 {
            kernel.set_state(number, down, "").expect("known");
            kernel.set_state(number, up, "").expect("known");
            kernel.set_settled(web);
            kernel.set_settled(dns);
        }
        end.store(true, Ordering::Relaxed);
        eyes = watching.join().expect("it saw nothing wrong");
    });
    assert!(eyes > 0, "the watcher has seen the state");
}

#[test]
fn only_a_state_that_decides_anything_unsettles() {
    let bpffs = Bpffs::mount();
    let mut config = config();
    config.services.push(samples::service("alone", Ipv4Addr::new(192, 0, 2, 7).into(), 80, Protocol::Tcp, vec![1]));
    let mut kernel = settled(&bpffs.pins(), &config);
    let unsettled = |kernel: &Kernel| {
        ["web", "dns", "alone"]
            .into_iter()
            .filter(|name| kernel.is_unsettled(service_number(kernel, name)))
            .collect::<Vec<_>>()
    };
    set(&mut kernel, "one/b0", Admin::Enabled, Health::Up);
    assert!(unsettled(&kernel).is_empty(), "unknown serves as up does");
    set(&mut kernel, "one/b0", Admin::Drained, Health::Up);
    assert_eq!(unsettled(&kernel), ["web", "dns"], "those that list its pool");
    assert_eq!(why(&kernel, "web"), "one/b0: a test");
    set(&mut kernel, "two/b0", Admin::Drained, Health::Up);
    assert_eq!(unsettled(&kernel), ["web", "dns", "alone"]);
    assert_eq!(why(&kernel, "web"), "one/b0: a test", "the first cause stays");
    assert_eq!(why(&kernel, "alone"), "two/b0: a test");
}

#[test]
fn a_failover_unsettles_its_service_alone() {
    let bpffs = Bpffs::mount();
    let mut kernel = settled(&bpffs.pins(), &config());
    let (web, dns) = (service_number(&kernel, "web"), service_number(&kernel, "dns"));
    kernel.set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
    assert!(kernel.is_unsettled(web) && !kernel.is_unsettled(dns));
    assert_eq!(why(&kernel, "web"), "failover to two");
}

#[test]
fn owners_follow_after_the_linger_and_the_service_is_settled_then() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = settled(&pins, &config());
    let (web, b0) = (service_number(&kernel, "web"), backend(&kernel, "one/b0"));
    let before = owners(&kernel, "web");
    let theirs = before.iter().filter(|&&owner| owner == b0).count();
    set(&mut kernel, "one/b0", Admin::Drained, Health::Up);
    let (begun, done) = round(&mut kernel, START);
    assert_eq!(begun, [web], "no slot of the other goes to pool one");
    assert_eq!(done.iter().map(|one| (one.begun, one.moved)).collect::<Vec<_>>(), [(false, 0)]);
    let transition = kernel.transition(web).expect("under way");
    assert_eq!(transition.differing, Some(u32::try_from(theirs).expect("few")));
    assert!(transition.next_ms.expect("they will") > transition.changed_ms);
    // The same from the maps alone, but for what only the one who waits can know.
    let mut other = reopened(&pins);
    assert_eq!(other.transition(web).expect("under way").differing, None, "it has not looked");
    other.glance().expect("readable");
    assert_eq!(other.transition(web), Some(Transition { next_ms: None, last_ms: None, ..transition }));
    assert_eq!(other.held(b0), kernel.held(b0));
    assert_eq!(owners(&other, "web"), before, "a glance moves nothing");

    assert_eq!(round(&mut kernel, START + LINGER), Round::default());
    assert_eq!(owners(&kernel, "web"), before);
    assert_eq!(round(&mut kernel, START + LINGER + Duration::from_millis(2)), Round::default());
    let after = owners(&kernel, "web");
    assert!(before.iter().zip(&after).all(|(old, new)| if *old == b0 { *new != b0 } else { new == old }));
    assert!(kernel.is_unsettled(web), "it is seen to be so by a look of its own");

    let (_, done) = round(&mut kernel, START + LINGER + Duration::from_secs(1));
    assert_eq!(
        done.iter().map(|one| (one.service, one.begun, one.moved)).collect::<Vec<_>>(),
        [(web, true, theirs as u64)]
    );
    assert!(done[0].since_ms > 0);
    assert!(!kernel.is_unsettled(web));
}

#[test]
fn a_slot_in_which_a_flow_was_missed_waits_once_more() {
    let bpffs = Bpffs::mount();
    let mut kernel = settled(&bpffs.pins(), &config());
    let b0 = backend(&kernel, "one/b0");
    let slot = owners(&kernel, "web").iter().position(|&owner| owner == b0).expect("it has some");
    set(&mut kernel, "one/b0", Admin::Drained, Health::Up);
    round(&mut kernel, START);
    miss(&kernel, "web", slot);
    let late = START + LINGER + Duration::from_secs(1);
    round(&mut kernel, late);
    let owned: Vec<_> = (0..).zip(owners(&kernel, "web")).filter(|&(_, owner)| owner == b0).map(|(at, _)| at).collect();
    assert_eq!(owned, [slot]);
    round(&mut kernel, late + LINGER + Duration::from_secs(1));
    assert!(!owners(&kernel, "web").contains(&b0));
}

#[test]
fn a_stateless_service_moves_at_the_first_look() {
    let bpffs = Bpffs::mount();
    let mut kernel = settled(&bpffs.pins(), &config());
    let dns = service_number(&kernel, "dns");
    let at_once = [(dns, Waits { linger: Duration::ZERO, expiry: WAITS.expiry })];
    set(&mut kernel, "two/b0", Admin::Enabled, Health::Down);
    let (begun, _) = round_of(&mut kernel, &at_once, START);
    assert_eq!(begun, [dns]);
    let b1 = backend(&kernel, "two/b1");
    assert!(owners(&kernel, "dns").iter().all(|&owner| owner == b1));
    let (_, settled) = round_of(&mut kernel, &at_once, START);
    assert_eq!(settled.iter().map(|one| one.service).collect::<Vec<_>>(), [dns]);
}

#[test]
fn services_that_are_alike_end_where_each_would_alone() {
    let bpffs = Bpffs::mount();
    let mut config = config();
    let vip = Ipv4Addr::new(192, 0, 2, 2).into();
    // Alike, alike but for the order of pools, and alike but for a failover.
    for (name, port, pools) in [("same", 1, vec![1, 0]), ("other", 2, vec![0, 1]), ("over", 3, vec![1, 0])] {
        config.services.push(samples::service(name, vip, port, Protocol::Udp, pools));
    }
    let mut kernel = settled(&bpffs.pins(), &config);
    let names = ["dns", "same", "other", "over"];
    kernel.set_failover(service_number(&kernel, "over"), Failover { first: 1, evacuate: false }).expect("known");
    set(&mut kernel, "two/b0", Admin::Enabled, Health::Down);
    round(&mut kernel, START);
    round(&mut kernel, START + LINGER + Duration::from_secs(1));
    let (dead, living) = (backend(&kernel, "two/b0"), backend(&kernel, "two/b1"));
    let [dns, same, other, over] = names.map(|name| owners(&kernel, name));
    assert!(dns.iter().all(|&owner| owner == living));
    assert_eq!(same, dns);
    assert_eq!(other, over, "pool one takes both");
    assert!(!other.contains(&dead) && !other.contains(&living));
}

#[test]
fn records_go_when_they_are_silent_or_needless_and_only_then() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut kernel = settled(&pins, &config());
    let web = service_number(&kernel, "web");
    let owners = owners(&kernel, "web");
    set(&mut kernel, "one/b0", Admin::Drained, Health::Up);
    round(&mut kernel, START);
    let b0 = backend(&kernel, "one/b0");
    // Four flows in slots that stay settled, two of them with a record that says nothing else than the owner; and one in a
    // slot of the drained backend, which only a record keeps there once the slot has moved.
    let mut ports = 1000u16..;
    let mut flow = |drained: bool| {
        let is_one = |port: &u16| (owners[slot(&kernel, key(*port, 80, protocol::TCP))] == b0) == drained;
        let port = ports.by_ref().find(is_one).expect("there are many");
        (key(port, 80, protocol::TCP), owners[slot(&kernel, key(port, 80, protocol::TCP))])
    };
    let now = START + Duration::from_secs(1);
    let (needless, kept, silent, kept_by_record) = (flow(false), flow(false), flow(false), flow(true));
    record(&pins, needless.0, needless.1, now);
    record(&pins, kept.0, b0, now);
    record(&pins, silent.0, b0, now.saturating_sub(WAITS.expiry + Duration::from_secs(1)));
    record(&pins, kept_by_record.0, b0, now);
    // Of nobody's service: known for as long as it might come back.
    record(&pins, key(1, 8080, protocol::TCP), b0, now);
    record_v6(&pins, FlowKeyV6 { client: [1, 2], vip: [3, 4], ports: 5, protocol: 6 }, b0);

    round(&mut kernel, now);
    let mut left: Vec<_> = kernel.flows().expect("readable").into_iter().map(|(ends, _)| ends).collect();
    left.sort();
    let mut expected = [kept.0.ends(), kept_by_record.0.ends(), key(1, 8080, protocol::TCP).ends()];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(kernel.transition(web).expect("under way").records, 2);
    assert_eq!(kernel.held(b0).expect("looked at").records, 3);

    // Owners follow; the record of a flow that still sends stays, and keeps the service from being settled.
    let late = now + LINGER + Duration::from_secs(2);
    record(&pins, kept_by_record.0, b0, late);
    round(&mut kernel, late);
    round(&mut kernel, late);
    assert!(!super::owners(&kernel, "web").contains(&b0));
    assert!(kernel.is_unsettled(web));
    assert_eq!(kernel.flows().expect("readable").len(), 1);
    assert_eq!(kernel.held(b0).expect("looked at"), Held { slots: 0, records: 1 });

    // It ends.
    let (_, done) = round(&mut kernel, late + WAITS.expiry + Duration::from_secs(1));
    assert_eq!(done.iter().map(|one| one.service).collect::<Vec<_>>(), [web]);
    assert!(kernel.flows().expect("readable").is_empty());
}

#[test]
fn records_of_a_service_that_is_gone_are_nobodys() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut many = config();
    let vip = Ipv4Addr::from(VIP).into();
    many.services.extend((1..5).map(|port| samples::service(&format!("s{port}"), vip, port, Protocol::Tcp, vec![0])));
    let mut kernel = settled(&pins, &many);
    let b0 = backend(&kernel, "one/b0");
    for port in [1, 2, 3, 4, 80] {
        record(&pins, key(7, port, protocol::TCP), b0, START);
    }
    set(&mut kernel, "one/b0", Admin::Drained, Health::Up);
    for (config, records) in [(&config(), [1, 0]), (&many, [1, 1])] {
        let image = plan(&kernel, config);
        kernel.publish(&image).expect("published");
        round(&mut kernel, START);
        let of = |name: &str| {
            let snapshot = kernel.snapshot().expect("readable").expect("published");
            let number = snapshot.service(name).map(|service| service.number);
            number.and_then(|number| kernel.transition(number)).map_or(0, |transition| transition.records)
        };
        assert_eq!([of("web"), of("s3")], records);
        assert_eq!(kernel.held(b0).expect("looked at").records, 5);
    }
    // Nobody's are forgotten when their time is over, too.
    let image = plan(&kernel, &config());
    kernel.publish(&image).expect("published");
    let late = START + WAITS.expiry + Duration::from_secs(1);
    round(&mut kernel, late);
    assert!(kernel.flows().expect("readable").is_empty());
}

#[test]
fn a_look_into_a_large_table_sees_each_record_once() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut config = config();
    config.limits.flows = 16_384;
    let kernel = started(&pins, &config);
    for n in 0..10_000 {
        record(&pins, key(n, 80, 6), n, Duration::ZERO);
    }
    let mut seen: Vec<_> = kernel
        .flows()
        .expect("readable")
        .into_iter()
        .map(|(ends, record)| (ends.client_port, record.backend))
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..10_000).map(|n| (n, n)).collect::<Vec<_>>());
    // Some of those that are to go have gone already.
    let keys: Vec<_> = (5_000..12_000).map(|n| key(n, 80, 6)).collect();
    for n in [5_000, 7_777, 9_999] {
        records::<4>(&pins, map::FLOWS_V4).remove(&bytemuck::cast(key(n, 80, 6))).expect("it is there");
    }
    kernel.maps.flows_v4.delete(&keys).expect("deleted");
    assert_eq!(kernel.flows().expect("readable").len(), 5_000);
}

#[test]
fn a_controller_that_dies_in_any_phase_loses_no_record_and_moves_nothing_early() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    // How many steps of the rounds the controller lives for, over and over.
    for life in [1, 2, 3, 5] {
        let mut kernel = Some(started_again(&pins));
        let mut now = START;
        settle_all(kernel.as_mut().expect("it lives"), now);
        let web = service_number(kernel.as_ref().expect("it lives"), "web");
        let b0 = backend(kernel.as_ref().expect("it lives"), "one/b0");
        let before = owners(kernel.as_ref().expect("it lives"), "web");
        set(kernel.as_mut().expect("it lives"), "one/b0", Admin::Drained, Health::Up);
        let flow = key(77, 80, protocol::TCP);
        record(&pins, flow, b0, now);
        // Each dies before its linger is over: nothing moves, and the record of a flow that sends stays.
        for _ in 0..3 {
            drop(kernel.take());
            let mut next = reopened(&pins);
            next.settle().expect("settled");
            let waits = waits(&next);
            next.begin_round(&waits).expect("begun");
            for _ in 0..life {
                next.go_on(now).expect("a step");
            }
            now += LINGER / 2;
            record(&pins, flow, b0, now);
            assert_eq!(owners(&next, "web"), before);
            assert!(next.is_unsettled(web));
            assert_eq!(next.flows().expect("readable").len(), 1);
            kernel = Some(next);
        }
        // One that lives finishes what was begun.
        let mut last = reopened(&pins);
        round(&mut last, now);
        assert_eq!(owners(&last, "web"), before, "it waits a whole linger anew");
        now += LINGER + Duration::from_secs(1);
        round(&mut last, now);
        assert!(!owners(&last, "web").contains(&b0));
        settle_all(&mut last, now + WAITS.expiry + Duration::from_secs(1));
    }
}

#[test]
fn a_change_in_the_middle_of_a_round_keeps_its_services_from_being_settled() {
    let bpffs = Bpffs::mount();
    let mut kernel = started(&bpffs.pins(), &config());
    let [web, dns] = ["web", "dns"].map(|name| service_number(&kernel, name));
    let waits = waits(&kernel);
    kernel.begin_round(&waits).expect("begun");
    let mut steps = 0;
    let (_, settled) = loop {
        match kernel.go_on(START).expect("a step") {
            Progress::Done { begun, settled } => break (begun, settled),
            Progress::Wait => {
                // All was calm, and packets are waited for: now of all times.
                kernel.set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => {}
        }
        steps += 1;
        assert!(steps < 10_000);
    };
    assert_eq!(settled.iter().map(|one| one.service).collect::<Vec<_>>(), [dns]);
    assert!(kernel.is_unsettled(web) && !kernel.is_unsettled(dns));
}
