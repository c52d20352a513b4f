//! Packets that are not translated: of no known connection, of a dead backend's connection, and unexpected ones to a
//! source.

use edge_common::{abi::Exit, flow_table::Stage};
use edge_tests::{
    both::{Both, Program},
    kernel::Arrival,
    namespace::{EDGE0, LO, in_namespace},
    packet::{ACK, Frame, Ip, Payload, RST, SYN, Tcp, Udp},
    world::{EDGE_MAC, Side},
};

use super::{
    BACKEND_PORT, Client, FIRST_PORT, PORT, TCP, UDP, address, connection::kill, exit, families::ip, run, segment,
    world,
};

#[test]
fn an_unknown_connection_is_reset_and_a_reset_is_not() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: TCP };
            let seen = run(&both, &client.sends(segment(ACK, 5, 6)));
            assert_eq!(exit(&seen), Exit::NatNoFlow);
            let reset = Tcp { source: PORT, destination: client.port, ..segment(RST, 6, 0) };
            let reset = Tcp { data: Vec::new(), window: 0, ..reset };
            assert_eq!(&seen.frame[if side == Side::V4 { 34 } else { 54 }..][13..14], &[RST], "{reset:?}");
            assert_eq!(exit(&run(&both, &client.sends(segment(RST, 5, 6)))), Exit::NatSilent);
            // A SYN-ACK starts no flow.
            assert_eq!(exit(&run(&both, &client.sends(segment(SYN | ACK, 5, 6)))), Exit::NatNoFlow);
            assert!(both.memory.nat.flows().is_empty());
        });
    }
}

/// Changes a frame so that no answer to it is permitted; false if there is no such change over this IP version.
type Forbidding = fn(&mut Frame) -> bool;

/// What must not be answered, whatever it provokes (RFC 1122, section 3.2.2; RFC 1812, section 4.3.2.7; RFC 4443, section
/// 2.4).
const FORBIDDING: [(&str, Forbidding); 6] = [
    ("from this network or nowhere", |frame| from(frame, "0.0.0.0", "::")),
    ("from loopback", |frame| from(frame, "127.0.0.1", "::1")),
    ("from a group", |frame| from(frame, "224.0.0.9", "ff02::9")),
    ("from everybody", |frame| from(frame, "255.255.255.255", "ff02::1")),
    ("from the VIP itself", |frame| {
        let ip = ip(frame);
        ip.source = ip.destination;
        true
    }),
    ("from a group of stations", |frame| {
        frame.source = [1, 0, 0x5e, 0, 0, 9];
        true
    }),
];

fn from(frame: &mut Frame, v4: &str, v6: &str) -> bool {
    let ip = ip(frame);
    ip.source = if ip.source.is_ipv4() { v4 } else { v6 }.parse().expect("an address");
    true
}

#[test]
fn no_packet_that_must_not_be_answered_is_answered() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            world.backends.iter_mut().for_each(|backend| (backend.mtu, backend.own_mtu) = (1_400, 1));
            let both = Both::new(world);
            let [tcp, udp] = [TCP, UDP].map(|service| Client { side, port: 40_000, service });
            let expired = |mut frame: Frame| {
                ip(&mut frame).ttl = 1;
                frame
            };
            let long = |df: bool| {
                let mut frame = udp.sends(Tcp { data: vec![5; 1_450], ..Tcp::default() });
                ip(&mut frame).dont_fragment = df;
                frame
            };
            // Another interface than the one that the frame comes by, so that the length counts.
            let mut provoking = vec![
                (tcp.sends(segment(ACK, 5, 6)), Exit::NatNoFlow, Exit::NatSilent),
                (expired(tcp.sends(segment(SYN, 5, 0))), Exit::TtlExceeded, Exit::TtlExceededSilent),
            ];
            if side == Side::V4 {
                provoking.push((long(false), Exit::NatTooBig, Exit::TooBigSilent));
            }
            provoking.push((long(true), Exit::TooBig, Exit::TooBigSilent));
            for (frame, answered, silent) in provoking {
                let is_long = matches!(answered, Exit::TooBig | Exit::NatTooBig);
                let arrival = Arrival::by(if is_long { EDGE0 } else { LO });
                let sent = |frame: &Frame| {
                    let seen = both.try_run(Program::Edge, &frame.bytes(), arrival);
                    exit(&seen.unwrap_or_else(|error| panic!("{error}")))
                };
                assert_eq!(sent(&frame), answered, "{side:?}");
                for (what, change) in FORBIDDING {
                    let mut forbidden = frame.clone();
                    if change(&mut forbidden) {
                        let expected = if forbidden.source[0] & 1 == 1 { Exit::Malformed } else { silent };
                        assert_eq!(sent(&forbidden), expected, "{side:?} {answered:?} {what}");
                    }
                }
            }
            // A RST only for a segment whose checksum is right.
            let mut damaged = tcp.sends(segment(ACK, 5, 6));
            let Payload::Tcp(segment) = &mut ip(&mut damaged).payload else { panic!("TCP") };
            segment.checksum = Some(0x1234);
            assert_eq!(exit(&both.run(&damaged.bytes())), Exit::NatSilent);
            both.compare_state().unwrap();
        });
    }
}

#[test]
fn a_connection_of_a_dead_backend_is_reset_and_begins_anew_elsewhere() {
    for (side, sticks) in [(Side::V4, false), (Side::V6, false), (Side::V4, true), (Side::V6, true)] {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            world.services[TCP as usize].sticks = sticks;
            let mut both = Both::new(world);
            let client = Client { side, port: 40_000, service: TCP };
            run(&both, &client.sends(segment(SYN, 5, 0)));
            run(&both, &client.answered(&both, segment(SYN | ACK, 100, 6)));
            run(&both, &client.sends(segment(ACK, 6, 101)));
            let before = client.translated(&both).expect("a flow");
            assert_eq!(before.stage, Stage::Established);
            kill(&mut both, before.translation.backend);
            let seen = run(&both, &client.sends(segment(ACK, 6, 101)));
            if sticks {
                assert_eq!(exit(&seen), Exit::NatTx, "it waits");
                return;
            }
            assert_eq!(exit(&seen), Exit::NatBackendDown);
            assert_eq!(client.translated(&both).expect("a flow").stage, Stage::Reset);
            assert_eq!(exit(&run(&both, &client.sends(segment(RST, 6, 101)))), Exit::NatSilent);
            assert_eq!(exit(&run(&both, &client.sends(segment(SYN, 90_000, 0)))), Exit::NatTx);
            let after = client.translated(&both).expect("a flow");
            assert_ne!(after.translation.backend, before.translation.backend);
            assert_eq!(after.stage, Stage::HalfOpen);
        });
    }
}

#[test]
fn what_comes_to_a_source_and_is_no_answer_is_the_hosts() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: TCP };
            run(&both, &client.sends(segment(SYN, 5, 0)));
            let flow = client.translated(&both).expect("a flow");
            let backend = address(side, flow.translation.backend);
            let to = |from, source, destination, tcp: bool| {
                let payload = if tcp {
                    Payload::Tcp(Tcp { source, destination, ..segment(ACK, 1, 2) })
                } else {
                    Payload::Udp(Udp { source, destination, ..Udp::default() })
                };
                Frame::new(EDGE_MAC, [2; 6], Ip::new(from, side.source(), payload))
            };
            let other = address(side, flow.translation.backend + 1);
            for (what, frame) in [
                ("a port outside of the range", to(backend, BACKEND_PORT, FIRST_PORT + 64, true)),
                ("this host's ssh", to(backend, BACKEND_PORT, 22, true)),
                ("another port of the backend", to(backend, BACKEND_PORT + 1, flow.port, true)),
                ("another backend", to(other, BACKEND_PORT, flow.port, true)),
                ("another protocol", to(backend, BACKEND_PORT, flow.port, false)),
                ("another port of the source", to(backend, BACKEND_PORT, flow.port ^ 1, true)),
            ] {
                let seen = both.run(&frame.bytes());
                assert_eq!(exit(&seen), Exit::NotOurs, "{what}");
                assert_eq!(seen.frame, frame.bytes(), "{what}");
            }
            assert_eq!(exit(&run(&both, &to(backend, BACKEND_PORT, flow.port, true))), Exit::NatReplyTx);
        });
    }
}

#[test]
fn the_last_hop_of_a_packet_ends_here_either_way() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: UDP };
            let last = |mut frame: Frame| {
                let ip = ip(&mut frame);
                ip.ttl = 1;
                frame
            };
            assert_eq!(exit(&run(&both, &last(client.sends(Tcp::default())))), Exit::TtlExceeded);
            assert!(both.memory.nat.flows().is_empty(), "it starts nothing");
            run(&both, &client.sends(Tcp::default()));
            assert_eq!(exit(&run(&both, &last(client.answered(&both, Tcp::default())))), Exit::TtlExceeded);
            assert_eq!(client.translated(&both).expect("a flow").stage, Stage::HalfOpen, "and shows nothing");
        });
    }
}
