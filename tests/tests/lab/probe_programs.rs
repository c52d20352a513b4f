//! The programs for probes through services are refused, or lost: backends are then probed at their addresses, this is
//! reported, and the programs are tried again. Beside the tc programs and filters of others, both do their work.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::time::{Duration, Instant};

use edge_tests::{
    feature::{Feature, missing},
    lab::{
        patience::patience,
        small::{BACKENDS, Mode, Small, UNSERVED},
        status,
        tc_crowd::TcCrowd,
        tool,
        topology::{ECHO, EDGE},
        wait_until,
    },
};
use serde_json::Value;

const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];
/// Attempts are 1, 2, 4 and 8 s apart.
const TRIED_AGAIN: Duration = Duration::from_secs(20);
/// Time from a fault to the verdict of five probes.
const SOON: Duration = Duration::from_secs(5);
/// A time in which no change is expected.
const WHILE: Duration = Duration::from_millis(1500);

fn seen(lab: &Small) -> Value {
    lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("a status")
}

/// Health of a backend, in all pools that contain it.
fn health(lab: &Small, name: &str) -> Vec<String> {
    let backends = status::backends(&seen(lab)).expect("backends");
    backends.into_iter().filter(|backend| backend.name == name).map(|backend| backend.health).collect()
}

/// Whether probes detect a missing decapsulation.
fn finds_a_missing_end(lab: &Small, backend: &str) -> bool {
    lab.decap(backend, &["--detach"]).unwrap();
    let found = wait_until(patience(SOON), || Ok(health(lab, backend).iter().all(|health| health == "down"))).unwrap();
    lab.decapsulate(backend, Mode::Native, &SOURCES).unwrap();
    let back = || Ok(health(lab, backend).iter().all(|health| health == "up"));
    assert!(wait_until(patience(SOON), back).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    found
}

/// Number of events about probes that contain `what`.
fn events(lab: &Small, what: &str) -> usize {
    let events = lab.ctl(&["events"]).unwrap();
    events.lines().filter(|line| line.contains("  probes  ") && line.contains(what)).count()
}

#[test]
fn a_network_of_probes_that_can_not_be_made_is_made_later() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    // The name of the probes' device is taken.
    lab.prepare(Mode::Native, "").unwrap().before("ip link add edge-p$$ type bridge");
    lab.start_daemon().unwrap();
    let status = lab.ctl(&["status"]).unwrap();
    assert!(status.contains("probes      TO ADDRESSES ONLY"), "{status}");
    assert!(seen(&lab)["daemon"]["probes"].as_str().is_some_and(|why| why.contains("File exists")), "{}", seen(&lab));

    lab.decap(BACKENDS[0], &["--detach"]).unwrap();
    std::thread::sleep(patience(WHILE));
    assert_eq!(health(&lab, BACKENDS[0]), ["up", "up"], "it answers at its addresses");
    assert_eq!(events(&lab, "local_fault"), 1, "{}", lab.ctl(&["events"]).unwrap());

    let device = format!("link del edge-p{}\n", seen(&lab)["daemon"]["pid"]);
    lab.netns(EDGE).ip(&device).unwrap();
    let found = wait_until(patience(TRIED_AGAIN), || Ok(health(&lab, BACKENDS[0]) == ["down", "down"]));
    let status = lab.ctl(&["status"]).unwrap();
    assert!(found.unwrap(), "{status}");
    assert!(status.contains("through the tunnel") && !status.contains("TO ADDRESSES ONLY"), "{status}");
    assert!(seen(&lab)["daemon"]["probes"].is_null());
    assert_eq!(events(&lab, "they go through services from now on"), 1);
    assert_eq!(health(&lab, BACKENDS[1]), ["up", "up"]);
}

#[test]
fn backends_whose_answers_can_not_be_taken_are_probed_at_their_addresses_until_they_can() {
    let test = "backends_whose_answers_can_not_be_taken_are_probed_at_their_addresses_until_they_can";
    if missing(test, &[Feature::TcxLinks]).is_some() {
        return;
    }
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    let crowd = TcCrowd::on(lab.netns(EDGE), "eth1").unwrap();
    lab.balance(Mode::Native).expect("all backends are up");
    let status = lab.ctl(&["status"]).unwrap();
    assert!(status.contains("no answers by eth1"), "{status}");
    assert!(finds_a_missing_end(&lab, BACKENDS[1]), "the other one is probed through its services");
    lab.decap(BACKENDS[0], &["--detach"]).unwrap();
    std::thread::sleep(patience(WHILE));
    assert_eq!(health(&lab, BACKENDS[0]), ["up", "up"], "it answers at its addresses");

    drop(crowd);
    let found = wait_until(patience(TRIED_AGAIN), || Ok(health(&lab, BACKENDS[0]) == ["down", "down"]));
    let status = lab.ctl(&["status"]).unwrap();
    assert!(found.unwrap() && !status.contains("no answers by"), "{status}");
    assert_eq!(events(&lab, "answers by eth1 are taken again"), 1, "{}", lab.ctl(&["events"]).unwrap());
}

/// Such a backend is in doubt, and serves; what this host can send to is judged as before.
#[test]
fn a_filter_of_this_host_that_stops_probes_of_one_backend_is_no_evidence_against_it() {
    let test = "a_filter_of_this_host_that_stops_probes_of_one_backend_is_no_evidence_against_it";
    if missing(test, &[Feature::TcxLinks]).is_some() {
        return;
    }
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    // So the first backend is probed by this host's own stack, as clients' packets never are.
    let _crowd = TcCrowd::on(lab.netns(EDGE), "eth1").unwrap();
    let [vip, _] = UNSERVED;
    let interval = patience(Duration::from_millis(200)).as_millis();
    let pool = format!(
        "\n[[pool]]\nname = \"filtered\"\ndamping = \"0s\"\nslow_start = \"0s\"\n\
         backend = [{{ name = \"be1\", address = \"10.1.1.11\" }}, {{ name = \"be2\", address = \"10.1.2.11\" }}]\n\
         probe = {{ type = \"icmp\", through = \"address\", interval = \"{interval}ms\", timeout = \"{interval}ms\", \
         rise = 1, fall = 3 }}\n\n[[service]]\nname = \"filtered\"\nvips = [\"{vip}\"]\nports = [\"{ECHO}/udp\", \"{ECHO}/tcp\"]\n\
         mode = \"ipip\"\npools = [\"filtered\"]\n"
    );
    lab.prepare(Mode::Native, &pool).unwrap();
    lab.start_daemon().expect("all backends are up");
    let first = || {
        let status = seen(&lab);
        let pools = status["pools"].as_array().unwrap().iter();
        let pool = pools.into_iter().find(|pool| pool["name"] == "filtered").expect("the pool").clone();
        let backend = |at: usize| pool["backends"][at].clone();
        assert_eq!(backend(1)["health"], "up", "{pool:#}");
        (
            backend(0)["health"].as_str().unwrap().to_owned(),
            backend(0)["reason"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(lab.request(vip, 12).unwrap(), lab.backends());

    let nft = |line: &str| tool::run(lab.netns(EDGE).command("nft").unwrap().arg(line)).unwrap();
    nft("add table ip filter");
    nft("add chain ip filter output { type filter hook output priority 0; }");
    nft("add rule ip filter output ip daddr 10.1.1.11 drop");
    let changed = wait_until(patience(SOON), || Ok(first().0 != "up")).unwrap();
    let (health, reason) = first();
    assert!(changed && health == "unknown" && reason.contains("this host's packet filter"), "{health}: {reason}");
    std::thread::sleep(patience(WHILE));
    assert_eq!((first().0.as_str(), lab.request(vip, 12).unwrap()), ("unknown", lab.backends()), "it serves");

    nft("flush ruleset");
    assert!(wait_until(patience(SOON), || Ok(first().0 == "up")).unwrap(), "{:?}", first());
}

#[test]
fn filters_of_this_host_decide_about_all_packets_but_probes() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    lab.balance(Mode::Native).expect("all backends are up");
    let edge = lab.netns(EDGE);
    let tc = |args: &str| {
        tool::run(edge.command("tc").unwrap().args(args.split(' ').map(|word| word.replace('_', " ")))).unwrap()
    };
    let ping = || {
        let mut ping = edge.command("ping").unwrap();
        tool::run(ping.args(["-n", "-c", "1", "-W", "1", "10.1.1.11"])).is_ok()
    };
    assert!(ping(), "nothing is dropped yet");
    if !tool::run(edge.command("tc").unwrap().args(["qdisc", "show", "dev", "eth1"])).unwrap().contains("clsact") {
        tc("qdisc add dev eth1 clsact");
    }
    // It drops IPv4, and is asked after the filter of probes where the kernel has no TCX links.
    tc("filter add dev eth1 ingress pref 65000 protocol ip bpf da bytecode 1,6_0_0_2");
    assert!(!ping(), "the filter drops");
    std::thread::sleep(patience(WHILE));
    assert_eq!(health(&lab, BACKENDS[0]), ["up", "up"], "answers to probes are taken before that");
}

#[test]
fn answers_are_taken_before_another_program_decides() {
    let test = "answers_are_taken_before_another_program_decides";
    if missing(test, &[Feature::TcxLinks]).is_some() {
        return;
    }
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    let _other = TcCrowd::ending(lab.netns(EDGE), "eth1").unwrap();
    lab.balance(Mode::Native).expect("all backends are up");
    assert!(finds_a_missing_end(&lab, BACKENDS[0]));
}

#[test]
fn the_device_of_probes_is_made_anew_when_somebody_takes_it_away() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    lab.balance(Mode::Native).expect("all backends are up");
    let door = format!("edge-p{}", seen(&lab)["daemon"]["pid"]);
    let deaths = || lab.ctl(&["events"]).unwrap().lines().filter(|line| line.contains("backend_down")).count();
    let before = deaths();
    let away = [format!("link del {door}\n"), format!("link set {door} down\nlink set {door} name other0\n")];
    for (times, away) in (1..).zip(away) {
        lab.netns(EDGE).ip(&away).unwrap();
        let made = wait_until(patience(SOON), || {
            Ok(events(&lab, "is made anew") == times && seen(&lab)["daemon"]["probes"].is_null())
        });
        assert!(made.unwrap(), "{away}: {}", lab.ctl(&["events"]).unwrap());
        std::thread::sleep(patience(WHILE));
        assert_eq!(deaths(), before, "no backend is to blame: {}", lab.ctl(&["events"]).unwrap());
    }
    assert!(finds_a_missing_end(&lab, BACKENDS[0]));
}

#[test]
fn a_filter_that_somebody_removes_is_attached_again() {
    if Feature::TcxLinks.is_there() {
        // Programs are attached by links, which nobody else removes.
        return;
    }
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate(BACKENDS[1], Mode::Native, &SOURCES).unwrap();
    let args = ["--from", SOURCES[0], "--from", SOURCES[1], "--vip", "192.0.2.0/24", "--vip", "2001:db8::/64"];
    let (_watcher, log) = lab.watch_decap(BACKENDS[0], &args).unwrap();
    lab.balance(Mode::Native).expect("all backends are up");
    let door = format!("edge-p{}", seen(&lab)["daemon"]["pid"]);
    for (host, device, side) in [(EDGE, "eth1", "ingress"), (EDGE, &door, "ingress"), (BACKENDS[0], "eth0", "egress")] {
        let tc = |args: &str| tool::run(lab.netns(host).command("tc").unwrap().args(args.split(' '))).unwrap();
        let is_attached = || Ok(tc(&format!("filter show dev {device} {side}")).contains("bpf"));
        // The decapsulation's watcher attaches some time after its start.
        assert!(wait_until(patience(SOON), is_attached).unwrap(), "{device} of {host} has none");
        tc(&format!("qdisc del dev {device} clsact"));
        let started = Instant::now();
        let again = wait_until(patience(SOON), is_attached).unwrap();
        println!("{device} of {host}: {:?}", started.elapsed());
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(again && started.elapsed() < patience(Duration::from_millis(1500)), "{device} of {host}: {log}");
    }
    // Probes are sent and answered as before.
    let up = || Ok(BACKENDS.iter().all(|backend| health(&lab, backend).iter().all(|health| health == "up")));
    assert!(wait_until(patience(TRIED_AGAIN), up).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    // An emulated CPU may be too busy to answer at once.
    let is_told =
        || Ok(lab.ctl(&["events"]).is_ok_and(|events| events.matches("their program was detached").count() == 1));
    assert!(wait_until(patience(SOON), is_told).unwrap(), "the door is named, once");
    assert!(finds_a_missing_end(&lab, BACKENDS[1]));
}
