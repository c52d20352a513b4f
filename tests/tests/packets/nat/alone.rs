//! The load balancer's program without the program that translates, since its map of programs was emptied: established flows
//! go on, other packets that need translation are dropped by an exit of their own, and no others are affected.

use edge_common::abi::{Exit, Mode};
use edge_tests::{
    both::Both,
    kernel::{self, Arrival, FRAGMENTS, Kernel},
    namespace::{LO, in_namespace},
    packet::{ACK, FIN, Frame, Ip, Payload, SYN, Tcp, protocol},
    world::{CLIENT_MAC, EDGE_MAC, Side},
};

use super::{BACKEND_PORT, Client, FIRST_PORT, TCP, address, run, segment, world};

/// Port of a service in `dsr` at the same VIP.
const OTHER: u16 = 8080;

#[test]
fn without_the_program_that_translates_all_else_goes_on() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            let other = world.service(side.vip(), OTHER, protocol::TCP, Mode::Dsr, &[0, 1]);
            world.services[other as usize].in_transition = false;
            let memory = world.memory();
            // A separate object: other tests use the shared ones.
            let mut kernel = Kernel::load(&kernel::sizes(&memory, FRAGMENTS));
            kernel.reset(&memory);
            kernel.forget_calls();
            let client = Client { side, port: 40_000, service: TCP };
            let to = |source, destination, tcp| {
                Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(source, destination, Payload::Tcp(tcp)))
            };
            let answer = Tcp { source: BACKEND_PORT, destination: FIRST_PORT, ..segment(ACK, 1, 2) };
            let frames = [
                ("a packet to a translated service", client.sends(segment(SYN, 5, 0)), kernel::DROP, Exit::BadTables),
                (
                    "one to another service",
                    to(side.client(), side.vip(), Tcp { destination: OTHER, ..segment(SYN, 5, 0) }),
                    kernel::TX,
                    Exit::DsrTx,
                ),
                ("one to a source", to(address(side, 1), side.source(), answer), kernel::PASS, Exit::NotOurs),
                (
                    "one to this host",
                    to(side.client(), side.source(), Tcp { destination: 22, ..segment(SYN, 5, 0) }),
                    kernel::PASS,
                    Exit::NotOurs,
                ),
            ];
            for (what, frame, verdict, exit) in frames {
                let before = kernel.exits();
                let ran = kernel.run("edge", &frame.bytes(), Arrival::by(LO));
                let after = kernel.exits();
                let moved: Vec<_> =
                    Exit::ALL.iter().filter(|exit| after[**exit as usize] > before[**exit as usize]).collect();
                assert_eq!((ran.verdict, moved), (verdict, vec![&exit]), "{side:?}: {what}");
                if verdict == kernel::PASS {
                    assert_eq!(ran.frame, frame.bytes(), "{what}");
                }
            }
        });
    }
}

#[test]
fn an_established_connection_needs_it_no_more() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = Both::new(world(side, 64, 4, LO));
            let client = Client { side, port: 40_000, service: TCP };
            run(&both, &client.sends(segment(SYN, 5, 0)));
            run(&both, &client.answered(&both, segment(SYN | ACK, 70, 6)));
            run(&both, &client.sends(segment(ACK, 6, 71)));
            let mut kernel = Kernel::load(&kernel::sizes(&both.memory, FRAGMENTS));
            kernel.reset(&both.memory);
            kernel.forget_calls();
            let frames = [
                (client.sends(segment(ACK, 6, 71)), kernel::TX, Exit::NatTx),
                (client.answered(&both, segment(ACK, 71, 17)), kernel::TX, Exit::NatReplyTx),
                // It changes the flow.
                (client.sends(segment(FIN | ACK, 17, 82)), kernel::DROP, Exit::BadTables),
            ];
            for (frame, verdict, exit) in frames {
                let before = kernel.exits();
                let ran = kernel.run("edge", &frame.bytes(), Arrival::by(LO));
                let moved: Vec<_> =
                    Exit::ALL.iter().filter(|exit| kernel.exits()[**exit as usize] > before[**exit as usize]).collect();
                assert_eq!((ran.verdict, moved), (verdict, vec![&exit]), "{side:?}");
            }
        });
    }
}
