//! The parts of the way that are functions of their own in the kernel.

use super::Known;
use crate::{
    abi::{Backend, BackendNumber, Exit, Generation, Target},
    forward::{Spread, send_spread},
    maps::Maps,
    nat,
    select::flow,
    slow::{self, reply, translated},
    step::{Change, Decision, FlowLocation, Seen, Sent, StepResult, Translate},
    wire::{link::Link, packet::Places},
};

/// The parts of the way that are BPF subprograms in the kernel: the verifier checks each once, for any arguments, not once for
/// each path to it, and its variables are not on the stack of a packet that does not need it. No subprogram calls another but [`Packet::sum`](crate::wire::packet::Packet::sum):
/// their stacks together would be too deep.
///
/// Here each is a plain call, which an implementation in the kernel overrides.
pub trait Subprograms<P: Places, M: Maps> {
    /// Classifies a slow-path packet.
    #[inline(always)]
    fn classify(&self, packet: &P, maps: &M, link: Link, bank: u32) -> StepResult {
        slow::classify(packet, maps, link, bank)
    }

    /// Where the flow at `location` goes by its connection ID, if that says anything.
    #[inline(always)]
    fn route(&self, packet: &P, maps: &M, known: Known, location: FlowLocation) -> StepResult {
        flow::route(packet, maps, known, location)
    }

    /// Looks the record of the flow at `location` up; its service and hash, too, where they are not known yet.
    #[inline(always)]
    fn look_up(&self, packet: &P, maps: &M, known: Known, location: FlowLocation) -> StepResult {
        flow::look_up(packet, maps, known, location)
    }

    /// Chooses a backend for the flow at `location`, by what its record says.
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
    fn forth(&self, packet: &P, maps: &M, target: Target, location: FlowLocation, to: BackendNumber) -> StepResult {
        nat::forth(packet, maps, target, location, to)
    }

    /// Makes an entry for a flow in `nat` that starts.
    #[inline(always)]
    fn open(&self, packet: &P, maps: &M, target: Target, location: FlowLocation, to: BackendNumber) -> StepResult {
        nat::open(packet, maps, target, location, to)
    }

    /// Finds the entry of the flow that a packet is a backend's answer of.
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

    /// The service of the flow at `location`, as [`Target::word`]; 0: none.
    #[inline(always)]
    fn target(&self, packet: &P, maps: &M, location: FlowLocation) -> u64 {
        flow::target(packet, maps, location)
    }

    /// Remembers which flow's a first fragment is that is about to be translated.
    #[inline(always)]
    fn remember(&self, packet: &P, maps: &M, link: Link, bank: u32, how: Translate) -> StepResult {
        translated::remember(packet, maps, link, bank, how)
    }

    /// Finds the entry of the flow that the packet quoted at `location` is one of.
    #[inline(always)]
    fn quoted(&self, packet: &P, maps: &M, location: FlowLocation) -> StepResult {
        nat::quoted(packet, maps, location)
    }

    /// Lets an error about a packet of a flow quote what the side has sent that it goes to.
    #[inline(always)]
    fn requote(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::requote(packet, maps, location, how)
    }

    /// Makes a packet whose flow's entry was found one of the other IP version, and sends it.
    #[inline(always)]
    fn cross(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::cross(packet, maps, location, how)
    }

    /// Lets an error about a packet of a flow quote what the side has sent that it goes to, in the other IP version.
    #[inline(always)]
    fn cross_quote(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::cross_quote(packet, maps, location, how)
    }

    /// Makes such an error one of the other IP version, and sends it.
    #[inline(always)]
    fn cross_error(&self, packet: &mut P, maps: &M, location: FlowLocation, how: Translate) -> StepResult {
        nat::cross_error(packet, maps, location, how)
    }

    /// Sends a packet by a tunnel whose ends are its flow's.
    #[inline(always)]
    fn spread(&self, packet: &mut P, maps: &M, generation: &Generation, backend: &Backend, spread: Spread) -> Sent {
        send_spread(packet, maps, generation, backend, spread).into()
    }

    /// Handles the consequences for a slow-path packet once a backend is chosen for its flow.
    #[inline(always)]
    fn finish(&self, packet: &P, maps: &M, link: Link, location: FlowLocation, result: StepResult) -> StepResult {
        slow::finish(packet, maps, link, location, result)
    }

    /// Judges a decision that is pending. What stays pending is to be answered.
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
