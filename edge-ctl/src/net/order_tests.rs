//! The order in which a change is reported: first the backends that it concerns, then all others.

use super::{
    watch_tests::{PEER, SOON, Watching},
    *,
};
use crate::net::lab::{in_lab, sh};

/// More than are looked up at a time.
const MANY: BackendNumber = 1000;

/// Many backends behind the peer, and a last one, whose number is returned, on a link of its own.
fn many_and_one() -> (Watching, BackendNumber) {
    sh("ip link add own0 type veth peer name own1 && ip link set own0 up && ip link set own1 up");
    sh("ip address add 10.9.0.1/24 dev own0 && ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev own0 nud permanent");
    sh("ip route add 198.51.0.0/16 via 10.0.0.2");
    // Numerically after the others' addresses.
    sh("ip route add 203.0.113.0/24 via 10.9.0.2");
    let mut addresses: Vec<String> = (0..MANY).map(|i| format!("198.51.{}.{}", i / 250, i % 250 + 1)).collect();
    addresses.push("203.0.113.1".to_owned());
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let mut watching = Watching::new(&addresses, None);
    watching.wait(|watching| watching.known.len() > MANY.into() && watching.known.values().all(Option::is_some));
    watching.quiet(Duration::from_millis(500));
    (watching, MANY + 1)
}

/// Applies a change after which nothing can be sent to any backend, of which the kernel names only the last one's part,
/// and expects that this one is reported before the others.
#[track_caller]
fn is_first(change: &str) {
    in_lab(|_| {
        let (mut watching, last) = many_and_one();
        sh(change);
        watching.wait(|watching| watching.unreachable().next().is_some());
        assert_eq!(watching.unreachable().collect::<Vec<_>>(), [last], "{change}");
        watching.wait(|watching| watching.unreachable().count() > MANY.into());
    });
}

#[test]
fn a_lost_link_is_reported_before_anything_else_is_looked_up() {
    is_first("ip rule add to 198.51.0.0/16 blackhole && ip link set own1 down");
    is_first("ip rule add to 198.51.0.0/16 blackhole && ip link set own0 down");
    is_first("ip rule add to 198.51.0.0/16 blackhole && ip link del own0");
}

#[test]
fn a_lost_route_is_reported_before_anything_else_is_looked_up() {
    is_first("ip rule add to 198.51.0.0/16 blackhole && ip route del 203.0.113.0/24");
    is_first("ip rule add to 198.51.0.0/16 blackhole && ip route add blackhole 203.0.113.1/32");
}

#[test]
fn a_backend_with_another_route_is_not_reported_as_lost_in_between() {
    in_lab(|_| {
        let (mut watching, last) = many_and_one();
        sh("ip route add 203.0.113.0/24 via 10.0.0.2 metric 7");
        // Until the lookups after this change, and their repetition, are over.
        watching.quiet(Duration::from_secs(3));
        let before = watching.known[&last];
        // A neighbour's change has everything evaluated before the routes are looked up.
        sh("ip link del own0 && ip neigh replace 10.0.0.77 lladdr 02:00:00:00:00:09 dev edge0");
        watching.wait(|watching| watching.known[&last] != before);
        assert_eq!(watching.known[&last].map(|entry| entry.mac), Some(PEER));
        assert_eq!(watching.losses, 0);
    });
}

#[test]
fn a_thousand_backends_behind_one_gateway() {
    in_lab(|_| {
        sh("ip route add 198.51.0.0/16 via 10.0.0.2");
        let addresses: Vec<String> = (0..MANY).map(|i| format!("198.51.{}.{}", i / 250, i % 250 + 1)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let mut watching = Watching::new(&addresses, None);
        for number in 1..=MANY {
            watching.expect(number, Some(PEER));
        }
        sh("ip route flush table main");
        let lost: Duration = (1..=MANY).map(|number| watching.expect(number, None)).sum();
        sh("ip route add 10.0.0.0/24 dev edge0 && ip route add 198.51.0.0/16 via 10.0.0.2");
        let found: Duration = (1..=MANY).map(|number| watching.expect(number, Some(PEER))).sum();
        assert!(lost < SOON && found < SOON, "{lost:?} {found:?}");
    });
}
