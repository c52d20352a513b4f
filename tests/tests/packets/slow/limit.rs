//! The rate limit of ICMP errors.

use edge_common::abi::{Exit, WhenExhausted};
use edge_tests::{
    both::{Program, Way, on_host},
    kernel::{self, Arrival},
    packet::{SYN, protocol},
    world::{DOWN, World},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::world::{Flow, exit, flows, frame, with_world, world};

fn limited(errors_per_second: u32) -> World {
    World { errors_per_second, ..world() }
}

/// What is answered by an error: TTL used up.
fn expired(flow: Flow) -> Vec<u8> {
    let mut packet = flow.packet(10);
    packet.ttl = 1;
    frame(&packet)
}

#[test]
fn exactly_so_many_as_are_allowed_in_each_second_of_the_clock() {
    let memory = limited(5).memory();
    let way = |frame: &[u8]| on_host(&memory, Program::Edge, frame, Arrival::by(1)).way;
    for second in [0, 1, 2, 700, 701] {
        for within in [0, (1 << 30) - 1] {
            memory.clock_ns.set((second << 30) + within);
            for (number, flow) in flows().into_iter().enumerate() {
                let expected = if within == 0 && number < 5 { Exit::TtlExceeded } else { Exit::ErrorLimited };
                assert_eq!(way(&expired(flow)), Way::Edge(expected), "second {second}, error {number}");
            }
        }
    }
}

#[test]
fn none_when_none_is_allowed_but_other_answers_are_no_errors() {
    with_world(limited(0), |both| {
        both.change(|world| {
            world.backends.iter_mut().for_each(|backend| backend.state = DOWN);
            for service in &mut world.services {
                service.when_exhausted = WhenExhausted::Reject;
            }
        });
        for flow in flows() {
            let expected = if flow.protocol == protocol::TCP { Exit::RejectReset } else { Exit::ErrorLimited };
            assert_eq!(exit(both, &flow.with_flags(SYN, 0)), expected, "{flow:?}");
        }
        both.change(|changed| {
            *changed = limited(0);
            changed.backends.iter_mut().for_each(|backend| backend.mtu = 100);
        });
        for flow in flows() {
            assert_eq!(both.run(&expired(flow)).way, Way::Edge(Exit::ErrorLimited));
            assert_eq!(exit(both, &flow.packet(200)), Exit::ErrorLimited);
        }
    });
}

#[test]
fn the_kernel_counts_by_its_own_seconds() {
    with_world(limited(5), |both| {
        // One CPU's budget.
        let mut cpus = CpuSet::new();
        cpus.set(0).expect("a CPU");
        sched_setaffinity(Pid::from_raw(0), &cpus).expect("this thread may");
        let before = both.kernel.exits();
        let mut answered = 0;
        for flow in flows().into_iter().cycle().take(60) {
            answered += u64::from(both.kernel.run("edge", &expired(flow), Arrival::by(1)).verdict == kernel::TX);
        }
        let after = both.kernel.exits();
        let counted = |exit: Exit| after[exit as usize] - before[exit as usize];
        assert_eq!((counted(Exit::TtlExceeded), counted(Exit::ErrorLimited)), (answered, 60 - answered));
        // Sixty runs take no second, but one may begin among them.
        assert!((5..=10).contains(&answered), "{answered} errors");
        // The host, too, so that what is counted is equal: as many in as many seconds.
        for (number, flow) in (0..60).zip(flows().into_iter().cycle()) {
            both.memory.clock_ns.set(if number < 60 - (answered - 5) { 1 << 30 } else { 2 << 30 });
            on_host(&both.memory, Program::Edge, &expired(flow), Arrival::by(1));
        }
    });
}
