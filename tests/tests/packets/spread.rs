//! Spread of flows to one backend over receive queues, by the Toeplitz hash of the outer packet's ends (RSS).

use edge_tests::{
    both::Both,
    cases::scene::{Scene, from_client, ip, port, with_ip},
    namespace::in_namespace,
    packet::{Payload, Tcp},
    world::Side,
};

/// The key of Microsoft's specification, which NICs use unless their driver sets another one.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];
const QUEUES: usize = 8;
const FLOWS: u16 = 4_000;

/// The Toeplitz hash: for each bit that is set in `input`, the 32 bits of the key from that bit on.
fn toeplitz(input: &[u8]) -> u32 {
    let window = |bit: usize| {
        let bytes: [u8; 8] = std::array::from_fn(|at| KEY.get(bit / 8 + at).copied().unwrap_or(0));
        u32::try_from(u64::from_be_bytes(bytes) << (bit % 8) >> 32).expect("32 bits")
    };
    let bits = (0..8 * input.len()).filter(|bit| input[bit / 8] & 0x80 >> (bit % 8) != 0);
    bits.fold(0, |hash, bit| hash ^ window(bit))
}

/// The receive queue of a frame, by its addresses, and by its UDP ports if the NIC reads ports.
fn queue(frame: &[u8], reads_ports: bool) -> usize {
    let packet = &frame[14..];
    let (addresses, protocol, header) =
        if packet[0] >> 4 == 4 { (&packet[12..20], packet[9], 20) } else { (&packet[8..40], packet[6], 40) };
    let ports = if protocol == 17 && reads_ports { &packet[header..header + 4] } else { &[][..] };
    // The indirection table lists the queues repeatedly in order.
    toeplitz(&[addresses, ports].concat()) as usize % QUEUES
}

#[test]
fn the_hash_is_that_of_the_specification() {
    let (source, destination) = ([66, 9, 149, 187], [161, 142, 100, 80]);
    assert_eq!(toeplitz(&[source, destination].concat()), 0x323e_8fc2);
    let ports = [2794_u16.to_be_bytes(), 1766_u16.to_be_bytes()].concat();
    assert_eq!(toeplitz(&[&source[..], &destination, &ports].concat()), 0x51cc_c178);
}

/// Number of flows to one backend in each queue.
fn spread(both: &Both, port: u16, reads_ports: bool) -> [usize; QUEUES] {
    let mut flows = [0; QUEUES];
    for source in 0..FLOWS {
        let tcp = Tcp { source: 20_000 + source, destination: port, ..Tcp::default() };
        let frame = from_client(Side::V4, Payload::Tcp(tcp)).bytes();
        let first = queue(&both.run(&frame).frame, reads_ports);
        flows[first] += 1;
        if source % 100 == 0 {
            let tcp = Tcp { source: 20_000 + source, destination: port, data: vec![7; 100], ..Tcp::default() };
            let another = with_ip(from_client(Side::V4, Payload::Tcp(tcp)), |ip| ip.tos = 8);
            assert_eq!(ip(&another).tos, 8);
            let queue = queue(&both.run(&another.bytes()).frame, reads_ports);
            assert_eq!(queue, first, "all packets of a flow go to one queue");
        }
    }
    flows
}

#[test]
fn flows_spread_over_queues_by_a_range_of_sources_or_by_the_ports_of_udp() {
    let (one, range) = (Scene::new(), Scene::with(0, true));
    let table = in_namespace(|| {
        let mut table = Vec::new();
        let mut add = |both: &Both, name: &'static str, port, reads_ports, is_spread| {
            table.push((name, spread(both, port, reads_ports), is_spread));
        };
        let both = Both::new(one.world);
        add(&both, "ipip over IPv4, one source", port::IN4, true, false);
        add(&both, "ipip over IPv6, one source", port::IN6, true, false);
        add(&both, "gue over IPv4", port::UDP4, true, true);
        add(&both, "gue over IPv6", port::UDP6, true, true);
        add(&both, "gue over IPv4, by addresses alone", port::UDP4, false, false);
        drop(both);
        let both = Both::new(range.world);
        add(&both, "ipip over IPv4, 256 sources", port::IN4, true, true);
        add(&both, "ipip over IPv6, 256 sources", port::IN6, true, true);
        add(&both, "gue over IPv4, with a header", port::UDP4, true, true);
        table
    });
    let mean = usize::from(FLOWS) / QUEUES;
    for (name, flows, is_spread) in table {
        println!("{name:<36} {flows:?}");
        if is_spread {
            // By chance, one queue in a hundred differs from the mean by a tenth.
            assert!(flows.iter().all(|flows| flows.abs_diff(mean) < mean / 4), "{name}: {flows:?}");
        } else {
            assert_eq!(flows.iter().filter(|flows| **flows > 0).count(), 1, "{name}: {flows:?}");
        }
    }
}
