//! A flow: its packets, and the slot that they fall into.

use std::net::IpAddr;

use edge_common::{
    abi::{FlowEnds, HashKey, Tracking},
    lookup::hash::Hash,
};
use edge_tests::{
    packet::{ACK, Frame, Ip, Payload, SYN, Tcp, Udp, protocol},
    world::{CLIENT_MAC, EDGE_MAC, ServicePlan},
};

/// Flow of a service, which is `service` in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) service: usize,
    pub(crate) client: IpAddr,
    pub(crate) port: u16,
}

impl Flow {
    /// A packet that starts the flow, or one that does not; where nothing says which, they are the same.
    pub(crate) fn frame(&self, service: &ServicePlan, starts: bool) -> Vec<u8> {
        let (source, destination) = (self.port, service.port);
        let payload = if service.protocol == protocol::TCP {
            let flags = if starts { SYN } else { ACK };
            Payload::Tcp(Tcp { source, destination, flags, data: Vec::new(), ..Tcp::default() })
        } else {
            // RFC 9000, section 17: an Initial packet of version 1, and a packet with a short header.
            let quic = if starts { vec![0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4] } else { vec![0x41, 1, 2, 3, 4, 5, 6, 7] };
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

/// The slot of a flow of `service`, one of `slots`.
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
