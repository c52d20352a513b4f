//! The transport header of TCP or UDP, as far as forwarding needs it.

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use super::{
    packet::{Packet, after},
    protocol,
    tcp::{self, TcpStart},
    udp::UdpStart,
};

/// The transport header contradicts itself or the packet.
pub struct Malformed;

/// The part of a transport header that forwarding reads, in one step.
#[derive(Clone, Copy)]
pub struct Head {
    /// Source and destination port: the bytes of the header as a little-endian word.
    pub ports: u32,
    /// Two more bytes in the same form: data offset and flags of TCP, length of UDP.
    pub(super) more: u16,
}

impl Head {
    /// Reads the header at `offset`; `None` if the frame ends in it.
    #[inline(always)]
    pub fn read<P: Packet>(packet: &P, protocol: u8, offset: usize) -> Option<Self> {
        let (ports, more) = if protocol == protocol::TCP {
            let TcpStart { ports, offset_and_flags, .. } = *packet.view(offset)?;
            (ports, offset_and_flags)
        } else {
            let UdpStart { ports, length } = *packet.view(offset)?;
            (ports, length)
        };
        Some(Self { ports: u32::from_le(ports), more: u16::from_le(more) })
    }

    /// The destination port, in the byte order of the header.
    #[inline(always)]
    pub const fn destination(self) -> [u8; 2] {
        ((self.ports >> 16) as u16).to_le_bytes()
    }

    /// Like [`check`](Self::check), for the first fragment of a packet, beyond which a UDP length may reach.
    #[inline(always)]
    pub fn check_first(self, protocol: u8, offset: usize, end: usize) -> Result<bool, Malformed> {
        if protocol == protocol::TCP {
            return self.check(protocol, offset, end);
        }
        let stated = usize::from(self.more.swap_bytes());
        if stated < UdpHdr::LEN || after(offset, UdpHdr::LEN) > end { Err(Malformed) } else { Ok(false) }
    }

    /// Checks the header at `offset` of a packet that ends at `end`; returns whether the packet starts a flow.
    ///
    /// Only a TCP SYN without ACK does; a UDP header does not show it.
    #[inline(always)]
    pub fn check(self, protocol: u8, offset: usize, end: usize) -> Result<bool, Malformed> {
        let is_tcp = protocol == protocol::TCP;
        let (length, least) = if is_tcp {
            // The upper four bits of the first byte count words of four bytes.
            (usize::from(self.more >> 2 & 0x3c), TcpHdr::LEN)
        } else {
            (usize::from(self.more.swap_bytes()), UdpHdr::LEN)
        };
        if length < least || after(offset, length) > end {
            return Err(Malformed);
        }
        let flags = (self.more >> 8) as u8;
        Ok(is_tcp && tcp::is_start(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tcp::flags, *};
    use crate::host::Frame;

    fn tcp(data_offset: u8, flags: u8, length: usize) -> Option<bool> {
        let mut bytes = vec![0; length];
        for (at, byte) in [(12, data_offset << 4), (13, flags)] {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        Head::read(&Frame::new(&bytes), protocol::TCP, 0)?.check(protocol::TCP, 0, length).ok()
    }

    fn udp(length_field: u16, length: usize) -> Option<bool> {
        let mut bytes = vec![0; length];
        if let Some(place) = bytes.get_mut(4..6) {
            place.copy_from_slice(&length_field.to_be_bytes());
        }
        Head::read(&Frame::new(&bytes), protocol::UDP, 0)?.check(protocol::UDP, 0, length).ok()
    }

    #[test]
    fn only_a_pure_syn_starts_a_flow() {
        for all in 0..=u8::MAX {
            let rest = all & !(flags::SYN | flags::ACK | flags::RST | flags::FIN);
            assert_eq!(tcp(5, all, 20), Some(all == flags::SYN | rest), "{all:08b}");
        }
    }

    #[test]
    fn tcp_headers_end_in_the_packet() {
        assert_eq!(tcp(15, flags::ACK, 60), Some(false));
        for (data_offset, length) in [(4, 20), (0, 20), (6, 20), (15, 59), (5, 19), (5, 13), (5, 0)] {
            assert_eq!(tcp(data_offset, flags::SYN, length), None, "{data_offset} {length}");
        }
    }

    #[test]
    fn udp_lengths_agree_with_the_packet() {
        assert_eq!(udp(8, 8), Some(false));
        assert_eq!(udp(8, 20), Some(false), "padding is no contradiction");
        for (length_field, length) in [(7, 8), (0, 8), (9, 8), (u16::MAX, 100), (8, 7), (8, 5)] {
            assert_eq!(udp(length_field, length), None, "{length_field} {length}");
        }
    }
}
