//! Backends with an address of each IP version: their pools and services become two, one for the clients of each IP
//! version.
//!
//! A pool or service of a [`Config`] has one address for each of its backends, so that all later stages (numbers,
//! tables, health, transitions) have only one kind of pool. `POOL@ipv4` has for each backend the address that serves
//! IPv4 clients, `POOL@ipv6` the address that serves IPv6 clients; a backend with one address is in both pools.
//! `SERVICE@ipv4` has the IPv4 VIPs. Operators use `POOL` and `SERVICE` for both parts, or the name of one part.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::{Backend, Config, Pool, Service};

/// The clients that a pool or a service is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Clients {
    /// All clients: the pool or service is not split by IP version.
    #[default]
    All,
    Ipv4,
    Ipv6,
}

impl Clients {
    /// The clients of the two parts of a split pool or service.
    pub(crate) const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The clients of `vip`.
    pub(super) const fn of(vip: IpAddr) -> Self {
        match vip {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Suffix of the name of the part for these clients.
    const fn suffix(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Ipv4 => "@ipv4",
            Self::Ipv6 => "@ipv6",
        }
    }

    /// Name of the part for these clients; `name` is the name in the file.
    pub(crate) fn part(self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }

    /// The address of a backend that serves these clients: the one of their IP version if there is one, else the first.
    pub(super) fn serve(self, addresses: &[IpAddr]) -> Option<IpAddr> {
        let own = addresses.iter().find(|address| Self::of(**address) == self);
        own.or(addresses.first()).copied()
    }
}

/// Splits the name of a pool or service into the name in the file and the clients of the part.
pub(crate) fn configured(name: &str) -> (&str, Clients) {
    let part = |clients: Clients| Some((name.strip_suffix(clients.suffix())?, clients));
    Clients::BOTH.into_iter().find_map(part).unwrap_or((name, Clients::All))
}

/// `POOL/BACKEND` with the name of the pool in the file.
pub(crate) fn configured_backend(name: &str) -> String {
    match name.split_once('/') {
        Some((pool, backend)) => format!("{}/{backend}", configured(pool).0),
        None => name.to_owned(),
    }
}

/// [`joined_names`] for names of backends, `POOL/BACKEND`.
pub(crate) fn joined_backends<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut by_backend: Vec<(&str, Vec<&str>)> = Vec::new();
    for (pool, backend) in names.into_iter().filter_map(|name| name.split_once('/')) {
        match by_backend.iter_mut().find(|(known, _)| *known == backend) {
            Some((_, pools)) => pools.push(pool),
            None => by_backend.push((backend, vec![pool])),
        }
    }
    let joined = |(backend, pools): (&str, Vec<&str>)| {
        joined_names(pools).into_iter().map(move |pool| format!("{pool}/{backend}")).collect::<Vec<_>>()
    };
    by_backend.into_iter().flat_map(joined).collect()
}

/// Names of services or pools, each once. If both parts of one are among them, their name in the file replaces them.
pub(crate) fn joined_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut joined: Vec<(&str, Clients)> = Vec::new();
    for (name, clients) in names.into_iter().map(configured) {
        match joined.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if *known != clients => *known = Clients::All,
            Some(_) => {}
            None => joined.push((name, clients)),
        }
    }
    joined.into_iter().map(|(name, clients)| clients.part(name)).collect()
}

/// Whether two names belong to one pool or service of the file: they are the same, or name parts of it.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    configured(one).0 == configured(other).0
}

/// Whether `word`, as an operator writes it, includes the pool or service `name`, or names a part of it.
pub(crate) fn is_meant(word: &str, name: &str) -> bool {
    let ((word, wanted), (name, clients)) = (configured(word), configured(name));
    word == name && (wanted == clients || wanted == Clients::All || clients == Clients::All)
}

impl Config {
    /// This configuration with pools and services as in the file: a backend with two addresses is in its pool twice.
    pub(crate) fn joined(&self) -> Self {
        let mut positions = BTreeMap::new();
        let mut pools: Vec<Pool> = Vec::new();
        let mut known = HashSet::new();
        let position_of: Vec<_> = self
            .pools
            .iter()
            .map(|pool| {
                let (name, _) = configured(&pool.name);
                let at = *positions.entry(name).or_insert(pools.len());
                match pools.get_mut(at) {
                    None => pools.push(Pool { name: name.to_owned(), ..pool.clone() }),
                    Some(joined) => {
                        let is_new = |backend: &&Backend| !known.contains(&(at, &backend.name, backend.address));
                        joined.backends.extend(pool.backends.iter().filter(is_new).cloned());
                    }
                }
                known.extend(pool.backends.iter().map(|backend| (at, &backend.name, backend.address)));
                at
            })
            .collect();
        let mut services: Vec<Service> = Vec::new();
        for service in &self.services {
            let (name, _) = configured(&service.name);
            if let Some(joined) = services.last_mut().filter(|joined| joined.name == name) {
                joined.vips.extend(&service.vips);
                continue;
            }
            let pools = service.pools.iter().map(|at| position_of[*at]).collect();
            services.push(Service { name: name.to_owned(), pools, ..service.clone() });
        }
        Self { pools, services, ..self.clone() }
    }
}
