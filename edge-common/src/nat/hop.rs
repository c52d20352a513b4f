//! Ways back to clients: by which interface and to which MAC address a client's packets came, an answer goes.
//!
//! Packets learn them: the few routers before an edge are hops of all flows. A flow's entry has its hop's number, which each of
//! its packets compares.

use crate::{
    abi::{Mac, NAT_HOPS, Station},
    flow_table::Word,
    maps::{HopWords, Maps, View},
    wire::packet::Packet,
};

/// How many places are looked at for a hop.
const PROBES: u32 = 8;

/// A way back to clients, in four words:
///
/// - the MAC address that frames came from, and the VLAN identifier above it; 0: no hop
/// - where they came to, a [`Station`]; 0: whoever has taken the place is about to fill it
/// - the MAC address that answers come from
/// - the interface that they leave by
#[derive(Clone, Copy)]
pub struct Hop<'a>(pub &'a HopWords);

/// By which way a frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) station: Station,
    pub(super) from: Mac,
    /// VLAN identifier, host order; 0: untagged.
    pub(super) vlan: u16,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) egress: u32,
    pub(super) mac: Mac,
    pub(super) source_mac: Mac,
    pub(super) vlan: u16,
}

impl Came {
    #[inline(always)]
    const fn peer(self) -> u64 {
        self.from.0 | (self.vlan as u64) << 48
    }
}

impl Hop<'_> {
    #[inline(always)]
    fn is(self, came: Came) -> bool {
        let [peer, station, ..] = self.0;
        Word::load(peer) == came.peer() && Word::load(station) == came.station.0
    }

    #[inline(always)]
    fn is_free(self) -> bool {
        let [peer, ..] = self.0;
        Word::load(peer) == 0
    }

    /// Makes it this one's, if it is free.
    #[inline(always)]
    fn take(self, came: Came, own: Mac, ingress: u32) -> bool {
        let [peer, station, source, egress] = self.0;
        if !peer.replace_if(0, came.peer()) {
            return false;
        }
        Word::store(source, own.0);
        Word::store(egress, ingress.into());
        // At last: with it the hop is whole.
        Word::store(station, came.station.0);
        true
    }

    #[inline(always)]
    fn back(self) -> Option<Back> {
        let [peer, station, source, egress] = self.0;
        let (station, peer) = (Word::load(station), Word::load(peer));
        if station == 0 || peer == 0 {
            return None;
        }
        Some(Back {
            egress: Word::load(egress) as u32,
            mac: Mac(peer << 16 >> 16),
            source_mac: Mac(Word::load(source)),
            vlan: (peer >> 48) as u16,
        })
    }

    /// Where it leads, for people: interface, MAC address and VLAN identifier; `None` of no hop.
    pub fn leads_to(self) -> Option<(u32, Mac, u16)> {
        self.back().map(|back| (back.egress, back.mac, back.vlan))
    }

    /// Forgets it, for user space.
    pub fn forget(self) {
        let [peer, station, ..] = self.0;
        Word::store(station, 0);
        Word::store(peer, 0);
    }
}

/// Whether frames that came so have this hop.
#[inline(always)]
pub(super) fn is_by<M: Maps>(maps: &M, hop: u8, came: Came) -> bool {
    hop != 0 && maps.nat_hop(hop.into()).is_some_and(|hop| Hop(hop).is(came))
}

/// Where answers to frames with this hop go.
#[inline(always)]
pub(super) fn back<M: Maps>(maps: &M, hop: u8) -> Option<Back> {
    if hop == 0 { None } else { Hop(maps.nat_hop(hop.into())?).back() }
}

/// The hop of frames that came so, by a new entry if there is none; 0: there is no room.
///
/// Each place is looked at: a loop that ends early would have the verifier follow all ends.
#[inline(always)]
pub(super) fn learn<P: Packet, M: Maps>(packet: &P, maps: &M, view: View<'_>, came: Came) -> u8 {
    let merged = |value: u32| packet.merge_paths(value as usize, 0x1ff) as u32;
    let mixed = (came.peer() ^ came.station.0.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let first = (mixed >> 40) as u32;
    let place = |probe: u32| (first.wrapping_add(probe) % const { NAT_HOPS - 1 }).wrapping_add(1);
    let (mut known, mut free) = (0, 0);
    for probe in 0..PROBES {
        let number = place(probe);
        let Some(hop) = maps.nat_hop(number).map(Hop) else { break };
        if hop.is(came) {
            known = number;
        }
        if free == 0 && hop.is_free() {
            free = number;
        }
        (known, free) = (merged(known), merged(free));
    }
    if known != 0 {
        return known as u8;
    }
    let Some(own) = view.own_address(packet) else { return 0 };
    let Some(hop) = maps.nat_hop(free).map(Hop) else { return 0 };
    let taken = free != 0 && came.from.is_known() && hop.take(came, own, packet.ingress());
    if taken { free as u8 } else { 0 }
}
