//! An address that is a tunnel's source and a VIP: the quoted packet decides how an ICMP error to it is handled.

use edge_common::abi::{Exit, Mode, VipOther};
use edge_tests::{
    both::{Both, ProgramExit},
    packet::{ACK, Icmp, Ip, Payload, Tcp, protocol},
    world::{EDGE_MAC, Side, World},
};

use super::{
    errors::kinds,
    path_mtu::{learns, learnt, outer, too_big, tunnelled},
    world::{Flow, exit, header, port, run, with_world, world},
};

/// The world of the other tests, with an additional service in `dsr` on each tunnel's source.
fn shared(other: VipOther) -> World {
    let mut world = world();
    for side in Side::BOTH {
        let pool = world.services.iter().find(|service| service.vip == side.vip()).expect("a service").pools[0];
        world.service(side.tunnel(), port::DSR, protocol::TCP, Mode::Dsr, &[pool]);
    }
    world.vip_other = other;
    world
}

/// A packet from a backend of that service to the client.
fn answer(side: Side) -> Ip {
    let segment = Tcp { source: port::DSR, destination: 40_000, flags: ACK, ..Tcp::default() };
    Ip::new(side.tunnel(), side.client(), Payload::Tcp(segment))
}

fn error(side: Side, kind: u8, code: u8, quoted: &[u8]) -> Ip {
    Ip::new(side.router(), side.tunnel(), Payload::Icmp(Icmp::error(kind, code, 1_300, quoted)))
}

/// An error about the flow's outer packet, with one bit of the flow's fingerprint changed.
fn forged(both: &Both, flow: Flow, tunnel: Side) -> Vec<u8> {
    let mut outer = outer(both, flow, flow.owner(both));
    (outer.id, outer.flow_label) = (outer.id ^ 1, outer.flow_label ^ 1);
    too_big(tunnel, 1_300, &outer.bytes()).bytes()
}

#[test]
fn an_error_about_a_packet_in_a_tunnel_teaches_its_path_and_one_about_an_answer_goes_to_its_backend() {
    with_world(shared(VipOther::Host), |both| {
        for (flow, tunnel) in tunnelled() {
            let owner = flow.owner(both);
            both.memory.path_mtus.borrow_mut().clear();
            assert!(learns(both, flow, owner, 1_300), "{flow:?}");
            assert_eq!(learnt(both, owner), Some(1_300), "{flow:?}");
            both.memory.path_mtus.borrow_mut().clear();
            assert_eq!(both.run(&forged(both, flow, tunnel)).exit, ProgramExit::Edge(Exit::IcmpError), "{flow:?}");
            assert_eq!(learnt(both, owner), None, "{flow:?}");
        }
        for side in Side::BOTH {
            let quoted = answer(side).bytes();
            for kind in kinds(side).0 {
                for code in [0, 3, 4] {
                    let seen = run(both, &error(side, *kind, code, &quoted[..header(side) + 8]));
                    assert_eq!(seen.exit, ProgramExit::Edge(Exit::DsrTx), "{side:?}: type {kind}, code {code}");
                    assert_ne!(&seen.frame[..6], EDGE_MAC);
                }
            }
        }
    });
}

#[test]
fn an_error_about_neither_is_to_a_vip_and_no_service() {
    for (other, expected) in
        [(VipOther::Host, Exit::IcmpError), (VipOther::Drop, Exit::VipDropped), (VipOther::Reject, Exit::VipSilent)]
    {
        with_world(shared(other), |both| {
            for (flow, tunnel) in tunnelled() {
                assert_eq!(both.run(&forged(both, flow, tunnel)).exit, ProgramExit::Edge(expected), "{flow:?}");
            }
            for side in Side::BOTH {
                let mut stranger = answer(side);
                stranger.source = side.other();
                let (kind, code) = if side == Side::V4 { (3, 4) } else { (2, 0) };
                assert_eq!(exit(both, &error(side, kind, code, &stranger.bytes())), expected, "{side:?}");
                // About a packet in a tunnel, but not about the packet's length.
                let (flow, _) = *tunnelled().iter().find(|(_, tunnel)| *tunnel == side).expect("a flow");
                let outer = outer(both, flow, flow.owner(both)).bytes();
                let (kind, code) = if side == Side::V4 { (3, 1) } else { (1, 0) };
                assert_eq!(exit(both, &error(side, kind, code, &outer)), expected, "{side:?}");
            }
        });
    }
}
