//! Single cases of planning and of states.

use super::*;

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
fn a_retired_backend_takes_no_new_flows_until_it_returns() {
    for (word, evidence) in ADMINS.into_iter().flat_map(|word| HEALTHS.map(|evidence| (word, evidence))) {
        let before = state(word, evidence);
        let retired = removed(before);
        assert_eq!(retired.0 & !State::RETIRED, before.0 & !State::NEW);
        assert_eq!((admin(retired), health(retired)), (admin(before), health(before)));
        assert_eq!(returned(retired), before);
        for (other, found) in ADMINS.into_iter().flat_map(|word| HEALTHS.map(|evidence| (word, evidence))) {
            assert_eq!(changed(retired, other, found), removed(state(other, found)));
            assert_eq!(changed(before, other, found), state(other, found));
        }
    }
}

/// Two pools, one service.
fn simple() -> Config {
    let mut config = empty();
    config.pools = vec![pool("one", &[(0, 1), (1, 2)]), pool("two", &[(0, 1)])];
    config.services = vec![service("web", Ipv4Addr::new(192, 0, 2, 1).into(), 80, Protocol::Tcp, vec![0, 1])];
    config
}

#[test]
fn the_same_configuration_again_writes_no_cell() {
    let config = simple();
    let capacity = Capacity::of(&config);
    let mut maps = FakeMaps::default();
    let first = maps.plan(&config, &capacity);
    maps.publish(&first, &capacity);
    let second = maps.plan(&config, &capacity);
    assert!(second.candidates.is_empty());
    assert!(second.backends.is_empty());
    assert_eq!(second.snapshot.pools, first.snapshot.pools);
    assert_eq!(second.generation.number, 2);
}

#[test]
fn how_a_service_tracks_its_flows_reaches_the_packet_path() {
    let mut config = simple();
    config.limits.flows_per_second = 77;
    config.limits.first_fragments_per_second = 78;
    config.limits.answers.too_big = 79;
    let vips = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
    for (port, tracking) in (81..).zip([Tracking::Stateless, Tracking::Tcp, Tracking::Quic, Tracking::Learn]) {
        let mut made = service(&format!("s{port}"), vips[0], port, Protocol::Udp, vec![0]);
        made.ports[0].tracking = tracking;
        config.services.push(made);
    }
    for (port, vip) in (90..).zip(vips) {
        let made = service(&format!("s{port}"), vip, port, Protocol::Tcp, vec![0]);
        config.services.push(Service { affinity: Some(config::Affinity { v4: 24, v6: 48 }), ..made });
    }
    let image = plan(&config, &Capacity::of(&config), None).expect("it is within the limits");
    assert_eq!(image.generation.records_per_second, 77);
    assert_eq!(image.generation.first_fragments_per_second, 78);
    assert_eq!(image.generation.vip_other, VipOther::Drop as u32);
    assert_eq!(image.generation.vip_bits.count_ones(), 2, "the two VIPs have different bits");
    assert_eq!(image.generation.answers_per_second, config.limits.answers);
    let v4 = image.index_v4.iter().filter(|entry| entry.key.used == 1).map(|entry| entry.service_ref);
    let v6 = image.index_v6.iter().filter(|entry| entry.key.used == 1).map(|entry| entry.service_ref);
    let targets: Vec<_> = v4.chain(v6).collect();
    for (service, new) in config.services.iter().zip(&image.services) {
        assert_eq!(new.service.in_transition, 1, "{}", service.name);
        let is_its = |service_ref: &&ServiceRef| service_ref.service() == new.number;
        let service_ref = targets.iter().find(is_its).expect("in the index");
        assert!(service_ref.tracks(service.ports[0].tracking), "{}", service.name);
        let prefix = service.affinity.map_or(0, |affinity| affinity.prefix(service.vips[0]));
        assert_eq!(service_ref.affinity_prefix(), prefix, "{}", service.name);
        assert_eq!((service_ref.slot_mask(), new.service.slot_mask), (1023, 1023), "{}", service.name);
    }
}

#[test]
fn the_operators_decision_stays_with_a_name_whose_address_changes() {
    let mut config = simple();
    let capacity = Capacity::of(&config);
    let mut maps = FakeMaps::default();
    let image = maps.plan(&config, &capacity);
    maps.publish(&image, &capacity);
    let old = image.snapshot.backend("one/b0").expect("configured").number;
    maps.states.insert(old, state(Admin::Drained, Health::Down));

    config.pools[0].backends[0].address = Ipv4Addr::new(10, 9, 9, 9).into();
    let image = maps.plan(&config, &capacity);
    let (number, backend) = image.backends[0];
    assert_ne!(number, old);
    assert_eq!(State(backend.state), state(Admin::Drained, Health::Unknown));
}

#[test]
fn a_number_is_free_when_nothing_names_it_and_comes_back_with_its_backend_until_then() {
    let full = simple();
    let capacity = Capacity::of(&full);
    let mut maps = FakeMaps::default();
    let image = maps.plan(&full, &capacity);
    maps.publish(&image, &capacity);
    let number = image.snapshot.backend("one/b1").expect("configured").number;
    maps.states.insert(number, state(Admin::Drained, Health::Up));

    let mut smaller = full.clone();
    smaller.pools[0].backends.remove(1);
    let image = maps.plan(&smaller, &capacity);
    maps.publish(&image, &capacity);
    assert_eq!(image.snapshot.retired.iter().map(|retired| retired.number).collect::<Vec<_>>(), [number]);

    // Another backend with the same name, while a record names the old one, and then while none does.
    let mut other = smaller.clone();
    other.pools[0]
        .backends
        .push(Backend { address: Ipv4Addr::new(10, 9, 9, 9).into(), ..full.pools[0].backends[1].clone() });
    maps.used.insert(number);
    assert_ne!(maps.plan(&other, &capacity).snapshot.backend("one/b1").expect("configured").number, number);
    maps.used.clear();
    assert_eq!(maps.plan(&other, &capacity).snapshot.backend("one/b1").expect("configured").number, number);

    for used in [BTreeSet::from([number]), BTreeSet::new()] {
        maps.used = used;
        let image = maps.plan(&full, &capacity);
        assert_eq!(image.snapshot.backend("one/b1").expect("configured").number, number);
        let pool = image.snapshot.pool("one").expect("configured").number;
        assert_eq!(image.returned, [Returned { number, pool, state: state(Admin::Drained, Health::Up) }]);
        assert!(image.backends.is_empty() && image.snapshot.retired.is_empty());
    }
    let image = maps.plan(&smaller, &capacity);
    assert!(image.snapshot.retired.is_empty(), "nothing names it");
}

#[test]
fn no_room_for_backends_may_be_a_matter_of_time() {
    let mut config = simple();
    let capacity = Capacity { backends: 5, ..Capacity::of(&config) };
    let mut maps = FakeMaps::default();
    for last in [1, 100] {
        config.pools[1].backends[0].address = Ipv4Addr::new(10, 9, 9, last).into();
        let image = maps.plan(&config, &capacity);
        maps.publish(&image, &capacity);
    }
    config.pools[1].backends[0].address = Ipv4Addr::new(10, 9, 9, 200).into();
    maps.used.extend(1..5);
    let state = |number| maps.states.get(&number).copied().unwrap_or_default();
    let (failover, in_use) = (|_| Failover::default(), |number| maps.used.contains(&number));
    let snapshot = maps.published.as_ref().expect("published");
    let previous =
        Previous { snapshot, edition: Edition::default(), state: &state, failover: &failover, in_use: &in_use };
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
        let mut maps = FakeMaps::default();
        let image = maps.plan(&config, &capacity);
        maps.publish(&image, &capacity);
        maps.failovers.insert(image.services[0].number, Failover { first, evacuate: true });
        let mut changed = config.clone();
        changed.services[0].pools = pools;
        Failover::from_raw(maps.plan(&changed, &capacity).services[0].service.failover)
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
    let capacity = Capacity::of(&config);
    let mut maps = FakeMaps::default();
    let first = maps.plan(&config, &capacity);
    maps.publish(&first, &capacity);
    config.services.iter_mut().for_each(|service| service.slots = 2048);
    let second = maps.plan(&config, &capacity);
    assert_eq!(second.services[0].owners, NewOwners::Picked);
    let old: Vec<_> = first.snapshot.candidate_cells().chain(first.snapshot.candidate_cells()).collect();
    assert!(second.snapshot.candidate_cells().all(|run| old.iter().all(|&old| !overlap(run, old))));
    assert!(second.snapshot.slot_cells().all(|run| first.snapshot.slot_cells().all(|old| !overlap(run, old))));
}

#[test]
fn what_does_not_fit_names_the_map_and_the_way_out() {
    let config = simple();
    let mut capacity = Capacity::of(&config);
    capacity.backends = 3;
    let error = plan(&config, &capacity, None).expect_err("three backends and number 0 need four").to_string();
    assert!(error.contains("BACKENDS has room for 3"), "{error}");
    assert!(error.contains("edge-ctl upgrade"), "{error}");

    for shrink in [
        |c: &mut Capacity| c.candidates = 1500,
        |c: &mut Capacity| c.slots = 511,
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

#[test]
fn a_service_of_six_hundred_destinations_takes_forty_megabytes() {
    let text = include_bytes!("../../../../docs/examples/many-addresses.toml");
    let config = config::parse_bytes(text, "many-addresses.toml").expect("a good file");
    let destinations = config.services.iter().map(|service| service.vips.len() * service.ports.len()).sum::<usize>();
    assert_eq!(destinations, 600);
    let memory = Capacity::of(&config).memory();
    assert!(memory < 40_000_000, "{memory}");
}

/// `simple` with a second VIP, and with two addresses for the second backend of pool `one`: service and pool become two
/// parts.
fn split(of: &Config) -> Config {
    let v6 = |last: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, last));
    let mut config = of.clone();
    config.pools = [("one@ipv4", &of.pools[0]), ("one@ipv6", &of.pools[0]), ("two", &of.pools[1])]
        .map(|(name, pool)| config::Pool { name: name.to_owned(), ..pool.clone() })
        .into();
    config.pools[1].backends[1].address = v6(2);
    let part = |name: &str, vip: IpAddr, pools| Service {
        name: name.to_owned(),
        vips: vec![vip],
        pools,
        ..of.services[0].clone()
    };
    config.services = vec![part("web@ipv4", of.services[0].vips[0], vec![0, 2]), part("web@ipv6", v6(10), vec![1, 2])];
    config
}

#[test]
fn flows_and_words_stay_when_a_backend_gets_a_second_address() {
    let whole = simple();
    let parts = split(&whole);
    let capacity = Capacity::of(&parts);
    let mut maps = FakeMaps::default();
    let first = maps.plan(&whole, &capacity);
    maps.publish(&first, &capacity);
    // An operator has drained the backend that gets the address, and failed the service over.
    let drained = first.snapshot.pools[0].backends[1].number;
    maps.states.insert(drained, state(Admin::Drained, Health::Up));
    let over = Failover { first: 1, evacuate: true };
    maps.failovers.insert(first.snapshot.services[0].number, over);
    let second = maps.plan(&parts, &capacity);
    let numbers =
        |image: &Image, pool: usize| image.snapshot.pools[pool].backends.iter().map(|b| b.number).collect::<Vec<_>>();
    assert_eq!(numbers(&second, 0), numbers(&first, 0), "IPv4 clients' backends keep their numbers");
    assert!(numbers(&second, 1).iter().all(|number| !numbers(&first, 0).contains(number)));
    assert!(second.snapshot.retired.is_empty());
    let [v4, v6] = &second.services[..] else { panic!("two parts") };
    assert_eq!((v4.number, v4.owners, v4.fresh_number), (first.snapshot.services[0].number, NewOwners::Kept, false));
    // Clients that came by IPv6 so far stay where they are.
    assert_eq!((v6.owners, v6.fresh_number), (NewOwners::CopiedFrom(first.snapshot.services[0].cell), true));
    assert_ne!(v6.service.slots, v4.service.slots);
    for part in [v4, v6] {
        assert_eq!(Failover::from_raw(part.service.failover), over);
    }
    let (_, new) = second.backends.iter().find(|(number, _)| *number == numbers(&second, 1)[1]).expect("it is new");
    assert_eq!(State(new.state), state(Admin::Drained, Health::Unknown), "one name, one drain");
    maps.publish(&second, &capacity);

    let third = maps.plan(&whole, &capacity);
    assert_eq!(numbers(&third, 0), numbers(&first, 0));
    assert_eq!((third.services[0].number, third.services[0].owners), (v4.number, NewOwners::Kept));
    assert_eq!(Failover::from_raw(third.services[0].service.failover), over);
    assert_eq!(third.snapshot.retired.len(), 2);
}
