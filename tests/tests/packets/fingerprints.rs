//! Treatment of TTL, DSCP and ECN by a router and a tunnel's ends (RFC 1812, 2003, 2473, 2983, 6040), in both programs.

use edge_common::abi::{DecapExit, Exit};
use edge_tests::{
    both::{Both, Program, ProgramExit, Seen, difference},
    cases::{
        Scene,
        scene::{bare, from_client, ip, port, tcp, tunnelled, with_ip},
    },
    kernel::Arrival,
    namespace::in_namespace,
    packet::{ACK, Frame, Ip, Payload, protocol, verify},
    world::{Side, World},
};

/// Modes: port, family of the tunnel, and exit.
const MODES: [(u16, Option<Side>, Exit); 3] = [
    (port::DSR, None, Exit::DsrTx),
    (port::IN4, Some(Side::V4), Exit::IpipTx),
    (port::IN6, Some(Side::V6), Exit::IpipTx),
];

/// The expected frame for `frame`.
fn expected(scene: &Scene, side: Side, port: u16, tunnel: Option<Side>, frame: &Frame) -> Vec<u8> {
    let mut inner = ip(frame).clone();
    inner.ttl -= 1;
    let Some(tunnel) = tunnel else {
        return scene.towards(side, protocol::TCP, port, frame, inner).bytes();
    };
    let to = scene.backend_address(side, protocol::TCP, port);
    let mut outer = Ip::new(tunnel.tunnel(), to, Payload::Ip(Box::new(inner.clone())));
    outer.tos = inner.tos;
    outer.ttl = 64;
    let label = World::flow(side.client(), 40_000, port).flow_label();
    match tunnel {
        Side::V4 => outer.id = World::fingerprint(label),
        Side::V6 => outer.flow_label = label,
    }
    scene.towards(side, protocol::TCP, port, frame, outer).bytes()
}

fn same(seen: &Seen, expected: &[u8]) {
    assert!(seen.frame == expected, "{}", difference(&seen.frame, expected));
    verify::checksums(&seen.frame).unwrap_or_else(|error| panic!("{error}: {seen:?}"));
}

#[test]
fn every_dscp_and_ecn_is_kept_and_copied_to_the_outer_header() {
    let scene = Scene::new();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        for side in Side::BOTH {
            for (port, tunnel, exit) in MODES {
                for tos in 0..=255 {
                    let frame = with_ip(from_client(side, tcp(port, ACK)), |ip| ip.tos = tos);
                    let seen = both.run(&frame.bytes());
                    assert_eq!(seen.exit, ProgramExit::Edge(exit));
                    same(&seen, &expected(&scene, side, port, tunnel, &frame));
                }
            }
        }
    });
}

#[test]
fn every_ttl_is_taken_down_by_one_or_answered() {
    let scene = Scene::new();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        for side in Side::BOTH {
            for (port, tunnel, exit) in MODES {
                for ttl in 0..=255 {
                    // With varied identifications, for different checksums.
                    let frame = with_ip(from_client(side, tcp(port, ACK)), |ip| {
                        (ip.ttl, ip.id) = (ttl, u16::from(ttl).wrapping_mul(0x0107));
                    });
                    let seen = both.run(&frame.bytes());
                    if ttl < 2 {
                        assert_eq!(seen.exit, ProgramExit::Edge(Exit::TtlExceeded), "TTL {ttl}");
                    } else {
                        assert_eq!(seen.exit, ProgramExit::Edge(exit), "TTL {ttl}");
                        same(&seen, &expected(&scene, side, port, tunnel, &frame));
                    }
                }
            }
        }
    });
}

#[test]
fn every_identification_gets_the_right_checksum_when_the_ttl_goes_down() {
    // The update of a checksum must handle its own final carry.
    let scene = Scene::new();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        for id in 0..=u16::MAX {
            let frame = with_ip(from_client(Side::V4, tcp(port::DSR, ACK)), |ip| ip.id = id);
            let seen = both.run(&frame.bytes());
            verify::checksums(&seen.frame).unwrap_or_else(|error| panic!("identification {id}: {error}"));
        }
    });
}

/// RFC 6040, figure 4. Rows are the inner field, columns the outer one, both in the order Not-ECT, ECT(0), ECT(1), CE.
#[test]
fn congestion_on_the_path_arrives_according_to_rfc_6040() {
    const ORDER: [u8; 4] = [0b00, 0b10, 0b01, 0b11];
    const FIGURE_4: [[Option<u8>; 4]; 4] = [
        [Some(0b00), Some(0b00), Some(0b00), None],
        [Some(0b10), Some(0b10), Some(0b01), Some(0b11)],
        [Some(0b01), Some(0b01), Some(0b01), Some(0b11)],
        [Some(0b11), Some(0b11), Some(0b11), Some(0b11)],
    ];
    let scene = Scene::new();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        for (outer_side, inner_side) in
            [(Side::V4, Side::V4), (Side::V4, Side::V6), (Side::V6, Side::V4), (Side::V6, Side::V6)]
        {
            for (inner_ecn, row) in ORDER.into_iter().zip(FIGURE_4) {
                for (outer_ecn, after) in ORDER.into_iter().zip(row) {
                    // Every DSCP of the inner header survives; the outer one is discarded.
                    for dscp in 0..64 {
                        let mut inner = Ip::new(inner_side.client(), inner_side.vip(), tcp(port::DSR, ACK));
                        inner.tos = dscp << 2 | inner_ecn;
                        let frame =
                            with_ip(tunnelled(outer_side, inner.clone()), |ip| ip.tos = 0xfc ^ dscp << 2 | outer_ecn);
                        let seen = both.try_run(Program::Decap, &frame.bytes(), Arrival::by(1));
                        let seen = seen.unwrap_or_else(|error| panic!("{error}"));
                        let Some(after) = after else {
                            assert_eq!(seen.exit, ProgramExit::Decap(DecapExit::Congested));
                            continue;
                        };
                        assert_eq!(seen.exit, ProgramExit::Decap(DecapExit::Decapsulated));
                        inner.tos = dscp << 2 | after;
                        same(&seen, &bare(inner).bytes());
                    }
                }
            }
        }
    });
}

#[test]
fn what_the_edge_encapsulates_the_backend_takes_out_as_it_was() {
    let scene = Scene::new();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        for side in Side::BOTH {
            for (port, _, exit) in &MODES[1..] {
                for tos in 0..=255 {
                    let frame = with_ip(from_client(side, tcp(*port, ACK)), |ip| ip.tos = tos);
                    let sent = both.run(&frame.bytes());
                    assert_eq!(sent.exit, ProgramExit::Edge(*exit));
                    let taken = both.try_run(Program::Decap, &sent.frame, Arrival::by(1));
                    let taken = taken.unwrap_or_else(|error| panic!("{error}"));
                    assert_eq!(taken.exit, ProgramExit::Decap(DecapExit::Decapsulated));
                    let mut inner = ip(&frame).clone();
                    inner.ttl -= 1;
                    assert_eq!(taken.frame[14..], inner.bytes());
                }
            }
        }
    });
}
