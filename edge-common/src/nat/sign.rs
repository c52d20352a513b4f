//! Reads the signal and the sequence numbers in the transport header of a translated packet.

use network_types::tcp::TcpHdr;

use crate::{
    flow_table::Signal,
    wire::{
        ip::Transport,
        packet::{Packet, after},
        protocol,
        tcp::{self, TcpStart, flags},
    },
};

/// The signal and the sequence numbers in a packet of TCP; 0 for other protocols.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign {
    pub(super) signal: Signal,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
}

impl Sign {
    /// For a packet that shows nothing: of a protocol without connections, or quoted by an error.
    pub(super) const NONE: Self = Self { signal: Signal::Data, sequence: 0, acknowledged: 0 };

    /// Reads the packet whose transport header is at `at`; `None` if the frame ends within the header.
    #[inline(always)]
    pub(super) fn of<P: Packet>(packet: &P, at: Transport) -> Option<Self> {
        if at.protocol != protocol::TCP {
            return Some(Self::NONE);
        }
        let start: &TcpStart = packet.view(at.offset)?;
        let all = start.flags();
        let signal = if all & flags::RST != 0 {
            Signal::Reset
        } else if all & flags::FIN != 0 {
            Signal::Fin
        } else if all & flags::SYN != 0 {
            Signal::Syn
        } else {
            Signal::Data
        };
        Some(Self { signal, sequence: start.sequence(), acknowledged: start.acknowledged() })
    }
}

/// Limit of the distance from the upper half of the number that a backend's SYN-ACK begins with to a number that the
/// client acknowledges: the largest first window that a client acknowledges (RFC 6928), and the lower half.
const FIRST_WINDOW: u32 = 2 << 16;

/// Parts of both numbers of a backend's SYN-ACK: the upper half of the number that the client is to acknowledge, and the
/// lower half of the number that the backend acknowledges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake(pub(super) u32);

impl Handshake {
    const UPPER: u32 = 0xffff_0000;

    #[inline(always)]
    pub(super) const fn of(Sign { sequence, acknowledged, .. }: Sign) -> Self {
        Self(sequence.wrapping_add(1) & Self::UPPER | acknowledged & !Self::UPPER)
    }

    /// Whether a client that acknowledges this number has received the SYN-ACK: a number made up passes once in 32,768
    /// times.
    #[inline(always)]
    pub(super) const fn is_confirmed_by(self, acknowledged: u32) -> bool {
        acknowledged.wrapping_sub(self.0 & Self::UPPER) < FIRST_WINDOW
    }

    /// Whether a backend that acknowledges this number may have received no more than the SYN.
    #[inline(always)]
    pub(super) const fn is_repeated_by(self, acknowledged: u32) -> bool {
        acknowledged as u16 == self.0 as u16
    }
}

/// The value by which a Linux host in `TIME_WAIT` judges a new SYN (RFC 6191): the SYN's timestamp, or without one its
/// sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub is_timestamp: bool,
    pub value: u32,
}

impl Stamp {
    /// Reads the TCP segment at `offset`.
    #[inline(always)]
    pub(super) fn of<P: Packet>(packet: &P, offset: usize) -> Option<Self> {
        if let Some(at) = tcp::find_option(packet, offset, tcp::TIMESTAMPS, tcp::TIMESTAMPS_LENGTH)
            && let Some(value) = packet.load(after(offset, at))
        {
            return Some(Self { is_timestamp: true, value: u32::from_be_bytes(value) });
        }
        let start: &TcpStart = packet.view(offset)?;
        Some(Self { is_timestamp: false, value: start.sequence() })
    }

    /// The value of a later segment of a connection; `is_stamped` if the connection's SYN had a timestamp. In such
    /// segments the timestamps come first, aligned as in RFC 7323 (appendix A); `None` if they do not.
    #[inline(always)]
    pub(super) fn of_running<P: Packet>(packet: &P, offset: usize, is_stamped: bool) -> Option<u32> {
        if !is_stamped {
            return packet.view(offset).map(TcpStart::sequence);
        }
        let [a, b, kind, length, w, x, y, z] = packet.load(after(offset, TcpHdr::LEN))?;
        let is_there = a == tcp::NO_OPERATION
            && b == tcp::NO_OPERATION
            && kind == tcp::TIMESTAMPS
            && length == tcp::TIMESTAMPS_LENGTH;
        if is_there { Some(u32::from_be_bytes([w, x, y, z])) } else { None }
    }

    /// Whether a host whose connection ended with `last` accepts a SYN with this stamp in its place.
    #[inline(always)]
    pub(super) const fn comes_after(self, last: Self) -> bool {
        self.is_timestamp == last.is_timestamp && self.value.wrapping_sub(last.value).cast_signed() > 0
    }
}
