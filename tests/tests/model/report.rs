//! The observations of a run.

use edge_common::abi::{FlowCount, FlowCounts};

use crate::controller::Done;

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) steps: u64,
    pub(crate) packets: u64,
    /// Packets to stable slots.
    pub(crate) at_rest: u64,
    pub(crate) changes: u64,
    /// Flows that went elsewhere because their backend had died.
    pub(crate) orphaned: u64,
    pub(crate) forgotten: u64,
    /// Forged packets of existing flows.
    pub(crate) forged: u64,
    /// Flows that moved because there was no room for a record, and their backend had left.
    pub(crate) yielded: u64,
    /// Flows that moved although their backend lived.
    pub(crate) moved: Vec<String>,
    /// Flows that moved although their backend lived, which had been dead for a moment in which they sent nothing.
    pub(crate) shaken: Vec<String>,
    /// New flows at wrong backends, and services that were wrongly stable.
    pub(crate) misplaced: Vec<String>,
    pub(crate) done: Done,
    pub(crate) counts: FlowCounts,
}

impl Report {
    /// Adds the observations of another run.
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.packets += other.packets;
        self.at_rest += other.at_rest;
        self.changes += other.changes;
        self.orphaned += other.orphaned;
        self.forgotten += other.forgotten;
        self.forged += other.forged;
        self.yielded += other.yielded;
        self.moved.extend(other.moved);
        self.shaken.extend(other.shaken);
        self.misplaced.extend(other.misplaced);
        self.done.add(other.done);
        self.counts.0.iter_mut().zip(other.counts.0).for_each(|(sum, count)| *sum += count);
    }

    pub(crate) fn count(&self, what: FlowCount) -> u64 {
        self.counts.0[what as usize]
    }
}
