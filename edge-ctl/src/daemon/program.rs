//! Loading the program: before anything else where none is attached, beside everything else where one is.

use std::future;

use thiserror::Error;
use tokio::task::{self, JoinHandle};

use super::apply;
use crate::{
    bpf::{BpfError, PinDir, PinnedMaps},
    config::Config,
    control::events::Events,
    xdp::{self, EdgeProgram, XdpError},
};

/// The program of this process.
///
/// The verifier may take seconds, and states must follow probes meanwhile: the program is loaded on a thread of
/// its own, and stores nothing in the maps.
pub(crate) enum Program {
    /// An older one is attached and goes on.
    Loading(JoinHandle<Result<EdgeProgram, XdpError>>),
    Loaded(Box<EdgeProgram>),
    /// It was refused; an older one is attached and goes on.
    Refused,
}

#[derive(Debug, Error)]
#[error("no packet would reach us")]
pub(crate) struct NotAttached(#[from] XdpError);

impl Program {
    /// Waits until it is loaded; for ever where it is, or was refused.
    pub(crate) async fn loaded(&mut self) -> Result<EdgeProgram, XdpError> {
        let Self::Loading(loading) = self else { return future::pending().await };
        let loaded = loading.await;
        *self = Self::Refused;
        // It is never aborted, so this is a panic, and goes on as one.
        loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Loads the program. Where nothing is attached it is attached before this returns, and a first start that can't leaves
/// nothing behind.
pub(crate) fn start(pins: &PinDir, config: &Config, fresh: bool, events: &Events) -> Result<Program, NotAttached> {
    if !xdp::attached(pins).is_empty() {
        let pins = pins.clone();
        return Ok(Program::Loading(task::spawn_blocking(move || load(&pins))));
    }
    let attached =
        load(pins).and_then(|mut program| match apply::attach(&mut program, config, events).into_iter().next() {
            Some(failure) if xdp::attached(pins).is_empty() => Err(failure),
            _ => Ok(program),
        });
    match attached {
        Ok(program) => Ok(Program::Loaded(Box::new(program))),
        Err(error) => {
            if fresh {
                xdp::detach_all(pins)?;
            }
            Err(error.into())
        }
    }
}

fn load(pins: &PinDir) -> Result<EdgeProgram, XdpError> {
    // The pins were there a moment ago; whoever removed them starts anew, too.
    let maps = PinnedMaps::open(pins)?.ok_or(BpfError::Unpublished)?;
    EdgeProgram::load(&maps)
}
