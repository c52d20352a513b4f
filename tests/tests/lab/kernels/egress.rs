//! Backends that the edge reaches by a bond, when its ports go down.

use std::{collections::BTreeSet, time::Duration};

use edge_tests::{
    feature::{Feature, missing},
    lab::{
        link::{self, End},
        patience::patience,
        small::{BACKENDS, Mode, Served, Small},
        topology::EDGE,
        wait_until,
    },
};

/// Time until a change of the link is known, and packets take another way.
const SOON: Duration = Duration::from_secs(10);
/// Services in both tunnels.
const SERVICES: [&str; 2] = ["4in4", "6in6"];

/// Lines of ip(8) that give a device the addresses of the edge, or of the first backend with its routes.
fn edge_addresses(device: &str) -> String {
    format!("addr replace 10.1.1.1/24 dev {device}\naddr replace fd01:1::1/64 dev {device} nodad\n")
}

fn backend_addresses(device: &str) -> String {
    format!(
        "addr replace 10.1.1.11/24 dev {device}\naddr replace fd01:1::11/64 dev {device} nodad\n\
         route replace default via 10.1.1.1\nroute replace default via fd01:1::1\n"
    )
}

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

fn balance(mut lab: Small) -> Small {
    lab.decapsulate_all(Mode::Native, &super::SOURCES).expect("decapsulation attaches");
    lab.balance(Mode::Native).expect("the load balancer starts");
    lab
}

#[test]
fn ports_of_a_bond_to_a_backend_go_down() {
    if missing("ports_of_a_bond_to_a_backend_go_down", &[Feature::Module("bonding")]).is_some() {
        return;
    }
    let lab = Small::on_veth().expect("the lab comes up");
    let (edge, backend) = (lab.netns(EDGE), lab.netns(BACKENDS[0]));
    link::pair(End { netns: backend, name: "second" }, End { netns: edge, name: "eth3" }).expect("a second cable");
    // Both ends prefer the first cable, and see when it is down.
    let bond = |name: &str, ports: [&str; 2]| {
        let [first, second] = ports;
        format!(
            "link set {first} down\nlink set {second} down\nlink add {name} type bond mode active-backup miimon 10\n\
             link set {first} master {name}\nlink set {second} master {name}\nlink set {name} type bond primary {first}\n\
             link set {name} up\n"
        )
    };
    edge.ip(&("addr flush dev eth1\n".to_owned() + &bond("bond1", ["eth1", "eth3"]) + &edge_addresses("bond1")))
        .expect("a bond");
    backend.ip("addr flush dev eth0\nlink set eth0 down\nlink set eth0 name first\n").expect("another name");
    backend.ip(&(bond("eth0", ["first", "second"]) + &backend_addresses("eth0"))).expect("a bond");
    let lab = balance(lab);
    let edge = lab.netns(EDGE);
    served(&lab, &BACKENDS, "the start");
    edge.ip("link set eth1 down\n").expect("it goes down");
    served(&lab, &BACKENDS, "one port is down");
    edge.ip("link set eth3 down\n").expect("it goes down");
    served(&lab, &BACKENDS[1..], "both ports are down");
    edge.ip(&format!("link set eth1 up\n{}", edge_addresses("bond1"))).expect("it comes up");
    served(&lab, &BACKENDS, "one port is up");
}
