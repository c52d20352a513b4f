//! A refused configuration: each problem with its place and the text to write instead.

use std::{fmt, io, path::Path, sync::Arc, time::Duration};

use super::excerpt::Excerpt;

/// Problems that are shown; the rest is counted. A file of the wrong kind would fill screens otherwise.
pub(super) const SHOWN: usize = 50;

/// Why there is no configuration. `Display` prints everything, one problem after the other, without the lines of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read at all.
    #[error("{file}: can't be read: {source}\n  write: {}", advice(source.kind()))]
    Unreadable { file: String, source: io::Error },
    /// The file is not read after a long time: a file system that hangs, or a pipe that nobody writes to.
    #[error("{file}: was not read within {} s, with what it includes\n  write: the path of a file on a disk of this host; the same for each that it includes", patience.as_secs())]
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
    /// The file, relative to the directory of the refused one; `None`: that one itself.
    pub file: Option<Arc<str>>,
    /// Counts from 1.
    pub line: usize,
    /// Characters, counts from 1.
    pub column: usize,
    pub what: String,
    /// What to write instead.
    pub write: String,
    /// The line itself, of the problems that are shown.
    pub excerpt: Option<Excerpt>,
}

impl ConfigError {
    /// The same for a person who is about to change the file: with the line of each problem.
    pub(crate) fn with_lines(&self, colour: bool) -> String {
        match self {
            Self::Unreadable { .. } | Self::Late { .. } => self.to_string(),
            Self::Refused(refusal) => refusal.shown(Some(colour)),
        }
    }
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

impl Refusal {
    /// A file that is named as seen from the refused one.
    fn beside(&self, file: &str) -> String {
        Path::new(&self.file).with_file_name(file).display().to_string()
    }

    /// The problems one after the other; `lines`: with their lines, in colour or without.
    fn shown(&self, lines: Option<bool>) -> String {
        let problem = |Problem { file, line, column, what, write, excerpt }: &Problem| {
            let excerpt = lines.zip(excerpt.as_ref()).map(|(colour, excerpt)| excerpt.show(*line, colour) + "\n");
            let file = file.as_ref().map_or_else(|| self.file.clone(), |file| self.beside(file));
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

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "the path of a file that exists; a command without one reads /etc/edge/edge.toml",
        io::ErrorKind::PermissionDenied => "the path of a file that this user may read, or run as root",
        io::ErrorKind::IsADirectory => "the path of the file in this directory",
        _ => "the path of a file that can be read",
    }
}
