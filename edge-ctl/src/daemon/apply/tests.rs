//! First starts that are killed: either the operators' decisions are in force, or the next start begins anew. Needs
//! root.

use edge_tests::killed::{Step, killed_at};

use super::*;
use crate::{
    bpf::bpffs::Bpffs,
    config,
    control::change::{How, Vetted, Words},
};

const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
[limits]
services = 1
pools = 2
backends = 4
flows = 65536
[tunnel]
source_v4 = "10.0.0.1"
[[interface]]
name = "lo"
[[pool]]
name = "one"
backend = [{ name = "a", address = "10.1.0.1" }, { name = "b", address = "10.1.0.2" }]
[[pool]]
name = "two"
backend = [{ name = "c", address = "10.2.0.1" }]
[[service]]
name = "web"
vips = ["192.0.2.1"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["one", "two"]
"#;

/// The state that was kept from before the reboot.
fn kept() -> Kept {
    let reason = || "drained by an operator".to_owned();
    Kept {
        backends: vec![BackendWord { name: "one/a".to_owned(), decision: Decision::Drained, reason: reason() }],
        failovers: vec![FailoverWord { service: "web".to_owned(), to: "two".to_owned(), evacuate: false }],
        ..Kept::default()
    }
}

/// New maps, and the generation to be published in them.
fn staged(bpffs: &Bpffs) -> (PinnedMaps, Vetted) {
    let config = config::parse(TEXT, "edge.toml").unwrap();
    let mut maps = new_maps(&bpffs.pins(), &config).unwrap();
    let candidate =
        Candidate { config, how: How::Start, file: None, words: Words::default(), text_of: None, host: None };
    let vetted = Planned::new(&maps, None, candidate).unwrap().unrehearsed(&mut maps);
    (maps, vetted)
}

/// Checks what the next start finds after a start that was killed at `step`, or that completed.
fn is_whole(bpffs: &Bpffs, killed: bool, step: Step) {
    match usable(&bpffs.pins()).unwrap() {
        Some((maps, snapshot)) => {
            let state = maps.state(snapshot.backend("one/a").unwrap().number);
            assert!(state.has_all(State::DRAINED), "{step:?}, killed: {killed}: {state:?}");
            assert_eq!(maps.failover(snapshot.service("web").unwrap().number).first, 1, "{step:?}");
        }
        None => assert!(killed, "{step:?}: it ended, and the next start would begin anew"),
    }
}

#[test]
fn a_first_start_can_be_killed_before_each_call() {
    let is_killed = |number: u32| {
        let bpffs = Bpffs::mount();
        let step = Step::Call(number);
        let start = || {
            let (mut maps, vetted) = staged(&bpffs);
            let (inventory, _) =
                vetted.publish(&mut maps, &mut History::default(), Clock::now(), &Events::new()).unwrap();
            finish(&mut maps, &inventory, Some(&kept()), &Events::new()).unwrap();
        };
        let killed = killed_at(step, start);
        is_whole(&bpffs, killed, step);
        killed
    };
    let calls = (1..100).find(|number| !is_killed(*number)).unwrap() - 1;
    println!("{calls} calls");
    assert!(calls > 20, "{calls}");
}

/// Another version of this program has published a text that this one refuses.
#[test]
fn a_start_goes_on_with_a_text_that_has_keys_of_another_version() {
    let bpffs = Bpffs::mount();
    let text = TEXT.replace("mode = \"ipip\"", "mode = \"ipip\"\nother = 1\nlearn = \"30s\"") + "[another]\nkey = 2\n";
    assert!(config::parse(&text, "edge.toml").is_err());
    let config = config::parse_accepted(&text, "edge.toml").unwrap();
    let mut maps = new_maps(&bpffs.pins(), &config).unwrap();
    let candidate =
        Candidate { config, how: How::Start, file: None, words: Words::default(), text_of: None, host: None };
    let vetted = Planned::new(&maps, None, candidate).unwrap().unrehearsed(&mut maps);
    let (inventory, _) = vetted.publish(&mut maps, &mut History::default(), Clock::now(), &Events::new()).unwrap();
    finish(&mut maps, &inventory, Some(&kept()), &Events::new()).unwrap();
    let (pins, number) = (bpffs.pins(), maps.number());
    drop(maps);

    let (disk, file) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), &text).unwrap();
    let states = States { disk: disk.path().join("disk"), copy: disk.path().join("copy") };
    let start = start(&pins, file.path(), &states, &Events::new()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(!start.fresh && start.refused.is_some(), "{:?}", start.refused);
    assert_eq!((start.maps.number(), start.inventory.config.text), (number, text));
    let snapshot = start.maps.snapshot().unwrap().unwrap();
    assert!(start.maps.state(snapshot.backend("one/a").unwrap().number).has_all(State::DRAINED));
}

#[test]
fn what_is_staged_is_in_force_for_nobody() {
    let bpffs = Bpffs::mount();
    let (_maps, _vetted) = staged(&bpffs);
    assert!(usable(&bpffs.pins()).unwrap().is_none());
}

/// Only stores after the publication matter: before it, the next start begins anew in any case.
#[test]
fn a_first_start_can_be_killed_before_each_store_behind_its_publication() {
    let is_killed = |number: u32| {
        let bpffs = Bpffs::mount();
        let (mut maps, vetted) = staged(&bpffs);
        let (inventory, _) = vetted.publish(&mut maps, &mut History::default(), Clock::now(), &Events::new()).unwrap();
        let step = Step::Store(number);
        let killed = killed_at(step, || finish(&mut maps, &inventory, Some(&kept()), &Events::new()).unwrap());
        is_whole(&bpffs, killed, step);
        killed
    };
    let stores = (1..1000).find(|number| !is_killed(*number)).unwrap() - 1;
    assert!(stores > 5, "{stores}");
}
