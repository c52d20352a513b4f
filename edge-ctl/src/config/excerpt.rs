//! The line of the file under an error, with a mark below what is meant.
//!
//! Nothing of the line reaches a terminal as it stands: control characters are replaced, what may be a secret key is covered, and
//! a long line is cut around the mark.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Characters that are shown before the mark, below it, and in all.
const BEFORE: usize = 50;
const MARKED: usize = 60;
const WIDTH: usize = 110;

/// So many hexadecimal digits in a row are a key, or what was meant to be one.
const KEY_DIGITS: usize = 16;

/// A part of one line, fit for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    text: String,
    /// Bytes of `text`; empty where something is missing.
    mark: Range<usize>,
}

impl Excerpt {
    /// The line around byte `at` of `text`, with the value, key or heading that begins there marked; none of a blank line.
    pub(super) fn of(text: &str, at: usize) -> Option<Self> {
        let (before, rest) = text.split_at_checked(at)?;
        let before = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
        let rest = rest.lines().next().unwrap_or_default();
        if before.trim().is_empty() && rest.trim().is_empty() {
            return None;
        }
        let (marked, after) = rest.split_at(token(rest));

        let skipped = before.char_indices().rev().nth(BEFORE - 1).map_or(0, |(at, _)| at);
        let mut shown = if skipped > 0 { "…".to_owned() } else { String::new() };
        shown.push_str(&before[skipped..]);
        let start = shown.len();
        shown.extend(marked.chars().take(MARKED));
        let end = shown.len();
        if marked.chars().nth(MARKED).is_some() {
            shown.push('…');
        } else {
            let room = WIDTH.saturating_sub(shown.chars().count());
            shown.extend(after.chars().take(room));
            if after.chars().nth(room).is_some() {
                shown.push('…');
            }
        }
        // Each replacement may have another length than what it replaces.
        let (before, rest) = shown.split_at(start);
        let (marked, _) = rest.split_at(end - start);
        let mut text = covered(&shown);
        let start = text.char_indices().nth(before.chars().count()).map_or(text.len(), |(at, _)| at);
        let end = text[start..].char_indices().nth(marked.chars().count()).map_or(text.len(), |(at, _)| start + at);
        text.truncate(text.trim_end().len().max(end));
        Some(Self { text, mark: start..end })
    }

    /// Some lines of text, the last one without its end.
    pub(super) fn show(&self, line: usize, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mark = AnnotationKind::Primary.span(self.mark.clone());
        let snippet = Snippet::source(&self.text).line_start(line).annotation(mark);
        // It was cut already.
        renderer.term_width(2 * WIDTH).render(&[Group::with_level(Level::ERROR).element(snippet)])
    }
}

/// How many bytes of `line`, the rest of a line, the value, key or heading at its start has.
fn token(line: &str) -> usize {
    let Some(first) = line.chars().next() else { return 0 };
    // What is not closed here goes on below.
    let whole = line.trim_end().len();
    match first {
        '"' | '\'' => quoted(line).unwrap_or(whole),
        '[' | '{' => bracketed(line).unwrap_or(whole),
        // The parts of a key between dots stand each for themselves.
        'a'..='z' | 'A'..='Z' | '_' => span(line, "_-"),
        '0'..='9' | '+' | '-' => span(line, "_-+.:"),
        _ => first.len_utf8(),
    }
}

fn span(line: &str, others: &str) -> usize {
    line.find(|c: char| !c.is_ascii_alphanumeric() && !others.contains(c)).unwrap_or(line.len())
}

/// Length of the string at the start of `line`, with its quotes.
fn quoted(line: &str) -> Option<usize> {
    let quote = line.chars().next()?;
    let triple = [quote; 3].iter().collect::<String>();
    if line.starts_with(&triple) {
        return line[3..].find(&triple).map(|end| end + 6);
    }
    let mut escaped = false;
    let mut inner = line.char_indices().skip(1);
    let (end, _) = inner.find(|&(_, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && quote == '"' && !escaped;
        closes
    })?;
    Some(end + 1)
}

/// Length of the list, table or heading at the start of `line`, with its brackets.
fn bracketed(line: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(c) = line[at..].chars().next() {
        match c {
            '"' | '\'' => {
                at += quoted(&line[at..])?;
                continue;
            }
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            '#' => return None,
            _ => {}
        }
        at += c.len_utf8();
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// `text`, character by character, without what must not be shown.
fn covered(text: &str) -> String {
    let mut digits = 0;
    let mut shown: Vec<char> = Vec::with_capacity(text.len());
    for c in text.chars() {
        digits = if c.is_ascii_hexdigit() { digits + 1 } else { 0 };
        shown.push(match c {
            '\t' => c,
            // Characters that turn the direction of writing show another text than there is.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        });
        if digits == KEY_DIGITS {
            let from = shown.len() - KEY_DIGITS;
            shown[from..].fill('*');
        } else if digits > KEY_DIGITS {
            shown.pop();
            shown.push('*');
        }
    }
    shown.into_iter().collect()
}
