//! The parts of the maps that differ between address families: entries of the service index, hashes, and flow keys.

use super::service_index;
use crate::{
    abi::{Backend, Exit, FlowKeyV4, FlowKeyV6, Generation, HashKey, ServiceKeyV4, ServiceKeyV6, ServiceRef},
    flow_table,
    hash::Hash,
    maps::{Fragments, Maps, View},
    step::Decision,
    wire::{ip::Family, ipv4::V4, ipv6::V6},
};

/// An address family, with its maps.
pub trait Lookup: Family {
    /// Key of a flow or, with an identification in place of the ports, of a fragmented packet.
    type FlowKey;

    /// Whether `address` is an outer source address of this edge's tunnels in this family.
    fn is_tunnel_source(generation: &Generation, address: &Self::Address) -> bool;

    /// Whether packets in `ipip` of a flow with this flow label have the source `address`.
    fn is_source_of(generation: &Generation, address: &Self::Address, label: u32) -> bool;

    /// Whether a backend has this address.
    fn is_backend(backend: &Backend, address: &Self::Address) -> bool;

    /// Looks a VIP, with `port` (network order) and `protocol`, up in the service index.
    fn find<M: Maps>(maps: &M, view: View<'_>, vip: &Self::Address, port: [u8; 2], protocol: u8) -> Option<ServiceRef>;

    /// Like [`Self::find`], but where the port has no entry, finds the service that takes every port of the VIP.
    #[inline(always)]
    fn find_any<M: Maps>(
        maps: &M,
        view: View<'_>,
        vip: &Self::Address,
        port: [u8; 2],
        protocol: u8,
    ) -> Option<ServiceRef> {
        match Self::find(maps, view, vip, port, protocol) {
            None if Self::may_be_any_port(view.generation, vip) => Self::find(maps, view, vip, [0; 2], protocol),
            found => found,
        }
    }

    /// Whether `address` may be a VIP with a service that takes every port.
    #[inline(always)]
    fn may_be_any_port(generation: &Generation, address: &Self::Address) -> bool {
        generation.any_port != 0 && Self::may_be_vip(generation, address)
    }

    /// The VIP's own entry, whatever the port; `None` if `address` is no VIP.
    #[inline(always)]
    fn vip<M: Maps>(maps: &M, view: View<'_>, address: &Self::Address) -> Option<ServiceRef> {
        match Self::find(maps, view, address, [0; 2], Self::ICMP) {
            Some(service_ref) if service_ref.is_vip() => Some(service_ref),
            Some(_) | None => None,
        }
    }

    /// The number, below 64, of an address's bit in [`Generation::vip_bits`].
    fn vip_bit(address: &Self::Address) -> u32;

    /// Whether `address` may be a VIP. Most other addresses are excluded by this without a lookup.
    #[inline(always)]
    fn may_be_vip(generation: &Generation, address: &Self::Address) -> bool {
        generation.vip_bits >> Self::vip_bit(address) & 1 != 0
    }

    /// The decision about a packet to `address` that is for no service: not ours if `address` is no VIP, which mostly shows
    /// without a lookup; otherwise `exit`, if the VIP is an address of the host.
    #[inline(always)]
    fn unserved(view: View<'_>, address: &Self::Address, exit: Exit) -> Decision {
        if Self::may_be_vip(view.generation, address) {
            Decision::unserved(exit, view.bank)
        } else {
            Exit::NotOurs.into()
        }
    }

    /// Hash of a client's flow; `ports` as [`Head`](crate::wire::transport::Head) has them.
    fn flow(key: &HashKey, client: &Self::Address, ports: u32) -> Hash;

    /// Hash of the first `prefix` bits of a client's address.
    fn flow_of_source(key: &HashKey, client: &Self::Address, prefix: u8) -> Hash;

    /// A client's flow to a VIP; `ports` as [`Head`](crate::wire::transport::Head) has them.
    fn flow_key(client: &Self::Address, vip: &Self::Address, ports: u32, protocol: u8) -> Self::FlowKey;

    /// A client's flow to a VIP in the form of the flow table.
    fn flow_between(client: &Self::Address, vip: &Self::Address, ports: u32, protocol: u8) -> flow_table::Flow;

    fn fragments<M: Maps>(maps: &M) -> impl Fragments<Self::FlowKey>;
}

impl Lookup for V4 {
    type FlowKey = FlowKeyV4;

    #[inline(always)]
    fn is_tunnel_source(generation: &Generation, address: &[u8; 4]) -> bool {
        let address = u32::from_ne_bytes(*address);
        let [source, first] = [generation.tunnel_source_v4, generation.tunnel_range_v4].map(u32::from_ne_bytes);
        is_one(address ^ source, address & !generation.tunnel_hosts_v4 ^ first)
    }

    #[inline(always)]
    fn is_source_of(generation: &Generation, address: &[u8; 4], label: u32) -> bool {
        let own = label.to_be() & generation.tunnel_hosts_v4;
        u32::from_ne_bytes(*address) == u32::from_ne_bytes(generation.tunnel_range_v4) | own
    }

    #[inline(always)]
    fn is_backend(backend: &Backend, address: &[u8; 4]) -> bool {
        backend.family == 4 && backend.address_v4() == *address
    }

    #[inline(always)]
    fn find<M: Maps>(maps: &M, view: View<'_>, vip: &[u8; 4], port: [u8; 2], protocol: u8) -> Option<ServiceRef> {
        let key = ServiceKeyV4::new(*vip, port, protocol);
        let generation = view.generation;
        service_index::find(&key, &generation.hash_key, generation.index_mask_v4, |position| {
            maps.service_entry_v4(view.bank, position)
        })
    }

    /// The highest bits of the product depend on the whole address.
    #[inline(always)]
    fn vip_bit(address: &[u8; 4]) -> u32 {
        u32::from_le_bytes(*address).wrapping_mul(0x9e37_79b1) >> 26
    }

    #[inline(always)]
    fn flow(key: &HashKey, client: &[u8; 4], ports: u32) -> Hash {
        key.hash_v4(*client, ports)
    }

    #[inline(always)]
    fn flow_of_source(key: &HashKey, client: &[u8; 4], prefix: u8) -> Hash {
        key.hash_source_v4(*client, prefix)
    }

    #[inline(always)]
    fn flow_key(client: &[u8; 4], vip: &[u8; 4], ports: u32, protocol: u8) -> FlowKeyV4 {
        FlowKeyV4 {
            client: u32::from_ne_bytes(*client),
            vip: u32::from_ne_bytes(*vip),
            ports,
            protocol: protocol.into(),
        }
    }

    #[inline(always)]
    fn flow_between(client: &[u8; 4], vip: &[u8; 4], ports: u32, protocol: u8) -> flow_table::Flow {
        flow_table::Flow::v4(*client, *vip, ports, protocol)
    }

    #[inline(always)]
    fn fragments<M: Maps>(maps: &M) -> impl Fragments<FlowKeyV4> {
        maps.fragments_v4()
    }
}

impl Lookup for V6 {
    type FlowKey = FlowKeyV6;

    #[inline(always)]
    fn is_tunnel_source(generation: &Generation, address: &[u8; 16]) -> bool {
        let [source, first] = [&generation.tunnel_source_v6, &generation.tunnel_range_v6].map(words);
        let [high, low] = words(address);
        let differs = |[a, b]: [u64; 2], low: u64| {
            let bits = a ^ high | b ^ low;
            (bits | bits >> 32) as u32
        };
        is_one(differs(source, low), differs(first, low & !last_word(generation.tunnel_hosts_v6)))
    }

    #[inline(always)]
    fn is_source_of(generation: &Generation, address: &[u8; 16], label: u32) -> bool {
        let [high, low] = words(&generation.tunnel_range_v6);
        words(address) == [high, low | last_word(label.to_be() & generation.tunnel_hosts_v6)]
    }

    #[inline(always)]
    fn is_backend(backend: &Backend, address: &[u8; 16]) -> bool {
        backend.family == 6 && words(&backend.address) == words(address)
    }

    #[inline(always)]
    fn find<M: Maps>(maps: &M, view: View<'_>, vip: &[u8; 16], port: [u8; 2], protocol: u8) -> Option<ServiceRef> {
        let key = ServiceKeyV6::new(*vip, port, protocol);
        let generation = view.generation;
        service_index::find(&key, &generation.hash_key, generation.index_mask_v6, |position| {
            maps.service_entry_v6(view.bank, position)
        })
    }

    #[inline(always)]
    fn vip_bit(address: &[u8; 16]) -> u32 {
        let [high, low] = words(address).map(u64::to_le);
        ((high ^ low).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as u32
    }

    #[inline(always)]
    fn flow(key: &HashKey, client: &[u8; 16], ports: u32) -> Hash {
        key.hash_v6(*client, ports)
    }

    #[inline(always)]
    fn flow_of_source(key: &HashKey, client: &[u8; 16], prefix: u8) -> Hash {
        key.hash_source_v6(*client, prefix)
    }

    #[inline(always)]
    fn flow_key(client: &[u8; 16], vip: &[u8; 16], ports: u32, protocol: u8) -> FlowKeyV6 {
        FlowKeyV6 { client: words(client), vip: words(vip), ports, protocol: protocol.into() }
    }

    #[inline(always)]
    fn flow_between(client: &[u8; 16], vip: &[u8; 16], ports: u32, protocol: u8) -> flow_table::Flow {
        flow_table::Flow::v6(words(client), words(vip), ports, protocol)
    }

    #[inline(always)]
    fn fragments<M: Maps>(maps: &M) -> impl Fragments<FlowKeyV6> {
        maps.fragments_v6()
    }
}

/// Whether at least one of two differences is zero, in a single comparison, so that the verifier follows two paths instead
/// of three.
#[inline(always)]
const fn is_one(one: u32, other: u32) -> bool {
    (one as u64).wrapping_mul(other as u64) == 0
}

/// The second word of an address whose last four bytes are `word`; its other bytes are zero.
#[inline(always)]
const fn last_word(word: u32) -> u64 {
    if cfg!(target_endian = "little") { (word as u64) << 32 } else { word as u64 }
}

/// An address in two words, in the order of its bytes.
#[inline(always)]
const fn words(address: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}
