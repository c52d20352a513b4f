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
    /// Entries of the table in use.
    pub(crate) flows: u32,
    /// Entries of the table.
    pub(crate) room: u32,
    /// Ports by source and backend.
    pub(crate) ports: Vec<PortsStatus>,
}

/// The ports by which a backend is reached from a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortsStatus {
    /// `POOL/BACKEND`; absent where no backend has the number any more.
    pub(crate) backend: Option<String>,
    /// Source of flows as the backend sees it; absent where the configuration no longer has it.
    pub(crate) source: Option<String>,
    /// Ports in use.
    pub(crate) used: u32,
    /// Ports in all.
    pub(crate) of: u32,
    /// Percentage of the ports in use whose flows are not established yet.
    pub(crate) half_open_percent: u32,
    /// Ports in use whose flows are over, but which no other flow may have yet.
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
