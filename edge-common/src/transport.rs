//! The transport layer: TCP (RFC 9293) and UDP (RFC 768), as far as forwarding needs it.

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use crate::{ip::protocol, packet::Packet};

/// TCP flags, as they stand in byte 13 of the header.
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// Offset of the flags in a TCP header.
pub const FLAGS: usize = 13;

/// What is wrong with a transport header.
pub struct Malformed;

/// Checks the header at `offset` of a packet that ends at `end`; says whether the packet starts a flow.
///
/// Only a TCP SYN without ACK says that it starts one; nothing in a UDP packet does.
#[inline(always)]
pub fn check<P: Packet>(packet: &P, protocol: u8, offset: usize, end: usize) -> Result<bool, Malformed> {
    if protocol == protocol::TCP {
        let Some([data_offset, flags]) = packet.load::<2>(offset + FLAGS - 1) else { return Err(Malformed) };
        let header = usize::from(data_offset >> 4) * 4;
        if header < TcpHdr::LEN || offset + header > end {
            return Err(Malformed);
        }
        Ok(flags & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN)
    } else {
        let Some(length) = packet.load::<2>(offset + 4) else { return Err(Malformed) };
        let length = usize::from(u16::from_be_bytes(length));
        if length < UdpHdr::LEN || offset + length > end {
            return Err(Malformed);
        }
        Ok(false)
    }
}
