//! The fixture of slow-path tests: services in each mode, flows with their packets, and the expected frames.

use std::net::IpAddr;

use edge_common::{
    abi::{BackendNumber, Exit, Mode, SlotAddress, Tracking},
    maps::Maps as _,
};
use edge_tests::{
    both::{Both, ProgramExit, Seen, hex},
    namespace::in_namespace,
    packet::{ACK, Extension, Frame, Icmp, Ip, Payload, Tcp, Udp, protocol},
    world::{CLIENT_MAC, DRAINED, EDGE_MAC, Side, World, octets},
};

pub(crate) const SLOTS: u32 = 64;

/// Ports, each with a TCP and a UDP service on both VIPs, with three backends each.
pub(crate) mod port {
    pub(crate) const DSR: u16 = 80;
    /// Tunnels of IPv4 and of IPv6.
    pub(crate) const IN4: u16 = 84;
    pub(crate) const IN6: u16 = 85;
    /// UDP over IPv4 and over IPv6.
    pub(crate) const UDP4: u16 = 86;
    pub(crate) const UDP6: u16 = 87;
    pub(crate) const ALL: [u16; 5] = [DSR, IN4, IN6, UDP4, UDP6];
}

pub(crate) fn world() -> World {
    let mut world = World { gue_variant: 0, ..World::new(SLOTS) };
    let pools = Side::BOTH.map(|side| {
        let members = [0; 3].map(|_| world.backend(side, 1));
        world.pool(&members, 1)
    });
    for side in Side::BOTH {
        for protocol in [protocol::TCP, protocol::UDP] {
            for (port, mode, of) in [
                (port::DSR, Mode::Dsr, side),
                (port::IN4, Mode::Ipip, Side::V4),
                (port::IN6, Mode::Ipip, Side::V6),
                (port::UDP4, Mode::Gue, Side::V4),
                (port::UDP6, Mode::Gue, Side::V6),
            ] {
                let service = world.service(side.vip(), port, protocol, mode, &[pools[of as usize]]);
                if protocol == protocol::UDP {
                    world.services[service as usize].tracking = Tracking::Learn;
                }
            }
        }
    }
    world
}

/// Runs `test` with the world on host and kernel, and compares all counters and writes afterwards.
pub(crate) fn with_both(test: impl FnOnce(&mut Both) + Send) {
    with_world(world(), test);
}

pub(crate) fn with_world(world: World, test: impl FnOnce(&mut Both) + Send) {
    in_namespace(|| {
        let mut both = Both::new(world);
        test(&mut both);
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}

/// Runs `test` for each of [`flows`], each time in the initial world, except for counters.
pub(crate) fn for_each_flow(mut test: impl FnMut(&mut Both, Flow) + Send) {
    with_both(|both| {
        for flow in flows() {
            let first = both.world.memory();
            both.memory.slots.replace(first.slots.take());
            both.memory.flows.clear();
            both.memory.path_mtus.borrow_mut().clear();
            both.change(|_| ());
            test(both, flow);
            both.change(|changed| *changed = world());
        }
    });
}

/// A flow from the client to a VIP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) side: Side,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) source: u16,
}

/// One flow of each family, protocol and mode.
pub(crate) fn flows() -> Vec<Flow> {
    let mut flows = Vec::new();
    for side in Side::BOTH {
        for protocol in [protocol::TCP, protocol::UDP] {
            flows.extend(port::ALL.map(|port| Flow { side, protocol, port, source: 40_000 }));
        }
    }
    flows
}

impl Flow {
    /// A packet of the flow, with `data` bytes of data.
    pub(crate) fn packet(self, data: usize) -> Ip {
        self.with_flags(ACK, data)
    }

    /// A packet of the flow with these TCP flags.
    pub(crate) fn with_flags(self, flags: u8, data: usize) -> Ip {
        Ip::new(self.side.client(), self.side.vip(), self.transport(self.source, self.port, flags, data))
    }

    /// An answer of the flow's backend.
    pub(crate) fn answer(self) -> Ip {
        Ip::new(self.side.vip(), self.side.client(), self.transport(self.port, self.source, ACK, 20))
    }

    fn transport(self, source: u16, destination: u16, flags: u8, data: usize) -> Payload {
        let data = (0..=255).cycle().take(data).collect();
        if self.protocol == protocol::TCP {
            Payload::Tcp(Tcp { source, destination, flags, data, ..Tcp::default() }.in_order())
        } else {
            Payload::Udp(Udp { source, destination, data, ..Udp::default() })
        }
    }

    /// The family of the flow's tunnel.
    pub(crate) const fn tunnel(self) -> Option<Side> {
        match self.port {
            port::IN4 | port::UDP4 => Some(Side::V4),
            port::IN6 | port::UDP6 => Some(Side::V6),
            _ => None,
        }
    }

    pub(crate) const fn is_in_udp(self) -> bool {
        matches!(self.port, port::UDP4 | port::UDP6)
    }

    /// Length of the headers before the flow's packets in a tunnel, bytes.
    pub(crate) fn overhead(self, world: &World) -> u16 {
        let outer = self.tunnel().map_or(0, |tunnel| if tunnel == Side::V4 { 20 } else { 40 });
        let udp = if world.gue_variant == 0 { 8 + 4 } else { 8 };
        if self.is_in_udp() { outer + udp } else { outer }
    }

    pub(crate) const fn exit(self) -> Exit {
        if self.is_in_udp() {
            Exit::GueTx
        } else if self.tunnel().is_some() {
            Exit::IpipTx
        } else {
            Exit::DsrTx
        }
    }

    /// Number of the flow's service.
    pub(crate) fn service(self, world: &World) -> usize {
        let mine = (self.side.vip(), self.port, self.protocol);
        let found = world.services.iter().position(|service| (service.vip, service.port, service.protocol) == mine);
        found.expect("a service of the world")
    }

    /// Fingerprint of the flow in outer packets that no router may fragment: identification or flow label.
    pub(crate) fn fingerprint(self) -> u32 {
        match self.tunnel() {
            None => 0,
            Some(Side::V4) => World::fingerprint(self.label()).into(),
            Some(Side::V6) => self.label(),
        }
    }

    /// Twenty bits of the flow's hash, for outer headers.
    pub(crate) fn label(self) -> u32 {
        World::flow(self.side.client(), self.source, self.port).flow_label()
    }

    /// Owner of the flow's slot.
    pub(crate) fn owner(self, both: &Both) -> BackendNumber {
        both.memory.slot(self.slot(both)).expect("it is there").owner
    }

    fn slot(self, both: &Both) -> SlotAddress {
        let service = u32::try_from(self.service(&both.world)).expect("a small world");
        both.world.slot_address(service, both.world.slot(self.side.client(), self.source, self.port))
    }

    /// Changes the owner of the flow's slot.
    pub(crate) fn set_owner(self, both: &mut Both, owner: BackendNumber) {
        both.memory.write_slot(self.slot(both), |slot| slot.owner = owner);
        both.change(|_| ());
    }

    /// Drains the owner of the flow's slot, so that the pick differs; returns the owner.
    pub(crate) fn drain_owner(self, both: &mut Both) -> BackendNumber {
        let owner = self.owner(both);
        both.change(|world| world.backends[usize::from(owner)].state = DRAINED);
        owner
    }
}

/// The fragments of an IP packet: the first one has `first` bytes of payload, all others 64, except for the last.
pub(crate) fn fragments(packet: &Ip, first: usize, id: u16) -> Vec<Ip> {
    let bytes = packet.bytes();
    let (header, carries) = match packet.source {
        IpAddr::V4(_) => (20, bytes[9]),
        IpAddr::V6(_) => (40, bytes[6]),
    };
    let payload = &bytes[header..];
    let mut pieces = vec![(0, &payload[..first])];
    for (number, piece) in payload[first..].chunks(64).enumerate() {
        pieces.push((first + 64 * number, piece));
    }
    let of = |(at, piece): &(usize, &[u8])| {
        let more = at + piece.len() < payload.len();
        fragment(packet, Payload::Other(carries, piece.to_vec()), u16::try_from(at / 8).expect("a place"), more, id)
    };
    pieces.iter().map(of).collect()
}

/// A fragment of a packet; `offset` counts units of eight bytes.
pub(crate) fn fragment(of: &Ip, payload: Payload, offset: u16, more: bool, id: u16) -> Ip {
    let mut ip = Ip { payload, ..of.clone() };
    match of.source {
        IpAddr::V4(_) => {
            (ip.id, ip.dont_fragment, ip.more_fragments, ip.fragment_offset) = (id, false, more, offset);
        }
        IpAddr::V6(_) => ip.extensions = vec![Extension::fragment(offset, more, id.into())],
    }
    ip
}

/// An ICMP error to the VIP, from a router on the way to the client.
pub(crate) fn error(side: Side, kind: u8, code: u8, quoted: &[u8]) -> Ip {
    Ip::new(side.router(), side.vip(), Payload::Icmp(Icmp::error(kind, code, 1400, quoted)))
}

/// Length of a header without options or extension headers.
pub(crate) const fn header(side: Side) -> usize {
    match side {
        Side::V4 => 20,
        Side::V6 => 40,
    }
}

pub(crate) fn frame(packet: &Ip) -> Vec<u8> {
    Frame::new(EDGE_MAC, CLIENT_MAC, packet.clone()).bytes()
}

pub(crate) fn run(both: &Both, packet: &Ip) -> Seen {
    both.run(&frame(packet))
}

pub(crate) fn exit(both: &Both, packet: &Ip) -> Exit {
    let ProgramExit::Edge(exit) = run(both, packet).exit else { panic!("the wrong program") };
    exit
}

/// Checks that `packet` goes to a backend like a packet of the flow, and is counted accordingly. Returns the backend,
/// and the fingerprint of the outer header: identification or flow label.
pub(crate) fn forwarded(both: &Both, flow: Flow, packet: &Ip) -> (BackendNumber, u32) {
    forwarded_as(both, flow, packet, flow.side == Side::V6 || packet.dont_fragment)
}

/// [`forwarded`] for outer IPv4 headers with or without DF.
pub(crate) fn forwarded_as(both: &Both, flow: Flow, packet: &Ip, dont_fragment: bool) -> (BackendNumber, u32) {
    let seen = run(both, packet);
    assert_eq!(seen.exit, ProgramExit::Edge(flow.exit()), "{flow:?}: {packet:?}");
    let backend = u16::from(seen.frame[5]);
    let mut inner = packet.clone();
    inner.ttl -= 1;
    let (mut sent, mut identifier) = (inner.clone(), 0);
    if let Some(tunnel) = flow.tunnel() {
        let to = &both.world.backends[usize::from(backend)].address;
        let (address, [a, b, c, d]) = match tunnel {
            Side::V4 => (IpAddr::from([to[0], to[1], to[2], to[3]]), [0, 0, seen.frame[18], seen.frame[19]]),
            Side::V6 => (IpAddr::from(*to), [0, seen.frame[15] & 0x0f, seen.frame[16], seen.frame[17]]),
        };
        assert_eq!(*to, octets(address));
        identifier = u32::from_be_bytes([a, b, c, d]);
        let payload = if flow.is_in_udp() {
            let header = if tunnel == Side::V4 { 20 } else { 40 };
            let source = u16::from_be_bytes([seen.frame[14 + header], seen.frame[15 + header]]);
            assert!(source >= 0xc000, "{flow:?}: a dynamic port: {source}");
            if tunnel == Side::V6 {
                assert_eq!(u32::from(source), 0xc000 | identifier >> 6, "{flow:?}: it is by the flow, as the label is");
            }
            Payload::Udp(Udp { source, ..both.world.in_udp(0, &inner) })
        } else {
            Payload::Ip(Box::new(inner.clone()))
        };
        sent = Ip::new(tunnel.tunnel(), address, payload);
        sent.tos = inner.tos;
        match tunnel {
            Side::V4 => {
                sent.dont_fragment = dont_fragment;
                sent.id = u16::try_from(identifier).expect("two bytes");
            }
            Side::V6 => sent.flow_label = identifier,
        }
    }
    let [_, number] = backend.to_be_bytes();
    let expected = Frame::new([0x02, 0, 0, 0xbb, 0, number], [0x02, 0, 0, 0xee, 0, 1], sent).bytes();
    assert_eq!(hex(&seen.frame), hex(&expected), "{flow:?}: {packet:?}");
    (backend, identifier)
}

/// Packets, bytes and flows counted for the flow's service and for a backend.
pub(crate) fn traffic(both: &Both, flow: Flow, backend: BackendNumber) -> [(u64, u64, u64); 2] {
    let service = u32::try_from(flow.service(&both.world)).expect("a small world");
    [both.memory.service_traffic(service), both.memory.backend_traffic(backend)]
        .map(|traffic| (traffic.packets, traffic.bytes, traffic.flows))
}
