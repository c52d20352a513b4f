//! Affinity by source: all flows of a client, or of a prefix of clients, go to one backend, and are still recorded one
//! by one.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use edge_common::abi::{Tracking, WhenExhausted};
use edge_tests::{
    both::Both,
    namespace::in_namespace,
    world::{DOWN, DRAINED, Side, UP},
};

use super::{
    Flow,
    Meaning::{self, Runs, Starts},
    TCP, UDP, both_with_room, reached, records, world,
};

/// Client `host` of network `net`. Networks differ in the last bits of a prefix of `bits` bits, and hosts in the first
/// bits behind the prefix.
fn client(side: Side, bits: u8, net: u32, host: u32) -> IpAddr {
    match side {
        Side::V4 => {
            let base = u32::from_be_bytes([198, 51, 100, 7]) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            let net = net.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            let host = (host & 1).checked_shl(31 - u32::from(bits).min(31)).unwrap_or(0) | host >> 1;
            IpAddr::V4(Ipv4Addr::from_bits(base ^ net ^ if bits == 32 { 0 } else { host }))
        }
        Side::V6 => {
            let all = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0x1234, 0x5678, 0x9abc, 0xdef0, 0x1357));
            let base = all & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            let net = u128::from(net).checked_shl(128 - u32::from(bits)).unwrap_or(0);
            let host =
                u128::from(host & 1).checked_shl(127 - u32::from(bits).min(127)).unwrap_or(0) | u128::from(host >> 1);
            IpAddr::V6(Ipv6Addr::from_bits(base ^ net ^ if bits == 128 { 0 } else { host }))
        }
    }
}

fn with_both(side: Side, bits: u8, test: impl FnOnce(&mut Both) + Send) {
    let mut world = world(side);
    for service in &mut world.services {
        (service.affinity, service.when_exhausted) = (Some(bits), WhenExhausted::Drop);
    }
    world.services[UDP as usize].tracking = Tracking::Learn;
    in_namespace(|| {
        let mut both = both_with_room(world, 1 << 10);
        test(&mut both);
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}

fn to(both: &Both, flow: Flow, meaning: Meaning) -> u16 {
    reached(&both.run(&flow.frame(meaning))).1.expect("somebody")
}

#[test]
fn all_flows_of_a_prefix_go_to_one_backend_and_prefixes_to_all() {
    for (side, prefixes) in [(Side::V4, [32, 19, 1]), (Side::V6, [128, 64, 61])] {
        for bits in prefixes {
            with_both(side, bits, |both| {
                let mut backends = BTreeSet::new();
                for net in 0..if bits == 1 { 2 } else { 16 } {
                    let mut reached = BTreeSet::new();
                    for host in 0..4 {
                        let client = client(side, bits, net, host);
                        for source in [1024, 65_535] {
                            for service in [TCP, UDP] {
                                let flow = Flow { client, source, service };
                                reached.extend([Starts, Runs].map(|meaning| to(both, flow, meaning)));
                            }
                        }
                    }
                    assert_eq!(reached.len(), 1, "{side:?}/{bits}, network {net}");
                    backends.extend(reached);
                }
                let expected = if bits == 1 { 1..=2 } else { 3..=3 };
                assert!(expected.contains(&backends.len()), "{side:?}/{bits}: {backends:?}");
                assert!(records(&both.memory).is_empty(), "owners take them all");
            });
        }
    }
}

#[test]
fn flows_of_one_client_are_recorded_one_by_one() {
    for (side, bits) in [(Side::V4, 24), (Side::V6, 64)] {
        with_both(side, bits, |both| {
            let flow = |host, source, service| Flow { client: client(side, bits, 0, host), source, service };
            let old = || (0..3).flat_map(|host| [TCP, UDP].map(|service| flow(host, 2000, service)));
            let new = || (0..4).map(|host| flow(host, 3000, TCP));
            let home = to(both, flow(0, 2000, TCP), Runs);
            both.change(|world| world.backends[usize::from(home)].state = DRAINED);
            for running in old() {
                assert_eq!(to(both, running, Runs), home, "running flows stay");
            }
            assert_eq!(records(&both.memory).len(), old().count(), "each with a record of its own");
            let next: BTreeSet<_> = new().map(|starting| to(both, starting, Starts)).collect();
            assert!(next.len() == 1 && !next.contains(&home), "new flows go to another one, all to the same");
            assert_eq!(records(&both.memory).len(), old().count() + new().count());
            // The old backend's death affects its own flows, and no other flow of the client.
            both.change(|world| world.backends[usize::from(home)].state = DOWN);
            for starting in new() {
                assert!(next.contains(&to(both, starting, Runs)));
            }
            let of_tcp = old().filter(|flow| flow.service == TCP);
            for running in of_tcp.clone() {
                assert_ne!(to(both, running, Runs), home);
            }
            assert_eq!(records(&both.memory).len(), old().count() + new().count() - of_tcp.count());
            both.change(|world| world.backends[usize::from(home)].state = UP);
            for starting in new() {
                assert!(next.contains(&to(both, starting, Runs)), "nor does its return");
            }
        });
    }
}

#[test]
fn a_service_without_affinity_spreads_flows_of_a_client() {
    for side in Side::BOTH {
        in_namespace(|| {
            let both = both_with_room(world(side), 1 << 10);
            let backends: BTreeSet<_> = (2000..2040)
                .map(|source| to(&both, Flow { client: client(side, 24, 0, 0), source, service: TCP }, Starts))
                .collect();
            assert_eq!(backends.len(), 3);
        });
    }
}
