//! TCP (RFC 9293), as far as forwarding and resets need it.

use network_types::tcp::TcpHdr;

use super::packet::{Packet, Wire, after};

/// TCP flags, as they stand in byte 13 of the header.
pub mod flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// Bytes of a TCP header without options.
pub const LEAST: usize = TcpHdr::LEN;

/// Offset of the flags in a TCP header.
pub const FLAGS: usize = 13;

/// Offset of the data offset.
pub(super) const DATA_OFFSET: usize = 12;
/// Maximum length of the options in bytes.
pub(super) const MAX_OPTIONS: usize = 40;
/// Kinds of options (RFC 9293, section 3.1; RFC 7323), and the lengths of those that are searched for.
pub(super) const END: u8 = 0;
pub const NO_OPERATION: u8 = 1;
pub const MSS: u8 = 2;
pub const MSS_LENGTH: u8 = 4;
pub const TIMESTAMPS: u8 = 8;
pub const TIMESTAMPS_LENGTH: u8 = 10;
/// Bits that the offset behind an option can have, even of the longest one in the last byte of the longest options.
const OPTIONS: usize = 0x1ff;

/// Bytes of a header with this data offset and these flags, as they stand in it.
#[inline(always)]
pub(super) const fn header_length(offset_and_flags: u16) -> usize {
    // The upper four bits of the first byte count words of four bytes.
    (u16::from_le(offset_and_flags) >> 2 & 0x3c) as usize
}

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
    /// Sequence number of the first byte.
    #[inline(always)]
    pub const fn sequence(&self) -> u32 {
        u32::from_be(self.sequence)
    }

    /// Sequence number that is expected next from the other side; meaningless without ACK.
    #[inline(always)]
    pub const fn acknowledged(&self) -> u32 {
        u32::from_be(self.acknowledged)
    }

    /// Bytes of the header.
    #[inline(always)]
    pub const fn header_length(&self) -> usize {
        header_length(self.offset_and_flags)
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

/// Offset of the value of an option of this kind and length, counted from the start of the TCP header at `tcp`.
#[inline(always)]
pub fn find_option<P: Packet>(packet: &P, tcp: usize, wanted: u8, wanted_length: u8) -> Option<usize> {
    let [words] = packet.load(after(tcp, DATA_OFFSET))?;
    let length = usize::from(words >> 4) * 4;
    let options = length.checked_sub(TcpHdr::LEN)?;
    let start = after(tcp, TcpHdr::LEN);
    let mut at = 0;
    for _ in 0..MAX_OPTIONS {
        // The options end with the header, so an option that lies within them can be read as a whole.
        if at >= options {
            return None;
        }
        let [kind] = packet.load(after(start, at))?;
        if kind == END {
            return None;
        }
        let mut long = 1;
        if kind != NO_OPERATION {
            let [length] = packet.load(after(start, after(at, 1)))?;
            if kind == wanted {
                let fits = length == wanted_length && after(at, usize::from(wanted_length)) <= options;
                return if fits { Some(after(TcpHdr::LEN, after(at, 2))) } else { None };
            }
            if length < 2 {
                return None;
            }
            long = usize::from(length);
        }
        at = packet.merge_paths(after(at, long), OPTIONS);
    }
    None
}

/// Whether flags are those of a SYN that starts a connection.
#[inline(always)]
pub(super) const fn is_start(all: u8) -> bool {
    all & (flags::SYN | flags::ACK | flags::RST | flags::FIN) == flags::SYN
}
