//! Tests of docs/grafana: its dashboards and alert rules name only metrics, labels and values that `/metrics` has, and commands
//! that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::Parser as _;
use regex::Regex;
use serde_json::Value;

use super::args::Args;
use crate::control::{
    fixture::{FakeDataPlane, inventory},
    metrics,
    status::{
        self, CertificateState, CertificateStatus, Clock, FlowTableStatus, HealthStatus, LatencyStatus, Sample, Status,
    },
};

const DASHBOARDS: [(&str, &str); 2] = [
    ("fleet.json", include_str!("../../../docs/grafana/fleet.json")),
    ("edge.json", include_str!("../../../docs/grafana/edge.json")),
];
const ALERTS: &str = include_str!("../../../docs/grafana/alerts.yml");

/// Words of the queries' language, and the function of Grafana's variables.
const LANGUAGE: [&str; 11] =
    ["histogram_quantile", "sum", "min", "count", "by", "ignoring", "rate", "changes", "time", "bool", "label_values"];
/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["instance", "job"];

/// For each metric its labels, and for each label its values.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// A status in which each metric has a value.
fn full() -> Status {
    let inventory = inventory();
    let plane = FakeDataPlane::fresh(&inventory);
    let daemon = serde_json::json!({
        "pid": 1, "version": "0", "started": 0, "config": "edge.toml", "repaired": 0,
        "notify": [{ "name": "page", "runs": 0, "failures": 0, "dropped": 0 }],
    });
    let daemon = serde_json::from_value(daemon).expect("a daemon's status");
    let mut status =
        status::build(&inventory, &plane, None, &Sample::take(&inventory, &plane, Clock::now()), Some(daemon));
    let history = serde_json::json!({ "how": "start", "at": 0, "good": true });
    status.history = Some(serde_json::from_value(history).expect("a history"));
    status.nat = Some(
        serde_json::from_value(serde_json::json!({ "flows": 0, "room": 1, "ports": [] })).expect("a table's fill"),
    );
    let mut latency = LatencyStatus::default();
    latency.note(Duration::from_millis(3));
    status.pools[0].probe_latency = Some(latency);
    status.flow_table = Some(FlowTableStatus { records: 0, room: 1 });
    status.interfaces = serde_json::from_str(r#"[{ "name": "eth0", "attached": true }]"#).expect("an interface");
    let backend = &mut status.pools[0].backends[0];
    backend.forced = Some(HealthStatus::Up);
    backend.for_seconds = Some(1);
    backend.certificate = Some(CertificateStatus { until: 0, days: 1, state: CertificateState::Valid });
    status.pools[1].backends[0].health = HealthStatus::Up;
    status
}

fn known() -> Known {
    let (series, label) = (regex(r"^(\w+)(?:\{(.*)\})? "), regex(r#"(\w+)="([^"]*)""#));
    // Prometheus makes `up` itself.
    let mut known = Known::from([("up".to_owned(), BTreeMap::new())]);
    let text = metrics::text(&full());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let found = series.captures(line).unwrap_or_else(|| panic!("no series: {line}"));
        let labels = known.entry(found[1].to_owned()).or_default();
        for pair in label.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            labels.entry(pair[1].to_owned()).or_default().insert(pair[2].to_owned());
        }
    }
    known
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern of this test")
}

/// What a query, and labels that are shown beside it, name without being known.
fn unknown(known: &Known, query: &str, shown: &[String]) -> Vec<String> {
    let mut unknown = Vec::new();
    let (selector, matcher) = (regex(r"\b(edge_\w+|up)\b(\{[^}]*\})?"), regex(r#"(\w+)(?:=~|!=|!~|=)"([^"]*)""#));
    let mut labels: BTreeSet<&str> = ADDED.into();
    for found in selector.captures_iter(query) {
        let Some(metric) = known.get(&found[1]) else {
            unknown.push(found[1].to_owned());
            continue;
        };
        labels.extend(metric.keys().map(String::as_str));
        for pair in matcher.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            let is_variable = pair[2].starts_with('$');
            match metric.get(&pair[1]) {
                _ if ADDED.contains(&&pair[1]) => {}
                None => unknown.push(format!("{}{{{}}}", &found[1], &pair[1])),
                Some(values) if !is_variable && !pair[2].split('|').all(|value| values.contains(value)) => {
                    unknown.push(format!("{}{{{}}}", &found[1], &pair[0]));
                }
                Some(_) => {}
            }
        }
    }
    // What is left are words of the language, and labels.
    let rest = regex(r"\[[^\]]*\]").replace_all(&selector.replace_all(query, ""), "").into_owned();
    let words = regex(r"[A-Za-z_]\w*").find_iter(&rest).map(|word| word.as_str().to_owned()).collect::<Vec<_>>();
    let is_unknown = |word: &&String| !labels.contains(word.as_str()) && !LANGUAGE.contains(&word.as_str());
    unknown.extend(words.iter().filter(is_unknown).cloned());
    unknown.extend(shown.iter().filter(|label| !labels.contains(label.as_str())).cloned());
    unknown
}

/// The labels in a text such as `{{service}}` or `{{ $labels.service }}`.
fn labels_in(text: &str) -> Vec<String> {
    regex(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}").captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn dashboards_name_metrics_that_exist() {
    let known = known();
    for (file, text) in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut queries = Vec::new();
        for panel in list(&dashboard["panels"]) {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{file}: {}", panel["title"]);
            queries.extend(list(&panel["targets"]));
        }
        assert!(queries.len() > 15, "{file}");
        for target in queries {
            let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
            let missing = unknown(&known, &text("expr"), &labels_in(&text("legendFormat")));
            assert!(missing.is_empty(), "{file}: {}: {missing:?}", text("expr"));
        }
        for variable in list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
            let query = variable["definition"].as_str().unwrap_or_default();
            assert!(query.starts_with("label_values(") && unknown(&known, query, &[]).is_empty(), "{file}: {query}");
        }
    }
}

#[test]
fn alerts_name_metrics_and_commands_that_exist() {
    let known = known();
    let command = regex(r"`([^`]*)`");
    let alerts: Vec<_> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 15);
    for alert in alerts {
        let value = |key: &str| {
            let found = alert.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
            found.unwrap_or_else(|| panic!("no `{key}` in {alert}"))
        };
        assert!(!value("for").is_empty());
        assert!(["critical", "warning", "info"].iter().any(|name| value("labels") == format!("{{severity: {name}}}")));
        let shown = [labels_in(value("summary")), labels_in(value("runbook"))].concat();
        let missing = unknown(&known, value("expr"), &shown);
        assert!(missing.is_empty(), "{alert}: {missing:?}");
        let runbook = regex(r"\{\{[^}]*\}\}").replace_all(value("runbook"), "NAME").into_owned();
        let commands: Vec<_> = command.captures_iter(&runbook).map(|found| found[1].to_owned()).collect();
        assert!(!commands.is_empty(), "no command: {runbook}");
        for line in commands {
            let words = line.split(' ');
            assert_eq!(words.clone().next(), Some("edge-ctl"), "{line}");
            Args::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
}

#[test]
fn what_does_not_exist_is_found() {
    let known = known();
    for (query, missing) in [
        ("edge_generations", "edge_generations"),
        ("edge_pool_available{service=\"web\"}", "edge_pool_available{service}"),
        ("edge_service_state{state=\"ok|gone\"}", "edge_service_state{state=\"ok|gone\"}"),
        ("sum by (exit) (edge_generation)", "exit"),
        ("average(edge_generation)", "average"),
    ] {
        assert_eq!(unknown(&known, query, &[]), [missing], "{query}");
    }
    assert_eq!(unknown(&known, "edge_generation", &labels_in("{{ $labels.pool }}")), ["pool"]);
}
