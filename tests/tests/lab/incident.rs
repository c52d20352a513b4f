//! The story of an outage, reported while it goes on, after it, without the daemon and after a restart.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{process::Output, time::Duration};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, Mode, Served, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);

fn output(lab: &Small, args: &[&str]) -> Output {
    lab.edge().unwrap().output(lab.netns(EDGE), args).unwrap()
}

fn incidents(lab: &Small) -> Vec<Value> {
    let incidents: Value = serde_json::from_str(&lab.ctl(&["incident", "--json"]).unwrap()).unwrap();
    incidents.as_array().unwrap().clone()
}

fn wait_for(lab: &Small, what: &str, reached: impl Fn() -> bool) {
    let reached = wait_until(patience(SOON), || Ok(reached())).unwrap();
    assert!(reached, "{what}: {}\n{}", lab.ctl(&["incident", "--last"]).unwrap(), lab.edge().unwrap().log_text());
}

#[test]
fn an_outage_is_reported_in_every_state_of_the_daemon() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.balance(Mode::Native).expect("the load balancer starts");
    assert!(lab.ctl(&["incident"]).unwrap().contains("no incident in the recorded events"));
    assert_eq!(output(&lab, &["incident", "20260101-000000"]).status.code(), Some(4));

    // One of two is down, an operator does something, and it comes back.
    lab.netns(BACKENDS[0]).ip("link set eth0 down\n").unwrap();
    wait_for(&lab, "it is reported while it goes on", || {
        let found = incidents(&lab);
        let open = found.last().map(|incident| incident["open"].as_array().unwrap().len());
        found.len() == 1 && open == Some(2)
    });
    let story = lab.ctl(&["incident", "--last"]).unwrap();
    assert!(story.contains("GOES ON") && story.contains("wrong still  backend p4/be1, backend p6/be1"), "{story}");
    lab.ctl(&["drain", "p4/be1", "--reason", "looking at it"]).unwrap();
    lab.request(Served::named("dsr4").vip, 10).unwrap();
    std::thread::sleep(patience(Duration::from_secs(2)));
    lab.netns(BACKENDS[0]).ip("link set eth0 up\naddr add fd01:1::11/64 dev eth0 nodad\nroute add default via 10.1.1.1\nroute add default via fd01:1::1\n").unwrap();
    wait_for(&lab, "it is over", || incidents(&lab)[0]["until"].is_u64());
    // The last events of the return follow its end.
    let complete = |_| {
        let story = lab.ctl(&["incident", "--last"]).unwrap();
        std::thread::sleep(patience(Duration::from_millis(1500)));
        (lab.ctl(&["incident", "--last"]).unwrap() == story).then_some(story)
    };
    let story = (0..20).find_map(complete).expect("a story that ends");
    for part in ["first sign", "over after", "fault", "action", "looking at it", "recovery", "started meanwhile"] {
        assert!(story.contains(part), "{part}: {story}");
    }
    assert!(story.lines().all(|line| line.chars().count() <= 80), "{story}");
    let incident = incidents(&lab)[0].clone();
    let id = incident["id"].as_str().unwrap().to_owned();
    assert!(incident["new_flows"].as_u64().unwrap() > 0, "{incident}");
    assert!(lab.ctl(&["incident"]).unwrap().starts_with(&id));
    assert_eq!(lab.ctl(&["incident", &id]).unwrap(), story);

    // Without the daemon, with the next one, and after a reboot.
    lab.stop_daemon().unwrap();
    let alone = output(&lab, &["incident", &id]);
    assert!(String::from_utf8_lossy(&alone.stderr).contains("these are the events that it has kept"), "{alone:?}");
    assert_eq!(String::from_utf8_lossy(&alone.stdout), story);
    lab.ctl(&["detach"]).unwrap();
    lab.launch_daemon().unwrap();
    wait_for(&lab, "the next one has it", || incidents(&lab).first().is_some_and(|first| first["id"] == *id));
    assert_eq!(lab.ctl(&["incident", &id]).unwrap(), story);
    let events = lab.ctl(&["events"]).unwrap();
    assert!(events.contains("daemon_stopped") && events.contains("looking at it"), "{events}");
}
