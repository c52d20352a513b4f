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
    odd,
    pipeline::{self, Decision, Detours, Found, Outcome, Place},
    reply,
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

/// The detours as functions of their own, and global ones (not mangled, with C's ABI): the verifier looks at each once, for
/// any packet and any arguments.
struct Calls(*mut xdp_md);

impl<P> Detours<P> for Calls {
    #[inline(always)]
    fn odd(&self, _packet: &P, link: Link, bank: u32) -> Found {
        Found(edge_odd(self.0, link.l3 as u32, link.ether_type.into(), bank))
    }

    #[inline(always)]
    fn choose(&self, _packet: &P, known: Option<(Target, Hash)>, place: Place) -> Found {
        let (known, (target, hash)) = (known.is_some(), known.unwrap_or((Target::default(), Hash(0))));
        Found(edge_choose(self.0, Found::from(place).0, known.into(), target.word(), hash.0))
    }

    #[inline(always)]
    fn conclude(&self, _packet: &P, link: Link, place: Place, found: Found) -> Found {
        Found(edge_conclude(self.0, link.l3 as u32, link.ether_type.into(), Found::from(place).0, found.0))
    }

    #[inline(always)]
    fn answer(&self, _packet: &mut P, Decision(decided): Decision) -> Exit {
        Exit::from_raw(edge_answer(self.0, decided))
    }
}

/// [`odd::find`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_odd(ctx: *mut xdp_md, l3: u32, ether_type: u32, bank: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Found(found) = odd::find(&ContextPacket::new(&ctx), &KernelTables::new(&ctx), link(l3, ether_type), bank & 1);
    found
}

/// [`flow::choose`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_choose(ctx: *mut xdp_md, place: u64, known: u64, target: u64, hash: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let known = if known == 0 { None } else { Some((Target::from_word(target), Hash(hash))) };
    let Found(found) = flow::choose(&ContextPacket::new(&ctx), &KernelTables::new(&ctx), known, Found(place).place());
    found
}

/// [`odd::conclude`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_conclude(ctx: *mut xdp_md, l3: u32, ether_type: u32, place: u64, found: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let (packet, tables) = (ContextPacket::new(&ctx), KernelTables::new(&ctx));
    let Found(found) = odd::conclude(&packet, &tables, link(l3, ether_type), Found(place).place(), Found(found));
    found
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
