//! No input makes the parser panic: the result is a configuration, or an error with places in the text.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// A file with everything that the grammar has, as raw material.
const RICH: &str = include_str!("../../../../packaging/edge.toml");

/// A way to spoil a file.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Truncate(Index),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    /// Copies a piece to another place.
    Copy(Index, Index, usize),
    /// Replaces the value of a line by another one.
    Value(Index, &'static str),
    /// Removes a whole line.
    Line(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let values = prop_oneof![
        Just("-1"),
        Just("0"),
        Just("99999999999999999999999999"),
        Just("0xffffffffffffffffff"),
        Just("nan"),
        Just("-inf"),
        Just("1e999"),
        Just("true"),
        Just("\"\""),
        Just("\"\\u001b[2J\""),
        Just("\"::\""),
        Just("\"ff02::1\""),
        Just("\"99999999999999y 1ns\""),
        Just("[]"),
        Just("[[], {}]"),
        Just("{}"),
        Just("{ a = 1, a = 2 }"),
        Just("1979-05-27T07:32:00Z"),
        Just("'''\n'''"),
        Just("ä"),
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, with)| Damage::Flip(at, with)),
        any::<Index>().prop_map(Damage::Truncate),
        (any::<Index>(), 1usize..40).prop_map(|(at, length)| Damage::Remove(at, length)),
        (any::<Index>(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), any::<Index>(), 1usize..200).prop_map(|(from, to, length)| Damage::Copy(from, to, length)),
        (any::<Index>(), values).prop_map(|(line, value)| Damage::Value(line, value)),
        any::<Index>().prop_map(Damage::Line),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: Damage) {
    let length = bytes.len();
    if length == 0 {
        return;
    }
    match damage {
        Damage::Flip(at, with) => bytes[at.index(length)] ^= with,
        Damage::Truncate(at) => bytes.truncate(at.index(length)),
        Damage::Remove(at, count) => {
            let at = at.index(length);
            bytes.drain(at..(at + count).min(length));
        }
        Damage::Insert(at, new) => {
            let at = at.index(length);
            bytes.splice(at..at, new);
        }
        Damage::Copy(from, to, count) => {
            let (from, to) = (from.index(length), to.index(length));
            let piece = bytes[from..(from + count).min(length)].to_vec();
            bytes.splice(to..to, piece);
        }
        Damage::Value(line, value) => edit(bytes, line, |line| {
            let key = line.split(|&byte| byte == b'=').next().unwrap_or_default();
            [key, b"= ", value.as_bytes()].concat()
        }),
        Damage::Line(line) => edit(bytes, line, |_| Vec::new()),
    }
}

fn edit(bytes: &mut Vec<u8>, line: Index, edit: impl FnOnce(&[u8]) -> Vec<u8>) {
    let mut lines: Vec<Vec<u8>> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    let line = line.index(lines.len());
    lines[line] = edit(&lines[line]);
    *bytes = lines.join(&b'\n');
}

/// Accepts either outcome, but an error must have problems, each with a place in the text, a description and a
/// suggestion.
fn judge(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Err(error) = parse_bytes(bytes, "edge.toml") else { return Ok(()) };
    for text in [error.to_string(), error.with_lines(false)] {
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    prop_assert!(!error.problems().is_empty());
    let lines: Vec<_> = bytes.split(|&byte| byte == b'\n').collect();
    for problem in error.problems() {
        prop_assert!((1..=lines.len()).contains(&problem.line), "{problem:?}");
        prop_assert!((1..=lines[problem.line - 1].len() + 1).contains(&problem.column), "{problem:?}");
        prop_assert!(!problem.what.is_empty() && !problem.write.is_empty(), "{problem:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_damaged_file(small in any::<bool>(), damages in vec(damage(), 1..6)) {
        let mut bytes = if small { GOOD } else { RICH }.as_bytes().to_vec();
        for damage in damages {
            apply(&mut bytes, damage);
        }
        judge(&bytes)?;
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        judge(&bytes)?;
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        judge(text.as_bytes())?;
    }

    #[test]
    fn any_toml_like_text(text in "([a-z_]{1,8}(\\.[a-z]{1,3})?|\\[{1,2}(pool|pool\\.backend|service|tunnel)\\]{1,2}|=|\"|[0-9]|,|\n| |\\{|\\}){0,60}") {
        judge(text.as_bytes())?;
    }
}

#[test]
fn truncated_at_every_byte() {
    for length in 0..RICH.len() {
        if let Err(error) = judge(&RICH.as_bytes()[..length]) {
            panic!("{length}: {error}");
        }
    }
}

#[test]
fn deep_nesting() {
    for open in ["[", "{a=", "[[a."] {
        let text = format!("pool = {}", open.repeat(100_000));
        assert!(parse(&text, "edge.toml").is_err());
    }
    let dotted = format!("{}a = 1", "pool.".repeat(100_000));
    assert!(parse(&dotted, "edge.toml").is_err());
}

#[test]
fn a_file_that_never_ends() {
    assert!(load(Path::new("/dev/zero")).is_err());
}

#[test]
fn megabytes_of_mistakes_are_refused_in_reasonable_time() {
    // Each of these inputs took minutes when the parser had a careless loop or two.
    for (mistake, count) in [
        ("wrong = 1\n[[service]]\nname = \"web\"\n", 20_000),
        ("[[pool]]\nname = \"a\"\n", 20_000),
        ("[[service]]\nname = \"x\"\npools = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\"]\n", 20_000),
        ("\0\n", 100_000),
        ("a = [\n", 10_000),
    ] {
        let error = parse(&format!("{GOOD}{}", mistake.repeat(count)), "edge.toml").expect_err("mistakes");
        assert!(!error.problems().is_empty());
        assert!(error.with_lines(true).len() < 100_000);
    }
}
