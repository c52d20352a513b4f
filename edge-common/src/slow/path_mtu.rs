//! Path MTU of a tunnel, learnt from what a router on the way says about an outer packet (RFC 1191, RFC 8201, RFC 2003 section
//! 5).
//!
//! The error comes to the tunnel's source, and quotes the outer packet and, with nearly all routers, enough of the client's
//! packet in it to say whose flow it was, and so which backend is behind that way. From the next packet on the client is told.

use network_types::icmp::Icmpv4Hdr;

use super::{Look, icmp::FARTHEST};
use crate::{
    exit::Exit,
    ip::{Payload, Transport, V4, V6, protocol},
    packet::Packet,
    pipeline::{FlowLocation, FlowRelation, Step, StepResult},
    reply::Reply,
    tables::Tables,
};

impl<P: Packet, T: Tables> Look<'_, P, T> {
    /// The client's packet in the outer one that an ICMP error to a tunnel's source quotes.
    #[inline(always)]
    pub(super) fn tunnelled<F: Reply>(&self, header: &F::Header, at: Transport) -> Option<StepResult> {
        F::path_mtu(self.packet.load(at.offset)?)?;
        let outer_at = at.offset + Icmpv4Hdr::LEN;
        let outer: &F::Header = self.packet.view(outer_at)?;
        let inner = F::quoted(self.packet, outer_at)?;
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
    fn client_packet<F: Reply>(&self, l3: usize) -> Option<StepResult> {
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
    pub(super) fn learn_path_mtu<F: Reply>(&self, location: FlowLocation, result: StepResult) -> StepResult {
        match self.learnt::<F>(location, result) {
            Some(()) => Exit::PathMtu.into(),
            None => Exit::NotOurs.into(),
        }
    }

    #[inline(always)]
    fn learnt<F: Reply>(&self, location: FlowLocation, result: StepResult) -> Option<()> {
        let Step::Forward(chosen) = result.step() else { return None };
        let header: &F::Header = self.packet.view(self.link.l3)?;
        let Payload::Transport(at) = F::payload(self.packet, self.link.l3, header) else { return None };
        let mtu = F::path_mtu(self.packet.load(at.offset)?)?;
        let outer: &F::Header = self.packet.view(at.offset + Icmpv4Hdr::LEN)?;
        let backend = self.tables.backend(chosen.backend)?;
        if location.relation != FlowRelation::TunnelQuote || !F::is_backend(backend, F::destination(outer)) {
            return None;
        }
        self.tables.learn_path_mtu(chosen.backend, mtu);
        Some(())
    }
}
