//! The world of all cases. For each family and protocol it has one service per port, each with a single backend, so
//! that a test can state where a packet goes without using the code under test.

use std::net::IpAddr;

use edge_common::{
    abi::{AddressPrefix, Backend, DecapSettings, Mac, Mode, Role, VipOther, WhenExhausted},
    maps::Route,
};

use crate::{
    namespace::{EDGE0, EDGE0_MAC, LO, NEIGHBOUR_MAC, NEIGHBOUR_V4, NEIGHBOUR_V6, ROUTED_V4, ROUTED_V6},
    packet::{Frame, Ip, Payload, Tag, Tcp, Udp, protocol},
    world::{CLIENT_MAC, DISABLED, DOWN, EDGE_MAC, GUE_PORT, NatWorld, Side, World, mapped, octets, single_vip},
};

/// An egress interface other than the ingress. It need not exist: a test run does not deliver frames.
pub const AWAY: u32 = 77;
/// VLAN of the backends that are in one.
pub const VLAN: u16 = 300;
/// Prefix length of [`Side::anycast`], in the form that a decapsulating backend stores.
pub const ANYCAST_LENGTH: u8 = 120;
/// MTU of the narrow paths.
pub const NARROW: u16 = 1400;

/// Ports, each with a TCP and a UDP service on both VIPs.
pub mod port {
    pub const DSR: u16 = 80;
    pub const DSR_AWAY: u16 = 81;
    pub const DSR_VLAN: u16 = 82;
    pub const DSR_VLAN_AWAY: u16 = 83;
    /// Tunnels, by the family of the backend.
    pub const IN4: u16 = 84;
    pub const IN6: u16 = 85;
    pub const IN4_AWAY: u16 = 86;
    pub const IN6_AWAY: u16 = 87;
    pub const IN4_VLAN: u16 = 88;
    pub const IN6_VLAN: u16 = 89;
    /// All backends are down.
    pub const REJECT: u16 = 90;
    pub const DROP: u16 = 91;
    pub const OPEN: u16 = 92;
    /// Fails open as well, but all backends are disabled.
    pub const ALL_DISABLED: u16 = 93;
    pub const DSR_NARROW: u16 = 94;
    pub const IN4_NARROW: u16 = 95;
    pub const IN6_NARROW: u16 = 96;
    /// The next hop is unknown to the edge and to the kernel.
    pub const LOST: u16 = 97;
    /// Only the kernel has the next hop.
    pub const DSR_ROUTED: u16 = 98;
    pub const IN4_ROUTED: u16 = 99;
    pub const IN6_ROUTED: u16 = 100;
    /// Behind a router that only the kernel has.
    pub const DSR_BEHIND: u16 = 104;
    pub const IN4_BEHIND: u16 = 105;
    pub const IN6_BEHIND: u16 = 106;
    /// Faulty tables: an invalid family, an invalid service.
    pub const BAD_FAMILY: u16 = 102;
    pub const BAD_SERVICE: u16 = 103;
    /// Addresses and ports are translated.
    pub const NAT: u16 = 107;
    /// Translated to a backend of the other IP version.
    pub const NAT_ACROSS: u16 = 108;
    /// Tunnels in UDP, by the family of the backend.
    pub const UDP4: u16 = 110;
    pub const UDP6: u16 = 111;
    pub const UDP4_AWAY: u16 = 112;
    pub const UDP6_AWAY: u16 = 113;
    pub const UDP4_VLAN: u16 = 114;
    pub const UDP6_VLAN: u16 = 115;
    pub const UDP4_NARROW: u16 = 116;
    pub const UDP6_NARROW: u16 = 117;
    pub const UDP4_ROUTED: u16 = 118;
    pub const UDP6_ROUTED: u16 = 119;
    /// A port without a service.
    pub const NOBODY: u16 = 999;
}

/// The world, and the services behind its ports.
pub struct Scene {
    pub world: World,
    /// Rows of side, protocol, port, service and backend.
    destinations: Vec<(Side, u8, u16, u32, u16)>,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(1, false)
    }

    /// A scene with packets in `gue` of this variant, and with or without a range of sources in `ipip`.
    pub fn with(gue_variant: u16, ranges: bool) -> Self {
        let mut scene = Self { world: World { gue_variant, ranges, ..World::new(32) }, destinations: Vec::new() };
        for side in Side::BOTH {
            for protocol in [protocol::TCP, protocol::UDP] {
                scene.services(side, protocol);
                scene.world.strays.push((side.vip(), port::BAD_SERVICE, protocol, 60_000));
            }
        }
        // One VIP is an address of the host, the other is not.
        for side in Side::BOTH {
            scene.world.service(side.closed(), port::DSR, protocol::TCP, Mode::Dsr, &[0]);
            scene.world.host_vips.push(side.vip());
        }
        let sources = Side::BOTH.map(Side::source).into();
        scene.world.nat = Some(NatWorld { sources, first_port: 20_000, ports: 1024, lanes: 4, keeps: true });
        scene.world.vip_other = VipOther::Reject;
        scene.backends_decapsulate();
        let on_link =
            Route { egress: EDGE0, mac: Mac::new(NEIGHBOUR_MAC), source_mac: Mac::new(EDGE0_MAC), by_router: 0 };
        let routes = Side::BOTH.map(|side| {
            [(octets(neighbour(side)), on_link), (octets(routed(side)), Route { by_router: 1, ..on_link })]
        });
        scene.world.routes = routes.concat();
        scene
    }

    /// Configures the decapsulation: sources of both edges' tunnels, the VIPs, and a whole anycast prefix.
    fn backends_decapsulate(&mut self) {
        let edges = Side::BOTH.map(|side| (mapped(side.tunnel()), Role::EDGE));
        let of = |side: Side| {
            (1..=u8::try_from(self.world.backends.len()).expect("few")).map(move |number| side.backend(number))
        };
        let own = Side::BOTH.into_iter().flat_map(of).map(|address| (mapped(address), Role::ENDPOINT | Role::OWN));
        self.world.decap_addresses = edges.into_iter().chain(own).collect();
        let prefixes = Side::BOTH.map(|side| AddressPrefix { address: mapped(side.anycast()), length: ANYCAST_LENGTH });
        self.world.decap_edges =
            Side::BOTH.map(|side| AddressPrefix { address: mapped(side.range()), length: 120 }).into();
        self.world.decap_settings =
            DecapSettings { gue_port: GUE_PORT.to_be_bytes(), edge_prefixes: 1, ..DecapSettings::default() };
        self.world.decap_vips = Side::BOTH.map(|side| single_vip(side.vip())).into_iter().chain(prefixes).collect();
    }

    fn services(&mut self, side: Side, protocol: u8) {
        let plain = |_: &mut Backend| {};
        let vlan = |backend: &mut Backend| backend.vlan = VLAN;
        let narrow = |backend: &mut Backend| backend.mtu = NARROW;
        let down = |backend: &mut Backend| backend.state = DOWN;
        let lost = |backend: &mut Backend| backend.next_hop = Mac::default();
        let mut add = |port, mode, to, egress, tweak: &dyn Fn(&mut Backend)| {
            let backend = self.world.backend(to, egress);
            tweak(&mut self.world.backends[usize::from(backend)]);
            let pool = self.world.pool(&[backend], 1);
            let service = self.world.service(side.vip(), port, protocol, mode, &[pool]);
            self.destinations.push((side, protocol, port, service, backend));
            service as usize
        };
        add(port::DSR, Mode::Dsr, side, LO, &plain);
        add(port::DSR_AWAY, Mode::Dsr, side, AWAY, &plain);
        add(port::DSR_VLAN, Mode::Dsr, side, LO, &vlan);
        add(port::DSR_VLAN_AWAY, Mode::Dsr, side, AWAY, &vlan);
        add(port::IN4, Mode::Ipip, Side::V4, LO, &plain);
        add(port::IN6, Mode::Ipip, Side::V6, LO, &plain);
        add(port::IN4_AWAY, Mode::Ipip, Side::V4, AWAY, &plain);
        add(port::IN6_AWAY, Mode::Ipip, Side::V6, AWAY, &plain);
        add(port::IN4_VLAN, Mode::Ipip, Side::V4, LO, &vlan);
        add(port::IN6_VLAN, Mode::Ipip, Side::V6, LO, &vlan);
        add(port::UDP4, Mode::Gue, Side::V4, LO, &plain);
        add(port::UDP6, Mode::Gue, Side::V6, LO, &plain);
        add(port::UDP4_AWAY, Mode::Gue, Side::V4, AWAY, &plain);
        add(port::UDP6_AWAY, Mode::Gue, Side::V6, AWAY, &plain);
        add(port::UDP4_VLAN, Mode::Gue, Side::V4, LO, &vlan);
        add(port::UDP6_VLAN, Mode::Gue, Side::V6, LO, &vlan);
        add(port::UDP4_NARROW, Mode::Gue, Side::V4, LO, &narrow);
        add(port::UDP6_NARROW, Mode::Gue, Side::V6, LO, &narrow);
        add(port::OPEN, Mode::Dsr, side, LO, &down);
        add(port::ALL_DISABLED, Mode::Dsr, side, LO, &|backend| backend.state = DISABLED);
        add(port::DSR_NARROW, Mode::Dsr, side, LO, &narrow);
        add(port::IN4_NARROW, Mode::Ipip, Side::V4, LO, &narrow);
        add(port::IN6_NARROW, Mode::Ipip, Side::V6, LO, &narrow);
        add(port::LOST, Mode::Dsr, side, LO, &lost);
        for (port, mode, to, address) in [
            (port::DSR_ROUTED, Mode::Dsr, side, neighbour(side)),
            (port::IN4_ROUTED, Mode::Ipip, Side::V4, neighbour(Side::V4)),
            (port::IN6_ROUTED, Mode::Ipip, Side::V6, neighbour(Side::V6)),
            (port::UDP4_ROUTED, Mode::Gue, Side::V4, neighbour(Side::V4)),
            (port::UDP6_ROUTED, Mode::Gue, Side::V6, neighbour(Side::V6)),
            (port::DSR_BEHIND, Mode::Dsr, side, routed(side)),
            (port::IN4_BEHIND, Mode::Ipip, Side::V4, routed(Side::V4)),
            (port::IN6_BEHIND, Mode::Ipip, Side::V6, routed(Side::V6)),
        ] {
            add(port, mode, to, LO, &|backend| {
                backend.next_hop = Mac::default();
                backend.address = octets(address);
            });
        }
        add(port::NAT, Mode::Nat, side, LO, &plain);
        let other = if side == Side::V4 { Side::V6 } else { Side::V4 };
        add(port::NAT_ACROSS, Mode::Nat, other, LO, &plain);
        add(port::BAD_FAMILY, Mode::Ipip, side, LO, &|backend| backend.family = 0);
        let reject = add(port::REJECT, Mode::Dsr, side, LO, &down);
        let drop = add(port::DROP, Mode::Dsr, side, LO, &down);
        self.world.services[reject].when_exhausted = WhenExhausted::Reject;
        self.world.services[drop].when_exhausted = WhenExhausted::Drop;
    }

    /// Service and backend of a port.
    pub fn behind(&self, side: Side, protocol: u8, port: u16) -> (u32, u16) {
        let found = self.destinations.iter().find(|entry| (entry.0, entry.1, entry.2) == (side, protocol, port));
        let (.., service, backend) = *found.expect("a port of the scene");
        (service, backend)
    }

    /// A frame with `ip` to the backend of a port, with the priority of `came`.
    pub fn towards(&self, side: Side, protocol: u8, port: u16, came: &Frame, ip: Ip) -> Frame {
        let (_, number) = self.behind(side, protocol, port);
        let backend = &self.world.backends[usize::from(number)];
        let (to, from) = if backend.next_hop.is_known() {
            (backend.next_hop.octets(), backend.source_mac.octets())
        } else {
            (NEIGHBOUR_MAC, EDGE0_MAC)
        };
        let mut frame = Frame::new(to, from, ip);
        frame.trailer.clone_from(&came.trailer);
        if backend.vlan != 0 {
            let came = came.tags.first().map_or((0, false), |tag| (tag.priority, tag.drop_eligible));
            frame.tags.push(Tag::new(backend.vlan).with_priority(came.0, came.1));
        }
        frame
    }

    /// Bytes between the outer IP header and the inner packet in UDP.
    pub const fn udp_overhead(&self) -> u16 {
        if self.world.gue_variant == 0 { 8 + 4 } else { 8 }
    }

    /// Address of the backend of a port.
    pub fn backend_address(&self, side: Side, protocol: u8, port: u16) -> IpAddr {
        let (_, number) = self.behind(side, protocol, port);
        let Backend { family, address, .. } = self.world.backends[usize::from(number)];
        if family == 4 { IpAddr::from([address[0], address[1], address[2], address[3]]) } else { IpAddr::from(address) }
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

fn neighbour(side: Side) -> IpAddr {
    match side {
        Side::V4 => IpAddr::from(NEIGHBOUR_V4),
        Side::V6 => NEIGHBOUR_V6.parse().expect("an address"),
    }
}

/// An address behind that neighbour.
fn routed(side: Side) -> IpAddr {
    match side {
        Side::V4 => IpAddr::from(ROUTED_V4),
        Side::V6 => ROUTED_V6.parse().expect("an address"),
    }
}

/// A frame from the client to the VIP.
pub fn from_client(side: Side, payload: Payload) -> Frame {
    Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(side.client(), side.vip(), payload))
}

/// A frame from the VIP back to the client.
pub fn to_client(side: Side, payload: Payload) -> Frame {
    Frame::new(CLIENT_MAC, EDGE_MAC, Ip::new(side.vip(), side.client(), payload))
}

/// A frame to the VIP that is not an address of the host.
pub fn to_closed(side: Side, payload: Payload) -> Frame {
    Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(side.client(), side.closed(), payload))
}

/// A frame to an address that is no VIP.
pub fn to_other(side: Side, payload: Payload) -> Frame {
    Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(side.client(), side.other(), payload))
}

/// A tunnel packet from the edge to a backend.
pub fn tunnelled(outer: Side, inner: Ip) -> Frame {
    let outer = Ip::new(outer.tunnel(), outer.backend(1), Payload::Ip(Box::new(inner)));
    Frame::new(EDGE_MAC, CLIENT_MAC, outer)
}

/// The tunnel packet that the edge sends to a backend at `to`.
pub fn tunnelled_to(outer: Side, to: IpAddr, inner: Ip) -> Ip {
    Ip::new(outer.tunnel(), to, Payload::Ip(Box::new(inner)))
}

/// The tunnel packet of a flow with this label; `length` is the packet's total length as its header states it.
#[must_use]
pub fn labelled(mut outer: Ip, label: u32, length: u16) -> Ip {
    if outer.source.is_ipv4() {
        (outer.id, outer.length) = (World::fingerprint(label), Some(length));
    } else {
        (outer.flow_label, outer.length) = (label, Some(length - 40));
    }
    outer
}

/// A frame from a router on the way to a backend, to the tunnel's source.
pub fn to_tunnel(side: Side, payload: Payload) -> Frame {
    Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(side.router(), side.tunnel(), payload))
}

/// The frame that is left after decapsulation.
pub fn bare(inner: Ip) -> Frame {
    Frame::new(EDGE_MAC, CLIENT_MAC, inner)
}

pub fn tcp(port: u16, flags: u8) -> Payload {
    Payload::Tcp(Tcp { destination: port, flags, ..Tcp::default() })
}

pub fn udp(port: u16) -> Payload {
    Payload::Udp(Udp { destination: port, ..Udp::default() })
}

/// A datagram, or a segment of an established connection, with `data` bytes of data.
pub fn transport(protocol: u8, port: u16, data: usize) -> Payload {
    let data = (0..=255).cycle().take(data).collect();
    if protocol == protocol::TCP {
        Payload::Tcp(Tcp { destination: port, data, ..Tcp::default() })
    } else {
        Payload::Udp(Udp { destination: port, data, ..Udp::default() })
    }
}

/// The IP packet of a frame.
///
/// # Panics
/// If the frame carries no IP packet.
pub fn ip(frame: &Frame) -> &Ip {
    match &frame.network {
        crate::packet::Network::Ip(ip) => ip,
        crate::packet::Network::Other(..) => panic!("no IP packet"),
    }
}

/// The frame with its IP packet changed.
///
/// # Panics
/// If the frame carries no IP packet.
#[must_use]
pub fn with_ip(mut frame: Frame, change: impl FnOnce(&mut Ip)) -> Frame {
    match &mut frame.network {
        crate::packet::Network::Ip(ip) => change(ip),
        crate::packet::Network::Other(..) => panic!("no IP packet"),
    }
    frame
}
