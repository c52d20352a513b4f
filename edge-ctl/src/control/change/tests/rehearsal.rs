//! Rehearsals over real maps: a correct generation passes, and each damage to a staged generation is detected. Needs
//! root.

use aya::maps::{Array, Map, MapData};
use bytemuck::Pod;
use edge_common::abi::{
    self, Backend, Cell, Failover, Pool, Published, ServiceEntryV4, ServiceKeyV4, SlotCell, banked, map,
};

use super::super::{Candidate, ChangeError, History, How, Planned, RehearsalError, Rehearser, Words};
use crate::{
    bpf::{PinDir, PinnedMaps, bpffs::Bpffs},
    config::{self, Config},
    control::{events::Events, fixture, fixture::finish_transitions, inventory::Inventory, status::Clock},
    health::Health,
    net::NextHopEntry,
    plan::{self, Admin, Capacity, Image, state},
};

/// The file for services of all kinds, without the services.
const ALL_KINDS: &str = r#"
slots = 1024
hash_key = "000102030405060708090a0b0c0d0e0f"
[tunnel]
source_v4 = "10.0.0.1"
source_v6 = "2001:db8::1"
[[interface]]
name = "eth0"
[[pool]]
name = "four"
backend = [{ name = "a", address = "10.1.0.1" }, { name = "b", address = "10.1.0.2", weight = 30 }]
[[pool]]
name = "six"
backend = [{ name = "a", address = "2001:db8:1::1" }, { name = "b", address = "2001:db8:1::2" }]
"#;

/// A service. The last argument has its protocol, and more keys.
fn service(port: u16, vip: &str, mode: &str, pools: &str, (protocol, keys): (&str, &str)) -> String {
    format!(
        "[[service]]\nname = \"s{port}\"\nvips = [\"{vip}\"]\nports = [\"{port}/{protocol}\"]\nmode = \"{mode}\"\n\
         pools = [{pools}]\n{keys}\n"
    )
}

fn all_kinds() -> Config {
    let mut text = ALL_KINDS.to_owned();
    let mut port = 0;
    for (vip, mode, pools) in [
        ("192.0.2.1", "dsr", "\"four\""),
        ("192.0.2.1", "ipip", "\"four\", \"six\""),
        ("192.0.2.2", "ipip", "\"six\", \"four\""),
        ("2001:db8::80", "dsr", "\"six\""),
        ("2001:db8::81", "ipip", "\"four\", \"six\""),
    ] {
        for kind in [
            ("tcp", ""),
            ("udp", ""),
            ("quic", ""),
            ("udp", "udp = \"learn\""),
            ("tcp", "affinity = \"source\""),
            ("tcp", "when_exhausted = \"reject\""),
        ] {
            port += 1;
            text += &service(port, vip, mode, pools, kind);
        }
    }
    config::parse(&text, "edge.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn planned(maps: &PinnedMaps, config: &Config) -> Image {
    maps.with_previous(|previous| plan::plan(config, maps.capacity(), previous)).unwrap().unwrap()
}

fn started(bpffs: &Bpffs, config: &Config) -> PinnedMaps {
    let mut maps = PinnedMaps::create(&bpffs.pins(), &Capacity::of(config)).unwrap();
    let image = planned(&maps, config);
    maps.publish(&image).unwrap();
    maps
}

fn set_next_hops(maps: &mut PinnedMaps) {
    let numbers: Vec<_> = maps.snapshot().unwrap().unwrap().backends().map(|(_, backend)| backend.number).collect();
    for number in numbers {
        let mac = [2, 0, 0, 0, 1, u8::try_from(number).unwrap()];
        let hop = NextHopEntry { egress: 7, mac, source_mac: [2; 6], mtu: 1500, own_mtu: true, vlan: number % 2 * 12 };
        maps.set_next_hop(number, Some(hop)).unwrap();
    }
}

fn rehearse(maps: &mut PinnedMaps, rehearser: &mut Rehearser, config: &Config) -> Result<(), RehearsalError> {
    let image = planned(maps, config);
    let staged = maps.stage(&image).unwrap();
    rehearser.rehearse(maps, config, &image, staged)
}

#[test]
fn what_is_right_passes_whatever_the_states() {
    let bpffs = Bpffs::mount();
    let config = all_kinds();
    let mut rehearser = Rehearser::default();
    let mut maps = PinnedMaps::create(&bpffs.pins(), &Capacity::of(&config)).unwrap();
    rehearse(&mut maps, &mut rehearser, &config).unwrap();
    let image = planned(&maps, &config);
    maps.publish(&image).unwrap();
    rehearse(&mut maps, &mut rehearser, &config).unwrap();
    set_next_hops(&mut maps);
    rehearse(&mut maps, &mut rehearser, &config).unwrap();
    let (services, backends): (Vec<_>, Vec<_>) = {
        let snapshot = maps.snapshot().unwrap().unwrap();
        (
            snapshot.services.iter().map(|service| service.number).collect(),
            snapshot.backends().map(|(_, backend)| backend.number).collect(),
        )
    };
    maps.set_failover(services[1], Failover { first: 1, evacuate: true }).unwrap();
    for (number, state) in backends.iter().zip([
        state(Admin::Drained, Health::Up),
        state(Admin::Enabled, Health::Down),
        state(Admin::Disabled, Health::Up),
        state(Admin::Disabled, Health::Down),
    ]) {
        maps.set_state(*number, state, "").unwrap();
        rehearse(&mut maps, &mut rehearser, &config).unwrap();
    }
    // Slots, numbers and backends change: nothing stays in its place.
    let mut other = config.clone();
    other.services.iter_mut().for_each(|service| service.slots = 512);
    other.pools[0].backends.remove(0);
    other.pools[1].backends[0].address = "2001:db8:1::9".parse().unwrap();
    other.services.remove(3);
    rehearse(&mut maps, &mut rehearser, &other).unwrap();
    assert!(maps.exits().iter().all(|(_, count)| *count == 0), "nothing of it is counted");
    assert!(maps.flows(std::time::Duration::ZERO).unwrap().is_empty(), "or recorded");
}

/// Changes an entry of a pinned map, as another process would.
pub(super) fn damage<T: Pod, const N: usize>(pins: &PinDir, name: &str, index: u32, change: impl FnOnce(&mut T)) {
    let map = Map::from_map_data(MapData::from_pin(pins.map(name)).unwrap()).unwrap();
    let mut map: Array<_, [u8; N]> = map.try_into().unwrap();
    let mut value = bytemuck::pod_read_unaligned(&map.get(&index, 0).unwrap());
    change(&mut value);
    map.set(index, <[u8; N]>::try_from(bytemuck::bytes_of(&value)).unwrap(), 0).unwrap();
}

type Damage = (&'static str, fn(&PinDir, &Image));

/// The bank of the second generation.
const STAGED: u32 = 1;

const DAMAGES: [Damage; 9] = [
    ("a service that names another pool", |pins, image| {
        let number = image.services[0].number;
        damage::<abi::Service, { size_of::<abi::Service>() }>(pins, map::SERVICES, banked(STAGED, number), |service| {
            service.pools[0] = 17;
        });
    }),
    ("a destination in another mode", |pins, image| {
        let position = image.index_v4.iter().position(|entry| entry.key.port == 80u16.to_be_bytes()).unwrap();
        let at = banked(STAGED, u32::try_from(position).unwrap());
        damage::<ServiceEntryV4, { size_of::<ServiceEntryV4>() }>(pins, map::SERVICE_INDEX_V4, at, |entry| {
            entry.service_ref = entry.service_ref.with_mode(abi::Mode::Dsr);
        });
    }),
    ("a pool whose table is elsewhere", |pins, image| {
        let number = image.pools[0].0;
        damage::<Pool, { size_of::<Pool>() }>(pins, map::POOLS, banked(STAGED, number.into()), |pool| {
            pool.table += 1 << 20;
            pool.member_list += 1 << 20;
        });
    }),
    ("a pool that seems empty", |pins, image| {
        let number = image.pools[0].0;
        damage::<Pool, { size_of::<Pool>() }>(pins, map::POOLS, banked(STAGED, number.into()), |pool| {
            (pool.available, pool.enabled) = (0, 0);
        });
    }),
    ("a destination that is missing", |pins, image| {
        let position = image.index_v4.iter().position(|entry| entry.key.port == 80u16.to_be_bytes()).unwrap();
        let at = banked(STAGED, u32::try_from(position).unwrap());
        damage::<ServiceEntryV4, { size_of::<ServiceEntryV4>() }>(pins, map::SERVICE_INDEX_V4, at, |entry| {
            entry.key = ServiceKeyV4::default();
        });
    }),
    ("a VIP that is missing", |pins, image| {
        let position = image.index_v4.iter().position(|entry| entry.service_ref.is_vip()).unwrap();
        let at = banked(STAGED, u32::try_from(position).unwrap());
        damage::<ServiceEntryV4, { size_of::<ServiceEntryV4>() }>(pins, map::SERVICE_INDEX_V4, at, |entry| {
            entry.key = ServiceKeyV4::default();
        });
    }),
    ("another hash", |pins, _| {
        damage::<Published, { size_of::<Published>() }>(pins, map::PUBLISHED, 0, |published| {
            published.generations[STAGED as usize].hash_key.0[0] ^= 1;
        });
    }),
    ("a backend with another address", |pins, image| {
        for (number, _) in &image.backends {
            damage::<Backend, { size_of::<Backend>() }>(pins, map::BACKENDS, (*number).into(), |backend| {
                backend.address[3] ^= 0x40;
            });
        }
    }),
    ("candidates that are nobody", |pins, image| {
        for region in &image.candidates {
            for (cell, _) in (region.first..).zip(&region.cells) {
                damage::<Cell, { size_of::<Cell>() }>(pins, map::CANDIDATES, cell, |cell| *cell = Cell::default());
            }
        }
    }),
];

#[test]
fn each_damage_to_what_was_staged_is_seen_and_the_live_generation_stays() {
    for (what, damage) in DAMAGES {
        let bpffs = Bpffs::mount();
        let pins = bpffs.pins();
        let mut config = fixture::inventory().config;
        config.services[0].mode = abi::Mode::Ipip;
        config.services[1].mode = abi::Mode::Ipip;
        config.tunnel.source_v4 = Some([10, 0, 0, 1].into());
        let mut maps = started(&bpffs, &config);
        set_next_hops(&mut maps);
        // All backends and tables of the next generation are new.
        for (pool, net) in config.pools.iter_mut().zip(1..) {
            for (backend, last) in pool.backends.iter_mut().zip(1..) {
                backend.address = [10, 9, net, last].into();
            }
        }
        let mut rehearser = Rehearser::default();
        let image = planned(&maps, &config);
        let staged = maps.stage(&image).unwrap();
        rehearser.rehearse(&maps, &config, &image, staged).unwrap();
        damage(&pins, &image);
        let refused = rehearser.rehearse(&maps, &config, &image, staged);
        let error = refused.expect_err(what).to_string();
        println!("{what}: {error}");
        assert_eq!(maps.generation(), 1);
    }
}

/// Number of slots that packets look at.
fn looked_at(pins: &PinDir) -> usize {
    let slots = Map::from_map_data(MapData::from_pin(pins.map(map::SLOTS)).unwrap()).unwrap();
    let slots: Array<_, [u8; size_of::<SlotCell>()]> = slots.try_into().unwrap();
    let cells = slots.iter().map(|cell| bytemuck::pod_read_unaligned::<SlotCell>(&cell.unwrap()));
    cells.flat_map(|cell| cell.0).filter(|slot| slot.look != 0).count()
}

#[test]
fn a_rehearsal_reads_the_new_tables_of_stable_services_and_costs_a_few_slots() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut config = all_kinds();
    let mut maps = started(&bpffs, &config);
    let inventory = Inventory::from_snapshot(&maps.snapshot().unwrap().unwrap()).unwrap();
    finish_transitions(&mut maps, &inventory);
    assert_eq!(looked_at(&pins), 0);
    let mut rehearser = Rehearser::default();
    rehearse(&mut maps, &mut rehearser, &config).unwrap();
    let marked = looked_at(&pins);
    let scenes = 2 * config.services.len();
    assert!((scenes / 2..=scenes).contains(&marked), "{marked} slots of {} services", config.services.len());
    rehearser.rehearse_in_force(&maps, &inventory).unwrap();
    assert_eq!(looked_at(&pins), marked, "nothing is staged");
    finish_transitions(&mut maps, &inventory);
    assert_eq!(looked_at(&pins), 0);

    // The tables of the next generation are new.
    config.pools.iter_mut().for_each(|pool| pool.backends[0].weight += 20);
    let image = planned(&maps, &config);
    let staged = maps.stage(&image).unwrap();
    let (what, damage) = DAMAGES.last().unwrap();
    damage(&pins, &image);
    let refused = rehearser.rehearse(&maps, &config, &image, staged);
    println!("{what}: {}", refused.expect_err("the owners decide alone"));
    assert!(looked_at(&pins) <= scenes);
}

#[test]
fn a_way_back_is_taken_although_its_rehearsal_differs_and_nothing_new_is() {
    let bpffs = Bpffs::mount();
    let config = all_kinds();
    let mut maps = started(&bpffs, &config);
    let inventory = Inventory::from_snapshot(&maps.snapshot().unwrap().unwrap()).unwrap();
    let (_, damage) = DAMAGES[0];
    for how in [How::Start, How::Reload, How::Apply, How::Rollback, How::Undo, How::Restored] {
        let config = config::parse(&format!("{}# more\n", config.text), "edge.toml").unwrap();
        let candidate = Candidate { config, how, file: None, words: Words::default(), text_of: None, host: None };
        let planned = Planned::new(&maps, Some(&inventory), candidate).unwrap();
        let rehearse = |maps: &PinnedMaps, config: &_, image: &_, staged| {
            damage(&bpffs.pins(), image);
            Rehearser::default().rehearse(maps, config, image, staged)
        };
        match planned.vet_by(&mut maps, &Events::new(), rehearse) {
            Ok(vetted) => {
                let warning = vetted.warning().unwrap();
                assert!(how.is_back() && warning.contains("the rehearsal failed"), "{how:?}: {warning}");
            }
            Err(error) => assert!(!how.is_back(), "{how:?}: {error}"),
        }
    }
}

#[test]
fn where_nothing_can_be_rehearsed_only_what_is_not_new_comes_into_force() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let config = all_kinds();
    let mut maps = started(&bpffs, &config);
    // The program cannot be loaded over maps that are missing.
    std::fs::remove_file(pins.map(map::CANDIDATES)).unwrap();
    let inventory = Inventory::from_snapshot(&maps.snapshot().unwrap().unwrap()).unwrap();
    let vet = |maps: &mut PinnedMaps, how, words| {
        let config = config::parse(&format!("{}# more\n", config.text), "edge.toml").unwrap();
        let planned = Planned::new(
            maps,
            Some(&inventory),
            Candidate { config, how, file: None, words, text_of: None, host: None },
        )
        .unwrap();
        planned.vet(maps, &mut Rehearser::default(), &Events::new())
    };
    for how in [How::Start, How::Sighup, How::Reload, How::Apply] {
        let refused = vet(&mut maps, how, Words::default()).err().expect("refused");
        assert!(matches!(&refused, ChangeError::Rehearsal(RehearsalError::Impossible(_))), "{refused}");
        assert!(refused.to_string().contains("--allow-unrehearsed"), "{refused}");
        assert!(!pins.map(map::CANDIDATES).exists(), "no map is made in its place");
    }
    for how in [How::Rollback, How::Undo, How::Restored] {
        let warning = vet(&mut maps, how, Words::default()).unwrap().warning().unwrap();
        assert!(warning.contains("all the same") && warning.contains("CANDIDATES is missing"), "{warning}");
    }
    let words = Words { allow_unrehearsed: true, ..Words::default() };
    let vetted = vet(&mut maps, How::Apply, words).unwrap();
    vetted.publish(&mut maps, &mut History::default(), Clock::now(), &Events::new()).unwrap();
    assert_eq!(maps.generation(), 2);
}
