//! Mistakes of other load balancers in handling packets, each with a test.
//!
//! Two such mistakes do not concern packets. That a flow does not follow a deleted backend's number to another server
//! is ensured by the planner, which never reuses a number of the previous generation (`edge-ctl`, model). That rules
//! and the data path survive the controller's end is tested with pinned links (`edge-ctl`, kernel) and in the lab.

use std::collections::BTreeSet;

use edge_common::abi::{Exit, Verdict};
use edge_tests::{
    both::{Both, Program, ProgramExit, Seen, on_host},
    cases::{
        self, Scene,
        scene::{from_client, ip, port, tcp, to_other, transport, udp, with_ip},
    },
    feature::missing,
    kernel::{self, Arrival},
    namespace::in_namespace,
    packet::{Extension, Frame, Icmp, Ip, Payload, SYN, protocol, rfc_1071, verify},
    world::Side,
};

fn with_both(test: impl FnOnce(&Both) + Send) {
    let scene = Scene::new();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        test(&both);
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}

fn left(seen: &Seen) -> Exit {
    match seen.exit {
        ProgramExit::Edge(exit) => exit,
        ProgramExit::Decap(_) => panic!("the wrong program"),
    }
}

fn echo_kind(side: Side) -> u8 {
    if side == Side::V4 { 8 } else { 128 }
}

/// Katran drops fragments and packets with IP options, and answers echo, for any destination that the interface sees.
#[test]
fn what_is_for_others_passes_untouched_be_it_fragment_options_or_echo() {
    with_both(|both| {
        for side in Side::BOTH {
            let echo = to_other(side, Payload::Icmp(Icmp::echo(echo_kind(side), 1, 2, b"ping")));
            let mut frames = vec![echo];
            match side {
                Side::V4 => {
                    for (more, offset) in [(true, 0), (true, 3), (false, 3)] {
                        frames.push(with_ip(to_other(side, udp(port::DSR)), |ip| {
                            (ip.dont_fragment, ip.more_fragments, ip.fragment_offset) = (false, more, offset);
                        }));
                    }
                    for options in [vec![0x94, 4, 0, 0], vec![7, 7, 4, 0, 0, 0, 0, 0], vec![1; 40]] {
                        frames.push(with_ip(to_other(side, tcp(port::DSR, SYN)), |ip| ip.options = options));
                    }
                }
                Side::V6 => {
                    for extension in [
                        Extension::fragment(0, true, 1),
                        Extension::fragment(3, false, 1),
                        Extension::filler(protocol::HOP_BY_HOP, 0),
                        Extension { kind: protocol::AUTHENTICATED, rest: vec![0; 23] },
                    ] {
                        frames.push(with_ip(to_other(side, tcp(port::DSR, SYN)), |ip| ip.extensions = vec![extension]));
                    }
                }
            }
            for frame in frames {
                let seen = both.run(&frame.bytes());
                assert_eq!((left(&seen), &seen.frame), (Exit::NotOurs, &frame.bytes()), "{frame:?}");
            }
        }
    });
}

/// Options and fragmentation are no reasons to drop packets for a VIP either, as Katran does.
#[test]
fn options_to_a_vip_are_forwarded_and_fragments_too() {
    with_both(|both| {
        let options = with_ip(from_client(Side::V4, tcp(port::DSR, SYN)), |ip| ip.options = vec![0x94, 4, 0, 0]);
        assert_eq!(left(&both.run(&options.bytes())), Exit::DsrTx);
        let fragment = with_ip(from_client(Side::V4, udp(port::DSR)), |ip| {
            (ip.dont_fragment, ip.more_fragments) = (false, true);
        });
        assert_eq!(left(&both.run(&fragment.bytes())), Exit::DsrTx);
    });
}

/// Katran drops a "fragmentation needed" that quotes no more than RFC 792 requires.
#[test]
fn an_error_that_quotes_eight_bytes_reaches_the_host() {
    with_both(|both| {
        for (side, kind, code, header) in [(Side::V4, 3, 4, 20), (Side::V6, 2, 0, 40)] {
            let about = Ip::new(side.vip(), side.client(), udp(port::DSR)).bytes();
            // The host also gets errors that quote less.
            for quoted in [header + 8, header + 7, header, 0] {
                let error = Payload::Icmp(Icmp::error(kind, code, 1400, &about[..quoted]));
                let frame = from_client(side, error).bytes();
                let before = both.kernel.exits()[Exit::IcmpError as usize];
                let seen = both.run(&frame);
                assert_eq!((left(&seen), &seen.frame), (Exit::IcmpError, &frame), "{side:?}, {quoted} bytes quoted");
                assert_eq!(both.kernel.exits()[Exit::IcmpError as usize], before + 1);
            }
        }
    });
}

/// A checksum without the last carry was wrong for 7 of 65,536 identifiers.
#[test]
fn every_echo_identifier_gets_the_right_checksum() {
    with_both(|both| {
        for (side, header, reply) in [(Side::V4, 20, 0), (Side::V6, 40, 129)] {
            let start = 14 + header;
            for id in 0..=u16::MAX {
                let data = [0xff, 0xff, (id >> 3).to_be_bytes()[1]];
                let frame = from_client(side, Payload::Icmp(Icmp::echo(echo_kind(side), id, 0xfff0, &data)));
                let seen = both.run(&frame.bytes());
                assert_eq!(left(&seen), Exit::EchoReply);
                assert_eq!(seen.frame[start], reply);
                verify::checksums(&seen.frame).unwrap_or_else(|error| panic!("{side:?}, identifier {id}: {error}"));
            }
        }
    });
}

/// Katran gave a packet with a claimed length of 65,535 bytes an outer length of 19.
#[test]
fn a_claimed_length_is_checked_against_the_frame() {
    with_both(|both| {
        for side in Side::BOTH {
            for port in [port::DSR, port::IN4, port::IN6, port::IN4_AWAY, port::REJECT] {
                for claimed in [65_535, 65_516, 65_515, 65_496, 65_495, 1_000] {
                    let frame = with_ip(from_client(side, udp(port)), |ip| ip.length = Some(claimed));
                    assert_eq!(left(&both.run(&frame.bytes())), Exit::Malformed, "{side:?}, {port}, {claimed}");
                }
            }
        }
    });
}

/// The same overflow with a frame of that length, which the host pipeline takes, but no test run in the kernel.
#[test]
fn an_outer_length_that_does_not_fit_is_no_outer_length() {
    let mut scene = Scene::new();
    for backend in &mut scene.world.backends {
        backend.mtu = 0;
    }
    let memory = scene.world.memory();
    let (v4, v6) = (Side::V4, Side::V6);
    for (side, port, length, exit) in [
        // The maximum of an IPv4 header's length, less the outer header.
        (v4, port::IN4, 65_515, Exit::IpipTx),
        (v4, port::IN4, 65_516, Exit::NoRoom),
        (v4, port::IN4, 65_535, Exit::NoRoom),
        (v6, port::IN4, 65_515, Exit::IpipTx),
        (v6, port::IN4, 65_516, Exit::NoRoom),
        // The maximum of an IPv6 header's payload length.
        (v4, port::IN6, 65_535, Exit::IpipTx),
        (v6, port::IN6, 65_535, Exit::IpipTx),
        (v6, port::IN6, 65_536, Exit::NoRoom),
        (v6, port::IN6, 65_575, Exit::NoRoom),
    ] {
        let headers = if side == Side::V4 { 28 } else { 48 };
        let frame = from_client(side, transport(protocol::UDP, port, length - headers)).bytes();
        let seen = on_host(&memory, Program::Edge, &frame, Arrival::by(1));
        assert_eq!(left(&seen), exit, "{side:?}, {length} bytes to {port}");
        if exit == Exit::IpipTx {
            let (at, added) = if port == port::IN4 { (16, 20) } else { (18, 0) };
            let outer = u16::from_be_bytes([seen.frame[at], seen.frame[at + 1]]);
            assert_eq!(usize::from(outer), length + added);
        }
    }
}

/// The entry point of blixt discarded the verdict. One case per exit, with the verdict that the kernel received.
#[test]
fn the_entry_point_keeps_the_verdict() {
    let scene = Scene::new();
    let cases = cases::all(&scene);
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        let mut verdicts = BTreeSet::new();
        for exit in Exit::ALL.iter().filter(|exit| !cases::OF_NO_CASE.contains(exit)) {
            let case = cases.iter().find(|case| case.exit == ProgramExit::Edge(*exit)).expect("a case for each exit");
            if missing(&format!("the_entry_point_keeps_the_verdict: {}", case.name), case.arrival.needs()).is_some() {
                continue;
            }
            let verdict = both.kernel.run("edge", &case.frame, case.arrival).verdict;
            let expected = match exit.verdict() {
                Verdict::Drop => kernel::DROP,
                Verdict::Pass => kernel::PASS,
                Verdict::Tx => kernel::TX,
                Verdict::Redirect => kernel::REDIRECT,
            };
            assert_eq!(verdict, expected, "{}", case.name);
            verdicts.insert(verdict);
        }
        assert_eq!(verdicts.len(), 4, "all four verdicts are given");
    });
}

/// Errors that Katran sends in GUE have a wrong checksum. This tests the edge's errors with every length of the
/// quotation.
#[test]
fn every_length_of_a_quotation_gets_the_right_checksum() {
    with_both(|both| {
        for side in Side::BOTH {
            for data in 0..1400 {
                let frame = from_client(side, transport(protocol::UDP, port::REJECT, data));
                let seen = both.run(&frame.bytes());
                assert_eq!(left(&seen), Exit::RejectUnreachable);
                verify::checksums(&seen.frame).unwrap_or_else(|error| panic!("{side:?}, {data} bytes: {error}"));
            }
        }
    });
}

/// An inner UDP checksum of 0 means no checksum (RFC 768), and stays 0.
#[test]
fn an_inner_checksum_of_zero_stays_zero() {
    with_both(|both| {
        for port in [port::DSR, port::IN4, port::IN6] {
            let mut frame: Frame = from_client(Side::V4, udp(port));
            frame = with_ip(frame, |ip| {
                if let Payload::Udp(udp) = &mut ip.payload {
                    udp.checksum = Some(0);
                }
            });
            let seen = both.run(&frame.bytes());
            let sent = &seen.frame[seen.frame.len() - ip(&frame).bytes().len()..];
            assert_eq!(sent[26..28], [0, 0]);
            assert_eq!(rfc_1071(&[&sent[..20]]), 0);
        }
    });
}
