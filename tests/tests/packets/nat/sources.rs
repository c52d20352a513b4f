//! Several sources of one IP version.

use std::{collections::BTreeSet, net::IpAddr};

use edge_common::abi::Exit;
use edge_tests::{
    both::Both,
    namespace::{LO, in_namespace},
    packet::{ACK, Frame, Ip, SYN},
    world::{EDGE_MAC, Side},
};

use super::{BACKEND_PORT, Client, TCP, address, exit, packet, run, segment, world};

#[test]
fn each_flow_has_one_of_the_sources_and_answers_to_another_are_nobodys() {
    for side in Side::BOTH {
        in_namespace(|| {
            let mut world = world(side, 64, 4, LO);
            let further: IpAddr =
                if side == Side::V4 { "203.0.113.6" } else { "2001:db8:ffff::6" }.parse().expect("one");
            let sources = &mut world.nat.as_mut().expect("it translates").sources;
            sources.push(further);
            let sources = sources.clone();
            let both = Both::new(world);
            let mut seen = BTreeSet::new();
            for port in 40_000..40_030 {
                let client = Client { side, port, service: TCP };
                assert_eq!(exit(&run(&both, &client.sends(segment(SYN, 5, 0)))), Exit::NatTx);
                let flow = client.translated(&both).expect("a flow");
                let own = sources[usize::from(flow.translation.source)];
                let answer = |to: IpAddr| {
                    let payload = packet(client.protocol(), (BACKEND_PORT, flow.port), segment(SYN | ACK, 100, 6));
                    let from = address(side, flow.translation.backend);
                    exit(&run(&both, &Frame::new(EDGE_MAC, [2; 6], Ip::new(from, to, payload))))
                };
                let before = both.memory.nat.flows();
                let other = if own == further { side.source() } else { further };
                let is_taken = before.values().any(|known| {
                    known.port == flow.port
                        && known.translation.backend == flow.translation.backend
                        && known.translation.source != flow.translation.source
                });
                if !is_taken {
                    assert_eq!(answer(other), Exit::NotOurs, "{side:?} {port}");
                }
                assert_eq!(answer(own), Exit::NatReplyTx, "{side:?} {port}");
                seen.insert(own);
            }
            assert_eq!(seen, BTreeSet::from([side.source(), further]));
        });
    }
}
