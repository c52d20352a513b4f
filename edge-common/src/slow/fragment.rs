//! Fragments: the first one of a packet has the ports, and the later ones go to the same backend.
//!
//! Fragments are not reassembled here, but on the backend. A later fragment that arrives before the first one is dropped; its
//! sender will send the packet again, as after any loss.

use super::Look;
use crate::{
    abi::{Exit, FragmentRecord},
    lookup::Lookup,
    maps::{Fragments as _, Maps},
    step::{Chosen, Decision, FlowRelation, Step, StepResult},
    wire::{
        icmp::Icmp,
        ip::{Fragment, Payload},
        packet::Packet,
        protocol,
        transport::Head,
    },
};

/// How long after the first fragment later ones follow it, nanoseconds. They come one behind the other; hosts that put them
/// together wait for 15 s at least (RFC 1122, section 3.3.2).
const LIFE_NS: u64 = 5_000_000_000;

impl<P: Packet, M: Maps> Look<'_, P, M> {
    #[inline(always)]
    pub(super) fn fragment<F: Lookup + Icmp>(
        &self,
        header: &F::Header,
        fragment: Fragment,
    ) -> Result<StepResult, Decision> {
        let Fragment { identification, at, before } = fragment;
        if before == 0 {
            if !protocol::has_ports(at.protocol) {
                return Err(self.for_a_vip::<F>(header, Exit::FragmentOther));
            }
            return self.own::<F>(header, FlowRelation::FirstFragment, at, Head::check_first);
        }
        let now = self.maps.now_ns();
        let first = match F::fragments(self.maps).find(&key::<F>(header, fragment)) {
            Some(first) if now.wrapping_sub(first.seen_ns) < LIFE_NS => first,
            _ => return Err(self.for_a_vip::<F>(header, Exit::FragmentUnknown)),
        };
        let vip = F::destination(header);
        let target = F::find(self.maps, self.view, vip, first.port, first.protocol).ok_or(Exit::NotOurs)?;
        // Of its place, too: an outer header has an identification of its own, which tells fragments apart.
        let hash = F::flow(&self.view.generation.hash_key, F::source(header), identification ^ u32::from(before));
        Ok(Chosen { service: target.service, backend: first.backend, label: hash.flow_label(), starts: false }.into())
    }

    /// Remembers where a first fragment goes.
    #[inline(always)]
    pub(super) fn remember<F: Lookup + Icmp>(&self, result: StepResult) -> StepResult {
        let Some(header) = self.packet.view::<F::Header>(self.link.l3) else { return result };
        let Step::Forward(Chosen { backend, .. }) = result.step() else { return result };
        let Payload::Fragment(fragment) = F::payload(self.packet, self.link.l3, header) else { return result };
        let Some(head) = Head::read(self.packet, fragment.at.protocol, fragment.at.offset) else { return result };
        let record = FragmentRecord {
            seen_ns: self.maps.now_ns(),
            backend,
            port: head.destination(),
            protocol: fragment.at.protocol,
            reserved: [0; 3],
        };
        F::fragments(self.maps).insert(&key::<F>(header, fragment), record);
        result
    }
}

/// What all fragments of a packet have in common. IPv6 tells packets apart without a protocol (RFC 8200, section 4.5), which
/// the later fragments of one may not say.
#[inline(always)]
fn key<F: Lookup>(header: &F::Header, fragment: Fragment) -> F::FlowKey {
    let protocol = if F::ICMP == protocol::ICMP { fragment.at.protocol } else { 0 };
    F::flow_key(F::source(header), F::destination(header), fragment.identification, protocol)
}
