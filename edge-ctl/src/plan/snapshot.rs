//! What a published configuration was given: numbers and cells. Kept in the maps beside it, as JSON.

use serde::{Deserialize, Serialize};

use edge_common::abi::{BackendNumber, SLOTS_PER_CELL};

use super::regions::cells;
use crate::config::{self, Clients, Config, configured, is_same};

/// One published configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// Counts published configurations, from 1.
    pub generation: u64,
    /// Text of the configuration file.
    pub config: String,
    /// In the order of the configuration.
    pub services: Vec<ServiceRecord>,
    /// In the order of the configuration.
    pub pools: Vec<PoolRecord>,
    /// Backends that the configuration has no more, and whose numbers flows may still be known by.
    pub retired: Vec<RetiredRecord>,
}

/// What a service was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceRecord {
    pub name: String,
    pub number: u32,
    /// First of its cells in `SLOTS`.
    pub cell: u32,
    pub slots: u32,
    /// Positions of its pools in [`Snapshot::pools`], in order of priority.
    pub pools: Vec<usize>,
    pub servers: ServersRecord,
}

/// Where the server numbers of a service stand in `CANDIDATES`; of one that does not route by connection ID nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServersRecord {
    pub cell: u32,
    pub cells: u32,
    /// CRC-32 (IEEE) of the cells' bytes.
    pub checksum: u32,
}

/// What a pool was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolRecord {
    pub name: String,
    pub number: u16,
    /// First cell of its candidate tables in `CANDIDATES`, as [`Pool::table`](edge_common::abi::Pool::table) has them.
    pub table: u32,
    /// Numbers of slots that it has a table for, each a bit, and so the cells of all tables.
    pub sizes: u32,
    /// First cell of its member list in `CANDIDATES`.
    pub member_list: u32,
    /// CRC-32 (IEEE) of the tables' bytes. The list's order changes with states.
    pub checksum: u32,
    /// In the order of the configuration.
    pub backends: Vec<BackendRecord>,
}

/// What a backend was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackendRecord {
    pub name: String,
    pub number: BackendNumber,
    pub address: std::net::IpAddr,
    /// The port that it has of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What it is called in connection IDs of QUIC.
    pub server: Option<u32>,
}

/// The number of a retired backend. Pool, name, address and port together identify it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetiredRecord {
    /// Name of its pool, which the configuration may have or not.
    pub pool: String,
    pub name: String,
    pub number: BackendNumber,
    pub address: std::net::IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub server: Option<u32>,
}

impl BackendRecord {
    /// Whether flows at it can go on at `backend`, of the same pool: what belongs to another address or port must not follow.
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
    /// The service called `name`.
    pub(crate) fn service(&self, name: &str) -> Option<&ServiceRecord> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The pool called `name`.
    pub(crate) fn pool(&self, name: &str) -> Option<&PoolRecord> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// What `pool` of `config` goes on from: the pool of its name or, where it is a part now and was none, or the other way
    /// round, the one with which it has a backend in common. Only one of two parts goes on.
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

    /// What the service `name` has its slots from: the service of its name or, where it is a part now and was none, or the other
    /// way round, that one. And whether it goes on from that, which only one of two parts does.
    pub(crate) fn service_before(&self, name: &str) -> Option<(&ServiceRecord, bool)> {
        let (whole, clients) = configured(name);
        let part = |clients: Clients| self.service(&clients.part(whole));
        self.service(name).map(|old| (old, true)).or_else(|| match clients {
            Clients::All => part(Clients::Ipv4).or_else(|| part(Clients::Ipv6)).map(|old| (old, true)),
            Clients::Ipv4 | Clients::Ipv6 => part(Clients::All).map(|old| (old, clients == Clients::Ipv4)),
        })
    }

    /// A backend of this name in any part of what the file calls `pool`.
    pub(super) fn namesake(&self, pool: &str, name: &str) -> Option<&BackendRecord> {
        let parts = self.pools.iter().filter(|known| is_same(&known.name, pool));
        parts.flat_map(|known| &known.backends).find(|known| known.name == name)
    }

    /// The backend called `POOL/BACKEND`.
    #[cfg(test)]
    pub(crate) fn backend(&self, name: &str) -> Option<&BackendRecord> {
        let (pool, backend) = name.split_once('/')?;
        self.pool(pool)?.backends.iter().find(|record| record.name == backend)
    }

    /// All backends, each with its pool.
    pub(crate) fn backends(&self) -> impl Iterator<Item = (&PoolRecord, &BackendRecord)> {
        self.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
    }

    /// `POOL/BACKEND` of a number, also of one that is retired.
    pub(crate) fn name_of(&self, number: BackendNumber) -> Option<String> {
        let configured = self.backends().find(|(_, backend)| backend.number == number);
        let retired = || self.retired.iter().find(|known| known.number == number);
        configured
            .map(|(pool, backend)| format!("{}/{}", pool.name, backend.name))
            .or_else(|| retired().map(|known| format!("{}/{}", known.pool, known.name)))
    }

    /// The pool at a position in the list of the service that has this number.
    pub(crate) fn pool_of(&self, service: u32, position: usize) -> Option<&PoolRecord> {
        let service = self.services.iter().find(|record| record.number == service)?;
        self.pools.get(*service.pools.get(position)?)
    }

    /// What a backend of this pool was when it was retired.
    pub(super) fn retired(&self, pool: &str, backend: &config::Backend) -> Option<&RetiredRecord> {
        self.retired.iter().find(|known| known.is(pool, backend))
    }

    /// The runs of `CANDIDATES` in use: first cell and length.
    pub(super) fn candidate_cells(&self) -> impl Iterator<Item = (u32, u32)> {
        let pools = self.pools.iter();
        let pools = pools.flat_map(|pool| [(pool.table, pool.sizes), (pool.member_list, list_cells(&pool.backends))]);
        pools.chain(self.services.iter().map(|service| (service.servers.cell, service.servers.cells)))
    }

    /// The runs of `SLOTS` in use: first cell and length.
    pub(super) fn slot_cells(&self) -> impl Iterator<Item = (u32, u32)> {
        self.services.iter().map(|service| (service.cell, service.slots / SLOTS_PER_CELL))
    }
}

/// Cells of a pool's member list.
pub(super) fn list_cells(backends: &[BackendRecord]) -> u32 {
    cells(u32::try_from(backends.len()).unwrap_or(u32::MAX))
}
