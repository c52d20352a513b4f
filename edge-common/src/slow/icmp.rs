//! ICMP and ICMPv6 to a VIP, or to a tunnel's source: echo requests are answered, errors about a flow go to the flow's
//! backend or teach the MTU of its path, and other packets are to no service.

use network_types::icmp::Icmpv4Hdr;

use super::Look;
use crate::{
    abi::Exit,
    lookup::Lookup,
    maps::Maps,
    step::{Decision, FlowRelation, Step, StepResult},
    wire::{
        icmp::Icmp,
        ip::Transport,
        packet::{OFFSETS, Packet, after},
        protocol,
    },
};

/// The farthest location of a quoted packet that a [`FlowLocation`](crate::step::FlowLocation) can hold.
pub(super) const FARTHEST: usize = 0xff;

impl<P: Packet, M: Maps> Look<'_, P, M> {
    #[inline(always)]
    pub(super) fn icmp<F: Lookup + Icmp>(&self, header: &F::Header, at: Transport) -> Result<StepResult, Decision> {
        let to = F::destination(header);
        // An address may be a tunnel's source and a VIP as well: the quoted packet decides which of the two is meant.
        if F::is_tunnel_source(self.view.generation, to)
            && let Some(quoted) = self.tunnelled::<F>(header, at)
        {
            return Ok(quoted);
        }
        if F::vip(self.maps, self.view, to).is_none() {
            // The address may be a source of translated packets.
            return Err(self.unserved::<F>(header, Exit::NotOurs));
        }
        let Some([type_, code]) = self.packet.load(at.offset) else { return Err(Exit::Malformed.into()) };
        if after(at.offset, Icmpv4Hdr::LEN) > after(self.link.l3, F::length(header)) {
            return Err(Exit::Malformed.into());
        }
        // The comparison uses a copy that an older verifier can't follow: otherwise it would draw conclusions about the
        // offset that contradict how the offset was found, and continue with them.
        let offset = self.packet.merge_paths(at.offset, OFFSETS);
        let is_bare = offset == after(self.link.l3, size_of::<F::Header>());
        if type_ == F::ECHO_REQUEST && code == 0 && is_bare && F::answerable(header) {
            return Err(Decision::new(Exit::EchoReply, at.offset as u32));
        }
        if F::is_discovery(type_, F::ttl(header)) {
            return Err(Exit::IcmpOther.into());
        }
        if !F::is_error(type_) {
            return Err(Decision::unserved(Exit::IcmpOther, self.view.bank));
        }
        let quoted = if F::concerns_a_flow(type_) { self.quoted::<F>(header, at) } else { None };
        quoted.ok_or(Decision::unserved(Exit::IcmpError, self.view.bank))
    }

    /// The packet that an error quotes: a backend's, from the VIP to a client. Some routers quote only eight bytes of that
    /// packet's transport header, and the first four are enough.
    #[inline(always)]
    pub(super) fn quoted<F: Lookup + Icmp>(&self, header: &F::Header, at: Transport) -> Option<StepResult> {
        let l3 = after(at.offset, Icmpv4Hdr::LEN);
        let quoted: &F::Header = self.packet.view(l3)?;
        let from = F::quoted(self.packet, l3)?;
        let ours = F::source(quoted) == F::destination(header);
        if l3 <= FARTHEST && ours && protocol::has_ports(from.protocol) {
            return Some(self.location::<F>(FlowRelation::IcmpQuote, l3, from, false));
        }
        None
    }

    /// Forwards an error to the backend of its flow; an error about no flow is to no service.
    #[inline(always)]
    pub(super) fn concerned(&self, result: StepResult) -> StepResult {
        match result.step() {
            Step::Forward(_) => result,
            Step::Leave(_) | Step::Select(_) | Step::Choose(_) | Step::Change(_) | Step::Translate(_) => {
                Decision::unserved(Exit::IcmpError, self.view.bank).into()
            }
        }
    }
}
