//! `[http]`: the status page and metrics over TCP, requested with curl in every state of the load balancer, and without an effect on traffic.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    net::{SocketAddr, TcpListener},
    process::Output,
    time::Duration,
};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, Mode, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);
const HTTP: &str = "\n[http]\nlisten = \"127.0.0.1:9180\"\n";

fn curl(lab: &Small, args: &[&str]) -> Output {
    let mut curl = lab.netns(EDGE).command("curl").unwrap();
    curl.args(["-sS", "--noproxy", "*", "--max-time", "8"]).args(args).output().unwrap()
}

fn get(lab: &Small, path: &str) -> Option<String> {
    let answer = curl(lab, &["-f", &format!("http://127.0.0.1:9180{path}")]);
    answer.status.success().then(|| String::from_utf8(answer.stdout).unwrap())
}

fn page(lab: &Small) -> Option<Value> {
    serde_json::from_str(&get(lab, "/v1/page")?).ok()
}

fn wait_for(lab: &Small, what: &str, reached: impl Fn() -> bool) {
    let reached = wait_until(patience(SOON), || Ok(reached())).unwrap();
    assert!(reached, "{what}: {}\n{}", lab.ctl(&["status"]).unwrap(), lab.edge().unwrap().log_text());
}

fn rewrite(lab: &Small, change: impl FnOnce(String) -> String) {
    let path = lab.edge().unwrap().configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, change(text)).unwrap();
}

fn reload(lab: &Small) -> Output {
    lab.edge().unwrap().output(lab.netns(EDGE), &["reload"]).unwrap()
}

#[test]
fn it_is_read_in_every_state_and_changes_nothing() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.prepare(Mode::Native, HTTP).expect("a configuration");
    // Somebody else has the port: traffic does not care.
    let taken = lab.netns(EDGE).within(|| TcpListener::bind("127.0.0.1:9180")).unwrap().unwrap();
    lab.start_daemon().expect("it starts all the same");
    let requests = lab.start_requests().expect("a client");
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.contains("NOT LISTENING") && shown.contains("Address already in use"), "{shown}");
    drop(taken);
    wait_for(&lab, "it listens once it can", || get(&lab, "/").is_some());
    assert!(!lab.ctl(&["status"]).unwrap().contains("NOT LISTENING"));

    let html = get(&lab, "/").unwrap();
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    let metrics = get(&lab, "/metrics").unwrap();
    assert!(metrics.contains("edge_daemon_up 1.0") && metrics.contains("edge_flow_room "), "{metrics}");
    let passed = metrics.lines().filter(|line| line.starts_with("edge_probe_latency_seconds_count{"));
    let passed: Vec<u64> = passed.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!passed.is_empty() && passed.iter().all(|count| *count > 0), "{metrics}");
    let shown = page(&lab).unwrap();
    assert_eq!(shown["headline"]["level"], "ok", "{}", shown["headline"]);
    assert_eq!(shown["status"]["source"], "daemon");
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/", "/v1/status", "/v1/backends/p4/be1/drain", "/v1/reload"] {
            let refused = curl(
                &lab,
                &["-X", method, "-w", "%{http_code}", "-o", "/dev/null", &format!("http://127.0.0.1:9180{path}")],
            );
            let code = String::from_utf8(refused.stdout).unwrap();
            assert!(["404", "405"].contains(&&*code), "{method} {path}: {code}");
        }
    }
    assert_eq!(page(&lab).unwrap()["headline"]["level"], "ok", "nothing was changed");

    // Each provider is down, and the daemon has just started: that is when it is read.
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
    for backend in BACKENDS {
        lab.netns(backend).ip("link set eth0 down\n").unwrap();
    }
    wait_for(&lab, "trouble is reported", || page(&lab).is_some_and(|page| page["headline"]["level"] == "critical"));
    let events = get(&lab, "/v1/events?last=5").unwrap();
    assert_eq!(events.lines().count(), 5, "{events}");
    lab.kill_daemon().unwrap();
    lab.launch_daemon().unwrap();
    wait_for(&lab, "a daemon that has just started reports it", || {
        page(&lab).is_some_and(|page| page["headline"]["level"] == "critical" && get(&lab, "/").is_some())
    });
}

#[test]
fn it_follows_the_file_and_a_bad_address_is_refused() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.balance(Mode::Native).expect("the load balancer starts");
    let requests = lab.start_requests().expect("a client");
    assert_eq!(get(&lab, "/"), None, "nowhere, unless it is configured");
    rewrite(&lab, |text| text + HTTP);
    assert!(reload(&lab).status.success());
    wait_for(&lab, "it listens", || get(&lab, "/").is_some());

    // A VIP, no address, no port: refused, and it serves on.
    for bad in ["192.0.2.10:9180", "somewhere:80", "127.0.0.1", "224.0.0.1:80", "127.0.0.1:0"] {
        rewrite(&lab, |text| text.replace("127.0.0.1:9180", bad));
        let refused = reload(&lab);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && why.contains("listen"), "{bad}: {why}");
        assert!(get(&lab, "/").is_some(), "{bad}");
        rewrite(&lab, |text| text.replace(bad, "127.0.0.1:9180"));
    }

    // An address that this host has not, yet: what was there serves on until its successor stands.
    rewrite(&lab, |text| text.replace("127.0.0.1:9180", "10.77.0.1:9181"));
    assert!(reload(&lab).status.success());
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.contains("NOT LISTENING") && shown.contains("an address of this host"), "{shown}");
    assert!(get(&lab, "/").is_some());
    lab.netns(EDGE).ip("addr add 10.77.0.1/32 dev lo\n").unwrap();
    let there = || curl(&lab, &["-f", "http://10.77.0.1:9181/metrics"]).status.success();
    wait_for(&lab, "it is there", there);
    wait_for(&lab, "and no longer here", || get(&lab, "/").is_none());

    // Those who say nothing keep nobody out for long.
    let address: SocketAddr = "10.77.0.1:9181".parse().unwrap();
    let silent =
        lab.netns(EDGE).within(|| (0..8).map(|_| std::net::TcpStream::connect(address).unwrap()).collect::<Vec<_>>());
    wait_for(&lab, "others are served", there);
    drop(silent);

    rewrite(&lab, |text| text.replace("[http]\nlisten = \"10.77.0.1:9181\"", "# No page."));
    assert!(reload(&lab).status.success());
    wait_for(&lab, "it has ended", || !there());
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
}
