//! The packets of clients show a death before any probe does.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    load::{Load, Manner, Pace, Record, Reuse, Stream},
    patience::patience,
    short,
    small::{BACKENDS, CLIENT},
    status, tool,
    topology::EDGE,
    wait_until,
};

use super::{Connection, Nat, PORT, VIPS, configuration};

/// Interval of probes: long after a client has noticed.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time within which new connections succeed again, whatever the interval of probes.
const LIMIT: Duration = Duration::from_millis(500);
/// Time without losses, and time within which losses are reported: twice what is promised, for a busy machine.
const WELL: Duration = Duration::from_secs(3);
const GRAY: Duration = Duration::from_secs(10);
/// Load: clients, each with a new connection every so often.
const STREAMS: usize = 10;
const PACE: Duration = Duration::from_millis(50);

/// Probes of the whole lab at this interval.
fn with_interval(text: &str, interval: Duration) -> String {
    let usual = format!("interval = \"{}ms\"", patience(Duration::from_millis(100)).as_millis());
    assert!(text.contains(&usual), "{text}");
    text.replace(&usual, &format!("interval = \"{}ms\"", interval.as_millis()))
}

/// The configuration with all backends in one pool.
fn one_pool() -> String {
    let text = configuration("").replace("[[pool]]\nname = \"provider-b\"\n", "");
    text.replace("[\"provider-a\", \"provider-b\"]", "[\"provider-a\"]")
}

/// Lets a backend send nothing to the edge any more, so that it is as silent as without power behind a switch, whose link
/// stays up.
fn power_off(nat: &Nat, backend: usize) {
    let number = backend + 1;
    let (v4, v6) =
        (["10.0.0.1".to_owned(), format!("10.1.{number}.1")], ["fd00::1".to_owned(), format!("fd01:{number}::1")]);
    let v4 = v4.map(|address| format!("route add blackhole {address}/32\n")).concat();
    let v6 = v6.map(|address| format!("route add blackhole {address}/128\n")).concat();
    nat.lab.netns(BACKENDS[backend]).ip(&(v4 + &v6)).expect("routes");
}

fn load(nat: &Nat) -> Load {
    let stream = |number: usize| Stream {
        target: SocketAddr::new(VIPS[number % 2].parse().expect("an address"), PORT),
        reuse: Reuse::New,
    };
    let streams: Vec<_> = (0..STREAMS).map(stream).collect();
    let manner = Manner { pace: Pace::Due(PACE), patience: patience(Duration::from_millis(300)) };
    Load::with(nat.lab.netns(CLIENT), &streams, 0, manner).expect("a load")
}

/// Time from `died` until the last request was sent that failed.
fn recovered(records: &[Record], died: Instant) -> Duration {
    let failed = records.iter().filter(|record| record.outcome.is_err());
    failed.map(|record| record.start.saturating_duration_since(died)).max().unwrap_or_default()
}

/// Makes load, has the first backend die by `die`, and checks that its clients are soon served by the other one.
fn moved(nat: &Nat, die: impl FnOnce(&Nat)) -> Duration {
    // The first probes have passed, so that it is known how long an answer takes.
    (0..BACKENDS.len()).for_each(|backend| nat.wait_for(backend, "up"));
    let load = load(nat);
    thread::sleep(Duration::from_millis(500));
    let died = Instant::now();
    die(nat);
    thread::sleep(patience(Duration::from_secs(2)));
    let records = load.stop().expect("records");
    let early: Vec<_> = records.iter().filter(|record| record.end < died && record.outcome.is_err()).collect();
    assert!(early.is_empty(), "failed before the death: {early:?}");
    let served: BTreeSet<_> = records
        .iter()
        .filter(|record| record.start > died + LIMIT)
        .filter_map(|record| record.outcome.clone().ok())
        .collect();
    assert_eq!(served, BTreeSet::from([BACKENDS[1].to_owned()]));
    recovered(&records, died)
}

#[test]
fn a_backend_that_loses_power_is_left_long_before_its_next_probe() {
    let nat = Nat::start_with(&with_interval(&configuration(""), INTERVAL));
    let took = moved(&nat, |nat| power_off(nat, 0));
    println!("the last request that failed was sent {took:?} after the death");
    assert!(took < patience(LIMIT), "{took:?}");
    let status = nat.lab.ctl(&["status"]).expect("a status");
    assert!(status.contains("clients wait in vain"), "{status}");
}

#[test]
fn a_backend_of_several_that_loses_power_is_left_as_soon() {
    // Its probes go through its services, as by default.
    let text = one_pool().replace("\nthrough = \"address\"", "");
    let nat = Nat::start_with(&with_interval(&text, INTERVAL));
    let took = moved(&nat, |nat| power_off(nat, 0));
    println!("the last request that failed was sent {took:?} after the death");
    assert!(took < patience(LIMIT), "{took:?}");
}

#[test]
fn a_server_that_ends_is_left_by_its_first_rst() {
    let mut nat = Nat::start_with(&with_interval(&configuration(""), INTERVAL));
    let server = nat.servers.remove(0);
    let took = moved(&nat, move |_| drop(server));
    println!("the last request that failed was sent {took:?} after the end");
    assert!(took < patience(LIMIT), "{took:?}");
}

/// Clients' addresses, of several prefixes.
fn prefixes(nat: &Nat) -> Vec<IpAddr> {
    let all: Vec<IpAddr> = (1..=6).map(|number| IpAddr::from([10, 77, number, 5])).collect();
    let mut lines = String::new();
    for address in &all {
        let _infallible = writeln!(lines, "addr add {address}/32 dev eth0");
    }
    nat.lab.netns(CLIENT).ip(&lines).expect("addresses");
    nat.lab.netns(EDGE).ip("route add 10.77.0.0/16 via 10.0.0.2\n").expect("a route back");
    all
}

/// Three of ten packets of a backend's clients are lost on its way, and none of its probes.
#[test]
fn a_backend_that_loses_its_clients_packets_is_reported_though_its_probes_pass() {
    let nat = Nat::start_with(&one_pool());
    (0..BACKENDS.len()).for_each(|backend| nat.wait_for(backend, "up"));
    let to = SocketAddr::new(VIPS[0].parse().expect("an address"), PORT);
    let plan = short::Plan { from: prefixes(&nat), to, per_second: 100, lasts: WELL + patience(GRAY) };
    let suspects = || nat.lab.ctl(&["suspects"]).expect("an answer");
    let events = || nat.lab.ctl(&["events"]).expect("events");
    thread::scope(|scope| {
        let load = scope.spawn(|| short::run(nat.lab.netns(CLIENT), &plan).expect("a namespace"));
        thread::sleep(WELL);
        assert!(suspects().starts_with("No backend is suspected"), "{}", suspects());
        let mut command = nat.lab.netns(BACKENDS[0]).command("nft").expect("a command");
        let lost = "tcp sport 16384-20479 numgen random mod 10 < 3 drop";
        command
            .arg(format!("table ip gray {{ chain gray {{ type filter hook prerouting priority -500; {lost}; }}; }}"));
        tool::run(&mut command).expect("nft");
        let began = Instant::now();
        let told = wait_until(patience(GRAY), || Ok(events().contains("backend_suspect"))).expect("events");
        println!("reported {:?} after the first loss\n{}", began.elapsed(), suspects());
        assert!(told, "{}", events());
        assert!(suspects().contains("/a1 ") && !suspects().contains("/b1 "), "{}", suspects());
        let tally = load.join().expect("it ended");
        assert!(tally.answered > 100, "{tally:?}");
    });
    let seen = status::backends(&nat.lab.edge().expect("an edge").status(nat.lab.netns(EDGE)).expect("a status"));
    assert!(seen.expect("backends").iter().all(|backend| backend.health == "up"), "a report takes nobody out");
}

/// A client whose SYN went to the dead backend would send it again after a second, and one that waits for an answer would
/// learn of the death by its own timeout.
#[test]
fn clients_of_a_dead_backend_connect_anew_at_once() {
    let nat = Nat::start_with(&with_interval(&one_pool(), INTERVAL));
    (0..BACKENDS.len()).for_each(|backend| nat.wait_for(backend, "up"));
    let mut kept: Vec<_> = (0..8).map(|_| Connection::open(&nat, VIPS[0])).collect();
    let homes: Vec<_> = kept.iter_mut().map(|client| client.request().expect("an answer")).collect();
    let stream = |number: usize| Stream {
        target: SocketAddr::new(VIPS[number % 2].parse().expect("an address"), PORT),
        reuse: Reuse::New,
    };
    let streams: Vec<_> = (0..STREAMS).map(stream).collect();
    let manner = Manner { pace: Pace::Answered(PACE), patience: patience(Duration::from_secs(3)) };
    let load = Load::with(nat.lab.netns(CLIENT), &streams, 0, manner).expect("a load");
    thread::sleep(Duration::from_millis(500));
    power_off(&nat, 0);
    let died = Instant::now();
    // These clients send nothing and wait for an answer.
    for (client, home) in kept.iter_mut().zip(&homes).filter(|(_, home)| **home == BACKENDS[0]) {
        let mut answer = [0; 1];
        let error = client.0.read(&mut answer).expect_err("its backend is dead");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{home}: {error}");
    }
    println!("the idle clients were reset {:?} after the death", died.elapsed());
    assert!(died.elapsed() < patience(LIMIT));
    assert!(homes.iter().any(|home| *home == BACKENDS[0]), "{homes:?}");
    thread::sleep(patience(Duration::from_secs(2)));
    let records = load.stop().expect("records");
    let failed: Vec<_> = records.iter().filter(|record| record.outcome.is_err()).collect();
    let longest = records.iter().map(|record| record.end - record.start).max().expect("some");
    println!("{} requests, {} failed, the longest took {longest:?}", records.len(), failed.len());
    assert!(failed.len() <= STREAMS, "{failed:?}");
    assert!(longest < patience(LIMIT), "{longest:?}");
}
