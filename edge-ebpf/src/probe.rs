//! The tc programs of probes, and their maps.
//!
//! They affect only packets whose flow is in the maps, where the controller adds the flows of its own sockets.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, TC_ACT_SHOT},
    helpers::{bpf_redirect, bpf_redirect_peer},
    macros::{classifier, map},
    maps::HashMap,
    programs::TcContext,
};
use edge_common::{
    abi::{FlowKeyV4, FlowKeyV6, ProbeRoute},
    probe::{self, Probes},
};

use crate::{NEXT, maps::KernelMaps, packet::ContextPacket};

/// Probes in flight at a time. User space loads these programs with room for more, and other programs without.
const ENTRIES: u32 = 1;
/// Bytes of a frame that are read: a link layer header, and an ICMPv6 error with its quoted packet up to the ports.
const HEADERS: u32 = 128;

#[map]
static PROBES_V4: HashMap<FlowKeyV4, ProbeRoute> = HashMap::with_max_entries(ENTRIES, BPF_F_NO_PREALLOC);
#[map]
static PROBES_V6: HashMap<FlowKeyV6, ProbeRoute> = HashMap::with_max_entries(ENTRIES, BPF_F_NO_PREALLOC);

struct KernelProbes;

impl Probes for KernelProbes {
    #[inline(always)]
    fn find_v4(&self, key: &FlowKeyV4) -> Option<ProbeRoute> {
        // SAFETY: the value is copied at once; it is never changed.
        unsafe { PROBES_V4.get(key) }.copied()
    }

    #[inline(always)]
    fn find_v6(&self, key: &FlowKeyV6) -> Option<ProbeRoute> {
        // SAFETY: as above.
        unsafe { PROBES_V6.get(key) }.copied()
    }
}

/// On the door, for packets from the probers' network. Only probes are let through.
#[classifier]
fn probe_out(ctx: TcContext) -> i32 {
    let (packet, maps) = (&mut ContextPacket::new(&ctx), &KernelMaps::new(&ctx));
    match probe::send(packet, maps, &KernelProbes) {
        // SAFETY: the helper takes two numbers, and refuses an interface that does not exist.
        Some(egress) => (unsafe { bpf_redirect(egress, 0) }) as i32,
        None => TC_ACT_SHOT,
    }
}

/// On the interfaces that receive answers. The next program decides about all other packets.
#[classifier]
fn probe_in(ctx: TcContext) -> i32 {
    let visible = (ctx.data_end() - ctx.data()) as u32;
    if visible < HEADERS && visible < ctx.len() && ctx.pull_data(HEADERS.min(ctx.len())).is_err() {
        return NEXT;
    }
    match probe::answered(&ContextPacket::new(&ctx), &KernelProbes) {
        // SAFETY: as above.
        Some(door) => (unsafe { bpf_redirect_peer(door, 0) }) as i32,
        None => NEXT,
    }
}
