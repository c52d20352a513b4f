//! The start of a TCP or UDP header, directly behind the network header as in nearly all packets.

use super::{packet::Wire, protocol, transport::Head};

/// The part of a transport header that forwarding needs of TCP, read in place. It is read of UDP as well: few UDP packets
/// are so short that the frame ends in it.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Start {
    /// Of TCP and UDP.
    ports: u32,
    /// Of UDP.
    length: u16,
    rest: [u16; 3],
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

    #[inline(always)]
    pub fn head(&self, protocol: u8) -> Head {
        let more = if protocol == protocol::TCP { self.offset_and_flags } else { self.length };
        Head { ports: self.ports(), more: u16::from_le(more) }
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
