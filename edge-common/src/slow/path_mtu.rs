//! Path MTU of a tunnel, learnt from a router's ICMP error about an outer packet (RFC 1191, RFC 8201, RFC 2003 section 5).
//!
//! The error is addressed to the tunnel's source, and quotes the outer packet and, with nearly all routers, enough of the
//! client's packet in it to identify the flow, and so the backend behind that path. From the next packet on the client
//! learns the MTU as well.

use network_types::{icmp::Icmpv4Hdr, udp::UdpHdr};

use super::{Look, icmp::FARTHEST, reply::Reply};
use crate::{
    abi::Exit,
    lookup::Lookup,
    maps::Maps,
    step::{Decision, FlowLocation, FlowRelation, Step, StepResult},
    wire::{
        gue,
        icmp::Icmp,
        ip::{Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        packet::{Packet, after},
        protocol,
    },
};

/// Length in bytes of the longest error whose checksum is computed. RFC 1812 and RFC 4443 allow less.
const MAX_ERROR: usize = 1_500;

impl<P: Packet, M: Maps> Look<'_, P, M> {
    /// The client's packet inside the outer packet that an ICMP error to a tunnel's source quotes.
    #[inline(always)]
    pub(super) fn tunnelled<F: Lookup + Icmp>(&self, header: &F::Header, at: Transport) -> Option<StepResult> {
        F::path_mtu(self.packet.load(at.offset)?)?;
        let outer_at = after(at.offset, Icmpv4Hdr::LEN);
        let outer: &F::Header = self.packet.view(outer_at)?;
        let inner = F::quoted_outer(self.packet, outer_at)?;
        if F::source(outer) != F::destination(header) || inner.offset > FARTHEST {
            return None;
        }
        let (protocol, l3) = match inner.protocol {
            protocol::UDP => self.in_udp(inner.offset)?,
            protocol => (protocol, inner.offset),
        };
        let l3 = self.packet.merge_paths(l3, FARTHEST);
        match protocol {
            protocol::IPV4 => self.client_packet::<V4>(l3),
            protocol::IPV6 => self.client_packet::<V6>(l3),
            _ => None,
        }
    }

    /// Protocol and offset of the packet inside the UDP packet at `offset`, if that is one of this edge's tunnel packets.
    #[inline(always)]
    fn in_udp(&self, offset: usize) -> Option<(u8, usize)> {
        let [_, _, high, low] = self.packet.load(offset)?;
        if [high, low] != self.view.generation.gue_port {
            return None;
        }
        let behind = after(offset, UdpHdr::LEN);
        let (protocol, header) = gue::parse(self.packet.load(behind)?).ok()?;
        let l3 = after(behind, header);
        if l3 > FARTHEST { None } else { Some((protocol, l3)) }
    }

    #[inline(always)]
    fn client_packet<F: Lookup + Icmp>(&self, l3: usize) -> Option<StepResult> {
        let at = F::quoted(self.packet, l3)?;
        if protocol::has_ports(at.protocol) {
            Some(self.location::<F>(FlowRelation::TunnelQuote, l3, at, false))
        } else {
            None
        }
    }

    /// Learns the MTU, if the outer packet went to the backend that was found, and if the error is one that only a sender
    /// on the path can have made: the quoted packet has bits of the flow's keyed hash, and is longer than the MTU. The
    /// packet is passed to the host as well.
    #[inline(always)]
    pub(super) fn learn_path_mtu<F: Lookup + Reply>(&self, location: FlowLocation, result: StepResult) -> StepResult {
        match self.learnt::<F>(location, result) {
            Some(()) => Exit::PathMtu.into(),
            // The destination may be a VIP as well.
            None => Decision::unserved(Exit::IcmpError, self.view.bank).into(),
        }
    }

    #[inline(always)]
    fn learnt<F: Lookup + Reply>(&self, location: FlowLocation, result: StepResult) -> Option<()> {
        let Step::Forward(chosen) = result.step() else { return None };
        let header: &F::Header = self.packet.view(self.link.l3)?;
        let Payload::Transport(at) = F::payload(self.packet, self.link.l3, header) else { return None };
        let mtu = F::path_mtu(self.packet.load(at.offset)?)?;
        let outer: &F::Header = self.packet.view(after(at.offset, Icmpv4Hdr::LEN))?;
        let backend = self.maps.backend(chosen.backend)?;
        if location.relation != FlowRelation::TunnelQuote
            || !F::is_backend(backend, F::destination(outer))
            || !F::is_labelled(outer, chosen.label)
            || F::length(outer) <= usize::from(mtu)
            || !self.has_ends_of::<F>(outer, after(at.offset, Icmpv4Hdr::LEN), chosen.label)?
            || !self.is_intact::<F>(header, at)?
        {
            return None;
        }
        self.maps.learn_path_mtu(chosen.backend, mtu);
        Some(())
    }

    /// Whether the outer packet at `l3` has the address or port that distinguishes its flow from others: the source of a
    /// packet in `ipip`, the source port of one in UDP.
    #[inline(always)]
    fn has_ends_of<F: Lookup>(&self, outer: &F::Header, l3: usize, label: u32) -> Option<bool> {
        let at = F::quoted_outer(self.packet, l3)?;
        if at.protocol != protocol::UDP {
            return Some(F::is_source_of(self.view.generation, F::source(outer), label));
        }
        let port: [u8; 2] = self.packet.load(self.packet.merge_paths(at.offset, FARTHEST))?;
        Some(port == gue::source_port(label).to_be_bytes())
    }

    /// Whether the checksum of the ICMP message at `at` is right; `None` for a message that is longer than any error need be.
    #[inline(always)]
    fn is_intact<F: Reply>(&self, header: &F::Header, at: Transport) -> Option<bool> {
        let offset = self.packet.merge_paths(at.offset, FARTHEST);
        let length = after(self.link.l3, F::length(header)).wrapping_sub(offset);
        if length > MAX_ERROR {
            return None;
        }
        let sum = F::pseudo_header(header, F::ICMP, length as u16);
        Some(sum.packet(self.packet, offset, length)?.finish() == [0; 2])
    }
}
