//! Packets of the slow path that are translated, or may be: with options or extension headers, fragments, and ICMP errors.
//!
//! A packet to a source of translated packets is classified like one to a VIP: a source has no entry of its own in the
//! service index, and only the entry of a flow shows to which flow the packet belongs.

use super::Look;
use crate::{
    abi::{Exit, FragmentRecord, RateLimited},
    lookup::Lookup,
    maps::{Fragments as _, Maps},
    step::{Decision, FlowRelation, Step, StepResult, Translate},
    wire::{
        ethernet,
        icmp::Icmp,
        ip::{Fragment, Payload},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::Packet,
        protocol,
        transport::Head,
    },
};

/// Classifies the packet behind `link`; [`Exit::NotOurs`] if it can't belong to a translated flow.
#[inline(always)]
pub fn classify<P: Packet, M: Maps>(packet: &P, maps: &M, link: Link, bank: u32) -> StepResult {
    let Some(view) = maps.view_of(bank) else { return Exit::NotOurs.into() };
    let look = Look { packet, maps, view, link };
    match link.ether_type {
        ethernet::IPV4 => look.translated::<V4>(),
        _ => look.translated::<V6>(),
    }
    .unwrap_or_else(StepResult::from)
}

/// Records the flow of a first fragment that is about to be translated, so that later fragments follow it; removes the
/// record again if the result is that the fragment was not sent.
#[inline(always)]
pub fn remember<P: Packet, M: Maps>(packet: &P, maps: &M, link: Link, bank: u32, result: StepResult) -> StepResult {
    let Some(view) = maps.view_of(bank) else { return Exit::NotOurs.into() };
    let look = Look { packet, maps, view, link };
    match link.ether_type {
        ethernet::IPV4 => look.remember_translated::<V4>(result),
        _ => look.remember_translated::<V6>(result),
    }
    .unwrap_or_else(StepResult::from)
}

impl<P: Packet, M: Maps> Look<'_, P, M> {
    #[inline(always)]
    fn translated<F: Lookup + Icmp>(&self) -> Result<StepResult, Decision> {
        let header: &F::Header = self.packet.view(self.link.l3).ok_or(Exit::NotOurs)?;
        match F::payload(self.packet, self.link.l3, header) {
            Payload::Transport(at) if protocol::has_ports(at.protocol) => {
                self.own::<F>(header, FlowRelation::Whole, at, Head::check)
            }
            Payload::Transport(at) if at.protocol == F::ICMP => {
                let [type_] = self.packet.load(at.offset).ok_or(Exit::NotOurs)?;
                let quoted = if F::concerns_a_flow(type_) { self.quoted::<F>(header, at) } else { None };
                quoted.ok_or(Exit::NotOurs.into())
            }
            Payload::Fragment(fragment) if fragment.before != 0 => self.later_fragment::<F>(header, fragment),
            Payload::Fragment(fragment) if protocol::has_ports(fragment.at.protocol) => {
                self.own::<F>(header, FlowRelation::FirstFragment, fragment.at, Head::check_first)
            }
            Payload::Transport(_) | Payload::Fragment(_) | Payload::Hidden | Payload::Malformed => {
                Err(Exit::NotOurs.into())
            }
        }
    }

    /// A later fragment follows the first one. Comparing the addresses of both shows whether the entry still belongs to its
    /// flow.
    #[inline(always)]
    fn later_fragment<F: Lookup + Icmp>(&self, header: &F::Header, fragment: Fragment) -> Result<StepResult, Decision> {
        let first = self.first::<F>(header, fragment).ok_or(Exit::NotOurs)?;
        let (entry, back, crosses) = first.entry().ok_or(Exit::NotOurs)?;
        Ok(Translate { entry, back, starts: false, crosses, tells: false }.into())
    }

    #[inline(always)]
    fn remember_translated<F: Lookup + Icmp>(&self, result: StepResult) -> Result<StepResult, Decision> {
        let header: &F::Header = self.packet.view(self.link.l3).ok_or(Exit::Malformed)?;
        let Payload::Fragment(fragment) = F::payload(self.packet, self.link.l3, header) else {
            return Err(Exit::Malformed.into());
        };
        let (records, key) = (F::fragments(self.maps), super::fragment::key::<F>(header, fragment));
        let Step::Translate(how) = result.step() else {
            records.remove(&key);
            return Ok(result);
        };
        let (now, limit) = (self.maps.now_ns(), self.view.generation.first_fragments_per_second);
        if !self.maps.try_take(RateLimited::FirstFragment, now, limit) {
            return Err(Exit::FragmentLimited.into());
        }
        let record = FragmentRecord { seen_ns: now, protocol: fragment.at.protocol, ..FragmentRecord::default() };
        records.insert(&key, record.of_entry(how.entry, how.back, how.crosses));
        Ok(result)
    }
}
