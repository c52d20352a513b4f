//! Decapsulation on a tunnel's backend: IPv4 and IPv6 in either, without a kernel module.
//!
//! A backend has no other guard at this door: what leaves here goes on in the host's stack as if it had come by the wire,
//! past whatever filters tunnel packets. So no packet is taken but one of an edge, to this host, from a client, for a VIP.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

mod address;
mod ecn;
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
        ip::{Payload, Transport},
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
    fn count_exit(&self, exit: DecapExit);
}

/// Takes the outer header off a tunnel packet from one of our edges, for the host's own stack to go on with.
#[inline(always)]
pub fn process<P: Packet, A: Addresses>(packet: &mut P, addresses: &A) -> DecapExit {
    let exit = match decapsulate(packet, addresses) {
        Ok(()) => DecapExit::Decapsulated,
        Err(exit) => exit,
    };
    addresses.count_exit(exit);
    exit
}

#[inline(always)]
fn decapsulate<P: Packet, A: Addresses>(packet: &mut P, addresses: &A) -> Result<(), DecapExit> {
    let link = Link::parse(packet).ok_or(DecapExit::NotTunnel)?;
    let tunnel = match link.ether_type {
        ethernet::IPV4 => outer::<V4, P, A>(packet, addresses, link)?,
        ethernet::IPV6 => outer::<V6, P, A>(packet, addresses, link)?,
        _ => return Err(DecapExit::NotTunnel),
    };
    if tunnel.protocol == protocol::IPV4 {
        inner::<V4, P, A>(packet, addresses, link, tunnel)
    } else {
        inner::<V6, P, A>(packet, addresses, link, tunnel)
    }
}

/// What the outer header says of the inner packet.
#[derive(Clone, Copy, Debug)]
struct Tunnel {
    /// [`protocol::IPV4`] or [`protocol::IPV6`].
    protocol: u8,
    /// Length of the outer header, and of all extension headers behind it.
    header: usize,
    /// Where the inner packet ends at the latest; an offset in the frame.
    end: usize,
    /// The outer packet's.
    tos: u8,
}

/// No outer header is longer than the bits of this say: one of IPv6 has four extension headers of 2,048 bytes at most.
const LONGEST: usize = 0x3fff;

#[inline(always)]
fn outer<F: Address, P: Packet, A: Addresses>(packet: &P, addresses: &A, link: Link) -> Result<Tunnel, DecapExit> {
    let header: &F::Header = packet.view(link.l3).ok_or(DecapExit::NotTunnel)?;
    let is = |address, role| addresses.roles(F::words(address)) & role != 0;
    match F::payload(packet, link.l3, header) {
        Payload::Transport(Transport { protocol: tunnelled @ (protocol::IPV4 | protocol::IPV6), offset }) => {
            if !is(F::source(header), Role::EDGE) {
                return Err(DecapExit::UnknownSource);
            }
            if !is(F::destination(header), Role::ENDPOINT) {
                return Err(DecapExit::WrongEndpoint);
            }
            Ok(Tunnel {
                protocol: tunnelled,
                header: packet.merge_paths(offset.wrapping_sub(link.l3), LONGEST),
                end: after(link.l3, F::length(header)),
                tos: F::tos(header),
            })
        }
        Payload::Fragment(_) if is(F::source(header), Role::EDGE) => Err(DecapExit::TunnelFragment),
        Payload::Transport(_) | Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => {
            Err(DecapExit::NotTunnel)
        }
    }
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
    if is_tunnel(payload) {
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

/// Whether the inner packet is a tunnel that the host's kernel could open, or may hide one behind its extension headers.
/// A tunnel in UDP is not recognized: only its port is peculiar.
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
