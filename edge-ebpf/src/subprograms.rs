//! BPF subprograms: code that the verifier checks apart from the fast path.
//!
//! Each is a global function (not mangled, with C's ABI) whose arguments are the context and at most four registers, so that
//! the verifier checks it once, for any packet and any arguments.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use edge_common::{
    abi::{Backend, BackendNumber, Exit, Generation, ServiceRef, program},
    forward::{Spread, send_spread},
    hash::Hash,
    maps::Maps,
    nat,
    pipeline::{HandOver, Subprograms},
    select::flow,
    slow::{self, reply, translated},
    step::{Change, Decision, FlowLocation, Outcome, Seen, Sent, StepResult, Translate},
    wire::{link::Link, packet::Places},
};

use crate::{
    maps::{CALLS, KernelMaps},
    packet::ContextPacket,
    traced,
};

/// The subprograms as calls of global functions.
pub(crate) struct Global(pub(crate) *mut xdp_md);

impl<P: Places, M: Maps> HandOver<P, M> for Global {
    #[inline(always)]
    fn hand_over(&self, _packet: &mut P, _maps: &M) -> Option<Result<Outcome, Exit>> {
        // SAFETY: the context is the program's own.
        unsafe { CALLS.tail_call(&XdpContext::new(self.0), program::NAT_AT) };
        None
    }
}

impl<P: Places, M: Maps> Subprograms<P, M> for Global {
    #[inline(always)]
    fn spread(&self, _packet: &mut P, _maps: &M, generation: &Generation, backend: &Backend, spread: Spread) -> Sent {
        Sent(edge_spread(self.0, generation, backend, spread.word()))
    }

    #[inline(always)]
    fn classify(&self, _packet: &P, _maps: &M, link: Link, bank: u32) -> StepResult {
        StepResult(edge_classify(self.0, link.l3 as u32, link.ether_type.into(), bank))
    }

    #[inline(always)]
    fn route(&self, _packet: &P, _maps: &M, known: Known, location: FlowLocation) -> StepResult {
        let (location, service_ref, hash) = packed(known, location);
        StepResult(edge_route(self.0, location, service_ref, hash))
    }

    #[inline(always)]
    fn look_up(&self, _packet: &P, _maps: &M, known: Known, location: FlowLocation) -> StepResult {
        let (location, service_ref, hash) = packed(known, location);
        StepResult(edge_look_up(self.0, location, service_ref, hash))
    }

    #[inline(always)]
    fn choose(&self, _packet: &P, _maps: &M, known: Known, location: FlowLocation, seen: Option<Seen>) -> StepResult {
        let (location, service_ref, hash) = packed(known, location);
        StepResult(edge_choose(self.0, location, service_ref, hash, Seen::word(seen)))
    }

    #[inline(always)]
    fn amend(&self, _packet: &P, _maps: &M, known: Known, location: FlowLocation, change: Change) -> StepResult {
        let (location, service_ref, hash) = packed(known, location);
        StepResult(edge_amend(self.0, location, service_ref, hash, StepResult::from(change).0))
    }

    #[inline(always)]
    fn add(&self, _packet: &P, _maps: &M, known: Known, location: FlowLocation, change: Change) -> StepResult {
        let (location, service_ref, hash) = packed(known, location);
        StepResult(edge_add(self.0, location, service_ref, hash, StepResult::from(change).0))
    }

    #[inline(always)]
    fn established(&self, _packet: &mut P, _maps: &M, Decision(decided): Decision) -> Decision {
        Decision(edge_established(self.0, decided))
    }

    #[inline(always)]
    fn forth(
        &self,
        _packet: &P,
        _maps: &M,
        service_ref: ServiceRef,
        location: FlowLocation,
        chosen: BackendNumber,
    ) -> StepResult {
        StepResult(edge_forth(self.0, StepResult::from(location).0, service_ref.word(), chosen.into()))
    }

    #[inline(always)]
    fn open(
        &self,
        _packet: &P,
        _maps: &M,
        service_ref: ServiceRef,
        location: FlowLocation,
        to: BackendNumber,
    ) -> StepResult {
        StepResult(edge_open(self.0, StepResult::from(location).0, service_ref.word(), to.into()))
    }

    #[inline(always)]
    fn tell(&self, _packet: &mut P, _maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        StepResult(edge_tell(self.0, StepResult::from(location).0, StepResult::from(how).0))
    }

    #[inline(always)]
    fn back(&self, _packet: &P, _maps: &M, location: FlowLocation) -> StepResult {
        StepResult(edge_back(self.0, StepResult::from(location).0))
    }

    #[inline(always)]
    fn send(&self, _packet: &mut P, _maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        StepResult(edge_send(self.0, StepResult::from(location).0, StepResult::from(how).0))
    }

    #[inline(always)]
    fn classify_translated(&self, _packet: &P, _maps: &M, link: Link, bank: u32) -> StepResult {
        StepResult(edge_classify_translated(self.0, link.l3 as u32, link.ether_type.into(), bank))
    }

    #[inline(always)]
    fn service_ref(&self, _packet: &P, _maps: &M, location: FlowLocation) -> u64 {
        edge_target(self.0, StepResult::from(location).0)
    }

    #[inline(always)]
    fn remember(&self, _packet: &P, _maps: &M, link: Link, bank: u32, result: StepResult) -> StepResult {
        StepResult(edge_remember(self.0, link.l3 as u32, link.ether_type.into(), bank, result.0))
    }

    #[inline(always)]
    fn quoted(&self, _packet: &P, _maps: &M, location: FlowLocation) -> StepResult {
        StepResult(edge_quoted(self.0, StepResult::from(location).0))
    }

    #[inline(always)]
    fn requote(&self, _packet: &mut P, _maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        StepResult(edge_requote(self.0, StepResult::from(location).0, StepResult::from(how).0))
    }

    #[inline(always)]
    fn cross(&self, _packet: &mut P, _maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        StepResult(edge_cross(self.0, StepResult::from(location).0, StepResult::from(how).0))
    }

    #[inline(always)]
    fn cross_quote(&self, _packet: &mut P, _maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        StepResult(edge_cross_quote(self.0, StepResult::from(location).0, StepResult::from(how).0))
    }

    #[inline(always)]
    fn cross_error(&self, _packet: &mut P, _maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        StepResult(edge_cross_error(self.0, StepResult::from(location).0, StepResult::from(how).0))
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

/// A flow's service, and the hash by which it has its slot.
type Known = Option<(ServiceRef, Hash)>;

/// A flow's location and state, in three words. A service has several slots, so that its reference is not 0.
#[inline(always)]
fn packed(known: Known, location: FlowLocation) -> (u64, u64, u64) {
    let location = StepResult::from(location).0;
    match known {
        Some((service_ref, Hash(hash))) => (location, service_ref.word(), hash),
        None => (location, 0, 0),
    }
}

#[inline(always)]
const fn known(service_ref: u64, hash: u64) -> Known {
    if service_ref == 0 { None } else { Some((ServiceRef::from_word(service_ref), Hash(hash))) }
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

subprogram!(edge_route(packet, maps, location: u64, service_ref: u64, hash: u64) -> u64 {
    flow::route(packet, maps, known(service_ref, hash), StepResult(location).location()).0
});

subprogram!(edge_look_up(packet, maps, location: u64, service_ref: u64, hash: u64) -> u64 {
    flow::look_up(packet, maps, known(service_ref, hash), StepResult(location).location()).0
});

subprogram!(edge_choose(packet, maps, location: u64, service_ref: u64, hash: u64, seen: u64) -> u64 {
    let (known, seen) = (known(service_ref, hash), Seen::from_word(seen));
    if let Some(seen) = seen {
        traced::reads_record(seen);
    }
    flow::choose(packet, maps, known, StepResult(location).location(), seen).0
});

subprogram!(edge_amend(packet, maps, location: u64, service_ref: u64, hash: u64, change: u64) -> u64 {
    traced::changes_record();
    let known = known(service_ref, hash);
    flow::amend(packet, maps, known, StepResult(location).location(), StepResult(change).change()).0
});

subprogram!(edge_add(packet, maps, location: u64, service_ref: u64, hash: u64, change: u64) -> u64 {
    traced::changes_record();
    let known = known(service_ref, hash);
    flow::add(packet, maps, known, StepResult(location).location(), StepResult(change).change()).0
});

subprogram!(edge_established(packet, maps, decided: u64) -> u64 {
    nat::established(packet, maps, Decision(decided)).0
});

subprogram!(edge_forth(packet, maps, location: u64, service_ref: u64, chosen: u32) -> u64 {
    nat::forth(packet, maps, ServiceRef::from_word(service_ref), StepResult(location).location(), chosen as u16).0
});

subprogram!(edge_open(packet, maps, location: u64, service_ref: u64, to: u32) -> u64 {
    nat::open(packet, maps, ServiceRef::from_word(service_ref), StepResult(location).location(), to as u16).0
});

subprogram!(edge_tell(packet, maps, location: u64, how: u64) -> u64 {
    nat::tell(packet, maps, StepResult(location).location(), StepResult(how).translate()).0
});

subprogram!(edge_back(packet, maps, location: u64) -> u64 {
    nat::back(packet, maps, StepResult(location).location()).0
});

subprogram!(edge_send(packet, maps, location: u64, how: u64) -> u64 {
    nat::send(packet, maps, StepResult(location).location(), StepResult(how).translate()).0
});

subprogram!(edge_classify_translated(packet, maps, l3: u32, ether_type: u32, bank: u32) -> u64 {
    translated::classify(packet, maps, link(l3, ether_type), bank).0
});

subprogram!(edge_target(packet, maps, location: u64) -> u64 {
    flow::service_ref(packet, maps, StepResult(location).location())
});

subprogram!(edge_remember(packet, maps, l3: u32, ether_type: u32, bank: u32, result: u64) -> u64 {
    translated::remember(packet, maps, link(l3, ether_type), bank, StepResult(result)).0
});

subprogram!(edge_quoted(packet, maps, location: u64) -> u64 {
    nat::quoted(packet, maps, StepResult(location).location()).0
});

subprogram!(edge_requote(packet, maps, location: u64, how: u64) -> u64 {
    nat::requote(packet, maps, StepResult(location).location(), StepResult(how).translate()).0
});

subprogram!(edge_cross(packet, maps, location: u64, how: u64) -> u64 {
    nat::cross(packet, maps, StepResult(location).location(), StepResult(how).translate()).0
});

subprogram!(edge_cross_quote(packet, maps, location: u64, how: u64) -> u64 {
    nat::cross_quote(packet, maps, StepResult(location).location(), StepResult(how).translate()).0
});

subprogram!(edge_cross_error(packet, maps, location: u64, how: u64) -> u64 {
    nat::cross_error(packet, maps, StepResult(location).location(), StepResult(how).translate()).0
});

/// Not global, so that its arguments may be map values: its packets pay for no second lookup.
#[inline(never)]
fn edge_spread(ctx: *mut xdp_md, generation: &Generation, backend: &Backend, spread: u32) -> u64 {
    let ctx = XdpContext::new(ctx);
    let (packet, maps) = (&mut ContextPacket::new(&ctx), &KernelMaps::new(&ctx));
    Sent::from(send_spread(packet, maps, generation, backend, Spread::from_word(spread))).0
}

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
