//! Properties of an address in a tunnel's headers: its form in maps, and whether a single host can have it.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::wire::{checksum::Sum, ip::Family, ipv4::V4, ipv6::V6};

/// An address as a key: IPv6, or IPv4-mapped. In words as they are in a frame: an array of bytes would be put together on
/// the stack by calls.
pub type Words = [u32; 4];

/// The start of an IPv4-mapped IPv6 address.
const MAPPED: [u32; 3] = [0, 0, 0xffff_u32.to_be()];

/// The checks of the decapsulation on a family's addresses.
pub(super) trait Address: Family {
    /// The address in the form that maps use for both families.
    fn words(address: &Self::Address) -> Words;

    /// Whether no packet that came through a router can have this source.
    fn is_martian(address: &Self::Address) -> bool;

    /// Whether several hosts can have the address, or none because it is undefined.
    fn is_multicast(address: &Self::Address) -> bool;

    /// Sum of the pseudo-header of `length` bytes of `protocol` behind `header`.
    fn pseudo_header(header: &Self::Header, protocol: u8, length: u16) -> Sum;
}

impl Address for V4 {
    #[inline(always)]
    fn words(address: &[u8; 4]) -> Words {
        let [a, b, c] = MAPPED;
        [a, b, c, u32::from_ne_bytes(*address)]
    }

    /// "This network", loopback, link-local, and everything from multicast to broadcast (RFC 6890, section 2.2.2).
    #[inline(always)]
    fn is_martian(address: &[u8; 4]) -> bool {
        let [first, second, ..] = *address;
        first == 0 || first == 127 || (first == 169 && second == 254) || Self::is_multicast(address)
    }

    #[inline(always)]
    fn is_multicast(address: &[u8; 4]) -> bool {
        address[0] >= 224
    }

    #[inline(always)]
    fn pseudo_header(header: &Ipv4Hdr, protocol: u8, length: u16) -> Sum {
        Sum::pseudo_v4(header, protocol, length)
    }
}

impl Address for V6 {
    #[inline(always)]
    fn words(address: &[u8; 16]) -> Words {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
        let [first, second, third, last] =
            [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes);
        // No host has an IPv4-mapped address on the wire (RFC 4291, section 2.5.5.2), least of all an IPv4 host.
        if [first, second, third] == MAPPED { [0; 4] } else { [first, second, third, last] }
    }

    /// Unspecified, loopback, IPv4-mapped, and all others that start with 64 bits of zero; link-local; multicast (RFC 6890,
    /// section 2.2.3).
    #[inline(always)]
    fn is_martian(address: &[u8; 16]) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *address;
        [a, b, c, d, e, f, g, h] == [0; 8] || (a == 0xfe && b & 0xc0 == 0x80) || Self::is_multicast(address)
    }

    #[inline(always)]
    fn is_multicast(address: &[u8; 16]) -> bool {
        address[0] == 0xff
    }

    #[inline(always)]
    fn pseudo_header(header: &Ipv6Hdr, protocol: u8, length: u16) -> Sum {
        Sum::pseudo_v6(header, protocol, length)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn martians_of_ipv4() {
        let is = |text: &str| V4::is_martian(&text.parse::<Ipv4Addr>().unwrap().octets());
        for text in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "169.254.0.1", "224.0.0.1", "240.0.0.1"] {
            assert!(is(text), "{text}");
        }
        assert!(is("255.255.255.255"));
        for text in ["1.0.0.0", "10.0.0.1", "126.255.255.255", "128.0.0.1", "169.253.0.1", "169.255.0.1", "223.255.1.1"]
        {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn martians_of_ipv6() {
        let is = |text: &str| V6::is_martian(&text.parse::<Ipv6Addr>().unwrap().octets());
        for text in ["::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "febf::1", "ff00::", "ff02::1"] {
            assert!(is(text), "{text}");
        }
        for text in ["2001:db8::1", "fd00::1", "64:ff9b::10.0.0.1", "fec0::1", "fe00::1", "0:0:0:1::"] {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn an_address_of_one_family_is_never_one_of_the_other() {
        let mapped = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
        assert_eq!(bytemuck::cast::<_, [u8; 16]>(V4::words(&[10, 0, 0, 1])), mapped);
        assert_eq!(V6::words(&mapped), [0; 4]);
        let address = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(bytemuck::cast::<_, [u8; 16]>(V6::words(&address)), address);
    }
}
