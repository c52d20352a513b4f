//! The lab under its standard load, and the cost of an outage there.

use std::{
    collections::BTreeSet,
    fmt,
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::net::UnixStream,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{
    Lab, Options,
    configuration::Configuration,
    load::{self, Load, Record, TIMEOUT, report},
    sequence::{Missing, Sequence},
    topology::{Backend, CLIENTS, Protocol, Service},
};
use serde_json::Value;

/// Datagrams per second.
const DATAGRAMS: u32 = 2_000;
/// Time limit of waiting where no other is given.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A lab under load, whose edge reports all backends up.
pub(super) struct Stage {
    pub(super) lab: Lab,
    loads: Vec<Load>,
    sequence: Sequence,
}

/// Losses of clients in a period.
#[derive(Clone, Debug, Default)]
pub(super) struct Toll {
    pub(super) requests: usize,
    pub(super) failed: usize,
    /// The first failure: its stream, and the reason.
    pub(super) first: Option<String>,
    /// Streams with a failed request.
    pub(super) streams: usize,
    /// The longest time without an answer in any stream.
    pub(super) longest_gap: Duration,
    pub(super) datagrams: Missing,
}

impl Toll {
    /// Whether nothing was lost, among enough requests to be significant.
    pub(super) fn is_nothing(&self) -> bool {
        self.failed == 0 && self.is_what_was_in_flight()
    }

    /// Whether nothing was lost but requests in flight at one time: no stream lost two.
    pub(super) fn is_what_was_in_flight(&self) -> bool {
        self.failed == self.streams && self.datagrams.lost == 0 && self.requests > 50 && self.datagrams.sent > 500
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} requests failed, {} of {} datagrams lost, longest gap {} ms",
            self.failed,
            self.requests,
            self.datagrams.lost,
            self.datagrams.sent,
            self.longest_gap.max(self.datagrams.longest).as_millis(),
        )?;
        self.first.as_ref().map_or(Ok(()), |first| write!(f, ", the first failure: {first}"))
    }
}

impl Stage {
    /// Sets up a lab with `configuration`, and starts the load.
    pub(super) fn set(configuration: Configuration) -> Result<Self> {
        let edge_ctl = edge_tests::built("edge-ctl")?;
        let lab = Lab::up(&Options { edge_ctl: Some(edge_ctl), configuration })?;
        lab.wait_for_health(|_| "up")?;
        let loads = lab.load(Service::of(Protocol::Tcp))?;
        let echoes: Vec<SocketAddr> = Service::of(Protocol::Udp).map(Service::address).collect();
        let sequence = Sequence::start(lab.netns(CLIENTS[0]), &echoes, DATAGRAMS)?;
        sleep(Duration::from_millis(500));
        Ok(Self { lab, loads, sequence })
    }

    /// Losses of clients while `act` runs, and for `then` after it.
    pub(super) fn toll<T>(&mut self, then: Duration, act: impl FnOnce(&mut Lab) -> Result<T>) -> Result<(T, Toll)> {
        let (start, first) = (Instant::now(), self.sequence.sent());
        let done = act(&mut self.lab)?;
        sleep(then);
        let (end, last) = (Instant::now(), self.sequence.sent());
        // Requests in flight end by then, with or without an answer.
        sleep(TIMEOUT);
        let mut records: Vec<Record> = self.loads.iter().flat_map(Load::records).collect();
        records.retain(|record| (start..end).contains(&record.start));
        let failed = || records.iter().filter(|record| record.outcome.is_err());
        let toll = Toll {
            requests: records.len(),
            failed: failed().count(),
            first: failed().next().and_then(|record| record.outcome.clone().err()),
            streams: failed().map(|record| record.stream).collect::<BTreeSet<_>>().len(),
            longest_gap: report::longest_gap(&records),
            datagrams: self.sequence.missing(first, last),
        };
        Ok((done, toll))
    }

    /// Ends the load and the lab.
    pub(super) fn strike(self) -> Result<()> {
        self.sequence.stop()?;
        load::stop(self.loads).map(drop)
    }
}

/// Kills the controller, runs `between`, starts the controller again without its kept events, so that those of one row can
/// be counted, and waits until it reports all backends up.
pub(super) fn restart<T>(lab: &mut Lab, between: impl FnOnce(&mut Lab) -> Result<T>) -> Result<T> {
    lab.kill_daemon()?;
    for kept in std::fs::read_dir(lab.edge().state_dir()).into_iter().flatten() {
        let kept = kept?.path();
        if kept.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events")) {
            std::fs::remove_file(kept)?;
        }
    }
    let done = between(lab)?;
    lab.start_daemon()?;
    lab.wait_for_health(|_| "up")?;
    Ok(done)
}

/// Runs `replay` with these lines about judging, and restores the configuration afterwards.
pub(super) fn judged<T>(stage: &mut Stage, judging: &str, replay: impl FnOnce(&mut Stage) -> Result<T>) -> Result<T> {
    // The controller keeps a thousand events: it begins with none.
    restart(&mut stage.lab, |_| Ok(()))?;
    let observed = changed(stage, |good| good.replace(&Configuration::default().judging, judging), replay)?;
    // A restarted daemon has no memory of flapping.
    restart(&mut stage.lab, |_| Ok(()))?;
    Ok(observed)
}

/// Runs `replay` with the configuration that `change` makes of the lab's, and restores that afterwards.
pub(super) fn changed<T>(
    stage: &mut Stage,
    change: impl FnOnce(&str) -> String,
    replay: impl FnOnce(&mut Stage) -> Result<T>,
) -> Result<T> {
    let path = stage.lab.edge().configuration();
    let good = std::fs::read_to_string(&path)?;
    let other = change(&good);
    ensure!(other != good, "the configuration is not changed");
    std::fs::write(&path, other)?;
    stage.lab.ctl(&["reload"])?;
    stage.lab.wait_for_health(|_| "up")?;
    let observed = replay(stage)?;
    std::fs::write(&path, good)?;
    stage.lab.ctl(&["reload"])?;
    stage.lab.wait_for_health(|_| "up")?;
    Ok(observed)
}

/// Whether this provider serves every service.
pub(super) fn all_served_by(lab: &Lab, provider: &str) -> Result<bool> {
    let status = lab.status()?;
    let services = status["services"].as_array().context("services")?;
    Ok(services.iter().all(|service| service["serving"].as_str().unwrap_or_default().starts_with(provider)))
}

/// Makes backends answer probes with 500, or with 200 again.
pub(super) fn sick(lab: &Lab, backends: impl Iterator<Item = Backend>, sick: bool) -> Result<()> {
    for backend in backends {
        let file = lab.dir().join(backend.to_string()).join("sick");
        if sick { std::fs::write(file, "")? } else { std::fs::remove_file(file)? }
    }
    Ok(())
}

/// All events that the controller still keeps.
pub(super) fn events(lab: &Lab) -> Result<Vec<Value>> {
    lab.ctl(&["events", "--json"])?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Writes a file beside the controller's own, with another weight for one backend; returns its path.
pub(super) fn reweighed(lab: &Lab) -> Result<String> {
    let file = lab.edge().configuration();
    let text = std::fs::read_to_string(&file)?.replacen("[[pool.backend]]", "[[pool.backend]]\nweight = 90", 1);
    let other = file.with_file_name("reweighed.toml");
    std::fs::write(&other, text)?;
    Ok(other.display().to_string())
}

/// Sends a request to the daemon's API; returns the HTTP status and the body.
pub(super) fn api(lab: &Lab, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let mut socket = UnixStream::connect(lab.edge().run_dir().join("edge.sock"))?;
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("not HTTP")?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without an end of its head")?;
    Ok((status, body.to_owned()))
}

/// The stable part of `status`: the serving backends, and the generation.
pub(super) fn in_force(lab: &Lab) -> Result<Value> {
    let status = lab.status()?;
    let services = status["services"].as_array().context("services")?;
    let shown = |service: &Value| {
        let keys = ["name", "vips", "ports", "mode", "state", "serving", "pools", "failover"];
        keys.iter().map(|key| service[key].clone()).collect::<Vec<_>>()
    };
    ensure!(!services.is_empty(), "there are services");
    Ok(serde_json::json!([status["generation"], services.iter().map(shown).collect::<Vec<_>>()]))
}
