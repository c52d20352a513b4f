//! The program of this process: loaded before anything else where none is attached, beside everything else where one is,
//! and tried again where that fails.

use std::{future, panic::resume_unwind, thread, time::Instant};

use thiserror::Error;
use tokio::task::{self, JoinHandle};

use super::{attachments::Attachments, retry::Retry};
use crate::{
    bpf::{BpfError, PinDir, PinnedMaps},
    config::Config,
    control::{
        chain,
        events::{EventKind, Events},
        status::Status,
    },
    xdp::{self, EdgeProgram, XdpError},
};

pub(crate) struct Program {
    pins: PinDir,
    state: State,
    /// Why it was not loaded when that was last tried.
    refused: Option<Retry>,
    attachments: Attachments,
}

/// The verifier may take seconds, and states must follow probes meanwhile: the program is loaded on a thread of its own, and
/// stores nothing in the maps. An older one, if there is one, goes on until then.
enum State {
    Loading(JoinHandle<Result<EdgeProgram, XdpError>>),
    Loaded(Box<EdgeProgram>),
    Refused,
}

/// Begins to load the program onto maps that are pinned.
pub(super) fn begin(pins: &PinDir) -> thread::JoinHandle<Result<EdgeProgram, XdpError>> {
    let pins = pins.clone();
    thread::spawn(move || load(&pins))
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
        let mut program =
            Self { pins: pins.clone(), state: State::Refused, refused: None, attachments: Attachments::default() };
        match xdp::attached(pins) {
            Ok(interfaces) if interfaces.is_empty() => {}
            attached => {
                if let Err(error) = attached {
                    // Something may be attached: it goes on until its successor stands.
                    events.report(EventKind::LocalFault, "program", chain(&error));
                }
                program.load();
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
            Ok(mut loaded) => {
                self.refused = None;
                let failures = self.attachments.attach(&mut loaded, config, events);
                self.state = State::Loaded(Box::new(loaded));
                failures
            }
            // What is attached goes on.
            Err(error) => {
                let refused = Retry::after(self.refused.as_ref(), chain(&error), Instant::now());
                if refused.is_news(self.refused.as_ref()) {
                    events.report(EventKind::LocalFault, "program", refused.why());
                }
                self.refused = Some(refused);
                Vec::new()
            }
        }
    }

    /// Attaches it to all interfaces of a new configuration, once it is loaded. Returns why it could not, on some.
    pub(crate) fn attach(&mut self, config: &Config, events: &Events) -> Vec<XdpError> {
        match &mut self.state {
            State::Loaded(program) => self.attachments.attach(program, config, events),
            State::Loading(_) | State::Refused => Vec::new(),
        }
    }

    /// Looks whether it is loaded, and attached everywhere; does what is not done, as far as it is due.
    pub(crate) fn look(&mut self, config: &Config, events: &Events) {
        let now = Instant::now();
        match &mut self.state {
            State::Loaded(program) => self.attachments.look(program, config, events, now),
            State::Refused if self.refused.as_ref().is_none_or(|refused| refused.is_due(now)) => self.load(),
            State::Loading(_) | State::Refused => {}
        }
    }

    /// The same, at once for an interface that has changed.
    pub(crate) fn link_changed(&mut self, interface: &str, config: &Config, events: &Events) {
        self.attachments.hasten(interface, Instant::now());
        self.look(config, events);
    }

    pub(crate) const fn is_loading(&self) -> bool {
        matches!(self.state, State::Loading(_))
    }

    /// Adds what is wrong with it.
    pub(crate) fn explain(&self, status: &mut Status) {
        if let Some(daemon) = &mut status.daemon {
            daemon.program = self.refused.as_ref().map(|refused| refused.why().to_owned());
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

fn load(pins: &PinDir) -> Result<EdgeProgram, XdpError> {
    // The pins were there a moment ago; whoever removed them starts anew, too.
    let maps = PinnedMaps::open(pins)?.ok_or(BpfError::Unpublished)?;
    EdgeProgram::load(&maps)
}
