//! UDP (RFC 768), as far as forwarding needs it.

use super::packet::Wire;

/// The start of a UDP header, up to the length.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct UdpStart {
    pub(super) ports: u32,
    pub(super) length: u16,
}

// SAFETY: packed integers.
unsafe impl Wire for UdpStart {}

impl UdpStart {
    /// Bytes of the payload.
    #[inline(always)]
    pub(super) const fn payload(self) -> u16 {
        u16::from_be(self.length).saturating_sub(8)
    }
}
