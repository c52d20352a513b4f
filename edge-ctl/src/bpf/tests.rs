//! Real maps: made, adopted, refused. Needs root; a BPF file system is mounted for each test.

use std::{fs, net::Ipv4Addr};

use aya::maps::MapData;

use edge_common::abi::{Backend, Failover, Mac, Pool, SLOTS_PER_CELL, Slot, State, map};

mod concern;
mod flows;
mod next_hop;
mod records;
mod published;
mod removal;
mod share;
mod slots;
mod stations;
mod translated;
mod vips;
mod writers;

use std::time::Duration;

use super::{bpffs::Bpffs, *};
use crate::{
    config::{Config, Protocol},
    health::Health,
    net::NextHopEntry,
    plan::{self, Admin, Image, samples, state},
};

pub(crate) fn config() -> Config {
    let mut config = samples::empty();
    config.pools = vec![samples::pool("one", &[(0, 1), (1, 2), (2, 3)]), samples::pool("two", &[(0, 1), (1, 2)])];
    let vip = Ipv4Addr::new(192, 0, 2, 1).into();
    config.services = vec![
        samples::service("web", vip, 80, Protocol::Tcp, vec![0, 1]),
        samples::service("dns", vip, 53, Protocol::Udp, vec![1, 0]),
    ];
    config
}

fn try_plan(maps: &PinnedMaps, config: &Config) -> Result<Image, plan::PlanError> {
    maps.with_previous(|previous| plan::plan(config, maps.capacity(), previous))
        .expect("the published generation is readable")
}

fn plan(maps: &PinnedMaps, config: &Config) -> Image {
    try_plan(maps, config).expect("it fits")
}

pub(crate) fn started(pins: &PinDir, config: &Config) -> PinnedMaps {
    let mut pinned = PinnedMaps::create(pins, &Capacity::of(config)).expect("maps");
    let image = plan(&pinned, config);
    pinned.publish(&image).expect("published");
    pinned
}

fn started_again(pins: &PinDir) -> PinnedMaps {
    pins.remove_maps().expect("what is pinned can be removed");
    started(pins, &config())
}

pub(crate) fn reopened(pins: &PinDir) -> PinnedMaps {
    PinnedMaps::open(pins).expect("as they were made").expect("pinned")
}

fn backend(pinned: &PinnedMaps, name: &str) -> u16 {
    pinned.snapshot().expect("readable").expect("published").backend(name).expect(name).number
}

fn service_number(pinned: &PinnedMaps, name: &str) -> u32 {
    pinned.snapshot().expect("readable").expect("published").service(name).expect(name).number
}

fn pool_counts(pinned: &PinnedMaps, name: &str) -> (u32, u32) {
    let number = pinned.snapshot().expect("readable").expect("published").pool(name).expect(name).number;
    let Pool { available, enabled, .. } = pinned.maps.pool(pinned.maps.bank(), number).expect("in range");
    (available, enabled)
}

/// Member list of a pool of up to four backends.
fn listed(pinned: &PinnedMaps, name: &str) -> Vec<u16> {
    let snapshot = pinned.snapshot().expect("readable").expect("published");
    let pool = snapshot.pool(name).expect(name);
    pinned.maps.candidates.read(pool.member_list).expect("in range").0[..pool.backends.len()].to_vec()
}

fn owners(pinned: &PinnedMaps, name: &str) -> Vec<u16> {
    slots(pinned, name).into_iter().map(|slot| slot.owner).collect()
}

fn slots(pinned: &PinnedMaps, name: &str) -> Vec<Slot> {
    let snapshot = pinned.snapshot().expect("readable").expect("published");
    let service = snapshot.service(name).expect(name);
    let cells = (service.cell..).take((service.slots / SLOTS_PER_CELL) as usize);
    cells.flat_map(|cell| pinned.maps.slots.read(cell).expect("in range").0).collect()
}

#[test]
fn what_was_published_is_found_again() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    assert!(PinnedMaps::open(&pins).expect("nothing is not an error").is_none());

    let config = config();
    let mut pinned = PinnedMaps::create(&pins, &Capacity::of(&config)).expect("maps");
    assert_eq!(pinned.capacity(), &Capacity::of(&config));
    assert_eq!(pinned.snapshot().expect("readable"), None);
    let image = plan(&pinned, &config);
    pinned.publish(&image).expect("published");
    let drained = state(Admin::Drained, Health::Up);
    pinned.set_state(backend(&pinned, "one/b1"), drained, "by an operator").expect("known");
    let web = service_number(&pinned, "web");
    pinned.set_failover(web, Failover { first: 1, evacuate: true }).expect("known");
    let one = pinned.snapshot().expect("readable").expect("published").pool("one").expect("there").number;
    pinned.set_withheld(one, 248, "it was left");
    assert!(!pinned.is_bank_damaged().expect("readable"), "what changes within a generation is no damage");
    drop(pinned);

    let mut pinned = reopened(&pins);
    pinned.repair().expect("repaired");
    assert_eq!(pinned.snapshot().expect("readable"), Some(image.snapshot));
    assert_eq!(pinned.state(backend(&pinned, "one/b1")), drained);
    assert_eq!(pinned.failover(web), Failover { first: 1, evacuate: true });
    assert_eq!(pinned.withheld(one), 248);
    let note = pinned.note(backend(&pinned, "one/b1"));
    assert!(note.reason.starts_with(b"by an operator\0"));
    assert!(note.changed_ms > 0);
    assert_eq!(pool_counts(&pinned, "one"), (2, 3));

    // The next generation preserves all of this.
    let image = plan(&pinned, &config);
    pinned.publish(&image).expect("published");
    assert_eq!(pinned.state(backend(&pinned, "one/b1")), drained);
    assert_eq!(pinned.failover(web), Failover { first: 1, evacuate: true });
    assert_eq!(pinned.withheld(one), 248);
    assert_eq!(pool_counts(&pinned, "one"), (2, 3));
    assert!(pinned.exits().iter().all(|&(_, count)| count == 0));
    assert_eq!(pinned.service_traffic(web).packets + pinned.backend_traffic(1).packets, 0);
}

#[test]
fn a_share_is_of_the_state_and_no_news_of_it() {
    let bpffs = Bpffs::mount();
    let config = config();
    let mut pinned = PinnedMaps::create(&bpffs.pins(), &Capacity::of(&config)).expect("maps");
    let image = plan(&pinned, &config);
    pinned.publish(&image).expect("published");
    let b1 = backend(&pinned, "one/b1");
    pinned.set_state(b1, state(Admin::Enabled, Health::Up), "2 probes in a row passed").expect("known");
    let (before, note) = (pinned.state(b1), pinned.note(b1));
    pinned.set_share(b1, 200).expect("known");
    assert_eq!((pinned.state(b1).withheld(), pinned.state(b1).0 & 0xff), (200, before.0));
    assert_eq!(pinned.note(b1), note);
    assert!(pinned.in_transition(service_number(&pinned, "web")), "its picks may be others");
    pinned.set_share(b1, 0).expect("known");
    assert_eq!(pinned.state(b1), before);
}

#[test]
fn maps_are_made_once() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let _kernel = started(&pins, &config());
    let again = PinnedMaps::create(&pins, &Capacity::of(&config())).err().expect("they are there");
    assert!(matches!(again, BpfError::AlreadyPinned { .. }));
}

#[test]
fn a_first_start_that_was_killed_leaves_nothing_in_the_way() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let unfinished = pins.version_dir().join("maps-unfinished");
    fs::create_dir_all(&unfinished).expect("a directory");
    let stray = aya_obj::Map::new_from_params(2, 4, 4, 1, 0);
    MapData::create(stray, "PUBLISHED", None).expect("a map").pin(unfinished.join(map::PUBLISHED)).expect("pinned");

    assert!(PinnedMaps::open(&pins).expect("no error").is_none());
    let _kernel = started(&pins, &config());
    assert!(!unfinished.exists());
    reopened(&pins);
}

#[test]
fn a_start_that_fails_leaves_no_pins() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let capacity = Capacity { candidates: 0, ..Capacity::of(&config()) };
    let error = PinnedMaps::create(&pins, &capacity).err().expect("there is no empty map");
    assert!(error.to_string().contains("CANDIDATES"), "{error}");
    assert!(PinnedMaps::open(&pins).expect("no error").is_none());
    assert!(!pins.version_dir().join("maps-unfinished").exists());
}

#[test]
fn a_pin_that_is_another_map_is_refused() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    drop(started(&pins, &config()));
    let entries = Capacity::of(&config()).backends;
    // Type, key, value, entries and flags of a map, and the expected error.
    let wrong = [
        ((1, 4, 64, entries, 0), "type is Hash, not Array"),
        ((2, 4, 56, entries, 1024), "value size is 56, not 64"),
        ((2, 4, 64, entries, 0), "flags word is 0, not 1024"),
        ((2, 4, 64, entries + 1, 1024), "number of entries"),
    ];
    for ((kind, key, value, entries, flags), what) in wrong {
        let stray = aya_obj::Map::new_from_params(kind, key, value, entries, flags);
        fs::remove_file(pins.map(map::BACKENDS)).expect("pinned before");
        MapData::create(stray, "BACKENDS", None).expect("a map").pin(pins.map(map::BACKENDS)).expect("pinned");
        let error = PinnedMaps::open(&pins).err().expect("it is another map").to_string();
        assert!(error.contains(what), "{error}");
        assert!(error.contains("edge-ctl run"), "{error}");
    }
    drop(started_again(&pins));
    let stray = aya_obj::Map::new_from_params(9, 20, 16, Capacity::of(&config()).fragments, 0);
    fs::remove_file(pins.map(map::FRAGMENTS_V4)).expect("pinned before");
    MapData::create(stray, "FRAGMENTS_V4", None).expect("a map").pin(pins.map(map::FRAGMENTS_V4)).expect("pinned");
    let error = PinnedMaps::open(&pins).err().expect("it is another map").to_string();
    assert!(error.contains("key size is 20, not 16"), "{error}");

    drop(started_again(&pins));
    fs::remove_file(pins.map(map::BACKENDS)).expect("pinned before");
    let error = PinnedMaps::open(&pins).err().expect("it is missing").to_string();
    assert!(error.contains("BACKENDS is missing"), "{error}");

    pins.remove_maps().expect("it removes what cannot be opened");
    pins.remove_directories().expect("they are empty");
    assert!(!pins.version_dir().exists());
    drop(started(&pins, &config()));
}

#[test]
fn a_directory_elsewhere_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let error = PinDir::new(&directory.path().join("edge")).expect_err("not a BPF file system").to_string();
    assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
}

#[test]
fn an_image_is_published_once_and_in_order() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    let image = plan(&pinned, &config());
    pinned.publish(&image).expect("it is the next");
    assert!(matches!(pinned.publish(&image), Err(BpfError::Stale { planned: 2, published: 2 })));
}

#[test]
fn a_configuration_that_outgrows_the_maps_is_refused_before_the_first_write() {
    let bpffs = Bpffs::mount();
    let pinned = started(&bpffs.pins(), &config());
    let before = pinned.snapshot().expect("readable");
    let mut large = config();
    large.services.iter_mut().for_each(|service| service.slots = 1 << 18);
    let error = try_plan(&pinned, &large).expect_err("too large").to_string();
    assert!(error.contains("CANDIDATES") && error.contains("edge-ctl upgrade"), "{error}");
    assert_eq!(pinned.snapshot().expect("readable"), before);
}

#[test]
fn a_publication_moves_no_owner_and_kills_only_what_nothing_names() {
    let bpffs = Bpffs::mount();
    let mut config = config();
    let mut pinned = started(&bpffs.pins(), &config);
    let before = owners(&pinned, "web");
    let goes = backend(&pinned, "one/b1");
    assert!(before.contains(&goes));
    pinned.set_state(goes, state(Admin::Enabled, Health::Up), "it answers").expect("known");

    config.pools[0].backends.remove(1);
    config.pools[0].backends[0].weight = 1;
    let image = plan(&pinned, &config);
    pinned.publish(&image).expect("published");
    assert_eq!(owners(&pinned, "web"), before);
    let left = state(Admin::Enabled, Health::Up).0 & !State::NEW | State::RETIRED;
    assert_eq!(pinned.state(goes), State(left), "its flows stay, and no new ones come");
}

#[test]
fn what_a_killed_publication_left_is_repaired_by_the_next_start() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = started(&pins, &config());
    let (nobody, known) = (40, backend(&pinned, "one/b0"));
    let word =
        |n: u16| pinned.maps.backends.atomic_u32(n.into(), std::mem::offset_of!(Backend, state)).expect("in range");
    word(nobody).store(state(Admin::Enabled, Health::Up).0, std::sync::atomic::Ordering::Relaxed);
    word(known).store(state(Admin::Enabled, Health::Down).0, std::sync::atomic::Ordering::Relaxed);

    pinned = reopened(&pins);
    assert_eq!(pool_counts(&pinned, "one"), (3, 3), "opening changes nothing");
    pinned.repair().expect("repaired");
    assert_eq!(pinned.state(nobody), State(0));
    assert_eq!(pool_counts(&pinned, "one"), (2, 3));
}

#[test]
fn states_move_counts_and_lists() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    let (b0, b1) = (backend(&pinned, "two/b0"), backend(&pinned, "two/b1"));
    pinned.set_state(b0, state(Admin::Enabled, Health::Down), "no answer").expect("known");
    assert_eq!(pool_counts(&pinned, "two"), (1, 2));
    assert_eq!(listed(&pinned, "two"), [b1, b0], "those that take flows stand first");
    pinned.set_state(b0, state(Admin::Enabled, Health::Up), "answers").expect("known");
    assert_eq!(listed(&pinned, "two"), [b0, b1], "by their addresses");

    let long = "é".repeat(100);
    pinned.set_state(b0, state(Admin::Disabled, Health::Up), &long).expect("known");
    assert_eq!(pool_counts(&pinned, "two"), (1, 1));
    assert_eq!(pinned.note(b0).reason, *"é".repeat(60).as_bytes());
    assert!(matches!(pinned.set_state(0, State(0), ""), Err(BpfError::NoSuchBackend(0))));
    let nowhere = pinned.set_failover(1 << 31, Failover::default());
    assert!(matches!(nowhere, Err(BpfError::NoSuchService(_))));
}

#[test]
fn a_next_hop_is_written_beside_the_state() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    let number = backend(&pinned, "one/b0");
    let before = pinned.maps.backends.read(number.into()).expect("in range");
    let entry = NextHopEntry {
        egress: 7,
        mac: [2, 0, 0, 0, 0, 1],
        source_mac: [2, 0, 0, 0, 0, 2],
        mtu: 1500,
        own_mtu: true,
        vlan: 12,
    };
    pinned.set_next_hop(number, Some(entry)).expect("known");
    let expected = Backend {
        egress: 7,
        next_hop: Mac::new(entry.mac),
        source_mac: Mac::new(entry.source_mac),
        mtu: 1500,
        own_mtu: 1,
        vlan: 12,
        hop_version: before.hop_version + 2,
        ..before
    };
    assert_eq!(pinned.maps.backends.read(number.into()), Some(expected));
    let learnt =
        pinned.maps.backends.atomic_u16(number.into(), std::mem::offset_of!(Backend, path_mtu)).expect("in range");
    learnt.store(1400, std::sync::atomic::Ordering::Relaxed);
    pinned.set_next_hop(number, Some(entry)).expect("known");
    assert_eq!(pinned.maps.backends.read(number.into()), Some(Backend { path_mtu: 1400, ..expected }));
    assert_eq!(pinned.path_mtu(number), Some(1400));
    pinned.forget_path_mtus();
    assert_eq!(pinned.path_mtu(number), None);
    pinned.set_next_hop(number, None).expect("known");
    assert_eq!(pinned.maps.backends.read(number.into()), Some(Backend { next_hop: Mac::default(), ..expected }));
}

#[test]
fn a_damaged_snapshot_is_not_believed() {
    let bpffs = Bpffs::mount();
    let pinned = started(&bpffs.pins(), &config());
    let at = edge_common::abi::banked(pinned.maps.bank(), 0);
    let mut page = pinned.maps.snapshot.read(at).expect("in range");
    page.0[100] ^= 1;
    pinned.maps.snapshot.write(at, page).expect("in range");
    let error = pinned.snapshot().expect_err("damaged").to_string();
    assert!(error.contains("checksum") && error.contains("edge-ctl run"), "{error}");
}
