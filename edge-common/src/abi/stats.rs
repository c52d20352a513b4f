//! Counters of services and backends.

use bytemuck::{Pod, Zeroable};

/// Traffic to a service or a backend, per CPU, since the map was made. The counters only grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Traffic {
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes forwarded, of the client's IP packets: neither frame nor outer headers.
    pub bytes: u64,
    /// Packets that start a flow: TCP SYNs without ACK, and Initials where QUIC is tracked. Other UDP packets do not show
    /// whether they are the first of their flow.
    pub flows: u64,
}
