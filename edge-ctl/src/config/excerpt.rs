//! The line of the file below an error, with its faulty part marked.
//!
//! The line is made safe for a terminal: control characters are replaced, digits that may be a secret key are hidden,
//! and a long line is cut around the mark.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Characters of a long line that are shown before the mark.
const BEFORE: usize = 50;
/// Characters of a long line's marked part that are shown.
const MARKED: usize = 60;
/// Characters of any line that are shown in total.
const WIDTH: usize = 110;

/// Number of consecutive hexadecimal digits that are hidden, since they are a key or were meant as one.
const KEY_DIGITS: usize = 16;

/// A part of one line, fit for a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    text: String,
    /// Range of bytes in `text`; empty where something is missing.
    mark: Range<usize>,
}

impl Excerpt {
    /// The line around byte `at` of `text`, with the value, key or heading that begins at that byte marked; `None` for
    /// a blank line.
    pub(super) fn of(text: &str, at: usize) -> Option<Self> {
        let (before, rest) = text.split_at_checked(at)?;
        let before = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
        let rest = rest.lines().next().unwrap_or_default();
        if before.trim().is_empty() && rest.trim().is_empty() {
            return None;
        }
        let (marked, after) = rest.split_at(token(rest));

        let fits = before.chars().chain(rest.chars()).nth(WIDTH).is_none();
        let from = before.char_indices().rev().nth(BEFORE - 1).map_or(0, |(at, _)| at);
        let mut shown = if fits || from == 0 { before.to_owned() } else { format!("…{}", &before[from..]) };
        let start = shown.chars().count();
        let cut = |shown: &mut String, part: &str, room: usize| {
            shown.extend(part.chars().take(room));
            part.chars().nth(room).is_some()
        };
        let mut is_cut = cut(&mut shown, marked, if fits { WIDTH } else { MARKED });
        let end = shown.chars().count();
        is_cut = is_cut || cut(&mut shown, after, WIDTH.saturating_sub(end));
        if is_cut {
            shown.push('…');
        }
        let shown = covered(shown.trim_end());
        // A replacement may have another length than the character that it replaces.
        let bytes = |part: &[char]| part.iter().map(|c| c.len_utf8()).sum::<usize>();
        let (start, end) = (bytes(&shown[..start.min(shown.len())]), bytes(&shown[..end.min(shown.len())]));
        Some(Self { text: shown.into_iter().collect(), mark: start..end })
    }

    /// Renders the excerpt as several lines of text, without a newline at the end.
    pub(super) fn show(&self, line: usize, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mark = AnnotationKind::Primary.span(self.mark.clone());
        let snippet = Snippet::source(&self.text).line_start(line).annotation(mark);
        // The text was cut before; the renderer has nothing left to cut.
        renderer.term_width(2 * WIDTH).render(&[Group::with_level(Level::ERROR).element(snippet)])
    }
}

/// Length in bytes of the value, key or heading at the start of `line`, which is the rest of a line.
fn token(line: &str) -> usize {
    let Some(first) = line.chars().next() else { return 0 };
    // A value that is not closed on this line goes on in the next one.
    let whole = line.trim_end().len();
    match first {
        '"' | '\'' => quoted(line).unwrap_or(whole),
        '[' | '{' => bracketed(line).unwrap_or(whole),
        // Only one part of a dotted key is marked.
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

/// The characters of `text`, with those covered that must not be shown.
fn covered(text: &str) -> Vec<char> {
    let mut digits = 0;
    let mut shown: Vec<char> = Vec::with_capacity(text.len());
    for c in text.chars() {
        digits = if c.is_ascii_hexdigit() { digits + 1 } else { 0 };
        shown.push(match c {
            '\t' => c,
            // Characters that change the direction of writing make a terminal show another text than the file has.
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
    shown
}
