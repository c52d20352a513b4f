//! Probes on the path of clients' packets: their flows, and where their packets go.

use bytemuck::{Pod, Zeroable};

use super::BackendNumber;

/// Destination of a probe's packets and of the answers. Its key in `PROBES_V4` or `PROBES_V6` is the probe's flow, with the
/// edge as the client.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct ProbeRoute {
    /// Interface index, in the host's network namespace, of the device that leads into the prober's own namespace.
    pub door: u32,
    pub backend: BackendNumber,
    /// A [`Mode`](super::Mode).
    pub mode: u8,
    /// Zero.
    pub reserved: u8,
    /// Interface index by which the last answer arrived, or an error about the probe; 0 before. The programs write it.
    pub answered_by: u32,
}
