//! Configurations that caused outages.

use std::{
    fmt::Write as _,
    net::UdpSocket,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{Lab, topology::Backend, vandal::Vandal, wait_until};
use nix::sys::signal::Signal;

use crate::outages::{
    incident::{Helped, Incident, Observed},
    stage::{PATIENCE, Stage, api, in_force, reweighed},
};

/// Longest time until a bad file is refused.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(super) fn rows() -> Vec<Incident> {
    vec![
        Incident {
            name: "doubled-file",
            story: "Cloudflare, 18 November 2025: a generated file doubled in size and passed a limit, whereupon its \
                    reader panicked on every machine",
            done: "the running edge is given a file with each backend twice, one with more backends than its limit, \
                   one that ends in the middle, one that is not TOML, and an empty one",
            expected: "each is refused within 1 s with a reason, nothing changes, nothing is lost",
            helped: Helped::Yes,
            why: "a CDN that is down is a provider to leave: clients that reach the operator's own edge go to the next \
                  provider",
            long: false,
            replay: doubled_file,
        },
        Incident {
            name: "latent-fault",
            story: "Fastly, 8 June 2021: a customer's valid configuration met a fault of the program that had been there \
                    for weeks, and most of the network answered with errors",
            done: "a valid file is applied, and the tables that it becomes lead the program to other backends than \
                   planned: another program damages them before they come into force; then without the damage",
            expected: "it is refused within 1 s since its rehearsal failed, nothing changes, nothing is lost; then it comes \
                       into force",
            helped: Helped::Partly,
            why: "each candidate is rehearsed by the real program before it comes into force; a fault that none of the \
                  rehearsed packets meets, one for each service and kind, is not found",
            long: false,
            replay: latent_fault,
        },
        Incident {
            name: "late-fault",
            story: "Azure Front Door, 29 October 2025: it crashed minutes after its checks had passed, and the last \
                    known good was the bad one already",
            done: "a file is applied with a probe that no backend passes, which becomes visible only some time later; \
                   then `edge-ctl rollback`",
            expected: "the last good generation is the one before, the rollback takes less than 1 s, nothing is lost \
                       after it",
            helped: Helped::Yes,
            why: "a generation is good after a soak and not after a check",
            long: false,
            replay: late_fault,
        },
        Incident {
            name: "late-silent-fault",
            story: "Azure Front Door, 29 October 2025: it crashed minutes after its checks had passed, and the last \
                    known good was the bad one already",
            done: "a file is applied with `--confirm` whose probes no host answers, so that health freezes at its \
                   earlier state",
            expected: "the generation never becomes good, it is undone by itself within 10 s, nothing is lost",
            helped: Helped::Yes,
            why: "unknown health is no evidence that a generation is good",
            long: false,
            replay: late_silent_fault,
        },
        Incident {
            name: "empty-list",
            story: "Google Compute Engine, 11 April 2016: an inconsistency removed all address blocks from the \
                    announcements, and the canary's verdict was lost",
            done: "the running edge is given files without its last service, with only one backend of a pool, and with \
                   its first half; by the API and by SIGHUP",
            expected: "each is refused without an explicit flag, nothing changes, nothing is lost",
            helped: Helped::Yes,
            why: "a change that removes something is refused without the operator's explicit flag",
            long: false,
            replay: empty_list,
        },
        Incident {
            name: "deleted-state",
            story: "AWS ELB, 24 December 2012: state was deleted by mistake, and balancers broke when the control \
                    plane modified them without it",
            done: "a backend is drained, the state directory is deleted, the controller is killed and started",
            expected: "it adopts the pinned maps: the same generation, the drain stands, nothing is lost",
            helped: Helped::Yes,
            why: "the pinned maps are the state, and a missing file never overrides them",
            long: false,
            replay: deleted_state,
        },
    ]
}

fn latent_fault(stage: &mut Stage) -> Result<Observed> {
    let tried = reweighed(&stage.lab)?;
    let body = serde_json::json!({ "text": std::fs::read_to_string(&tried)?, "file": tried }).to_string();
    let before = in_force(&stage.lab)?;
    let ((status, answer, took), toll) = stage.toll(Duration::from_secs(1), |lab| {
        let vandal = Vandal::start(lab.edge().pins())?;
        let requested = Instant::now();
        let answer = api(lab, "POST", "/v1/apply", &body);
        let took = requested.elapsed();
        vandal.end()?;
        let (status, answer) = answer?;
        Ok((status, answer, took))
    })?;
    let same = in_force(&stage.lab)? == before && goes_on(&stage.lab)?;
    let (without, _) = api(&stage.lab, "POST", "/v1/apply", &body)?;
    stage.lab.ctl(&["rollback"])?;
    let refused = status == 400 && answer.contains("the rehearsal failed");
    Ok(Observed::all([
        (format!("{} after {} ms", if refused { "refused" } else { "not refused" }, took.as_millis()), {
            refused && took < AT_ONCE
        }),
        ("the same generation is in force".to_owned(), same),
        ("without the damage the file comes into force".to_owned(), without == 200),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

fn late_fault(stage: &mut Stage) -> Result<Observed> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    // A soak of a second, for the duration of this replay.
    let soaking = good.replacen("\n[tunnel]", "\n[edge]\nsoak = \"1s\"\n\n[tunnel]", 1);
    let bad = soaking.replace("path = \"/healthz\"\n", "path = \"/healthz\"\nstatus = [599]\n");
    let ((last_good, took), meanwhile) = stage.toll(Duration::ZERO, |lab| {
        std::fs::write(&path, &soaking)?;
        lab.ctl(&["reload"])?;
        let is_good = wait_until(PATIENCE, || Ok(history(lab)?.last_good == history(lab)?.in_force));
        ensure!(is_good?, "no generation becomes good");
        let before = history(lab)?.in_force;
        std::fs::write(&path, &bad)?;
        lab.ctl(&["reload"])?;
        sleep(Duration::from_secs(3));
        let last_good = history(lab)?.last_good;
        let requested = Instant::now();
        lab.ctl(&["rollback"])?;
        Ok(((before, last_good), requested.elapsed()))
    })?;
    stage.lab.wait_for_health(|_| "up")?;
    let ((), toll) = stage.toll(Duration::from_secs(1), |_| Ok(()))?;
    let back = !in_text(&stage.lab)?.contains("599");
    std::fs::write(&path, &good)?;
    stage.lab.ctl(&["reload"])?;
    stage.lab.wait_for_health(|_| "up")?;
    Ok(Observed::all([
        (format!("generation {} is the last good one", last_good.1), last_good.0 == last_good.1),
        (format!("rolled back in {} ms; until then {meanwhile}", took.as_millis()), took < AT_ONCE && back),
        (format!("after it {toll}"), toll.is_nothing()),
    ]))
}

/// A port on which backends take datagrams and answer none.
const MUTE: u16 = 9;

fn late_silent_fault(stage: &mut Stage) -> Result<Observed> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    let soaking = good.replacen("\n[tunnel]", "\n[edge]\nsoak = \"1s\"\n\n[tunnel]", 1);
    let mute = format!("type = \"udp\"\nport = {MUTE}\nsend = \"ready?\"\nexpect = \"ready\"\n");
    let bad = soaking.replace("type = \"http\"\nport = 80\npath = \"/healthz\"\n", &mute);
    ensure!(bad != soaking, "the probes are others");
    // They take datagrams of both IP versions.
    let sink = |backend: Backend| stage.lab.netns(&backend.to_string()).within(|| UdpSocket::bind(("::", MUTE)));
    let _sinks = Backend::all().map(|backend| Ok(sink(backend)??)).collect::<Result<Vec<_>>>()?;
    let ((was_good, frozen, took), toll) = stage.toll(Duration::from_secs(1), |lab| {
        std::fs::write(&path, &soaking)?;
        lab.ctl(&["reload"])?;
        let is_good = wait_until(PATIENCE, || Ok(history(lab)?.last_good == history(lab)?.in_force));
        ensure!(is_good?, "no generation becomes good");
        let other = path.with_file_name("mute.toml");
        std::fs::write(&other, &bad)?;
        lab.ctl(&["apply", &other.display().to_string(), "--confirm", "5m"])?;
        let (start, tried) = (Instant::now(), history(lab)?.in_force);
        let (mut was_good, mut frozen) = (false, false);
        let undone = wait_until(PATIENCE, || {
            let now = history(lab)?;
            was_good |= now.last_good == tried;
            frozen |= !lab.status()?["daemon"]["frozen"].is_null();
            Ok(now.in_force > tried)
        })?;
        Ok((was_good, frozen, undone.then(|| start.elapsed())))
    })?;
    let back = in_text(&stage.lab)? == soaking;
    std::fs::write(&path, &good)?;
    stage.lab.ctl(&["reload"])?;
    stage.lab.wait_for_health(|_| "up")?;
    let took_ms = took.map_or_else(|| "not undone".to_owned(), |took| format!("undone after {} ms", took.as_millis()));
    Ok(Observed::all([
        (if frozen { "frozen" } else { "not frozen" }.to_owned(), frozen),
        (if was_good { "became good" } else { "never became good" }.to_owned(), !was_good),
        (took_ms, took.is_some() && back),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

fn empty_list(stage: &mut Stage) -> Result<Observed> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    let before = in_force(&stage.lab)?;
    let (without_last, _) = good.rsplit_once("\n[[service]]").context("a service")?;
    let (head, rest) = good.split_once("[[pool.backend]]").context("a backend")?;
    let (_, tail) = rest.split_once("\n[[pool]]").context("another pool")?;
    let (first, _) = rest.split_once("[[").context("another backend")?;
    let one_left = format!("{head}[[pool.backend]]{first}\n[[pool]]{tail}");
    let half = good.split_inclusive("\n\n").take(good.matches("\n\n").count() * 3 / 4).collect::<String>();
    let (refused, toll) = stage.toll(Duration::from_secs(1), |lab| {
        let mut refused = 0;
        for text in [without_last, &one_left, &half] {
            std::fs::write(&path, text)?;
            let (status, answer) = api(lab, "POST", "/v1/reload", "")?;
            refused += usize::from(matches!(status, 400..=499) && answer.len() > 40);
            lab.edge().signal(Signal::SIGHUP)?;
            sleep(Duration::from_millis(300));
        }
        std::fs::write(&path, &good)?;
        Ok(refused)
    })?;
    Ok(Observed::all([
        (format!("{refused} of 3 refused"), refused == 3),
        ("the same generation is in force".to_owned(), in_force(&stage.lab)? == before && goes_on(&stage.lab)?),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

fn deleted_state(stage: &mut Stage) -> Result<Observed> {
    let (before, toll) = stage.toll(Duration::from_secs(1), |lab| {
        lab.ctl(&["drain", "provider-a-wan4/a2", "--reason", "disk swap"])?;
        let before = in_force(lab)?;
        let kept = wait_until(PATIENCE, || Ok(lab.edge().state_dir().exists()))?;
        ensure!(kept, "nothing is kept on disk");
        lab.kill_daemon()?;
        std::fs::remove_dir_all(lab.edge().state_dir()).context("the state folder")?;
        lab.start_daemon()?;
        Ok(before)
    })?;
    let stands = stage.lab.ctl(&["status"])?.contains("disk swap");
    let same = in_force(&stage.lab)? == before;
    stage.lab.ctl(&["enable", "provider-a-wan4/a2"])?;
    stage.lab.wait_for_health(|_| "up")?;
    Ok(Observed::all([
        ("the same generation is in force".to_owned(), same),
        ("the drain stands".to_owned(), stands),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

/// Generations in the output of `history`.
struct Generations {
    in_force: u64,
    last_good: u64,
}

fn history(lab: &Lab) -> Result<Generations> {
    let status = lab.status()?;
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    Ok(Generations { in_force: number(&status["generation"]), last_good: number(&status["history"]["last_good"]) })
}

/// The text in force.
fn in_text(lab: &Lab) -> Result<String> {
    lab.ctl(&["history", "--text", &history(lab)?.in_force.to_string()])
}

fn doubled_file(stage: &mut Stage) -> Result<Observed> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    let before = in_force(&stage.lab)?;
    let bad = bad_files(&good)?;
    let (answers, toll) = stage.toll(Duration::from_secs(1), |lab| {
        let answers = bad.iter().map(|bad| {
            std::fs::write(&path, &bad.text)?;
            let requested = Instant::now();
            let (status, answer) = api(lab, "POST", "/v1/reload", "")?;
            Ok((bad.what, status == 400 && answer.contains(bad.why), requested.elapsed()))
        });
        let answers = answers.collect::<Result<Vec<_>>>();
        std::fs::write(&path, &good)?;
        answers
    })?;
    let slowest = answers.iter().map(|answer| answer.2).max().unwrap_or_default();
    let others: Vec<_> = answers.iter().filter(|answer| !answer.1).map(|answer| answer.0).collect();
    let refused = answers.len() - others.len();
    Ok(Observed::all([
        (format!("{refused} files refused for their fault, the slowest after {} ms", slowest.as_millis()), {
            slowest < AT_ONCE
        }),
        (format!("otherwise: {}", if others.is_empty() { "none".to_owned() } else { others.join(", ") }), {
            others.is_empty()
        }),
        ("the same generation is in force".to_owned(), in_force(&stage.lab)? == before && goes_on(&stage.lab)?),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

/// A bad file.
struct Bad {
    what: &'static str,
    text: String,
    /// A part of the reason for which it is refused.
    why: &'static str,
}

/// Bad files that a generator may make from a good one.
fn bad_files(good: &str) -> Result<Vec<Bad>> {
    // A file without limits gets larger maps.
    let mut crowd = good.replacen("[limits]\n", "[limits]\nbackends = 1024\n", 1);
    write!(crowd, "\n[[pool]]\nname = \"crowd\"\n")?;
    for number in 0..3000 {
        let address = format!("10.77.{}.{}", number / 250, number % 250 + 1);
        write!(crowd, "[[pool.backend]]\nname = \"c{number}\"\naddress = \"{address}\"\n")?;
    }
    let mut parts = good.split("[[pool.backend]]");
    let mut twice = parts.next().context("a beginning")?.to_owned();
    for part in parts {
        let backend = part.split("\n[").next().unwrap_or(part);
        write!(twice, "[[pool.backend]]{backend}\n[[pool.backend]]{part}")?;
    }
    // In the middle of a line.
    let half = good.get(..good.len() / 2).and_then(|half| half.rfind(" = \"")).context("a text in the first half")?;
    let bad = |what, text, why| Bad { what, text, why };
    Ok(vec![
        bad("twice", twice, "is twice in this pool"),
        bad("too many", crowd, "are configured"),
        bad("cut", good[..half + 5].to_owned(), "not TOML"),
        bad("not TOML", good.replace('=', ":"), "not TOML"),
        bad("empty", String::new(), "lacks `hash_key`"),
    ])
}

/// Whether the daemon still answers.
fn goes_on(lab: &Lab) -> Result<bool> {
    Ok(lab.status()?["source"] == "daemon")
}
