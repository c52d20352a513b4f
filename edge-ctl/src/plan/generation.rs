//! Planning: a configuration and what was published before it, into what to write where.

use std::net::{Ipv4Addr, Ipv6Addr};

use edge_common::{
    abi::{
        self, BackendNumber, Cell, Failover, Generation, SNAPSHOT_PAGE, ServiceEntryV4, ServiceEntryV6, SnapshotHead,
        State, Timeouts, Tracking, map,
    },
    flow_table::Class,
    tables::service_index::vip_bits,
};

use super::{Capacity, PlanError, Snapshot, index, numbers::full, pools, retired, services};
use crate::config::{Config, Ports};

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

    fn write_json(&mut self) -> Result<(), PlanError> {
        self.json = serde_json::to_vec(&self.snapshot).map_err(|error| PlanError::Json(error.to_string()))?;
        Ok(())
    }
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

/// Plans the publication of `config` into maps of `capacity`, after `previous`.
///
/// Numbers are kept by name, and a backend's also by address: what belongs to the old address must not follow it.
/// Numbers and cells that the previous generation uses are not given anew. A backend that is removed from the configuration keeps
/// its number in the generation after it, and then for as long as an owner or a record names it; if it comes back by then,
/// it has it again.
///
/// # Errors
/// When the configuration does not fit; nothing needs to be undone.
pub(crate) fn plan(config: &Config, capacity: &Capacity, previous: Option<Previous<'_>>) -> Result<Image, PlanError> {
    let mut image = Image {
        after: previous.map_or(Edition::default(), |previous| previous.edition),
        snapshot: Snapshot {
            generation: previous.map_or(0, |p| p.snapshot.generation) + 1,
            config: config.text.clone(),
            services: Vec::new(),
            pools: Vec::new(),
            retired: Vec::new(),
        },
        json: Vec::new(),
        generation: Generation::default(),
        flow_timeouts: timeouts(config),
        index_v4: Vec::new(),
        index_v6: Vec::new(),
        services: Vec::new(),
        pools: Vec::new(),
        backends: Vec::new(),
        returned: Vec::new(),
        candidates: Vec::new(),
    };
    let kept = retired::kept(config, previous);
    pools::plan(config, capacity, previous, &kept, &mut image)?;
    image.snapshot.retired = retired::retired(previous, &kept, &image.snapshot);
    services::plan(config, capacity, previous, &mut image)?;
    (image.index_v4, image.index_v6) = index::build(config, capacity, &image.services)?;
    let mask = |length: usize| u32::try_from(length.max(1) - 1).unwrap_or(u32::MAX);
    image.generation = Generation {
        number: image.snapshot.generation,
        hash_key: config.hash_key,
        index_mask_v4: mask(image.index_v4.len()),
        index_mask_v6: mask(image.index_v6.len()),
        any_port: config.services.iter().flat_map(|service| &service.ports).any(Ports::is_any).into(),
        tunnel_source_v4: config.tunnel.source_v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets(),
        tunnel_source_v6: config.tunnel.source_v6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets(),
        records_per_second: config.limits.flows_per_second,
        answers_per_second: config.limits.answers,
        first_fragments_per_second: config.limits.first_fragments_per_second,
        // The controller's, who knows the interfaces.
        stations: Generation::default().stations,
        vip_other: config.vip_other as u32,
        vip_bits: vip_bits(config.vips()),
    };
    image.write_json()?;
    let pages = (size_of::<SnapshotHead>() + image.json.len()).div_ceil(SNAPSHOT_PAGE);
    if pages > capacity.snapshot as usize {
        return Err(full(map::SNAPSHOT, "pages", capacity.snapshot, pages));
    }
    Ok(image)
}

/// For how long the flow table keeps flows that are silent, by how they are tracked: as long as the service that keeps them for
/// longest. The controller forgets those of others before.
fn timeouts(config: &Config) -> Timeouts {
    let ports = || config.services.iter().flat_map(|service| &service.ports);
    let timeouts = |tracking| {
        let longest = ports().filter(|ports| ports.tracking == tracking).map(Ports::expiry).max()?;
        Some((Class::from(tracking), Timeouts::of_idle(u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX))))
    };
    let all = [Tracking::Tcp, Tracking::Quic, Tracking::Learn].into_iter().filter_map(timeouts);
    all.fold(Timeouts::STANDARD, |all, (class, timeouts)| all.with(class, timeouts))
}
