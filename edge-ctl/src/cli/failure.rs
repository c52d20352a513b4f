//! How a command fails: what is said, what to do about it, and the exit code for scripts.

use std::{
    io,
    path::{Path, PathBuf},
};

use hyper::StatusCode;
use thiserror::Error;

use super::client::ClientError;
use crate::{
    config::ConfigError,
    daemon::{
        RunError,
        inventory::{InventoryError, NameError},
        operate::OperateError,
    },
    kernel::{KernelError, LockError},
};

/// Exit codes. `--help` and docs/cli.md list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    Failed = 1,
    Refused = 2,
    NothingThere = 3,
    NotFound = 4,
    OtherDaemon = 5,
}

#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the pinned maps cannot be used")]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Operate(#[from] OperateError),
    #[error("what the pinned maps say of their configuration cannot be used")]
    Inventory(#[from] InventoryError),
    #[error("the writer's lock cannot be taken")]
    Lock(#[source] LockError),
    #[error("a daemon runs (PID {pid}) but does not answer on {}", socket.display())]
    Deaf { pid: u32, socket: PathBuf },
    #[error("no daemon answers on {}, and nothing is pinned under {}", socket.display(), pin_dir.display())]
    NothingThere { socket: PathBuf, pin_dir: PathBuf },
    #[error("no daemon answers on {}, and {verb} needs one", socket.display())]
    DaemonNeeded { socket: PathBuf, verb: &'static str },
    #[error("{0:#}")]
    Decap(anyhow::Error),
    #[error("the async runtime did not start")]
    Runtime(#[source] io::Error),
}

impl Failure {
    pub(crate) fn nothing_there(socket: &Path, pin_dir: &Path) -> Self {
        Self::NothingThere { socket: socket.to_owned(), pin_dir: pin_dir.to_owned() }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Config(_) => Code::Refused,
            Self::Run(error) => match error {
                RunError::Config(_) => Code::Refused,
                RunError::Lock(LockError::Held { .. }) => Code::OtherDaemon,
                _ => Code::Failed,
            },
            Self::Client(error) => match error {
                ClientError::Refused { status: StatusCode::NOT_FOUND, .. } => Code::NotFound,
                ClientError::Refused { status: StatusCode::BAD_REQUEST | StatusCode::CONFLICT, .. } => Code::Refused,
                ClientError::Absent { .. } => Code::NothingThere,
                ClientError::Refused { .. }
                | ClientError::Connect { .. }
                | ClientError::Slow
                | ClientError::Broken(_)
                | ClientError::Misunderstood(_) => Code::Failed,
            },
            Self::Operate(error) => match error {
                OperateError::Name(NameError::AmbiguousBackend { .. }) => Code::Refused,
                OperateError::Name(_) => Code::NotFound,
                OperateError::Kernel(_) => Code::Failed,
            },
            Self::Lock(LockError::Held { .. }) | Self::Deaf { .. } => Code::OtherDaemon,
            Self::NothingThere { .. } | Self::DaemonNeeded { .. } => Code::NothingThere,
            Self::Kernel(_) | Self::Inventory(_) | Self::Lock(_) | Self::Decap(_) | Self::Runtime(_) => Code::Failed,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Client(ClientError::Refused { body, .. }) => body.hint.clone(),
            Self::Client(ClientError::Connect { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run it as root, or as a member of the group that the socket belongs to".to_owned())
            }
            Self::Operate(OperateError::Name(error)) => Some(error.hint()),
            Self::Deaf { pid, .. } => Some(format!(
                "it may be starting or stopping: try again; else look at its log, and at --run-dir; `kill {pid}` stops \
                 it and leaves the traffic flowing"
            )),
            Self::NothingThere { .. } => {
                Some("start it with `edge-ctl run --config FILE`, or name other places with --run-dir and --pin-dir".to_owned())
            }
            Self::DaemonNeeded { .. } => Some("start it with `edge-ctl run --config FILE`".to_owned()),
            Self::Run(RunError::Lock(LockError::Held { .. })) => {
                Some("there is one writer of the maps: stop it first, or give this one a --run-dir and a --pin-dir of its own".to_owned())
            }
            _ => None,
        }
    }
}
