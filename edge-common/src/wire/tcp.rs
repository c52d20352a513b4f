//! TCP (RFC 9293), as far as forwarding and resets need it.

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
pub(super) struct TcpStart {
    pub(super) ports: u32,
    numbers: [u32; 2],
    pub(super) offset_and_flags: u16,
}

// SAFETY: packed integers.
unsafe impl Wire for TcpStart {}

/// Whether flags are those of a SYN that starts a connection.
#[inline(always)]
pub(super) const fn is_start(all: u8) -> bool {
    all & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN
}
