//! Evacuations of pools in plain memory: which services leave, which stay, and which return.

use edge_common::abi::State;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    control::{
        data_plane::DataPlane as _,
        events::Events,
        fixture::{FakeDataPlane, inventory},
        operations::{OperationError, Outcome},
    },
    plan::{self, Admin},
};

const NOW: Moment = Moment { boot_ms: 1_000_000, unix_ms: 1_700_000_000_000 };

struct Rig {
    inventory: Inventory,
    plane: FakeDataPlane,
    events: Events,
    evacuations: Vec<Evacuation>,
}

impl Rig {
    fn new() -> Self {
        let inventory = inventory();
        let plane = FakeDataPlane::fresh(&inventory);
        Self { inventory, plane, events: Events::new(), evacuations: Vec::new() }
    }

    fn evacuate(&mut self, pool: &str, wanted: &Wanted) -> Result<Outcome, OperationError> {
        let Self { inventory, plane, events, evacuations } = self;
        let condition = |_| plan::condition(State::default());
        let peaks = PeakRates::default();
        carry_out(inventory, plane, &condition, events, evacuations, Request { pool, wanted, now: NOW, peaks: &peaks })
    }

    fn bring_back(&mut self, pool: &str) -> Outcome {
        let Self { inventory, plane, events, evacuations } = self;
        let condition = |_| plan::condition(State::default());
        bring_back(inventory, plane, &condition, events, evacuations, pool, "ended by an operator").unwrap()
    }
}

fn over_to(first: u8, evacuate: bool) -> Failover {
    Failover { first, evacuate }
}

#[test]
fn services_with_another_pool_leave_and_return_and_others_are_left_alone() {
    let mut rig = Rig::new();
    let outcome = rig.evacuate("provider-a", &Wanted::default()).unwrap();
    assert!(outcome.changed);
    assert!(
        outcome.message.contains("service web: goes to pool provider-b (3 of 3 backends take new flows)"),
        "{}",
        outcome.message
    );
    assert!(outcome.message.ends_with("undo: edge-ctl return provider-a"), "{}", outcome.message);
    assert_eq!(rig.plane.failover(1), over_to(1, true));
    let back = rig.bring_back("provider-a");
    assert!(back.changed && back.warnings.is_empty(), "{back:?}");
    assert_eq!(rig.plane.failover(1), Failover::default());
    assert!(rig.evacuations.is_empty() && !rig.bring_back("provider-a").changed);

    // dns has no other pool, and web, which serves from provider-a, stays there.
    let outcome = rig.evacuate("provider-b", &Wanted::default()).unwrap();
    assert!(outcome.warnings[0].contains("no other pool: dns"), "{outcome:?}");
    assert!(outcome.message.contains("not touched, since another pool serves: web"), "{outcome:?}");
    assert_eq!(rig.plane.failover(2), Failover::default());
}

#[test]
fn drain_keeps_flows_and_a_time_ends_it() {
    let mut rig = Rig::new();
    let wanted = Wanted { drain: true, for_ms: Some(5000), reason: Some("maintenance".to_owned()), force: false };
    rig.evacuate("provider-a", &wanted).unwrap();
    assert_eq!(rig.plane.failover(1), over_to(1, false));
    assert_eq!(over(&rig.evacuations, NOW.boot_ms + 4999), None);
    assert_eq!(over(&rig.evacuations, NOW.boot_ms + 5000).map(|it| it.pool.as_str()), Some("provider-a"));
    // The clock starts anew after a reboot: the evacuation lasts at most as long as at first.
    assert_eq!(rig.evacuations[0].deadline.left(0), Some(std::time::Duration::from_secs(5)));
}

#[test]
fn force_takes_backends_away_and_return_gives_back_only_those() {
    let mut rig = Rig::new();
    let operation = crate::control::operations::Operation::Disable { backend: "b2".to_owned(), reason: None };
    let condition = |_| plan::condition(State::default());
    crate::control::operations::operate(&rig.inventory, &mut rig.plane, condition, &rig.events, &operation).unwrap();
    rig.evacuate("provider-b", &Wanted { force: true, ..Wanted::default() }).unwrap();
    let admin = |rig: &Rig, number| plan::admin(rig.plane.state(number));
    assert!([4, 5, 6].iter().all(|number| admin(&rig, *number) == Admin::Disabled));
    assert_eq!(rig.evacuations[0].backends, ["provider-b/b1", "provider-b/shared"]);
    rig.bring_back("provider-b");
    assert_eq!([4, 5, 6].map(|number| admin(&rig, number)), [Admin::Enabled, Admin::Disabled, Admin::Enabled]);
}

#[test]
fn a_repeated_evacuation_with_another_drain_takes_its_backends_along() {
    let admin = |rig: &Rig| [4, 5, 6].map(|number| plan::admin(rig.plane.state(number)));
    let drains = |drain| Wanted { force: true, drain, ..Wanted::default() };
    for (first, second) in [(true, false), (false, true)] {
        let mut rig = Rig::new();
        let taken = |drain| if drain { Admin::Drained } else { Admin::Disabled };
        rig.evacuate("provider-b", &drains(first)).unwrap();
        assert_eq!(admin(&rig), [taken(first); 3]);
        rig.evacuate("provider-b", &drains(second)).unwrap();
        assert_eq!(admin(&rig), [taken(second); 3]);
        let longer = Wanted { for_ms: Some(5000), ..drains(second) };
        assert!(rig.evacuate("provider-b", &longer).unwrap().changed);
        assert_eq!((rig.evacuations[0].deadline.for_ms, rig.evacuations[0].backends.len()), (Some(5000), 3));
        let back = rig.bring_back("provider-b");
        assert_eq!((admin(&rig), back.warnings), ([Admin::Enabled; 3], Vec::new()));
    }

    // A decision of an operator meanwhile is named.
    let mut rig = Rig::new();
    rig.evacuate("provider-b", &drains(true)).unwrap();
    let operation = crate::control::operations::Operation::Disable { backend: "b2".to_owned(), reason: None };
    let condition = |_| plan::condition(State::default());
    crate::control::operations::operate(&rig.inventory, &mut rig.plane, condition, &rig.events, &operation).unwrap();
    let back = rig.bring_back("provider-b");
    assert_eq!(admin(&rig), [Admin::Enabled, Admin::Disabled, Admin::Enabled]);
    assert!(back.warnings[0].contains("left as they are: provider-b/b2"), "{back:?}");
}

proptest! {
    /// Whatever is evacuated, repeated and brought back in whatever order: once all is back, all is as before.
    #[test]
    fn once_all_is_back_all_is_as_before(
        decided in vec(0..3_u8, 6),
        steps in vec((0..2_usize, any::<bool>(), any::<bool>(), any::<bool>()), 1..12),
    ) {
        const POOLS: [&str; 2] = ["provider-a", "provider-b"];
        let mut rig = Rig::new();
        for (number, decided) in (1..).zip(decided) {
            let admin = [Admin::Enabled, Admin::Drained, Admin::Disabled][usize::from(decided)];
            let before = rig.plane.state(number);
            rig.plane.set_state(number, plan::changed(before, admin, plan::condition(before)), "by an operator").unwrap();
        }
        let state = |rig: &Rig| {
            let admin: Vec<_> = (1..=6).map(|number| plan::admin(rig.plane.state(number))).collect();
            (admin, [1, 2].map(|number| rig.plane.failover(number)))
        };
        let before = state(&rig);
        for (pool, leaves, drain, force) in steps {
            if leaves {
                rig.evacuate(POOLS[pool], &Wanted { drain, force, ..Wanted::default() }).unwrap();
            } else {
                rig.bring_back(POOLS[pool]);
            }
        }
        for pool in POOLS {
            let back = rig.bring_back(pool);
            prop_assert_eq!(back.warnings, Vec::<String>::new());
        }
        prop_assert_eq!(state(&rig), before);
    }
}

#[test]
fn what_an_operator_did_before_comes_back_and_what_he_did_since_stays() {
    let mut rig = Rig::new();
    rig.plane.set_failover(1, over_to(1, false)).unwrap();
    // The service has left the pool already; its failover is not part of the evacuation.
    let outcome = rig.evacuate("provider-a", &Wanted::default()).unwrap();
    assert!(outcome.message.contains("another pool serves: web"), "{outcome:?}");
    assert_eq!(rig.bring_back("provider-a").warnings, [""; 0]);
    assert_eq!(rig.plane.failover(1), over_to(1, false));

    rig.plane.set_failover(1, Failover::default()).unwrap();
    rig.evacuate("provider-a", &Wanted::default()).unwrap();
    rig.plane.set_failover(1, Failover::default()).unwrap();
    let back = rig.bring_back("provider-a");
    assert!(back.warnings[0].contains("failed over otherwise since, and left as they are: web"), "{back:?}");
}

#[test]
fn both_pools_of_a_service_can_not_be_evacuated() {
    let mut rig = Rig::new();
    rig.evacuate("provider-a", &Wanted::default()).unwrap();
    let outcome = rig.evacuate("provider-b", &Wanted::default()).unwrap();
    assert!(!outcome.changed && outcome.message.contains("no other pool: web, dns"), "{outcome:?}");
    assert_eq!((rig.plane.failover(1), rig.evacuations.len()), (over_to(1, true), 1));
}

#[test]
fn names_and_reasons_are_checked() {
    let mut rig = Rig::new();
    assert!(matches!(rig.evacuate("provider-x", &Wanted::default()), Err(OperationError::Name(_))));
    let long = Wanted { reason: Some("x".repeat(257)), ..Wanted::default() };
    assert!(matches!(rig.evacuate("provider-a", &long), Err(OperationError::Reason { length: 257 })));
    assert!(rig.evacuations.is_empty());
}

#[test]
fn a_displaced_failover_whose_time_is_over_does_not_come_back() {
    // Failed over to provider-b, which is evacuated then; and to provider-b, while provider-a is evacuated.
    for (pool, evacuated, after) in
        [("provider-b", over_to(1, false), Failover::default()), ("provider-a", over_to(1, false), over_to(1, true))]
    {
        let mut rig = Rig::new();
        rig.plane.set_failover(1, over_to(1, false)).unwrap();
        rig.evacuate(pool, &Wanted { force: true, ..Wanted::default() }).unwrap();
        assert_eq!(rig.plane.failover(1), evacuated);
        assert!(displaces(&rig.evacuations, "web") && !displaces(&rig.evacuations, "dns"));
        let Rig { inventory, plane, events, evacuations } = &mut rig;
        end_displaced(inventory, plane, events, evacuations, "web").unwrap();
        assert_eq!(rig.plane.failover(1), after, "{pool}");
        assert!(!displaces(&rig.evacuations, "web"));
        assert!(rig.bring_back(pool).warnings.is_empty());
        assert_eq!(rig.plane.failover(1), Failover::default());
    }
}
