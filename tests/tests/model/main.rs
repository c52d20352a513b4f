//! A flow whose backend lives never moves: random upheaval, judged by a plain model of who owns each flow.
//!
//! A run is a sequence of packets, changes and looks that a seed fixes ([`run`]): flows of all kinds of services in both IP
//! versions that live, send at least once a linger and end, floods of spoofed packets, and backends that die, recover, are
//! drained, disabled, added, removed and weighed anew, pools that fall below `min_healthy`, failovers of both kinds, changes
//! that are undone at once, and controllers that die in any phase and start again ([`upheaval`]). A controller that does what
//! it must ([`controller`]) moves owners by the real `follow`; the packets go through the host pipeline, and in some of the
//! tests through the real program as well, which must do the same at each step ([`edge`]). Whose each flow is and whether its
//! backend has lived is known apart from all that ([`truth`]), and by it each packet is judged ([`judge`]). That this sees
//! what goes wrong is tested, too: by breaking one rule at a time.
//!
//! `FLOWS_STEPS` and `FLOWS_SEED` in the environment make the runs longer and others, for example a million steps each on
//! the host and in the kernel:
//!
//! ```text
//! FLOWS_STEPS=1000000 FLOWS_SEED=4711 cargo test -p edge-tests --test flows_model -- --nocapture
//! ```

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
mod truth;
mod upheaval;

use edge_common::abi::FlowCount;
use edge_tests::namespace::in_namespace;
use plan::{Broken, Plan};
use report::Report;
use run::Run;

/// Steps of each test, unless `FLOWS_STEPS` says otherwise.
const STEPS: u64 = 120_000;
/// Steps of one run.
const RUN: u64 = 30_000;
/// The first seed, unless `FLOWS_SEED` says otherwise.
const SEED: u64 = 1;
/// Records that there is room for when there is little.
const ROOMS: [usize; 5] = [0, 1, 10, 50, 200];

/// Runs that have once found something:
/// - `search` read behind a small pool's member list, in the moment between its last backend's death and the count, and for
///   as long as a controller was dead that died in this moment.
const REGRESSIONS: [Plan; 3] = [Plan::roomy(39, 3_000), Plan::roomy(15, 6_000), Plan::roomy(26, 60_000)];

fn from_environment(name: &str, default: u64) -> u64 {
    let Ok(value) = std::env::var(name) else { return default };
    value.parse().unwrap_or_else(|error| panic!("{name}={value}: {error}"))
}

/// As many runs as it takes, each with a seed of its own.
fn run_all(kernel: bool, plan: impl Fn(u64) -> Plan) -> Report {
    let (steps, seed) = (from_environment("FLOWS_STEPS", STEPS), from_environment("FLOWS_SEED", SEED));
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
        ("owner followed", done.moves),
        ("record was collected", done.collected),
        ("service was stable", done.stable),
        ("controller died", done.restarts),
        ("backend was forgotten", report.forgotten),
        ("flow lost its backend", report.orphaned),
        ("packet came while all was well", report.at_rest),
    ] {
        assert!(count > 0, "no {what}: {report:?}");
    }
}

/// Nobody moves whose backend lives, but for those whose backend had died and was back before they sent again: while it was
/// dead, a flow that started and could not be recorded may have taken the slot over.
fn with_little_room(kernel: bool) {
    let plan = |seed: u64| Plan::tight(seed, RUN, ROOMS[usize::try_from(seed).expect("a small seed") % ROOMS.len()]);
    let report = run_all(kernel, plan);
    assert!(report.moved.is_empty(), "flows moved although their backends lived:\n{}", report.moved.join("\n"));
    assert!(report.misplaced.is_empty(), "flows started elsewhere:\n{}", report.misplaced.join("\n"));
    let handful = 3 + report.steps / 100_000;
    let found = report.shaken.join("\n");
    println!("flows whose backend had died for a moment, and whose slot was taken over in it:\n{found}");
    assert!(report.shaken.len() as u64 <= handful, "more than {handful}:\n{found}");
    for what in FlowCount::ALL {
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
fn a_spent_budget_is_like_a_full_table() {
    // By the host's clock, which is the run's.
    let report = run_all(false, |seed| Plan { records_per_second: 3, ..Plan::tight(seed, RUN, 200) });
    assert!(report.moved.is_empty(), "{}", report.moved.join("\n"));
    assert!(report.count(FlowCount::KeptAtOwner) > 0 && report.count(FlowCount::RecordedAtNew) > 0);
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

/// With a rule broken flows move that do not move while it is kept, and the model sees it.
fn is_missed(broken: Broken, plans: &[Plan]) {
    let run = |broken: Broken| {
        let moved = |plan: &Plan| Run::new(plan.broken(broken), false).run().moved;
        plans.iter().flat_map(moved).collect::<Vec<_>>()
    };
    let kept = run(Broken::Nothing);
    assert!(kept.is_empty(), "with all rules kept:\n{}", kept.join("\n"));
    let moved = run(broken);
    println!("{broken:?}: {} flows moved in {} runs", moved.len(), plans.len());
    assert!(moved.len() >= 5, "{broken:?} is hardly seen: {moved:?}");
}

#[test]
fn services_without_records_break_flows() {
    is_missed(Broken::Stateless, &[Plan::roomy(SEED, RUN)]);
}

#[test]
fn following_where_records_were_missed_breaks_flows() {
    is_missed(Broken::MissedIgnored, &[Plan::tight(SEED, RUN, 20)]);
}

#[test]
fn following_per_backend_breaks_flows() {
    is_missed(Broken::FollowPerBackend, &[0, 1, 2].map(|more| Plan::roomy(SEED + more, RUN)));
}

#[test]
fn following_at_once_breaks_flows() {
    is_missed(Broken::FollowAtOnce, &[Plan::roomy(SEED, RUN)]);
}

#[test]
fn changes_that_nobody_counts_break_flows() {
    is_missed(Broken::ChangesUncounted, &[0, 2, 4, 6].map(|more| Plan::roomy(SEED + more, 2 * RUN)));
}

#[test]
fn a_flag_that_is_cleared_too_early_breaks_flows() {
    is_missed(Broken::ClearedUnscanned, &[Plan::roomy(SEED, RUN)]);
}

#[test]
fn records_that_expire_too_early_break_flows() {
    is_missed(Broken::ExpiredEarly, &[Plan::roomy(SEED, RUN)]);
}

#[test]
fn numbers_that_are_given_away_too_early_break_flows() {
    is_missed(Broken::NumberGivenAway, &[Plan::roomy(SEED, RUN)]);
}
