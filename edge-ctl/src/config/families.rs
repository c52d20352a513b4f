//! Backends with an address of each IP version: their pools and services become two, one for the clients of each.
//!
//! A pool or service of a [`Config`] has one address for each of its backends, so that everything behind the configuration
//! (numbers, tables, health, transitions) knows one kind of pool. `POOL@ipv4` has for each backend the address that serves
//! IPv4 clients, `POOL@ipv6` the other; a backend with one address stands in both. `SERVICE@ipv4` has the IPv4 VIPs.
//! Operators say `POOL` and `SERVICE` and mean both, or name one of the two.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};

use super::{Backend, Config, Pool, Service};

/// Whose packets a pool or a service is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Clients {
    /// Everybody's: no backend has two addresses.
    #[default]
    All,
    Ipv4,
    Ipv6,
}

impl Clients {
    /// Both parts of what is for everybody.
    pub(crate) const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// Those who come to `vip`.
    pub(super) const fn of(vip: IpAddr) -> Self {
        match vip {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// What the name of their part ends with.
    const fn suffix(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Ipv4 => "@ipv4",
            Self::Ipv6 => "@ipv6",
        }
    }

    /// The name of their part of what the file calls `name`.
    pub(crate) fn part(self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }

    /// Of a backend's addresses the one that serves them: of their own IP version, if there is one.
    pub(super) fn serve(self, addresses: &[IpAddr]) -> Option<IpAddr> {
        let own = addresses.iter().find(|address| Self::of(**address) == self);
        own.or(addresses.first()).copied()
    }
}

/// What the file calls a pool or service of this name, and whose part it is.
pub(crate) fn configured(name: &str) -> (&str, Clients) {
    let part = |clients: Clients| Some((name.strip_suffix(clients.suffix())?, clients));
    Clients::BOTH.into_iter().find_map(part).unwrap_or((name, Clients::All))
}

/// `POOL/BACKEND` with the pool as the file has it.
pub(crate) fn configured_backend(name: &str) -> String {
    match name.split_once('/') {
        Some((pool, backend)) => format!("{}/{backend}", configured(pool).0),
        None => name.to_owned(),
    }
}

/// As [`joined_names`], of backends.
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

/// These services or pools, each called once: by the name that the file has where all of its parts are among them.
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

/// Whether the file calls both the same: they are one, or parts of one.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    configured(one).0 == configured(other).0
}

/// Whether who says `word` means the pool or service `name`: all of it, or a part.
pub(crate) fn is_meant(word: &str, name: &str) -> bool {
    let ((word, wanted), (name, clients)) = (configured(word), configured(name));
    word == name && (wanted == clients || wanted == Clients::All || clients == Clients::All)
}

impl Config {
    /// The same with pools and services as the file has them: a backend with two addresses stands in its pool twice.
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
