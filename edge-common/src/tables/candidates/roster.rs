//! The members of a pool in a fixed order, which is the same on every edge.

use super::{Candidates, Member, MemberIndex, NOBODY, mix::mix_identity};
use crate::abi::BackendNumber;

/// Members in order of identity.
pub(super) struct Roster {
    numbers: Vec<BackendNumber>,
    weights: Vec<u32>,
    seeds: Vec<u64>,
    heaviest: u32,
    /// For each member, the sum of the weights up to it, its own included.
    running: Vec<u64>,
}

impl Roster {
    pub(super) fn new(members: &[Member]) -> Self {
        assert!(members.len() <= usize::from(NOBODY), "{} members: more than {NOBODY}", members.len());
        let mut members = members.to_vec();
        // Members with the same identity differ in weight, or are interchangeable except for the number.
        members.sort_unstable_by_key(|member| (member.identity, member.weight, member.number));
        let mut total = 0;
        let running = members.iter().map(|member| {
            assert!((1..=65_535).contains(&member.weight), "weight {}: not 1 to 65,535", member.weight);
            total += u64::from(member.weight);
            total
        });
        Self {
            running: running.collect(),
            heaviest: members.iter().map(|member| member.weight).max().unwrap_or_default(),
            numbers: members.iter().map(|member| member.number).collect(),
            weights: members.iter().map(|member| member.weight).collect(),
            seeds: members.iter().map(|member| mix_identity(member.identity)).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// All members, in order.
    pub(super) fn places(&self) -> std::ops::Range<MemberIndex> {
        0..MemberIndex::try_from(self.len()).expect("as many as `new` has checked")
    }

    /// The backend number of a member; 0 for [`NOBODY`].
    pub(super) fn number(&self, place: MemberIndex) -> BackendNumber {
        if place == NOBODY { 0 } else { self.numbers[usize::from(place)] }
    }

    pub(super) fn weight(&self, place: MemberIndex) -> u32 {
        self.weights[usize::from(place)]
    }

    /// The weights of all members, in order.
    pub(super) fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The greatest weight.
    pub(super) fn heaviest(&self) -> u32 {
        self.heaviest
    }

    /// The sum of all weights: at most 65,535 times 65,535, so that it can be multiplied by slots.
    pub(super) fn total(&self) -> u64 {
        self.running.last().copied().unwrap_or_default()
    }

    /// 64 bits derived from a member's identity.
    pub(super) fn seed(&self, place: MemberIndex) -> u64 {
        self.seeds[usize::from(place)]
    }

    /// A member that is not among `chosen`, by weight: the one at `random` / 2^64 of the sum of their weights.
    pub(super) fn at_weight(&self, random: u64, mut chosen: Candidates) -> MemberIndex {
        chosen.sort_unstable();
        let chosen = &chosen[..chosen.partition_point(|&place| place != NOBODY)];
        let rest = self.total() - chosen.iter().map(|&place| u64::from(self.weight(place))).sum::<u64>();
        if rest == 0 {
            return NOBODY;
        }
        let mut at = u64::try_from((u128::from(random) * u128::from(rest)) >> 64).expect("less than `rest`");
        // From the position among the remaining members to that among all: each chosen member before it adds its weight.
        for &place in chosen {
            let weight = u64::from(self.weight(place));
            if at >= self.running[usize::from(place)] - weight {
                at += weight;
            }
        }
        MemberIndex::try_from(self.running.partition_point(|&end| end <= at)).expect("a member's place")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(weights: &[u32]) -> Roster {
        let member = |(i, &weight): (usize, &u32)| Member {
            number: u16::try_from(i + 1).unwrap(),
            weight,
            identity: u128::try_from(i).unwrap().to_be_bytes(),
        };
        Roster::new(&weights.iter().enumerate().map(member).collect::<Vec<_>>())
    }

    #[test]
    fn members_left_over_are_found_by_weight() {
        let roster = roster(&[1, 2, 3, 4]);
        let found =
            |chosen| (0..u64::from(u16::MAX)).map(move |i| roster.at_weight(i << 48, chosen)).collect::<Vec<_>>();
        let count = |found: &[MemberIndex]| {
            std::array::from_fn::<_, 4, _>(|i| found.iter().filter(|&&at| usize::from(at) == i).count() / 6553)
        };
        assert_eq!(count(&found([NOBODY; 4])), [1, 2, 3, 4]);
    }

    #[test]
    fn members_already_chosen_are_not_found() {
        let roster = roster(&[1, 2, 3, 4]);
        for chosen in [[0, NOBODY, NOBODY, NOBODY], [3, 1, NOBODY, NOBODY], [2, 0, 3, NOBODY], [1, 2, 0, NOBODY]] {
            for i in 0..1 << 12 {
                let place = roster.at_weight(i << 52, chosen);
                assert!(place < 4 && !chosen.contains(&place), "{place} of {chosen:?}");
            }
        }
        assert_eq!(roster.at_weight(7, [0, 1, 2, 3]), NOBODY);
    }
}
