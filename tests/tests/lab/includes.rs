//! A configuration in several files: it works like a single file, and a damaged file among them changes nothing.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, Mode, Small},
    topology::EDGE,
    wait_until,
};
use nix::{
    sys::{signal::Signal, stat},
    unistd::mkfifo,
};
use serde_json::Value;

fn status(lab: &Small) -> Value {
    lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()
}

fn generation(lab: &Small) -> u64 {
    status(lab)["generation"].as_u64().unwrap()
}

/// Moves everything from the first `[[service]]` on into a file of its own; returns the file's path and text.
fn split(configuration: &Path) -> (PathBuf, String) {
    let whole = fs::read_to_string(configuration).unwrap();
    let (main, services) = whole.split_at(whole.find("[[service]]").unwrap());
    let included = configuration.with_file_name("conf.d").join("services.toml");
    fs::create_dir(included.parent().unwrap()).unwrap();
    let services = format!("{services}\n# end\n");
    fs::write(&included, &services).unwrap();
    fs::write(configuration, format!("include = [\"conf.d/*.toml\"]\n{main}")).unwrap();
    (included, services)
}

#[test]
fn an_included_file_that_is_damaged_changes_nothing_and_is_named() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.balance(Mode::Native).expect("the load balancer starts");
    let path = lab.edge().unwrap().configuration();
    let (included, services) = split(&path);
    let requests = lab.start_requests().expect("a client");
    lab.ctl(&["reload"]).unwrap();
    assert_eq!(generation(&lab), 2);

    let name = included.display().to_string();
    let reload = || {
        let output = lab.edge().unwrap().output(lab.netns(EDGE), &["reload"]).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let refused = |what: &str| {
        let (code, printed) = reload();
        assert!(code == Some(2) && printed.contains(what), "{what}: {printed}");
        assert_eq!(generation(&lab), 2);
    };
    // An unknown key at each line.
    let lines: Vec<_> = services.lines().take_while(|line| *line != "# end").collect();
    for at in 1..=lines.len() {
        let (before, after) = lines.split_at(at);
        fs::write(&included, [before, &["damage"], after].concat().join("\n")).unwrap();
        refused(&format!("{name}:{}:", at + 1));
    }
    // A missing end is detected, since the text in force has one.
    fs::write(&included, services.replace("# end\n", "")).unwrap();
    refused("the last line `# end` of conf.d/services.toml, which it has in the text in force, is missing");
    fs::remove_file(&included).unwrap();
    refused("there is no service");
    // A pipe that is never written.
    mkfifo(&included, stat::Mode::S_IRWXU).unwrap();
    let started = Instant::now();
    refused(&format!("{name}: can't be read: it is no regular file"));
    assert!(started.elapsed() < patience(Duration::from_secs(3)), "{:?}", started.elapsed());
    lab.edge().unwrap().signal(Signal::SIGHUP).unwrap();
    let refused = || status(&lab)["daemon"]["refused"].as_str().is_some_and(|why| why.contains(&name));
    assert!(wait_until(patience(Duration::from_secs(5)), || Ok(refused())).unwrap(), "{}", status(&lab)["daemon"]);
    assert_eq!(generation(&lab), 2);
    fs::remove_file(&included).unwrap();

    // The kept text is complete, and is restored without the files.
    fs::write(&included, services.replacen("mode = ", "affinity = \"source\"\nmode = ", 1)).unwrap();
    lab.ctl(&["apply", path.to_str().unwrap(), "--allow-moves"]).unwrap();
    fs::remove_dir_all(included.parent().unwrap()).unwrap();
    lab.ctl(&["rollback", "2"]).unwrap();
    assert_eq!(generation(&lab), 4);
    let [old, new] = ["2", "4"].map(|generation| lab.ctl(&["history", "--text", generation]).unwrap());
    assert!(old == new && new.contains("\n#line 1 \"conf.d/services.toml\"\n[[service]]"), "{new}");
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
}
