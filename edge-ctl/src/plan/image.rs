//! All that a generation writes, and what it is planned after.

use std::net::IpAddr;

use edge_common::abi::{
    self, BackendNumber, Cell, Failover, Generation, ServiceEntryV4, ServiceEntryV6, State, Timeouts,
};

use super::{PlanError, Snapshot};
use crate::config::NatPorts;

/// What was published before, and what has become of it since.
#[derive(Clone, Copy)]
pub(crate) struct Previous<'a> {
    pub snapshot: &'a Snapshot,
    /// What was published when this was looked at, and how often anything was changed that a plan rests on.
    pub edition: Edition,
    pub state: &'a dyn Fn(BackendNumber) -> State,
    /// By service number.
    pub failover: &'a dyn Fn(u32) -> Failover,
    /// Whether a slot's owner or a flow record names the backend.
    pub in_use: &'a dyn Fn(BackendNumber) -> bool,
}

/// The first word of `PUBLISHED`: the active bank, and a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edition(pub u64);

/// All that a new generation writes, and where. Nothing in it touches what the previous generation reads, but the owners
/// of services that stay.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// What it was planned after: it may be published while that is so.
    pub after: Edition,
    pub snapshot: Snapshot,
    /// The snapshot as JSON; it fits into its pages.
    pub json: Vec<u8>,
    pub generation: Generation,
    /// For how long flows may be silent, by how they are tracked.
    pub flow_timeouts: Timeouts,
    /// `None`: nothing is translated.
    pub nat: Option<NatPlan>,
    /// The whole IPv4 index; its length is the mask's plus one.
    pub index_v4: Vec<ServiceEntryV4>,
    /// The whole IPv6 index.
    pub index_v6: Vec<ServiceEntryV6>,
    pub services: Vec<NewService>,
    /// Numbers and pools; their two counts are right if no state changed since.
    pub pools: Vec<(u16, abi::Pool)>,
    /// Backends with new numbers; the others stay as they are.
    pub backends: Vec<(BackendNumber, abi::Backend)>,
    /// Backends that are in the configuration again.
    pub returned: Vec<Returned>,
    /// Candidate tables and member lists with new places; the others stay as they are.
    pub candidates: Vec<Region>,
}

impl Image {
    /// Whether it writes nothing but the bank: all numbers and tables are those of the generation before.
    pub(crate) fn keeps_all(&self) -> bool {
        let fresh = |new: &NewService| new.fresh_number || new.owners != NewOwners::Kept;
        self.candidates.is_empty()
            && self.backends.is_empty()
            && self.returned.is_empty()
            && !self.services.iter().any(fresh)
    }

    /// Gives the first generation of new maps another number than 1.
    pub(crate) fn renumber(&mut self, generation: u64) -> Result<(), PlanError> {
        self.snapshot.generation = generation;
        self.generation.number = generation;
        self.write_json()
    }

    pub(super) fn write_json(&mut self) -> Result<(), PlanError> {
        self.json = serde_json::to_vec(&self.snapshot).map_err(|error| PlanError::Json(error.to_string()))?;
        Ok(())
    }
}

/// What packets need to know of translated flows.
#[derive(Clone, Debug)]
pub(crate) struct NatPlan {
    pub ports: NatPorts,
    /// Where new flows come from.
    pub sources: Vec<IpAddr>,
    pub timeouts: Timeouts,
}

/// A service of the new generation.
#[derive(Clone, Debug)]
pub(crate) struct NewService {
    pub number: u32,
    pub service: abi::Service,
    /// Whether the number was free before, so that its counters are somebody else's.
    pub fresh_number: bool,
    pub owners: NewOwners,
}

/// What the owners of a service are to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewOwners {
    /// What they are: they have their place already.
    Kept,
    /// In a new place, as those that begin at this cell: the flows of a service that becomes two stay where they are.
    CopiedFrom(u32),
    /// In a new place, and all to be picked.
    Picked,
}

/// A retired backend that comes back before its flows have ended: it has its number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub number: BackendNumber,
    /// Number of its pool, which may have left and come back, too.
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
