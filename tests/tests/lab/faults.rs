//! Faults of the controller and of its host, none of which interrupts traffic.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use edge_common::abi::ABI_VERSION;
use edge_tests::lab::{
    patience::patience,
    small::{CLIENT, Mode, Served, Small, UNSERVED},
    status,
    topology::{ECHO, EDGE},
    udp_echo, wait_until,
    xdp_pass::XdpPass,
};
use nix::{
    sys::{signal::Signal, stat::Mode as FileMode},
    unistd::mkfifo,
};
use serde_json::Value;

/// Pools of ten backends that do not exist, with a service each: every probe waits for its timeout.
fn silent(pools: u8) -> String {
    let mut text = String::new();
    for pool in 0..pools {
        let backends = (0..10)
            .map(|number| format!("{{ name = \"s{number}\", address = \"10.1.1.{}\" }}", 100 + 10 * pool + number));
        write!(
            text,
            "\n[[pool]]\nname = \"silent-{pool}\"\nbackend = [{}]\n\
             probe = {{ type = \"tcp\", port = 80, interval = \"1s\", timeout = \"1s\" }}\n\
             \n[[service]]\nname = \"silent-{pool}\"\nvips = [\"192.0.2.200\"]\nports = [\"{}/tcp\"]\n\
             mode = \"dsr\"\npools = [\"silent-{pool}\"]\n",
            backends.collect::<Vec<_>>().join(", "),
            80 + u16::from(pool)
        )
        .expect("memory");
    }
    text
}

/// A lab whose backends receive packets from the edge.
fn lab() -> Small {
    let lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    lab
}

#[test]
fn without_descriptors_the_program_stays_where_it_is() {
    let mut lab = lab();
    lab.prepare(Mode::Native, &silent(6)).expect("a configuration").limit_files(72);
    lab.launch_daemon().expect("72 descriptors are enough to start");
    // At different times: a probe that often has to wait for a descriptor leaves a backend in doubt.
    let seen = wait_until(patience(Duration::from_secs(20)), || {
        let log = log(&lab);
        let is_seen = |backend: &str| log.contains(&format!("kind=\"backend_up\" subject=\"{backend}\""));
        Ok(["p4/be1", "p4/be2", "p6/be1", "p6/be2"].into_iter().all(is_seen))
    });
    assert!(seen.unwrap(), "each has its turn:\n{}", log(&lab));
    let attached = lab.attached(EDGE, "eth0").unwrap();
    assert!(attached.is_some());

    let requests = lab.start_requests().expect("a client");
    for round in 0..60 {
        lab.netns(EDGE).ip(&format!("link set dev eth0 mtu {}", 1400 + 100 * (round % 2))).unwrap();
        sleep(Duration::from_millis(150));
        assert_eq!(lab.attached(EDGE, "eth0").unwrap(), attached, "after {round} changes:\n{}", log(&lab));
    }
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}\n{}", log(&lab));
    // A pool whose backends are all down would serve as well, for want of a better one.
    let is_blamed = |line: &str| line.contains("kind=\"backend_down\"") && !line.contains("subject=\"silent-");
    assert!(!log(&lab).lines().any(is_blamed), "{}", log(&lab));
}

#[test]
fn there_is_one_writer_of_the_pins_whatever_its_run_directory_and_its_network() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let attached = lab.attached(EDGE, "eth0").unwrap();
    let requests = lab.start_requests().expect("a client");
    let second = |lab: &Small, host: &str, run_dir: &Path| {
        let edge = lab.edge().unwrap();
        let mut command = lab.netns(host).command("timeout").unwrap();
        command.env("EDGE_PIN_DIR", edge.pins()).env("EDGE_RUN_DIR", run_dir);
        command.env("EDGE_STATE_DIR", edge.state_dir());
        command.arg("20").arg(edge.binary()).args(["run", "--config"]).arg(edge.configuration());
        let output = command.output().expect("edge-ctl");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let run_dir = lab.edge().unwrap().run_dir();
    let elsewhere = run_dir.with_file_name("elsewhere");
    for host in [EDGE, CLIENT] {
        let (code, text) = second(&lab, host, &elsewhere);
        assert!(code == Some(5) && text.contains("another edge-ctl is running: PID"), "{code:?} {text}");
    }
    std::fs::remove_file(run_dir.join("edge.lock")).expect("it was there");
    assert_eq!(second(&lab, EDGE, &run_dir).0, Some(5), "a deleted lock file lets nobody in");

    lab.kill_daemon().unwrap();
    let (code, text) = second(&lab, CLIENT, &elsewhere);
    assert!(code == Some(1) && text.contains("are for another network namespace"), "{code:?} {text}");
    assert_eq!(lab.attached(EDGE, "eth0").unwrap(), attached);
    lab.start_daemon().expect("its own is let in");
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
}

#[test]
fn what_another_program_takes_away_is_put_back() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let pins = lab.edge().unwrap().pins().join(format!("v{ABI_VERSION}"));
    std::fs::remove_file(pins.join("links/eth0")).expect("it was pinned");
    let back = wait_until(patience(Duration::from_secs(5)), || {
        Ok(pins.join("links/eth0").exists() && lab.attached(EDGE, "eth0")?.is_some())
    });
    assert!(back.unwrap(), "{}", log(&lab));
    lab.request(Served::named("dsr4").vip, 2).expect("an answer");

    // All maps: the attached program goes on, and the next daemon finds it.
    let requests = lab.start_requests().expect("a client");
    lab.ctl(&["drain", "p4/be1"]).unwrap();
    for map in std::fs::read_dir(pins.join("maps")).unwrap() {
        std::fs::remove_file(map.unwrap().path()).unwrap();
    }
    std::fs::remove_dir(pins.join("maps")).unwrap();
    let back = wait_until(patience(Duration::from_secs(5)), || Ok(pins.join("maps/SNAPSHOT").exists()));
    assert!(back.unwrap(), "{}", log(&lab));
    lab.kill_daemon().unwrap();
    lab.start_daemon().expect("the maps are all there");
    assert!(lab.ctl(&["status"]).unwrap().contains("draining"));
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
}

#[test]
fn a_program_that_cannot_be_attached_is_explained_and_tried_again() {
    let mut lab = lab();
    let late = "\n[[interface]]\nname = \"late0\"\nmode = \"native\"\n";
    lab.prepare(Mode::Native, late).expect("a configuration");
    let link = "link add late0 type veth peer name late1\nlink set late0 up\n";
    lab.netns(EDGE).ip(link).unwrap();
    let occupied = XdpPass::attach(lab.netns(EDGE), "late0").expect("a program of somebody else");
    lab.start_daemon().expect("the other interface is free");
    let wait_for = |attached: bool, why: &str| {
        let mut last = Value::Null;
        let reached = wait_until(patience(Duration::from_secs(15)), || {
            let status = lab.edge()?.status(lab.netns(EDGE))?;
            let interfaces = status["interfaces"].as_array().cloned().unwrap_or_default();
            last = interfaces.into_iter().find(|interface| interface["name"] == "late0").unwrap_or_default();
            Ok(last["attached"] == attached && last["why"].as_str().unwrap_or_default().contains(why))
        });
        assert!(reached.unwrap() && last["why"].is_null() == attached, "waited for {why:?}: {last}");
    };
    wait_for(false, "another XDP program");
    drop(occupied);
    wait_for(true, "");
    lab.netns(EDGE).ip("link del late0\n").unwrap();
    wait_for(false, "no interface `late0`");
    lab.netns(EDGE).ip(link).unwrap();
    wait_for(true, "");
}

#[test]
fn a_stopped_daemon_is_worked_around_and_does_not_do_late_what_was_given_up() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    lab.edge().unwrap().signal(Signal::SIGSTOP).unwrap();
    let timed = |args: &[&str]| {
        let start = Instant::now();
        let printed = lab.ctl(args).expect("it is done on the maps");
        assert!(start.elapsed() < patience(Duration::from_secs(3)), "{args:?} took {:?}", start.elapsed());
        printed
    };
    timed(&["drain", "p4/be1", "--reason", "a test"]);
    assert_eq!(lab.request(Served::named("dsr4").vip, 12).unwrap(), BTreeSet::from(["be2".to_owned()]));
    assert!(timed(&["status"]).contains("draining"));
    // A command that was reverted meanwhile must not take effect with the daemon.
    timed(&["disable", "p6/be1"]);
    timed(&["enable", "p6/be1"]);
    timed(&["health", "p6/be2", "down"]);
    timed(&["health", "p6/be2", "auto"]);
    // Evacuations are done on the maps, too, and are known to the daemon later.
    timed(&["evacuate", "p6", "--force", "--drain", "--reason", "a move"]);
    timed(&["evacuate", "p4", "--force"]);
    timed(&["return", "p4"]);
    // What needs a publication fails soon, and says what to do.
    let file = lab.edge().unwrap().configuration();
    let publications =
        [&["rollback"][..], &["apply", file.to_str().unwrap()], &["weight", "p6/be1", "50"], &["detach"]];
    for verb in publications {
        let start = Instant::now();
        let output = lab.edge().unwrap().output(lab.netns(EDGE), verb).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(start.elapsed() < patience(Duration::from_secs(3)), "{verb:?} took {:?}", start.elapsed());
        assert!(output.status.code() == Some(5) && stderr.contains("`kill -CONT "), "{verb:?}: {stderr}");
    }

    lab.edge().unwrap().signal(Signal::SIGCONT).unwrap();
    let known = wait_until(patience(Duration::from_secs(10)), || {
        let status = lab.edge()?.status(lab.netns(EDGE))?;
        let seen = status::backends(&status)?;
        let state = |pool: &str| seen.iter().find(|backend| backend.pool == pool && backend.name == "be1");
        let states = ["p4", "p6"].map(|pool| state(pool).map(|backend| backend.state.clone()).unwrap_or_default());
        Ok(status::is_by_daemon(&status) && states == ["draining", "draining"])
    });
    assert!(known.unwrap(), "{}", log(&lab));
    sleep(Duration::from_secs(1));
    let evacuations = &lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()["history"]["evacuations"];
    assert!(
        evacuations.as_array().is_some_and(|all| all.len() == 1) && evacuations[0]["pool"] == "p6",
        "{evacuations}"
    );
    lab.ctl(&["return", "p6"]).unwrap();
    assert!(!log(&lab).contains("backend_drained"), "the daemon has drained it again: {}", log(&lab));
    assert_eq!(lab.request(Served::named("dsr4").vip, 12).unwrap(), BTreeSet::from(["be2".to_owned()]));
    assert_eq!(lab.request(Served::named("dsr6").vip, 40).unwrap(), lab.backends());
}

/// Debuggers and process freezers stop a daemon. An interrupted load is started again.
#[test]
fn a_daemon_that_is_stopped_while_it_loads_its_program_loads_it_all_the_same_and_answers_a_detach() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let program = |lab: &Small| lab.attached(EDGE, "eth0").unwrap().map(|(_, program)| program);
    let stop_now_and_then = |lab: &Small, times: u32| {
        for _ in 0..times {
            lab.edge().unwrap().signal(Signal::SIGSTOP).unwrap();
            sleep(Duration::from_millis(20));
            lab.edge().unwrap().signal(Signal::SIGCONT).unwrap();
            sleep(Duration::from_millis(60));
        }
    };
    let mut most = Duration::MAX;
    for round in 0..4 {
        let before = program(&lab);
        lab.kill_daemon().unwrap();
        // The daemon answers before its program is loaded.
        lab.launch_daemon().unwrap();
        stop_now_and_then(&lab, if round == 0 { 0 } else { 6 });
        let start = Instant::now();
        let loaded = wait_until(patience(Duration::from_mins(1)), || Ok(program(&lab) != before));
        let took = start.elapsed();
        assert!(loaded.unwrap() && took < most, "{took:?}, which may be {most:?}\n{}", log(&lab));
        if round == 0 {
            most = took * 3 + Duration::from_secs(3);
        }
        assert_eq!(lab.request(Served::named("dsr4").vip, 12).unwrap(), lab.backends());
    }
    lab.kill_daemon().unwrap();
    lab.launch_daemon().unwrap();
    stop_now_and_then(&lab, 6);
    let start = Instant::now();
    lab.ctl(&["detach"]).expect("it answers");
    assert!(start.elapsed() < most, "{:?}, which may be {most:?}", start.elapsed());
    assert_eq!(program(&lab), None);
}

#[test]
fn without_a_daemon_the_status_is_there_at_once() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    lab.kill_daemon().unwrap();
    let best = (0..5).map(|_| {
        let start = Instant::now();
        assert!(lab.ctl(&["status"]).expect("the maps are there").contains("does not answer"));
        start.elapsed()
    });
    let best = best.min().expect("five");
    assert!(best < patience(Duration::from_millis(100)), "{best:?}");
}

/// Waits until the daemon reports this backend of `p4` in this state.
fn wait_for(lab: &Small, backend: &str, state: &str) {
    let reached = wait_until(patience(Duration::from_secs(10)), || {
        let status = lab.edge()?.status(lab.netns(EDGE))?;
        let seen = status::backends(&status)?;
        let found = seen.iter().find(|seen| seen.pool == "p4" && seen.name == backend);
        Ok(status::is_by_daemon(&status) && found.is_some_and(|found| found.state == state))
    });
    assert!(reached.expect("the status is read"), "{backend} is not {state}: {}", log(lab));
}

#[test]
fn reloads_do_not_hide_a_dead_backend() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let path = lab.edge().unwrap().configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    lab.netns("be1").ip("link set dev eth0 down").unwrap();
    // Five probes must fail, 100 ms apart: each reload comes before that.
    let start = Instant::now();
    let mut number = 0;
    while start.elapsed() < patience(Duration::from_secs(3)) {
        number += 1;
        std::fs::write(&path, format!("{text}\n# {number}\n")).unwrap();
        lab.edge().unwrap().signal(Signal::SIGHUP).unwrap();
        sleep(patience(Duration::from_millis(250)));
    }
    let down = log(&lab).lines().any(|line| line.contains("backend_down") && line.contains("p4/be1"));
    assert!(down, "{number} reloads have hidden it: {}", log(&lab));
}

#[test]
fn a_file_that_cannot_be_read_stops_neither_health_nor_the_api() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let path = lab.edge().unwrap().configuration();
    std::fs::remove_file(&path).unwrap();
    mkfifo(&path, FileMode::S_IRWXU).expect("a pipe that nobody writes to");
    lab.edge().unwrap().signal(Signal::SIGHUP).unwrap();
    sleep(patience(Duration::from_millis(200)));
    lab.netns("be1").ip("link set dev eth0 down").unwrap();
    wait_for(&lab, "be1", "down");
    let refused = wait_until(patience(Duration::from_secs(15)), || Ok(log(&lab).contains("was not read within 10 s")));
    assert!(refused.unwrap(), "{}", log(&lab));
    let output = lab.edge().unwrap().output(lab.netns(EDGE), &["reload"]).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Two pools of one backend each, and a service with both pools.
fn two_pools() -> String {
    let [vip, _] = UNSERVED;
    let mut text = String::new();
    for number in 1..=2 {
        write!(
            text,
            "\n[[pool]]\nname = \"e{number}\"\nbackend = [{{ name = \"be{number}\", address = \"10.1.{number}.11\" }}]\n\
             probe = {{ type = \"tcp\", port = {ECHO}, interval = \"100ms\", timeout = \"100ms\", rise = 1, fall = 5 }}\n"
        )
        .expect("memory");
    }
    text + &format!(
        "\n[[service]]\nname = \"two\"\nvips = [\"{vip}\"]\nports = [\"{ECHO}/udp\"]\nmode = \"dsr\"\n\
         pools = [\"e1\", \"e2\"]\n"
    )
}

#[test]
fn an_evacuated_pool_is_the_last_resort() {
    let mut lab = lab();
    lab.prepare(Mode::Native, &two_pools()).expect("a configuration");
    lab.start_daemon().expect("the load balancer starts");
    let two = SocketAddr::new(UNSERVED[0], ECHO);
    let exchange =
        || lab.netns(CLIENT).within(|| udp_echo::request(two, b"who?", patience(Duration::from_millis(200)))).unwrap();
    assert_eq!(exchange().unwrap(), "be1");
    lab.ctl(&["failover", "two", "--to", "e2", "--evacuate"]).unwrap();
    assert_eq!(exchange().unwrap(), "be2");
    lab.netns("be2").ip("link set dev eth0 down").unwrap();
    let answered = wait_until(patience(Duration::from_secs(5)), || Ok(exchange().is_ok_and(|answer| answer == "be1")));
    assert!(answered.unwrap(), "its old pool is healthy: {}", lab.ctl(&["status"]).unwrap());
    lab.netns("be2").ip("link set dev eth0 up\nroute add default via 10.1.2.1\n").unwrap();
    let back = wait_until(patience(Duration::from_secs(10)), || Ok(exchange().is_ok_and(|answer| answer == "be2")));
    assert!(back.unwrap(), "{}", lab.ctl(&["status"]).unwrap());
}

fn log(lab: &Small) -> String {
    lab.edge().expect("there is one").log_text()
}
