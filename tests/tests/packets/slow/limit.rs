//! The rate limits of answers, of each kind separately, and of first fragments.

use edge_common::abi::{AnswerLimits, Exit, WhenExhausted};
use edge_tests::{
    both::{Program, ProgramExit, on_host},
    kernel::{self, Arrival},
    packet::{Icmp, Ip, Payload, SYN, protocol},
    world::{DOWN, Side, World},
};

use super::{
    too_long::of_length,
    world::{Flow, exit, flows, fragments, frame, with_world, world},
};

fn limited(limit: u32) -> World {
    World { answers_per_second: AnswerLimits::all(limit), ..world() }
}

/// A packet that is answered by an error, since its TTL is used up.
fn expired(flow: Flow) -> Vec<u8> {
    let mut packet = flow.packet(10);
    packet.ttl = 1;
    frame(&packet)
}

#[test]
fn exactly_so_many_as_are_allowed_in_each_second_of_the_clock() {
    let memory = limited(5).memory();
    let exit_of = |frame: &[u8]| on_host(&memory, Program::Edge, frame, Arrival::by(1)).exit;
    for second in [0, 1, 2, 700, 701] {
        for within in [0, (1 << 30) - 1] {
            memory.clock_ns.set((second << 30) + within);
            for (number, flow) in flows().into_iter().enumerate() {
                let expected = if within == 0 && number < 5 { Exit::TtlExceeded } else { Exit::AnswerLimited };
                assert_eq!(exit_of(&expired(flow)), ProgramExit::Edge(expected), "second {second}, error {number}");
            }
        }
    }
}

/// A world in which a flow's packets provoke an answer, and a packet that does.
#[expect(clippy::wildcard_enum_match_arm, reason = "few exits are answers")]
fn provoking(kind: Exit, flow: Flow) -> (World, Vec<u8>) {
    let mut world = world();
    let packet = match kind {
        Exit::TtlExceeded => expired(flow),
        Exit::TooBig => {
            world.backends.iter_mut().for_each(|backend| backend.mtu = 1400);
            frame(&of_length(flow, 1450))
        }
        Exit::EchoReply => {
            let kind = if flow.side == Side::V4 { 8 } else { 128 };
            let echo = Payload::Icmp(Icmp::echo(kind, 1, 2, b"ping"));
            frame(&Ip::new(flow.side.client(), flow.side.vip(), echo))
        }
        _ => {
            world.backends.iter_mut().for_each(|backend| backend.state = DOWN);
            world.services.iter_mut().for_each(|service| service.when_exhausted = WhenExhausted::Reject);
            frame(&flow.with_flags(SYN, 0))
        }
    };
    (world, packet)
}

/// Access to a field of the limits.
type Field = fn(&mut AnswerLimits) -> &mut u32;

/// Each kind of answer with its limit.
const KINDS: [(Exit, Field); 5] = [
    (Exit::RejectUnreachable, |limits| &mut limits.unreachable),
    (Exit::TtlExceeded, |limits| &mut limits.time_exceeded),
    (Exit::TooBig, |limits| &mut limits.too_big),
    (Exit::RejectReset, |limits| &mut limits.resets),
    (Exit::EchoReply, |limits| &mut limits.echo_replies),
];

#[test]
fn each_kind_has_a_limit_of_its_own() {
    for (limited, field) in KINDS {
        let mut limits = AnswerLimits::all(1 << 30);
        *field(&mut limits) = 0;
        with_world(World { answers_per_second: limits, ..world() }, |both| {
            for (kind, _) in KINDS {
                for flow in flows() {
                    if (kind == Exit::RejectReset && flow.protocol == protocol::UDP)
                        || (kind == Exit::RejectUnreachable && flow.protocol == protocol::TCP)
                    {
                        continue;
                    }
                    let (world, packet) = provoking(kind, flow);
                    both.change(|changed| *changed = World { answers_per_second: limits, ..world });
                    let expected = if kind == limited { Exit::AnswerLimited } else { kind };
                    assert_eq!(both.run(&packet).exit, ProgramExit::Edge(expected), "{flow:?}: {kind:?}");
                }
            }
        });
    }
}

#[test]
fn a_flood_of_expired_packets_leaves_path_mtu_discovery_as_it_is() {
    let flow = flows()[0];
    let (world, long) = provoking(Exit::TooBig, flow);
    let memory = World { answers_per_second: AnswerLimits::all(1), ..world }.memory();
    let exit_of = |frame: &[u8]| on_host(&memory, Program::Edge, frame, Arrival::by(1)).exit;
    assert_eq!(exit_of(&expired(flow)), ProgramExit::Edge(Exit::TtlExceeded));
    for _ in 0..1000 {
        assert_eq!(exit_of(&expired(flow)), ProgramExit::Edge(Exit::AnswerLimited));
    }
    assert_eq!(exit_of(&long), ProgramExit::Edge(Exit::TooBig));
    assert_eq!(exit_of(&long), ProgramExit::Edge(Exit::AnswerLimited));
}

#[test]
fn a_first_fragment_beyond_the_limit_is_dropped_and_so_is_what_follows() {
    let memory = World { first_fragments_per_second: 5, ..world() }.memory();
    let exit_of = |packet: &Ip| on_host(&memory, Program::Edge, &frame(packet), Arrival::by(1)).exit;
    for second in [3, 4] {
        memory.clock_ns.set(second << 30);
        for (number, flow) in flows().into_iter().enumerate() {
            let id = u16::try_from(100 * second + number as u64).expect("small");
            let pieces = fragments(&flow.packet(240), 80, id);
            let [first, later] =
                if number < 5 { [flow.exit(); 2] } else { [Exit::FragmentLimited, Exit::FragmentUnknown] };
            assert_eq!(exit_of(&pieces[0]), ProgramExit::Edge(first), "{flow:?}");
            assert_eq!(exit_of(&pieces[1]), ProgramExit::Edge(later), "{flow:?}");
        }
    }
}

#[test]
fn only_first_fragments_that_are_remembered_are_limited() {
    with_world(World { first_fragments_per_second: 0, ..world() }, |both| {
        for flow in flows() {
            let mut pieces = fragments(&flow.packet(240), 80, 9);
            assert_eq!(exit(both, &pieces[0]), Exit::FragmentLimited, "{flow:?}");
            assert_eq!(exit(both, &pieces[1]), Exit::FragmentUnknown, "{flow:?}");
            pieces[0].destination = flow.side.other();
            assert_eq!(exit(both, &pieces[0]), Exit::NotOurs, "{flow:?}");
            assert_eq!(exit(both, &flow.packet(9)), flow.exit(), "whole packets have no such limit");
        }
        assert_eq!(both.kernel.fragments_v4().len() + both.kernel.fragments_v6().len(), 0);
    });
}

#[test]
fn the_kernel_counts_by_its_own_seconds() {
    with_world(limited(5), |both| {
        let before = both.kernel.exits();
        let mut answered = 0;
        for flow in flows().into_iter().cycle().take(60) {
            answered += u64::from(both.kernel.run("edge", &expired(flow), Arrival::by(1)).verdict == kernel::TX);
        }
        let after = both.kernel.exits();
        let counted = |exit: Exit| after[exit as usize] - before[exit as usize];
        assert_eq!((counted(Exit::TtlExceeded), counted(Exit::AnswerLimited)), (answered, 60 - answered));
        // Sixty runs take less than a second, but a new second may begin meanwhile.
        assert!((5..=10).contains(&answered), "{answered} errors");
        // The host gets the same numbers in as many seconds, so that the counters are equal.
        for (number, flow) in (0..60).zip(flows().into_iter().cycle()) {
            both.memory.clock_ns.set(if number < 60 - (answered - 5) { 1 << 30 } else { 2 << 30 });
            on_host(&both.memory, Program::Edge, &expired(flow), Arrival::by(1));
        }
    });
}
