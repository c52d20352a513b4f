//! Words of other systems: each has an answer, and answers name only keys and words that exist.

use super::{
    super::{foreign, schema},
    catalogue::check,
    *,
};

const DOCUMENTATION: &str = include_str!("../../../../docs/config.md");

/// `GOOD` with this line where the section of `key` ends.
fn with_value(key: &str, word: &str) -> String {
    let (old, new) = match key {
        "weight" => ("address = \"10.1.0.11\"", format!("address = \"10.1.0.11\"\nweight = {word}")),
        "type" => ("type = \"http\"", format!("type = \"{word}\"")),
        "mode" => ("mode = \"ipip\"", format!("mode = \"{word}\"")),
        _ => ("mode = \"ipip\"", format!("mode = \"ipip\"\n{key} = \"{word}\"")),
    };
    assert!(GOOD.contains(old), "nothing to replace: {old}");
    GOOD.replacen(old, &new, 1)
}

#[test]
fn each_key_is_answered() {
    for (key, answer) in foreign::keys() {
        for written in [key.to_owned(), key.replace('_', "-"), key.to_uppercase()] {
            let refusal = refusal(&format!("{GOOD}{written} = 1"));
            assert!(refusal.contains(&format!("[[service]] has no key `{written}`\n  write: {answer}")), "{refusal}");
        }
    }
}

#[test]
fn each_word_is_answered() {
    for (key, word, answer) in foreign::values() {
        for written in [word.to_owned(), word.replace('_', "-"), word.to_uppercase()] {
            let refusal = refusal(&with_value(key, &written));
            assert!(refusal.contains(&format!("\n  write: {answer}")), "{key} = {written}: {refusal}");
        }
    }
}

/// A key in backquotes must be in the schema, and a word in quotes in the documentation.
#[test]
fn answers_name_only_what_there_is() {
    let headings: Vec<_> = schema::ALL.iter().map(|section| section.heading).collect();
    let answers = foreign::keys().map(|(_, answer)| answer).chain(foreign::values().map(|(.., answer)| answer));
    for answer in answers {
        for quoted in answer.split('`').skip(1).step_by(2).filter(|quoted| !quoted.starts_with("edge-ctl ")) {
            assert!(schema::ALL.iter().any(|section| section.keys.contains(&quoted)), "`{quoted}`: {answer}");
        }
        for command in answer.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.strip_prefix("edge-ctl ")) {
            let verb = command.split(' ').next().expect("a verb");
            assert!(["drain", "disable", "enable"].contains(&verb), "{command}");
        }
        for word in answer.split('"').skip(1).step_by(2) {
            assert!(DOCUMENTATION.contains(&format!("`\"{word}\"`")), "\"{word}\": {answer}");
        }
        for heading in answer.split('[').filter(|part| part.contains(']')).map(|part| part.split(']').next()) {
            let heading = heading.expect("a heading");
            assert!(headings.iter().any(|known| known.trim_matches(['[', ']']) == heading), "[{heading}]: {answer}");
        }
    }
}

#[test]
fn https_is_probed_by_https() {
    for file in [with_value("type", "https"), with_value("type", "https").replace("[pool.probe]", "[defaults.probe]")] {
        good(&file);
    }
    for (word, write) in [
        ("HTTPS", "type = \"https\"\n"),
        ("htps", "type = \"https\"\n"),
        ("httpx", "type = \"http\" or type = \"https\"\n"),
        ("ssl", "type = \"tls\" for a handshake, or type = \"https\" for HTTP over TLS\n"),
    ] {
        let refusal = refusal(&with_value("type", word)) + "\n";
        assert!(refusal.contains(&format!("  write: {write}")), "{refusal}");
    }
}

#[test]
fn a_weight_of_0_is_a_drain() {
    assert!(refusal(&with_value("weight", "0")).contains("`edge-ctl drain POOL/BACKEND`"));
    assert!(refusal(&with_value("weight", "-1")).contains("write: weight = 100"));
}

#[test]
fn the_whole_table() {
    let keys = foreign::keys().map(|(key, answer)| format!("{key}: {answer}"));
    let values = foreign::values().map(|(key, word, answer)| format!("{key} = {word}: {answer}"));
    check!(keys.chain(values).collect::<Vec<_>>().join("\n"));
}
