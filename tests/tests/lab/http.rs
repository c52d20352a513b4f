//! Real HTTP and UDP through each mode and both IP versions, during changes of the environment.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    Lab,
    load::{self, Load, Record, report},
    topology::{Backend, CLIENTS, Protocol, Provider, Service},
    udp_echo,
};

/// Long enough to use every slot, short enough for a test.
const WATCH: Duration = Duration::from_millis(800);

/// Detection takes 3 probes at intervals of 200 ms, and the last one's timeout; one more interval for jitter.
const DETECTED: Duration = Duration::from_secs(1);

#[test]
fn every_service_is_served_by_the_first_pool_over_all_its_backends() {
    let lab = Lab::with_edge();
    for service in Service::of(Protocol::Tcp) {
        let served: BTreeSet<_> =
            (0..30).map(|_| lab.curl("client1", &format!("http://{}/", service.address())).unwrap()).collect();
        assert_eq!(served.into_iter().collect::<Vec<_>>(), ["a1", "a2", "a3"], "{}", service.name);
    }
    for service in Service::of(Protocol::Udp) {
        let answers = lab.netns("client2").within(|| {
            let exchange =
                |number: u32| udp_echo::request(service.address(), &number.to_be_bytes(), Duration::from_secs(1));
            (0..30).map(exchange).collect::<std::io::Result<BTreeSet<_>>>()
        });
        let served = answers.unwrap().unwrap_or_else(|error| panic!("{}: {error}", service.name));
        assert_eq!(served.into_iter().collect::<Vec<_>>(), ["a1", "a2", "a3"], "{}", service.name);
    }
}

#[test]
fn a_vip_answers_ping() {
    let lab = Lab::with_edge();
    for vip in edge_tests::lab::topology::vips() {
        let vip = vip.to_string();
        let mut ping = lab.netns("client1").command("ping").unwrap();
        edge_tests::lab::tool::run(ping.args(["-n", "-c", "1", "-W", "1", &vip])).unwrap();
    }
}

#[test]
fn a_dead_backend_costs_only_requests_in_flight() {
    let mut lab = Lab::with_edge();
    let a2 = Backend::named("a2").unwrap();
    let (records, from) = under_load(&mut lab, |lab| lab.kill_backend(a2).unwrap(), DETECTED + load::TIMEOUT + WATCH);
    assert_recovered(&records, from);
    assert_eq!(served_after(&records, from + DETECTED + load::TIMEOUT), ["a1", "a3"]);
}

#[test]
fn a_dead_provider_fails_over_to_the_next_and_back() {
    let mut lab = Lab::with_edge();
    let kill = |lab: &mut Lab| Backend::of(Provider::A).for_each(|backend| lab.kill_backend(backend).unwrap());
    let (records, from) = under_load(&mut lab, kill, DETECTED + load::TIMEOUT + WATCH);
    assert_recovered(&records, from);
    assert_eq!(served_after(&records, from + DETECTED + load::TIMEOUT), ["b1", "b2", "b3"]);
    let heal = |lab: &mut Lab| {
        Backend::of(Provider::A).for_each(|backend| lab.heal_backend(backend).unwrap());
        lab.wait_for_health(|_| "up").unwrap();
    };
    let (records, _) = under_load(&mut lab, heal, Duration::ZERO);
    // Earlier ports belong to flows whose records still exist: a new connection from such a port goes where its record
    // points.
    for client in CLIENTS {
        lab.netns(client).set("ipv4/ip_local_port_range", "20000 32000").unwrap();
    }
    let (again, _) = under_load(&mut lab, |_| (), WATCH);
    // There are no flow records: a kept connection breaks when a new one in its slot moves the slot back.
    let (kept, new): (Vec<_>, Vec<_>) = records.into_iter().partition(is_kept);
    assert_eq!(failures(&new), Vec::<String>::new());
    let streams = 2 * Service::of(Protocol::Tcp).count();
    assert!(failures(&kept).len() <= streams, "{:?}", failures(&kept));
    let again: Vec<_> = again.into_iter().filter(|record| !is_kept(record)).collect();
    assert_eq!(served_after(&again, again[0].start), ["a1", "a2", "a3"]);
}

#[test]
fn a_killed_and_restarted_daemon_costs_no_request() {
    let mut lab = Lab::with_edge();
    let restart = |lab: &mut Lab| {
        lab.kill_daemon().unwrap();
        std::thread::sleep(WATCH);
        lab.start_daemon().unwrap();
    };
    let (records, _) = under_load(&mut lab, restart, WATCH);
    assert_eq!(failures(&records), Vec::<String>::new());
}

#[test]
fn a_stopped_daemon_leaves_the_traffic_flowing() {
    let mut lab = Lab::with_edge();
    let (records, _) = under_load(&mut lab, |lab| lab.stop_daemon().unwrap(), WATCH);
    assert_eq!(failures(&records), Vec::<String>::new());
}

#[test]
fn a_drained_backend_gets_no_new_connections() {
    let mut lab = Lab::with_edge();
    let a1 = Backend::named("a1").unwrap();
    let drain = |lab: &mut Lab| {
        for pool in a1.pools() {
            lab.ctl(&["drain", &format!("{pool}/a1")]).unwrap();
        }
    };
    let (records, from) = under_load(&mut lab, drain, WATCH);
    let drained = from + Duration::from_millis(400);
    let new: Vec<_> = records.into_iter().filter(|record| !is_kept(record)).collect();
    assert_eq!(served_after(&new, drained), ["a2", "a3"]);
}

#[test]
fn an_operator_fails_over_and_back() {
    let mut lab = Lab::with_edge();
    let failover = |lab: &mut Lab| {
        for service in Service::of(Protocol::Tcp) {
            lab.ctl(&["failover", service.name, "--to", &service.pools()[1]]).unwrap();
        }
    };
    let (records, from) = under_load(&mut lab, failover, WATCH);
    let new: Vec<_> = records.into_iter().filter(|record| !is_kept(record)).collect();
    assert_eq!(served_after(&new, from + WATCH / 2), ["b1", "b2", "b3"]);
    for service in Service::of(Protocol::Tcp) {
        lab.ctl(&["failback", service.name]).unwrap();
        assert!(lab.curl("client1", &format!("http://{}/", service.address())).unwrap().starts_with('a'));
    }
}

/// Makes load on every HTTP service during `event` and for `watch` after it. Returns the records, and the time after
/// `event`: killing three machines takes a while.
fn under_load(lab: &mut Lab, event: impl FnOnce(&mut Lab), watch: Duration) -> (Vec<Record>, Instant) {
    let loads: Vec<Load> = lab.load(Service::of(Protocol::Tcp)).expect("load starts");
    std::thread::sleep(Duration::from_millis(400));
    event(lab);
    let from = Instant::now();
    std::thread::sleep(watch);
    let records = load::stop(loads).expect("load ends");
    assert!(records.len() > 100, "only {} requests", records.len());
    (records, from)
}

/// Whether a request used a kept connection: [`Lab::load`] gives these streams even numbers.
fn is_kept(record: &Record) -> bool {
    record.stream.is_multiple_of(2)
}

/// Failed requests, and when they were sent.
fn failures(records: &[Record]) -> Vec<String> {
    let start = records.iter().map(|record| record.start).min();
    records
        .iter()
        .filter_map(|record| {
            let error = record.outcome.as_ref().err()?;
            Some(format!("stream {} at {:?}: {error}", record.stream, record.start.duration_since(start?)))
        })
        .collect()
}

/// Asserts that no request failed that was sent later than detection takes.
#[track_caller]
fn assert_recovered(records: &[Record], from: Instant) {
    let late = records.iter().filter(|record| record.start > from + DETECTED).cloned().collect::<Vec<_>>();
    assert_eq!(
        failures(&late),
        Vec::<String>::new(),
        "of {} requests, {} failed",
        records.len(),
        failures(records).len()
    );
}

/// Names of the backends that answered from `from` on.
fn served_after(records: &[Record], from: Instant) -> Vec<String> {
    let end = records.iter().map(|record| record.end).max().unwrap_or(from) + Duration::from_millis(1);
    report::served(records, from, end).into_keys().collect()
}
