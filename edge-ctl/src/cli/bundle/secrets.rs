//! Finds the secrets of a configuration, and takes them out of whatever else has them. Pure.

#![deny(clippy::disallowed_methods)]

use std::{collections::BTreeSet, net::IpAddr};

use toml::{Table, Value};

/// Stands for a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// A shorter value is hidden where it is configured only: elsewhere it may be a word or a number.
const SHORTEST: usize = 6;

/// The secrets that were found so far.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    values: BTreeSet<String>,
}

impl Secrets {
    /// The configuration without its secrets and its comments, which may have former ones.
    ///
    /// # Errors
    /// If the text is no TOML, so that its secrets can't be found.
    pub(super) fn out_of(&mut self, text: &str) -> Result<String, String> {
        let parsed = text.parse::<Table>();
        let mut table = parsed.map_err(|error| {
            // The error quotes the text.
            format!("it is not valid TOML ({}), so its secrets can't be found and taken out", error.message())
        })?;
        for (key, value) in &mut table {
            self.walk(key, value);
        }
        toml::to_string_pretty(&table).map_err(|error| format!("it can't be written: {error}"))
    }

    /// The text without the values that were found.
    pub(super) fn hide(&self, mut text: String) -> String {
        // The longest first: one may be a part of another.
        let mut values: Vec<_> = self.values.iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        for value in values {
            let quoted = serde_json::to_string(value).unwrap_or_default();
            let escaped = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(value);
            for form in [escaped, value.as_str()] {
                if text.contains(form) {
                    text = text.replace(form, HIDDEN);
                }
            }
        }
        text
    }

    fn walk(&mut self, key: &str, value: &mut Value) {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    self.walk(key, value);
                }
            }
            // The program is no secret, and its arguments may be.
            Value::Array(items) if key == "command" => {
                items.iter_mut().skip(1).filter_map(as_text).for_each(|text| self.take(text));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(key, item)),
            Value::String(text) => self.text(key, text),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
    }

    fn text(&mut self, key: &str, text: &mut String) {
        match key {
            "hash_key" | "send" | "expect" => self.take(text),
            // The path often is the secret.
            "webhook" => self.take_after(text, |text| {
                let host = text.find("://").map_or(0, |at| at + 3);
                let end = text[host..].find(['/', '?', '#']).map_or(text.len(), |at| host + at + 1);
                text[host..end].find('@').map_or(end, |_| host)
            }),
            "path" => self.take_after(text, |text| text.find('?').map_or(text.len(), |at| at + 1)),
            _ => {
                let Some(host) = text.find("://").map(|at| at + 3) else { return };
                let Some(end) = text[host..].find('@').map(|at| host + at) else { return };
                let mut user = text[host..end].to_owned();
                self.take(&mut user);
                text.replace_range(host..end, &user);
            }
        }
    }

    /// Hides the text after the byte that `start` finds.
    fn take_after(&mut self, text: &mut String, start: impl FnOnce(&str) -> usize) {
        let mut secret = text.split_off(start(text));
        if !secret.is_empty() {
            self.take(&mut secret);
            text.push_str(&secret);
        }
    }

    fn take(&mut self, text: &mut String) {
        let is_plain = text.parse::<IpAddr>().is_ok() || text.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() >= SHORTEST && !is_plain {
            self.values.insert(text.clone());
        }
        HIDDEN.clone_into(text);
    }
}

fn as_text(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f" # before: deadbeefdeadbeef
[[pool]]
name = "a"
probe = { type = "http", port = 80, path = "/healthz?token=query-secret", host = "www.example.org" }
[[pool]]
name = "b"
[pool.probe]
type = "command"
command = ["/usr/bin/check", "--password", "argument-secret", "-p", "abc"]
[[pool]]
name = "c"
probe = { type = "udp", port = 53, send = "payload-secret\\x00\"", expect = "expected-secret" }
[[notify]]
webhook = "https://hooks.example.org/services/path-secret"
[[notify]]
webhook = "https://user:user-secret@hooks.example.org/x"
"#;

    #[test]
    fn no_secret_stays_and_the_rest_does() {
        let mut secrets = Secrets::default();
        let text = secrets.out_of(TEXT).unwrap();
        for secret in
            ["0001020304", "deadbeef", "query-", "argument-", "abc", "payload-", "expected-", "path-", "user-"]
        {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        for kept in ["/healthz?", "www.example.org", "/usr/bin/check", "https://hooks.example.org/", "name = \"c\""] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        let log = "the key 000102030405060708090a0b0c0d0e0f, payload-secret\\\\x00\\\" and abc";
        assert_eq!(secrets.hide(log.to_owned()), "the key (hidden), (hidden) and abc");
    }

    #[test]
    fn a_text_whose_secrets_cannot_be_found_is_left_out_and_not_quoted() {
        let why = Secrets::default().out_of("hash_key = \"open-secret").unwrap_err();
        assert!(!why.contains("open-secret"), "{why}");
    }
}
