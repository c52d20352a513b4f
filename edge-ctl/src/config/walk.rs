//! Reading keys of TOML tables while collecting what is wrong with them.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problems::{Problems, Read, Reported},
    schema::{ROOT, Section},
    values::{Entry, Wrong, kind, shorten},
};

/// A value and its place: bytes from the start of the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A table of the file while it is read.
pub(super) struct Table<'a> {
    pub(super) problems: &'a Problems<'a>,
    entries: &'a DeTable<'a>,
    pub(super) section: &'static Section,
    pub(super) at: usize,
    /// The table of `[defaults]` for all tables of this kind. Its keys are ignored in tables where they have no effect.
    defaults: Option<&'a DeTable<'a>>,
    /// Keys that were probably meant by unknown keys. If one of them is missing, that was already reported with the
    /// unknown key.
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
            let name = shorten(key.get_ref());
            let what = format!("{} has no key `{name}`", section.heading);
            if problems.needless(key.span().start, what, section.advice(key.get_ref())).is_err() {
                meant.extend(section.meant(key.get_ref()));
            }
        }
        Self { problems, entries, section, at, defaults: None, meant }
    }

    /// This table, with the keys of `defaults` where it has none of its own.
    pub(super) fn with_defaults(self, defaults: Option<&Self>) -> Self {
        Self { defaults: defaults.map(|defaults| defaults.entries), ..self }
    }

    fn get(&self, key: &str) -> Read<Option<&'a Spanned<DeValue<'a>>>> {
        debug_assert!(self.section.keys.contains(&key), "{key} is missing in the schema");
        match self.entries.get(key) {
            None if self.meant.contains(&key) => Err(self.problems.already()),
            None => Ok(self.defaults.and_then(|defaults| defaults.get(key))),
            value => Ok(value),
        }
    }

    /// Place of the value of `key`, or of the table if it does not have the key.
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

    /// Whether `key` is a list or a table, and so probably meant as tables.
    pub(super) fn has_tables(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| matches!(value.get_ref(), DeValue::Array(_) | DeValue::Table(_)))
    }

    /// The value of `key`, if there is one.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&Entry<'_>) -> Result<T, Wrong>,
    ) -> Read<Option<Located<T>>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let at = value.span().start;
        let source = self.problems.written(value.span());
        let source = &shorten(source);
        let entry = Entry { key, value: value.get_ref(), source, is_item: false, problems: self.problems };
        match read(&entry) {
            Ok(value) => Ok(Some(Located { value, at })),
            Err(Wrong { what, write, at: within }) => Err(self.problems.add(within.unwrap_or(at), what, write)),
        }
    }

    /// The value of `key`, which must be there; `example` is what to write when it is not.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Entry<'_>) -> Result<T, Wrong>,
    ) -> Read<Located<T>> {
        self.optional(key, read)?.ok_or_else(|| self.missing(key, example))
    }

    /// Records that `key` is missing.
    pub(super) fn missing(&self, key: &str, example: &str) -> Reported {
        self.problems.add(self.at, format!("{} lacks `{key}`", self.section.heading), example)
    }

    /// Whether the table has `key = false` in place of a table, which excludes even the defaults.
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
