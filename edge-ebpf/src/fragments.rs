//! Records of fragments in LRU hash maps, the only maps in which a value's memory may be reused for another key.

use core::ptr;

use aya_ebpf::{bindings::BPF_ANY, maps::LruHashMap};
use edge_common::{abi::FragmentRecord, maps::Fragments};

/// A hash map that evicts the oldest entry when full.
pub(crate) struct Aging<K: 'static>(pub(crate) &'static LruHashMap<K, FragmentRecord>);

impl<K> Fragments<K> for Aging<K> {
    #[inline(always)]
    fn find(&self, key: &K) -> Option<FragmentRecord> {
        // SAFETY: a valid pointer; if its memory is reused for another packet meanwhile, a fragment may go to another
        // backend.
        self.0.get_ptr(key).map(|record| unsafe { ptr::read_volatile(record) })
    }

    #[inline(always)]
    fn insert(&self, key: &K, record: FragmentRecord) {
        // A full map evicts an entry for the new one. If the insert fails, the later fragments are dropped and counted.
        let _full = self.0.insert(key, record, BPF_ANY.into());
    }

    #[inline(always)]
    fn remove(&self, key: &K) {
        // The removal fails only if there is no record.
        let _absent = self.0.remove(key);
    }
}
