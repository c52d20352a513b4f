//! What `status` shows of translated flows: how full their table is, and the ports of each backend.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    bpf::{NatBackend, NatUse},
    control::{data_plane::DataPlane, inventory::Inventory},
};

/// Translated flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NatStatus {
    /// Entries of the table in use, and all.
    pub(crate) flows: u32,
    pub(crate) room: u32,
    /// By source and backend.
    pub(crate) ports: Vec<PortsStatus>,
}

/// The ports by which a backend is reached from a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortsStatus {
    /// `POOL/BACKEND`; absent where no backend has the number any more.
    pub(crate) backend: Option<String>,
    /// Where the backend sees flows come from; absent where the configuration no longer has it.
    pub(crate) source: Option<String>,
    /// Ports in use, and all.
    pub(crate) used: u32,
    pub(crate) of: u32,
    /// Of those in use: flows that have not got through yet, in percent.
    pub(crate) half_open_percent: u32,
    /// And flows that are over, while nobody may have their ports yet.
    pub(crate) closed: u32,
}

impl NatStatus {
    pub(super) fn of(inventory: &Inventory, plane: &impl DataPlane) -> Option<Self> {
        let names: BTreeMap<_, _> = inventory.known().map(|known| (known.number, known.name)).collect();
        let NatUse { flows, room, ports, backends } = plane.nat_use()?;
        let shown = |NatBackend { backend, source, counts }: NatBackend| PortsStatus {
            backend: names.get(&backend).map(ToString::to_string),
            source: source.map(|source| source.to_string()),
            used: counts.flows,
            of: ports,
            half_open_percent: counts.half_open.saturating_mul(100) / counts.flows.max(1),
            closed: counts.closed,
        };
        let mut ports: Vec<_> = backends.into_iter().map(shown).collect();
        ports.sort_by(|a, b| (&a.backend, &a.source).cmp(&(&b.backend, &b.source)));
        Some(Self { flows, room, ports })
    }
}
