//! Reads from a packet of a translated flow what its entry needs. The code that follows is the same for both IP versions.

use super::{rewrite::Translated, sign::Sign};
use crate::{
    abi::HashKey,
    flow_table::Flow,
    hash::Hash,
    step::FlowLocation,
    wire::{ip::Transport, ipv4::V4, ipv6::V6, packet::Packet},
};

/// The parts of a packet that its entry depends on.
pub(super) struct Read {
    pub(super) source: [u64; 2],
    pub(super) destination: [u64; 2],
    /// Ports in the form of [`Head`](crate::wire::transport::Head).
    pub(super) ports: u32,
    pub(super) protocol: u8,
    pub(super) v6: bool,
    /// IP version, as a number whose value is unknown to the verifier.
    version: u64,
    pub(super) ttl: u8,
    pub(super) sign: Sign,
}

impl Read {
    /// Reads the packet at `location`; `None` if the frame ends before its ports.
    #[inline(always)]
    pub(super) fn at<P: Packet>(packet: &P, location: FlowLocation) -> Option<Self> {
        let at = Transport { protocol: location.protocol, offset: location.l4 };
        let ports = u32::from_le_bytes(packet.load(at.offset)?);
        let sign = Sign::of(packet, at)?;
        Self::with(packet, location, ports, sign)
    }

    #[inline(always)]
    fn with<P: Packet>(packet: &P, location: FlowLocation, ports: u32, sign: Sign) -> Option<Self> {
        let ([a, b, c, d], ttl) = if location.v6 {
            addresses::<V6, P>(packet, location.l3)?
        } else {
            addresses::<V4, P>(packet, location.l3)?
        };
        // Merged, or the verifier would check all that follows once for each IP version.
        let merged = |word: u64| packet.merge_paths(word as usize, usize::MAX) as u64;
        let (source, destination) = ([merged(a), merged(b)], [merged(c), merged(d)]);
        let version = merged(if location.v6 { 6 } else { 4 }) & 7;
        let (protocol, v6) = (location.protocol, location.v6);
        Some(Self { source, destination, ports, protocol, v6, version, ttl, sign })
    }

    /// Reads a packet that an error quotes, which may be cut off behind its ports.
    #[inline(always)]
    pub(super) fn quoted<P: Packet>(packet: &P, location: FlowLocation) -> Option<Self> {
        let ports = u32::from_le_bytes(packet.load(location.l4)?);
        Self::with(packet, location, ports, Sign::NONE)
    }

    /// The packet's flow, if the packet went to the client.
    #[inline(always)]
    pub(super) const fn reversed(&self) -> Flow {
        let Self { source, destination, ports, protocol, version, .. } = *self;
        Flow::of_version(destination, source, ports.rotate_left(16), protocol, version)
    }

    /// Hash of the prefix of the client that sent the packet: /24, or /56.
    #[inline(always)]
    pub(super) const fn client(&self, key: &HashKey) -> Hash {
        let [first, _] = self.source;
        let prefix = if self.v6 { u64::from_be(first) >> 8 } else { (u32::from_be(first as u32) >> 8) as u64 };
        key.hash_words([prefix, 0, 0, 0, 0])
    }

    /// The packet's flow, if a client sent the packet.
    #[inline(always)]
    pub(super) const fn flow(&self) -> Flow {
        let Self { source, destination, ports, protocol, version, .. } = *self;
        Flow::of_version(source, destination, ports, protocol, version)
    }
}

/// Source and destination, and TTL or hop limit.
#[inline(always)]
fn addresses<F: Translated, P: Packet>(packet: &P, l3: usize) -> Option<([u64; 4], u8)> {
    let header: &F::Header = packet.view(l3)?;
    let ([a, b], [c, d]) = (F::words(F::source(header)), F::words(F::destination(header)));
    Some(([a, b, c, d], F::ttl(header)))
}
