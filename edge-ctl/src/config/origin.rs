//! The file that a line of the text comes from, if the text was merged from several files.
//!
//! Comments in the text mark the origin of lines, in a format that compilers use: `#line 12 "conf.d/web.toml"` gives
//! number and file of the line below it; without a file that line is of the main file. So a stored text is complete,
//! and its problems are still reported for the file to change. `#end "conf.d/web.toml"` replaces the
//! [`END`](super::END) of that file, and `#none "conf.d/*.toml"` names a pattern that matched no file.

use std::{collections::HashSet, sync::Arc};

/// Longest name of a file that a text is merged from, in bytes.
const LONGEST_NAME: usize = 255;

/// The files of a text, in the order of its lines.
#[derive(Debug)]
pub(super) struct Origins {
    marks: Vec<Mark>,
}

#[derive(Debug)]
struct Mark {
    /// Line of this comment in the text, counted from 1.
    at: usize,
    /// Number of the next line in the file that it is from.
    next: usize,
    /// `None` for the main file.
    file: Option<Arc<str>>,
}

impl Origins {
    pub(super) fn of(text: &str) -> Self {
        let mark = |(number, line): (usize, &str)| {
            let rest = line.strip_prefix("#line ")?;
            let (next, file) = match rest.split_once(' ') {
                Some((next, file)) => (next, Some(unquoted(file)?.into())),
                None => (rest, None),
            };
            Some(Mark { at: number + 1, next: next.parse().ok()?, file })
        };
        Self { marks: text.lines().enumerate().filter_map(mark).collect() }
    }

    /// Whether there is more than one file.
    pub(super) fn are_several(&self) -> bool {
        !self.marks.is_empty()
    }

    /// The file (`None` for the main file) that a line of the text comes from, and the line's number there. Both
    /// numbers count from 1.
    pub(super) fn place(&self, line: usize) -> (Option<&Arc<str>>, usize) {
        match self.marks.partition_point(|mark| mark.at < line).checked_sub(1) {
            None => (None, line),
            Some(mark) => {
                let Mark { at, next, file } = &self.marks[mark];
                (file.as_ref(), next.saturating_add(line - at - 1))
            }
        }
    }
}

/// Comment before a part that begins with this line of this file.
pub(super) fn line_mark(line: usize, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("#line {line} \"{file}\"\n"),
        None => format!("#line {line}\n"),
    }
}

/// Comment at the end of a file that had the last line [`END`](super::END).
pub(super) fn end_mark(file: &str) -> String {
    format!("#end \"{file}\"\n")
}

/// Comment on a pattern that matched no file.
pub(super) fn none_mark(pattern: &str) -> String {
    format!("#none \"{pattern}\"\n")
}

/// The patterns of `include` that matched no file when the text was merged.
pub(super) fn unmatched(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| unquoted(line.strip_prefix("#none ")?))
}

/// Whether the name of a file can be written in these comments.
pub(super) fn is_name(file: &str) -> bool {
    !file.is_empty() && file.len() <= LONGEST_NAME && !file.contains(|c: char| c.is_control() || c == '"')
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"').filter(|name| is_name(name))
}

/// The files that a text was merged from, without the main file.
pub(super) fn files(text: &str) -> HashSet<&str> {
    text.lines().filter_map(|line| unquoted(line.strip_prefix("#line ")?.split_once(' ')?.1)).collect()
}

/// The included files that had the last line [`END`](super::END).
pub(super) fn ended_files(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| unquoted(line.strip_prefix("#end ")?)).collect()
}
