//! Parts that all packets to the other IP version have in common: the ends of the flow, the MTU, and the next hop.

use super::super::{
    hop,
    rewrite::Ends,
    send::by,
    table::{Translation, port_of, source, table},
};
use crate::{
    abi::{Backend, Exit, Family, NatHead},
    flow_table::words_of,
    forward::HopLook,
    maps::Maps,
    step::{Decision, Translate},
    wire::{
        ethernet::Addresses,
        packet::{Packet, Places},
    },
};

/// Both sides of a flow.
pub(super) struct Sides<'a> {
    pub(super) served: Translation,
    pub(super) backend: &'a Backend,
    /// From the client to the VIP.
    pub(super) inside: Ends,
    /// From the source to the backend.
    pub(super) outside: Ends,
    /// The label of packets to the backend.
    pub(super) label: u32,
}

impl<'a> Sides<'a> {
    /// The sides of the flow with this entry, whose packets cross; `v6` is the IP version of the packet that goes
    /// `back`, or forth.
    #[inline(always)]
    pub(super) fn of<M: Maps>(
        maps: &'a M,
        head: &NatHead,
        Translate { entry, back, .. }: Translate,
        v6: bool,
    ) -> Result<Self, Exit> {
        let (found, _, flow) = table(maps, head).at(entry).ok_or(Exit::NatRaced)?;
        let served = Translation::of(found.served);
        let backend = maps.backend(served.backend).ok_or(Exit::BadTables)?;
        maps.concerns(served.service.into(), served.backend);
        let backend_v6 = backend.family == Family::V6 as u8;
        // The entry may belong to another flow by now.
        if flow.is_v6() == backend_v6 || v6 != (backend_v6 == back) {
            return Err(Exit::NatRaced);
        }
        let (own, peer) =
            (words_of(source(head, served.source).address, backend_v6), words_of(backend.address, backend_v6));
        let ports = u32::from(port_of(head, entry).to_be()) | u32::from(served.port) << 16;
        let inside = Ends { source: flow.client, destination: flow.vip, ports: flow.ports() };
        let outside = Ends { source: own, destination: peer, ports };
        let label = flow.hash(&head.hash_key).flow_label();
        Ok(Self { served, backend, inside, outside, label })
    }

    /// The ends of the flow's packets that go `back` or forth: as they arrive, and as they leave.
    #[inline(always)]
    pub(super) fn ends<P: Packet>(&self, packet: &P, back: bool) -> (Ends, Ends) {
        let (was, now) =
            if back { (self.outside.reversed(), self.inside.reversed()) } else { (self.inside, self.outside) };
        (merged_ends(packet, was), merged_ends(packet, now))
    }
}

/// Hides the value of the ends from the verifier, which then checks the code that follows once, and not for each
/// direction.
#[inline(always)]
fn merged_ends<P: Packet>(packet: &P, Ends { source, destination, ports }: Ends) -> Ends {
    let both = |[a, b]: [u64; 2]| [merged(packet, a), merged(packet, b)];
    let (source, destination) = (both(source), both(destination));
    Ends { source, destination, ports: merged(packet, ports.into()) as u32 }
}

/// Hides the value of a word from the verifier.
#[inline(always)]
pub(super) fn merged<P: Packet>(packet: &P, word: u64) -> u64 {
    packet.merge_paths(word as usize, usize::MAX) as u64
}

/// Hides the value of a flag from the verifier.
#[inline(always)]
pub(super) fn merged_flag<P: Packet>(packet: &P, flag: bool) -> bool {
    packet.merge_paths(flag.into(), 1) != 0
}

/// VLAN identifier of a packet that leaves; 0 if untagged.
#[inline(always)]
pub(super) fn vlan<M: Maps>(maps: &M, served: Translation, look: HopLook<'_>, back: bool) -> Result<u16, Exit> {
    if back { Ok(hop::back(maps, served.hop).ok_or(Exit::NoNextHop)?.vlan) } else { Ok(look.vlan) }
}

/// The MTU of the path that a packet leaves by, as far as it is known; 0 if not.
#[inline(always)]
pub(super) fn mtu<M: Maps>(maps: &M, served: Translation, backend: &Backend, back: bool) -> Result<u32, Exit> {
    if back {
        return Ok(maps.mtu(hop::back(maps, served.hop).ok_or(Exit::NoNextHop)?.egress));
    }
    let (egress, path) = (u32::from(backend.mtu), u32::from(backend.path_mtu));
    Ok(if egress == 0 || path != 0 && path < egress { path } else { egress })
}

/// Sends a translated packet.
#[inline(always)]
pub(super) fn leave<P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    back: bool,
    served: Translation,
    look: HopLook<'_>,
    vlan: u16,
    addresses: P::Place<Addresses>,
) -> Result<Decision, Decision> {
    if back {
        let next_hop = hop::again(maps, served.hop, vlan)?;
        return Ok(by(packet, addresses, next_hop, [Exit::NatReplyTx, Exit::NatReplyRedirect]));
    }
    // Without a lookup of the kernel's route: with its arguments the stack of this chain of calls would be too deep for
    // older verifiers.
    let next_hop = look.kept().ok_or(Exit::NoNextHop)?;
    Ok(by(packet, addresses, next_hop, [Exit::NatTx, Exit::NatRedirect]))
}
