//! Decapsulation on a tunnel's backend: IPv4 and IPv6 in either, or in UDP over either ([`gue`]), without a kernel module.
//!
//! The backend has no other protection here: a decapsulated packet continues in the host's stack as if it had come by the
//! wire, past all filters for tunnel packets. So the only packets that are accepted are those of an edge, to this host,
//! from a client, for a VIP.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

mod address;
mod ecn;
mod gue;
pub mod mss;
#[cfg(test)]
mod tests;

pub use self::address::Words;
use self::{
    address::Address,
    ecn::{ECN, SetEcn},
};
use crate::{
    abi::{DecapExit, Role},
    wire::{
        ethernet,
        icmp::Icmp,
        ip::{Fragment, Payload, Transport},
        ipv4::V4,
        ipv6::{self, V6},
        link::Link,
        packet::{OFFSETS, Packet, after},
        protocol,
    },
};

/// The settings of the decapsulation, and its counters.
pub trait Addresses {
    /// Bits of [`Role`]; 0 for an address without a role.
    fn roles(&self, address: Words) -> u32;
    fn is_vip(&self, address: Words) -> bool;
    /// Whether an address is in a prefix of edges.
    fn is_in_edges(&self, address: Words) -> bool;
    /// UDP port at which tunnel packets are accepted, network order; 0 if none are.
    fn gue_port(&self) -> [u8; 2];
    fn count_exit(&self, exit: DecapExit);

    /// Removes the headers before the inner packet. In the kernel it is a function of its own, which the verifier checks
    /// once and not for each path that leads to it.
    #[inline(always)]
    fn open<P: Packet>(&self, packet: &mut P, link: Link, tunnel: Tunnel) -> DecapExit
    where
        Self: Sized,
    {
        open(packet, self, link, tunnel)
    }
}

/// Removes the outer header of a tunnel packet from a configured edge, for the host's own stack.
#[inline(always)]
pub fn process<P: Packet, A: Addresses>(packet: &mut P, addresses: &A) -> DecapExit {
    let exit = match decapsulate(packet, addresses) {
        Ok(exit) | Err(exit) => exit,
    };
    addresses.count_exit(exit);
    exit
}

#[inline(always)]
fn decapsulate<P: Packet, A: Addresses>(packet: &mut P, addresses: &A) -> Result<DecapExit, DecapExit> {
    let link = Link::parse(packet).ok_or(DecapExit::NotTunnel)?;
    let tunnel = match link.ether_type {
        ethernet::IPV4 => outer::<V4, P, A>(packet, addresses, link)?,
        ethernet::IPV6 => outer::<V6, P, A>(packet, addresses, link)?,
        _ => return Err(DecapExit::NotTunnel),
    };
    Ok(addresses.open(packet, link, tunnel))
}

/// Removes the headers before the inner packet, if the inner packet is acceptable.
#[inline(always)]
pub fn open<P: Packet, A: Addresses>(packet: &mut P, addresses: &A, link: Link, tunnel: Tunnel) -> DecapExit {
    let opened = if tunnel.protocol == protocol::IPV4 {
        inner::<V4, P, A>(packet, addresses, link, tunnel)
    } else {
        inner::<V6, P, A>(packet, addresses, link, tunnel)
    };
    match opened {
        Ok(()) => DecapExit::Decapsulated,
        Err(exit) => exit,
    }
}

/// What the outer header determines for the inner packet.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// [`protocol::IPV4`] or [`protocol::IPV6`].
    protocol: u8,
    /// Length of the outer header and of all other headers before the inner packet.
    header: usize,
    /// Latest end of the inner packet; an offset in the frame.
    end: usize,
    /// TOS byte of the outer packet.
    tos: u8,
}

impl Tunnel {
    /// The fields in one word, which a subprogram takes in a register. No frame has an end above 2^32.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        (self.end as u64) << 32
            | (self.header as u64 & LONGEST as u64) << 16
            | (self.protocol as u64) << 8
            | self.tos as u64
    }

    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            protocol: (word >> 8) as u8,
            header: (word >> 16) as usize & LONGEST,
            end: (word >> 32) as usize,
            tos: word as u8,
        }
    }
}

/// Bits of the length of an outer header: an IPv6 header has at most four extension headers of 2,048 bytes each.
const LONGEST: usize = 0x3fff;

#[inline(always)]
fn outer<F: Address, P: Packet, A: Addresses>(packet: &P, addresses: &A, link: Link) -> Result<Tunnel, DecapExit> {
    let header: &F::Header = packet.view(link.l3).ok_or(DecapExit::NotTunnel)?;
    let at = match F::payload(packet, link.l3, header) {
        Payload::Transport(at) if is_ours(packet, addresses, at) => at,
        Payload::Fragment(_) if is_edge::<F, A>(addresses, header) => return Err(DecapExit::TunnelFragment),
        Payload::Transport(_) | Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => {
            return Err(DecapExit::NotTunnel);
        }
    };
    if !is_edge::<F, A>(addresses, header) {
        return Err(DecapExit::UnknownSource);
    }
    if addresses.roles(F::words(F::destination(header))) & Role::ENDPOINT == 0 {
        return Err(DecapExit::WrongEndpoint);
    }
    let (end, tos) = (after(link.l3, F::length(header)), F::tos(header));
    let (protocol, behind) = match at.protocol {
        protocol::UDP => gue::open::<F, P>(packet, header, at.offset, end)?,
        tunnelled => (tunnelled, at.offset),
    };
    let header_length = packet.merge_paths(behind.wrapping_sub(link.l3), LONGEST);
    Ok(Tunnel { protocol, header: header_length, end, tos })
}

/// Whether the packet at `at` may be a tunnel packet: an IP packet, or UDP to the port of tunnel packets.
#[inline(always)]
fn is_ours<P: Packet, A: Addresses>(packet: &P, addresses: &A, at: Transport) -> bool {
    match at.protocol {
        protocol::IPV4 | protocol::IPV6 => true,
        protocol::UDP => {
            let port = addresses.gue_port();
            port != [0; 2] && gue::destination(packet, at.offset) == Some(port)
        }
        _ => false,
    }
}

/// Whether a packet comes from an edge.
#[inline(always)]
fn is_edge<F: Address, A: Addresses>(addresses: &A, header: &F::Header) -> bool {
    let source = F::words(F::source(header));
    addresses.roles(source) & Role::EDGE != 0 || addresses.is_in_edges(source)
}

#[inline(always)]
fn inner<F: Address + Icmp + SetEcn, P: Packet, A: Addresses>(
    packet: &mut P,
    addresses: &A,
    link: Link,
    Tunnel { header: cut, end, tos, .. }: Tunnel,
) -> Result<(), DecapExit> {
    let at = after(link.l3, cut);
    let header: &F::Header = packet.view(at).ok_or(DecapExit::BadInner)?;
    let payload = F::payload(packet, at, header);
    if after(at, F::length(header)) > end || matches!(payload, Payload::Malformed) {
        return Err(DecapExit::BadInner);
    }
    ends::<F, A>(addresses, header)?;
    if is_tunnel(payload) || is_gue(packet, addresses, payload) {
        return Err(DecapExit::NestedTunnel);
    }
    if is_discovery::<F, P>(packet, header, payload) {
        return Err(DecapExit::InnerDiscovery);
    }
    let was = F::tos(header) & ECN;
    let now = ecn::decapsulated(was, tos & ECN).ok_or(DecapExit::Congested)?;
    if now != was {
        F::set_ecn(packet.view_mut(at).ok_or(DecapExit::BadInner)?, now);
    }
    // The link layer moves up first: the bytes that are then cut off are as many, and unused.
    link.copy(packet, 0, cut).ok_or(DecapExit::DecapNoRoom)?;
    link.set_ether_type(packet, cut, F::ETHER_TYPE).ok_or(DecapExit::DecapNoRoom)?;
    packet.grow_head((cut as i32).wrapping_neg()).ok_or(DecapExit::DecapNoRoom)
}

/// Checks that the inner packet goes from a client to a VIP.
#[inline(always)]
fn ends<F: Address, A: Addresses>(addresses: &A, header: &F::Header) -> Result<(), DecapExit> {
    let (source, destination) = (F::source(header), F::destination(header));
    if F::is_multicast(destination) {
        return Err(DecapExit::InnerMulticast);
    }
    if !addresses.is_vip(F::words(destination)) {
        return Err(DecapExit::UnknownVip);
    }
    if F::is_martian(source) {
        return Err(DecapExit::MartianSource);
    }
    if addresses.roles(F::words(source)) & Role::OWN != 0 || addresses.is_vip(F::words(source)) {
        return Err(DecapExit::OwnSource);
    }
    Ok(())
}

/// Whether the inner packet is neighbour discovery, with which anyone could change the host's neighbours: the host takes
/// a hop limit of 255 as proof that the sender is on its link.
#[inline(always)]
fn is_discovery<F: Icmp, P: Packet>(packet: &P, header: &F::Header, payload: Payload) -> bool {
    match payload {
        Payload::Transport(at) if at.protocol == F::ICMP => packet
            .load(packet.merge_paths(at.offset, OFFSETS))
            .is_some_and(|[kind]| F::is_discovery(kind, F::ttl(header))),
        Payload::Transport(_) | Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => false,
    }
}

/// Whether the inner packet, or the packet of which it is the first fragment, is in UDP to the port of tunnel packets.
#[inline(always)]
fn is_gue<P: Packet, A: Addresses>(packet: &P, addresses: &A, payload: Payload) -> bool {
    match payload {
        Payload::Transport(at) | Payload::Fragment(Fragment { at, before: 0, .. }) => {
            at.protocol == protocol::UDP && is_ours(packet, addresses, at)
        }
        Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => false,
    }
}

/// Whether the inner packet is a tunnel that the host's kernel could decapsulate, or may hide one behind its extension
/// headers. Tunnels in UDP are recognized only at the configured port: nothing but its port marks a tunnel in UDP.
#[inline(always)]
const fn is_tunnel(payload: Payload) -> bool {
    match payload {
        Payload::Transport(Transport { protocol, .. }) => protocol::is_tunnel(protocol),
        // A fragment header should not be followed by another extension header, which could precede a tunnel.
        Payload::Fragment(fragment) => {
            protocol::is_tunnel(fragment.at.protocol) || ipv6::is_extension(fragment.at.protocol)
        }
        Payload::Hidden => true,
        Payload::Malformed => false,
    }
}
