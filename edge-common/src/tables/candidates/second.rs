//! Second candidates: the heir of each slot if its first candidate dies, balanced for the death of any member.
//!
//! Heirs drawn at random would be unbalanced: of 100 freed slots and ten heirs, some would inherit 5 and some 15. So each
//! member's slots are divided by weight, as exactly as whole slots allow, and only the choice of slots for an heir is random.

use super::{MemberIndex, NOBODY, draws::Draws, roster::Roster};

/// The heir of each slot. Of the slots with the same first candidate, every other member inherits its weight's share among
/// the others, rounded down or up. [`NOBODY`] if there is only one member.
pub(super) fn deal_out(roster: &Roster, first: &[MemberIndex], draws: Draws) -> Vec<MemberIndex> {
    let mut heirs = vec![NOBODY; first.len()];
    if roster.len() == 1 {
        return heirs;
    }
    let mut estate = Estate::default();
    let mut late = Vec::new();
    for (place, slots) in roster.places().zip(slots_by_member(first, roster.len())) {
        if slots.is_empty() {
            continue;
        }
        estate.open(roster, place, slots.len());
        for slot in slots {
            match draws.of(slot).map(|at| first[at]).find(|&heir| estate.take(heir)) {
                Some(heir) => heirs[slot] = heir,
                None => late.push(slot),
            }
        }
        for (slot, heir) in late.drain(..).zip(estate.rest()) {
            heirs[slot] = heir;
        }
    }
    heirs
}

/// The slots of which each member is the first candidate, ascending.
fn slots_by_member(first: &[MemberIndex], members: usize) -> Vec<Vec<usize>> {
    let mut slots = vec![Vec::with_capacity(first.len() / members + 1); members];
    for (slot, &place) in first.iter().enumerate() {
        slots[usize::from(place)].push(slot);
    }
    slots
}

/// The slots that one member leaves: the number that each heir may still receive.
#[derive(Default)]
struct Estate {
    shares: Vec<Share>,
    /// Slots left over when every heir has its certain ones.
    spare: u64,
}

#[derive(Clone, Copy, Default)]
struct Share {
    /// Slots that it certainly receives: the share rounded down, less the slots already taken.
    certain: u32,
    /// Whether it may receive one slot more: the share is not whole, and that slot was not taken.
    more: bool,
}

impl Share {
    /// The share `exact / rest`.
    fn new(exact: u64, rest: u64) -> Self {
        // Only the share of the dead member itself, which is never used, can exceed the number of slots.
        Self { certain: u32::try_from(exact / rest).unwrap_or_default(), more: !exact.is_multiple_of(rest) }
    }
}

impl Estate {
    /// Divides the `slots` slots of `dead` among all others by weight.
    fn open(&mut self, roster: &Roster, dead: MemberIndex, slots: usize) {
        let slots = slots as u64;
        let rest = roster.total() - u64::from(roster.weight(dead));
        self.shares.clear();
        if slots * u64::from(roster.heaviest()) < rest {
            // With many members, no share is a whole slot, and a division for each pair of members would take longer than
            // everything else.
            self.shares.resize(roster.len(), Share { certain: 0, more: true });
        } else {
            self.shares.extend(roster.weights().iter().map(|&weight| Share::new(slots * u64::from(weight), rest)));
        }
        self.shares[usize::from(dead)] = Share::default();
        self.spare = slots - self.shares.iter().map(|share| u64::from(share.certain)).sum::<u64>();
    }

    /// Takes one slot for `heir`, if it may have one more.
    fn take(&mut self, heir: MemberIndex) -> bool {
        let share = &mut self.shares[usize::from(heir)];
        if share.certain > 0 {
            share.certain -= 1;
            true
        } else if share.more && self.spare > 0 {
            share.more = false;
            self.spare -= 1;
            true
        } else {
            false
        }
    }

    /// The heirs of the slots that are left, in order.
    fn rest(&self) -> impl Iterator<Item = MemberIndex> {
        let each = || (0..).zip(&self.shares);
        let certain = each().flat_map(|(heir, share)| (0..share.certain).map(move |_| heir));
        certain.chain(each().filter(|(_, share)| share.more).map(|(heir, _)| heir))
    }
}
