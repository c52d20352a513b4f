//! The kernel side: object, pins, maps, links. The only module that writes a map.
//!
//! All that it keeps lives in pinned maps. Whoever opens the pins finds the published configuration, the state of every
//! backend and the operator's word; nobody needs to be running for that. Writing takes the [`WriterLock`] first.

mod collect;
mod counters;
mod error;
mod features;
mod flows;
mod follow;
mod lock;
mod mapped;
mod maps;
mod owners;
mod picks;
mod pins;
mod program;
mod publish;
mod spec;
mod states;
mod sys;
mod traces;
mod unsettle;
mod view;

#[cfg(test)]
pub(crate) mod bpffs;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use self::{
    error::KernelError,
    features::Lacks,
    follow::{Held, Progress, Settled, Transition, Waits},
    lock::{LockError, WriterLock, lock},
    pins::PinDir,
    program::OBJECT,
    states::{boot_time, monotonic_time, text_of},
};
use self::{follow::Following, maps::Maps};
use crate::model::{Capacity, Snapshot};

/// The pinned maps, and the program that this process has loaded onto them.
pub(crate) struct Kernel {
    pins: PinDir,
    maps: Maps,
    capacity: Capacity,
    program: Option<aya::Ebpf>,
    /// What is published, that a change of a state need not read it.
    known: Option<Arc<Snapshot>>,
    following: Following,
}

impl Kernel {
    /// Opens the maps that are pinned; `None` when there are none.
    ///
    /// # Errors
    /// When a pin is missing, or is not the map that this version makes. Nothing is changed then.
    pub(crate) fn open(pins: &PinDir) -> Result<Option<Self>, KernelError> {
        if !pins.has_maps()? {
            return Ok(None);
        }
        let (maps, capacity) = Maps::open(pins)?;
        Ok(Some(Self {
            pins: pins.clone(),
            maps,
            capacity,
            program: None,
            known: None,
            following: Following::default(),
        }))
    }

    /// Makes the maps and pins them: all, or none.
    ///
    /// # Errors
    /// When there are pinned maps already, or the kernel makes none.
    pub(crate) fn create(pins: &PinDir, capacity: &Capacity) -> Result<Self, KernelError> {
        if pins.has_maps()? {
            return Err(KernelError::AlreadyPinned { path: pins.maps() });
        }
        Maps::create(pins, capacity)?;
        // What was pinned is what is used, now and after every restart.
        let (maps, capacity) = Maps::open(pins)?;
        Ok(Self { pins: pins.clone(), maps, capacity, program: None, known: None, following: Following::default() })
    }

    /// Sizes of the maps.
    #[cfg(test)]
    pub(crate) const fn capacity(&self) -> &Capacity {
        &self.capacity
    }
}
