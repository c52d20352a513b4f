//! Reading keys of TOML tables while collecting what is wrong with them.

use std::cell::{OnceCell, RefCell};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    error::{Problem, Refusal, SHOWN},
    excerpt::Excerpt,
    origin::Origins,
    schema::{ROOT, Section},
    values::{Entry, Wrong},
};

/// Proof that a problem was recorded. Only [`Problems`] makes one, so a value can't go missing without a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported(());

/// What was read, or proof that the reason why not was recorded.
pub(super) type Read<T> = Result<T, Reported>;

/// A value and where it stands: bytes from the start of the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

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

/// A table of the file while it is read.
pub(super) struct Table<'a> {
    pub(super) problems: &'a Problems<'a>,
    entries: &'a DeTable<'a>,
    pub(super) section: &'static Section,
    pub(super) at: usize,
    /// What `[defaults]` says for all tables of this kind. A key that means nothing in this one is passed over there.
    defaults: Option<&'a DeTable<'a>>,
    /// Keys that unknown ones probably stand for: when they are missing, that was said already.
    meant: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn root(problems: &'a Problems<'a>, entries: &'a DeTable<'a>) -> Self {
        Self::new(problems, entries, &ROOT, 0)
    }

    /// Refuses the keys that `section` does not have.
    fn new(problems: &'a Problems<'a>, entries: &'a DeTable<'a>, section: &'static Section, at: usize) -> Self {
        let mut meant = Vec::new();
        for key in entries.keys().filter(|key| !section.keys.contains(&key.get_ref().as_ref())) {
            if problems.enough() {
                problems.add(
                    key.span().start,
                    "this key is unknown, like many before it",
                    "a configuration; this is something else",
                );
                continue;
            }
            meant.extend(section.meant(key.get_ref()));
            let name = shorten(key.get_ref());
            let what = format!("{} has no key `{name}`", section.heading);
            problems.add(key.span().start, what, section.advice(key.get_ref()));
        }
        Self { problems, entries, section, at, defaults: None, meant }
    }

    /// This table, with what `defaults` has where it has nothing of its own.
    pub(super) fn with_defaults(self, defaults: Option<&Self>) -> Self {
        Self { defaults: defaults.map(|defaults| defaults.entries), ..self }
    }

    fn get(&self, key: &str) -> Read<Option<&'a Spanned<DeValue<'a>>>> {
        debug_assert!(self.section.keys.contains(&key), "{key} is missing in the schema");
        match self.entries.get(key) {
            None if self.meant.contains(&key) => Err(Reported(())),
            None => Ok(self.defaults.and_then(|defaults| defaults.get(key))),
            value => Ok(value),
        }
    }

    /// Where the value of `key` stands; where the table stands when there is none.
    pub(super) fn place(&self, key: &str) -> usize {
        self.entries.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Whether the table itself has `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether the table or its defaults have `key`.
    pub(super) fn has_any(&self, key: &str) -> bool {
        self.has(key) || self.defaults.is_some_and(|defaults| defaults.contains_key(key))
    }

    pub(super) fn is_list(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| matches!(value.get_ref(), DeValue::Array(_)))
    }

    /// The value of `key`, if there is one.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Entry<'_>) -> Result<T, Wrong>,
    ) -> Read<Option<Found<T>>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let at = value.span().start;
        let source = self.problems.text.get(value.span()).unwrap_or_default();
        let entry = Entry { key, value: value.get_ref(), source: &shorten(source), problems: self.problems };
        match read(&entry) {
            Ok(value) => Ok(Some(Found { value, at })),
            Err(Wrong { what, write, at: within }) => Err(self.problems.add(within.unwrap_or(at), what, write)),
        }
    }

    /// The value of `key`, which must be there; `example` is what to write when it is not.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Entry<'_>) -> Result<T, Wrong>,
    ) -> Read<Found<T>> {
        self.optional(key, read)?.ok_or_else(|| self.missing(key, example))
    }

    /// Records that `key` is missing.
    pub(super) fn missing(&self, key: &str, example: &str) -> Reported {
        self.problems.add(self.at, format!("{} lacks `{key}`", self.section.heading), example)
    }

    /// Whether the table says `key = false`, where a table may stand: not even the defaults are wanted.
    pub(super) fn declines(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| matches!(value.get_ref(), DeValue::Boolean(false)))
    }

    /// The table `[key]`, if there is one.
    pub(super) fn table(&self, key: &'static str, section: &'static Section) -> Read<Option<Self>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let at = value.span().start;
        match value.get_ref() {
            DeValue::Table(entries) => Ok(Some(Self::new(self.problems, entries, section, at))),
            other => {
                let what = format!("`{key}` is {}; it must be a table", kind(other));
                Err(self.problems.add(at, what, format!("{} on a line of its own", section.heading)))
            }
        }
    }

    /// The tables `[[key]]` in their order; the empty list when there are none.
    pub(super) fn tables(&self, key: &'static str, section: &'static Section) -> Read<Vec<Self>> {
        let Some(value) = self.get(key)? else { return Ok(Vec::new()) };
        let wrong = |at, found: &DeValue<'_>| {
            let what = format!("`{key}` is {}; it must be a list of tables", kind(found));
            self.problems.add(at, what, format!("{} with two brackets, once for each", section.heading))
        };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(wrong(value.span().start, value.get_ref()));
        };
        let tables: Vec<Read<Self>> = items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Table(entries) => Ok(Self::new(self.problems, entries, section, item.span().start)),
                other => Err(wrong(item.span().start, other)),
            })
            .collect();
        tables.into_iter().collect()
    }
}

/// What kind of value this is, for people.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `text` fit for one line of an error: no control characters (they would reach a terminal), not long.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 48;
    let safe = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(safe).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
