//! IP protocol numbers.

pub const ICMP: u8 = 1;
pub const IPV4: u8 = 4;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const IPV6: u8 = 41;
/// A fragment header of IPv6.
pub const IPV6_FRAGMENT: u8 = 44;
pub const ICMPV6: u8 = 58;
/// An IPv6 packet without anything behind this header.
pub const NO_NEXT_HEADER: u8 = 59;

const GRE: u8 = 47;
const L2TP: u8 = 115;
const MPLS: u8 = 137;

/// Whether a service can have this protocol: TCP or UDP, whose headers start with two ports.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP)
}

/// Whether packets of this protocol carry another packet, or a frame, that Linux can decapsulate: IP in IP, GRE, L2TP (RFC
/// 3931), MPLS in IP (RFC 4023).
#[inline(always)]
pub const fn is_tunnel(protocol: u8) -> bool {
    matches!(protocol, IPV4 | IPV6 | GRE | L2TP | MPLS)
}
