//! The pinned maps of the load balancer. This is the only module that writes a map.
//!
//! All state lives in pinned maps: the published configuration, the state of every backend, and the operator's
//! decisions. The state persists while no process runs. A writer takes the lock first ([`lock_pins`]). Only states and
//! failovers may be changed without the lock, if its holder does not respond: each is one compare-and-exchange.

mod error;
mod absence;
mod pins;
mod lock;
mod spec;
mod maps;
mod mapped;
pub(crate) mod sys;
mod snapshot;
mod history;
mod publish;
mod pools;
mod audit;
mod states;
mod evidence;
mod vips;
mod notes;
mod clock;
mod view;
mod picks;
mod preview;
mod expected;
mod explained;
mod traced;
mod share;
mod slots;
mod flows;
mod nat_sources;
mod nat_hops;
mod nat;
mod nat_carry;
mod carry;
mod transition;
mod counters;
mod described;

#[cfg(test)]
pub(crate) mod bpffs;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) use self::nat::NatCounts;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

pub(crate) use self::{
    absence::if_present,
    audit::Records,
    carry::Before,
    clock::{boot_ms, monotonic_time},
    described::{Described, describe},
    error::BpfError,
    expected::{Answer, Expected, REHEARSED_FLOWS, STATION},
    explained::Explained,
    flows::FlowRecord,
    lock::{Lock, LockError, is_tracing, lock_pins, lock_run_dir, lock_tracing},
    mapped::Mapped,
    nat::{NatBackend, NatFlow, NatIdle, NatUse},
    nat_carry::Carried,
    notes::text_of,
    pins::{
        PinDir, interface_file_name, interface_of, make_dir, make_only_dir, remove_dir, remove_file, rename, swap_into,
    },
    preview::Preview,
    publish::Staged,
    spec::check_object,
    transition::{Finished, Held, Progress, Transition, Waits},
};
use edge_common::abi::{Timeouts, map};

use self::{audit::Audited, maps::Maps, nat::NatWalk, pools::AllMembers, share::Sharing, transition::Handover};
use crate::plan::{Capacity, Snapshot};

/// The pinned maps, opened.
pub(crate) struct PinnedMaps {
    pins: PinDir,
    maps: Maps,
    capacity: Capacity,
    /// Kernel IDs of the maps.
    numbers: Vec<(&'static str, u32)>,
    /// The published snapshot, cached for state changes.
    known: Option<Arc<Snapshot>>,
    audited: Audited,
    /// The members of the generation's pools, sorted once per generation.
    members: AllMembers,
    handover: Handover,
    sharing: Sharing,
    nat_walk: NatWalk,
    /// VIPs that are addresses of the host, as far as known.
    host_vips: BTreeSet<IpAddr>,
}

impl PinnedMaps {
    /// Opens the pinned maps; `None` if nothing is pinned.
    ///
    /// # Errors
    /// If a pin is missing, or is not the map that this version makes. Nothing is changed then.
    pub(crate) fn open(pins: &PinDir) -> Result<Option<Self>, BpfError> {
        if !pins.has_maps()? {
            return Ok(None);
        }
        Ok(Some(Self::opened(pins)?))
    }

    /// Sizes of the pinned maps, read without opening the maps; `None` if nothing is pinned.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn sizes(pins: &PinDir) -> Result<Option<Capacity>, BpfError> {
        if pins.has_maps()? { spec::check_pins(pins).map(Some) } else { Ok(None) }
    }

    /// Makes the maps and pins them: all or none.
    ///
    /// # Errors
    /// If maps are pinned already, or the kernel refuses to make them.
    pub(crate) fn create(pins: &PinDir, capacity: &Capacity) -> Result<Self, BpfError> {
        if pins.has_maps()? {
            return Err(BpfError::AlreadyPinned { path: pins.maps() });
        }
        Maps::create(pins, capacity)?;
        // The pinned maps are opened, as after every restart.
        let maps = Self::opened(pins)?;
        maps.write_timeouts(&Timeouts::STANDARD, true)?;
        Ok(maps)
    }

    fn opened(pins: &PinDir) -> Result<Self, BpfError> {
        let (maps, capacity) = Maps::open(pins)?;
        let numbers = spec::numbers(pins, &capacity)?;
        let (members, handover) = (AllMembers::default(), Handover::default());
        let (pins, host_vips) = (pins.clone(), vips::of_host(&maps));
        let nat_walk = NatWalk::default();
        let mut opened = Self {
            pins,
            maps,
            capacity,
            numbers,
            known: None,
            audited: Audited::default(),
            members,
            handover,
            sharing: Sharing::default(),
            nat_walk,
            host_vips,
        };
        opened.know_published();
        Ok(opened)
    }

    /// Whether every map is pinned.
    pub(crate) fn are_pinned(&self) -> Result<bool, BpfError> {
        match self.check_pins() {
            Ok(()) => Ok(true),
            Err(BpfError::Incomplete { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Checks that every map is pinned.
    ///
    /// # Errors
    /// If a pin is missing.
    pub(crate) fn check_pins(&self) -> Result<(), BpfError> {
        for &(map, _) in &self.numbers {
            let path = self.pins.map(map);
            if !path.try_exists().map_err(|source| BpfError::file(&path, source))? {
                return Err(BpfError::Incomplete { path: self.pins.maps(), map });
            }
        }
        Ok(())
    }

    /// Restores removed pins. The maps and their users live as long as this process, whether pinned or not.
    pub(crate) fn pin_again(&self) -> Result<(), BpfError> {
        if !self.pins.has_maps()? {
            return self
                .pins
                .pin_maps(|directory| self.numbers.iter().try_for_each(|map| maps::pin_in(directory, *map)));
        }
        for map in &self.numbers {
            let path = self.pins.map(map.0);
            if !path.try_exists().map_err(|source| BpfError::file(&path, source))? {
                maps::pin_in(&self.pins.maps(), *map)?;
            }
        }
        Ok(())
    }

    /// Kernel ID of the services' map. It identifies the whole set of maps, since no other set contains this map.
    pub(crate) fn number(&self) -> u32 {
        self.numbers.iter().find(|(name, _)| *name == map::SERVICES).map_or(0, |(_, number)| *number)
    }

    /// Sizes of the maps.
    pub(crate) const fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Names of the maps.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        spec::all(&self.capacity).into_iter().map(|spec| spec.name)
    }

    /// The pin directory.
    pub(crate) const fn pins(&self) -> &PinDir {
        &self.pins
    }
}
