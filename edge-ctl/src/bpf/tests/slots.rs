//! The slots that packets look at: only those that a change concerns, and no other for longer than it takes to find out.

use edge_common::{
    abi::{BackendNumber, FlowEnds, Service, SlotCell},
    wire::protocol,
};

use super::{
    flows::{IDLE_TIMEOUT, START, key, pass, record, record_in, recorded, set, slot, stable},
    *,
};
use crate::bpf::{
    maps::position,
    view::{Copies, Picker},
};

/// A flow of this slot.
fn key_in_slot(pinned: &PinnedMaps, wanted: usize) -> FlowEnds {
    let keys = (1024..=u16::MAX).map(|port| key(port, 80, protocol::TCP));
    keys.into_iter().find(|key| slot(pinned, *key) == wanted).expect("there are many")
}

/// The `look` flag of each slot of `web`.
pub(super) fn looked_at(pinned: &PinnedMaps) -> Vec<bool> {
    slots(pinned, "web").into_iter().map(|slot| slot.look != 0).collect()
}

#[test]
fn a_drain_concerns_the_slots_of_its_backend() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    assert!(!looked_at(&pinned).contains(&true));
    let b0 = backend(&pinned, "one/b0");
    let its: Vec<_> = owners(&pinned, "web").into_iter().map(|owner| owner == b0).collect();
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    assert_eq!(looked_at(&pinned), its);
    pass(&mut pinned, START);
    assert_eq!(looked_at(&pinned), its);
    assert!(pinned.in_transition(service_number(&pinned, "web")));

    // The backend is enabled again before its slots are handed over.
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Up);
    assert_eq!(looked_at(&pinned), its);
    pass(&mut pinned, START + Duration::from_secs(1));
    assert!(!looked_at(&pinned).contains(&true));
    assert!(!pinned.in_transition(service_number(&pinned, "web")));
}

#[test]
fn a_change_after_which_old_backends_live_records_its_time() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let web = service_number(&pinned, "web");
    let service = |pinned: &PinnedMaps| pinned.maps.service(pinned.maps.bank(), web).expect("it is published");
    // Whether the service was marked as redirected since the last call.
    let is_reported = |pinned: &PinnedMaps| {
        let at = service(pinned).redirected;
        let bank = pinned.maps.bank();
        let services = &pinned.maps.services;
        services.write(position(bank, web).expect("in range"), Service { redirected: 0, ..service(pinned) });
        at != 0
    };
    is_reported(&pinned);
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    assert!(is_reported(&pinned), "a drain");
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Up);
    assert!(is_reported(&pinned), "and its end");
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Down);
    assert!(!is_reported(&pinned), "a death");
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Up);
    assert!(!is_reported(&pinned), "a recovery");
    set(&mut pinned, "one/b0", Admin::Disabled, Health::Up);
    is_reported(&pinned);
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Up);
    assert!(is_reported(&pinned), "an enable");
    pinned.set_share(backend(&pinned, "one/b1"), 100).expect("known");
    pinned.set_withheld(0, 100, "a test");
    assert!(!is_reported(&pinned), "a share");
    pinned.set_failover(web, Failover { first: 1, evacuate: false }).expect("known");
    assert!(is_reported(&pinned), "a failover");
    let image = plan(&pinned, &config());
    pinned.publish(&image).expect("published");
    assert!(is_reported(&pinned), "a publication");
}

/// Clears `look` in all slots of `web`.
fn look_away(pinned: &PinnedMaps) {
    let record = pinned.snapshot().expect("readable").expect("published").service("web").expect("web").clone();
    for cell in (record.cell..).take((record.slots / SLOTS_PER_CELL) as usize) {
        let SlotCell(is) = pinned.maps.slots.read(cell).expect("in range");
        pinned.maps.slots.write(cell, SlotCell(is.map(|slot| Slot { look: 0, ..slot }))).expect("in range");
    }
}

/// The picks of all slots of a service.
pub(super) fn picks(pinned: &PinnedMaps, name: &str) -> Vec<BackendNumber> {
    let (bank, generation) = pinned.maps.published().expect("published");
    let service = pinned.maps.service(bank, service_number(pinned, name)).expect("it is published");
    let copies = Copies::take(&pinned.maps, bank, &generation);
    let picker = Picker::new(&pinned.maps, &copies);
    (0..=service.slot_mask).map(|slot| picker.pick(&service, slot).unwrap_or_default()).collect()
}

#[test]
fn a_share_concerns_the_slots_between_the_old_one_and_the_new_one() {
    let bpffs = Bpffs::mount();
    let mut config = config();
    config.services[0].slots = 1024;
    let mut pinned = stable(&bpffs.pins(), &config);
    let b1 = backend(&pinned, "one/b1");
    let of_places =
        |places: std::ops::Range<u32>| (0..1024).map(|slot| places.contains(&(slot % 256))).collect::<Vec<_>>();
    pinned.set_share(b1, 120).expect("known");
    look_away(&pinned);
    pinned.set_share(b1, 112).expect("known");
    assert_eq!(looked_at(&pinned), of_places(112..120));
    look_away(&pinned);
    pinned.set_withheld(0, 30, "a test");
    assert_eq!(looked_at(&pinned), of_places(0..30));
    // Any slot that gets another pick is looked at, and those of the share alone.
    let (mut random, mut changed) = (1u64, 0);
    for _ in 0..200 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (share, which) = ((random >> 56) as u8, random >> 40 & 3);
        look_away(&pinned);
        let before = picks(&pinned, "web");
        match which {
            0 => pinned.set_withheld(0, u32::from(share) + u32::from(share > 250), "a test"),
            1 => pinned.set_withheld(1, share.into(), "a test"),
            2 => pinned.set_share(b1, share).expect("known"),
            _ => pinned.set_share(backend(&pinned, "one/b0"), share).expect("known"),
        }
        for (slot, ((before, after), look)) in
            before.into_iter().zip(picks(&pinned, "web")).zip(looked_at(&pinned)).enumerate()
        {
            assert!(before == after || look, "{which} to {share}: slot {slot}, {before} to {after}");
            changed += usize::from(before != after);
        }
    }
    assert!(changed > 1000, "{changed}");
}

#[test]
fn a_death_is_one_store_unless_it_takes_its_pool_with_it() {
    let bpffs = Bpffs::mount();
    let mut config = config();
    config.pools[0].min_healthy = 2;
    let mut pinned = stable(&bpffs.pins(), &config);
    set(&mut pinned, "one/b0", Admin::Enabled, Health::Down);
    assert!(!looked_at(&pinned).contains(&true), "packets look at a slot whose owner is dead in any case");
    let web = service_number(&pinned, "web");
    assert!(pinned.in_transition(web), "and are to be looked after");
    pass(&mut pinned, START);
    let b0 = backend(&pinned, "one/b0");
    let its: Vec<_> = owners(&pinned, "web").into_iter().map(|owner| owner == b0).collect();
    assert_eq!(looked_at(&pinned), its);
    // The pool needs two backends, and one is left: new flows of all slots go elsewhere.
    set(&mut pinned, "one/b1", Admin::Enabled, Health::Down);
    assert!(!looked_at(&pinned).contains(&false));
}

#[test]
fn a_record_keeps_its_slot_and_no_other() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = stable(&pins, &config());
    let (web, b0) = (service_number(&pinned, "web"), backend(&pinned, "one/b0"));
    let slot = owners(&pinned, "web").iter().position(|&owner| owner == b0).expect("it has some");
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    pass(&mut pinned, START);
    // A long flow that is still active when its slot has another owner.
    let late = START + IDLE_TIMEOUT + Duration::from_secs(2);
    record(&pins, key_in_slot(&pinned, slot), b0, late);
    for _ in 0..3 {
        pass(&mut pinned, late);
    }
    assert!(!owners(&pinned, "web").contains(&b0));
    let only: Vec<_> = (0..slots(&pinned, "web").len()).map(|at| at == slot).collect();
    assert_eq!(looked_at(&pinned), only);
    assert!(pinned.in_transition(web));
    // The flow ends.
    pass(&mut pinned, late + IDLE_TIMEOUT + Duration::from_secs(2));
    assert!(!looked_at(&pinned).contains(&true));
    assert!(!pinned.in_transition(web));
}

#[test]
fn an_hour_after_a_change_a_thousand_long_flows_keep_their_slots_and_no_more() {
    const SLOTS: usize = 65_536;
    const LONG: usize = 1000;
    let bpffs = Bpffs::mount();
    let mut config = config();
    config.services[0].slots = u32::try_from(SLOTS).expect("few");
    config.limits.flows = 16_384;
    let mut pinned = stable(&bpffs.pins(), &config);
    let maps = reopened(&bpffs.pins());
    let (web, b0) = (service_number(&pinned, "web"), backend(&pinned, "one/b0"));
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    // The flows are of any slots, not of those of the backend alone.
    pinned.look_at(&[web]);
    let mut now = START;
    let flows: Vec<_> = (1024..).take(LONG).map(|port| key(port, 80, protocol::TCP)).collect();
    for _ in 0..15 {
        for flow in &flows {
            record_in(&maps, *flow, b0, now);
        }
        for _ in 0..2 {
            pass(&mut pinned, now);
        }
        now += Duration::from_mins(4);
    }
    assert_eq!(recorded(&pinned), LONG);
    let looked = looked_at(&pinned).into_iter().filter(|look| *look).count();
    assert!(looked <= LONG && looked > LONG * 9 / 10, "{looked} of {SLOTS}");
    assert!(pinned.in_transition(web));
    // The flows end.
    for _ in 0..2 {
        pass(&mut pinned, now + IDLE_TIMEOUT);
    }
    assert!(!looked_at(&pinned).contains(&true));
    assert!(!pinned.in_transition(web), "it is stable");
}

#[test]
fn what_a_controller_did_not_come_to_is_done_by_the_next_look() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &config());
    let b0 = backend(&pinned, "one/b0");
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    // As if the controller had died in between.
    look_away(&pinned);
    pass(&mut pinned, START);
    let its: Vec<_> = owners(&pinned, "web").into_iter().map(|owner| owner == b0).collect();
    assert_eq!(looked_at(&pinned), its);
}
