//! Exhausted ports, and which flows have to make room.

use edge_common::{
    abi::Exit,
    flow_table::{Flow, Stage, UNIT},
    nat::{Translation, port_of},
};
use edge_tests::{
    both::{Both, Program, on_host},
    kernel::Arrival,
    namespace::{LO, in_namespace},
    packet::{ACK, FIN, Frame, Ip, Payload, SYN, Tcp},
    world::{DOWN, EDGE_MAC, Side},
};

use super::{BACKEND_PORT, Client, TCP, UDP, address, exit, run, segment, world};

/// Opens connections until one is refused; returns the established ones.
fn fill(both: &Both, side: Side, service: u32) -> Vec<Client> {
    let mut clients = Vec::new();
    for port in 10_000.. {
        let client = Client { side, port, service };
        let left = exit(&run(both, &client.sends(segment(SYN, 5, 0))));
        let refused = if service == TCP { Exit::NatExhausted } else { Exit::NatExhaustedSilent };
        if left == refused {
            break;
        }
        assert_eq!(left, Exit::NatTx, "after {} of {side:?} {service}", clients.len());
        clients.push(client);
        let answer = if service == TCP { segment(SYN | ACK, 100, 6) } else { Tcp::default() };
        run(both, &client.answered(both, answer));
        if service == TCP {
            run(both, &client.sends(segment(ACK, 6, 101)));
        }
        assert_eq!(client.translated(both).expect("a flow").stage, Stage::Established);
    }
    clients
}

#[test]
fn when_no_port_is_left_a_new_connection_is_refused_and_none_that_stands_is_harmed() {
    for (side, service) in [(Side::V4, TCP), (Side::V6, TCP), (Side::V4, UDP), (Side::V6, UDP)] {
        in_namespace(|| {
            // A single lane: each port can be used once.
            let both = Both::new(world(side, 64, 1, LO));
            let clients = fill(&both, side, service);
            assert!(clients.len() > 40, "{}", clients.len());
            let before = both.memory.nat.flows();
            for port in 50_000..50_200 {
                let client = Client { side, port, service };
                let left = exit(&run(&both, &client.sends(segment(SYN, 5, 0))));
                assert!([Exit::NatTx, Exit::NatExhausted, Exit::NatExhaustedSilent].contains(&left), "{left:?}");
            }
            let after = both.memory.nat.flows();
            for client in &clients {
                let [before, after] = [&before, &after].map(|flows| flows.get(&client.ends()).copied());
                assert_eq!(before, after, "{client:?}");
                assert_eq!(exit(&run(&both, &client.sends(segment(ACK, 6, 101)))), Exit::NatTx);
            }
        });
    }
}

/// A segment with this time stamp.
fn stamped(tcp: Tcp, value: u32) -> Tcp {
    let mut options = vec![1, 1, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend([0; 4]);
    Tcp { options, ..tcp }
}

#[test]
fn a_closed_connections_port_is_free_at_first_for_what_the_backend_takes_in_its_place_and_a_second_later_for_any() {
    let world = world(Side::V4, 64, 1, LO);
    let both = world.memory();
    let send = |frame: &Frame| exit(&on_host(&both, Program::Edge, &frame.bytes(), Arrival::by(LO)));
    let translated = |client: Client| both.nat.flows().remove(&client.ends());
    let answer = |client: Client, tcp: Tcp| {
        let flow = translated(client).expect("a flow");
        let payload = Payload::Tcp(Tcp { source: BACKEND_PORT, destination: flow.port, ..tcp });
        let ip = Ip::new(address(Side::V4, flow.translation.backend), Side::V4.source(), payload);
        Frame::new(EDGE_MAC, [2; 6], ip)
    };
    // All ports are used by connections that the backends have closed, half of them at a time stamp of 1000, and half
    // at 3000.
    let (mut clients, mut earlier) = (Vec::new(), Vec::new());
    for port in 10_000..12_000 {
        let client = Client { side: Side::V4, port, service: TCP };
        if send(&client.sends(stamped(segment(SYN, 5, 0), 900))) == Exit::NatExhausted {
            continue;
        }
        clients.push(client);
        send(&answer(client, segment(SYN | ACK, 100, 6)));
        send(&client.sends(stamped(segment(ACK, 6, 101), 950)));
        send(&answer(client, segment(FIN | ACK, 101, 6)));
        let last = if clients.len() % 2 == 0 { 1000 } else { 3000 };
        send(&client.sends(stamped(segment(FIN | ACK, 6, 102), last)));
        let flow = translated(client).expect("a flow");
        assert_eq!((flow.stage, flow.sequence), (Stage::Closed, last));
        if last == 1000 {
            earlier.push(flow.port);
        }
    }
    assert_eq!(clients.len(), 64);
    let mut next = 40_000;
    let mut opens = |value: Option<u32>| {
        next += 1;
        let client = Client { side: Side::V4, port: next, service: TCP };
        let syn = segment(SYN, 5, 0);
        let left = send(&client.sends(value.map_or(syn.clone(), |value| stamped(syn, value))));
        (left == Exit::NatTx).then(|| translated(client).expect("a flow").port)
    };
    assert!((0..50).all(|_| opens(Some(2000)).is_none()), "not at once");
    for waited in [2, 4] {
        both.clock_ns.set(both.clock_ns.get() + (waited << UNIT));
        for _ in 0..8 {
            let port = opens(Some(2000)).expect("a later one than half of them");
            assert!(earlier.contains(&port), "the backend takes it in place of those that ended at 1000");
        }
        if waited == 2 {
            for value in [Some(999), Some(1000), None] {
                assert!((0..50).all(|_| opens(value).is_none()), "{value:?} not within a second");
            }
        }
    }
    // No port is left whose TIME_WAIT accepts these SYNs. One is given nevertheless: a connection by the client's second
    // SYN is better than none.
    for value in [Some(999), Some(1000), None] {
        assert!((0..4).all(|_| opens(value).is_some()), "{value:?}");
    }
}

/// As many connections a second as one backend and one source can close at all, each closed by the backend first.
#[test]
fn short_connections_one_after_another_find_a_port_each() {
    const PER_SECOND: u64 = 15_000;
    const SECONDS: u64 = 4;
    let mut world = world(Side::V4, 16_384, 2, LO);
    // A single backend is left.
    world.backends[2..].iter_mut().for_each(|backend| backend.state = DOWN);
    world.services.iter_mut().for_each(|service| service.in_transition = true);
    let memory = world.memory();
    let start = memory.clock_ns.get();
    let flows = memory.nat.table(0);
    let mut refused = 0;
    for number in 0..PER_SECOND * SECONDS {
        let now = start + number * 1_000_000_000 / PER_SECOND;
        memory.clock_ns.set(now);
        // One client host, whose time stamps are milliseconds.
        let milliseconds = u32::try_from(now / 1_000_000).expect("some seconds");
        let client =
            Client { side: Side::V4, port: 1024 + u16::try_from(number % 60_000).expect("below"), service: TCP };
        let send = |frame: &Frame| exit(&on_host(&memory, Program::Edge, &frame.bytes(), Arrival::by(LO)));
        let sends = |tcp: Tcp| send(&client.sends(stamped(tcp, milliseconds)));
        if sends(segment(SYN, 5, 0)) != Exit::NatTx {
            refused += 1;
            continue;
        }
        let flow = Flow::from(client.ends());
        let found = flows.find(&flow, flow.hash(&memory.nat.head.hash_key)).expect("a flow");
        let (translation, port) = (Translation::of(found.served), port_of(&memory.nat.head, found.number));
        let answers = |tcp: Tcp| {
            let payload = Payload::Tcp(Tcp { source: BACKEND_PORT, destination: port, ..tcp });
            let ip = Ip::new(address(Side::V4, translation.backend), Side::V4.source(), payload);
            send(&Frame::new(EDGE_MAC, [2; 6], ip))
        };
        assert_eq!(answers(segment(SYN | ACK, 100, 6)), Exit::NatReplyTx);
        assert_eq!(sends(segment(ACK, 6, 101)), Exit::NatTx);
        assert_eq!(answers(segment(FIN | ACK, 101, 6)), Exit::NatReplyTx);
        assert_eq!(sends(segment(FIN | ACK, 6, 102)), Exit::NatTx);
    }
    assert_eq!(refused, 0);
}
