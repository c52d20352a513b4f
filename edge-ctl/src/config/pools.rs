//! Pools and their backends.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Backend, Clients, Judging, Pool, Probe,
    defaults::Defaults,
    host::distinct,
    judging, probe, probe_kinds,
    problems::{Read, Reported},
    schema::{BACKEND, POOL, PROBE},
    values::{self, Entry, Wrong},
    walk::{Located, Table},
};

const DEFAULT_WEIGHT: u32 = 100;

const ADDRESS: &str = "address = \"10.1.0.11\"";
const ADDRESSES: &str = "address = [\"10.1.0.11\", \"2001:db8:a::11\"], one of each IP version";

/// A pool as far as it could be read: missing parts were reported, and the rest can still be checked.
pub(super) struct PoolDraft {
    pub(super) name: Read<Located<String>>,
    /// Position of the pool in the file.
    pub(super) at: usize,
    pub(super) backends: Vec<BackendDraft>,
    /// Number of `[[pool.backend]]` tables, readable or not.
    pub(super) size: usize,
    /// The port of backends without one of their own.
    pub(super) port: Read<Option<Located<u16>>>,
    /// Whether that port is a default of all pools.
    pub(super) is_port_default: bool,
    min_healthy: Read<u16>,
    probe: Read<Option<Probe>>,
    judging: Read<Judging>,
    /// Set if a backend or the list of backends was refused.
    refused: Option<Reported>,
}

pub(super) struct BackendDraft {
    pub(super) name: String,
    /// Position of the name in the file.
    pub(super) at: usize,
    /// At least one, and at most one of each IP version.
    pub(super) addresses: Vec<Located<IpAddr>>,
    pub(super) port: Option<Located<u16>>,
    weight: u32,
    probe_port: Option<Located<u16>>,
    probe_host: Option<Located<String>>,
    pub(super) server_number: Option<Located<u32>>,
}

impl BackendDraft {
    /// The address that serves these clients.
    pub(super) fn serves(&self, clients: Clients) -> Option<IpAddr> {
        let addresses: Vec<_> = self.addresses.iter().map(|address| address.value).collect();
        clients.serve(&addresses)
    }

    /// Builds the backend for these clients; `pool` is the pool's port.
    fn finish(&self, clients: Clients, pool: Option<&Located<u16>>) -> Option<Backend> {
        Some(Backend {
            name: self.name.clone(),
            address: self.serves(clients)?,
            port: self.port.as_ref().or(pool).map(|found| found.value),
            weight: self.weight,
            file_weight: self.weight,
            probe_port: self.probe_port.as_ref().map(|found| found.value),
            probe_host: self.probe_host.as_ref().map(|found| found.value.clone()),
            server_number: self.server_number.map(|found| found.value),
        })
    }
}

impl PoolDraft {
    /// The groups of clients that get a pool of their own.
    pub(super) fn parts(&self) -> &'static [Clients] {
        let is_split = self.backends.iter().any(|backend| backend.addresses.len() > 1);
        if is_split { &Clients::BOTH } else { &[Clients::All] }
    }

    /// One pool, or one for the clients of each IP version.
    pub(super) fn finish(self) -> Read<Vec<Pool>> {
        if let Some(reported) = self.refused {
            return Err(reported);
        }
        let parts = self.parts();
        let (name, min_healthy, probe, judging) = (self.name?.value, self.min_healthy?, self.probe?, self.judging?);
        let port = self.port?;
        let part = |&clients: &Clients| Pool {
            name: clients.part(&name),
            min_healthy,
            probe: probe.clone(),
            judging: judging.clone(),
            backends: self.backends.iter().filter_map(|draft| draft.finish(clients, port.as_ref())).collect(),
        };
        Ok(parts.iter().map(part).collect())
    }
}

pub(super) fn read(root: &Table<'_>, defaults: &Defaults<'_>) -> Read<Vec<PoolDraft>> {
    let mut names = HashMap::new();
    let tables = root.tables("pool", &POOL)?.into_iter().map(|table| table.with_defaults(defaults.pool.as_ref()));
    Ok(tables.map(|table| pool(&table, defaults.probe.as_ref(), &mut names)).collect())
}

fn pool(table: &Table<'_>, probes: Option<&Table<'_>>, names: &mut HashMap<String, usize>) -> PoolDraft {
    let name = table
        .required("name", "name = \"provider-a\"", values::name)
        .and_then(|name| distinct(table, names, name, "pool"));
    let backends = table.tables("backend", &BACKEND);
    let size = backends.as_ref().map_or(0, Vec::len);
    let (backends, refused) = match backends {
        Ok(tables) if tables.is_empty() => {
            let write = "[[pool.backend]] and below it name = \"a1\" and address = \"10.1.0.11\"";
            (Vec::new(), Some(table.problems.add(table.at, "the pool has no backend", write)))
        }
        Ok(tables) => read_backends(&tables),
        Err(reported) => (Vec::new(), Some(reported)),
    };
    let port = table.optional("port", values::integer(1..=65_535, "port = 8443"));
    let shown = name.as_ref().map_or_else(|_| "the pool".to_owned(), |name| format!("pool `{}`", name.value));
    let min_healthy = min_healthy(table, size, &shown);
    let probe = if table.declines("probe") {
        Ok(None)
    } else {
        table.table("probe", &PROBE).and_then(|own| match (own, probes) {
            (Some(own), probes) => probe::read(&own.with_defaults(probes), &shown).map(Some),
            (None, Some(probes)) => probe::read(probes, &shown).map(Some),
            (None, None) => Ok(None),
        })
    };
    if let Ok(probe) = &probe {
        for backend in &backends {
            check_own(table, probe.as_ref(), backend);
        }
    }
    let judging = judging::read(table);
    let is_port_default = !table.has("port");
    PoolDraft { name, at: table.at, backends, size, port, is_port_default, min_healthy, probe, judging, refused }
}

/// Checks that a backend's own probe settings apply to the pool's probe.
fn check_own(table: &Table<'_>, probe: Option<&Probe>, backend: &BackendDraft) {
    let BackendDraft { probe_port, probe_host, .. } = backend;
    let (port, host) = (probe_port.as_ref().map(|found| found.at), probe_host.as_ref().map(|found| found.at));
    let _recorded = match (probe, port, host) {
        (None, Some(at), _) | (None, None, Some(at)) => {
            table.problems.needless(at, "the pool of this backend is not probed", "[pool.probe] below the pool")
        }
        (Some(probe), _, Some(at)) if !probe.kind.clone().set_host("any") => {
            let what = format!("{} probes have no host", probe.kind.name());
            table.problems.needless(at, what, "remove `probe_host`")
        }
        (Some(Probe { port: 0, .. }), Some(at), _) => {
            table.problems.needless(at, "probes of this pool have no port", "remove `probe_port`")
        }
        _ => Ok(()),
    };
}

/// The message names the pool, since a value of `[defaults]` is refused there.
fn min_healthy(table: &Table<'_>, size: usize, pool: &str) -> Read<u16> {
    let found = table.optional("min_healthy", |entry: &Entry<'_>| {
        let least: u16 = values::integer(1..=u16::MAX.into(), "min_healthy = 1")(entry)?;
        if size > 0 && usize::from(least) > size {
            let why = format!("but {pool} has only {size} of them: it would never be used");
            return Err(entry.wrong(&why, format!("min_healthy = {size} or less")));
        }
        Ok(least)
    })?;
    Ok(found.map_or(1, |found| found.value))
}

fn read_backends(tables: &[Table<'_>]) -> (Vec<BackendDraft>, Option<Reported>) {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut addresses = HashMap::new();
    let mut refused = None;
    let mut backends = Vec::with_capacity(tables.len());
    for table in tables {
        match backend(table, &mut names, &mut addresses) {
            Ok(backend) => backends.push(backend),
            Err(reported) => refused = Some(reported),
        }
    }
    (backends, refused)
}

/// Reads a backend. Duplicates are found with maps and not lists, since a pool may have thousands of backends.
fn backend(
    table: &Table<'_>,
    names: &mut HashMap<String, usize>,
    addresses: &mut HashMap<(IpAddr, Option<u16>), usize>,
) -> Read<BackendDraft> {
    let name = table.required("name", "name = \"a1\"", values::name);
    let own = table.required("address", ADDRESS, backend_addresses).map(|Located { value: own, at }| {
        own.into_iter().map(|(own, value)| Located { value, at: own.unwrap_or(at) }).collect::<Vec<_>>()
    });
    let port = table.optional("port", values::integer(1..=65_535, "port = 8443"));
    let weight = table.optional("weight", values::integer(1..=65_535, "weight = 100"));
    let probe_port = table.optional("probe_port", values::integer(1..=65_535, "probe_port = 8080"));
    let probe_host = table.optional("probe_host", probe_kinds::host);
    let server_number =
        table.optional("server_number", values::integer(0..=u32::MAX.into(), "server_number = 17, or 0x11"));
    let problems = table.problems;
    let name = name.and_then(|name| match names.insert(name.value.clone(), name.at) {
        None => Ok(name),
        Some(first) => {
            let what =
                format!("backend `{}` is twice in this pool; first on line {}", name.value, problems.line(first));
            Err(problems.add(name.at, what, "another name, or remove one of the two"))
        }
    });
    let port = port?;
    let own = own.and_then(|own| {
        let at = |address| (address, port.as_ref().map(|found| found.value));
        for address in &own {
            if let Some(first) = addresses.insert(at(address.value), address.at) {
                let what =
                    format!("address {} is twice in this pool; first on line {}", address.value, problems.line(first));
                let write = "one backend, with a higher weight if it is to get more";
                return Err(problems.add(address.at, what, write));
            }
        }
        Ok(own)
    });
    let Located { value: name, at } = name?;
    Ok(BackendDraft {
        name,
        at,
        addresses: own?,
        port,
        weight: weight?.map_or(DEFAULT_WEIGHT, |found| found.value),
        probe_port: probe_port?,
        probe_host: probe_host?,
        server_number: server_number?,
    })
}

/// An address, or a list with one of each IP version; addresses of a list have their position.
fn backend_addresses(entry: &Entry<'_>) -> Result<Vec<(Option<usize>, IpAddr)>, Wrong> {
    if !entry.is_list() {
        return values::address(ADDRESS)(entry).map(|address| vec![(None, address)]);
    }
    let found = values::list(entry, 1..=2, ADDRESSES, |entry| values::address(ADDRESS)(entry))?;
    if let [(_, first), (at, second)] = found[..]
        && first.is_ipv4() == second.is_ipv4()
    {
        let version = if first.is_ipv4() { "IPv4" } else { "IPv6" };
        let what = format!("`address` has two {version} addresses; a backend has at most one of each IP version");
        return Err(Wrong { what, write: "a backend for each of them".to_owned(), at: Some(at) });
    }
    Ok(found.into_iter().map(|(at, address)| (Some(at), address)).collect())
}
