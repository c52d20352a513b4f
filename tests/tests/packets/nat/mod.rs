//! Packets to a service in `nat`, and the backends' answers, each through the real program and through the host
//! pipeline.

mod alone;
mod broken;
mod connection;
mod evidence;
mod credible;
mod families;
mod families_errors;
mod families_property;
mod full;
mod links;
mod proofs;
mod property;
mod refused;
mod rules;
mod slow;
mod sources;
mod told;
mod told_property;

use std::net::IpAddr;

pub(crate) use edge_tests::packet::labelled;

use edge_common::{
    abi::{Exit, FlowEnds, Mode},
    flow_table::Flow,
    host::Translated,
};
use edge_tests::{
    both::{Both, ProgramExit, Seen},
    packet::{Frame, Ip, Payload, SYN, Tcp, Udp, protocol, verify},
    world::{CLIENT_MAC, EDGE_MAC, NatWorld, Side, World},
};

pub(crate) const PORT: u16 = 443;
/// Port of the backends.
pub(crate) const BACKEND_PORT: u16 = 8443;
pub(crate) const FIRST_PORT: u16 = 20_000;
/// Numbers of the services.
pub(crate) const TCP: u32 = 0;
pub(crate) const UDP: u32 = 1;

/// Two pools of two backends, and a TCP and a UDP service on both pools. `egress` is the backends' interface.
pub(crate) fn world(side: Side, ports: u32, lanes: u32, egress: u32) -> World {
    world_of(side, side, ports, lanes, egress)
}

/// A world with clients of one side and backends of another.
pub(crate) fn world_of(side: Side, backends: Side, ports: u32, lanes: u32, egress: u32) -> World {
    let mut world = World::new(64);
    let mut pool = || {
        let members = [0; 2].map(|_| world.backend(backends, egress));
        world.pool(&members, 1)
    };
    let pools = [pool(), pool()];
    for protocol in [protocol::TCP, protocol::UDP] {
        let service = world.service(side.vip(), PORT, protocol, Mode::Nat, &pools);
        world.services[service as usize].backend_port = BACKEND_PORT;
        // Entries keep the established flows; slots only choose the backends of new flows.
        world.services[service as usize].in_transition = false;
    }
    world.nat = Some(NatWorld {
        sources: Side::BOTH.map(Side::source).into(),
        first_port: FIRST_PORT,
        ports,
        lanes,
        keeps: false,
    });
    world
}

/// A client's end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) side: Side,
    pub(crate) port: u16,
    pub(crate) service: u32,
}

impl Client {
    pub(crate) const fn protocol(self) -> u8 {
        if self.service == TCP { protocol::TCP } else { protocol::UDP }
    }

    pub(crate) fn ends(self) -> FlowEnds {
        let Self { side, port, .. } = self;
        FlowEnds { client: side.client(), client_port: port, vip: side.vip(), port: PORT, protocol: self.protocol() }
    }

    /// The table's entry of the flow.
    pub(crate) fn translated(self, both: &Both) -> Option<Translated> {
        both.memory.nat.flows().remove(&self.ends())
    }

    /// The label that the flow's packets to its backend carry.
    pub(crate) fn label(self, both: &Both) -> u32 {
        Flow::from(self.ends()).hash(&both.memory.nat.head.hash_key).flow_label()
    }

    /// A packet of the client; in a TCP service `segment` with the flow's ports.
    pub(crate) fn sends(self, segment: Tcp) -> Frame {
        let payload = packet(self.protocol(), (self.port, PORT), segment);
        Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(self.side.client(), self.side.vip(), payload))
    }

    /// A packet from the flow's backend to the source and port that the backend saw.
    pub(crate) fn answered(self, both: &Both, segment: Tcp) -> Frame {
        let Translated { translation, port, .. } = self.translated(both).expect("a flow");
        let payload = packet(self.protocol(), (BACKEND_PORT, port), segment);
        let mac = [0x02, 0, 0, 0xbb, 0, u8::try_from(translation.backend).expect("a few")];
        Frame::new(EDGE_MAC, mac, Ip::new(address(self.side, translation.backend), self.side.source(), payload))
    }
}

pub(crate) fn address(side: Side, backend: u16) -> IpAddr {
    side.backend(u8::try_from(backend).expect("a few"))
}

/// A segment, or a datagram with the segment's data.
pub(crate) fn packet(protocol: u8, (source, destination): (u16, u16), segment: Tcp) -> Payload {
    if protocol == protocol::TCP {
        Payload::Tcp(Tcp { source, destination, ..segment })
    } else {
        Payload::Udp(Udp { source, destination, data: segment.data, ..Udp::default() })
    }
}

/// A segment with these flags.
pub(crate) fn segment(flags: u8, sequence: u32, acknowledgment: u32) -> Tcp {
    let data = if flags & SYN != 0 { Vec::new() } else { Tcp::default().data };
    Tcp { flags, sequence, acknowledgment, data, ..Tcp::default() }
}

/// The segment with so much data that its packet has `bytes` bytes.
pub(crate) fn long(side: Side, bytes: usize, segment: Tcp) -> Tcp {
    let headers = if side == Side::V4 { 40 } else { 60 };
    Tcp { data: vec![5; bytes - headers], ..segment }
}

/// Sends a frame through host and kernel, which must agree; its checksums were right, and must stay right.
pub(crate) fn run(both: &Both, frame: &Frame) -> Seen {
    let seen = both.run(&frame.bytes());
    verify::checksums(&seen.frame).unwrap_or_else(|error| panic!("{error}: {seen:?}"));
    both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    seen
}

pub(crate) fn exit(seen: &Seen) -> Exit {
    match seen.exit {
        ProgramExit::Edge(exit) => exit,
        ProgramExit::Decap(_) => panic!("{seen:?}"),
    }
}
