//! The minimum that an ICMP error must quote to concern a flow.

use std::net::IpAddr;

use edge_common::abi::{Exit, Mode};
use edge_tests::{
    packet::{Extension, Icmp, Ip, Payload, protocol},
    world::Side,
};

use super::errors::{about, check_label, kinds};
use super::world::{
    Flow, error, exit, flows, forwarded, fragment, fragments, frame, header, run, with_both, with_world, world,
};

#[test]
fn four_bytes_behind_the_quoted_header_are_enough_and_fewer_are_the_hosts() {
    with_both(|both| {
        for flow in flows() {
            let quoted = flow.answer().bytes();
            let kind = kinds(flow.side).0[0];
            for length in 0..=quoted.len() {
                let packet = error(flow.side, kind, 1, &quoted[..length]);
                if length >= header(flow.side) + 4 {
                    assert_eq!(forwarded(both, flow, &packet).0, flow.owner(both));
                } else {
                    assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}: {length} bytes quoted");
                }
            }
            let bytes = about(flow).bytes();
            let mut cut = about(flow);
            for length in 0..8 {
                cut.payload = Payload::Other(bytes[if flow.side == Side::V4 { 9 } else { 6 }], vec![kind; length]);
                assert_eq!(exit(both, &cut), Exit::Malformed, "{length} bytes of ICMP");
            }
        }
    });
}

#[test]
fn what_is_quoted_need_not_be_plain_but_must_be_ours() {
    with_both(|both| {
        for flow in flows() {
            let kind = kinds(flow.side).0[0];
            let of = |quoted: Ip| error(flow.side, kind, 1, &quoted.bytes());
            let with = |change: &dyn Fn(&mut Ip)| {
                let mut quoted = flow.answer();
                change(&mut quoted);
                of(quoted)
            };
            let mut reach = vec![
                ("TTL of 0", with(&|ip| ip.ttl = 0)),
                ("a length that is not what is there", with(&|ip| ip.length = Some(9_000))),
            ];
            let mut hosts = vec![
                ("another source", with(&|ip| ip.source = flow.side.other())),
                ("a version that is none", with(&|ip| ip.version = Some(5))),
                ("another protocol", with(&|ip| ip.protocol = Some(protocol::SCTP))),
                ("a later fragment", of(fragments(&flow.answer(), 16, 3).remove(1))),
                // Its data look like the flow's ports.
                ("a later fragment like a first one", of(fragment(&flow.answer(), flow.answer().payload, 5, true, 3))),
            ];
            let echo = Icmp::echo(if flow.side == Side::V4 { 0 } else { 129 }, 1, 1, b"pong");
            hosts.push(("ICMP", with(&|ip| ip.payload = Payload::Icmp(echo.clone()))));
            let nobody = Flow { port: 999, ..flow };
            hosts.push(("a port without a service", of(nobody.answer())));
            let first = of(fragments(&flow.answer(), 24, 3).remove(0));
            match flow.side {
                Side::V4 => {
                    reach.push(("options", with(&|ip| ip.options = vec![1; 4])));
                    reach.push(("all options", with(&|ip| ip.options = vec![1; 40])));
                    hosts.push(("a header too short", with(&|ip| ip.header_words = Some(4))));
                    // With that wrong header length, the client's address would be read as the ports.
                    let [a, b] = flow.port.to_be_bytes();
                    let alike = with(&|ip| {
                        (ip.header_words, ip.destination) = (Some(4), IpAddr::from([a, b, 0x9c, 0x40]));
                    });
                    hosts.push(("a header too short before what would be ports", alike));
                    hosts.push(("a header longer than the rest", with(&|ip| ip.header_words = Some(15))));
                }
                Side::V6 => {
                    let behind = |extensions: &[Extension]| with(&|ip| ip.extensions = extensions.to_vec());
                    let filler = |kind| Extension::filler(kind, 0);
                    let [hop_by_hop, routing, destination] =
                        [protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION].map(filler);
                    let fragment = Extension::fragment(0, true, 7);
                    for (what, extension) in [
                        ("hop-by-hop options", &hop_by_hop),
                        ("a routing header", &routing),
                        ("destination options", &destination),
                        ("a fragment header", &fragment),
                        ("an atomic fragment", &Extension::fragment(0, false, 7)),
                        ("long options", &Extension::filler(protocol::DESTINATION, 40)),
                    ] {
                        reach.push((what, behind(std::slice::from_ref(extension))));
                    }
                    let options_of_first = behind(&[fragment.clone(), destination.clone()]);
                    reach.push(("a fragment header before destination options", options_of_first));
                    reach.push(("all of them", behind(&[hop_by_hop, destination.clone(), routing, fragment])));
                    hosts.push(("more than are looked through", behind(&vec![destination.clone(); 5])));
                    let hidden = Extension { kind: protocol::ENCRYPTED, rest: vec![0; 23] };
                    hosts.push(("one that hides the ports", behind(&[hidden])));
                    let mut far = flow.answer();
                    far.extensions = vec![Extension::filler(protocol::DESTINATION, 255)];
                    let cut = error(flow.side, kind, 1, &far.bytes()[..1_200]);
                    hosts.push(("one that ends behind the quotation", cut));
                }
            }
            reach.push(("a first fragment", first));
            for (what, packet) in reach {
                let (backend, by) = forwarded(both, flow, &packet);
                assert_eq!(backend, flow.owner(both), "{flow:?}: quotes {what}");
                check_label(flow, by);
            }
            for (what, packet) in hosts {
                let seen = run(both, &packet);
                assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}: quotes {what}");
                assert_eq!(seen.frame, frame(&packet));
            }
        }
    });
}

#[test]
fn options_and_extension_headers_of_the_error_itself_are_looked_through_so_far() {
    with_both(|both| {
        for flow in flows() {
            let mut packet = about(flow);
            match flow.side {
                Side::V4 => packet.options = vec![1; 40],
                Side::V6 => packet.extensions = vec![Extension::filler(protocol::DESTINATION, 1); 4],
            }
            assert_eq!(forwarded(both, flow, &packet).0, flow.owner(both));
            if flow.side == Side::V6 {
                // A quotation that stands behind byte 255 is not found.
                for (eights, near) in [(23, true), (24, false), (25, false), (200, false)] {
                    packet.extensions = vec![Extension::filler(protocol::DESTINATION, eights)];
                    assert_eq!(exit(both, &packet) == flow.exit(), near, "{flow:?}: {eights}");
                }
            }
        }
    });
}

#[test]
fn a_quote_too_far_behind_is_not_looked_for_elsewhere() {
    with_both(|both| {
        for flow in flows().into_iter().filter(|flow| flow.side == Side::V6) {
            let mut packet = about(flow);
            let mut extension = Extension::filler(protocol::DESTINATION, 31);
            // A different quotation stands 256 bytes before the real one.
            extension.rest[7..47].copy_from_slice(&flow.answer().bytes()[..40]);
            packet.extensions = vec![extension];
            assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}");
        }
    });
}

#[test]
fn an_error_to_one_vip_does_not_concern_packets_of_another() {
    let mut world = world();
    let pools = [world.services[0].pools[0], world.backends.last().expect("a backend").pool];
    for (side, pool) in Side::BOTH.into_iter().zip(pools) {
        for protocol in [protocol::TCP, protocol::UDP] {
            world.service(side.other(), 80, protocol, Mode::Dsr, &[pool]);
        }
    }
    with_world(world, |both| {
        for flow in flows().into_iter().filter(|flow| flow.port == 80) {
            let mut quoted = flow.answer();
            quoted.source = flow.side.other();
            let mut packet = error(flow.side, kinds(flow.side).0[0], 1, &quoted.bytes());
            assert_eq!(exit(both, &packet), Exit::IcmpError, "{flow:?}");
            packet.destination = flow.side.other();
            assert_eq!(exit(both, &packet), Exit::DsrTx, "{flow:?}");
        }
    });
}
