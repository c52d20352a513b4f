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
    fn choose(&self, _packet: &P, target: Target, flow: Hash, place: Place) -> Found {
        Found(edge_choose(self.0, target.word(), flow.0, place.pack()))
    }

    #[inline(always)]
    fn odd(&self, _packet: &P, link: Link, half: u32) -> Found {
        Found(edge_odd(self.0, link.l3 as u32, link.ether_type.into(), half))
    }

    #[inline(always)]
    fn answer(&self, _packet: &mut P, Decision(decided): Decision) -> Exit {
        Exit::from_raw(edge_answer(self.0, decided))
    }
}

/// [`pipeline::choose`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_choose(ctx: *mut xdp_md, target: u64, flow: u64, place: u64) -> u64 {
    let ctx = XdpContext::new(ctx);
    let Found(found) = pipeline::choose(
        &ContextPacket::new(&ctx),
        &KernelTables::new(&ctx),
        Target::from_word(target),
        Hash(flow),
        Place::unpack(place),
    );
    found
}

/// [`odd::find`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn edge_odd(ctx: *mut xdp_md, l3: u32, ether_type: u32, half: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let link = Link { l3: l3 as usize & 31, ether_type: ether_type as u16 };
    let Found(found) = odd::find(&ContextPacket::new(&ctx), &KernelTables::new(&ctx), &Calls(ctx.ctx), link, half & 1);
    found
}

/// [`reply::answer`].
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
