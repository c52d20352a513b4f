//! Loading the program: before anything else where none is attached, beside everything else where one is.

use std::future;

use thiserror::Error;
use tokio::task::{self, JoinHandle};

use super::{apply, events::Events};
use crate::{
    config::Config,
    kernel::{Kernel, KernelError, PinDir},
};

/// The program of this process.
///
/// The verifier may take seconds, and states must follow probes meanwhile: the program has a view of the maps of its
/// own, which stores nothing.
pub(crate) enum Program {
    /// An older one is attached and goes on.
    Loading(JoinHandle<Result<Kernel, KernelError>>),
    Loaded(Box<Kernel>),
    /// It was refused; an older one is attached and goes on.
    Refused,
}

#[derive(Debug, Error)]
#[error("no packet would reach us")]
pub(crate) struct NotAttached(#[from] KernelError);

impl Program {
    /// Waits until it is loaded; for ever where it is, or was refused.
    pub(crate) async fn loaded(&mut self) -> Result<Kernel, KernelError> {
        let Self::Loading(loading) = self else { return future::pending().await };
        let loaded = loading.await;
        *self = Self::Refused;
        // It is never aborted, so this is a panic, and goes on as one.
        loaded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Loads the program. Where nothing is attached it is attached before this returns, and a first start that can't leaves
/// nothing behind.
pub(crate) fn start(
    pins: &PinDir,
    kernel: &Kernel,
    config: &Config,
    fresh: bool,
    events: &Events,
) -> Result<Program, NotAttached> {
    if !kernel.attached().is_empty() {
        let pins = pins.clone();
        return Ok(Program::Loading(task::spawn_blocking(move || load(&pins))));
    }
    let attached =
        load(pins).and_then(|mut kernel| match apply::attach(&mut kernel, config, events).into_iter().next() {
            Some(failure) if kernel.attached().is_empty() => Err(failure),
            _ => Ok(kernel),
        });
    match attached {
        Ok(kernel) => Ok(Program::Loaded(Box::new(kernel))),
        Err(error) => {
            if fresh {
                Kernel::detach(pins)?;
            }
            Err(error.into())
        }
    }
}

fn load(pins: &PinDir) -> Result<Kernel, KernelError> {
    // The pins were there a moment ago; who removed them will start anew, too.
    let mut kernel = Kernel::open(pins)?.ok_or(KernelError::Unpublished)?;
    kernel.load_program()?;
    Ok(kernel)
}
