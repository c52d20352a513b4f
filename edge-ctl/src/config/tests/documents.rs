//! The documents about the file are true: the examples parse, and the reference has every key.

use std::{collections::BTreeMap, fs, net::IpAddr};

use super::{super::schema, *};

const EXAMPLE: &str = include_str!("../../../../packaging/edge.toml");
const REFERENCE: &str = include_str!("../../../../docs/config.md");
const README: &str = include_str!("../../../../README.md");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples");

/// The files of docs/examples, by their names.
fn examples() -> BTreeMap<String, String> {
    let entries = fs::read_dir(EXAMPLES).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.map(|path| (named(&path), fs::read_to_string(&path).unwrap())).collect()
}

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
            // Commented out in the example, since the files to include are elsewhere.
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

#[test]
fn examples_for_new_users_are_valid_and_short() {
    let examples = examples();
    let names: Vec<_> = examples.keys().map(String::as_str).collect();
    let wanted = [
        "anycast-dns.toml",
        "game-ports.toml",
        "http3.toml",
        "https-two-providers.toml",
        "many-addresses.toml",
        "plain-servers.toml",
    ];
    assert_eq!(names, wanted);
    let mut keys = BTreeMap::new();
    for (name, text) in &examples {
        let config = good(text).joined();
        assert_eq!(config.services.len(), 1, "{name}");
        let families = config.services[0].vips.iter().map(IpAddr::is_ipv4);
        assert!(families.clone().any(|v4| v4) && families.clone().any(|v4| !v4), "{name} has VIPs of both families");
        assert!(text.lines().count() < 50, "{name} is short");
        assert!(text.ends_with("\n# end\n"), "{name} is seen to be whole");
        let key = text.lines().find(|line| line.starts_with("hash_key = ")).unwrap();
        assert_eq!(keys.insert(key, name), None, "{name} has a key of its own");
        assert!(config.has_sample_key(), "{name} has a key that users are warned of");
    }
}

#[test]
fn many_addresses_are_one_service_of_a_few_lines() {
    let text = &examples()["many-addresses.toml"];
    assert!(text.lines().count() <= 45);
    let config = good(text);
    let service = &config.services[0];
    assert_eq!((service.vips.len(), service.destinations().count()), (300, 600));
    assert_eq!(config.pools.iter().map(|pool| pool.backends.len()).collect::<Vec<_>>(), [12, 12]);
}

#[test]
fn the_examples_are_linked() {
    assert!(REFERENCE.contains("(examples)") && README.contains("(docs/examples)"));
}

/// The configuration file that a package installs.
const INSTALLED: &str = include_str!("../../../../packaging/etc/edge.toml");

#[test]
fn the_installed_file_does_nothing_and_states_that() {
    assert!(INSTALLED.lines().all(|line| line.is_empty() || line.starts_with('#')));
    let refusal = parse(INSTALLED, "edge.toml").unwrap_err().to_string();
    assert!(refusal.contains("nothing is configured: every line is a comment"), "{refusal}");
}

#[test]
fn the_installed_file_is_a_configuration_once_its_comments_are_taken_off() {
    let taken = |line: &'static str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    let text: String = INSTALLED.lines().map(|line| taken(line) + "\n").collect();
    assert!(parse(&text, "edge.toml").is_err(), "its key is no key");
    let text = text.replace("32 hexadecimal digits", "5d0b2f1c94e84a7e9a53c7d2e6f80b14");
    let config = good(&text);
    assert_eq!((config.pools.len(), config.services.len()), (2, 1));
}
