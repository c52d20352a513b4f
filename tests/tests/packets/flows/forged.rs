//! Packets of an attacker who knows a flow's ends but does not see its packets: the flow stays where it is, recorded or
//! not. And packets that only resemble forged ones: a client's second first packet.

use edge_common::{
    abi::{Slot, Timeouts, Tracking, Unrecorded},
    flow_table::Stage,
    host::Memory,
};
use edge_tests::{
    both::{Both, Program, on_host},
    kernel::Arrival,
    namespace::in_namespace,
    packet::{ACK, FIN, Payload, RST, SYN, Tcp, Udp},
    world::{DRAINED, Side},
};

use super::{
    Flow,
    Meaning::{Runs, Starts},
    TCP, UDP, Who, both, framed, number, put_records, reached, record, recorded_at, set_owner, world,
};

const SLOT: u32 = 17;
/// A second in nanoseconds.
const S: u64 = 1_000_000_000;

/// Forged packets of a flow of the service.
fn forged(flow: &Flow) -> Vec<(&'static str, Vec<u8>)> {
    let with = |change: &dyn Fn(Payload) -> Payload| {
        let mut packet = flow.packet(Runs);
        packet.payload = change(packet.payload);
        framed(packet)
    };
    let tcp = |flags| {
        with(&|payload| {
            let Payload::Tcp(tcp) = payload else { panic!("a flow of TCP") };
            Payload::Tcp(Tcp { flags, sequence: tcp.sequence ^ 1 << 31, ..tcp })
        })
    };
    let datagram = |first: u8, length| {
        with(&|payload| {
            let Payload::Udp(udp) = payload else { panic!("a flow of UDP") };
            let mut data = vec![0x55; length];
            data[..5].copy_from_slice(&[first, 0, 0, 0, 1]);
            Payload::Udp(Udp { data, ..udp })
        })
    };
    if flow.service == TCP {
        vec![("SYN", tcp(SYN)), ("FIN", tcp(FIN | ACK)), ("RST", tcp(RST)), ("ACK", tcp(ACK))]
    } else {
        vec![("Initial", datagram(0xc0, 1200)), ("short Initial", datagram(0xc0, 47)), ("any", datagram(0x40, 47))]
    }
}

/// A running flow in a slot that belongs to its second candidate, while the first one takes new flows; `at` is the
/// backend that records it.
fn running(both: &mut Both, side: Side, service: u32, at: Option<Who>) -> (Flow, u16) {
    let flow = Flow::into_slot(&both.world, side, service, SLOT, 3);
    let owner = number(&both.memory, SLOT, Who::Second);
    let home = at.map(|at| number(&both.memory, SLOT, at));
    put_records(&mut both.memory, &[]);
    set_owner(&both.memory, service, SLOT, owner);
    if let Some(home) = home {
        put_records(&mut both.memory, &[(flow, recorded_at(home))]);
    }
    both.change(|world| world.services[UDP as usize].tracking = Tracking::Quic);
    // So that the record is no longer tentative.
    if home.is_some() {
        both.memory.clock_ns.set(both.memory.clock_ns.get() + (1 << 30));
        both.change(|_| ());
        assert_eq!(reached(&both.run(&flow.frame(Runs))).1, home);
    }
    (flow, home.unwrap_or(owner))
}

#[test]
fn nobody_moves_a_running_flow_with_one_packet() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            for service in [TCP, UDP] {
                for at in [None, Some(Who::Third), Some(Who::First), Some(Who::Second)] {
                    let (flow, _) = running(&mut both, side, service, at);
                    for nth in 0..forged(&flow).len() {
                        let (flow, home) = running(&mut both, side, service, at);
                        let (what, frame) = forged(&flow).swap_remove(nth);
                        both.run(&frame);
                        for _ in 0..3 {
                            let (_, to) = reached(&both.run(&flow.frame(Runs)));
                            assert_eq!(to, Some(home), "{side:?}: {what}, at {at:?}");
                        }
                        let stage = record(&both.memory, &flow).map(|record| record.stage);
                        let is_over = matches!(stage, Some(Stage::Closed | Stage::Reset));
                        assert!(!is_over, "{side:?}: {what}, at {at:?}: believed");
                        both.compare_state().unwrap_or_else(|error| panic!("{what}: {error}"));
                    }
                }
            }
        });
    }
}

#[test]
fn the_end_of_a_flow_is_believed_where_it_is() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            for (flags, stage) in [(FIN | ACK, Stage::Closed), (RST, Stage::Reset), (RST | ACK, Stage::Reset)] {
                // The first packet shows the flow's sequence number.
                let (flow, home) = running(&mut both, side, TCP, None);
                assert_eq!(reached(&both.run(&flow.frame(Runs))).1, Some(home));
                let mut packet = flow.packet(Runs);
                if let Payload::Tcp(tcp) = &mut packet.payload {
                    (tcp.flags, tcp.sequence) = (flags, tcp.sequence + 60_000);
                }
                assert_eq!(reached(&both.run(&framed(packet))).1, Some(home));
                assert_eq!(record(&both.memory, &flow).map(|record| record.stage), Some(stage), "{side:?} {flags:#x}");
                // Data shows that the flow goes on.
                assert_eq!(reached(&both.run(&flow.frame(Runs))).1, Some(home));
                assert_eq!(record(&both.memory, &flow).map(|record| record.stage), Some(Stage::Established));
                both.compare_state().unwrap_or_else(|error| panic!("{error}"));
            }
        });
    }
}

#[test]
fn a_clients_second_first_packet_follows_the_first_whoever_is_drained_meanwhile() {
    for side in Side::BOTH {
        in_namespace(|| {
            for service in [TCP, UDP] {
                let mut both = both(world(side));
                let (flow, _) = running(&mut both, side, service, None);
                let first = number(&both.memory, SLOT, Who::First);
                assert_eq!(reached(&both.run(&flow.frame(Starts))).1, Some(first));
                both.change(|world| world.backends[usize::from(first)].state = DRAINED);
                for _ in 0..2 {
                    assert_eq!(reached(&both.run(&flow.frame(Starts))).1, Some(first), "{side:?}");
                }
                // In QUIC the second Initial has shown that the client exists; in TCP the sequence number does.
                for _ in 0..2 {
                    assert_eq!(reached(&both.run(&flow.frame(Runs))).1, Some(first), "{side:?}");
                }
                let stage = record(&both.memory, &flow).map(|record| (record.stage, record.tentative));
                assert_eq!(stage, Some((Stage::Established, None)));
                both.compare_state().unwrap_or_else(|error| panic!("{error}"));
            }
        });
    }
}

#[test]
fn a_client_that_begins_again_with_another_number_is_recognized() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            let (flow, _) = running(&mut both, side, TCP, None);
            let first = number(&both.memory, SLOT, Who::First);
            let with = |meaning, more: u32| {
                let mut packet = flow.packet(meaning);
                if let Payload::Tcp(tcp) = &mut packet.payload {
                    tcp.sequence = tcp.sequence.wrapping_add(more);
                }
                framed(packet)
            };
            both.run(&with(Starts, 0));
            // More than a second later, as after a refusal.
            both.memory.clock_ns.set(both.memory.clock_ns.get() + (5 << 28));
            both.change(|_| ());
            for meaning in [Starts, Runs, Runs] {
                assert_eq!(reached(&both.run(&with(meaning, 1 << 30))).1, Some(first), "{side:?}: {meaning:?}");
            }
            both.compare_state().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}

/// A TCP packet of the flow without data, `more` behind its first sequence number.
fn tcp(flow: &Flow, flags: u8, more: u32) -> Vec<u8> {
    let mut packet = flow.packet(Starts);
    if let Payload::Tcp(tcp) = &mut packet.payload {
        (tcp.flags, tcp.sequence, tcp.data) = (flags, tcp.sequence.wrapping_add(more), Vec::new());
    }
    framed(packet)
}

#[test]
fn no_packet_with_another_number_breaks_a_handshake() {
    const ELSEWHERE: u32 = 1 << 31;
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            for (what, flags, data) in [("ACK", ACK, 0), ("data", ACK, 9), ("FIN", FIN | ACK, 0), ("RST", RST, 0)] {
                let (flow, owner) = running(&mut both, side, TCP, None);
                let pick = number(&both.memory, SLOT, Who::First);
                assert_eq!(reached(&both.run(&tcp(&flow, SYN, 0))).1, Some(pick));
                let mut forged = flow.packet(Runs);
                if let Payload::Tcp(tcp) = &mut forged.payload {
                    (tcp.flags, tcp.sequence, tcp.data) = (flags, tcp.sequence ^ ELSEWHERE, vec![0x55; data]);
                }
                let before = record(&both.memory, &flow);
                assert_eq!(reached(&both.run(&framed(forged))).1, Some(owner), "{side:?}: {what}");
                assert_eq!(record(&both.memory, &flow), before, "{side:?}: {what}: the record is the handshake's");
                for _ in 0..2 {
                    assert_eq!(reached(&both.run(&tcp(&flow, ACK, 1))).1, Some(pick), "{side:?}: {what}");
                }
                both.compare_state().unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        });
    }
}

/// Sends a packet at a time of the host's clock.
fn send_at(memory: &Memory, now: u64, frame: &[u8]) -> Option<u16> {
    memory.clock_ns.set(now);
    reached(&on_host(memory, Program::Edge, frame, Arrival::by(1))).1
}

#[test]
fn a_running_flow_stays_however_many_starts_are_forged_in_its_name() {
    for side in Side::BOTH {
        let world = world(side);
        let mut memory = world.memory();
        memory.flows.head.timeouts = Timeouts::STANDARD;
        let [first, owner] = [Who::First, Who::Second].map(|who| number(&memory, SLOT, who));
        set_owner(&memory, TCP, SLOT, owner);
        let flow = Flow::into_slot(&world, side, TCP, SLOT, 0);
        let mark = |memory: &Memory| {
            let address = edge_common::abi::slot_address(0, SLOT);
            let Slot { unrecorded, .. } = edge_common::maps::Maps::slot(memory, address).expect("it is there");
            memory.write_slot(address, |slot| slot.unrecorded = 0);
            Unrecorded::from_raw(unrecorded)
        };
        // A SYN every three seconds, each with another number, and packets of the flow in between.
        for nth in 0..20 {
            let now = 3 * u64::from(nth) * S;
            assert_eq!(send_at(&memory, now, &tcp(&flow, SYN, (nth + 1) << 24)), Some(first));
            for later in [S / 10, 2 * S] {
                assert_eq!(send_at(&memory, now + later, &tcp(&flow, ACK, 1)), Some(owner), "{side:?}, SYN {nth}");
                assert_eq!(mark(&memory), Unrecorded::Flow, "its slot is not handed over");
            }
        }
        // Packets of the flow do not keep the record of the last SYN.
        assert_eq!(send_at(&memory, 75 * S, &tcp(&flow, ACK, 1)), Some(owner), "{side:?}");
        let record_of_start = record(&memory, &flow).expect("nobody has freed it");
        assert_eq!((record_of_start.backend, record_of_start.stage), (first, Stage::HalfOpen));
        super::free_expired(&memory);
        assert_eq!(record(&memory, &flow), None);
        assert_eq!(send_at(&memory, 76 * S, &tcp(&flow, ACK, 1)), Some(owner), "{side:?}");
        assert_eq!(record(&memory, &flow).map(|record| record.backend), Some(owner));
    }
}

#[test]
fn where_packets_contradict_each_other_none_ends_the_flow() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            let stage = |both: &Both, flow: &Flow| record(&both.memory, flow).map(|record| record.stage);
            for end in [FIN | ACK, RST] {
                // The attacker is the first of whom packets are seen after a change.
                let (flow, home) = running(&mut both, side, TCP, None);
                for flags in [ACK, end] {
                    assert_eq!(reached(&both.run(&tcp(&flow, flags, 1 << 30))).1, Some(home));
                }
                assert_ne!(stage(&both, &flow), Some(Stage::Established), "nothing contradicts the end");
                // A client that only listens.
                for _ in 0..3 {
                    assert_eq!(reached(&both.run(&tcp(&flow, ACK, 1))).1, Some(home));
                    assert_eq!(stage(&both, &flow), Some(Stage::Established), "{side:?}: the flow goes on");
                    assert_eq!(reached(&both.run(&tcp(&flow, end, 1 << 30))).1, Some(home));
                    assert_eq!(stage(&both, &flow), Some(Stage::Established), "{side:?}: it was not its end");
                }
                both.compare_state().unwrap_or_else(|error| panic!("{error}"));
            }
        });
    }
}

#[test]
fn a_connection_on_the_ports_of_one_that_has_ended_has_an_end_too() {
    const LATER: u32 = 1 << 30;
    for side in Side::BOTH {
        in_namespace(|| {
            let mut both = both(world(side));
            let stage = |both: &Both, flow: &Flow| record(&both.memory, flow).map(|record| record.stage);
            let (flow, home) = running(&mut both, side, TCP, None);
            for flags in [ACK, FIN | ACK] {
                assert_eq!(reached(&both.run(&tcp(&flow, flags, 1))).1, Some(home));
            }
            assert_eq!(stage(&both, &flow), Some(Stage::Closed));
            // A SYN that is forged does not shorten the time that is left to a client which has closed only its side.
            assert_eq!(reached(&both.run(&tcp(&flow, SYN, LATER))).1, Some(home));
            assert_eq!(stage(&both, &flow), Some(Stage::Established));
            for (flags, more) in [(ACK, 1), (FIN | ACK, 500)] {
                assert_eq!(reached(&both.run(&tcp(&flow, flags, LATER + more))).1, Some(home));
            }
            assert_eq!(stage(&both, &flow), Some(Stage::Closed), "{side:?}");
            // After a RST nothing is left that a start could follow.
            assert_eq!(reached(&both.run(&tcp(&flow, RST, LATER + 501))).1, Some(home));
            let pick = number(&both.memory, SLOT, Who::First);
            for (flags, more) in [(SYN, 0), (ACK, 1)] {
                assert_eq!(reached(&both.run(&tcp(&flow, flags, more))).1, Some(pick), "{side:?}");
            }
            assert_eq!(stage(&both, &flow), Some(Stage::Established));
            both.compare_state().unwrap_or_else(|error| panic!("{error}"));
        });
    }
}
