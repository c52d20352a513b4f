//! What is under way after a change: services in transition, backends that leave, and what was done with flow records.

use std::time::Duration;

use comfy_table::{Cell, CellAlignment};
use edge_common::abi::FlowCount;

use super::{age, backend_state, finish, rates, shaded, table};
use crate::daemon::status::{LeavingStatus, ServiceStatus, Status, TransitionStatus};

/// The services whose owners still follow, or that have flow records; empty when all are settled.
pub(super) fn transitions(status: &Status, colour: bool) -> String {
    let mut rows = table(colour, &["TRANSITION", "FOR", "SLOTS", "RECORDS", "OWNERS FOLLOW", "WHY"]);
    for service in &status.services {
        let Some(transition) = &service.transition else { continue };
        rows.add_row([
            Cell::new(&service.name),
            right(transition.for_seconds.map_or("-".to_owned(), age)),
            right(number(transition.slots_differing)),
            right(transition.records),
            Cell::new(owners_follow(transition, status.daemon.is_some())),
            Cell::new(&transition.why),
        ]);
    }
    shown(&rows)
}

/// When the slots that differ get another owner.
fn owners_follow(transition: &TransitionStatus, daemon: bool) -> String {
    match (transition.slots_differing, transition.next_follow_seconds, transition.last_follow_seconds) {
        (Some(0), ..) => "all have".to_owned(),
        _ if !daemon => "once a daemon runs".to_owned(),
        (None, ..) => "-".to_owned(),
        (Some(_), Some(next), last) => {
            let (next, last) = (age(whole(next)), age(whole(last.unwrap_or(next))));
            if next == last { format!("in {next}") } else { format!("in {next} to {last}") }
        }
        (Some(_), None, _) => "no backend takes their flows".to_owned(),
    }
}

/// Backends that have left the configuration, and still have flows; empty when there are none.
pub(super) fn leaving(leaving: &[LeavingStatus], colour: bool) -> String {
    let header = ["LEAVING", "ADDRESS", "STATE", "FOR", "SLOTS", "RECORDS", "PKT/S", "BIT/S", "FLOWS/S", "WHY"];
    let mut rows = table(colour, &header);
    for backend in leaving {
        let (state, shade) = backend_state(backend.state, backend.health);
        let [packets, bits, flows] = rates(&backend.traffic);
        rows.add_row([
            Cell::new(&backend.name),
            Cell::new(&backend.address),
            shaded(state, shade, colour),
            right(backend.for_seconds.map_or("-".to_owned(), age)),
            right(number(backend.slots)),
            right(number(backend.records)),
            packets,
            bits,
            flows,
            Cell::new(&backend.reason),
        ]);
    }
    shown(&rows)
}

/// What the packet path has done with flow records, where it has done anything; empty when it has not.
pub(super) fn counts(services: &[ServiceStatus], colour: bool) -> String {
    let mut rows = table(colour, &["FLOW RECORDS", "SO FAR"]);
    for service in services {
        let counted = FlowCount::ALL.iter().map(|what| what.name()).filter_map(|name| {
            let count = service.flows.get(name).filter(|count| **count > 0)?;
            Some(format!("{name} {count}"))
        });
        let counted: Vec<_> = counted.collect();
        if !counted.is_empty() {
            rows.add_row([Cell::new(&service.name), Cell::new(counted.join(", "))]);
        }
    }
    shown(&rows)
}

/// Seconds, begun ones as whole ones: what is due in half a second is not due now.
fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds.ceil()).unwrap_or_default().as_secs()
}

fn shown(rows: &comfy_table::Table) -> String {
    if rows.row_count() == 0 { String::new() } else { finish(rows) }
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// What nobody has counted is a dash.
fn number(count: Option<impl ToString>) -> String {
    count.map_or("-".to_owned(), |count| count.to_string())
}

#[cfg(test)]
mod tests {
    use edge_common::abi::State;

    use super::*;
    use crate::{
        cli::render,
        daemon::{
            fixture::{FakePlane, inventory},
            plane::Plane as _,
            status::{Clock, DaemonStatus, Sample, build},
        },
        kernel::{Held, Transition},
        model::RetiredRecord,
    };

    const DAY: u64 = 1_763_424_000_000;

    /// A backend was taken out of the configuration a minute ago, and `transition` is where service `web` is with it.
    fn a_change(transition: &Transition, held: Option<Held>) -> Status {
        let mut inventory = inventory();
        let (pool, name) = ("provider-a".to_owned(), "a3".to_owned());
        inventory.leaving.push(RetiredRecord { pool, name, number: 9, address: "10.1.0.14".parse().unwrap() });
        let mut plane = FakePlane::fresh(&inventory);
        plane
            .set_state(9, State(State::ALIVE | State::ENABLED | State::RETIRED | State::UP), "1 probe passed")
            .unwrap();
        let (changed_ms, why) = (1_020_000, "provider-a/a3 left the configuration".to_owned());
        plane.transitions.insert(1, Transition { changed_ms, why, ..transition.clone() });
        plane.held.extend(held.map(|held| (9, held)));
        let at = Clock { unix_ms: DAY, boot_ms: 1_080_000 };
        let earlier = Sample::take(&inventory, &plane, Clock { unix_ms: DAY - 1000, boot_ms: 1_079_000 });
        plane.packets = 90;
        let now = Sample::take(&inventory, &plane, at);
        let daemon = DaemonStatus {
            pid: 4242,
            version: "0.1.0".to_owned(),
            started: DAY - 7_200_000,
            config: "/etc/edge/edge.toml".to_owned(),
            refused: None,
        };
        let mut status = build(&inventory, &plane, Some(&earlier), &now, Some(daemon));
        // As most are: only some of the counts are not 0.
        status.services[0].flows.extend([("lookups".to_owned(), 0), ("insert_failed".to_owned(), 0)]);
        status.services[1].flows.values_mut().for_each(|count| *count = 0);
        status
    }

    fn waiting() -> Transition {
        Transition {
            differing: Some(312),
            records: 1204,
            next_ms: Some(1_318_700),
            last_ms: Some(1_320_500),
            ..Transition::default()
        }
    }

    #[test]
    fn a_backend_that_leaves() {
        let change = a_change(&waiting(), Some(Held { slots: 312, records: 340 }));
        insta::assert_snapshot!(render::status(&change, false));
    }

    #[test]
    fn when_owners_follow() {
        let mut shown = Vec::new();
        for (transition, held, daemon) in [
            (waiting(), Some(Held { slots: 1, records: 0 }), true),
            (Transition { last_ms: Some(1_318_800), ..waiting() }, Some(Held { slots: 0, records: 1 }), true),
            (Transition { differing: Some(0), next_ms: None, last_ms: None, ..waiting() }, Some(Held::default()), true),
            (Transition { next_ms: None, last_ms: None, ..waiting() }, None, true),
            (Transition::default(), None, true),
            (Transition { next_ms: None, last_ms: None, ..waiting() }, None, false),
            (Transition { differing: Some(0), ..Transition::default() }, None, false),
        ] {
            let mut status = a_change(&transition, held);
            status.daemon = status.daemon.filter(|_| daemon);
            shown.push(transitions(&status, false) + &leaving(&status.leaving, false));
        }
        insta::assert_snapshot!(shown.join("---\n"));
    }

    #[test]
    fn json_is_stable() {
        let Status { services, leaving, .. } = a_change(&waiting(), Some(Held { slots: 312, records: 340 }));
        let web = &services[0];
        insta::assert_snapshot!(serde_json::to_string_pretty(&(&web.transition, &web.flows, leaving)).unwrap());
    }

    #[test]
    fn nothing_is_shown_of_nothing() {
        let mut settled = a_change(&waiting(), Some(Held::default()));
        settled.services[0].transition = None;
        settled.services[0].flows.clear();
        let shown = [transitions(&settled, true), leaving(&settled.leaving, true), counts(&settled.services, true)];
        assert_eq!(shown, ["", "", ""]);
    }
}
