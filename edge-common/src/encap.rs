//! Encapsulation: the outer header of a tunnel (RFC 2003, RFC 2473).

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::{Backend, Generation},
    checksum,
    forward::Received,
    frame,
    ip::{DEFAULT_TTL, DONT_FRAGMENT},
    packet::Packet,
};

/// The family of an outer header.
#[derive(Clone, Copy)]
pub enum Outer {
    V4,
    V6,
}

impl Outer {
    /// The family that reaches `backend`; `None` if it has none.
    #[inline(always)]
    pub const fn towards(backend: &Backend) -> Option<Self> {
        match backend.family {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }

    /// Bytes of the outer header.
    #[inline(always)]
    pub const fn length(self) -> usize {
        match self {
            Self::V4 => Ipv4Hdr::LEN,
            Self::V6 => Ipv6Hdr::LEN,
        }
    }

    /// EtherType, as it stands in a frame.
    #[inline(always)]
    pub const fn ether_type(self) -> u16 {
        match self {
            Self::V4 => frame::IPV4,
            Self::V6 => frame::IPV6,
        }
    }

    /// Writes the outer header of a packet of the family `protocol` at `l3`. `None` if it does not fit, or if the whole
    /// would be longer than IP can say.
    ///
    /// DSCP and ECN are copied: the uniform model of RFC 2983, the normal mode of RFC 6040. So is DF (RFC 2003, section
    /// 3.1), so that path MTU discovery sees the whole way. A header without DF has an identification (RFC 6864, section
    /// 4.1), or a backend would put fragments of different packets together.
    #[inline(always)]
    pub fn store<P: Packet>(
        self,
        packet: &mut P,
        l3: usize,
        generation: &Generation,
        backend: &Backend,
        protocol: u8,
        inner: Received,
    ) -> Option<()> {
        match self {
            Self::V4 => {
                let mut header = Ipv4Hdr {
                    vihl: 0x45,
                    tos: inner.tos,
                    tot_len: u16::try_from(inner.length + Ipv4Hdr::LEN).ok()?.to_be_bytes(),
                    id: if inner.dont_fragment { [0; 2] } else { identification(inner) },
                    frags: [if inner.dont_fragment { DONT_FRAGMENT } else { 0 }, 0],
                    ttl: DEFAULT_TTL,
                    proto: protocol,
                    check: [0; 2],
                    src_addr: generation.tunnel_source_v4,
                    dst_addr: backend.address_v4(),
                };
                header.check = checksum::ipv4_header(&header);
                packet.store(l3, header)
            }
            Self::V6 => {
                let [_, high, middle, low] = inner.flow.flow_label().to_be_bytes();
                packet.store(
                    l3,
                    Ipv6Hdr {
                        vcf: [0x60 | inner.tos >> 4, inner.tos << 4 | high, middle, low],
                        payload_len: u16::try_from(inner.length).ok()?.to_be_bytes(),
                        next_hdr: protocol,
                        hop_limit: DEFAULT_TTL,
                        src_addr: whole(generation.tunnel_source_v6),
                        dst_addr: whole(backend.address),
                    },
                )
            }
        }
    }
}

/// The inner packet's identification, mixed with its flow: all packets to a backend have the same outer addresses, and
/// clients count alike.
#[inline(always)]
const fn identification(inner: Received) -> [u8; 2] {
    let [a, b] = inner.identification;
    let [.., c, d] = inner.flow.0.to_be_bytes();
    [a ^ c, b ^ d]
}

/// An address as one integer and back. As sixteen bytes it would be copied byte by byte.
#[inline(always)]
const fn whole(address: [u8; 16]) -> [u8; 16] {
    u128::from_ne_bytes(address).to_ne_bytes()
}
