//! The service index: a table in which each key is stored at one of two positions, so that two reads find it or its absence.

use crate::abi::{HashKey, ServiceEntryV4, ServiceEntryV6, ServiceKeyV4, ServiceKeyV6, Target};

/// A destination of either family, with the type of its entry.
pub trait Key: Copy {
    type Entry: Copy + Default;

    /// The two positions at which this key can be stored.
    fn positions(&self, key: &HashKey, mask: u32) -> [u32; 2];
    fn stands_in(&self, entry: &Self::Entry) -> bool;
    fn entry(self, target: Target) -> Self::Entry;
    fn target(entry: &Self::Entry) -> Target;
    fn target_mut(entry: &mut Self::Entry) -> &mut Target;
}

/// Looks `key` up in a table of `mask` + 1 positions; `entry` reads one of them.
#[inline(always)]
pub fn find<'a, K: Key>(
    key: &K,
    hash_key: &HashKey,
    mask: u32,
    entry: impl Fn(u32) -> Option<&'a K::Entry>,
) -> Option<Target>
where
    K::Entry: 'a,
{
    let [first, second] = key.positions(hash_key, mask);
    let mut found = entry(first)?;
    if !key.stands_in(found) {
        if !K::target(found).is_left() {
            return None;
        }
        found = entry(second)?;
        if !key.stands_in(found) {
            return None;
        }
    }
    Some(K::target(found))
}

impl Key for ServiceKeyV4 {
    type Entry = ServiceEntryV4;

    #[inline(always)]
    fn positions(&self, key: &HashKey, mask: u32) -> [u32; 2] {
        key.hash_v4(self.vip, self.rest()).index_positions(mask)
    }

    #[inline(always)]
    fn stands_in(&self, entry: &ServiceEntryV4) -> bool {
        entry.key.is(self)
    }

    #[inline(always)]
    fn entry(self, target: Target) -> ServiceEntryV4 {
        ServiceEntryV4 { key: self, target }
    }

    #[inline(always)]
    fn target(entry: &ServiceEntryV4) -> Target {
        entry.target
    }

    #[inline(always)]
    fn target_mut(entry: &mut ServiceEntryV4) -> &mut Target {
        &mut entry.target
    }
}

impl Key for ServiceKeyV6 {
    type Entry = ServiceEntryV6;

    #[inline(always)]
    fn positions(&self, key: &HashKey, mask: u32) -> [u32; 2] {
        key.hash_destination_v6(self.vip, self.rest()).index_positions(mask)
    }

    #[inline(always)]
    fn stands_in(&self, entry: &ServiceEntryV6) -> bool {
        entry.key.is(self)
    }

    #[inline(always)]
    fn entry(self, target: Target) -> ServiceEntryV6 {
        ServiceEntryV6 { key: self, target }
    }

    #[inline(always)]
    fn target(entry: &ServiceEntryV6) -> Target {
        entry.target
    }

    #[inline(always)]
    fn target_mut(entry: &mut ServiceEntryV6) -> &mut Target {
        &mut entry.target
    }
}
