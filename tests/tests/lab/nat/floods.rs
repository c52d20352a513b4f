//! Floods of all kinds from a million sources: established flows are unharmed, and memory use does not grow.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
    time::{Duration, Instant},
};

use edge_tests::{
    lab::{
        extent::extent,
        flood::{Flood, Rate, mac},
        random::Random,
        small::{BACKENDS, CLIENT},
        topology::{ECHO, EDGE},
    },
    packet::{ACK, FIN, Frame, Icmp, Ip, Payload, RST, SYN, Tcp, Udp},
};

use super::{Connection, Nat, PORT, VIPS};

/// Frames a second of each of the four kinds; a slow machine sends as many as it can.
const PER_SECOND: u32 = 60_000;
/// Established flows that are watched, per VIP.
const FLOWS: usize = 20;
/// How much the daemon's memory may grow, KiB: it lists and counts flows, and stores nothing about them.
const MORE: u64 = 16 << 10;

/// A kind of frame in a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Syn,
    Datagram,
    /// A forged answer of a backend.
    Reply,
    /// An error about a packet that possibly never existed.
    Error,
}

/// Addresses of one IP version: the VIP, the source of translated packets, a backend, and a router.
struct Ends {
    vip: IpAddr,
    source: IpAddr,
    backend: IpAddr,
    router: IpAddr,
}

fn ends(is_v4: bool) -> Ends {
    let address = |text: &str| text.parse().expect("an address");
    if is_v4 {
        Ends {
            vip: address(VIPS[0]),
            source: address("10.0.0.1"),
            backend: address("10.1.1.11"),
            router: address("10.0.0.2"),
        }
    } else {
        Ends {
            vip: address(VIPS[1]),
            source: address("fd00::1"),
            backend: address("fd01:1::11"),
            router: address("fd00::2"),
        }
    }
}

/// One of four million client addresses.
fn client(is_v4: bool, random: &mut Random) -> IpAddr {
    if is_v4 {
        Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 0).to_bits() | random.word() >> 10).into()
    } else {
        Ipv6Addr::from_bits(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(random.long())).into()
    }
}

/// A port of the configured range, so that some guesses are right.
fn port(random: &mut Random) -> u16 {
    16_384 + (random.word() >> 20) as u16
}

fn packet(kind: Kind, random: &mut Random) -> Ip {
    let is_v4 = random.word() & 1 == 0;
    let Ends { vip, source, backend, router } = ends(is_v4);
    let tcp = |source, destination, flags, random: &mut Random| {
        let (sequence, acknowledgment) = (random.word(), random.word());
        Payload::Tcp(Tcp { source, destination, flags, sequence, acknowledgment, data: Vec::new(), ..Tcp::default() })
    };
    let some = 1024 | (random.word() >> 16) as u16;
    match kind {
        Kind::Syn => Ip::new(client(is_v4, random), vip, tcp(some, PORT, SYN, random)),
        Kind::Datagram => {
            let udp = Udp { source: some, destination: ECHO, ..Udp::default() };
            Ip::new(client(is_v4, random), vip, Payload::Udp(udp))
        }
        Kind::Reply => {
            let flags = *random.choose(&[ACK, SYN | ACK, FIN | ACK, RST, RST | ACK]).expect("some");
            Ip::new(backend, source, tcp(80, port(random), flags, random))
        }
        Kind::Error => {
            // Port unreachable, packet too long, and time exceeded.
            let kinds: &[(u8, u8)] = if is_v4 { &[(3, 3), (3, 4), (11, 0)] } else { &[(1, 4), (2, 0), (3, 0)] };
            let (number, code) = *random.choose(kinds).expect("some");
            let (to, quoted) = if random.word() & 1 == 0 {
                (source, Ip::new(source, backend, tcp(port(random), 80, ACK, random)))
            } else {
                let to = if random.below(8) == 0 { router } else { client(is_v4, random) };
                (vip, Ip::new(vip, to, tcp(PORT, some, ACK, random)))
            };
            let error = Icmp::error(number, code, 1280, &quoted.bytes());
            Ip::new(router, to, Payload::Icmp(error))
        }
    }
}

/// SYNs, each followed by a RST and an ACK, from clients that are not there. With their wrong checksums, no backend answers
/// them.
fn opening(random: &mut Random, last: &mut Option<(IpAddr, u16, u8)>) -> Ip {
    let (from, port, flags) = match *last {
        Some((from, port, SYN)) => (from, port, RST),
        Some((from, port, RST)) => (from, port, ACK),
        Some(_) | None => (client(true, random), 1024 | (random.word() >> 16) as u16, SYN),
    };
    *last = Some((from, port, flags));
    let (sequence, acknowledgment) = (random.word(), random.word());
    let segment = Tcp { source: port, destination: PORT, flags, sequence, acknowledgment, ..Tcp::default() };
    Ip::new(
        from,
        ends(true).vip,
        Payload::Tcp(Tcp { data: Vec::new(), checksum: Some((random.word() >> 16) as u16), ..segment }),
    )
}

/// Within seconds the flood would hold all ports, if it did not make room.
#[test]
fn connections_are_opened_during_a_flood_of_syns_whatever_packets_follow_them() {
    const SYNS: u32 = 1_500;
    let nat = Nat::start("");
    let lasts = extent(Duration::from_secs(8), Duration::from_mins(1));
    let edge = nat.lab.netns(EDGE).within(|| mac("eth0")).expect("a namespace").expect("it has one");
    let rate = Rate { per_second: 3 * SYNS, most: u64::from(3 * SYNS) * (lasts.as_secs() + 30), seed: 1 };
    let mut last = None;
    let make = move |random: &mut Random, own| Some(Frame::new(edge, own, opening(random, &mut last)).bytes());
    let flood = Flood::of(nat.lab.netns(CLIENT), "eth0", rate, make).expect("a flood starts");
    let (began, mut opened) = (Instant::now(), 0);
    while began.elapsed() < lasts {
        assert_eq!(Connection::open(&nat, VIPS[0]).request().expect("an answer"), BACKENDS[0], "connection {opened}");
        opened += 1;
        thread::sleep(Duration::from_millis(20));
    }
    let sent = flood.stop().expect("it ends");
    let [exhausted, raced] = ["nat_exhausted", "nat_raced"].map(|exit| nat.left_by(exit));
    println!("{sent} frames; {opened} connections opened; {exhausted} SYNs found no port, {raced} raced");
    assert!(sent > 1000 && opened > 10, "{sent}, {opened}");
    let status = nat.lab.ctl(&["flows", "--service", "web"]).expect("flows");
    let established = status.lines().filter(|line| line.contains("established")).count();
    assert!(established <= opened, "{established} of {opened}");
}

/// Resident memory of the daemon, KiB.
fn resident(nat: &Nat) -> u64 {
    let status = nat.lab.edge().expect("an edge").status(nat.lab.netns(EDGE)).expect("a status");
    let pid = &status["daemon"]["pid"];
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn established_flows_are_unharmed_by_floods_of_all_kinds_and_memory_stays_as_it_is() {
    // A flood also loses packets of probes, but not ten times in a row.
    let text = super::configuration("").replace("through = ", "timeout = \"1s\"\nfall = 10\nthrough = ");
    let nat = Nat::start_with(&text.replace("interval = \"100ms\"", "interval = \"1s\""));
    let mut clients: Vec<_> = VIPS.iter().flat_map(|vip| (0..FLOWS).map(|_| Connection::open(&nat, vip))).collect();
    for client in &mut clients {
        client.0.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
        assert_eq!(client.request().expect("an answer"), BACKENDS[0]);
    }
    thread::sleep(Duration::from_secs(1));
    let before = resident(&nat);
    let lasts = extent(Duration::from_secs(3), Duration::from_mins(1));
    let edge = nat.lab.netns(EDGE).within(|| mac("eth0")).expect("a namespace").expect("it has one");
    let kinds = [Kind::Syn, Kind::Datagram, Kind::Reply, Kind::Error];
    let start = |(seed, kind): (u64, Kind)| {
        let rate = Rate { per_second: PER_SECOND, most: u64::from(PER_SECOND) * (lasts.as_secs() + 30), seed };
        let make = move |random: &mut Random, own| Some(Frame::new(edge, own, packet(kind, random)).bytes());
        Flood::of(nat.lab.netns(CLIENT), "eth0", rate, make).expect("a flood starts")
    };
    let floods: Vec<_> = (1..).zip(kinds).map(start).collect();
    let began = Instant::now();
    let (mut requests, mut longest) = (0, Duration::ZERO);
    while began.elapsed() < lasts {
        for (number, client) in clients.iter_mut().enumerate() {
            let sent = Instant::now();
            let answer =
                client.request().unwrap_or_else(|error| panic!("flow {number} after {:?}: {error}", began.elapsed()));
            assert_eq!(answer, BACKENDS[0], "flow {number}");
            (requests, longest) = (requests + 1, longest.max(sent.elapsed()));
        }
    }
    let sent: Vec<_> = floods.into_iter().map(|flood| flood.stop().expect("it ends")).collect();
    let after = resident(&nat);
    println!(
        "{sent:?} of {kinds:?} in {:?}; {requests} requests over {} flows, longest {longest:?}; {before} KiB, then {after} KiB",
        began.elapsed(),
        clients.len()
    );
    let status = nat.lab.ctl(&["status"]).expect("a status");
    println!("{}", status.lines().filter(|line| line.contains("translated")).collect::<Vec<_>>().join("\n"));
    assert!(sent.iter().all(|sent| *sent > 1000), "{sent:?}");
    assert!(after < before + MORE, "{before} KiB, then {after} KiB");
    for client in &mut clients {
        assert_eq!(client.request().expect("an answer afterwards"), BACKENDS[0]);
    }
}
