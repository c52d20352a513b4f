//! The packets of a rehearsal: for each service packets that start flows and that continue them, for each VIP an echo
//! request and a packet to a port without a service.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use edge_common::{
    abi::Tracking,
    wire::{
        protocol::{ICMP, ICMPV6, TCP, UDP},
        tcp::flags,
    },
};

use crate::{
    bpf::STATION,
    config::{Config, Ports, Protocol, Service},
    control::frames::{frame, tcp, udp},
};

/// Flows of each service, at least.
const FLOWS: usize = 2;
/// Destinations (VIP and port) of a service that get packets, at most.
const MOST_DOORS: usize = 1024;
/// Destinations of all services that get packets, at most, apart from two of each service; and VIPs that get packets of
/// their own, at most.
const MOST_SCENES: usize = 8192;
/// First port of clients.
const FIRST_PORT: u16 = 20_000;

/// Packets in order; each may depend on those before it.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// The service or VIP that the packets are for.
    pub(super) subject: String,
    pub(super) packets: Vec<Probed>,
}

/// A packet to send.
#[derive(Clone, Debug)]
pub(super) struct Probed {
    pub(super) what: String,
    pub(super) frame: Vec<u8>,
}

/// All scenes of a configuration.
pub(super) fn scenes(config: &Config) -> impl Iterator<Item = Scene> {
    let clients = FIRST_PORT..=u16::MAX;
    let mut vips: BTreeMap<IpAddr, Vec<&Ports>> = BTreeMap::new();
    for service in &config.services {
        service.vips.iter().for_each(|vip| vips.entry(*vip).or_default().extend(&service.ports));
    }
    let vips = vips.into_iter().map(|(vip, taken)| of_vip(vip, &taken));
    let step = vips.len().div_ceil(MOST_SCENES);
    let vips = vips.step_by(step.max(1));
    let most = (MOST_SCENES / config.services.len().max(1)).clamp(FLOWS, MOST_DOORS);
    let flows = config.services.iter().flat_map(move |service| {
        let doors = doors(service, most);
        let flows = FLOWS.div_ceil(doors.len()).max(1);
        (0..flows).flat_map(move |_| doors.clone()).map(move |door| (service, door))
    });
    flows.zip(clients.cycle()).map(|((service, door), from)| of_service(service, door, from)).chain(vips)
}

/// A destination of clients.
#[derive(Clone, Copy, Debug)]
struct Door<'a> {
    vip: IpAddr,
    port: u16,
    ports: &'a Ports,
}

/// The first and the last port of each range, at each VIP. If these are more than `most`, a selection that is spread
/// over all.
fn doors(service: &Service, most: usize) -> Vec<Door<'_>> {
    let ends = |ports: &Ports| if ports.is_any() { vec![1, u16::MAX] } else { vec![ports.first, ports.last] };
    let ports: Vec<_> =
        service.ports.iter().flat_map(|ports| ends(ports).into_iter().map(move |end| (end, ports))).collect();
    let mut all: Vec<_> = service
        .vips
        .iter()
        .flat_map(|&vip| ports.iter().map(move |&(port, ports)| Door { vip, port, ports }))
        .collect();
    all.dedup_by_key(|door| (door.vip, door.port, door.ports.protocol));
    // Odd, so that a service with few ports does not get all packets at the same one.
    let step = all.len().div_ceil(most) | 1;
    all.into_iter().step_by(step).collect()
}

fn of_service(service: &Service, Door { vip, port, ports }: Door<'_>, from: u16) -> Scene {
    let client = client(vip, from);
    let packet = |what: &str, protocol: u8, payload: &[u8]| {
        let what = format!("{what} from {client} port {from} to {vip} port {port}");
        Probed { what, frame: frame(STATION, client, vip, protocol, payload) }
    };
    let packets = match ports.protocol {
        Protocol::Tcp => vec![
            packet("a SYN", TCP, &tcp(from, port, flags::SYN)),
            packet("an ACK", TCP, &tcp(from, port, flags::ACK)),
        ],
        Protocol::Udp if ports.tracking == Tracking::Quic => vec![
            packet("an Initial packet of QUIC", UDP, &udp(from, port, &[0xc0, 0, 0, 0, 1, 0, 0, 0])),
            packet("a short packet of QUIC", UDP, &udp(from, port, &[0x40, 0, 0, 0, 0, 0, 0, 0])),
        ],
        Protocol::Udp => vec![packet("a datagram", UDP, &udp(from, port, &[0; 8]))],
    };
    Scene { subject: format!("service {}", service.name), packets }
}

fn of_vip(vip: IpAddr, taken: &[&Ports]) -> Scene {
    let client = client(vip, FIRST_PORT);
    let (protocol, request) = if vip.is_ipv4() { (ICMP, 8) } else { (ICMPV6, 128) };
    let echo = [request, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    let mut packets = vec![Probed {
        what: format!("an echo request from {client} to {vip}"),
        frame: frame(STATION, client, vip, protocol, &echo),
    }];
    let is_taken = |port: u16| {
        taken.iter().any(|ports| {
            ports.protocol == Protocol::Tcp && (ports.is_any() || ports.first <= port && port <= ports.last)
        })
    };
    if let Some(port) = (1..=u16::MAX).rev().find(|&port| !is_taken(port)) {
        packets.push(Probed {
            what: format!("a SYN from {client} port {FIRST_PORT} to {vip} port {port}, where no service is"),
            frame: frame(STATION, client, vip, TCP, &tcp(FIRST_PORT, port, flags::SYN)),
        });
    }
    Scene { subject: format!("VIP {vip}"), packets }
}

/// An address for documentation (RFC 5737, RFC 3849) of the VIP's family.
fn client(vip: IpAddr, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, low | 1).into(),
        IpAddr::V6(_) => Ipv6Addr::from([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low | 1]).into(),
    }
}
