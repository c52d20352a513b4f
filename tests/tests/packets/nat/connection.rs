//! The stages of a connection, and the translation of each packet.

use edge_common::{abi::Exit, flow_table::Stage};
use edge_tests::{
    both::Both,
    namespace::{LO, in_namespace},
    packet::{ACK, FIN, Frame, Ip, Payload, RST, SYN, Tcp, Udp},
    world::{CLIENT_MAC, DOWN, EDGE_MAC, Side},
};

use super::{BACKEND_PORT, Client, FIRST_PORT, PORT, TCP, UDP, address, exit, labelled, run, segment, world};

const AWAY: u32 = 77;
/// Initial sequence numbers of the client and of the backend.
const CLIENT: u32 = 1000;
const BACKEND: u32 = 70_000;

/// The expected frame for a packet of the client, built independently of the code under test.
fn to_backend(both: &Both, client: Client, egress: u32, segment: Tcp) -> Frame {
    let flow = client.translated(both).expect("a flow");
    let (backend, port) = (flow.translation.backend, flow.port);
    assert!((FIRST_PORT..FIRST_PORT + 64).contains(&port), "port {port}");
    let payload = match client.service {
        TCP => Payload::Tcp(Tcp { source: port, destination: BACKEND_PORT, ..segment }),
        _ => Payload::Udp(Udp { source: port, destination: BACKEND_PORT, data: segment.data, ..Udp::default() }),
    };
    let ip = Ip { ttl: 63, ..Ip::new(client.side.source(), address(client.side, backend), payload) };
    let ip = labelled(ip, client.label(both));
    let number = u8::try_from(backend).expect("a few");
    Frame::new([0x02, 0, 0, 0xbb, 0, number], [0x02, 0, 0, 0xee, 0, u8::try_from(egress).expect("a small index")], ip)
}

/// The expected frame for a packet of the backend.
fn to_client(client: Client, segment: Tcp) -> Frame {
    let payload = match client.service {
        TCP => Payload::Tcp(Tcp { source: PORT, destination: client.port, ..segment }),
        _ => Payload::Udp(Udp { source: PORT, destination: client.port, data: segment.data, ..Udp::default() }),
    };
    let ip = Ip { ttl: 63, ..Ip::new(client.side.vip(), client.side.client(), payload) };
    Frame::new(CLIENT_MAC, EDGE_MAC, ip)
}

#[test]
fn each_packet_of_a_connection_is_translated_and_advances_its_stage() {
    for (side, egress) in [(Side::V4, LO), (Side::V6, LO), (Side::V4, AWAY), (Side::V6, AWAY)] {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, egress));
            let client = Client { side, port: 40_000, service: TCP };
            let forth = if egress == LO { Exit::NatTx } else { Exit::NatRedirect };
            let went = |sent: Tcp, stage: Stage| {
                let seen = run(&both, &client.sends(sent.clone()));
                assert_eq!((exit(&seen), seen.egress), (forth, egress), "{sent:?}");
                assert_eq!(seen.frame, to_backend(&both, client, egress, sent).bytes());
                assert_eq!(client.translated(&both).expect("a flow").stage, stage);
            };
            let came = |sent: Tcp, stage: Stage| {
                let seen = run(&both, &client.answered(&both, sent.clone()));
                assert_eq!(exit(&seen), Exit::NatReplyTx, "{sent:?}");
                assert_eq!(seen.frame, to_client(client, sent).bytes());
                assert_eq!(client.translated(&both).expect("a flow").stage, stage);
            };
            went(segment(SYN, CLIENT, 0), Stage::HalfOpen);
            came(segment(SYN | ACK, BACKEND, CLIENT + 1), Stage::Answered);
            went(segment(ACK, CLIENT + 1, BACKEND + 9_000_000), Stage::Answered);
            went(segment(ACK, CLIENT + 1, BACKEND + 1), Stage::Established);
            came(segment(ACK, BACKEND + 1, CLIENT + 12), Stage::Established);
            came(segment(FIN | ACK, BACKEND + 12, CLIENT + 12), Stage::BackendClosed);
            went(segment(ACK, CLIENT + 12, BACKEND + 13), Stage::BackendClosed);
            went(segment(FIN | ACK, CLIENT + 12, BACKEND + 13), Stage::Closed);
            came(segment(ACK, BACKEND + 13, CLIENT + 13), Stage::Closed);
            // The client reuses its port.
            went(segment(SYN, CLIENT + 90_000, 0), Stage::HalfOpen);
            came(segment(SYN | ACK, BACKEND + 5, CLIENT + 90_001), Stage::Answered);
            went(segment(ACK, CLIENT + 90_001, BACKEND + 6), Stage::Established);
            came(segment(RST, BACKEND + 6, 0), Stage::Reset);
            let counts = both.memory.service_traffic(TCP);
            assert_eq!((counts.packets, counts.flows), (7, 1));
        });
    }
}

/// A client with a forged address receives no answer, so it cannot quote the backend's SYN-ACK.
#[test]
fn no_packets_of_a_forged_client_make_an_established_flow() {
    let forged = [segment(RST, CLIENT + 1, 0), segment(ACK, CLIENT + 1, 7), segment(FIN | ACK, CLIENT + 1, 7)];
    let refused = segment(RST | ACK, 0, CLIENT + 1);
    for (side, is_answered) in [(Side::V4, false), (Side::V6, false), (Side::V4, true), (Side::V6, true)] {
        for order in [[0, 1, 1], [0, 2, 1], [0, 2, 2], [1, 0, 1], [2, 0, 2]] {
            in_namespace(|| {
                let both = Both::new(world(side, 64, 4, LO));
                let client = Client { side, port: 40_000, service: TCP };
                let stage = || client.translated(&both).expect("a flow").stage;
                run(&both, &client.sends(segment(SYN, CLIENT, 0)));
                let stays = if is_answered {
                    run(&both, &client.answered(&both, segment(SYN | ACK, BACKEND, CLIENT + 1)));
                    Stage::Answered
                } else {
                    Stage::HalfOpen
                };
                for packet in order {
                    assert_eq!(exit(&run(&both, &client.sends(forged[packet].clone()))), Exit::NatTx);
                    assert_eq!(stage(), stays, "{order:?}");
                    // The backend answers a wrong ACK by a RST.
                    assert_eq!(exit(&run(&both, &client.answered(&both, refused.clone()))), Exit::NatReplyTx);
                    assert_eq!(stage(), stays, "{order:?}");
                }
            });
        }
    }
}

#[test]
fn a_service_on_every_port_translates_each_to_the_port_of_its_backends() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            world.services[TCP as usize].port = 0;
            let both = Both::new(world);
            for port in [1, 80, PORT, 65_535] {
                let to = |says: Tcp| {
                    let payload = Payload::Tcp(Tcp { source: 40_000, destination: port, ..says });
                    Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(side.client(), side.vip(), payload))
                };
                let seen = run(&both, &to(segment(SYN, 5, 0)));
                assert_eq!(exit(&seen), Exit::NatTx, "{side:?} {port}");
                let at = if side == Side::V4 { 34 } else { 54 };
                assert_eq!(seen.frame[at + 2..at + 4], BACKEND_PORT.to_be_bytes());
                assert_eq!(exit(&run(&both, &to(segment(ACK, 6, 101)))), Exit::NatTx);
            }
            assert_eq!(both.memory.nat.flows().len(), 4);
        });
    }
}

#[test]
fn an_answer_leaves_by_the_interface_and_to_the_router_that_the_client_came_by() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, AWAY));
            let client = Client { side, port: 40_000, service: UDP };
            let seen = run(&both, &client.sends(Tcp::default()));
            assert_eq!((exit(&seen), seen.egress), (Exit::NatRedirect, AWAY));
            let seen = run(&both, &client.answered(&both, Tcp::default()));
            assert_eq!((exit(&seen), &seen.frame), (Exit::NatReplyTx, &to_client(client, Tcp::default()).bytes()));
            // The client's next packet comes from another router.
            let router = [0x02, 0, 0, 0xcc, 0, 9];
            let moved = Frame { source: router, ..client.sends(Tcp::default()) };
            assert_eq!(exit(&run(&both, &moved)), Exit::NatRedirect);
            let seen = run(&both, &client.answered(&both, Tcp::default()));
            assert_eq!(seen.frame[..6], router);
            assert_eq!(both.memory.nat.hops().len(), 2);
        });
    }
}

#[test]
fn datagrams_without_a_checksum_stay_without_and_no_other_loses_its_own() {
    in_namespace(|| {
        let both = Both::new(world(Side::V4, 64, 4, LO));
        for port in 0..=2000u16 {
            let client = Client { side: Side::V4, port: 30_000 + port, service: UDP };
            let data = Tcp { data: port.to_be_bytes().to_vec(), ..Tcp::default() };
            let mut frame = client.sends(data);
            let plain = if let Payload::Udp(udp) = &mut ip(&mut frame).payload
                && port % 2 == 0
            {
                udp.checksum = Some(0);
                true
            } else {
                false
            };
            let seen = both.run(&frame.bytes());
            if exit(&seen) == Exit::NatExhaustedSilent {
                break;
            }
            let checksum = &seen.frame[40..42];
            assert_eq!(checksum == [0, 0], plain, "{port}");
        }
    });
}

fn ip(frame: &mut Frame) -> &mut Ip {
    match &mut frame.network {
        edge_tests::packet::Network::Ip(ip) => ip,
        other @ edge_tests::packet::Network::Other(..) => panic!("{other:?}"),
    }
}

#[test]
fn datagrams_of_a_dead_backend_go_to_another_one_at_once() {
    for (side, sticks) in [(Side::V4, false), (Side::V6, false), (Side::V4, true), (Side::V6, true)] {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            world.services[UDP as usize].sticks = sticks;
            let mut both = Both::new(world);
            let client = Client { side, port: 40_000, service: UDP };
            run(&both, &client.sends(Tcp::default()));
            run(&both, &client.answered(&both, Tcp::default()));
            let before = client.translated(&both).expect("a flow");
            assert_eq!(before.stage, Stage::Established);
            kill(&mut both, before.translation.backend);
            assert_eq!(exit(&run(&both, &client.sends(Tcp::default()))), Exit::NatTx);
            let after = client.translated(&both).expect("a flow");
            assert_ne!(after.translation.backend, before.translation.backend);
            assert_eq!(after.stage, Stage::HalfOpen);
        });
    }
}

#[test]
fn a_syn_of_a_dead_backends_connection_that_is_half_open_goes_to_another_one() {
    for (side, sticks) in [(Side::V4, false), (Side::V6, false), (Side::V4, true), (Side::V6, true)] {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            world.services[TCP as usize].sticks = sticks;
            let mut both = Both::new(world);
            let client = Client { side, port: 40_000, service: TCP };
            run(&both, &client.sends(segment(SYN, CLIENT, 0)));
            let before = client.translated(&both).expect("a flow").translation.backend;
            kill(&mut both, before);
            assert_eq!(exit(&run(&both, &client.sends(segment(SYN, CLIENT, 0)))), Exit::NatTx);
            assert_ne!(client.translated(&both).expect("a flow").translation.backend, before, "{side:?} {sticks}");
        });
    }
}

/// Takes a backend down, and sets `look` in all slots, so that its flows go to other backends.
pub(super) fn kill(both: &mut Both, backend: u16) {
    both.change(|world| {
        world.backends[usize::from(backend)].state = DOWN;
        world.services.iter_mut().for_each(|service| service.in_transition = true);
    });
}
