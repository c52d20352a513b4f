//! Survey: the parts of the host's network that a configuration depends on, read once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::LinkFlags,
};

use super::{
    netlink::{self, AttachedXdp, NetError, Requests},
    next_hop::{Link, Lookup, Tables, no_native_egress},
    offloads::{Offloads, offloads},
    route::{Destination, Hop},
    stations::{Device, Devices},
    tables,
};

/// The host's network at one point in time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Interfaces by name.
    pub interfaces: BTreeMap<String, SurveyedInterface>,
    pub devices: Devices,
    /// Addresses of all interfaces.
    pub addresses: BTreeSet<IpAddr>,
    /// The route to each surveyed destination.
    pub routes: BTreeMap<Destination, SurveyedRoute>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SurveyedInterface {
    /// In bytes of IP packet.
    pub mtu: u32,
    /// Whether the interface is administratively up, has a carrier, and is running.
    pub up: bool,
    pub ethernet: bool,
    /// Whether the interface does no ARP (`ip link set IFACE arp off`).
    pub no_arp: bool,
    /// Own IPv4 addresses, each with the length of its network's prefix.
    pub networks: Vec<(Ipv4Addr, u8)>,
    /// The XDP program on the interface.
    pub xdp: Option<AttachedXdp>,
    pub offloads: Offloads,
    /// Whether VLAN interfaces lie on the interface.
    pub vlans: bool,
    /// Why the program can't send by the interface in native mode, whatever its state.
    pub not_native: Option<String>,
}

/// The route to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SurveyedRoute {
    /// Over this interface, to this next hop: the address itself or a router.
    Via { egress: String, next_hop: IpAddr },
    /// No route, and the reason.
    None(String),
}

/// Reads the host's network, and the routes to `destinations` in the VRFs of these interfaces. Blocks; not for
/// asynchronous code.
pub(crate) fn survey(destinations: &BTreeSet<Destination>, interfaces: &[String]) -> Result<Survey, NetError> {
    let own = netlink::host_addresses()?.all.into_iter().collect();
    netlink::wait_for(async {
        let requests = Requests::open()?;
        let messages = requests.links().await?;
        let links = tables::links(&messages);
        let xdp: BTreeMap<_, _> =
            messages.iter().map(|message| (message.header.index, netlink::xdp_of(message))).collect();
        let no_arp: BTreeSet<_> = messages
            .iter()
            .filter(|message| message.header.flags.contains(LinkFlags::Noarp))
            .map(|message| message.header.index)
            .collect();
        let addresses = requests.addresses().await?;
        let networks = |index: u32| {
            let here = addresses.iter().filter(move |message| message.header.index == index);
            here.filter_map(|message| Some((local_v4(message)?, message.header.prefix_len))).collect()
        };
        let native = Tables { native: true, links: links.clone(), ..Tables::default() };
        let interface = |index: &u32, link: &Link| SurveyedInterface {
            mtu: link.mtu,
            up: link.up,
            ethernet: link.mac.is_some(),
            no_arp: no_arp.contains(index),
            networks: networks(*index),
            xdp: xdp.get(index).copied().flatten(),
            // An interface that has disappeared meanwhile has none.
            offloads: offloads(&link.name).unwrap_or_default(),
            not_native: no_native_egress(&native, *index).map(|why| why.to_string()),
            vlans: links.values().any(|other| other.vlan.is_some_and(|vlan| vlan.parent == *index)),
        };
        let vrfs = tables::vrfs(&links, interfaces);
        let mut routes = BTreeMap::new();
        for destination in destinations {
            let route = match requests.lookup_in(&vrfs, *destination).await? {
                Lookup::Unreachable(why) => SurveyedRoute::None(why.to_string()),
                Lookup::Via(route) => match route.preferred(destination.address).first() {
                    None => SurveyedRoute::None("its route has no next hop".to_owned()),
                    Some(Hop { egress, via, .. }) => {
                        let name = links.get(egress).map(|link| link.name.clone());
                        SurveyedRoute::Via {
                            egress: name.unwrap_or_else(|| format!("interface {egress}")),
                            next_hop: *via,
                        }
                    }
                },
            };
            routes.insert(*destination, route);
        }
        let interfaces = links.iter().map(|(index, link)| (link.name.clone(), interface(index, link))).collect();
        Ok(Survey { interfaces, devices: described(&links), addresses: own, routes })
    })
}

/// The interface's own IPv4 address in a message about it.
fn local_v4(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}

/// The host's present devices.
pub(crate) async fn devices() -> Result<Devices, NetError> {
    Ok(described(&tables::links(&Requests::open()?.links().await?)))
}

/// Whether each of these addresses is the host's, by the kernel's present routes: an address of any interface, or one of
/// a local route. Blocks; not for asynchronous code.
pub(crate) fn own(addresses: &BTreeSet<IpAddr>) -> Result<BTreeMap<IpAddr, bool>, NetError> {
    netlink::wait_for(async {
        let requests = Requests::open()?;
        let mut own = BTreeMap::new();
        for address in addresses {
            own.insert(*address, requests.lookup(Destination::of(*address), None).await?.is_own());
        }
        Ok(own)
    })
}

/// Links as devices, for other modules.
pub(super) fn described(links: &BTreeMap<u32, Link>) -> Devices {
    let device = |link: &Link| Device {
        name: link.name.clone(),
        mac: link.mac,
        controller: link.controller,
        bonded: link.bonded,
        below: link.below,
        mtu: link.mtu,
    };
    links.iter().map(|(index, link)| (*index, device(link))).collect()
}
