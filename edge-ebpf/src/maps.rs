//! The maps that the packet path uses.
//!
//! The sizes here are those of a minimal map: user space sets the real ones, from the configuration, before it loads the
//! object. The writers and readers of each are in `edge_common::abi::map`.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_check_mtu, bpf_ktime_get_coarse_ns},
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray, ProgramArray},
};
use edge_common::{
    abi::{
        Backend, BackendNumber, Cell, Dimension, Entries, Evidence, Exit, FlowBucket, FlowCount, FlowCounts, FlowEntry,
        FlowHead, FlowKeyV4, FlowKeyV6, FragmentRecord, Generation, NatHead, NatHop, Pool, Published, RateLimited,
        RateLimiter, Service, ServiceEntryV4, ServiceEntryV6, Sign, Slot, SlotAddress, SlotCell, Traffic, Unrecorded,
        banked,
    },
    flow_table::{Native, Word, Words},
    maps::{Fragments, HopWords, Maps, PoolMaps, Route},
};

use crate::{
    flow_memory::NatMaps,
    fragments::Aging,
    packet::{Context, hide},
    routing, traced,
};

/// Declares the maps that the packet path uses, each in the type of its kind.
macro_rules! declare {
    ($(
        $name:ident: $user:ident $kind:ident($key:ty => $value:ty), $entries:expr;
        $key_is:literal, $writer:literal, $reader:literal, $lives:literal;
    )+) => {
        $(declare!(@ $user $kind $name $key, $value, $entries);)+
    };
    (@ packet Shared $name:ident $key:ty, $value:ty, $entries:expr) => {
        #[map]
        pub(crate) static $name: Array<$value> = Array::with_max_entries($entries.smallest(), BPF_F_MMAPABLE);
    };
    (@ packet PerCpu $name:ident $key:ty, $value:ty, $entries:expr) => {
        #[map]
        static $name: PerCpuArray<$value> = PerCpuArray::with_max_entries($entries.smallest(), 0);
    };
    (@ packet Lru $name:ident $key:ty, $value:ty, $entries:expr) => {
        #[map]
        static $name: LruHashMap<$key, $value> = LruHashMap::with_max_entries($entries.smallest(), 0);
    };
    (@ control $($rest:tt)+) => {};
}

edge_common::maps!(declare);

/// Tail-call targets. The loader fills and pins the map; the kernel empties it with its last pin or descriptor.
#[map]
pub(crate) static CALLS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Attempts at the compare-and-exchange.
const TAKES: u32 = 4;

/// The maps above, and the routing of the namespace that the context's frame came into.
pub(crate) struct KernelMaps<'a, C> {
    pub(crate) ctx: &'a C,
    nat: NatMaps<'a, C>,
    /// Whether what is found is noted, for a trace.
    notes: bool,
}

impl<'a, C: Context> KernelMaps<'a, C> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a C) -> Self {
        Self { ctx, nat: NatMaps { ctx }, notes: true }
    }

    /// The maps for packets that are not traced.
    #[inline(always)]
    pub(crate) fn without_notes(ctx: &'a C) -> Self {
        Self { ctx, nat: NatMaps { ctx }, notes: false }
    }
}

impl<C: Context> PoolMaps for KernelMaps<'_, C> {
    #[inline(always)]
    fn pool(&self, bank: u32, number: u16) -> Option<&Pool> {
        POOLS.get(banked(bank, u32::from(number)))
    }

    #[inline(always)]
    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        BACKENDS.get(u32::from(number))
    }

    #[inline(always)]
    fn candidates(&self, cell: u32) -> Option<Cell> {
        CANDIDATES.get(cell).copied()
    }

    #[inline(always)]
    fn merge_paths(&self, value: u32, mask: u32) -> u32 {
        hide(value.into(), self.ctx.interface().into()) as u32 & mask
    }
}

impl<'a, C: Context> Maps for KernelMaps<'a, C> {
    type Flows = Self;
    type Nat = NatMaps<'a, C>;

    #[inline(always)]
    fn published(&self) -> Option<(&Published, u32)> {
        let published = PUBLISHED.get(0)?;
        // SAFETY: a valid reference; volatile, as user space changes it at any time.
        Some((published, unsafe { ptr::read_volatile(&raw const published.active) }))
    }

    #[inline(always)]
    fn service_entry_v4(&self, bank: u32, position: u32) -> Option<&ServiceEntryV4> {
        SERVICE_INDEX_V4.get(banked(bank, position))
    }

    #[inline(always)]
    fn service_entry_v6(&self, bank: u32, position: u32) -> Option<&ServiceEntryV6> {
        SERVICE_INDEX_V6.get(banked(bank, position))
    }

    #[inline(always)]
    fn service(&self, bank: u32, number: u32) -> Option<&Service> {
        if self.notes {
            traced::reads_service(number);
        }
        SERVICES.get(banked(bank, number))
    }

    #[inline(always)]
    fn slot(&self, slot: SlotAddress) -> Option<Slot> {
        let cell = SLOTS.get_ptr(slot.cell)?;
        // SAFETY: the place is one of the cell's; volatile, as another CPU changes it at any time.
        let read = Slot::from_word(unsafe { ptr::read_volatile(cell.cast::<u32>().add(slot.place())) });
        if self.notes {
            traced::reads_slot(slot, read);
        }
        Some(read)
    }

    #[inline(always)]
    fn set_owner(&self, slot: SlotAddress, owner: BackendNumber) {
        if let Some(slot) = slot_ptr(slot) {
            // SAFETY: a valid pointer; a 16-bit store is atomic, and every writer's value is valid.
            unsafe { ptr::write_volatile(&raw mut (*slot).owner, owner) };
        }
    }

    #[inline(always)]
    fn set_look(&self, slot: SlotAddress) {
        if let Some(slot) = slot_ptr(slot) {
            // SAFETY: as above; all writers store the same value.
            unsafe { ptr::write_volatile(&raw mut (*slot).look, 1) };
        }
    }

    #[inline(always)]
    fn learn_path_mtu(&self, backend: BackendNumber, mtu: u16) {
        if let Some(backend) = BACKENDS.get_ptr_mut(u32::from(backend)) {
            // SAFETY: a valid pointer, and a store of one half-word; of two concurrent stores either may stay.
            unsafe {
                let known = ptr::read_volatile(&raw const (*backend).path_mtu);
                if known == 0 || mtu < known {
                    ptr::write_volatile(&raw mut (*backend).path_mtu, mtu);
                }
            }
        }
    }

    #[inline(always)]
    fn set_asked(&self, backend: BackendNumber, ticks: u32) {
        if let Some(backend) = BACKENDS.get_ptr_mut(u32::from(backend)) {
            // SAFETY: a valid pointer, and a store of one word; of two concurrent stores either may stay.
            unsafe { ptr::write_volatile(&raw mut (*backend).asked, ticks) };
        }
    }

    #[inline(always)]
    fn set_heard(&self, backend: BackendNumber, ticks: u32) {
        if let Some(backend) = BACKENDS.get_ptr_mut(u32::from(backend)) {
            // SAFETY: as above.
            unsafe { ptr::write_volatile(&raw mut (*backend).heard, ticks) };
        }
    }

    #[inline(always)]
    fn add_sign(&self, backend: BackendNumber, sign: Sign) {
        let Some(evidence) = EVIDENCE.get_ptr_mut(u32::from(backend)) else { return };
        // SAFETY: a valid pointer; of two concurrent changes one may be lost, and the count is a sign all the same.
        unsafe { ptr::write_volatile(evidence, ptr::read_volatile(evidence).with(sign)) };
    }

    #[inline(always)]
    fn set_unrecorded(&self, slot: SlotAddress) {
        if let Some(slot) = slot_ptr(slot) {
            // SAFETY: as above.
            unsafe { ptr::write_volatile(&raw mut (*slot).unrecorded, Unrecorded::Flow as u8) };
        }
    }

    #[inline(always)]
    fn set_start_unrecorded(&self, slot: SlotAddress) {
        let Some(pointer) = slot_ptr(slot) else { return };
        // SAFETY: a slot is one word, which others change at any time.
        let word = unsafe { &*pointer.cast::<<Native as Words>::U32>() };
        let old = Word::load(word);
        let is = Slot::from_word(old);
        let new = Slot { unrecorded: Unrecorded::Start as u8, ..is };
        // A store might replace the mark of an established flow. If the slot has just changed, that mark serves as well.
        if is.unrecorded == 0 && !word.replace_if(old, new.word()) {
            self.set_unrecorded(slot);
        }
    }

    #[inline(always)]
    fn start_transition(&self, bank: u32, service: u32) {
        if let Some(service) = SERVICES.get_ptr_mut(banked(bank, service)) {
            // SAFETY: a valid pointer, and a store of one word.
            unsafe { ptr::write_volatile(&raw mut (*service).in_transition, 1) };
        }
    }

    #[inline(always)]
    fn nat_head(&self) -> Option<&NatHead> {
        NAT_HEAD.get(0)
    }

    #[inline(always)]
    fn nat_flows(&self) -> &NatMaps<'a, C> {
        &self.nat
    }

    #[inline(always)]
    fn nat_hop(&self, number: u32) -> Option<&HopWords> {
        let hop = NAT_HOPS.get_ptr(number)?.cast::<HopWords>();
        // SAFETY: a valid pointer to as many words of any value, as aligned.
        Some(unsafe { &*hop })
    }

    #[inline(always)]
    fn flow_head(&self) -> Option<&FlowHead> {
        FLOW_HEAD.get(0)
    }

    #[inline(always)]
    fn flows(&self) -> &Self {
        self
    }

    #[inline(always)]
    fn fragments_v4(&self) -> impl Fragments<FlowKeyV4> {
        Aging(&FRAGMENTS_V4)
    }

    #[inline(always)]
    fn fragments_v6(&self) -> impl Fragments<FlowKeyV6> {
        Aging(&FRAGMENTS_V6)
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: the helper takes nothing and reads a clock.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn try_take(&self, action: RateLimited, now_ns: u64, limit: u32) -> bool {
        let Some(limiter) = RATE_LIMITS.get_ptr(0) else { return false };
        // SAFETY: the action's word is one of the limiter's, which all CPUs access as atomic words.
        let word = unsafe { &*limiter.cast::<<Native as Words>::U64>().add(action as usize) };
        // If several CPUs contend for the word, some attempts fail for good: that is a flood.
        for _ in 0..TAKES {
            let before = Word::load(word);
            let Some(after) = RateLimiter::after_one_more(before, now_ns, limit) else { return false };
            if word.replace_if(before, after) {
                return true;
            }
        }
        false
    }

    #[inline(always)]
    fn mtu(&self, interface: u32) -> u32 {
        // The packet length is irrelevant here: the helper writes the MTU into its place.
        let mut mtu = 1;
        // SAFETY: the helper takes numbers, and the address of one that outlives the call.
        let verdict = unsafe { bpf_check_mtu(self.ctx.raw(), interface, &raw mut mtu, 0, 0) };
        // Less than 0: there is no such interface.
        if verdict < 0 { 0 } else { mtu }
    }

    #[inline(always)]
    fn route(&self, generation: &Generation, backend: &Backend) -> Option<Route> {
        let mut route = Route::default();
        if routing::to_backend(self.ctx, generation, backend, &mut route) { Some(route) } else { None }
    }

    #[inline(always)]
    fn concerns(&self, service: u32, backend: BackendNumber) {
        if self.notes {
            traced::concerns(service, backend);
        }
    }

    #[inline(always)]
    fn count_exit(&self, exit: Exit) {
        if let Some(count) = EXITS.get_ptr_mut(exit as u32) {
            // SAFETY: this CPU's own counter, which no other program on it can interrupt us to change.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }

    #[inline(always)]
    fn count_flow(&self, service: u32, what: FlowCount) {
        if let Some(FlowCounts(counts)) = FLOW_STATS.get_ptr_mut(service).map(|counts| {
            // SAFETY: as above.
            unsafe { &mut *counts }
        }) {
            counts[what as usize] = counts[what as usize].wrapping_add(1);
        }
    }

    #[inline(always)]
    fn count_forwarded(&self, service: u32, backend: BackendNumber, bytes: u64, starts: bool) {
        if self.notes && starts {
            traced::starts_flow();
        }
        #[expect(
            clippy::manual_flatten,
            reason = "the verifier refuses what the compiler makes of it: an OR of two pointers"
        )]
        for traffic in [SERVICE_STATS.get_ptr_mut(service), BACKEND_STATS.get_ptr_mut(u32::from(backend))] {
            if let Some(traffic) = traffic {
                // SAFETY: as above.
                let traffic = unsafe { &mut *traffic };
                traffic.packets = traffic.packets.wrapping_add(1);
                traffic.bytes = traffic.bytes.wrapping_add(bytes);
                if starts {
                    traffic.flows = traffic.flows.wrapping_add(1);
                }
            }
        }
    }
}

/// The address of a slot, for a write to a part of it.
#[inline(always)]
fn slot_ptr(slot: SlotAddress) -> Option<*mut Slot> {
    let cell = SLOTS.get_ptr_mut(slot.cell)?;
    // SAFETY: the place is one of the cell's.
    Some(unsafe { cell.cast::<Slot>().add(slot.place()) })
}
