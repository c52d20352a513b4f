//! Flow records and fragments in hash maps: the only maps whose values change places.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_ANY,
    maps::{HashMap, LruHashMap},
};
use edge_common::{
    abi::{FlowRecord, FragmentRecord},
    maps::{Flows, Fragments},
};

/// A hash map that rejects inserts when it is full.
pub(crate) struct Hashed<K: 'static>(pub(crate) &'static HashMap<K, FlowRecord>);

/// A hash map in which the oldest makes room.
pub(crate) struct Aging<K: 'static>(pub(crate) &'static LruHashMap<K, FragmentRecord>);

impl<K> Flows<K> for Hashed<K> {
    #[inline(always)]
    fn find(&self, key: &K, now_ns: Option<u64>) -> Option<FlowRecord> {
        let record = self.0.get_ptr_mut(key)?;
        #[expect(clippy::cast_ptr_alignment, reason = "aligned to eight bytes: it is the second half of a record")]
        // SAFETY: a valid pointer. The record's place may be given to another flow at any time: then it was seen a little
        // later than it was, and what is read here has another fingerprint. All but the time is one word, read at once.
        unsafe {
            if let Some(now_ns) = now_ns {
                ptr::write_volatile(&raw mut (*record).seen_ns, now_ns);
            }
            let rest = ptr::read_volatile((&raw const (*record).recorded_s).cast::<u64>());
            let (recorded_s, backend, fingerprint) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u16);
            Some(FlowRecord { seen_ns: 0, recorded_s, backend, fingerprint })
        }
    }

    #[inline(always)]
    fn insert(&self, key: &K, record: FlowRecord) -> bool {
        self.0.insert(key, record, BPF_ANY.into()).is_ok()
    }

    #[inline(always)]
    fn remove(&self, key: &K) {
        // Gone already: as well.
        let _absent = self.0.remove(key);
    }
}

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
