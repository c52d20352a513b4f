//! Incidents found in events.

use super::{EventKind::*, *};

/// Faults without an end event still exist.
const ALL: fn(Kind, &str) -> bool = |_, _| true;

/// Seconds since the start of a day, a kind, a subject.
fn event(at: f64, kind: EventKind, subject: &str) -> Event {
    #[expect(clippy::cast_possible_truncation, reason = "small")]
    let ms = (at * 1000.0) as i64;
    Event {
        at: 1_796_014_476_000_u64.saturating_add_signed(ms),
        kind,
        subject: subject.to_owned(),
        message: format!("{} {subject}", kind.name()),
        services: if subject == "a" { vec!["web".to_owned()] } else { Vec::new() },
        flows: Some(1_000_u64.saturating_add_signed(ms / 10)),
    }
}

pub(crate) fn outage() -> Vec<Event> {
    vec![
        event(-900.0, ConfigApplied, "generation 1"),
        event(-60.0, ConfigApplied, "generation 2"),
        event(0.0, BackendDown, "a/a1"),
        event(0.2, BackendDown, "a/a2"),
        event(0.3, PoolLeft, "a"),
        event(0.4, TransitionStarted, "web"),
        event(0.5, BackendDown, "a/a3"),
        event(40.0, PoolEvacuated, "a"),
        event(90.0, BackendUp, "a/a1"),
        event(91.0, BackendUp, "a/a2"),
        event(92.0, BackendUp, "a/a3"),
        event(120.0, PoolReturning, "a"),
        event(180.0, PoolReturned, "a"),
    ]
}

#[test]
fn the_story_of_an_outage() {
    let events = outage();
    let found = incidents(&events, None, &ALL);
    let [incident] = &found[..] else { panic!("one: {found:?}") };
    assert_eq!(incident.id, "20261130-045436");
    assert_eq!(incident.until, Some(events[12].at));
    assert_eq!(incident.first.subjects, ["a/a1", "a/a2", "a/a3"]);
    assert_eq!(incident.before.len(), 1, "fifteen minutes before is too long ago");
    let steps: Vec<_> = incident.steps.iter().map(|step| (step.part, step.kind)).collect();
    assert_eq!(
        steps,
        [
            (Part::Fault, BackendDown),
            (Part::Move, PoolLeft),
            (Part::Action, PoolEvacuated),
            (Part::Recovery, BackendUp),
            (Part::Move, PoolReturning),
            (Part::Recovery, PoolReturned)
        ]
    );
    assert_eq!(incident.new_flows, Some(18_000));
}

#[test]
fn one_that_goes_on_lists_what_is_still_wrong() {
    let events = outage();
    let found = incidents(&events[..9], Some(9_999), &ALL);
    assert_eq!((found[0].until, found[0].new_flows), (None, Some(8_999)));
    assert_eq!(found[0].open, ["backend a/a2", "backend a/a3", "service web"]);
}

#[test]
fn what_is_wrong_again_soon_is_the_same_and_later_another() {
    let flap = |again: f64| {
        let events =
            [event(0.0, BackendDown, "a/a1"), event(10.0, BackendUp, "a/a1"), event(10.0 + again, BackendDown, "a/a1")];
        incidents(&events, None, &ALL)
    };
    assert_eq!(flap(59.0).len(), 1);
    let two = flap(61.0);
    assert_eq!((two.len(), two[0].until.is_some(), two[1].until), (2, true, None));
    assert!(incidents(&[event(0.0, BackendUp, "a/a1"), event(1.0, BackendDrained, "a/a1")], None, &ALL).is_empty());
    assert!(incidents(&[], None, &ALL).is_empty());
}

#[test]
fn a_daemon_that_starts_anew_does_not_leave_it_open_for_ever() {
    let events = [
        event(0.0, Frozen, "health"),
        event(1.0, PoolLeft, "a"),
        event(2.0, DaemonStopped, "edge-ctl"),
        event(3.0, DaemonStarted, "edge-ctl"),
    ];
    let found = incidents(&events, None, &ALL);
    assert_eq!(found[0].until, Some(events[3].at));
}

#[test]
fn a_fault_that_has_ended_is_over_even_without_an_event() {
    let events = outage();
    let removed = |kind: Kind, name: &str| kind == Kind::Backend && name == "a/a2";
    let found = incidents(&events[..9], None, &removed);
    assert_eq!((found[0].until, &found[0].open[..]), (None, &["backend a/a2".to_owned()][..]));
    let found = incidents(&events[..9], None, &|_, _| false);
    assert_eq!(found[0].until, Some(events[8].at));
    // An incident does not include a fault that begins hours later, either.
    let mut later = events[..5].to_vec();
    later.push(event(9_000.0, BackendDown, "b/b1"));
    let found = incidents(&later, None, &ALL);
    assert_eq!((found.len(), &found[1].open[..]), (2, &["backend b/b1".to_owned()][..]));
}
