//! Checks that the model notices each broken rule.
//!
//! `cargo xtask test` runs these tests only if the rules or the model have changed since the tests last passed.

use crate::{
    RUN, SEED,
    plan::{Broken, Plan},
    run::Run,
};

/// Checks that breaking the rule moves flows that would not move otherwise, and that the model notices.
fn breaks_flows(broken: Broken, plans: &[Plan]) {
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
    breaks_flows(Broken::Stateless, &[Plan::roomy(SEED, RUN)]);
}

#[test]
fn handing_over_unrecorded_slots_breaks_flows() {
    breaks_flows(Broken::UnrecordedIgnored, &[Plan::tight(SEED, RUN, 16)]);
}

#[test]
fn handing_over_per_backend_breaks_flows() {
    breaks_flows(Broken::HandoverPerBackend, &[0, 1, 2].map(|more| Plan::roomy(SEED + more, RUN)));
}

#[test]
fn handing_over_at_once_breaks_flows() {
    breaks_flows(Broken::HandoverAtOnce, &[Plan::roomy(SEED, RUN)]);
}

#[test]
fn changes_that_nobody_counts_break_flows() {
    breaks_flows(Broken::ChangesUncounted, &[0, 2, 4, 6].map(|more| Plan::roomy(SEED + more, 2 * RUN)));
}

#[test]
fn a_flag_that_is_cleared_too_early_breaks_flows() {
    breaks_flows(Broken::ClearedUnscanned, &[Plan::roomy(SEED, RUN)]);
}

/// Checks that breaking the rule starts flows elsewhere, and that the model notices.
fn misplaces_flows(broken: Broken, plans: &[Plan]) {
    let run = |broken: Broken| {
        let misplaced = |plan: &Plan| Run::new(plan.broken(broken), false).run().misplaced;
        plans.iter().flat_map(misplaced).collect::<Vec<_>>()
    };
    let placed = run(Broken::Nothing);
    assert!(placed.is_empty(), "with all rules kept:\n{}", placed.join("\n"));
    let misplaced = run(broken);
    println!("{broken:?}: {} flows started elsewhere in {} runs", misplaced.len(), plans.len());
    assert!(misplaced.len() >= 5, "{broken:?} is hardly seen: {misplaced:?}");
}

#[test]
fn slots_that_are_looked_at_too_late_place_flows_elsewhere() {
    let plan = Plan::roomy(SEED, RUN);
    misplaces_flows(Broken::LookedAtLate, &[plan]);
    let moved = Run::new(plan.broken(Broken::LookedAtLate), false).run().moved;
    assert!(moved.is_empty(), "those that have started stay:\n{}", moved.join("\n"));
}

#[test]
fn publications_whose_picks_nobody_foresees_place_flows_elsewhere() {
    misplaces_flows(Broken::PublishedUnforeseen, &[0, 1, 2].map(|more| Plan::roomy(SEED + more, RUN)));
}

#[test]
fn entries_that_name_a_shared_table_for_too_long_place_flows_elsewhere() {
    misplaces_flows(Broken::SeparatedLate, &[Plan::roomy(SEED, 2 * RUN)]);
}

#[test]
fn records_that_expire_too_early_break_flows() {
    breaks_flows(Broken::ExpiredEarly, &[Plan::roomy(SEED, RUN)]);
}

#[test]
fn starts_that_count_at_once_break_flows() {
    breaks_flows(Broken::TentativeBelieved, &[0, 1, 2, 3, 4, 5].map(|more| Plan::attacked(SEED + more, RUN)));
}

#[test]
fn resets_that_are_believed_break_flows() {
    breaks_flows(Broken::ResetBelieved, &[0, 1, 2].map(|more| Plan::attacked(SEED + more, RUN)));
}

#[test]
fn starts_that_replace_records_break_flows() {
    breaks_flows(Broken::StartReplaces, &[0, 1, 2].map(|more| Plan::attacked(SEED + more, RUN)));
}

#[test]
fn numbers_that_are_given_away_too_early_break_flows() {
    breaks_flows(Broken::NumberGivenAway, &[Plan::roomy(SEED, RUN)]);
}
