//! Weights and health that an operator has set: kept over restarts, reloads and reboots, with and without a daemon, and no request is
//! lost by them.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{net::SocketAddr, process::Output, time::Duration};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
    tcp_echo,
    topology::{ECHO, EDGE},
    wait_until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

fn lab() -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab
}

fn output(lab: &Small, args: &[&str]) -> Output {
    lab.edge().unwrap().output(lab.netns(EDGE), args).unwrap()
}

fn backend(lab: &Small, name: &str) -> Value {
    let status = lab.edge().unwrap().status(lab.netns(EDGE)).unwrap();
    let pools = status["pools"].as_array().unwrap().clone();
    let mut backends = pools.into_iter().flat_map(|pool| pool["backends"].as_array().unwrap().clone());
    backends.find(|backend| backend["name"] == name).unwrap()
}

fn wait_for(lab: &Small, what: &str, reached: impl Fn() -> bool) {
    let reached = wait_until(patience(SOON), || Ok(reached())).unwrap();
    assert!(reached, "{what}: {}\n{}", lab.ctl(&["status"]).unwrap(), lab.edge().unwrap().log_text());
}

/// As a power cut, and a bpffs that is empty afterwards.
fn reboot(lab: &mut Small) {
    lab.stop_daemon().unwrap();
    lab.ctl(&["detach"]).unwrap();
    lab.launch_daemon().unwrap();
}

/// How many of 60 new connections each backend gets.
fn shares(lab: &Small) -> [usize; 2] {
    let service = SocketAddr::new(Served::named("dsr4").vip, ECHO);
    let exchange = || (0..60).map(|_| tcp_echo::exchange(service, b"who?").unwrap().backend).collect::<Vec<_>>();
    let answered = lab.netns(CLIENT).within(exchange).unwrap();
    BACKENDS.map(|backend| answered.iter().filter(|name| *name == backend).count())
}

#[test]
fn a_weight_stays_whatever_comes_and_moves_new_flows_alone() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let requests = lab.start_requests().expect("a client");
    let word = |lab: &Small| {
        let backend = backend(lab, "p4/be1");
        (backend["weight"].as_u64(), backend["file_weight"].as_u64(), backend["weight_reason"].clone())
    };
    assert_eq!(word(&lab), (Some(100), None, Value::Null));
    let dry = lab.ctl(&["weight", "p4/be1", "1", "--dry-run"]).unwrap();
    assert!(dry.starts_with("dry run, nothing is changed: p4/be1: weight 1, before 100"), "{dry}");
    assert!(dry.contains("% of the new flows go to another backend") && word(&lab).1.is_none(), "{dry}");

    let generation = |lab: &Small| lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()["generation"].as_u64();
    let printed = lab.ctl(&["weight", "p4/be1", "1", "--reason", "slow disk"]).unwrap();
    assert!(printed.ends_with("undo: edge-ctl weight p4/be1 auto\n"), "{printed}");
    let now = (Some(1), Some(100), Value::from("slow disk"));
    assert_eq!((word(&lab), generation(&lab)), (now.clone(), Some(2)));
    let [first, second] = shares(&lab);
    assert!(first <= 6 && second >= 54, "a hundredth, and not {first} of 60");
    assert!(lab.ctl(&["status"]).unwrap().contains("1*"));
    let again = lab.ctl(&["weight", "p4/be1", "1", "--reason", "slow disk"]).unwrap();
    assert!(again.contains("already") && generation(&lab) == Some(2), "{again}");

    // What is refused changes nothing.
    assert_eq!(output(&lab, &["weight", "p4/be1", "0"]).status.code(), Some(2));
    assert_eq!(output(&lab, &["weight", "p4/be1", "p4/nobody", "5"]).status.code(), Some(4));
    assert_eq!((word(&lab), generation(&lab)), (now.clone(), Some(2)));

    // A daemon that starts anew, a file with another weight, a generation that goes back.
    lab.kill_daemon().unwrap();
    lab.start_daemon().unwrap();
    assert_eq!(word(&lab), now);
    let path = lab.edge().unwrap().configuration();
    let old = std::fs::read_to_string(&path).unwrap();
    let other = old.replacen("address = \"10.1.1.11\"\n", "address = \"10.1.1.11\"\nweight = 70\n", 1);
    std::fs::write(&path, &other).unwrap();
    let reloaded = output(&lab, &["reload"]);
    let warned = String::from_utf8_lossy(&reloaded.stderr).into_owned();
    assert!(warned.contains("keeps the weight 1 that an operator has set, not the file's 70"), "{warned}");
    assert_eq!(word(&lab), (Some(1), Some(70), "slow disk".into()));
    lab.ctl(&["rollback"]).unwrap();
    assert_eq!(word(&lab), now);
    lab.ctl(&["reload"]).unwrap();

    // Several, without a daemon, and over a reboot.
    lab.kill_daemon().unwrap();
    let offline = output(&lab, &["weight", "p4/*", "p6/be2", "40"]);
    assert!(String::from_utf8_lossy(&offline.stderr).contains("working on the pinned maps directly"), "{offline:?}");
    let stdout = String::from_utf8_lossy(&offline.stdout).into_owned();
    assert!(stdout.contains("undo: edge-ctl weight p4/be1 1\n"), "{stdout}");
    assert_eq!(word(&lab), (Some(40), Some(70), Value::Null));
    lab.start_daemon().unwrap();
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
    let kept = lab.edge().unwrap().state_dir().join("state.json");
    wait_for(&lab, "it is written", || std::fs::read_to_string(&kept).unwrap().contains("\"weight\": 40"));
    reboot(&mut lab);
    wait_for(&lab, "it is up again", || backend(&lab, "p6/be2")["health"] == "up");
    assert_eq!((word(&lab).0, backend(&lab, "p6/be2")["weight"].as_u64()), (Some(40), Some(40)));
    lab.ctl(&["weight", "p4/*", "p6/be2", "auto"]).unwrap();
    assert_eq!(word(&lab), (Some(70), None, Value::Null));
    assert!(lab.ctl(&["events"]).unwrap().contains("weight_changed"));
}

#[test]
fn a_health_by_word_is_certain_and_ends_by_another_word_alone() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let requests = lab.start_requests().expect("a client");
    let seen = |lab: &Small, name: &str| {
        let backend = backend(lab, name);
        (backend["state"].as_str().unwrap().to_owned(), backend["forced"].as_str().map(str::to_owned))
    };
    let as_seen = |state: &str, forced: Option<&str>| (state.to_owned(), forced.map(str::to_owned));
    let dry = lab.ctl(&["health", "p4/be1", "down", "--dry-run"]).unwrap();
    assert!(dry.contains("nothing is changed") && seen(&lab, "p4/be1") == as_seen("up", None), "{dry}");

    let printed = lab.ctl(&["health", "p4/be1", "down", "--reason", "smoke"]).unwrap();
    assert!(printed.ends_with("undo: edge-ctl health p4/be1 auto\n"), "{printed}");
    assert_eq!(shares(&lab), [0, 60]);
    // Its probes pass all the while, and a daemon that starts anew hears the word.
    lab.kill_daemon().unwrap();
    lab.launch_daemon().unwrap();
    wait_for(&lab, "the others are up", || seen(&lab, "p4/be2").0 == "up" && seen(&lab, "p6/be1").0 == "up");
    std::thread::sleep(patience(Duration::from_secs(2)));
    assert_eq!(seen(&lab, "p4/be1"), as_seen("down", Some("down")));
    assert!(backend(&lab, "p4/be1")["reason"].as_str().unwrap().contains("smoke"));
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.contains("down, forced"), "{shown}");

    // Over a reload and a reboot.
    let path = lab.edge().unwrap().configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# Read again.\n{text}")).unwrap();
    lab.ctl(&["reload"]).unwrap();
    assert_eq!(seen(&lab, "p4/be1"), as_seen("down", Some("down")));
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100, "{counts:?}");
    reboot(&mut lab);
    wait_for(&lab, "the others are up", || seen(&lab, "p4/be2").0 == "up");
    assert_eq!((seen(&lab, "p4/be1"), shares(&lab)), (as_seen("down", Some("down")), [0, 60]));

    // Without a daemon, its health is unknown until one probes.
    lab.kill_daemon().unwrap();
    let offline = output(&lab, &["health", "be1", "auto"]);
    assert_eq!(offline.status.code(), Some(2), "two pools have one");
    lab.ctl(&["health", "p4/*", "auto"]).unwrap();
    assert_eq!(seen(&lab, "p4/be1"), as_seen("unknown", None));
    lab.start_daemon().unwrap();

    // Up by word while its server is dead: it is served there; back to its probes at once.
    lab.netns(BACKENDS[1]).ip("addr del 10.1.2.11/24 dev eth0\naddr add 10.1.2.11/32 dev eth0\n").unwrap();
    lab.netns(BACKENDS[1]).ip("addr del 10.1.2.11/32 dev eth0\naddr add 10.1.2.12/24 dev eth0\n").unwrap();
    wait_for(&lab, "it is down", || seen(&lab, "p4/be2").0 == "down");
    lab.ctl(&["health", "p4/be2", "up"]).unwrap();
    let shown = backend(&lab, "p4/be2");
    if shown["state"] == "up" {
        assert_eq!(shown["forced"], "up");
    } else {
        // Nobody answers for its address, which no word overrules.
        assert!(shown["reason"].as_str().unwrap().contains("sent"), "{shown}");
    }
    lab.ctl(&["health", "p4/be2", "auto"]).unwrap();
    assert_eq!(seen(&lab, "p4/be2"), as_seen("down", None));
    let events = lab.ctl(&["events"]).unwrap();
    assert!(events.contains("health_forced") && events.contains("health_auto"), "{events}");
}
