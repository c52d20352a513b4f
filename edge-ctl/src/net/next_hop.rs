//! Computes the next hop of an address from routes, links and neighbours, without I/O.

#![deny(clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::route::{Destination, Hop, ResolvedRoute, Route};

/// The fields that a frame to a backend needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHopEntry {
    /// Interface index of the egress; for a route over a VLAN interface, the index of its parent.
    pub egress: u32,
    /// MAC address of the next hop.
    pub mac: [u8; 6],
    /// Source MAC address of the frame.
    pub source_mac: [u8; 6],
    /// MTU of the path in bytes of IP packet: the least of the link's, its parent's and the route's. At most 65,535.
    pub mtu: u16,
    /// Whether `mtu` is the MTU of the egress, with nothing narrower known on the path.
    pub own_mtu: bool,
    /// VLAN identifier; 0 if untagged.
    pub vlan: u16,
}

/// The properties of a link that a next hop depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub name: String,
    /// `None` if the link is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// In bytes of IP packet.
    pub mtu: u32,
    /// Whether the link is administratively up, has a carrier, and is running.
    pub up: bool,
    pub vlan: Option<Vlan>,
    /// Index of the bridge or bond that the link is a port of.
    pub controller: Option<u32>,
    /// Whether the link is a port in which native programs on its controller run: see [`Device`](super::stations::Device).
    pub bonded: bool,
    /// Index of the device below a VLAN or macvlan interface, whose MAC address may differ.
    pub below: Option<u32>,
    pub kind: LinkKind,
}

/// The kinds of links that next hops treat specially.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkKind {
    #[default]
    Plain,
    /// A bridge, which sends on its ports.
    Bridge,
    /// A VRF: a separate routing table, for the interfaces whose controller it is.
    Vrf,
    /// A kind without `ndo_xdp_xmit`, and without a device that could send in its place: XDP can't send by it in native
    /// mode.
    NoXdp,
}

/// The VLAN of a VLAN interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vlan {
    pub parent: u32,
    pub id: u16,
    /// Whether the tag is 802.1Q, the only tag that the packet path writes.
    pub customer_tag: bool,
}

/// Interface and address of a next hop.
pub(super) type NeighbourKey = (u32, IpAddr);

/// State of an entry in the kernel's neighbour table. An absent entry is [`Self::Unknown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// Confirmed, or about to be.
    Usable([u8; 6]),
    /// Permanent, or in no need of resolution: not to be touched.
    Fixed([u8; 6]),
    /// Usable, but unconfirmed for a while. The kernel sees none of the packets that XDP sends, so nothing but this
    /// daemon makes it probe the neighbour again.
    Stale([u8; 6]),
    /// The kernel has sent a request to the neighbour.
    Pending,
    /// The neighbour did not answer, and the kernel has given up.
    Failed,
    /// No request was sent.
    Unknown,
}

impl Neighbour {
    pub(super) fn mac(self) -> Option<[u8; 6]> {
        match self {
            Self::Usable(mac) | Self::Fixed(mac) | Self::Stale(mac) => Some(mac),
            Self::Pending | Self::Failed | Self::Unknown => None,
        }
    }
}

/// The result of a route lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    Via(Route),
    Unreachable(Unreachable),
}

impl Lookup {
    pub(super) fn is_own(&self) -> bool {
        *self == Self::Unreachable(Unreachable::OwnAddress)
    }
}

/// Why an address has no next hop.
#[derive(Clone, Debug, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("the kernel has not been queried yet")]
    NotQueried,
    #[error("no route")]
    NoRoute,
    #[error("it is an address of this host")]
    OwnAddress,
    #[error("its route is not unicast (blackhole, unreachable, prohibit or multicast)")]
    NotUnicast,
    #[error("its route encapsulates")]
    Encapsulates,
    #[error("it is behind the router {0}, and `dsr` goes no further than the link")]
    BehindRouter(IpAddr),
    #[error("its egress has been removed")]
    LinkGone,
    #[error("its egress is down")]
    LinkDown,
    #[error("its egress is not Ethernet")]
    NotEthernet,
    #[error("its egress is a bridge that has not just one port, or has VLANs on top, by which native mode can't send")]
    Bridge,
    #[error(
        "its egress is a device by which native mode can't send (such as macvlan on a VLAN, ipvlan, vxlan, gretap)"
    )]
    NoXdp,
    #[error("its egress has stacked or 802.1ad VLAN tags, by which native mode can't send")]
    UnsupportedVlan,
}

/// The result of [`resolve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    Resolved {
        entry: NextHopEntry,
        neighbour: NeighbourKey,
    },
    /// Only the MAC address is unknown.
    Unresolved {
        neighbour: NeighbourKey,
        pending: bool,
    },
    Unreachable(Unreachable),
}

impl Resolution {
    pub(super) fn entry(&self) -> Option<NextHopEntry> {
        match self {
            Self::Resolved { entry, .. } => Some(*entry),
            Self::Unresolved { .. } | Self::Unreachable(_) => None,
        }
    }

    /// Why no packet can be sent there, if that is certain. `native` is whether the program runs in native mode: in
    /// generic mode the kernel's own lookup for each packet still finds a VLAN that the controller can't describe.
    /// `given_up` are neighbours that the kernel has given up on.
    pub(super) fn why_not(&self, native: bool, given_up: &BTreeSet<NeighbourKey>) -> Option<String> {
        match self {
            Self::Unreachable(Unreachable::NotQueried) | Self::Resolved { .. } => None,
            Self::Unreachable(Unreachable::UnsupportedVlan) if !native => None,
            Self::Unreachable(reason) => Some(reason.to_string()),
            Self::Unresolved { neighbour, .. } => {
                given_up.contains(neighbour).then(|| format!("its next hop {} does not answer", neighbour.1))
            }
        }
    }

    /// The neighbour that this result depends on.
    pub(super) fn neighbour(&self) -> Option<NeighbourKey> {
        match self {
            Self::Resolved { neighbour, .. } | Self::Unresolved { neighbour, .. } => Some(*neighbour),
            Self::Unreachable(_) => None,
        }
    }
}

/// The parts of the kernel's tables that next hops depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    /// Whether the program is in native mode, which can send only on devices that support it.
    pub native: bool,
    pub links: BTreeMap<u32, Link>,
    pub neighbours: BTreeMap<NeighbourKey, Neighbour>,
    pub lookups: BTreeMap<Destination, Lookup>,
}

impl Tables {
    /// The ports of a bridge, with their indexes.
    pub(super) fn ports(&self, bridge: u32) -> impl Iterator<Item = (u32, &Link)> {
        let is_port = move |link: &Link| link.controller == Some(bridge);
        self.links.iter().filter(move |(_, link)| is_port(link)).map(|(index, link)| (*index, link))
    }

    /// Adds the neighbours that the kernel has given up on, and removes those that have a MAC address again, whose link is
    /// not up, or that no route needs. A neighbour that is being resolved again stays until it answers, even if its entry
    /// was deleted in between: nothing has been heard from it.
    pub(super) fn note_given_up(&self, given_up: &mut BTreeSet<NeighbourKey>, needed: &BTreeSet<NeighbourKey>) {
        given_up.retain(|key| {
            let is_link_up = self.links.get(&key.0).is_some_and(|link| link.up);
            match self.neighbours.get(key) {
                Some(neighbour) => neighbour.mac().is_none(),
                None => is_link_up && needed.contains(key),
            }
        });
        let failed = self.neighbours.iter().filter(|(_, neighbour)| **neighbour == Neighbour::Failed);
        given_up.extend(failed.map(|(key, _)| *key));
    }
}

/// The next hop of a destination. Of several, it is the destination's most preferred one with a known MAC address, or
/// else the most preferred one that has not been given up.
pub(super) fn resolve(tables: &Tables, destination: Destination, given_up: &BTreeSet<NeighbourKey>) -> Resolution {
    let route = match tables.lookups.get(&destination) {
        None => return Resolution::Unreachable(Unreachable::NotQueried),
        Some(Lookup::Unreachable(reason)) => return Resolution::Unreachable(*reason),
        Some(Lookup::Via(route)) => route,
    };
    let hops = route.preferred(destination.address);
    let resolved = hops.into_iter().map(|hop| match hop.via {
        via if destination.on_link && via != destination.address => {
            Resolution::Unreachable(Unreachable::BehindRouter(via))
        }
        _ => resolve_hop(tables, hop, route.mtu),
    });
    let rank = |resolution: &Resolution| match resolution {
        Resolution::Resolved { .. } => 0,
        Resolution::Unresolved { neighbour, .. } if !given_up.contains(neighbour) => 1,
        Resolution::Unresolved { .. } => 2,
        Resolution::Unreachable(_) => 3,
    };
    // The first of equally ranked ones.
    resolved.min_by_key(rank).unwrap_or(Resolution::Unreachable(Unreachable::NoRoute))
}

/// The route that probes of a destination take, once its resolution has a neighbour.
pub(super) fn resolved_route(
    tables: &Tables,
    destination: Destination,
    resolution: &Resolution,
) -> Option<ResolvedRoute> {
    let (interface, next_hop) = resolution.neighbour()?;
    let source = match tables.lookups.get(&destination) {
        Some(Lookup::Via(route)) => route.source,
        Some(Lookup::Unreachable(_)) | None => None,
    };
    // A VLAN interface is in another segment than the device below it.
    let link = tables.links.get(&interface).filter(|link| link.vlan.is_none());
    Some(ResolvedRoute { interface, below: link.and_then(|link| link.below), next_hop, source })
}

/// All next hops that a destination may need, with their neighbour states.
pub(super) fn neighbours(tables: &Tables, destination: Destination) -> impl Iterator<Item = (NeighbourKey, Neighbour)> {
    let hops = match tables.lookups.get(&destination) {
        Some(Lookup::Via(route)) => &route.hops[..],
        Some(Lookup::Unreachable(_)) | None => &[],
    };
    hops.iter().filter(|hop| through(tables, hop.egress).is_ok()).map(|hop| {
        let key = (hop.egress, hop.via);
        (key, known(tables, key))
    })
}

fn known(tables: &Tables, neighbour: NeighbourKey) -> Neighbour {
    tables.neighbours.get(&neighbour).copied().unwrap_or(Neighbour::Unknown)
}

fn resolve_hop(tables: &Tables, Hop { egress, via, .. }: Hop, route_mtu: Option<u32>) -> Resolution {
    let link = match through(tables, egress) {
        Ok(link) => link,
        Err(reason) => return Resolution::Unreachable(reason),
    };
    let neighbour = (egress, via);
    let known = known(tables, neighbour);
    let Some(mac) = known.mac() else {
        return Resolution::Unresolved { neighbour, pending: known == Neighbour::Pending };
    };
    let mtu = link.mtu.min(route_mtu.unwrap_or(u32::MAX));
    let entry = NextHopEntry {
        egress: link.egress,
        mac,
        source_mac: link.source_mac,
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
        own_mtu: mtu == link.egress_mtu,
        vlan: link.vlan,
    };
    Resolution::Resolved { entry, neighbour }
}

/// A link's contribution to a next hop.
struct Through {
    egress: u32,
    source_mac: [u8; 6],
    mtu: u32,
    /// MTU of the egress itself.
    egress_mtu: u32,
    vlan: u16,
}

fn through(tables: &Tables, index: u32) -> Result<Through, Unreachable> {
    let link = tables.links.get(&index).ok_or(Unreachable::LinkGone)?;
    if !link.up {
        return Err(Unreachable::LinkDown);
    }
    let source_mac = link.mac.ok_or(Unreachable::NotEthernet)?;
    let Some(vlan) = link.vlan else {
        let carrier = carrier(tables, index, link);
        if tables.native && carrier.is_none() {
            if link.kind == LinkKind::Bridge {
                return Err(Unreachable::Bridge);
            }
            if link.below.is_some() || link.kind == LinkKind::NoXdp {
                return Err(Unreachable::NoXdp);
            }
        }
        let (egress, egress_mtu) = carrier.map_or((index, link.mtu), |(index, link)| (index, link.mtu));
        return Ok(Through { egress, source_mac, mtu: link.mtu.min(egress_mtu), egress_mtu, vlan: 0 });
    };
    let parent = tables.links.get(&vlan.parent).ok_or(Unreachable::LinkGone)?;
    if !vlan.customer_tag || parent.vlan.is_some() {
        return Err(Unreachable::UnsupportedVlan);
    }
    if !parent.up {
        return Err(Unreachable::LinkDown);
    }
    if tables.native && (parent.kind == LinkKind::Bridge || parent.below.is_some() || parent.kind == LinkKind::NoXdp) {
        return Err(if parent.kind == LinkKind::Bridge { Unreachable::Bridge } else { Unreachable::NoXdp });
    }
    let (mtu, egress_mtu) = (link.mtu.min(parent.mtu), parent.mtu);
    Ok(Through { egress: vlan.parent, source_mac, mtu, egress_mtu, vlan: vlan.id })
}

/// Why a link is of a kind that the program can't send by in native mode, if it is.
pub(super) fn no_native_egress(tables: &Tables, index: u32) -> Option<Unreachable> {
    let reason = through(tables, index).err()?;
    matches!(reason, Unreachable::Bridge | Unreachable::NoXdp | Unreachable::UnsupportedVlan).then_some(reason)
}

/// The device that carries the frames of a device without `ndo_xdp_xmit`, on which XDP can't send: the device below a
/// macvlan interface, or the only port of a bridge. For a bridge with several ports the egress of a frame is not known
/// here.
fn carrier<'a>(tables: &'a Tables, index: u32, link: &Link) -> Option<(u32, &'a Link)> {
    let is_plain =
        |link: &Link| link.up && link.vlan.is_none() && link.below.is_none() && link.kind != LinkKind::Bridge;
    if let Some(below) = link.below {
        return tables.links.get(&below).filter(|link| is_plain(link)).map(|link| (below, link));
    }
    let mut ports = (link.kind == LinkKind::Bridge).then(|| tables.ports(index)).into_iter().flatten();
    let only = ports.next()?;
    (ports.next().is_none() && is_plain(only.1)).then_some(only)
}

#[cfg(test)]
#[path = "next_hop_tests.rs"]
mod tests;
