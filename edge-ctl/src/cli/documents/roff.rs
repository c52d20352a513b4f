//! Converts the part of Markdown that docs/config.md uses to the text of a man page (man(7)).

/// Escapes the characters that roff would interpret.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        // At the start of a line, these characters begin a request.
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}

/// One line of a paragraph: code in bold, links as their text.
pub(super) fn line(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown.trim();
    while let Some(at) = rest.find(['`', '[', '*']) {
        let (before, found) = rest.split_at(at);
        text.push_str(before);
        let (plain, after) = match found.as_bytes() {
            [b'`', ..] => code(found),
            [b'*', b'*', ..] => (String::new(), &found[2..]),
            [b'[', ..] => link(found),
            _ => (found[..1].to_owned(), &found[1..]),
        };
        text.push_str(&plain);
        rest = after;
    }
    text.push_str(rest);
    // Changes of font were inserted as control characters, which no document has, so that they are not escaped.
    escaped(&text).replace(BOLD, "\\fB").replace(ROMAN, "\\fR")
}

const BOLD: char = '\u{1}';
const ROMAN: char = '\u{2}';

fn code(found: &str) -> (String, &str) {
    match found[1..].split_once('`') {
        Some((code, after)) => (format!("{BOLD}{code}{ROMAN}"), after),
        None => ("`".to_owned(), &found[1..]),
    }
}

fn link(found: &str) -> (String, &str) {
    let end = found.split_once("](").and_then(|(text, target)| Some((&text[1..], target.split_once(')')?.1)));
    match end {
        Some((text, after)) if !text.contains('[') || text.contains('`') => (
            text.split('`')
                .enumerate()
                .map(|(part, text)| if part % 2 == 1 { format!("{BOLD}{text}{ROMAN}") } else { text.to_owned() })
                .collect(),
            after,
        ),
        _ => ("[".to_owned(), &found[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_bold_and_a_link_its_text() {
        for (markdown, expected) in [
            ("plain - text", "plain \\- text"),
            ("`a_b` and **`c`**", "\\fBa_b\\fR and \\fBc\\fR"),
            ("see [several files](#several-files).", "see several files."),
            ("see [`[limits]`](config.md#limits)", "see \\fB[limits]\\fR"),
            ("[tunnel] alone", "[tunnel] alone"),
            (".leading", "\\&.leading"),
            ("a\\b", "a\\eb"),
            ("an open `code", "an open `code"),
        ] {
            assert_eq!(line(markdown), expected, "{markdown}");
        }
    }
}
