//! `trace` with real traffic: what it shows, that packets go on while it starts and ends, and that nothing of it stays,
//! however it ends.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use edge_tests::lab::{
    patience::patience,
    process::Process,
    small::{Mode, Served, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// The lab, with its load balancer and two services in use.
struct Stage {
    lab: Small,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let mut lab = Small::on_veth().expect("the lab comes up");
        lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
        lab.balance(Mode::Native).expect("the load balancer starts");
        Self { lab, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts `edge-ctl trace ARGS`, and waits until it traces.
    fn trace(&self, log: &str, args: &[&str]) -> Process {
        let mut command = self.lab.edge().unwrap().command(self.lab.netns(EDGE)).unwrap();
        let trace = Process::start("trace", command.arg("trace").args(args), &self.path(log)).unwrap();
        wait_for("it traces", || self.text(log).contains("; Ctrl-C ends it"));
        trace
    }

    fn text(&self, log: &str) -> String {
        fs::read_to_string(self.path(log)).unwrap_or_default()
    }

    /// The frames in a log of JSON lines.
    fn frames(&self, log: &str) -> Vec<Value> {
        self.text(log).lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Kernel ID of the program on the edge's interface.
    fn program(&self) -> u32 {
        self.lab.attached(EDGE, "eth0").unwrap().expect("a program is attached").1
    }

    fn request(&self, name: &str) {
        self.lab.request(Served::named(name).vip, 3).unwrap();
    }

    /// Nothing of a trace is left, and traffic flows.
    fn is_as_before(&self, program: u32) {
        assert_eq!(self.program(), program, "the daemon's program is back");
        let pinned = self.lab.pinned(EDGE);
        let left: Vec<_> = pinned.iter().filter(|path| path.ends_with("edge-traced")).collect();
        assert!(left.is_empty(), "{left:?}");
        self.request("4in4");
    }
}

fn wait_for(what: &str, reached: impl Fn() -> bool) {
    assert!(wait_until(patience(SOON), || Ok(reached())).unwrap(), "{what}");
}

fn ended(mut process: Process) -> bool {
    let reached = wait_until(patience(SOON), || Ok(process.ended()?.is_some())).unwrap();
    assert!(reached, "it ends");
    process.ended().unwrap().unwrap().success()
}

#[test]
fn frames_have_their_fate_and_filters_hold() {
    let stage = Stage::new();
    let program = stage.program();

    // By service, until there are enough.
    let trace = stage.trace("service", &["--json", "--service", "echo-4in4", "--count", "5"]);
    assert_ne!(stage.program(), program, "the tracer's program is attached");
    stage.request("dsr4");
    stage.request("4in4");
    assert!(ended(trace), "{}", stage.text("service"));
    let frames = stage.frames("service");
    assert_eq!(frames.len(), 5, "{}", stage.text("service"));
    for frame in &frames {
        assert_eq!((&frame["service"], &frame["exit"]), (&"echo-4in4".into(), &"ipip_redirect".into()), "{frame}");
        assert_eq!((&frame["before"]["protocol"], &frame["after"]["protocol"]), (&"tcp".into(), &"ipip".into()));
        assert_eq!(frame["before"]["destination"], Served::named("4in4").vip.to_string());
        assert_eq!(frame["backend"], frame["owner"], "a stable slot");
        assert!(frame["slot"].as_u64() < Some(1024) && frame["interface"] == "eth0", "{frame}");
        // The outer header.
        assert_eq!(frame["length_after"].as_u64(), frame["length_before"].as_u64().map(|length| length + 20));
    }
    assert_eq!(frames[0]["before"]["flags"], "S");
    assert_eq!(frames[0]["starts_flow"], true);
    stage.is_as_before(program);

    // By backend, client and exit.
    let backend = frames[0]["backend"].as_str().unwrap().to_owned();
    let trace =
        stage.trace("backend", &["--json", "--backend", &backend, "--client", "10.0.0.0/24", "--exit", "dsr_*"]);
    stage.request("4in4");
    stage.request("dsr6");
    (0..10).for_each(|_| stage.request("dsr4"));
    wait_for("frames", || !stage.frames("backend").is_empty());
    assert!(trace.stop().unwrap().success());
    for frame in stage.frames("backend") {
        assert_eq!((&frame["backend"], &frame["exit"]), (&backend.as_str().into(), &"dsr_redirect".into()), "{frame}");
        assert!(frame["before"]["source"].as_str().unwrap().starts_with("10.0.0."), "{frame}");
    }
    stage.is_as_before(program);

    // Nobody else's client.
    let trace = stage.trace("nobody", &["--client", "203.0.113.7"]);
    stage.request("4in4");
    assert!(trace.stop().unwrap().success());
    let text = stage.text("nobody");
    assert!(text.contains("edge-ctl: 0 frames of ") && text.lines().count() == 2, "{text}");
    stage.is_as_before(program);
}

#[test]
fn a_tracer_that_is_killed_leaves_nothing_with_a_daemon_and_without() {
    let mut stage = Stage::new();
    let program = stage.program();
    let trace = stage.trace("first", &["--service", "echo-4in4"]);
    let traced = stage.program();
    // The daemon looks each second, and leaves it alone.
    std::thread::sleep(Duration::from_secs(3));
    stage.request("4in4");
    assert_eq!(stage.program(), traced);
    let second = stage.lab.ctl(&["trace", "--count", "1"]).unwrap_err().to_string();
    assert!(second.contains(&format!("another `edge-ctl trace` is running: PID {}", trace.pid())), "{second}");
    trace.kill().unwrap();
    stage.request("4in4");
    wait_for("the daemon puts its program back", || stage.program() == program);
    stage.is_as_before(program);

    // Without a daemon, the tracer's program goes on as the other one would, until the next tracer.
    stage.lab.kill_daemon().unwrap();
    let trace = stage.trace("alone", &["--service", "echo-4in4", "--json"]);
    let traced = stage.program();
    stage.request("4in4");
    wait_for("frames", || !stage.frames("alone").is_empty());
    trace.kill().unwrap();
    (0..3).for_each(|_| stage.request("4in4"));
    assert_eq!(stage.program(), traced);
    let trace = stage.trace("again", &["--count", "1"]);
    stage.request("4in4");
    assert!(ended(trace), "{}", stage.text("again"));
    stage.is_as_before(program);

    // A daemon that starts puts a program of its own there.
    let trace = stage.trace("last", &[]);
    trace.kill().unwrap();
    let traced = stage.program();
    stage.lab.start_daemon().unwrap();
    wait_for("the daemon's program", || stage.program() != traced);
    stage.request("4in4");
}

#[test]
fn a_program_that_is_replaced_ends_the_trace() {
    let mut stage = Stage::new();
    let trace = stage.trace("replaced", &[]);
    let traced = stage.program();
    stage.lab.ctl(&["upgrade"]).unwrap();
    assert_ne!(stage.program(), traced);
    assert!(!ended(trace), "it failed");
    let text = stage.text("replaced");
    assert!(text.contains("the program that was traced has been replaced"), "{text}");
    stage.request("4in4");
    let trace = stage.trace("detached", &[]);
    stage.lab.detach().unwrap();
    assert!(!ended(trace), "{}", stage.text("detached"));
}

/// tshark, if this machine has it.
fn tshark() -> Option<Command> {
    let unpacked = edge_tests::workspace().join("target/tools/tshark/run/tshark");
    let path = if unpacked.exists() { unpacked } else { "tshark".into() };
    let runs = Command::new(&path).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    runs.then(|| Command::new(path))
}

#[test]
fn wireshark_reads_what_is_written() {
    let stage = Stage::new();
    let capture = stage.path("capture.pcapng");
    let written = ["--write", capture.to_str().unwrap()];
    let trace = stage.trace("written", &[&["--service", "echo-4in4", "--count", "4"], written.as_slice()].concat());
    stage.request("4in4");
    assert!(ended(trace), "{}", stage.text("written"));
    let again = stage.lab.ctl(&["trace", "--write", capture.to_str().unwrap()]).unwrap_err().to_string();
    assert!(again.contains("nothing is written over"), "{again}");

    let bytes = fs::read(&capture).unwrap();
    assert!(bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]), "a section header");
    let Some(mut tshark) = tshark() else { return println!("skipped: no tshark") };
    let fields = ["frame.interface_name", "frame.packet_flags_direction", "ip.dst", "frame.comment", "frame.len"];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let output =
        tshark.arg("-r").arg(&capture).args(["-T", "fields", "-E", "occurrence=f"]).args(fields).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let frames: Vec<Vec<_>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(frames.len(), 8, "each frame as it came and as it left:\n{text}");
    for pair in frames.chunks(2) {
        let [before, after] = pair else { panic!("a pair: {pair:?}") };
        assert_eq!(before[0], "eth0", "{text}");
        assert_eq!((before[2], after[2].starts_with("10.1.")), ("192.0.2.10", true), "{text}");
        assert_eq!(before[3], after[3]);
        assert!(before[3].starts_with("echo-4in4 slot ") && before[3].contains("ipip_redirect (sent)"), "{text}");
    }
}
