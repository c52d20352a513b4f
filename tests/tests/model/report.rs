//! What a run has seen.

use edge_common::abi::{FlowCount, FlowCounts};

use crate::controller::Done;

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) steps: u64,
    pub(crate) packets: u64,
    /// Packets of stable services.
    pub(crate) at_rest: u64,
    pub(crate) changes: u64,
    /// Flows whose backend had died, and which so went elsewhere.
    pub(crate) orphaned: u64,
    pub(crate) forgotten: u64,
    /// Packets that somebody sent in the name of a flow.
    pub(crate) forged: u64,
    /// Flows that moved since there was no room for any record, and their backend had left.
    pub(crate) yielded: u64,
    /// Flows that moved although their backend lived.
    pub(crate) moved: Vec<String>,
    /// Flows that moved, and whose backend lived, but had been dead for a moment in which they did not send.
    pub(crate) shaken: Vec<String>,
    /// Packets that went where a flow that starts must not, and services that were stable and should not have been.
    pub(crate) misplaced: Vec<String>,
    pub(crate) done: Done,
    pub(crate) counts: FlowCounts,
}

impl Report {
    /// Adds another run's.
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
