//! A publication that is killed before each of its stores and each of its system calls: packets are served all the
//! while, and the next process finds the previous generation or the new one, and continues. Needs root.

use std::{
    cell::Cell,
    net::Ipv4Addr,
    os::fd::{AsFd as _, OwnedFd},
};

use edge_common::abi::{Mac, Station};
use edge_tests::{
    killed::{Step, before_each_store, killed_at},
    packet::{ACK, Frame, Ip, Payload, SYN, Tcp},
};

use super::{
    super::{Candidate, History, How, Planned, Rehearser, Words, change, recall},
    maps::{candidate, confirm_in, started_with},
};
use crate::{
    bpf::{self, PinDir, PinnedMaps, bpffs::Bpffs},
    control::{events::Events, fixture::finish_transitions, inventory::Inventory, status::Clock},
    net::NextHopEntry,
    xdp::EdgeProgram,
};

/// A file with these backends, and with more text after its service. Its limit of records a second is above the rate of the
/// test's new flows, which would stay with the owners of their slots otherwise.
macro_rules! text {
    ($backends:literal, $rest:literal) => {
        concat!(
            r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
[limits]
services = 3
pools = 2
backends = 8
flows = 65536
flows_per_second = 65536
[tunnel]
source_v4 = "10.0.0.1"
[[interface]]
name = "lo"
[[pool]]
name = "one"
backend = ["#,
            $backends,
            r#"]
[[service]]
name = "web"
vips = ["192.0.2.1"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["one"]
"#,
            $rest
        )
    };
}

/// The texts that are published in turn. They differ in a backend, a weight and a service.
const TEXTS: [&str; 2] = [
    text!(
        r#"{ name = "a", address = "10.1.0.1" }, { name = "b", address = "10.1.0.2" }, { name = "c", address = "10.1.0.3" }"#,
        ""
    ),
    text!(
        r#"{ name = "a", address = "10.1.0.1" }, { name = "c", address = "10.1.0.3", weight = 60 }, { name = "d", address = "10.1.0.4" }"#,
        r#"[[service]]
name = "more"
vips = ["192.0.2.2"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["one"]
"#
    ),
];

/// The last bytes of the backends' addresses, for each text.
const BACKENDS: [&[u8]; 2] = [&[1, 2, 3], &[1, 3, 4]];
const ALL: [u8; 4] = [1, 2, 3, 4];
/// Number of stores at the end of a publication that put it into force.
const LAST: u32 = 30;
/// The first bytes of the backends' addresses.
const ADDRESSES: [u8; 3] = [10, 1, 0];
const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
const VIP: [u8; 4] = [192, 0, 2, 1];
/// Number of established flows.
const FLOWS: u32 = 24;
/// Address of the first client with an established flow.
const ESTABLISHED: u32 = 0xcb00_7100;
/// Address of the first client with a new flow.
const NEW: u32 = 0x6440_0000;
/// Offset of a tunnel's destination in a frame.
const OUTER_DESTINATION: usize = 30;

/// The state that all processes share: maps, and a program that packets go through.
pub(super) struct Scene {
    _bpffs: Bpffs,
    pins: PinDir,
    program: OwnedFd,
    rehearser: Rehearser,
    /// Index of the text that comes next.
    next: usize,
    /// New flows so far: each has a client of its own.
    clients: Cell<u32>,
}

impl Scene {
    pub(super) fn new(text: &str) -> Self {
        let bpffs = Bpffs::mount();
        let (mut maps, ..) = started_with(&bpffs, text);
        maps.set_stations(&[Station::new(1, Mac::new(STATION))]);
        set_next_hops(&mut maps);
        EdgeProgram::load(&maps).unwrap();
        let pins = bpffs.pins();
        let program = bpf::sys::open_pin(&pins.program()).unwrap();
        Self { _bpffs: bpffs, pins, program, rehearser: Rehearser::default(), next: 1, clients: Cell::new(0) }
    }

    pub(super) fn maps(&self) -> PinnedMaps {
        PinnedMaps::open(&self.pins).unwrap().expect("they are pinned")
    }

    /// The state that a process that starts now finds in force.
    pub(super) fn reopen(&self) -> (PinnedMaps, Inventory, History) {
        let maps = self.maps();
        let inventory = Inventory::from_snapshot(&maps.snapshot().unwrap().expect("something is in force")).unwrap();
        let history = recall(&maps, &inventory, Clock::now());
        let last = history.entries.last().expect("the one in force");
        assert_eq!((last.generation, last.text()), (inventory.generation, Some(inventory.config.text.clone())));
        // All generations but the first are on trial.
        let trial = history.trial.as_ref().map(|trial| trial.generation);
        assert!(inventory.generation == 1 || trial == Some(inventory.generation), "in force without its trial");
        (maps, inventory, history)
    }

    /// The last byte of the address of the backend that a flow's packet goes to.
    pub(super) fn served(&self, client: u32, flags: u8) -> u8 {
        let tcp = Tcp { source: 1000, destination: 80, flags, ..Tcp::default() };
        let ip = Ip::new(Ipv4Addr::from(client).into(), VIP.into(), Payload::Tcp(tcp));
        let mut out = Vec::new();
        let frame = Frame::new(STATION, [4; 6], ip).bytes();
        bpf::sys::test_run(self.program.as_fd(), &frame, &mut out).unwrap();
        let destination = &out[OUTER_DESTINATION..][..4];
        assert_eq!(destination[..3], ADDRESSES, "a packet is not forwarded");
        destination[3]
    }

    /// The backends of the established flows, by the last byte of their addresses.
    fn homes(&self) -> Vec<u8> {
        (0..FLOWS).map(|flow| self.served(ESTABLISHED + flow, ACK)).collect()
    }

    /// Checks that established flows stay at `homes`, and that new ones go to backends in `by`.
    fn is_served(&self, homes: &[u8], by: &[u8]) {
        assert_eq!(self.homes(), homes, "a flow has moved");
        for _ in 0..4 {
            let client = self.clients.get();
            self.clients.set(client + 1);
            let new = self.served(NEW + client, SYN);
            assert!(by.contains(&new), "a new flow goes to {new}, not to one of {by:?}");
        }
    }

    /// Publishes the next text by `publish`, killed at `step`; returns whether it was killed before its end. If the
    /// text is not in force then, it is published again without a kill.
    fn round(
        &mut self,
        step: Step,
        publish: fn(&mut PinnedMaps, &Inventory, History, Candidate, &mut Rehearser),
    ) -> bool {
        let wanted = TEXTS[self.next];
        let homes = self.homes();
        let killed = {
            let (mut maps, inventory, history) = self.reopen();
            let rehearser = &mut self.rehearser;
            killed_at(step, || publish(&mut maps, &inventory, history, next(wanted), rehearser))
        };
        let (mut maps, inventory, _) = self.reopen();
        assert!(killed || inventory.config.text == wanted, "{step:?}: it did not come into force");
        self.is_served(&homes, &ALL);
        maps.repair().unwrap();
        self.is_served(&homes, &ALL);
        assert_eq!(maps.repair_counts().unwrap(), Vec::<String>::new(), "{step:?}");
        if inventory.config.text != wanted {
            let (mut maps, inventory, history) = self.reopen();
            without_rehearsal(&mut maps, &inventory, history, next(wanted), &mut self.rehearser);
        }
        let (mut maps, inventory, _) = self.reopen();
        assert_eq!(inventory.config.text, wanted);
        self.is_served(&homes, BACKENDS[self.next]);
        set_next_hops(&mut maps);
        finish_transitions(&mut maps, &inventory);
        self.next ^= 1;
        killed
    }
}

pub(super) fn next(text: &str) -> Candidate {
    candidate(text, How::Apply, Words { allow_removal: 9, allow_moves: true, ..confirm_in(600_000) })
}

fn set_next_hops(maps: &mut PinnedMaps) {
    let numbers: Vec<_> = maps.snapshot().unwrap().unwrap().backends().map(|(_, backend)| backend.number).collect();
    for number in numbers {
        let hop = NextHopEntry { egress: 1, mac: [6; 6], source_mac: STATION, mtu: 1500, own_mtu: true, vlan: 0 };
        maps.set_next_hop(number, Some(hop)).unwrap();
    }
}

/// A real change without its rehearsal, which stores into maps of its own.
pub(super) fn without_rehearsal(
    maps: &mut PinnedMaps,
    inventory: &Inventory,
    mut history: History,
    wanted: Candidate,
    _: &mut Rehearser,
) {
    let vetted = Planned::new(maps, Some(inventory), wanted).unwrap().unrehearsed(maps);
    vetted.publish(maps, &mut history, Clock::now(), &Events::new()).unwrap();
}

fn whole(
    maps: &mut PinnedMaps,
    inventory: &Inventory,
    mut history: History,
    wanted: Candidate,
    rehearser: &mut Rehearser,
) {
    change(maps, inventory, &mut history, wanted, rehearser, &Events::new()).unwrap().inventory.expect("it is another");
}

/// Kills at every step, in both directions, until there are no more steps; returns the number of steps.
fn everywhere(
    step: fn(u32) -> Step,
    publish: fn(&mut PinnedMaps, &Inventory, History, Candidate, &mut Rehearser),
) -> u32 {
    let mut scene = Scene::new(TEXTS[0]);
    let mut number = 1;
    // Two rounds for each step, so that it is killed once on the way there and once on the way back.
    loop {
        let killed = [scene.round(step(number), publish), scene.round(step(number), publish)];
        if killed == [false, false] {
            return number - 1;
        }
        number += 1;
    }
}

/// Packets are sent before every store. Before some stores the state that the next process would find is read. Before a
/// few of them the publication is killed, and continued by the next process: nearly all stores are into tables that
/// have no reader yet.
#[test]
fn a_publication_can_be_killed_before_each_store() {
    let mut scene = Scene::new(TEXTS[0]);
    // There and back, since the numbers of stores differ.
    let stores = [watched(&mut scene), watched(&mut scene)];
    println!("{stores:?} stores");
    assert!(stores.iter().all(|stores| *stores > 1000), "{stores:?}");
    for number in (1..stores[0].min(stores[1]) - LAST).step_by(1000) {
        for _ in stores {
            scene.round(Step::Store(number), without_rehearsal);
        }
    }
    for left in (0..=LAST).rev() {
        for stores in stores {
            scene.round(Step::Store(stores - left), without_rehearsal);
        }
    }
}

/// Publishes the next text; returns the number of stores.
fn watched(scene: &mut Scene) -> u32 {
    let homes = scene.homes();
    let wanted = TEXTS[scene.next];
    let (mut maps, inventory, history) = scene.reopen();
    let rehearser = &mut Rehearser::default();
    let publish = || without_rehearsal(&mut maps, &inventory, history, next(wanted), rehearser);
    let stores = before_each_store(publish, |number| {
        scene.is_served(&homes, &ALL);
        if number % 50 == 0 {
            scene.reopen();
        }
    });
    drop(maps);
    let (mut maps, inventory, _) = scene.reopen();
    assert_eq!(inventory.config.text, wanted);
    set_next_hops(&mut maps);
    finish_transitions(&mut maps, &inventory);
    scene.next ^= 1;
    stores
}

/// For changes to the publication of generations, takes an hour or two: after a kill at each store the next process continues.
#[test]
#[ignore = "the square of thousands of stores"]
fn a_publication_can_be_gone_on_with_behind_each_store() {
    let stores = everywhere(Step::Store, without_rehearsal);
    assert!(stores > 1000, "{stores}");
}

#[test]
fn a_publication_can_be_killed_before_each_call() {
    let calls = everywhere(Step::Call, whole);
    println!("{calls} calls");
    assert!(calls > 5, "{calls}");
}
