//! ICMP (RFC 792) and ICMPv6 (RFC 4443): types, the MTU that an error reports, and which packets must not cause an error.

use network_types::icmp::Icmpv4Hdr;

use super::{ip::Family, ipv4::V4, ipv6::V6, protocol};

/// An ICMP error that the edge sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Message {
    PortUnreachable,
    /// Protocol unreachable (RFC 1122, section 3.2.2.1), parameter problem: unrecognized next header (RFC 8200, section 4).
    ProtocolUnreachable,
    TimeExceeded,
    /// Fragmentation needed (RFC 1191, section 4), packet too big (RFC 4443, section 3.2).
    TooBig,
}

/// The ICMP of an address family.
pub trait Icmp: Family {
    /// ICMP types of an echo request and its reply.
    const ECHO_REQUEST: u8;
    const ECHO_REPLY: u8;
    /// Maximum length of an ICMP error in bytes, IP header included, which limits the quoted packet: 576 (RFC 1812, section
    /// 4.3.2.3) or 1,280 (RFC 4443, section 2.4).
    const MAX_ERROR: usize;

    /// Whether an ICMP type is an error about a packet.
    fn is_error(type_: u8) -> bool;

    /// Whether an ICMP type is an error that the sender of the quoted packet has to receive.
    fn concerns_a_flow(type_: u8) -> bool;

    /// Whether an ICMP message of this type and hop limit is neighbour discovery (RFC 4861), without which a host reaches no
    /// other host on its link. No router has forwarded a packet of hop limit 255, and hosts ignore discovery with any other
    /// (sections 6.1 and 7.1).
    fn is_discovery(type_: u8, hop_limit: u8) -> bool;

    /// The MTU of the next link, bytes of IP packet, if the ICMP header is that of "too big".
    fn path_mtu(header: [u8; Icmpv4Hdr::LEN]) -> Option<u16>;

    /// Whether `message` may be sent about a packet of `protocol`, or about a fragment of one with `before` bytes before
    /// it: not about an error, nor about a later fragment (RFC 1122, section 3.2.2; RFC 4443, section 2.4). Other ICMP
    /// packets are not answered by an error either.
    fn permits(message: Message, protocol: u8, before: u16) -> bool;

    /// Type and code of a message.
    fn message(message: Message) -> [u8; 2];
}

impl Icmp for V4 {
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const MAX_ERROR: usize = 576;

    /// Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792).
    #[inline(always)]
    fn is_error(type_: u8) -> bool {
        matches!(type_, 3 | 4 | 5 | 11 | 12)
    }

    /// Destination unreachable, time exceeded, parameter problem. The other errors are out of use, or for hosts.
    #[inline(always)]
    fn concerns_a_flow(type_: u8) -> bool {
        matches!(type_, 3 | 11 | 12)
    }

    /// IPv4 has ARP.
    #[inline(always)]
    fn is_discovery(_type: u8, _hop_limit: u8) -> bool {
        false
    }

    /// At least 576, which every host must accept (RFC 791): a smaller value would be a mistake, or an attack.
    #[inline(always)]
    fn path_mtu([type_, code, _, _, _, _, high, low]: [u8; 8]) -> Option<u16> {
        let mtu = u16::from_be_bytes([high, low]);
        if type_ == 3 && code == 4 && mtu != 0 { Some(mtu.max(576)) } else { None }
    }

    #[inline(always)]
    fn permits(_message: Message, protocol: u8, before: u16) -> bool {
        protocol != protocol::ICMP && before == 0
    }

    #[inline(always)]
    fn message(message: Message) -> [u8; 2] {
        match message {
            Message::PortUnreachable => [3, 3],
            Message::ProtocolUnreachable => [3, 2],
            Message::TimeExceeded => [11, 0],
            Message::TooBig => [3, 4],
        }
    }
}

impl Icmp for V6 {
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    const MAX_ERROR: usize = 1280;

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

    #[inline(always)]
    fn is_discovery(type_: u8, hop_limit: u8) -> bool {
        matches!(type_, 133..=137) && hop_limit == 255
    }

    /// At least 1,280, which every link must carry (RFC 8200, section 5).
    #[inline(always)]
    fn path_mtu([type_, _, _, _, a, b, c, d]: [u8; 8]) -> Option<u16> {
        let mtu = u32::from_be_bytes([a, b, c, d]);
        if type_ == 2 && mtu <= 0xffff { Some((mtu as u16).max(1280)) } else { None }
    }

    /// RFC 4443 has no rule about later fragments. One that is too long must be answered, since only its sender can make it
    /// shorter (section 3.2); for others, the rule of IPv4 applies.
    #[inline(always)]
    fn permits(message: Message, protocol: u8, before: u16) -> bool {
        protocol != protocol::ICMPV6 && (before == 0 || message == Message::TooBig)
    }

    #[inline(always)]
    fn message(message: Message) -> [u8; 2] {
        match message {
            Message::PortUnreachable => [1, 4],
            Message::ProtocolUnreachable => [4, 1],
            Message::TimeExceeded => [3, 0],
            Message::TooBig => [2, 0],
        }
    }
}
