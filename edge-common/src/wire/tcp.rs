//! TCP (RFC 9293), as far as forwarding and resets need it.

use network_types::tcp::TcpHdr;

use super::packet::Wire;

/// TCP flags, as they stand in byte 13 of the header.
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// Offset of the flags in a TCP header.
pub const FLAGS: usize = 13;

/// The start of a TCP header, up to the flags.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct TcpStart {
    pub(super) ports: u32,
    sequence: u32,
    acknowledged: u32,
    pub(super) offset_and_flags: u16,
}

// SAFETY: packed integers.
unsafe impl Wire for TcpStart {}

impl TcpStart {
    /// Number of the first byte.
    #[inline(always)]
    pub const fn sequence(&self) -> u32 {
        u32::from_be(self.sequence)
    }

    /// Bytes of the header.
    #[inline(always)]
    pub const fn header_length(&self) -> usize {
        // The upper four bits of the first byte, in words of four.
        (u16::from_le(self.offset_and_flags) >> 2 & 0x3c) as usize
    }

    #[inline(always)]
    pub const fn flags(&self) -> u8 {
        (u16::from_le(self.offset_and_flags) >> 8) as u8
    }
}

/// A TCP header without options, as it stands in a frame.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    pub ports: [u8; 4],
    pub sequence: [u8; 4],
    pub acknowledged: [u8; 4],
    pub offset_and_flags: [u8; 2],
    pub window: [u8; 2],
    pub check: [u8; 2],
    pub urgent: [u8; 2],
}

// SAFETY: bytes.
unsafe impl Wire for Header {}

const _: () = assert!(size_of::<Header>() == TcpHdr::LEN);

/// Whether flags are those of a SYN that starts a connection.
#[inline(always)]
pub(super) const fn is_start(all: u8) -> bool {
    all & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN
}
