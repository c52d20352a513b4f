//! VLAN tags (IEEE 802.1Q and 802.1ad).

use network_types::eth::EtherType;

use super::{ethernet::Addresses, packet::Wire};

/// EtherType of a tag, in the byte order of a header.
pub(super) const TAG: u16 = EtherType::Ieee8021q as u16;
const SERVICE_TAG: u16 = EtherType::Ieee8021ad as u16;

/// Whether a tag follows this EtherType.
#[inline(always)]
pub(super) const fn is_tag(ether_type: u16) -> bool {
    ether_type == TAG || ether_type == SERVICE_TAG
}

/// An Ethernet header with one tag.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct Tagged {
    pub(super) addresses: Addresses,
    pub(super) tag_type: u16,
    pub(super) tag: [u8; 2],
    pub(super) ether_type: u16,
}

// SAFETY: packed integers.
unsafe impl Wire for Tagged {}
