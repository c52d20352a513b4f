//! The rule that only a client that receives the backend's packets establishes a connection.

use std::collections::BTreeMap;

use edge_common::{abi::FlowEnds, flow_table::Stage, host::Translated};
use edge_tests::{
    packet::{RST, SYN, protocol},
    world::Side,
};

use super::{
    FIRST_PORT, TCP,
    rules::{FORGED, Happens, client},
};

/// What is known of the present connection of each client.
#[derive(Debug, Default)]
pub(super) struct Proofs(BTreeMap<FlowEnds, Shown>);

/// What the packets of a connection have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// The number that the backend's last SYN asks the client to acknowledge.
    Asked(u32),
    /// The client has acknowledged such a number.
    Quoted,
}

impl Proofs {
    /// Checks that a connection is only established by a client that quotes the backend's SYN-ACK, given the flows `before`
    /// and `after` a packet.
    pub(super) fn judge(
        &mut self,
        side: Side,
        what: Happens,
        before: &BTreeMap<FlowEnds, Translated>,
        after: &BTreeMap<FlowEnds, Translated>,
    ) -> Result<(), String> {
        let Self(shown) = self;
        let ends = match what {
            Happens::Sends { client: number, service: TCP, .. }
            | Happens::Answers { client: number, service: TCP, .. } => client(side, number, TCP).ends(),
            // By chance it has the tuple of a connection, whose backend it seems to be of.
            Happens::Forged { backend, port, udp: false, .. } => {
                let is_its = |(ends, flow): &(&FlowEnds, &Translated)| {
                    ends.protocol == protocol::TCP
                        && flow.translation.backend == u16::from(backend)
                        && flow.port == FIRST_PORT + port
                };
                let Some((ends, _)) = before.iter().find(is_its) else { return Ok(()) };
                *ends
            }
            Happens::Sends { .. }
            | Happens::Answers { .. }
            | Happens::Forged { .. }
            | Happens::State { .. }
            | Happens::Passes { .. } => return Ok(()),
        };
        let [before, after] = [before, after].map(|flows| flows.get(&ends));
        let Some(after) = after else { return Ok(()) };
        if after.stage == Stage::HalfOpen && before.is_none_or(|before| before.stage != Stage::HalfOpen) {
            shown.remove(&ends);
        }
        let opens = before.is_some_and(|before| matches!(before.stage, Stage::HalfOpen | Stage::Answered));
        let asked = match what {
            Happens::Answers { flags, sequence, .. } if flags & SYN != 0 => Some(sequence),
            Happens::Forged { flags, .. } if flags & SYN != 0 => Some(FORGED),
            Happens::Sends { .. }
            | Happens::Answers { .. }
            | Happens::Forged { .. }
            | Happens::State { .. }
            | Happens::Passes { .. } => None,
        };
        match (what, asked, shown.get(&ends)) {
            (_, Some(sequence), _) if opens => {
                shown.insert(ends, Shown::Asked(sequence.wrapping_add(1)));
            }
            (Happens::Sends { flags, acknowledgment, .. }, _, Some(Shown::Asked(asked)))
                if flags & (SYN | RST) == 0 && acknowledgment.wrapping_sub(*asked >> 16 << 16) < 2 << 16 =>
            {
                shown.insert(ends, Shown::Quoted);
            }
            _ => {}
        }
        let is_proved = shown.get(&ends) == Some(&Shown::Quoted);
        if !matches!(after.stage, Stage::HalfOpen | Stage::Answered) && !is_proved {
            return Err(format!("it is established without proof: {after:?}"));
        }
        Ok(())
    }
}
