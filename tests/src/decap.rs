//! What a decapsulating backend is told of addresses, in the maps of a loaded object.

use aya::{
    Ebpf,
    maps::{HashMap, LpmTrie, lpm_trie::Key},
};
use edge_common::{
    abi::{VipPrefix, map},
    host::Memory,
};

/// What a key of `DECAP_VIPS` has behind its number of bits.
type VipData = [u8; VipPrefix::PADDING + 16];

/// Writes what `memory` has of it into the maps, and nothing else is there then.
///
/// # Panics
/// When it is another object, or its maps have no room.
pub fn fill(object: &mut Ebpf, memory: &Memory) {
    let addresses = object.map_mut(map::DECAP_ADDRESSES).expect("DECAP_ADDRESSES");
    let mut addresses: HashMap<_, [u8; 16], u32> = HashMap::try_from(addresses).expect("a hash map");
    let old: Vec<_> = addresses.keys().map(|key| key.expect("nobody else changes it")).collect();
    for address in old {
        addresses.remove(&address).expect("it was there");
    }
    for (address, roles) in &memory.decap_addresses {
        addresses.insert(address, roles, 0).expect("room for an address");
    }
    let vips = object.map_mut(map::DECAP_VIPS).expect("DECAP_VIPS");
    let mut vips: LpmTrie<_, VipData, u32> = LpmTrie::try_from(vips).expect("a trie");
    let old: Vec<_> = vips.keys().map(|key| key.expect("nobody else changes it")).collect();
    for vip in old {
        vips.remove(&vip).expect("it was there");
    }
    for vip in &memory.decap_vips {
        let (bits, data) = vip.key();
        vips.insert(&Key::new(bits, data), 1, 0).expect("room for a VIP");
    }
}
