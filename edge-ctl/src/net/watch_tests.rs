//! The watch in a network namespace, with real neighbours that appear, change and disappear.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::net::{
    lab::{in_lab, sh},
    next_hop::NextHopEntry,
    route::ResolvedRoute,
    stations::Devices,
    survey::own,
};

pub(super) const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const BLACKHOLE: &str = "its route is not unicast (blackhole, unreachable, prohibit or multicast)";
const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];
/// Timeout for an event.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// The time that a busy machine may take for what only has to happen: the kernel itself asks a neighbour once a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A watch, and the content of its events so far.
pub(super) struct Watching {
    runtime: tokio::runtime::Runtime,
    events: mpsc::Receiver<NetEvent>,
    pub(super) known: BTreeMap<BackendNumber, Option<NextHopEntry>>,
    pub(super) routes: BTreeMap<BackendNumber, Option<ResolvedRoute>>,
    reach: BTreeMap<BackendNumber, Option<String>>,
    /// How often any backend was reported as unreachable.
    pub(super) losses: usize,
    links: Vec<String>,
    pub(super) devices: Devices,
    host_vips: Vec<IpAddr>,
    pub(super) watch: Watch,
}

impl Watching {
    pub(super) fn new(addresses: &[&str], buffer: Option<u32>) -> Self {
        // A single thread, so that the sockets are in this thread's namespace.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, events) = mpsc::channel(64);
        // "ADDRESS", "ADDRESS from SOURCE" (of a tunnel), "ADDRESS nat SOURCE".
        let destination = |text: &&str| match text.split(' ').collect::<Vec<_>>()[..] {
            [to, kind, from] => Destination {
                source: Some(from.parse().unwrap()),
                answered_here: kind == "nat",
                ..Destination::of(to.parse().unwrap())
            },
            _ => Destination::of(text.parse().unwrap()),
        };
        let sought = Sought {
            backends: (1u16..).zip(addresses.iter().map(destination)).collect(),
            vips: VIPS.map(|vip| vip.parse().unwrap()).into(),
            interfaces: vec!["edge0".to_owned()],
            native: true,
        };
        let watch = runtime.block_on(async { watch_with(sought, sender, buffer) });
        Self {
            runtime,
            events,
            known: BTreeMap::new(),
            routes: BTreeMap::new(),
            reach: BTreeMap::new(),
            losses: 0,
            links: Vec::new(),
            devices: Devices::new(),
            host_vips: Vec::new(),
            watch,
        }
    }

    fn take(&mut self, event: NetEvent) {
        match event {
            NetEvent::NextHops(changes) => self.known.extend(changes),
            NetEvent::Routes(changes) => self.routes.extend(changes),
            NetEvent::Reach(changes) => {
                self.losses += changes.iter().filter(|(_, why)| why.is_some()).count();
                self.reach.extend(changes);
            }
            NetEvent::LinkChanged(name) => self.links.push(name),
            NetEvent::Devices(devices) => self.devices = devices,
            NetEvent::HostChanged => {}
            NetEvent::Vips(vips) => {
                self.host_vips = vips.into_iter().filter_map(|(vip, is)| is.then_some(vip)).collect();
            }
        }
    }

    /// Waits until the MAC address of backend `number`'s next hop is `mac`; returns the elapsed time.
    #[track_caller]
    pub(super) fn expect(&mut self, number: BackendNumber, mac: Option<[u8; 6]>) -> Duration {
        self.expect_in(number, mac, PATIENCE)
    }

    #[track_caller]
    pub(super) fn expect_in(&mut self, number: BackendNumber, mac: Option<[u8; 6]>, longest: Duration) -> Duration {
        self.wait_for(longest, |watching| {
            watching.known.get(&number).map(|entry| entry.map(|entry| entry.mac)) == Some(mac)
        })
    }

    /// Waits until `is` returns true; returns the elapsed time.
    #[track_caller]
    pub(super) fn wait(&mut self, is: impl Fn(&Self) -> bool) -> Duration {
        self.wait_for(PATIENCE, is)
    }

    #[track_caller]
    pub(super) fn wait_for(&mut self, longest: Duration, is: impl Fn(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !is(self) {
            let left = longest.saturating_sub(started.elapsed());
            let event = self.runtime.block_on(async { timeout(left, self.events.recv()).await });
            let Ok(event) = event else { panic!("waited in vain; state: {:?}", self.known) };
            self.take(event.expect("the watch runs"));
        }
        started.elapsed()
    }

    /// Waits until `why` is reported as the reason why backend `number` is unreachable, or `None`; returns the elapsed
    /// time.
    #[track_caller]
    pub(super) fn expect_reach(&mut self, number: BackendNumber, why: Option<&str>, longest: Duration) -> Duration {
        let started = Instant::now();
        while self.reach.get(&number).map(Option::as_deref) != Some(why) {
            let left = longest.saturating_sub(started.elapsed());
            let event = self.runtime.block_on(async { timeout(left, self.events.recv()).await });
            let Ok(event) = event else { panic!("backend {number}: expected {why:?}, have {:?}", self.reach) };
            self.take(event.expect("the watch runs"));
        }
        started.elapsed()
    }

    /// Counts the events within `time` that concern backends, VIPs or interfaces.
    pub(super) fn quiet(&mut self, time: Duration) -> usize {
        let mut count = 0;
        let until = Instant::now() + time;
        while let Ok(event) = {
            let left = until.saturating_duration_since(Instant::now());
            self.runtime.block_on(async { timeout(left, self.events.recv()).await })
        } {
            let event = event.expect("the watch runs");
            count += usize::from(event != NetEvent::HostChanged);
            self.take(event);
        }
        count
    }
}

#[test]
fn requests_neighbours_that_are_not_resolved_yet() {
    in_lab(|_| {
        let mut watching = Watching::new(&["10.0.0.2", "fd00::2", "10.0.0.77", "198.51.100.1", "10.0.0.1"], None);
        watching.expect(1, Some(PEER));
        watching.expect(2, Some(PEER));
        let entry = watching.known[&1].unwrap();
        assert_eq!((entry.source_mac, entry.mtu, entry.vlan), ([2, 0, 0, 0, 0, 1], 1500, 0));
        watching.expect(3, None);
        watching.expect(4, None);
        watching.expect(5, None);
        assert_eq!(watching.quiet(Duration::from_millis(1500)), 0, "without a change, nothing is reported");
    });
}

#[test]
fn reports_unreachable_backends_with_the_reason() {
    in_lab(|lab| {
        let mut watching = Watching::new(&["10.0.0.2", "198.51.100.1"], None);
        watching.expect(1, Some(PEER));
        watching.expect_reach(1, None, SOON);
        watching.expect_reach(2, Some("no route"), SOON);
        for (down, why, up) in [
            ("ip link set edge0 down", "no route", "ip link set edge0 up"),
            ("ip route add blackhole 10.0.0.2", BLACKHOLE, "ip route del blackhole 10.0.0.2"),
        ] {
            sh(down);
            watching.expect_reach(1, Some(why), SOON);
            sh(up);
            watching.expect_reach(1, None, Duration::from_secs(3));
            watching.expect(1, Some(PEER));
        }
        // The carrier is lost if the other end goes down. The kernel may hold that back for a second, if another change was
        // a short time ago (`linkwatch_schedule_work`).
        lab.peer("ip link set peer0 down");
        watching.expect_reach(1, Some("its egress is down"), Duration::from_secs(3));
        lab.peer("ip link set peer0 up");
        watching.expect_reach(1, None, Duration::from_secs(3));
    });
}

#[test]
fn a_neighbour_that_the_kernel_has_given_up_on_is_reported_and_one_that_was_flushed_is_not() {
    in_lab(|lab| {
        let mut watching = Watching::new(&["10.0.0.2", "10.0.0.77"], None);
        watching.expect(1, Some(PEER));
        sh("ip neigh flush dev edge0");
        watching.expect(1, Some(PEER));
        assert_eq!(watching.reach.get(&1), Some(&None), "it answers at once");
        // No host has this address. The kernel sends three requests, a second apart.
        watching.expect_reach(2, Some("its next hop 10.0.0.77 does not answer"), Duration::from_secs(6));
        // An operator deletes the entry: nothing was heard from it since.
        sh("ip neigh del 10.0.0.77 dev edge0");
        watching.quiet(Duration::from_millis(500));
        assert!(watching.reach.get(&2).is_some_and(Option::is_some), "{:?}", watching.reach);
        lab.peer("ip link set peer0 arp off");
        sh("ip neigh flush dev edge0");
        watching.expect_reach(1, Some("its next hop 10.0.0.2 does not answer"), Duration::from_secs(6));
        lab.peer("ip link set peer0 arp on");
        watching.expect_reach(1, None, Duration::from_secs(6));
    });
}

#[test]
fn reports_the_hosts_vips_as_they_are_added_and_removed() {
    in_lab(|_| {
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect(1, Some(PEER));
        let [v4, v6] = VIPS.map(|vip| vip.parse().unwrap());
        let all = BTreeSet::from([v4, v6]);
        let own = || own(&all).unwrap().into_iter().filter_map(|(vip, is)| is.then_some(vip)).collect::<Vec<_>>();
        assert_eq!((&watching.host_vips[..], own()), (&[][..], vec![]));
        for (command, expected) in [
            ("ip addr add 192.0.2.10/32 dev edge0", vec![v4]),
            ("ip addr add 2001:db8::10/128 dev lo nodad", vec![v4, v6]),
            ("ip addr del 192.0.2.10/32 dev edge0", vec![v6]),
            // Without an address: a whole prefix can be the host's.
            ("ip route add local 192.0.2.0/24 dev lo", vec![v4, v6]),
            ("ip route del local 192.0.2.0/24 dev lo; ip addr del 2001:db8::10/128 dev lo", vec![]),
        ] {
            sh(command);
            watching.quiet(Duration::from_millis(500));
            assert_eq!((&watching.host_vips, own()), (&expected, expected.clone()), "{command}");
        }
    });
}

#[test]
fn follows_a_neighbour_that_changes() {
    in_lab(|_| {
        let mut watching = Watching::new(&["10.0.0.2", "fd00::2"], None);
        watching.expect(1, Some(PEER));
        watching.expect(2, Some(PEER));
        sh("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:09 dev edge0");
        sh("ip neigh replace fd00::2 lladdr 02:00:00:00:00:09 dev edge0");
        watching.expect(1, Some(OTHER));
        watching.expect(2, Some(OTHER));
        // The entry is deleted, and the peer answers with its own address again.
        sh("ip neigh del 10.0.0.2 dev edge0; ip neigh del fd00::2 dev edge0");
        watching.expect(1, Some(PEER));
        watching.expect(2, Some(PEER));
    });
}

#[test]
fn reports_a_neighbour_that_is_lost_and_resolved_again() {
    in_lab(|lab| {
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect(1, Some(PEER));
        lab.peer("ip link set peer0 arp off");
        sh("ip neigh del 10.0.0.2 dev edge0");
        watching.expect(1, None);
        lab.peer("ip link set peer0 arp on");
        // The kernel sends a request once a second, so the answer may be that late.
        let waited = watching.quiet(Duration::from_millis(1200));
        assert_eq!((waited, watching.known[&1].map(|entry| entry.mac)), (1, Some(PEER)));
    });
}

#[test]
fn a_permanent_neighbour_stays_permanent() {
    in_lab(|_| {
        sh("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:09 dev edge0 nud permanent");
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect(1, Some(OTHER));
        watching.quiet(Duration::from_millis(2500));
        sh("ip neigh show 10.0.0.2 dev edge0 | grep -q PERMANENT");
    });
}

#[test]
fn neighbours_that_live_are_not_lost_by_a_flush() {
    in_lab(|_| {
        let mut watching = Watching::new(&["10.0.0.2", "fd00::2"], None);
        watching.expect(1, Some(PEER));
        watching.expect(2, Some(PEER));
        sh("ip neigh flush all; ip -6 neigh flush all");
        assert_eq!(watching.quiet(SOON), 0, "they answered before anything was noticed");
        assert_eq!(watching.known.values().filter(|entry| entry.is_some()).count(), 2);
    });
}

#[test]
fn follows_a_link_down_and_up() {
    in_lab(|lab| {
        let mut watching = Watching::new(&["10.0.0.2", "fd00::2"], None);
        watching.expect(1, Some(PEER));
        watching.expect(2, Some(PEER));
        watching.quiet(Duration::from_millis(500));
        watching.links.clear();
        sh("ip link set edge0 down");
        watching.expect(1, None);
        watching.expect(2, None);
        watching.quiet(Duration::from_millis(100));
        assert!(watching.links.contains(&"edge0".to_owned()), "{:?}", watching.links);
        // IPv6 addresses were removed with the link.
        sh("ip link set edge0 up && ip address add fd00::1/64 dev edge0 nodad");
        lab.wait_until_up();
        watching.expect(1, Some(PEER));
        watching.expect(2, Some(PEER));
    });
}

#[test]
fn follows_the_peers_carrier() {
    in_lab(|lab| {
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect(1, Some(PEER));
        lab.peer("ip link set peer0 down");
        sh("until ip link show edge0 | grep -q \"state DOWN\\|state LOWER\"; do sleep 0.01; done");
        watching.expect(1, None);
        lab.peer("ip link set peer0 up");
        lab.wait_until_up();
        watching.expect(1, Some(PEER));
    });
}

#[test]
fn follows_routes() {
    in_lab(|lab| {
        lab.peer("ip address add 10.0.0.3/24 dev peer0");
        let mut watching = Watching::new(&["198.51.100.1", "2001:db8::1"], None);
        watching.expect(1, None);
        sh("ip route add 198.51.100.0/24 via 10.0.0.2 mtu 1400");
        watching.expect(1, Some(PEER));
        assert_eq!(watching.known[&1].unwrap().mtu, 1400);
        sh("ip -6 route add 2001:db8::/32 via fd00::2");
        watching.expect(2, Some(PEER));
        sh("ip neigh replace 10.0.0.9 lladdr 02:00:00:00:00:09 dev edge0");
        sh("ip route replace 198.51.100.0/24 via 10.0.0.9");
        watching.expect(1, Some(OTHER));
        sh("ip route add blackhole 198.51.100.1/32");
        watching.expect(1, None);
        sh("ip route del blackhole 198.51.100.1/32");
        watching.expect(1, Some(OTHER));
        // An IPv4 route by an IPv6 gateway.
        sh("ip route replace 198.51.100.0/24 via inet6 fd00::2");
        watching.expect(1, Some(PEER));
    });
}

#[test]
fn recovers_from_a_flush_of_everything() {
    in_lab(|_| {
        let mut watching = Watching::new(&["10.0.0.2", "fd00::2", "198.51.100.1"], None);
        sh("ip route add default via 10.0.0.2");
        for number in 1..=3 {
            watching.expect(number, Some(PEER));
        }
        sh("ip route flush table main; ip -6 route flush table main; ip neigh flush all; ip -6 neigh flush all");
        for number in 1..=3 {
            watching.expect(number, None);
        }
        sh("ip route add 10.0.0.0/24 dev edge0 && ip route add default via 10.0.0.2");
        sh("ip -6 route add fd00::/64 dev edge0");
        for number in 1..=3 {
            watching.expect(number, Some(PEER));
        }
    });
}

#[test]
fn survives_an_overrun_of_the_socket() {
    in_lab(|_| {
        let mut watching = Watching::new(&["10.0.0.2"], Some(2048));
        watching.expect(1, Some(PEER));
        watching.quiet(Duration::from_millis(500));
        // Nothing reads the socket while this runs: the runtime has one thread, which waits here. The change that
        // matters comes last, when the buffer has long been full.
        sh(
            "for i in $(seq 1 250); do echo neigh replace 10.0.0.$i lladdr 02:00:00:00:01:00 dev edge0 nud stale; done \
            | grep -v '10.0.0.[12] ' | ip -batch -",
        );
        sh("ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:09 dev edge0");
        assert!(watching.expect(1, Some(OTHER)) < SOON);
    });
}
