//! docs/grafana with a real Prometheus that scrapes a real daemon: every query of the dashboards, and the alert rules.
//!
//! Debian has no package of Grafana, so no Grafana loads the dashboards here: their queries are taken from the files.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use edge_tests::lab::{
    patience::patience,
    prometheus::{Prometheus, promtool},
    small::{BACKENDS, Mode, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const GRAFANA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/grafana/alerts.yml");
const RULES_TEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/grafana/rules.yml");
const TARGET: &str = "127.0.0.1:9180";
const SOON: Duration = Duration::from_secs(30);

/// The page, a hook, and a pool whose only backend is down: nothing listens on the port that is probed.
const MORE: &str = r#"
[http]
listen = "127.0.0.1:9180"

[[notify]]
name = "true"
command = ["/bin/true"]

[[pool]]
name = "gone"
damping = "0s"
backend = [{ name = "gone", address = "10.1.1.11" }]
probe = { type = "tcp", port = 4, through = "address", interval = "200ms", timeout = "200ms", rise = 1, fall = 2 }
"#;

/// Metrics that this lab has no data of: no service is translated, no probe receives a certificate.
const ABSENT: [&str; 2] = ["edge_nat_", "edge_backend_certificate_days"];
/// A query for services in trouble, which has no data while there is none.
const TROUBLE: &str = r#"edge_service_state{state!="ok"} == 1"#;

/// The queries of both dashboards, with their variables replaced.
fn queries() -> BTreeSet<String> {
    ["fleet.json", "edge.json"].iter().flat_map(|name| queries_of(&Path::new(GRAFANA).join(name))).collect()
}

fn queries_of(path: &Path) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let values = [("$instance", TARGET), ("$service", ".*"), ("$pool", ".*"), ("$__rate_interval", "30s")];
    let replaced =
        |query: &str| values.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value));
    targets.map(|target| replaced(target["expr"].as_str().unwrap())).collect()
}

#[test]
fn promtool_accepts_the_rules_and_computes_what_is_expected() {
    promtool(&["check", "rules", RULES]).unwrap();
    promtool(&["test", "rules", RULES_TEST]).unwrap();
}

#[test]
fn each_panel_has_data_and_a_dead_provider_makes_an_alert() {
    let mut lab = Small::on_veth().unwrap();
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).unwrap();
    lab.prepare(Mode::Native, MORE).unwrap();
    lab.start_daemon().unwrap();
    lab.ctl(&["health", "p6/be2", "up"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(lab.netns(EDGE), dir.path(), TARGET, Path::new(RULES)).unwrap();
    let up = || Ok(prometheus.query("up{job=\"edge\"} == 1").is_ok_and(|found| found.len() == 1));
    assert!(wait_until(patience(SOON), up).unwrap(), "{}", prometheus.log_text());

    let queries = queries();
    assert!(queries.len() > 40, "{queries:?}");
    let has_data = |query: &str| prometheus.query(query).map(|found| !found.is_empty());
    for query in &queries {
        let is_absent = query == TROUBLE || ABSENT.iter().any(|metric| query.contains(metric));
        // Rates need two scrapes.
        let is_right = || Ok(has_data(query)? != is_absent);
        assert!(wait_until(patience(SOON), is_right).unwrap(), "{query}: {}", prometheus.log_text());
    }
    let alerts = |name: &str| prometheus.alerts(name).unwrap();
    let alarmed = |name: &str| wait_until(patience(SOON), || Ok(!alerts(name).is_empty())).unwrap();
    assert!(alarmed("EdgeBackendDown") && alarmed("EdgePoolBelowMinimum"), "the pool `gone`");
    assert_eq!(alerts("EdgeServiceWithoutBackends"), Vec::<String>::new());
    assert_eq!(alerts("EdgeSilent"), Vec::<String>::new());

    for backend in BACKENDS {
        lab.netns(backend).ip("link set eth0 down\n").unwrap();
    }
    assert!(alarmed("EdgeServiceWithoutBackends"), "{}", lab.ctl(&["status"]).unwrap());
    assert!(has_data(TROUBLE).unwrap());
    lab.kill_daemon().unwrap();
}
