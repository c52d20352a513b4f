//! What holds whatever comes: no two flows have one translated tuple, an established flow keeps its own, a packet and its answer
//! are each other's reverse, and what is no answer leaves as it came.

use std::collections::{BTreeMap, BTreeSet};

use edge_common::{
    abi::{Exit, FlowEnds},
    flow_table::{Stage, UNIT, units},
    host::{Memory, Translated},
};
use edge_tests::{
    both::{Both, Program, on_host},
    kernel::Arrival,
    namespace::{LO, in_namespace},
    packet::{ACK, FIN, Frame, Ip, Payload, RST, SYN, Tcp, Udp, verify},
    world::{DOWN, DRAINED, EDGE_MAC, Side, UP},
};
use proptest::{prelude::*, sample};

use super::{BACKEND_PORT, Client, FIRST_PORT, TCP, UDP, address, exit, segment, world};

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A client's packet, with these flags and numbers.
    Sends { client: u16, service: u32, flags: u8, sequence: u32, acknowledgment: u32 },
    /// Its backend's, if there is a flow.
    Answers { client: u16, service: u32, flags: u8, sequence: u32 },
    /// Somebody's, to a port of a source.
    Forged { backend: u8, port: u16, flags: u8, udp: bool },
    /// A backend has another state.
    State { backend: usize, state: u32 },
    /// A second passes, or a minute.
    Passes { units: u64 },
}

fn happens() -> impl Strategy<Value = Happens> {
    let flags = || sample::select(vec![SYN, SYN, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK]);
    let numbers = || sample::select(vec![0u32, 1, 101, 102, 200, u32::MAX, 1 << 31]);
    let service = || sample::select(vec![TCP, TCP, UDP]);
    prop_oneof![
        10 => (0u16..24, service(), flags(), numbers(), numbers()).prop_map(|(client, service, flags, sequence, acknowledgment)| {
            Happens::Sends { client, service, flags, sequence, acknowledgment }
        }),
        8 => (0u16..24, service(), flags(), numbers())
            .prop_map(|(client, service, flags, sequence)| Happens::Answers { client, service, flags, sequence }),
        3 => (1u8..6, 0u16..20, flags(), any::<bool>()).prop_map(|(backend, port, flags, udp)| Happens::Forged { backend, port, flags, udp }),
        1 => (1usize..5, sample::select(vec![UP, UP, DRAINED, DOWN])).prop_map(|(backend, state)| Happens::State { backend, state }),
        1 => sample::select(vec![1u64, 5, 20, 90, 300]).prop_map(|units| Happens::Passes { units }),
    ]
}

fn client(side: Side, number: u16, service: u32) -> Client {
    Client { side, port: 40_000 + number, service }
}

fn answer(memory: &Memory, client: Client, tcp: Tcp) -> Option<Frame> {
    let flow = memory.nat.flows().remove(&client.ends())?;
    let payload = match client.service {
        TCP => Payload::Tcp(Tcp { source: BACKEND_PORT, destination: flow.port, ..tcp }),
        _ => Payload::Udp(Udp { source: BACKEND_PORT, destination: flow.port, ..Udp::default() }),
    };
    let ip = Ip::new(address(client.side, flow.translation.backend), client.side.source(), payload);
    Some(Frame::new(EDGE_MAC, [2; 6], ip))
}

fn forged(side: Side, backend: u8, port: u16, flags: u8, udp: bool) -> Frame {
    let destination = FIRST_PORT + port;
    let payload = if udp {
        Payload::Udp(Udp { source: BACKEND_PORT, destination, ..Udp::default() })
    } else {
        Payload::Tcp(Tcp { source: BACKEND_PORT, destination, ..segment(flags, 7, 8) })
    };
    Frame::new(EDGE_MAC, [2; 6], Ip::new(address(side, backend.into()), side.source(), payload))
}

/// Backend, its port, source and port of each flow: no two have one.
fn are_distinct(flows: &BTreeMap<FlowEnds, Translated>) -> bool {
    let tuple = |(ends, flow): (&FlowEnds, &Translated)| {
        (ends.protocol, flow.translation.backend, flow.translation.port, flow.translation.source, flow.port)
    };
    flows.iter().map(tuple).collect::<BTreeSet<_>>().len() == flows.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn whatever_comes_tuples_are_distinct_and_established_flows_keep_theirs(
        side in sample::select(Side::BOTH.to_vec()),
        sticks: bool,
        lanes in 1u32..4,
        happening in prop::collection::vec(happens(), 1..250),
    ) {
        let mut world = world(side, 16, lanes, LO);
        world.services.iter_mut().for_each(|service| service.sticks = sticks);
        let mut memory = world.memory();
        for what in happening {
            let before = memory.nat.flows();
            let frame = match what {
                Happens::Sends { client: number, service, flags, sequence, acknowledgment } => {
                    Some(client(side, number, service).sends(segment(flags, sequence, acknowledgment)))
                }
                Happens::Answers { client: number, service, flags, sequence } => {
                    answer(&memory, client(side, number, service), segment(flags, sequence, 1))
                }
                Happens::Forged { backend, port, flags, udp } => Some(forged(side, backend, port, flags, udp)),
                Happens::State { backend, state } => {
                    world.backends[backend].state = state;
                    world.services.iter_mut().for_each(|service| service.in_transition = true);
                    let new = world.memory_after(&memory);
                    (memory.services, memory.pools, memory.backends) = (new.services, new.pools, new.backends);
                    (memory.candidates, memory.slots) = (new.candidates, new.slots);
                    None
                }
                Happens::Passes { units } => {
                    memory.clock_ns.set(memory.clock_ns.get() + (units << UNIT));
                    None
                }
            };
            let Some(frame) = frame else { continue };
            let bytes = frame.bytes();
            let seen = on_host(&memory, Program::Edge, &bytes, Arrival::by(LO));
            prop_assert!(verify::checksums(&seen.frame).is_ok(), "{:?}: {:?}", what, seen);
            let after = memory.nat.flows();
            prop_assert!(are_distinct(&after), "{:?}: {:?}", what, after);
            // A packet costs no other flow its entry that is established.
            for (ends, flow) in before.iter().filter(|(_, flow)| flow.stage == Stage::Established) {
                let is_own = |client: Client| client.ends() == *ends;
                let own = match what {
                    Happens::Sends { client: number, service, .. } | Happens::Answers { client: number, service, .. } => {
                        is_own(client(side, number, service))
                    }
                    Happens::Forged { .. } | Happens::State { .. } | Happens::Passes { .. } => false,
                };
                let silent = units(memory.clock_ns.get()) - flow.seen;
                if !own && silent < 1000 {
                    let now = after.get(ends).map(|flow| (flow.translation.backend, flow.port));
                    prop_assert_eq!(now, Some((flow.translation.backend, flow.port)), "{:?}", what);
                }
            }
            let left = exit(&seen);
            if left == Exit::NotOurs {
                prop_assert_eq!(&seen.frame, &bytes);
            }
            // What went to the backend comes back, once its ends are exchanged, to what the client sent.
            if let (Exit::NatTx, Happens::Sends { client: number, service, .. }) = (left, what) {
                let client = client(side, number, service);
                let back = answer(&memory, client, segment(ACK, 9, 9)).expect("a flow");
                let copy = memory.clone();
                let came = on_host(&copy, Program::Edge, &back.bytes(), Arrival::by(LO));
                prop_assert_eq!(exit(&came), Exit::NatReplyTx);
                let reversed = exchanged(&came.frame);
                let sent = client.sends(segment(ACK, 9, 9)).bytes();
                let (at, length) = if side == Side::V4 { (26, 12) } else { (22, 36) };
                prop_assert_eq!(&reversed[at..at + length], &sent[at..at + length]);
            }
        }
    }

    #[test]
    fn the_kernel_does_the_same(
        side in sample::select(Side::BOTH.to_vec()),
        happening in prop::collection::vec(happens(), 1..120),
    ) {
        in_namespace(|| {
            let mut both = Both::new(world(side, 64, 2, LO));
            for what in happening {
                let frame = match what {
                    Happens::Sends { client: number, service, flags, sequence, acknowledgment } => {
                        Some(client(side, number, service).sends(segment(flags, sequence, acknowledgment)))
                    }
                    Happens::Answers { client: number, service, flags, sequence } => {
                        answer(&both.memory, client(side, number, service), segment(flags, sequence, 1))
                    }
                    Happens::Forged { backend, port, flags, udp } => Some(forged(side, backend, port, flags, udp)),
                    Happens::State { backend, state } => {
                        both.change(|world| {
                            world.backends[backend].state = state;
                            world.services.iter_mut().for_each(|service| service.in_transition = true);
                        });
                        None
                    }
                    // The kernel has a clock of its own.
                    Happens::Passes { .. } => None,
                };
                if let Some(frame) = frame {
                    both.run(&frame.bytes());
                    both.compare_state().unwrap_or_else(|error| panic!("{what:?}: {error}"));
                }
            }
        });
    }
}

/// A frame's addresses and ports, each in the other's place.
fn exchanged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (addresses, length, ports) = if frame[14] >> 4 == 4 { (26, 4, 34) } else { (22, 16, 54) };
    let (source, destination) = frame[addresses..addresses + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
    let (source, destination) = frame[ports..ports + 4].split_at_mut(2);
    source.swap_with_slice(destination);
    frame
}
