//! Links for real, on veths in a network namespace.

use std::{fs, os::unix::fs::MetadataExt as _, process::Command, thread};

use aya::maps::MapData;
use nix::sched::{CloneFlags, unshare};

use edge_common::abi::map;

use super::{Bpffs, config, reopened, started};
use crate::{
    config::AttachMode,
    kernel::{Kernel, KernelError},
};

/// Runs `test` in a network namespace with a pair of veths, `left` and `right`; both go with the thread.
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

/// Identifiers of the loaded program's maps.
fn map_ids(kernel: &Kernel) -> Vec<u32> {
    let program = kernel.program.as_ref().and_then(|object| object.program("edge")).expect("loaded");
    program.info().and_then(|info| Ok(info.map_ids()?.unwrap_or_default())).expect("loaded")
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
        let mut kernel = started(&pins, &config());
        assert!(matches!(kernel.attach("left", AttachMode::Native), Err(KernelError::NotLoaded)));
        kernel.load_program().expect("the kernel takes it");
        let info = map_ids(&kernel);
        let active = MapData::from_pin(pins.map(map::PUBLISHED)).and_then(|map| map.info()).expect("pinned").id();
        assert!(info.contains(&active), "the program reads the pinned maps: {info:?}");
        kernel.attach("left", AttachMode::Native).expect("veth has native XDP");
        kernel.attach("right", AttachMode::Generic).expect("generic works everywhere");
        assert!(matches!(kernel.attach("middle", AttachMode::Native), Err(KernelError::NoInterface { .. })));
        assert_eq!(kernel.attached(), ["left", "right"]);
        let first = attached_program("left");
        assert!(first.starts_with("native "), "{first}");
        drop(kernel);
        assert_eq!(attached_program("left"), first, "it stays when the process goes");

        let mut kernel = reopened(&pins);
        assert_eq!(kernel.attached(), ["left", "right"]);
        kernel.load_program().expect("loaded again");
        let link = fs::metadata(pins.link("left", AttachMode::Native)).expect("pinned");
        kernel.attach("left", AttachMode::Native).expect("replaced");
        let second = attached_program("left");
        assert!(second.starts_with("native ") && second != first, "{first} -> {second}");
        let same = fs::metadata(pins.link("left", AttachMode::Native)).expect("pinned");
        assert_eq!(link.ino(), same.ino());

        kernel.attach("left", AttachMode::Generic).expect("another mode, another link");
        assert!(attached_program("left").starts_with("generic "));
        assert_eq!(kernel.attached(), ["left", "right"]);

        // The interface goes and comes back: the link is a dead one.
        ip("link del left");
        assert_eq!(kernel.attached(), Vec::<String>::new());
        ip("link add left type veth peer name right");
        kernel.attach("left", AttachMode::Generic).expect("a new link");
        assert_eq!(kernel.attached(), ["left"]);

        drop(kernel);
        assert_eq!(Kernel::detach(&pins).expect("detached"), ["left", "right"]);
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
        let mut kernel = started(&pins, &config());
        kernel.load_program().expect("the kernel takes it");
        kernel.attach("left.100", AttachMode::Native).expect("attached");
        assert_eq!(kernel.attached(), ["left.100"]);
    });
}

#[test]
fn a_mode_that_the_driver_refuses_leaves_the_one_that_worked() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        let mut kernel = started(&pins, &config());
        kernel.load_program().expect("the kernel takes it");
        kernel.attach("lo", AttachMode::Generic).expect("generic works everywhere");
        let error = kernel.attach("lo", AttachMode::Native).expect_err("the loopback has no native XDP").to_string();
        assert!(error.contains("mode = \"generic\""), "{error}");
        assert!(attached_program("lo").starts_with("generic "));
        assert_eq!(kernel.attached(), ["lo"]);
        assert!(kernel.detach_interface("lo").expect("detached"));
        assert_eq!(attached_program("lo"), "none");
    });
}
