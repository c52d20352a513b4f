//! The start of a TCP or UDP header, directly behind the network header as in nearly all packets.

use super::{packet::Wire, protocol, tcp, transport::Head};

/// The part of a transport header that forwarding needs of TCP, read in place. It is read of UDP as well: few UDP packets
/// are so short that the frame ends in it.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Start {
    /// Source and destination port, in TCP and UDP.
    ports: u32,
    /// In UDP: the length, and below it the checksum.
    length: u16,
    udp_check: u16,
    rest: [u16; 2],
    /// Of TCP.
    offset_and_flags: u16,
}

// SAFETY: packed integers.
unsafe impl Wire for Start {}

impl Start {
    /// Both ports, in the form of [`Head::ports`].
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        u32::from_le(self.ports)
    }

    /// The destination port, in the byte order of the header.
    #[inline(always)]
    pub fn destination(&self) -> [u8; 2] {
        ((self.ports() >> 16) as u16).to_le_bytes()
    }

    /// The flags of a TCP header.
    #[inline(always)]
    pub fn flags(&self) -> u8 {
        (u16::from_le(self.offset_and_flags) >> 8) as u8
    }

    /// Bytes of a TCP header.
    #[inline(always)]
    pub const fn header_length(&self) -> usize {
        tcp::header_length(self.offset_and_flags)
    }

    #[inline(always)]
    pub fn head(&self, protocol: u8) -> Head {
        let more = if protocol == protocol::TCP { self.offset_and_flags } else { self.length };
        Head { ports: self.ports(), more: u16::from_le(more) }
    }
}

/// The part of a transport header that translation needs: of TCP, up to the checksum.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Checked {
    pub start: Start,
    window: u16,
    check: [u8; 2],
}

// SAFETY: packed integers.
unsafe impl Wire for Checked {}

impl Checked {
    /// The checksum, as it stands in the header.
    #[inline(always)]
    pub const fn check(&self, is_tcp: bool) -> [u8; 2] {
        if is_tcp { self.check } else { self.start.udp_check.to_ne_bytes() }
    }

    /// Writes ports, in the form of [`Start::ports`], and a checksum.
    #[inline(always)]
    pub const fn set(&mut self, is_tcp: bool, ports: u32, check: [u8; 2]) {
        self.start.ports = ports.to_le();
        if is_tcp {
            self.check = check;
        } else {
            self.start.udp_check = u16::from_ne_bytes(check);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::Frame,
        wire::packet::{Packet, Places},
    };

    #[test]
    fn it_is_read_as_every_transport_header_is() {
        let bytes: Vec<u8> = (0..14).collect();
        let frame = Frame::new(&bytes);
        let place = frame.place::<Start>(0).unwrap();
        for protocol in [protocol::TCP, protocol::UDP] {
            let (head, same) = (frame.at(place).head(protocol), Head::read(&frame, protocol, 0).unwrap());
            assert_eq!((head.ports, head.more), (same.ports, same.more));
        }
        assert!(frame.place::<Start>(1).is_none());
        assert!(frame.has_from(place, frame.len()) && !frame.has_from(place, 15));
    }
}
