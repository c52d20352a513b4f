//! BPF subprograms: what the verifier checks apart from the fast path.
//!
//! Each is a global function (not mangled, with C's ABI) whose arguments are the context and at most four registers, so that
//! the verifier checks it once, for any packet and any arguments.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use edge_common::{
    abi::{Exit, Target},
    lookup::hash::Hash,
    maps::Maps,
    pipeline::Subprograms,
    select::flow,
    slow::{self, reply},
    step::{Decision, FlowLocation, StepResult},
    wire::{link::Link, packet::Packet},
};

use crate::{maps::KernelMaps, packet::ContextPacket};

/// The subprograms as calls of global functions.
pub(crate) struct Global(pub(crate) *mut xdp_md);

impl<P: Packet, M: Maps> Subprograms<P, M> for Global {
    #[inline(always)]
    fn classify(&self, _packet: &P, _maps: &M, link: Link, bank: u32) -> StepResult {
        StepResult(edge_classify(self.0, link.l3 as u32, link.ether_type.into(), bank))
    }

    #[inline(always)]
    fn choose(&self, _packet: &P, _maps: &M, known: Option<(Target, Hash)>, location: FlowLocation) -> StepResult {
        let (known, (target, hash)) = (known.is_some(), known.unwrap_or((Target::default(), Hash(0))));
        StepResult(edge_choose(self.0, StepResult::from(location).0, known.into(), target.word(), hash.0))
    }

    #[inline(always)]
    fn finish(&self, _packet: &P, _maps: &M, link: Link, location: FlowLocation, result: StepResult) -> StepResult {
        StepResult(edge_finish(self.0, link.l3 as u32, link.ether_type.into(), StepResult::from(location).0, result.0))
    }

    #[inline(always)]
    fn judge(&self, _packet: &P, _maps: &M, Decision(decided): Decision) -> Decision {
        Decision(edge_judge(self.0, decided))
    }

    #[inline(always)]
    fn answer(&self, _packet: &mut P, _maps: &M, Decision(decided): Decision) -> Exit {
        Exit::from_raw(edge_answer(self.0, decided))
    }
}

/// A global function on the context's packet and the maps.
macro_rules! subprogram {
    ($name:ident($packet:ident, $maps:ident, $($argument:ident: $type:ty),+) -> $result:ty $body:block) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(ctx: *mut xdp_md, $($argument: $type),+) -> $result {
            let ctx = XdpContext::new(ctx);
            let ($packet, $maps) = (&mut ContextPacket::new(&ctx), &KernelMaps::new(&ctx));
            $body
        }
    };
}

subprogram!(edge_classify(packet, maps, l3: u32, ether_type: u32, bank: u32) -> u64 {
    slow::classify(packet, maps, link(l3, ether_type), bank & 1).0
});

subprogram!(edge_choose(packet, maps, location: u64, known: u64, target: u64, hash: u64) -> u64 {
    let known = if known == 0 { None } else { Some((Target::from_word(target), Hash(hash))) };
    flow::choose(packet, maps, known, StepResult(location).location()).0
});

subprogram!(edge_finish(packet, maps, l3: u32, ether_type: u32, location: u64, result: u64) -> u64 {
    slow::finish(packet, maps, link(l3, ether_type), StepResult(location).location(), StepResult(result)).0
});

subprogram!(edge_judge(packet, maps, decided: u64) -> u64 {
    slow::judge(packet, maps, Decision(decided)).0
});

subprogram!(edge_answer(packet, maps, decided: u64) -> u32 {
    reply::answer(packet, maps, Decision(decided)) as u32
});

/// A link layer that was parsed before.
#[inline(always)]
fn link(l3: u32, ether_type: u32) -> Link {
    Link { l3: l3 as usize & 31, ether_type: ether_type as u16 }
}
