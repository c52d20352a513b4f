//! The configuration with the numbers of its services, pools and backends in the packet path, and the lookup of names.

use std::{collections::BTreeSet, fmt::Write, net::IpAddr, time::Duration};

use edge_common::abi::{BackendNumber, State};
use thiserror::Error;

use super::data_plane::DataPlane;
use crate::{
    bpf::{NatIdle, Waits},
    config::{self, Backend, Config, ConfigError, Pool, Ports, Service, WeightWord},
    plan::{RetiredRecord, Snapshot},
};

/// Interval of reconcile passes over services in transition, unless an idle timeout is shorter than four times this.
const PASS: Duration = Duration::from_secs(1);

/// A configuration with the numbers under which it was published.
#[derive(Clone, Debug)]
pub(crate) struct Inventory {
    /// Number of the configuration; each publication increments it.
    pub(crate) generation: u64,
    pub(crate) config: Config,
    /// Numbers of `config.services`, in their order.
    pub(crate) services: Vec<u32>,
    /// Numbers of `config.pools`, in their order.
    pub(crate) pools: Vec<u16>,
    /// Numbers of each of `config.pools`' backends, in their order.
    pub(crate) backends: Vec<Vec<BackendNumber>>,
    /// Backends that were removed from the configuration and may still have flows.
    pub(crate) retired: Vec<RetiredRecord>,
}

/// A backend of an [`Inventory`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) backend: &'a Backend,
    pub(crate) number: BackendNumber,
}

impl Member<'_> {
    /// `POOL/BACKEND`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.pool.name, self.backend.name)
    }

    /// The same, with the pool's name in the file.
    pub(crate) fn configured_name(&self) -> String {
        config::configured_backend(&self.name())
    }

    /// The weight set by an operator.
    pub(crate) fn word<'a>(&self, inventory: &'a Inventory) -> Option<&'a WeightWord> {
        let weights = &inventory.config.weights;
        // Most configurations have no such weights, and building names takes time.
        if weights.is_empty() { None } else { weights.get(&self.configured_name()) }
    }
}

/// Any backend that has a number, configured or retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) number: BackendNumber,
    /// `POOL/BACKEND`.
    pub(crate) name: String,
    pub(crate) retired: bool,
}

/// The backend that an operator names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// `POOL/BACKEND`, where `POOL` may be one part of a pool.
    pub(crate) name: String,
    /// At least one: each of its addresses has a number.
    pub(crate) numbers: Vec<BackendNumber>,
    pub(crate) retired: bool,
}

/// The published configuration cannot be read by this program.
#[derive(Debug, Error)]
pub(crate) enum InventoryError {
    #[error("the published configuration cannot be read: another version of edge-ctl wrote it")]
    Text(#[source] ConfigError),
    #[error("nothing was published under the name {name:?}: the snapshot in the maps contradicts itself")]
    Missing { name: String },
}

/// A name without a match, or with several.
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
    /// A suggestion for the operator.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoSuchBackend { known, .. } => listed("backends", known),
            Self::NoSuchService { known, .. } => listed("services", known),
            Self::NoSuchPool { known, .. } => listed("pools", known),
            Self::AmbiguousBackend { .. } => {
                "write POOL/BACKEND, and POOL/BACKEND@ADDRESS for one that has left the configuration".to_owned()
            }
            Self::PoolNotInService { .. } => {
                "name one of its pools, or add the pool to the service's `pools` in the configuration".to_owned()
            }
        }
    }
}

impl Inventory {
    /// `config` with the numbers in `snapshot`.
    pub(crate) fn new(config: Config, snapshot: &Snapshot) -> Result<Self, InventoryError> {
        let missing = |name: &str| InventoryError::Missing { name: name.to_owned() };
        let services = config
            .services
            .iter()
            .map(|service| Ok(snapshot.service(&service.name).ok_or_else(|| missing(&service.name))?.number))
            .collect::<Result<_, _>>()?;
        let pools = config
            .pools
            .iter()
            .map(|pool| Ok(snapshot.pool(&pool.name).ok_or_else(|| missing(&pool.name))?.number))
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
        let retired = snapshot.retired.clone();
        Ok(Self { generation: snapshot.generation, config, services, pools, backends, retired })
    }

    /// The published configuration, from its snapshot.
    pub(crate) fn from_snapshot(snapshot: &Snapshot) -> Result<Self, InventoryError> {
        let config =
            config::parse_accepted(&snapshot.config, "published configuration").map_err(InventoryError::Text)?;
        Self::new(config.weighted(&snapshot.weights), snapshot)
    }

    /// All backends, pool by pool in the configuration's order.
    pub(crate) fn members(&self) -> impl Iterator<Item = Member<'_>> {
        (0..self.config.pools.len()).flat_map(|pool| self.members_of(pool))
    }

    /// The backends of the pool at `pool_position`.
    pub(crate) fn members_of(&self, pool_position: usize) -> impl Iterator<Item = Member<'_>> {
        let pool = &self.config.pools[pool_position];
        let numbers = &self.backends[pool_position];
        pool.backends.iter().zip(numbers).map(move |(backend, number)| Member { pool, backend, number: *number })
    }

    /// All VIPs.
    pub(crate) fn vips(&self) -> BTreeSet<IpAddr> {
        self.config.vips().collect()
    }

    /// Services with their numbers.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&Service, u32)> {
        self.config.services.iter().zip(self.services.iter().copied())
    }

    /// Timeouts for the flows of each service.
    pub(crate) fn waits(&self) -> Vec<(u32, Waits)> {
        let waits = |service: &Service| Waits {
            flow_idle_timeout: service.ports.iter().map(Ports::handover_after).max().unwrap_or_default(),
            expiry: service.ports.iter().map(Ports::expiry).max().unwrap_or_default(),
        };
        self.services().map(|(service, number)| (number, waits(service))).collect()
    }

    /// Idle timeouts of the translated flows of each service.
    pub(crate) fn nat_idle(&self) -> NatIdle {
        let mut idle = NatIdle::new();
        for (service, number) in self.services() {
            let Ok(number) = u16::try_from(number) else { continue };
            for ports in service.ports.iter().filter(|ports| ports.translated) {
                idle.entry(number).or_default().push((ports.tracking, ports.flow_idle_timeout));
            }
        }
        idle
    }

    /// Interval of reconcile passes: at least four in each idle timeout.
    pub(crate) fn pass_interval(&self) -> Duration {
        let timeouts = self.waits().into_iter().map(|(_, waits)| waits.flow_idle_timeout);
        timeouts.filter(|timeout| !timeout.is_zero()).min().map_or(PASS, |timeout| (timeout / 4).min(PASS))
    }

    /// All backends that have a number, configured and retired.
    pub(crate) fn known(&self) -> impl Iterator<Item = Known> {
        let members = self.members().map(|member| Known { number: member.number, name: member.name(), retired: false });
        members.chain(self.retired.iter().map(|retired| Known {
            number: retired.number,
            name: format!("{}/{}", retired.pool, retired.name),
            retired: true,
        }))
    }

    /// The pool that a retired backend belonged to, if it is still configured.
    pub(crate) fn retired_pool(&self, retired: &RetiredRecord) -> Option<&Pool> {
        self.config.pools.iter().find(|pool| config::is_meant(&retired.pool, &pool.name))
    }

    /// Targets of probes: number, address, pool. A retired backend is probed like its pool.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (BackendNumber, IpAddr, Option<&Pool>)> {
        let members = self.members().map(|member| (member.number, member.backend.address, Some(member.pool)));
        members.chain(self.retired.iter().map(|retired| (retired.number, retired.address, self.retired_pool(retired))))
    }

    /// The backend `POOL/BACKEND`, or `BACKEND` if that is unambiguous; all of its addresses, unless `POOL` is a part
    /// of a pool. A retired backend can also be given with its address (`POOL/BACKEND@ADDRESS`), and must be if the
    /// configuration has another backend of its name.
    pub(crate) fn backend(&self, word: &str) -> Result<Named, NameError> {
        let is_named = |word: &str, full: &str| {
            let Some((pool, backend)) = full.split_once('/') else { return false };
            match word.split_once('/') {
                Some((wanted, name)) => name == backend && config::is_meant(wanted, pool),
                None => word == backend,
            }
        };
        let mut found: Vec<_> = self.known().filter(|known| !known.retired && is_named(word, &known.name)).collect();
        if found.is_empty() {
            let retired = self.known().filter(|known| known.retired).zip(&self.retired);
            let named = retired.filter(|(known, retired)| {
                let at_address = word.strip_suffix(&format!("@{}", retired.address));
                is_named(word, &known.name) || at_address.is_some_and(|word| is_named(word, &known.name))
            });
            found = named.map(|(known, _)| known).collect();
            // Several backends of one name are assumed to be different machines.
            let names: BTreeSet<_> = found.iter().map(|known| &known.name).collect();
            if names.len() < found.len() {
                let known = found.into_iter().map(|known| known.name).collect();
                return Err(NameError::AmbiguousBackend { name: word.to_owned(), known });
            }
        }
        let mut names = config::joined_backends(found.iter().map(|known| known.name.as_str()));
        match (names.pop(), names.is_empty()) {
            (Some(name), true) => {
                let retired = found.iter().all(|known| known.retired);
                Ok(Named { name, numbers: found.into_iter().map(|known| known.number).collect(), retired })
            }
            (None, _) => {
                let known: BTreeSet<_> = self.known().map(|known| config::configured_backend(&known.name)).collect();
                Err(NameError::NoSuchBackend { name: word.to_owned(), known: known.into_iter().collect() })
            }
            (Some(last), false) => {
                names.push(last);
                Err(NameError::AmbiguousBackend { name: word.to_owned(), known: names })
            }
        }
    }

    /// `POOL/BACKEND` of a number.
    pub(crate) fn name(&self, number: BackendNumber) -> Option<String> {
        // Avoids building the names of all others: this runs at each change.
        let configured = self.members().find(|member| member.number == number).map(|member| member.name());
        let retired = || self.retired.iter().find(|retired| retired.number == number);
        configured.or_else(|| retired().map(|retired| format!("{}/{}", retired.pool, retired.name)))
    }

    /// The service that `word` names, with its number: one service, or its two parts.
    pub(crate) fn service(&self, word: &str) -> Result<Vec<(&Service, u32)>, NameError> {
        let found: Vec<_> = self.services().filter(|(service, _)| config::is_meant(word, &service.name)).collect();
        if found.is_empty() {
            let known = config::joined_names(self.config.services.iter().map(|service| service.name.as_str()));
            return Err(NameError::NoSuchService { name: word.to_owned(), known });
        }
        Ok(found)
    }

    /// Checks that the pool exists.
    pub(crate) fn pool(&self, word: &str) -> Result<(), NameError> {
        if self.config.pools.iter().any(|pool| config::is_meant(word, &pool.name)) {
            return Ok(());
        }
        let known = config::joined_names(self.config.pools.iter().map(|pool| pool.name.as_str()));
        Err(NameError::NoSuchPool { name: word.to_owned(), known })
    }

    /// Position in `service.pools` of the pool that `pool` names.
    pub(crate) fn position(&self, service: &Service, pool: &str) -> Result<usize, NameError> {
        let is_meant = |known: &Pool| config::is_meant(pool, &known.name);
        if let Some(position) = service.pools.iter().position(|member| is_meant(&self.config.pools[*member])) {
            return Ok(position);
        }
        let known = self.pool_names(service);
        if self.config.pools.iter().any(is_meant) {
            let (service, _) = config::configured(&service.name);
            return Err(NameError::PoolNotInService { name: pool.to_owned(), service: service.to_owned(), known });
        }
        Err(NameError::NoSuchPool { name: pool.to_owned(), known })
    }

    /// Numbers of the service's pools that could take its new flows but are still held back.
    pub(crate) fn waiting<P: DataPlane>(&self, service: &Service, plane: &P) -> impl Iterator<Item = u16> {
        let waits = |pool: &usize| {
            let number = *self.pools.get(*pool)?;
            let available =
                self.members_of(*pool).filter(|member| plane.state(member.number).has_all(State::NEW)).count();
            let waits = plane.withheld(number) > 0 && available >= usize::from(self.config.pools[*pool].min_healthy);
            waits.then_some(number)
        };
        service.pools.iter().filter_map(waits)
    }

    /// Names of the service's pools in the file, in order of priority.
    pub(crate) fn pool_names(&self, service: &Service) -> Vec<String> {
        let name = |pool: &usize| config::configured(&self.config.pools[*pool].name).0.to_owned();
        service.pools.iter().map(name).collect()
    }
}

/// `; did you mean "x"?`, if one of the known names is similar.
fn did_you_mean(name: &str, known: &[String]) -> String {
    // A bare `BACKEND` is compared with bare names.
    let comparable = |candidate: &str| {
        let bare = candidate.rsplit('/').next().unwrap_or(candidate);
        if name.contains('/') { candidate.to_owned() } else { bare.to_owned() }
    };
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, &comparable(candidate)), candidate))
        .filter(|(distance, _)| *distance <= 1 + name.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!("; did you mean {candidate:?}?"))
        .unwrap_or_default()
}

/// `the backends are a, b, c`, truncated if long.
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
    use crate::control::fixture::inventory;

    #[test]
    fn a_backend_is_found_by_its_full_name_and_by_a_unique_bare_one() {
        let inventory = inventory();
        assert_eq!(inventory.backend("provider-a/a1").unwrap().numbers, [1]);
        assert_eq!(inventory.backend("b2").unwrap().name, "provider-b/b2");
    }

    #[test]
    fn a_bare_name_of_two_pools_is_refused() {
        let error = inventory().backend("shared").unwrap_err();
        assert_eq!(error.to_string(), r#"several pools have a backend "shared": provider-a/shared, provider-b/shared"#);
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
    fn a_pool_of_another_service_is_distinguished_from_an_unknown_one() {
        let inventory = inventory();
        let (dns, _) = inventory.service("dns").unwrap()[0];
        assert!(matches!(inventory.position(dns, "provider-a"), Err(NameError::PoolNotInService { .. })));
        assert!(matches!(inventory.position(dns, "provider-x"), Err(NameError::NoSuchPool { .. })));
        assert_eq!(inventory.position(dns, "provider-b"), Ok(0));
    }
}
