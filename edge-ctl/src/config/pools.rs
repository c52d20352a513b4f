//! Pools, their backends, and how they are probed.

use std::{collections::HashMap, net::IpAddr, str::FromStr as _, time::Duration};

use hyper::http::uri::{Authority, PathAndQuery};

use super::{
    Backend, Judging, Pool, Probe, ProbeKind, ProbeThrough,
    host::distinct,
    judging,
    schema::{BACKEND, POOL, PROBE},
    values::{self, Entry, Wrong},
    walk::{Found, Read, Reported, Table},
};

const DEFAULT_WEIGHT: u32 = 100;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;
const DEFAULT_JITTER: f64 = 0.1;

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
}

impl PoolDraft {
    pub(super) fn finish(self) -> Read<Pool> {
        let backend =
            |draft: BackendDraft| Backend { name: draft.name, address: draft.address.value, weight: draft.weight };
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

pub(super) fn read(root: &Table<'_>) -> Read<Vec<PoolDraft>> {
    let mut names = HashMap::new();
    Ok(root.tables("pool", &POOL)?.iter().map(|table| pool(table, &mut names)).collect())
}

fn pool(table: &Table<'_>, names: &mut HashMap<String, usize>) -> PoolDraft {
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
    let min_healthy = min_healthy(table, size);
    let probe = table.table("probe", &PROBE).and_then(|table| table.map(|table| probe(&table)).transpose());
    let judging = judging::read(table);
    PoolDraft { name, at: table.at, backends, size, min_healthy, probe, judging, refused }
}

fn min_healthy(table: &Table<'_>, size: usize) -> Read<u16> {
    let found = table.optional("min_healthy", |entry: &Entry<'_>| {
        let least: u16 = values::integer(1..=u16::MAX.into(), "min_healthy = 1")(entry)?;
        if size > 0 && usize::from(least) > size {
            let why = format!("but the pool has only {size} of them: it would never be used");
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
    })
}

fn probe(table: &Table<'_>) -> Read<Probe> {
    #[derive(Clone, Copy)]
    enum Type {
        Http,
        Tcp,
    }
    let types = [("http", Type::Http), ("tcp", Type::Tcp)];
    let kind = table.required("type", "type = \"http\" or type = \"tcp\"", values::choice(&types));
    let kind = kind.and_then(|kind| match kind.value {
        Type::Http => http(table),
        Type::Tcp => tcp(table),
    });
    let through = [("service", ProbeThrough::Service), ("address", ProbeThrough::Address)];
    let through = table.optional("through", values::choice(&through));
    let port =
        table.required("port", "port = 80, the backends' port to probe", values::integer(1..=65_535, "port = 80"));
    let intervals = Duration::from_millis(50)..=Duration::from_hours(1);
    let interval = table.optional("interval", values::duration(intervals, "interval = \"1s\""));
    let interval = interval.map(|found| found.map_or(DEFAULT_INTERVAL, |found| found.value));
    let timeouts = Duration::from_millis(10)..=Duration::from_hours(1);
    let timeout = table.optional("timeout", values::duration(timeouts, "timeout = \"500ms\""));
    let timeout = timeout.and_then(|found| match (found, interval) {
        (None, Ok(interval)) => Ok(DEFAULT_TIMEOUT.min(interval)),
        (None, Err(reported)) => Err(reported),
        (Some(Found { value: timeout, at }), Ok(interval)) if timeout > interval => {
            let show = humantime::format_duration;
            let what = format!("`timeout` ({}) is longer than `interval` ({})", show(timeout), show(interval));
            Err(table.problems.add(at, what, format!("timeout = \"{}\" or less", show(interval))))
        }
        (Some(found), _) => Ok(found.value),
    });
    let rise = table.optional("rise", values::integer(1..=100, "rise = 2"));
    let fall = table.optional("fall", values::integer(1..=100, "fall = 3"));
    let jitter = table.optional("jitter", values::fraction(0.0..=0.5, "jitter = 0.1"));
    Ok(Probe {
        kind: kind?,
        through: through?.map_or_else(ProbeThrough::default, |found| found.value),
        port: port?.value,
        interval: interval?,
        timeout: timeout?,
        rise: rise?.map_or(DEFAULT_RISE, |found| found.value),
        fall: fall?.map_or(DEFAULT_FALL, |found| found.value),
        jitter: jitter?.map_or(DEFAULT_JITTER, |found| found.value),
    })
}

fn tcp(table: &Table<'_>) -> Read<ProbeKind> {
    let mut kind = Ok(ProbeKind::Tcp);
    for key in ["path", "status", "host"].into_iter().filter(|key| table.has(key)) {
        let what = format!("`{key}` is for HTTP probes, this one is TCP");
        kind = Err(table.problems.add(table.place(key), what, format!("type = \"http\", or remove `{key}`")));
    }
    kind
}

fn http(table: &Table<'_>) -> Read<ProbeKind> {
    let path = table.optional("path", |entry: &Entry<'_>| {
        let example = "path = \"/healthz\"";
        let text = entry.string(example)?;
        let clean = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if clean && text.len() <= 1024 && PathAndQuery::from_str(text).is_ok_and(|parsed| parsed.as_str() == text) {
            return Ok(text.to_owned());
        }
        let why = "which is not a path: a slash, then at most 1,023 characters as they stand in a URL";
        Err(entry.wrong(why, example))
    });
    let host = table.optional("host", |entry: &Entry<'_>| {
        let example = "host = \"www.example.org\"";
        let text = entry.string(example)?;
        let sound = Authority::from_str(text).is_ok_and(|authority| !authority.host().is_empty());
        if sound && text.len() <= 255 && !text.contains('@') {
            return Ok(text.to_owned());
        }
        Err(entry.wrong("which can't be a Host header", example))
    });
    let status = table.optional("status", statuses);
    Ok(ProbeKind::Http {
        path: path?.map_or_else(|| "/".to_owned(), |found| found.value),
        status: status?.map_or_else(|| vec![200], |found| found.value),
        host: host?.map(|found| found.value),
    })
}

/// One status or a list of them. Those below 200 never end an exchange, so none of them can be expected.
fn statuses(entry: &Entry<'_>) -> Result<Vec<u16>, Wrong> {
    let example = "status = 200 or status = [200, 204]";
    let one = |entry: &Entry<'_>| values::integer(200..=599, example)(entry);
    if !matches!(entry.value, toml::de::DeValue::Array(_)) {
        return Ok(vec![one(entry)?]);
    }
    Ok(values::list(entry, 1..=32, example, one)?.into_iter().map(|(_, status)| status).collect())
}
