//! The pinned maps of the load balancer. This is the only module that writes a map.
//!
//! All state lives in pinned maps: the published configuration, the state of every backend, and the operator's
//! decisions. No process needs to run for them to stay. A writer takes the lock first ([`lock_pins`]). Who can't, since its
//! holder does not answer, may change states and failovers: each is one compare-and-exchange.

mod error;
mod absence;
mod pins;
mod lock;
mod spec;
mod maps;
mod mapped;
pub(crate) mod sys;
mod snapshot;
mod publish;
mod pools;
mod audit;
mod states;
mod notes;
mod clock;
mod view;
mod picks;
mod owners;
mod flows;
mod transition;
mod counters;

#[cfg(test)]
pub(crate) mod bpffs;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

pub(crate) use self::{
    absence::found,
    clock::{boot_ms, monotonic_time},
    error::BpfError,
    lock::{LockError, lock_pins, lock_run_dir},
    notes::text_of,
    pins::{PinDir, interface_file_name, make_dir, remove_dir, remove_file, rename},
    spec::check_object,
    transition::{Finished, Held, Progress, Transition, Waits},
};
use self::{maps::Maps, pools::AllMembers, transition::Handover};
use crate::plan::{Capacity, Snapshot};

/// The pinned maps, opened.
pub(crate) struct PinnedMaps {
    pins: PinDir,
    maps: Maps,
    capacity: Capacity,
    /// The published snapshot, cached for changes of state.
    known: Option<Arc<Snapshot>>,
    /// The members of its pools, sorted once in a generation.
    members: AllMembers,
    handover: Handover,
}

impl PinnedMaps {
    /// Opens the maps that are pinned; `None` when there are none.
    ///
    /// # Errors
    /// When a pin is missing, or is not the map that this version makes. Nothing is changed then.
    pub(crate) fn open(pins: &PinDir) -> Result<Option<Self>, BpfError> {
        if !pins.has_maps()? {
            return Ok(None);
        }
        let (maps, capacity) = Maps::open(pins)?;
        Ok(Some(Self {
            pins: pins.clone(),
            maps,
            capacity,
            known: None,
            members: AllMembers::default(),
            handover: Handover::default(),
        }))
    }

    /// Makes the maps and pins them: all, or none.
    ///
    /// # Errors
    /// When there are pinned maps already, or the kernel makes none.
    pub(crate) fn create(pins: &PinDir, capacity: &Capacity) -> Result<Self, BpfError> {
        if pins.has_maps()? {
            return Err(BpfError::AlreadyPinned { path: pins.maps() });
        }
        Maps::create(pins, capacity)?;
        // The pinned maps are the ones that are used, now and after every restart.
        let (maps, capacity) = Maps::open(pins)?;
        Ok(Self {
            pins: pins.clone(),
            maps,
            capacity,
            known: None,
            members: AllMembers::default(),
            handover: Handover::default(),
        })
    }

    /// Sizes of the maps.
    pub(crate) const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Names of the maps.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        spec::all(&self.capacity).into_iter().map(|spec| spec.name)
    }

    /// Where the maps are pinned.
    pub(crate) const fn pins(&self) -> &PinDir {
        &self.pins
    }
}
