//! A failover without evacuation at a site with many short connections: for as long as it lasts, new flows go to the
//! pool that it selects. The site has 2,000 connections a second, the default table and the default rate limit; or a
//! sixteenth of each.

use std::net::{IpAddr, Ipv4Addr};

use edge_common::{
    abi::{Failover, FlowCount, FlowCounts, Timeouts, Unrecorded},
    host::{Flows, Memory},
};
use edge_tests::{
    both::{Program, on_host},
    kernel::Arrival,
    lab::extent::extent,
    packet::{ACK, FIN, Ip, PSH, Payload, SYN, Tcp},
    world::{Side, World},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{PORT, TCP, framed, reached, world};

/// Connections per second of the whole site.
const CONNECTIONS: usize = 2000;
const MINUTES: usize = 15;

/// A packet of a connection.
fn packet(number: usize, flags: u8, more: u32) -> Vec<u8> {
    let number = u32::try_from(number).expect("some hundred thousand");
    let client = IpAddr::V4(Ipv4Addr::from_bits(0x6440_0000 + number / 5));
    let source = 20_000 + u16::try_from(number % 5).expect("below five");
    let tcp = Tcp { source, destination: PORT, flags, sequence: 1000 + more, data: Vec::new(), ..Tcp::default() };
    framed(Ip::new(client, Side::V4.vip(), Payload::Tcp(tcp)))
}

fn send(memory: &Memory, frame: &[u8]) -> Option<u16> {
    reached(&on_host(memory, Program::Edge, frame, Arrival::by(1))).1
}

fn failed_over(world: &mut World, part: usize) -> Memory {
    world.records_per_second = 16_384 / u32::try_from(part).expect("a small part");
    // Owners are those before the failover.
    let before = world.memory();
    world.services[TCP as usize].failover = Failover { first: 1, evacuate: false };
    let mut memory = world.memory_after(&before);
    memory.flows = Flows::new(131_072 / part);
    memory.flows.head.timeouts = Timeouts::STANDARD;
    memory
}

/// What became of the new flows of a site.
struct Outcome {
    /// For each second, the number of new flows that went to the passed-over pool.
    left: Vec<usize>,
    /// Number of all new flows.
    all: usize,
    counts: FlowCounts,
    memory: Memory,
}

impl Outcome {
    /// New flows that still went to the passed-over pool after the first second.
    fn left(&self) -> usize {
        self.left.iter().skip(1).sum()
    }
}

/// Runs the site for so many seconds, with one `part`th of the load and of all limits; `spoofed` is the number of spoofed
/// starts with each new flow, in a second.
fn run(part: usize, seconds: usize, spoofed: impl Fn(usize) -> usize) -> Outcome {
    let mut world = world(Side::V4);
    let memory = failed_over(&mut world, part);
    let second = CONNECTIONS / part;
    let mut random = StdRng::seed_from_u64(1);
    let is_left = |backend: u16| world.backends[usize::from(backend)].pool == 0;
    let mut homes = Vec::new();
    let (mut left, mut broken) = (vec![0; seconds], 0);
    let all = seconds * second;
    for step in 0..all {
        memory.clock_ns.set((1000 * second + step) as u64 * 1_000_000_000 / second as u64);
        let home = send(&memory, &packet(step, SYN, 0)).expect("a backend");
        left[step / second] += usize::from(is_left(home));
        homes.push(home);
        let mut later = |ago: usize, flags, more| {
            let Some(number) = step.checked_sub(ago) else { return };
            broken += usize::from(send(&memory, &packet(number, flags, more)) != Some(homes[number]));
        };
        // The end of the handshake, a request, the FIN, and the last ACK.
        later(3, ACK, 1);
        later(4, ACK | PSH, 1);
        later(second, ACK | FIN, 500);
        later(second + 3, ACK, 501);
        for _ in 0..spoofed(step / second) {
            let number = 10_000_000 + usize::try_from(random.random::<u32>() % 10_000_000).expect("small");
            send(&memory, &packet(number, SYN, 7));
        }
    }
    assert_eq!(broken, 0, "packets of a connection that went elsewhere than its SYN");
    let counts = memory.flow_counts(TCP);
    let outcome = Outcome { left, all, counts, memory };
    println!("{} of {all} to the pool that was left; {counts:?}", outcome.left());
    assert_eq!(counts.0[FlowCount::OwnerTakenOver as usize], 0);
    outcome
}

/// Checks that under 1 % of the new flows of fifteen minutes went to the pool that was left.
fn go_where_they_are_sent(part: usize, spoofed: usize) {
    let outcome = run(part, MINUTES * 60, |_| spoofed);
    assert!(outcome.left() * 100 < outcome.all, "{} of {}", outcome.left(), outcome.all);
}

#[test]
fn a_flood_of_starts_keeps_new_flows_with_their_owners_for_as_long_as_it_lasts() {
    const FLOOD: usize = 20;
    // A hundred thousand starts a second in all, of which the limit permits a sixth to be recorded.
    let Outcome { left, memory, counts, .. } = run(16, FLOOD + 10, |second| if second < FLOOD { 49 } else { 0 });
    let in_flood: usize = left[1..FLOOD].iter().sum();
    let share = in_flood * 100 / ((FLOOD - 1) * CONNECTIONS / 16);
    assert!((78..=90).contains(&share), "{share} % in the flood");
    assert!(left[FLOOD + 1..].iter().all(|left| *left == 0), "after it: {left:?}");
    assert_eq!(counts.0[FlowCount::OverLimit as usize], counts.0[FlowCount::KeptAtOwner as usize]);
    // Most flows that have sent a second packet are recorded, so that handovers wait no longer than for a handshake.
    let slots = memory.slots.borrow();
    let marked =
        |mark: Unrecorded| slots.iter().flat_map(|cell| cell.0).filter(|slot| slot.unrecorded == mark as u8).count();
    let (starts, flows) = (marked(Unrecorded::Start), marked(Unrecorded::Flow));
    assert!(starts > 4 * flows, "{starts} slots marked for a start, {flows} for a flow");
}

#[test]
fn new_flows_go_where_a_failover_sends_them_for_a_quarter_of_an_hour() {
    go_where_they_are_sent(16, 0);
}

#[test]
fn and_also_while_as_many_starts_are_spoofed() {
    go_where_they_are_sent(16, 1);
}

/// Ten million packets: minutes in a release build, hours in any other.
#[test]
fn the_same_at_full_scale() {
    for spoofed in extent(&[][..], &[0, 1]) {
        go_where_they_are_sent(1, *spoofed);
    }
}
