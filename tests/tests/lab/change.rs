//! Changes of the configuration: on trial, undone, refused; with and without a controller. No request is lost.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod other_maps;

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::Output,
    thread::sleep,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Small, UNSERVED},
    tmpfs::Tmpfs,
    topology::{ECHO, EDGE},
    udp_echo, wait_until,
};
use serde_json::Value;

/// A lab whose backends receive frames from the edge.
fn lab() -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab
}

fn text(lab: &Small) -> String {
    std::fs::read_to_string(lab.edge().unwrap().configuration()).unwrap()
}

/// Writes `text` to a file beside the daemon's own; returns its path.
fn file(lab: &Small, text: &str) -> String {
    let path: PathBuf = lab.edge().unwrap().configuration().with_file_name("new.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// The configuration with another weight for one backend.
fn weighted(text: &str, weight: u32) -> String {
    text.replacen("address = \"10.1.1.11\"\n", &format!("address = \"10.1.1.11\"\nweight = {weight}\n"), 1)
}

fn output(lab: &Small, args: &[&str]) -> Output {
    lab.edge().unwrap().output(lab.netns(EDGE), args).unwrap()
}

fn status(lab: &Small) -> Value {
    lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()
}

fn generation(lab: &Small) -> u64 {
    status(lab)["generation"].as_u64().unwrap()
}

fn history(lab: &Small) -> Vec<Value> {
    let history: Value = serde_json::from_str(&lab.ctl(&["history", "--json"]).unwrap()).unwrap();
    history["entries"].as_array().unwrap().clone()
}

fn in_force(lab: &Small) -> String {
    lab.ctl(&["history", "--text", &generation(lab).to_string()]).unwrap()
}

fn wait_for(lab: &Small, what: &str, limit: Duration, reached: impl Fn() -> bool) {
    let reached = wait_until(patience(limit), || Ok(reached())).unwrap();
    assert!(reached, "{what}: {}\n{}", status(lab)["history"], lab.edge().unwrap().log_text());
}

#[test]
fn a_change_on_trial_is_undone_in_time_or_confirmed_whatever_becomes_of_the_controller() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let old = text(&lab);
    let requests = lab.start_requests().expect("a client");

    // Without a confirmation.
    let started = Instant::now();
    let printed = lab.ctl(&["apply", &file(&lab, &weighted(&old, 50)), "--confirm", "3s"]).unwrap();
    assert!(printed.contains("generation 2 is in force") && printed.contains("edge-ctl confirm"), "{printed}");
    assert!(lab.ctl(&["status"]).unwrap().contains("ON TRIAL: goes back to generation 1"));
    wait_for(&lab, "it is undone", Duration::from_secs(10), || generation(&lab) == 3);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(3) && took < patience(Duration::from_secs(6)), "{took:?}");
    assert_eq!(in_force(&lab), old);
    assert!(history(&lab)[1]["verdict"]["undone"].as_str().unwrap().contains("it was not confirmed"));

    // The same text once more stays on trial, and for longer if it says so.
    let same = file(&lab, &weighted(&old, 55));
    lab.ctl(&["apply", &same, "--confirm", "10m"]).unwrap();
    let warned = output(&lab, &["apply", &same]);
    let stderr = String::from_utf8_lossy(&warned.stderr).into_owned();
    assert!(warned.status.success() && stderr.contains("it is on trial for "), "{stderr}");
    assert!(lab.ctl(&["apply", &same, "--confirm", "1h"]).unwrap().contains("it is undone in 1h"));
    assert!(status(&lab)["history"]["trial"]["seconds_left"].as_u64().unwrap() > 3000);
    lab.ctl(&["rollback"]).unwrap();
    assert_eq!((generation(&lab), in_force(&lab)), (5, old.clone()));

    // With a confirmation.
    lab.ctl(&["apply", &file(&lab, &weighted(&old, 60)), "--confirm", "2s", "--reason", "try"]).unwrap();
    lab.ctl(&["confirm"]).unwrap();
    sleep(Duration::from_secs(4));
    assert_eq!((generation(&lab), in_force(&lab)), (6, weighted(&old, 60)));
    assert_eq!(output(&lab, &["confirm"]).status.code(), Some(2), "nothing waits any more");

    // The controller is dead when the time is over: the next controller undoes the change.
    lab.ctl(&["apply", &file(&lab, &weighted(&old, 70)), "--confirm", "2s"]).unwrap();
    lab.kill_daemon().unwrap();
    sleep(Duration::from_secs(3));
    assert_eq!(in_force(&lab), weighted(&old, 70), "nobody is there to undo it");
    assert_eq!(status(&lab)["history"]["trial"]["seconds_left"], 0);
    lab.start_daemon().expect("it starts again");
    wait_for(&lab, "it is undone", Duration::from_secs(5), || in_force(&lab) == weighted(&old, 60));
    // The change that was undone is not applied again, nor is the file from before.
    assert!(status(&lab)["daemon"]["refused"].as_str().unwrap().contains("the file was not applied"));
    lab.kill_daemon().unwrap();
    lab.start_daemon().expect("it starts again");
    assert_eq!(in_force(&lab), weighted(&old, 60));
    lab.ctl(&["reload"]).unwrap();
    assert_eq!(in_force(&lab), old);

    let counts = requests.stop().unwrap();
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}");
}

#[test]
fn a_rollback_needs_no_controller_and_loses_nothing() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let old = text(&lab);
    let requests = lab.start_requests().expect("a client");
    lab.ctl(&["apply", &file(&lab, &weighted(&old, 50))]).unwrap();
    lab.kill_daemon().unwrap();
    let started = Instant::now();
    lab.ctl(&["rollback", "--reason", "it was slow"]).unwrap();
    let took = started.elapsed();
    assert!(took < patience(Duration::from_secs(1)), "{took:?}");
    assert_eq!((generation(&lab), in_force(&lab)), (3, old.clone()));
    let last = &history(&lab)[2];
    assert_eq!(
        (&last["how"], &last["text_of"], &last["reason"]),
        (&"rollback".into(), &1.into(), &"it was slow".into())
    );
    lab.start_daemon().expect("it adopts what the command line has done");
    assert_eq!(generation(&lab), 3);

    // With a daemon; to a given number; and to a number that does not exist.
    let started = Instant::now();
    lab.ctl(&["rollback", "2"]).unwrap();
    assert!(started.elapsed() < patience(Duration::from_secs(1)), "{:?}", started.elapsed());
    assert_eq!(in_force(&lab), weighted(&old, 50));
    assert_eq!(output(&lab, &["rollback", "77"]).status.code(), Some(2));
    assert!(lab.ctl(&["diff", "1", "2"]).unwrap().contains("weight: 100 -> 50"));
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 300 && counts.lost == 0, "{counts:?}");
}

#[test]
fn no_file_that_was_cut_off_is_taken() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let path = lab.edge().unwrap().configuration();
    let old = text(&lab);
    let requests = lab.start_requests().expect("a client");
    let lines: Vec<_> = old.split_inclusive('\n').collect();
    let (mut refused, mut guarded) = (0, 0);
    for end in 0..lines.len() {
        std::fs::write(&path, lines[..end].concat()).unwrap();
        let output = output(&lab, &["reload"]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "cut after line {end}: {stderr}");
        refused += 1;
        guarded += i32::from(stderr.contains("--allow-removal"));
    }
    assert!(refused > 100 && guarded > 10, "{refused} {guarded}");
    assert_eq!(generation(&lab), 1);
    // A signal cannot permit a removal, so the change is refused.
    let less = old.rsplit_once("\n[[service]]").unwrap().0;
    std::fs::write(&path, less).unwrap();
    lab.edge().unwrap().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    let refused = || status(&lab)["daemon"]["refused"].as_str().is_some_and(|why| why.contains("may be cut off"));
    wait_for(&lab, "it is refused", Duration::from_secs(5), refused);
    assert_eq!(generation(&lab), 1);
    // With the option it is applied.
    assert_eq!(output(&lab, &["apply", path.to_str().unwrap()]).status.code(), Some(2));
    lab.ctl(&["reload", "--allow-removal", "1"]).unwrap();
    assert_eq!((generation(&lab), in_force(&lab).as_str()), (2, less));
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}");
}

#[test]
fn a_change_on_trial_that_takes_availability_away_is_undone_at_once() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let old = text(&lab);
    let requests = lab.start_requests().expect("a client");
    // Nothing answers these probes.
    let wrong = old.replace(&format!("port = {ECHO}\nthrough"), "port = 9999\nthrough");
    assert_ne!(wrong, old);
    let started = Instant::now();
    lab.ctl(&["apply", &file(&lab, &wrong), "--confirm", "5m"]).unwrap();
    wait_for(&lab, "it is undone", Duration::from_secs(20), || generation(&lab) == 3);
    assert!(started.elapsed() < patience(Duration::from_secs(15)), "{:?}", started.elapsed());
    let why = history(&lab)[1]["verdict"]["undone"].as_str().unwrap().to_owned();
    assert!(why.contains("it has reduced availability: service"), "{why}");
    assert_eq!(in_force(&lab), old);

    // A backend that dies by itself does not undo the trial.
    lab.ctl(&["apply", &file(&lab, &weighted(&old, 50)), "--confirm", "5m"]).unwrap();
    lab.netns("be1").ip("link set dev eth0 down").unwrap();
    sleep(patience(Duration::from_secs(4)));
    assert_eq!(generation(&lab), 4, "{}", lab.edge().unwrap().log_text());
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 300, "{counts:?}");
}

#[test]
fn a_change_on_trial_whose_interface_is_missing_is_undone() {
    let mut lab = lab();
    lab.balance(Mode::Native).expect("the load balancer starts");
    let old = text(&lab);
    let requests = lab.start_requests().expect("a client");
    let more = old.replacen("[[interface]]\n", "[[interface]]\nname = \"eth9\"\n\n[[interface]]\n", 1);
    assert_ne!(more, old);
    lab.ctl(&["apply", &file(&lab, &more), "--confirm", "5m", "--allow-unfit"]).unwrap();
    wait_for(&lab, "it is undone", Duration::from_secs(20), || generation(&lab) == 3);
    let why = history(&lab)[1]["verdict"]["undone"].as_str().unwrap().to_owned();
    assert!(why.contains("the program is not attached to eth9"), "{why}");
    assert_eq!(in_force(&lab), old);
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
}

#[test]
fn a_plan_lists_moves_before_they_happen() {
    let mut lab = lab();
    lab.prepare(Mode::Native, "").expect("a configuration");
    let old = text(&lab);
    let new = file(&lab, &weighted(&old, 300));
    let cold: Value = serde_json::from_str(&lab.ctl(&["plan", &new, "--json"]).unwrap()).unwrap();
    assert!(cold["generation"].is_null() && cold["services"][0]["change"] == "added", "{cold}");
    lab.start_daemon().expect("the load balancer starts");
    for alive in [true, false] {
        if !alive {
            lab.kill_daemon().unwrap();
        }
        let plan: Value = serde_json::from_str(&lab.ctl(&["plan", &new, "--json"]).unwrap()).unwrap();
        assert_eq!((&plan["generation"], &plan["needs"]), (&1.into(), &Value::Null));
        let flows = plan["flows"].as_array().unwrap();
        let of =
            |name: &str| flows.iter().find(|flows| flows["service"] == name).unwrap()["new_flows"].as_f64().unwrap();
        // From half to three quarters of the slots.
        assert!((of("echo-dsr4") - 0.25).abs() < 0.02 && of("echo-dsr6").abs() < 1e-9, "{plan}");
        let shown = lab.ctl(&["plan", &file(&lab, &old.replace("slots = 1024", "slots = 2048"))]).unwrap();
        assert!(shown.contains("add --allow-moves") && shown.contains("RUNNING FLOWS THAT MOVE"), "{shown}");
        lab.ctl(&["plan", &file(&lab, &weighted(&old, 300))]).unwrap();
    }
}

/// Two pools of one backend each, a service with both pools, and a soak of a second.
fn two_pools() -> String {
    let mut text = String::new();
    for number in 1..=2 {
        write!(
            text,
            "\n[[pool]]\nname = \"e{number}\"\nbackend = [{{ name = \"be{number}\", address = \"10.1.{number}.11\" }}]\n\
             probe = {{ type = \"tcp\", port = {ECHO}, interval = \"100ms\", timeout = \"100ms\", rise = 1, fall = 5 }}\n"
        )
        .expect("memory");
    }
    let vip = UNSERVED[0];
    text + &format!(
        "\n[[service]]\nname = \"two\"\nvips = [\"{vip}\"]\nports = [\"{ECHO}/udp\"]\nmode = \"dsr\"\n\
         pools = [\"e1\", \"e2\"]\n\n[edge]\nsoak = \"1s\"\n"
    )
}

fn kept(lab: &Small) -> String {
    std::fs::read_to_string(lab.edge().unwrap().state_dir().join("state.json")).unwrap_or_default()
}

fn backend(lab: &Small, name: &str) -> Value {
    let status = status(lab);
    let pools = status["pools"].as_array().unwrap().clone();
    let mut backends = pools.into_iter().flat_map(|pool| pool["backends"].as_array().unwrap().clone());
    backends.find(|backend| backend["name"] == name).unwrap()
}

#[test]
fn operators_decisions_survive_a_reboot_and_a_bad_file_starts_the_last_good_text() {
    let mut lab = lab();
    lab.prepare(Mode::Native, &two_pools()).expect("a configuration");
    // Where nothing good is known, a bad file starts nothing, and leaves nothing behind.
    let refused = output(&lab, &["run", "--config", &file(&lab, "[[interface]]")]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(!lab.edge().unwrap().pins().exists());
    lab.start_daemon().expect("the load balancer starts");
    let old = text(&lab);
    lab.ctl(&["drain", "p4/be1", "--reason", "disk swap"]).unwrap();
    lab.ctl(&["drain", "p6/be2"]).unwrap();
    lab.ctl(&["failover", "two", "--to", "e2", "--evacuate"]).unwrap();
    lab.ctl(&["apply", &file(&lab, &weighted(&old, 50))]).unwrap();
    wait_for(&lab, "it is good", Duration::from_secs(10), || status(&lab)["history"]["good"] == true);
    let text = weighted(&old, 60);
    lab.ctl(&["apply", &file(&lab, &text), "--confirm", "5m"]).unwrap();
    let soon = Duration::from_secs(5);
    wait_for(&lab, "it is written", soon, || kept(&lab).contains("\"trial\": {") && kept(&lab).contains("disk swap"));

    // Like a power cut, with an empty bpffs afterwards.
    lab.kill_daemon().unwrap();
    lab.ctl(&["detach"]).unwrap();
    let path = lab.edge().unwrap().configuration();
    std::fs::write(&path, &old[..old.len() / 2]).unwrap();
    lab.start_daemon().expect("it starts with what was good");
    let shown = status(&lab);
    assert_eq!(in_force(&lab), weighted(&old, 50), "what was on trial is not what was good");
    assert!(shown["daemon"]["refused"].as_str().unwrap().contains("from before the reboot is in force"), "{shown}");
    assert_eq!(shown["generation"], 4, "numbers go on");
    assert_eq!(
        (&backend(&lab, "p4/be1")["state"], &backend(&lab, "p6/be2")["state"]),
        (&"draining".into(), &"draining".into())
    );
    assert!(backend(&lab, "p4/be1")["reason"].as_str().unwrap().contains("disk swap"));
    let services = shown["services"].as_array().unwrap().clone();
    let two = services.iter().find(|service| service["name"] == "two").unwrap();
    assert_eq!(two["failover"], serde_json::json!({"to": "e2", "evacuate": true}));
    assert!(history(&lab)[2]["verdict"]["undone"].as_str().unwrap().contains("before the change was confirmed"));
    let answer = lab
        .netns(CLIENT)
        .within(|| udp_echo::request(SocketAddr::new(UNSERVED[0], ECHO), b"who?", patience(Duration::from_secs(1))));
    assert_eq!(answer.unwrap().unwrap(), "be2");

    // Without its state directory, the daemon adopts the pinned maps and does not write them.
    lab.kill_daemon().unwrap();
    std::fs::remove_dir_all(lab.edge().unwrap().state_dir()).unwrap();
    lab.start_daemon().expect("it adopts the maps");
    assert_eq!((generation(&lab), in_force(&lab)), (4, weighted(&old, 50)));
    assert_eq!(backend(&lab, "p4/be1")["state"], "draining");
    wait_for(&lab, "it is written again", soon, || kept(&lab).contains("disk swap"));

    // `edge-ctl drain ... && reboot`: the last operation is saved in time.
    lab.ctl(&["enable", "p6/be2"]).unwrap();
    lab.ctl(&["drain", "p6/be1", "--reason", "the last word"]).unwrap();
    lab.stop_daemon().unwrap();
    assert!(kept(&lab).contains("the last word") && !kept(&lab).contains("p6/be2"), "{}", kept(&lab));
}

#[test]
fn a_disk_that_is_full_or_read_only_costs_an_alarm_and_nothing_else() {
    let mut lab = lab();
    lab.prepare(Mode::Native, "").expect("a configuration");
    // A single page: the text of the configuration alone is longer.
    let disk = Tmpfs::mount(&lab.edge().unwrap().state_dir(), "size=4k").unwrap();
    lab.start_daemon().expect("the load balancer starts");
    let requests = lab.start_requests().expect("a client");
    let state_error = |lab: &Small| status(lab)["daemon"]["state_error"].as_str().map(str::to_owned);
    let soon = Duration::from_secs(20);
    wait_for(&lab, "the alarm", soon, || state_error(&lab).is_some_and(|why| why.contains("No space left")));
    assert!(lab.ctl(&["status"]).unwrap().contains("NOT STORED ON DISK"));
    let event = || {
        lab.edge().unwrap().log_text().contains("operators' decisions are not on disk, and a reboot would lose them")
    };
    wait_for(&lab, "the event", soon, event);
    let old = text(&lab);
    lab.ctl(&["apply", &file(&lab, &weighted(&old, 50))]).unwrap();
    lab.ctl(&["rollback"]).unwrap();
    lab.ctl(&["drain", "p6/be1"]).unwrap();
    disk.remount("size=4m").unwrap();
    wait_for(&lab, "it is written", soon, || state_error(&lab).is_none() && kept(&lab).contains("p6/be1"));
    disk.remount("ro").unwrap();
    lab.ctl(&["enable", "p6/be1"]).unwrap();
    wait_for(&lab, "the alarm", soon, || state_error(&lab).is_some_and(|why| why.contains("Read-only")));
    lab.ctl(&["apply", &file(&lab, &weighted(&old, 60))]).unwrap();
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}");
    lab.kill_daemon().unwrap();
}
