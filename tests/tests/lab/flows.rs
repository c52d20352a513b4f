//! A flow whose backend lives never moves: thousands of real connections, changes of all kinds, and floods.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use edge_tests::{
    lab::{
        Lab, Options,
        configuration::{Configuration, Probing},
        flood::{self, Flood},
        flows::{self, Broken, Flows, Pattern, Tally, addresses, signature},
        topology::{CLIENTS, EDGE, Protocol, Service},
        upheaval::{
            self, Done, Upheaval, believed, outage,
            owners::{self, By, Owners},
            watch::Watch,
        },
    },
    packet::{ACK, SYN},
};

/// Long-lived connections of all clients, and the interval of each connection's requests, shorter than the idle
/// timeout.
const LONG: usize = 1_000;
const PACE: Duration = Duration::from_millis(700);
/// New connections per second, of all clients.
const NEW: u32 = 2_000;
/// Frames per second of each flood.
const FLOOD: u32 = 10_000;
/// So short that owners are handed over during the test.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last records may take to go: the daemon pauses nine times as long as it needed to read them, which is
/// long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// Records that may be left: connections to dead machines, which clients' kernels only end after minutes.
const FEW: u64 = 40;
/// Setting of every TCP service in these labs.
const RECORDED: &str = "flow_idle_timeout = \"2s\"\n";
/// Capacity of the flow table: little more than the connections need, so that a flood fills it.
const FLOWS: u32 = 8_192;

#[test]
fn nothing_breaks_where_nothing_changes() {
    let _alone = alone();
    let lab = lab(RECORDED);
    let crowd = Crowd::start(&lab);
    thread::sleep(Duration::from_secs(2));
    let floods = floods(&lab, 5);
    thread::sleep(Duration::from_secs(3));
    let sent: u64 = floods.into_iter().map(|flood| flood.stop().expect("a flood ends")).sum();
    let tally = crowd.stop();
    assert!(tally.broken.is_empty(), "{} broke: {}", tally.broken.len(), tally.broken[0]);
    assert!(tally.opened > LONG as u64 + 4 * u64::from(NEW), "{} opened", tally.opened);
    assert!(sent > u64::from(FLOOD) * 3, "{sent} frames");
}

#[test]
fn no_connection_breaks_whose_backend_lives() {
    let _alone = alone();
    let run = run(RECORDED, Script { bursts: 10, floods: true });
    assert_eq!(run.unexplained, 0, "connections broke whose backend lived");
    assert!(run.silent as u64 * 100 < run.tally.opened, "{} connections were silent for too long", run.silent);
    let lost = run.tally.broken.len() as u64;
    assert!(run.tally.answers > 50 * u64::from(NEW), "{} answers, {lost} lost", run.tally.answers);

    // Only few flows of few slots give way to a full table, and all of these slots were observed.
    let counted = run.watch.count("owner_taken_over");
    assert!(run.displaced as u64 <= counted, "{} were displaced in {counted} slots", run.displaced);
    assert!(
        run.taken_over as u64 <= counted && run.taken_over as u64 * 10 >= counted * 9,
        "{} of {counted}",
        run.taken_over
    );

    // The run was as intended: every kind of change, and every rule about records.
    assert_eq!(run.kinds.values().sum::<usize>(), 100);
    assert_eq!(run.kinds.len(), upheaval::ChangeKind::ALL.len(), "{:?}", run.kinds);
    let watch = run.watch;
    for name in
        ["lookups", "hits", "recorded_at_new", "recorded_at_owner", "kept_at_owner", "insert_failed", "stale_removed"]
    {
        assert!(watch.count(name) > 0, "{name}: {watch:?}");
    }
    // Maxima of both IP versions, which need not have been reached at the same time.
    let most: u64 = watch.most_records.into_iter().sum();
    assert!(most > u64::from(FLOWS) * 9 / 10, "the table of records was never full: {watch:?}");
    assert!(watch.handed_over >= 10, "slots were handed over only {} times: {watch:?}", watch.handed_over);
    let events = run.lab.ctl(&["events", "--json"]).expect("there are events");
    assert!(events.contains("\"flows_unrecorded\""), "an operator is told that flows could not be recorded");
    assert!(run.left <= FEW, "connections are gone, but not their records: {:?}", watch.transitions);
}

#[test]
fn without_records_connections_do_break() {
    let _alone = alone();
    let run = run("flow_table = false\n", Script { bursts: 2, floods: false });
    assert!(run.unexplained > 50, "only {} broke", run.unexplained);
    assert_eq!(run.watch.most_records, [0, 0]);
}

/// The extent of a run.
#[derive(Clone, Copy)]
struct Script {
    /// Bursts of ten changes; after each, there is time for handovers.
    bursts: u32,
    /// Whether floods run, during two of every four bursts.
    floods: bool,
}

/// The results of a run.
struct Run {
    tally: Tally,
    /// Connections that broke although their backend lived.
    unexplained: usize,
    /// Others that had lost packets until their retransmissions were too rare to keep the flow known, as on a busy
    /// machine.
    silent: usize,
    /// Others whose slot a packet took from their backend, since the flow table was full.
    displaced: usize,
    /// Observed takeovers of slots by packets.
    taken_over: usize,
    kinds: BTreeMap<upheaval::ChangeKind, usize>,
    watch: Watch,
    /// Records that were left some time after the last connection.
    left: u64,
    /// Dropped with a failing test, so that its logs are kept.
    lab: Lab,
}

/// Runs all connections through `script`; `tcp` is added to each TCP service.
fn run(tcp: &str, script: Script) -> Run {
    let seed = seed();
    let mut lab = lab(tcp);
    let start = Instant::now();
    let crowd = Crowd::start(&lab);
    thread::sleep(Duration::from_secs(2));
    let mut upheaval = Upheaval::new(&mut lab, configuration(tcp), seed);
    let mut watch = Watch::default();
    let owners = Owners::watch(upheaval.lab, IDLE_TIMEOUT).expect("slots can be read");
    let mut running = Vec::new();
    for burst in 0..script.bursts {
        if script.floods && burst % 2 == 0 {
            running = if burst % 4 == 0 { floods(upheaval.lab, 60) } else { Vec::new() };
        }
        for _ in 0..10 {
            upheaval.change().expect("a change is made");
            upheaval.pause(Duration::from_millis(500));
        }
        for _ in 0..6 {
            watch.look(upheaval.lab).expect("a status");
            thread::sleep(Duration::from_millis(500));
        }
    }
    drop(running);
    let (done, mut outages) = (upheaval.done().to_vec(), upheaval.outages().to_vec());
    let tally = crowd.stop();
    let owners = owners.stop().expect("slots were read");
    let believed = believed::outages(&lab.edge().log_text());
    for wrong in believed::wrong(&believed, &outages) {
        println!("{:>7} ms  taken for dead: {}, {:?}", since(start, wrong.from), wrong.backend, wrong.reach);
    }
    outages.extend(believed);
    let services: Vec<_> = Service::of(Protocol::Tcp).collect();
    let mut unexplained = outage::unexplained(&tally.broken, &outages, &services);
    let silent = unexplained.extract_if(.., |broken| broken.had_waited(IDLE_TIMEOUT)).count();
    let displaced = unexplained.extract_if(.., |broken| owners.explains(broken)).count();
    report(start, &done, &tally, &unexplained, &owners);
    let unexplained = unexplained.len();
    println!("{silent} more had been silent for longer than the idle timeout");
    let [taken_over, handed_over] = [By::Packet, By::Controller].map(|by| owners.count(by));
    println!(
        "{displaced} more were displaced: packets took {taken_over} slots over, and {handed_over} were handed over"
    );
    let mut left = u64::MAX;
    for _ in 0..PATIENCE.as_secs() {
        watch.look(&lab).expect("a status");
        left = watch.records.iter().sum();
        if left <= FEW {
            break;
        }
        // Polling more often would keep the daemon from its work.
        thread::sleep(Duration::from_secs(1));
    }
    if left > FEW {
        println!("{}", lab.ctl(&["flows"]).expect("flows are listed"));
    }
    println!("{watch:?}; {} s", start.elapsed().as_secs());
    let mut kinds = BTreeMap::new();
    for done in done {
        *kinds.entry(done.kind).or_default() += 1;
    }
    Run { tally, unexplained, silent, displaced, taken_over, kinds, watch, left, lab }
}

/// Prints what happened, to find the cause of a failure.
fn report(start: Instant, done: &[Done], tally: &Tally, unexplained: &[&Broken], owners: &owners::Seen) {
    for done in done {
        println!("{:>7} ms  {:?} {}", since(start, done.at), done.kind, done.what);
    }
    let Tally { opened, answers, held, broken, .. } = tally;
    println!(
        "{opened} opened, {answers} answers, {held} held, {} broke; these though their backend lived:",
        broken.len()
    );
    for broken in unexplained.iter().take(40) {
        println!("{:>7} ms  {broken}", since(start, broken.at));
        for change in owners.meanwhile(broken) {
            println!("{:>7} ms      {change:?}", since(start, change.before));
        }
    }
}

fn since(start: Instant, at: Instant) -> u128 {
    at.saturating_duration_since(start).as_millis()
}

/// All connections of a run, from all clients to all TCP services.
struct Crowd(Vec<Flows>);

impl Crowd {
    fn start(lab: &Lab) -> Self {
        let clients = CLIENTS.into_iter().flat_map(|client| {
            let from = addresses::add(lab, client, 8).expect("a client gets more addresses");
            let long = Pattern::Long { connections: LONG / CLIENTS.len(), pace: PACE };
            let new = Pattern::New { per_second: NEW / 2 };
            [long, new].map(|kind| {
                let plan = flows::Plan { from: from.clone(), to: targets(), kind };
                Flows::start(lab.netns(client), plan).expect("connections start")
            })
        });
        Self(clients.collect())
    }

    fn stop(self) -> Tally {
        let mut all = Tally::default();
        for flows in self.0 {
            all.add(flows.stop().expect("connections end"));
        }
        all
    }
}

/// A flood of SYNs and one of ACKs, for at most this many seconds.
fn floods(lab: &Lab, seconds: u32) -> Vec<Flood> {
    let edge = lab.netns(EDGE).within(|| flood::mac("eth0")).expect("the edge is there").expect("eth0 is there");
    let floods = [(SYN, 1), (ACK, 2)].map(|(flags, seed)| {
        let plan = flood::Plan { to: targets(), flags, per_second: FLOOD, most: u64::from(FLOOD * seconds), seed };
        Flood::start(lab.netns("client2"), "eth0", edge, plan).expect("a flood starts")
    });
    floods.into()
}

fn targets() -> Vec<SocketAddr> {
    Service::of(Protocol::Tcp).map(Service::address).collect()
}

fn configuration(tcp: &str) -> Configuration {
    // A flood also loses packets of probes, but not six times in a row. A SYN to a dead machine is retransmitted after
    // three seconds, when the machine is known to be dead.
    let probing = Probing { interval_ms: 400, timeout_ms: 400, rise: 2, fall: 6 };
    Configuration {
        probing,
        limits: format!("flows = {FLOWS}\n"),
        pool: "min_healthy = 2\n".to_owned(),
        tcp: tcp.to_owned(),
        ..Configuration::default()
    }
}

fn lab(tcp: &str) -> Lab {
    let edge_ctl = edge_tests::built("edge-ctl").expect("edge-ctl is built");
    let options = Options { edge_ctl: Some(edge_ctl), configuration: configuration(tcp) };
    let lab = Lab::up(&options).expect("the lab comes up");
    lab.wait_for_health(|_| "up").expect("every backend is seen up");
    signature::sign(&lab).expect("backends are signed");
    flood::contain(&lab).expect("floods are contained");
    lab
}

/// The seed from `LAB_SEED`, or a new one; printed.
fn seed() -> u64 {
    let given = std::env::var("LAB_SEED").ok().and_then(|text| text.parse().ok());
    let clock =
        || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos().into());
    let seed = given.unwrap_or_else(clock);
    println!("LAB_SEED={seed}");
    seed
}

/// Serialises these tests: each keeps the CPUs busy by itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
