//! edge.toml(5): the parser's keys, each with its description from docs/config.md.

use super::roff;
use crate::config;

const REFERENCE: &str = include_str!("../../../../docs/config.md");

/// The part before the keys: the file's path, and how the file is checked and applied.
const HEAD: &str = ".TH edge.toml 5\n.SH NAME\nedge.toml \\- configuration of the XDP load balancer\n.SH SYNOPSIS\n\
    .B /etc/edge/edge.toml\n.SH DESCRIPTION\nOne TOML file has the whole configuration, or includes others with parts of it.\n\
    It is accepted as a whole or not at all: a refused file changes nothing.\n.B edge\\-ctl check\nreports its mistakes,\n\
    .B edge\\-ctl plan\nwhat it would change, and\n.B systemctl reload edge\nbrings it into force.\n";

const TAIL: &str = ".SH SEE ALSO\n.BR edge\\-ctl (1),\n.I /usr/share/doc/edge/config.md\n";

/// The whole page.
pub(super) fn page() -> String {
    let mut page = HEAD.to_owned();
    for (heading, keys) in config::sections() {
        let chunk = chunk(heading);
        page.extend([".SH \"", &roff::escaped(&heading.to_uppercase()), "\"\n"]);
        for line in lead(&chunk) {
            page.extend([&*roff::line(line), "\n"]);
        }
        for key in keys {
            page.extend([".TP\n.B ", &roff::escaped(key), "\n"]);
            page += &entry(&chunk, key);
        }
    }
    page + TAIL
}

/// The heading of a section in the reference.
fn title(heading: &str) -> String {
    if heading.starts_with('[') { format!("`{heading}`") } else { "The top of the file".to_owned() }
}

/// The lines of the reference about a section, with those subsections that are not sections of the file themselves.
fn chunk(heading: &str) -> Vec<&'static str> {
    let wanted = title(heading);
    let mut lines =
        REFERENCE.lines().skip_while(|line| line.trim_start_matches('#').trim() != wanted || !line.starts_with("##"));
    lines.next();
    let ends = |line: &&str| line.starts_with("## ") || line.starts_with("### `[");
    lines.take_while(|line| !ends(line)).collect()
}

/// The introduction of a section: its lines before the table of keys, the first code block or the first key's
/// paragraph.
fn lead<'a>(chunk: &[&'a str]) -> Vec<&'a str> {
    let before =
        chunk.iter().take_while(|line| !line.starts_with('|') && !line.starts_with("```") && !line.starts_with("**"));
    before.copied().filter(|line| !line.is_empty() && !line.starts_with("<a ")).collect()
}

/// Type, default and range of a key, and its description.
fn entry(chunk: &[&str], key: &str) -> String {
    let mut entry = match row(chunk, key) {
        Some(row) => format!("{}\n", roff::line(&row)),
        None if REFERENCE.contains(&format!("| `{key}` |")) => "As under another heading.\n".to_owned(),
        None => "A table of its own: see below.\n".to_owned(),
    };
    let name = format!("`{key}`");
    let is_about = |at: &usize| subjects(&chunk[*at..]).is_some_and(|names| names.contains(&name));
    let first = (0..chunk.len()).find(is_about).unwrap_or(chunk.len());
    // The first line behind the names.
    let begins = (first..chunk.len()).find(|at| chunk[*at].contains(DASH)).unwrap_or(chunk.len());
    let mut code = false;
    for at in begins..chunk.len() {
        let line = chunk[at];
        let is_other = at > begins && subjects(&chunk[at..]).is_some() && !is_about(&at);
        if !code && (is_other || line.starts_with('#') || line.starts_with('|')) {
            break;
        }
        match line {
            line if line.starts_with("```") => {
                code = !code;
                entry += if code { ".sp\n.EX\n" } else { ".EE\n" };
            }
            line if code => entry.extend([&*roff::escaped(line), "\n"]),
            "" => entry += ".sp\n",
            line => {
                let text = line.split_once(DASH).map_or(line, |(_, text)| text);
                entry.extend([&*roff::line(text), "\n"]);
            }
        }
    }
    entry.trim_end_matches(".sp\n").to_owned()
}

/// Stands between the names of the keys that a paragraph is about, and its text.
const DASH: &str = "** — ";

/// The names of the keys that the paragraph at the start of `lines` is about, which may take several lines; `None` if
/// no such paragraph begins there.
fn subjects(lines: &[&str]) -> Option<String> {
    lines.first().filter(|line| line.starts_with("**`"))?;
    let paragraph: Vec<_> = lines.iter().copied().take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ").split_once(DASH).map(|(names, _)| names.to_owned())
}

/// The row of a key in a table of the section, as a sentence.
fn row(chunk: &[&str], key: &str) -> Option<String> {
    let start = format!("| `{key}` |");
    let at = chunk.iter().position(|line| line.starts_with(&start))?;
    let header = chunk[..at].iter().rev().find(|line| line.starts_with("| key"))?;
    let names: Vec<_> = header.split('|').map(str::trim).collect();
    let values: Vec<_> = chunk[at].split('|').map(str::trim).collect();
    let cells = names.iter().zip(values).skip(2).filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let cells = cells.map(|(name, value)| match *name {
        "type" | "unit" => value.to_owned(),
        name => format!("{name}: {value}"),
    });
    Some(format!("{}.", cells.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_parser_is_there() {
        let page = page();
        for (heading, keys) in config::sections() {
            assert!(!chunk(heading).is_empty(), "docs/config.md has no section {heading}");
            for key in keys {
                assert!(page.contains(&format!(".TP\n.B {}\n", roff::escaped(key))), "{heading} {key}");
                // The key may have its row in another section that it belongs to as well, or open a table of its own.
                let places = [format!("| `{key}` |"), format!("[{key}]"), format!(".{key}]")];
                assert!(places.iter().any(|place| REFERENCE.contains(place)), "docs/config.md lacks {heading} {key}");
            }
        }
    }

    #[test]
    fn a_key_has_its_type_its_default_and_its_meaning() {
        let chunk = chunk("[[pool]]");
        let entry = entry(&chunk, "min_healthy");
        assert!(entry.starts_with("whole number; default: 1; range: 1 to the number of its backends.\n"), "{entry}");
        assert!(entry.contains("must accept new flows") && !entry.contains("established flows"), "{entry}");
        assert!(!page().contains("**") && !page().contains("]("));
    }

    #[test]
    fn each_of_the_keys_that_share_a_paragraph_has_its_text() {
        let mut checked = 0;
        for (heading, keys) in config::sections() {
            let chunk = chunk(heading);
            let shared = (0..chunk.len()).filter_map(|at| subjects(&chunk[at..]));
            let shared: Vec<_> = shared.filter(|names| names.contains(", ")).collect();
            for key in keys.iter().filter(|key| shared.iter().any(|names| names.contains(&format!("`{key}`")))) {
                // More than its row, which is the first line.
                let entry = entry(&chunk, key);
                assert!(entry.lines().count() > 1, "{heading} {key}: {entry}");
                checked += 1;
            }
        }
        assert!(checked > 15, "{checked}");
        let limits = chunk("[limits]");
        let [first, last] = ["unreachable_per_second", "echo_replies_per_second"].map(|key| entry(&limits, key));
        let text = |entry: &str| entry.split_once('\n').map(|(_, text)| text.to_owned());
        assert!(text(&first).is_some_and(|text| text.starts_with("rate limits")), "{first}");
        assert_eq!(text(&first), text(&last));
    }
}
