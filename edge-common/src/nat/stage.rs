//! How far a translated flow is, by the packets of both sides.
//!
//! A flow is established when its client shows that it has heard the backend: it quotes the number that the backend's SYN-ACK
//! began with. So a flood of SYNs, followed by whatever, makes no established flow.

use crate::{
    abi::{Timeouts, Tracking},
    flow_table::{Signal, Stage},
};

/// After a packet of the client; `confirmed` if it shows that the client has heard the backend.
#[inline(always)]
pub const fn after_client(stage: Stage, signal: Signal, confirmed: bool) -> Stage {
    match (stage, signal) {
        (_, Signal::Reset) => Stage::Reset,
        // The client's ports come round: a new connection in the place of the old one.
        (Stage::Closed | Stage::Reset | Stage::Finished, Signal::Syn) => Stage::HalfOpen,
        (Stage::Established | Stage::Reset, Signal::Fin) => Stage::ClientClosed,
        (Stage::BackendClosed, Signal::Fin) => Stage::Closed,
        (Stage::Answered, Signal::Fin) if confirmed => Stage::ClientClosed,
        (Stage::Answered, Signal::Bare | Signal::Data) if confirmed => Stage::Established,
        // What goes on was reset by somebody else.
        (Stage::Reset, Signal::Bare | Signal::Data) => Stage::Established,
        (_, Signal::Syn | Signal::Fin | Signal::Bare | Signal::Data) => stage,
    }
}

/// After a packet of the backend, whose SYN is a SYN-ACK. Of a protocol without connections any packet answers.
#[inline(always)]
pub const fn after_backend(stage: Stage, signal: Signal, is_tcp: bool) -> Stage {
    match (stage, signal) {
        (_, Signal::Reset) => Stage::Reset,
        (Stage::HalfOpen, Signal::Syn) => Stage::Answered,
        (Stage::HalfOpen, _) if !is_tcp => Stage::Established,
        (Stage::Established | Stage::Answered, Signal::Fin) => Stage::BackendClosed,
        (Stage::ClientClosed, Signal::Fin) => Stage::Finished,
        (Stage::Reset, Signal::Bare | Signal::Data) => Stage::Established,
        (_, Signal::Syn | Signal::Fin | Signal::Bare | Signal::Data) => stage,
    }
}

/// The time-outs of translated flows, given those of established ones by how they are tracked, nanoseconds.
pub fn timeouts(idle_ns: impl Fn(Tracking) -> u64) -> Timeouts {
    const SECOND: u64 = 1_000_000_000;
    let mut timeouts = Timeouts::STANDARD;
    for tracking in [Tracking::Stateless, Tracking::Tcp, Tracking::Quic, Tracking::Learn] {
        let idle = idle_ns(tracking);
        for stage in Stage::ALL {
            let (timeout, kept) = match stage {
                Stage::HalfOpen | Stage::Answered => (20 * SECOND, Some(3 * SECOND)),
                Stage::Established => (idle, None),
                Stage::ClientClosed | Stage::BackendClosed => (idle.min(240 * SECOND), None),
                // As long as the backend waits. Who comes earlier is judged by what it sends.
                Stage::Closed => (60 * SECOND, None),
                Stage::Finished => (60 * SECOND, Some(2 * SECOND)),
                Stage::Reset => (10 * SECOND, Some(2 * SECOND)),
            };
            timeouts = timeouts.with_stage(tracking.into(), stage, timeout, kept);
        }
    }
    timeouts
}
