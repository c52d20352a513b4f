//! Assignment of free numbers.

use std::collections::BTreeSet;

use super::PlanError;

/// Hands out numbers that the previous generation did not use, lowest first.
pub(super) struct Numbers {
    taken: BTreeSet<u32>,
    next: u32,
    end: u32,
}

impl Numbers {
    pub(super) fn new(first: u32, end: u32, taken: impl Iterator<Item = u32>) -> Self {
        Self { taken: taken.collect(), next: first, end }
    }

    pub(super) fn next(&mut self) -> Option<u32> {
        let number = (self.next..self.end).find(|number| !self.taken.contains(number))?;
        self.next = number + 1;
        Some(number)
    }

    /// The error for exhausted numbers; `count` is how many the configuration needs.
    pub(super) fn full(&self, map: &'static str, unit: &'static str, count: usize) -> PlanError {
        full(map, unit, self.end, self.taken.len() + count)
    }
}

pub(super) fn full(map: &'static str, unit: &'static str, has: u32, needs: usize) -> PlanError {
    PlanError::Full { map, unit, has, needs: u32::try_from(needs).unwrap_or(u32::MAX), retired: 0 }
}

/// Converts a count or number that the configuration's limits keep in range.
pub(super) fn narrow<From, To: TryFrom<From>>(value: From) -> To {
    To::try_from(value).unwrap_or_else(|_| unreachable!("limits are checked with the configuration and the capacity"))
}
