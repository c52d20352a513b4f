//! `evacuate` and `return` of a provider's pool, with real clients: which services leave, which are left alone, what stays, how it ends, and
//! that the printed undo works. Also words for several services at once.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{process::Output, time::Duration};

use edge_tests::lab::{
    Lab,
    patience::patience,
    topology::{EDGE, Service},
    wait_until,
};
use serde_json::Value;

use crate::status::Connection;

const SOON: Duration = Duration::from_secs(20);

const POOL: &str = "provider-a-wan4";
/// Services that have [`POOL`] and another one.
const LEAVING: [&str; 2] = ["web-4in4", "web-6in4"];
/// A service of the provider in another pool.
const ELSEWHERE: &str = "web-dsr4";
/// A service that has no other pool, at a VIP that backends have.
const ALONE: &str = "\n[[service]]\nname = \"alone\"\nvips = [\"192.0.2.20\"]\nports = [\"8080/tcp\"]\nmode = \"ipip\"\n\
                     pools = [\"provider-a-wan4\"]\n";

fn lab() -> Lab {
    let lab = Lab::with_edge();
    let path = lab.edge().configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + ALONE).unwrap();
    lab.ctl(&["reload"]).unwrap();
    lab
}

fn output(lab: &Lab, args: &[&str]) -> Output {
    lab.edge().output(lab.netns(EDGE), args).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The provider that serves a new connection to each service: `a` or `b`.
fn providers(lab: &Lab, services: &[&str]) -> String {
    let provider = |name: &&str| {
        let answer = lab.curl("client1", &format!("http://{}/", Service::named(name).address())).unwrap();
        answer.chars().next().unwrap()
    };
    services.iter().map(provider).collect()
}

fn service(lab: &Lab, name: &str) -> Value {
    let status = lab.status().unwrap();
    status["services"].as_array().unwrap().iter().find(|service| service["name"] == name).unwrap().clone()
}

fn serving(lab: &Lab, name: &str) -> Value {
    service(lab, name)["serving"].clone()
}

/// The command of the last line, `undo: edge-ctl COMMAND`.
fn undo(printed: &str) -> Vec<&str> {
    let last = printed.trim_end().lines().last().unwrap();
    last.strip_prefix("undo: edge-ctl ").unwrap_or_else(|| panic!("{printed}")).split(' ').collect()
}

fn events(lab: &Lab, kind: &str) -> Vec<Value> {
    let lines = lab.ctl(&["events", "--json"]).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["kind"] == kind).collect()
}

#[test]
fn a_provider_is_left_by_all_that_can_leave_and_the_printed_undo_brings_them_back() {
    let mut lab = lab();
    let [first, second] = LEAVING;
    assert_eq!(providers(&lab, &[first, second, ELSEWHERE]), "aaa");

    // A forecast changes nothing.
    let dry = output(&lab, &["evacuate", POOL, "--dry-run"]);
    let forecast = stdout(&dry);
    assert!(
        forecast.starts_with("dry run, nothing is changed: pool provider-a-wan4: 4 services leave it"),
        "{forecast}"
    );
    assert!(forecast.contains("goes to pool provider-b-wan4 (3 of 3 backends take new flows)"), "{forecast}");
    assert!(stderr(&dry).contains("left alone, since they have no other pool: alone (`--force`"), "{dry:?}");
    assert_eq!(providers(&lab, &LEAVING), "aa");
    assert!(events(&lab, "pool_evacuated").is_empty());

    // All that have another pool leave, in one event with the reason.
    let done = output(&lab, &["evacuate", POOL, "--for", "1h", "--reason", "maintenance of a"]);
    let printed = stdout(&done);
    assert!(done.status.success() && stderr(&done).contains("no other pool: alone"), "{done:?}");
    assert_eq!(providers(&lab, &[first, second, ELSEWHERE]), "bba");
    assert_eq!((serving(&lab, "alone"), serving(&lab, "echo-4in4")), (POOL.into(), "provider-b-wan4".into()));
    let reported = events(&lab, "pool_evacuated");
    assert_eq!((reported.len(), &reported[0]["subject"]), (1, &POOL.into()));
    assert_eq!(reported[0]["services"].as_array().unwrap().len(), 4, "{reported:?}");
    assert!(reported[0]["message"].as_str().unwrap().contains("maintenance of a"), "{reported:?}");
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.starts_with("WARNING: evacuated by an operator: provider-a-wan4\n"), "{shown}");
    assert!(shown.contains("it is over in ") && shown.contains("undo: edge-ctl return provider-a-wan4"), "{shown}");
    let evacuation = lab.status().unwrap()["history"]["evacuations"][0].clone();
    assert_eq!((&evacuation["pool"], &evacuation["reason"]), (&POOL.into(), &"maintenance of a".into()));

    // A daemon that starts anew goes on with it; the printed command ends it.
    lab.kill_daemon().unwrap();
    lab.start_daemon().unwrap();
    assert_eq!(providers(&lab, &LEAVING), "bb");
    let back = lab.ctl(&undo(&printed)).unwrap();
    assert!(back.contains("the evacuation of pool provider-a-wan4 is over"), "{back}");
    assert_eq!(providers(&lab, &LEAVING), "aa");
    assert_eq!(events(&lab, "evacuation_over").len(), 1);
    assert!(lab.ctl(&["return", POOL]).unwrap().contains("is not evacuated"), "a second return is no error");
    assert_eq!(output(&lab, &["evacuate", "provider-x"]).status.code(), Some(4));
}

#[test]
fn drain_keeps_established_flows_a_time_ends_it_and_force_takes_the_backends() {
    let mut lab = lab();
    // Established flows stay, new ones leave.
    let mut connection = Connection::open(&lab);
    let home = connection.request();
    assert!(home.starts_with('a'), "{home}");
    lab.ctl(&["evacuate", POOL, "--drain"]).unwrap();
    assert_eq!((connection.request(), providers(&lab, &LEAVING)), (home.clone(), "bb".to_owned()));
    lab.ctl(&["return", POOL]).unwrap();
    assert_eq!((connection.request(), providers(&lab, &LEAVING)), (home, "aa".to_owned()));

    // It ends by itself.
    lab.ctl(&["evacuate", POOL, "--for", "2s"]).unwrap();
    assert_eq!(serving(&lab, "web-4in4"), "provider-b-wan4");
    let is_back = || Ok(serving(&lab, "web-4in4") == POOL);
    assert!(wait_until(patience(SOON), is_back).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    assert_eq!(providers(&lab, &LEAVING), "aa");

    // With force, what has no other pool loses its backends, too.
    let forced = output(&lab, &["evacuate", POOL, "--force"]);
    assert!(!stderr(&forced).contains("left alone"), "{forced:?}");
    assert_eq!(service(&lab, "alone")["state"], "exhausted");
    assert_eq!(providers(&lab, &LEAVING), "bb");
    lab.ctl(&undo(&stdout(&forced))).unwrap();
    assert_eq!((serving(&lab, "alone"), providers(&lab, &LEAVING)), (POOL.into(), "aa".to_owned()));

    // Without a daemon as well.
    lab.kill_daemon().unwrap();
    let alone = output(&lab, &["evacuate", POOL, "--for", "1h"]);
    assert!(stderr(&alone).contains("working on the pinned maps directly"), "{alone:?}");
    assert_eq!(providers(&lab, &LEAVING), "bb");
    lab.start_daemon().unwrap();
    assert_eq!(providers(&lab, &LEAVING), "bb");
    lab.ctl(&undo(&stdout(&alone))).unwrap();
    assert_eq!(providers(&lab, &LEAVING), "aa");
}

#[test]
fn several_services_are_failed_over_by_a_pattern() {
    let lab = lab();
    let forecast = lab.ctl(&["failover", "*-4in4", "--to", "provider-b-wan4", "--dry-run"]).unwrap();
    assert_eq!(forecast.matches("dry run, nothing is changed").count(), 2, "{forecast}");
    assert_eq!(providers(&lab, &LEAVING), "aa");
    lab.ctl(&["failover", "*-4in4", "web-6in4", "--to", "provider-b-wan4", "--reason", "a test"]).unwrap();
    assert_eq!((providers(&lab, &LEAVING), serving(&lab, "echo-4in4")), ("bb".to_owned(), "provider-b-wan4".into()));
    assert_eq!(serving(&lab, "echo-6in4"), POOL);
    lab.ctl(&["failback", "*-4in4", "web-6*"]).unwrap();
    assert_eq!((providers(&lab, &LEAVING), serving(&lab, "echo-4in4")), ("aa".to_owned(), POOL.into()));
    assert_eq!(output(&lab, &["failback", "nothing-*"]).status.code(), Some(4));
}

#[test]
fn a_pattern_names_all_pools_of_a_provider_and_the_forecast_has_the_peaks_of_the_last_hour() {
    let lab = lab();
    let [first, second] = LEAVING;
    let all = [first, second, ELSEWHERE];
    // The daemon sees the traffic within a second or two.
    let forecast = || {
        providers(&lab, &all);
        lab.ctl(&["evacuate", "provider-a-*", "--dry-run"])
    };
    let has_peaks =
        |text: &str| text.contains("in the last hour at most") && text.contains("more for each backend there");
    assert!(wait_until(patience(SOON), || Ok(has_peaks(&forecast()?))).unwrap(), "{}", forecast().unwrap());
    assert!(!forecast().unwrap().contains("at most 0 flows/s, 0 pkt/s, 0 bit/s;"), "services with traffic are named");
    assert_eq!(providers(&lab, &all), "aaa", "a forecast changes nothing");

    let printed = stdout(&output(&lab, &["evacuate", "provider-a-*"]));
    assert_eq!(providers(&lab, &all), "bbb");
    let undone: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("undo: edge-ctl return ")).collect();
    assert!(undone.len() > 1 && undone.contains(&POOL) && has_peaks(&printed), "{printed}");
    assert_eq!(events(&lab, "pool_evacuated").len(), undone.len());
    lab.ctl(&["return", "provider-a-*"]).unwrap();
    assert_eq!(providers(&lab, &all), "aaa");

    // A name that is wrong does not keep the command from the others.
    assert_eq!(output(&lab, &["evacuate", "provider-x", POOL]).status.code(), Some(4));
    assert_eq!(providers(&lab, &all), "bba");
    lab.ctl(&["return", POOL]).unwrap();
    assert_eq!(providers(&lab, &all), "aaa");
}
