//! Return paths to clients: an answer leaves by the interface and to the MAC address that the client's packets came
//! from.
//!
//! Hops are learnt from packets: the few routers before an edge are the hops of all flows. A flow's entry contains the
//! number of its hop, and each of the flow's packets is compared with this hop.

use crate::{
    abi::{Exit, Mac, NAT_HOPS, Station},
    flow_table::Word,
    forward::NextHop,
    maps::{HopWords, Maps, View},
    wire::packet::Packet,
};

/// Number of places that are searched for a hop.
const PROBES: u32 = 8;

/// A return route to clients, in four words:
///
/// - the MAC address that frames came from, the VLAN identifier above it, and [`Hop::RETIRED`]; 0 if the place is free
/// - the [`Station`] that frames came to; 0 while the CPU that has claimed the place fills it
/// - the source MAC address of answers
/// - the egress interface of answers, and above it the interface's MTU: as it was when the hop was learnt, until the
///   controller stores another one
#[derive(Clone, Copy)]
pub struct Hop<'a>(pub &'a HopWords);

/// The hop by which a frame arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) station: Station,
    pub(super) from: Mac,
    /// VLAN identifier, host order; 0: untagged.
    pub(super) vlan: u16,
}

/// The next hop of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) egress: u32,
    pub(super) mac: Mac,
    pub(super) source_mac: Mac,
    pub(super) vlan: u16,
    /// MTU of the egress interface, bytes of IP packet; 0 if unknown.
    pub(super) mtu: u32,
}

impl Came {
    #[inline(always)]
    const fn peer(self) -> u64 {
        self.from.0 | (self.vlan as u64) << 48
    }
}

const fn egress_word(interface: u32, mtu: u32) -> u64 {
    interface as u64 | (mtu as u64) << 32
}

impl Hop<'_> {
    /// The bit of a hop that no packet may adopt any more: the controller frees the place unless an entry names it. A
    /// packet that has adopted the hop just before stores it in an entry within microseconds, and the controller reads
    /// all entries after it has set the bit.
    const RETIRED: u64 = 1 << 63;

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

    /// Claims the place for the hop `came`, if the place is free.
    #[inline(always)]
    fn take(self, came: Came, own: Mac, ingress: u32, mtu: u32) -> bool {
        let [peer, station, source, egress] = self.0;
        if !peer.replace_if(0, came.peer()) {
            return false;
        }
        Word::store(source, own.0);
        Word::store(egress, egress_word(ingress, mtu));
        // The station is written last: it completes the hop.
        Word::store(station, came.station.0);
        true
    }

    /// The next hop, if the place has held the same hop from the first read to the last.
    #[inline(always)]
    fn back(self) -> Option<Back> {
        let [peer, station, source, egress] = self.0;
        let from = Word::load(peer);
        let is_complete = Word::load(station) != 0;
        let egress = Word::load(egress);
        let back = Back {
            egress: egress as u32,
            mtu: (egress >> 32) as u32,
            mac: Mac(from << 16 >> 16),
            source_mac: Mac(Word::load(source)),
            vlan: (from >> 48) as u16 & 0xfff,
        };
        // The station is cleared before the peer, and written after all else. So a hop whose peer stayed and whose station
        // was there in between is the same hop throughout.
        let same = (Word::load(peer) ^ from) & !Self::RETIRED == 0;
        (from != 0 && is_complete && same).then_some(back)
    }

    /// Interface, MAC address and VLAN identifier of answers, for output to people; `None` if there is no hop.
    pub fn leads_to(self) -> Option<(u32, Mac, u16)> {
        self.back().map(|back| (back.egress, back.mac, back.vlan))
    }

    /// Whether the hop is retired.
    pub fn is_retired(self) -> bool {
        let [peer, ..] = self.0;
        Word::load(peer) & Self::RETIRED != 0
    }

    /// Sets whether the hop is retired, for user space, which alone changes a hop that is complete.
    pub fn set_retired(self, is: bool) {
        let [peer, ..] = self.0;
        let known = Word::load(peer) & !Self::RETIRED;
        Word::store(peer, if is { known | Self::RETIRED } else { known });
    }

    /// Stores the MTU of the hop's interface, for user space.
    pub fn set_mtu(self, interface: u32, mtu: u32) {
        let [.., egress] = self.0;
        Word::store(egress, egress_word(interface, mtu));
    }

    /// Copies a complete hop to the place `to`, if that is free, for user space; returns whether `to` has the same hop then.
    pub fn carry(self, to: Hop<'_>) -> bool {
        let ([peer, station, source, egress], Hop(words)) = (self.0.each_ref().map(Word::load), to);
        let peer = peer & !Self::RETIRED;
        if peer == 0 || station == 0 {
            return false;
        }
        let [to_peer, to_station, to_source, to_egress] = words;
        if to_peer.replace_if(0, peer) {
            Word::store(to_source, source);
            Word::store(to_egress, egress);
            Word::store(to_station, station);
        }
        Word::load(to_peer) & !Self::RETIRED == peer && Word::load(to_station) == station
    }

    /// Clears the hop, for user space.
    pub fn forget(self) {
        let [peer, station, ..] = self.0;
        Word::store(station, 0);
        Word::store(peer, 0);
    }
}

/// Whether `hop` is the hop by which a frame `came`.
#[inline(always)]
pub(super) fn is_by<M: Maps>(maps: &M, hop: u8, came: Came) -> bool {
    hop != 0 && maps.nat_hop(hop.into()).is_some_and(|hop| Hop(hop).is(came))
}

/// The next hop of answers to frames by this hop.
#[inline(always)]
pub(super) fn back<M: Maps>(maps: &M, hop: u8) -> Option<Back> {
    if hop == 0 { None } else { Hop(maps.nat_hop(hop.into())?).back() }
}

/// The next hop of an answer whose frame has got the tag of `vlan`, the VLAN of this hop when it was read before.
#[inline(always)]
pub(super) fn again<M: Maps>(maps: &M, hop: u8, vlan: u16) -> Result<NextHop, Exit> {
    let back = back(maps, hop).filter(|back| back.vlan == vlan).ok_or(Exit::NoNextHop)?;
    Ok(NextHop { egress: back.egress, mac: back.mac, source_mac: back.source_mac })
}

/// The number of the hop by which a frame `came`, in a new entry if there is none; 0 if there is no room.
///
/// Every place is read: a loop that ends early would make the verifier follow every possible end.
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
    let mtu = maps.mtu(packet.ingress());
    let taken = free != 0 && came.from.is_unicast() && hop.take(came, own, packet.ingress(), mtu);
    if taken { free as u8 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    /// Numbers of hops that follow each other. The controller frees a place at most every few seconds, so no packet sees a
    /// hop come back while it reads.
    const HOPS: u32 = 4_000;

    fn mac(number: u32) -> Mac {
        let [_, _, high, low] = number.to_be_bytes();
        Mac::new([2, 0, 0, 0, high, low])
    }

    /// The hop of this number, which is in each of its fields.
    fn take(words: &HopWords, number: u32) {
        let (mac, vlan) = (mac(number), number as u16);
        let came = Came { station: Station::new(number, mac), from: mac, vlan };
        assert!(Hop(words).take(came, mac, number, number), "the place is free");
    }

    #[test]
    fn what_is_read_of_a_hop_belongs_together() {
        let (words, done) = (HopWords::default(), AtomicBool::new(false));
        let seen = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let Some(back) = Hop(&words).back() else { continue };
                    let number = back.vlan.into();
                    assert_eq!((back.mac, back.source_mac), (mac(number), mac(number)));
                    assert_eq!((back.egress, back.mtu), (number, number));
                    seen += 1;
                }
                seen
            });
            for round in 0..100 * HOPS {
                take(&words, 1 + round % HOPS);
                Hop(&words).set_retired(round & 1 != 0);
                Hop(&words).forget();
            }
            // The reader has a moment for the last one.
            take(&words, 1);
            thread::sleep(std::time::Duration::from_millis(20));
            done.store(true, Ordering::Relaxed);
            reader.join().expect("each read is of one hop")
        });
        assert!(seen > 0);
    }
}
