//! A configuration in several files: the files that `include` names are merged into one complete text.
//!
//! A key without a heading must come before all headings of the text. So the text begins with the tops of all files
//! (what precedes their first heading), the main file's first, and then has their tables in the same order. Comments
//! mark where each part is from: see [`origin`](super::origin).

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read as _},
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use glob::{MatchOptions, Pattern};
use toml::de::{DeTable, DeValue};
use toml_parser::{
    Source,
    parser::{Event, EventKind, parse_document},
};

use super::{
    ConfigError, END, MAX_FILE,
    end::{check_end, has_end},
    error::Problem,
    origin::{end_mark, is_name, line_mark, none_mark},
    problems::{Problems, Read, decode},
    values::shorten,
    values::{self, Entry, Wrong},
    walk::{Located, Table},
};

/// Most files that the main file includes, and most patterns in its `include`.
const MOST: usize = 1000;
const PATTERNS: usize = 64;

/// A file of the configuration.
struct Part {
    /// Relative to the main file's directory; `None` for the main file.
    name: Option<String>,
    text: String,
}

/// The text of the file at `file`, merged with the files that it includes; unchanged if it includes none.
///
/// # Errors
///
/// Problems that prevent the merge; all others are found in the merged text.
pub(super) fn expand<'t>(text: &'t str, file: &str) -> Result<Cow<'t, str>, ConfigError> {
    let as_it_is = Ok(Cow::Borrowed(text));
    if !text.contains("include") || text.len() > MAX_FILE {
        return as_it_is;
    }
    let (root, faults) = DeTable::parse_recoverable(text);
    let Some((key, value)) = root.get_ref().get_key_value("include").filter(|_| faults.is_empty()) else {
        return as_it_is;
    };
    let include = key.span().start..value.span().end;
    let problems = Problems::new(text);
    let patterns = patterns(&Table::root(&problems, root.get_ref()));
    let Ok(patterns) = patterns else { return Err(ConfigError::Refused(problems.into_refusal(file))) };
    // All other problems of the main file are reported for the merged text.
    let problems = Problems::new(text);
    let Found { files, empty } = find(&patterns, file, &problems)?;
    let mut parts = vec![Part { name: None, text: text.to_owned() }];
    let mut refusal = problems.into_refusal(file);
    if refusal.problems.is_empty() {
        let mut left = MAX_FILE.saturating_sub(text.len());
        for (name, path) in files {
            let bytes = read(&path, left).map_err(|source| {
                let file = shown(&path);
                ConfigError::Unreadable { file, source }
            })?;
            let Some(less) = left.checked_sub(bytes.len()) else {
                let problems = Problems::new(text);
                let what = format!("the files together are longer than {MAX_FILE} bytes, with {name}");
                problems.add(include.start, what, "files of a configuration; one of them is something else");
                return Err(ConfigError::Refused(problems.into_refusal(file)));
            };
            left = less;
            match decode(&bytes) {
                Ok(text) => parts.push(Part { name: Some(name), text: text.to_owned() }),
                Err(problem) => refusal.problems.push(Problem { file: Some(name.into()), ..problem }),
            }
        }
        refusal.problems.extend(check(&parts, file));
    }
    if refusal.problems.is_empty() {
        return Ok(whole(&parts, include, &empty).into());
    }
    Err(ConfigError::Refused(refusal))
}

fn patterns(root: &Table<'_>) -> Read<Vec<Located<String>>> {
    let example = "include = [\"conf.d/*.toml\"]";
    let read = root.optional("include", |entry: &Entry<'_>| {
        values::list(entry, 0..=PATTERNS, example, |entry: &Entry<'_>| {
            let text = entry.string(example)?;
            match Pattern::new(text) {
                Ok(_) if text.is_empty() => Err(entry.wrong("which names no file", example)),
                Ok(_) if text.match_indices('{').any(|(at, _)| !text[..at].ends_with('[')) => {
                    let write = "a pattern for each, as \"conf.d/10*.toml\", \"conf.d/20*.toml\"";
                    Err(entry.wrong("with a brace, which matches only itself; `[{]` is one in a name", write))
                }
                Ok(_) => Ok(text.to_owned()),
                Err(error) => Err(Wrong {
                    what: format!("`include` has {}, which is no pattern: {}", entry.source, error.msg),
                    write: example.to_owned(),
                    at: None,
                }),
            }
        })
    })?;
    let found = read.map_or_else(Vec::new, |found| found.value);
    Ok(found.into_iter().map(|(at, value)| Located { value, at }).collect())
}

/// The files that the patterns match.
struct Found {
    /// Each once, with its name relative to the directory of the main file.
    files: Vec<(String, PathBuf)>,
    /// The patterns that match none.
    empty: Vec<String>,
}

/// Finds the files that match the patterns. A file that is reached by two paths is one file.
fn find(patterns: &[Located<String>], file: &str, problems: &Problems<'_>) -> Result<Found, ConfigError> {
    let directory = Path::new(file).parent().unwrap_or(Path::new(""));
    let options =
        MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let mut seen = HashSet::new();
    let mut found = Found { files: Vec::new(), empty: Vec::new() };
    for Located { value: pattern, at } in patterns {
        let full = Path::new(&Pattern::escape(&directory.to_string_lossy())).join(pattern);
        // The pattern was found valid before.
        let Ok(paths) = glob::glob_with(&full.to_string_lossy(), options) else { continue };
        let mut matched = Vec::new();
        for path in paths {
            matched.push(path.map_err(|error| {
                let file = shown(error.path());
                ConfigError::Unreadable { file, source: error.into() }
            })?);
        }
        if matched.is_empty() && !pattern.contains(['*', '?', '[']) {
            let what = format!("there is no file {}", shown(&directory.join(pattern)));
            problems.add(*at, what, "the path of a file that exists, or a pattern with `*`, which may match none");
        } else if matched.is_empty() {
            found.empty.push(pattern.clone());
        }
        matched.sort();
        for path in matched {
            let name = path.strip_prefix(directory).unwrap_or(&path).to_str().filter(|name| is_name(name));
            match name.map(str::to_owned) {
                Some(name) if seen.insert(identity(&path)) => found.files.push((name, path)),
                Some(_) => {}
                None => {
                    let name = shorten(&path.file_name().unwrap_or_default().to_string_lossy());
                    let what = format!("a file that this matches has a name that can't be shown: {name}");
                    problems.add(
                        *at,
                        what,
                        "names of at most 255 bytes in UTF-8, without control characters and quotes",
                    );
                }
            }
        }
        if found.files.len() > MOST {
            problems.add(
                *at,
                format!("more than {MOST} files are included"),
                "a pattern that matches fewer, or fewer files",
            );
            break;
        }
    }
    Ok(found)
}

/// What two paths to one file have in common: device and inode, or else the path itself.
fn identity(path: &Path) -> Result<(u64, u64), PathBuf> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).map_err(|_| path.to_owned())
}

/// `path` for a single line of an error message.
fn shown(path: &Path) -> String {
    path.display().to_string().replace(char::is_control, " ")
}

/// Reads a regular file, at most one byte more than `left`. Anything else in a directory (a pipe) is refused, since
/// reading it may block.
fn read(path: &Path, left: usize) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(left as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Problems within single parts, and keys in several parts of which only one may have them.
fn check(parts: &[Part], file: &str) -> Vec<Problem> {
    let main = Path::new(file).file_name().map_or(file.into(), |name| name.to_string_lossy());
    let parts: Vec<_> =
        parts.iter().map(|part| (part.name.as_deref(), Problems::new(&part.text), &part.text)).collect();
    let mut seen: HashMap<String, Seen<'_>> = HashMap::new();
    for (name, problems, text) in &parts {
        let (root, faults) = DeTable::parse_recoverable(text);
        if name.is_some() {
            check_end(text, problems);
        }
        if !faults.is_empty() {
            problems.add_syntax(&faults);
            continue;
        }
        for (key, value) in root.get_ref() {
            let word = key.get_ref().as_ref();
            let here = |at, headings| Seen { file: name.unwrap_or(&main), problems, at, headings };
            match value.get_ref() {
                _ if word == "include" && name.is_none() => {}
                _ if word == "include" => {
                    let write = format!("all patterns in the `include` of {main}; none that matches {main} itself");
                    problems.add(key.span().start, "`include` in a file that is included itself", write);
                }
                DeValue::Table(below) if word == "defaults" => {
                    for key in below.keys() {
                        once(&mut seen, format!("defaults.{}", key.get_ref()), here(key.span().start, false));
                    }
                }
                value => once(&mut seen, word.to_owned(), here(key.span().start, is_headings(value, text))),
            }
        }
    }
    let found = parts.into_iter().flat_map(|(name, problems, _)| {
        let own = problems.into_refusal(file).problems.into_iter();
        own.map(move |problem| Problem { file: name.map(Into::into), ..problem })
    });
    found.collect()
}

/// Place of a key or table.
struct Seen<'p> {
    file: &'p str,
    problems: &'p Problems<'p>,
    at: usize,
    /// Whether it has `[[...]]` headings, which each file may have.
    headings: bool,
}

/// Records a problem if the key was seen before.
fn once<'p>(seen: &mut HashMap<String, Seen<'p>>, name: String, new: Seen<'p>) {
    let Some(first) = seen.get(&name) else {
        seen.insert(name, new);
        return;
    };
    if first.headings && new.headings {
        return;
    }
    let name = shorten(&name);
    let what = format!("`{name}` is in {}, too, on line {}", first.file, first.problems.line(first.at));
    let write = if first.headings || new.headings {
        format!("[[{name}]] with two brackets, in each of the files")
    } else {
        "it in one of the files only".to_owned()
    };
    new.problems.add(new.at, what, write);
}

/// Whether a list consists of tables with headings of their own.
fn is_headings(value: &DeValue<'_>, text: &str) -> bool {
    let DeValue::Array(items) = value else { return false };
    let heading = |at: usize| text.get(at..).is_some_and(|rest| rest.starts_with("[["));
    !items.is_empty() && items.iter().all(|item| heading(item.span().start))
}

/// Merges all parts into one text; `include` is the place of that key in the main file, and `empty` has its patterns that
/// matched no file.
fn whole(parts: &[Part], include: Range<usize>, empty: &[String]) -> String {
    let (mut tops, mut tables) = (String::new(), String::new());
    for Part { name, text } in parts {
        let ends = has_end(text);
        let body = if ends { text.get(..text.rfind(END).unwrap_or(text.len())).unwrap_or(text) } else { text };
        let (top, rest) = body.split_at(first_heading(body));
        let mark = |at: usize| line_mark(1 + body[..at].matches('\n').count(), name.as_deref());
        match name {
            None => tops.push_str(&commented(top, include.clone())),
            Some(_) if top.is_empty() => {}
            Some(_) => tops.push_str(&(mark(0) + top.trim_start_matches('\u{feff}'))),
        }
        finish_line(&mut tops);
        tables.push_str(&mark(top.len()));
        tables.push_str(rest.trim_start_matches('\u{feff}'));
        finish_line(&mut tables);
        if let (true, Some(name)) = (ends, name) {
            tables.push_str(&end_mark(name));
        }
    }
    let end = if has_end(&parts[0].text) { format!("{END}\n") } else { String::new() };
    let marks = empty.iter().filter(|pattern| is_name(pattern)).map(|pattern| none_mark(pattern)).collect();
    [tops, tables, marks, end].concat()
}

fn finish_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

/// `text` with the lines of this range as comments.
fn commented(text: &str, range: Range<usize>) -> String {
    let mut at = 0;
    let lines = text.split_inclusive('\n').map(|line| {
        let here = at..at + line.len();
        at = here.end;
        if here.start < range.end && range.start < here.end { format!("# {line}") } else { line.to_owned() }
    });
    lines.collect()
}

/// Position of the first heading; 0 if only comments precede it. The end of `text` if it has no heading.
fn first_heading(text: &str) -> usize {
    let mut heading = None;
    let mut has_keys = false;
    let tokens = Source::new(text).lex().into_vec();
    let mut receiver = |event: Event| match event.kind() {
        EventKind::StdTableOpen | EventKind::ArrayTableOpen if heading.is_none() => {
            heading = Some(event.span().start());
        }
        EventKind::SimpleKey if heading.is_none() => has_keys = true,
        _ => {}
    };
    parse_document(&tokens, &mut receiver, &mut ());
    match heading {
        Some(heading) if has_keys => heading,
        Some(_) => 0,
        None => text.len(),
    }
}
