//! Path MTU of a tunnel, learnt from a router's ICMP error about an outer packet (RFC 1191, RFC 8201, RFC 2003 section
//! 5).
//!
//! The error comes to the tunnel's source, and quotes the outer packet and, with nearly all routers, enough of the client's
//! packet in it to identify the flow, and so the backend behind that path. From the next packet on the client learns the MTU, too.

use network_types::icmp::Icmpv4Hdr;

use super::{Look, icmp::FARTHEST};
use crate::{
    abi::Exit,
    lookup::Lookup,
    maps::Maps,
    step::{FlowLocation, FlowRelation, Step, StepResult},
    wire::{
        icmp::Icmp,
        ip::{Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        packet::{Packet, after},
        protocol,
    },
};

impl<P: Packet, M: Maps> Look<'_, P, M> {
    /// The client's packet in the outer one that an ICMP error to a tunnel's source quotes.
    #[inline(always)]
    pub(super) fn tunnelled<F: Lookup + Icmp>(&self, header: &F::Header, at: Transport) -> Option<StepResult> {
        F::path_mtu(self.packet.load(at.offset)?)?;
        let outer_at = after(at.offset, Icmpv4Hdr::LEN);
        let outer: &F::Header = self.packet.view(outer_at)?;
        let inner = F::quoted_outer(self.packet, outer_at)?;
        if F::source(outer) != F::destination(header) || inner.offset > FARTHEST {
            return None;
        }
        match inner.protocol {
            protocol::IPV4 => self.client_packet::<V4>(inner.offset),
            protocol::IPV6 => self.client_packet::<V6>(inner.offset),
            _ => None,
        }
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

    /// Learns the MTU, if the backend that was found is the one that the outer packet went to: whoever makes such an error up
    /// must at least know where the flow goes. The packet is the host's, too.
    #[inline(always)]
    pub(super) fn learn_path_mtu<F: Lookup + Icmp>(&self, location: FlowLocation, result: StepResult) -> StepResult {
        match self.learnt::<F>(location, result) {
            Some(()) => Exit::PathMtu.into(),
            None => Exit::NotOurs.into(),
        }
    }

    #[inline(always)]
    fn learnt<F: Lookup + Icmp>(&self, location: FlowLocation, result: StepResult) -> Option<()> {
        let Step::Forward(chosen) = result.step() else { return None };
        let header: &F::Header = self.packet.view(self.link.l3)?;
        let Payload::Transport(at) = F::payload(self.packet, self.link.l3, header) else { return None };
        let mtu = F::path_mtu(self.packet.load(at.offset)?)?;
        let outer: &F::Header = self.packet.view(after(at.offset, Icmpv4Hdr::LEN))?;
        let backend = self.maps.backend(chosen.backend)?;
        if location.relation != FlowRelation::TunnelQuote || !F::is_backend(backend, F::destination(outer)) {
            return None;
        }
        self.maps.learn_path_mtu(chosen.backend, mtu);
        Some(())
    }
}
