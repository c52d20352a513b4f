//! A flow: its packets, and its slot.

use std::net::IpAddr;

use edge_common::{
    abi::{FlowEnds, HashKey, Tracking},
    hash::Hash,
};
use edge_tests::{
    packet::{ACK, FIN, Frame, Ip, Payload, RST, SYN, Tcp, Udp, protocol},
    world::{CLIENT_MAC, EDGE_MAC, ServicePlan},
};

/// A flow of a service; `service` is its index in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) service: usize,
    pub(crate) client: IpAddr,
    pub(crate) port: u16,
}

/// A forged packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forged {
    Syn,
    Ack,
    Data,
    Fin,
    Reset,
    Initial,
    ShortInitial,
}

impl Forged {
    /// A SYN is the last.
    pub(crate) const OF_TCP: [Self; 5] = [Self::Ack, Self::Data, Self::Fin, Self::Reset, Self::Syn];
    pub(crate) const OF_QUIC: [Self; 2] = [Self::Initial, Self::ShortInitial];
}

/// A packet of a flow. In protocols without such packets, all are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Starts,
    /// The next packet after the start.
    Follows,
    Runs,
    /// The client closes its side.
    Closes,
    /// An ACK of what the backend sends after that.
    Listens,
}

impl Flow {
    /// A packet from a sender that knows the flow's ends, but not its sequence numbers; in TCP with this one.
    pub(crate) fn forged(&self, service: &ServicePlan, forged: Forged, sequence: u32) -> Vec<u8> {
        let (source, destination) = (self.port, service.port);
        let tcp = |flags, length| {
            let data = vec![0x55; length];
            Payload::Tcp(Tcp { source, destination, flags, sequence, data, ..Tcp::default() })
        };
        let quic = |length| Payload::Udp(Udp { source, destination, data: initial(length), ..Udp::default() });
        let payload = match forged {
            Forged::Syn => tcp(SYN, 0),
            Forged::Ack => tcp(ACK, 0),
            Forged::Data => tcp(ACK, 9),
            Forged::Fin => tcp(FIN | ACK, 0),
            Forged::Reset => tcp(RST, 0),
            Forged::Initial => quic(1200),
            Forged::ShortInitial => quic(47),
        };
        Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(self.client, service.vip, payload)).bytes()
    }

    /// A packet of the flow, whose sequence numbers begin at `first`.
    pub(crate) fn frame(&self, service: &ServicePlan, kind: Kind, first: u32) -> Vec<u8> {
        let (source, destination) = (self.port, service.port);
        let payload = if service.protocol == protocol::TCP {
            let (flags, more) = match kind {
                Kind::Starts => (SYN, 0),
                Kind::Follows | Kind::Runs => (ACK, 1),
                Kind::Closes => (ACK | FIN, 1),
                Kind::Listens => (ACK, 2),
            };
            let sequence = first.wrapping_add(more);
            Payload::Tcp(Tcp { source, destination, flags, sequence, data: Vec::new(), ..Tcp::default() })
        } else {
            // RFC 9000, section 17: an Initial packet of version 1, a Handshake packet, and a packet with a short
            // header.
            let handshake = || vec![0xe3, 0, 0, 0, 1, 8, 1, 2, 3, 4];
            let quic = match kind {
                Kind::Starts => initial(1200),
                Kind::Follows => handshake(),
                Kind::Runs | Kind::Closes | Kind::Listens => vec![0x41, 1, 2, 3, 4, 5, 6, 7],
            };
            let data = if service.tracking == Tracking::Quic { quic } else { b"a datagram".to_vec() };
            Payload::Udp(Udp { source, destination, data, ..Udp::default() })
        };
        Frame::new(EDGE_MAC, CLIENT_MAC, Ip::new(self.client, service.vip, payload)).bytes()
    }

    pub(crate) fn ends(&self, service: &ServicePlan) -> FlowEnds {
        FlowEnds {
            client: self.client,
            client_port: self.port,
            vip: service.vip,
            port: service.port,
            protocol: service.protocol,
        }
    }
}

/// An Initial packet of version 1 (RFC 9000, section 17), in a datagram of this length.
fn initial(length: usize) -> Vec<u8> {
    let mut data = vec![0x55; length];
    data[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
    data
}

/// The slot of a flow of `service`, which has `slots` slots.
pub(crate) fn slot(key: &HashKey, ends: &FlowEnds, service: &ServicePlan, slots: u32) -> u32 {
    let ([a, b], [c, d]) = (ends.client_port.to_be_bytes(), ends.port.to_be_bytes());
    let ports = u32::from_le_bytes([a, b, c, d]);
    let hash: Hash = match (ends.client, service.affinity) {
        (IpAddr::V4(client), None) => key.hash_v4(client.octets(), ports),
        (IpAddr::V6(client), None) => key.hash_v6(client.octets(), ports),
        (IpAddr::V4(client), Some(prefix)) => key.hash_source_v4(client.octets(), prefix),
        (IpAddr::V6(client), Some(prefix)) => key.hash_source_v6(client.octets(), prefix),
    };
    hash.slot(slots - 1)
}
