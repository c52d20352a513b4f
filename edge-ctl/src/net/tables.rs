//! Mirror of the kernel's tables: applies netlink messages.

#![deny(clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{
        RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags, RouteType, RouteVia,
    },
};

use super::{
    next_hop::{Link, LinkKind, Lookup, Neighbour, NeighbourKey, Tables, Unreachable, Vlan},
    route::{Hop, Route},
};

/// The effect of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    /// A neighbour became usable, has another MAC address, or was given up.
    Neighbour,
    /// A neighbour that was usable no longer is.
    NeighbourLost(NeighbourKey),
    /// The link with this index has changed, and any route may be different now.
    Link(u32),
    /// A route to this prefix has changed, and any other may have.
    Route(Prefix),
    /// Addresses or rules have changed: any route may be different now.
    Routes,
}

/// The destination of a route: an address, of which the first bits count, and their number.
pub(super) type Prefix = (IpAddr, u8);

impl Tables {
    /// Applies one notification.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) -> Change {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link_is(link),
            RouteNetlinkMessage::DelLink(link) => self.link_removed(link),
            RouteNetlinkMessage::NewNeighbour(neighbour) => self.neighbour_is(neighbour),
            RouteNetlinkMessage::DelNeighbour(neighbour) => self.neighbour_removed(neighbour),
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                prefix(route).map_or(Change::Routes, Change::Route)
            }
            RouteNetlinkMessage::NewAddress(_)
            | RouteNetlinkMessage::DelAddress(_)
            | RouteNetlinkMessage::NewRule(_)
            | RouteNetlinkMessage::DelRule(_) => Change::Routes,
            _ => Change::Nothing,
        }
    }

    fn link_is(&mut self, message: &LinkMessage) -> Change {
        if is_bridge_port(message) {
            return Change::Nothing;
        }
        let link = self.links.entry(message.header.index).or_default();
        let before = link.clone();
        update_link(link, message);
        // Notifications of statistics and the like change no route.
        if *link == before { Change::Nothing } else { Change::Link(message.header.index) }
    }

    fn link_removed(&mut self, message: &LinkMessage) -> Change {
        let index = message.header.index;
        if is_bridge_port(message) || self.links.remove(&index).is_none() {
            return Change::Nothing;
        }
        self.neighbours.retain(|(link, _), _| *link != index);
        Change::Link(index)
    }

    fn neighbour_is(&mut self, message: &NeighbourMessage) -> Change {
        let Some((key, now)) = neighbour(message) else { return Change::Nothing };
        let before = self.neighbours.insert(key, now).unwrap_or(Neighbour::Unknown);
        changed(key, before, now)
    }

    fn neighbour_removed(&mut self, message: &NeighbourMessage) -> Change {
        let Some((key, _)) = neighbour(message) else { return Change::Nothing };
        let before = self.neighbours.remove(&key).unwrap_or(Neighbour::Unknown);
        changed(key, before, Neighbour::Unknown)
    }
}

fn changed(key: NeighbourKey, before: Neighbour, now: Neighbour) -> Change {
    match (before.mac(), now.mac()) {
        (None, None) if before != Neighbour::Failed && now == Neighbour::Failed => Change::Neighbour,
        (before, now) if before == now => Change::Nothing,
        (Some(_), None) => Change::NeighbourLost(key),
        _ => Change::Neighbour,
    }
}

/// Whether a message is a bridge's notification about one of its ports. Bridges send them to the same group; such a
/// message, above all a "deleted" one, concerns the port and not the link (`br_ifinfo_notify` in the kernel's
/// `net/bridge/br_netlink.c`).
fn is_bridge_port(message: &LinkMessage) -> bool {
    message.header.interface_family != AddressFamily::Unspec
}

/// Flags of a link that can send frames. A link with only a carrier (`LowerUp`) is not running yet: until the kernel has
/// given it its queue, frames such as neighbour requests are lost (`linkwatch_do_dev` in `net/core/link_watch.c`).
pub(super) const UP: LinkFlags = LinkFlags::Up.union(LinkFlags::LowerUp).union(LinkFlags::Running);

/// All links, from one or more messages about each.
pub(super) fn links(messages: &[LinkMessage]) -> BTreeMap<u32, Link> {
    let mut links = BTreeMap::<u32, Link>::new();
    for message in messages {
        update_link(links.entry(message.header.index).or_default(), message);
    }
    links
}

/// The VRFs of the named interfaces, in this order; `None` for the main routing table.
pub(super) fn vrfs(links: &BTreeMap<u32, Link>, interfaces: &[String]) -> Vec<Option<u32>> {
    let mut vrfs = Vec::new();
    for name in interfaces {
        let Some(link) = links.values().find(|link| link.name == *name) else { continue };
        let vrf = link.controller.filter(|index| links.get(index).is_some_and(|link| link.kind == LinkKind::Vrf));
        if !vrfs.contains(&vrf) {
            vrfs.push(vrf);
        }
    }
    if vrfs.is_empty() { vec![None] } else { vrfs }
}

/// Some messages about a link carry few of its attributes; absent ones keep their values. A message with the MTU is
/// complete; if it lacks a controller, the link has left its bridge.
fn update_link(link: &mut Link, message: &LinkMessage) {
    link.up = message.header.flags.contains(UP);
    // Bonds and Hyper-V devices mark their ports so, bridges and teams don't; no program is attached to a team in native
    // mode.
    link.bonded = message.header.flags.contains(LinkFlags::Port);
    if message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Mtu(_))) {
        link.controller = None;
    }
    let mut parent = link.below;
    let mut is_elsewhere = false;
    let mut lies_on_it = parent.is_some();
    let mut tag = link.vlan.map(|vlan| (vlan.id, vlan.customer_tag));
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => parent = Some(*index),
            // The index belongs to that namespace; here another device may have it.
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::Address(bytes) => {
                let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
                link.mac = bytes.as_slice().try_into().ok().filter(|_| ethernet);
            }
            LinkAttribute::Controller(index) => link.controller = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(info) => {
                tag = vlan_tag(info);
                link.kind = info.iter().find_map(kind).unwrap_or_default();
                lies_on_it = info
                    .iter()
                    .any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vlan | InfoKind::MacVlan | InfoKind::MacVtap)));
            }
            _ => {}
        }
    }
    parent = parent.filter(|_| !is_elsewhere);
    // For a veth, `Link` is the index of the other end.
    link.below = parent.filter(|_| lies_on_it);
    link.vlan = parent.zip(tag).map(|(parent, (id, customer_tag))| Vlan { parent, id, customer_tag });
}

/// The kind of a link. Kinds without `ndo_xdp_xmit` are as of Linux 6.18; a kind that is not listed is taken for one that
/// has it, since nothing is certain about it.
fn kind(info: &LinkInfo) -> Option<LinkKind> {
    let LinkInfo::Kind(kind) = info else { return None };
    Some(match kind {
        InfoKind::Bridge => LinkKind::Bridge,
        InfoKind::Vrf => LinkKind::Vrf,
        InfoKind::BareUdp
        | InfoKind::BatAdv
        | InfoKind::Dummy
        | InfoKind::ErSpan
        | InfoKind::Geneve
        | InfoKind::GreTap
        | InfoKind::GreTap6
        | InfoKind::Hsr
        | InfoKind::Ifb
        | InfoKind::Ip6ErSpan
        | InfoKind::IpVlan
        | InfoKind::IpVtap
        | InfoKind::MacSec
        | InfoKind::Netkit
        | InfoKind::Team
        | InfoKind::Vxlan => LinkKind::NoXdp,
        _ => LinkKind::Plain,
    })
}

fn vlan_tag(info: &[LinkInfo]) -> Option<(u16, bool)> {
    if !info.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vlan))) {
        return None;
    }
    let (mut id, mut customer_tag) = (0, true);
    for info in info {
        let LinkInfo::Data(InfoData::Vlan(data)) = info else { continue };
        for item in data {
            match item {
                InfoVlan::Id(number) => id = *number,
                InfoVlan::Protocol(protocol) => customer_tag = *protocol == VlanProtocol::Ieee8021Q,
                _ => {}
            }
        }
    }
    Some((id, customer_tag))
}

/// Key and state of a neighbour; `None` for entries that are not IPv4 or IPv6 neighbours (a bridge's forwarding
/// entries).
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    let mut address = None;
    let mut mac: Option<[u8; 6]> = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let mac = mac.filter(|mac| *mac != [0; 6]);
    let state = match (message.header.state, mac) {
        (NeighbourState::Stale, Some(mac)) => Neighbour::Stale(mac),
        (NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe, Some(mac)) => {
            Neighbour::Usable(mac)
        }
        (NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => Neighbour::Fixed(mac),
        (NeighbourState::Incomplete, _) => Neighbour::Pending,
        (NeighbourState::Failed, _) => Neighbour::Failed,
        _ => Neighbour::Unknown,
    };
    Some(((message.header.ifindex, address?), state))
}

/// The result of a route lookup for `address`: a single next hop, for a multipath route the one that the kernel chose.
pub(super) fn lookup(address: IpAddr, message: &RouteMessage) -> Lookup {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Lookup::Unreachable(Unreachable::OwnAddress),
        _ => return Lookup::Unreachable(Unreachable::NotUnicast),
    }
    let (mut egress, mut mtu, mut source) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => egress = Some(*index),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    // 0 means that the route has no MTU of its own.
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::EncapType(_) | RouteAttribute::Encap(_) => {
                return Lookup::Unreachable(Unreachable::Encapsulates);
            }
            _ => {}
        }
    }
    let via = gateway(&message.attributes).unwrap_or(address);
    egress.map_or(Lookup::Unreachable(Unreachable::NoRoute), |egress| {
        Lookup::Via(Route { hops: vec![Hop { egress, via, weight: 1 }], mtu, source })
    })
}

/// The usable next hops of a complete route from the kernel's table; empty unless it is a multipath route. Those of next
/// hop objects are included, unless `net.ipv4.nexthop_compat_mode` is off.
pub(super) fn hops(address: IpAddr, message: &RouteMessage) -> Vec<Hop> {
    let unusable = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown | RouteNextHopFlags::Unresolved;
    let usable = |hop: &&RouteNextHop| {
        let encapsulates = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::EncapType(_));
        !hop.flags.intersects(unusable) && !hop.attributes.iter().any(encapsulates)
    };
    let hop = |hop: &RouteNextHop| Hop {
        egress: hop.interface_index,
        via: gateway(&hop.attributes).unwrap_or(address),
        weight: u16::from(hop.hops) + 1,
    };
    let several = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    several.into_iter().flatten().filter(usable).map(hop).collect()
}

/// The number of the next hop object that a route refers to.
pub(super) fn next_hop_object(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::NhId(number) => Some(*number),
        _ => None,
    })
}

/// The destinations of a route; `None` if they are not those of an IP route.
fn prefix(message: &RouteMessage) -> Option<Prefix> {
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    Some((destination.unwrap_or(any), message.header.destination_prefix_length))
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::survey::described;

    /// A complete notification about the link 2, a port of `controller`.
    fn notification(flags: LinkFlags, controller: Option<u32>) -> RouteNetlinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 2;
        message.header.flags = flags;
        message.attributes = vec![LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::Mtu(1500)];
        message.attributes.extend(controller.map(LinkAttribute::Controller));
        RouteNetlinkMessage::NewLink(message)
    }

    #[test]
    fn a_port_joins_a_bond_and_leaves_it() {
        let mut tables = Tables::default();
        for (flags, controller, bonded) in [
            (LinkFlags::empty(), None, false),
            // A bridge does not mark its ports.
            (LinkFlags::empty(), Some(4), false),
            (LinkFlags::Port, Some(4), true),
            (LinkFlags::empty(), None, false),
        ] {
            assert_eq!(tables.apply(&notification(flags, controller)), Change::Link(2), "each changes the devices");
            let device = &described(&tables.links)[&2];
            assert_eq!((device.controller, device.bonded), (controller, bonded));
        }
    }
}
