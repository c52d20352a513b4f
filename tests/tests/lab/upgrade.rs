//! New maps and a new program replace the attached ones: no request is lost, and no flow moves.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::maps::{Array, Map, MapData};
use edge_common::abi::{self, ABI_VERSION, SNAPSHOT_PAGE, ServiceEntryV4, map};
use edge_tests::lab::{
    kept::Kept,
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
    status,
    talk::TALK,
    topology::{ECHO, EDGE},
    wait_until,
};

fn lab(more: &str) -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.prepare(Mode::Native, more).expect("a configuration");
    lab.start_daemon().expect("the load balancer starts");
    lab
}

fn version(lab: &Small, version: u32) -> PathBuf {
    lab.edge().unwrap().pins().join(format!("v{version}"))
}

/// Long-lived flows.
fn flows(lab: &Small) -> Vec<Kept> {
    let (service, netns) = (Served::named("dsr4"), lab.netns(CLIENT));
    let tcp = (0..6).map(|_| Kept::tcp(netns, service.at(TALK)).expect("TCP"));
    tcp.chain([Kept::udp(netns, service.at(ECHO)).expect("UDP")]).collect()
}

/// Waits until a program other than `before` is attached; returns its number.
fn taken_over(lab: &Small, before: u32) -> u32 {
    let program = || lab.attached(EDGE, "eth0").unwrap().map(|(_, program)| program);
    let taken = wait_until(patience(Duration::from_secs(20)), || Ok(program().is_some_and(|now| now != before)));
    assert!(taken.unwrap(), "{}", lab.edge().unwrap().log_text());
    program().unwrap()
}

#[test]
fn maps_that_cannot_be_gone_on_with_are_replaced_without_a_gap() {
    let mut lab = lab("");
    lab.ctl(&["drain", "p6/be1", "--reason", "disk swap"]).unwrap();
    let state = lab.edge().unwrap().state_dir().join("state.json");
    let kept = || Ok(fs::read_to_string(&state).unwrap_or_default().contains("disk swap"));
    assert!(wait_until(patience(Duration::from_secs(5)), kept).unwrap());
    let requests = lab.start_requests().expect("a client");
    let flows = flows(&lab);
    let (_, mut program) = lab.attached(EDGE, "eth0").unwrap().unwrap();
    let maps = version(&lab, ABI_VERSION).join("maps");
    let damages: [fn(&PathBuf); 3] = [
        // A missing pin.
        |maps| fs::remove_file(maps.join(map::BACKENDS)).unwrap(),
        // A damaged snapshot.
        |maps| {
            let map = Map::from_map_data(MapData::from_pin(maps.join(map::SNAPSHOT)).unwrap()).unwrap();
            let mut pages: Array<_, [u8; SNAPSHOT_PAGE]> = map.try_into().unwrap();
            (0..pages.len()).for_each(|page| pages.set(page, [7; SNAPSHOT_PAGE], 0).unwrap());
        },
        // A pin of another map.
        |maps| fs::rename(maps.join(map::NOTES), maps.join(map::SERVICES)).unwrap(),
    ];
    for (round, damage) in damages.into_iter().enumerate() {
        lab.kill_daemon().unwrap();
        damage(&maps);
        let refused = lab.edge().unwrap().output(lab.netns(EDGE), &["status"]).unwrap();
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(stderr.contains("edge-ctl run") && !stderr.contains("detach"), "{round}: {stderr}");
        lab.start_daemon().expect("it starts beside them");
        program = taken_over(&lab, program);
        assert!(lab.ctl(&["status"]).unwrap().contains("disk swap"), "{round}: operators' decisions are kept");
    }
    for flow in flows {
        assert_eq!(flow.end().unwrap().len(), 1, "it stays where it is");
    }
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}\n{}", lab.edge().unwrap().log_text());
}

#[test]
fn a_file_that_outgrows_the_maps_gets_larger_ones_and_no_flow_moves() {
    let lab = lab("");
    let file = lab.edge().unwrap().configuration();
    let mut text = fs::read_to_string(&file).unwrap();
    // More pools than the maps have room for.
    for number in 0..40 {
        writeln!(
            text,
            "[[pool]]\nname = \"g{number}\"\nbackend = [{{ name = \"x\", address = \"10.1.1.{}\" }}]",
            100 + number
        )
        .unwrap();
    }
    let requests = lab.start_requests().expect("a client");
    // All these flows start at one backend, and their records alone keep them there when the other backend is back.
    lab.ctl(&["drain", "p4/be1"]).unwrap();
    let flows = flows(&lab);
    lab.ctl(&["enable", "p4/be1"]).unwrap();
    lab.ctl(&["drain", "p6/be1", "--reason", "disk swap"]).unwrap();
    for flow in &flows {
        flow.wait_for(20).unwrap();
    }
    let (_, program) = lab.attached(EDGE, "eth0").unwrap().unwrap();
    let pid = || lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()["daemon"]["pid"].clone();
    let before = pid();
    fs::write(&file, &text).unwrap();
    let output = lab.ctl(&["reload"]).unwrap();
    assert!(output.contains("generation 2 comes into force in new maps"), "{output}");
    taken_over(&lab, program);
    assert_eq!(pid(), before, "while the daemon runs");
    // Later operations use the larger maps: nothing remains in the smaller ones.
    lab.ctl(&["drain", "p4/be2"]).unwrap();
    assert_eq!(
        lab.request(Served::named("dsr4").vip, 12).unwrap(),
        std::collections::BTreeSet::from(["be1".to_owned()])
    );
    lab.ctl(&["enable", "p4/be2"]).unwrap();
    let seen = wait_until(patience(Duration::from_secs(10)), || {
        let status = status::backends(&lab.edge()?.status(lab.netns(EDGE))?)?;
        Ok(status.iter().filter(|backend| backend.name.starts_with("p4/")).all(|backend| backend.health == "up"))
    });
    assert!(seen.unwrap(), "{}", lab.edge().unwrap().log_text());
    let status = lab.edge().unwrap().status(lab.netns(EDGE)).unwrap();
    assert_eq!(status["generation"], 2, "{}", lab.edge().unwrap().log_text());
    assert_eq!(lab.ctl(&["history", "--text", "2"]).unwrap(), text);
    assert!(lab.ctl(&["status"]).unwrap().contains("disk swap"));

    // Another size, for a second upgrade.
    let program = lab.attached(EDGE, "eth0").unwrap().unwrap().1;
    assert!(text.contains("flows = 1024"), "{text}");
    fs::write(&file, text.replace("flows = 1024", "flows = 4096")).unwrap();
    lab.ctl(&["upgrade"]).unwrap();
    taken_over(&lab, program);
    let check = lab.ctl(&["check", file.to_str().unwrap(), "--host"]).unwrap();
    assert!(!check.contains("limits.flows"), "{check}");
    for flow in &flows {
        flow.wait_for(50).unwrap();
    }
    let served: Vec<_> = flows.into_iter().map(|flow| flow.end().unwrap()).collect();
    assert!(served[..6].iter().all(|served| served.len() == 1), "they stay where they are: {served:?}");
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 500 && counts.lost == 0, "{counts:?}\n{}", lab.edge().unwrap().log_text());
}

#[test]
fn another_version_takes_over_without_a_gap_and_clears_up_after_its_soak() {
    let mut lab = lab("\n[edge]\nsoak = \"1s\"\n");
    let (old, new) = (version(&lab, ABI_VERSION - 1), version(&lab, ABI_VERSION));
    let requests = lab.start_requests().expect("a client");
    let flows = flows(&lab);
    let (_, mut program) = lab.attached(EDGE, "eth0").unwrap().unwrap();
    for _ in 0..3 {
        lab.kill_daemon().unwrap();
        fs::rename(&new, &old).unwrap();
        lab.start_daemon().expect("it starts beside the other version");
        program = taken_over(&lab, program);
        assert!(new.join("links/eth0").exists() && !old.join("links/eth0").exists(), "the link went over");
        let cleared = wait_until(patience(Duration::from_secs(20)), || Ok(!old.exists())).unwrap();
        assert!(cleared, "{}", lab.edge().unwrap().log_text());
    }
    for flow in flows {
        assert_eq!(flow.end().unwrap().len(), 1, "it stays where it is");
    }
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}\n{}", lab.edge().unwrap().log_text());
}

#[test]
fn upgrades_under_load_leave_no_gap() {
    let lab = lab("");
    // A machine that has no time for probes would move flows, too.
    lab.ctl(&["health", "*/*", "up"]).unwrap();
    let requests = lab.start_requests().expect("a client");
    let flows = flows(&lab);
    let pid = |lab: &Small| lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()["daemon"]["pid"].clone();
    let (before, mut programs) = (pid(&lab), Vec::new());
    for _ in 0..rounds() {
        let output = lab.ctl(&["upgrade"]).unwrap();
        assert!(output.contains("its program is attached"), "{output}");
        programs.push(lab.attached(EDGE, "eth0").unwrap().unwrap().1);
    }
    assert!(programs.windows(2).all(|pair| pair[0] != pair[1]), "{programs:?}");
    assert_eq!(pid(&lab), before, "a process that becomes another version stays the service manager's");
    for flow in flows {
        assert_eq!(flow.end().unwrap().len(), 1, "it stays where it is");
    }
    let counts = requests.stop().unwrap();
    println!("{} upgrades: {counts:?}", programs.len());
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}\n{}", lab.edge().unwrap().log_text());
}

#[test]
fn an_upgrade_loses_no_event_of_its_last_second() {
    let lab = lab("");
    let edge = lab.edge().unwrap();
    let started = || edge.status(lab.netns(EDGE)).ok().map(|status| status["daemon"]["started"].clone());
    for round in 0..3 {
        let (reason, before) = (format!("round {round}"), started());
        lab.ctl(&["drain", "p4/be1", "--reason", &reason]).unwrap();
        // The verb tries the program first, which takes longer than the daemon keeps events in memory.
        let mut socket = UnixStream::connect(edge.run_dir().join("edge.sock")).unwrap();
        socket.write_all(b"POST /v1/upgrade HTTP/1.1\r\nhost: edge\r\ncontent-length: 0\r\n\r\n").unwrap();
        let again = || Ok(started().is_some_and(|now| !now.is_null() && Some(now) != before));
        assert!(wait_until(patience(Duration::from_secs(20)), again).unwrap(), "{}", edge.log_text());
        assert!(lab.ctl(&["events"]).unwrap().contains(&reason), "{reason}: {}", edge.log_text());
        lab.ctl(&["enable", "p4/be1"]).unwrap();
    }
}

/// Number of upgrades: a few, or as many as `EDGE_UPGRADES` requests.
fn rounds() -> u32 {
    std::env::var("EDGE_UPGRADES").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(24)
}

type Index = Array<MapData, [u8; size_of::<ServiceEntryV4>()]>;

fn index(maps: &Path) -> Index {
    Map::from_map_data(MapData::from_pin(maps.join(map::SERVICE_INDEX_V4)).unwrap()).unwrap().try_into().unwrap()
}

/// Changes the mode of all IPv4 destinations in tunnels, which these tests do not use, to `dsr`; returns the original
/// entries.
fn take_tunnels_away(maps: &Path) -> Vec<(u32, ServiceEntryV4)> {
    let mut index = index(maps);
    let entries = (0..index.len()).map(|at| (at, bytemuck::pod_read_unaligned(&index.get(&at, 0).unwrap())));
    let tunnels: Vec<(u32, ServiceEntryV4)> = entries
        .filter(|(_, entry): &(_, ServiceEntryV4)| entry.key.used == 1 && entry.service_ref.mode() == abi::Mode::Ipip)
        .collect();
    for (at, entry) in &tunnels {
        let service_ref = entry.service_ref.with_mode(abi::Mode::Dsr);
        index.set(*at, bytemuck::cast::<_, [u8; _]>(ServiceEntryV4 { service_ref, ..*entry }), 0).unwrap();
    }
    tunnels
}

#[test]
fn a_program_that_fails_its_rehearsal_leaves_the_old_one_running() {
    let mut lab = lab("");
    let requests = lab.start_requests().expect("a client");
    let attached = lab.attached(EDGE, "eth0").unwrap();
    lab.kill_daemon().unwrap();
    let maps = version(&lab, ABI_VERSION).join("maps");
    let tunnels = take_tunnels_away(&maps);
    assert!(!tunnels.is_empty());
    lab.start_daemon().expect("it starts");
    let why = |lab: &Small| lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()["daemon"]["program"].to_string();
    let refused = wait_until(patience(Duration::from_secs(20)), || Ok(why(&lab).contains("the rehearsal failed")));
    assert!(refused.unwrap(), "{}\n{}", why(&lab), lab.edge().unwrap().log_text());
    let upgrade = lab.edge().unwrap().output(lab.netns(EDGE), &["upgrade"]).unwrap();
    let stderr = String::from_utf8_lossy(&upgrade.stderr).into_owned();
    assert!(upgrade.status.code() == Some(2) && stderr.contains("the rehearsal failed"), "{stderr}");
    assert_eq!(lab.attached(EDGE, "eth0").unwrap(), attached, "the old one goes on");

    let mut index = index(&maps);
    for (at, entry) in tunnels {
        index.set(at, bytemuck::cast::<_, [u8; _]>(entry), 0).unwrap();
    }
    taken_over(&lab, attached.unwrap().1);
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 500 && counts.lost == 0, "{counts:?}\n{}", lab.edge().unwrap().log_text());
}
