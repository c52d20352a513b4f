//! A probe's packet leaves exactly like a client's packet. Answers to it, and errors about it, are returned to its
//! probe, and nothing else is.

use std::net::IpAddr;

use aya::{EbpfLoader, programs::SchedClassifier};
use edge_common::{
    abi::{Exit, FlowKeyV4, FlowKeyV6, Mode, ProbeRoute, program},
    host::Frame,
    pipeline, probe,
};
use edge_tests::{
    cases::{self, Scene},
    kernel,
    packet::{self, Icmp, Ip, Payload, Tcp, Udp, protocol},
};

/// Treats every flow as a probe's.
struct All(ProbeRoute);

impl probe::Probes for All {
    fn find_v4(&self, _key: &FlowKeyV4) -> Option<ProbeRoute> {
        Some(self.0)
    }

    fn find_v6(&self, _key: &FlowKeyV6) -> Option<ProbeRoute> {
        Some(self.0)
    }
}

struct None;

impl probe::Probes for None {
    fn find_v4(&self, _key: &FlowKeyV4) -> Option<ProbeRoute> {
        Option::None
    }

    fn find_v6(&self, _key: &FlowKeyV6) -> Option<ProbeRoute> {
        Option::None
    }
}

#[test]
fn a_probe_is_sent_as_a_clients_packet_is() {
    let scene = Scene::new();
    let (mut dsr, mut ipip, mut gue) = (0, 0, 0);
    for case in cases::all(&scene) {
        let (memory, mut came) = (scene.world.memory(), Frame::new(&case.frame));
        let outcome = pipeline::process(&mut came, &memory);
        #[expect(clippy::wildcard_enum_match_arm, reason = "a mode without probes is another test's to miss")]
        let (mode, count) = match outcome.exit {
            Exit::DsrTx | Exit::DsrRedirect => (Mode::Dsr, &mut dsr),
            Exit::IpipTx | Exit::IpipRedirect => (Mode::Ipip, &mut ipip),
            Exit::GueTx | Exit::GueRedirect => (Mode::Gue, &mut gue),
            _ => continue,
        };
        let route = ProbeRoute { door: 7, backend: memory.last_backend(), mode: mode as u8, ..ProbeRoute::default() };
        let mut sent = Frame::new(&case.frame);
        // Fragments and errors do not belong to a probe.
        let Some(egress) = probe::send(&mut sent, &scene.world.memory(), &All(route)) else { continue };
        if sent.bytes() != came.bytes() {
            // The flow of an ICMP error is the one of the quoted packet.
            assert!(["icmp", "echo", "error"].iter().any(|word| case.name.contains(word)), "{}", case.name);
            continue;
        }
        assert_eq!(egress, outcome.egress, "{}", case.name);
        *count += 1;
        let mut nobodys = Frame::new(&case.frame);
        assert_eq!(probe::send(&mut nobodys, &memory, &None), Option::None);
        assert_eq!(nobodys.bytes(), &case.frame[..], "what is no probe's is not touched");
    }
    println!("{dsr} by dsr, {ipip} by ipip, {gue} by gue");
    assert!(dsr > 50 && ipip > 50 && gue > 50, "{dsr} by dsr, {ipip} by ipip, {gue} by gue");
}

/// Treats one flow as a probe's: from `edge` to `vip`, with these four bytes (ports or ICMP identifier) to distinguish
/// it from others.
struct Flow {
    edge: IpAddr,
    vip: IpAddr,
    ends: [u8; 4],
    protocol: u8,
}

const DOOR: u32 = 7;
const ROUTE: ProbeRoute = ProbeRoute { door: DOOR, backend: 1, mode: Mode::Ipip as u8, reserved: 0, answered_by: 0 };

impl Flow {
    fn is(&self, client: IpAddr, vip: IpAddr, ports: u32, protocol: u32) -> Option<ProbeRoute> {
        let same = (client, vip, ports) == (self.edge, self.vip, u32::from_ne_bytes(self.ends));
        (same && protocol == u32::from(self.protocol)).then_some(ROUTE)
    }
}

impl probe::Probes for Flow {
    fn find_v4(&self, key: &FlowKeyV4) -> Option<ProbeRoute> {
        self.is(key.client.to_ne_bytes().into(), key.vip.to_ne_bytes().into(), key.ports, key.protocol)
    }

    fn find_v6(&self, key: &FlowKeyV6) -> Option<ProbeRoute> {
        let address = |words: [u64; 2]| IpAddr::from(bytemuck::cast::<_, [u8; 16]>(words));
        self.is(address(key.client), address(key.vip), key.ports, key.protocol)
    }
}

/// Ends of a family: edge, VIP, a router between; ICMP's protocol, request, reply, errors about a flow, and other
/// errors.
type Ends = ([&'static str; 3], u8, u8, u8, &'static [u8], &'static [u8]);
const FAMILIES: [Ends; 2] = [
    (["10.0.0.1", "192.0.2.10", "10.0.0.254"], protocol::ICMP, 8, 0, &[3, 11, 12], &[4, 5]),
    (["fd00::1", "2001:db8::10", "fd00::fe"], protocol::ICMPV6, 128, 129, &[1, 2, 3, 4], &[100, 127]),
];

#[test]
fn answers_and_errors_go_back_to_their_probe_and_nothing_else_does() {
    let (ports, echo) = ([0x9c, 0x40, 0, 80], [0x12, 0x34, 0, 1]);
    for (addresses, icmp, request, reply, errors, others) in FAMILIES {
        let [edge, vip, router] = addresses.map(|address| address.parse::<IpAddr>().expect("an address"));
        let ping = |kind| Payload::Icmp(Icmp::echo(kind, 0x1234, 1, b"data of an echo"));
        let tcp = |source, destination| Payload::Tcp(Tcp { source, destination, ..Tcp::default() });
        let udp = |source, destination| Payload::Udp(Udp { source, destination, ..Udp::default() });
        // Protocol, bytes that identify the probe, its payload, and the payload of the answer.
        let kinds = [
            (protocol::TCP, ports, tcp(40_000, 80), tcp(80, 40_000)),
            (protocol::UDP, ports, udp(40_000, 80), udp(80, 40_000)),
            (icmp, echo, ping(request), ping(reply)),
        ];
        for (protocol, ends, sent, answer) in kinds {
            let flow = Flow { edge, vip, ends, protocol };
            let answered = |packet: Ip, flow: &Flow| {
                probe::answered(&Frame::new(&packet::Frame::new([2; 6], [4; 6], packet).bytes()), flow)
            };
            let door = |packet| answered(packet, &flow);
            let sent = Ip::new(edge, vip, sent);
            assert_eq!(door(Ip::new(vip, edge, answer.clone())), Some(DOOR), "{protocol} from {vip}");
            assert_eq!(door(Ip::new(router, edge, answer.clone())), Option::None, "{protocol} from another host");
            assert_eq!(door(sent.clone()), Option::None, "{protocol}: what was sent is no answer");

            let error = |kind, quoted: &[u8]| Ip::new(router, edge, Payload::Icmp(Icmp::error(kind, 1, 0, quoted)));
            let (about, theirs) = (sent.bytes(), Ip::new(vip, edge, answer).bytes());
            let other = Flow { edge, vip, ends: [1, 2, 3, 4], protocol };
            for kind in errors {
                assert_eq!(door(error(*kind, &about)), Some(DOOR), "{protocol}: an error of type {kind}");
                assert_eq!(door(error(*kind, &theirs)), Option::None, "{protocol}: about what nobody here has sent");
                assert_eq!(answered(error(*kind, &about), &other), Option::None, "{protocol}: about another flow");
            }
            for kind in others {
                assert_eq!(door(error(*kind, &about)), Option::None, "{protocol}: {kind} is about no flow");
            }
            // The minimum that identifies the flow, and one byte less.
            let enough = if edge.is_ipv4() { 20 } else { 40 } + if protocol == icmp { 8 } else { 4 };
            assert_eq!(door(error(errors[0], &about[..enough])), Some(DOOR), "{protocol}");
            assert_eq!(door(error(errors[0], &about[..enough - 1])), Option::None, "{protocol}");
        }
    }
}

#[test]
fn the_programs_of_probes_load() {
    let mut object = EbpfLoader::new().load(&kernel::object()).expect("the object loads");
    for name in [program::PROBE_OUT, program::PROBE_IN] {
        let program: &mut SchedClassifier = object.program_mut(name).expect(name).try_into().expect("a tc program");
        program.load().unwrap_or_else(|error| panic!("the kernel refuses `{name}`: {error:#}"));
        // Available since Linux 5.16.
        if let Some(verified) = program.info().expect(name).verified_instruction_count() {
            println!("{name}: {verified} instructions verified");
        }
    }
}
