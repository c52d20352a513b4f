//! The documents about the file are true: the shipped example parses, and the reference has every key.

use super::{super::schema, *};

const EXAMPLE: &str = include_str!("../../../../packaging/edge.toml");
const REFERENCE: &str = include_str!("../../../../docs/config.md");

#[test]
fn the_shipped_example_is_valid() {
    let config = good(EXAMPLE);
    assert!(config.pools.len() > 1 && !config.services.is_empty());
}

#[test]
fn the_shipped_example_shows_every_key() {
    for key in schema::ALL.iter().flat_map(|section| section.keys) {
        let shows = |line: &str| match line.strip_prefix('[') {
            Some(heading) => heading.trim_matches(['[', ']']).rsplit('.').next() == Some(key),
            // What it would include is elsewhere.
            None if *key == "include" => line.starts_with("# include = "),
            None => line.starts_with(&format!("{key} = ")),
        };
        assert!(EXAMPLE.lines().any(shows), "packaging/edge.toml lacks {key}");
    }
}

#[test]
fn the_reference_has_every_key() {
    for section in schema::ALL {
        for key in section.keys {
            let row = format!("| `{key}` |");
            let heading = format!("[{key}]");
            let nested = format!(".{key}]");
            assert!(
                REFERENCE.contains(&row) || REFERENCE.contains(&heading) || REFERENCE.contains(&nested),
                "docs/config.md lacks `{key}` of {}",
                section.heading
            );
        }
    }
}

#[test]
fn complete_examples_of_the_reference_are_valid() {
    let blocks: Vec<_> = REFERENCE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let complete: Vec<_> =
        blocks.iter().filter(|block| block.contains("hash_key") && block.contains("[[service]]")).collect();
    assert!(!complete.is_empty());
    for block in complete {
        good(block);
    }
}
