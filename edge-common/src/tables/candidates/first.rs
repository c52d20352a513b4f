//! First candidates: members and slots matched, so that each member has its quota.
//!
//! Every member wants the slots in the order of its [`Permutation`], as in Maglev. But where Maglev takes turns, and
//! whoever comes first has the slot, this is the stable matching of Gale and Shapley (1962): a slot belongs to the one,
//! of those who ask for it, that wants it most for its weight, and who is displaced asks on. There is one such
//! matching, in whatever order they ask. And a change stays small: who asks late, because others came or went, hardly
//! displaces anyone, whereas in Maglev every later turn is another one. At 1,000 members and 65,536 slots a member that
//! goes moves 4 times its own slots, with Maglev 7 times; at 100 members 1.3 and 1.6 times.

use super::{MAX_SLOTS, MemberIndex, permutation::Permutation, quota::quotas, roster::Roster};

/// The member that each slot belongs to.
pub(super) fn match_slots(roster: &Roster, slots: u32) -> Vec<MemberIndex> {
    let mut held = vec![Claim::NONE; slots as usize];
    let mut wanted = quotas(roster, slots);
    let mut suitors: Vec<Suitor> = roster.places().map(|place| Suitor::new(roster, place, slots)).collect();
    let mut asking: Vec<MemberIndex> = roster.places().rev().collect();
    while let Some(place) = asking.pop() {
        let suitor = &mut suitors[usize::from(place)];
        // All members' quotas are the slots, so while one is wanting there is a slot that it has not asked for.
        while wanted[usize::from(place)] > 0 {
            let (slot, claim) = suitor.ask();
            if claim < held[slot] {
                wanted[usize::from(place)] -= 1;
                let displaced = std::mem::replace(&mut held[slot], claim);
                if displaced != Claim::NONE {
                    let displaced = displaced.place();
                    if wanted[usize::from(displaced)] == 0 {
                        asking.push(displaced);
                    }
                    wanted[usize::from(displaced)] += 1;
                }
            }
        }
    }
    held.into_iter().map(Claim::place).collect()
}

/// A member that asks for slots, the most wanted first.
struct Suitor {
    place: MemberIndex,
    order: Permutation,
    rank: u32,
    /// What each rank costs: less for a greater weight.
    step: u64,
}

impl Suitor {
    fn new(roster: &Roster, place: MemberIndex, slots: u32) -> Self {
        let order = Permutation::new(roster.seed(place), slots);
        Self { place, order, rank: 0, step: STEP / u64::from(roster.weight(place)) }
    }

    fn ask(&mut self) -> (usize, Claim) {
        let slot = self.order.slot(self.rank);
        self.rank += 1;
        (slot, Claim::new(u64::from(self.rank) * self.step, self.place))
    }
}

/// The step of weight 1: of the greatest weight it is still about 1,000, so weights are told apart to 0.1 %. That is
/// only about who prefers what; how many slots each has is exact.
const STEP: u64 = 1 << 26;
const _: () = assert!(MAX_SLOTS as u64 * STEP < 1 << (u64::BITS - MemberIndex::BITS));

/// How much a slot prefers a member, and that member: the less the better, of equals the one that comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim(u64);

impl Claim {
    /// Of nobody; after all others, as no member's place is [`super::NOBODY`].
    const NONE: Self = Self(u64::MAX);

    fn new(cost: u64, place: MemberIndex) -> Self {
        Self(cost << MemberIndex::BITS | u64::from(place))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the place is the lowest bits")]
    fn place(self) -> MemberIndex {
        self.0 as MemberIndex
    }
}
