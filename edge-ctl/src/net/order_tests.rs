//! The order in which a change is reported: first the backends that it concerns, then all others.

use tokio::time::timeout;

use super::{
    watch_tests::{PATIENCE, PEER, SOON, Watching},
    *,
};
use crate::net::lab::{in_lab, sh};

/// More than are looked up at a time.
const MANY: BackendNumber = 1000;

/// Many backends behind the peer, and a last one on a link of its own, whose address is numerically after the others'.
fn many_and_one() -> Vec<String> {
    sh("ip link add own0 type veth peer name own1 && ip link set own0 up && ip link set own1 up");
    sh("ip address add 10.9.0.1/24 dev own0 && ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev own0 nud permanent");
    sh("ip route add 198.51.0.0/16 via 10.0.0.2");
    sh("ip route add 203.0.113.0/24 via 10.9.0.2");
    let mut addresses: Vec<String> = (0..MANY).map(|i| format!("198.51.{}.{}", i / 250, i % 250 + 1)).collect();
    addresses.push("203.0.113.1".to_owned());
    addresses
}

/// A watcher whose work is done when a test says so, so that its order does not depend on the machine's speed.
struct Stepped {
    watcher: Watcher,
    requests: Requests,
    agenda: Agenda,
    events: mpsc::Receiver<NetEvent>,
    last: Destination,
    _heard: Sender<Heard>,
}

impl Stepped {
    /// Looks everything up once.
    async fn new(addresses: &[String]) -> Self {
        let destinations: Vec<_> = addresses.iter().map(|one| Destination::of(one.parse().unwrap())).collect();
        let last = *destinations.last().unwrap();
        let backends = (1..).zip(destinations).collect();
        let sought = Sought { backends, interfaces: vec!["edge0".to_owned()], native: true, ..Sought::default() };
        let (sender, events) = mpsc::channel(64);
        let (heard, receiver) = watch::channel(Heard::new());
        let (watcher, agenda) = (Watcher::new(sought, sender, receiver, None), Agenda::default());
        let mut stepped = Self { watcher, requests: Requests::open().unwrap(), agenda, events, last, _heard: heard };
        stepped.watcher.start(Work::Everything, &stepped.requests).await.unwrap();
        stepped.finish().await;
        assert!(stepped.unreachable().is_empty());
        assert!(stepped.watcher.tables.lookups.values().all(|lookup| matches!(lookup, Lookup::Via(_))));
        stepped
    }

    async fn step(&mut self) {
        self.watcher.look_up_some(&self.requests, &mut self.agenda).await.unwrap();
    }

    async fn finish(&mut self) {
        while !self.watcher.queue.is_empty() {
            self.step().await;
        }
    }

    /// The backends that events have since reported as unreachable.
    fn unreachable(&mut self) -> Vec<BackendNumber> {
        let reach = std::iter::from_fn(|| self.events.try_recv().ok()).filter_map(|event| match event {
            NetEvent::Reach(changes) => Some(changes),
            _ => None,
        });
        reach.flatten().filter_map(|(number, why)| why.map(|_| number)).collect()
    }

    /// The destinations whose lookup found no way.
    fn found_lost(&self) -> Vec<Destination> {
        let all = self.watcher.tables.lookups.iter();
        all.filter(|(_, lookup)| !matches!(lookup, Lookup::Via(_))).map(|(destination, _)| *destination).collect()
    }
}

/// Applies a change after which nothing can be sent to any backend, of which the kernel names only the last one's part,
/// and expects that this one is looked up and reported before the others are looked up.
#[track_caller]
fn is_first(change: &str) {
    in_lab(|_| {
        let addresses = many_and_one();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, _handle, mut notifications) = rtnetlink::new_multicast_connection(&GROUPS).unwrap();
            let _connection = JoinSet::from_iter([connection]);
            let mut stepped = Stepped::new(&addresses).await;
            sh(change);
            let noted = async {
                while !stepped.watcher.queue.awaits(stepped.last) {
                    let (message, _) = notifications.next().await.unwrap();
                    stepped.watcher.note(&message, &mut stepped.agenda);
                }
            };
            timeout(PATIENCE, noted).await.expect("the kernel's notification concerns the last backend");
            let work = loop {
                let work = timeout(PATIENCE, stepped.agenda.wait()).await.expect("work is due");
                stepped.agenda.done(work);
                if work > Work::Evaluate {
                    break work;
                }
            };
            // What the kernel's own lookup has not confirmed is not reported.
            stepped.watcher.start(Work::Evaluate, &stepped.requests).await.unwrap();
            assert!(stepped.unreachable().is_empty(), "{change}: before its lookup");
            // All routes may be due as well, and include it.
            assert!(work == Work::Affected || work == Work::Lookups, "{change}: {work:?}");
            stepped.watcher.start(work, &stepped.requests).await.unwrap();
            // A look at all others is due as well.
            stepped.watcher.start(Work::Lookups, &stepped.requests).await.unwrap();
            stepped.step().await;
            assert!(!stepped.watcher.queue.awaits(stepped.last), "{change}: is looked up");
            let others = stepped.found_lost().into_iter().filter(|destination| *destination != stepped.last);
            assert_eq!(others.count(), 0, "{change}: no other one is");
            assert_eq!(stepped.unreachable(), [MANY + 1], "{change}: is reported");
            stepped.finish().await;
            assert_eq!(stepped.unreachable().len(), usize::from(MANY), "{change}: the others");
        });
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
        let addresses = many_and_one();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let (mut watching, last) = (Watching::new(&addresses, None), MANY + 1);
        watching.wait(|watching| watching.known.len() > MANY.into() && watching.known.values().all(Option::is_some));
        watching.quiet(Duration::from_millis(500));
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
