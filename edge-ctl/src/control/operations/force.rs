//! Health of a backend set by an operator, in place of the result of its probes.

#![deny(clippy::wildcard_enum_match_arm)]

use std::borrow::Cow;

use edge_common::abi::{BackendNumber, State};

use super::{OperationError, Outcome};
use crate::{
    control::{
        data_plane::DataPlane,
        events::{EventKind, Events},
        inventory::{Inventory, Named},
    },
    health::{Condition, Health},
    plan::{self, Admin, Word},
};

/// Sets the health, or with `None` leaves it to the probes again. It applies to the name: to all addresses, including
/// later ones.
pub(super) fn force(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    condition: impl Fn(BackendNumber) -> Condition,
    events: &Events,
    backend: &str,
    health: Option<Health>,
    reason: Option<&str>,
) -> Result<Outcome, OperationError> {
    let Named { name, numbers, retired } = inventory.backend(backend)?;
    let before: Vec<_> = numbers.iter().map(|number| plan::forced(plane.state(*number))).collect();
    if before.iter().all(|forced| *forced == health) {
        let message = match health {
            Some(health) => format!("{name} is forced {health} by an operator already"),
            None => format!("the health of {name} is not forced: its probes decide already"),
        };
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    let because = reason.map_or(Cow::Borrowed(""), |reason| format!(": {reason}").into());
    let why = match health {
        Some(health) => format!("forced {health} by an operator{because}"),
        None => format!("left to its probes again by an operator{because}"),
    };
    let mut cut_off = false;
    for number in &numbers {
        let found = condition(*number);
        cut_off |= found.cut_off;
        let change = |before| plan::with_word(before, Word { forced: health, ..plan::word(before) }, found);
        // The reason of a drain or a disable stays.
        let admin = plan::admin(plane.state(*number));
        let kept = Some(plane.why(*number).reason).filter(|reason| admin != Admin::Enabled && !reason.is_empty());
        plane.change_state(*number, change, kept.as_deref().unwrap_or(&why))?;
    }
    let kind = if health.is_some() { EventKind::HealthForced } else { EventKind::HealthAuto };
    events.report(kind, &name, why);
    let states: Vec<_> = numbers.iter().map(|number| plane.state(*number)).collect();
    let becomes = match health {
        Some(Health::Down) => "is forced down: it gets no packets, and its established flows move".to_owned(),
        Some(_) if cut_off => "is forced up, but unreachable now: it serves once packets can be sent to it".to_owned(),
        Some(_) => {
            "is forced up, whatever its probes find; while it is unreachable (no link, no route, no neighbour), it is \
             out all the same"
                .to_owned()
        }
        None => format!("follows its probes again: {}", probed_health(&states)),
    };
    let but = states.first().map_or("", |state| match plan::admin(*state) {
        Admin::Enabled if retired => "; it is retired: it gets no new flows",
        Admin::Enabled => "",
        Admin::Drained => "; it stays drained",
        Admin::Disabled => "; it stays disabled",
    });
    let undo = match before.first().copied().flatten() {
        Some(health) => health.name(),
        None => "auto",
    };
    let undo = format!("undo: edge-ctl health {name} {undo}");
    Ok(Outcome { changed: true, message: format!("{name} {becomes}{but}\n{undo}"), warnings: Vec::new() })
}

/// The backends' health by their probes, the worst first.
fn probed_health(states: &[State]) -> &'static str {
    let any = |bits| states.iter().any(|state| state.has_any(bits));
    if any(State::DOWN) {
        "down"
    } else if any(State::UP) {
        "up"
    } else {
        "not known yet, which serves"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        fixture::{FakeDataPlane, inventory, two_addresses},
        operations::{Operation, operate},
    };

    fn force_health(plane: &mut FakeDataPlane, found: impl Into<Condition>, health: Option<Health>) -> Outcome {
        let (backend, reason) = ("a1".to_owned(), Some("disk".to_owned()));
        let (found, operation) = (found.into(), Operation::Health { backend, health, reason });
        operate(&inventory(), plane, |_| found, &Events::new(), &operation).unwrap()
    }

    #[test]
    fn a_word_is_kept_undone_and_reported_once() {
        let mut plane = FakeDataPlane::fresh(&inventory());
        let down = force_health(&mut plane, Health::Up, Some(Health::Down));
        assert!(down.changed && down.message.ends_with("undo: edge-ctl health provider-a/a1 auto"), "{}", down.message);
        assert_eq!(plane.state(1), State(State::ENABLED | State::DOWN | State::FORCED_DOWN));
        assert_eq!(plane.why(1).reason, "forced down by an operator: disk");
        assert!(!force_health(&mut plane, Health::Up, Some(Health::Down)).changed);
        let up = force_health(&mut plane, Health::Down, Some(Health::Up));
        assert!(up.message.ends_with("undo: edge-ctl health provider-a/a1 down"), "{}", up.message);
        assert!(plane.state(1).has_all(State::NEW | State::UP | State::FORCED_UP));
        let auto = force_health(&mut plane, Health::Down, None);
        assert!(auto.message.contains("again: down"), "{}", auto.message);
        assert_eq!(plane.state(1), State(State::ENABLED | State::DOWN));
    }

    #[test]
    fn nothing_is_sent_where_nothing_can_be() {
        let mut plane = FakeDataPlane::fresh(&inventory());
        let up = force_health(&mut plane, Condition::CUT_OFF, Some(Health::Up));
        assert!(up.message.contains("unreachable now"), "{}", up.message);
        assert_eq!(plane.state(1), State(State::ENABLED | State::DOWN | State::FORCED_UP));
    }

    #[test]
    fn a_drained_backend_stays_drained_and_its_reason_too() {
        let mut plane = FakeDataPlane::fresh(&inventory());
        let drain = Operation::Drain { backend: "a1".to_owned(), reason: Some("fans".to_owned()) };
        operate(&inventory(), &mut plane, |_| Health::Up.into(), &Events::new(), &drain).unwrap();
        let down = force_health(&mut plane, Health::Up, Some(Health::Down));
        assert!(down.message.contains("it stays drained"), "{}", down.message);
        assert_eq!(plane.state(1), State(State::ENABLED | State::DRAINED | State::DOWN | State::FORCED_DOWN));
        assert_eq!(plane.why(1).reason, "drained by an operator: fans");
    }

    #[test]
    fn a_pool_that_loses_its_last_backend_is_warned_of() {
        let mut plane = FakeDataPlane::fresh(&inventory());
        assert!(
            force_health(&mut plane, Health::Up, Some(Health::Down)).warnings.is_empty(),
            "two of two needed are left"
        );
        let operation = Operation::Health { backend: "a2".to_owned(), health: Some(Health::Down), reason: None };
        let outcome = operate(&inventory(), &mut plane, |_| Health::Up.into(), &Events::new(), &operation).unwrap();
        assert!(outcome.warnings[0].contains("service web goes to pool provider-b"), "{:?}", outcome.warnings);
    }

    #[test]
    fn both_addresses_of_a_backend_are_meant() {
        let inventory = two_addresses();
        let mut plane = FakeDataPlane::fresh(&inventory);
        let operation = Operation::Health { backend: "a/a1".to_owned(), health: Some(Health::Down), reason: None };
        operate(&inventory, &mut plane, |_| Health::Up.into(), &Events::new(), &operation).unwrap();
        assert!([1, 2].iter().all(|number| plane.state(*number).has_all(State::FORCED_DOWN)));
    }
}
