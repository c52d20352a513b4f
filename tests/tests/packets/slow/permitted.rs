//! Packets that must not be answered get no answer, whatever they provoke, and do not count towards the rate limits.

use edge_common::abi::{AnswerLimits, Exit, Mode, WhenExhausted};
use edge_tests::{
    both::{Both, ProgramExit},
    packet::{ACK, Extension, Icmp, Ip, Payload, SYN, protocol},
    world::{DOWN, Side, World},
};

use super::{
    errors::about,
    too_long::of_length,
    world::{Flow, exit, flows, frame, port, with_world, world},
};

/// An answer: the exit of an answered packet, and of one that must not be answered.
#[derive(Clone, Copy, Debug)]
struct Answer {
    made: Exit,
    silent: Exit,
}

const UNREACHABLE: Answer = Answer { made: Exit::RejectUnreachable, silent: Exit::RejectSilent };
const RESET: Answer = Answer { made: Exit::RejectReset, silent: Exit::RejectSilent };
const EXPIRED: Answer = Answer { made: Exit::TtlExceeded, silent: Exit::TtlExceededSilent };
const TOO_BIG: Answer = Answer { made: Exit::TooBig, silent: Exit::TooBigSilent };
const ECHO: Answer = Answer { made: Exit::EchoReply, silent: Exit::IcmpOther };

/// A world with a group of hosts as an additional VIP, and with narrow paths.
fn narrow() -> World {
    let mut world = world();
    let pools = [world.services[0].pools[0], world.services[6].pools[0]];
    for (side, pool) in Side::BOTH.into_iter().zip(pools) {
        for protocol in [protocol::TCP, protocol::UDP] {
            world.service(group(side), port::DSR, protocol, Mode::Dsr, &[pool]);
        }
    }
    world.backends.iter_mut().for_each(|backend| backend.mtu = 1400);
    world
}

/// The narrow world without any backend left.
fn rejecting() -> World {
    let mut world = narrow();
    world.backends.iter_mut().for_each(|backend| backend.state = DOWN);
    world.services.iter_mut().for_each(|service| service.when_exhausted = WhenExhausted::Reject);
    world
}

fn group(side: Side) -> std::net::IpAddr {
    let address = if side == Side::V4 { "224.0.0.9" } else { "ff02::9" };
    address.parse().expect("an address")
}

/// A packet that provokes `answer`.
#[expect(clippy::wildcard_enum_match_arm, reason = "few exits are answers")]
fn provokes(answer: Answer, flow: Flow) -> Ip {
    let mut packet = match answer.made {
        Exit::TooBig => of_length(flow, 1450),
        Exit::RejectReset => flow.with_flags(SYN, 0),
        Exit::EchoReply => {
            let kind = if flow.side == Side::V4 { 8 } else { 128 };
            Ip::new(flow.side.client(), flow.side.vip(), Payload::Icmp(Icmp::echo(kind, 1, 2, b"ping")))
        }
        _ => flow.packet(10),
    };
    if matches!(answer.made, Exit::TtlExceeded) {
        packet.ttl = 1;
    }
    packet
}

/// Runs `test` for each answer and each flow whose packets provoke the answer.
fn for_each_answer(limits: AnswerLimits, mut test: impl FnMut(&Both, Answer, &Ip) + Send) {
    for (world, answers) in [(narrow(), &[EXPIRED, TOO_BIG, ECHO][..]), (rejecting(), &[UNREACHABLE, RESET])] {
        let test = &mut test;
        with_world(World { answers_per_second: limits, ..world }, |both| {
            for answer in answers {
                for flow in flows().into_iter().filter(|flow| flow.port == port::DSR) {
                    let other =
                        if flow.protocol == protocol::UDP { Exit::RejectReset } else { Exit::RejectUnreachable };
                    if answer.made != other {
                        test(both, *answer, &provokes(*answer, flow));
                    }
                }
            }
        });
    }
}

const NO_LIMIT: AnswerLimits = AnswerLimits::all(1 << 30);

/// Addresses that do not belong to a single host.
fn nobodies(packet: &Ip) -> Vec<std::net::IpAddr> {
    let addresses: &[&str] = if packet.source.is_ipv4() {
        &["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"]
    } else {
        &["::", "::1", "ff02::1", "ff0e::1:2", "::ffff:198.51.100.7"]
    };
    addresses.iter().map(|address| address.parse().expect("an address")).collect()
}

/// Frames that differ from an answered one, and must not be answered.
fn silent(packet: &Ip) -> Vec<(String, Vec<u8>)> {
    let side = if packet.source.is_ipv4() { Side::V4 } else { Side::V6 };
    let changed = |change: &dyn Fn(&mut Ip)| {
        let mut packet = packet.clone();
        change(&mut packet);
        frame(&packet)
    };
    let mut found: Vec<_> = nobodies(packet)
        .into_iter()
        .map(|nobody| (format!("from {nobody}"), changed(&|packet| packet.source = nobody)))
        .collect();
    found.push(("from where it goes".into(), changed(&|packet| packet.source = packet.destination)));
    if !matches!(packet.payload, Payload::Icmp(_)) {
        found.push(("to many".into(), changed(&|packet| packet.destination = group(side))));
    }
    if side == Side::V4 {
        let mut damaged = frame(packet);
        damaged[15] ^= 0x10;
        found.push(("header checksum".into(), damaged));
        let mut damaged = changed(&|packet| packet.options = vec![1; 8]);
        damaged[40] ^= 1;
        found.push(("an option that changed".into(), damaged));
    }
    found
}

fn left(both: &Both, frame: &[u8]) -> Exit {
    let ProgramExit::Edge(exit) = both.run(frame).exit else { panic!("the wrong program") };
    exit
}

#[test]
fn nothing_is_sent_to_or_about_what_is_no_single_host_or_arrived_damaged() {
    for_each_answer(NO_LIMIT, |both, answer, packet| {
        assert_eq!(exit(both, packet), answer.made);
        for (name, frame) in silent(packet) {
            assert_eq!(left(both, &frame), answer.silent, "{answer:?} {name}");
        }
    });
}

#[test]
fn what_may_not_be_answered_spends_nothing() {
    let mut answered = Vec::new();
    for_each_answer(AnswerLimits::all(1), |both, answer, packet| {
        if answered.contains(&answer.made) {
            return;
        }
        for (name, frame) in silent(packet) {
            assert_eq!(left(both, &frame), answer.silent, "{answer:?} {name}");
        }
        assert_eq!(exit(both, packet), answer.made, "one is left");
        answered.push(answer.made);
    });
    assert_eq!(answered.len(), 5);
}

#[test]
fn no_error_is_about_icmp_behind_whatever_it_stands() {
    with_world(narrow(), |both| {
        for flow in flows() {
            let chains: Vec<Vec<Extension>> = match flow.side {
                Side::V4 => vec![vec![]],
                Side::V6 => vec![
                    vec![],
                    vec![Extension::filler(protocol::DESTINATION, 0)],
                    vec![Extension::filler(protocol::HOP_BY_HOP, 1), Extension::filler(protocol::DESTINATION, 0)],
                    vec![Extension::fragment(0, false, 5)],
                ],
            };
            for extensions in chains {
                let mut expired = about(flow);
                (expired.ttl, expired.extensions) = (1, extensions.clone());
                if flow.side == Side::V4 {
                    expired.options = vec![1; 12];
                }
                assert_eq!(exit(both, &expired), Exit::TtlExceededSilent, "{flow:?} {extensions:?}");
                let Payload::Icmp(icmp) = &mut expired.payload else { panic!("an error") };
                icmp.data.resize(1400, 0);
                expired.ttl = 64;
                assert_eq!(exit(both, &expired), Exit::TooBigSilent, "{flow:?} {extensions:?}");
            }
            // A redirect is never forwarded.
            let kind = if flow.side == Side::V4 { 5 } else { 137 };
            let redirect = Payload::Icmp(Icmp { kind, data: flow.answer().bytes(), ..Icmp::default() });
            let mut redirect = Ip::new(flow.side.router(), flow.side.vip(), redirect);
            redirect.ttl = 1;
            let expected = if flow.side == Side::V4 { Exit::IcmpError } else { Exit::IcmpOther };
            assert_eq!(exit(both, &redirect), expected);
        }
    });
}

#[test]
fn a_segment_with_a_wrong_checksum_gets_no_reset() {
    with_world(rejecting(), |both| {
        for flow in flows().into_iter().filter(|flow| flow.protocol == protocol::TCP) {
            let header = if flow.side == Side::V4 { 20 } else { 40 };
            for data in (0..40).chain(1400..1441) {
                let right = frame(&flow.with_flags(ACK, data));
                assert_eq!(left(both, &right), Exit::RejectReset, "{flow:?}: {data} bytes of data");
                let transport = 14 + header;
                let source = transport - if flow.side == Side::V4 { 6 } else { 18 };
                // The client's address (in IPv4 detected by the header's checksum first), port, sequence number,
                // checksum, last byte.
                for at in [source, transport + 1, transport + 6, transport + 16, right.len() - 1] {
                    let mut wrong = right.clone();
                    wrong[at] ^= 1;
                    assert_eq!(left(both, &wrong), Exit::RejectSilent, "{flow:?}: {data} bytes of data, byte {at}");
                }
            }
            let behind = |data| {
                let mut packet = flow.with_flags(SYN, data);
                match flow.side {
                    Side::V4 => packet.options = vec![1; 8],
                    Side::V6 => packet.extensions = vec![Extension::filler(protocol::DESTINATION, 1)],
                }
                frame(&packet)
            };
            let mut frame = behind(5);
            assert_eq!(left(both, &frame), Exit::RejectReset);
            *frame.last_mut().expect("data") ^= 1;
            assert_eq!(left(both, &frame), Exit::RejectSilent);
        }
    });
}

#[test]
fn a_segment_longer_than_1500_bytes_gets_no_reset() {
    with_world(rejecting(), |both| {
        for flow in flows().into_iter().filter(|flow| flow.protocol == protocol::TCP) {
            assert_eq!(exit(both, &flow.with_flags(ACK, 1480)), Exit::RejectReset);
            assert_eq!(exit(both, &flow.with_flags(ACK, 1481)), Exit::RejectSilent);
        }
    });
}
