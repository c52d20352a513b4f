//! The XDP programs: the load balancer, and the decapsulation on the backends of its tunnels.
//!
//! All logic is in edge-common. Here are the maps, the packet pointer, and the way from an exit to a verdict.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod decap;
mod hashed;
mod maps;
mod packet;

use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use edge_common::{
    abi::Target,
    exit::{Exit, Verdict},
    flow,
    frame::Link,
    hash::Hash,
    pipeline::{self, Decision, FlowLocation, Outcome, StepResult, Subprograms},
    reply, slow,
};

use crate::{maps::KernelTables, packet::ContextPacket};

/// The load balancer.
#[xdp]
fn edge(ctx: XdpContext) -> u32 {
    let Outcome { exit, egress } =
        pipeline::process_with(&mut ContextPacket::new(&ctx), &KernelTables::new(&ctx), &Calls(ctx.ctx));
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(&ctx, "exit {} egress {}", exit.name(), egress);
    match exit.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
        Verdict::Tx => xdp_action::XDP_TX,
        Verdict::Redirect => redirect(egress),
    }
}

/// The subprograms as functions of their own, and global ones (not mangled, with C's ABI): the verifier looks at each once, for
/// any packet and any arguments.
struct Calls(*mut xdp_md);

impl<P> Subprograms<P> for Calls {
    #[inline(always)]
    fn classify(&self, _packet: &P, link: Link, bank: u32) -> StepResult {
        StepResult(edge_classify(self.0, link.l3 as u32, link.ether_type.into(), bank))
    }

    #[inline(always)]
    fn choose(&self, _packet: &P, known: Option<(Target, Hash)>, location: FlowLocation) -> StepResult {
        let (known, (target, hash)) = (known.is_some(), known.unwrap_or((Target::default(), Hash(0))));
        StepResult(edge_choose(self.0, StepResult::from(location).0, known.into(), target.word(), hash.0))
    }

    #[inline(always)]
    fn finish(&self, _packet: &P, link: Link, location: FlowLocation, result: StepResult) -> StepResult {
        StepResult(edge_finish(self.0, link.l3 as u32, link.ether_type.into(), StepResult::from(location).0, result.0))
    }

    #[inline(always)]
    fn answer(&self, _packet: &mut P, Decision(decided): Decision) -> Exit {
        Exit::from_raw(edge_answer(self.0, decided))
    }
}

/// [`slow::classify`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_classify(ctx: *mut xdp_md, l3: u32, ether_type: u32, bank: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let StepResult(result) =
        slow::classify(&ContextPacket::new(&ctx), &KernelTables::new(&ctx), link(l3, ether_type), bank & 1);
    result
}

/// [`flow::choose`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_choose(ctx: *mut xdp_md, location: u64, known: u64, target: u64, hash: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let known = if known == 0 { None } else { Some((Target::from_word(target), Hash(hash))) };
    let StepResult(result) =
        flow::choose(&ContextPacket::new(&ctx), &KernelTables::new(&ctx), known, StepResult(location).location());
    result
}

/// [`slow::finish`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_finish(ctx: *mut xdp_md, l3: u32, ether_type: u32, location: u64, result: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let (packet, tables) = (ContextPacket::new(&ctx), KernelTables::new(&ctx));
    let StepResult(result) =
        slow::finish(&packet, &tables, link(l3, ether_type), StepResult(location).location(), StepResult(result));
    result
}

/// A link layer that was parsed before.
#[inline(always)]
fn link(l3: u32, ether_type: u32) -> Link {
    Link { l3: l3 as usize & 31, ether_type: ether_type as u16 }
}

/// [`reply::answer`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_answer(ctx: *mut xdp_md, decided: u64) -> u32 {
    let ctx = XdpContext::new(ctx);
    reply::answer(&mut ContextPacket::new(&ctx), &KernelTables::new(&ctx), Decision(decided)) as u32
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
