//! Access for the benches: only the operations that they time. Not an interface for anything else.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use edge_common::abi::{BackendNumber, FlowEnds};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{
    Semaphore,
    mpsc::{self, Receiver},
};

use crate::{
    bpf::{self, PinDir, PinnedMaps, Progress},
    config,
    control::inventory::Inventory,
    health::{Health, Verdict},
    net::{Destination, NextHopEntry},
    plan::{self, Admin, Capacity},
    probe::{Network, ProbeEngine, ProbeTarget, Report, Subject},
    xdp::{self, EdgeProgram},
};

/// A valid configuration.
#[derive(Debug)]
pub struct Config(config::Config);

impl Config {
    /// Reads and checks the text of a configuration.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(config::parse(text, "the bench's configuration")?))
    }

    /// Plans the configuration's publication into empty maps of the size that it needs.
    pub fn plan(&self) -> Result<Image> {
        Ok(Image(plan::plan(&self.0, &Capacity::of(&self.0), None)?))
    }
}

/// The complete content of a generation.
#[derive(Debug)]
pub struct Image(plan::Image);

impl Image {
    /// Numbers of all services, in the order of the configuration.
    pub fn services(&self) -> impl Iterator<Item = u32> {
        self.0.snapshot.services.iter().map(|service| service.number)
    }

    /// Numbers of all backends.
    pub fn backends(&self) -> impl Iterator<Item = BackendNumber> {
        self.0.snapshot.backends().map(|(_, backend)| backend.number)
    }
}

/// Pinned maps, removed on drop.
pub struct Maps {
    maps: PinnedMaps,
    pins: PinDir,
}

impl Maps {
    /// Makes empty maps for `config`, and pins them under `pins`, which must be in a BPF file system.
    pub fn create(pins: &Path, config: &Config) -> Result<Self> {
        let pins = PinDir::new(pins)?;
        Ok(Self { maps: PinnedMaps::create(&pins, &Capacity::of(&config.0))?, pins })
    }

    /// Plans the publication of `config` after the published generation.
    pub fn plan(&self, config: &Config) -> Result<Image> {
        let planned = self.maps.with_previous(|previous| plan::plan(&config.0, self.maps.capacity(), previous))?;
        Ok(Image(planned?))
    }

    /// Publishes an image; returns when no packet uses the previous generation any more.
    pub fn publish(&mut self, image: &Image) -> Result<()> {
        Ok(self.maps.publish(&image.0)?)
    }

    /// Records TCP flows at a backend, as seen at `now`.
    pub fn record(
        &self,
        flows: impl IntoIterator<Item = FlowEnds>,
        backend: BackendNumber,
        now: Duration,
    ) -> Result<()> {
        flows.into_iter().try_for_each(|ends| self.maps.record_flow(ends, backend, now).context("no room for a flow"))
    }

    /// Runs a complete reconcile pass, at this time of the flow records' clock, with the idle timeouts of the
    /// configuration. Returns its processor time and its longest step: the daemon does its other work between two steps.
    pub fn reconcile(&mut self, config: &Config, now: Duration) -> Result<(Duration, Duration)> {
        let waits: Vec<_> = self.waits(config)?;
        let start = processor_time();
        let (mut longest, mut step) = (Duration::ZERO, start);
        self.maps.begin_pass(&waits)?;
        loop {
            let progress = self.maps.go_on(now)?;
            longest = longest.max(processor_time().saturating_sub(step));
            match progress {
                Progress::Idle | Progress::Done { .. } => return Ok((processor_time().saturating_sub(start), longest)),
                Progress::GoOn => {}
                Progress::Wait => std::thread::sleep(Duration::from_millis(1)),
            }
            step = processor_time();
        }
    }

    fn waits(&self, config: &Config) -> Result<Vec<(u32, bpf::Waits)>> {
        let snapshot = self.maps.snapshot()?.context("nothing is published")?;
        Ok(Inventory::new(config.0.clone(), &snapshot)?.waits())
    }

    /// Stores a backend's state as the daemon does when its probes find it up or down.
    pub fn set_up(&mut self, backend: BackendNumber, up: bool) -> Result<()> {
        let (health, why) = if up { (Health::Up, "its probes pass") } else { (Health::Down, "its probes fail") };
        Ok(self.maps.set_state(backend, plan::state(Admin::Enabled, health), why)?)
    }

    /// Stores the next hop of a backend: a neighbour on the interface with index `egress`.
    pub fn set_next_hop(&mut self, backend: BackendNumber, egress: u32, mac: [u8; 6]) -> Result<()> {
        let hop = NextHopEntry { egress, mac, source_mac: [2, 0, 0, 0, 0, 1], mtu: 1500, own_mtu: true, vlan: 0 };
        Ok(self.maps.set_next_hop(backend, Some(hop))?)
    }

    /// Loads the program onto the maps; returns the path of its pin.
    pub fn load_program(&mut self) -> Result<PathBuf> {
        EdgeProgram::load(&self.maps)?;
        Ok(self.pins.program())
    }
}

impl Drop for Maps {
    fn drop(&mut self) {
        // Anything that can't be removed is deleted with the bench's file system.
        let _unused = xdp::detach_all(&self.pins);
    }
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A running probe engine and its reports.
#[derive(Debug)]
pub struct Probes {
    _engine: ProbeEngine,
    reports: Receiver<Report>,
}

impl Probes {
    /// Starts to probe all backends of `config` that have a probe, in the current tokio runtime, as the daemon does.
    pub fn start(config: &Config) -> Self {
        let backends = config.0.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
        let targets = (1..).zip(backends).filter_map(|(number, (pool, backend))| {
            let (subject, through) = (Subject::Backend(number), Vec::new());
            let destination = Destination::of(backend.address);
            Some(ProbeTarget { subject, destination, probe: pool.probe_of(Some(backend))?, through, translated: false })
        });
        // As many as in the daemon.
        let (sender, reports) = mpsc::channel(1024);
        let mut engine = ProbeEngine::new(sender, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)), Network::default());
        engine.probe(targets.collect());
        Self { _engine: engine, reports }
    }

    /// Waits for the next probe to end.
    ///
    /// # Errors
    /// The reason why it did not pass.
    pub async fn next(&mut self) -> Result<()> {
        let report = self.reports.recv().await.context("the engine has ended")?;
        match report.verdict {
            Verdict::Pass => Ok(()),
            Verdict::Fail(why) | Verdict::Unreachable(why) | Verdict::Silent(why) | Verdict::Inconclusive(why) => {
                Err(anyhow::anyhow!(why))
            }
        }
    }
}
