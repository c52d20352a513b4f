//! The program of this process: loaded before anything else where none is attached, beside everything else where one is,
//! and tried again where that fails.

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
    /// Why it was not loaded when that was last tried.
    refused: Option<Retry>,
    attachments: Attachments,
    /// Until when it waits for new maps to know what older ones did.
    takes_over: Option<Instant>,
}

/// The verifier may take seconds, and states must follow probes meanwhile: the program is loaded on a thread of its own, and
/// stores nothing in the maps. An older one, if there is one, goes on until then.
enum State {
    Loading(JoinHandle<Result<EdgeProgram, XdpError>>),
    Loaded(Box<EdgeProgram>),
    /// Loaded onto new maps, while another one is attached that has older ones.
    Waiting(Box<EdgeProgram>),
    Refused,
}

/// How long the program with older maps goes on at most: nobody tells it who is down.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Begins to load the program onto maps that are pinned. Whoever begins loads the one for rehearsals meanwhile: two that do so at a
/// time would each wait for the verifier.
pub(super) fn begin(pins: &PinDir) -> thread::JoinHandle<Result<EdgeProgram, XdpError>> {
    let pins = pins.clone();
    thread::spawn(move || EdgeProgram::load(&opened(&pins)?))
}

#[derive(Debug, Error)]
#[error("no packet would reach us")]
pub(crate) struct NotAttached(#[from] XdpError);

impl Program {
    /// Loads the program, unless it is `loaded`. Where nothing is attached it is attached before this returns, and a first start that can't leaves
    /// nothing behind.
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
                    // Something may be attached: it goes on until its successor stands.
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
            // Maps that packets have used before are kept, and the attachment is tried again.
            Some(failure) if fresh && xdp::attached(pins).is_ok_and(|interfaces| interfaces.is_empty()) => {
                drop(program);
                xdp::detach_all(pins)?;
                Err(failure.into())
            }
            _ => Ok(program),
        }
    }

    /// Waits until it is loaded, or refused; for ever where it is already. The caller passes it on to [`loaded`](Self::loaded).
    pub(crate) async fn loading(&mut self) -> Result<EdgeProgram, XdpError> {
        let State::Loading(loading) = &mut self.state else { return future::pending().await };
        let loaded = loading.await;
        self.state = State::Refused;
        // It is never aborted, so this is a panic, and goes on as one.
        loaded.unwrap_or_else(|error| resume_unwind(error.into_panic()))
    }

    /// It takes the place of the one before on all interfaces. Returns why it does not on some.
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
            // What is attached goes on.
            Err(error) => {
                self.refuse(chain(&error), events);
                Vec::new()
            }
        }
    }

    /// It is not to be attached, and is loaded again later.
    pub(crate) fn refuse(&mut self, why: String, events: &Events) {
        let refused = Retry::after(self.refused.as_ref(), why, Instant::now());
        if refused.is_news(self.refused.as_ref()) {
            events.report(EventKind::LocalFault, "program", refused.why());
        }
        self.refused = Some(refused);
    }

    /// Attaches it to all interfaces of a new configuration, once it is loaded. Returns why it could not, on some.
    pub(crate) fn attach(&mut self, config: &Config, events: &Events) -> Vec<XdpError> {
        match &mut self.state {
            State::Loaded(program) => self.attachments.attach(program, config, events),
            State::Loading(_) | State::Waiting(_) | State::Refused => Vec::new(),
        }
    }

    /// Looks whether it is loaded, and attached everywhere; does what is not done, as far as it is due.
    pub(crate) fn look(&mut self, config: &Config, events: &Events) {
        let now = Instant::now();
        match &mut self.state {
            State::Loaded(program) => {
                // Who removes it removes the pins of maps as well, which is reported.
                let _tried_again_in_a_second = program.keep();
                self.attachments.look(program, config, events, now);
            }
            State::Refused if self.refused.as_ref().is_none_or(|refused| refused.is_due(now)) => self.load(),
            State::Loading(_) | State::Waiting(_) | State::Refused => {}
        }
    }

    /// The same, at once for an interface that has changed.
    pub(crate) fn link_changed(&mut self, interface: &str, config: &Config, events: &Events) {
        self.attachments.hasten(interface, Instant::now());
        self.look(config, events);
    }

    /// Takes the place of a program with older maps, once the new ones know as much.
    pub(crate) fn take_over(&mut self, inventory: &Inventory, plane: &impl DataPlane, events: &Events) {
        let is_due = self.takes_over.is_some_and(|until| until <= Instant::now() || knows_backends(inventory, plane));
        if is_due && matches!(self.state, State::Waiting(_)) {
            self.takes_over = None;
            if let State::Waiting(program) = std::mem::replace(&mut self.state, State::Refused) {
                self.loaded(Ok(*program), &inventory.config, events);
            }
        }
    }

    /// Whether it is attached to all interfaces.
    pub(crate) fn is_everywhere(&self) -> bool {
        matches!(self.state, State::Loaded(_)) && self.attachments.are_complete()
    }

    pub(crate) const fn is_loading(&self) -> bool {
        matches!(self.state, State::Loading(_))
    }

    /// Whether it is not yet known what becomes of it.
    pub(crate) const fn is_pending(&self) -> bool {
        matches!(self.state, State::Loading(_) | State::Waiting(_))
    }

    /// Why it is not loaded.
    pub(crate) fn why_not(&self) -> Option<&str> {
        self.refused.as_ref().map(Retry::why)
    }

    /// An interface that it could not be attached to.
    pub(crate) fn missing_on(&self) -> Option<&str> {
        self.attachments.first_failure()
    }

    /// Adds what is wrong with it.
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

/// By this version or another.
fn attached(pins: &PinDir) -> Result<Vec<String>, BpfError> {
    Ok([xdp::attached(pins)?, xdp::attached_by_others(pins)?].concat())
}

/// Whether maps know of each backend how it is, and the way to it.
fn knows_backends(inventory: &Inventory, plane: &impl DataPlane) -> bool {
    inventory.members().all(|member| match plan::health(plane.state(member.number)) {
        Health::Down => true,
        Health::Unknown if member.pool.probe.is_some() => false,
        Health::Up | Health::Unknown => plane.next_hop(member.number).is_some(),
    })
}

/// The pins were there a moment ago; whoever removed them starts anew, too.
fn opened(pins: &PinDir) -> Result<PinnedMaps, BpfError> {
    PinnedMaps::open(pins)?.ok_or(BpfError::Unpublished)
}

fn load(pins: &PinDir) -> Result<EdgeProgram, XdpError> {
    let maps = opened(pins)?;
    let program = EdgeProgram::load(&maps)?;
    // It stays pinned, so that nobody waits for it later; where that fails, it is said when something is to be rehearsed.
    let _pinned = Rehearsal::load(&maps);
    Ok(program)
}
