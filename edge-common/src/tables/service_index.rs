//! Construction of the service index: each key goes to one of its two positions, after moving other keys to their second
//! ones if necessary (cuckoo hashing).

use std::net::IpAddr;

use crate::{
    abi::{HashKey, ServiceRef},
    lookup::{Lookup as _, service_index::Key},
    wire::{ipv4::V4, ipv6::V6},
};

/// Number of moves after which a table counts as too small. A table that is a quarter full needs a handful.
const MOST_MOVES: usize = 500;

/// Positions per key: three in four stay empty, so that the lookup of a destination without a service ends at once.
const POSITIONS: usize = 4;

/// The bits of these VIPs, as in [`Generation::vip_bits`](crate::abi::Generation::vip_bits).
pub fn vip_bits(vips: impl IntoIterator<Item = IpAddr>) -> u64 {
    let bit = |vip| match vip {
        IpAddr::V4(vip) => V4::vip_bit(&vip.octets()),
        IpAddr::V6(vip) => V6::vip_bit(&vip.octets()),
    };
    vips.into_iter().fold(0, |bits, vip| bits | 1 << bit(vip))
}

/// Builds a table of all `destinations`, as the packet path reads it. Its size is a power of two, as small as the keys
/// allow and at most `largest`; `None` if even that is too small. The result depends on the arguments alone.
pub fn build<K: Key>(destinations: &[(K, ServiceRef)], hash_key: &HashKey, largest: u32) -> Option<Vec<K::Entry>> {
    let smallest = u32::try_from(destinations.len() * POSITIONS).ok()?;
    let mut size = smallest.max(1).checked_next_power_of_two()?;
    while size <= largest {
        let positions = |n: usize| destinations[n].0.positions(hash_key, size - 1);
        if let Some(places) = place(destinations.len(), size, positions) {
            return Some(fill(destinations, &places, positions));
        }
        size = size.checked_mul(2)?;
    }
    None
}

/// The key among `0..count` that is stored at each of `size` positions; `None` if there are too many keys.
fn place(count: usize, size: u32, positions: impl Fn(usize) -> [u32; 2]) -> Option<Vec<Option<usize>>> {
    let mut places: Vec<Option<usize>> = vec![None; size as usize];
    for key in 0..count {
        let [first, second] = positions(key);
        let mut moving = key;
        let mut to = if places[first as usize].is_none() { first } else { second };
        let mut moves = 0;
        while let Some(evicted) = places[to as usize].replace(moving) {
            moves += 1;
            if moves > MOST_MOVES {
                return None;
            }
            let [first, second] = positions(evicted);
            to = if to == first { second } else { first };
            moving = evicted;
        }
    }
    Some(places)
}

fn fill<K: Key>(
    destinations: &[(K, ServiceRef)],
    places: &[Option<usize>],
    positions: impl Fn(usize) -> [u32; 2],
) -> Vec<K::Entry> {
    let entry = |n: usize| destinations[n].0.entry(destinations[n].1);
    let mut entries: Vec<_> = places.iter().map(|place| place.map(entry).unwrap_or_default()).collect();
    for (position, place) in places.iter().enumerate() {
        if let Some(key) = *place
            && let [first, _] = positions(key)
            && first as usize != position
        {
            K::target_mut(&mut entries[first as usize]).leave();
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        abi::{ServiceEntryV4, ServiceKeyV4, banked},
        host::Memory,
    };

    proptest! {
        #[test]
        fn every_key_is_found_and_no_other(
            all in proptest::collection::btree_set((any::<[u8; 4]>(), any::<[u8; 2]>()), 2..400),
            key: [u32; 12],
        ) {
            let key = HashKey(key);
            let all: Vec<_> = all.into_iter().map(|(vip, port)| ServiceKeyV4::new(vip, port, 6)).collect();
            let (ours, others) = all.split_at(all.len() / 2);
            let service_refs = (0u16..).map(|number| ServiceRef::new(number, 1024, 7 * u32::from(number)));
            let services: Vec<_> = ours.iter().copied().zip(service_refs).collect();
            let index = build(&services, &key, 1 << 14).expect("there is room");

            let mut memory = Memory::default();
            let generation = &mut memory.published.generations[0];
            (generation.number, generation.hash_key) = (1, key);
            generation.index_mask_v4 = u32::try_from(index.len()).unwrap() - 1;
            memory.service_index_v4 = vec![ServiceEntryV4::default(); 2 * index.len()];
            for (place, entry) in (0u32..).zip(&index) {
                memory.service_index_v4[banked(0, place) as usize] = *entry;
            }
            let find = |wanted: &ServiceKeyV4| {
                use crate::{lookup::Lookup as _, maps::Maps as _, wire::ipv4::V4};
                V4::find(&memory, memory.view().expect("published"), &wanted.vip, wanted.port, 6)
            };
            for (number, wanted) in (0u32..).zip(ours) {
                let found = find(wanted).map(|service_ref| (service_ref.service(), service_ref.slots()));
                prop_assert_eq!(found, Some((number, 7 * number)));
            }
            for wanted in others {
                prop_assert_eq!(find(wanted), None);
            }
            let used: BTreeSet<_> = index.iter().filter(|entry| entry.key.used == 1).map(|entry| entry.service_ref.service()).collect();
            prop_assert_eq!(used.len(), ours.len());
        }
    }

    #[test]
    fn too_many_keys_for_the_largest_table_are_refused() {
        let services: Vec<_> = (0..17u16)
            .map(|n| (ServiceKeyV4::new(u32::from(n).to_be_bytes(), [0, 80], 6), ServiceRef::new(n, 1024, 0)))
            .collect();
        assert_eq!(build(&services, &HashKey::default(), 16), None);
        assert_eq!(build::<ServiceKeyV4>(&[], &HashKey::default(), 16).map(|table| table.len()), Some(1));
    }
}
