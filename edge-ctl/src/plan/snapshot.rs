//! Numbers and cells assigned to a published configuration, stored beside it in the maps, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use edge_common::abi::{BackendNumber, SLOTS_PER_CELL};

use super::regions::cells;
use crate::config::{self, Clients, Config, Weights, configured, is_same};

/// One published configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Number of the published configuration, counted from 1.
    pub generation: u64,
    /// Text of the configuration file.
    pub config: String,
    /// In the order of the configuration.
    pub services: Vec<ServiceRecord>,
    /// In the order of the configuration.
    pub pools: Vec<PoolRecord>,
    /// By operators' words, in place of the text's.
    #[serde(default, skip_serializing_if = "Weights::is_empty")]
    pub weights: Weights,
    /// Tables of slots that services may share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub common: Vec<CommonRecord>,
    /// Backends that are no longer configured, but whose numbers may still be in flow records.
    pub retired: Vec<RetiredRecord>,
}

/// Numbers and cells of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    pub name: String,
    pub number: u32,
    /// The service's first cell in `SLOTS`.
    pub cell: u32,
    pub slots: u32,
    /// Positions of the service's pools in [`Snapshot::pools`], in order of priority.
    pub pools: Vec<usize>,
    pub servers: ServersRecord,
}

/// A table of slots that services with the same pools share while they are stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommonRecord {
    /// The table's first cell in `SLOTS`.
    pub cell: u32,
    pub slots: u32,
    /// Numbers of the services, in the order of the configuration.
    pub services: Vec<u32>,
}

/// Cells of a service's server numbers in `CANDIDATES`; empty if the service does not route by connection ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServersRecord {
    pub cell: u32,
    pub cells: u32,
    /// CRC-32 (IEEE) of the cells' bytes.
    pub checksum: u32,
}

/// Numbers and cells of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolRecord {
    pub name: String,
    pub number: u16,
    /// First cell of the pool's candidate tables in `CANDIDATES`, laid out as in
    /// [`Pool::table`](edge_common::abi::Pool::table).
    pub table: u32,
    /// Numbers of slots that the pool has a table for, one bit each; as a number, the cells of all its tables.
    pub sizes: u32,
    /// First cell of the pool's member list in `CANDIDATES`.
    pub member_list: u32,
    /// CRC-32 (IEEE) of the tables' bytes. The member list is left out, since its order changes with states.
    pub checksum: u32,
    /// In the order of the configuration.
    pub backends: Vec<BackendRecord>,
}

/// Numbers of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackendRecord {
    pub name: String,
    pub number: BackendNumber,
    pub address: std::net::IpAddr,
    /// The backend's own port, if configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The backend's server number in connection IDs of QUIC.
    pub server: Option<u32>,
}

/// The number of a retired backend. Pool, name, address and port together identify it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetiredRecord {
    /// Name of the backend's pool, which may no longer be configured.
    pub pool: String,
    pub name: String,
    pub number: BackendNumber,
    pub address: std::net::IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub server: Option<u32>,
}

impl BackendRecord {
    /// Whether the backend's flows can continue at `backend`, of the same pool: flows and state must not follow to
    /// another address or port.
    pub(super) fn is(&self, backend: &config::Backend) -> bool {
        self.name == backend.name && self.address == backend.address && self.port == backend.port
    }
}

impl RetiredRecord {
    pub(super) fn is(&self, pool: &str, backend: &config::Backend) -> bool {
        let known = self.name == backend.name && self.address == backend.address && self.port == backend.port;
        self.pool == pool && known
    }
}

impl Snapshot {
    /// The service named `name`.
    pub(crate) fn service(&self, name: &str) -> Option<&ServiceRecord> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The pool named `name`.
    pub(crate) fn pool(&self, name: &str) -> Option<&PoolRecord> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// The predecessor of `pool` in `config`: the pool of the same name; if a pool was split into parts or parts were
    /// merged, the pool that shares a backend with it. Only one of two parts has a predecessor.
    pub(super) fn pool_before(&self, config: &Config, pool: &config::Pool) -> Option<&PoolRecord> {
        let shares = |old: &PoolRecord, new: &config::Pool| {
            let is_in = |known: &BackendRecord| {
                new.backends.iter().any(|backend| backend.name == known.name && backend.address == known.address)
            };
            old.backends.iter().any(is_in)
        };
        let (name, clients) = configured(&pool.name);
        self.pool(&pool.name).or_else(|| match clients {
            Clients::All => {
                Clients::BOTH.iter().filter_map(|part| self.pool(&part.part(name))).find(|old| shares(old, pool))
            }
            Clients::Ipv4 | Clients::Ipv6 => {
                let old = self.pool(name)?;
                let mut parts = config.pools.iter().filter(|part| is_same(&part.name, name));
                parts.find(|part| shares(old, part)).filter(|heir| heir.name == pool.name).map(|_| old)
            }
        })
    }

    /// The service that `name` takes its slots from: the service of the same name; if a service was split into parts or
    /// parts were merged, the old whole or part. The flag is true if `name` also continues its number, which only one of
    /// two parts does.
    pub(crate) fn service_before(&self, name: &str) -> Option<(&ServiceRecord, bool)> {
        let (whole, clients) = configured(name);
        let part = |clients: Clients| self.service(&clients.part(whole));
        self.service(name).map(|old| (old, true)).or_else(|| match clients {
            Clients::All => part(Clients::Ipv4).or_else(|| part(Clients::Ipv6)).map(|old| (old, true)),
            Clients::Ipv4 | Clients::Ipv6 => part(Clients::All).map(|old| (old, clients == Clients::Ipv4)),
        })
    }

    /// A backend with this name in any part of the configured pool `pool`.
    pub(super) fn namesake(&self, pool: &str, name: &str) -> Option<&BackendRecord> {
        let parts = self.pools.iter().filter(|known| is_same(&known.name, pool));
        parts.flat_map(|known| &known.backends).find(|known| known.name == name)
    }

    /// The backend named `POOL/BACKEND`.
    #[cfg(test)]
    pub(crate) fn backend(&self, name: &str) -> Option<&BackendRecord> {
        let (pool, backend) = name.split_once('/')?;
        self.pool(pool)?.backends.iter().find(|record| record.name == backend)
    }

    /// All backends, each with its pool.
    pub(crate) fn backends(&self) -> impl Iterator<Item = (&PoolRecord, &BackendRecord)> {
        self.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
    }

    /// The name `POOL/BACKEND` of a backend number, which may be retired.
    pub(crate) fn name_of(&self, number: BackendNumber) -> Option<String> {
        let configured = self.backends().find(|(_, backend)| backend.number == number);
        let retired = || self.retired.iter().find(|known| known.number == number);
        configured
            .map(|(pool, backend)| format!("{}/{}", pool.name, backend.name))
            .or_else(|| retired().map(|known| format!("{}/{}", known.pool, known.name)))
    }

    /// The pool at `position` in the list of the service numbered `service`.
    pub(crate) fn pool_of(&self, service: u32, position: usize) -> Option<&PoolRecord> {
        let service = self.services.iter().find(|record| record.number == service)?;
        self.pools.get(*service.pools.get(position)?)
    }

    /// The retired record of `backend`, if it is one of this pool's.
    pub(super) fn retired(&self, pool: &str, backend: &config::Backend) -> Option<&RetiredRecord> {
        self.retired.iter().find(|known| known.is(pool, backend))
    }

    /// The runs of `CANDIDATES` in use: first cell and length.
    pub(super) fn candidate_cells(&self) -> impl Iterator<Item = (u32, u32)> {
        let pools = self.pools.iter();
        let pools = pools.flat_map(|pool| [(pool.table, pool.sizes), (pool.member_list, list_cells(&pool.backends))]);
        pools.chain(self.services.iter().map(|service| (service.servers.cell, service.servers.cells)))
    }

    /// The runs of `SLOTS` that services' own slots use: first cell and length.
    pub(super) fn slot_cells(&self) -> impl Iterator<Item = (u32, u32)> {
        self.services.iter().map(|service| (service.cell, service.slots / SLOTS_PER_CELL))
    }

    /// The runs of `SLOTS` that shared tables use: first cell and length.
    pub(super) fn table_cells(&self) -> impl Iterator<Item = (u32, u32)> {
        self.common.iter().map(|common| (common.cell, common.slots / SLOTS_PER_CELL))
    }

    /// First cell of the table that a service may share, by its number.
    pub(crate) fn common_cells(&self) -> BTreeMap<u32, u32> {
        self.common.iter().flat_map(|common| common.services.iter().map(|number| (*number, common.cell))).collect()
    }
}

/// Number of cells of a pool's member list.
pub(super) fn list_cells(backends: &[BackendRecord]) -> u32 {
    cells(u32::try_from(backends.len()).unwrap_or(u32::MAX))
}
