//! Settings of the decapsulation program. All addresses have the form of IPv6; IPv4 addresses are IPv4-mapped.

use bytemuck::{Pod, Zeroable};

/// Roles of an address in decapsulation: bits of a value in `DECAP_ADDRESSES`, whose keys are addresses.
pub struct Role;

impl Role {
    /// An edge, whose tunnel packets are accepted.
    pub const EDGE: u32 = 1;
    /// An address of this host that tunnel packets may be sent to.
    pub const ENDPOINT: u32 = 1 << 1;
    /// An address of this host, which no client can have.
    pub const OWN: u32 = 1 << 2;
}

/// The largest segments that fit a tunnel, bytes of data, by the address family of the connection. A limit above 65,535
/// fits any segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct MssLimits {
    pub v4: u32,
    pub v6: u32,
}

impl MssLimits {
    /// Limits for a path with an MTU of `mtu` bytes and `outer` bytes of outer headers on each packet (RFC 6691: headers
    /// without options).
    #[must_use]
    pub const fn of_tunnel(mtu: u32, outer: u32) -> Self {
        let room = mtu.saturating_sub(outer);
        Self { v4: room.saturating_sub(20 + 20), v6: room.saturating_sub(40 + 20) }
    }
}

/// Other settings of the decapsulation: the value of `DECAP_SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct DecapSettings {
    /// UDP port at which tunnel packets are accepted, network order; 0 if none are accepted in UDP.
    pub gue_port: [u8; 2],
    /// 1 if some edges are given by a prefix, in `DECAP_EDGES`.
    pub edge_prefixes: u8,
    /// Zero.
    pub reserved: u8,
}

/// A prefix of addresses: a key of `DECAP_VIPS` or `DECAP_EDGES`, which are LPM tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPrefix {
    pub address: [u8; 16],
    /// Length of the prefix in bits.
    pub length: u8,
}

impl AddressPrefix {
    /// Zero bytes before the address in a trie key: directly behind the prefix length that starts each key, the address
    /// would not be aligned as the verifier requires on the stack.
    pub const PADDING: usize = 4;
    /// Prefix length of a single address in the trie, including the padding.
    pub const BITS: u32 = (Self::PADDING as u32 + 16) * 8;

    /// The trie key: its prefix length in bits, and its data.
    pub fn key(self) -> (u32, [u8; Self::PADDING + 16]) {
        let mut data = [0; Self::PADDING + 16];
        data[Self::PADDING..].copy_from_slice(&self.address);
        (Self::PADDING as u32 * 8 + u32::from(self.length), data)
    }

    /// The prefix that a trie key stands for.
    pub fn from_key(bits: u32, data: [u8; Self::PADDING + 16]) -> Self {
        let mut address = [0; 16];
        address.copy_from_slice(&data[Self::PADDING..]);
        Self { address, length: bits.saturating_sub(Self::PADDING as u32 * 8) as u8 }
    }

    pub fn contains(self, address: [u8; 16]) -> bool {
        let differ = u128::from_be_bytes(self.address) ^ u128::from_be_bytes(address);
        differ.leading_zeros() >= u32::from(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_found_in_its_key_again() {
        for length in [0, 1, 96, 120, 127, 128] {
            let prefix = AddressPrefix { address: [0xa5; 16], length };
            let (bits, data) = prefix.key();
            assert_eq!(AddressPrefix::from_key(bits, data), prefix);
        }
        assert_eq!(AddressPrefix { address: [1; 16], length: 128 }.key().0, AddressPrefix::BITS);
    }

    #[test]
    fn a_prefix_has_the_addresses_that_start_like_it() {
        let mut near = [0xa5; 16];
        near[15] ^= 1;
        let contains = |length| AddressPrefix { address: [0xa5; 16], length }.contains(near);
        assert_eq!([0, 127, 128].map(contains), [true, true, false]);
    }
}
