//! Pools and their backends.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Backend, Judging, Pool, Probe,
    defaults::Defaults,
    host::distinct,
    judging, probe, probe_kinds,
    schema::{BACKEND, POOL, PROBE},
    values::{self, Entry},
    walk::{Found, Read, Reported, Table},
};

const DEFAULT_WEIGHT: u32 = 100;

/// A pool as far as it could be read: what is missing was reported, the rest can still be checked.
pub(super) struct PoolDraft {
    pub(super) name: Read<Found<String>>,
    /// Where the pool stands.
    pub(super) at: usize,
    pub(super) backends: Vec<BackendDraft>,
    /// How many `[[pool.backend]]` there are, readable or not.
    pub(super) size: usize,
    min_healthy: Read<u16>,
    probe: Read<Option<Probe>>,
    judging: Read<Judging>,
    /// Set when a backend or the list of them was refused.
    refused: Option<Reported>,
}

pub(super) struct BackendDraft {
    pub(super) name: String,
    pub(super) address: Found<IpAddr>,
    weight: u32,
    probe_port: Option<Found<u16>>,
    probe_host: Option<Found<String>>,
}

impl PoolDraft {
    pub(super) fn finish(self) -> Read<Pool> {
        let backend = |draft: BackendDraft| Backend {
            name: draft.name,
            address: draft.address.value,
            weight: draft.weight,
            probe_port: draft.probe_port.map(|found| found.value),
            probe_host: draft.probe_host.map(|found| found.value),
        };
        match self.refused {
            Some(reported) => Err(reported),
            None => Ok(Pool {
                name: self.name?.value,
                min_healthy: self.min_healthy?,
                probe: self.probe?,
                judging: self.judging?,
                backends: self.backends.into_iter().map(backend).collect(),
            }),
        }
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
    let min_healthy = min_healthy(table, size, name.as_ref().ok());
    let probe = if table.declines("probe") {
        Ok(None)
    } else {
        table.table("probe", &PROBE).and_then(|own| match (own, probes) {
            (Some(own), probes) => probe::read(&own.with_defaults(probes)).map(Some),
            (None, Some(probes)) => probe::read(probes).map(Some),
            (None, None) => Ok(None),
        })
    };
    if let Ok(probe) = &probe {
        for backend in &backends {
            check_own(table, probe.as_ref(), backend);
        }
    }
    let judging = judging::read(table);
    PoolDraft { name, at: table.at, backends, size, min_healthy, probe, judging, refused }
}

/// What a backend has of its own for a probe must be of use for the pool's.
fn check_own(table: &Table<'_>, probe: Option<&Probe>, backend: &BackendDraft) {
    let BackendDraft { probe_port, probe_host, .. } = backend;
    let (port, host) = (probe_port.as_ref().map(|found| found.at), probe_host.as_ref().map(|found| found.at));
    match (probe, port, host) {
        (None, Some(at), _) | (None, None, Some(at)) => {
            table.problems.add(at, "the pool of this backend is not probed", "[pool.probe] below the pool");
        }
        (Some(probe), _, Some(at)) if !probe.kind.clone().set_host("any") => {
            let what = format!("{} probes have no host", probe.kind.name());
            table.problems.add(at, what, "remove `probe_host`");
        }
        (Some(Probe { port: 0, .. }), Some(at), _) => {
            table.problems.add(at, "probes of this pool have no port", "remove `probe_port`");
        }
        _ => {}
    }
}

/// A value of `[defaults]` is refused there, so the pool is named.
fn min_healthy(table: &Table<'_>, size: usize, name: Option<&Found<String>>) -> Read<u16> {
    let found = table.optional("min_healthy", |entry: &Entry<'_>| {
        let least: u16 = values::integer(1..=u16::MAX.into(), "min_healthy = 1")(entry)?;
        if size > 0 && usize::from(least) > size {
            let pool = name.map_or_else(|| "the pool".to_owned(), |name| format!("pool `{}`", name.value));
            let why = format!("but {pool} has only {size} of them: it would never be used");
            return Err(entry.wrong(&why, format!("min_healthy = {size} or less")));
        }
        Ok(least)
    })?;
    Ok(found.map_or(1, |found| found.value))
}

fn read_backends(tables: &[Table<'_>]) -> (Vec<BackendDraft>, Option<Reported>) {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut addresses: HashMap<IpAddr, usize> = HashMap::new();
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

/// Maps and not lists note what was seen: a pool may have thousands of backends.
fn backend(
    table: &Table<'_>,
    names: &mut HashMap<String, usize>,
    addresses: &mut HashMap<IpAddr, usize>,
) -> Read<BackendDraft> {
    let name = table.required("name", "name = \"a1\"", values::name);
    let address = table.required("address", "address = \"10.1.0.11\"", values::address("address = \"10.1.0.11\""));
    let weight = table.optional("weight", values::integer(1..=65_535, "weight = 100"));
    let probe_port = table.optional("probe_port", values::integer(1..=65_535, "probe_port = 8080"));
    let probe_host = table.optional("probe_host", probe_kinds::host);
    let problems = table.problems;
    let name = name.and_then(|name| match names.insert(name.value.clone(), name.at) {
        None => Ok(name),
        Some(first) => {
            let what =
                format!("backend `{}` is twice in this pool; first on line {}", name.value, problems.line(first));
            Err(problems.add(name.at, what, "another name, or remove one of the two"))
        }
    });
    let address = address.and_then(|address| match addresses.insert(address.value, address.at) {
        None => Ok(address),
        Some(first) => {
            let what =
                format!("address {} is twice in this pool; first on line {}", address.value, problems.line(first));
            Err(problems.add(address.at, what, "one backend, with a higher weight if it is to get more"))
        }
    });
    Ok(BackendDraft {
        name: name?.value,
        address: address?,
        weight: weight?.map_or(DEFAULT_WEIGHT, |found| found.value),
        probe_port: probe_port?,
        probe_host: probe_host?,
    })
}
