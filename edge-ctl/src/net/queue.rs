//! The routes that are to be looked up, first those that a change concerns. Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;

use super::route::Destination;

/// The destinations whose routes are to be looked up.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// A change concerns them, but its effects may not be in the kernel's tables yet.
    affected: BTreeSet<Destination>,
    first: BTreeSet<Destination>,
    rest: BTreeSet<Destination>,
}

/// Some destinations from the head of the queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) destinations: Vec<Destination>,
    /// Whether a change concerns them, rather than none of them.
    pub(super) are_affected: bool,
}

impl Queue {
    /// Notes destinations that a change concerns: packets to them may be lost already.
    pub(super) fn affect(&mut self, destinations: impl IntoIterator<Item = Destination>) {
        self.affected.extend(destinations);
    }

    /// Puts the affected destinations at the head of the queue.
    pub(super) fn admit_affected(&mut self) {
        self.first.append(&mut self.affected);
    }

    /// Adds destinations that no known change concerns.
    pub(super) fn add_rest(&mut self, destinations: impl IntoIterator<Item = Destination>) {
        self.rest.extend(destinations);
    }

    /// Whether a change concerns a destination that has not been looked up since.
    pub(super) fn awaits(&self, destination: Destination) -> bool {
        self.affected.contains(&destination) || self.first.contains(&destination)
    }

    /// Whether there is nothing to look up now.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    /// Removes at most `count` destinations.
    pub(super) fn take(&mut self, count: usize) -> Slice {
        let are_affected = !self.first.is_empty();
        let from = if are_affected { &mut self.first } else { &mut self.rest };
        let destinations: Vec<_> = std::iter::from_fn(|| from.pop_first()).take(count).collect();
        for destination in &destinations {
            self.rest.remove(destination);
        }
        Slice { destinations, are_affected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(from: u8, to: u8) -> Vec<Destination> {
        (from..=to).map(|host| Destination::of([10, 0, 0, host].into())).collect()
    }

    #[test]
    fn what_a_change_concerns_comes_first_even_during_a_round() {
        let mut queue = Queue::default();
        queue.add_rest(hosts(1, 8));
        assert_eq!(queue.take(3), Slice { destinations: hosts(1, 3), are_affected: false });
        queue.affect(hosts(2, 2));
        queue.affect(hosts(7, 7));
        assert_eq!(
            queue.take(1),
            Slice { destinations: hosts(4, 4), are_affected: false },
            "the change may be under way"
        );
        queue.admit_affected();
        assert!(queue.awaits(hosts(7, 7)[0]) && !queue.awaits(hosts(8, 8)[0]));
        assert_eq!(queue.take(1), Slice { destinations: hosts(2, 2), are_affected: true });
        assert_eq!(queue.take(9), Slice { destinations: hosts(7, 7), are_affected: true });
        let last = [hosts(5, 6), hosts(8, 8)].concat();
        assert_eq!(queue.take(9), Slice { destinations: last, are_affected: false }, "7 is not looked up twice");
        assert!(queue.is_empty());
    }

    #[test]
    fn a_destination_awaits_its_lookup_from_the_change_on() {
        let mut queue = Queue::default();
        queue.affect(hosts(1, 1));
        assert!(queue.awaits(hosts(1, 1)[0]) && queue.is_empty());
        queue.admit_affected();
        queue.take(1);
        assert!(!queue.awaits(hosts(1, 1)[0]));
    }
}
