//! Traces: the object for traces does with each packet what the other one does, and writes what became of it.

use std::{thread, time::Duration};

use edge_common::abi::{Exit, Mac, TRACED_BYTES, TraceFilter, TracedFrame, program, traced_flags as flags};
use edge_tests::{
    both::{Both, Program, ProgramExit, Seen},
    cases::{
        self, Case, Scene,
        scene::{from_client, port, transport, with_ip},
    },
    kernel::Arrival,
    namespace::in_namespace,
    packet::protocol,
    world::{EDGE_MAC, Side},
};

/// As for the programs without traces.
const MOST: u32 = 700_000;

fn start(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(TRACED_BYTES)]
}

/// Every case of the table, through both; the trace has its frames, its exit, and the service and backend that counted it.
#[test]
fn every_case_is_traced_with_its_fate() {
    let scene = Scene::new();
    let mut cases = cases::runnable(&scene, "every_case_is_traced_with_its_fate");
    cases.retain(|case| case.exit.program() == Program::Edge);
    let failures = in_namespace(|| {
        let both = Both::traced(scene.world.clone());
        for name in [program::EDGE, program::NAT, program::TRACED] {
            let verified = both.kernel.verified(name);
            assert!(verified.is_none_or(|verified| verified <= MOST), "{name}: {verified:?} instructions verified");
        }
        let check = |case: &Case| Some(format!("{}: {}", case.name, check(&both, case).err()?));
        cases.iter().filter_map(check).collect::<Vec<_>>()
    });
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn check(both: &Both, case: &Case) -> Result<(), String> {
    let seen = both.try_run(Program::Edge, &case.frame, case.arrival)?;
    both.compare_state()?;
    let frames = both.kernel.tracer().frames();
    let [traced] = frames.as_slice() else { return Err(format!("{} frames", frames.len())) };
    let Seen { exit, egress, frame } = seen;
    let same = [
        ("exit", ProgramExit::Edge(Exit::from_raw(traced.exit)) == exit && exit == case.exit),
        ("ingress", traced.ingress == case.arrival.ingress),
        ("egress", traced.egress == egress),
        ("length before", traced.length_before as usize == case.frame.len()),
        ("length after", traced.length_after as usize == frame.len()),
        ("frame before", traced.before.starts_with(start(&case.frame))),
        ("frame after", traced.after.starts_with(start(&frame))),
        ("fate", case.forwarded.is_none_or(|to| is_to(traced, to.service, to.backend, to.starts))),
    ];
    same.into_iter().find(|(_, same)| !same).map_or(Ok(()), |(what, _)| Err(format!("{what}: {traced:?}")))
}

fn is_to(traced: &TracedFrame, service: u32, backend: u16, starts: bool) -> bool {
    let has = |flag| traced.flags & flag != 0;
    has(flags::SERVICE) && (traced.service, traced.backend) == (service, backend) && has(flags::STARTS) == starts
}

/// The first forwarded case, and another one that is not.
fn two_cases(scene: &Scene) -> [Case; 2] {
    let cases = cases::all(scene);
    let of = |exit| cases.iter().find(|case| case.exit == ProgramExit::Edge(exit) && case.arrival == Arrival::by(1));
    [Exit::IpipTx, Exit::NotOurs].map(|exit| of(exit).expect("a case without special needs").clone())
}

#[test]
fn only_what_is_wanted_is_written() {
    let scene = Scene::new();
    let [forwarded, other] = two_cases(&scene);
    let to = forwarded.forwarded.expect("it is forwarded");
    let everything = TraceFilter::everything(1, u32::MAX, u32::MAX);
    let of_service = |number: u32| TraceFilter { by_service: 1, services: [number; 2], ..everything };
    let of_backend = |number: u16| TraceFilter { by_backend: 1, backends: [u32::from(number); 2], ..everything };
    let of_exit = |exit: Exit| {
        let mut exits = [0; 2];
        exits[exit as usize / 64] |= 1 << (exit as usize % 64);
        TraceFilter { exits, ..everything }
    };
    in_namespace(|| {
        let both = Both::traced(scene.world.clone());
        for (filter, expected) in [
            (everything, [true, true]),
            (of_service(to.service), [true, false]),
            (of_service(to.service + 1), [false, false]),
            (of_backend(to.backend), [true, false]),
            (of_backend(to.backend + 1), [false, false]),
            (of_exit(Exit::IpipTx), [true, false]),
            (of_exit(Exit::NotOurs), [false, true]),
        ] {
            both.kernel.tracer().filter(&filter);
            let written = [&forwarded, &other].map(|case| {
                both.run(&case.frame);
                both.kernel.tracer().frames().len() == 1
            });
            assert_eq!(written, expected, "{filter:?}");
        }
    });
}

#[test]
fn one_packet_in_so_many_is_traced_and_no_more_than_the_bounds_allow() {
    /// Longer than a window.
    const PAUSE: Duration = Duration::from_millis(150);
    let scene = Scene::new();
    // It passes as it is, so that the kernel can repeat it at once.
    let [_, other] = two_cases(&scene);
    in_namespace(|| {
        let both = Both::traced(scene.world.clone());
        let traced_of = |packets: u32, filter: &TraceFilter| {
            both.kernel.tracer().filter(filter);
            thread::sleep(PAUSE);
            both.kernel.mean_duration(program::EDGE, &other.frame, packets);
            both.kernel.tracer().frames().len()
        };
        let one_in_ten = traced_of(100, &TraceFilter::everything(10, u32::MAX, u32::MAX));
        assert!((9..=11).contains(&one_in_ten), "{one_in_ten} of 100");
        // A busy machine may interrupt the runs, so that they last for several windows.
        let one_frame = traced_of(1000, &TraceFilter::everything(1, u32::MAX, 1));
        assert!((1..=4).contains(&one_frame), "{one_frame} frames, one in a window");
        let one_look = traced_of(1000, &TraceFilter::everything(1, 1, u32::MAX));
        assert!((1..=4).contains(&one_look), "{one_look} frames, one look in a window");
    });
}

/// The kernel empties the array of a tracer that is killed.
#[test]
fn without_a_tracer_packets_go_on() {
    let scene = Scene::new();
    let [forwarded, other] = two_cases(&scene);
    in_namespace(|| {
        let both = Both::traced(scene.world.clone());
        both.kernel.tracer().end();
        for _ in 0..3 {
            both.run(&forwarded.frame);
            both.run(&other.frame);
        }
        both.compare_state().expect("the same counters");
        assert_eq!(both.kernel.tracer().frames(), []);
    });
}

/// Prints nanoseconds a packet without a trace and with it; by hand, on a quiet machine.
#[test]
#[ignore = "a measurement"]
fn what_a_trace_costs() {
    /// Runs that the packet's TTL lasts for.
    const RUNS: u32 = 250;
    let scene = Scene::new();
    let packet = from_client(Side::V4, transport(protocol::TCP, port::DSR, 33));
    let frame = with_ip(packet, |ip| ip.ttl = 255).bytes();
    in_namespace(|| {
        // The frame that leaves is one that the next run accepts.
        let [plain, traced] = [Both::new(scene.world.clone()), Both::traced(scene.world.clone())].map(|mut both| {
            both.memory.backends.iter_mut().for_each(|backend| backend.next_hop = Mac::new(EDGE_MAC));
            both.kernel.copy(&both.memory);
            both
        });
        let sampled = |sample| {
            traced.kernel.tracer().filter(&TraceFilter::everything(sample, u32::MAX, u32::MAX));
            traced.kernel.mean_duration(program::EDGE, &frame, RUNS);
        };
        let mut least = [u128::MAX; 3];
        for _ in 0..200 {
            sampled(1000);
            let rare = traced.kernel.mean_duration(program::EDGE, &frame, RUNS);
            sampled(1);
            let each = traced.kernel.mean_duration(program::EDGE, &frame, RUNS);
            drop(traced.kernel.tracer().frames());
            let without = plain.kernel.mean_duration(program::EDGE, &frame, RUNS);
            for (least, now) in least.iter_mut().zip([without, rare, each]) {
                *least = (*least).min(now.as_nanos());
            }
        }
        println!("ns a packet: {} untraced, {} with one in 1,000, {} with each", least[0], least[1], least[2]);
    });
}
