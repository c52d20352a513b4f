//! The daemon's life cycle: start, main loop, stop.

mod attaching;
mod channels;
mod detaching;
mod each_second;
mod ended;
mod growing;
mod network_events;
mod outside;
mod reports;
mod showing;
mod standing;
mod suspecting;

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use edge_common::abi::BackendNumber;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

pub(crate) use self::ended::{Ended, RunError};
use self::{
    channels::{Receivers, Senders, WAITING, channels},
    ended::LoopStep,
    outside::Outside,
};
use super::{
    api::{self, Command, Refusal, Request},
    apply,
    busy::Busy,
    chronicle::Chronicle,
    controller::Controller,
    descriptors,
    faults::Faults,
    fit::Fit,
    hooks::Hooks,
    http::Http,
    keeper::Keeper,
    network,
    notify::Notify,
    nudge::Nudger,
    panics,
    passes::Passes,
    probing::Probing,
    program::Program,
    reading::Reader,
    rehearsing::Rehearsing,
    serve,
    soak::Soak,
    socket,
    suspects::{self, Suspects},
    upgrade,
};
use crate::{
    bpf::{self, Before, Lock, PinDir, PinnedMaps, boot_ms, monotonic_time},
    control::{
        chain,
        change::{History, How, Words},
        events::{EventKind, Events, unix_ms},
        status::{Peaks, Sample},
    },
    net::{self, Devices, NetError},
    probe::ProbeEngine,
};

/// Interval of judging backends whose health is in doubt.
const JUDGEMENT: Duration = Duration::from_millis(100);
/// Most probe reports that are judged together.
const TOGETHER: usize = 256;
/// Interval of sampling counters; rates are computed over one to two intervals.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a path MTU from an ICMP error is used (RFC 1191, section 6.3, RFC 8201, section 4).
const PATH_MTU: Duration = Duration::from_mins(10);
/// How long requests in progress may take when the daemon stops.
const FAREWELL: Duration = Duration::from_millis(300);
/// Most services through which a backend is probed at once.
const MOST_THROUGH: usize = 4;

/// Paths of the daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directories<'a> {
    pub(crate) pin_dir: &'a Path,
    pub(crate) run_dir: &'a Path,
    /// Directory of the state that survives a reboot.
    pub(crate) state_dir: &'a Path,
    pub(crate) socket: &'a Path,
}

/// Runs until a signal or a request to detach stops it. A signal leaves everything attached.
pub(crate) async fn run(dirs: Directories<'_>, config: &Path) -> Result<Ended, RunError> {
    let Directories { pin_dir, run_dir, state_dir, socket } = dirs;
    panics::end_the_process();
    upgrade::remember();
    let _run_dir = bpf::lock_run_dir(run_dir)?;
    let pins = PinDir::new(pin_dir)?;
    let lock = bpf::lock_pins(&pins)?;
    let others = pins.others()?.into_iter();
    let others: Vec<_> =
        others.map(|other| bpf::lock_pins(&other).map(|lock| (other, lock))).collect::<Result<_, _>>()?;
    network::claim(&pins)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(RunError::Signals)?;

    let (senders, mut receivers) = channels();
    // Before the program is attached, since a program without stations takes no packets.
    let devices = net::devices().await;
    let states = apply::States { disk: state_dir.to_owned(), copy: run_dir.join("state") };
    let mut daemon = Daemon::start(pins, lock, others, config, &states, devices, senders)?;

    let (command_sender, mut commands) = mpsc::channel(WAITING);
    let (listener, _socket_file) =
        socket::listen(socket).map_err(|source| RunError::Socket { path: socket.to_owned(), source })?;
    let (farewell, ended) = oneshot::channel::<()>();
    let most = daemon.connections;
    let pages = Http::new(command_sender.clone(), daemon.pages);
    daemon.http.insert(pages).follow(daemon.controller.inventory.config.http, &daemon.controller.events);
    let router = api::router(command_sender, daemon.busy.clone(), daemon.controller.events.clone(), most / 2);
    let server = tokio::spawn(serve::serve(listener, router, most, None, ended));
    let started = format!("PID {}, configuration {}", std::process::id(), config.display());
    daemon.controller.events.report(EventKind::DaemonStarted, "edge-ctl", started);

    let mut ticks = interval_at(Instant::now() + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut judgement = interval_at(Instant::now() + JUDGEMENT, JUDGEMENT);
    judgement.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut glances = interval_at(Instant::now() + suspects::GLANCE, suspects::GLANCE);
    glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut together = Vec::with_capacity(TOGETHER);
    let mut forgetting = interval_at(Instant::now() + PATH_MTU, PATH_MTU);
    let (ended_by, why) = loop {
        daemon.busy.end();
        if let Some(anew) = daemon.receivers.take() {
            receivers = anew;
            together.clear();
        }
        tokio::select! {
            1.. = receivers.reports.recv_many(&mut together, TOGETHER) => {
                daemon.report(&together);
                together.clear();
            }
            _ = judgement.tick() => daemon.reconsider(),
            _ = glances.tick(), if !daemon.suspects.is_idle() => daemon.glance(),
            Some(event) = receivers.net_events.recv() => daemon.net_event(event),
            Some(request) = commands.recv() => {
                if daemon.command(request).await == LoopStep::Stop {
                    break (Ended::Detached, "detached");
                }
            }
            Some(findings) = receivers.findings.recv() => daemon.fit.note(findings, &daemon.controller.events),
            loaded = daemon.program.loading() => daemon.attach(loaded).await,
            _ = ticks.tick() => {
                if daemon.tick().await == LoopStep::Stop {
                    break (Ended::Stopped, "another edge-ctl has taken the pins");
                }
            }
            () = daemon.passes.due() => daemon.passes.step(&mut daemon.controller),
            _ = forgetting.tick() => daemon.controller.plane.forget_path_mtus(),
            _ = hangup.recv() => daemon.reader.begin((How::Sighup, Words::default()), None),
            read = daemon.reader.read() => daemon.reload(read).await,
            _ = terminate.recv() => {
                daemon.keep_at_last();
                break (Ended::Stopped, "SIGTERM; everything stays attached");
            }
            _ = interrupt.recv() => {
                daemon.keep_at_last();
                break (Ended::Stopped, "SIGINT; everything stays attached");
            }
        }
    };
    daemon.controller.events.report(EventKind::DaemonStopped, "edge-ctl", why);
    daemon.chronicle.keep_at_last(&daemon.controller.events, FAREWELL);
    let _ = farewell.send(());
    // Subscribers of events would never disconnect.
    let abort = server.abort_handle();
    if timeout(FAREWELL, server).await.is_err() {
        abort.abort();
    }
    Ok(ended_by)
}

/// State owned by the main loop.
pub(super) struct Daemon {
    pub(super) controller: Controller<PinnedMaps>,
    pub(super) pins: PinDir,
    lock: Lock,
    /// Pins of other versions, locked so that no other process changes them.
    others: Vec<(PinDir, Lock)>,
    pub(super) reader: Reader,
    /// Why the file, as last read, is not in force.
    pub(super) refused: Option<String>,
    /// The earlier generations and the trial in progress, as stored in the maps.
    pub(super) history: History,
    /// Why the generation on trial is still in force although it is to be undone, as last reported.
    pub(super) overdue: Option<String>,
    pub(super) rehearsing: Rehearsing,
    /// Earlier maps whose flows are carried over once more when no packet reads these maps any longer.
    before: Option<Before>,
    pub(super) soak: Soak,
    keeper: Keeper,
    /// Writes a copy into the run directory, for a start without usable maps while the disk fails.
    copier: Keeper,
    chronicle: Chronicle,
    /// Why the state that survives a reboot is not on the disk, as last reported.
    state_error: Option<String>,
    faults: Faults,
    started: u64,
    senders: Senders,
    /// Replace the receivers of the loop once backends have new numbers: pending reports still have the old ones.
    receivers: Option<Receivers>,
    /// Conflicts between the configuration and this host.
    pub(super) fit: Fit,
    probes: ProbeEngine,
    /// File descriptors available to probes.
    descriptors: Arc<Semaphore>,
    probing: Probing,
    pub(super) suspects: Suspects,
    /// `None` without the privilege to send such packets.
    nudger: Option<Nudger>,
    /// Most connections to the API at a time.
    connections: usize,
    pub(super) busy: Busy,
    pub(super) outside: Option<Outside>,
    /// Most connections to the status page at a time.
    pages: usize,
    pub(super) http: Option<Http>,
    pub(super) hooks: Hooks,
    pub(super) program: Program,
    passes: Passes,
    notify: Notify,
    /// Backends whose next hop is no longer known.
    lost: BTreeSet<BackendNumber>,
    pub(super) older: Option<Sample>,
    pub(super) newer: Option<Sample>,
    pub(super) peaks: Peaks,
}

impl Daemon {
    fn start(
        pins: PinDir,
        lock: Lock,
        others: Vec<(PinDir, Lock)>,
        config_path: &Path,
        states: &apply::States,
        devices: Result<Devices, NetError>,
        senders: Senders,
    ) -> Result<Self, RunError> {
        let events = Events::new();
        let chronicle = Chronicle::start(&states.disk, &events);
        let apply::Start { mut maps, inventory, history, fresh, loaded, rehearser, before, refused, is_unread } =
            apply::start(&pins, config_path, states, &events).inspect_err(|_| {
                // The first error counts, and an empty directory does no harm.
                let _unused = pins.remove_unused();
            })?;
        match devices {
            Ok(devices) => apply::set_devices(&mut maps, &devices, &inventory.config, &events),
            // The pinned stations stay in force, and the watch repeats the query.
            Err(error) => events.report(EventKind::LocalFault, "network devices", chain(&error)),
        }
        let probing = Probing::start(&pins, &events);
        let shares = descriptors::share_out().map_err(RunError::Descriptors)?;
        let descriptors = Arc::new(Semaphore::new(shares.probes.clamp(MOST_THROUGH, Semaphore::MAX_PERMITS)));
        let program = Program::start(&pins, &inventory.config, fresh, loaded, &events)?;
        let mut daemon = Self {
            controller: Controller::adopt(inventory, maps, events)?,
            pins,
            lock,
            others,
            // An absolute path for `status`; the working directory does not change.
            reader: Reader::new(std::path::absolute(config_path).unwrap_or_else(|_| config_path.to_owned())),
            refused,
            history,
            overdue: None,
            rehearsing: Rehearsing::new(rehearser),
            before,
            soak: Soak::default(),
            keeper: Keeper::start(&states.disk, is_unread),
            copier: Keeper::start(&states.copy, false),
            chronicle,
            state_error: None,
            faults: Faults::default(),
            started: unix_ms(),
            fit: Fit::default(),
            probes: ProbeEngine::new(senders.reports.clone(), Arc::clone(&descriptors), probing.network()),
            descriptors,
            probing,
            suspects: Suspects::default(),
            nudger: Nudger::new().ok(),
            senders,
            receivers: None,
            connections: shares.connections,
            busy: Busy::default(),
            outside: None,
            pages: shares.pages,
            http: None,
            hooks: Hooks::default(),
            program,
            passes: Passes::new(),
            notify: Notify::from_environment(),
            lost: BTreeSet::new(),
            older: None,
            newer: None,
            peaks: Peaks::default(),
        };
        // No time without a daemon counts: the soak begins anew.
        daemon.soak.start(&daemon.controller, &daemon.program, &daemon.history, boot_ms());
        if daemon.program.is_everywhere() {
            daemon.leave_outgrown_maps();
        }
        daemon.look_outside();
        daemon.sample();
        Ok(daemon)
    }

    /// Writes operators' decisions and events to the disk before the process ends or executes another program, which ends
    /// the threads that write.
    fn write_at_last(&mut self) {
        self.keep_at_last();
        self.chronicle.keep_at_last(&self.controller.events, FAREWELL);
    }

    /// Writes operators' decisions to the disk before the process ends: the host may go down, too.
    fn keep_at_last(&mut self) {
        self.keep();
        self.keeper.flush(FAREWELL);
        self.copier.flush(FAREWELL);
    }

    /// Judges again backends whose health was in doubt.
    fn reconsider(&mut self) {
        self.controller.now = monotonic_time();
        if let Err(error) = self.controller.reconsider() {
            self.fault("probes", &error);
        }
    }

    async fn command(&mut self, request: Request) -> LoopStep {
        if request.is_late(boot_ms()) {
            request.command.refuse(Refusal::too_late());
            return LoopStep::Continue;
        }
        // The client may have gone: the answer is dropped then.
        match request.command {
            Command::Alive(back) => {
                let _ = back.send(Ok(()));
            }
            Command::Status(back) => {
                let _ = back.send(Ok(Box::new(self.status())));
            }
            Command::Operate(operation, back) => self.operate(&operation, back),
            Command::Reload(words, back) => self.reader.begin((How::Reload, words), Some(back)),
            Command::Apply(candidate, back) => self.apply(*candidate, back).await,
            Command::Rollback(to, words, back) => self.roll_back(to, words, back).await,
            Command::Confirm(back) => self.confirm(back),
            Command::Evacuate(pool, wanted, back) => self.evacuate(&pool, &wanted, back),
            Command::Return(pool, back) => self.bring_back(&pool, back),
            Command::Weigh(wanted, back) => self.weigh(&wanted, back).await,
            Command::Upgrade(back) => {
                self.busy.begin();
                if let Some(executable) = upgrade::answer(back).await {
                    self.write_at_last();
                    let error = upgrade::execute(executable);
                    self.fault(&executable.display().to_string(), &error);
                }
            }
            Command::Detach(back) => return self.detach(back).await,
        }
        LoopStep::Continue
    }

    /// Reports a fault, unless it lasts and was reported lately.
    pub(super) fn fault(&mut self, subject: &str, error: &dyn std::error::Error) {
        let message = chain(error);
        if self.faults.note(subject, &message, Instant::now().into_std()) {
            self.controller.events.report(EventKind::LocalFault, subject, message);
        }
    }
}
