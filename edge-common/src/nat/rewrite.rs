//! Rewrites the addresses and ports of a packet.

use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
};

use crate::{
    lookup::Lookup,
    wire::{
        checksum::Sum,
        ip::Transport,
        ipv4::V4,
        ipv6::V6,
        packet::{Packet, after},
        protocol,
    },
};

/// Offsets of the checksum in a TCP header and in a UDP header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

const _: () = assert!(TCP_CHECKSUM < TcpHdr::LEN);

/// Both ends of a packet: addresses in the form of a [`Flow`](crate::flow_table::Flow), and ports in the form of
/// [`Head`](crate::wire::transport::Head).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source: [u64; 2],
    pub(super) destination: [u64; 2],
    pub(super) ports: u32,
}

impl Ends {
    /// The change of a sum that covers addresses and ports.
    #[inline(always)]
    pub(super) const fn change(&self, was: &Self) -> Sum {
        self.address_change(was).without(was.ports.to_le()).with(self.ports.to_le())
    }

    /// The ends of a packet in the other direction.
    #[inline(always)]
    pub(super) const fn reversed(self) -> Self {
        let Self { source, destination, ports } = self;
        Self { source: destination, destination: source, ports: ports.rotate_left(16) }
    }

    /// The change of a sum that covers the addresses alone.
    #[inline(always)]
    pub(super) const fn address_change(&self, was: &Self) -> Sum {
        address_change(address_change(Sum(0), was.source, self.source), was.destination, self.destination)
    }
}

#[inline(always)]
pub(super) const fn address_change(sum: Sum, [a, b]: [u64; 2], [c, d]: [u64; 2]) -> Sum {
    sum.without(a as u32)
        .without((a >> 32) as u32)
        .without(b as u32)
        .without((b >> 32) as u32)
        .with(c as u32)
        .with((c >> 32) as u32)
        .with(d as u32)
        .with((d >> 32) as u32)
}

/// An IP version whose packets are translated.
pub(super) trait Translated: Lookup {
    /// An address of this IP version in the form of a flow.
    fn words(address: &Self::Address) -> [u64; 2];

    /// Replaces the addresses of a header; `change` is that of a sum over the header.
    fn set_addresses(header: &mut Self::Header, source: [u64; 2], destination: [u64; 2], change: Sum);
}

impl Translated for V4 {
    #[inline(always)]
    fn words(address: &[u8; 4]) -> [u64; 2] {
        [u32::from_ne_bytes(*address).into(), 0]
    }

    #[inline(always)]
    fn set_addresses(header: &mut Ipv4Hdr, source: [u64; 2], destination: [u64; 2], change: Sum) {
        header.src_addr = (source[0] as u32).to_ne_bytes();
        header.dst_addr = (destination[0] as u32).to_ne_bytes();
        header.check = change.after(header.check);
    }
}

impl Translated for V6 {
    #[inline(always)]
    fn words(address: &[u8; 16]) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
        [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
    }

    #[inline(always)]
    fn set_addresses(header: &mut Ipv6Hdr, source: [u64; 2], destination: [u64; 2], _change: Sum) {
        header.src_addr = bytes(source);
        header.dst_addr = bytes(destination);
    }
}

#[inline(always)]
const fn bytes([high, low]: [u64; 2]) -> [u8; 16] {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (high.to_ne_bytes(), low.to_ne_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Replaces the ports of a transport header, and updates its checksum, which stays wrong if it was wrong.
#[inline(always)]
pub(super) fn transport<P: Packet>(packet: &mut P, at: Transport, ports: u32, change: Sum) -> Option<()> {
    packet.store(at.offset, ports.to_le_bytes())?;
    let is_tcp = at.protocol == protocol::TCP;
    let place = after(at.offset, if is_tcp { TCP_CHECKSUM } else { UDP_CHECKSUM });
    let was: [u8; 2] = packet.load(place)?;
    packet.store(place, check_after(was, change, is_tcp))
}

/// The checksum of a transport header after the covered data has changed by `change`.
#[inline(always)]
pub(super) fn check_after(was: [u8; 2], change: Sum, is_tcp: bool) -> [u8; 2] {
    if is_tcp {
        return change.after(was);
    }
    // A UDP datagram over IPv4 may have no checksum.
    if was == [0; 2] {
        return was;
    }
    let now = change.after(was);
    if now == [0; 2] { [0xff; 2] } else { now }
}
