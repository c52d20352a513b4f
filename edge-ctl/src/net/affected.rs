//! The destinations that a change of the host's network concerns for certain; it may concern others too. Pure.

#![deny(clippy::disallowed_methods)]

use std::net::IpAddr;

use super::{
    next_hop::{Lookup, Tables},
    route::{Destination, Hop},
    tables::Prefix,
};

impl Tables {
    /// The destinations whose packets leave by a link, or by a device on top of it.
    pub(super) fn using_link(&self, index: u32) -> Vec<Destination> {
        let controller = self.links.get(&index).and_then(|link| link.controller);
        let by = |hop: &Hop| {
            let lies_on_it = |egress| {
                let link = self.links.get(&egress);
                link.is_some_and(|link| link.below == Some(index) || link.vlan.is_some_and(|vlan| vlan.parent == index))
            };
            hop.egress == index || controller == Some(hop.egress) || lies_on_it(hop.egress)
        };
        let is_via = |lookup: &Lookup| matches!(lookup, Lookup::Via(route) if route.hops.iter().any(by));
        self.lookups.iter().filter(|(_, lookup)| is_via(lookup)).map(|(destination, _)| *destination).collect()
    }

    /// The destinations within a prefix.
    pub(super) fn within(&self, (address, length): Prefix) -> Vec<Destination> {
        let start = Destination::of(first(address, length));
        let from_there = self.lookups.range(start..).map(|(destination, _)| *destination);
        from_there.take_while(|destination| is_within(destination.address, (address, length))).collect()
    }
}

/// The least address of a prefix.
fn first(address: IpAddr, length: u8) -> IpAddr {
    let bits = u32::from(length);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & !u32::MAX.checked_shr(bits).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::MAX.checked_shr(bits).unwrap_or(0)).into()),
    }
}

fn is_within(other: IpAddr, (address, length): Prefix) -> bool {
    address.is_ipv4() == other.is_ipv4() && first(other, length) == first(address, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        next_hop::{Link, Unreachable, Vlan},
        route::Route,
    };

    fn tables(destinations: &[(&str, &[u32])]) -> Tables {
        let lookup = |egresses: &[u32]| {
            let hop = |egress: &u32| Hop { egress: *egress, via: [10, 0, 0, 2].into(), weight: 1 };
            let hops: Vec<_> = egresses.iter().map(hop).collect();
            if hops.is_empty() {
                return Lookup::Unreachable(Unreachable::NoRoute);
            }
            Lookup::Via(Route { hops, mtu: None, source: None })
        };
        let of = |name: &str| Destination::of(name.parse().unwrap());
        let lookups = destinations.iter().map(|(name, egresses)| (of(name), lookup(egresses))).collect();
        Tables { lookups, ..Tables::default() }
    }

    fn names(destinations: Vec<Destination>) -> Vec<String> {
        destinations.into_iter().map(|destination| destination.address.to_string()).collect()
    }

    #[test]
    fn a_link_concerns_what_leaves_by_it_and_by_devices_on_it() {
        let mut tables = tables(&[
            ("10.0.0.1", &[2]),
            ("10.0.0.2", &[3, 2]),
            ("10.0.0.3", &[5]),
            ("10.0.0.4", &[6]),
            ("10.0.0.5", &[7]),
            ("10.0.0.6", &[3]),
            ("10.0.0.7", &[]),
        ]);
        tables.links = [
            (2, Link { controller: Some(7), ..Link::default() }),
            (5, Link { vlan: Some(Vlan { parent: 2, id: 7, customer_tag: true }), ..Link::default() }),
            (6, Link { below: Some(2), ..Link::default() }),
        ]
        .into();
        assert_eq!(names(tables.using_link(2)), ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]);
        tables.links.clear();
        assert_eq!(names(tables.using_link(2)), ["10.0.0.1", "10.0.0.2"], "the link is gone");
    }

    #[test]
    fn a_route_concerns_what_its_prefix_holds() {
        let all = ["10.0.0.255", "10.0.1.0", "10.0.1.255", "10.0.2.0", "2001:db8::1", "2001:db8:1::1"];
        let tables = tables(&all.map(|name| (name, &[][..])));
        for (prefix, length, held) in [
            ("10.0.1.7", 24, &all[1..3]),
            ("10.0.1.0", 32, &all[1..2]),
            ("10.0.0.0", 23, &all[..3]),
            ("0.0.0.0", 0, &all[..4]),
            ("2001:db8::", 48, &all[4..5]),
            ("2001:db8::", 32, &all[4..]),
            ("::", 0, &all[4..]),
            ("10.9.0.0", 16, &[]),
        ] {
            assert_eq!(names(tables.within((prefix.parse().unwrap(), length))), held, "{prefix}/{length}");
        }
    }
}
