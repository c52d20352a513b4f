//! A flow whose backend lives never moves: random changes, judged by a simple model of each flow's backend.
//!
//! A run is a sequence of packets, changes and controller passes that a seed determines ([`run`]). Flows of all kinds
//! of services in both IP versions live, send at least once per idle timeout, and end; floods of spoofed packets
//! arrive; backends die, recover, are drained, disabled, added, removed and reweighted; pools fall below `min_healthy`;
//! services fail over in both ways; changes are undone at once; and controllers die in any phase and start again
//! ([`upheaval`]). Stable services share tables of slots ([`shared`]). A minimal controller ([`controller`]) hands slots over by the real `handover`. The packets go
//! through the host pipeline, and in some tests also through the real program, which must behave the same at each step
//! ([`edge`]). A reference keeps each flow's backend and whether the backend has lived ([`truth`]), and each packet is
//! judged by it ([`judge`]). Further tests ([`broken`]) break one rule at a time, and check that the model notices.
//!
//! With `EDGE_TEST_LONG=1` each test makes a million steps. The environment variables `FLOWS_STEPS` and `FLOWS_SEED` set
//! another number of steps and the seed:
//!
//! ```text
//! FLOWS_STEPS=3000000 FLOWS_SEED=4711 cargo test -p edge-tests --test model -- --nocapture
//! ```

#![warn(clippy::wildcard_enum_match_arm, reason = "a new exit must not fall into an old arm")]

mod broken;
mod controller;
mod edge;
mod flow;
mod judge;
mod plan;
mod population;
mod random;
mod report;
mod run;
mod scene;
mod shared;
mod truth;
mod upheaval;

use edge_common::{abi::FlowCount, flow_table};
use edge_tests::{lab::extent::extent, namespace::in_namespace};
use plan::Plan;
use report::Report;
use run::Run;

/// Default numbers of steps of each test, without `FLOWS_STEPS`: of a normal run, and with `EDGE_TEST_LONG=1`.
const STEPS: [u64; 2] = [120_000, 1_000_000];
/// Number of steps of one run.
const RUN: u64 = 30_000;
/// Default of the first seed, without `FLOWS_SEED`.
const SEED: u64 = 1;
/// Sizes of small flow tables.
const ROOMS: [usize; 5] = [0, 1, 16, 64, 256];

/// Runs that once found a bug:
/// - `search` read beyond a small pool's member list, between the death of its last backend and the update of its
///   count, and for as long as a controller that died at that point was down.
const REGRESSIONS: [Plan; 3] = [Plan::roomy(39, 3_000), Plan::roomy(15, 6_000), Plan::roomy(26, 60_000)];

/// A time of a run in the flow table's units.
fn units(ms: u64) -> u32 {
    flow_table::units(ms * 1_000_000)
}

fn from_environment(name: &str, default: u64) -> u64 {
    let Ok(value) = std::env::var(name) else { return default };
    value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}"))
}

/// Makes runs, each with its own seed, until the number of steps is reached.
fn run_all(kernel: bool, plan: impl Fn(u64) -> Plan) -> Report {
    let [short, long] = STEPS;
    let (steps, seed) = (from_environment("FLOWS_STEPS", extent(short, long)), from_environment("FLOWS_SEED", SEED));
    let mut sum = Report::default();
    for seed in (seed..).take(usize::try_from(steps.div_ceil(RUN)).expect("a number of runs")) {
        sum.add(Run::new(plan(seed), kernel).run());
    }
    println!("{sum:?}");
    sum
}

fn with_room(kernel: bool) {
    let report = run_all(kernel, |seed| Plan::roomy(seed, RUN));
    assert!(report.moved.is_empty(), "flows moved although their backends lived:\n{}", report.moved.join("\n"));
    assert!(report.shaken.is_empty(), "flows were found again, and then moved:\n{}", report.shaken.join("\n"));
    assert!(report.misplaced.is_empty(), "flows started elsewhere:\n{}", report.misplaced.join("\n"));
    for what in [FlowCount::KeptAtOwner, FlowCount::InsertFailed, FlowCount::OwnerTakenOver] {
        assert_eq!(report.count(what), 0, "{} although there was room", what.name());
    }
    for what in [FlowCount::Hits, FlowCount::RecordedAtNew, FlowCount::RecordedAtOwner, FlowCount::StaleRemoved] {
        assert!(report.count(what) > 0, "nothing was {}", what.name());
    }
    let done = report.done;
    for (what, count) in [
        ("slot was handed over", done.moves),
        ("record was collected", done.collected),
        ("service was stable", done.stable),
        ("service shared a table", done.shared),
        ("controller died", done.restarts),
        ("slot was not concerned by a change of its service", done.spared),
        ("backend was forgotten", report.forgotten),
        ("flow lost its backend", report.orphaned),
        ("packet came while all was well", report.at_rest),
        ("packet was forged", report.forged),
    ] {
        assert!(count > 0, "no {what}: {report:?}");
    }
}

/// No flow with a living backend moves, except flows whose backend died and came back between two of their packets:
/// while the backend was dead, a new flow that could not be recorded may have taken the slot over.
fn with_little_room(kernel: bool) {
    let plan = |seed: u64| Plan::tight(seed, RUN, ROOMS[usize::try_from(seed).expect("a small seed") % ROOMS.len()]);
    let report = run_all(kernel, plan);
    assert!(report.moved.is_empty(), "flows moved although their backends lived:\n{}", report.moved.join("\n"));
    assert!(report.misplaced.is_empty(), "flows started elsewhere:\n{}", report.misplaced.join("\n"));
    let handful = 3 + report.steps / 100_000;
    let found = report.shaken.join("\n");
    println!("flows whose backend had died for a moment, and whose slot was taken over in it:\n{found}");
    assert!(report.shaken.len() as u64 <= handful, "more than {handful}:\n{found}");
    // No service of the model uses connection IDs or translates, and not every table has a limit.
    let not_here = [FlowCount::ByConnectionId, FlowCount::UnknownConnectionId, FlowCount::OverLimit, FlowCount::Untold];
    for what in FlowCount::ALL.into_iter().filter(|what| !not_here.contains(what)) {
        assert!(report.count(what) > 0, "nothing was {}", what.name());
    }
}

#[test]
fn with_room_for_records_no_flow_moves() {
    with_room(false);
}

#[test]
fn with_room_for_records_no_flow_moves_in_the_kernel_either() {
    in_namespace(|| with_room(true));
}

#[test]
fn with_full_tables_no_flow_moves_whose_backend_has_lived_throughout() {
    with_little_room(false);
}

#[test]
fn with_full_tables_the_kernel_does_the_same() {
    in_namespace(|| with_little_room(true));
}

#[test]
fn an_exceeded_rate_limit_is_like_a_full_table() {
    // On the host alone, whose clock is the run's.
    let report = run_all(false, |seed| Plan { records_per_second: 3, ..Plan::tight(seed, RUN, 256) });
    assert!(report.moved.is_empty(), "{}", report.moved.join("\n"));
    for what in [FlowCount::KeptAtOwner, FlowCount::RecordedAtNew, FlowCount::OverLimit] {
        assert!(report.count(what) > 0, "nothing was {}", what.name());
    }
}

#[test]
fn what_was_once_found_stays_fixed() {
    for plan in REGRESSIONS {
        let Report { moved, shaken, misplaced, .. } = Run::new(plan, false).run();
        assert!(
            [&moved, &shaken, &misplaced].iter().all(|found| found.is_empty()),
            "{moved:?} {shaken:?} {misplaced:?}"
        );
    }
}
