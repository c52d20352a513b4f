//! The service index: a table in which each key is stored at one of two positions, so that two reads find it or its absence.

use crate::abi::{HashKey, ServiceEntryV4, ServiceEntryV6, ServiceKeyV4, ServiceKeyV6, ServiceRef};

/// A destination of either family, with the type of its entry.
pub trait Key: Copy {
    type Entry: Copy + Default;

    /// The two positions at which this key can be stored.
    fn positions(&self, key: &HashKey, mask: u32) -> [u32; 2];
    fn stands_in(&self, entry: &Self::Entry) -> bool;
    fn entry(self, service_ref: ServiceRef) -> Self::Entry;
    fn service_ref(entry: &Self::Entry) -> ServiceRef;
    fn target_mut(entry: &mut Self::Entry) -> &mut ServiceRef;
}

/// Looks `key` up in a table of `mask` + 1 positions; `entry` reads one of them.
#[inline(always)]
pub fn find<'a, K: Key>(
    key: &K,
    hash_key: &HashKey,
    mask: u32,
    entry: impl Fn(u32) -> Option<&'a K::Entry>,
) -> Option<ServiceRef>
where
    K::Entry: 'a,
{
    let [first, second] = key.positions(hash_key, mask);
    let mut found = entry(first)?;
    if !key.stands_in(found) {
        if !K::service_ref(found).is_left() {
            return None;
        }
        found = entry(second)?;
        if !key.stands_in(found) {
            return None;
        }
    }
    Some(K::service_ref(found))
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
    fn entry(self, service_ref: ServiceRef) -> ServiceEntryV4 {
        ServiceEntryV4 { key: self, service_ref }
    }

    #[inline(always)]
    fn service_ref(entry: &ServiceEntryV4) -> ServiceRef {
        entry.service_ref
    }

    #[inline(always)]
    fn target_mut(entry: &mut ServiceEntryV4) -> &mut ServiceRef {
        &mut entry.service_ref
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
    fn entry(self, service_ref: ServiceRef) -> ServiceEntryV6 {
        ServiceEntryV6 { key: self, service_ref }
    }

    #[inline(always)]
    fn service_ref(entry: &ServiceEntryV6) -> ServiceRef {
        entry.service_ref
    }

    #[inline(always)]
    fn target_mut(entry: &mut ServiceEntryV6) -> &mut ServiceRef {
        &mut entry.service_ref
    }
}
