//! Which packets may be answered, and by what: every "must not" of RFC 1122 (section 3.2.2), RFC 1812 (section 4.3.2.7),
//! RFC 4443 (section 2.4 e) and RFC 9293 (section 3.10.7.1).
//!
//! Frames to several hosts never get here: only frames to an address of the interface are accepted. In doubt nothing is
//! sent. RFC 4443 allows a packet too big about a multicast, for the discovery of a multicast path's MTU; it is not sent
//! here either, since nothing multicast is forwarded.

use network_types::tcp::TcpHdr;

use super::Reply;
use crate::{
    abi::Exit,
    step::{AnswerKind, Decision},
    wire::{
        icmp::Message,
        ip::{Family as _, Payload},
        ipv4::V4,
        ipv6::V6,
        link::Link,
        packet::{OFFSETS, Packet, after},
        protocol,
        tcp::{FLAGS, flags},
    },
};

/// Length in bytes of the longest segment whose checksum is computed, as on Ethernet. A longer one is not answered; without
/// an answer, its sender's next one is as a rule shorter.
const MAX_SEGMENT: usize = 1_500;

/// Whether the frame may get the answer of this decision.
#[inline(always)]
pub(super) fn permitted<P: Packet>(packet: &P, decided: Decision) -> bool {
    match Link::parse(packet) {
        Some(link) if link.ether_type == V4::ETHER_TYPE => of_family::<V4, P>(packet, link, decided),
        Some(link) if link.ether_type == V6::ETHER_TYPE => of_family::<V6, P>(packet, link, decided),
        _ => false,
    }
}

#[inline(always)]
fn of_family<F: Reply, P: Packet>(packet: &P, link: Link, decided: Decision) -> bool {
    let Some(header) = packet.view::<F::Header>(link.l3) else { return false };
    if !F::answerable(header) || !F::is_intact(packet, link.l3, header) {
        return false;
    }
    let (protocol, offset, fragment) = match F::payload(packet, link.l3, header) {
        Payload::Transport(at) => (at.protocol, at.offset, None),
        Payload::Fragment(fragment) => (fragment.at.protocol, fragment.at.offset, Some(fragment.before)),
        Payload::Hidden | Payload::Malformed => return false,
    };
    let message = match decided.answer() {
        Some(AnswerKind::EchoReply) => return true,
        Some(AnswerKind::Reset) => {
            return fragment.is_none() && resettable::<F, P>(packet, link, offset).unwrap_or(false);
        }
        Some(AnswerKind::Error(message)) => message,
        None => return false,
    };
    let fits = message == Message::TooBig && decided.exit() != Exit::NatTooBig;
    (!fits || F::dont_fragment(header)) && F::permits(message, protocol, fragment.unwrap_or(0))
}

/// Whether a RST may be sent to the whole segment at `offset`: the segment is no RST, and its checksum is right. A segment
/// that was damaged on its way may belong to another connection than that of its ports.
#[inline(always)]
fn resettable<F: Reply, P: Packet>(packet: &P, link: Link, offset: usize) -> Option<bool> {
    let header: &F::Header = packet.view(link.l3)?;
    let offset = packet.merge_paths(offset, OFFSETS);
    let [was] = packet.load(after(offset, FLAGS))?;
    let length = after(link.l3, F::length(header)).wrapping_sub(offset);
    if was & flags::RST != 0 || !(TcpHdr::LEN..=MAX_SEGMENT).contains(&length) {
        return None;
    }
    let sum = F::pseudo_header(header, protocol::TCP, length as u16).packet(packet, offset, length)?;
    Some(sum.finish() == [0; 2])
}
