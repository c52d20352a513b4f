//! The packets that the packet path makes itself, all of them answers to the frame in hand.
//!
//! An answer goes back the way the frame came, VLAN tags and all: its source is the VIP, as that of any other packet
//! that the client gets. Nothing is answered that must not be: broadcasts, sources that are no single host, RSTs
//! (RFC 1122, section 3.2.2; RFC 4443, section 2.4; RFC 9293, section 3.10.7).

mod echo;
mod error;
mod reset;

use network_types::{
    icmp::Icmpv4Hdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use self::{
    echo::echo,
    error::{Message, error},
    reset::reset,
};
use crate::{
    abi::RateLimited,
    checksum,
    exit::Exit,
    frame::Link,
    ip::{DEFAULT_TTL, DONT_FRAGMENT, Family, V4, V6, protocol},
    packet::Packet,
    pipeline::Decision,
    tables::Tables,
};

/// Makes the answer that `decided` calls for, if it calls for one, and says how the packet leaves in the end.
///
/// Deciding and answering are two steps, so that neither has the other's variables on its stack, and the verifier sees
/// each answer once.
#[inline(always)]
pub fn answer<P: Packet, T: Tables>(packet: &mut P, tables: &T, decided: Decision) -> Exit {
    if decided.is_error() {
        let limit = tables.view().map_or(0, |view| view.generation.errors_per_second);
        if !tables.try_take(RateLimited::Error, tables.now_ns(), limit) {
            return Exit::ErrorLimited;
        }
    }
    match Link::parse(packet) {
        Some(link) if link.ether_type == V4::ETHER_TYPE => make::<V4, P>(packet, decided),
        Some(link) if link.ether_type == V6::ETHER_TYPE => make::<V6, P>(packet, decided),
        _ => Exit::Malformed,
    }
}

#[inline(always)]
fn make<F: Reply, P: Packet>(packet: &mut P, decided: Decision) -> Exit {
    let (exit, detail) = (decided.exit(), decided.detail());
    let (answer, silent) = match exit {
        Exit::EchoReply => (echo::<F, P>(packet, detail as usize), Exit::IcmpOther),
        Exit::RejectReset => (reset::<F, P>(packet, detail as usize), Exit::RejectSilent),
        Exit::RejectUnreachable => (error::<F, P>(packet, Message::PortUnreachable, 0), Exit::RejectSilent),
        Exit::TtlExceeded => (error::<F, P>(packet, Message::TimeExceeded, 0), Exit::TtlExceededSilent),
        _ => (error::<F, P>(packet, Message::TooBig, detail as u16), Exit::TooBigSilent),
    };
    match answer {
        Answer::Made => exit,
        Answer::Forbidden => silent,
        Answer::NoRoom => Exit::NoRoom,
    }
}

/// What became of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Answer {
    Made,
    /// The packet must not be answered.
    Forbidden,
    /// The frame's length can't be changed.
    NoRoom,
}

/// Reads once more what the packet path has read already; answers are rare.
#[inline(always)]
fn received<F: Reply, P: Packet>(packet: &P) -> Option<(Link, &F::Header)> {
    let link = Link::parse(packet)?;
    Some((link, packet.view(link.l3)?))
}

/// What the answers of a family are made of.
pub trait Reply: Family {
    /// ICMP types of an echo and its answer.
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;
    /// Bytes of an ICMP error at most, IP header included, and so how much of the packet it quotes: 576 (RFC 1812,
    /// section 4.3.2.3) or 1,280 (RFC 4443, section 2.4).
    const MAX_ERROR: usize;
    /// Bytes of an answer's IP header.
    const HEADER: usize;

    /// Whether an ICMP type is an error, about a packet of a flow.
    fn is_error(type_: u8) -> bool;

    /// Whether it is one about a packet of a flow that whoever sent that packet is to hear of.
    fn concerns_a_flow(type_: u8) -> bool;

    /// The MTU that an ICMP header says when it is that of "too big": of what is next on the way, bytes of IP packet.
    fn path_mtu(header: [u8; Icmpv4Hdr::LEN]) -> Option<u16>;

    /// Whether no error may be sent about a packet: one that is an error itself, or no first fragment (RFC 1122, section
    /// 3.2.2; RFC 4443, section 2.4).
    fn is_exempt(header: &Self::Header) -> bool;

    /// Type and code of a message.
    fn message(message: Message) -> [u8; 2];

    /// An IP header for `length` bytes of `protocol`, from the destination of `header` to its source.
    fn answer(header: &Self::Header, protocol: u8, length: u16) -> Self::Header;

    /// Sum of the pseudo-header of what follows `header`, if the family's ICMP has one, or always for TCP.
    fn pseudo_header(header: &Self::Header, protocol: u8, length: u16) -> checksum::Sum;
}

impl Reply for V4 {
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const MAX_ERROR: usize = 576;
    const HEADER: usize = Ipv4Hdr::LEN;

    /// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
    #[inline(always)]
    fn is_error(type_: u8) -> bool {
        matches!(type_, 3 | 4 | 5 | 11 | 12)
    }

    /// Destination unreachable, time exceeded, parameter problem. What else was an error is out of use, or for hosts.
    #[inline(always)]
    fn concerns_a_flow(type_: u8) -> bool {
        matches!(type_, 3 | 11 | 12)
    }

    /// Not less than 576, which anybody can carry (RFC 791): less would be somebody's mistake, or attack.
    #[inline(always)]
    fn path_mtu([type_, code, _, _, _, _, high, low]: [u8; 8]) -> Option<u16> {
        let mtu = u16::from_be_bytes([high, low]);
        if type_ == 3 && code == 4 && mtu != 0 { Some(mtu.max(576)) } else { None }
    }

    #[inline(always)]
    fn is_exempt(header: &Ipv4Hdr) -> bool {
        header.proto == protocol::ICMP || u16::from_be_bytes(header.frags) & 0x1fff != 0
    }

    #[inline(always)]
    fn message(message: Message) -> [u8; 2] {
        match message {
            Message::PortUnreachable => [3, 3],
            Message::TimeExceeded => [11, 0],
            Message::TooBig => [3, 4],
        }
    }

    #[inline(always)]
    fn answer(header: &Ipv4Hdr, protocol: u8, length: u16) -> Ipv4Hdr {
        let mut answer = Ipv4Hdr {
            vihl: 0x45,
            tos: 0,
            tot_len: (length + Ipv4Hdr::LEN as u16).to_be_bytes(),
            id: [0; 2],
            frags: [DONT_FRAGMENT, 0],
            ttl: DEFAULT_TTL,
            proto: protocol,
            check: [0; 2],
            src_addr: header.dst_addr,
            dst_addr: header.src_addr,
        };
        answer.check = checksum::ipv4_header(&answer);
        answer
    }

    #[inline(always)]
    fn pseudo_header(header: &Ipv4Hdr, protocol: u8, length: u16) -> checksum::Sum {
        if protocol == Self::ICMP { checksum::Sum(0) } else { checksum::Sum::pseudo_v4(header, protocol, length) }
    }
}

impl Reply for V6 {
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const MAX_ERROR: usize = 1280;
    const HEADER: usize = Ipv6Hdr::LEN;

    /// Types below 128 (RFC 4443, section 2.1).
    #[inline(always)]
    fn is_error(type_: u8) -> bool {
        type_ < 128
    }

    /// Destination unreachable, packet too big, time exceeded, parameter problem.
    #[inline(always)]
    fn concerns_a_flow(type_: u8) -> bool {
        matches!(type_, 1..=4)
    }

    /// Not less than 1,280, which anybody can carry (RFC 8200, section 5).
    #[inline(always)]
    fn path_mtu([type_, _, _, _, a, b, c, d]: [u8; 8]) -> Option<u16> {
        let mtu = u32::from_be_bytes([a, b, c, d]);
        if type_ == 2 && mtu <= 0xffff { Some((mtu as u16).max(1280)) } else { None }
    }

    /// Fragments as well, first ones too: which one it is stands farther behind.
    #[inline(always)]
    fn is_exempt(header: &Ipv6Hdr) -> bool {
        header.next_hdr == protocol::ICMPV6 || header.next_hdr == protocol::IPV6_FRAGMENT
    }

    #[inline(always)]
    fn message(message: Message) -> [u8; 2] {
        match message {
            Message::PortUnreachable => [1, 4],
            Message::TimeExceeded => [3, 0],
            Message::TooBig => [2, 0],
        }
    }

    #[inline(always)]
    fn answer(header: &Ipv6Hdr, protocol: u8, length: u16) -> Ipv6Hdr {
        Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: length.to_be_bytes(),
            next_hdr: protocol,
            hop_limit: DEFAULT_TTL,
            src_addr: header.dst_addr,
            dst_addr: header.src_addr,
        }
    }

    #[inline(always)]
    fn pseudo_header(header: &Ipv6Hdr, protocol: u8, length: u16) -> checksum::Sum {
        checksum::Sum::pseudo_v6(header, protocol, length)
    }
}
