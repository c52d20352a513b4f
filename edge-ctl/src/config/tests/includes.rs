//! A configuration in several files: equal to the same in one file, and with each problem reported for the file to
//! change.

use std::{fs, os::unix::fs::symlink};

use nix::{sys::stat::Mode as Permissions, unistd::mkfifo};
use proptest::{collection::vec, prelude::*, sample::Index};
use tempfile::TempDir;

use super::*;

/// The shipped example without the last line `# end`, which each file may have of its own.
fn rich() -> &'static str {
    include_str!("../../../../packaging/edge.toml").trim_end().trim_end_matches(END)
}

/// Parts of a text, each of which may be a file: the top, and then each heading of the first level with what belongs to
/// it.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.split_inclusive('\n') {
        let below = ["[pool.", "[[pool.", "[service.", "[[service."].iter().any(|heading| line.starts_with(heading));
        if line.starts_with('[') && !below {
            parts.push(String::new());
        }
        parts.last_mut().expect("the top").push_str(line);
    }
    parts
}

/// A directory with these files.
fn files<T: AsRef<str>>(files: &[(&str, T)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text.as_ref()).expect("written");
    }
    directory
}

fn loaded(directory: &TempDir) -> Result<Config, ConfigError> {
    load(&directory.path().join("edge.toml"))
}

/// The refusal, without the path of the temporary directory.
fn refused(directory: &TempDir) -> String {
    let error = loaded(directory).expect_err("something is wrong");
    error.to_string().replace(&format!("{}/", directory.path().display()), "")
}

fn without_text(config: &Config) -> Config {
    Config { text: String::new(), ..config.clone() }
}

const INCLUDE: &str = "include = [\"conf.d/*.toml\"]\n";

/// `GOOD` in two files.
fn halves() -> (String, String) {
    let (main, service) = GOOD.split_at(GOOD.find("[[service]]").expect("a service"));
    (format!("{INCLUDE}{main}"), service.to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn files_are_as_one(
        small in any::<bool>(),
        cuts in vec(any::<Index>(), 0..6),
        ends in vec(any::<bool>(), 8),
        top_apart in any::<bool>(),
        damaged in any::<Index>(),
    ) {
        let whole = if small { GOOD } else { rich() };
        let parts = parts(whole);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(parts.len())).chain([0, parts.len()]).collect();
        cuts.sort_unstable();
        let mut texts: Vec<String> = cuts.windows(2).map(|range| parts[range[0]..range[1]].concat()).collect();
        for (text, _) in texts.iter_mut().zip(&ends).filter(|(_, ends)| **ends) {
            text.push_str("\n# end\n\n");
        }
        // The main file has the first part, or nothing of its own.
        let main = if top_apart { String::new() } else { texts.remove(0) };
        let names: Vec<_> = (0..texts.len()).map(|number| format!("conf.d/{number:02}.toml")).collect();
        let mut all = vec![("edge.toml", format!("# What is where:\ninclude = [\n  \"conf.d/*.toml\", # all\n]\n{main}"))];
        all.extend(names.iter().map(String::as_str).zip(texts.iter().cloned()));
        let directory = files(&all);

        let config = match loaded(&directory) {
            Ok(config) => config,
            Err(error) => panic!("{error}"),
        };
        prop_assert_eq!(without_text(&config), without_text(&good(whole)));
        // The stored text is complete.
        prop_assert_eq!(&good(&config.text), &config);

        // A problem is reported for its file.
        let (name, text) = &all[damaged.index(all.len())];
        let damage = "\"what is this\" = 1\n";
        let at = text.find("\n# end").map_or(text.len(), |end| end + 1);
        fs::write(directory.path().join(name), format!("{}{damage}{}", &text[..at], &text[at..])).expect("written");
        let line = text[..at].matches('\n').count() + 1;
        let error = loaded(&directory).expect_err("an unknown key");
        let place = format!("{}:{line}:1: ", directory.path().join(name).display());
        prop_assert!(error.to_string().contains(&place), "{place}: {error}");
        prop_assert!(error.with_lines(false).contains(&format!("\n{line} | {damage}")), "{}", error.with_lines(false));
    }
}

#[test]
fn an_included_file_that_is_damaged_is_named() {
    let (main, service) = halves();
    for (text, refusal) in [
        (service.replace("80/tcp", "80/tpc"), "conf.d/web.toml:4:10: `ports` is \"80/tpc\""),
        (service.replace("/tcp\"", "/tcp"), "conf.d/web.toml:4:18: not TOML"),
        (service.replace("provider-a", "provider-b"), "conf.d/web.toml:6:10: there is no pool"),
        (format!("{service}# end\nslots = 1\n"), "conf.d/web.toml:8:1: something follows the line `# end`"),
        (format!("{INCLUDE}{service}"), "conf.d/web.toml:1:1: `include` in a file that is included"),
        (
            format!("{service}[tunnel]\nsource_v4 = \"10.0.0.2\"\n"),
            "conf.d/web.toml:7:2: `tunnel` is in edge.toml, too, on line 3",
        ),
        (
            format!("slots = 1024\nhash_key = \"\"\n{service}"),
            "conf.d/web.toml:2:1: `hash_key` is in edge.toml, too, on line 2",
        ),
        (
            format!("pool = []\n{service}"),
            "conf.d/web.toml:1:1: `pool` is in edge.toml, too, on line 7\n  write: [[pool]]",
        ),
        (
            format!("[[pool.backend]]\nname = \"b\"\naddress = \"10.1.0.12\"\n{service}"),
            "conf.d/web.toml:1:3: `pool` is in edge.toml, too, on line 7\n  write: [[pool]]",
        ),
        (
            service.replace("192.0.2.10", "10.1.0.11"),
            "edge.toml:14:11: backend address 10.1.0.11 is the VIP on line 3 of conf.d/web.toml",
        ),
    ] {
        let directory = files(&[("edge.toml", main.as_str()), ("conf.d/web.toml", &text)]);
        let shown = refused(&directory);
        assert!(shown.contains(refusal), "{refusal}: {shown}");
    }
}

#[test]
fn what_is_no_text_or_no_file_is_named() {
    let (main, service) = halves();
    let directory = files(&[("edge.toml", main.as_str()), ("conf.d/web.toml", &service)]);
    let odd = directory.path().join("conf.d/odd.toml");
    fs::write(&odd, b"# \xff\n").expect("written");
    assert!(refused(&directory).starts_with("conf.d/odd.toml:1:3: this byte is not UTF-8"), "{}", refused(&directory));
    fs::remove_file(&odd).expect("removed");
    // A pipe without a writer.
    mkfifo(&odd, Permissions::S_IRWXU).expect("a pipe");
    assert!(refused(&directory).starts_with("conf.d/odd.toml: can't be read: it is no regular file"));
    fs::remove_file(&odd).expect("removed");
    fs::create_dir(&odd).expect("a directory");
    assert!(refused(&directory).starts_with("conf.d/odd.toml: can't be read: it is a directory"));
    fs::remove_dir(&odd).expect("removed");
    fs::write(directory.path().join("conf.d/a\nb.toml"), "").expect("written");
    assert!(
        refused(&directory).starts_with("edge.toml:1:12: a file that this matches has a name"),
        "{}",
        refused(&directory)
    );
}

#[test]
fn what_the_patterns_name() {
    let (main, service) = halves();
    let with = |patterns: &str| main.replace("[\"conf.d/*.toml\"]", patterns);
    let second = service.replace("\"web\"", "\"second\"").replace("80/tcp", "81/tcp");
    for (patterns, good) in [
        ("[\"conf.d/*.toml\"]", true),
        ("[\"conf.d/web.toml\", \"conf.d/*.toml\", \"./conf.d/web.toml\"]", true),
        ("[\"conf.d/w?b.toml\", \"nothing/*.toml\"]", true),
        ("[\"*/[vw]eb.toml\"]", true),
        ("[]", false),
        ("[\"conf.d/*.conf\"]", false),
    ] {
        let directory = files(&[
            ("edge.toml", with(patterns).as_str()),
            ("conf.d/web.toml", &service),
            // Copies that an editor leaves.
            ("conf.d/.hidden.toml", "nonsense"),
            ("conf.d/web.toml~", "nonsense"),
        ]);
        match loaded(&directory) {
            Ok(config) => assert_eq!((good, config.services.len()), (true, 1), "{patterns}"),
            Err(error) => assert!(!good && error.to_string().contains("there is no service"), "{patterns}: {error}"),
        }
    }
    let both =
        [("conf.d/20.toml", service.as_str()), ("conf.d/10.toml", second.as_str()), ("edge.toml", main.as_str())];
    let config = loaded(&files(&both)).expect("two services");
    assert_eq!(config.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>(), ["second", "web"]);
    for (patterns, refusal) in [
        ("\"conf.d/*.toml\"", "edge.toml:1:11: `include` is \"conf.d/*.toml\", a string; it must be a list"),
        ("[1]", "edge.toml:1:12: `include` is 1"),
        ("[\"\"]", "edge.toml:1:12: `include` is \"\", which names no file"),
        ("[\"conf.d/web.toml\", \"conf.d/***\"]", "edge.toml:1:31: `include` has \"conf.d/***\", which is no pattern"),
        ("[\"conf.d/wbe.toml\"]", "edge.toml:1:12: there is no file"),
        ("[\"*.toml\"]", "edge.toml:1:1: `include` in a file that is included itself"),
    ] {
        let directory = files(&[("edge.toml", with(patterns)), ("conf.d/web.toml", service.clone())]);
        let shown = refused(&directory);
        assert!(shown.starts_with(refusal), "{patterns}: {shown}");
    }
}

/// A misspelled pattern leaves out services, and nothing else would tell.
#[test]
fn patterns_without_a_file_are_known() {
    let (main, service) = halves();
    let with = |patterns: &str| main.replace("[\"conf.d/*.toml\"]", patterns);
    let directory = files(&[
        ("edge.toml", with("[\"cnf.d/*.toml\", \"conf.d/*.toml\", \"conf.d/[{]*.toml\"]").as_str()),
        ("conf.d/web.toml", &service),
    ]);
    let config = loaded(&directory).expect("one service");
    assert_eq!(config.unmatched().collect::<Vec<_>>(), ["cnf.d/*.toml", "conf.d/[{]*.toml"]);
    // The text in force says so, too.
    assert_eq!(good(&config.text).unmatched().count(), 2);
    assert_eq!(good(GOOD).unmatched().count(), 0);
    let directory = files(&[("edge.toml", with("[\"conf.d/{10,20}*.toml\"]"))]);
    let shown = refused(&directory);
    assert!(shown.starts_with("edge.toml:1:12: `include` is \"conf.d/{10,20}*.toml\", with a brace"), "{shown}");
}

/// A link in the directory, `..` in a pattern, and an absolute path lead to the same file.
#[test]
fn a_file_that_is_reached_by_several_paths_is_read_once() {
    let (main, service) = halves();
    let directory = files(&[("conf.d/web.toml", service.as_str())]);
    symlink("web.toml", directory.path().join("conf.d/50.toml")).expect("a link");
    let absolute = directory.path().join("conf.d/web.toml");
    let patterns = format!("[\"conf.d/*.toml\", \"conf.d/../conf.d/web.toml\", \"{}\"]", absolute.display());
    fs::write(directory.path().join("edge.toml"), main.replace("[\"conf.d/*.toml\"]", &patterns)).expect("written");
    assert_eq!(loaded(&directory).expect("one service").services.len(), 1);
}

#[test]
fn files_have_a_limit_together() {
    let (main, service) = halves();
    let comment = format!("# {}\n", "x".repeat(1 << 20)).repeat(4);
    let third = [("conf.d/1.toml", comment.clone()), ("conf.d/2.toml", comment.clone()), ("conf.d/web.toml", service)];
    let all: Vec<_> = third.into_iter().chain([("edge.toml", main)]).collect();
    assert!(refused(&files(&all)).contains("the files together are longer than 8388608 bytes, with conf.d/2.toml"));
    let directory = files(&[("edge.toml", INCLUDE)]);
    fs::create_dir(directory.path().join("conf.d")).expect("made");
    for number in 0..=1000 {
        fs::write(directory.path().join(format!("conf.d/{number}.toml")), "").expect("written");
    }
    assert!(refused(&directory).contains("more than 1000 files are included"), "{}", refused(&directory));
}

#[test]
fn megabytes_of_mistakes_in_two_files_are_refused_in_reasonable_time() {
    let keys = (0..100_000).map(|number| format!("key{number} = 1\n")).collect::<Vec<_>>().concat();
    let all = [("edge.toml", format!("{INCLUDE}{keys}")), ("conf.d/1.toml", keys)];
    let error = loaded(&files(&all)).expect_err("mistakes");
    assert_eq!(error.problems().len(), 100_000);
    assert!(error.with_lines(true).len() < 100_000);
}

#[test]
fn a_text_without_its_files_includes_nothing() {
    let (main, service) = halves();
    let shown = refusal(&format!("{main}{service}"));
    assert!(shown.starts_with("edge.toml:1:11: `include` in a text that came alone"), "{shown}");
}

#[test]
fn each_file_has_its_own_end() {
    let (main, service) = halves();
    let all = |main_ends: &str, service_ends: &str| {
        let texts =
            [("edge.toml", format!("{main}{main_ends}")), ("conf.d/web.toml", format!("{service}{service_ends}"))];
        loaded(&files(&texts)).unwrap_or_else(|error| panic!("{error}")).text
    };
    let [none, main_only, web_only, both] =
        [("", ""), ("# end", ""), ("", "# end\n\n"), ("# end\n", "# end")].map(|(main, web)| all(main, web));
    assert!(main_only.ends_with("\n# end\n") && !web_only.ends_with("\n# end\n"));
    for text in [&none, &main_only, &web_only, &both] {
        assert_eq!(lost_end(text, &both), None);
        assert_eq!(lost_end(&none, text), None);
    }
    assert!(lost_end(&both, &web_only).is_some_and(|what| what.contains("which the text in force has")));
    assert!(lost_end(&both, &main_only).is_some_and(|what| what.contains("of conf.d/web.toml")));
    // A file that is no longer included has not lost its end.
    assert_eq!(lost_end(&both, &good(&format!("{GOOD}# end")).text), None);
}

#[test]
fn the_text_is_the_same_from_everywhere() {
    let (main, service) = halves();
    let directory = files(&[("edge.toml", main.as_str()), ("conf.d/web.toml", &service), ("below/nothing", "")]);
    let other = directory.path().join("below/../edge.toml");
    assert_eq!(loaded(&directory).expect("good"), load(&other).expect("the same"));
    let text = loaded(&directory).expect("good").text;
    assert!(text.starts_with("# include = [\"conf.d/*.toml\"]\nhash_key"), "{text}");
    assert!(text.contains("\n#line 1 \"conf.d/web.toml\"\n[[service]]\n"), "{text}");
}

#[test]
fn comments_that_look_like_ours_do_no_harm() {
    for comment in [
        "#line",
        "#line 5",
        "#line 99999999999999999999 \"a\"",
        "#line 18446744073709551615 \"a\"",
        "#line 1 \"a\tb\"",
        "#end \"\"",
    ] {
        let text = format!("{comment}\n{}", GOOD.replace("80", "0"));
        let error = parse(&text, "edge.toml").expect_err("bad ports");
        assert!(!error.with_lines(false).is_empty());
        good(&format!("{comment}\n{GOOD}"));
    }
}
