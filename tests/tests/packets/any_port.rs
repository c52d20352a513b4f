//! A service on every port of its VIP: its packets leave like those of a service on their port, and packets of another
//! service are not affected.

use edge_common::abi::Exit;
use edge_tests::{
    both::ProgramExit,
    packet::{SYN, protocol},
};

use super::slow::{
    errors::about,
    path_mtu::{for_each_tunnel, learns, learnt},
    world::{exit, flows, for_each_flow, fragments, frame, port, with_both},
};

#[test]
fn each_packet_comes_out_as_by_the_port() {
    for_each_flow(|both, flow| {
        let pieces = fragments(&flow.packet(240), 80, 7);
        let packets =
            || [flow.with_flags(SYN, 0), flow.packet(20), about(flow)].into_iter().chain(pieces.iter().cloned());
        let before: Vec<_> = packets().map(|packet| both.run(&frame(&packet))).collect();
        let service = flow.service(&both.world);
        both.change(|world| world.services[service].port = 0);
        for (packet, before) in packets().zip(before) {
            let after = both.run(&frame(&packet));
            assert_eq!((after.exit, after.egress), (before.exit, before.egress), "{flow:?}");
            assert_eq!(after.frame, before.frame, "{flow:?}");
        }
    });
}

#[test]
fn an_error_about_a_tunnel_packet_of_it_teaches_the_mtu_of_its_path() {
    for_each_tunnel(|both, flow, _| {
        let (service, owner) = (flow.service(&both.world), flow.owner(both));
        both.change(|world| world.services[service].port = 0);
        assert!(learns(both, flow, owner, 1_400), "{flow:?}");
        assert_eq!(learnt(both, owner), Some(1_400), "{flow:?}");
    });
}

#[test]
fn another_service_keeps_its_port_and_another_protocol_is_not_taken() {
    with_both(|both| {
        for flow in flows().into_iter().filter(|flow| flow.port == port::DSR) {
            let service = flow.service(&both.world);
            both.change(|world| world.services[service].port = 0);
            let other = flows().into_iter().find(|other| other.port == port::IN4 && other.side == flow.side);
            assert_eq!(exit(both, &other.expect("one").packet(0)), Exit::IpipTx, "an entry of its own comes first");
            let protocol = flow.protocol ^ protocol::TCP ^ protocol::UDP;
            let unserved = super::slow::world::Flow { protocol, port: 999, ..flow };
            assert_ne!(exit(both, &unserved.packet(0)), Exit::DsrTx, "{unserved:?}");
            let served = super::slow::world::Flow { port: 999, ..flow };
            assert!(matches!(both.run(&frame(&served.packet(0))).exit, ProgramExit::Edge(Exit::DsrTx)), "{served:?}");
            both.change(|world| world.services[service].port = port::DSR);
        }
    });
}
