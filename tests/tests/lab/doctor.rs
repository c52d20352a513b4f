//! `doctor` and `bundle`: what they find and collect on a real host, with a daemon, without one, and with nothing at all.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output, time::Duration};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, Mode, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);

/// Pools with a secret in each place that has one; and a former one in a comment.
const SECRETS: &str = r#"
# hash_key = "comment-secret-91"
[[pool]]
name = "http"
probe = { type = "http", port = 80, path = "/healthz?token=query-secret-92" }
backend = [{ name = "x", address = "10.1.1.11" }]
[[pool]]
name = "program"
probe = { type = "command", command = ["/bin/false", "--password", "argument-secret-93", "-p", "ab94cd"] }
backend = [{ name = "x", address = "10.1.1.11" }]
[[pool]]
name = "datagram"
probe = { type = "udp", port = 9, send = "payload-secret-95", expect = "answer-secret-96" }
backend = [{ name = "x", address = "10.1.1.11" }]
[[service]]
name = "secrets"
vips = ["192.0.2.77"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["http", "program", "datagram"]
"#;

fn lab(more: &str) -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.prepare(Mode::Native, more).expect("a configuration");
    lab
}

fn output(lab: &Small, args: &[&str]) -> Output {
    lab.edge().unwrap().output(lab.netns(EDGE), args).unwrap()
}

/// The exit code of `doctor`, and its checks.
fn examined(lab: &Small) -> (Option<i32>, Value) {
    let file = lab.edge().unwrap().configuration();
    let output = output(lab, &["doctor", file.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), report)
}

/// Severities of a check's findings.
fn severities(report: &Value, check: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["name"] == check).unwrap_or_else(|| panic!("{check}: {report:#}"));
    let findings = found["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["severity"].as_str().unwrap().to_owned()).collect()
}

fn messages(report: &Value) -> String {
    let checks = report["checks"].as_array().unwrap();
    let findings = checks.iter().flat_map(|check| check["findings"].as_array().unwrap());
    findings.map(|finding| finding["message"].as_str().unwrap().to_owned() + "\n").collect()
}

#[test]
fn each_trouble_is_found_with_its_remedy_and_an_exit_code() {
    let mut lab = lab("");
    // Nothing runs, nothing is pinned, and there is no file: it still works.
    let file = lab.edge().unwrap().configuration();
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let (code, report) = examined(&lab);
    assert_eq!((code, &report["worst"]), (Some(2), &"error".into()), "{report:#}");
    assert_eq!([severities(&report, "configuration"), severities(&report, "daemon")], [["error"], ["error"]]);
    fs::write(&file, &text).unwrap();
    let (_, report) = examined(&lab);
    assert_eq!(severities(&report, "configuration"), ["warning"], "it is good, and not in force");

    lab.start_daemon().unwrap();
    wait_until(patience(SOON), || Ok(severities(&examined(&lab).1, "daemon").is_empty())).unwrap();
    let (code, report) = examined(&lab);
    for check in ["kernel", "versions", "configuration", "daemon", "limits", "ways", "vips", "decap"] {
        assert!(severities(&report, check).is_empty(), "{check}: {report:#}");
    }
    assert_ne!(code, Some(2), "{report:#}");
    let shown = output(&lab, &["doctor"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("it answers, PID ") && shown.contains("eth0 (veth, native mode)"), "{shown}");

    // A file that is not in force, one that is refused, and a way that is broken.
    fs::write(&file, text.replacen("slots = 1024", "slots = 2048", 1)).unwrap();
    assert_eq!(severities(&examined(&lab).1, "configuration"), ["warning"]);
    fs::write(&file, "slots = 1024\nslot = 7\n").unwrap();
    let (code, report) = examined(&lab);
    assert_eq!((code, severities(&report, "configuration")), (Some(2), vec!["error".to_owned()]), "{report:#}");
    fs::write(&file, &text).unwrap();
    lab.netns(EDGE).ip("link set eth1 down\n").unwrap();
    let is_found = || Ok(messages(&examined(&lab).1).contains("cannot be reached from this host: 10.1.1.11"));
    assert!(wait_until(patience(SOON), is_found).unwrap(), "{:#}", examined(&lab).1);
    lab.netns(EDGE).ip("link set eth1 up\naddr add fd01:1::1/64 dev eth1 nodad\n").unwrap();

    // A decapsulation of an interface with a dot in its name, as VLAN interfaces have it.
    lab.netns(EDGE).ip("link add eth7.100 type veth peer name far\nlink set eth7.100 up\nlink set far up\n").unwrap();
    lab.ctl(&["decap", "--interface", "eth7.100", "--mode", "generic", "--from", "10.1.1.11", "--vip", "192.0.2.0/24"])
        .unwrap();
    let (_, report) = examined(&lab);
    assert!(report.to_string().contains("on eth7.100"), "{report:#}");
    assert!(severities(&report, "decap").is_empty(), "{report:#}");

    // Without the daemon, the maps are examined.
    lab.kill_daemon().unwrap();
    let (code, report) = examined(&lab);
    assert_eq!((code, severities(&report, "daemon").first().map(String::as_str)), (Some(2), Some("error")));
    assert!(severities(&report, "versions").is_empty() && severities(&report, "configuration").is_empty());
}

#[test]
fn a_bundle_has_everything_but_the_secrets() {
    let mut lab = lab(SECRETS);
    lab.start_daemon().unwrap();
    let file = lab.edge().unwrap().configuration().with_file_name("support.tar");
    let path = file.to_str().unwrap();
    let mut secrets = vec!["4be0a7c195d2438f8a6613f05c7d92ea"];
    secrets.extend(["comment-secret", "query-secret", "argument-secret", "ab94cd", "payload-secret", "answer-secret"]);
    // A refused file is quoted by errors and in the log.
    let configuration = lab.edge().unwrap().configuration();
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replacen("4be0a7c195d2438f8a6613f05c7d92ea", "wrong-key-secret-97", 1)).unwrap();
    assert_eq!(output(&lab, &["reload"]).status.code(), Some(2));
    secrets.push("wrong-key-secret");

    for running in [true, false] {
        if !running {
            lab.kill_daemon().unwrap();
        }
        let printed = lab.ctl(&["bundle", path]).unwrap();
        assert!(printed.starts_with(path), "{printed}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = fs::read(&file).unwrap();
        for secret in &secrets {
            let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            let around = found.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(300)..at + 60]).into_owned());
            assert_eq!(around, None, "{secret}");
        }
        let listed = std::process::Command::new("tar").args(["-tf", path]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        for name in
            ["status.json", "events.jsonl", "incidents.json", "configuration.toml", "history/1.toml", "doctor.txt"]
        {
            assert!(listed.contains(&format!("/{name}\n")), "{name}: {listed}");
        }
        for name in ["versions.txt", "maps.txt", "metrics.txt", "sysctl.txt", "network/link.txt", "network/neigh4.txt"]
        {
            assert!(listed.contains(&format!("/{name}\n")), "{name}: {listed}");
        }
        // What a host does not have is named as missing.
        assert!(listed.contains("/journal.txt") && listed.contains("/kernel-log.txt"), "{listed}");
        assert_eq!(output(&lab, &["bundle", path]).status.code(), Some(1), "it writes over nothing");
        fs::remove_file(&file).unwrap();
    }
    let stdout = output(&lab, &["bundle", "-"]).stdout;
    assert!(stdout.windows(5).any(|window| window == b"ustar"), "{} bytes", stdout.len());
}
