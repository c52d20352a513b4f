//! Backends in a VLAN of the edge: packets and probes go by the VLAN interface with its tag, and a VLAN interface that is
//! gone takes its backends out at once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use edge_tests::{
    feature::{Feature, missing},
    lab::{
        patience::patience,
        small::{BACKENDS, Mode, Served, Small},
        topology::EDGE,
        wait_until,
    },
};
use serde_json::Value;

/// Services in both tunnels, and in `dsr`.
const SERVICES: [&str; 4] = ["4in4", "6in6", "dsr4", "dsr6"];
/// Time until a change of the link is known, and packets go elsewhere.
const SOON: Duration = Duration::from_secs(10);
/// Far less than the five failed probes that otherwise find a dead backend.
const AT_ONCE: Duration = Duration::from_millis(300);

/// Lines of ip(8) that make the VLAN interface of the edge, with its addresses.
const VLAN: &str = "link add link eth1 name eth1.10 type vlan id 10\nlink set eth1.10 up\n\
                    addr replace 10.1.1.1/24 dev eth1.10\naddr replace fd01:1::1/64 dev eth1.10 nodad\n";

/// Waits until exactly these backends serve.
#[track_caller]
fn served(lab: &Small, by: &[&str], after: &str) {
    let by: BTreeSet<_> = by.iter().map(|name| (*name).to_owned()).collect();
    let mut last = String::new();
    let is_so = wait_until(patience(SOON), || {
        let seen = SERVICES.map(|name| lab.request(Served::named(name).vip, 8));
        last = format!("{seen:?}");
        Ok(seen.iter().all(|seen| seen.as_ref().is_ok_and(|seen| *seen == by)))
    });
    assert!(is_so.expect("a client"), "{after}: {last}\n{}", lab.ctl(&["status"]).expect("a status"));
}

/// Health and reason of the first backend in each pool.
fn seen(lab: &Small) -> Vec<(String, String)> {
    let status = lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("a status");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let backends = status["pools"].as_array().into_iter().flatten().filter_map(|pool| pool["backends"].as_array());
    let first = backends.flatten().filter(|backend| text(&backend["name"]).ends_with(BACKENDS[0]));
    first.map(|backend| (text(&backend["health"]), text(&backend["reason"]))).collect()
}

#[test]
fn carry_what_is_for_their_backends_until_they_are_gone() {
    if missing("carry_what_is_for_their_backends_until_they_are_gone", &[Feature::Module("8021q")]).is_some() {
        return;
    }
    let mut lab = Small::on_veth().expect("the lab comes up");
    let (edge, backend) = (lab.netns(EDGE), lab.netns(BACKENDS[0]));
    edge.ip("addr flush dev eth1\n").expect("addresses go");
    edge.ip(VLAN).expect("a VLAN interface");
    // With a MAC address of its own: the backend's kernel drops frames to it that have no tag.
    backend
        .ip("addr flush dev eth0\nlink add link eth0 name tagged address 02:00:00:00:00:10 type vlan id 10\nlink set tagged up\n\
             addr add 10.1.1.11/24 dev tagged\naddr add fd01:1::11/64 dev tagged nodad\n\
             route replace default via 10.1.1.1\nroute replace default via fd01:1::1\n")
        .expect("a VLAN interface");
    lab.decapsulate_all(Mode::Native, &super::SOURCES).expect("decapsulation attaches");
    lab.balance(Mode::Native).expect("probes pass, by the VLAN too");
    let status = lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("the daemon answers");
    assert!(status["daemon"]["probes"].is_null(), "probes go through the services: {status}");
    served(&lab, &BACKENDS, "the start");
    for served in SERVICES.map(Served::named) {
        assert_eq!(lab.use_it(served.vip).expect(served.name), lab.backends(), "{}", served.name);
    }

    // The probes go by the VLAN: without its decapsulation the backend is down.
    lab.decap(BACKENDS[0], &["--detach"]).expect("decap goes");
    let found = wait_until(patience(SOON), || Ok(seen(&lab).iter().all(|(health, _)| health == "down")));
    assert!(found.expect("a status"), "{:?}", seen(&lab));
    lab.decapsulate(BACKENDS[0], Mode::Native, &super::SOURCES).expect("decap comes back");
    served(&lab, &BACKENDS, "the decapsulation is back");

    let edge = lab.netns(EDGE);
    edge.ip("link del eth1.10\n").expect("it goes");
    let gone = Instant::now();
    let out = wait_until(patience(AT_ONCE), || {
        Ok(lab.ctl(&["events"])?.lines().filter(|line| line.contains("unreachable from this host")).count() >= 2)
    });
    println!("known {:?} after the VLAN interface was deleted", gone.elapsed());
    assert!(out.expect("events"), "{}", lab.ctl(&["events"]).expect("events"));
    served(&lab, &BACKENDS[1..], "the VLAN interface is gone");

    edge.ip(VLAN).expect("another VLAN interface");
    served(&lab, &BACKENDS, "there is another one");
}
