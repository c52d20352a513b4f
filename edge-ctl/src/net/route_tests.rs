//! Routes to backends in a real kernel: multipath, next hop objects, policy routing, VRF.

use std::process::Command;

use super::{
    watch_tests::{PEER, SOON, Watching},
    *,
};
use crate::net::lab::{Lab, in_lab, sh};

const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// Twelve backends that are behind routers.
fn behind() -> Vec<String> {
    (1..=12).map(|host| format!("198.51.100.{host}")).collect()
}

/// A second router beside the peer: 10.0.0.9, `fd00::9`.
fn second_router(lab: &Lab) {
    lab.peer("echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore");
    lab.peer("ip link add link peer0 name second address 02:00:00:00:00:09 type macvlan mode bridge");
    lab.peer(
        "ip link set second up && ip address add 10.0.0.9/24 dev second && ip address add fd00::9/64 dev second nodad",
    );
}

/// A watch of these backends, returned once the MAC address of each next hop is known.
fn watch_all(backends: &[String]) -> Watching {
    let backends: Vec<_> = backends.iter().map(String::as_str).collect();
    let mut watching = Watching::new(&backends, None);
    watching.wait(|watching| watching.known.values().filter(|entry| entry.is_some()).count() == backends.len());
    watching
}

fn by(watching: &Watching, mac: [u8; 6]) -> Vec<BackendNumber> {
    let by = watching.known.iter().filter(|(_, entry)| entry.is_some_and(|entry| entry.mac == mac));
    by.map(|(number, _)| *number).collect()
}

/// Backends are spread over two next hops; if one fails, all use the other; the same backends return when it does.
fn leaves_and_returns(lab: &Lab, backends: &[String]) {
    let mut watching = watch_all(backends);
    watching.wait(|watching| !by(watching, OTHER).is_empty());
    watching.quiet(Duration::from_millis(500));
    let before = by(&watching, OTHER);
    assert!((1..12).contains(&before.len()), "{before:?} of 12");
    lab.peer("ip link set second down");
    sh("ip neighbour flush to 10.0.0.9 dev edge0; ip neighbour flush to fd00::9 dev edge0");
    let took = watching.wait(|watching| by(watching, PEER).len() == 12);
    assert!(took < Duration::from_millis(500), "{took:?}");
    // IPv6 addresses are removed with the link.
    lab.peer("ip link set second up && ip address replace fd00::9/64 dev second nodad");
    sh("ip neighbour flush nud failed dev edge0");
    watching.wait_for(5 * SOON, |watching| by(watching, OTHER) == before);
}

#[test]
fn backends_are_spread_over_the_next_hops_of_a_route_and_leave_one_that_fails() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip route add 198.51.100.0/24 nexthop via 10.0.0.2 nexthop via 10.0.0.9");
        leaves_and_returns(lab, &behind());
    });
}

#[test]
fn next_hops_of_ipv6_are_those_of_a_route_as_well() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip route add 2001:db8:9::/64 nexthop via fd00::2 nexthop via fd00::9");
        let backends: Vec<_> = (1..=12).map(|host| format!("2001:db8:9::{host:x}")).collect();
        leaves_and_returns(lab, &backends);
    });
}

#[test]
fn next_hop_objects_are_followed() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip nexthop add id 1 via 10.0.0.2 dev edge0 && ip nexthop add id 2 via 10.0.0.9 dev edge0");
        sh("ip nexthop add id 10 group 1/2 && ip route add 198.51.100.0/24 nhid 10");
        leaves_and_returns(lab, &behind());
        // The group changes, but the route that refers to it does not, and the kernel tells nothing of the route.
        sh("echo 0 > /proc/sys/net/ipv4/nexthop_compat_mode");
        // Routes then name only the object, and the kernel's answer only the next hop that it would choose itself.
        leaves_and_returns(lab, &behind());
        let mut watching = watch_all(&behind());
        sh("ip nexthop replace id 10 group 2");
        watching.wait_for(Duration::from_secs(2), |watching| by(watching, OTHER).len() == 12);
    });
}

#[test]
fn a_next_hop_behind_which_all_is_silent_is_left_though_the_kernel_believes_in_it() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip route add 198.51.100.0/24 nexthop via 10.0.0.2 nexthop via 10.0.0.9");
        // The kernel takes three seconds to give up by default.
        sh("echo 100 > /proc/sys/net/ipv4/neigh/edge0/retrans_time_ms");
        let mut watching = watch_all(&behind());
        watching.wait(|watching| !by(watching, OTHER).is_empty());
        watching.quiet(Duration::from_millis(500));
        let report = |watching: &Watching, is_heard: &dyn Fn([u8; 6]) -> bool| {
            let other = by(watching, OTHER);
            watching
                .watch
                .hear((1..=12).map(|number| (number, is_heard(if other.contains(&number) { OTHER } else { PEER }))));
        };
        // The next hop is alive, whatever happens to the backends behind it.
        report(&watching, &|mac| mac != OTHER);
        watching.quiet(Duration::from_secs(1));
        sh("ip neighbour show 10.0.0.9 dev edge0 | grep -q REACHABLE");
        // The next hop dies, and nothing is heard at all: this host may be cut off.
        report(&watching, &|_| false);
        lab.peer("ip link set second down");
        watching.quiet(Duration::from_secs(1));
        report(&watching, &|mac| mac != OTHER);
        watching.wait(|watching| by(watching, PEER).len() == 12);
    });
}

#[test]
fn next_hop_objects_of_ipv6_are_those_of_a_route_as_well() {
    in_lab(|lab| {
        second_router(lab);
        sh("echo 0 > /proc/sys/net/ipv4/nexthop_compat_mode");
        sh("ip nexthop add id 1 via fd00::2 dev edge0 && ip nexthop add id 2 via fd00::9 dev edge0");
        sh("ip nexthop add id 10 group 1/2 && ip route add 2001:db8:9::/64 nhid 10");
        let backends: Vec<_> = (1..=12).map(|host| format!("2001:db8:9::{host:x}")).collect();
        leaves_and_returns(lab, &backends);
        // Of the twelve, about one has the next hop of the lesser weight.
        sh("ip nexthop replace id 10 group 1,1/2,100");
        let mut watching = watch_all(&backends);
        watching.wait(|watching| by(watching, PEER).len() <= 1);
    });
}

#[test]
fn weights_of_next_hops_are_their_shares() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip route add 198.51.100.0/24 nexthop via 10.0.0.2 weight 1 nexthop via 10.0.0.9 weight 200");
        let watching = watch_all(&behind());
        assert!(by(&watching, PEER).len() <= 1, "{:?}", by(&watching, PEER));
    });
}

#[test]
fn policy_by_the_tunnels_source_is_followed() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip address add 10.0.0.3/32 dev lo && ip route add 198.51.100.0/24 via 10.0.0.2");
        sh("ip route add 198.51.100.0/24 via 10.0.0.9 table 7 && ip rule add from 10.0.0.3 table 7");
        let mut watching =
            Watching::new(&["198.51.100.1", "198.51.100.1 from 10.0.0.3", "198.51.100.1 from 192.0.2.99"], None);
        watching.expect(1, Some(PEER));
        watching.expect(2, Some(OTHER));
        // The kernel looks up no route from an address that the host does not have; the lookup without a source is used.
        watching.expect(3, Some(PEER));
        let source = |number| watching.routes[&number].and_then(|route| route.source).map(|source| source.to_string());
        assert_eq!(source(1).as_deref(), Some("10.0.0.1"));
        assert_eq!(source(2).as_deref(), Some("10.0.0.1"), "one that answers come back to");
    });
}

#[test]
fn probes_have_the_source_of_packets_whose_answers_return_here() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip address add 10.0.0.3/32 dev lo && ip route add 198.51.100.0/24 via 10.0.0.2");
        sh("ip route add 198.51.100.0/24 via 10.0.0.9 table 7 && ip rule add from 10.0.0.3 table 7");
        sh("ip address add fd00::3/128 dev lo nodad");
        let backends = [
            "198.51.100.1 nat 10.0.0.3",
            "198.51.100.1 nat 192.0.2.99",
            "fd00::2 nat fd00::3",
            "fd00::2 nat 2001:db8::99",
            "fd00::2 from fd00::3",
        ];
        let mut watching = Watching::new(&backends, None);
        watching.expect(1, Some(OTHER));
        // The host does not have the other addresses, so that nothing could be sent from them. The kernel enters an IPv6
        // address a moment after the command.
        let sources = ["10.0.0.3", "10.0.0.1", "fd00::3", "fd00::1", "fd00::1"].map(|text| text.parse().ok());
        watching.wait(|watching| {
            watching.known.values().all(Option::is_some)
                && watching.routes.values().flatten().map(|route| route.source).eq(sources)
        });
    });
}

#[test]
fn routes_are_those_of_the_interfaces_vrf() {
    in_lab(|lab| {
        second_router(lab);
        sh("ip route add 198.51.100.0/24 via 10.0.0.2");
        let mut watching = Watching::new(&["198.51.100.1"], None);
        watching.expect(1, Some(PEER));
        if !Command::new("ip")
            .args(["link", "add", "red", "type", "vrf", "table", "99"])
            .output()
            .unwrap()
            .status
            .success()
        {
            return eprintln!("skipped: this kernel has no VRF (CONFIG_NET_VRF)");
        }
        sh("ip link add blue type vrf table 100 && ip link set blue up && ip link set edge0 master blue");
        sh("ip route add 198.51.100.0/24 via 10.0.0.9 table 100");
        watching.expect_in(1, Some(OTHER), 3 * SOON);
        sh("ip link set edge0 nomaster");
        lab.wait_until_up();
        sh("ip route replace 198.51.100.0/24 via 10.0.0.2");
        watching.expect_in(1, Some(PEER), 3 * SOON);
    });
}
