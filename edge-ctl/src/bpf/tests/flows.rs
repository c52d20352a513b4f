//! Services in transition: flagged before the change, handed over after it, and all of it again after a controller has
//! died in any phase.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicBool, Ordering},
};

use edge_common::{
    abi::{FlowEnds, Slot, slot_address},
    flow_table::Flow,
    wire::protocol,
};

use super::*;

pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(5);
pub(super) const WAITS: Waits = Waits { flow_idle_timeout: IDLE_TIMEOUT, expiry: Duration::from_secs(301) };
/// Start time of the tests, on the records' clock.
pub(super) const START: Duration = Duration::from_secs(5000);
pub(super) const VIP: [u8; 4] = [192, 0, 2, 1];

/// Services in which a pass has started and finished a transition.
pub(super) type Pass = (Vec<u32>, Vec<Finished>);

pub(super) fn waits(pinned: &PinnedMaps) -> Vec<(u32, Waits)> {
    let snapshot = pinned.snapshot().expect("readable").expect("published");
    snapshot.services.iter().map(|service| (service.number, WAITS)).collect()
}

pub(super) fn pass_of(pinned: &mut PinnedMaps, waits: &[(u32, Waits)], now: Duration) -> Pass {
    pinned.begin_pass(waits).expect("begun");
    loop {
        match pinned.go_on(now).expect("a step") {
            Progress::Idle => return Pass::default(),
            Progress::GoOn => {}
            Progress::Wait => std::thread::sleep(Duration::from_millis(1)),
            Progress::Done { started, finished } => return (started, finished),
        }
    }
}

pub(super) fn pass(pinned: &mut PinnedMaps, now: Duration) -> Pass {
    let waits = waits(pinned);
    pass_of(pinned, &waits, now)
}

/// Runs passes until all services are stable: two more than there are looks with handovers.
pub(super) fn finish_all(pinned: &mut PinnedMaps, now: Duration) {
    for _ in 0..4 {
        pass(pinned, now);
    }
    let numbers: Vec<_> = waits(pinned).into_iter().map(|(number, _)| number).collect();
    assert!(numbers.iter().all(|&number| !pinned.in_transition(number)), "all are stable");
}

pub(super) fn stable(pins: &PinDir, config: &Config) -> PinnedMaps {
    let mut pinned = started(pins, config);
    finish_all(&mut pinned, START);
    pinned
}

/// A flow to the first VIP.
pub(super) fn key(client_port: u16, port: u16, protocol: u8) -> FlowEnds {
    let (client, vip) = (Ipv4Addr::new(203, 0, 113, 9).into(), Ipv4Addr::from(VIP).into());
    FlowEnds { client, client_port, vip, port, protocol }
}

/// Records a flow as the packet path does, or refreshes its record.
pub(super) fn record(pins: &PinDir, ends: FlowEnds, backend: u16, seen: Duration) {
    let maps = PinnedMaps::open(pins).expect("readable").expect("maps");
    record_in(&maps, ends, backend, seen);
}

/// As [`record`], in maps that are open.
pub(super) fn record_in(maps: &PinnedMaps, ends: FlowEnds, backend: u16, seen: Duration) {
    maps.record_flow(ends, backend, seen).expect("there is room");
}

/// The slot of a flow whose ports are hashed.
pub(super) fn slot(pinned: &PinnedMaps, ends: FlowEnds) -> usize {
    let (_, generation) = pinned.maps.published().expect("published");
    let IpAddr::V4(client) = ends.client else { panic!("a flow of IPv4") };
    generation.hash_key.hash_v4(client.octets(), Flow::from(ends).ports()).slot(samples::SLOTS - 1) as usize
}

/// Number of recorded flows.
pub(super) fn recorded(pinned: &PinnedMaps) -> usize {
    pinned.flows(Duration::ZERO).expect("readable").len()
}

pub(super) fn set(pinned: &mut PinnedMaps, name: &str, admin: Admin, health: Health) {
    let number = backend(pinned, name);
    pinned.set_state(number, state(admin, health), "a test").expect("known");
}

pub(super) fn why(pinned: &PinnedMaps, service: &str) -> String {
    pinned.transition(service_number(pinned, service)).expect("it is in transition").why
}

pub(super) fn mark_unrecorded(pinned: &PinnedMaps, service: &str, slot: usize) {
    let first = pinned.snapshot().expect("readable").expect("published").service(service).expect(service).cell;
    let slot = slot_address(first, u32::try_from(slot).expect("few slots"));
    let offset = slot.place() * size_of::<Slot>() + offset_of!(Slot, unrecorded);
    pinned.maps.slots.atomic_u8(slot.cell, offset).expect("in range").store(1, Ordering::Relaxed);
}

#[test]
fn a_new_generation_is_stable_after_the_first_pass_that_finds_nothing_to_do() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    let [web, dns] = ["web", "dns"].map(|name| service_number(&pinned, name));
    assert!(pinned.in_transition(web) && pinned.in_transition(dns));
    assert_eq!(why(&pinned, "web"), "generation 1");
    let (started, finished) = pass(&mut pinned, START);
    assert!(started.is_empty());
    assert_eq!(finished.iter().map(|one| (one.service, one.moved, one.started)).collect::<Vec<_>>().len(), 2);
    assert!(!pinned.in_transition(web) && !pinned.in_transition(dns));
    assert_eq!(pinned.transition(web), None);
    assert_eq!(pass(&mut pinned, START), Pass::default(), "there is nothing to be done");
}

#[test]
fn a_service_is_in_transition_before_its_backend_has_another_state() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = stable(&pins, &config());
    let (web, dns) = (service_number(&pinned, "web"), service_number(&pinned, "dns"));
    let number = backend(&pinned, "one/b0");
    let (up, down) = (state(Admin::Enabled, Health::Up), state(Admin::Enabled, Health::Down));
    pinned.set_state(number, up, "").expect("known");
    // A reader looks all the time: if it sees the new state, it must see the service in transition.
    let (end, mut eyes) = (AtomicBool::new(false), 0);
    let other = reopened(&pins);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = 0;
            while !end.load(Ordering::Relaxed) {
                // In the packet path's order: the state first, then what must have been written before it.
                if other.state(number) == down {
                    let flagged = other.in_transition(web);
                    if other.state(number) == down {
                        assert!(flagged, "the state was there first");
                        seen += 1;
                    }
                }
            }
            seen
        });
        for _ in 0..2000 {
            pinned.set_state(number, down, "").expect("known");
            pinned.set_state(number, up, "").expect("known");
            pinned.end_transition(web);
            pinned.end_transition(dns);
        }
        end.store(true, Ordering::Relaxed);
        eyes = watching.join().expect("it saw nothing wrong");
    });
    assert!(eyes > 0, "the watcher has seen the state");
}

#[test]
fn only_a_state_that_changes_picks_begins_a_transition() {
    let bpffs = Bpffs::mount();
    let mut config = config();
    config.services.push(samples::service("alone", Ipv4Addr::new(192, 0, 2, 7).into(), 80, Protocol::Tcp, vec![1]));
    let mut pinned = stable(&bpffs.pins(), &config);
    let in_transition = |pinned: &PinnedMaps| {
        ["web", "dns", "alone"]
            .into_iter()
            .filter(|name| pinned.in_transition(service_number(pinned, name)))
            .collect::<Vec<_>>()
    };
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Up);
    assert!(in_transition(&pinned).is_empty(), "unknown serves as up does");
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    assert_eq!(in_transition(&pinned), ["web", "dns"], "those that list its pool");
    assert_eq!(why(&pinned, "web"), "one/b0: a test");
    set(&mut pinned, "two/b0", Admin::Drained, Health::Up);
    assert_eq!(in_transition(&pinned), ["web", "dns", "alone"]);
    assert_eq!(why(&pinned, "web"), "one/b0: a test", "the first cause stays");
    assert_eq!(why(&pinned, "alone"), "two/b0: a test");
}

#[test]
fn a_failover_begins_a_transition_of_its_service_alone() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let (web, dns) = (service_number(&pinned, "web"), service_number(&pinned, "dns"));
    pinned.set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
    assert!(pinned.in_transition(web) && !pinned.in_transition(dns));
    assert_eq!(why(&pinned, "web"), "failover to two");
}

#[test]
fn slots_are_handed_over_after_the_idle_timeout_and_the_service_is_stable_then() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = stable(&pins, &config());
    let (web, b0) = (service_number(&pinned, "web"), backend(&pinned, "one/b0"));
    let before = owners(&pinned, "web");
    let theirs = before.iter().filter(|&&owner| owner == b0).count();
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    let (started, done) = pass(&mut pinned, START);
    assert_eq!(started, [web], "no slot of the other goes to pool one");
    assert_eq!(done.iter().map(|one| (one.started, one.moved)).collect::<Vec<_>>(), [(false, 0)]);
    let transition = pinned.transition(web).expect("under way");
    assert_eq!(transition.differing, Some(u32::try_from(theirs).expect("few")));
    assert!(transition.next_ms.expect("they will") > transition.changed_ms);
    // The same from the maps alone, except for the times, which only the waiting controller has.
    let mut other = reopened(&pins);
    assert_eq!(other.transition(web).expect("under way").differing, None, "it has not looked");
    other.survey().expect("readable");
    assert_eq!(other.transition(web), Some(Transition { next_ms: None, last_ms: None, ..transition }));
    assert_eq!(other.held(b0), pinned.held(b0));
    assert_eq!(owners(&other, "web"), before, "a survey moves nothing");

    assert_eq!(pass(&mut pinned, START + IDLE_TIMEOUT), Pass::default());
    assert_eq!(owners(&pinned, "web"), before);
    assert_eq!(pass(&mut pinned, START + IDLE_TIMEOUT + Duration::from_millis(2)), Pass::default());
    let after = owners(&pinned, "web");
    assert!(before.iter().zip(&after).all(|(old, new)| if *old == b0 { *new != b0 } else { new == old }));
    assert!(pinned.in_transition(web), "it is seen to be so by a look of its own");

    let (_, done) = pass(&mut pinned, START + IDLE_TIMEOUT + Duration::from_secs(1));
    assert_eq!(
        done.iter().map(|one| (one.service, one.started, one.moved)).collect::<Vec<_>>(),
        [(web, true, theirs as u64)]
    );
    assert!(done[0].since_ms > 0);
    assert!(!pinned.in_transition(web));
}

#[test]
fn a_slot_with_an_unrecorded_flow_waits_once_more() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let b0 = backend(&pinned, "one/b0");
    let slot = owners(&pinned, "web").iter().position(|&owner| owner == b0).expect("it has some");
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    pass(&mut pinned, START);
    mark_unrecorded(&pinned, "web", slot);
    let late = START + IDLE_TIMEOUT + Duration::from_secs(1);
    pass(&mut pinned, late);
    let owned: Vec<_> = (0..).zip(owners(&pinned, "web")).filter(|&(_, owner)| owner == b0).map(|(at, _)| at).collect();
    assert_eq!(owned, [slot]);
    pass(&mut pinned, late + IDLE_TIMEOUT + Duration::from_secs(1));
    assert!(!owners(&pinned, "web").contains(&b0));
}

#[test]
fn a_stateless_service_moves_at_the_first_look() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let dns = service_number(&pinned, "dns");
    let at_once = [(dns, Waits { flow_idle_timeout: Duration::ZERO, expiry: WAITS.expiry })];
    set(&mut pinned, "two/b0", Admin::Enabled, Health::Down);
    let (started, _) = pass_of(&mut pinned, &at_once, START);
    assert_eq!(started, [dns]);
    let b1 = backend(&pinned, "two/b1");
    assert!(owners(&pinned, "dns").iter().all(|&owner| owner == b1));
    let (_, done) = pass_of(&mut pinned, &at_once, START);
    assert_eq!(done.iter().map(|one| one.service).collect::<Vec<_>>(), [dns]);
}

#[test]
fn services_that_are_alike_end_where_each_would_alone() {
    let bpffs = Bpffs::mount();
    let mut config = config();
    let vip = Ipv4Addr::new(192, 0, 2, 2).into();
    // Services that are alike, alike except for the order of pools, and alike except for a failover.
    for (name, port, pools) in [("same", 1, vec![1, 0]), ("other", 2, vec![0, 1]), ("over", 3, vec![1, 0])] {
        config.services.push(samples::service(name, vip, port, Protocol::Udp, pools));
    }
    let mut pinned = stable(&bpffs.pins(), &config);
    let names = ["dns", "same", "other", "over"];
    pinned.set_failover(service_number(&pinned, "over"), Failover { first: 1, evacuate: false }).expect("known");
    set(&mut pinned, "two/b0", Admin::Enabled, Health::Down);
    pass(&mut pinned, START);
    pass(&mut pinned, START + IDLE_TIMEOUT + Duration::from_secs(1));
    let (dead, living) = (backend(&pinned, "two/b0"), backend(&pinned, "two/b1"));
    let [dns, same, other, over] = names.map(|name| owners(&pinned, name));
    assert!(dns.iter().all(|&owner| owner == living));
    assert_eq!(same, dns);
    assert_eq!(other, over, "pool one takes both");
    assert!(!other.contains(&dead) && !other.contains(&living));
}

#[test]
fn a_controller_that_dies_in_any_phase_loses_no_record_and_moves_nothing_early() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    // Number of steps that each controller of a sequence lives for.
    for life in [1, 2, 3, 5] {
        let mut pinned = Some(started_again(&pins));
        let mut now = START;
        finish_all(pinned.as_mut().expect("it lives"), now);
        let web = service_number(pinned.as_ref().expect("it lives"), "web");
        let b0 = backend(pinned.as_ref().expect("it lives"), "one/b0");
        let before = owners(pinned.as_ref().expect("it lives"), "web");
        set(pinned.as_mut().expect("it lives"), "one/b0", Admin::Drained, Health::Up);
        let flow = key(77, 80, protocol::TCP);
        record(&pins, flow, b0, now);
        // Each controller dies before its idle timeout is over: nothing is handed over, and the record of an active flow
        // stays.
        for _ in 0..3 {
            drop(pinned.take());
            let mut next = reopened(&pins);
            next.repair().expect("repaired");
            let waits = waits(&next);
            next.begin_pass(&waits).expect("begun");
            for _ in 0..life {
                next.go_on(now).expect("a step");
            }
            now += IDLE_TIMEOUT / 2;
            record(&pins, flow, b0, now);
            assert_eq!(owners(&next, "web"), before);
            assert!(next.in_transition(web));
            assert_eq!(recorded(&next), 1);
            pinned = Some(next);
        }
        // A controller that stays alive finishes the transition.
        let mut last = reopened(&pins);
        pass(&mut last, now);
        assert_eq!(owners(&last, "web"), before, "it waits a whole idle timeout anew");
        now += IDLE_TIMEOUT + Duration::from_secs(1);
        pass(&mut last, now);
        assert!(!owners(&last, "web").contains(&b0));
        finish_all(&mut last, now + WAITS.expiry + Duration::from_secs(1));
    }
}

#[test]
fn a_change_in_the_middle_of_a_pass_keeps_its_services_in_transition() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    let [web, dns] = ["web", "dns"].map(|name| service_number(&pinned, name));
    let waits = waits(&pinned);
    pinned.begin_pass(&waits).expect("begun");
    let mut steps = 0;
    let (_, done) = loop {
        match pinned.go_on(START).expect("a step") {
            Progress::Done { started, finished } => break (started, finished),
            Progress::Wait => {
                // All was calm, and the pass waits for packets: a change at this moment is the worst case.
                pinned.set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => {}
        }
        steps += 1;
        assert!(steps < 10_000);
    };
    assert_eq!(done.iter().map(|one| one.service).collect::<Vec<_>>(), [dns]);
    assert!(pinned.in_transition(web) && !pinned.in_transition(dns));
}
