//! Later fragments follow the first fragment of their packet, for some seconds, and only if the first fragment was
//! seen.

use std::{collections::BTreeSet, thread::sleep, time::Duration};

use edge_common::abi::Exit;
use edge_tests::{
    both::{Both, Program, ProgramExit, on_host},
    kernel::Arrival,
    namespace::in_namespace,
    packet::{Ip, SYN, protocol},
    shared::Shared,
    world::{DOWN, Side},
};

use super::world::{
    Flow, exit, flows, for_each_flow, forwarded, fragment, fragments, frame, port, traffic, with_both, world,
};

#[test]
fn all_fragments_of_a_packet_go_where_the_first_one_goes_in_any_order() {
    with_both(|both| {
        let mut id = 0x1000;
        for flow in flows() {
            for order in [[0, 1, 2, 3], [0, 3, 2, 1], [0, 2, 3, 1]] {
                for flags in [SYN, 0x10] {
                    id += 0x0111;
                    let pieces = fragments(&flow.with_flags(flags, 240), 80, id);
                    let owner = flow.owner(both);
                    let before = traffic(both, flow, owner);
                    let mut identifiers = BTreeSet::new();
                    for number in order {
                        let (backend, by) = forwarded(both, flow, &pieces[number]);
                        assert_eq!(backend, owner, "{flow:?}: fragment {number}");
                        identifiers.insert(by);
                        if flow.tunnel() == Some(Side::V6) {
                            assert_eq!(by == flow.label(), number == 0, "the flow's label is for what has its ports");
                        }
                    }
                    if flow.tunnel() == Some(Side::V4) && flow.side == Side::V4 {
                        assert_eq!(
                            identifiers.len(),
                            4,
                            "{flow:?}: outer packets that may be fragmented are distinguishable"
                        );
                    }
                    let bytes = pieces.iter().map(|piece| piece.bytes().len() as u64).sum::<u64>();
                    let starts = u64::from(flow.protocol == protocol::TCP && flags == SYN);
                    for (before, after) in before.into_iter().zip(traffic(both, flow, owner)) {
                        assert_eq!(after, (before.0 + 4, before.1 + bytes, before.2 + starts), "{flow:?}");
                    }
                }
            }
        }
    });
}

#[test]
fn outer_headers_of_first_fragments_have_the_flows_bits() {
    with_both(|both| {
        for flow in flows() {
            let first = &fragments(&flow.packet(240), 80, 0x1234)[0];
            let (_, by) = forwarded(both, flow, first);
            let may_be_fragmented = flow.tunnel() == Some(Side::V4) && flow.side == Side::V4;
            let expected = if may_be_fragmented { 0x1234 ^ flow.fingerprint() } else { flow.fingerprint() };
            assert_eq!(by, expected, "{flow:?}");
        }
    });
}

#[test]
fn fragments_stay_when_owner_and_pick_change_between_them_or_the_backend_dies() {
    for_each_flow(|both, flow| {
        let pieces = fragments(&flow.packet(240), 80, 7);
        let (first, _) = forwarded(both, flow, &pieces[0]);
        assert_eq!(flow.drain_owner(both), first);
        assert_eq!(forwarded(both, flow, &pieces[1]).0, first, "the pick is another one");
        let other = both.world.pools[both.world.backends[usize::from(first)].pool as usize]
            .members
            .iter()
            .find(|member| **member != first);
        flow.set_owner(both, *other.expect("three members"));
        assert_eq!(forwarded(both, flow, &pieces[2]).0, first, "the owner, too");
        both.change(|world| world.backends[usize::from(first)].state = DOWN);
        assert_eq!(forwarded(both, flow, &pieces[3]).0, first, "no other could put them together");
    });
}

#[test]
fn fragments_follow_a_record_that_their_first_one_found() {
    for_each_flow(|both, flow| {
        if flow.protocol == protocol::UDP {
            return;
        }
        let owner = flow.drain_owner(both);
        let (pick, _) = forwarded(both, flow, &flow.with_flags(SYN, 0));
        assert_ne!(pick, owner, "it started elsewhere, and is recorded there");
        for piece in fragments(&flow.packet(240), 80, 9) {
            assert_eq!(forwarded(both, flow, &piece).0, pick, "{flow:?}");
        }
    });
}

#[test]
fn a_flow_that_starts_with_a_fragment_is_recorded() {
    for_each_flow(|both, flow| {
        if flow.protocol == protocol::UDP {
            return;
        }
        let owner = flow.drain_owner(both);
        let pieces = fragments(&flow.with_flags(SYN, 240), 80, 9);
        let reached = pieces.iter().map(|piece| forwarded(both, flow, piece).0).collect::<BTreeSet<_>>();
        assert_eq!(reached.len(), 1);
        assert!(!reached.contains(&owner));
        assert_eq!(both.memory.records().len(), 1, "only the first one identifies the flow");
        assert!(reached.contains(&forwarded(both, flow, &flow.packet(0)).0));
    });
}

#[test]
fn fragments_go_on_when_their_service_gets_another_number_or_another_bank() {
    for_each_flow(|both, flow| {
        let pieces = fragments(&flow.packet(240), 80, 7);
        let (first, _) = forwarded(both, flow, &pieces[0]);
        let old = flow.service(&both.world);
        let new = (old + 1) % both.world.services.len();
        both.change(|world| world.services.swap(old, new));
        assert_eq!(flow.service(&both.world), new);
        let before = traffic(both, flow, first);
        assert_eq!(forwarded(both, flow, &pieces[1]).0, first);
        assert_eq!(traffic(both, flow, first)[0].0, before[0].0 + 1, "counted where the service is now");
        to_the_other_bank(both);
        assert_eq!(forwarded(both, flow, &pieces[2]).0, first, "{flow:?}");
        // Once the service is gone, the fragments belong to no service.
        both.change(|world| world.services[new].port = 9999);
        assert_eq!(exit(both, &pieces[3]), Exit::NotOurs);
    });
}

/// Publishes the same content in the other bank, and clears the first one.
fn to_the_other_bank(both: &mut Both) {
    fn swap<T: Default>(map: &mut [T]) {
        for pair in map.chunks_mut(2) {
            pair.swap(0, 1);
        }
    }
    let memory = &mut both.memory;
    memory.published.active ^= 1;
    memory.published.generations.swap(0, 1);
    swap(&mut memory.services);
    swap(&mut memory.pools);
    swap(&mut memory.service_index_v4);
    swap(&mut memory.service_index_v6);
    both.kernel.copy(&both.memory);
}

#[test]
fn a_first_fragment_is_forgotten_after_five_seconds() {
    let memory = world().memory();
    let exit_of = |packet: &Ip| on_host(&memory, Program::Edge, &frame(packet), Arrival::by(1)).exit;
    for flow in flows() {
        let pieces = fragments(&flow.packet(240), 80, 3);
        let started = 1 << 40;
        memory.clock_ns.set(started);
        assert_eq!(exit_of(&pieces[0]), ProgramExit::Edge(flow.exit()));
        for (after, exit) in [
            (0, flow.exit()),
            (4_999_999_999, flow.exit()),
            (5_000_000_000, Exit::FragmentUnknown),
            (u64::MAX - started, Exit::FragmentUnknown),
        ] {
            memory.clock_ns.set(started + after);
            assert_eq!(exit_of(&pieces[1]), ProgramExit::Edge(exit), "{flow:?}: {after} ns later");
        }
    }
}

#[test]
fn the_kernel_forgets_it_then_too() {
    with_both(|both| {
        let flows = flows();
        let pieces = |flow: Flow| fragments(&flow.packet(240), 80, flow.port);
        for flow in flows.iter().copied() {
            forwarded(both, flow, &pieces(flow)[0]);
        }
        sleep(Duration::from_millis(4_500));
        both.memory.clock_ns.set(4_500_000_000);
        for flow in flows.iter().copied() {
            forwarded(both, flow, &pieces(flow)[1]);
        }
        sleep(Duration::from_secs(1));
        both.memory.clock_ns.set(5_500_000_000);
        for flow in flows.iter().copied() {
            assert_eq!(exit(both, &pieces(flow)[2]), Exit::FragmentUnknown);
        }
    });
}

#[test]
fn a_flood_of_first_fragments_takes_no_more_room_than_there_is() {
    in_namespace(|| {
        let world = world();
        let memory = world.memory();
        let kernel = Shared::load_with_fragments(&memory, 64);
        let both = Both { world, memory, kernel };
        for flow in flows().into_iter().filter(|flow| flow.port == port::DSR) {
            for id in 0..2_000 {
                forwarded(&both, flow, &fragment(&flow.packet(100), flow.packet(100).payload, 0, true, id));
            }
            // Fragments after the flood are served.
            for id in 5_000..5_010 {
                for piece in fragments(&flow.packet(240), 80, id) {
                    forwarded(&both, flow, &piece);
                }
            }
        }
        for count in [both.kernel.fragments_v4().len(), both.kernel.fragments_v6().len()] {
            assert!((1..=64).contains(&count), "{count} packets remembered");
        }
    });
}

#[test]
fn the_tables_of_both_hold_the_same() {
    with_both(|both| {
        for flow in flows() {
            for piece in fragments(&flow.packet(240), 80, 3) {
                forwarded(both, flow, &piece);
            }
        }
        let v4 = both.kernel.fragments_v4();
        let v6 = both.kernel.fragments_v6();
        let host = (both.memory.fragments_v4.borrow(), both.memory.fragments_v6.borrow());
        assert!(v4.keys().eq(host.0.keys()) && v6.keys().eq(host.1.keys()));
        for (kernel, host) in v4.values().chain(v6.values()).zip(host.0.values().chain(host.1.values())) {
            let mut kernel = *kernel;
            kernel.seen_ns = 0;
            assert_eq!(kernel, *host);
        }
        // In IPv4 the protocol is a part of the key as well.
        assert_eq!((v4.len(), v6.len()), (2, 1));
    });
}
