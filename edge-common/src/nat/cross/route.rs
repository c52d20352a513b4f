//! Source routes: the other IP version can't express them, and they must not be left out, so packets that have one are
//! refused (RFC 7915, sections 4.1 and 5.1).

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::header::Crossed;
use crate::wire::{
    ipv4::V4,
    ipv6::{V6, routing_segments_left},
    packet::{Packet, after},
};

/// Maximum bytes of options.
const MAX_OPTIONS: usize = 40;
/// Options (RFC 791, section 3.1).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// An IP version with source routes.
pub(super) trait Routed: Crossed {
    /// Whether the packet with this header, at `l3`, has a source route.
    fn is_source_routed<P: Packet>(packet: &P, l3: usize, header: &Self::Header) -> bool;
}

impl Routed for V4 {
    /// A source route that has reached its end counts, too: hardly any host makes one, and no router should accept it.
    #[inline(always)]
    fn is_source_routed<P: Packet>(packet: &P, l3: usize, header: &Ipv4Hdr) -> bool {
        let start = after(l3, Ipv4Hdr::LEN);
        let options = (usize::from(header.vihl & 0x0f) * 4).saturating_sub(Ipv4Hdr::LEN);
        let mut at = 0;
        for _ in 0..MAX_OPTIONS {
            if at >= options {
                return false;
            }
            // An option that is cut off or has no length is no option.
            let Some([kind, length]) = packet.load(after(start, at)) else { return false };
            match kind {
                END => return false,
                LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return true,
                _ => {}
            }
            let long = if kind == NO_OPERATION { 1 } else { usize::from(length) };
            if long == 0 {
                return false;
            }
            at = packet.merge_paths(after(at, long), 0x1ff);
        }
        false
    }
}

impl Routed for V6 {
    #[inline(always)]
    fn is_source_routed<P: Packet>(packet: &P, l3: usize, header: &Ipv6Hdr) -> bool {
        routing_segments_left(packet, l3, header)
    }
}
