//! Control planes that died, crashed in a loop, acted late, or were needed and had never been used.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{
    Lab,
    random::Random,
    topology::{Backend, CLIENTS, EDGE, Protocol, Provider, Service},
    wait_until,
};
use nix::sys::signal::Signal;

use crate::outages::{
    incident::{Helped, Incident, Observed},
    stage::{PATIENCE, Stage, api, in_force},
};

pub(super) fn rows() -> Vec<Incident> {
    vec![
        Incident {
            name: "dead-controller",
            story: "Cloudflare, November 2023: the control plane was out for some 40 hours; Google, June 2019: routes \
                    were withdrawn after a grace time without it",
            done: "SIGKILL to the controller, and no restart for some seconds",
            expected: "nothing is lost, and new flows are still spread over all backends",
            helped: Helped::Yes,
            why: "the packet path has no time-out: it goes on with the last state",
            long: false,
            replay: dead_controller,
        },
        Incident {
            name: "crash-loop",
            story: "Google Cloud, 12 June 2025: blank fields in a policy, a null pointer, and a crash loop in all \
                    regions",
            done: "each value of the file is blanked in turn and the file is checked; then the controller is killed \
                   and started again and again",
            expected: "each blank value is refused with its line, no check panics, nothing is lost",
            helped: Helped::Yes,
            why: "the packet path does not depend on the controller",
            long: false,
            replay: |stage| crash_loop(stage, Duration::from_secs(4)),
        },
        Incident {
            name: "crash-loop-for-long",
            story: "Google Cloud, 12 June 2025: blank fields in a policy, a null pointer, and a crash loop in all \
                    regions",
            done: "as `crash-loop`, for three minutes",
            expected: "each blank value is refused with its line, no check panics, nothing is lost",
            helped: Helped::Yes,
            why: "the packet path does not depend on the controller",
            long: true,
            replay: |stage| crash_loop(stage, Duration::from_mins(3)),
        },
        Incident {
            name: "late-writer",
            story: "AWS, 20 October 2025: a delayed writer applied a plan that was out of date, and a clean-up left an \
                    empty record",
            done: "the controller is stopped (SIGSTOP) with a request on its way; meanwhile an operator drains a \
                   backend without it; then it goes on",
            expected: "the operator's drain stands, an earlier request is not carried out late, generations do not go \
                       back, nothing is lost",
            helped: Helped::Yes,
            why: "each write is exchanged against the state that it was planned from",
            long: false,
            replay: late_writer,
        },
        Incident {
            name: "emergency-switch",
            story: "Cloudflare, 5 December 2025: an emergency switch had never been used on the code path on which it \
                    failed",
            done: "two thousand random drains, disables, enables, failovers and failbacks by the API, then all of them \
                   undone",
            expected: "no panic, no refusal without a reason, the state from before, and nothing is lost then",
            helped: Helped::Partly,
            why: "emergency verbs here are the ordinary ones; a switch inside a provider is outside the edge's control",
            long: false,
            replay: |stage| emergency_switch(stage, 2000),
        },
        Incident {
            name: "emergency-switch-for-long",
            story: "Cloudflare, 5 December 2025: an emergency switch had never been used on the code path on which it \
                    failed",
            done: "as `emergency-switch`, with a hundred thousand operations",
            expected: "no panic, no refusal without a reason, the state from before, and nothing is lost then",
            helped: Helped::Partly,
            why: "emergency verbs here are the ordinary ones; a switch inside a provider is outside the edge's control",
            long: true,
            replay: |stage| emergency_switch(stage, 100_000),
        },
        Incident {
            name: "no-network-but-the-data",
            story: "Cloudflare, 12 June 2025: a third party's store was down, and with it the services that needed the \
                    store to start",
            done: "the edge is detached and starts anew, on a host that reaches nothing but clients and backends",
            expected: "it forwards within 2 s",
            helped: Helped::Yes,
            why: "nothing remote is needed to start or to run",
            long: false,
            replay: cold_start,
        },
        Incident {
            name: "observer",
            story: "Roblox, October 2021, and the site that reports outages, November 2025: monitoring depended on the \
                    system that it monitored",
            done: "the controller is dead; `edge-ctl status`",
            expected: "it is right, within 100 ms",
            helped: Helped::Yes,
            why: "status is read from the maps that packets are served by",
            long: false,
            replay: observer,
        },
    ]
}

fn dead_controller(stage: &mut Stage) -> Result<Observed> {
    let (served, toll) = stage.toll(Duration::from_secs(4), |lab| {
        lab.kill_daemon()?;
        let web = format!("http://{}/", Service::named("web-4in4").address());
        (0..24).map(|_| lab.curl(CLIENTS[1], &web)).collect::<Result<BTreeSet<_>>>()
    })?;
    stage.lab.start_daemon()?;
    stage.lab.wait_for_health(|_| "up")?;
    let all: BTreeSet<_> = Backend::of(Provider::A).map(|backend| backend.to_string()).collect();
    Ok(Observed::all([
        (toll.to_string(), toll.is_nothing()),
        (format!("new flows went to {}", served.iter().cloned().collect::<Vec<_>>().join(", ")), served == all),
    ]))
}

fn crash_loop(stage: &mut Stage, time: Duration) -> Result<Observed> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    let blank = path.with_file_name("blank.toml");
    let (mut blanked, mut named) = (0, 0);
    let lines: Vec<_> = good.lines().collect();
    let mut seen = BTreeSet::new();
    for (number, line) in lines.iter().enumerate() {
        // Each key is tested once.
        let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| seen.insert(key.to_owned())) else { continue };
        let mut text = lines.clone();
        let empty = format!("{key} = \"\"");
        text[number] = &empty;
        std::fs::write(&blank, text.join("\n"))?;
        let file = blank.to_string_lossy();
        let output = stage.lab.edge().output(stage.lab.netns(EDGE), &["check", &file])?;
        let message = String::from_utf8_lossy(&output.stderr);
        blanked += 1;
        named += usize::from(output.status.code() == Some(2) && message.contains(&format!(":{}:", number + 1)));
    }
    let (kills, toll) = stage.toll(Duration::ZERO, |lab| {
        let start = Instant::now();
        let mut kills = 0;
        while start.elapsed() < time {
            lab.kill_daemon()?;
            lab.start_daemon()?;
            kills += 1;
        }
        Ok(kills)
    })?;
    stage.lab.wait_for_health(|_| "up")?;
    Ok(Observed::all([
        (format!("{named} of {blanked} blank values refused with their line"), named == blanked && blanked > 10),
        (format!("killed and started {kills} times: {toll}"), kills >= 3 && toll.is_nothing()),
    ]))
}

fn late_writer(stage: &mut Stage) -> Result<Observed> {
    let generation = stage.lab.status()?["generation"].as_u64().unwrap_or_default();
    let ((refused, drained), toll) = stage.toll(Duration::from_secs(1), |lab| {
        lab.edge().signal(Signal::SIGSTOP)?;
        // A request with a deadline in half a second, which the daemon can only read after the deadline.
        let requested = request_by(lab, "/v1/backends/provider-a-wan4/a3/disable", boot_ms()? + 500);
        let drained = lab.ctl(&["drain", "provider-a-wan4/a2", "--reason", "disk swap"]);
        sleep(Duration::from_millis(500));
        lab.edge().signal(Signal::SIGCONT)?;
        let mut answer = String::new();
        requested?.read_to_string(&mut answer)?;
        Ok((!answer.starts_with("HTTP/1.1 200"), drained))
    })?;
    let drained = drained.is_ok();
    let state = |name: &str| -> Result<String> {
        let status = stage.lab.status()?;
        let pools = status["pools"].as_array().cloned().unwrap_or_default();
        let mut backends = pools.iter().flat_map(|pool| pool["backends"].as_array().cloned().unwrap_or_default());
        let found = backends.find(|backend| backend["name"] == name);
        Ok(found.and_then(|backend| backend["state"].as_str().map(str::to_owned)).unwrap_or_default())
    };
    let (a2, a3) = (state("provider-a-wan4/a2")?, state("provider-a-wan4/a3")?);
    let now = stage.lab.status()?["generation"].as_u64().unwrap_or_default();
    stage.lab.ctl(&["enable", "provider-a-wan4/a2"])?;
    Ok(Observed::all([
        (format!("the drain was taken without the controller and stands: {a2}"), drained && a2 == "draining"),
        (format!("the late request was refused and not carried out: {a3}"), refused && a3 == "up"),
        (format!("generation {generation}, then {now}"), now >= generation),
        (toll.to_string(), toll.is_nothing()),
    ]))
}

/// Requests a change before `deadline`, in milliseconds since the host's start, and does not wait for the answer.
fn request_by(lab: &Lab, path: &str, deadline: u64) -> Result<UnixStream> {
    let mut socket = UnixStream::connect(lab.edge().run_dir().join("edge.sock"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "POST {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nContent-Length: 0\r\nedge-deadline: {deadline}\r\n\r\n"
    )?;
    Ok(socket)
}

fn emergency_switch(stage: &mut Stage, operations: usize) -> Result<Observed> {
    let before = in_force(&stage.lab)?;
    let pid = stage.lab.status()?["daemon"]["pid"].clone();
    let mut random = Random::new(5);
    let services: Vec<_> = Service::of(Protocol::Tcp).collect();
    let backends: Vec<_> =
        Backend::all().flat_map(|backend| backend.pools().into_iter().map(move |pool| (pool, backend))).collect();
    let mut refused = Vec::new();
    let mut ask = |lab: &Lab, path: &str, body: &str| -> Result<()> {
        let (status, answer) = api(lab, "POST", path, body)?;
        if status != 200 {
            refused.push(format!("{path}: {status} {answer}"));
        }
        Ok(())
    };
    for _ in 0..operations {
        let dice = random.below(9);
        if dice < 3 {
            let service = random.choose(&services).context("there are services")?;
            let [first, second] = service.pools();
            let to = if random.below(2) == 0 { first } else { second };
            let failover = format!("{{\"to\": \"{to}\", \"evacuate\": {}}}", random.below(2) == 0);
            let (verb, body) = if dice == 0 { ("failback", "") } else { ("failover", failover.as_str()) };
            ask(&stage.lab, &format!("/v1/services/{}/{verb}", service.name), body)?;
        } else {
            let (pool, backend) = random.choose(&backends).context("there are backends")?;
            let verb = random.choose(&["drain", "enable", "disable"]).context("there are verbs")?;
            ask(&stage.lab, &format!("/v1/backends/{pool}/{backend}/{verb}"), "")?;
        }
    }
    for service in &services {
        ask(&stage.lab, &format!("/v1/services/{}/failback", service.name), "")?;
    }
    for (pool, backend) in &backends {
        ask(&stage.lab, &format!("/v1/backends/{pool}/{backend}/enable"), "")?;
    }
    stage.lab.wait_for_health(|_| "up")?;
    let undone = wait_until(PATIENCE, || Ok(in_force(&stage.lab)? == before))?;
    let ((), toll) = stage.toll(Duration::from_secs(1), |_| Ok(()))?;
    let same = stage.lab.status()?["daemon"]["pid"] == pid;
    Ok(Observed::all([
        (format!("{operations} operations, {} refused", refused.len()), refused.is_empty()),
        ("the controller lives, and the state is as before".to_owned(), same && undone),
        (format!("after that {toll}"), toll.is_nothing()),
    ]))
}

fn cold_start(stage: &mut Stage) -> Result<Observed> {
    stage.lab.ctl(&["detach"])?;
    stage.lab.stop_daemon().ok();
    let start = Instant::now();
    stage.lab.start_daemon()?;
    let web = format!("http://{}/", Service::named("web-4in4").address());
    let served = wait_until(PATIENCE, || Ok(stage.lab.curl(CLIENTS[1], &web).is_ok()))?;
    let took = start.elapsed();
    ensure!(served, "it never forwards");
    stage.lab.wait_for_health(|_| "up")?;
    Ok(Observed::all([(
        format!("the first answer came {} ms after the start", took.as_millis()),
        took < Duration::from_secs(2),
    )]))
}

fn observer(stage: &mut Stage) -> Result<Observed> {
    stage.lab.kill_daemon()?;
    let start = Instant::now();
    let status = stage.lab.status();
    let took = start.elapsed();
    stage.lab.start_daemon()?;
    stage.lab.wait_for_health(|_| "up")?;
    let status = status?;
    let services = status["services"].as_array().map_or(0, Vec::len);
    let serving = status["services"][0]["serving"].as_str().unwrap_or_default().to_owned();
    Ok(Observed::all([
        (format!("{} ms", took.as_millis()), took < Duration::from_millis(100)),
        (
            format!("from the maps: {services} services, the first served by {serving}"),
            status["source"] == "pinned_maps" && services > 0 && !serving.is_empty(),
        ),
    ]))
}

/// Milliseconds of `CLOCK_BOOTTIME`.
fn boot_ms() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000)?)
}
