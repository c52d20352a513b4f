//! No IPv6 sender receives an MTU below 1,280, which it may ignore; packets that are this short are sent nevertheless,
//! if possible.

use std::collections::BTreeSet;

use edge_common::abi::Exit;
use edge_tests::{
    both::{Both, ProgramExit},
    packet::{Ip, Payload, protocol, verify},
    world::Side,
};

use super::{
    too_long::of_length,
    world::{Flow, exit, flows, for_each_flow, forwarded, forwarded_as, fragment, header, run, with_both},
};

const LEAST: u16 = 1280;

/// Pairs of egress MTU and path MTU, whose minimum is 1,270.
const NARROW: [(u16, u16); 4] = [(1270, 0), (0, 1270), (1500, 1270), (1270, 1290)];

/// Checks that `packet` is answered with this MTU.
fn check_reported(both: &Both, flow: Flow, packet: &Ip, mtu: u16) {
    let seen = run(both, packet);
    assert_eq!(seen.exit, ProgramExit::Edge(Exit::TooBig), "{flow:?}");
    verify::checksums(&seen.frame).expect("right checksums");
    let icmp = 14 + header(flow.side);
    assert_eq!(seen.frame[icmp + 4..icmp + 8], u32::from(mtu).to_be_bytes(), "{flow:?}: the reported MTU");
}

#[test]
fn ipv6_senders_receive_1280_where_less_would_fit_and_ipv4_senders_what_fits() {
    for_each_flow(|both, flow| {
        let owner = usize::from(flow.owner(both));
        let overhead = flow.overhead(&both.world);
        for (egress, path) in NARROW {
            both.change(|world| (world.backends[owner].mtu, world.backends[owner].path_mtu) = (egress, path));
            let reported = if flow.side == Side::V6 { LEAST } else { 1270 - overhead };
            for length in [reported + 1, 1500] {
                check_reported(both, flow, &of_length(flow, length), reported);
            }
        }
    });
}

#[test]
fn ipv6_of_1280_bytes_goes_on_in_ipv4_that_routers_may_fragment() {
    for_each_flow(|both, flow| {
        if flow.side == Side::V4 {
            return;
        }
        let owner = usize::from(flow.owner(both));
        for (egress, path) in NARROW {
            both.change(|world| (world.backends[owner].mtu, world.backends[owner].path_mtu) = (egress, path));
            let fits = 1270 - flow.overhead(&both.world);
            forwarded(both, flow, &of_length(flow, fits));
            for length in [fits + 1, LEAST] {
                let packet = of_length(flow, length);
                if flow.tunnel() == Some(Side::V4) {
                    forwarded_as(both, flow, &packet, false);
                } else {
                    assert_eq!(exit(both, &packet), Exit::TooBigSilent, "{flow:?}: no router could fragment it");
                }
            }
        }
    });
}

#[test]
fn outer_packets_that_may_be_fragmented_are_distinguishable() {
    with_both(|both| {
        both.change(|world| world.backends.iter_mut().for_each(|backend| backend.path_mtu = 576));
        for flow in flows().into_iter().filter(|flow| (flow.side, flow.tunnel()) == (Side::V6, Some(Side::V4))) {
            let mut identifiers = BTreeSet::new();
            for data in 600..700 {
                identifiers.insert(forwarded_as(both, flow, &flow.packet(data), false).1);
            }
            assert!(identifiers.len() >= 99, "{flow:?}: packets of one flow: {}", identifiers.len());

            let first = Payload::Other(flow.protocol, flow.packet(1000).bytes()[40..].to_vec());
            let length = if flow.protocol == protocol::TCP { 1020 } else { 1008 };
            let mut identifiers = vec![];
            for (offset, payload) in [
                (0, first),
                (length / 8 + 1, Payload::Other(flow.protocol, vec![7; 600])),
                (400, Payload::Other(flow.protocol, vec![7; 600])),
            ] {
                let piece = fragment(&flow.packet(0), payload, offset, true, 5);
                identifiers.push(forwarded_as(both, flow, &piece, false).1);
            }
            identifiers.sort_unstable();
            identifiers.dedup();
            assert_eq!(identifiers.len(), 3, "{flow:?}: fragments of one packet");
        }
    });
}
