//! The built binary where there is no daemon and nothing is pinned: exit codes and error texts. Needs no root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::PathBuf,
    process::{Command, Output},
};

use nix::{
    fcntl::{Flock, FlockArg},
    sys::stat::Mode,
    unistd::mkfifo,
};

const GOOD: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
[[interface]]
name = "eth0"
[[pool]]
name = "provider-a"
backend = [{ name = "a1", address = "10.1.0.11" }]
[[service]]
name = "web"
vips = ["192.0.2.10"]
ports = ["80/tcp"]
mode = "dsr"
pools = ["provider-a"]
"#;

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, text: &str) -> String {
        let path = self.path("edge.toml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_with(arguments, "")
    }

    /// The same with this on standard input.
    fn run_with(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        fs::write(self.path("input"), input).unwrap();
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_edge-ctl"))
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(File::open(self.path("input")).unwrap())
            .env("EDGE_RUN_DIR", self.path("run"))
            .env("EDGE_PIN_DIR", self.path("bpf"))
            .env("EDGE_STATE_DIR", self.path("state"))
            .env_remove("EDGE_LOG")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Holds the writer's lock as a daemon of that PID does.
    fn hold_lock(&self, pid: u32) -> Flock<File> {
        fs::create_dir_all(self.path("run")).unwrap();
        let mut file = File::create(self.path("run/edge.lock")).unwrap();
        writeln!(file, "{pid}").unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()
    }
}

#[test]
fn wrong_usage_is_2() {
    let host = Host::new();
    assert_eq!(host.run(&[]).0, 2);
    assert_eq!(host.run(&["drain"]).0, 2);
    assert_eq!(host.run(&["failover", "web"]).0, 2);
    assert_eq!(host.run(&["flows", "--limit", "-1"]).0, 2);
    assert_eq!(host.run(&["flows", "web"]).0, 2);
}

#[test]
fn check_distinguishes_good_files_from_bad_ones() {
    let host = Host::new();
    let good = host.file(GOOD);
    let (code, output, _) = host.run(&["check", &good]);
    assert_eq!((code, output), (0, format!("{good}: good: 1 service, 1 pool, 1 backend, 1 interface\n")));
    let bad = host.file(&GOOD.replace("slots", "slot"));
    let (code, _, output) = host.run(&["check", &bad]);
    assert_eq!(code, 2);
    assert!(output.starts_with(&format!("edge-ctl: {bad}:3:1: ")), "{output}");
    assert!(output.contains("\n3 | slot = 1024\n  | ^^^^\n  write: `slots`"), "{output}");
    assert!(!output.contains('\x1b'), "no terminal, no colour: {output}");
    let (code, _, output) = host.run(&["check", "/nowhere/edge.toml"]);
    assert_eq!(code, 2);
    assert!(output.contains("/nowhere/edge.toml"), "{output}");
}

#[test]
fn a_program_gets_the_problems_of_a_refused_file() {
    let host = Host::new();
    let refused = |arguments: &[&str], text: &str| {
        let (code, output, text) = host.run_with(&[&["check", "--json"], arguments].concat(), text);
        assert_eq!(code, 2, "{output}{text}");
        serde_json::from_str::<serde_json::Value>(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
    };
    let bad = host.file(&GOOD.replace("slots", "slot").replace("pools = [\"provider-a\"]", "pools = [\"provider-b\"]"));
    let json = refused(&[&bad], "");
    assert_eq!(json["file"], bad);
    let problems = json["problems"].as_array().unwrap();
    let places: Vec<_> = problems.iter().map(|problem| (&problem["line"], &problem["column"])).collect();
    assert_eq!(places.len(), 2, "{json}");
    assert_eq!((places[0], places[1]), ((&3.into(), &1.into()), (&14.into(), &10.into())), "{json}");
    for problem in problems {
        assert_eq!(problem["file"], bad, "{json}");
        assert!(problem["message"].is_string() && problem["help"].is_string(), "{json}");
    }
    assert!(problems[0]["help"].as_str().unwrap().starts_with("`slots`"), "{json}");

    // A problem in an included file names that file.
    fs::write(host.path("more.toml"), "[[pool]]\nname = 1\nbackend = [{ name = \"x\", address = \"10.9.0.1\" }]\n")
        .unwrap();
    let includes = host.file(&format!("include = [\"more.toml\"]\n{GOOD}"));
    let json = refused(&[&includes], "");
    assert_eq!(json["problems"][0]["file"], host.path("more.toml").display().to_string(), "{json}");
    assert_eq!(json["problems"][0]["line"], 2, "{json}");

    let json = refused(&["/nowhere/edge.toml"], "");
    assert_eq!(json["problems"][0]["file"], "/nowhere/edge.toml", "{json}");
    assert!(json["problems"][0].get("line").is_none(), "{json}");
    assert_eq!(refused(&["-"], "x")["problems"][0]["file"], "<stdin>");
}

/// The kernel refuses each write to `/dev/full`, as one to a pipe that nobody reads any longer.
#[test]
fn a_standard_error_that_takes_nothing_changes_no_exit_code() {
    let host = Host::new();
    let bad = host.file(&GOOD.replace("slots", "slot"));
    let _lock = host.hold_lock(4242);
    for (arguments, code) in [(&["check", &bad][..], 2), (&["status"], 3), (&["detach"], 5), (&["run", "edge.toml"], 5)]
    {
        let status = Command::new(env!("CARGO_BIN_EXE_edge-ctl"))
            .args(arguments)
            .current_dir(host.dir.path())
            .stderr(File::options().write(true).open("/dev/full").unwrap())
            .env("EDGE_RUN_DIR", host.path("run"))
            .env("EDGE_PIN_DIR", host.path("bpf"))
            .env("EDGE_STATE_DIR", host.path("state"))
            .env("EDGE_LOG", "trace")
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn standard_input_is_a_file_too() {
    let host = Host::new();
    let (code, output, _) = host.run_with(&["check", "-"], GOOD);
    assert_eq!((code, output.as_str()), (0, "<stdin>: good: 1 service, 1 pool, 1 backend, 1 interface\n"));
    let bad = GOOD.replace("slots", "slot");
    for verb in [&["check", "-"][..], &["plan", "-"], &["apply", "-"], &["diff", "-", "-"]] {
        let (code, _, output) = host.run_with(verb, &bad);
        assert_eq!(code, 2, "{verb:?}: {output}");
        assert!(output.starts_with("edge-ctl: <stdin>:3:1: "), "{verb:?}: {output}");
    }
    // Nothing is left of it when the daemon reads its file again.
    let (code, _, output) = host.run_with(&["run", "-"], GOOD);
    assert_eq!(code, 2);
    assert!(output.contains("reads its file again"), "{output}");
}

#[test]
fn what_is_wrong_in_an_included_file_is_named() {
    let host = Host::new();
    let (main, service) = GOOD.split_at(GOOD.find("[[service]]").unwrap());
    let main = format!("include = [\"conf.d/*.toml\"]{main}");
    let file = host.file(&main);
    fs::create_dir(host.path("conf.d")).unwrap();
    let included = host.path("conf.d/web.toml");
    fs::write(&included, service).unwrap();
    assert_eq!(host.run(&["check", &file]).0, 0);
    // From standard input what is beside the one who calls.
    assert_eq!(host.run_with(&["check", "-"], &main).0, 0);
    fs::write(&included, service.replace("dsr", "gre")).unwrap();
    for (name, input) in [(file.as_str(), ""), ("edge.toml", ""), ("-", main.as_str())] {
        let (code, _, output) = host.run_with(&["check", name], input);
        let included =
            if name.starts_with('/') { included.display().to_string() } else { "conf.d/web.toml".to_owned() };
        assert_eq!(code, 2);
        assert!(output.starts_with(&format!("edge-ctl: {included}:5:8: `mode` is \"gre\"")), "{output}");
        assert!(output.contains("\n5 | mode = \"gre\"\n"), "{output}");
    }
}

#[test]
fn a_pattern_that_matches_no_file_is_a_warning() {
    let host = Host::new();
    let file = host.file(&format!("include = [\"cnf.d/*.toml\"]{GOOD}"));
    let (code, output, _) = host.run(&["check", &file]);
    assert_eq!(code, 0);
    assert!(output.starts_with("warning: include: no file matches \"cnf.d/*.toml\"\n  do: "), "{output}");
    assert!(output.contains("good: 1 service"), "{output}");
    assert!(host.run(&["check", "--json", &file]).1.contains("cnf.d"));
    for verb in ["plan", "apply"] {
        let (_, _, error) = host.run(&[verb, &file]);
        assert!(error.starts_with("edge-ctl: warning: include: no file matches \"cnf.d/*.toml\""), "{verb}: {error}");
    }
}

#[test]
fn a_pipe_that_nobody_writes_to_is_given_up() {
    let host = Host::new();
    mkfifo(&host.path("edge.toml"), Mode::S_IRWXU).unwrap();
    let (code, _, output) = host.run(&["check", "edge.toml"]);
    assert_eq!(code, 2, "{output}");
    assert!(output.contains("was not read within 10 s"), "{output}");
}

#[test]
fn without_a_file_the_default_is_read_and_named() {
    let host = Host::new();
    for verb in ["check", "plan", "apply"] {
        // Whatever this host has there.
        let (_, out, error) = host.run(&[verb]);
        assert!(format!("{out}{error}").contains("/etc/edge/edge.toml") || verb == "plan", "{verb}: {out}{error}");
        let (code, _, error) = host.run(&[verb, "nowhere.toml"]);
        assert_eq!(code, 2);
        assert!(error.starts_with("edge-ctl: nowhere.toml: can't be read"), "{verb}: {error}");
        assert!(error.contains("reads /etc/edge/edge.toml"), "{verb}: {error}");
    }
    let _lock = host.hold_lock(4242);
    assert_eq!(host.run(&["run"]).0, 5, "no wrong usage");
    assert_eq!(host.run(&["run", "a.toml", "--config", "b.toml"]).0, 2);
}

#[test]
fn without_daemon_and_maps_every_verb_exits_with_3_and_names_the_searched_paths() {
    let host = Host::new();
    for verb in [
        &["status"][..],
        &["status", "--json"],
        &["flows"],
        &["flows", "--service", "web", "--limit", "10", "--json"],
        &["trace"],
        &["trace", "--service", "web", "--client", "203.0.113.0/24", "--exit", "*_silent", "--count", "1"],
        &["drain", "a1"],
        &["enable", "a1"],
        &["disable", "a1"],
        &["failover", "web", "--to", "b"],
        &["failback", "web"],
        &["detach"],
        &["events"],
        &["events", "--follow"],
        &["reload"],
    ] {
        let (code, out, output) = host.run(verb);
        assert_eq!(code, 3, "{verb:?}: {output}");
        assert!(out.is_empty(), "{verb:?}: {out}");
        assert!(output.contains("run/edge.sock") && output.contains("edge-ctl run FILE"), "{verb:?}: {output}");
    }
}

#[test]
fn a_dead_daemons_socket_is_as_none() {
    let host = Host::new();
    fs::create_dir_all(host.path("run")).unwrap();
    drop(UnixListener::bind(host.path("run/edge.sock")).unwrap());
    assert!(fs::metadata(host.path("run/edge.sock")).unwrap().file_type().is_socket());
    assert_eq!(host.run(&["status"]).0, 3);
}

#[test]
fn a_second_daemon_is_5_and_names_the_first() {
    let host = Host::new();
    let _lock = host.hold_lock(4242);
    for arguments in [&["run", &host.file(GOOD)][..], &["run"]] {
        assert_eq!(host.run(arguments).0, 5, "{arguments:?}");
    }
    let (code, _, output) = host.run(&["run", "--config", &host.file(GOOD)]);
    assert_eq!(code, 5, "{output}");
    assert!(output.contains("PID 4242"), "{output}");
}

#[test]
fn nobody_detaches_beside_a_daemon_that_does_not_answer() {
    let host = Host::new();
    let _lock = host.hold_lock(4242);
    let (code, _, output) = host.run(&["detach"]);
    assert_eq!(code, 5, "{output}");
    assert!(output.contains("a daemon runs (PID 4242) but does not answer"), "{output}");
}
