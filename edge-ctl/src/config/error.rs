//! A refused configuration: each problem with its place and the text to write instead.

use std::{fmt, io, time::Duration};

/// Problems that are shown; the rest is counted. A file of the wrong kind would fill screens otherwise.
const SHOWN: usize = 50;

/// Why there is no configuration. `Display` prints everything, one problem after the other.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read at all.
    #[error("{file}: can't be read: {source}\n  write: {}", advice(source.kind()))]
    Unreadable { file: String, source: io::Error },
    /// The file is not read after a long time: a file system that hangs, or a pipe that nobody writes to.
    #[error("{file}: was not read within {} s\n  write: the path of a file on a disk of this host", patience.as_secs())]
    Late { file: String, patience: Duration },
    /// The file is read and refused.
    #[error("{0}")]
    Refused(Refusal),
}

/// The problems of a refused file in the order of their places; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub file: String,
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Counts from 1.
    pub line: usize,
    /// Characters, counts from 1.
    pub column: usize,
    pub what: String,
    /// What to write instead.
    pub write: String,
}

#[cfg(test)]
impl ConfigError {
    /// The problems in the file; none when it could not be read.
    pub(crate) fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } | Self::Late { .. } => &[],
            Self::Refused(refusal) => &refusal.problems,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { line, column, what, write }) in self.problems.iter().take(SHOWN).enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{line}:{column}: {what}\n  write: {write}", self.file)?;
        }
        match self.problems.len().checked_sub(SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\n{}: and {more} more problems", self.file),
        }
    }
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "the path of a file that exists, as `--config /etc/edge/edge.toml`",
        io::ErrorKind::PermissionDenied => "the path of a file that this user may read, or run as root",
        io::ErrorKind::IsADirectory => "the path of the file in this directory",
        _ => "the path of a file that can be read",
    }
}
