//! The parts of the packet path that are functions of their own in the kernel.

use super::Known;
use crate::{
    abi::{Backend, BackendNumber, Exit, Generation, ServiceRef},
    forward::{Spread, send_spread},
    maps::Maps,
    nat,
    select::flow,
    slow::{self, reply, translated},
    step::{Change, Decision, FlowLocation, Seen, Sent, StepResult, Translate},
    wire::{link::Link, packet::Places},
};

/// The parts of the packet path that are BPF subprograms in the kernel: the verifier checks each once, for any
/// arguments, not once for each path to it, and its variables are not on the stack of a packet that does not need it.
/// The only subprogram that others call is [`Packet::sum`](crate::wire::packet::Packet::sum): a longer chain of calls
/// would need too much stack.
///
/// Each method is a plain call by default, which an implementation in the kernel overrides.
pub trait Subprograms<P: Places, M: Maps> {
    /// Classifies a slow-path packet.
    #[inline(always)]
    fn classify(&self, packet: &P, maps: &M, link: Link, bank: u32) -> StepResult {
        slow::classify(packet, maps, link, bank)
    }

    /// Chooses the backend of the flow at `location` by its connection ID, if the ID decides.
    #[inline(always)]
    fn route(&self, packet: &P, maps: &M, known: Known, location: FlowLocation) -> StepResult {
        flow::route(packet, maps, known, location)
    }

    /// Looks up the record of the flow at `location`; also its service and hash, if they are not known yet.
    #[inline(always)]
    fn look_up(&self, packet: &P, maps: &M, known: Known, location: FlowLocation) -> StepResult {
        flow::look_up(packet, maps, known, location)
    }

    /// Chooses a backend for the flow at `location`, by the content of its record.
    #[inline(always)]
    fn choose(&self, packet: &P, maps: &M, known: Known, location: FlowLocation, seen: Option<Seen>) -> StepResult {
        flow::choose(packet, maps, known, location, seen)
    }

    /// Changes the record of the flow at `location`.
    #[inline(always)]
    fn amend(&self, packet: &P, maps: &M, known: Known, location: FlowLocation, change: Change) -> StepResult {
        flow::amend(packet, maps, known, location, change)
    }

    /// Adds a record of the flow at `location`.
    #[inline(always)]
    fn add(&self, packet: &P, maps: &M, known: Known, location: FlowLocation, change: Change) -> StepResult {
        flow::add(packet, maps, known, location, change)
    }

    /// Translates and sends a plain packet of an established flow, if nothing else is to be done for it.
    #[inline(always)]
    fn established(&self, packet: &mut P, maps: &M, decided: Decision) -> Decision {
        nat::established(packet, maps, decided)
    }

    /// Finds the entry of a packet to a service in `nat`.
    #[inline(always)]
    fn forth(
        &self,
        packet: &P,
        maps: &M,
        service_ref: ServiceRef,
        location: FlowLocation,
        to: BackendNumber,
    ) -> StepResult {
        nat::forth(packet, maps, service_ref, location, to)
    }

    /// Makes an entry for a flow in `nat` that starts.
    #[inline(always)]
    fn open(
        &self,
        packet: &P,
        maps: &M,
        service_ref: ServiceRef,
        location: FlowLocation,
        to: BackendNumber,
    ) -> StepResult {
        nat::open(packet, maps, service_ref, location, to)
    }

    /// Tells the backend the client's address, in a packet whose flow's entry was found.
    #[inline(always)]
    fn tell(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::tell(packet, maps, location, how)
    }

    /// Finds the entry of the flow that a backend's packet answers.
    #[inline(always)]
    fn back(&self, packet: &P, maps: &M, location: FlowLocation) -> StepResult {
        nat::back(packet, maps, location)
    }

    /// Translates a packet whose flow's entry was found, and sends it.
    #[inline(always)]
    fn send(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::send(packet, maps, location, how)
    }

    /// Classifies a slow-path packet that may be one of a translated flow.
    #[inline(always)]
    fn classify_translated(&self, packet: &P, maps: &M, link: Link, bank: u32) -> StepResult {
        translated::classify(packet, maps, link, bank)
    }

    /// The service of the flow at `location`, as [`ServiceRef::word`]; 0 if there is none.
    #[inline(always)]
    fn service_ref(&self, packet: &P, maps: &M, location: FlowLocation) -> u64 {
        flow::service_ref(packet, maps, location)
    }

    /// Remembers the flow of a first fragment that is about to be translated.
    #[inline(always)]
    fn remember(&self, packet: &P, maps: &M, link: Link, bank: u32, result: StepResult) -> StepResult {
        translated::remember(packet, maps, link, bank, result)
    }

    /// Finds the entry of the flow of the packet that is quoted at `location`.
    #[inline(always)]
    fn quoted(&self, packet: &P, maps: &M, location: FlowLocation) -> StepResult {
        nat::quoted(packet, maps, location)
    }

    /// Rewrites the packet that an error quotes to the packet that the error's receiver has sent.
    #[inline(always)]
    fn requote(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::requote(packet, maps, location, how)
    }

    /// Converts a packet whose flow's entry was found to the other IP version, and sends it.
    #[inline(always)]
    fn cross(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::cross(packet, maps, location, how)
    }

    /// Rewrites the packet that an error quotes to the packet that the error's receiver has sent, in the other IP
    /// version.
    #[inline(always)]
    fn cross_quote(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::cross_quote(packet, maps, location, how)
    }

    /// Converts such an error to the other IP version, and sends it.
    #[inline(always)]
    fn cross_error(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::cross_error(packet, maps, location, how)
    }

    /// Sends a packet by a tunnel whose outer addresses or ports depend on the flow.
    #[inline(always)]
    fn spread(&self, packet: &mut P, maps: &M, generation: &Generation, backend: &Backend, spread: Spread) -> Sent {
        send_spread(packet, maps, generation, backend, spread).into()
    }

    /// Handles the consequences for a slow-path packet once a backend is chosen for its flow.
    #[inline(always)]
    fn finish(&self, packet: &P, maps: &M, link: Link, location: FlowLocation, result: StepResult) -> StepResult {
        slow::finish(packet, maps, link, location, result)
    }

    /// Judges a pending decision. A packet whose decision stays pending is to be answered.
    #[inline(always)]
    fn judge(&self, packet: &P, maps: &M, decided: Decision) -> Decision {
        slow::judge(packet, maps, decided)
    }

    /// Makes the answer, and returns the exit by which the packet leaves.
    #[inline(always)]
    fn answer(&self, packet: &mut P, maps: &M, decided: Decision) -> Exit {
        reply::answer(packet, maps, decided)
    }
}

/// Subprograms as plain calls.
pub struct Inlined;

impl<P: Places, M: Maps> Subprograms<P, M> for Inlined {}
