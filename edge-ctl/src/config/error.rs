//! A refused configuration: each problem with its place and the text to write instead.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use serde::Serialize;

use super::excerpt::Excerpt;

/// Number of problems that are shown; the others are only counted. Otherwise a file of the wrong kind would fill
/// screens.
pub(super) const SHOWN: usize = 50;

/// Why there is no configuration. `Display` prints everything, one problem after the other, without the lines of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read at all.
    #[error("{file}: {}\n  write: {}", unreadable(source), advice(source.kind()))]
    Unreadable { file: String, source: io::Error },
    /// The file could not be read in time: a file system that hangs, or a pipe without a writer.
    #[error("{file}: {}\n  write: {LATE_ADVICE}", late(patience))]
    Late { file: String, patience: Duration },
    /// The file was read, and refused.
    #[error("{0}")]
    Refused(Refusal),
}

/// The problems of a refused file in the order of their places; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub file: String,
    pub problems: Vec<Problem>,
}

/// A single problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Path of the file with the problem, relative to the directory of the refused file; `None` for the refused file
    /// itself.
    pub file: Option<Arc<str>>,
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    pub what: String,
    /// Text to write instead.
    pub write: String,
    /// The line with the problem; only for the problems that are shown.
    pub excerpt: Option<Excerpt>,
}

/// A problem of a file, as programs get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    pub(crate) file: String,
    /// Line and column, from 1; absent if the problem is with the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<usize>,
    pub(crate) message: String,
    /// Text to write instead.
    pub(crate) help: String,
}

impl Listed {
    /// A problem with the file as a whole.
    pub(crate) fn of_file(file: &str, message: String, help: String) -> Self {
        Self { file: file.to_owned(), line: None, column: None, message, help }
    }
}

impl ConfigError {
    /// All problems, for programs.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        match self {
            Self::Unreadable { file, source } => {
                vec![Listed::of_file(file, unreadable(source), advice(source.kind()).to_owned())]
            }
            Self::Late { file, patience } => vec![Listed::of_file(file, late(patience), LATE_ADVICE.to_owned())],
            Self::Refused(refusal) => refusal.listed(),
        }
    }

    /// The problems with the lines of the file that they are in, for a person who edits the file.
    pub(crate) fn with_lines(&self, colour: bool) -> String {
        match self {
            Self::Unreadable { .. } | Self::Late { .. } => self.to_string(),
            Self::Refused(refusal) => refusal.shown(Some(colour)),
        }
    }
}

#[cfg(test)]
impl ConfigError {
    /// The problems in the file; empty if it could not be read.
    pub(crate) fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } | Self::Late { .. } => &[],
            Self::Refused(refusal) => &refusal.problems,
        }
    }
}

impl Refusal {
    /// Path of `file`, which is relative to the directory of the refused file.
    fn beside(&self, file: &str) -> String {
        Path::new(&self.file).with_file_name(file).display().to_string()
    }

    /// Path of the file with a problem.
    fn file_of(&self, problem: &Problem) -> String {
        problem.file.as_ref().map_or_else(|| self.file.clone(), |file| self.beside(file))
    }

    fn listed(&self) -> Vec<Listed> {
        let listed = |problem: &Problem| Listed {
            file: self.file_of(problem),
            line: Some(problem.line),
            column: Some(problem.column),
            message: problem.what.clone(),
            help: problem.write.clone(),
        };
        self.problems.iter().map(listed).collect()
    }

    /// All problems, one after the other. With `lines` the line of each problem is included, in colour if it is true.
    fn shown(&self, lines: Option<bool>) -> String {
        let problem = |problem: &Problem| {
            let (file, Problem { line, column, what, write, excerpt, .. }) = (self.file_of(problem), problem);
            let excerpt = lines.zip(excerpt.as_ref()).map(|(colour, excerpt)| excerpt.show(*line, colour) + "\n");
            format!("{file}:{line}:{column}: {what}\n{}  write: {write}", excerpt.unwrap_or_default())
        };
        let mut shown: Vec<_> = self.problems.iter().take(SHOWN).map(problem).collect();
        if let Some(more @ 1..) = self.problems.len().checked_sub(SHOWN) {
            shown.push(format!("{}: and {more} more problems", self.file));
        }
        shown.join(if lines.is_some() { "\n\n" } else { "\n" })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown(None))
    }
}

fn unreadable(source: &io::Error) -> String {
    format!("can't be read: {source}")
}

const LATE_ADVICE: &str = "the path of a file on a disk of this host; the same for each file that it includes";

fn late(patience: &Duration) -> String {
    format!("the file, with the files that it includes, was not read within {} s", patience.as_secs())
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "the path of a file that exists; a command without one reads /etc/edge/edge.toml",
        io::ErrorKind::PermissionDenied => "the path of a file that this user may read, or run as root",
        io::ErrorKind::IsADirectory => "the path of the file in this directory",
        _ => "the path of a file that can be read",
    }
}
