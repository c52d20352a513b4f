//! The real edge program and its links, on veths in a network namespace.

mod killed;

use std::{fs, os::unix::fs::MetadataExt as _, process::Command, thread};

use aya::maps::MapData;
use nix::sched::{CloneFlags, unshare};

use edge_common::abi::map;

use super::*;
use crate::{
    bpf::{
        PinnedMaps,
        bpffs::Bpffs,
        tests::{config, reopened, started},
    },
    config::AttachMode,
};

/// Runs `test` in a network namespace with a veth pair, `left` and `right`; both disappear with the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let done = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link add left type veth peer name right");
        ip("link set left up");
        test();
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().expect("iproute2").success(), "ip {arguments}");
}

fn loaded(maps: &PinnedMaps) -> EdgeProgram {
    EdgeProgram::load(maps).expect("the kernel takes it")
}

fn attached_program(interface: &str) -> String {
    let output = Command::new("ip").args(["-d", "link", "show", interface]).output().expect("iproute2");
    let text = String::from_utf8(output.stdout).expect("text");
    let at = text.find("prog/xdp id ").map(|at| text[at..].split(' ').nth(2).unwrap_or_default().to_owned());
    let mode = if text.contains("xdpgeneric") { "generic" } else { "native" };
    at.map_or_else(|| "none".to_owned(), |id| format!("{mode} {id}"))
}

#[test]
fn links_outlive_the_process_and_are_replaced_in_place() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        let mut program = loaded(&started(&pins, &config()));
        let info = program.map_ids();
        let active = MapData::from_pin(pins.map(map::PUBLISHED)).and_then(|map| map.info()).expect("pinned").id();
        assert!(info.contains(&active), "the program reads the pinned maps: {info:?}");
        program.attach("left", AttachMode::Native).expect("veth has native XDP");
        program.attach("right", AttachMode::Generic).expect("generic works everywhere");
        assert!(matches!(program.attach("middle", AttachMode::Native), Err(XdpError::NoInterface(_))));
        assert_eq!(attached(&pins).expect("looked up"), ["left", "right"]);
        let first = attached_program("left");
        assert!(first.starts_with("native "), "{first}");
        drop(program);
        assert_eq!(attached_program("left"), first, "it stays when the process goes");

        let maps = reopened(&pins);
        assert_eq!(attached(&pins).expect("looked up"), ["left", "right"]);
        let mut program = loaded(&maps);
        let link = fs::metadata(edge_links::path(&pins, "left", AttachMode::Native)).expect("pinned");
        program.attach("left", AttachMode::Native).expect("replaced");
        let second = attached_program("left");
        assert!(second.starts_with("native ") && second != first, "{first} -> {second}");
        let same = fs::metadata(edge_links::path(&pins, "left", AttachMode::Native)).expect("pinned");
        assert_eq!(link.ino(), same.ino());

        program.attach("left", AttachMode::Generic).expect("another mode, another link");
        assert!(attached_program("left").starts_with("generic "));
        assert_eq!(attached(&pins).expect("looked up"), ["left", "right"]);

        // The interface is deleted and recreated: the link is dead then.
        ip("link del left");
        assert_eq!(attached(&pins).expect("looked up"), Vec::<String>::new());
        ip("link add left type veth peer name right");
        program.attach("left", AttachMode::Generic).expect("a new link");
        assert_eq!(attached(&pins).expect("looked up"), ["left"]);

        drop(program);
        assert_eq!(detach_all(&pins).expect("detached"), ["left", "right"]);
        assert_eq!(attached_program("left"), "none");
        assert!(!pins.version_dir().exists());
    });
}

#[test]
fn a_name_with_a_dot_can_be_attached() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        ip("link set left down");
        ip("link set left name left.100");
        let mut program = loaded(&started(&pins, &config()));
        program.attach("left.100", AttachMode::Native).expect("attached");
        assert_eq!(attached(&pins).expect("looked up"), ["left.100"]);
    });
}

#[test]
fn a_mode_that_the_driver_refuses_leaves_the_one_that_worked() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        let mut program = loaded(&started(&pins, &config()));
        program.attach("lo", AttachMode::Generic).expect("generic works everywhere");
        let error = program.attach("lo", AttachMode::Native).expect_err("the loopback has no native XDP").to_string();
        assert!(error.contains("mode = \"generic\""), "{error}");
        assert!(attached_program("lo").starts_with("generic "));
        assert_eq!(attached(&pins).expect("looked up"), ["lo"]);
        assert!(detach_interface(&pins, "lo").expect("detached"));
        assert_eq!(attached_program("lo"), "none");
    });
}

#[test]
fn a_load_that_ends_after_a_takedown_leaves_no_pin() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let maps = started(&pins, &config());
    let program = EdgeProgram::verified(&maps).expect("the kernel takes it");
    let rehearsed = rehearsal::verified(&maps).expect("the kernel takes it");
    detach_all(&pins).expect("detached");
    assert!(EdgeProgram::pinned(&pins, program).is_err());
    assert!(rehearsal::pin(&pins.rehearsal().join("version"), rehearsed).is_err());
    assert!(!pins.version_dir().exists());
}
