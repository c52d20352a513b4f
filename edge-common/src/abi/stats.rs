//! Counters of services and backends.

use bytemuck::{Pod, Zeroable};

/// What went to a service or a backend, per CPU, since the map was made; it only grows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, of the client's IP packets: neither frame nor outer headers.
    pub bytes: u64,
    /// Flows started: TCP SYNs without ACK. No UDP packet shows that it is the first of its flow.
    pub flows: u64,
}
