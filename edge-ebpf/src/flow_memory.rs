//! The two tables of flows: those that are recorded, and those that are translated.

use aya_ebpf::maps::Array;
use edge_common::{
    abi::{FlowBucket, FlowEntry},
    flow_table::{Entry, FlowMemory, Native, SLOTS, Words},
};

use crate::{
    maps::{FLOW_INDEX, FLOWS, KernelMaps, NAT_FLOWS, NAT_INDEX},
    packet::{Context, hide},
};

/// The table of translated flows.
pub(crate) struct NatMaps<'a, C> {
    pub(crate) ctx: &'a C,
}

impl<C: Context> FlowMemory for KernelMaps<'_, C> {
    type Words = Native;

    #[inline(always)]
    fn bucket(&self, number: u32) -> Option<&[<Native as Words>::U32]> {
        bucket(&FLOW_INDEX, number)
    }

    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry<Native>> {
        entry(&FLOWS, number)
    }

    #[inline(always)]
    fn merge_paths(&self, value: u64) -> u64 {
        hide(value, self.ctx.interface().into())
    }
}

impl<C: Context> FlowMemory for NatMaps<'_, C> {
    type Words = Native;

    #[inline(always)]
    fn bucket(&self, number: u32) -> Option<&[<Native as Words>::U32]> {
        bucket(&NAT_INDEX, number)
    }

    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry<Native>> {
        entry(&NAT_FLOWS, number)
    }

    #[inline(always)]
    fn merge_paths(&self, value: u64) -> u64 {
        hide(value, self.ctx.interface().into())
    }
}

#[inline(always)]
fn bucket(index: &Array<FlowBucket>, number: u32) -> Option<&[<Native as Words>::U32]> {
    let bucket = index.get_ptr(number)?.cast::<[<Native as Words>::U32; SLOTS as usize]>();
    // SAFETY: a valid pointer to as many bytes of any value, as aligned.
    Some(unsafe { &*bucket })
}

#[inline(always)]
fn entry(entries: &Array<FlowEntry>, number: u32) -> Option<&Entry<Native>> {
    let entry = entries.get_ptr(number)?.cast::<Entry<Native>>();
    // SAFETY: as above.
    Some(unsafe { &*entry })
}
