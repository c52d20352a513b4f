//! The state after a change: services in transition, retired backends, and counts of flow records.

use std::time::Duration;

use edge_common::abi::FlowCount;

use super::{backends::backend_state, rates, shaded};
use crate::cli::table::{Cell, Shade, Table, age};
use crate::control::status::{RetiredStatus, ServiceStatus, Status, TransitionStatus, UnrecordedStatus};

/// The services in transition; empty when all are stable.
pub(super) fn transitions(status: &Status, colour: bool) -> String {
    let mut rows = Table::new(colour, ["TRANSITION", "FOR", "SLOTS", "RECORDS", "HANDOVER", "WHY"]);
    for service in &status.services {
        let Some(transition) = &service.transition else { continue };
        rows.row([
            Cell::from(&service.name),
            Cell::from(transition.for_seconds.map_or("-".to_owned(), age)),
            Cell::from(number(transition.slots_differing)),
            Cell::from(transition.records),
            Cell::from(handover(transition, status.daemon.is_some())),
            Cell::from(&transition.why),
        ]);
    }
    rows.finish()
}

/// Services whose new flows are not all recorded; empty if there are none.
pub(super) fn unrecorded(services: &[ServiceStatus], colour: bool) -> String {
    let mut rows = Table::new(colour, ["NOT RECORDED", "FOR", "NEW FLOWS"]);
    for service in services {
        let Some(UnrecordedStatus { for_seconds, kept, taken_over, of, why, .. }) = &service.unrecorded else {
            continue;
        };
        let share = |flows: u64| format!("{} % of new flows ({flows} of {of})", (flows * 100).div_ceil((*of).max(1)));
        let mut parts = Vec::new();
        if *kept > 0 {
            parts.push(format!("{} stay with their slots' owners", share(*kept)));
        }
        if *taken_over > 0 {
            parts.push(format!(
                "{} took their slots over from owners that take none (flows of these owners without a record moved)",
                share(*taken_over)
            ));
        }
        let text = format!("{}: {why}", parts.join("; "));
        rows.row([Cell::from(&service.name), shaded(&age(*for_seconds), Shade::Yellow), Cell::from(text)]);
    }
    rows.finish()
}

/// The time when the remaining slots are handed over.
fn handover(transition: &TransitionStatus, daemon: bool) -> String {
    match (transition.slots_differing, transition.next_handover_seconds, transition.last_handover_seconds) {
        (Some(0), ..) => "done".to_owned(),
        _ if !daemon => "once a daemon runs".to_owned(),
        (None, ..) => "-".to_owned(),
        (Some(_), Some(next), last) => {
            let (next, last) = (age(whole(next)), age(whole(last.unwrap_or(next))));
            if next == last { format!("in {next}") } else { format!("in {next} to {last}") }
        }
        (Some(_), None, _) => "no backend takes their flows".to_owned(),
    }
}

/// Retired backends that still have flows; empty when there are none.
pub(super) fn retired(retired: &[RetiredStatus], colour: bool) -> String {
    let header = ["RETIRED", "ADDRESS", "STATE", "FOR", "SLOTS", "RECORDS", "PKT/S", "BIT/S", "FLOWS/S", "WHY"];
    let mut rows = Table::new(colour, header);
    for backend in retired {
        let (state, shade) = backend_state(backend.state, backend.health);
        let [packets, bits, flows] = rates(&backend.traffic);
        rows.row([
            Cell::from(&backend.name),
            Cell::from(&backend.address),
            shaded(state, shade),
            Cell::from(backend.for_seconds.map_or("-".to_owned(), age)),
            Cell::from(number(backend.slots)),
            Cell::from(number(backend.records)),
            packets,
            bits,
            flows,
            Cell::from(&backend.reason),
        ]);
    }
    rows.finish()
}

/// Counts of the packet path's operations on flow records; empty if all are 0.
pub(super) fn counts(services: &[ServiceStatus], colour: bool) -> String {
    let mut rows = Table::new(colour, ["FLOW RECORDS", "SO FAR"]);
    for service in services {
        let counted = FlowCount::ALL.iter().map(|what| what.name()).filter_map(|name| {
            let count = service.flows.get(name).filter(|count| **count > 0)?;
            Some(format!("{name} {count}"))
        });
        let counted: Vec<_> = counted.collect();
        if !counted.is_empty() {
            rows.row([Cell::from(&service.name), Cell::from(counted.join(", "))]);
        }
    }
    rows.finish()
}

/// Whole seconds, rounded up: an event that is due in half a second is not due now.
fn whole(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds.ceil()).unwrap_or_default().as_secs()
}

/// The number, or a dash if nothing was counted.
fn number(count: Option<impl ToString>) -> String {
    count.map_or("-".to_owned(), |count| count.to_string())
}

#[cfg(test)]
mod tests {
    use edge_common::abi::State;

    use super::*;
    use crate::{
        bpf::{Held, Transition},
        cli::render,
        control::{
            data_plane::DataPlane as _,
            fixture::{FakeDataPlane, inventory},
            headline::headline,
            status::{Clock, DaemonStatus, Sample, build, show_unrecorded},
        },
        plan::RetiredRecord,
    };

    const DAY: u64 = 1_763_424_000_000;

    /// A status a minute after a backend was removed from the configuration, with service `web` in this `transition`.
    fn a_change(transition: &Transition, held: Option<Held>) -> Status {
        let mut inventory = inventory();
        let (pool, name) = ("provider-a".to_owned(), "a3".to_owned());
        inventory.retired.push(RetiredRecord {
            pool,
            name,
            number: 9,
            address: "10.1.0.14".parse().unwrap(),
            port: None,
            server: None,
        });
        let mut plane = FakeDataPlane::fresh(&inventory);
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
            probes: None,
            refused: None,
            program: None,
            loading: false,
            state_error: None,
            repaired: 0,
            frozen: None,
            http: None,
            notify: Vec::new(),
        };
        let mut status = build(&inventory, &plane, Some(&earlier), &now, Some(daemon));
        // Mostly only some of the counts are not 0.
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
    fn a_retired_backend() {
        let change = a_change(&waiting(), Some(Held { slots: 312, records: 340 }));
        insta::assert_snapshot!(render::status(&headline(&change), &change, false));
    }

    #[test]
    fn when_slots_are_handed_over() {
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
            shown.push(transitions(&status, false) + &retired(&status.retired, false));
        }
        insta::assert_snapshot!(shown.join("---\n"));
    }

    #[test]
    fn new_flows_that_are_not_recorded() {
        let mut status = a_change(&waiting(), Some(Held { slots: 312, records: 340 }));
        let of = |kept, taken_over| UnrecordedStatus {
            since: DAY - 90_000,
            for_seconds: 90,
            kept,
            taken_over,
            of: 2000,
            why: "the flow table is full".to_owned(),
        };
        let mut shown = Vec::new();
        for (kept, taken_over) in [(40, 0), (1, 20), (0, 2000)] {
            let mut services = status.services.clone();
            show_unrecorded(&mut services, "web", &of(kept, taken_over));
            shown.push(unrecorded(&services, false));
        }
        show_unrecorded(&mut status.services, "web", &of(40, 0));
        assert!(render::status(&headline(&status), &status, false).contains(&shown[0]));
        shown.push(serde_json::to_string_pretty(&status.services[0].unrecorded).unwrap());
        insta::assert_snapshot!(shown.join("---\n"));
    }

    #[test]
    fn json_is_stable() {
        let Status { services, retired, .. } = a_change(&waiting(), Some(Held { slots: 312, records: 340 }));
        let web = &services[0];
        insta::assert_snapshot!(serde_json::to_string_pretty(&(&web.transition, &web.flows, retired)).unwrap());
    }

    #[test]
    fn nothing_is_shown_of_nothing() {
        let mut stable = a_change(&waiting(), Some(Held::default()));
        stable.services[0].transition = None;
        stable.services[0].flows.clear();
        let shown = [transitions(&stable, true), retired(&stable.retired, true), counts(&stable.services, true)];
        assert_eq!(shown, ["", "", ""]);
    }
}
