//! Backends behind several next hops: backends are spread over them, probed over the next hop of their packets, and
//! moved away from a dead one.

use std::{net::SocketAddr, time::Duration};

use edge_tests::{
    feature::{Feature, missing},
    lab::{
        patience::patience,
        small::{BACKENDS, CLIENT, Mode, Small, UNSERVED},
        topology::{ECHO, EDGE},
        udp_echo, wait_until,
    },
};
use serde_json::Value;

/// The edge's tunnel sources.
const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];
/// Number of backends in the pool, all of which are one host.
const COUNT: usize = 8;

#[test]
fn of_a_route() {
    follow(lab(), "route add 10.7.0.0/24 nexthop via 10.1.1.11 nexthop via 10.1.1.12\n");
}

#[test]
fn of_a_group_of_objects() {
    follow(
        lab(),
        "nexthop add id 1 via 10.1.1.11 dev eth1\nnexthop add id 2 via 10.1.1.12 dev eth1\n\
         nexthop add id 10 group 1/2\nroute add 10.7.0.0/24 nhid 10\n",
    );
}

#[test]
fn of_a_resilient_group_in_which_one_has_a_larger_share() {
    follow(
        lab(),
        "nexthop add id 1 via 10.1.1.11 dev eth1\nnexthop add id 2 via 10.1.1.12 dev eth1\n\
         nexthop add id 10 group 1,2/2,3 type resilient buckets 32 idle_timer 60\nroute add 10.7.0.0/24 nhid 10\n",
    );
}

#[test]
fn in_a_vrf() {
    if missing("in_a_vrf", &[Feature::Module("vrf")]).is_some() {
        return;
    }
    let lab = lab();
    let edge = lab.netns(EDGE);
    // The host's main table leads nowhere. An interface loses its IPv6 addresses when it joins a VRF.
    edge.ip("route add blackhole 10.7.0.0/24\nlink add blue type vrf table 100\nlink set blue up\n").unwrap();
    for (number, address) in [(0, "fd00::1"), (1, "fd01:1::1"), (2, "fd01:2::1")] {
        edge.ip(&format!("link set eth{number} master blue\naddr replace {address}/64 dev eth{number} nodad\n"))
            .unwrap();
    }
    follow(lab, "route add 10.7.0.0/24 vrf blue nexthop via 10.1.1.11 nexthop via 10.1.1.12\n");
}

/// A lab whose first backend acts as two routers in one segment, with the pool's backends behind both.
fn lab() -> Small {
    let lab = Small::on_veth().expect("the lab comes up");
    let one = lab.netns(BACKENDS[0]);
    one.set("ipv4/conf/all/arp_ignore", "1").expect("a setting");
    let lines = (1..=COUNT).map(|number| format!("addr add 10.7.0.{number}/32 dev lo\n")).collect::<Vec<_>>().concat();
    one.ip(&format!(
        "{lines}link add link eth0 name second type macvlan mode bridge\nlink set second up\n\
         addr add 10.1.1.12/24 dev second\n"
    ))
    .expect("a second router");
    lab
}

/// Health and next hop's MAC address of each backend in the pool.
fn seen(lab: &Small) -> Vec<(String, String)> {
    let status = lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("a status");
    let pools = status["pools"].as_array().expect("a list");
    let pool = pools.iter().find(|pool| pool["name"] == "ecmp").expect("the pool");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let backends = pool["backends"].as_array().expect("a list").iter();
    backends.map(|backend| (text(&backend["health"]), text(&backend["next_hop"]))).collect()
}

/// Number of backends with this next hop.
fn by(seen: &[(String, String)], mac: &str) -> usize {
    seen.iter().filter(|(_, next_hop)| next_hop == mac).count()
}

/// Adds the routes, and lets one of the two next hops die.
fn follow(mut lab: Small, routes: &str) {
    lab.netns(EDGE).ip(routes).expect("routes");
    lab.decapsulate_all(Mode::Native, &SOURCES).expect("decapsulation attaches");
    let backends = (1..=COUNT).map(|number| format!("{{ name = \"x{number}\", address = \"10.7.0.{number}\" }}"));
    let interval = patience(Duration::from_millis(100)).as_millis();
    let pool = format!(
        "\n[[pool]]\nname = \"ecmp\"\nbackend = [{}]\ndamping = \"0s\"\nslow_start = \"0s\"\n\
         [pool.probe]\ntype = \"tcp\"\nport = {ECHO}\ninterval = \"{interval}ms\"\n\
         timeout = \"{interval}ms\"\nrise = 1\nfall = 3\n\n[[service]]\nname = \"ecmp\"\nvips = [\"{}\"]\n\
         ports = [\"{ECHO}/udp\"]\nmode = \"ipip\"\npools = [\"ecmp\"]\n",
        backends.collect::<Vec<_>>().join(", "),
        UNSERVED[0]
    );
    lab.prepare(Mode::Native, &pool).expect("a configuration");
    lab.start_daemon().expect("all probes pass");
    let mut mac = String::new();
    let spread = wait_until(patience(Duration::from_secs(5)), || {
        let seen = seen(&lab);
        mac.clone_from(&seen[0].1);
        let all_up = seen.iter().all(|(health, mac)| health == "up" && !mac.is_empty());
        Ok(all_up && (1..COUNT).contains(&by(&seen, &mac)))
    });
    assert!(spread.expect("a status"), "{:?}", seen(&lab));
    let all_answer = || {
        let vip = SocketAddr::new(UNSERVED[0], ECHO);
        let exchange =
            || (0..20).all(|_| udp_echo::request(vip, b"who?", patience(Duration::from_millis(500))).is_ok());
        lab.netns(CLIENT).within(exchange).expect("a client")
    };
    assert!(all_answer(), "{}", lab.ctl(&["status"]).expect("a status"));

    // A silent death: the neighbour entry remains valid. Probes detect the backends behind the dead next hop.
    lab.netns(BACKENDS[0]).ip("link set second down\n").expect("it dies");
    let found = wait_until(patience(Duration::from_secs(1)), || {
        let down = seen(&lab).iter().filter(|(health, _)| health == "down").count();
        Ok((1..COUNT).contains(&down) && all_answer())
    });
    assert!(found.expect("a status"), "{}", lab.ctl(&["status"]).expect("a status"));

    // The kernel notices the silence, and sends three solicitations. Then packets and probes leave this next hop.
    let left = wait_until(patience(Duration::from_secs(5)), || {
        let seen = seen(&lab);
        Ok(by(&seen, &seen[0].1) == COUNT && seen.iter().all(|(health, _)| health == "up"))
    });
    assert!(left.expect("a status"), "{:?}", seen(&lab));
    assert!(all_answer());
}
