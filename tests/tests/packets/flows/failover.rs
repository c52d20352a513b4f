//! A failover without evacuation at a site with many short connections: for as long as it lasts, new flows go to the
//! pool that it selects. The site has 2,000 connections a second, the default table and the default rate limit; or a
//! sixteenth of each.

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

/// Number of new flows that still went to the passed-over pool after the first second, and number of all new flows; with
/// one `part`th of the load and of all limits.
fn run(part: usize, spoofed: bool) -> (usize, usize) {
    let mut world = world(Side::V4);
    let memory = failed_over(&mut world, part);
    let second = CONNECTIONS / part;
    let mut random = StdRng::seed_from_u64(1);
    let is_left = |backend: u16| world.backends[usize::from(backend)].pool == 0;
    let mut homes = Vec::new();
    let (mut left, mut broken) = (0, 0);
    let steps = MINUTES * 60 * second;
    for step in 0..steps {
        memory.clock_ns.set((1000 * second + step) as u64 * 1_000_000_000 / second as u64);
        let home = send(&memory, &packet(step, SYN, 0)).expect("a backend");
        left += usize::from(is_left(home) && step > second);
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
        if spoofed {
            let number = 10_000_000 + usize::try_from(random.random::<u32>() % 10_000_000).expect("small");
            send(&memory, &packet(number, SYN, 7));
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
    let (left, all) = run(16, false);
    assert!(left * 100 < all, "{left} of {all}");
}

#[test]
fn and_also_while_as_many_starts_are_spoofed() {
    let (left, all) = run(16, true);
    assert!(left * 100 < all, "{left} of {all}");
}

#[test]
#[ignore = "ten million packets: minutes, in a build without optimizations hours"]
fn the_same_at_full_scale() {
    for spoofed in [false, true] {
        let (left, all) = run(1, spoofed);
        assert!(left * 100 < all, "spoofed: {spoofed}: {left} of {all}");
    }
}
