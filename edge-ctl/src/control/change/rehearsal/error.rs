//! Why a generation is not published after its rehearsal.

use std::io;

use thiserror::Error;

use crate::{bpf::BpfError, xdp::XdpError};

#[derive(Debug, Error)]
pub(crate) enum RehearsalError {
    #[error(
        "the rehearsal failed: {subject}: {packet} should leave by {expected}, but the program's result is {came}\n  \
         do: try it again, \
         and report it as a bug if it stays so; `--allow-unrehearsed` publishes it all the same"
    )]
    Different { subject: String, packet: String, expected: String, came: String },
    #[error(
        "the rehearsal failed: {subject}: no verdict on {packet}\n  do: try it again; `--allow-unrehearsed` publishes it \
         without a rehearsal"
    )]
    NoVerdict {
        subject: String,
        packet: String,
        #[source]
        source: io::Error,
    },
    #[error("the generation in force cannot be read, and so not be rehearsed")]
    Unreadable(#[source] BpfError),
    /// No rehearsal took place.
    #[error("the rehearsal is not possible on this host (`--allow-unrehearsed` publishes without it)")]
    Impossible(#[source] Box<XdpError>),
}
