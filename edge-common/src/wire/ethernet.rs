//! Ethernet: EtherTypes, and the header in words.

use network_types::eth::EtherType;

use super::packet::{Wire, change_as};
use crate::abi::Mac;

/// EtherTypes, in the byte order of a header.
pub const IPV4: u16 = EtherType::Ipv4 as u16;
pub const IPV6: u16 = EtherType::Ipv6 as u16;

/// The addresses of an Ethernet header, in words as they are in a frame.
///
/// Copying them as six bytes would be a call of the compiler's copy function, whose frame counts as 32 bytes of the 512
/// that a chain of calls may have on the stack for verifiers before Linux 6.8.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub struct Addresses(pub(super) u64, pub(super) u32);

// SAFETY: packed integers.
unsafe impl Wire for Addresses {}

impl Addresses {
    #[inline(always)]
    pub(super) const fn new(Mac(destination): Mac, Mac(source): Mac) -> Self {
        Self((destination | source << 48).to_le(), ((source >> 16) as u32).to_le())
    }

    /// Writes both addresses, one over the end of the other: combining them in words would take more instructions.
    #[inline(always)]
    pub const fn set(&mut self, Mac(destination): Mac, Mac(source): Mac) {
        self.0 = destination.to_le();
        let second: &mut Second = change_as(self);
        (second.low, second.high) = ((source as u32).to_le(), ((source >> 32) as u16).to_le());
    }

    #[inline(always)]
    pub(super) const fn destination(&self) -> Mac {
        Mac(u64::from_le(self.0) << 16 >> 16)
    }

    #[inline(always)]
    pub(super) const fn source(&self) -> Mac {
        Mac(u64::from_le(self.0) >> 48 | (u32::from_le(self.1) as u64) << 16)
    }
}

/// The source address, behind the destination address.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Second {
    destination: [u8; 6],
    low: u32,
    high: u16,
}

// SAFETY: packed, and of bytes and integers.
unsafe impl Wire for Second {}

/// An Ethernet header.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct Untagged {
    pub(super) addresses: Addresses,
    pub(super) ether_type: u16,
}

// SAFETY: packed integers.
unsafe impl Wire for Untagged {}
