//! Judged health: failed probes are doubted before they cost a connection, and backends come back gradually.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use edge_tests::lab::{
    Lab, Options,
    configuration::Configuration,
    flows::{Flows, Pattern, Plan, signature},
    load::{self, Load},
    tool::run_with_input,
    topology::{Backend, CLIENTS, EDGE_V4, EDGE_V6, Family, Protocol, Provider, Service},
    wait_until,
};

/// Number of long-lived connections.
const LONG: usize = 200;
/// New connections per second.
const NEW: u32 = 200;
/// Detection: 3 probes at intervals of 200 ms, and the last one's timeout; one more interval for jitter.
const DETECTED: Duration = Duration::from_secs(1);

/// The edge's addresses in the segment that it shares with backends.
const LAN_V4: &str = "10.0.1.1";
const LAN_V6: &str = "fd00:1::1";

/// A lab with these lines about judging in each pool.
fn lab(judging: &str) -> Lab {
    let edge_ctl = edge_tests::built("edge-ctl").expect("edge-ctl is built");
    let configuration = Configuration { judging: judging.to_owned(), ..Configuration::default() };
    let lab = Lab::up(&Options { edge_ctl: Some(edge_ctl), configuration }).expect("the lab comes up");
    lab.wait_for_health(|_| "up").expect("every backend is seen up");
    lab
}

/// The answers to the edge's probes that are lost; clients get all of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    All,
    /// All answers through one of the edge's two interfaces.
    OneWay,
    /// The answers of half of the connections, at random.
    Half,
}

/// Loses answers to probes from now on.
fn lose_probes(lab: &Lab, lost: Lost) {
    everywhere(lab, |backend| {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| backend.provider.router(family));
        let blackholes = |edges: &[&str]| format!("route add blackhole {}\n", edges.join("\nroute add blackhole "));
        let (edge_v4, edge_v6) = (EDGE_V4.to_string(), EDGE_V6.to_string());
        match lost {
            Lost::All => blackholes(&[&edge_v4, &edge_v6, LAN_V4, LAN_V6]),
            Lost::OneWay => blackholes(&[&edge_v4, &edge_v6]),
            Lost::Half => {
                for family in ["ipv4", "ipv6"] {
                    let netns = lab.netns(&backend.to_string());
                    netns.set(&format!("{family}/fib_multipath_hash_policy"), "1").expect("a setting");
                }
                // Packets on this route reach no host, and need no neighbour.
                format!(
                    "link add hole type veth peer name bottom\nlink set hole arp off up\nlink set bottom up\n\
                     addr add fd00:ffff::1/64 dev hole nodad\n\
                     route add {edge_v4}/32 nexthop dev hole nexthop via {v4} dev wan\n\
                     route add {edge_v6}/128 nexthop via fd00:ffff::2 dev hole nexthop via {v6} dev wan\n"
                )
            }
        }
    });
}

fn find_probes(lab: &Lab, lost: Lost) {
    everywhere(lab, |_| {
        let (v4, v6) = (format!("route del {EDGE_V4}/32\n"), format!("route del {EDGE_V6}/128\n"));
        match lost {
            Lost::All => format!("{v4}{v6}route del {LAN_V4}\nroute del {LAN_V6}\n"),
            Lost::OneWay => format!("{v4}{v6}"),
            // Only one of several IPv6 routes is deleted at a time.
            Lost::Half => format!("{v4}link del hole\n{v6}"),
        }
    });
}

/// Runs `ip` commands in all backends at once: probes that are lost one after the other would not be a single event.
fn everywhere(lab: &Lab, commands: impl Fn(Backend) -> String + Sync) {
    thread::scope(|scope| {
        for backend in Backend::all() {
            let commands = &commands;
            scope.spawn(move || {
                let mut ip = lab.netns(&backend.to_string()).command("ip").expect("the namespace is there");
                run_with_input(ip.args(["-batch", "-"]), &commands(backend)).expect("ip does it");
            });
        }
    });
}

/// Events so far, by kind: subject and message. An event about several services is listed for each of them.
fn events(lab: &Lab) -> BTreeMap<String, Vec<(String, String)>> {
    let text = lab.ctl(&["events", "--json"]).expect("the daemon answers");
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("an event");
        let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let services = event["services"].as_array().cloned().unwrap_or_default();
        let services: Vec<_> = services.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let about = if services.is_empty() { vec![field("subject")] } else { services };
        let all = about.into_iter().map(|about| (about, field("message")));
        found.entry(field("kind")).or_default().extend(all);
    }
    found
}

fn count(events: &BTreeMap<String, Vec<(String, String)>>, kind: &str, subject: &str) -> usize {
    events.get(kind).map_or(0, |events| events.iter().filter(|(of, _)| of == subject).count())
}

/// Short and long connections of the first client, through all TCP services.
fn crowd(lab: &Lab) -> Vec<Flows> {
    signature::sign(lab).expect("backends are signed");
    let addresses = edge_tests::lab::flows::addresses::add(lab, CLIENTS[0], 16).expect("addresses");
    let to: Vec<_> = Service::of(Protocol::Tcp).map(Service::address).collect();
    [Pattern::Long { connections: LONG, pace: Duration::from_millis(100) }, Pattern::New { per_second: NEW }]
        .map(|kind| {
            let plan = Plan { from: addresses.clone(), to: to.clone(), kind };
            Flows::start(lab.netns(CLIENTS[0]), plan).expect("connections start")
        })
        .into()
}

/// Ends the connections; returns the number of opened ones, and those that broke.
fn ended(crowd: Vec<Flows>) -> (u64, Vec<String>) {
    let tallies: Vec<_> = crowd.into_iter().map(|flows| flows.stop().expect("they end")).collect();
    let opened = tallies.iter().map(|tally| tally.opened).sum();
    let broken = tallies.iter().flat_map(|tally| &tally.broken).map(|broken| format!("{broken:?}"));
    (opened, broken.collect())
}

#[test]
fn probes_that_are_lost_cost_no_connection() {
    let lab = lab("");
    let crowd = crowd(&lab);
    sleep(Duration::from_secs(2));

    lose_probes(&lab, Lost::All);
    let frozen = || Ok(!lab.status()?["daemon"]["frozen"].is_null());
    assert!(wait_until(Duration::from_secs(3), frozen).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    assert!(lab.ctl(&["status"]).unwrap().contains("FROZEN"));
    sleep(Duration::from_secs(3));
    lab.wait_for_health(|_| "up").expect("all is as it was");
    find_probes(&lab, Lost::All);
    let thawed = || Ok(lab.status()?["daemon"]["frozen"].is_null());
    assert!(wait_until(Duration::from_secs(3), thawed).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    let seen = events(&lab);
    assert_eq!(seen.get("pool_left"), None);

    // One of the two interfaces: all pools of some services, and none of others.
    lose_probes(&lab, Lost::OneWay);
    sleep(Duration::from_secs(3));
    find_probes(&lab, Lost::OneWay);
    lab.wait_for_health(|_| "up").expect("all is as it was");

    lose_probes(&lab, Lost::Half);
    sleep(Duration::from_secs(8));
    find_probes(&lab, Lost::Half);
    lab.wait_for_health(|_| "up").expect("all is as it was");
    sleep(Duration::from_secs(1));

    let (opened, broken) = ended(crowd);
    let seen = events(&lab);
    let out: BTreeSet<_> =
        seen.get("backend_down").into_iter().flatten().filter(|(_, why)| why.contains("flows move")).collect();
    assert!(out.is_empty(), "{out:?}");
    assert_eq!(broken, Vec::<String>::new(), "of {opened}; {:?}", seen.keys());
    assert!(opened > 2000, "{opened}");
    println!(
        "{opened} connections opened, none broke; events: {:?}",
        seen.iter().map(|(kind, of)| (kind, of.len())).collect::<Vec<_>>()
    );
}

/// Silences a machine: its links stay up, but it sends nothing.
fn silence(lab: &Lab, backend: Backend) {
    let lines =
        ["10.0.0.0/24", "10.0.1.1/32", "fd00::/64", "fd00:1::1/128"].map(|to| format!("route add blackhole {to}\n"));
    lab.netns(&backend.to_string()).ip(&lines.concat()).expect("routes");
}

/// Makes load on all HTTP services; returns the time from `event` until only `wanted` backends serve.
fn served_after(lab: &Lab, event: impl FnOnce(), wanted: &[&str]) -> Duration {
    let loads: Vec<Load> = lab.load(Service::of(Protocol::Tcp)).expect("load starts");
    sleep(Duration::from_millis(400));
    let from = Instant::now();
    event();
    sleep(DETECTED + load::TIMEOUT + Duration::from_secs(1));
    let records = load::stop(loads).expect("load ends");
    let wrong = |outcome: &Result<String, String>| !outcome.as_ref().is_ok_and(|by| wanted.contains(&by.as_str()));
    let last = records.iter().filter(|record| wrong(&record.outcome)).map(|record| record.start).max();
    last.map_or(Duration::ZERO, |last| last.saturating_duration_since(from))
}

#[test]
fn a_backend_that_falls_silent_loses_its_flows_and_a_provider_is_left() {
    let lab = lab("");
    let a2 = Backend::named("a2").unwrap();
    let after = served_after(&lab, || silence(&lab, a2), &["a1", "a3"]);
    assert!(after < DETECTED, "{after:?}");
    println!("a silent backend: requests fail for {after:?}");
    let a2s = events(&lab)["backend_down"].iter().filter(|(_, why)| why.contains("its flows move, too")).count();
    assert_eq!(a2s, a2.pools().len(), "{:?}", events(&lab)["backend_down"]);
    // The other backends of the provider.
    let rest = || Backend::of(Provider::A).filter(|backend| *backend != a2).for_each(|backend| silence(&lab, backend));
    let after = served_after(&lab, rest, &["b1", "b2", "b3"]);
    assert!(after < DETECTED, "{after:?}");
    println!("a silent provider: requests fail for {after:?}");
    assert!(lab.status().unwrap()["daemon"]["frozen"].is_null());
}

/// Makes backends answer probes with 500, or with 200 again.
fn set_sick(lab: &Lab, backends: impl Iterator<Item = Backend>, sick: bool) {
    for backend in backends {
        let file = lab.dir().join(backend.to_string()).join("sick");
        let done = if sick { std::fs::write(file, "") } else { std::fs::remove_file(file) };
        done.expect("the server's directory is there");
    }
}

#[test]
fn a_provider_that_is_sick_in_turns_is_left_once_and_returned_to_once() {
    // Five minutes become two seconds here, 150 times faster.
    let lab = lab("damping = \"2s\"\nfailback_after = \"4s\"\nfailback_over = \"1s\"\nslow_start = \"200ms\"\n");
    let period = Duration::from_secs(2);
    for _ in 0..4 {
        set_sick(&lab, Backend::of(Provider::A), true);
        sleep(period);
        set_sick(&lab, Backend::of(Provider::A), false);
        sleep(period);
    }
    sleep(Duration::from_secs(10));
    let seen = events(&lab);
    for service in Service::of(Protocol::Tcp) {
        let moves = (count(&seen, "pool_left", service.name), count(&seen, "pool_returned", service.name));
        assert_eq!(moves, (1, 1), "{}: {seen:?}", service.name);
        assert!(lab.curl(CLIENTS[0], &format!("http://{}/", service.address())).unwrap().starts_with('a'));
    }
}

#[test]
fn a_backend_that_flaps_is_up_and_down_no_more_than_three_times() {
    let lab = lab("");
    let a1 = Backend::named("a1").unwrap();
    for _ in 0..10 {
        set_sick(&lab, [a1].into_iter(), true);
        sleep(Duration::from_secs(1));
        set_sick(&lab, [a1].into_iter(), false);
        sleep(Duration::from_secs(1));
    }
    let seen = events(&lab);
    for pool in a1.pools() {
        let name = format!("{pool}/a1");
        // The first change was at the daemon's start.
        let changes = count(&seen, "backend_down", &name) + count(&seen, "backend_up", &name) - 1;
        assert!((1..=3).contains(&changes), "{name}: {changes}");
    }
    let text = lab.ctl(&["status"]).unwrap();
    assert!(text.contains("held back"), "{text}");
}
