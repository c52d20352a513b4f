//! The problems of a text, and their places.

use std::{
    cell::{OnceCell, RefCell},
    ops::Range,
};

use super::{
    error::{Problem, Refusal, SHOWN},
    excerpt::Excerpt,
    origin::Origins,
};

/// Proof that a problem was recorded. Only [`Problems`] makes one, so no value can be missing without a reported
/// problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

/// A value that was read, or proof that the problem with it was recorded.
pub(super) type Read<T> = Result<T, Reported>;

/// The problems of one text.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    /// Byte position of each line's end; computed on first use.
    line_ends: OnceCell<Vec<usize>>,
    /// The file that each line is from; computed on first use.
    origins: OnceCell<Origins>,
    found: RefCell<Vec<(usize, String, String)>>,
    /// Whether needless keys are skipped.
    forgives: bool,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, line_ends: OnceCell::new(), origins: OnceCell::new(), found: RefCell::default(), forgives: false }
    }

    /// The problems of a text that was accepted before, maybe by another version of this program: without
    /// [needless](Self::needless) keys.
    pub(super) fn forgiving(text: &'t str) -> Self {
        Self { forgives: true, ..Self::new(text) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Whether there are so many problems that nobody reads further ones. Suggestions take time, and a daemon must not
    /// spend it on a wrong file of many megabytes.
    pub(super) fn enough(&self) -> bool {
        self.found.borrow().len() >= 1000
    }

    /// Records a problem at byte `at`, and what to write instead.
    pub(super) fn add(&self, at: usize, what: impl Into<String>, write: impl Into<String>) -> Reported {
        self.found.borrow_mut().push((at, what.into(), write.into()));
        Reported(())
    }

    /// Records a key at byte `at` that is unknown or has no effect: the configuration is the same without it. In a text
    /// that was accepted before the key is skipped.
    pub(super) fn needless(&self, at: usize, what: impl Into<String>, write: impl Into<String>) -> Read<()> {
        if self.forgives { Ok(()) } else { Err(self.add(at, what, write)) }
    }

    /// The proof for a problem that follows from one recorded before, and needs no report of its own.
    #[expect(clippy::unused_self, reason = "the proof is of this text's problems")]
    pub(super) const fn already(&self) -> Reported {
        Reported(())
    }

    /// The text at `place`.
    pub(super) fn written(&self, place: Range<usize>) -> &'t str {
        self.text.get(place).unwrap_or_default()
    }

    /// Records faults found by the TOML parser: the first of each line, since others mostly follow from it.
    pub(super) fn add_syntax(&self, faults: &[toml::de::Error]) -> Reported {
        let mut lines = Vec::new();
        for fault in faults {
            let at = fault.span().map_or(self.text.len(), |span| span.start);
            let line = self.text_line(at);
            if !lines.contains(&line) {
                lines.push(line);
                let (what, write) = syntax(fault.message());
                self.add(at, what, write);
            }
            // A binary file has a fault on each of its lines.
            if lines.len() > 100 {
                break;
            }
        }
        Reported(())
    }

    /// Line of byte `at` as shown in errors: with its file, if there are several.
    pub(super) fn line(&self, at: usize) -> String {
        let line = self.text_line(at);
        match self.origins().place(line) {
            (Some(file), line) => format!("{line} of {file}"),
            (None, line) if self.origins().are_several() => format!("{line} of the main file"),
            (None, line) => line.to_string(),
        }
    }

    fn origins(&self) -> &Origins {
        self.origins.get_or_init(|| Origins::of(self.text))
    }

    /// Line of byte `at` in the text, counted from 1.
    fn text_line(&self, at: usize) -> usize {
        self.line_ends().partition_point(|&end| end < at) + 1
    }

    fn line_ends(&self) -> &[usize] {
        self.line_ends.get_or_init(|| self.text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The problem of a text that can't be checked further.
    pub(super) fn only(self, at: usize, what: &str, write: &str) -> Problem {
        self.add(at, what, write);
        self.into_refusal("").problems.remove(0)
    }

    pub(super) fn into_refusal(self, file: &str) -> Refusal {
        let mut found = self.found.take();
        found.sort();
        found.dedup();
        let problem = |(number, (at, what, write)): (usize, (usize, String, String))| {
            let line = self.text_line(at);
            let start = line.checked_sub(2).map_or(0, |before| self.line_ends()[before] + 1);
            // Columns count characters, as in editors: these are the bytes that begin one.
            let column = self.text.bytes().take(at).skip(start).filter(|byte| byte & 0xc0 != 0x80).count() + 1;
            let excerpt = (number < SHOWN).then(|| Excerpt::of(self.text, at)).flatten();
            let (file, line) = self.origins().place(line);
            Problem { file: file.cloned(), line, column, what, write, excerpt }
        };
        Refusal { file: file.to_owned(), problems: found.into_iter().enumerate().map(problem).collect() }
    }
}

/// The meaning of a fault found by the TOML parser, and what to write.
fn syntax(message: &str) -> (String, &'static str) {
    let message = message.replace('\n', ", ");
    let write = if message.contains("duplicate key") {
        "each key once; several pools, backends, services or interfaces each need `[[...]]` with two brackets"
    } else if message.contains("string") {
        "a string in double quotes, closed on the same line, as name = \"web\", or a number, as port = 80"
    } else if message.contains("newline") || message.contains("unexpected key or value") {
        "one key a line; lists in brackets, as pools = [\"a\", \"b\"]"
    } else {
        "TOML, as key = \"value\" or key = 1; docs/config.md has an example of each key"
    };
    (format!("not TOML: {message}"), write)
}

/// Decodes the content of a file as UTF-8.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(bytes).map_err(|error| {
        // The place follows from the text before the fault, which is valid.
        let text = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let write = "the file in UTF-8; an editor's \"save with encoding\" converts it";
        Problems::new(text).only(text.len(), "this byte is not UTF-8", write)
    })
}
