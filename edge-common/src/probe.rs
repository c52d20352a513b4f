//! Health probes on the clients' path: packets of the controller's sockets are forwarded as the packet path forwards
//! clients' packets, and the answers are returned to those sockets.
//!
//! The sockets are in a network namespace of their own, whose packets enter the host's namespace by a device, the door.
//! They are plain packets from an address of this host to a VIP, or to a backend's own address, as a client would send
//! them. No backend is selected for a probe, since its entry in the maps names the backend. The rest of its path is
//! [`forward()`].

use network_types::icmp::Icmpv4Hdr;

use crate::{
    abi::{Mode, ProbeRoute, ServiceRef},
    forward::{Received, forward, send_spread},
    lookup::Lookup,
    maps::Maps,
    wire::{
        ethernet,
        icmp::Icmp,
        ip::{Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{Packet, Places, after},
    },
};

/// Lookup of probes by the flow of their packets.
pub trait Probes {
    fn find_v4(&self, key: &<V4 as Lookup>::FlowKey) -> Option<ProbeRoute>;
    fn find_v6(&self, key: &<V6 as Lookup>::FlowKey) -> Option<ProbeRoute>;
}

/// An address family that probes can have.
trait Probed: Lookup + Icmp {
    fn find_probe<T: Probes>(probes: &T, key: &Self::FlowKey) -> Option<ProbeRoute>;
}

impl Probed for V4 {
    #[inline(always)]
    fn find_probe<T: Probes>(probes: &T, key: &Self::FlowKey) -> Option<ProbeRoute> {
        probes.find_v4(key)
    }
}

impl Probed for V6 {
    #[inline(always)]
    fn find_probe<T: Probes>(probes: &T, key: &Self::FlowKey) -> Option<ProbeRoute> {
        probes.find_v6(key)
    }
}

/// Turns a packet from the door into a frame to the next hop of the probe's backend. Returns the egress interface; `None`
/// if the packet belongs to no probe, or can't be sent.
#[inline(always)]
pub fn send<P: Places, M: Maps, T: Probes>(packet: &mut P, maps: &M, probes: &T) -> Option<u32> {
    let link = Link::parse(packet)?;
    match link.ether_type {
        ethernet::IPV4 => send_from::<V4, P, M, T>(packet, maps, probes, link),
        ethernet::IPV6 => send_from::<V6, P, M, T>(packet, maps, probes, link),
        _ => None,
    }
}

#[inline(always)]
fn send_from<F: Probed, P: Places, M: Maps, T: Probes>(
    packet: &mut P,
    maps: &M,
    probes: &T,
    link: Link,
) -> Option<u32> {
    let header: &F::Header = packet.view(link.l3)?;
    let (source, destination, length) = (F::source(header), F::destination(header), F::length(header));
    let at = transport::<F, P>(packet, link, header)?;
    let ports: [u8; 4] = packet.load(ends::<F>(at))?;
    let route = F::find_probe(probes, &F::flow_key(source, destination, u32::from_ne_bytes(ports), at.protocol))?;
    let view = maps.view()?;
    let label = F::flow(&view.generation.hash_key, source, u32::from_ne_bytes(ports)).flow_label();
    let backend = maps.backend(route.backend)?;
    let mode = Mode::from_raw(route.mode).filter(|mode| *mode != Mode::Nat)?;
    let header = packet.place(link.l3)?;
    let received = Received { link, header, length, label };
    let service_ref = ServiceRef::new(0, 1, 0).with_mode(mode);
    let spread = |packet: &mut P, spread| send_spread(packet, maps, view.generation, backend, spread);
    let sent = forward::<F, P, M>(packet, maps, view, received, service_ref, backend, spread);
    sent.ok().map(|outcome| outcome.egress)
}

/// The door of the probe that a packet from the wire answers; `None` if it answers no probe.
#[inline(always)]
pub fn answered<P: Packet, T: Probes>(packet: &P, probes: &T) -> Option<u32> {
    let link = Link::parse(packet)?;
    match link.ether_type {
        ethernet::IPV4 => answered_to::<V4, P, T>(packet, probes, link),
        ethernet::IPV6 => answered_to::<V6, P, T>(packet, probes, link),
        _ => None,
    }
}

#[inline(always)]
fn answered_to<F: Probed, P: Packet, T: Probes>(packet: &P, probes: &T, link: Link) -> Option<u32> {
    let header: &F::Header = packet.view(link.l3)?;
    let at = transport::<F, P>(packet, link, header)?;
    if at.protocol == F::ICMP {
        let [type_] = packet.load(at.offset)?;
        if type_ != F::ECHO_REPLY {
            return if F::concerns_a_flow(type_) { reported::<F, P, T>(packet, probes, at) } else { None };
        }
    }
    let ends: [u8; 4] = packet.load(ends::<F>(at))?;
    let ends = u32::from_ne_bytes(ends);
    // A flow's key has the client's port first, so an answer's ports are swapped; an echo reply has its request's
    // identifier and number.
    let ends = if at.protocol == F::ICMP { ends } else { ends.rotate_left(16) };
    let key = F::flow_key(F::destination(header), F::source(header), ends, at.protocol);
    F::find_probe(probes, &key).map(|route| route.door)
}

/// The door of the probe whose packet an ICMP error quotes. Packets of probes have no options and no extension headers.
#[inline(always)]
fn reported<F: Probed, P: Packet, T: Probes>(packet: &P, probes: &T, error: Transport) -> Option<u32> {
    let l3 = after(error.offset, Icmpv4Hdr::LEN);
    let quoted: &F::Header = packet.view(l3)?;
    let at = F::quoted_outer(packet, l3)?;
    let ends: [u8; 4] = packet.load(ends::<F>(at))?;
    let key = F::flow_key(F::source(quoted), F::destination(quoted), u32::from_ne_bytes(ends), at.protocol);
    F::find_probe(probes, &key).map(|route| route.door)
}

/// Offset of the four bytes that distinguish the packets of a probe from others between the same addresses: the ports, or
/// the identifier and number of an echo.
#[inline(always)]
fn ends<F: Probed>(at: Transport) -> usize {
    if at.protocol == F::ICMP { after(at.offset, 4) } else { at.offset }
}

/// The transport header of a packet that is whole and well-formed; the host's stack handles other packets.
#[inline(always)]
fn transport<F: Probed, P: Packet>(packet: &P, link: Link, header: &F::Header) -> Option<Transport> {
    match F::payload(packet, link.l3, header) {
        Payload::Transport(transport) => Some(transport),
        Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => None,
    }
}
