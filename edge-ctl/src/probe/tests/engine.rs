//! When and how often probes are made, and what ends them.

use super::*;

#[test]
fn gaps_keep_to_jitter_and_timeout() {
    let mut probe = target((Ipv4Addr::LOCALHOST, 80).into(), ProbeKind::Tcp).probe;
    (probe.interval, probe.timeout, probe.jitter) = (Duration::from_secs(1), Duration::from_millis(500), 0.2);
    assert_eq!(gap(&probe, 0.0), Duration::from_millis(800));
    assert_eq!(gap(&probe, 0.5), Duration::from_secs(1));
    assert_eq!(gap(&probe, 1.0), Duration::from_millis(1200));
    probe.timeout = probe.interval;
    assert_eq!(gap(&probe, 0.0), Duration::from_secs(1), "never shorter than the timeout");
    probe.jitter = f64::NAN;
    assert!(gap(&probe, 0.3) >= probe.timeout, "no panic, no spin");
}

#[test]
fn first_probes_are_spread_over_the_interval() {
    let interval = Duration::from_secs(1);
    for position in 0..10u32 {
        let delay = spread(interval, position as usize, 10);
        let share = interval / 10;
        assert!((share * position..=share * (position + 1)).contains(&delay), "{position}: {delay:?}");
    }
}

/// The same target under several numbers, each with its own probe.
fn several(count: u16, target: &ProbeTarget) -> Vec<ProbeTarget> {
    let numbered = |number| {
        let mut target = ProbeTarget { subject: Subject::Backend(number), ..target.clone() };
        target.probe.jitter += f64::from(number) / 1000.0;
        target
    };
    (1..=count).map(numbered).collect()
}

#[tokio::test]
async fn probes_that_stay_the_same_keep_their_schedule_when_others_change() {
    let (address, _) = serve(Server::Status(200)).await;
    let (sender, mut receiver) = mpsc::channel(1000);
    let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
    let each = Duration::from_millis(400);
    let targets = several(3, &quick(target(address, http()), each));
    engine.probe(targets.clone());
    // Targets change more often than they are probed: if each change restarted the schedule, hardly any probe would be
    // made.
    let start = Instant::now();
    for round in 0..20 {
        let mut other = targets.clone();
        other[2].probe.jitter = 0.2 + f64::from(round) / 1000.0;
        engine.probe(other);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let elapsed = start.elapsed();
    drop(engine);
    let mut reports = BTreeMap::<_, u32>::new();
    while let Some(report) = receiver.recv().await {
        *reports.entry(report.subject).or_default() += 1;
    }
    let due = u32::try_from(elapsed.as_millis() / each.as_millis()).expect("few");
    let of = |number| reports[&Subject::Backend(number)];
    assert!(of(1) + 2 >= due && of(2) + 2 >= due, "{reports:?} of {due}");
}

/// An unlimited number of descriptors.
pub(super) fn descriptors() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))
}

#[tokio::test]
async fn a_probe_without_a_descriptor_waits_and_is_no_evidence() {
    let (silent, _) = serve(Server::Silent).await;
    let (sender, mut receiver) = mpsc::channel(100);
    let targets = several(4, &quick(target(silent, http()), SHORT));
    let mut engine = ProbeEngine::new(sender, Arc::new(Semaphore::new(1)), Network::default());
    engine.probe(targets);
    let (mut failed, mut inconclusive) = (0, 0);
    while failed < 2 || inconclusive < 2 {
        match receiver.recv().await.expect("the engine runs").verdict {
            Verdict::Fail(_) | Verdict::Unreachable(_) | Verdict::Silent(_) => failed += 1,
            Verdict::Inconclusive(why) => {
                assert!(why.contains("too few file descriptors"), "{why}");
                inconclusive += 1;
            }
            Verdict::Pass => panic!("nothing answers"),
        }
    }
}

#[tokio::test]
async fn with_few_descriptors_each_gets_its_turn() {
    let (silent, _) = serve(Server::Silent).await;
    let (sender, mut receiver) = mpsc::channel(100);
    let targets = several(20, &quick(target(silent, http()), SHORT));
    let mut engine = ProbeEngine::new(sender, Arc::new(Semaphore::new(2)), Network::default());
    engine.probe(targets);
    let mut made = BTreeMap::<_, u32>::new();
    while made.len() < 20 || made.values().any(|count| *count < 2) {
        let report = receiver.recv().await.expect("the engine runs");
        if matches!(report.verdict, Verdict::Fail(_) | Verdict::Silent(_)) {
            *made.entry(report.subject).or_default() += 1;
        }
        // After its look, a probe goes to the end of the queue.
        assert!(made.values().all(|count| *count <= 4), "{made:?}");
    }
    assert!(engine.shortage().is_some_and(|shortage| shortage.to_string().contains("the 2 file descriptors")));
    assert!(engine.shortage().is_none(), "it is reported once");
}

/// The reports of an engine with one target within `time` of the virtual clock.
async fn reports(target: ProbeTarget, time: Duration) -> Vec<Verdict> {
    let (sender, mut receiver) = mpsc::channel(1000);
    let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
    engine.probe(vec![target]);
    assert_eq!(engine.targets(), 1);
    tokio::time::sleep(time).await;
    drop(engine);
    let mut verdicts = Vec::new();
    while let Some(report) = receiver.recv().await {
        assert_eq!(report.subject, Subject::Backend(7));
        verdicts.push(report.verdict);
    }
    verdicts
}

#[tokio::test]
async fn the_rate_is_the_same_up_or_down() {
    let second = Duration::from_secs(1);
    let (up, _) = serve(Server::Status(200)).await;
    let (wrong, _) = serve(Server::Status(500)).await;
    let (silent, _) = serve(Server::Silent).await;
    let (closed, _held) = closed_port();
    let each = Duration::from_millis(50);
    let run = |address| reports(quick(target(address, http()), each), second);
    let (up, wrong, silent, closed) = tokio::join!(run(up), run(wrong), run(silent), run(closed));
    assert!(up.contains(&Verdict::Pass));
    for verdicts in [&wrong, &silent, &closed] {
        assert!(!verdicts.contains(&Verdict::Pass), "{verdicts:?}");
    }
    // Twenty fit; the first delay and the end cost one each, and a busy machine some more. Failures must not add any,
    // nor may silence halve them.
    for verdicts in [up, wrong, silent, closed] {
        assert!((12..=21).contains(&verdicts.len()), "{}", verdicts.len());
    }
}

#[tokio::test]
async fn a_silent_death_is_detected_sooner_than_after_three_timeouts() {
    let (silent, _) = serve(Server::Silent).await;
    let mut target = quick(target(silent, http()), Duration::from_millis(800));
    target.probe.fast_interval = Duration::from_millis(200);
    let (sender, mut receiver) = mpsc::channel(10);
    let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
    let start = Instant::now();
    engine.probe(vec![target]);
    for _ in 0..3 {
        assert!(matches!(receiver.recv().await.expect("it runs").verdict, Verdict::Silent(_)));
    }
    // At most an interval until the first look, two fast intervals and a timeout: 2 s. Three timeouts would be 2.4 s at
    // least.
    assert!(start.elapsed() < Duration::from_millis(2300), "{:?}", start.elapsed());
}

#[tokio::test]
async fn dropping_the_engine_ends_the_probes() {
    let (address, accepted) = serve(Server::Status(200)).await;
    let (sender, mut receiver) = mpsc::channel(10);
    let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
    engine.probe(several(3, &quick(target(address, http()), SHORT)));
    assert_eq!(engine.targets(), 3);
    assert!(receiver.recv().await.is_some());
    drop(engine);
    // The tasks hold the senders: the channel closes with the last task.
    while receiver.recv().await.is_some() {}
    let seen = accepted.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(accepted.load(Ordering::Relaxed), seen);
}

#[tokio::test]
async fn one_address_is_probed_once_for_all_that_have_it() {
    let (address, accepted) = serve(Server::Status(200)).await;
    let (sender, mut receiver) = mpsc::channel(1000);
    let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
    let target = quick(target(address, http()), SHORT);
    let mut targets: Vec<_> =
        (1..=5).map(|number| ProbeTarget { subject: Subject::Backend(number), ..target.clone() }).collect();
    // Differs in counting, but is probed in the same way.
    targets[4].probe.fall = 7;
    engine.probe(targets.clone());
    assert_eq!(engine.targets(), 5);
    let mut reported = BTreeMap::<_, usize>::new();
    for _ in 0..20 {
        *reported.entry(receiver.recv().await.expect("it runs").subject).or_default() += 1;
    }
    assert!(reported.len() == 5 && reported.values().all(|count| *count == 4), "{reported:?}");
    assert!((4..=5).contains(&accepted.load(Ordering::Relaxed)), "{accepted:?}");
    // Removed subjects get no more reports, and the others miss none.
    targets.truncate(2);
    engine.probe(targets);
    drain(&mut receiver);
    for _ in 0..4 {
        let subject = receiver.recv().await.expect("it runs").subject;
        assert!(subject <= Subject::Backend(2), "{subject:?}");
    }
    drop(engine);
}

#[tokio::test]
async fn one_address_with_two_routes_is_probed_by_both() {
    let (address, _) = serve(Server::Status(200)).await;
    let (sender, mut receiver) = mpsc::channel(1000);
    let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
    let plain = quick(target(address, http()), SHORT);
    let mut translated = ProbeTarget { subject: Subject::Backend(8), ..plain.clone() };
    translated.destination.source = Some([10, 0, 0, 3].into());
    engine.probe(vec![plain, translated]);
    assert_eq!((engine.targets(), engine.tasks.values().flatten().count()), (2, 2));
    let mut reported = BTreeMap::<_, usize>::new();
    for _ in 0..8 {
        *reported.entry(receiver.recv().await.expect("it runs").subject).or_default() += 1;
    }
    assert_eq!(reported.len(), 2, "{reported:?}");
}

fn drain(receiver: &mut mpsc::Receiver<Report>) {
    while receiver.try_recv().is_ok() {}
}

#[tokio::test]
async fn nobody_listening_ends_the_probes() {
    let (address, _) = serve(Server::Status(200)).await;
    let (sender, receiver) = mpsc::channel(10);
    let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
    engine.probe(vec![quick(target(address, http()), SHORT)]);
    drop(receiver);
    let ended = async {
        while !engine.tasks.values().flatten().all(|running| running.task.0.is_finished()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the task ends");
}

#[tokio::test]
async fn probes_leave_no_port_in_time_wait() {
    let (address, _) = serve(Server::Status(200)).await;
    for kind in [ProbeKind::Tcp, http()] {
        for _ in 0..20 {
            assert_eq!(once(&target(address, kind.clone())).await, Verdict::Pass);
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    // `sl local_address rem_address st`: the state TIME_WAIT is 06.
    let remote = format!(":{:04X}", address.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("/proc");
    let waiting = sockets.lines().filter(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(2).is_some_and(|words| words.ends_with(&remote)) && words.get(3) == Some(&"06")
    });
    assert_eq!(waiting.count(), 0);
}

#[tokio::test]
async fn only_probes_that_pass_by_an_answer_have_a_latency() {
    let time = Duration::from_millis(400);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket that answers nothing");
    let payload = || ProbeKind::Udp { send: b"?".to_vec(), expect: None };
    for (address, kind, passes, answers) in [
        (serve(Server::Status(200)).await.0, http(), true, true),
        (serve(Server::Status(503)).await.0, http(), false, false),
        (serve(Server::Silent).await.0, http(), false, false),
        (udp.local_addr().expect("it is bound"), payload(), true, false),
    ] {
        let (sender, mut receiver) = mpsc::channel(10);
        let mut engine = ProbeEngine::new(sender, descriptors(), Network::default());
        engine.probe(vec![quick(target(address, kind), time)]);
        let Report { verdict, took, .. } = receiver.recv().await.expect("a report");
        assert_eq!((verdict == Verdict::Pass, took.is_some()), (passes, answers), "{verdict:?}");
        assert!(took.is_none_or(|took| took > Duration::ZERO && took < time), "{took:?}");
    }
}
