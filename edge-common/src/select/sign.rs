//! What a packet shows of its flow: whether it begins, runs or ends, and whose it is.

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

/// What a packet shows of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
    pub signal: Signal,
    /// What only who has begun the flow knows: of TCP the sequence number. Of QUIC it is 0 in a packet of the handshake, and
    /// behind it in any other.
    pub quotes: u32,
    /// What the next packet of the flow quotes if this one begins it ([`Served::sequence`]).
    pub expects: u32,
}

impl Sign {
    /// Of a packet that is none of its flow.
    pub const NONE: Self = Self { signal: Signal::Bare, quotes: 0, expects: 0 };

    /// Of the packet whose transport header is `at`, and which ends at `end`. `None` if the frame ends before it.
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

/// What TCP flags show.
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
