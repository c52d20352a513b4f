//! Quotas: the number of slots of each member, which is its weight's share rounded to whole slots.

use std::cmp::Reverse;

use super::{MemberIndex, mix::mix, roster::Roster};

/// The number of slots of each member, `slots` in all, by largest remainder: each has its exact share, rounded down or up.
pub(super) fn quotas(roster: &Roster, slots: u32) -> Vec<u32> {
    let exact = |place: MemberIndex| u64::from(slots) * u64::from(roster.weight(place));
    let mut quotas: Vec<u32> =
        roster.places().map(|place| u32::try_from(exact(place) / roster.total()).expect("at most `slots`")).collect();
    let left = slots - quotas.iter().sum::<u32>();
    let mut by_remainder: Vec<MemberIndex> = roster.places().collect();
    // Equal remainders, which are usual where weights are equal, are ordered by the seed, so that adding or removing a
    // member leaves the order of the others unchanged.
    by_remainder
        .sort_unstable_by_key(|&place| (Reverse(exact(place) % roster.total()), mix(roster.seed(place)), place));
    for &place in by_remainder.iter().take(left as usize) {
        quotas[usize::from(place)] += 1;
    }
    quotas
}
