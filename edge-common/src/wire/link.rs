//! The link layer: Ethernet with up to two VLAN tags, received and sent.

use network_types::{eth::EthHdr, vlan::VlanHdr};

use super::{
    ethernet::{Addresses, IPV4, IPV6, Untagged},
    packet::{Packet, Places, Wire, after},
    vlan::{self, Tagged, is_tag},
};
use crate::abi::{Mac, Station};

/// The end of a received frame's link layer, and the type of the network header.
#[derive(Clone, Copy)]
pub struct Link {
    /// Offset of the network header: 14, 18 or 22.
    pub l3: usize,
    /// EtherType of the network header, in the byte order of the frame.
    pub ether_type: u16,
}

/// Offset of the first EtherType in a frame; each tag moves that of the network header by four bytes.
const ETHER_TYPE: usize = 12;
/// Offset of the network header behind one tag.
const ONE_TAG: usize = EthHdr::LEN + VlanHdr::LEN;
/// Offsets of the 16-bit words after the addresses: those of two tags, and the EtherType.
const WORDS: [usize; 5] = [12, 14, 16, 18, 20];

impl Link {
    /// Reads the link layer; `None` if the frame ends in it.
    #[inline(always)]
    pub fn parse<P: Packet>(packet: &P) -> Option<Self> {
        Self::read(packet).map(|(_, link)| link.merged(packet))
    }

    /// Like [`Self::parse`], with the station at which the frame arrived. Frames without a tag are verified separately, so
    /// their offset need not be hidden from the verifier.
    #[inline(always)]
    pub fn parse_at_station<P: Packet>(packet: &P) -> Option<(Station, Self)> {
        let (addresses, link) = Self::read(packet)?;
        let station = Station::new(packet.ingress(), addresses.destination());
        Some((station, if link.l3 == EthHdr::LEN { link } else { link.merged(packet) }))
    }

    /// Like [`Self::parse_at_station`], with the source MAC address as well.
    #[inline(always)]
    pub fn parse_with_ends<P: Packet>(packet: &P) -> Option<(Station, Mac, Self)> {
        let (addresses, link) = Self::read(packet)?;
        Some((Station::new(packet.ingress(), addresses.destination()), addresses.source(), link.merged(packet)))
    }

    /// The station at which a frame arrived, and the frame's source MAC address.
    #[inline(always)]
    pub fn ends<P: Packet>(packet: &P) -> Option<(Station, Mac)> {
        let addresses: &Addresses = packet.view(0)?;
        Some((Station::new(packet.ingress(), addresses.destination()), addresses.source()))
    }

    /// VLAN identifier of the frame, host order; 0 if untagged. `None` if it has two tags.
    #[inline(always)]
    pub fn vlan<P: Packet>(&self, packet: &P) -> Option<u16> {
        match self.l3 {
            EthHdr::LEN => Some(0),
            ONE_TAG => Some(u16::from_be_bytes(packet.load(EthHdr::LEN)?) & 0xfff),
            _ => None,
        }
    }

    #[inline(always)]
    fn read<P: Packet>(packet: &P) -> Option<(Addresses, Self)> {
        let &Untagged { addresses, ether_type: first } = packet.view(0)?;
        let mut link = Self { l3: EthHdr::LEN, ether_type: first };
        // Tests for the types of nearly all frames first.
        if link.ether_type != IPV4 && link.ether_type != IPV6 && is_tag(link.ether_type) {
            link = Self { l3: EthHdr::LEN + VlanHdr::LEN, ether_type: ether_type(packet, ETHER_TYPE + VlanHdr::LEN)? };
            if is_tag(link.ether_type) {
                link = Self {
                    l3: EthHdr::LEN + 2 * VlanHdr::LEN,
                    ether_type: ether_type(packet, ETHER_TYPE + 2 * VlanHdr::LEN)?,
                };
            }
        }
        Some((addresses, link))
    }

    /// The same link layer, with a length that the verifier does not know ([`Packet::merge_paths`]).
    #[inline(always)]
    pub fn merged<P: Packet>(self, packet: &P) -> Self {
        Self { l3: packet.merge_paths(self.l3, 31), ..self }
    }

    /// Copies the link layer, tags and all, from offset `from` to offset `to`, at least 20 bytes away.
    #[inline(always)]
    pub fn copy<P: Packet>(&self, packet: &mut P, from: usize, to: usize) -> Option<()> {
        // The words after the addresses first: the addresses' new place may be the old place of these words.
        for at in WORDS {
            if at >= self.l3 {
                break;
            }
            let word: [u8; 2] = packet.load(after(from, at))?;
            packet.store(after(to, at), word)?;
        }
        let &Addresses(first, second) = packet.view(from)?;
        packet.store(to, Addresses(first, second))
    }

    /// Sets the EtherType of the network header in the link layer that starts at offset `at` to `now`.
    #[inline(always)]
    pub fn set_ether_type<P: Packet>(&self, packet: &mut P, at: usize, now: u16) -> Option<()> {
        let now = now.to_ne_bytes();
        match self.l3 {
            EthHdr::LEN => packet.store(after(at, ETHER_TYPE), now),
            ONE_TAG => packet.store(after(at, ETHER_TYPE + VlanHdr::LEN), now),
            _ => packet.store(after(at, ETHER_TYPE + 2 * VlanHdr::LEN), now),
        }
    }

    /// Returns the frame to its sender, from `own`. The address that it was sent to is not used as its source: a frame from
    /// the address of a virtual router, or of another device of the host, would teach switches that the address is here.
    ///
    /// `None` also if the sender's address is not that of a single station: the answer would reach every host.
    #[inline(always)]
    pub fn turn<P: Packet>(packet: &mut P, own: Mac) -> Option<()> {
        let came: &Addresses = packet.view(0)?;
        if !came.source().is_unicast() {
            return None;
        }
        let now = Addresses::new(came.source(), own);
        packet.store(0, now)
    }

    /// Priority and drop eligibility of the outermost tag, if there is one: the upper four bits of its first byte.
    #[inline(always)]
    fn priority<P: Packet>(&self, packet: &P) -> u8 {
        match packet.load(EthHdr::LEN) {
            Some([first]) if self.l3 > EthHdr::LEN => first & 0xf0,
            _ => 0,
        }
    }
}

const _: () = {
    assert!(size_of::<Untagged>() == EthHdr::LEN);
    assert!(size_of::<Tagged>() == ONE_TAG);
};

/// Replaces the link layer `came` by one with this VLAN identifier (host order; 0 for no tag), followed by the result of
/// `headers`. Writes both except for the MAC addresses, whose place it returns. A tag keeps the priority of the received
/// frame. `ether_type` is the EtherType of the header behind the link layer, in the byte order of the frame.
#[inline(always)]
pub fn make_room<P: Places, H: Wire>(
    packet: &mut P,
    came: Link,
    vlan: u16,
    ether_type: u16,
    headers: impl Fn() -> H,
) -> Option<P::Place<Addresses>> {
    if vlan == 0 {
        let (link, behind) = replace::<P, Untagged, H>(packet, came.l3)?;
        packet.at_mut(link).ether_type = ether_type;
        *packet.at_mut(behind) = headers();
        return Some(P::start(link));
    }
    let [high, low] = vlan.to_be_bytes();
    let tag = [high & 0x0f | came.priority(packet), low];
    let (link, behind) = replace::<P, Tagged, H>(packet, came.l3)?;
    let written = packet.at_mut(link);
    (written.tag_type, written.tag, written.ether_type) = (vlan::TAG, tag, ether_type);
    *packet.at_mut(behind) = headers();
    Some(P::start(link))
}

/// Like [`make_room`], but replaces everything before offset `end`, which includes headers behind the link layer. The
/// header behind the new link layer is left to the caller, at the second place that is returned.
#[inline(always)]
pub fn make_room_up_to<P: Places, H: Wire>(
    packet: &mut P,
    came: Link,
    end: usize,
    vlan: u16,
    ether_type: u16,
) -> Option<(P::Place<Addresses>, P::Place<H>)> {
    if vlan == 0 {
        let (link, behind) = replace::<P, Untagged, H>(packet, end)?;
        packet.at_mut(link).ether_type = ether_type;
        return Some((P::start(link), behind));
    }
    let [high, low] = vlan.to_be_bytes();
    let tag = [high & 0x0f | came.priority(packet), low];
    let (link, behind) = replace::<P, Tagged, H>(packet, end)?;
    let written = packet.at_mut(link);
    (written.tag_type, written.tag, written.ether_type) = (vlan::TAG, tag, ether_type);
    Some((P::start(link), behind))
}

/// Replaces everything before offset `end` by room for a link layer and a header behind it.
#[inline(always)]
fn replace<P: Places, L: Wire, H: Wire>(packet: &mut P, end: usize) -> Option<(P::Place<L>, P::Place<H>)> {
    let longer = (const { size_of::<L>() + size_of::<H>() } as i32).wrapping_sub(end as i32);
    if longer != 0 {
        packet.grow_head(longer)?;
    }
    packet.places(0)
}

#[inline(always)]
fn ether_type<P: Packet>(packet: &P, offset: usize) -> Option<u16> {
    packet.load(offset).map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::Frame;

    fn frame(types: &[u16]) -> Frame {
        let mut bytes = vec![2; 12];
        for (position, ether_type) in types.iter().enumerate() {
            if position > 0 {
                bytes.extend([0x60, 7]);
            }
            bytes.extend(ether_type.to_be_bytes());
        }
        Frame::new(&bytes)
    }

    #[test]
    fn up_to_two_tags_are_looked_through() {
        let found = |types: &[u16]| Link::parse(&frame(types)).map(|link| (link.l3, u16::from_be(link.ether_type)));
        assert_eq!(found(&[0x0800]), Some((14, 0x0800)));
        assert_eq!(found(&[0x8100, 0x86dd]), Some((18, 0x86dd)));
        assert_eq!(found(&[0x88a8, 0x8100, 0x0800]), Some((22, 0x0800)));
        assert_eq!(found(&[0x8100, 0x8100, 0x8100, 0x0800]), Some((22, 0x8100)), "a third tag is no IP");
        assert_eq!(found(&[0x8100]), None, "the tag is cut off");
    }

    #[test]
    fn a_copy_leaves_out_nothing() {
        for types in [&[0x0800][..], &[0x8100, 0x0800], &[0x88a8, 0x8100, 0x0800]] {
            let mut moved = frame(types);
            let (before, link) = (moved.bytes().to_vec(), Link::parse(&moved).unwrap());
            moved.grow_head(28).unwrap();
            link.copy(&mut moved, 28, 0).unwrap();
            assert_eq!(moved.bytes()[..link.l3], before);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_end_of_their_link_layer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(link) = Link::parse(&Frame::new(&bytes)) {
                prop_assert!([14, 18, 22].contains(&link.l3));
                prop_assert!(link.l3 <= bytes.len());
            }
        }
    }
}
