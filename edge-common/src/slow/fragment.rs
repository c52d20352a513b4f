//! Fragments: the first one of a packet has the ports, and the later ones go to the same backend.
//!
//! Fragments are not reassembled here, but on the backend. A later fragment that arrives before the first one is dropped; its
//! sender will send the packet again, as after any loss.

use network_types::tcp::TcpHdr;

use super::Look;
use crate::{
    abi::{Exit, FragmentRecord, RateLimited},
    forward,
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

/// How long after the first fragment later ones follow it, nanoseconds. Fragments arrive one after the other; hosts that
/// reassemble them wait for at least 15 s (RFC 1122, section 3.3.2).
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
                return Err(self.unserved::<F>(header, Exit::FragmentOther));
            }
            return self.own::<F>(header, FlowRelation::FirstFragment, at, Head::check_first);
        }
        let first = self.first::<F>(header, fragment);
        let overlaps_first = first.as_ref().is_some_and(|first| overlaps(first.protocol, before));
        if overlaps(at.protocol, before) || overlaps_first {
            return Err(self.for_a_vip::<F>(header, Exit::FragmentOverlap));
        }
        let Some(first) = first else {
            return Err(self.unserved::<F>(header, Exit::FragmentUnknown));
        };
        if first.entry().is_some() {
            return Err(Decision::HANDED_OVER);
        }
        let vip = F::destination(header);
        let service_ref = F::find_any(self.maps, self.view, vip, first.port, first.protocol).ok_or(Exit::NotOurs)?;
        // Includes the fragment's position: an outer header has an identification of its own, which distinguishes fragments.
        let hash = F::flow(&self.view.generation.hash_key, F::source(header), identification ^ u32::from(before));
        Ok(Chosen::new(service_ref, first.backend, hash.flow_label(), false).into())
    }

    /// The record of the first fragment of a later fragment's packet, if it is recent.
    #[inline(always)]
    pub(super) fn first<F: Lookup + Icmp>(&self, header: &F::Header, fragment: Fragment) -> Option<FragmentRecord> {
        let now = self.maps.now_ns();
        let first = F::fragments(self.maps).find(&key::<F>(header, fragment));
        first.filter(|first| now.wrapping_sub(first.seen_ns) < LIFE_NS)
    }

    /// Records where a first fragment goes, if it is forwarded at all. Later fragments without a record are dropped, so
    /// that no part of a packet is forwarded without its first part: one of full size that the tunnel makes too long, or
    /// one of a flood.
    #[inline(always)]
    pub(super) fn remember<F: Lookup + Icmp>(&self, result: StepResult) -> StepResult {
        let result = self.remembered::<F>(result).unwrap_or_else(StepResult::from);
        if !matches!(result.step(), Step::Forward(_)) {
            self.forget::<F>();
        }
        result
    }

    /// Removes the record of an earlier packet with the same identification.
    #[inline(always)]
    fn forget<F: Lookup + Icmp>(&self) {
        if let Some(header) = self.packet.view::<F::Header>(self.link.l3)
            && let Payload::Fragment(fragment) = F::payload(self.packet, self.link.l3, header)
        {
            F::fragments(self.maps).remove(&key::<F>(header, fragment));
        }
    }

    #[inline(always)]
    fn remembered<F: Lookup + Icmp>(&self, result: StepResult) -> Result<StepResult, Decision> {
        let Step::Forward(Chosen { mode, backend, .. }) = result.step() else { return Ok(result) };
        let header: &F::Header = self.packet.view(self.link.l3).ok_or(Exit::Malformed)?;
        let to = self.maps.backend(backend).ok_or(Exit::BadTables)?;
        let (length, ingress) = (F::length(header), self.packet.ingress());
        forward::admit::<F>(header, length, ingress, self.view.generation, mode, to)?;
        let Payload::Fragment(fragment) = F::payload(self.packet, self.link.l3, header) else {
            return Err(Exit::Malformed.into());
        };
        let head = Head::read(self.packet, fragment.at.protocol, fragment.at.offset).ok_or(Exit::Malformed)?;
        let (now, limit) = (self.maps.now_ns(), self.view.generation.first_fragments_per_second);
        if !self.maps.try_take(RateLimited::FirstFragment, now, limit) {
            return Err(Exit::FragmentLimited.into());
        }
        let record = FragmentRecord {
            seen_ns: now,
            backend,
            port: head.destination(),
            protocol: fragment.at.protocol,
            translated: [0; 3],
        };
        F::fragments(self.maps).insert(&key::<F>(header, fragment), record);
        Ok(result)
    }
}

/// Whether a later fragment, with `before` bytes before it, begins inside the TCP header, all of which the first fragment
/// has. RFC 1858, section 3.2.2, requires this check of the flags; checking the whole header is as easy.
#[inline(always)]
fn overlaps(protocol: u8, before: u16) -> bool {
    protocol == protocol::TCP && usize::from(before) < TcpHdr::LEN
}

/// The key that all fragments of a packet share. In IPv6 a packet is identified without its protocol (RFC 8200, section
/// 4.5), which may be missing from its later fragments.
#[inline(always)]
pub(super) fn key<F: Lookup>(header: &F::Header, fragment: Fragment) -> F::FlowKey {
    let protocol = if F::ICMP == protocol::ICMP { fragment.at.protocol } else { 0 };
    F::flow_key(F::source(header), F::destination(header), fragment.identification, protocol)
}
