//! Times in which connections may break: while their backend is dead, or out of service.

use std::time::Instant;

use crate::lab::{
    flows::Broken,
    topology::{Backend, Family, Part, Service},
};

/// A time in which a backend's connections may break.
#[derive(Clone, Debug)]
pub struct Outage {
    pub backend: Backend,
    /// Extent of the outage: the whole machine, or one pool.
    pub reach: Reach,
    pub from: Instant,
    /// `None` if the outage has not ended.
    pub to: Option<Instant>,
    /// Whether the backend keeps its flows, since the cause of the failed probes is unclear, or still serves, since too
    /// few others do. New flows without room for a record then follow the backend's flows.
    pub in_doubt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    Machine,
    /// The pool of the backend's provider with this part and family.
    Pool(Part, Family),
}

impl Outage {
    /// Whether the outage explains why a connection broke: the connection used this backend, through this pool, at some
    /// time during the outage.
    pub fn explains(&self, broken: &Broken, services: &[Service]) -> bool {
        let reached = match self.reach {
            Reach::Machine => true,
            Reach::Pool(part, via) => services
                .iter()
                .filter(|service| service.address() == broken.service)
                .any(|service| (service.part, service.via) == (part, via)),
        };
        reached
            && broken.backend.map_or(self.in_doubt, |backend| backend == self.backend)
            && broken.at >= self.from
            && self.to.is_none_or(|to| broken.began <= to)
    }
}

/// The connections among `broken` that no outage explains.
pub fn unexplained<'a>(broken: &'a [Broken], outages: &[Outage], services: &[Service]) -> Vec<&'a Broken> {
    broken.iter().filter(|broken| !outages.iter().any(|outage| outage.explains(broken, services))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::{flows::How, topology::SERVICES};

    #[test]
    fn an_outage_explains_its_own_connections_only() {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let [a1, a2] = ["a1", "a2"].map(|name| Backend::named(name).unwrap());
        let reach = Reach::Pool(Part::Wan, Family::V4);
        let outage = Outage { backend: a1, reach, from: at(10), to: Some(at(20)), in_doubt: false };
        let broken = |backend, service, began, broke| {
            let service = Service::named(service).address();
            Broken {
                client: "10.0.0.1:1".parse().unwrap(),
                service,
                backend,
                began: at(began),
                stood: None,
                answers: 0,
                requested: None,
                at: at(broke),
                how: How::Reset,
            }
        };
        let explained =
            |backend, service, began, broke| outage.explains(&broken(backend, service, began, broke), &SERVICES);
        assert!(explained(Some(a1), "web-4in4", 1, 10));
        assert!(explained(Some(a1), "web-6in4", 12, 25));
        assert!(!explained(Some(a1), "web-4in6", 1, 10), "another pool");
        assert!(!explained(Some(a2), "web-4in4", 1, 10), "another backend");
        assert!(!explained(None, "web-4in4", 1, 10), "nobody's");
        assert!(!explained(Some(a1), "web-4in4", 1, 9), "before");
        assert!(!explained(Some(a1), "web-4in4", 21, 25), "after");
        let explained = |backend, service, began, broke| {
            Outage { in_doubt: true, ..outage.clone() }.explains(&broken(backend, service, began, broke), &SERVICES)
        };
        assert!(explained(None, "web-4in4", 1, 10), "it may have been in doubt");
        assert!(!explained(None, "web-4in6", 1, 10), "another pool");
    }
}
