//! The guard, and files that are cut off.

use std::{fmt::Write as _, net::IpAddr};

use super::super::{Diff, Findings, How, Item, What, Words};
use crate::config::{self, Config};

/// The shipped example, which has every key.
const FILE: &str = include_str!("../../../../../packaging/edge.toml");

fn parse(text: &str) -> Config {
    config::parse(text, "edge.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn findings(old: &str, new: &str) -> Findings {
    Findings::of(&parse(old), &parse(new), &[])
}

/// The text of a configuration with these backends of each pool, and a service for each list of pools.
fn text(pools: &[(&str, &[&str])], services: &[(&str, &str)]) -> String {
    let mut text = "hash_key = \"000102030405060708090a0b0c0d0e0f\"\nslots = 1024\n".to_owned();
    text += "[[interface]]\nname = \"eth0\"\n";
    for (number, (pool, backends)) in pools.iter().enumerate() {
        writeln!(text, "[[pool]]\nname = \"{pool}\"").unwrap();
        for (last, backend) in (1..).zip(*backends) {
            let address = format!("10.{number}.0.{last}");
            writeln!(text, "[[pool.backend]]\nname = \"{backend}\"\naddress = \"{address}\"").unwrap();
        }
    }
    for (port, (service, pools)) in (80..).zip(services) {
        let pools: Vec<_> = pools.split(' ').map(|pool| format!("\"{pool}\"")).collect();
        writeln!(text, "[[service]]\nname = \"{service}\"\nvips = [\"192.0.2.1\"]\nports = [\"{port}/tcp\"]").unwrap();
        writeln!(text, "mode = \"dsr\"\npools = [{}]", pools.join(", ")).unwrap();
    }
    text
}

const OLD: &[(&str, &[&str])] = &[("a", &["a1", "a2", "a3", "a4"]), ("b", &["b1", "b2", "b3", "b4"])];

#[test]
fn no_file_that_is_cut_off_is_accepted_without_consent() {
    let whole = parse(FILE);
    let lines: Vec<_> = FILE.split_inclusive('\n').collect();
    let (mut read, mut harmless) = (0, 0);
    for end in 0..lines.len() {
        let text = lines[..end].concat();
        let Ok(cut) = config::parse(&text, "edge.toml") else { continue };
        read += 1;
        let same = Config { text: FILE.to_owned(), ..cut.clone() } == whole;
        let refused = Findings::of(&whole, &cut, &[]).judge(How::Sighup, &Words::default());
        harmless += usize::from(same && refused.is_ok());
        assert!(same || refused.is_err(), "cut after line {end}:\n{}", lines[end.saturating_sub(3)..end].concat());
    }
    assert!(read > 10, "{read} beginnings of the file are files, too");
    assert_eq!(harmless, 0, "the last line marks the file as whole");
}

#[test]
fn a_file_that_was_changed_and_cut_off_lacks_its_last_line() {
    let changed = FILE.replace("weight = 200", "weight = 150").replace("5m", "4m");
    let lines: Vec<_> = changed.split_inclusive('\n').collect();
    for end in 0..lines.len() {
        let Ok(cut) = config::parse(&lines[..end].concat(), "edge.toml") else { continue };
        let refused = Findings::of(&parse(FILE), &cut, &[]).judge(How::Start, &Words::default());
        assert!(refused.unwrap_err().to_string().contains("# end"), "cut after line {end}");
    }
    let whole = Findings::of(&parse(FILE), &parse(&changed), &[]);
    assert_eq!(whole.judge(How::Sighup, &Words::default()), Ok(()));
}

#[test]
fn nothing_may_follow_the_last_line() {
    let error = config::parse(&format!("{FILE}\n[[interface]]\nname = \"eth7\"\n"), "edge.toml").unwrap_err();
    assert!(error.to_string().contains("something follows the line `# end`"), "{error}");
}

#[test]
fn what_is_taken_away_needs_the_number_of_it() {
    let old = text(OLD, &[("web", "a b"), ("dns", "b")]);
    let cases: [(&str, String, u32, &str); 7] = [
        ("nothing", old.clone(), 0, ""),
        ("a service", text(OLD, &[("web", "a b")]), 1, "service dns is removed"),
        (
            "one backend of eight, and of four",
            text(&[("a", &["a1", "a2", "a3", "a4"]), ("b", &["b1", "b2", "b3"])], &[("web", "a b"), ("dns", "b")]),
            0,
            "",
        ),
        (
            "two of four",
            text(&[("a", &["a1", "a2", "a3", "a4"]), ("b", &["b1", "b2"])], &[("web", "a b"), ("dns", "b")]),
            2,
            "service dns loses 50 % of its capacity",
        ),
        ("a pool", text(&[OLD[1]], &[("web", "b"), ("dns", "b")]).replace("10.0.0", "10.1.0"), 5, "pool a is removed"),
        ("a pool of a service", text(OLD, &[("web", "a"), ("dns", "b")]), 1, "service web no longer uses pool b"),
        (
            "names, and nothing else",
            text(&[("a", &["x1", "x2", "x3", "x4"]), OLD[1]], &[("web", "a b"), ("dns", "b")]),
            0,
            "",
        ),
    ];
    for (what, new, removed, finding) in cases {
        let found = findings(&old, &new);
        assert_eq!(found.removed, removed, "{what}: {found:?}");
        assert!(found.removals.iter().any(|line| line.contains(finding)) || finding.is_empty(), "{what}: {found:?}");
        let allowed = |allow_removal| found.judge(How::Apply, &Words { allow_removal, ..Words::default() });
        assert_eq!(allowed(removed), Ok(()), "{what}");
        if let Some(fewer) = removed.checked_sub(1) {
            let refused = allowed(fewer).unwrap_err().to_string();
            assert!(
                refused.contains(&format!("--allow-removal {removed}")) && refused.contains(finding),
                "{what}: {refused}"
            );
            assert_eq!(found.judge(How::Rollback, &Words::default()), Ok(()), "{what}: a rollback is always allowed");
        }
    }
}

#[test]
fn capacity_is_counted_by_weights_and_addresses() {
    let names = ["a1", "a2", "a3", "a4"];
    // Address (the last byte) and weight of each backend.
    let with = |backends: &[(u8, u32)]| {
        let mut text = text(&[], &[]) + "[[pool]]\nname = \"a\"\n";
        for (name, (last, weight)) in names.iter().zip(backends) {
            writeln!(text, "[[pool.backend]]\nname = \"{name}\"\naddress = \"10.0.0.{last}\"\nweight = {weight}")
                .unwrap();
        }
        text + "[[service]]\nname = \"web\"\nvips = [\"192.0.2.1\"]\nports = [\"80/tcp\"]\nmode = \"dsr\"\npools = [\"a\"]\n"
    };
    let old = with(&[(1, 100), (2, 100), (3, 100), (4, 100)]);
    let cases: [(_, _, _, Option<u32>); 10] = [
        ("nothing changes", [(1, 100), (2, 100), (3, 100), (4, 100)], 0, None),
        ("one has nearly no weight", [(1, 1), (2, 100), (3, 100), (4, 100)], 0, None),
        ("two have nearly no weight", [(1, 1), (2, 1), (3, 100), (4, 100)], 1, Some(50)),
        ("all but one have half of it", [(1, 50), (2, 50), (3, 50), (4, 100)], 1, Some(38)),
        ("all have the same part of it", [(1, 10), (2, 10), (3, 10), (4, 10)], 0, None),
        ("one has more", [(1, 900), (2, 100), (3, 100), (4, 100)], 0, None),
        ("three have less and one has more", [(1, 1), (2, 1), (3, 1), (4, 900)], 1, Some(74)),
        ("one has another address", [(9, 100), (2, 100), (3, 100), (4, 100)], 0, None),
        ("two have other addresses", [(9, 100), (8, 100), (3, 100), (4, 100)], 2, Some(50)),
        ("all have other addresses", [(9, 100), (8, 100), (7, 100), (6, 100)], 4, Some(100)),
    ];
    for (what, backends, removed, lost) in cases {
        let found = findings(&old, &with(&backends));
        let expected: Vec<_> =
            lost.map(|lost| format!("service web loses {lost} % of its capacity")).into_iter().collect();
        assert_eq!((found.removed, &found.removals), (removed, &expected), "{what}");
    }
}

#[test]
fn removed_interfaces_and_announcements_need_consent() {
    let old = text(OLD, &[("web", "a b")]);
    let interface = |text: &str, name: &str| {
        text.replacen("[[interface]]\n", &format!("[[interface]]\nname = \"{name}\"\n[[interface]]\n"), 1)
    };
    let two = interface(&old, "eth7");
    assert_eq!(findings(&old, &two).removed, 0);
    let found = findings(&two, &old);
    assert_eq!(found.removals, ["interface eth7 is removed: packets that arrive by it are no longer balanced"]);
    assert_eq!(found.removed, 1);
    let renamed = findings(&two, &interface(&old, "eth8"));
    assert_eq!((renamed.removed, renamed.removals.len()), (1, 1), "{renamed:?}");

    let announced =
        old.replace("name = \"web\"\n", "name = \"web\"\nannounce = \"l2\"\nannounce_interface = \"eth0\"\n");
    let found = findings(&announced, &old);
    assert_eq!(found.removed, 1, "{found:?}");
    assert!(found.removals[0].contains("is no longer announced on eth0"), "{found:?}");
    assert_eq!(findings(&old, &announced).removed, 0);
}

#[test]
fn a_destination_that_moves_is_a_service_that_is_removed() {
    let old = text(OLD, &[("web", "a b"), ("dns", "b")]);
    let found = findings(&old, &old.replace("\"80/tcp\"", "\"8080/tcp\""));
    assert_eq!(found.removed, 1);
    assert_eq!(found.removals, ["service web no longer serves 80/tcp: packets to it are not balanced"]);

    let more = old.replace("\"80/tcp\"", "\"any/udp\", \"78-80/tcp\"").replace("\"192.0.2.1\"", "\"192.0.2.0/29\"");
    assert_eq!(findings(&old, &more).removals, [""; 0], "more of them, and the same among them");
    let found = findings(&more, &old);
    let expected = [
        "service web no longer serves 192.0.2.0, 192.0.2.2, 192.0.2.3 and 4 more and any/udp, 78-80/tcp: packets to it \
         are not balanced",
        "service dns no longer serves 192.0.2.0, 192.0.2.2, 192.0.2.3 and 4 more: packets to it are not balanced",
    ];
    assert_eq!(found.removals, expected);
}

#[test]
fn keys_that_move_flows_need_consent() {
    let old = text(OLD, &[("web", "a b")]);
    for (from, to, finding) in [
        ("000102", "ff0102", "`hash_key`"),
        ("slots = 1024", "slots = 2048", "`slots`"),
        ("mode = \"dsr\"", "mode = \"dsr\"\naffinity = \"source\"", "`affinity` of service web"),
    ] {
        let found = findings(&old, &old.replace(from, to));
        let refused =
            found.judge(How::Sighup, &Words { allow_removal: 9, ..Words::default() }).unwrap_err().to_string();
        assert!(refused.contains(finding) && refused.ends_with("add --allow-moves"), "{refused}");
        assert_eq!(found.judge(How::Sighup, &Words { allow_moves: true, ..Words::default() }), Ok(()));
    }
}

#[test]
fn a_drained_backend_does_not_come_back_under_another_name() {
    let old = text(OLD, &[("web", "a b")]);
    let new = parse(&old.replace("\"a2\"", "\"other\""));
    let address: IpAddr = "10.0.0.2".parse().unwrap();
    assert_eq!(Findings::of(&parse(&old), &new, &[]).removed, 0);
    let found = Findings::of(&parse(&old), &new, &[("a/a2".to_owned(), address)]);
    assert_eq!(found.removed, 1);
    assert!(found.removals[0].contains("would serve again as a/other"), "{found:?}");
    // A drained backend that stays as it is, or is removed for good, is no finding.
    assert_eq!(Findings::of(&parse(&old), &parse(&old), &[("a/a2".to_owned(), address)]).removed, 0);
}

#[test]
fn a_much_shorter_file_needs_consent() {
    let pools: Vec<String> = (0..10).map(|number| format!("a{number}")).collect();
    let names: Vec<&str> = pools.iter().map(String::as_str).collect();
    let old = text(&[("a", &names)], &[("web", "a")]);
    let long = old.replace("name = \"a\"\n", "name = \"a\"\nmin_healthy = 2\n");
    assert_eq!(findings(&old, &long).removed, 0);
    let short = text(&[("a", &names[..6])], &[("web", "a")]);
    assert!(findings(&old, &short).removals.iter().any(|line| line.contains("may be cut off")));
}

#[test]
fn differences_are_named() {
    let old = text(OLD, &[("web", "a b"), ("dns", "b")]);
    let new = text(&[("a", &["a1", "a2", "a3"]), ("c", &["c1"])], &[("web", "a c"), ("smtp", "c")])
        .replace("slots = 1024", "slots = 2048")
        .replace("10.0.0.2", "10.0.0.9");
    let diff = Diff::of(Some(&parse(&old)), &parse(&new));
    insta::assert_snapshot!(crate::cli::shown_diff(&diff));
    assert!(Diff::of(Some(&parse(&old)), &parse(&format!("{old}\n# more\n"))).is_empty());
    let cold = Diff::of(None, &parse(&old));
    assert_eq!(cold.services[0], Item { name: "dns".to_owned(), what: What::Added });
    assert_eq!(cold.summary(), "services: 2 added; pools: 2 added; backends: 8 added");
}
