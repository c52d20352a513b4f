//! Converts TCP and UDP packets: whole packets, and fragments.

use super::{
    super::{
        rewrite::{Ends, transport},
        send::{is_its, too_long},
    },
    header::{Carried, Crossed, Part, pair},
    leave::{Sides, leave, merged, merged_flag, mtu, vlan},
    route::Routed,
};
use crate::{
    abi::{Backend, Exit},
    forward::HopLook,
    maps::Maps,
    step::{Decision, FlowLocation, StepResult, Translate},
    wire::{
        checksum::{self, Sum},
        ethernet::Addresses,
        ip::{Family as _, Payload, Transport},
        ipv4::V4,
        ipv6::V6,
        link::{Link, make_room_up_to},
        packet::{OFFSETS, Packet, Places, after},
        protocol,
        tcp::{self, flags},
    },
};

/// Offsets of the checksum in a TCP header and in a UDP header, and of the length in a UDP header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const UDP_LENGTH: usize = 4;
/// Bytes of the longest datagram whose checksum is computed.
const MAX_DATAGRAM: usize = 1_500;
/// Bits of a label.
const LABELS: usize = 0xf_ffff;
/// Bytes of headers before the data of a segment over IPv6.
const SEGMENT_HEADERS: u32 = 60;

/// Converts the packet at `location` to the other IP version, and sends it. Its flow was touched just before, so its
/// entry was not claimed by another flow since.
#[inline(always)]
pub fn cross<P: Places, M: Maps>(packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
    let crossed = if location.v6 {
        of::<V6, V4, P, M>(packet, maps, location, how)
    } else {
        of::<V4, V6, P, M>(packet, maps, location, how)
    };
    match crossed {
        Ok(decided) | Err(decided) => decided.into(),
    }
}

#[inline(always)]
fn of<F: Routed, G: Crossed, P: Places, M: Maps>(
    packet: &mut P,
    maps: &M,
    location: FlowLocation,
    how: Translate,
) -> Result<Decision, Decision> {
    let back = how.back;
    let head = maps.nat_head().ok_or(Exit::BadTables)?;
    let sides = Sides::of(maps, head, how, location.v6)?;
    let (served, backend) = (sides.served, sides.backend);
    let look = HopLook::at(backend);
    let vlan = packet.merge_paths(vlan(maps, served, look, back)?.into(), 0xfff) as u16;
    let widest = packet.merge_paths(mtu(maps, served, backend, back)? as usize, 0xffff_ffff) as u32;
    let (was, now) = sides.ends(packet, back);
    // A packet to a client has none (RFC 7915, section 4.1).
    let label = packet.merge_paths(if back { 0 } else { sides.label } as usize, LABELS) as u32;
    // The code above has branched on the direction twice and the code below does so again; merged, so that the verifier
    // checks the code between once.
    let back = merged_flag(packet, back);
    let link = Link::parse(packet).ok_or(Exit::Malformed)?;
    let header: &F::Header = packet.view(link.l3).ok_or(Exit::Malformed)?;
    let (length, tos, ttl) = (F::length(header), F::tos(header), F::ttl(header));
    let is_whole = F::dont_fragment(header);
    // The TTL of a later fragment was not checked before.
    if ttl <= 1 {
        return Err(Exit::TtlExceededSilent.into());
    }
    if F::is_source_routed(packet, link.l3, header) {
        return Err(Exit::NatSourceRoute.into());
    }
    let (source, destination) = (F::words(F::source(header)), F::words(F::destination(header)));
    is_its(&Ends { source, destination, ports: 0 }, was.source, was.destination)?;
    // From here on only this change is needed of the old ends: four words less on the stack.
    let change = Sum(merged(packet, now.address_change(&was).0));
    let (at, part, is_part) = match F::payload(packet, link.l3, header) {
        Payload::Transport(at) => (at, Part { place: 0, identification: 0 }, false),
        Payload::Fragment(fragment) => (fragment.at, F::part(packet, header, fragment).ok_or(Exit::Malformed)?, true),
        Payload::Hidden | Payload::Malformed => return Err(Exit::Malformed.into()),
    };
    let at = Transport {
        protocol: packet.merge_paths(at.protocol.into(), 0xff) as u8,
        offset: packet.merge_paths(at.offset, OFFSETS),
    };
    let part = Part {
        place: packet.merge_paths(part.place.into(), 0xffff) as u16,
        identification: packet.merge_paths(part.identification as usize, 0xffff_ffff) as u32,
    };
    let is_part = merged_flag(packet, is_part);
    let payload = length.wrapping_sub(at.offset.wrapping_sub(link.l3));
    let made = if is_part { G::MADE_PART } else { G::MADE };
    let in_pieces = if at.protocol == protocol::UDP { G::MADE_PART } else { made };
    let lengths = Lengths { was: length, now: after(payload, made), in_pieces: after(payload, in_pieces) };
    lengths.fit::<F>(is_whole, widest)?;
    let mut identification = part.identification;
    // A later fragment has no transport header.
    if part.place <= 1 {
        let came = Came { at, payload, is_part: merged_flag(packet, is_part), back };
        let differs = came.transport::<F, P, M>(packet, maps, backend, change, now)?;
        identification = if is_part { identification } else { differs };
    }
    let carried = Carried {
        source: now.source,
        destination: now.destination,
        length: payload,
        tos,
        ttl: ttl.wrapping_sub(1),
        protocol: at.protocol,
        part: Part { identification, ..part },
        label,
    };
    let is_part = merged_flag(packet, is_part);
    let addresses = write::<G, P>(packet, link, at.offset, vlan, &carried, is_part).ok_or(Exit::NoRoom)?;
    if !back {
        maps.count_forwarded(served.service.into(), served.backend, length as u64, how.starts);
    }
    leave(packet, maps, back, served, look, vlan, addresses)
}

/// A packet with a transport header.
struct Came {
    at: Transport,
    /// Bytes from the transport header on.
    payload: usize,
    is_part: bool,
    back: bool,
}

impl Came {
    /// Replaces the packet's ports, and corrects its checksum for the other addresses and ports. Returns a value that
    /// differs between the packets of a flow.
    #[inline(always)]
    fn transport<F: Routed, P: Packet, M: Maps>(
        &self,
        packet: &mut P,
        maps: &M,
        backend: &Backend,
        change: Sum,
        now: Ends,
    ) -> Result<u32, Exit> {
        let Self { at, payload, is_part, back } = *self;
        let [a, b, c, d, e, f, g, h] = packet.load(at.offset).ok_or(Exit::Malformed)?;
        let ports = u32::from_le_bytes([a, b, c, d]);
        // Of TCP a sequence number, of UDP a length and a checksum.
        let differs = u32::from_ne_bytes([e, f, g, h]) ^ ports;
        if F::ICMP == protocol::ICMP && at.protocol == protocol::UDP && [g, h] == [0; 2] {
            if is_part {
                return Err(Exit::NatNoChecksum);
            }
            sum(packet, at.offset, payload, &now)?;
        } else {
            if F::ICMP == protocol::ICMPV6 && at.protocol == protocol::TCP {
                let widest = if back { u32::from(backend.mtu) } else { maps.mtu(packet.ingress()) };
                let widest = packet.merge_paths(widest as usize, 0xffff_ffff) as u32;
                limit_segments(packet, at.offset, widest);
            }
            let change = change.without(ports.to_le()).with(now.ports.to_le());
            transport(packet, at, now.ports, change).ok_or(Exit::Malformed)?;
        }
        Ok(differs ^ differs >> 16)
    }
}

/// Replaces everything before offset `end` by a new header.
#[inline(always)]
fn write<G: Crossed, P: Places>(
    packet: &mut P,
    link: Link,
    end: usize,
    vlan: u16,
    carried: &Carried,
    is_part: bool,
) -> Option<P::Place<Addresses>> {
    if is_part && G::MADE_PART != G::MADE {
        let (addresses, place) = make_room_up_to(packet, link, end, vlan, G::ETHER_TYPE)?;
        *packet.at_mut(place) = G::made_part(carried);
        return Some(addresses);
    }
    let (addresses, place) = make_room_up_to(packet, link, end, vlan, G::ETHER_TYPE)?;
    *packet.at_mut(place) = G::made(carried);
    Some(addresses)
}

/// Lengths of a packet in bytes.
struct Lengths {
    was: usize,
    /// The length after the conversion.
    now: usize,
    /// The length after the conversion if the sender fragments the packet once it has received a smaller MTU.
    in_pieces: usize,
}

impl Lengths {
    /// Whether the packet fits `mtu`; 0 if the MTU is unknown. The sender of a packet that does not fit receives an MTU
    /// that would fit, for packets of its own IP version, but none below the minimum of that version. `is_whole`: no
    /// router may fragment the packet.
    #[inline(always)]
    fn fit<F: Crossed>(&self, is_whole: bool, mtu: u32) -> Result<(), Decision> {
        let mtu = mtu as usize;
        if mtu == 0 || self.now <= mtu {
            // No packet is longer than its length field can express.
            return if self.now > usize::from(u16::MAX) { Err(Exit::NoRoom.into()) } else { Ok(()) };
        }
        Err(too_long::<F>(self.was, after(mtu, self.was).saturating_sub(self.in_pieces), is_whole))
    }
}

/// Replaces the ports of a datagram that came without a checksum, and computes the checksum, which IPv6 requires (RFC
/// 7915, section 4.5).
#[inline(always)]
fn sum<P: Packet>(packet: &mut P, offset: usize, payload: usize, now: &Ends) -> Result<(), Exit> {
    packet.store(offset, now.ports.to_le_bytes()).ok_or(Exit::Malformed)?;
    let length: [u8; 2] = packet.load(after(offset, UDP_LENGTH)).ok_or(Exit::Malformed)?;
    let bytes = usize::from(u16::from_be_bytes(length));
    if bytes > payload {
        return Err(Exit::Malformed);
    }
    if bytes > MAX_DATAGRAM {
        return Err(Exit::NatNoChecksum);
    }
    let addresses =
        pair(pair(pair(pair(Sum(0), now.source[0]), now.source[1]), now.destination[0]), now.destination[1]);
    let pseudo = addresses.word([0, protocol::UDP]).word(length);
    let sum = pseudo.packet(packet, offset, bytes).ok_or(Exit::Malformed)?.finish();
    let check = if sum == [0; 2] { [0xff; 2] } else { sum };
    packet.store(after(offset, UDP_CHECKSUM), check).ok_or(Exit::Malformed)
}

/// Lowers the maximum segment size in a SYN that leaves IPv6, so that the segments of the answer fit there after their
/// header has grown: a sender that receives no ICMP would never learn that they do not fit.
#[inline(always)]
fn limit_segments<P: Packet>(packet: &mut P, offset: usize, mtu: u32) -> Option<()> {
    let [is] = packet.load(after(offset, tcp::FLAGS))?;
    if is & flags::SYN == 0 || mtu < const { V6::LEAST_MTU as u32 } {
        return None;
    }
    let at = tcp::find_option(packet, offset, tcp::MSS, tcp::MSS_LENGTH)?;
    // At an odd offset in the header, the option's two bytes belong to two words of the sum.
    let is_odd = at & 1 != 0;
    let at = after(offset, at);
    let was: [u8; 2] = packet.load(at)?;
    let limit = mtu.saturating_sub(SEGMENT_HEADERS).min(u16::MAX.into()) as u16;
    if u16::from_be_bytes(was) <= limit {
        return None;
    }
    let now = limit.to_be_bytes();
    packet.store(at, now)?;
    let word = |[high, low]: [u8; 2]| if is_odd { [low, high] } else { [high, low] };
    let check = packet.load(after(offset, TCP_CHECKSUM))?;
    packet.store(after(offset, TCP_CHECKSUM), checksum::update(check, word(was), word(now)))
}
