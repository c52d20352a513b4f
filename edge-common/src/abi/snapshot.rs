//! Data that the controller keeps in the maps for `edge-ctl` and for its own next start; the packet path reads none of it.

use bytemuck::{Pod, Zeroable};

/// Bytes of a [`SnapshotPage`].
pub const SNAPSHOT_PAGE: usize = 4096;

/// The reason for a state, and when the state changed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Note {
    /// When the state last changed: milliseconds of `CLOCK_BOOTTIME`, which no clock step moves.
    pub changed_ms: u64,
    /// The reason, UTF-8, filled up with zero bytes.
    pub reason: [u8; 120],
}

/// One page of the snapshot: JSON with the text of the configuration and the numbers assigned to its parts, after a
/// [`SnapshotHead`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SnapshotPage(pub [u8; SNAPSHOT_PAGE]);

/// First bytes of a snapshot's first page.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SnapshotHead {
    /// Generation that the snapshot describes; it must equal that of the snapshot's bank.
    pub generation: u64,
    /// Bytes of JSON that follow.
    pub length: u32,
    /// CRC-32 (IEEE) of these bytes.
    pub checksum: u32,
}
