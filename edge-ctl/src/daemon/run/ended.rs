//! How the loop continues, how the daemon ends, and why it does not start.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    bpf::{BpfError, LockError},
    config::ConfigError,
    control::change::ChangeError,
    daemon::{network::NetworkError, program::NotAttached},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
/// The loop's action after a step.
pub(super) enum LoopStep {
    Continue,
    Stop,
}

/// How a running daemon has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a signal; everything stays attached, and another daemon may follow.
    Stopped,
    /// By `detach`: the next daemon attaches everything again.
    Detached,
}

/// Why the daemon did not start.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the configuration could not be brought into force")]
    Apply(#[source] Box<ChangeError>),
    #[error("the maps cannot be used")]
    Maps(#[from] BpfError),
    #[error(transparent)]
    Attach(#[from] NotAttached),
    #[error("cannot listen on {}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot see how many file descriptors there are")]
    Descriptors(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

impl From<ChangeError> for RunError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Config(error) => Self::Config(error),
            other => Self::Apply(Box::new(other)),
        }
    }
}
