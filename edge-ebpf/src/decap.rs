//! The decapsulation program, and its maps.

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::{HashMap, PerCpuArray},
    programs::XdpContext,
};
use edge_common::{
    abi::{DecapExit, Verdict},
    decap::{self, Sources},
};

use crate::packet::ContextPacket;

/// Edges that can be configured on a backend.
const MAX_SOURCES: u32 = 256;

/// An address as a map's key, aligned as the verifier wants what lies on the stack.
#[repr(C, align(8))]
struct Source([u8; 16]);

#[map]
static DECAP_SOURCES: HashMap<Source, u32> = HashMap::with_max_entries(MAX_SOURCES, 0);
#[map]
static DECAP_EXITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DecapExit::COUNT, 0);

struct KernelSources;

impl Sources for KernelSources {
    #[inline(always)]
    fn knows(&self, source: [u8; 16]) -> bool {
        // SAFETY: only its presence matters; no reference to the value is kept.
        unsafe { DECAP_SOURCES.get(Source(source)) }.is_some()
    }

    #[inline(always)]
    fn count_exit(&self, exit: DecapExit) {
        if let Some(count) = DECAP_EXITS.get_ptr_mut(exit as u32) {
            // SAFETY: this CPU's own counter, which no other program on it can interrupt us to change.
            unsafe { *count = (*count).wrapping_add(1) };
        }
    }
}

/// Decapsulation on a tunnel's backend.
#[xdp]
fn decap(ctx: XdpContext) -> u32 {
    let exit = decap::process(&mut ContextPacket::new(&ctx), &KernelSources);
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(&ctx, "decap exit {}", exit.name());
    match exit.verdict() {
        Verdict::Pass | Verdict::Tx | Verdict::Redirect => xdp_action::XDP_PASS,
        Verdict::Drop => xdp_action::XDP_DROP,
    }
}
