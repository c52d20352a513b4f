//! The frames that the bench sends.

use edge_common::ip::protocol;

use super::world::{FIRST_PORT, Side};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    TcpData,
    TcpSyn,
    Udp,
}

impl Content {
    pub(super) const fn protocol(self) -> u8 {
        match self {
            Self::TcpData | Self::TcpSyn => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TcpData => "tcp",
            Self::TcpSyn => "tcp_syn",
            Self::Udp => "udp",
        }
    }
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    Fragment,
    /// Says that it is longer than the frame.
    CutOff,
}

/// Bytes after the transport header.
const DATA: usize = 64;
/// `02:00:00:00:ed:01` from `02:00:00:00:cc:01`.
const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0xed, 1, 2, 0, 0, 0, 0xcc, 1];

/// A frame to a VIP. The driver stamps the source and both ports into it.
pub(super) fn ip(vip: &[u8], content: Content, flaw: Flaw) -> (Vec<u8>, Side) {
    let transport = transport(content);
    let length = u16::try_from(transport.len()).expect("a small frame");
    let wrong = if flaw == Flaw::CutOff { 100 } else { 0 };
    let mut frame = ADDRESSES.to_vec();
    let side = if vip.len() == 4 { Side::V4 } else { Side::V6 };
    if side == Side::V4 {
        let [high, low] = (20 + length + wrong).to_be_bytes();
        let fragment = if flaw == Flaw::Fragment { 0x20 } else { 0x40 };
        frame.extend([8, 0, 0x45, 0, high, low, 0, 1, fragment, 0, 64, content.protocol(), 0, 0, 198, 18, 0, 0]);
        frame.extend(vip);
    } else {
        let fragment = flaw == Flaw::Fragment;
        let [high, low] = (length + wrong + if fragment { 8 } else { 0 }).to_be_bytes();
        let next = if fragment { 44 } else { content.protocol() };
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, next, 64]);
        frame.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(vip);
        if fragment {
            frame.extend([content.protocol(), 0, 0, 1, 0, 0, 0, 1]);
        }
    }
    frame.extend(transport);
    (frame, side)
}

fn transport(content: Content) -> Vec<u8> {
    let [high, low] = FIRST_PORT.to_be_bytes();
    let mut bytes = vec![0x40, 0, high, low];
    match content {
        Content::Udp => bytes.extend([0, 8 + u8::try_from(DATA).expect("a few bytes"), 0, 0]),
        Content::TcpData => bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]),
        Content::TcpSyn => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]),
    }
    bytes.extend([0; DATA]);
    bytes
}

/// An ARP request, padded as on a wire.
pub(super) fn arp() -> (Vec<u8>, Side) {
    let mut frame = ADDRESSES.to_vec();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.resize(100, 0);
    (frame, Side::V4)
}
