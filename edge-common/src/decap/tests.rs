//! Tunnel packets of every kind, judged by the configured addresses alone.

use std::net::IpAddr;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    abi::{AddressPrefix, Verdict},
    host::{Frame, Memory},
};

const EDGES: [&str; 2] = ["10.0.0.1", "fd00::1"];
const ENDPOINTS: [&str; 2] = ["10.1.0.11", "fd01::11"];
/// Configured as single addresses, and within a prefix.
const VIPS: [&str; 4] = ["192.0.2.10", "2001:db8::10", "203.0.113.77", "2001:db8:5::77"];
const CLIENTS: [&str; 2] = ["198.51.100.7", "2001:db8:ffff::7"];
/// Addresses of hosts that are not configured, some of them near configured ones.
const STRANGERS: [&str; 4] = ["8.8.8.8", "192.0.2.11", "203.0.114.77", "2001:db8:6::77"];
const MARTIANS: [&str; 9] = [
    "127.0.0.1",
    "169.254.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:192.0.2.10",
    "ff02::1",
    "fe80::1",
];

fn key(address: &str) -> [u8; 16] {
    match address.parse().unwrap() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn backend() -> Memory {
    let edges = EDGES.map(|address| (key(address), Role::EDGE));
    let own = ENDPOINTS.map(|address| (key(address), Role::ENDPOINT | Role::OWN));
    let vip = |address, length| AddressPrefix { address: key(address), length };
    let mut memory = Memory::default();
    memory.decap_addresses = [edges, own].concat();
    memory.decap_vips =
        vec![vip("192.0.2.10", 128), vip("2001:db8::10", 128), vip("203.0.113.0", 120), vip("2001:db8:5::", 48)];
    memory
}

/// An IP packet; `None` if its addresses are of two families.
fn packet(protocol: u8, source: &str, destination: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len()).unwrap();
    Some(match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let [high, low] = (20 + length).to_be_bytes();
            let start = [0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            [&start[..], &source.octets(), &destination.octets(), payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length.to_be_bytes();
            let start = [0x60, 0, 0, 0, high, low, protocol, 64];
            [&start[..], &source.octets(), &destination.octets(), payload].concat()
        }
        _ => return None,
    })
}

/// The exit of an inner packet that `edge` sends to `endpoint`, and the frame afterwards.
fn sent(edge: &str, endpoint: &str, inner: &[u8]) -> Option<(DecapExit, Vec<u8>)> {
    let protocol = if inner[0] >> 4 == 4 { protocol::IPV4 } else { protocol::IPV6 };
    let outer = packet(protocol, edge, endpoint, inner)?;
    let ether_type = if outer[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let mut frame = Frame::new(&[&[2; 12][..], &ether_type, &outer].concat());
    let exit = process(&mut frame, &backend());
    Some((exit, frame.bytes().to_vec()))
}

/// The exit of a packet of each edge that carries `inner`.
fn exits(inner: &[u8]) -> Vec<DecapExit> {
    EDGES.into_iter().zip(ENDPOINTS).map(|(edge, endpoint)| sent(edge, endpoint, inner).unwrap().0).collect()
}

fn anyone() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        select(&EDGES[..]),
        select(&ENDPOINTS[..]),
        select(&VIPS[..]),
        select(&CLIENTS[..]),
        select(&STRANGERS[..]),
        select(&MARTIANS[..])
    ]
}

/// `usual` in most cases, otherwise any address.
fn mostly(usual: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => select(usual), 1 => anyone()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Whatever the addresses, the host receives either what an edge sent to it for a VIP, or the packet as it came.
    #[test]
    fn nothing_is_given_to_the_host_whose_destination_was_not_told(
        edge in mostly(&EDGES), endpoint in mostly(&ENDPOINTS),
        source in mostly(&CLIENTS), destination in mostly(&VIPS),
        number in prop_oneof![Just(6_u8), Just(17), Just(1), Just(58), any::<u8>()],
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let Some(inner) = packet(number, source, destination, &payload) else { return Ok(()) };
        let Some((exit, frame)) = sent(edge, endpoint, &inner) else { return Ok(()) };
        let from_edge = EDGES.contains(&edge);
        if exit == DecapExit::Decapsulated {
            prop_assert!(from_edge && ENDPOINTS.contains(&endpoint));
            prop_assert!(VIPS.contains(&destination), "{destination}");
            prop_assert!(![&ENDPOINTS[..], &VIPS, &MARTIANS].concat().contains(&source), "{source}");
            prop_assert!(![4, 41, 47, 115, 137].contains(&number), "{number}");
            prop_assert_eq!(&frame[14..], &inner[..]);
        } else {
            prop_assert_eq!(exit.verdict() == Verdict::Pass, !from_edge);
        }
    }
}

#[test]
fn a_mapped_address_on_the_wire_is_no_edge_no_endpoint_and_no_vip() {
    let inner = packet(6, "2001:db8:ffff::7", "::ffff:192.0.2.10", &[0; 20]).unwrap();
    assert_eq!(exits(&inner), [DecapExit::UnknownVip; 2]);
    let inner = packet(6, CLIENTS[0], VIPS[0], &[0; 20]).unwrap();
    assert_eq!(sent("::ffff:10.0.0.1", ENDPOINTS[1], &inner).unwrap().0, DecapExit::UnknownSource);
    assert_eq!(sent(EDGES[1], "::ffff:10.1.0.11", &inner).unwrap().0, DecapExit::WrongEndpoint);
}

#[test]
fn neighbour_discovery_does_not_come_through_a_tunnel() {
    for kind in 0..=255 {
        let mut inner = packet(58, CLIENTS[1], VIPS[1], &[kind, 0, 0, 0, 0x60, 0, 0, 0]).unwrap();
        assert_eq!(exits(&inner), [DecapExit::Decapsulated; 2], "hosts ignore it without hop limit 255: {kind}");
        inner[7] = 255;
        let expected = if (133..=137).contains(&kind) { DecapExit::InnerDiscovery } else { DecapExit::Decapsulated };
        assert_eq!(exits(&inner), [expected; 2], "{kind}");
    }
}

#[test]
fn a_tunnel_in_the_tunnel_is_none_that_is_opened() {
    for (client, vip) in [(CLIENTS[0], VIPS[0]), (CLIENTS[1], VIPS[1])] {
        for number in 0..=255 {
            let inner = packet(number, client, vip, &[0; 40]).unwrap();
            // Behind an IPv6 header, protocol 0 is another extension header.
            let tunnel = [4, 41, 47, 115, 137].contains(&number) || (vip.contains(':') && hides(number));
            let expected = if tunnel { DecapExit::NestedTunnel } else { DecapExit::Decapsulated };
            assert_eq!(exits(&inner), [expected; 2], "protocol {number} to {vip}");
        }
    }
}

/// Whether 40 bytes of zero behind this extension header end in no known protocol.
fn hides(number: u8) -> bool {
    [0, 43, 44, 60, 50, 51, 135, 139, 140].contains(&number)
}

#[test]
fn a_tunnel_behind_extension_headers_or_in_fragments_is_one() {
    let to_vip = |next, chain: &[u8]| packet(next, CLIENTS[1], VIPS[1], &[chain, &[0; 40]].concat()).unwrap();
    let option = |next| [next, 0, 1, 4, 0, 0, 0, 0];
    let fragment = |next, place: u8| [next, 0, 0, place, 0, 0, 0, 7];
    let nested = [DecapExit::NestedTunnel; 2];
    assert_eq!(exits(&to_vip(60, &option(41))), nested);
    assert_eq!(exits(&to_vip(60, &option(6))), [DecapExit::Decapsulated; 2]);
    assert_eq!(exits(&to_vip(60, &[60, 60, 60, 60, 41].map(option).concat())), nested, "deeper than is looked");
    for place in [1, 8, 9] {
        assert_eq!(exits(&to_vip(44, &fragment(41, place))), nested, "{place}");
        assert_eq!(exits(&to_vip(44, &fragment(60, place))), nested, "{place}: behind another header");
        assert_eq!(exits(&to_vip(44, &fragment(17, place))), [DecapExit::Decapsulated; 2], "{place}");
    }
    let mut fragment = packet(4, CLIENTS[0], VIPS[0], &[0; 40]).unwrap();
    fragment[6] = 0x20;
    assert_eq!(exits(&fragment), nested);
}
