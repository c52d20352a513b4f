//! Which file a line of the text comes from, where the text was put together from several.
//!
//! The text says so itself, in comments as compilers know them: `#line 12 "conf.d/web.toml"` has the number and the file of the line
//! below it, and without a file it goes on with the main one. So a text that is kept is complete, and what is wrong in it is still
//! reported for the file to change. `#end "conf.d/web.toml"` stands where that file had its [`END`](super::END).

use std::{collections::HashSet, sync::Arc};

/// Longest name of a file that is put into a text.
const LONGEST_NAME: usize = 255;

/// The files of a text, in the order of its lines.
#[derive(Debug)]
pub(super) struct Origins {
    marks: Vec<Mark>,
}

#[derive(Debug)]
struct Mark {
    /// The line of the text, counted from 1, that says so.
    at: usize,
    /// Number of the next line in its file.
    next: usize,
    /// `None`: the main file.
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

    /// The file, `None` for the main one, and the line in it of a line of the text, counted from 1.
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

/// Says that what follows begins with this line of this file.
pub(super) fn line_mark(line: usize, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("#line {line} \"{file}\"\n"),
        None => format!("#line {line}\n"),
    }
}

/// Says that this file had its last line.
pub(super) fn end_mark(file: &str) -> String {
    format!("#end \"{file}\"\n")
}

/// Whether a name can stand in such a comment.
pub(super) fn is_name(file: &str) -> bool {
    !file.is_empty() && file.len() <= LONGEST_NAME && !file.contains(|c: char| c.is_control() || c == '"')
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"').filter(|name| is_name(name))
}

/// The files that a text was put together from, but for the main one.
pub(super) fn files(text: &str) -> HashSet<&str> {
    text.lines().filter_map(|line| unquoted(line.strip_prefix("#line ")?.split_once(' ')?.1)).collect()
}

/// Those of them that had their last line.
pub(super) fn ended_files(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| unquoted(line.strip_prefix("#end ")?)).collect()
}
