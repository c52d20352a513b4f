//! What a packet shows about its flow: whether the flow starts, continues or ends, and whether the packet is genuine.

#[cfg(doc)]
use crate::flow_table::Served;
use crate::{
    flow_table::Signal,
    wire::{
        ip::Transport,
        packet::{Packet, after},
        protocol, quic,
        tcp::{TcpStart, flags},
    },
};

/// The sign of a flow in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    pub signal: Signal,
    /// A number that only the flow's client knows. For TCP, the sequence number. For QUIC, 0 in a handshake packet, and
    /// a number behind 0 in any other.
    pub quotes: u32,
    /// The number that the next packet of the flow quotes if this packet starts the flow ([`Served::sequence`]).
    pub expects: u32,
}

impl Sign {
    /// For a packet that only quotes the flow.
    pub const NONE: Self = Self { signal: Signal::Bare, quotes: 0, expects: 0 };

    /// Reads the packet whose transport header is at `at`, and which ends at `end`. `None` if the frame ends within the
    /// header.
    #[inline(always)]
    pub fn of<P: Packet>(packet: &P, at: Transport, end: usize) -> Option<Self> {
        if at.protocol == protocol::TCP {
            let start: &TcpStart = packet.view(at.offset)?;
            let sequence = start.sequence();
            let has_data = after(at.offset, start.header_length()) < end;
            return Some(Self {
                signal: signal(start.flags(), has_data),
                quotes: sequence,
                expects: sequence.wrapping_add(1),
            });
        }
        let quotes = if quic::is_handshake(packet, at.offset) { 0 } else { u32::MAX };
        Some(Self { signal: Signal::Data, quotes, expects: 0 })
    }
}

/// The signal that TCP flags give.
#[inline(always)]
const fn signal(all: u8, has_data: bool) -> Signal {
    if all & flags::RST != 0 {
        Signal::Reset
    } else if all & flags::FIN != 0 {
        Signal::Fin
    } else if all & flags::SYN != 0 {
        Signal::Syn
    } else if has_data {
        Signal::Data
    } else {
        Signal::Bare
    }
}
