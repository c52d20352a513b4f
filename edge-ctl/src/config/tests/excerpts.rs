//! The line of the file below each error: what is marked, and what is never shown.

use super::{
    catalogue::{check, without_randomness},
    *,
};

/// The refusal of `GOOD` with a change in it, with lines of the file.
fn shown(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "nothing to replace: {old}");
    with_lines(&GOOD.replacen(old, new, 1))
}

fn with_lines(text: &str) -> String {
    parse(text, "edge.toml").expect_err("something is wrong").with_lines(false)
}

#[test]
fn what_is_marked() {
    let shown: Vec<_> = [
        ("type = \"http\"", "type = \"htp\" # a comment"),
        ("type = \"http\"", "type = 'ht\"p'"),
        ("port = 80", "port = 80_000"),
        ("port = 80", "port = 8.5 # a comment"),
        ("port = 80", "prt = 80"),
        ("port = 80", "\"a key\" = 80"),
        ("port = 80", "port = 80\nstatus = [200, 99, 204]"),
        ("port = 80", "port = 80\nstatus = [ # none"),
        ("port = 80", "port = { a = \"}\" } # a table"),
        ("name = \"web\"", "name = \"web"),
        ("name = \"web\"", "name ="),
        ("name = \"web\"", "name = \"\"\"a\nb\"\"\""),
        ("[[pool.backend]]", "[[pool.backends]] # a comment"),
        ("name = \"a1\"", "  \tname\t=\t\"ä\u{4e2d}1\"\t# ü"),
    ]
    .into_iter()
    .map(|(old, new)| shown(old, new))
    .collect();
    check!(without_randomness(&shown.join("\n\n")));
}

#[test]
fn several_problems_stand_apart() {
    check!(shown("type = \"http\"", "type = \"htp\"\ninterval = 1\nfall = 0"));
}

#[test]
fn nothing_of_a_blank_line() {
    assert_eq!(with_lines("\n\n").lines().filter(|line| line.contains('|')).count(), 0);
}

#[test]
fn long_lines_are_cut_around_the_mark() {
    let before = format!("pools = [{}\"nowhere\", \"provider-a\"] # {}", " ".repeat(200), "x".repeat(500));
    let long = format!("pools = [\"{}\", \"provider-a\"]", "y".repeat(500));
    let shown = [before, long].map(|new| shown("pools = [\"provider-a\"]", &new)).join("\n\n");
    assert!(shown.lines().all(|line| line.chars().count() < 130), "{shown}");
    check!(shown);
}

#[test]
fn a_key_is_never_shown() {
    let key = "000102030405060708090a0b0c0d0e0f";
    for wrong in
        [GOOD.replace("hash_key", "hashkey"), GOOD.replace(key, &key[1..]), format!("slots = \"{key}\"\n{GOOD}")]
    {
        let shown = with_lines(&wrong);
        assert!(shown.contains("\"**********"), "{shown}");
        let line = shown.lines().nth(2).expect("the line");
        assert!(!line.contains("0102"), "{line}");
    }
}

#[test]
fn colour_only_where_it_is_wanted() {
    let error = parse(&GOOD.replace("\"http\"", "\"htp\""), "edge.toml").expect_err("a bad type");
    assert!(error.with_lines(true).contains("\x1b["));
    assert!(!error.with_lines(false).contains('\x1b'));
    assert!(!error.to_string().contains(" | "), "logs have no lines");
}

#[test]
fn nothing_of_a_line_commands_a_terminal() {
    let shown = shown("type = \"http\"", "type = \"\u{9b}2J\u{202e}\" # \u{7f}");
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    assert!(!shown.contains('\u{202e}'), "{shown:?}");
}

#[test]
fn of_a_line_of_megabytes_a_part_is_shown() {
    let text = format!("{GOOD}pools = [{}", "\"nowhere\", ".repeat(500_000));
    assert!(with_lines(&text).len() < 50_000);
}
