//! The steps by which a configuration comes into force: a [`Candidate`] (read and valid) becomes [`Planned`] (compared
//! with the configuration in force, and accepted by the guard), then [`Vetted`] (rehearsed), is published, and is good
//! after a soak. Starts, signals, requests, the command line without a daemon and rollbacks all take these steps.

mod candidate;
mod history;
mod recall;
mod diff;
mod guard;
mod cut;
mod fitness;
mod moves;
mod planned;
mod rehearsal;
mod vetted;
mod error;
mod doubts;
mod watch;
mod verbs;
mod ways_back;
mod weigh;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    candidate::{Candidate, How, Look, Words},
    cut::{names, refusal},
    diff::{Diff, Item, What},
    doubts::{Attached, Doubts},
    error::ChangeError,
    fitness::{Unfit, brings, less, look, loses},
    guard::{Findings, Refused},
    history::{Entry, History, Verdict, checksum},
    moves::Moves,
    planned::{Plan, Planned},
    recall::{recall, write_down},
    rehearsal::{RehearsalError, Rehearser},
    verbs::{Changed, change, confirm},
    vetted::{Vetted, activate},
    watch::Watch,
    ways_back::{roll_back, undo},
    weigh::{Weigh, WeighError, Weighed, weigh, would_weigh},
};
#[cfg(test)]
pub(crate) use self::{
    history::{Left, Trial},
    weigh::weighed,
};
