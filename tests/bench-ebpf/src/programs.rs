//! The driver of a timed run, the baselines of all figures, and a program that counts received frames.
//!
//! A test run with many rounds passes the packet of one round on to the next one. The driver renews the packet: it
//! undoes the move of the frame's head, restores the bytes that may have been rewritten, stamps the next flow into
//! them, and tail-calls the program under test. It does the same in a live run, where the kernel undoes the moves
//! itself but leaves the bytes of a recycled page as they are (Documentation/bpf/bpf_prog_run.rst).

use core::{arch::asm, ptr};

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, xdp_action},
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::{map, xdp},
    maps::{Array, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use edge_bench_ebpf::{Arrived, FORWARDED_WORDS, Plan, Progress, WORDS, place};

#[map]
pub(super) static BENCH_PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static BENCH_PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);
/// Addresses and ports of flows that are not derived from the flows' numbers.
#[map]
static BENCH_FLOWS: Array<[u32; 2]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static BENCH_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(place::COUNT, 0);
#[map]
static BENCH_ARRIVED: PerCpuArray<Arrived> = PerCpuArray::with_max_entries(1, 0);

/// Renews the packet, and tail-calls the program under test.
#[xdp]
fn bench_driver(ctx: XdpContext) -> u32 {
    let target = prepare(&ctx);
    // Tail calls with constant targets: a computed target costs an indirect jump.
    match target {
        // SAFETY: the context is this program's own; likewise below.
        Some(place::RETURN) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, place::RETURN) },
        // SAFETY: as above.
        Some(place::HEAD) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, place::HEAD) },
        // SAFETY: as above.
        Some(place::TAIL) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, place::TAIL) },
        // SAFETY: as above.
        Some(place::EDGE) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, place::EDGE) },
        // SAFETY: as above.
        Some(place::DECAP) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, place::DECAP) },
        // SAFETY: as above.
        Some(place::READS) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, place::READS) },
        // SAFETY: as above.
        Some(place::HASHED) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, place::HASHED) },
        _ => {}
    }
    // A tail call returns only if the entry is empty.
    xdp_action::XDP_ABORTED
}

/// Renews the packet; returns the program under test.
#[inline(always)]
fn prepare(ctx: &XdpContext) -> Option<u32> {
    let plan = BENCH_PLAN.get(0)?;
    let progress = BENCH_PROGRESS.get_ptr_mut(0)?;
    let longer = (ctx.data_end() - ctx.data()) as i32 - plan.length as i32;
    if longer != 0 {
        let moved = if plan.rewritten != 0 { plan.head } else { longer };
        // SAFETY: the helper checks the room; no pointer into the frame is kept over the call.
        if moved != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, moved) } != 0 {
            return None;
        }
        // SAFETY: as above.
        if longer != moved && unsafe { bpf_xdp_adjust_tail(ctx.ctx, moved - longer) } != 0 {
            return None;
        }
        // SAFETY: only one run uses this at a time; user space reads it after the run.
        unsafe { (*progress).undone = (*progress).undone.wrapping_add(moved as u64) };
    }
    // SAFETY: as above.
    let flow = unsafe { (*progress).rounds } as u32 & plan.flow_mask;
    restore::<0, FORWARDED_WORDS>(ctx, plan)?;
    if plan.rewritten != 0 {
        restore::<FORWARDED_WORDS, WORDS>(ctx, plan)?;
    }

    let (address, ports) = if plan.listed != 0 {
        let [address, ports] = *BENCH_FLOWS.get(flow)?;
        (address, ports)
    } else {
        numbered(plan, flow)
    };
    store(ctx, plan.address_at, address)?;
    store(ctx, plan.ports_at, ports)?;
    // A locked instruction waits until all these stores are in the cache, where a driver's packets are as well.
    // SAFETY: it adds to a field of a live value.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) &raw mut (*progress).rounds, in(reg) 1u64) };
    Some(plan.target)
}

/// Address and ports of a client's flow: 16,384 flows per address; the spread number of the flow selects the service.
#[inline(always)]
fn numbered(plan: &Plan, flow: u32) -> (u32, u32) {
    let service = (u64::from(flow.wrapping_mul(0x9e37_79b1)) * u64::from(plan.services)) >> 32;
    let address = (0xc612_0000 + (flow >> 14)).to_be();
    let port = |host: u32| (host as u16).to_be();
    let ports = u32::from(port(0x4000 | flow & 0x3fff)) | u32::from(port(plan.first_port + service as u32)) << 16;
    (address, ports)
}

/// Restores words `FROM..TO` of the frame.
#[inline(always)]
fn restore<const FROM: usize, const TO: usize>(ctx: &XdpContext, plan: &Plan) -> Option<()> {
    let start = ctx.data();
    if start + 8 * TO > ctx.data_end() {
        return None;
    }
    for word in FROM..TO {
        // SAFETY: this many bytes are in the frame, as just checked.
        unsafe { ptr::write_unaligned((start as *mut u64).add(word), plan.bytes[word]) };
    }
    Some(())
}

#[inline(always)]
fn store(ctx: &XdpContext, offset: u32, value: u32) -> Option<()> {
    let at = ctx.data() + (offset & 0xff) as usize;
    if at + size_of::<u32>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the bytes are in the frame, as just checked.
    unsafe { ptr::write_unaligned(at as *mut u32, value) };
    Some(())
}

/// Minimum cost of any program: returns immediately and sends the frame back unchanged.
#[xdp]
fn bench_return(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Minimum cost of encapsulation: makes room for an IPv4 header and sends the frame back.
#[xdp]
fn bench_head(ctx: XdpContext) -> u32 {
    // SAFETY: the helper checks the room.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -20) } == 0 { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

/// Minimum cost of an answer that is shorter than its packet: cuts the frame's end off and sends it back.
#[xdp]
fn bench_tail(ctx: XdpContext) -> u32 {
    let Some(plan) = BENCH_PLAN.get(0) else { return xdp_action::XDP_ABORTED };
    // SAFETY: the helper checks the length.
    match unsafe { bpf_xdp_adjust_tail(ctx.ctx, -(plan.cut as i32)) } {
        0 => xdp_action::XDP_TX,
        _ => xdp_action::XDP_ABORTED,
    }
}

/// Counts the frames that a device receives, and drops them.
#[xdp]
fn bench_sink(ctx: XdpContext) -> u32 {
    if let Some(arrived) = BENCH_ARRIVED.get_ptr_mut(0) {
        // SAFETY: this CPU's own counter, which no other program on it can interrupt us to change.
        let arrived = unsafe { &mut *arrived };
        arrived.frames += 1;
        arrived.bytes += (ctx.data_end() - ctx.data()) as u64;
    }
    xdp_action::XDP_DROP
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The licence by which the kernel permits its helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
