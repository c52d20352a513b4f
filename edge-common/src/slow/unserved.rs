//! Packets to a VIP that belong to no service: to another port, in another protocol, fragments without a first, ICMP about
//! no flow.
//!
//! They are passed to the host if the VIP is one of its addresses, which the VIP's own entry of the service index records.
//! Otherwise no one on this host has a use for them: a host that forwards would send them to the router that they came
//! from, and that router would send them back, until their TTL is used up. So they are answered, as by a host without such
//! a service, or dropped.

use core::mem::offset_of;

use network_types::ip::Ipv6Hdr;

use crate::{
    abi::{Exit, VipOther},
    lookup::Lookup,
    maps::{Maps, View},
    step::Decision,
    wire::{
        icmp::Icmp,
        ip::{Family as _, Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{Packet, after},
        protocol,
        transport::Head,
    },
};

/// Decides how a packet leaves that is [unserved](Decision::unserved). Other decisions are returned unchanged.
#[inline(always)]
pub(super) fn unserved<P: Packet, M: Maps>(packet: &P, maps: &M, decided: Decision) -> Decision {
    let Some(bank) = decided.unserved_in() else { return decided };
    let (Some(view), Some(link)) = (maps.view_of(bank), Link::parse(packet)) else { return Exit::NotOurs.into() };
    if link.ether_type == V4::ETHER_TYPE {
        of_family::<V4, P, M>(packet, maps, view, link, decided.exit())
    } else {
        of_family::<V6, P, M>(packet, maps, view, link, decided.exit())
    }
}

#[inline(always)]
fn of_family<F: Lookup + Icmp, P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    view: View<'_>,
    link: Link,
    exit: Exit,
) -> Decision {
    let Some(header) = packet.view::<F::Header>(link.l3) else { return Exit::NotOurs.into() };
    let Some(vip) = F::vip(maps, view, F::destination(header)) else { return Exit::NotOurs.into() };
    // A packet that hides its port may belong to any service, or to the host, but must never be forwarded by the host.
    let is_hidden = matches!(exit, Exit::FragmentUnknown | Exit::ExtensionHeaders);
    if vip.is_host() {
        return if is_hidden { Exit::NotOurs } else { exit }.into();
    }
    match VipOther::from_raw(view.generation.vip_other) {
        _ if is_hidden => exit.into(),
        VipOther::Host => exit.into(),
        VipOther::Drop => Exit::VipDropped.into(),
        // An error is not answered by an error, and for other ICMP there is no answer that reports a missing service (RFC
        // 1122, section 3.2.2).
        VipOther::Reject if matches!(exit, Exit::IcmpError | Exit::IcmpOther) => Exit::VipSilent.into(),
        VipOther::Reject => rejected::<F, P>(packet, link, header),
    }
}

/// The answer of a host that has the address, but nothing behind the port or the protocol.
#[inline(always)]
fn rejected<F: Icmp, P: Packet>(packet: &P, link: Link, header: &F::Header) -> Decision {
    let (at, whole) = match F::payload(packet, link.l3, header) {
        Payload::Transport(at) => (at, true),
        Payload::Fragment(fragment) => (fragment.at, false),
        Payload::Hidden | Payload::Malformed => return Exit::Malformed.into(),
    };
    if !protocol::has_ports(at.protocol) {
        return unknown::<F>(link, at);
    }
    let end = after(link.l3, F::length(header));
    let check = |head: Head| {
        if whole { head.check(at.protocol, at.offset, end) } else { head.check_first(at.protocol, at.offset, end) }
    };
    if Head::read(packet, at.protocol, at.offset).is_none_or(|head| check(head).is_err()) {
        return Exit::Malformed.into();
    }
    let exit = if at.protocol == protocol::TCP { Exit::VipReset } else { Exit::VipUnreachable };
    Decision::new(exit, at.offset as u32)
}

/// The answer to a packet of a protocol that no service has. The answer of IPv6 contains the offset of the protocol number
/// in the packet, so only packets without extension headers are answered. "No next header" needs no answer (RFC 8200,
/// section 4.7).
#[inline(always)]
fn unknown<F: Icmp>(link: Link, at: Transport) -> Decision {
    if F::ETHER_TYPE == V4::ETHER_TYPE {
        return Exit::VipProtocol.into();
    }
    if at.protocol == protocol::NO_NEXT_HEADER || at.offset != after(link.l3, size_of::<F::Header>()) {
        return Exit::VipSilent.into();
    }
    Decision::new(Exit::VipProtocol, const { offset_of!(Ipv6Hdr, next_hdr) as u32 })
}
