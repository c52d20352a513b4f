//! The driver of a timed run, and the two programs that every figure is compared with.
//!
//! A test run with many rounds hands the packet as one round left it to the next one. The driver makes it new: it undoes
//! the move of the frame's head, restores the bytes that may have been rewritten, stamps the next flow into them, and
//! goes on to the program under test by a tail call.

use core::{arch::asm, ptr};

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::{map, xdp},
    maps::{Array, ProgramArray},
    programs::XdpContext,
};

/// Restored bytes, in words of eight: the most that an answer rewrites (Ethernet, IPv6 and TCP headers), and more.
const WORDS: usize = 12;
/// As many of them as forwarding rewrites: the Ethernet header, and the TTL or hop limit.
const FORWARDED_WORDS: usize = 4;

/// What each round does. User space has the same struct.
#[repr(C)]
struct Plan {
    /// Start of the frame.
    bytes: [u64; WORDS],
    /// Length of the frame.
    length: u32,
    /// Flows, less one; a power of two less one.
    flow_mask: u32,
    /// Services that the flows go to, by consecutive ports.
    services: u32,
    /// Port of the first one, host order.
    first_port: u32,
    /// 1: IPv6 addresses and ports are stamped, else those of IPv4.
    v6: u32,
    /// 1: the packet is answered: all of `bytes` are restored, and the frame's end, too.
    answered: u32,
    /// Bytes that an answer moves the head by.
    head: u32,
    /// Place of the program under test in `BENCH_PROGRAMS`.
    target: u32,
}

/// What the rounds did. User space has the same struct.
#[repr(C)]
struct Progress {
    rounds: u64,
    /// Sum of the undone moves of the head, bytes.
    undone: u64,
}

#[map]
static BENCH_PLAN: Array<Plan> = Array::with_max_entries(1, 0);
#[map]
static BENCH_PROGRESS: Array<Progress> = Array::with_max_entries(1, 0);
#[map]
static BENCH_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(3, 0);

/// Goes on to the program under test with a new packet.
#[xdp]
fn bench_driver(ctx: XdpContext) -> u32 {
    let target = prepare(&ctx);
    // Three jumps with fixed aims: an aim that is looked up costs an indirect jump.
    match target {
        // SAFETY: the context is this program's own; likewise below.
        Some(0) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, 0) },
        // SAFETY: as above.
        Some(1) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, 1) },
        // SAFETY: as above.
        Some(2) => unsafe { BENCH_PROGRAMS.tail_call(&ctx, 2) },
        _ => {}
    }
    // It comes back only when there is none.
    xdp_action::XDP_ABORTED
}

/// Makes the packet new; says which program is under test.
#[inline(always)]
fn prepare(ctx: &XdpContext) -> Option<u32> {
    let plan = BENCH_PLAN.get(0)?;
    let progress = BENCH_PROGRESS.get_ptr_mut(0)?;
    let longer = (ctx.data_end() - ctx.data()) as i32 - plan.length as i32;
    if longer != 0 {
        let moved = if plan.answered != 0 { plan.head as i32 } else { longer };
        // SAFETY: the helper checks the room; no pointer into the frame is kept over the call.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, moved) } != 0 {
            return None;
        }
        // SAFETY: likewise.
        if longer != moved && unsafe { bpf_xdp_adjust_tail(ctx.ctx, moved - longer) } != 0 {
            return None;
        }
        // SAFETY: one run at a time uses this; user space reads it after the run.
        unsafe { (*progress).undone = (*progress).undone.wrapping_add(moved as u64) };
    }
    // SAFETY: as above.
    let flow = unsafe { (*progress).rounds } as u32 & plan.flow_mask;
    restore::<0, FORWARDED_WORDS>(ctx, plan)?;
    if plan.answered != 0 {
        restore::<FORWARDED_WORDS, WORDS>(ctx, plan)?;
    }

    // Sixteen thousand flows an address; the flow's number, spread, says the service.
    let service = (u64::from(flow.wrapping_mul(0x9e37_79b1)) * u64::from(plan.services)) >> 32;
    let address = (0xc612_0000 + (flow >> 14)).to_be();
    let port = |host: u32| (host as u16).to_be();
    let ports = u32::from(port(0x4000 | flow & 0x3fff)) | u32::from(port(plan.first_port + service as u32)) << 16;
    if plan.v6 != 0 {
        store(ctx, 34, address)?;
        store(ctx, 54, ports)?;
    } else {
        store(ctx, 26, address)?;
        store(ctx, 34, ports)?;
    }
    // A locked instruction: it waits until all these stores are in the cache, where the packets of a driver are, too.
    // SAFETY: adds to a field of a live value.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) &raw mut (*progress).rounds, in(reg) 1u64) };
    Some(plan.target)
}

/// Restores words `FROM..TO` of the frame.
#[inline(always)]
fn restore<const FROM: usize, const TO: usize>(ctx: &XdpContext, plan: &Plan) -> Option<()> {
    let start = ctx.data();
    if start + 8 * TO > ctx.data_end() {
        return None;
    }
    for word in FROM..TO {
        // SAFETY: as many bytes are in the frame, as just checked.
        unsafe { ptr::write_unaligned((start as *mut u64).add(word), plan.bytes[word]) };
    }
    Some(())
}

#[inline(always)]
fn store(ctx: &XdpContext, offset: usize, value: u32) -> Option<()> {
    let at = ctx.data() + offset;
    if at + size_of::<u32>() > ctx.data_end() {
        return None;
    }
    // SAFETY: it lies in the frame, as just checked.
    unsafe { ptr::write_unaligned(at as *mut u32, value) };
    Some(())
}

/// The least that any program costs: returns at once.
#[xdp]
fn bench_return(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The least that a tunnel's entry costs: makes room for an IPv4 header, and sends the frame back.
#[xdp]
fn bench_head(ctx: XdpContext) -> u32 {
    // SAFETY: the helper checks the room.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -20) } == 0 { xdp_action::XDP_TX } else { xdp_action::XDP_ABORTED }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lends its helpers by the object's licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
