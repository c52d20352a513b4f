//! Decapsulation on a tunnel's backend: IPv4 and IPv6 in either, or in UDP over either ([`gue`]), without a kernel module.
//!
//! A backend has no other guard at this door: what leaves here goes on in the host's stack as if it had come by the wire,
//! past whatever filters tunnel packets. So no packet is taken but one of an edge, to this host, from a client, for a VIP.

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
        ip::{Fragment, Payload, Transport},
        ipv4::V4,
        ipv6::{self, V6},
        link::Link,
        packet::{Packet, after},
        protocol,
    },
};

/// What a backend is told of addresses.
pub trait Addresses {
    /// Bits of [`Role`]; 0 for an address that has none.
    fn roles(&self, address: Words) -> u32;
    fn is_vip(&self, address: Words) -> bool;
    /// Whether an address is one of those whose prefix is an edge's.
    fn is_in_edges(&self, address: Words) -> bool;
    /// UDP port at which tunnel packets are taken, network order; 0: none is.
    fn gue_port(&self) -> [u8; 2];
    fn count_exit(&self, exit: DecapExit);

    /// Takes the headers before the inner packet off. A function of its own in the kernel, where the verifier looks at it once, and
    /// not for each way that leads to it.
    #[inline(always)]
    fn open<P: Packet>(&self, packet: &mut P, link: Link, tunnel: Tunnel) -> DecapExit
    where
        Self: Sized,
    {
        open(packet, self, link, tunnel)
    }
}

/// Takes the outer header off a tunnel packet from one of our edges, for the host's own stack to go on with.
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

/// Takes the headers before the inner packet off, if that may be taken.
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

/// What the outer header says of the inner packet.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// [`protocol::IPV4`] or [`protocol::IPV6`].
    protocol: u8,
    /// Length of the outer header, and of all that stands behind it before the inner packet.
    header: usize,
    /// Where the inner packet ends at the latest; an offset in the frame.
    end: usize,
    /// The outer packet's.
    tos: u8,
}

impl Tunnel {
    /// In one word, which a subprogram takes in a register. No frame has an end above 2^32.
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

/// No outer header is longer than the bits of this say: one of IPv6 has four extension headers of 2,048 bytes at most.
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

/// Whether what is at `at` may be a tunnel packet: an IP packet, or UDP to the port at which these are taken.
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
fn inner<F: Address + SetEcn, P: Packet, A: Addresses>(
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
    let was = F::tos(header) & ECN;
    let now = ecn::decapsulated(was, tos & ECN).ok_or(DecapExit::Congested)?;
    if now != was {
        F::set_ecn(packet.view_mut(at).ok_or(DecapExit::BadInner)?, now);
    }
    // The link layer moves up first: what is cut off then is as long, and nobody's.
    link.copy(packet, 0, cut).ok_or(DecapExit::DecapNoRoom)?;
    link.set_ether_type(packet, cut, F::ETHER_TYPE).ok_or(DecapExit::DecapNoRoom)?;
    packet.grow_head((cut as i32).wrapping_neg()).ok_or(DecapExit::DecapNoRoom)
}

/// Whether the inner packet goes from a client to a VIP.
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

/// Whether the inner packet, or one of which it is the first fragment, is in UDP to the port of tunnel packets.
#[inline(always)]
fn is_gue<P: Packet, A: Addresses>(packet: &P, addresses: &A, payload: Payload) -> bool {
    match payload {
        Payload::Transport(at) | Payload::Fragment(Fragment { at, before: 0, .. }) => {
            at.protocol == protocol::UDP && is_ours(packet, addresses, at)
        }
        Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => false,
    }
}

/// Whether the inner packet is a tunnel that the host's kernel could open, or may hide one behind its extension headers.
/// Of tunnels in UDP only those to the port of ours are recognized: only its port is peculiar.
#[inline(always)]
const fn is_tunnel(payload: Payload) -> bool {
    match payload {
        Payload::Transport(Transport { protocol, .. }) => protocol::is_tunnel(protocol),
        // Behind a fragment's own header there should be no other; there it could come before a tunnel.
        Payload::Fragment(fragment) => {
            protocol::is_tunnel(fragment.at.protocol) || ipv6::is_extension(fragment.at.protocol)
        }
        Payload::Hidden => true,
        Payload::Malformed => false,
    }
}
