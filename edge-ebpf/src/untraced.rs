//! Traces in the object without them: nothing.

use aya_ebpf::programs::XdpContext;
use edge_common::{
    abi::{BackendNumber, Exit, Slot, SlotAddress},
    step::Seen,
};

#[inline(always)]
pub(crate) const fn sample(_ctx: &XdpContext) {}

#[inline(always)]
pub(crate) const fn finish(_ctx: &XdpContext, _exit: Exit, _egress: u32) {}

#[inline(always)]
pub(crate) const fn concerns(_service: u32, _backend: BackendNumber) {}

#[inline(always)]
pub(crate) const fn reads_service(_service: u32) {}

#[inline(always)]
pub(crate) const fn reads_slot(_address: SlotAddress, _slot: Slot) {}

#[inline(always)]
pub(crate) const fn reads_record(_seen: Seen) {}

#[inline(always)]
pub(crate) const fn changes_record() {}

#[inline(always)]
pub(crate) const fn starts_flow() {}
