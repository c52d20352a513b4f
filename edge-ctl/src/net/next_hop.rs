//! From routes, links and neighbours to the next hop of an address, without I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What a frame to a backend needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHopEntry {
    /// Interface index of the egress; of the parent when the route leaves by a VLAN interface.
    pub egress: u32,
    /// MAC address of the next hop.
    pub mac: [u8; 6],
    /// MAC address that the frame comes from.
    pub source_mac: [u8; 6],
    /// MTU of the way, bytes of IP packet: the least of the link's, its parent's and the route's. At most 65,535.
    pub mtu: u16,
    /// Whether that is the egress's own, and nothing else on the way is known to be narrower.
    pub own_mtu: bool,
    /// VLAN identifier; 0: untagged.
    pub vlan: u16,
}

/// A link, as far as a next hop depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub name: String,
    /// `None`: not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Bytes of IP packet.
    pub mtu: u32,
    /// Administratively up, with a carrier, and running.
    pub up: bool,
    pub vlan: Option<Vlan>,
    /// Index of the bridge or bond that this is a port of.
    pub controller: Option<u32>,
    /// Index of the device that this one lies on with a MAC address that may be its own: a VLAN or macvlan interface.
    pub below: Option<u32>,
}

/// What makes a link a VLAN interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vlan {
    pub parent: u32,
    pub id: u16,
    /// 802.1Q. The packet path writes no other tag.
    pub customer_tag: bool,
}

/// Interface and address of a next hop.
pub(super) type NeighbourKey = (u32, IpAddr);

/// An entry of the kernel's neighbour table. One that is absent is [`Self::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// Confirmed, about to be, or permanent: not to be touched.
    Usable([u8; 6]),
    /// Usable, and unconfirmed for a while. The kernel sees none of the packets that XDP sends, so nothing but us
    /// makes it ask again.
    Stale([u8; 6]),
    /// The kernel has sent a request for it.
    Pending,
    /// It did not answer, so that the kernel has given up.
    Failed,
    /// No request was sent.
    Unknown,
}

impl Neighbour {
    pub(super) fn mac(self) -> Option<[u8; 6]> {
        match self {
            Self::Usable(mac) | Self::Stale(mac) => Some(mac),
            Self::Pending | Self::Failed | Self::Unknown => None,
        }
    }
}

/// The kernel's answer to "how do I reach this address".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// `mtu`: the route's own, or that of the path as far as the kernel learnt it.
    Via {
        egress: u32,
        next_hop: IpAddr,
        mtu: Option<u32>,
    },
    NoWay(NoWay),
}

/// Why an address has no next hop.
#[derive(Clone, Debug, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoWay {
    #[error("the kernel has not been queried yet")]
    NotAsked,
    #[error("no route")]
    NoRoute,
    #[error("it is an address of this host")]
    OwnAddress,
    #[error("its route is not unicast (blackhole, unreachable, prohibit or multicast)")]
    NotUnicast,
    #[error("its route encapsulates")]
    Encapsulates,
    #[error("its egress is gone")]
    LinkGone,
    #[error("its egress is down")]
    LinkDown,
    #[error("its egress is not Ethernet")]
    NotEthernet,
    #[error("its egress has stacked or 802.1ad VLAN tags")]
    UnsupportedVlan,
}

/// Result of [`resolve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    Found {
        entry: NextHopEntry,
        neighbour: NeighbourKey,
        stale: bool,
    },
    /// All is known but the MAC address.
    Unresolved {
        neighbour: NeighbourKey,
        pending: bool,
    },
    NoWay(NoWay),
}

impl Resolution {
    pub(super) fn entry(&self) -> Option<NextHopEntry> {
        match self {
            Self::Found { entry, .. } => Some(*entry),
            Self::Unresolved { .. } | Self::NoWay(_) => None,
        }
    }

    /// Why nothing can be sent there, as far as that is certain. `given_up` are neighbours that the kernel has given up on.
    pub(super) fn why_not(&self, given_up: &BTreeSet<NeighbourKey>) -> Option<String> {
        match self {
            Self::NoWay(reason @ (NoWay::NoRoute | NoWay::NotUnicast | NoWay::LinkGone | NoWay::LinkDown)) => {
                Some(reason.to_string())
            }
            Self::Unresolved { neighbour, .. } if given_up.contains(neighbour) => {
                Some(format!("its next hop {} does not answer", neighbour.1))
            }
            Self::Found { .. } | Self::Unresolved { .. } | Self::NoWay(_) => None,
        }
    }

    /// The neighbour that this result stands and falls with.
    #[cfg(test)]
    pub(super) fn neighbour(&self) -> Option<NeighbourKey> {
        match self {
            Self::Found { neighbour, .. } | Self::Unresolved { neighbour, .. } => Some(*neighbour),
            Self::NoWay(_) => None,
        }
    }
}

/// The kernel's tables, as far as next hops depend on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    pub links: BTreeMap<u32, Link>,
    pub neighbours: BTreeMap<NeighbourKey, Neighbour>,
    pub lookups: BTreeMap<IpAddr, Lookup>,
}

impl Tables {
    /// Adds the neighbours that the kernel has given up on, and removes those that have a MAC address again. One that is
    /// being asked anew has not answered yet.
    pub(super) fn note_given_up(&self, given_up: &mut BTreeSet<NeighbourKey>) {
        given_up.retain(|key| self.neighbours.get(key).is_some_and(|neighbour| neighbour.mac().is_none()));
        let failed = self.neighbours.iter().filter(|(_, neighbour)| **neighbour == Neighbour::Failed);
        given_up.extend(failed.map(|(key, _)| *key));
    }
}

/// The next hop of `address`.
pub(super) fn resolve(tables: &Tables, address: IpAddr) -> Resolution {
    let (egress, next_hop, route_mtu) = match tables.lookups.get(&address) {
        None => return Resolution::NoWay(NoWay::NotAsked),
        Some(Lookup::NoWay(reason)) => return Resolution::NoWay(*reason),
        Some(Lookup::Via { egress, next_hop, mtu }) => (*egress, *next_hop, *mtu),
    };
    let way = match way(tables, egress) {
        Ok(way) => way,
        Err(reason) => return Resolution::NoWay(reason),
    };
    let neighbour = (egress, next_hop);
    let known = tables.neighbours.get(&neighbour).copied().unwrap_or(Neighbour::Unknown);
    let Some(mac) = known.mac() else {
        return Resolution::Unresolved { neighbour, pending: known == Neighbour::Pending };
    };
    let mtu = way.mtu.min(route_mtu.unwrap_or(u32::MAX));
    Resolution::Found {
        entry: NextHopEntry {
            egress: way.egress,
            mac,
            source_mac: way.source_mac,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            own_mtu: mtu == way.egress_mtu,
            vlan: way.vlan,
        },
        neighbour,
        stale: matches!(known, Neighbour::Stale(_)),
    }
}

/// What a link contributes to a next hop.
struct Way {
    egress: u32,
    source_mac: [u8; 6],
    mtu: u32,
    /// MTU of the egress itself.
    egress_mtu: u32,
    vlan: u16,
}

fn way(tables: &Tables, index: u32) -> Result<Way, NoWay> {
    let link = tables.links.get(&index).ok_or(NoWay::LinkGone)?;
    if !link.up {
        return Err(NoWay::LinkDown);
    }
    let source_mac = link.mac.ok_or(NoWay::NotEthernet)?;
    let Some(vlan) = link.vlan else {
        return Ok(Way { egress: index, source_mac, mtu: link.mtu, egress_mtu: link.mtu, vlan: 0 });
    };
    let parent = tables.links.get(&vlan.parent).ok_or(NoWay::LinkGone)?;
    if !vlan.customer_tag || parent.vlan.is_some() {
        return Err(NoWay::UnsupportedVlan);
    }
    if !parent.up {
        return Err(NoWay::LinkDown);
    }
    let (mtu, egress_mtu) = (link.mtu.min(parent.mtu), parent.mtu);
    Ok(Way { egress: vlan.parent, source_mac, mtu, egress_mtu, vlan: vlan.id })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(mtu: u32) -> Link {
        Link { name: "eth0".into(), mac: Some(OWN), mtu, up: true, ..Link::default() }
    }

    /// 10.0.0.9 on link 2, its MAC address confirmed; 192.0.2.1 behind it.
    fn tables() -> Tables {
        let via = |mtu| Lookup::Via { egress: 2, next_hop: ip("10.0.0.9"), mtu };
        Tables {
            links: [(2, link(1500))].into(),
            neighbours: [((2, ip("10.0.0.9")), Neighbour::Usable(MAC))].into(),
            lookups: [(ip("10.0.0.9"), via(None)), (ip("192.0.2.1"), via(Some(1400)))].into(),
        }
    }

    #[test]
    fn on_link_and_behind_a_gateway() {
        let entry = NextHopEntry { egress: 2, mac: MAC, source_mac: OWN, mtu: 1500, own_mtu: true, vlan: 0 };
        let neighbour = (2, ip("10.0.0.9"));
        let tables = tables();
        assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::Found { entry, neighbour, stale: false });
        let entry = NextHopEntry { mtu: 1400, own_mtu: false, ..entry };
        assert_eq!(resolve(&tables, ip("192.0.2.1")), Resolution::Found { entry, neighbour, stale: false });
    }

    #[test]
    fn gateway_of_the_other_family() {
        let mut tables = tables();
        let gateway = ip("fe80::1");
        tables.lookups.insert(ip("192.0.2.1"), Lookup::Via { egress: 2, next_hop: gateway, mtu: None });
        tables.neighbours.insert((2, gateway), Neighbour::Stale([2; 6]));
        let found = resolve(&tables, ip("192.0.2.1"));
        assert_eq!(found.entry().map(|entry| entry.mac), Some([2; 6]));
        assert!(matches!(found, Resolution::Found { stale: true, .. }));
    }

    #[test]
    fn neighbour_of_another_link_does_not_count() {
        let mut tables = tables();
        tables.neighbours = [((3, ip("10.0.0.9")), Neighbour::Usable(MAC))].into();
        let unresolved = Resolution::Unresolved { neighbour: (2, ip("10.0.0.9")), pending: false };
        assert_eq!(resolve(&tables, ip("10.0.0.9")), unresolved);
    }

    #[test]
    fn every_neighbour_state() {
        for (state, mac) in [
            (Neighbour::Usable(MAC), Some(MAC)),
            (Neighbour::Stale(MAC), Some(MAC)),
            (Neighbour::Pending, None),
            (Neighbour::Failed, None),
            (Neighbour::Unknown, None),
        ] {
            let mut tables = tables();
            tables.neighbours.insert((2, ip("10.0.0.9")), state);
            let found = resolve(&tables, ip("10.0.0.9"));
            assert_eq!(found.entry().map(|entry| entry.mac), mac, "{state:?}");
            assert_eq!(found.neighbour(), Some((2, ip("10.0.0.9"))), "{state:?}");
            assert_eq!(matches!(found, Resolution::Unresolved { pending: true, .. }), state == Neighbour::Pending);
        }
    }

    #[test]
    fn every_reason_for_no_way() {
        let reason = |change: fn(&mut Tables)| {
            let mut tables = tables();
            change(&mut tables);
            match resolve(&tables, ip("10.0.0.9")) {
                Resolution::NoWay(reason) => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason(|tables| tables.lookups.clear()), NoWay::NotAsked);
        let none = |tables: &mut Tables| {
            tables.lookups.insert(ip("10.0.0.9"), Lookup::NoWay(NoWay::NoRoute));
        };
        assert_eq!(reason(none), NoWay::NoRoute);
        assert_eq!(reason(|tables| tables.links.clear()), NoWay::LinkGone);
        assert_eq!(reason(|tables| tables.links.get_mut(&2).unwrap().up = false), NoWay::LinkDown);
        assert_eq!(reason(|tables| tables.links.get_mut(&2).unwrap().mac = None), NoWay::NotEthernet);
    }

    #[test]
    fn vlan_leaves_by_the_parent_with_the_vlan_links_own_mac() {
        let mut tables = tables();
        let vlan = |parent, customer_tag| Some(Vlan { parent, id: 7, customer_tag });
        tables.links.insert(2, Link { vlan: vlan(5, true), mac: Some([8; 6]), ..link(1500) });
        tables.links.insert(5, link(1400));
        let entry = NextHopEntry { egress: 5, mac: MAC, source_mac: [8; 6], mtu: 1400, own_mtu: true, vlan: 7 };
        assert_eq!(resolve(&tables, ip("10.0.0.9")).entry(), Some(entry));

        tables.links.get_mut(&5).unwrap().up = false;
        assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::NoWay(NoWay::LinkDown));
        tables.links.insert(5, Link { vlan: vlan(6, true), ..link(1500) });
        assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::NoWay(NoWay::UnsupportedVlan));
        tables.links.insert(5, link(1500));
        tables.links.get_mut(&2).unwrap().vlan = vlan(5, false);
        assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::NoWay(NoWay::UnsupportedVlan));
        tables.links.remove(&5);
        assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::NoWay(NoWay::LinkGone));
    }

    #[test]
    fn mtu_beyond_what_fits_saturates() {
        let mut tables = tables();
        tables.links.insert(2, link(65_536));
        assert_eq!(resolve(&tables, ip("10.0.0.9")).entry().unwrap().mtu, 65_535);
    }
}
