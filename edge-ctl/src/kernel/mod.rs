//! The kernel side: object, pins, maps, links. The only module that writes a map.
//!
//! All that it keeps lives in pinned maps. Whoever opens the pins finds the published configuration, the state of every
//! backend and the operator's word; nobody needs to be running for that. Writing takes the [`WriterLock`] first.

mod counters;
mod error;
mod lock;
mod mapped;
mod maps;
mod pins;
mod program;
mod publish;
mod spec;
mod states;
mod sys;
mod traces;
mod view;

#[cfg(test)]
pub(crate) mod bpffs;
#[cfg(test)]
mod tests;

use self::maps::Maps;
pub(crate) use self::{
    error::KernelError,
    lock::{LockError, WriterLock, lock},
    pins::PinDir,
    program::OBJECT,
    states::boot_time,
};
use crate::model::{Capacity, PoolRecord};

/// The pinned maps, and the program that this process has loaded onto them.
pub(crate) struct Kernel {
    pins: PinDir,
    maps: Maps,
    capacity: Capacity,
    program: Option<aya::Ebpf>,
    /// The pools of a generation, that a change of a state need not read its snapshot.
    pools: (u64, Vec<PoolRecord>),
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
        Ok(Some(Self { pins: pins.clone(), maps, capacity, program: None, pools: (0, Vec::new()) }))
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
        Ok(Self { pins: pins.clone(), maps, capacity, program: None, pools: (0, Vec::new()) })
    }

    /// Sizes of the maps.
    #[cfg(test)]
    pub(crate) const fn capacity(&self) -> &Capacity {
        &self.capacity
    }
}
