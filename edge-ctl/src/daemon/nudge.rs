//! Nudges the clients of a dead backend in `nat`, so that they do not wait for a timeout of their own.
//!
//! A client gets a segment of its connection that it can't accept: an ACK of numbers that are not its own. A client whose
//! SYN was lost answers with a RST and, on Linux, sends its SYN again at once (RFC 9293, section 3.10.7.3), which goes to
//! another backend. A client of an established connection answers with an ACK (section 3.10.7.4), to which the packet path
//! answers with a RST that the client accepts. Neither believes the nudge itself.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
};

use edge_common::{
    abi::FlowEnds,
    wire::{checksum::Sum, protocol, tcp},
};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket};

use crate::control::frames;

/// Most clients that one death nudges: others wait until they send something.
pub(super) const MOST: usize = 4096;

/// Bytes of the segment.
const LENGTH: u16 = 20;
/// Offset of the checksum in a TCP header, and bytes of an Ethernet header.
const CHECKSUM: usize = 16;
const ETHERNET: usize = 14;

/// Raw sockets, which send packets of any source.
#[derive(Debug)]
pub(super) struct Nudger {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Nudger {
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub(super) fn new() -> io::Result<Self> {
        let raw = |family| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(family, SockType::Raw, flags, SockProtocol::Raw)
        };
        Ok(Self { v4: raw(AddressFamily::Inet)?, v6: raw(AddressFamily::Inet6)? })
    }

    /// Nudges the client of a connection. A packet that can't be sent is lost, like any other.
    pub(super) fn nudge(&self, ends: &FlowEnds) {
        // A flow's client and VIP have one IP version.
        let socket = if ends.client.is_ipv4() { &self.v4 } else { &self.v6 };
        // A raw socket of IPv6 takes no port.
        let to = SockaddrStorage::from(SocketAddr::new(ends.client, 0));
        let _lost = sendto(socket.as_raw_fd(), &packet(ends), &to, MsgFlags::MSG_DONTWAIT);
    }
}

/// An ACK from the VIP whose numbers are zero.
fn packet(ends: &FlowEnds) -> Vec<u8> {
    let mut segment = frames::tcp(ends.port, ends.client_port, tcp::flags::ACK);
    let sum = Sum(0).word([0, protocol::TCP]).word(LENGTH.to_be_bytes());
    let sum = [ends.vip, ends.client].into_iter().fold(sum, |sum, address| match address {
        IpAddr::V4(address) => sum.words(address.octets()),
        IpAddr::V6(address) => sum.address_v6(address.octets()),
    });
    let check = segment.chunks_exact(2).fold(sum, |sum, word| sum.word([word[0], word[1]])).finish();
    segment[CHECKSUM..CHECKSUM + 2].copy_from_slice(&check);
    frames::frame([0; 6], ends.vip, ends.client, protocol::TCP, &segment).split_off(ETHERNET)
}
