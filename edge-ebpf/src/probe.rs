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

/// The probes in flight, as packets on an interface find them.
struct KernelProbes {
    /// Index of the interface by which an answer has arrived; 0 for the probes' own packets.
    answered_by: u32,
}

impl Probes for KernelProbes {
    #[inline(always)]
    fn find_v4(&self, key: &FlowKeyV4) -> Option<ProbeRoute> {
        Some(self.note(PROBES_V4.get_ptr_mut(key)?))
    }

    #[inline(always)]
    fn find_v6(&self, key: &FlowKeyV6) -> Option<ProbeRoute> {
        Some(self.note(PROBES_V6.get_ptr_mut(key)?))
    }
}

impl KernelProbes {
    /// Copies an entry of the maps, and notes in it by which interface its probe was answered.
    #[inline(always)]
    fn note(&self, entry: *mut ProbeRoute) -> ProbeRoute {
        // SAFETY: the entry is in a map, whose memory stays until this program has ended. All others that write it at the
        // same time write one aligned word as well.
        unsafe {
            if self.answered_by != 0 {
                (&raw mut (*entry).answered_by).write_volatile(self.answered_by);
            }
            *entry
        }
    }
}

/// On the door, for packets from the probers' network. Only probes are let through.
#[classifier]
fn probe_out(ctx: TcContext) -> i32 {
    let (packet, maps) = (&mut ContextPacket::new(&ctx), &KernelMaps::new(&ctx));
    match probe::send(packet, maps, &KernelProbes { answered_by: 0 }) {
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
    // SAFETY: the context is the kernel's, and lives as long as the program runs.
    let answered_by = unsafe { (*ctx.skb.skb).ifindex };
    match probe::answered(&ContextPacket::new(&ctx), &KernelProbes { answered_by }) {
        // SAFETY: as above.
        Some(door) => (unsafe { bpf_redirect_peer(door, 0) }) as i32,
        None => NEXT,
    }
}
