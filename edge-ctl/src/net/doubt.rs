//! Next hops in doubt: all backends behind such a next hop are silent, while a backend behind another next hop of the
//! same route answers, or, for a backend on the link itself, any other backend. The kernel is then made to probe the next
//! hop in doubt. Pure.
//!
//! The kernel sees none of the packets that XDP sends, so it believes in a router for most of a minute after it has
//! died, and in the MAC address of a backend that has another one by now. A next hop is not probed if nothing else is
//! heard: this host itself may be cut off then, and knowing which neighbour failed first would only take backends out one
//! by one.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use edge_common::abi::BackendNumber;

use super::{
    next_hop::{Neighbour, NeighbourKey, Resolution, Tables, neighbours, resolve},
    route::Destination,
};

/// Whether the last probe of each backend got any answer. Backends without a result are missing.
pub(super) type Heard = BTreeMap<BackendNumber, bool>;

/// Records results of probes. Returns whether any result has changed.
pub(super) fn note(known: &mut Heard, found: impl IntoIterator<Item = (BackendNumber, bool)>) -> bool {
    found.into_iter().fold(false, |other, (backend, heard)| (known.insert(backend, heard) != Some(heard)) || other)
}

/// The next hops in doubt.
pub(super) fn doubtful(
    tables: &Tables,
    backends: &[(BackendNumber, Destination)],
    given_up: &BTreeSet<NeighbourKey>,
    heard: &Heard,
) -> BTreeSet<NeighbourKey> {
    let (mut alive, mut silent) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
    for (number, destination) in backends {
        let Resolution::Resolved { neighbour, .. } = resolve(tables, *destination, given_up) else { continue };
        match heard.get(number) {
            Some(true) => {
                alive.insert(neighbour);
            }
            Some(false) => silent.entry(neighbour).or_default().push(*destination),
            None => {}
        }
    }
    silent.retain(|neighbour, behind| {
        let may_be_probed = match tables.neighbours.get(neighbour) {
            Some(Neighbour::Usable(_) | Neighbour::Stale(_)) => true,
            Some(Neighbour::Fixed(_) | Neighbour::Pending | Neighbour::Failed | Neighbour::Unknown) | None => false,
        };
        let mut others = behind.iter().flat_map(|destination| neighbours(tables, *destination));
        let has_heard_alternative = others.any(|(other, _)| alive.contains(&other));
        let is_backend = behind.iter().any(|destination| destination.address == neighbour.1) && !alive.is_empty();
        may_be_probed && !alive.contains(neighbour) && (has_heard_alternative || is_backend)
    });
    silent.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        next_hop::{Link, Lookup},
        route::{Hop, Route},
    };

    const MAC: [u8; 6] = [2; 6];
    const ROUTERS: [&str; 2] = ["10.0.0.2", "10.0.0.9"];

    fn key(router: &str) -> NeighbourKey {
        (2, router.parse().unwrap())
    }

    /// Twelve backends behind two routers, and one backend on the link itself.
    fn scene() -> (Tables, Vec<(BackendNumber, Destination)>) {
        let hops = |vias: &[&str]| {
            let hop = |via: &&str| Hop { egress: 2, via: via.parse().unwrap(), weight: 1 };
            Lookup::Via(Route { hops: vias.iter().map(hop).collect(), mtu: None, source: None })
        };
        let link = Link { name: "eth0".to_owned(), mac: Some(MAC), mtu: 1500, up: true, ..Link::default() };
        let on_link = "10.0.0.7";
        let mut tables = Tables { links: [(2, link)].into(), ..Tables::default() };
        tables.neighbours = [on_link, ROUTERS[0], ROUTERS[1]].map(|name| (key(name), Neighbour::Usable(MAC))).into();
        let behind = (1..=12).map(|host| Destination::of(format!("198.51.100.{host}").parse().unwrap()));
        let beside = Destination::of(on_link.parse().unwrap());
        let backends: Vec<_> = (1..).zip(behind.chain([beside])).collect();
        for (number, destination) in &backends {
            let vias = if *number == 13 { vec![on_link] } else { ROUTERS.to_vec() };
            tables.lookups.insert(*destination, hops(&vias));
        }
        (tables, backends)
    }

    /// The next hops in doubt, given whether each backend is heard; `None` for a backend without a result.
    fn in_doubt(tables: &Tables, is_heard: impl Fn(NeighbourKey, BackendNumber) -> Option<bool>) -> Vec<NeighbourKey> {
        let (_, backends) = scene();
        let by = |destination| resolve(tables, destination, &BTreeSet::new()).neighbour().unwrap();
        let heard = |(number, destination): &(BackendNumber, Destination)| {
            Some((*number, is_heard(by(*destination), *number)?))
        };
        let heard = backends.iter().filter_map(heard).collect();
        doubtful(tables, &backends, &BTreeSet::new(), &heard).into_iter().collect()
    }

    #[test]
    fn a_next_hop_with_silent_backends_alone_is_in_doubt_beside_one_that_is_heard() {
        let (mut tables, _) = scene();
        let [one, other] = ROUTERS.map(key);
        assert_eq!(in_doubt(&tables, |by, _| Some(by != one)), [one]);
        assert_eq!(in_doubt(&tables, |by, _| Some(by != other)), [other]);
        // No backend is heard, or none that has a choice of next hops; no results are known; one backend behind it is
        // heard.
        assert_eq!(in_doubt(&tables, |_, _| Some(false)), []);
        assert_eq!(in_doubt(&tables, |_, number| Some(number == 13)), []);
        assert_eq!(in_doubt(&tables, |by, _| (by == one).then_some(false)), []);
        let first = (1..=12).find(|number| in_doubt(&tables, |_, other| Some(other != *number)).is_empty());
        assert_eq!(first, Some(1), "another one behind the same router answers");
        // A backend on the link has no alternative, and is probed if any other one is heard.
        assert_eq!(in_doubt(&tables, |_, number| Some(number != 13)), [key("10.0.0.7")]);
        assert_eq!(in_doubt(&tables, |_, number| (number == 13).then_some(false)), []);
        // Nor is a neighbour that an operator has configured.
        tables.neighbours.insert(one, Neighbour::Fixed(MAC));
        assert_eq!(in_doubt(&tables, |by, _| Some(by != one)), []);
    }

    #[test]
    fn only_what_is_other_than_it_was_is_news() {
        let mut heard = Heard::new();
        assert!(note(&mut heard, [(1, true), (2, true)]));
        assert!(!note(&mut heard, [(1, true), (2, true)]));
        assert!(note(&mut heard, [(1, false), (2, true)]));
    }
}
