//! How bad the state of a service, a pool or a backend is, and the part of a status that an operator asks for.

#![deny(clippy::wildcard_enum_match_arm)]

use glob::Pattern;
use serde::Serialize;

use super::{BackendState, BackendStatus, CertificateState, PoolStatus, ServiceState, ServiceStatus, Status};
use crate::config::configured;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Ok,
    /// Clients are served, but something needs attention.
    Warning,
    /// Clients are not served, or may not be.
    Critical,
}

impl ServiceState {
    /// Orders from best to worst.
    pub(crate) const fn badness(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failover => 1,
            Self::Fallback => 2,
            Self::Unknown => 3,
            Self::Panic => 4,
            Self::Exhausted => 5,
            Self::Unreachable => 6,
        }
    }
}

impl ServiceStatus {
    pub(crate) fn level(&self) -> Level {
        match self.state {
            ServiceState::Panic | ServiceState::Exhausted | ServiceState::Unreachable => Level::Critical,
            ServiceState::Failover | ServiceState::Fallback | ServiceState::Unknown => Level::Warning,
            ServiceState::Ok if self.unrecorded.is_some() => Level::Warning,
            ServiceState::Ok => Level::Ok,
        }
    }
}

impl PoolStatus {
    pub(crate) fn level(&self) -> Level {
        let is_short = self.available < usize::from(self.min_healthy) || self.withheld > 0.0;
        let own = match (self.panic, is_short) {
            (true, _) => Level::Critical,
            (false, true) => Level::Warning,
            (false, false) => Level::Ok,
        };
        self.backends.iter().map(|backend| self.level_of(backend)).fold(own, Level::max)
    }

    /// Level of one of the pool's backends. Without a probe, unknown health is no trouble.
    pub(crate) fn level_of(&self, backend: &BackendStatus) -> Level {
        let is_up = match backend.state {
            BackendState::Up => true,
            BackendState::Unknown => self.probe.is_none(),
            BackendState::Down | BackendState::Draining | BackendState::Disabled => false,
        };
        let is_noted = backend.forced.is_some()
            || backend.needed_mtu.is_some()
            || backend.certificate.is_some_and(|certificate| certificate.state != CertificateState::Valid);
        if is_up && !is_noted { Level::Ok } else { Level::Warning }
    }
}

/// The part of a status that an operator asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Services with one of these names, and their pools; all if there are none.
    pub(crate) services: Vec<Pattern>,
    /// Pools with one of these names, and the services that list one of them; all if there are none.
    pub(crate) pools: Vec<Pattern>,
    /// Only services, pools and backends in trouble.
    pub(crate) trouble: bool,
}

impl Part {
    /// Whether it is the whole status.
    pub(crate) fn is_all(&self) -> bool {
        self.services.is_empty() && self.pools.is_empty() && !self.trouble
    }

    /// Removes everything else from `status`.
    ///
    /// # Errors
    /// The first pattern that matches no name.
    pub(crate) fn keep(&self, status: &mut Status) -> Result<(), Pattern> {
        let is_known = |patterns: &[Pattern], names: &mut dyn Iterator<Item = &str>| {
            let names: Vec<_> = names.collect();
            let unknown = |pattern: &&Pattern| !names.iter().any(|name| matches(std::slice::from_ref(pattern), name));
            patterns.iter().find(unknown).cloned().map_or(Ok(()), Err)
        };
        is_known(&self.services, &mut status.services.iter().map(|service| &*service.name))?;
        is_known(&self.pools, &mut status.pools.iter().map(|pool| &*pool.name))?;
        status.services.retain(|service| {
            matches(&self.services, &service.name)
                && (self.pools.is_empty() || service.pools.iter().any(|pool| matches(&self.pools, pool)))
        });
        let services = &status.services;
        let is_used = |pool: &PoolStatus| services.iter().any(|service| service.uses(&pool.name));
        status.pools.retain(|pool| matches(&self.pools, &pool.name) && (self.services.is_empty() || is_used(pool)));
        if self.trouble {
            status.services.retain(|service| service.level() > Level::Ok);
            status.pools.retain(|pool| pool.level() > Level::Ok);
            for pool in &mut status.pools {
                let out: Vec<_> = pool.backends.iter().map(|backend| pool.level_of(backend) > Level::Ok).collect();
                let mut out = out.into_iter();
                pool.backends.retain(|_| out.next() == Some(true));
            }
        }
        if !self.is_all() {
            let pools = &status.pools;
            let of_pool = |name: &str| pools.iter().any(|pool| name.starts_with(&format!("{}/", pool.name)));
            status.retired.retain(|backend| of_pool(&backend.name));
            // They are counted for all services together.
            status.exits.clear();
        }
        Ok(())
    }
}

impl ServiceStatus {
    /// Whether the service lists the pool, or the pool that `pool` is a part of.
    pub(crate) fn uses(&self, pool: &str) -> bool {
        let is_same = |own: &String| own == pool || configured(own).0 == configured(pool).0;
        self.pools.iter().any(is_same)
    }
}

/// Whether one of the patterns matches the name, or the name that the file has for it; true without patterns.
fn matches(patterns: &[Pattern], name: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(name) || pattern.matches(configured(name).0))
}

#[cfg(test)]
mod tests {
    use edge_common::abi::State;

    use super::*;
    use crate::control::{
        data_plane::DataPlane as _,
        fixture::{FakeDataPlane, inventory},
        status::{Clock, Sample, build},
    };

    /// Names of the services and backends that are left of a status in which provider-a/a1 is down.
    fn left(part: &Part) -> Result<(Vec<String>, Vec<String>), Pattern> {
        let inventory = inventory();
        let mut plane = FakeDataPlane::fresh(&inventory);
        plane.path_mtus.clear();
        for number in 1..=6 {
            let up = State(State::NEW | State::ALIVE | State::ENABLED | State::UP);
            plane.set_state(number, if number == 1 { State(State::ENABLED | State::DOWN) } else { up }, "").unwrap();
        }
        let now = Sample::take(&inventory, &plane, Clock::now());
        let mut status = build(&inventory, &plane, None, &now, None);
        part.keep(&mut status)?;
        let backends = status.pools.iter().flat_map(|pool| &pool.backends).map(|backend| backend.name.clone());
        Ok((status.services.into_iter().map(|service| service.name).collect(), backends.collect()))
    }

    fn patterns(of: &[&str]) -> Vec<Pattern> {
        of.iter().map(|pattern| Pattern::new(pattern).unwrap()).collect()
    }

    #[test]
    fn a_part_has_what_belongs_together() {
        let count = |part: &Part| left(part).map(|(services, backends)| (services.join(" "), backends.len()));
        assert_eq!(count(&Part::default()).unwrap(), ("web dns".to_owned(), 6));
        let of_service = |names: &[&str]| Part { services: patterns(names), ..Part::default() };
        assert_eq!(count(&of_service(&["dns"])).unwrap(), ("dns".to_owned(), 3));
        assert_eq!(count(&of_service(&["w*", "dns"])).unwrap(), ("web dns".to_owned(), 6));
        let of_pool = Part { pools: patterns(&["provider-a"]), ..Part::default() };
        assert_eq!(count(&of_pool).unwrap(), ("web".to_owned(), 3));
        let trouble = Part { trouble: true, ..Part::default() };
        assert_eq!(left(&trouble).unwrap(), (Vec::new(), vec!["provider-a/a1".to_owned()]));
        assert_eq!(left(&of_service(&["dns", "wbe"])).unwrap_err().as_str(), "wbe");
    }
}
