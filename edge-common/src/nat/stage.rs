//! The stage of a translated flow, by the packets of both sides.
//!
//! A flow is established when its client proves that it receives the backend's packets: the client acknowledges the
//! sequence number of the backend's SYN-ACK. So a flood of SYNs, whatever packets follow, makes no established flow.

use crate::{
    abi::{Timeouts, Tracking},
    flow_table::{Signal, Stage},
};

/// The stage after a packet of the client; `confirmed` if the packet proves that the client receives the backend's
/// packets.
#[inline(always)]
pub const fn after_client(stage: Stage, signal: Signal, confirmed: bool) -> Stage {
    match (stage, signal) {
        (_, Signal::Reset) => after_reset(stage),
        // The client reuses its port: a new connection takes the place of the old one.
        (Stage::Closed | Stage::Reset | Stage::Finished, Signal::Syn) => Stage::HalfOpen,
        (Stage::Established | Stage::Reset, Signal::Fin) => Stage::ClientClosed,
        (Stage::BackendClosed, Signal::Fin) => Stage::Closed,
        (Stage::Answered, Signal::Fin) if confirmed => Stage::ClientClosed,
        (Stage::Answered, Signal::Bare | Signal::Data) if confirmed => Stage::Established,
        // The flow goes on, so the RST came from somebody else.
        (Stage::Reset, Signal::Bare | Signal::Data) => Stage::Established,
        (_, Signal::Syn | Signal::Fin | Signal::Bare | Signal::Data) => stage,
    }
}

/// Whether the client has shown that it receives the backend's packets.
#[inline(always)]
pub(super) const fn is_accepted(stage: Stage) -> bool {
    !matches!(stage, Stage::HalfOpen | Stage::Answered)
}

/// The stage after a packet of the backend, whose SYN is a SYN-ACK. For a protocol without connections, any packet is
/// an answer.
#[inline(always)]
pub const fn after_backend(stage: Stage, signal: Signal, is_tcp: bool) -> Stage {
    match (stage, signal) {
        (_, Signal::Reset) => after_reset(stage),
        (Stage::HalfOpen, Signal::Syn) => Stage::Answered,
        (Stage::HalfOpen, _) if !is_tcp => Stage::Established,
        // No backend closes a connection that its client has not confirmed.
        (Stage::Established, Signal::Fin) => Stage::BackendClosed,
        (Stage::ClientClosed, Signal::Fin) => Stage::Finished,
        (Stage::Reset, Signal::Bare | Signal::Data) => Stage::Established,
        (_, Signal::Syn | Signal::Fin | Signal::Bare | Signal::Data) => stage,
    }
}

/// The stage after a RST of either side. A later packet revokes a RST, since anybody can forge one. So a RST changes
/// nothing before the client has proved that it is there: else three forged packets (a SYN, a RST and an ACK) would make
/// an established flow. What a backend has refused keeps its port for the short time of a flow that is half open.
#[inline(always)]
const fn after_reset(stage: Stage) -> Stage {
    if matches!(stage, Stage::HalfOpen | Stage::Answered) { stage } else { Stage::Reset }
}

/// The timeouts of translated flows in nanoseconds, from the idle timeout by kind of tracking.
pub fn timeouts(idle_ns: impl Fn(Tracking) -> u64) -> Timeouts {
    const SECOND: u64 = 1_000_000_000;
    let mut timeouts = Timeouts::STANDARD;
    for tracking in [Tracking::Stateless, Tracking::Tcp, Tracking::Quic, Tracking::Learn] {
        let idle = idle_ns(tracking);
        for stage in Stage::ALL {
            let (timeout, kept) = match stage {
                // Under pressure most of these belong to a flood of SYNs, so they make room soon. A client has more time to
                // answer than a backend, since its path may be longer.
                Stage::HalfOpen => (20 * SECOND, Some(SECOND)),
                Stage::Answered => (20 * SECOND, Some(2 * SECOND)),
                Stage::Established => (idle, None),
                Stage::ClientClosed | Stage::BackendClosed => (idle.min(240 * SECOND), None),
                // The time for which the backend waits. An earlier connection is judged by its SYN.
                Stage::Closed => (60 * SECOND, None),
                Stage::Finished => (60 * SECOND, Some(2 * SECOND)),
                Stage::Reset => (10 * SECOND, Some(2 * SECOND)),
            };
            timeouts = timeouts.with_stage(tracking.into(), stage, timeout, kept);
        }
    }
    timeouts
}
