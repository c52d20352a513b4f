//! What a source file imports, read from its text: `use` trees, and paths from the crate's root or from near modules.

/// A path that a file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// What it is called here.
    pub(crate) name: String,
    /// Whether others may import it from here.
    pub(crate) passed_on: bool,
}

/// What `text` imports, its tests left out.
pub(crate) fn imports(text: &str) -> Vec<Import> {
    let code = without_tests(text);
    let mut found = Vec::new();
    let mut rest = code.as_str();
    let mut other = String::new();
    while let Some((before, passed_on, tree)) = next_use(rest) {
        other += before;
        rest = read_tree(tree, &[], passed_on, &mut found);
    }
    other += rest;
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in other.match_indices(root) {
            if !other[..at].ends_with(|before: char| is_word(before) || before == ':') {
                read_tree(&other[at..], &[], false, &mut found);
            }
        }
    }
    found
}

/// Without comments, and without a module of tests within the file, which is its last item.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().map(str::trim_start).peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or_default();
        if line == "#[cfg(test)]" && next.ends_with('{') && next.split(' ').any(|word| word == "mod") {
            break;
        }
        if !line.starts_with("//") {
            code.extend([line, "\n"]);
        }
    }
    code
}

/// What stands before the next `use`, whether that passes on what it names, and its tree.
fn next_use(code: &str) -> Option<(&str, bool, &str)> {
    let mut start = 0;
    for line in code.split_inclusive('\n') {
        let public = line.strip_prefix("pub").map(|rest| match rest.split_once(") ") {
            Some((scope, rest)) if scope.starts_with('(') => rest,
            _ => rest.trim_start(),
        });
        if let Some(tree) = public.unwrap_or(line).strip_prefix("use ") {
            let at = start + line.len() - tree.len();
            return Some((&code[..start], public.is_some(), &code[at..]));
        }
        start += line.len();
    }
    None
}

/// Reads one tree behind `prefix`, and returns what stands behind it.
fn read_tree<'c>(mut code: &'c str, prefix: &[String], passed_on: bool, found: &mut Vec<Import>) -> &'c str {
    let mut path = prefix.to_vec();
    loop {
        code = code.trim_start();
        if let Some(list) = code.strip_prefix('{') {
            code = list;
            loop {
                code = code.trim_start_matches(|between: char| between == ',' || between.is_whitespace());
                if code.is_empty() {
                    return code;
                }
                if let Some(rest) = code.strip_prefix('}') {
                    return rest;
                }
                code = read_tree(code, &path, passed_on, found);
            }
        }
        let end = code.find(|character| !is_word(character)).unwrap_or(code.len());
        // What is neither a name nor a list, as `*`, ends the path.
        let (name, rest) = code.split_at(if end == 0 { code.chars().next().map_or(0, char::len_utf8) } else { end });
        code = rest;
        path.push(name.to_owned());
        if let Some(rest) = code.strip_prefix("::") {
            code = rest;
            continue;
        }
        let mut called = name;
        if let Some(rest) = code.strip_prefix(" as ") {
            (called, code) = rest.split_at(rest.find(|character| !is_word(character)).unwrap_or(rest.len()));
        }
        // `a::{self, b}` names a itself.
        if name == "self" && path.len() > 1 {
            path.pop();
            called = path.last().map_or(called, String::as_str);
        }
        let called = called.to_owned();
        found.push(Import { path, name: called, passed_on });
        return code;
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[test]
fn paths_are_read() {
    let text = "//! use crate::comment;\nuse std::fmt;\n\npub(crate) use self::{\n    a::{self, B, c::*},\n    d::e as f,\n};\n\
                fn g() {\n    super::h::i(crate::j::K);\n}\n\n#[cfg(test)]\nmod near;\nuse crate::l;\n\n#[cfg(test)]\nmod tests {\n    use crate::m;\n}\n";
    let shown: Vec<_> = imports(text)
        .into_iter()
        .map(|import| {
            format!("{} = {}{}", import.name, import.path.join("::"), if import.passed_on { "!" } else { "" })
        })
        .collect();
    let expected = [
        "fmt = std::fmt",
        "a = self::a!",
        "B = self::a::B!",
        "* = self::a::c::*!",
        "f = self::d::e!",
        "l = crate::l",
        "K = crate::j::K",
        "i = super::h::i",
    ];
    assert_eq!(shown, expected);
}
