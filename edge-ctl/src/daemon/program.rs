//! The XDP program of this process: loaded before anything else if none is attached, beside everything else if one is,
//! and tried again if that fails.

use std::{
    future,
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::task::{self, JoinHandle};

use super::{attachments::Attachments, retry::Retry};
use crate::{
    bpf::{BpfError, PinDir, PinnedMaps},
    config::Config,
    control::{
        chain,
        change::Attached,
        data_plane::DataPlane,
        events::{EventKind, Events},
        inventory::Inventory,
        status::Status,
    },
    health::Health,
    plan,
    xdp::{self, EdgeProgram, Rehearsal, XdpError},
};

pub(crate) struct Program {
    pins: PinDir,
    state: State,
    /// Why the last try to load the program failed.
    refused: Option<Retry>,
    attachments: Attachments,
    /// Until when the program waits for the new maps to have the older ones' knowledge.
    takes_over: Option<Instant>,
}

/// State of the program. The verifier may take seconds, and states must follow probes meanwhile: so the program is
/// loaded on a thread of its own, which stores nothing in the maps. An older program, if any, stays attached until
/// then.
enum State {
    Loading(JoinHandle<Result<EdgeProgram, XdpError>>),
    Loaded(Box<EdgeProgram>),
    /// Loaded onto new maps, while another program with older maps is attached.
    Waiting(Box<EdgeProgram>),
    Refused,
}

/// Longest time for which the program with older maps stays attached: its maps no longer receive backends' health.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Begins to load the program onto pinned maps. The caller loads the program for rehearsals meanwhile: if both loaded
/// it at a time, each would wait for the verifier.
pub(super) fn begin(pins: &PinDir) -> thread::JoinHandle<Result<EdgeProgram, XdpError>> {
    let pins = pins.clone();
    thread::spawn(move || EdgeProgram::load(&opened(&pins)?))
}

#[derive(Debug, Error)]
#[error("no packet would reach us")]
pub(crate) struct NotAttached(#[from] XdpError);

impl Program {
    /// Loads the program, unless `loaded` is given. If no program is attached, this one is attached before the function
    /// returns, and a first start that can't attach it leaves nothing behind.
    pub(crate) fn start(
        pins: &PinDir,
        config: &Config,
        fresh: bool,
        loaded: Option<Result<EdgeProgram, XdpError>>,
        events: &Events,
    ) -> Result<Self, NotAttached> {
        let mut program = Self {
            pins: pins.clone(),
            state: State::Refused,
            refused: None,
            attachments: Attachments::default(),
            takes_over: None,
        };
        match attached(pins) {
            Ok(interfaces) if interfaces.is_empty() => {}
            attached => {
                if let Err(error) = attached {
                    // A program may be attached: it stays until its successor is attached.
                    events.report(EventKind::LocalFault, "program", chain(&error));
                }
                program.takes_over = fresh.then(|| Instant::now() + TAKE_OVER);
                match loaded {
                    Some(loaded) => drop(program.loaded(loaded, config, events)),
                    None => program.load(),
                }
                return Ok(program);
            }
        }
        let failure = match loaded.unwrap_or_else(|| load(pins)) {
            Ok(loaded) => program.loaded(Ok(loaded), config, events).into_iter().next(),
            Err(error) if fresh => Some(error),
            Err(error) => {
                program.loaded(Err(error), config, events);
                None
            }
        };
        match failure {
            // Only unused maps are removed. Maps that packets have used before are kept, and the attachment is tried
            // again.
            Some(failure) if fresh && xdp::attached(pins).is_ok_and(|interfaces| interfaces.is_empty()) => {
                drop(program);
                xdp::detach_all(pins)?;
                Err(failure.into())
            }
            _ => Ok(program),
        }
    }

    /// Waits until the program is loaded or refused; for ever if it is not being loaded. The caller passes the result
    /// on to [`loaded`](Self::loaded).
    pub(crate) async fn loading(&mut self) -> Result<EdgeProgram, XdpError> {
        let State::Loading(loading) = &mut self.state else { return future::pending().await };
        let loaded = loading.await;
        self.state = State::Refused;
        // The task is never aborted, so an error is a panic, which goes on here.
        loaded.unwrap_or_else(|error| resume_unwind(error.into_panic()))
    }

    /// Attaches a loaded program to all interfaces in place of the one before, or keeps it until the new maps have the
    /// older ones' knowledge. Returns the failures on interfaces.
    pub(crate) fn loaded(
        &mut self,
        loaded: Result<EdgeProgram, XdpError>,
        config: &Config,
        events: &Events,
    ) -> Vec<XdpError> {
        match loaded {
            Ok(loaded) if self.takes_over.is_some() => {
                self.refused = None;
                self.state = State::Waiting(Box::new(loaded));
                Vec::new()
            }
            Ok(mut loaded) => {
                self.refused = None;
                let failures = self.attachments.attach(&mut loaded, config, events);
                self.state = State::Loaded(Box::new(loaded));
                failures
            }
            // The attached program goes on.
            Err(error) => {
                self.refuse(chain(&error), events);
                Vec::new()
            }
        }
    }

    /// Notes that the program is not to be attached; it is loaded again later.
    pub(crate) fn refuse(&mut self, why: String, events: &Events) {
        let refused = Retry::after(self.refused.as_ref(), why, Instant::now());
        if refused.is_news(self.refused.as_ref()) {
            events.report(EventKind::LocalFault, "program", refused.why());
        }
        self.refused = Some(refused);
    }

    /// Attaches the program to all interfaces of a new configuration, if it is loaded. Returns the failures on
    /// interfaces.
    pub(crate) fn attach(&mut self, config: &Config, events: &Events) -> Vec<XdpError> {
        match &mut self.state {
            State::Loaded(program) => self.attachments.attach(program, config, events),
            State::Loading(_) | State::Waiting(_) | State::Refused => Vec::new(),
        }
    }

    /// Checks whether the program is loaded, and attached everywhere; retries missing attachments whose time has come.
    pub(crate) fn look(&mut self, config: &Config, events: &Events) {
        let now = Instant::now();
        match &mut self.state {
            State::Loaded(program) => {
                // If the pin was removed, those of maps were as well, which is reported.
                let _tried_again_in_a_second = program.keep();
                self.attachments.look(program, config, events, now);
            }
            State::Refused if self.refused.as_ref().is_none_or(|refused| refused.is_due(now)) => self.load(),
            State::Loading(_) | State::Waiting(_) | State::Refused => {}
        }
    }

    /// As [`look`](Self::look), without a pause for an interface that has changed.
    pub(crate) fn link_changed(&mut self, interface: &str, config: &Config, events: &Events) {
        self.attachments.hasten(interface, Instant::now());
        self.look(config, events);
    }

    /// Attaches the waiting program in place of one with older maps, once the new maps have as much knowledge, or
    /// [`TAKE_OVER`] is over.
    pub(crate) fn take_over(&mut self, inventory: &Inventory, plane: &impl DataPlane, events: &Events) {
        let is_due = self.takes_over.is_some_and(|until| until <= Instant::now() || has_backends(inventory, plane));
        if is_due && matches!(self.state, State::Waiting(_)) {
            self.takes_over = None;
            if let State::Waiting(program) = std::mem::replace(&mut self.state, State::Refused) {
                self.loaded(Ok(*program), &inventory.config, events);
            }
        }
    }

    /// Whether the program is attached to all interfaces.
    pub(crate) fn is_everywhere(&self) -> bool {
        self.attached() == Attached::Everywhere
    }

    /// Whether the program is attached to all interfaces, or why not.
    pub(crate) fn attached(&self) -> Attached {
        match self.state {
            State::Loading(_) | State::Waiting(_) => Attached::Pending,
            State::Refused => {
                Attached::Lacking(format!("the program is not loaded: {}", self.why_not().unwrap_or_default()))
            }
            State::Loaded(_) => match self.missing_on() {
                Some(interface) => Attached::Lacking(format!("the program is not attached to {interface}")),
                None => Attached::Everywhere,
            },
        }
    }

    /// Names of the interfaces that the program is attached to; `None` while it is not loaded.
    pub(crate) fn interfaces<'a>(&self, config: &'a Config) -> Option<Vec<&'a str>> {
        let names = config.interfaces.iter().map(|interface| interface.name.as_str());
        matches!(self.state, State::Loaded(_))
            .then(|| names.filter(|name| self.attachments.why(name).is_none()).collect())
    }

    /// Whether the loaded program is attached, and no other one of these maps is.
    pub(crate) fn is_only_one(&self) -> bool {
        matches!(&self.state, State::Loaded(program) if program.is_only_one().is_ok_and(|is| is))
    }

    pub(crate) const fn is_loading(&self) -> bool {
        matches!(self.state, State::Loading(_))
    }

    /// Whether the program is still being loaded, or waits to be attached.
    pub(crate) const fn is_pending(&self) -> bool {
        matches!(self.state, State::Loading(_) | State::Waiting(_))
    }

    /// Why the program is not loaded.
    pub(crate) fn why_not(&self) -> Option<&str> {
        self.refused.as_ref().map(Retry::why)
    }

    /// An interface that the program could not be attached to.
    pub(crate) fn missing_on(&self) -> Option<&str> {
        self.attachments.first_failure()
    }

    /// Adds the program's faults to a status.
    pub(crate) fn explain(&self, status: &mut Status) {
        if let Some(daemon) = &mut status.daemon {
            daemon.program = self.why_not().map(str::to_owned);
            daemon.loading = self.is_pending();
        }
        for interface in &mut status.interfaces {
            let why = self.attachments.why(&interface.name).map(str::to_owned);
            interface.why = why.or(interface.why.take());
        }
    }

    fn load(&mut self) {
        let pins = self.pins.clone();
        self.state = State::Loading(task::spawn_blocking(move || load(&pins)));
    }
}

/// The interfaces that a program of this version or another is attached to.
fn attached(pins: &PinDir) -> Result<Vec<String>, BpfError> {
    Ok([xdp::attached(pins)?, xdp::attached_by_others(pins)?].concat())
}

/// Whether the maps have the health of each probed backend, and the next hop of each backend that is not down.
fn has_backends(inventory: &Inventory, plane: &impl DataPlane) -> bool {
    inventory.members().all(|member| match plan::health(plane.state(member.number)) {
        Health::Down => true,
        Health::Unknown if member.pool.probe.is_some() => false,
        Health::Up | Health::Unknown => plane.next_hop(member.number).is_some(),
    })
}

/// Opens the maps. Their pins existed a moment ago; a process that has removed them starts anew, too.
fn opened(pins: &PinDir) -> Result<PinnedMaps, BpfError> {
    PinnedMaps::open(pins)?.ok_or(BpfError::Unpublished)
}

fn load(pins: &PinDir) -> Result<EdgeProgram, XdpError> {
    let maps = opened(pins)?;
    let program = EdgeProgram::load(&maps)?;
    // The program for rehearsals stays pinned, so that no change waits for it later. A failure is reported when a
    // change is to be rehearsed.
    let _pinned = Rehearsal::load(&maps);
    Ok(program)
}
