//! Addresses of VIPs and edges in a backend's configuration: single ones or prefixes.

use std::{
    fmt,
    net::{AddrParseError, IpAddr},
    num::ParseIntError,
    str::FromStr,
};

use edge_common::abi::AddressPrefix;
use serde::{Serialize, Serializer};
use thiserror::Error;

/// Bits of an IPv4-mapped IPv6 address before the IPv4 address.
const MAPPED: u8 = 96;

/// A single address (all bits count), or a prefix whose other bits are 0. No prefix includes special addresses, such as
/// loopback or multicast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    address: IpAddr,
    length: u8,
}

#[derive(Debug, Error)]
pub(crate) enum PrefixError {
    #[error("no address")]
    Address(#[from] AddrParseError),
    #[error("no length of a prefix")]
    Length(#[from] ParseIntError),
    #[error("a prefix of {family} has {shortest} to {longest} bits")]
    Bits { family: &'static str, shortest: u8, longest: u8 },
    #[error("bits behind the prefix are not 0; write: {0}")]
    Rest(Prefix),
    #[error("not an address that a service or an edge can have")]
    NotUnicast,
}

impl Prefix {
    /// A single address.
    pub(super) const fn of(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// The address, if it is a single one.
    pub(crate) fn single(self) -> Option<IpAddr> {
        (self == Self::of(self.address)).then_some(self.address)
    }

    pub(crate) const fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        self.key().contains(octets(address))
    }

    pub(super) fn key(self) -> AddressPrefix {
        let before = if self.address.is_ipv4() { MAPPED } else { 0 };
        AddressPrefix { address: octets(self.address), length: before.saturating_add(self.length) }
    }

    pub(super) fn from_key(AddressPrefix { address, length }: AddressPrefix) -> Self {
        let address = IpAddr::from(address).to_canonical();
        let before = if address.is_ipv4() { MAPPED } else { 0 };
        Self { address, length: length.saturating_sub(before) }
    }

    fn new(address: IpAddr, length: Option<u8>) -> Result<Self, PrefixError> {
        // A shorter prefix would include addresses that belong to no single host.
        let (family, shortest, longest) = if address.is_ipv4() { ("IPv4", 8, 32) } else { ("IPv6", 16, 128) };
        let length = length.unwrap_or(longest);
        if !(shortest..=longest).contains(&length) {
            return Err(PrefixError::Bits { family, shortest, longest });
        }
        let first = match address {
            IpAddr::V4(v4) => IpAddr::from((v4.to_bits() >> (32 - length) << (32 - length)).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from((v6.to_bits() >> (128 - length) << (128 - length)).to_be_bytes()),
        };
        let vips = Self { address: first, length };
        if !is_unicast(first) {
            return Err(PrefixError::NotUnicast);
        }
        if first == address { Ok(vips) } else { Err(PrefixError::Rest(vips)) }
    }
}

/// Whether all addresses with this prefix are addresses of hosts, and none is link-local.
fn is_unicast(first: IpAddr) -> bool {
    match first {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_loopback() && v4.octets()[0] < 224,
        IpAddr::V6(v6) => v6.segments()[0] != 0 && !v6.is_multicast() && !v6.is_unicast_link_local(),
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        match text.split_once('/') {
            Some((address, length)) => Self::new(address.parse()?, Some(length.parse()?)),
            None => Self::new(text.parse()?, None),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, length } = self;
        let single = if address.is_ipv4() { 32 } else { 128 };
        if *length == single { write!(f, "{address}") } else { write!(f, "{address}/{length}") }
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An address in the form of the maps: IPv6, with IPv4 as `::ffff:a.b.c.d`.
pub(super) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Prefix, String> {
        text.parse().map_err(|error: PrefixError| error.to_string())
    }

    #[test]
    fn addresses_and_prefixes_of_both_families() {
        for text in ["192.0.2.10", "192.0.2.0/24", "10.0.0.0/8", "2001:db8::10", "2001:db8::/32", "64:ff9b::/96"] {
            let vips = parse(text).unwrap();
            assert_eq!(vips.to_string(), text);
            assert_eq!(Prefix::from_key(vips.key()), vips);
        }
        assert_eq!(parse("192.0.2.10/32").unwrap().to_string(), "192.0.2.10");
    }

    #[test]
    fn what_can_be_no_vip_is_refused() {
        for text in
            ["127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::ffff:192.0.2.10", "ff02::1", "fe80::1"]
        {
            assert_eq!(parse(text), Err("not an address that a service or an edge can have".to_owned()), "{text}");
        }
        for text in ["0.0.0.0/0", "::/0", "64.0.0.0/7", "2000::/15", "192.0.2.0/33", "2001:db8::/129"] {
            assert!(parse(text).unwrap_err().contains("a prefix of IPv"), "{text}");
        }
        assert_eq!(parse("192.0.2.10/24").unwrap_err(), "bits behind the prefix are not 0; write: 192.0.2.0/24");
        assert!(parse("web").is_err() && parse("192.0.2.0/x").is_err());
    }
}
