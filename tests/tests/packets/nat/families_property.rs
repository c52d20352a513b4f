//! Any packet from a client of one IP version to a backend of the other: the translated packet has right checksums, and
//! the backend's answer arrives as the client sent the original, except for fields that each router may change.

use edge_common::{
    abi::Exit,
    flow_table::{Flow, UNIT},
};
use edge_tests::{
    both::{Both, Program, on_host},
    kernel::Arrival,
    namespace::{LO, in_namespace},
    packet::{ACK, Extension, FIN, Frame, Icmp, Ip, Network, Payload, RST, SYN, Tcp, protocol, verify},
    world::{EDGE_MAC, Side},
};
use proptest::{prelude::*, sample};

use super::{
    Client, TCP, UDP, address, exit,
    families::{at_backend, ip, other, world},
    labelled, packet, segment,
};

/// A random packet of a client.
#[derive(Clone, Debug)]
struct Sent {
    service: u32,
    port: u16,
    flags: u8,
    numbers: (u32, u32),
    data: Vec<u8>,
    tos: u8,
    flow_label: u32,
    ttl: u8,
    options: usize,
    extensions: Vec<u8>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let flags = sample::select(vec![SYN, SYN, ACK, ACK, FIN | ACK, RST, SYN | ACK]);
    let data = prop_oneof![prop::collection::vec(any::<u8>(), 0..40), prop::collection::vec(any::<u8>(), 1200..1400)];
    let extensions = prop::collection::vec(sample::select(vec![protocol::DESTINATION, protocol::ROUTING]), 0..5);
    let numbers = (any::<u32>(), any::<u32>());
    let header = (any::<u8>(), 0u32..1 << 20, 2u8.., 0usize..11, extensions);
    (sample::select(vec![TCP, UDP]), 40_000u16..40_010, flags, numbers, data, header).prop_map(
        |(service, port, flags, numbers, data, (tos, flow_label, ttl, options, extensions))| Sent {
            service,
            port,
            flags,
            numbers,
            data,
            tos,
            flow_label,
            ttl,
            options,
            extensions,
        },
    )
}

impl Sent {
    fn client(&self, side: Side) -> Client {
        Client { side, port: self.port, service: self.service }
    }

    fn frame(&self, side: Side) -> Frame {
        let (sequence, acknowledgment) = self.numbers;
        let segment_sent = Tcp { data: self.data.clone(), ..segment(self.flags, sequence, acknowledgment) };
        let mut frame = self.client(side).sends(segment_sent);
        let ip = ip(&mut frame);
        (ip.tos, ip.ttl, ip.flow_label) = (self.tos, self.ttl, self.flow_label);
        ip.options = vec![1; 4 * self.options];
        ip.extensions = self.extensions.iter().map(|kind| Extension::filler(*kind, 0)).collect();
        frame
    }
}

/// TOS, TTL, and the bytes from the transport header on; an IPv6 packet must have no extension headers.
fn behind(frame: &[u8]) -> (u8, u8, &[u8]) {
    if frame[14] >> 4 == 4 {
        (frame[15], frame[22], &frame[14 + usize::from(frame[14] & 15) * 4..])
    } else {
        assert!([protocol::TCP, protocol::UDP, protocol::ICMPV6].contains(&frame[20]));
        (frame[14] << 4 | frame[15] >> 4, frame[21], &frame[54..])
    }
}

/// A frame with exchanged addresses and ports, to the edge's own MAC address.
fn exchanged(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&EDGE_MAC);
    let (addresses, length, ports) = if frame[14] >> 4 == 4 { (26, 4, 34) } else { (22, 16, 54) };
    let (source, destination) = frame[addresses..addresses + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
    let (source, destination) = frame[ports..ports + 4].split_at_mut(2);
    source.swap_with_slice(destination);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn there_and_back_a_packet_is_what_it_was(
        side in sample::select(Side::BOTH.to_vec()),
        packets in prop::collection::vec(sent(), 1..20),
    ) {
        let memory = world(side, LO).memory();
        for sent in packets {
            memory.clock_ns.set(memory.clock_ns.get() + (1 << UNIT));
            let frame = sent.frame(side).bytes();
            let there = on_host(&memory, Program::Edge, &frame, Arrival::by(LO));
            prop_assert!(verify::checksums(&there.frame).is_ok(), "{:?}: {:?}", sent, there);
            if exit(&there) != Exit::NatTx {
                prop_assert!(sent.service == TCP, "{:?}: {:?}", sent, there.exit);
                continue;
            }
            let (tos, ttl, was) = behind(&there.frame);
            prop_assert_eq!((tos, ttl), (sent.tos, sent.ttl - 1));
            let back = on_host(&memory, Program::Edge, &exchanged(&there.frame), Arrival::by(LO));
            if ttl == 1 {
                prop_assert_eq!(exit(&back), Exit::TtlExceeded);
                continue;
            }
            prop_assert_eq!(exit(&back), Exit::NatReplyTx);
            prop_assert!(verify::checksums(&back.frame).is_ok(), "{:?}: {:?}", sent, back);
            let (_, _, rest) = behind(&there.frame);
            prop_assert_eq!(rest.len(), was.len());
            // The client's own packet with exchanged ports, from its transport header on.
            let mut plain = sent.clone();
            (plain.options, plain.extensions) = (0, Vec::new());
            let mut expected = exchanged(&plain.frame(side).bytes());
            let at = if side == Side::V4 { 34 } else { 54 };
            let (tos, ttl, seen) = behind(&back.frame);
            prop_assert_eq!((tos, ttl), (sent.tos, sent.ttl - 2));
            prop_assert_eq!(seen, &expected.split_off(at)[..]);
        }
    }

    #[test]
    fn an_error_has_a_right_checksum_whatever_it_quotes_and_a_wrong_one_stays_wrong(
        side in sample::select(Side::BOTH.to_vec()),
        sent in sent(),
        length in 0usize..1200,
        kind in (sample::select(vec![1u8, 2, 3, 4, 11, 12]), 0u8..16, any::<[u8; 4]>()),
        wrong: bool,
        strange: bool,
    ) {
        let memory = world(side, LO).memory();
        let client = sent.client(side);
        on_host(&memory, Program::Edge, &client.sends(segment(SYN, 5, 0)).bytes(), Arrival::by(LO));
        let flow = memory.nat.flows()[&client.ends()];
        let backends = other(side);
        let segment_sent = Tcp { data: sent.data.clone(), ..segment(sent.flags, 6, 7) };
        let payload = packet(client.protocol(), (flow.port, super::BACKEND_PORT), segment_sent);
        let mut quoted = Ip::new(backends.source(), address(backends, flow.translation.backend), payload);
        (quoted.tos, quoted.ttl) = (sent.tos, sent.ttl);
        let label = Flow::from(client.ends()).hash(&memory.nat.head.hash_key).flow_label();
        quoted = labelled(quoted, if strange { label ^ 1 } else { label });
        quoted.options = vec![1; 4 * sent.options];
        quoted.extensions = sent.extensions.iter().map(|kind| Extension::filler(*kind, 0)).collect();
        let mut data = quoted.bytes();
        data.truncate(length);
        let (kind, code, rest) = kind;
        let checksum = if wrong { Some(0x1234) } else { None };
        let error = Payload::Icmp(Icmp { kind, code, rest, data, checksum });
        let came = Frame::new(EDGE_MAC, [2; 6], Ip::new(backends.router(), backends.source(), error)).bytes();
        let was = verify::checksums(&came);
        let seen = on_host(&memory, Program::Edge, &came, Arrival::by(LO));
        let left = exit(&seen);
        if left == Exit::NatReplyTx {
            prop_assert!(!strange, "a packet that the edge did not send: {:?}", seen);
            prop_assert_eq!(verify::checksums(&seen.frame).is_ok(), was.is_ok(), "{:?}", seen);
        } else if left != Exit::NatNoError {
            prop_assert_eq!(left, Exit::NotOurs);
            prop_assert_eq!(&seen.frame, &came);
        }
    }

    #[test]
    fn the_kernel_does_the_same_with_both(
        side in sample::select(Side::BOTH.to_vec()),
        packets in prop::collection::vec((sent(), any::<bool>(), 0usize..200), 1..40),
    ) {
        in_namespace(|| {
            let both = Both::new(world(side, LO));
            for (sent, is_error, length) in packets {
                let frame = sent.frame(side);
                let seen = both.run(&frame.bytes());
                if exit(&seen) != Exit::NatTx {
                    continue;
                }
                both.run(&exchanged(&seen.frame));
                if is_error {
                    let client = sent.client(side);
                    let mut quoted = at_backend(client, &both, segment(ACK, 1, 2));
                    quoted.options = vec![1; 4 * sent.options];
                    let backends = other(side);
                    let mut data = quoted.bytes();
                    data.truncate(length);
                    let (kind, code) = if backends == Side::V4 { (3, 3) } else { (1, 4) };
                    let error = Icmp { kind, code, rest: [0; 4], data, checksum: None };
                    let ip = Ip::new(backends.router(), backends.source(), Payload::Icmp(error));
                    both.run(&Frame { network: Network::Ip(ip), ..Frame::new(EDGE_MAC, [2; 6], quoted) }.bytes());
                }
                both.compare_state().unwrap_or_else(|error| panic!("{sent:?}: {error}"));
            }
        });
    }
}
