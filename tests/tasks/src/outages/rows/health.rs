//! Health checks that took healthy machines out, or cost more when everything was down.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use edge_tests::lab::{
    Lab,
    topology::{Backend, CLIENTS, EDGE, Protocol, Provider, Service},
    wait_until,
};
use serde_json::Value;

use crate::outages::{
    incident::{Helped, Incident, Observed},
    stage::{PATIENCE, Stage, all_served_by, changed, events, judged, sick},
};

/// Time from a provider's death until the other one serves all: three probes of 0.2 s, the last one's timeout, and
/// jitter.
const FAILED_OVER: Duration = Duration::from_secs(2);

pub(super) fn rows() -> Vec<Incident> {
    vec![
        Incident {
            name: "dead-provider",
            story: "AWS, 20 October 2025; Azure Front Door, 29 October 2025; Cloudflare, 18 November 2025: a provider \
                    is gone",
            done: "all of provider a's machines lose power at once",
            expected: "every service is served by provider b within 2 s, and nothing is lost after that",
            helped: Helped::Yes,
            why: "failover to another provider is the edge's purpose",
            long: false,
            replay: dead_provider,
        },
        Incident {
            name: "good-and-bad-in-turns",
            story: "Cloudflare, 18 November 2025: good and bad files came in turns every five minutes, and the errors \
                    were HTTP 500 over healthy TCP",
            done: "provider a's application answers 500 and 200 in turns of two seconds, then 200",
            expected: "each service is failed over once, within 2 s, and back once",
            helped: Helped::Yes,
            why: "the application's own answer is probed through the provider, and a provider has to be up for a while \
                  before services return to it",
            long: false,
            replay: |stage| good_and_bad_in_turns(stage, TURN, SCALED),
        },
        Incident {
            name: "good-and-bad-for-long",
            story: "Cloudflare, 18 November 2025: good and bad files came in turns every five minutes, and the errors \
                    were HTTP 500 over healthy TCP",
            done: "the same at its own pace, judged as pools are by default: turns of five minutes",
            expected: "each service is failed over once, within 2 s, and back once",
            helped: Helped::Yes,
            why: "a provider has to be up for ten minutes before services return to it",
            long: true,
            replay: |stage| good_and_bad_in_turns(stage, 150 * TURN, ""),
        },
        Incident {
            name: "flapping",
            story: "several outages with flapping as the root cause, and metastable failures (OSDI 2022)",
            done: "a backend's application fails and recovers each second, ten times",
            expected: "at most three transitions",
            helped: Helped::Partly,
            why: "each transition delays the next one; flapping inside a provider is outside the edge's control",
            long: false,
            replay: |stage| flapping(stage, 10),
        },
        Incident {
            name: "flapping-for-long",
            story: "several outages with flapping as the root cause, and metastable failures (OSDI 2022)",
            done: "a backend's application fails and recovers each second, for ten minutes",
            expected: "at most three transitions",
            helped: Helped::Partly,
            why: "each transition delays the next one; flapping inside a provider is outside the edge's control",
            long: true,
            replay: |stage| flapping(stage, 600),
        },
        Incident {
            name: "deaf-prober",
            story: "GitHub, 15 August 2024, and Facebook, 4 October 2021: everything looked down at once, and was \
                    taken out",
            done: "no backend's answer reaches the edge any more, while clients receive all of them",
            expected: "nothing is lost; health is frozen within 3 s, and thaws by itself",
            helped: Helped::Yes,
            why: "if all backends fall silent at once, the prober is the likelier cause",
            long: false,
            replay: deaf_prober,
        },
        Incident {
            name: "half-deaf-prober",
            story: "AWS, 20 October 2025 (NLB): checks ran before their network was ready, and took healthy capacity \
                    out",
            done: "the answers of one machine of each provider do not reach the edge, and then those of a second one \
                   neither, while clients receive all",
            expected: "health is not frozen for one machine, and is for two; at most one of three loses its running flows, \
                       whose requests in flight are all that fails",
            helped: Helped::Yes,
            why: "at most a fifth of a pool, or one, loses its running flows for silence alone",
            long: false,
            replay: half_deaf_prober,
        },
        Incident {
            name: "constant-work",
            story: "AWS, 7 December 2021: retries surged when everything failed, and hid the fault",
            done: "all machines of both providers lose power; the connections that probes open are counted before, and from then \
                   on",
            expected: "at most 1.1 times the connections of the steady state",
            helped: Helped::Partly,
            why: "the edge adds no load to failed backends; clients may",
            long: false,
            replay: constant_work,
        },
    ]
}

fn dead_provider(stage: &mut Stage) -> Result<Observed> {
    let (took, _) = stage.toll(Duration::ZERO, |lab| {
        let start = Instant::now();
        Backend::of(Provider::A).try_for_each(|backend| lab.kill_backend(backend))?;
        let moved = wait_until(PATIENCE, || all_served_by(lab, "provider-b"))?;
        Ok(moved.then(|| start.elapsed()))
    })?;
    // By then, clients with flows to dead machines were reset, or gave up.
    sleep(Duration::from_secs(1));
    let (answers, toll) = stage.toll(Duration::from_secs(2), |lab| {
        let web = Service::of(Protocol::Tcp).map(|service| format!("http://{}/", service.address()));
        // A request that fails is what the row is about, not an error of the replay.
        Ok(web.map(|url| lab.curl(CLIENTS[1], &url).unwrap_or_else(|error| error.to_string())).collect::<Vec<_>>())
    })?;
    heal(&mut stage.lab, &Provider::ALL[..1])?;
    let took_ms = took.map_or_else(|| "never".to_owned(), |took| format!("after {} ms", took.as_millis()));
    Ok(Observed::all([
        (format!("provider b serves all {took_ms}"), took.is_some_and(|took| took < FAILED_OVER)),
        (format!("after that {toll}"), toll.is_nothing() && answers.iter().all(|answer| answer.starts_with('b'))),
    ]))
}

/// Five minutes become two seconds here, and the defaults of judging, which are in minutes, are scaled alike.
const TURN: Duration = Duration::from_secs(2);
const SCALED: &str = "damping = \"2s\"\nfailback_after = \"4s\"\nfailback_over = \"1s\"\nslow_start = \"200ms\"\n";

fn good_and_bad_in_turns(stage: &mut Stage, turn: Duration, judging: &str) -> Result<Observed> {
    judged(stage, judging, |stage| {
        let lab = &stage.lab;
        let services = Service::of(Protocol::Tcp).count();
        let before = [counted(lab, "pool_left")?, counted(lab, "pool_returned")?];
        let start = Instant::now();
        sick(lab, Backend::of(Provider::A), true)?;
        let left = wait_until(PATIENCE, || Ok(counted(lab, "pool_left")?.len() >= before[0].len() + services))?;
        let took = start.elapsed();
        for bad in [false, true, false, true, false] {
            sleep(turn.saturating_sub(if bad { Duration::ZERO } else { took.min(turn) }));
            sick(lab, Backend::of(Provider::A), bad)?;
        }
        sleep(5 * turn);
        let after = [counted(lab, "pool_left")?, counted(lab, "pool_returned")?];
        let times = |kind: usize, name: &str| {
            let of = |subjects: &[String]| subjects.iter().filter(|subject| *subject == name).count();
            of(&after[kind]) - of(&before[kind])
        };
        let moves: Vec<_> =
            Service::of(Protocol::Tcp).map(|service| (times(0, service.name), times(1, service.name))).collect();
        let once = moves.iter().all(|(left, _)| *left == 1);
        let (least, most) = (moves.iter().map(|moves| moves.1).min(), moves.iter().map(|moves| moves.1).max());
        Ok(Observed::all([
            (format!("failed over after {} ms", took.as_millis()), left && took < FAILED_OVER),
            (format!("{} of {} services once", moves.iter().filter(|(left, _)| *left == 1).count(), moves.len()), once),
            (format!("and back {} to {} times", least.unwrap_or_default(), most.unwrap_or_default()), {
                least == Some(1) && most == Some(1)
            }),
        ]))
    })
}

fn flapping(stage: &mut Stage, seconds: u32) -> Result<Observed> {
    judged(stage, "", |stage| {
        let lab = &stage.lab;
        let a1 = || Backend::of(Provider::A).take(1);
        let name = "provider-a-wan4/a1";
        let changes = || -> Result<usize> {
            let of = |kind| Ok(counted(lab, kind)?.iter().filter(|subject| *subject == name).count());
            let both: Result<usize> = of("backend_down");
            Ok(both? + of("backend_up")?)
        };
        let before = changes()?;
        for turn in 0..2 * seconds {
            sick(lab, a1(), turn % 2 == 0)?;
            sleep(Duration::from_millis(500));
        }
        let seen = changes()? - before;
        Ok(Observed::all([(format!("{seen} transitions"), (1..=3).contains(&seen))]))
    })
}

/// Subjects of the events of this kind so far; each service of an event about several services.
fn counted(lab: &Lab, kind: &str) -> Result<Vec<String>> {
    let of_kind = events(lab)?.into_iter().filter(|event| event["kind"] == kind);
    let about = |event: Value| match event["services"].as_array() {
        Some(services) => services.clone(),
        None => vec![event["subject"].clone()],
    };
    Ok(of_kind.flat_map(about).map(|name| name.as_str().unwrap_or_default().to_owned()).collect())
}

fn deaf_prober(stage: &mut Stage) -> Result<Observed> {
    let (frozen, toll) = stage.toll(Duration::from_secs(2), |lab| {
        let start = Instant::now();
        deafen_all(lab, Backend::all(), "add")?;
        let frozen = wait_until(PATIENCE, || Ok(!lab.status()?["daemon"]["frozen"].is_null()))?;
        Ok(frozen.then(|| start.elapsed()))
    })?;
    deafen_all(&stage.lab, Backend::all(), "del")?;
    let thawed = wait_until(PATIENCE, || Ok(stage.lab.status()?["daemon"]["frozen"].is_null()))?;
    stage.lab.wait_for_health(|_| "up")?;
    let shown = frozen.map_or_else(|| "never".to_owned(), |took| format!("after {} ms", took.as_millis()));
    Ok(Observed::all([
        (format!("frozen {shown}"), frozen.is_some_and(|took| took < Duration::from_secs(3))),
        ("thawed".to_owned(), thawed),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

/// What silence took from the pools while a row watched.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// The most backends of a pool that took no new flows at a time.
    from_new_flows: usize,
    /// The most backends of a pool whose running flows moved.
    with_flows: usize,
    frozen: bool,
}

impl Taken {
    /// Watches for a few fall times.
    fn watch(lab: &Lab) -> Result<Self> {
        let mut taken = Self::default();
        let mut moved = BTreeSet::new();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            let status = lab.status()?;
            taken.frozen |= !status["daemon"]["frozen"].is_null();
            for pool in status["pools"].as_array().context("pools")? {
                let backends = pool["backends"].as_array().context("backends")?;
                let available = pool["available"].as_u64().and_then(|number| usize::try_from(number).ok());
                taken.from_new_flows = taken.from_new_flows.max(backends.len() - available.context("available")?);
                let is_moved = |backend: &&Value| {
                    backend["state"] == "down"
                        && backend["reason"].as_str().is_some_and(|reason| reason.contains("its flows move"))
                };
                let name = |backend: &Value| (pool["name"].to_string(), backend["name"].to_string());
                moved.extend(backends.iter().filter(is_moved).map(name));
            }
            sleep(Duration::from_millis(50));
        }
        let of = |pool: &str| moved.iter().filter(|(other, _)| other == pool).count();
        taken.with_flows = moved.iter().map(|(pool, _)| of(pool)).max().unwrap_or_default();
        Ok(taken)
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frozen = if self.frozen { "frozen" } else { "not frozen" };
        write!(
            f,
            "{} of 3 take no new flows, the running flows of {} move, {frozen}",
            self.from_new_flows, self.with_flows
        )
    }
}

fn half_deaf_prober(stage: &mut Stage) -> Result<Observed> {
    let numbered =
        |number: u8| Provider::ALL.into_iter().flat_map(Backend::of).filter(move |backend| backend.number == number);
    let mut silenced = |number: u8| {
        stage.toll(Duration::ZERO, |lab| {
            deafen_all(lab, numbered(number), "add")?;
            Taken::watch(lab)
        })
    };
    let (one, one_toll) = silenced(2)?;
    let (two, two_toll) = silenced(3)?;
    deafen_all(&stage.lab, numbered(2).chain(numbered(3)), "del")?;
    stage.lab.wait_for_health(|_| "up")?;
    Ok(Observed::all([
        // A stream sends one request at a time.
        (
            format!("with one silent, {one}; {one_toll}"),
            one.with_flows <= 1 && !one.frozen && one_toll.is_what_was_in_flight(),
        ),
        // New flows may avoid one provider's second machine for as long as the other's is not known to be silent.
        (format!("with two, {two}; {two_toll}"), two.with_flows <= 1 && two.frozen && two_toll.is_nothing()),
    ]))
}

/// Makes the edge lose all packets from these backends at once.
fn deafen_all(lab: &Lab, backends: impl Iterator<Item = Backend>, verb: &str) -> Result<()> {
    std::thread::scope(|scope| {
        let tasks: Vec<_> = backends.map(|backend| scope.spawn(move || deafen(lab, backend, verb))).collect();
        tasks.into_iter().try_for_each(|task| task.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Makes the edge lose all packets from a backend.
fn deafen(lab: &Lab, backend: Backend, verb: &str) -> Result<()> {
    let output = lab.netns(EDGE).command("ip")?.args(["-o", "addr", "show", "scope", "global"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let words =
        text.lines().filter_map(|line| line.split_whitespace().skip_while(|word| !word.starts_with("inet")).nth(1));
    let addresses = words.filter_map(|word| word.split('/').next());
    let routes: Vec<_> = addresses.map(|address| format!("route {verb} blackhole {address}\n")).collect();
    lab.netns(&backend.to_string()).ip(&routes.concat())
}

fn constant_work(stage: &mut Stage) -> Result<Observed> {
    // Probes that are not answered are repeated sooner until there are `fall` of them, so the moment of death counts. Six
    // would add a quarter to the connections of these seconds.
    changed(
        stage,
        |good| good.replace("fall = 3", "fall = 6"),
        |stage| {
            let steady = opened_each_second(&mut stage.lab, |_| Ok(()))?;
            let kill_all = |lab: &mut Lab| Backend::all().try_for_each(|backend| lab.kill_backend(backend));
            let dead = opened_each_second(&mut stage.lab, kill_all)?;
            heal(&mut stage.lab, &Provider::ALL)?;
            let ratio = dead / steady;
            Ok(Observed::all([(
                format!("{steady:.0} connections a second, then {dead:.0}: {ratio:.2} times"),
                steady > 10.0 && ratio <= 1.1,
            )]))
        },
    )
}

/// TCP connections per second that the edge's own stacks open, including the stack of its probes, from the start of
/// `act` on. They belong to probes, since clients' packets reach none of these stacks.
fn opened_each_second(lab: &mut Lab, act: impl FnOnce(&mut Lab) -> Result<()>) -> Result<f64> {
    let (start, before) = (Instant::now(), opened(lab)?);
    act(lab)?;
    sleep(Duration::from_secs(4).saturating_sub(start.elapsed()));
    Ok((opened(lab)? - before) / start.elapsed().as_secs_f64())
}

/// Number of TCP connections that the edge's stacks have opened, answered or not.
fn opened(lab: &Lab) -> Result<f64> {
    let pid = lab.status()?["daemon"]["pid"].as_u64().context("a daemon")?;
    let mut stacks = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?.path();
        // A thread may have ended meanwhile.
        let (Ok(stack), Ok(text)) = (task.join("ns/net").read_link(), std::fs::read_to_string(task.join("net/snmp")))
        else {
            continue;
        };
        stacks.insert(stack, opened_in(&text)?);
    }
    Ok(stacks.values().sum())
}

/// Number of TCP connections that a stack has opened, from its counters.
fn opened_in(text: &str) -> Result<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = lines.next().zip(lines.next()).context("no counters of TCP")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let opened = pairs.find(|(name, _)| *name == "ActiveOpens").and_then(|(_, value)| value.parse().ok());
    opened.context("no counter of opened connections")
}

fn heal(lab: &mut Lab, providers: &[Provider]) -> Result<()> {
    providers.iter().flat_map(|provider| Backend::of(*provider)).try_for_each(|backend| lab.heal_backend(backend))?;
    lab.wait_for_health(|_| "up")
}
