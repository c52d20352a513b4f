//! Fragments in hash maps: the only maps whose values change places.

use core::ptr;

use aya_ebpf::{bindings::BPF_ANY, maps::LruHashMap};
use edge_common::{abi::FragmentRecord, maps::Fragments};

/// A hash map in which the oldest makes room.
pub(crate) struct Aging<K: 'static>(pub(crate) &'static LruHashMap<K, FragmentRecord>);

impl<K> Fragments<K> for Aging<K> {
    #[inline(always)]
    fn find(&self, key: &K) -> Option<FragmentRecord> {
        // SAFETY: a valid pointer; should its place be given to another packet meanwhile, a fragment goes astray.
        self.0.get_ptr(key).map(|record| unsafe { ptr::read_volatile(record) })
    }

    #[inline(always)]
    fn insert(&self, key: &K, record: FragmentRecord) {
        // It makes room for itself. Without it the later fragments are dropped, and counted.
        let _full = self.0.insert(key, record, BPF_ANY.into());
    }
}
