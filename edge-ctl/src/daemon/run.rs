//! The daemon's life: start, the loop, the end.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::StatusCode;
use edge_common::abi::BackendNumber;
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    api::{self, Command, Refusal, chain},
    apply::{self, ApplyError},
    controller::Controller,
    events::{Events, Kind, unix_ms},
    inventory::Inventory,
    operate::Outcome,
    program::{self, NotAttached, Program},
    rounds::Rounds,
    socket,
    status::{self, Clock, DaemonStatus, Sample, Status},
};
use crate::{
    config::{self, ConfigError},
    kernel::{Kernel, KernelError, LockError, PinDir},
    net::{self, Announcer, NetEvent, Watch},
    probe::{self, ProbeEngine, Report, Target},
};

/// How often counters are sampled; rates are told over one to two of these.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a path's MTU is believed in that an ICMP error has told (RFC 1191, section 6.3, RFC 8201, section 4).
const PATH_MTU: Duration = Duration::from_mins(10);
/// How long requests that are being answered may take when the daemon stops.
const FAREWELL: Duration = Duration::from_millis(300);
/// Messages that may wait for the loop.
const WAITING: usize = 1024;

/// Why the daemon did not start.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the configuration could not be brought into force")]
    Apply(#[source] ApplyError),
    #[error("the maps cannot be used")]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Attach(#[from] NotAttached),
    #[error("cannot listen on {}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

impl From<ApplyError> for RunError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Config(error) => Self::Config(error),
            other => Self::Apply(other),
        }
    }
}

/// Runs until it is told to stop, which leaves everything attached, or to detach.
pub(crate) async fn run(pin_dir: &Path, run_dir: &Path, socket: &Path, config: &Path) -> Result<(), RunError> {
    let _lock = super::lock(run_dir)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(RunError::Signals)?;

    let (report_sender, mut reports) = mpsc::channel(WAITING);
    let (net_sender, mut net_events) = mpsc::channel(WAITING);
    let mut daemon = Daemon::start(PinDir::new(pin_dir)?, config, report_sender, net_sender)?;

    let (command_sender, mut commands) = mpsc::channel(WAITING);
    let (listener, _socket_file) =
        socket::listen(socket).map_err(|source| RunError::Socket { path: socket.to_owned(), source })?;
    let (farewell, told) = oneshot::channel::<()>();
    let router = api::router(command_sender, daemon.controller.events.clone());
    let server: JoinHandle<io::Result<()>> = tokio::spawn(
        axum::serve(listener, router)
            .with_graceful_shutdown(async {
                let _ = told.await;
            })
            .into_future(),
    );
    let started = format!("PID {}, configuration {}", std::process::id(), config.display());
    daemon.controller.events.tell(Kind::DaemonStarted, "edge-ctl", started);

    let mut ticks = interval_at(Instant::now() + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut forgetting = interval_at(Instant::now() + PATH_MTU, PATH_MTU);
    let why = loop {
        tokio::select! {
            Some(report) = reports.recv() => daemon.report(&report),
            Some(event) = net_events.recv() => daemon.net_event(event),
            Some(command) = commands.recv() => {
                if daemon.command(command).await == Next::Stop {
                    break "detached";
                }
            }
            loaded = daemon.program.loaded() => daemon.attach(loaded),
            _ = ticks.tick() => daemon.sample(),
            () = daemon.rounds.due() => daemon.rounds.step(&mut daemon.controller),
            _ = forgetting.tick() => daemon.controller.plane.forget_path_mtus(),
            _ = hangup.recv() => drop(daemon.reload().await),
            _ = terminate.recv() => break "SIGTERM; everything stays attached",
            _ = interrupt.recv() => break "SIGINT; everything stays attached",
        }
    };
    daemon.controller.events.tell(Kind::DaemonStopped, "edge-ctl", why);
    let _ = farewell.send(());
    // Followers of events would stay for ever.
    let abort = server.abort_handle();
    if timeout(FAREWELL, server).await.is_err() {
        abort.abort();
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

/// What the loop owns.
struct Daemon {
    controller: Controller<Kernel>,
    pins: PinDir,
    config_path: PathBuf,
    /// Why the file, as it was last read, is not in force.
    refused: Option<String>,
    started: u64,
    reports: mpsc::Sender<Report>,
    net_events: mpsc::Sender<NetEvent>,
    outside: Option<Outside>,
    program: Program,
    rounds: Rounds,
    /// Backends whose next hop was known and is not any more.
    lost: BTreeSet<BackendNumber>,
    older: Option<Sample>,
    newer: Option<Sample>,
}

/// What runs beside the loop, for one configuration. Dropping it ends it.
#[derive(Debug)]
struct Outside {
    _probes: ProbeEngine,
    _watch: Watch,
    _announcer: Option<Announcer>,
}

impl Daemon {
    fn start(
        pins: PinDir,
        config_path: &Path,
        reports: mpsc::Sender<Report>,
        net_events: mpsc::Sender<NetEvent>,
    ) -> Result<Self, RunError> {
        let events = Events::new();
        let apply::Start { kernel, inventory, fresh, refused } = apply::start(&pins, config_path, &events)?;
        let program = program::start(&pins, &kernel, &inventory.config, fresh, &events)?;
        let mut daemon = Self {
            controller: Controller::adopt(inventory, kernel, events)?,
            pins,
            // For `status`; the working directory does not change.
            config_path: std::path::absolute(config_path).unwrap_or_else(|_| config_path.to_owned()),
            refused: refused.map(|error| chain(&error)),
            started: unix_ms(),
            reports,
            net_events,
            outside: None,
            program,
            rounds: Rounds::new(),
            lost: BTreeSet::new(),
            older: None,
            newer: None,
        };
        daemon.look_outside();
        daemon.sample();
        Ok(daemon)
    }

    /// Starts probes, the netlink watch and announcements for the configuration in force; ends those before.
    fn look_outside(&mut self) {
        self.outside = None;
        let inventory = &self.controller.inventory;
        let targets = inventory.addresses().filter_map(|(backend, address, pool)| {
            let probe = pool?.probe.clone()?;
            Some(Target { backend, address, probe })
        });
        let announced = apply::announced(&inventory.config);
        self.outside = Some(Outside {
            _probes: probe::start(targets.collect(), self.reports.clone()),
            _watch: net::watch(
                inventory.addresses().map(|(backend, address, _)| (backend, address)).collect(),
                self.net_events.clone(),
            ),
            _announcer: (!announced.is_empty()).then(|| net::announce(announced)),
        });
    }

    fn report(&mut self, report: &Report) {
        if let Err(error) = self.controller.report(report) {
            self.trouble("probes", &error);
        }
    }

    fn net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::NextHops(hops) => {
                for (backend, hop) in hops {
                    let Some(name) = self.controller.inventory.name(backend) else { continue };
                    let known = self.controller.plane.next_hop(backend).is_some();
                    if let Err(error) = self.controller.plane.set_next_hop(backend, hop) {
                        self.trouble(&name, &error);
                        continue;
                    }
                    let events = &self.controller.events;
                    if known && hop.is_none() && self.lost.insert(backend) {
                        events.tell(
                            Kind::NextHopLost,
                            &name,
                            "its MAC address is not known; the kernel is asked for each packet",
                        );
                    } else if hop.is_some() && self.lost.remove(&backend) {
                        events.tell(Kind::NextHopFound, &name, "its MAC address is known again");
                    }
                }
            }
            NetEvent::LinkChanged(name) => self.link_changed(&name),
        }
    }

    /// The program is loaded: it takes the place of the one before on all interfaces.
    fn attach(&mut self, loaded: Result<Kernel, KernelError>) {
        match loaded {
            Ok(mut kernel) => {
                apply::attach(&mut kernel, &self.controller.inventory.config, &self.controller.events);
                self.program = Program::Loaded(Box::new(kernel));
            }
            // What is attached goes on.
            Err(error) => self.trouble("program", &error),
        }
    }

    /// An interface that came back has lost its program.
    fn link_changed(&mut self, name: &str) {
        let Some(interface) = self.controller.inventory.config.interfaces.iter().find(|known| known.name == name)
        else {
            return;
        };
        if self.controller.plane.attached().iter().any(|known| known == name) {
            return;
        }
        // What is still being loaded is attached to all interfaces once it is.
        let Program::Loaded(kernel) = &mut self.program else { return };
        match kernel.attach(name, interface.mode) {
            Ok(()) => {
                self.controller.events.tell(Kind::Attached, name, "the interface came back, and the program with it");
            }
            Err(KernelError::NoInterface { .. }) => {
                let told = "the interface is gone; if it comes back, the program is attached again";
                self.controller.events.tell(Kind::Detached, name, told);
            }
            Err(error) => self.trouble(name, &error),
        }
    }

    async fn command(&mut self, command: Command) -> Next {
        // Who asked may have gone: then nobody needs the answer.
        match command {
            Command::Status(back) => {
                let _ = back.send(Ok(Box::new(self.status())));
            }
            Command::Operate(operation, back) => {
                let _ = back.send(self.controller.operate(&operation).map_err(Refusal::from));
            }
            Command::Reload(back) => {
                let _ = back.send(self.reload().await);
            }
            Command::Detach(back) => {
                // First those that would put back what is taken away.
                self.outside = None;
                if let Program::Loading(_) = self.program {
                    let loaded = self.program.loaded().await;
                    self.attach(loaded);
                }
                let announced = apply::announced(&self.controller.inventory.config);
                match apply::detach(&self.pins, &announced, Vec::new()).await {
                    Ok(outcome) => {
                        self.controller.events.tell(Kind::Detached, "edge-ctl", outcome.message.clone());
                        let _ = back.send(Ok(outcome));
                        return Next::Stop;
                    }
                    Err(error) => {
                        self.look_outside();
                        let _ = back.send(Err(Refusal::internal(&error)));
                    }
                }
            }
        }
        Next::GoOn
    }

    /// Reads the file again. A bad one changes nothing.
    async fn reload(&mut self) -> Result<Outcome, Refusal> {
        match self.try_reload().await {
            Ok(outcome) => {
                self.refused = None;
                Ok(outcome)
            }
            Err(error) => {
                let told = chain(&error);
                self.controller.events.tell(Kind::ConfigRefused, &self.config_path.display().to_string(), told.clone());
                self.refused = Some(told.clone());
                let status = match error {
                    ApplyError::Config(_) | ApplyError::Plan(_) => StatusCode::BAD_REQUEST,
                    ApplyError::Kernel(_) | ApplyError::Inventory(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                Err(Refusal::new(status, told, Some("nothing was changed")))
            }
        }
    }

    async fn try_reload(&mut self) -> Result<Outcome, ApplyError> {
        let config = config::load(&self.config_path)?;
        let generation = self.controller.inventory.generation;
        if config.text == self.controller.inventory.config.text {
            let message = format!("the file is as before: generation {generation} stays");
            return Ok(Outcome { changed: false, message, warnings: Vec::new() });
        }
        let before = self.controller.inventory.config.clone();
        let events = self.controller.events.clone();
        let inventory: Inventory = apply::publish(&mut self.controller.plane, config, &events)?;
        self.controller.replace(inventory)?;
        let config = &self.controller.inventory.config;
        let mut warnings = Vec::new();
        if config.interfaces != before.interfaces {
            if let Program::Loaded(kernel) = &mut self.program {
                warnings.extend(apply::attach(kernel, config, &events).iter().map(|failure| chain(failure)));
            }
            for gone in before.interfaces.iter().filter(|old| config.interfaces.iter().all(|new| new.name != old.name))
            {
                match self.controller.plane.detach_interface(&gone.name) {
                    Ok(_) => events.tell(Kind::Detached, &gone.name, "the configuration does not name it any more"),
                    Err(error) => warnings.push(chain(&error)),
                }
            }
        }
        let wanted = apply::announced(config);
        let mut unwanted = apply::announced(&before);
        unwanted.retain(|old| !wanted.contains(old));
        self.outside = None;
        if !unwanted.is_empty() {
            apply::withdraw(&unwanted, &mut warnings).await;
        }
        self.look_outside();
        self.older = None;
        self.newer = None;
        self.sample();
        let message = format!("generation {} is in force", self.controller.inventory.generation);
        Ok(Outcome { changed: true, message, warnings })
    }

    fn sample(&mut self) {
        let sample = Sample::take(&self.controller.inventory, &self.controller.plane, Clock::now());
        self.older = self.newer.replace(sample);
    }

    fn status(&self) -> Status {
        let Controller { inventory, plane, .. } = &self.controller;
        let now = Sample::take(inventory, plane, Clock::now());
        let earlier = self.older.as_ref().or(self.newer.as_ref());
        let daemon = DaemonStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            config: self.config_path.display().to_string(),
            refused: self.refused.clone(),
        };
        status::build(inventory, plane, earlier, &now, Some(daemon))
    }

    fn trouble(&self, subject: &str, error: &dyn std::error::Error) {
        self.controller.events.tell(Kind::LocalTrouble, subject, chain(error));
    }
}
