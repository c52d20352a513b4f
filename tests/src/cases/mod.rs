//! The table of cases: for each exit of the two programs, packets that take it, and the expected frames.

mod answered;
mod decapsulated;
mod decapsulated_udp;
mod dropped;
mod forwarded;
mod passed;
pub mod scene;
mod stations;

use edge_common::abi::{DecapExit, Exit, Verdict};

use crate::{
    both::ProgramExit,
    feature::missing,
    kernel::Arrival,
    namespace::LO,
    packet::{Frame, protocol},
    world::Side,
};
pub use scene::Scene;

/// The expectation of a forwarded packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    pub egress: u32,
    pub service: u32,
    pub backend: u16,
    /// Length of the client's IP packet.
    pub bytes: u64,
    pub starts: bool,
}

/// A packet and its expected result.
#[derive(Clone, Debug)]
pub struct Case {
    /// The exit, and what distinguishes the case; unique.
    pub name: String,
    /// One line: the packet, and the reason for its exit.
    pub what: &'static str,
    pub frame: Vec<u8>,
    pub arrival: Arrival,
    pub exit: ProgramExit,
    /// The expected verdict, stated here, since the exit's own verdict is under test.
    pub verdict: Verdict,
    /// The resulting frame; `None` if the packet is dropped.
    pub out: Option<Vec<u8>>,
    pub forwarded: Option<Forwarded>,
    /// Whether every checksum of the resulting frame is right. `false` in cases about packets that arrive broken.
    pub sound: bool,
}

impl Case {
    fn new(
        exit: ProgramExit,
        verdict: Verdict,
        name: &str,
        what: &'static str,
        frame: &Frame,
        out: Option<&Frame>,
    ) -> Self {
        let out = out.map(Frame::bytes);
        let name = format!("{} {name}", exit.name());
        let (arrival, frame) = (Arrival::by(LO), frame.bytes());
        Self { name, what, frame, arrival, exit, verdict, out, forwarded: None, sound: true }
    }

    /// A packet that is passed on to the host unchanged.
    fn untouched(exit: Exit, name: &str, what: &'static str, frame: &Frame) -> Self {
        Self::new(ProgramExit::Edge(exit), Verdict::Pass, name, what, frame, Some(frame)).unsound()
    }

    /// A packet that is dropped.
    fn dropped(exit: Exit, name: &str, what: &'static str, frame: &Frame) -> Self {
        Self::new(ProgramExit::Edge(exit), Verdict::Drop, name, what, frame, None)
    }

    /// A packet that is answered by `reply`.
    fn answered(exit: Exit, name: &str, what: &'static str, frame: &Frame, reply: &Frame) -> Self {
        Self::new(ProgramExit::Edge(exit), Verdict::Tx, name, what, frame, Some(reply))
    }

    fn decapsulated(exit: DecapExit, name: &str, what: &'static str, frame: &Frame, out: Option<&Frame>) -> Self {
        let verdict = if out.is_some() { Verdict::Pass } else { Verdict::Drop };
        Self::new(ProgramExit::Decap(exit), verdict, name, what, frame, out)
    }

    fn unsound(mut self) -> Self {
        self.sound = false;
        self
    }
}

/// Exits without a case, since they depend on more than one packet: rate limits (`slow/limit.rs` of the packet tests),
/// other policies (`slow/unserved.rs`), and entries of translated flows (`nat`). [`Exit::NatRaced`] needs two CPUs that
/// start one flow at the same time.
pub const OF_NO_CASE: [Exit; 13] = [
    Exit::AnswerLimited,
    Exit::FragmentLimited,
    Exit::VipDropped,
    Exit::NatTx,
    Exit::NatRedirect,
    Exit::NatReplyTx,
    Exit::NatReplyRedirect,
    Exit::NatBackendDown,
    Exit::NatExhausted,
    Exit::NatExhaustedSilent,
    Exit::NatRaced,
    Exit::NatNoError,
    Exit::NatTooBig,
];

/// All cases of a scene. They change neither owners nor states, so their order does not matter.
pub fn all(scene: &Scene) -> Vec<Case> {
    let mut cases = Vec::new();
    for side in Side::BOTH {
        forwarded::add(&mut cases, scene, side);
        answered::add(&mut cases, scene, side);
        passed::add(&mut cases, scene, side);
        dropped::add(&mut cases, scene, side);
        decapsulated::add(&mut cases, side);
        decapsulated_udp::add(&mut cases, side);
        stations::add(&mut cases, scene, side);
    }
    passed::add_other(&mut cases);
    cases
}

/// The cases that the running kernel can receive; skips of the others are reported under the name `test`.
pub fn runnable(scene: &Scene, test: &str) -> Vec<Case> {
    let mut cases = all(scene);
    cases.retain(|case| missing(&format!("{test}: {}", case.name), case.arrival.needs()).is_none());
    cases
}

/// Name of a protocol number.
fn protocol_name(number: u8) -> &'static str {
    if number == protocol::TCP { "tcp" } else { "udp" }
}

/// Name of a side.
fn side_name(side: Side) -> &'static str {
    match side {
        Side::V4 => "v4",
        Side::V6 => "v6",
    }
}
