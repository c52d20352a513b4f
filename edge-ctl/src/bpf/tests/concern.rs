//! The slots that a change concerns: every slot that gets another pick, and few others.

use std::time::Instant;

use edge_common::abi::{BackendNumber, SlotCell};

use super::{
    flows::{set, stable},
    slots::picks,
    *,
};
use crate::config::{Affinity, Ports};

const SLOTS: u32 = 1024;

/// Ten backends in the first pool, of which at least eight are to serve, and three in the second one.
fn ten() -> Config {
    let mut config = config();
    config.pools[0] = samples::pool("one", &[0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|n| (usize::from(n), n + 1)));
    config.pools[0].min_healthy = 8;
    config.pools[1] = samples::pool("two", &[0u8, 1, 2].map(|n| (usize::from(n), n + 1)));
    config.services.iter_mut().for_each(|service| service.slots = SLOTS);
    config
}

/// Makes each pick its slot's owner, without any record, as a controller does after some time. Returns the picks.
fn hand_over(pinned: &mut PinnedMaps, name: &str) -> Vec<BackendNumber> {
    let (first, all) =
        (pinned.snapshot().expect("readable").expect("published").service(name).expect(name).cell, picks(pinned, name));
    for (cell, owners) in (first..).zip(all.as_chunks().0) {
        pinned.maps.slots.write(cell, SlotCell(owners.map(Slot::of))).expect("in range");
    }
    // Another controller, which does not know what the former one has looked at.
    pinned.handover = Handover::default();
    all
}

/// The slots that packets look at.
fn looked_at(pinned: &PinnedMaps, name: &str) -> Vec<bool> {
    slots(pinned, name).into_iter().map(|slot| slot.look != 0).collect()
}

fn differ(before: &[BackendNumber], after: &[BackendNumber]) -> Vec<bool> {
    before.iter().zip(after).map(|(before, after)| before != after).collect()
}

fn count(slots: &[bool]) -> usize {
    slots.iter().filter(|slot| **slot).count()
}

#[test]
fn a_drain_of_one_backend_of_ten_concerns_a_tenth_of_the_slots() {
    let bpffs = Bpffs::mount();
    let mut pinned = stable(&bpffs.pins(), &ten());
    hand_over(&mut pinned, "web");
    set(&mut pinned, "one/b3", Admin::Drained, Health::Up);
    let concerned = count(&looked_at(&pinned, "web"));
    assert!(concerned.abs_diff(SLOTS as usize / 10) <= 1, "{concerned}");
    assert_eq!(count(&looked_at(&pinned, "dns")), 0, "the pool is its second one");
}

fn is_alive(pinned: &PinnedMaps, backend: BackendNumber) -> bool {
    pinned.state(backend).has_all(State::ALIVE)
}

/// Changes a configuration at random, or not at all.
fn change_of(config: &mut Config, mut below: impl FnMut(usize) -> usize) {
    let what = below(6);
    let pool = &mut config.pools[below(2)];
    let member = below(pool.backends.len());
    match what {
        0 => {}
        1 => pool.min_healthy = 1 + u16::try_from(member).expect("few"),
        2 => pool.backends[member].weight = 50 * (1 + u32::try_from(below(3)).expect("few")),
        3 if pool.backends.len() > 2 => drop(pool.backends.remove(member)),
        3 | 4 => {
            let names: Vec<_> = pool.backends.iter().map(|backend| backend.name.clone()).collect();
            let free = (0..12u8).find(|n| !names.contains(&format!("b{n}")));
            let new = free.map(|n| samples::pool(&pool.name, &[(n.into(), n + 1)]));
            pool.backends.extend(new.into_iter().flat_map(|new| new.backends));
        }
        _ => config.services[member % 2].pools.reverse(),
    }
}

#[test]
fn a_change_concerns_the_slots_that_get_another_pick() {
    let bpffs = Bpffs::mount();
    let mut config = ten();
    let mut pinned = stable(&bpffs.pins(), &config);
    let (mut random, mut changed, mut all, mut none) = (7u64, 0, 0, 0);
    let mut below = |most: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % most
    };
    for round in 0..600 {
        let names =
            config.pools.iter().flat_map(|pool| pool.backends.iter().map(|b| format!("{}/{}", pool.name, b.name)));
        let names: Vec<_> = names.collect();
        let name = &names[below(names.len())];
        let admin = [Admin::Enabled, Admin::Enabled, Admin::Drained, Admin::Disabled][below(4)];
        let health = [Health::Up, Health::Up, Health::Down][below(3)];
        let (number, web) = (backend(&pinned, name), service_number(&pinned, "web"));
        let (old, new) = (pinned.state(number), state(admin, health));
        let alive: Vec<_> = (0..30).map(|number| is_alive(&pinned, number)).collect();
        let before = ["web", "dns"].map(|service| hand_over(&mut pinned, service));
        let what = below(8);
        let is_death = what > 1 && old.has_all(State::ALIVE) && !new.has_all(State::ALIVE);
        match what {
            0 => {
                let failover = Failover { first: u8::from(below(2) == 0), evacuate: below(2) == 0 };
                pinned.set_failover(web, failover).expect("known");
            }
            1 => {
                change_of(&mut config, &mut below);
                let image = plan(&pinned, &config);
                pinned.publish(&image).expect("published");
            }
            _ => pinned.set_state(number, new, "a test").expect("known"),
        }
        for (service, before) in ["web", "dns"].into_iter().zip(before) {
            let moved = differ(&before, &picks(&pinned, service));
            let looked = looked_at(&pinned, service);
            for (slot, owner) in before.into_iter().enumerate() {
                let shown = || format!("round {round}: {service}, change {what} of {name} to {new:?}, slot {slot}");
                // Packets look at a slot with a dead owner in any case.
                let is_seen = looked[slot] || is_death && !is_alive(&pinned, owner);
                assert!(!moved[slot] || is_seen, "{} is overlooked", shown());
                let may_look = moved[slot] || !alive[usize::from(owner)] || is_death && !is_alive(&pinned, owner);
                assert!(may_look || !looked[slot], "{} is not concerned", shown());
            }
            changed += count(&moved);
            all += usize::from(count(&looked) == looked.len());
            none += usize::from(count(&looked) == 0);
        }
    }
    assert!(changed > 10_000 && all > 10 && none > 100, "{changed} slots, {all} times all, {none} times none");
}

/// Publishes `config`, and returns how many slots of `web` and `dns` packets look at because of it.
fn published(pinned: &mut PinnedMaps, config: &Config) -> [usize; 2] {
    for service in ["web", "dns"] {
        hand_over(pinned, service);
    }
    let image = plan(pinned, config);
    pinned.publish(&image).expect("published");
    ["web", "dns"].map(|service| count(&looked_at(pinned, service)))
}

#[test]
fn a_publication_concerns_all_slots_of_services_whose_flows_had_other_slots() {
    const ALL: usize = SLOTS as usize;
    let bpffs = Bpffs::mount();
    let mut config = ten();
    let mut pinned = stable(&bpffs.pins(), &config);
    assert_eq!(published(&mut pinned, &config), [0, 0], "nothing is another");
    // A port changes its service: its flows are recorded, and `web` finds the records only in slots that are looked at.
    let port = Ports { first: 81, last: 81, ..config.services[0].ports[0].clone() };
    config.services[1].ports.push(port);
    assert_eq!(published(&mut pinned, &config), [0, ALL]);
    let port = config.services[1].ports.pop().expect("it has two");
    config.services[0].ports.push(port);
    assert_eq!(published(&mut pinned, &config), [ALL, 0]);
    // Flows of a port that is gone belong to the service of all ports.
    let udp = Ports { first: 0, last: 0, ..config.services[1].ports[0].clone() };
    config.services[0].ports = vec![udp.clone()];
    assert_eq!(published(&mut pinned, &config), [ALL, 0]);
    config.services[1].ports.push(Ports { first: 54, last: 54, ..udp });
    assert_eq!(published(&mut pinned, &config), [0, ALL]);
    config.services[1].ports.pop();
    assert_eq!(published(&mut pinned, &config), [ALL, 0]);
    config.services[1].affinity = Some(Affinity { v4: 24, v6: 56 });
    assert_eq!(published(&mut pinned, &config), [0, ALL]);
    config.hash_key.0[0] ^= 1;
    assert_eq!(published(&mut pinned, &config), [ALL, ALL]);
}

#[test]
fn many_changes_at_once_concern_all_slots_and_are_no_slower_for_it() {
    let bpffs = Bpffs::mount();
    let mut config = ten();
    config.services[0].slots = 65_536;
    let mut pinned = stable(&bpffs.pins(), &config);
    let mut marked = Vec::new();
    for _ in 0..12 {
        hand_over_but_what_was_searched(&mut pinned);
        set(&mut pinned, "one/b3", Admin::Drained, Health::Up);
        marked.push(count(&looked_at(&pinned, "web")));
        set(&mut pinned, "one/b3", Admin::Enabled, Health::Up);
    }
    assert!(marked[0] < 7_000, "{marked:?}");
    assert_eq!(marked[11], 65_536, "{marked:?}");
    // The next pass allows further searches.
    pinned.begin_pass(&[]).expect("begun");
    hand_over_but_what_was_searched(&mut pinned);
    set(&mut pinned, "one/b3", Admin::Drained, Health::Up);
    assert!(count(&looked_at(&pinned, "web")) < 7_000);
}

/// As [`hand_over`], by the same controller.
fn hand_over_but_what_was_searched(pinned: &mut PinnedMaps) {
    let searched = pinned.handover.searched;
    hand_over(pinned, "web");
    pinned.handover.searched = searched;
}

/// Prints what the search costs; run with `--ignored --nocapture` in release.
#[test]
#[ignore = "a measurement"]
fn what_it_costs_to_find_the_slots_that_a_change_concerns() {
    let bpffs = Bpffs::mount();
    let mut config = ten();
    config.services[0].slots = 65_536;
    let mut pinned = stable(&bpffs.pins(), &config);
    for (what, admin, health) in [
        ("drain", Admin::Drained, Health::Up),
        ("enable", Admin::Enabled, Health::Up),
        ("death", Admin::Enabled, Health::Down),
        ("recovery", Admin::Enabled, Health::Up),
    ] {
        let mut times = Vec::new();
        for _ in 0..5 {
            hand_over(&mut pinned, "web");
            let began = Instant::now();
            set(&mut pinned, "one/b3", admin, health);
            times.push(began.elapsed());
            let marked = count(&looked_at(&pinned, "web"));
            println!("{what}: {:?}, {marked} slots", times.last());
            // Once more from the state before.
            let (admin, health) = match what {
                "drain" | "death" => (Admin::Enabled, Health::Up),
                "enable" => (Admin::Drained, Health::Up),
                _ => (Admin::Enabled, Health::Down),
            };
            set(&mut pinned, "one/b3", admin, health);
        }
        set(&mut pinned, "one/b3", admin, health);
    }
}

/// Prints what a publication costs; run with `--ignored --nocapture` in release.
#[test]
#[ignore = "a measurement"]
fn what_it_costs_to_publish_a_thousand_services() {
    let bpffs = Bpffs::mount();
    let mut config = ten();
    (config.limits.services, config.limits.destinations) = (1000, 4096);
    let service = |number: u16| {
        let vip = Ipv4Addr::new(192, 0, 2, 1).into();
        let service = samples::service(&format!("s{number}"), vip, 1000 + number, Protocol::Tcp, vec![0, 1]);
        crate::config::Service { slots: 4096, ..service }
    };
    config.services = (0..1000).map(service).collect();
    let mut pinned = started(&bpffs.pins(), &config);
    let first = pinned.snapshot().expect("readable").expect("published").services[0].name.clone();
    for (what, weight) in [("nothing", 100), ("a weight", 130)] {
        for round in 0..5 {
            let owners = picks(&pinned, &first);
            for record in &pinned.snapshot().expect("readable").expect("published").services {
                for (cell, owners) in (record.cell..).zip(owners.as_chunks().0) {
                    pinned.maps.slots.write(cell, SlotCell(owners.map(Slot::of))).expect("in range");
                }
            }
            pinned.handover = Handover::default();
            config.pools[0].backends[3].weight = if round % 2 == 0 { weight } else { 100 };
            let image = plan(&pinned, &config);
            let began = Instant::now();
            let staged = pinned.stage(&image).expect("staged");
            let staging = began.elapsed();
            pinned.make_active(&image, staged).expect("active").expect("settled");
            let all = began.elapsed();
            let marked: usize = config.services.iter().map(|of| count(&looked_at(&pinned, &of.name))).sum();
            println!("{what}: staged in {staging:?}, {all:?} in all, {marked} slots");
        }
    }
}
