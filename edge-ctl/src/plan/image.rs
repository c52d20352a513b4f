//! The complete content of a generation, and the state that it was planned after.

use std::net::IpAddr;

use edge_common::abi::{
    self, BackendNumber, Cell, Failover, Generation, SNAPSHOT_PAGE, ServiceEntryV4, ServiceEntryV6, SnapshotHead,
    State, Timeouts, map,
};

use super::{Capacity, PlanError, Snapshot, numbers::full};
use crate::config::NatPorts;

/// The published generation and its present state.
#[derive(Clone, Copy)]
pub(crate) struct Previous<'a> {
    pub snapshot: &'a Snapshot,
    /// The edition at the time of planning.
    pub edition: Edition,
    pub state: &'a dyn Fn(BackendNumber) -> State,
    /// Failover by service number.
    pub failover: &'a dyn Fn(u32) -> Failover,
    /// Whether a slot's owner or a flow record names the backend.
    pub in_use: &'a dyn Fn(BackendNumber) -> bool,
}

/// The first word of `PUBLISHED`: the active bank, and a count of the changes that make a plan stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edition(pub u64);

/// The complete content of a new generation, and where to write it. Nothing in it overwrites data that the previous
/// generation reads, except for the owners of services that stay.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// The edition that the image was planned after: it may be published only while this is the current one.
    pub after: Edition,
    pub snapshot: Snapshot,
    /// The snapshot as JSON; it fits into its pages.
    pub json: Vec<u8>,
    pub generation: Generation,
    /// Idle timeouts by tracking class.
    pub flow_timeouts: Timeouts,
    /// `None` if nothing is translated.
    pub nat: Option<NatPlan>,
    /// The whole IPv4 index; its length is the mask's plus one.
    pub index_v4: Vec<ServiceEntryV4>,
    /// The whole IPv6 index.
    pub index_v6: Vec<ServiceEntryV6>,
    pub services: Vec<NewService>,
    /// Pools with their numbers; their two counts are right if no state has changed since planning.
    pub pools: Vec<(u16, abi::Pool)>,
    /// Backends with new numbers; other backends stay unchanged.
    pub backends: Vec<(BackendNumber, abi::Backend)>,
    /// Retired backends that are in the configuration again.
    pub returned: Vec<Returned>,
    /// Candidate tables and member lists in new places; others stay unchanged.
    pub candidates: Vec<Region>,
}

impl Image {
    /// Whether publication writes only the bank: all numbers and tables are those of the previous generation.
    pub(crate) fn keeps_all(&self) -> bool {
        let fresh = |new: &NewService| new.fresh_number || new.owners != NewOwners::Kept;
        self.candidates.is_empty()
            && self.backends.is_empty()
            && self.returned.is_empty()
            && !self.services.iter().any(fresh)
    }

    /// Changes the number of the first generation of new maps, which is 1 otherwise.
    pub(crate) fn renumber(&mut self, generation: u64, capacity: &Capacity) -> Result<(), PlanError> {
        self.snapshot.generation = generation;
        self.generation.number = generation;
        self.write_json(capacity)
    }

    /// Writes the snapshot as JSON.
    ///
    /// # Errors
    /// When it does not fit into maps of this capacity.
    pub(super) fn write_json(&mut self, capacity: &Capacity) -> Result<(), PlanError> {
        let json =
            |snapshot: &Snapshot| serde_json::to_vec(snapshot).map_err(|error| PlanError::Json(error.to_string()));
        let pages = |json: &[u8]| (size_of::<SnapshotHead>() + json.len()).div_ceil(SNAPSHOT_PAGE);
        self.json = json(&self.snapshot)?;
        if pages(&self.json) > capacity.snapshot as usize && !self.snapshot.common.is_empty() {
            // Shared tables only spare time: no configuration is refused for them.
            self.snapshot.common.clear();
            self.json = json(&self.snapshot)?;
        }
        let pages = pages(&self.json);
        if pages > capacity.snapshot as usize {
            return Err(full(map::SNAPSHOT, "pages", capacity.snapshot, pages));
        }
        Ok(())
    }
}

/// Plan of translated flows.
#[derive(Clone, Debug)]
pub(crate) struct NatPlan {
    pub ports: NatPorts,
    /// Source addresses of new flows.
    pub sources: Vec<IpAddr>,
    pub timeouts: Timeouts,
}

/// A service of the new generation.
#[derive(Clone, Debug)]
pub(crate) struct NewService {
    pub number: u32,
    pub service: abi::Service,
    /// Whether the number was free before, so that its counters belong to another service and have to be reset.
    pub fresh_number: bool,
    pub owners: NewOwners,
}

/// The initial owners of a service's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewOwners {
    /// Unchanged: the slots keep their cells.
    Kept,
    /// New cells with copies of the owners that begin at this cell: if a service is split in two, its flows stay where
    /// they are.
    CopiedFrom(u32),
    /// New cells, with all owners to be picked.
    Picked,
}

/// A retired backend that comes back before its flows have ended: it gets its number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub number: BackendNumber,
    /// Number of its pool, which may have been removed and come back, too.
    pub pool: u16,
    pub state: State,
}

/// A run of cells.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// The first cell's index.
    pub first: u32,
    pub cells: Vec<Cell>,
}
