//! The daemon: one task that owns the maps, and what it listens to.
//!
//! Data flows one way: probe reports, netlink events and operators' wishes go in as messages, and come out as stores
//! into the maps. Nothing else in the process writes them.

pub(crate) mod api;
mod apply;
mod controller;
pub(crate) mod events;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod inventory;
pub(crate) mod operate;
pub(crate) mod plane;
mod program;
mod rounds;
mod run;
mod selection;
mod socket;
pub(crate) mod status;
mod transitions;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{
    apply::{announced, detach},
    run::{RunError, run},
};
use crate::kernel::{self, LockError, WriterLock};

/// How long the lock is tried for: an `edge-ctl drain` without a daemon holds it for a moment, and a daemon that was
/// killed until the kernel has cleared it away.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// Takes the writer's lock. Another daemon is refused as good as at once.
pub(crate) fn lock(run_dir: &Path) -> Result<WriterLock, LockError> {
    let started = Instant::now();
    loop {
        match kernel::lock(run_dir) {
            Err(LockError::Held { .. }) if started.elapsed() < LOCK_PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}
