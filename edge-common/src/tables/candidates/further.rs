//! Third and fourth candidates: drawn by weight among the members that are not yet candidates of the slot.

use super::{
    Candidates, MemberIndex, NOBODY,
    draws::{DRAWS, Draws, random},
    roster::Roster,
};

/// All candidates of each slot, from its first and second ones.
pub(super) fn complete(
    roster: &Roster,
    first: &[MemberIndex],
    second: &[MemberIndex],
    draws: Draws,
) -> Vec<Candidates> {
    let complete_slot = |slot: usize| {
        let mut candidates = [first[slot], second[slot], NOBODY, NOBODY];
        // Where the drawn member is a candidate already, its heir is the next best, as it is drawn by weight among the others.
        let mut drawn = draws.of(slot).flat_map(|at| [first[at], second[at]]);
        for i in 2..candidates.len().min(roster.len()) {
            candidates[i] = drawn
                .find(|place| !candidates.contains(place))
                .unwrap_or_else(|| roster.at_weight(random(slot, DRAWS + i as u64), candidates));
        }
        candidates
    };
    (0..first.len()).map(complete_slot).collect()
}
