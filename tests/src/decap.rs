//! Fills an object's maps of the addresses that a decapsulating backend knows.

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, lpm_trie::Key},
};
use edge_common::{
    abi::{AddressPrefix, DecapSettings, map},
    host::Memory,
};

/// The data of a prefix map's key, which follows the number of bits.
type PrefixData = [u8; AddressPrefix::PADDING + 16];

/// Replaces the addresses, VIPs, edges and settings of `object`'s maps by those of `memory`.
///
/// # Panics
/// If the object lacks these maps, or they are too small.
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
    for (name, prefixes) in [(map::DECAP_VIPS, &memory.decap_vips), (map::DECAP_EDGES, &memory.decap_edges)] {
        let trie = object.map_mut(name).expect("a map of prefixes");
        let mut trie: LpmTrie<_, PrefixData, u32> = LpmTrie::try_from(trie).expect("a trie");
        let old: Vec<_> = trie.keys().map(|key| key.expect("nobody else changes it")).collect();
        for prefix in old {
            trie.remove(&prefix).expect("it was there");
        }
        for prefix in prefixes {
            let (bits, data) = prefix.key();
            trie.insert(&Key::new(bits, data), 1, 0).expect("room for a prefix");
        }
    }
    let settings = object.map_mut(map::DECAP_SETTINGS).expect("DECAP_SETTINGS");
    let mut settings: Array<_, [u8; 4]> = Array::try_from(settings).expect("an array");
    let DecapSettings { gue_port: [high, low], edge_prefixes, reserved } = memory.decap_settings;
    settings.set(0, [high, low, edge_prefixes, reserved], 0).expect("one entry");
}
