//! Failures of commands: the message, the remedy, and the exit code for scripts.

use std::{io, net::SocketAddr, path::PathBuf};

use hyper::StatusCode;
use thiserror::Error;

use super::args::Dirs;
use crate::{
    bpf::LockError,
    config::{ConfigError, END},
    control::{chain, inventory::NameError, offline::OfflineError, operations::OperationError},
    daemon::{RunError, client::ClientError},
    preflight::HostError,
    xdp::XdpError,
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
    /// Exit code of a daemon that `detach` has ended; a restart would attach everything again.
    Detached = 6,
}

#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Offline(OfflineError),
    #[error("a daemon runs (PID {pid}) but does not answer on {}", socket.display())]
    NoAnswer { pid: u32, socket: PathBuf },
    #[error("no daemon answers on {}, and nothing is pinned under {}", socket.display(), pin_dir.display())]
    NothingThere { socket: PathBuf, pin_dir: PathBuf },
    #[error("no daemon answers on {}, and {verb} needs one", socket.display())]
    DaemonNeeded { socket: PathBuf, verb: &'static str },
    #[error("{0:#}")]
    Decap(anyhow::Error),
    #[error("this host cannot be examined")]
    Host(#[source] HostError),
    #[error("{file} is valid, but does not go with this host: {bad}")]
    Unfit { file: String, bad: String },
    #[error("{name} is neither a file nor a generation in the history{known}")]
    NoSuchGeneration { name: String, known: String },
    /// The file lacks a last line that the text in force has.
    #[error("{file}: {what}: the file may be cut off\n  write: `{END}` as the last line")]
    CutOff { file: String, what: String },
    #[error("the program that was attached goes on: {why}\n  do: see `edge-ctl status`; the daemon tries it again")]
    NotUpgraded { why: String },
    #[error("{client} and {vip} are not of one IP version")]
    Families { client: SocketAddr, vip: SocketAddr },
    #[error("{pattern:?} matches nothing: {why}")]
    Pattern { pattern: String, why: String },
    #[error("there is no incident {id}")]
    NoSuchIncident { id: String },
    #[error("the events in {} cannot be read", dir.display())]
    Events { dir: PathBuf, source: io::Error },
    #[error("{} cannot be written", file.display())]
    Unwritten { file: PathBuf, source: io::Error },
    #[error("top needs a terminal for its input and its output")]
    NoTerminal,
    #[error("the terminal does not work")]
    Terminal(#[source] io::Error),
    #[error("packets cannot be traced")]
    Trace(#[source] XdpError),
    #[error("the documents cannot be written")]
    Documents(#[source] io::Error),
    #[error("the async runtime did not start")]
    Runtime(#[source] io::Error),
}

impl Failure {
    /// A failure of an operation without a daemon.
    pub(crate) fn offline(error: OfflineError, dirs: &Dirs) -> Self {
        match error {
            OfflineError::NothingPinned { pin_dir } => Self::NothingThere { socket: dirs.socket(), pin_dir },
            OfflineError::Lock(LockError::Held { pid }) => Self::NoAnswer { pid, socket: dirs.socket() },
            other => Self::Offline(other),
        }
    }

    /// The message. With `terminal`, the failure of a daemon also quotes the lines of its file, since the output is no
    /// log then.
    pub(crate) fn message(&self, terminal: bool, colour: bool) -> String {
        match self {
            Self::Config(error) => error.with_lines(colour),
            Self::Run(RunError::Config(error)) if terminal => error.with_lines(colour),
            other => chain(other),
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Config(_) | Self::CutOff { .. } | Self::Unfit { .. } | Self::Families { .. } | Self::NoTerminal => {
                Code::Refused
            }
            Self::NoSuchGeneration { .. } | Self::Pattern { .. } | Self::NoSuchIncident { .. } => Code::NotFound,
            Self::Run(error) => match error {
                RunError::Config(_) => Code::Refused,
                RunError::Lock(LockError::Held { .. }) => Code::OtherDaemon,
                RunError::Lock(_)
                | RunError::Network(_)
                | RunError::Apply(_)
                | RunError::Maps(_)
                | RunError::Attach(_)
                | RunError::Socket { .. }
                | RunError::Descriptors(_)
                | RunError::Signals(_) => Code::Failed,
            },
            Self::Client(error) => match error {
                ClientError::Refused { status: StatusCode::NOT_FOUND, .. } => Code::NotFound,
                ClientError::Refused { status: StatusCode::BAD_REQUEST | StatusCode::CONFLICT, .. } => Code::Refused,
                ClientError::Absent { .. } => Code::NothingThere,
                ClientError::Refused { .. }
                | ClientError::Connect { .. }
                | ClientError::Slow(_)
                | ClientError::Broken(_)
                | ClientError::Misunderstood(_) => Code::Failed,
            },
            Self::Offline(error) => match error {
                OfflineError::Operation(
                    OperationError::Name(NameError::AmbiguousBackend { .. })
                    | OperationError::Reason { .. }
                    | OperationError::Evacuations
                    | OperationError::Weight { .. }
                    | OperationError::Retired { .. },
                )
                | OfflineError::Outgrown(_) => Code::Refused,
                OfflineError::Change(error) if error.is_refusal() => Code::Refused,
                OfflineError::Operation(OperationError::Name(_)) => Code::NotFound,
                OfflineError::Lock(LockError::Held { .. }) => Code::OtherDaemon,
                OfflineError::NothingPinned { .. } => Code::NothingThere,
                OfflineError::Maps(_)
                | OfflineError::Inventory(_)
                | OfflineError::Change(_)
                | OfflineError::Operation(OperationError::Maps(_))
                | OfflineError::Lock(LockError::File { .. })
                | OfflineError::Detach(_) => Code::Failed,
            },
            Self::NoAnswer { .. } => Code::OtherDaemon,
            Self::NothingThere { .. } | Self::DaemonNeeded { .. } => Code::NothingThere,
            Self::Decap(_)
            | Self::Host(_)
            | Self::NotUpgraded { .. }
            | Self::Events { .. }
            | Self::Unwritten { .. }
            | Self::Trace(_)
            | Self::Documents(_)
            | Self::Terminal(_)
            | Self::Runtime(_) => Code::Failed,
        }
    }

    /// The remedy.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Client(ClientError::Refused { body, .. }) => body.hint.clone(),
            Self::Client(ClientError::Connect { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run it as root, or as a member of the group that the socket belongs to".to_owned())
            }
            Self::Offline(OfflineError::Operation(OperationError::Name(error))) => Some(error.hint()),
            Self::NoAnswer { pid, .. } if is_stopped(*pid) => Some(format!(
                "it was stopped by a signal or a debugger: `kill -CONT {pid}` lets it go on; `kill -9 {pid}` ends it and leaves \
                 the traffic flowing, and then this command works"
            )),
            Self::Client(ClientError::Slow(_)) => {
                Some("it may be busy: try again; if it was stopped, `kill -CONT PID` lets it go on".to_owned())
            }
            Self::NoAnswer { pid, .. } => Some(format!(
                "it may be starting or stopping: try again; else look at its log, and at --run-dir; `kill {pid}` stops \
                 it and leaves the traffic flowing"
            )),
            Self::NothingThere { .. } => {
                Some("start it with `edge-ctl run FILE`, or name other places with --run-dir and --pin-dir".to_owned())
            }
            Self::Unwritten { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("nothing is written over: name another file".to_owned())
            }
            Self::NoTerminal => {
                Some("use `edge-ctl status`, with `--watch` each second, with `--json` for a program".to_owned())
            }
            Self::NoSuchIncident { .. } => Some("`edge-ctl incident` lists them".to_owned()),
            Self::DaemonNeeded { .. } => Some("start it with `edge-ctl run FILE`".to_owned()),
            Self::Run(RunError::Lock(LockError::Held { .. })) => {
                Some("there is one writer of the maps: stop it first, or give this one a --run-dir and a --pin-dir of its own".to_owned())
            }
            _ => None,
        }
    }
}

/// Whether a process is stopped, so that SIGTERM does not reach it either. False if that cannot be determined.
fn is_stopped(pid: u32) -> bool {
    // `4242 (edge-ctl) T ...`; the name may contain anything.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
}
