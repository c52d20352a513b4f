//! If a process is killed before any system call while it replaces a program, one of the two programs stays attached,
//! and the next process continues.

use std::{fs, time::Duration};

use edge_tests::killed::{Step, killed_at};

use super::*;
use crate::bpf::PinDir;

/// Kills the attachment of `program` at each call, each time from the state that `reset` makes. Returns the number of
/// calls.
fn everywhere(program: &mut EdgeProgram, pins: &PinDir, mut reset: impl FnMut(), stands: impl Fn(u32)) -> u32 {
    let mut number = 1;
    loop {
        reset();
        let killed = killed_at(Step::Call(number), || program.attach("left", AttachMode::Native).expect("attached"));
        stands(number);
        // The next process continues.
        program.attach("left", AttachMode::Native).expect("attached");
        assert!(program.is_attached("left", AttachMode::Native).expect("looked up"), "call {number}");
        assert_eq!(attached_by_others(pins).expect("looked up"), Vec::<String>::new(), "call {number}");
        if !killed {
            return number - 1;
        }
        number += 1;
    }
}

/// One of the programs is attached, and exactly one link of any version leads to the interface.
fn is_attached_once(pins: &PinDir, number: u32) {
    assert!(attached_program("left").starts_with("native "), "call {number}: nothing is attached");
    let links = [attached(pins), attached_by_others(pins)].map(|links| links.expect("looked up")).concat();
    assert_eq!(links, ["left"], "call {number}");
}

#[test]
fn a_program_in_the_place_of_its_like() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        let maps = started(&pins, &config());
        let (mut old, mut new) = (loaded(&maps), loaded(&maps));
        let reset = || old.attach("left", AttachMode::Native).expect("attached");
        let calls = everywhere(&mut new, &pins, reset, |number| is_attached_once(&pins, number));
        assert!(calls >= 1, "{calls}");
    });
}

#[test]
fn a_program_in_the_place_of_another_versions() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        let maps = started(&pins, &config());
        let (mut old, mut new) = (loaded(&maps), loaded(&maps));
        let link = edge_links::path(&pins, "left", AttachMode::Native);
        let others = pins.version_dir().with_file_name("v1").join("links");
        fs::create_dir_all(&others).expect("a directory");
        let reset = || {
            old.attach("left", AttachMode::Native).expect("attached");
            fs::rename(&link, others.join("left")).expect("it is an older version's");
        };
        let calls = everywhere(&mut new, &pins, reset, |number| is_attached_once(&pins, number));
        assert!(calls >= 2, "{calls}");
    });
}

#[test]
fn the_first_program_of_an_interface() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        let mut program = loaded(&started(&pins, &config()));
        let reset = || assert!(detach_interface(&pins, "left").is_ok());
        let calls = everywhere(&mut program, &pins, reset, |number| {
            // An unpinned program ends with its process, which the kernel may notice a little later.
            let is_sound = || {
                let pinned = !attached(&pins).expect("looked up").is_empty();
                pinned == (attached_program("left") != "none")
            };
            let wait = |_| thread::sleep(Duration::from_millis(10));
            assert!((0..200).any(|at| is_sound() || (wait(at), false).1), "call {number}");
        });
        assert!(calls >= 2, "{calls}");
    });
}

#[test]
fn a_program_that_is_loaded_beside_another() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    in_namespace(move || {
        let maps = started(&pins, &config());
        loaded(&maps).attach("left", AttachMode::Native).expect("attached");
        let before = attached_program("left");
        let mut calls = 0;
        while killed_at(Step::Call(calls + 1), || drop(loaded(&maps))) {
            calls += 1;
            assert_eq!(attached_program("left"), before, "call {calls}");
            assert!(fs::exists(pins.program()).expect("looked up"), "call {calls}: no program is pinned");
        }
        assert!(calls > 2, "{calls}");
        let mut next = loaded(&maps);
        next.attach("left", AttachMode::Native).expect("attached");
        assert_ne!(attached_program("left"), before);
    });
}
