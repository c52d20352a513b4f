//! Settings of an edge's kernel that drop answers of backends whose gateway it is: docs/config.md names them.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use edge_tests::lab::{
    netns::Netns,
    small::{Mode, Served, Small},
    topology::EDGE,
};

/// In the lab the edge is the backends' gateway.
const INTERFACES: [&str; 4] = ["all", "eth0", "eth1", "eth2"];

fn set(edge: &Netns, setting: &str, value: &str) {
    for name in INTERFACES {
        edge.set(&format!("ipv4/conf/{name}/{setting}"), value).unwrap();
    }
}

/// Asserts that clients of IPv4 are served, or are not, in each mode; those of IPv6 are in any case.
#[track_caller]
fn are_served(lab: &Small, expected: bool, after: &str) {
    for (v4, v6) in [("4in4", "6in4"), ("dsr4", "dsr6")] {
        let seen = [v4, v6].map(|name| lab.request(Served::named(name).vip, 1));
        assert_eq!(seen.each_ref().map(Result::is_ok), [expected, true], "{v4}, {v6} {after}: {seen:?}");
    }
    // Answers to probes are taken before the kernel looks at them.
    let status = lab.ctl(&["status"]).unwrap();
    assert!(status.contains("all 4 backends are up"), "{after}: {status}");
}

#[test]
fn answers_that_the_edge_forwards_need_its_kernels_leave() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    let edge = lab.netns(EDGE);
    are_served(&lab, true, "with the defaults of a kernel");
    set(edge, "rp_filter", "1");
    are_served(&lab, false, "with a strict filter: no route to a VIP leads to a backend");
    set(edge, "rp_filter", "2");
    are_served(&lab, false, "with a loose filter, and no route to a VIP");
    edge.ip("route add default via 10.0.0.2\n").unwrap();
    are_served(&lab, true, "with a loose filter and a default route");
    set(edge, "rp_filter", "0");
    for name in ["4in4", "dsr4"] {
        edge.ip(&format!("addr add {}/32 dev lo\n", Served::named(name).vip)).unwrap();
    }
    are_served(&lab, false, "with VIPs that are addresses of the edge");
    set(edge, "accept_local", "1");
    are_served(&lab, true, "that its kernel takes as sources");
}
