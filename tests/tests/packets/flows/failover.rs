//! A failover without evacuation, at a site with many short connections: new flows go where they were sent, for as long as it
//! lasts. A sixteenth of a site with 2,000 connections a second, the default table and the default rate.

use std::net::{IpAddr, Ipv4Addr};

use edge_common::{
    abi::{Failover, FlowCount, Timeouts},
    host::{Flows, Memory},
};
use edge_tests::{
    both::{Program, on_host},
    kernel::Arrival,
    packet::{ACK, FIN, Ip, PSH, Payload, SYN, Tcp},
    world::{Side, World},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{PORT, TCP, framed, reached, world};

/// By how much less of everything there is than by default.
const PART: u32 = 16;
/// Milliseconds from a connection to the next: 2,000 a second.
const STEP: u64 = 8;
const MINUTES: u64 = 15;
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const SECOND: usize = 1000 / STEP as usize;

/// A packet of the connection with this number.
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

fn failed_over(world: &mut World) -> Memory {
    world.records_per_second = 16_384 / PART;
    // Owners are those of before.
    let before = world.memory();
    world.services[TCP as usize].failover = Failover { first: 1, evacuate: false };
    let mut memory = world.memory_after(&before);
    memory.flows = Flows::new(131_072 / PART as usize);
    memory.flows.head.timeouts = Timeouts::STANDARD;
    memory
}

/// How many of all new flows went to the pool that was left after the first second, and how many there were.
fn run(spoofed: bool) -> (usize, usize) {
    let mut world = world(Side::V4);
    let memory = failed_over(&mut world);
    let mut random = StdRng::seed_from_u64(1);
    let is_left = |backend: u16| world.backends[usize::from(backend)].pool == 0;
    let mut homes = Vec::new();
    let (mut left, mut broken) = (0, 0);
    let steps = usize::try_from(MINUTES * 60_000 / STEP).expect("some hundred thousand");
    for step in 0..steps {
        memory.clock_ns.set((1_000_000 + step as u64 * STEP) * 1_000_000);
        let home = send(&memory, &packet(step, SYN, 0)).expect("a backend");
        left += usize::from(is_left(home) && step > SECOND);
        homes.push(home);
        let mut later = |ago: usize, flags, more| {
            let Some(number) = step.checked_sub(ago) else { return };
            broken += usize::from(send(&memory, &packet(number, flags, more)) != Some(homes[number]));
        };
        // The handshake ends, a request, the end, and the last acknowledgement.
        later(3, ACK, 1);
        later(4, ACK | PSH, 1);
        later(SECOND, ACK | FIN, 500);
        later(SECOND + 3, ACK, 501);
        if spoofed {
            send(
                &memory,
                &packet(1_000_000 + usize::try_from(random.random::<u32>() % 1_000_000).expect("small"), SYN, 7),
            );
        }
    }
    assert_eq!(broken, 0, "packets of a connection that went elsewhere than its SYN");
    let counts = memory.flow_counts(TCP);
    println!("spoofed: {spoofed}: {left} of {steps} to the pool that was left; {counts:?}");
    assert_eq!(counts.0[FlowCount::OwnerTakenOver as usize], 0);
    (left, steps)
}

#[test]
fn new_flows_go_where_a_failover_sends_them_for_a_quarter_of_an_hour() {
    let (left, all) = run(false);
    assert!(left * 100 < all, "{left} of {all}");
}

#[test]
fn and_also_while_as_many_starts_are_spoofed() {
    let (left, all) = run(true);
    assert!(left * 100 < all, "{left} of {all}");
}
