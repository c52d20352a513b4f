//! The slow path: packets with options or extension headers, fragments, ICMP, malformed packets, and all answers.
//!
//! [`classify`] determines the kind of a packet and the location of a flow in it; after a backend was chosen for that flow,
//! [`finish`] handles the consequences for the packet.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

mod icmp;
mod fragment;
mod path_mtu;
mod unserved;
pub mod translated;
pub mod reply;

use crate::{
    abi::Exit,
    lookup::Lookup,
    maps::{Maps, View},
    step::{Decision, FlowLocation, FlowRelation, StepResult},
    wire::{
        ethernet,
        icmp::Icmp,
        ip::{Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{Packet, after},
        protocol,
        transport::{Head, Malformed},
    },
};

/// Classifies the packet behind `link`, in the bank of the maps that was published when the packet came.
#[inline(always)]
pub fn classify<P: Packet, M: Maps>(packet: &P, maps: &M, link: Link, bank: u32) -> StepResult {
    let Some(view) = maps.view_of(bank) else { return Exit::NotOurs.into() };
    let look = Look { packet, maps, view, link };
    match link.ether_type {
        ethernet::IPV4 => look.network::<V4>(),
        _ => look.network::<V6>(),
    }
    .unwrap_or_else(StepResult::from)
}

/// Handles the consequences of the result for the flow at `location`.
#[inline(always)]
pub fn finish<P: Packet, M: Maps>(
    packet: &P,
    maps: &M,
    link: Link,
    location: FlowLocation,
    result: StepResult,
) -> StepResult {
    let Some(view) = maps.view_of(location.bank) else { return Exit::NotOurs.into() };
    let look = Look { packet, maps, view, link };
    match link.ether_type {
        ethernet::IPV4 => look.finish::<V4>(location, result),
        _ => look.finish::<V6>(location, result),
    }
}

/// Judges a pending decision: how a packet to no service leaves, and whether an answer is permitted. A decision that stays
/// pending is to be answered.
#[inline(always)]
pub fn judge<P: Packet, M: Maps>(packet: &P, maps: &M, decided: Decision) -> Decision {
    // Merged, so that the verifier follows the code behind once, however the decision was made.
    let Decision(decided) = unserved::unserved(packet, maps, decided);
    let decided = Decision(packet.merge_paths(decided as usize, usize::MAX) as u64);
    if decided.is_pending() { reply::judge(packet, decided) } else { decided }
}

/// The context in which one packet is classified or finished.
#[derive(Clone, Copy)]
struct Look<'a, P, M> {
    packet: &'a P,
    maps: &'a M,
    view: View<'a>,
    link: Link,
}

impl<P: Packet, M: Maps> Look<'_, P, M> {
    #[inline(always)]
    fn network<F: Lookup + Icmp>(&self) -> Result<StepResult, Decision> {
        let header: &F::Header = self.packet.view(self.link.l3).ok_or(Exit::NotOurs)?;
        let at = match F::payload(self.packet, self.link.l3, header) {
            Payload::Transport(at) => at,
            Payload::Fragment(fragment) => return self.fragment::<F>(header, fragment),
            Payload::Hidden => return Err(self.unserved::<F>(header, Exit::ExtensionHeaders)),
            Payload::Malformed => return Err(self.for_a_vip::<F>(header, Exit::Malformed)),
        };
        match at.protocol {
            protocol::TCP | protocol::UDP => self.own::<F>(header, FlowRelation::Whole, at, Head::check),
            icmp if icmp == F::ICMP => self.icmp::<F>(header, at),
            _ => Err(self.unserved::<F>(header, Exit::NotOurs)),
        }
    }

    #[inline(always)]
    fn finish<F: Lookup + reply::Reply>(&self, location: FlowLocation, result: StepResult) -> StepResult {
        match location.relation {
            FlowRelation::Whole => result,
            FlowRelation::FirstFragment => self.remember::<F>(result),
            FlowRelation::IcmpQuote => self.concerned(result),
            FlowRelation::TunnelQuote => self.learn_path_mtu::<F>(location, result),
        }
    }

    /// The step that selects the backend of the packet's own flow, if `check` accepts its transport header.
    #[inline(always)]
    fn own<F: Lookup + Icmp>(
        &self,
        header: &F::Header,
        relation: FlowRelation,
        at: Transport,
        check: impl FnOnce(Head, u8, usize, usize) -> Result<bool, Malformed>,
    ) -> Result<StepResult, Decision> {
        let end = after(self.link.l3, F::length(header));
        let head = Head::read(self.packet, at.protocol, at.offset);
        match head.and_then(|head| check(head, at.protocol, at.offset, end).ok()) {
            Some(starts) => Ok(self.location::<F>(relation, self.link.l3, at, starts)),
            None => Err(self.for_a_vip::<F>(header, Exit::Malformed)),
        }
    }

    /// The step that selects the backend of the flow behind the network header at `l3`.
    #[inline(always)]
    fn location<F: Lookup + Icmp>(&self, relation: FlowRelation, l3: usize, at: Transport, starts: bool) -> StepResult {
        let v6 = F::ETHER_TYPE == ethernet::IPV6;
        FlowLocation { relation, l3, l4: at.offset, protocol: at.protocol, bank: self.view.bank, starts, v6 }.into()
    }

    /// `exit` if the packet is for one of the edge's VIPs, whatever its port; otherwise [`Exit::NotOurs`].
    #[inline(always)]
    fn for_a_vip<F: Lookup + Icmp>(&self, header: &F::Header, exit: Exit) -> Decision {
        if F::vip(self.maps, self.view, F::destination(header)).is_some() { exit.into() } else { Exit::NotOurs.into() }
    }

    /// The decision about a packet that belongs to no service: `exit`, if it is for a VIP that is an address of the host.
    #[inline(always)]
    fn unserved<F: Lookup + Icmp>(&self, header: &F::Header, exit: Exit) -> Decision {
        F::unserved(self.view, F::destination(header), exit)
    }
}
