//! What is configured, and under which numbers the packet path knows it; people's names are looked up here.

use std::fmt::Write;

use edge_common::abi::BackendNumber;
use thiserror::Error;

use crate::{
    config::{self, Backend, Config, ConfigError, Pool, Protocol, Service},
    model::Snapshot,
};

/// A configuration with the numbers that it was published under.
#[derive(Clone, Debug)]
pub(crate) struct Inventory {
    /// Counts published configurations.
    pub(crate) generation: u64,
    pub(crate) config: Config,
    /// Numbers of `config.services`, in their order.
    pub(crate) services: Vec<u32>,
    /// Numbers of each of `config.pools`' backends, in their order.
    pub(crate) backends: Vec<Vec<BackendNumber>>,
}

/// A backend of an [`Inventory`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// Position of its pool in `config.pools`.
    pub(crate) pool_position: usize,
    pub(crate) pool: &'a Pool,
    pub(crate) backend: &'a Backend,
    pub(crate) number: BackendNumber,
}

impl Member<'_> {
    /// `POOL/BACKEND`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.pool.name, self.backend.name)
    }
}

/// What was published is not what this program can read.
#[derive(Debug, Error)]
pub(crate) enum InventoryError {
    #[error("the published configuration is not understood: it is of another version of edge-ctl")]
    Text(#[source] ConfigError),
    #[error("nothing was published under the name {name:?}: the snapshot in the maps contradicts itself")]
    Missing { name: String },
}

/// A name that leads nowhere, or to several places.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NameError {
    #[error("no backend {name:?}{}", did_you_mean(.name, .known))]
    NoSuchBackend { name: String, known: Vec<String> },
    #[error("several pools have a backend {name:?}: {}", known.join(", "))]
    AmbiguousBackend { name: String, known: Vec<String> },
    #[error("no service {name:?}{}", did_you_mean(.name, .known))]
    NoSuchService { name: String, known: Vec<String> },
    #[error("no pool {name:?}{}", did_you_mean(.name, .known))]
    NoSuchPool { name: String, known: Vec<String> },
    #[error("pool {name:?} is not one of service {service:?}: it has {}", known.join(", "))]
    PoolNotInService { name: String, service: String, known: Vec<String> },
}

impl NameError {
    /// What to write instead.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoSuchBackend { known, .. } => listed("backends", known),
            Self::NoSuchService { known, .. } => listed("services", known),
            Self::NoSuchPool { known, .. } => listed("pools", known),
            Self::AmbiguousBackend { .. } => "write POOL/BACKEND".to_owned(),
            Self::PoolNotInService { .. } => {
                "name one of its pools, or add the pool to the service's `pools` in the configuration".to_owned()
            }
        }
    }
}

impl Inventory {
    /// `config` under the numbers that `snapshot` has for it.
    pub(crate) fn new(config: Config, snapshot: &Snapshot) -> Result<Self, InventoryError> {
        let missing = |name: &str| InventoryError::Missing { name: name.to_owned() };
        let services = config
            .services
            .iter()
            .map(|service| Ok(snapshot.service(&service.name).ok_or_else(|| missing(&service.name))?.number))
            .collect::<Result<_, _>>()?;
        let backends = config
            .pools
            .iter()
            .map(|pool| {
                let record = snapshot.pool(&pool.name).ok_or_else(|| missing(&pool.name))?;
                let number = |backend: &Backend| {
                    let known = record.backends.iter().find(|known| known.name == backend.name);
                    Ok(known.ok_or_else(|| missing(&backend.name))?.number)
                };
                pool.backends.iter().map(number).collect::<Result<_, _>>()
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { generation: snapshot.generation, config, services, backends })
    }

    /// What the maps say was published.
    pub(crate) fn from_snapshot(snapshot: &Snapshot) -> Result<Self, InventoryError> {
        let config = config::parse(&snapshot.config, "published configuration").map_err(InventoryError::Text)?;
        Self::new(config, snapshot)
    }

    /// All backends, pool by pool in the configuration's order.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member<'_>> {
        (0..self.config.pools.len()).flat_map(|pool| self.members_of(pool))
    }

    /// The backends of the pool at `pool_position`.
    pub(crate) fn members_of(&self, pool_position: usize) -> impl Iterator<Item = Member<'_>> {
        let pool = &self.config.pools[pool_position];
        let numbers = &self.backends[pool_position];
        pool.backends.iter().zip(numbers).map(move |(backend, number)| Member {
            pool_position,
            pool,
            backend,
            number: *number,
        })
    }

    /// Services with their numbers.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&Service, u32)> {
        self.config.services.iter().zip(self.services.iter().copied())
    }

    /// Numbers of the UDP services that list the pool.
    pub(crate) fn udp_services_of(&self, pool_position: usize) -> impl Iterator<Item = u32> {
        self.services()
            .filter(move |(service, _)| {
                service.protocol == Protocol::Udp && service.pools.contains(&pool_position)
            })
            .map(|(_, number)| number)
    }

    /// The backend `POOL/BACKEND`, or `BACKEND` where it is the only one.
    pub(crate) fn backend(&self, name: &str) -> Result<Member<'_>, NameError> {
        let found: Vec<_> = match name.split_once('/') {
            Some((pool, backend)) => {
                self.members().filter(|member| member.pool.name == pool && member.backend.name == backend).collect()
            }
            None => self.members().filter(|member| member.backend.name == name).collect(),
        };
        let name = name.to_owned();
        match found[..] {
            [member] => Ok(member),
            [] => Err(NameError::NoSuchBackend { name, known: self.members().map(|member| member.name()).collect() }),
            _ => Err(NameError::AmbiguousBackend { name, known: found.iter().map(Member::name).collect() }),
        }
    }

    /// Number of the backend back to its member.
    pub(crate) fn member(&self, number: BackendNumber) -> Option<Member<'_>> {
        self.members().find(|member| member.number == number)
    }

    /// The service of that name, and its number.
    pub(crate) fn service(&self, name: &str) -> Result<(&Service, u32), NameError> {
        self.services().find(|(service, _)| service.name == name).ok_or_else(|| NameError::NoSuchService {
            name: name.to_owned(),
            known: self.config.services.iter().map(|service| service.name.clone()).collect(),
        })
    }

    /// Position in `service.pools` of the pool of that name.
    pub(crate) fn position(&self, service: &Service, pool: &str) -> Result<usize, NameError> {
        if let Some(position) = service.pools.iter().position(|member| self.config.pools[*member].name == pool) {
            return Ok(position);
        }
        if self.config.pools.iter().any(|known| known.name == pool) {
            return Err(NameError::PoolNotInService {
                name: pool.to_owned(),
                service: service.name.clone(),
                known: self.pool_names(service),
            });
        }
        Err(NameError::NoSuchPool { name: pool.to_owned(), known: self.pool_names(service) })
    }

    /// Names of the service's pools in order of priority.
    pub(crate) fn pool_names(&self, service: &Service) -> Vec<String> {
        service.pools.iter().map(|pool| self.config.pools[*pool].name.clone()).collect()
    }
}

/// `; did you mean "x"?`, where one of the known names is close.
fn did_you_mean(name: &str, known: &[String]) -> String {
    // A bare BACKEND is compared with the bare names.
    let comparable = |candidate: &str| match name.contains('/') {
        true => candidate.to_owned(),
        false => candidate.rsplit('/').next().unwrap_or(candidate).to_owned(),
    };
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, &comparable(candidate)), candidate))
        .filter(|(distance, _)| *distance <= 1 + name.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!("; did you mean {candidate:?}?"))
        .unwrap_or_default()
}

/// `the backends are a, b, c`, cut off where it gets long.
fn listed(what: &str, known: &[String]) -> String {
    const SHOWN: usize = 12;
    if known.is_empty() {
        return format!("there are no {what}");
    }
    let mut text = format!("the {what} are {}", known[..known.len().min(SHOWN)].join(", "));
    if known.len() > SHOWN {
        let _ = write!(text, " and {} more: see `edge-ctl status`", known.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::inventory;

    #[test]
    fn a_backend_is_found_by_its_full_name_and_by_a_unique_bare_one() {
        let inventory = inventory();
        assert_eq!(inventory.backend("provider-a/a1").unwrap().number, 1);
        assert_eq!(inventory.backend("b2").unwrap().name(), "provider-b/b2");
    }

    #[test]
    fn a_bare_name_of_two_pools_is_refused() {
        let error = inventory().backend("shared").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"several pools have a backend "shared": provider-a/shared, provider-b/shared"#
        );
    }

    #[test]
    fn unknown_names_suggest_the_nearest() {
        let inventory = inventory();
        let error = inventory.backend("provider-a/a9").unwrap_err();
        assert_eq!(error.to_string(), r#"no backend "provider-a/a9"; did you mean "provider-a/a1"?"#);
        let error = inventory.service("wbe").unwrap_err();
        assert_eq!(error.to_string(), r#"no service "wbe"; did you mean "web"?"#);
        let error = inventory.service("entirely-else").unwrap_err();
        assert_eq!(error.to_string(), r#"no service "entirely-else""#);
        assert_eq!(error.hint(), "the services are web, dns");
    }

    #[test]
    fn a_pool_of_another_service_is_told_from_none_at_all() {
        let inventory = inventory();
        let (dns, _) = inventory.service("dns").unwrap();
        assert!(matches!(inventory.position(dns, "provider-a"), Err(NameError::PoolNotInService { .. })));
        assert!(matches!(inventory.position(dns, "provider-x"), Err(NameError::NoSuchPool { .. })));
        assert_eq!(inventory.position(dns, "provider-b"), Ok(0));
    }
}
