//! Answers of backends that arrive by an interface without a program.

use std::{fs, time::Duration};

use edge_tests::lab::{
    link::{self, End},
    patience::patience,
    topology::EDGE,
    wait_until,
};

use super::{BACKENDS, Nat, VIPS, configuration};

/// The configuration, in which a pool takes its flows back as soon as it is up.
fn returning_at_once() -> String {
    let at_once = "damping = \"0s\"\nfailback_after = \"0s\"\nfailback_over = \"0s\"\nslow_start = \"0s\"\n";
    configuration("").replace("[[pool.backend]]", &format!("{at_once}[[pool.backend]]"))
}

#[test]
fn an_interface_by_which_answers_arrive_without_a_program_is_named() {
    let mut nat = Nat::without_balancer();
    let complete = returning_at_once();
    let lacking = complete.replace("[[interface]]\nname = \"eth1\"\n", "");
    assert_ne!(lacking, complete);
    nat.balance(&lacking);
    let status = || nat.lab.ctl(&["status"]).expect("a status");
    let is_named = || status().contains("interface eth1: backends of services in `nat` are reached by it (10.1.1.11)");
    assert!(wait_until(patience(Duration::from_secs(5)), || Ok(is_named())).expect("a status"), "{}", status());
    assert!(!status().contains("interface eth2"), "{}", status());
    // It is so: the host takes the answers for its own. Probes see where their answers arrive, so clients are served by the
    // other pool.
    nat.wait_for(0, "down");
    let why = status();
    assert!(why.contains("answers arrive by eth1, which the edge is not attached to"), "{why}");
    nat.wait_for(1, "up");
    for vip in VIPS {
        assert_eq!(nat.request(vip, 4), [BACKENDS[1].to_owned()].into(), "{vip}");
    }

    let path = nat.lab.edge().expect("a load balancer").configuration();
    fs::write(&path, complete).expect("it can be written");
    nat.lab.ctl(&["reload"]).expect("it is complete");
    assert!(wait_until(patience(Duration::from_secs(20)), || Ok(!is_named())).expect("a status"), "{}", status());
    nat.wait_for(0, "up");
    let by_first = || Ok(nat.request(VIPS[0], 4) == [BACKENDS[0].to_owned()].into());
    assert!(wait_until(patience(Duration::from_secs(20)), by_first).expect("answers"), "{}", status());
}

/// Backends that answer by another interface than the one by which they are sent to.
#[test]
fn answers_that_come_by_another_interface_count_where_they_arrive() {
    let mut nat = Nat::without_balancer();
    // The backend has a second cable to the edge, to whose end it sends everything.
    let (edge, backend) = (nat.lab.netns(EDGE), nat.lab.netns(BACKENDS[0]));
    link::pair(End { netns: backend, name: "back" }, End { netns: edge, name: "eth3" }).expect("a second cable");
    edge.ip("addr add 10.3.1.1/24 dev eth3\naddr add fd03:1::1/64 dev eth3 nodad\n").expect("addresses");
    backend
        .ip("addr add 10.3.1.11/24 dev back\naddr add fd03:1::11/64 dev back nodad\n\
             route replace default via 10.3.1.1\nroute del default via fd01:1::1\nroute add default via fd03:1::1\n")
        .expect("routes");
    let complete = returning_at_once();
    nat.balance(&complete);
    nat.wait_for(0, "down");
    assert_eq!(nat.request(VIPS[0], 4), [BACKENDS[1].to_owned()].into());

    let path = nat.lab.edge().expect("a load balancer").configuration();
    fs::write(&path, complete.replace("name = \"eth1\"", "name = \"eth1\"\n[[interface]]\nname = \"eth3\""))
        .expect("it is written");
    nat.lab.ctl(&["reload"]).expect("it is complete");
    nat.wait_for(0, "up");
    for vip in VIPS {
        let by_first = || Ok(nat.request(vip, 4) == [BACKENDS[0].to_owned()].into());
        assert!(wait_until(patience(Duration::from_secs(20)), by_first).expect("answers"), "{vip}");
    }
}
