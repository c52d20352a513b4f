//! The XDP programs: the load balancer, and the decapsulation on the backends of its tunnels.
//!
//! All logic is in edge-common. Here are the maps, the packet pointer, and the way from an exit to a verdict.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod decap;
mod maps;
mod packet;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use edge_common::{
    exit::{Exit, Verdict},
    pipeline::{self, Decision, Outcome},
    reply,
};

use crate::{maps::KernelTables, packet::ContextPacket};

/// The load balancer.
#[xdp]
fn edge(ctx: XdpContext) -> u32 {
    let answer = |_: &mut _, Decision(decided)| Exit::from_raw(edge_answer(ctx.ctx, decided));
    let Outcome { exit, egress } =
        pipeline::process_with(&mut ContextPacket::new(&ctx), &KernelTables::new(&ctx), answer);
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(&ctx, "exit {} egress {}", exit.name(), egress);
    match exit.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Tx => xdp_action::XDP_TX,
        Verdict::Redirect => redirect(egress),
    }
}

/// Answers a packet as a [`Decision`] says; the exit by which it leaves in the end.
///
/// A function of its own, so that neither deciding nor answering has the other's variables on its stack; and a global one
/// (not mangled, with C's ABI), so that the verifier looks at it once, for any packet and any decision.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_answer(ctx: *mut xdp_md, decided: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    reply::answer(&mut ContextPacket::new(&ctx), Decision(decided)) as u32
}

/// Sends the frame out of interface `egress`.
fn redirect(egress: u32) -> u32 {
    // SAFETY: the helper takes two numbers, and refuses an interface that is not there.
    (unsafe { bpf_redirect(egress, 0) }) as u32
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can come here.
    loop {}
}

/// The kernel lends its helpers by the object's licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
