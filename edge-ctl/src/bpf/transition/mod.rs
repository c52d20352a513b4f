//! Services in transition: flagged before a change, reconciled until each slot's owner is its pick, then stable again.

mod progress;
mod flag;
mod reconcile;
mod concern;
mod service;
mod collect;
mod report;

pub(crate) use self::progress::{Finished, Held, Progress, Transition, Waits};
pub(in crate::bpf) use self::reconcile::Handover;
