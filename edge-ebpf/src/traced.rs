//! Traces: sampled packets go through a program that notes what it finds, and writes the frame and its fate into a ring
//! buffer.
//!
//! An object of its own, which is built of the same sources with the feature `traced`, and which only a tracer loads. In
//! its load balancer, a packet that is not sampled pays for a counter; the others are handed over to the program `traced`
//! by a program array that only the tracer holds. The kernel empties the array when the tracer ends, however that
//! happens.

use aya_ebpf::{
    helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_xdp_load_bytes},
    macros::{map, xdp},
    maps::{Array, PerCpuArray, ProgramArray, RingBuf},
    programs::XdpContext,
};
use edge_common::{
    abi::{
        BackendNumber, Exit, Slot, SlotAddress, TRACED_BYTES, TraceFilter, TraceState, TracedFrame, program,
        traced_flags as flags,
    },
    pipeline,
    step::Seen,
    wire::packet::Packet as _,
};

use crate::{leave, maps::KernelMaps, packet::ContextPacket, send, subprograms::Global};

/// Written by the tracer.
#[map]
static TRACE_FILTER: Array<TraceFilter> = Array::with_max_entries(1, 0);

#[map]
static TRACE_STATE: PerCpuArray<TraceState> = PerCpuArray::with_max_entries(1, 0);

/// The frame that is on its way on this CPU.
#[map]
static TRACE_FRAME: PerCpuArray<TracedFrame> = PerCpuArray::with_max_entries(1, 0);

#[map]
static TRACE_FRAMES: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// Only the tracer has a descriptor, and there is no pin.
#[map]
static TRACED_CALLS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The load balancer, for a packet that was sampled.
#[xdp]
#[inline(always)]
fn traced(ctx: XdpContext) -> u32 {
    begin(&ctx);
    let (packet, maps) = (&mut ContextPacket::new(&ctx), &KernelMaps::new(&ctx));
    match pipeline::process_with(packet, maps, &Global(ctx.ctx)) {
        Ok(forwarded) => {
            finish(&ctx, forwarded.exit, forwarded.egress);
            send(&ctx, forwarded)
        }
        Err(exit) => {
            finish(&ctx, exit, 0);
            leave(&ctx, exit)
        }
    }
}

/// Hands one packet in so many over to the program `traced`, and does not return then.
#[inline(always)]
pub(crate) fn sample(ctx: &XdpContext) {
    let Some(state) = TRACE_STATE.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's own value, which no other program on it can interrupt us to change.
    let left = unsafe { &mut (*state).left };
    if *left == 0 {
        // SAFETY: the context is the program's own.
        unsafe { TRACED_CALLS.tail_call(ctx, program::TRACED_AT) };
        // Nobody traces any more: the next try is far away.
        *left = u32::MAX;
    }
    *left -= 1;
}

/// Begins the trace of a packet, if it is to be looked at.
#[inline(always)]
fn begin(ctx: &XdpContext) {
    let (Some(state), Some(filter)) = (TRACE_STATE.get_ptr_mut(0), TRACE_FILTER.get(0)) else { return };
    // SAFETY: as above.
    let state = unsafe { &mut *state };
    state.active = 0;
    state.left = filter.sample.saturating_sub(1);
    // SAFETY: the helper takes nothing and reads a clock.
    let window = TraceState::window_of(unsafe { bpf_ktime_get_coarse_ns() });
    if state.window != window {
        (state.window, state.looks, state.frames) = (window, filter.looks, filter.frames);
    }
    if state.looks == 0 || state.frames == 0 {
        state.left = state.left.saturating_add(TraceState::PAUSE);
        state.skipped += u64::from(TraceState::PAUSE);
        return;
    }
    state.looks -= 1;
    state.looked += 1;
    if !filter.client.concerns(&ContextPacket::new(ctx)) {
        return;
    }
    let Some(frame) = TRACE_FRAME.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let frame = unsafe { &mut *frame };
    // SAFETY: the helper takes nothing and reads a clock.
    frame.time_ns = unsafe { bpf_ktime_get_ns() };
    frame.ingress = ctx.ingress_ifindex() as u32;
    (frame.exit, frame.egress, frame.service, frame.slot, frame.bank) = (0, 0, 0, 0, 0);
    (frame.owner, frame.record, frame.backend, frame.flags) = (0, 0, 0, 0);
    frame.length_before = copy(ctx, &mut frame.before);
    state.active = 1;
}

/// Copies the start of a frame, and returns the length of the whole.
#[inline(always)]
fn copy(ctx: &XdpContext, to: &mut [u8; TRACED_BYTES]) -> u32 {
    const { assert!(TRACED_BYTES.is_power_of_two()) };
    let length = ContextPacket::new(ctx).len() as u32;
    // In this form the verifier sees the bounds: at least 1, and at most the array's length.
    let last = length.wrapping_sub(1).min(TRACED_BYTES as u32 - 1);
    let bytes = (last & (TRACED_BYTES as u32 - 1)) + 1;
    // SAFETY: the helper writes as many bytes at `to`, which has room for them.
    unsafe { bpf_xdp_load_bytes(ctx.ctx, 0, to.as_mut_ptr().cast(), bytes) };
    length
}

/// Ends the trace of a packet that leaves, and writes the frame, if its fate is one that is traced.
#[inline(always)]
pub(crate) fn finish(ctx: &XdpContext, exit: Exit, egress: u32) {
    let Some(state) = TRACE_STATE.get_ptr_mut(0) else { return };
    // SAFETY: as above.
    let state = unsafe { &mut *state };
    if state.active == 0 {
        return;
    }
    state.active = 0;
    let (Some(frame), Some(filter)) = (TRACE_FRAME.get_ptr_mut(0), TRACE_FILTER.get(0)) else { return };
    // SAFETY: as above.
    let frame = unsafe { &mut *frame };
    (frame.exit, frame.egress) = (exit as u32, egress);
    if !filter.takes(frame) || state.frames == 0 {
        return;
    }
    state.frames -= 1;
    frame.length_after = copy(ctx, &mut frame.after);
    if TRACE_FRAMES.output::<TracedFrame>(&*frame, 0).is_err() {
        state.lost += 1;
    }
}

/// Notes something about the packet that is on its way. If it is not traced, nobody reads the note.
#[inline(always)]
fn note(what: impl FnOnce(&mut TracedFrame)) {
    if let Some(frame) = TRACE_FRAME.get_ptr_mut(0) {
        // SAFETY: as above.
        what(unsafe { &mut *frame });
    }
}

#[inline(always)]
pub(crate) fn concerns(service: u32, backend: BackendNumber) {
    note(|frame| {
        (frame.service, frame.backend) = (service, backend);
        frame.flags |= flags::SERVICE;
    });
}

#[inline(always)]
pub(crate) fn reads_service(service: u32) {
    note(|frame| {
        frame.service = service;
        frame.flags |= flags::SERVICE;
    });
}

#[inline(always)]
pub(crate) fn reads_slot(address: SlotAddress, slot: Slot) {
    note(|frame| {
        (frame.slot, frame.owner) = (address.number(), slot.owner);
        frame.flags |= flags::SLOT | if slot.look == 0 { 0 } else { flags::LOOKS };
    });
}

#[inline(always)]
pub(crate) fn reads_record(seen: Seen) {
    note(|frame| {
        frame.record = seen.backend;
        frame.flags |= flags::RECORD;
    });
}

#[inline(always)]
pub(crate) fn changes_record() {
    note(|frame| frame.flags |= flags::CHANGED);
}

#[inline(always)]
pub(crate) fn starts_flow() {
    note(|frame| frame.flags |= flags::STARTS);
}
