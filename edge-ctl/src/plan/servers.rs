//! Tables of server numbers, by which a service finds the backend that a connection ID of QUIC names.

use edge_common::{
    abi::{BackendNumber, Cell, map},
    tables::servers::build,
};

use super::{
    Capacity, Image, PlanError, Region, Snapshot,
    numbers::{full, narrow},
    regions::Regions,
    snapshot::ServersRecord,
};
use crate::config::{Service, is_same};

/// Places the tables of server numbers of an image's services, after its pools are planned: in the old cells if
/// unchanged.
pub(super) struct Servers<'a> {
    regions: Regions,
    capacity: &'a Capacity,
}

impl<'a> Servers<'a> {
    pub(super) fn new(capacity: &'a Capacity, before: Option<&Snapshot>, image: &Image) -> Self {
        let taken = before.into_iter().flat_map(Snapshot::candidate_cells).chain(image.snapshot.candidate_cells());
        Self { regions: Regions::new(capacity.candidates, taken), capacity }
    }

    pub(super) fn place(
        &mut self,
        service: &Service,
        old: Option<&ServersRecord>,
        image: &mut Image,
    ) -> Result<ServersRecord, PlanError> {
        if service.quic_cid.is_none() {
            return Ok(ServersRecord::default());
        }
        let cells = server_table(service, &image.snapshot);
        let (length, checksum) = (narrow(cells.len()), crc32fast::hash(bytemuck::cast_slice::<Cell, u8>(&cells)));
        if let Some(old) = old.filter(|old| (old.cells, old.checksum) == (length, checksum)) {
            return Ok(*old);
        }
        let cell = self.regions.highest(length).ok_or_else(|| {
            let needs = (self.regions.used() + length) as usize;
            full(map::CANDIDATES, "cells", self.capacity.candidates, needs)
        })?;
        image.candidates.push(Region { first: cell, cells });
        Ok(ServersRecord { cell, cells: length, checksum })
    }
}

/// The table of a service's server numbers.
pub(crate) fn server_table(service: &Service, snapshot: &Snapshot) -> Vec<Cell> {
    build(&numbers(service, snapshot))
}

/// The server numbers of a service's backends; also of retired backends of its pools, unless another backend has the
/// number.
fn numbers(service: &Service, snapshot: &Snapshot) -> Vec<(u32, BackendNumber)> {
    let pools = || service.pools.iter().map(|at| &snapshot.pools[*at]);
    let backends = pools().flat_map(|pool| &pool.backends);
    let mut all: Vec<_> = backends.filter_map(|backend| Some((backend.server?, backend.number))).collect();
    let left = snapshot.retired.iter().filter(|known| pools().any(|pool| is_same(&pool.name, &known.pool)));
    for (number, backend) in left.filter_map(|known| Some((known.server?, known.number))) {
        if all.iter().all(|(other, _)| *other != number) {
            all.push((number, backend));
        }
    }
    all
}
