//! Values that outlive generations: the address of each backend, its next hop, and the stations.

use std::mem::offset_of;

use edge_common::abi::{Backend, BackendNumber, Family, Mac, Station};

use crate::{
    bpf::{BpfError, PinnedMaps},
    net::NextHopEntry,
    plan::Snapshot,
};

/// A next hop as it was stored last.
#[derive(Clone, Copy, Debug)]
pub(in crate::bpf) struct SetHop {
    /// The backend's address. Numbers are given again, to backends with other next hops.
    pub(in crate::bpf) address: [u8; 16],
    pub(in crate::bpf) entry: Option<NextHopEntry>,
}

/// The fields of a backend that its number determines.
struct Fixed {
    name: String,
    number: BackendNumber,
    pool: u16,
    family: Family,
    address: [u8; 16],
    port: [u8; 2],
}

impl PinnedMaps {
    /// Stores the stations again if they are not those that were stored last; returns whether they were not.
    pub(super) fn repair_stations(&mut self) -> bool {
        let Some(wanted) = self.audited.stations.take() else { return false };
        let stored = self.stations();
        let padded = wanted.iter().copied().chain(std::iter::repeat(Station::default()));
        let differs = stored.into_iter().zip(padded).any(|(stored, wanted)| stored != wanted);
        if differs {
            self.set_stations(&wanted);
        }
        self.audited.stations = Some(wanted);
        differs
    }

    /// Stores the addresses and next hops of backends again that are others in the maps. Returns the names of these
    /// backends.
    pub(super) fn repair_backends(&mut self) -> Result<Vec<String>, BpfError> {
        let known = self.known()?;
        let mut repaired = Vec::new();
        for fixed in fixed(&known) {
            let index = u32::from(fixed.number);
            let Some(stored) = self.maps.backends.read(index) else { continue };
            let is_right = fixed.is_in(&stored);
            if !is_right {
                self.write_fixed(index, &fixed);
            }
            let is_reached = match self.audited.hops.get(&fixed.number).copied() {
                Some(hop) if hop.address != fixed.address => {
                    self.audited.hops.remove(&fixed.number);
                    true
                }
                Some(SetHop { entry, .. }) if !is_stored(entry, &stored) => {
                    self.set_next_hop(fixed.number, entry)?;
                    false
                }
                _ => true,
            };
            if !is_right || !is_reached {
                repaired.push(fixed.name);
            }
        }
        Ok(repaired)
    }

    /// Writes the fields one by one: writing the whole value could undo a concurrent change of state.
    fn write_fixed(&self, index: u32, fixed: &Fixed) {
        let backends = &self.maps.backends;
        // The index is that of a value that was read.
        let _in_range = backends.write_part(index, offset_of!(Backend, address), fixed.address);
        let _in_range = backends.write_part(index, offset_of!(Backend, family), fixed.family as u8);
        let _in_range = backends.write_part(index, offset_of!(Backend, port), fixed.port);
        let _in_range = backends.write_part(index, offset_of!(Backend, pool), fixed.pool);
    }
}

impl Fixed {
    fn is_in(&self, stored: &Backend) -> bool {
        let Self { pool, family, address, port, .. } = self;
        (stored.pool, stored.family, stored.address, stored.port) == (*pool, *family as u8, *address, *port)
    }
}

/// The fixed fields of all backends that have a number, retired ones among them.
fn fixed(known: &Snapshot) -> impl Iterator<Item = Fixed> {
    let of = |pool_name: &str, name: &str, number, pool, address, port: Option<u16>| {
        let (family, address) = Family::split(address);
        let port = port.unwrap_or_default().to_be_bytes();
        Fixed { name: format!("{pool_name}/{name}"), number, pool, family, address, port }
    };
    let configured = known.backends().map(move |(pool, backend)| {
        of(&pool.name, &backend.name, backend.number, pool.number, backend.address, backend.port)
    });
    configured.chain(known.retired.iter().map(move |gone| {
        let pool = known.pool(&gone.pool).map_or(u16::MAX, |pool| pool.number);
        of(&gone.pool, &gone.name, gone.number, pool, gone.address, gone.port)
    }))
}

/// Whether a backend has this next hop in the maps.
fn is_stored(entry: Option<NextHopEntry>, stored: &Backend) -> bool {
    let Some(entry) = entry else { return !stored.next_hop.is_known() };
    let wanted = Backend {
        egress: entry.egress,
        next_hop: Mac::new(entry.mac),
        source_mac: Mac::new(entry.source_mac),
        mtu: entry.mtu,
        own_mtu: entry.own_mtu.into(),
        vlan: entry.vlan,
        ..*stored
    };
    wanted == *stored
}
