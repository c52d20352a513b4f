//! `[nat]`: sources of translated packets.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use edge_common::abi::{Mode, NAT_SOURCES};

use super::{
    Clients, Ports,
    host::DEFAULT_NAT_FLOWS,
    pools::{BackendDraft, PoolDraft},
    problems::{Problems, Read},
    schema::NAT,
    services::ServiceDraft,
    values::{self, Entry, Wrong},
    walk::{Located, Table},
};

/// Below Linux' own range, which begins at 32768.
const DEFAULT_PORTS: NatPorts = NatPorts { first: 16384, last: 32767 };
/// Smallest range of ports: with fewer, a backend serves fewer connections at a time than a busy browser has.
const LEAST_PORTS: u32 = 64;

const PORTS: &str = "ports = \"16384-32767\"";

/// Port range of the sources; each translated flow has one of these ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct NatPorts {
    pub first: u16,
    pub last: u16,
}

/// Source addresses and ports of translated packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    /// Addresses are distinct.
    pub source_v4: Vec<Ipv4Addr>,
    pub source_v6: Vec<Ipv6Addr>,
    pub ports: NatPorts,
}

impl Default for NatPorts {
    fn default() -> Self {
        DEFAULT_PORTS
    }
}

impl NatPorts {
    pub(crate) const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// Whether some ports from `first` to `last` are in this range.
    pub(crate) const fn meets(self, first: u16, last: u16) -> bool {
        first <= self.last && self.first <= last
    }
}

impl fmt::Display for NatPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Nat {
    /// A source address of translated packets to this address; others may exist.
    pub(crate) fn source(&self, to: IpAddr) -> Option<IpAddr> {
        self.sources().find(|source| source.is_ipv4() == to.is_ipv4())
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.source_v6.iter().copied().map(IpAddr::V6);
        self.source_v4.iter().copied().map(IpAddr::V4).chain(v6)
    }
}

/// `[nat]` as in the file.
#[derive(Debug, Default)]
pub(super) struct NatDraft {
    pub(super) sources: Vec<Located<IpAddr>>,
    ports: Option<Located<NatPorts>>,
}

impl NatDraft {
    pub(super) fn ports(&self) -> NatPorts {
        self.ports.as_ref().map_or(DEFAULT_PORTS, |found| found.value)
    }

    pub(super) fn has_source(&self, v4: bool) -> bool {
        self.sources.iter().any(|source| source.value.is_ipv4() == v4)
    }

    pub(super) fn finish(self) -> Nat {
        let mut nat = Nat { ports: self.ports(), ..Nat::default() };
        for source in self.sources {
            match source.value {
                IpAddr::V4(v4) => nat.source_v4.push(v4),
                IpAddr::V6(v6) => nat.source_v6.push(v6),
            }
        }
        nat
    }

    /// The source address that is missing for a service to reach a pool, which it lists as `name`: the problem, and
    /// what to write.
    pub(super) fn lacks(
        &self,
        service: &ServiceDraft,
        name: &Located<String>,
        pool: &PoolDraft,
    ) -> Option<(String, String)> {
        [(true, "source_v4", "198.51.100.5"), (false, "source_v6", "2001:db8::5")].into_iter().find_map(|(v4, key, example)| {
            let goes = |backend: &&BackendDraft| {
                let to = |vip: &Located<IpAddr>| backend.serves(Clients::of(vip.value));
                service.vips().iter().any(|vip| to(vip).is_some_and(|to| to.is_ipv4() == v4))
            };
            let backend = pool.backends.iter().find(goes).filter(|_| !self.has_source(v4))?;
            let what = format!("mode \"nat\" to {} backends needs [nat] `{key}`", if v4 { "IPv4" } else { "IPv6" });
            let write = format!(
                "[nat] with {key} = [\"{example}\"], an address of this host that replies come back to (first needed for \
                 `{}/{}`)",
                name.value, backend.name
            );
            Some((what, write))
        })
    }

    /// Refuses ports of services that are also ports of a source here: a packet to such a port could be a client's or a
    /// backend's. Also refuses `nat_flows` below the number of ports, since each port needs an entry.
    pub(super) fn check(&self, problems: &Problems<'_>, services: &[ServiceDraft], flows: Option<Located<u32>>) {
        if !is_used(services) {
            return;
        }
        let count = self.ports().count();
        if let Some(found) = flows.filter(|found| found.value < count) {
            let what =
                format!("`nat_flows` is {}, but [nat] has {count} ports, each of which needs an entry", found.value);
            problems.add(found.at, what, format!("nat_flows = {} or more, or fewer ports", count.next_power_of_two()));
        }
        let sources: HashMap<IpAddr, usize> = self.sources.iter().map(|source| (source.value, source.at)).collect();
        let ports = self.ports();
        for service in services {
            let Some(vip) = service.vips().iter().find(|vip| sources.contains_key(&vip.value)) else { continue };
            let is_among = |of: &Ports| of.last == 0 || ports.meets(of.first, of.last);
            if let Some(found) = service.ports().iter().find(|found| is_among(&found.value)) {
                let what = format!(
                    "{} of {} is within the ports of [nat], and the address is a source of [nat]: a packet to it \
                     could be a client's or a backend's",
                    found.value, vip.value
                );
                let write = format!("another source on line {}, or other ports", problems.line(sources[&vip.value]));
                problems.add(found.at, what, write);
            }
        }
    }
}

pub(super) fn read(root: &Table<'_>) -> Read<NatDraft> {
    let Some(table) = root.table("nat", &NAT)? else { return Ok(NatDraft::default()) };
    let v4 = sources(&table, "source_v4", true);
    let v6 = sources(&table, "source_v6", false);
    let ports = table.optional("ports", ports);
    let (v4, v6) = (v4?, v6?);
    let sources = [v4, v6].concat();
    if sources.len() > NAT_SOURCES {
        let what =
            format!("[nat] has {} sources; {NAT_SOURCES} of both IP versions together are the most", sources.len());
        return Err(table.problems.add(table.at, what, "fewer sources, with more ports each"));
    }
    Ok(NatDraft { sources, ports: ports? })
}

/// One address or a list of them, all of one IP version.
fn sources(table: &Table<'_>, key: &'static str, v4: bool) -> Read<Vec<Located<IpAddr>>> {
    let example = if v4 { "source_v4 = [\"198.51.100.5\"]" } else { "source_v6 = [\"2001:db8::5\"]" };
    let right = |entry: &Entry<'_>| {
        let address = values::address(example)(entry)?;
        if address.is_ipv4() == v4 {
            return Ok(address);
        }
        let why = if v4 { "which is IPv6" } else { "which is IPv4" };
        Err(entry.wrong(why, format!("{example}, addresses of this host")))
    };
    let found = table.optional(key, |entry: &Entry<'_>| {
        let own = if entry.is_list() {
            values::list(entry, 1..=NAT_SOURCES, example, right)?
        } else {
            vec![(usize::MAX, right(entry)?)]
        };
        let mut known = Vec::new();
        for (at, address) in &own {
            if known.contains(address) {
                let what = format!("`{key}` has {address} twice");
                return Err(Wrong { what, write: "each of them once".to_owned(), at: Some(*at) });
            }
            known.push(*address);
        }
        Ok(own)
    })?;
    let Some(Located { value, at }) = found else { return Ok(Vec::new()) };
    let place = |own| if own == usize::MAX { at } else { own };
    Ok(value.into_iter().map(|(own, value)| Located { value, at: place(own) }).collect())
}

/// Reads a port range: two ports with a hyphen.
fn ports(entry: &Entry<'_>) -> Result<NatPorts, Wrong> {
    let text = entry.string(PORTS)?;
    let range =
        text.split_once('-').and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?)));
    match range {
        Some((first, last)) if first >= 1024 && first <= last => {
            let ports = NatPorts { first, last };
            if ports.count() >= LEAST_PORTS {
                return Ok(ports);
            }
            Err(entry
                .wrong(&format!("which are fewer than {LEAST_PORTS}: each connection to a backend needs one"), PORTS))
        }
        Some((first, last)) if first < 1024 && first <= last => {
            Err(entry.wrong("which begins below 1024, where this host's own services are", PORTS))
        }
        _ => Err(entry.wrong("which is no range of ports", format!("{PORTS}, its first and its last"))),
    }
}

/// Entries of the table of translated flows; `None` if no service translates.
pub(super) fn entries(services: &[ServiceDraft], wanted: Option<Located<u32>>) -> Option<u32> {
    is_used(services).then(|| wanted.map_or(DEFAULT_NAT_FLOWS, |found| found.value).next_power_of_two())
}

/// Whether any service translates.
fn is_used(services: &[ServiceDraft]) -> bool {
    services.iter().any(|service| matches!(service.mode, Ok(Mode::Nat)))
}
