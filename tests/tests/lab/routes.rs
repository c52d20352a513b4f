//! Packets to backends behind routers follow every change of the edge's routing, by the kernel's notification.
//!
//! Both backends of the lab are routers here, and both have the addresses of all backends of a pool: who answers shows
//! which way the packets went.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Small, UNSERVED},
    tcp_echo, tool,
    topology::{ECHO, EDGE},
    wait_until,
};

/// Longer than a change takes that is notified of, shorter than the scan that finds the others.
const SOON: Duration = Duration::from_secs(3);
/// Longer than from one scan of the host's network to the next.
const SCAN: Duration = Duration::from_secs(15);
/// Backends of each pool.
const COUNT: usize = 6;

/// A change, and who answers after it.
type Step = (&'static str, &'static [&'static str]);

const ONE: &[&str] = &[BACKENDS[0]];
const OTHER: &[&str] = &[BACKENDS[1]];
const BOTH: &[&str] = &BACKENDS;

/// A name, the steps, and the lines that undo them.
const V4: [(&str, &[Step], &str); 7] = [
    (
        "a default route",
        &[
            ("route add default via 10.1.1.11 metric 100", ONE),
            ("route replace default via 10.1.2.11 metric 100", OTHER),
            ("route add default via 10.1.1.11 metric 50", ONE),
            ("route del default via 10.1.1.11 metric 50", OTHER),
        ],
        "route del default\n",
    ),
    (
        "rules",
        &[
            ("route add 10.7.0.0/24 via 10.1.1.11", ONE),
            ("route add 10.7.0.0/24 via 10.1.2.11 table 7\nrule add from 10.0.0.1 table 7", OTHER),
            ("rule del from 10.0.0.1 table 7", ONE),
            ("rule add to 10.7.0.0/24 table 7", OTHER),
            ("rule del to 10.7.0.0/24 table 7", ONE),
        ],
        "route del 10.7.0.0/24\nroute flush table 7\n",
    ),
    (
        "a next hop object",
        &[
            ("nexthop add id 1 via 10.1.1.11 dev eth1\nroute add 10.7.0.0/24 nhid 1", ONE),
            ("nexthop replace id 1 via 10.1.2.11 dev eth2", OTHER),
            ("nexthop replace id 1 via 10.1.1.11 dev eth1", ONE),
        ],
        "route del 10.7.0.0/24\nnexthop del id 1\n",
    ),
    (
        "a group of next hop objects",
        &[
            (
                "nexthop add id 1 via 10.1.1.11 dev eth1\nnexthop add id 2 via 10.1.2.11 dev eth2\n\
                 nexthop add id 10 group 1/2\nroute add 10.7.0.0/24 nhid 10",
                BOTH,
            ),
            ("nexthop replace id 10 group 2", OTHER),
            ("nexthop replace id 10 group 1/2", BOTH),
            ("nexthop del id 2", ONE),
        ],
        "route del 10.7.0.0/24\nnexthop del id 10\nnexthop del id 1\n",
    ),
    (
        "a link of one next hop of an object's group",
        &[
            (
                "nexthop add id 1 via 10.1.1.11 dev eth1\nnexthop add id 2 via 10.1.2.11 dev eth2\n\
                 nexthop add id 10 group 1/2\nroute add 10.7.0.0/24 nhid 10",
                BOTH,
            ),
            ("link set eth2 down", ONE),
            ("link set eth2 up\nnexthop replace id 2 via 10.1.2.11 dev eth2\nnexthop replace id 10 group 1/2", BOTH),
        ],
        "route del 10.7.0.0/24\nnexthop del id 10\nnexthop del id 1\nnexthop del id 2\n",
    ),
    (
        "a link of one of a route's next hops",
        &[
            ("route add 10.7.0.0/24 nexthop via 10.1.1.11 nexthop via 10.1.2.11", BOTH),
            ("link set eth2 down", ONE),
            ("link set eth2 up", BOTH),
            ("peer link set eth0 down", ONE),
            (
                "peer link set eth0 up\npeer addr replace fd01:2::11/64 dev eth0 nodad\n\
                 peer route add default via 10.1.2.1\npeer route add default via fd01:2::1",
                BOTH,
            ),
        ],
        "route del 10.7.0.0/24\n",
    ),
    (
        "an address by which a router is reached",
        &[
            ("route add 10.7.0.0/24 via 10.1.1.11 metric 10\nroute add 10.7.0.0/24 via 10.1.2.11 metric 20", ONE),
            ("addr del 10.1.1.1/24 dev eth1", OTHER),
            ("addr add 10.1.1.1/24 dev eth1\nroute replace 10.7.0.0/24 via 10.1.1.11 metric 10", ONE),
        ],
        "route del 10.7.0.0/24\nroute del 10.7.0.0/24\n",
    ),
];

const V6: [(&str, &[Step], &str); 3] = [
    (
        "a default route",
        &[
            ("route add default via fd01:1::11 metric 100", ONE),
            ("route replace default via fd01:2::11 metric 100", OTHER),
            ("route add default via fd01:1::11 metric 50", ONE),
            ("route del default via fd01:1::11 metric 50", OTHER),
        ],
        "route del default via fd01:2::11 metric 100\n",
    ),
    (
        "rules",
        &[
            ("route add fd07::/64 via fd01:1::11", ONE),
            ("route add fd07::/64 via fd01:2::11 table 7\n-6 rule add from fd00::1 table 7", OTHER),
            ("-6 rule del from fd00::1 table 7", ONE),
        ],
        "route del fd07::/64\nroute del fd07::/64 table 7\n",
    ),
    (
        "a link of one of a route's next hops",
        &[
            ("route add fd07::/64 nexthop via fd01:1::11 nexthop via fd01:2::11", BOTH),
            ("link set eth2 down", ONE),
            (
                "link set eth2 up\naddr replace fd01:2::1/64 dev eth2 nodad\n\
                 route replace fd07::/64 nexthop via fd01:1::11 nexthop via fd01:2::11",
                BOTH,
            ),
        ],
        "route del fd07::/64\n",
    ),
];

/// Addresses of the backends in one of the two pools.
fn addresses(prefix: &str) -> impl Iterator<Item = String> {
    (1..=COUNT).map(move |number| format!("{prefix}{number}"))
}

fn lab() -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    for router in BACKENDS {
        let v4 = addresses("10.7.0.").map(|address| format!("addr add {address}/32 dev lo\n"));
        let v6 = addresses("fd07::").map(|address| format!("addr add {address}/128 dev lo nodad\n"));
        lab.netns(router).ip(&v4.chain(v6).collect::<String>()).expect("addresses");
    }
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    let interval = patience(Duration::from_millis(100)).as_millis();
    let pool = |name: &str, prefix: &str, vip: IpAddr| {
        let backends = addresses(prefix).enumerate();
        let backends = backends.map(|(at, address)| format!("{{ name = \"{name}-{at}\", address = \"{address}\" }}"));
        format!(
            "\n[[pool]]\nname = \"{name}\"\nbackend = [{}]\ndamping = \"0s\"\nslow_start = \"0s\"\n\
             [pool.probe]\ntype = \"tcp\"\nport = {ECHO}\ninterval = \"{interval}ms\"\ntimeout = \"{interval}ms\"\n\
             rise = 1\nfall = 20\n\n[[service]]\nname = \"{name}\"\nvips = [\"{vip}\"]\n\
             ports = [\"{ECHO}/tcp\", \"{ECHO}/udp\"]\nmode = \"ipip\"\npools = [\"{name}\"]\n",
            backends.collect::<Vec<_>>().join(", ")
        )
    };
    let more = pool("far4", "10.7.0.", UNSERVED[0]) + &pool("far6", "fd07::", UNSERVED[1]);
    lab.prepare(Mode::Native, &more).expect("a configuration");
    lab.start_daemon().expect("all backends are up");
    lab
}

/// Waits until exactly these hosts answer; returns how long that took.
#[track_caller]
fn answered(lab: &Small, vip: IpAddr, by: &[&str], within: Duration, after: &str) -> Duration {
    let by: BTreeSet<_> = by.iter().map(|name| (*name).to_owned()).collect();
    let (started, mut last) = (Instant::now(), String::new());
    let answered = wait_until(patience(within), || {
        let seen = lab.request(vip, 8);
        last = format!("{seen:?}");
        Ok(seen.is_ok_and(|seen| seen == by))
    });
    assert!(answered.expect("a client"), "{after}: {last}\n{}", lab.ctl(&["status"]).expect("a status"));
    started.elapsed()
}

/// Runs lines of ip(8): on the second router where they begin with `peer`, else on the edge.
fn ip(lab: &Small, lines: &str) {
    for line in lines.lines() {
        let at_peer = line.strip_prefix("peer ").map(|line| (BACKENDS[1], line));
        let (host, line) = at_peer.unwrap_or((EDGE, line));
        let mut command = lab.netns(host).command("ip").expect("a command");
        tool::run(command.args(line.split(' '))).expect("it succeeds");
    }
}

/// Makes each change, and waits until exactly the hosts answer that should.
fn follow(lab: &Small, pool: &str, vip: IpAddr, changes: &[(&str, &[Step], &str)]) {
    for (name, steps, undo) in changes {
        for (change, by) in *steps {
            ip(lab, change);
            let took = answered(lab, vip, by, SOON, &format!("{name}, {change}"));
            println!("{name}, {change:?}: {took:?}");
            are_known(lab, &[pool]);
        }
        ip(lab, undo);
    }
}

/// Waits until the daemon knows the next hop of each backend in these pools. Until then the program looks the route of each
/// packet up in the kernel, and so follows any change.
#[track_caller]
fn are_known(lab: &Small, pools: &[&str]) {
    let is_known = wait_until(patience(SOON), || {
        let status = lab.edge()?.status(lab.netns(EDGE))?;
        let all = status["pools"].as_array().into_iter().flatten();
        let these = all.filter(|pool| pools.iter().any(|name| pool["name"] == *name));
        let mut backends = these.filter_map(|pool| pool["backends"].as_array()).flatten();
        Ok(backends.all(|backend| !backend["next_hop"].is_null()))
    });
    assert!(is_known.expect("a status"), "{}", lab.ctl(&["status"]).expect("a status"));
}

#[test]
fn each_change_of_ipv4_is_followed() {
    let lab = lab();
    // With it, the kernel notifies of the routes that use a next hop object when it changes.
    lab.netns(EDGE).set("ipv4/nexthop_compat_mode", "0").expect("a setting");
    follow(&lab, "far4", UNSERVED[0], &V4);
}

#[test]
fn each_change_of_ipv6_is_followed() {
    follow(&lab(), "far6", UNSERVED[1], &V6);
}

/// A route as a router's advertisement makes it, whose lifetime ends: the kernel uses it no longer, and notifies of that up to
/// half a minute later. A router that announces its end is left at once, since the kernel deletes the route.
#[test]
fn a_route_that_expires_is_left_at_the_next_scan() {
    let lab = lab();
    ip(&lab, "route add default via fd01:2::11 metric 100\nroute add default via fd01:1::11 metric 50 expires 2");
    answered(&lab, UNSERVED[1], ONE, SOON, "while it lives");
    answered(&lab, UNSERVED[1], OTHER, SCAN, "after its end");
}

#[test]
fn a_routes_own_mtu_is_that_of_the_path() {
    let lab = lab();
    lab.netns(EDGE).ip("route add 10.7.0.0/24 via 10.1.1.11\n").expect("a route");
    answered(&lab, UNSERVED[0], ONE, SOON, "a route");
    let longest = || {
        let data = vec![7; 100_000];
        let exchange = lab.netns(CLIENT).within(|| tcp_echo::exchange(SocketAddr::new(UNSERVED[0], ECHO), &data));
        exchange.expect("a client").expect("an upload").segments[1]
    };
    assert!(longest() > 1300, "{}", longest());
    // Without the headers of the tunnel, of IP and of TCP with its time stamps.
    let in_path = 1300 - 20 - 20 - 20 - 12;
    lab.netns(EDGE).ip("route replace 10.7.0.0/24 via 10.1.1.11 mtu 1300\n").expect("a route");
    let narrow = wait_until(patience(SOON), || Ok(longest() == in_path));
    assert!(narrow.expect("a client"), "{}", longest());
}

/// A router that fails over to another machine, which announces the address.
#[test]
fn an_announced_mac_address_of_a_router_is_used_at_once() {
    let lab = lab();
    let router = lab.netns(BACKENDS[0]);
    for setting in ["ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"] {
        router.set(setting, "1").expect("a setting");
    }
    ip(&lab, "route add 10.7.0.0/24 via 10.1.1.11\nroute add fd07::/64 via fd01:1::11");
    for vip in UNSERVED {
        answered(&lab, vip, ONE, SOON, "a route");
    }
    are_known(&lab, &["far4", "far6"]);
    // The kernel does not let a neighbour's address change twice within a second (`locktime`).
    std::thread::sleep(Duration::from_millis(1100));
    router.ip("link set eth0 address 02:00:00:00:99:01\n").expect("another address");
    std::thread::sleep(patience(Duration::from_millis(200)));
    for vip in UNSERVED {
        assert_eq!(lab.request(vip, 8).expect("no request is lost"), BTreeSet::from([BACKENDS[0].to_owned()]), "{vip}");
    }
}
