//! The programs: the load balancer and its translation (XDP), the sender and receiver of probes (tc), and for tunnel
//! backends the decapsulation (XDP) and the program that lowers the MSS of SYN-ACKs (tc).
//!
//! All logic is in edge-common. Here are the maps, the packet pointer, the subprograms, and the verdict of each exit.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "helpers return 64 bits for less, and subprograms take what was packed for them"
)]
#![expect(clippy::needless_pass_by_value, reason = "aya wants programs to take their context by value")]
#![warn(clippy::wildcard_enum_match_arm, reason = "a new exit must not fall into an old arm")]

mod decap;
mod flow_memory;
mod fragments;
mod maps;
mod mss;
mod packet;
mod probe;
mod routing;
mod subprograms;
#[cfg(feature = "traced")]
mod traced;
#[cfg(not(feature = "traced"))]
#[path = "untraced.rs"]
mod traced;

use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use edge_common::{
    abi::{Exit, Verdict},
    pipeline::{self, translate},
    step::Outcome,
};

use crate::{maps::KernelMaps, packet::ContextPacket, subprograms::Global};

/// Verdict of a tc program that lets the next program or filter decide about the packet (`TCX_NEXT`, `TC_ACT_UNSPEC`).
/// `TC_ACT_OK` would end the chain, and with it the filters of this host's operator.
const NEXT: i32 = -1;

/// The load balancer.
#[xdp]
fn edge(ctx: XdpContext) -> u32 {
    traced::sample(&ctx);
    let (packet, maps) = (&mut ContextPacket::new(&ctx), &KernelMaps::without_notes(&ctx));
    match pipeline::process_with(packet, maps, &Global(ctx.ctx)) {
        Ok(forwarded) => send(&ctx, forwarded),
        Err(exit) => leave(&ctx, exit),
    }
}

/// Translates packets that the load balancer hands over.
#[xdp]
#[inline(always)]
fn nat(ctx: XdpContext) -> u32 {
    let (packet, maps) = (&mut ContextPacket::new(&ctx), &KernelMaps::new(&ctx));
    match translate::process_with(packet, maps, &Global(ctx.ctx)) {
        Ok(forwarded) => {
            traced::finish(&ctx, forwarded.exit, forwarded.egress);
            send(&ctx, forwarded)
        }
        Err(exit) => {
            traced::finish(&ctx, exit, 0);
            leave(&ctx, exit)
        }
    }
}

/// Sends a packet that was forwarded.
#[inline(always)]
#[cfg_attr(not(feature = "trace"), expect(unused_variables, reason = "the context is for the log"))]
fn send(ctx: &XdpContext, Outcome { exit, egress }: Outcome) -> u32 {
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(ctx, "exit {} egress {}", exit.name(), egress);
    if exit.is_redirect() {
        // SAFETY: the helper takes two numbers, and refuses an interface that does not exist.
        (unsafe { bpf_redirect(egress, 0) }) as u32
    } else {
        xdp_action::XDP_TX
    }
}

/// Ends the path of a packet that is not forwarded, of which none leaves by another interface.
#[inline(always)]
#[cfg_attr(not(feature = "trace"), expect(unused_variables, reason = "the context is for the log"))]
fn leave(ctx: &XdpContext, exit: Exit) -> u32 {
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(ctx, "exit {}", exit.name());
    match exit.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Tx | Verdict::Redirect => xdp_action::XDP_TX,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that can reach this point.
    loop {}
}

/// The kernel makes helpers available by the object's licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
