//! What is wrong with a text, and where.

use std::{
    cell::{OnceCell, RefCell},
    ops::Range,
};

use super::{
    error::{Problem, Refusal, SHOWN},
    excerpt::Excerpt,
    origin::Origins,
};

/// Proof that a problem was recorded. Only [`Problems`] makes one, so a value can't go missing without a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

/// What was read, or proof that the reason why not was recorded.
pub(super) type Read<T> = Result<T, Reported>;

/// The problems of one text.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    /// Where each line ends, in bytes; found at the first use.
    line_ends: OnceCell<Vec<usize>>,
    /// Which file each line is from; found at the first use.
    origins: OnceCell<Origins>,
    found: RefCell<Vec<(usize, String, String)>>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, line_ends: OnceCell::new(), origins: OnceCell::new(), found: RefCell::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// Whether so much is wrong already that nobody reads what is found from here on. Suggestions take time, and a
    /// daemon that reads a wrong file of many megabytes has other things to do.
    pub(super) fn enough(&self) -> bool {
        self.found.borrow().len() >= 1000
    }

    /// Records that at byte `at` stands something wrong, and what to write instead.
    pub(super) fn add(&self, at: usize, what: impl Into<String>, write: impl Into<String>) -> Reported {
        self.found.borrow_mut().push((at, what.into(), write.into()));
        Reported(())
    }

    /// For what follows from something that was recorded before, and goes without saying.
    #[expect(clippy::unused_self, reason = "the proof is of this text's problems")]
    pub(super) const fn already(&self) -> Reported {
        Reported(())
    }

    /// How something is written in the text.
    pub(super) fn written(&self, place: Range<usize>) -> &'t str {
        self.text.get(place).unwrap_or_default()
    }

    /// Records what the TOML parser found; the first fault of a line, since others mostly follow from it.
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

    /// Line of byte `at`, as errors name it: with its file, where there are several.
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

    /// The problem of a text in which nothing else can be looked at.
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
            // Characters, as editors count: bytes that begin one.
            let column = self.text.bytes().take(at).skip(start).filter(|byte| byte & 0xc0 != 0x80).count() + 1;
            let excerpt = (number < SHOWN).then(|| Excerpt::of(self.text, at)).flatten();
            let (file, line) = self.origins().place(line);
            Problem { file: file.cloned(), line, column, what, write, excerpt }
        };
        Refusal { file: file.to_owned(), problems: found.into_iter().enumerate().map(problem).collect() }
    }
}

/// What a fault that the TOML parser found means, and what to write.
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

/// The text of a file.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(bytes).map_err(|error| {
        // Everything before the fault is text: it gives the place.
        let text = str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        let write = "the file in UTF-8; an editor's \"save with encoding\" converts it";
        Problems::new(text).only(text.len(), "this byte is not UTF-8", write)
    })
}
