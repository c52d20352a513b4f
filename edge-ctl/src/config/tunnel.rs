//! `[tunnel]`: sources of tunnel packets, and the format of those in UDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edge_common::{abi::Mode, wire::gue};

use super::{
    problems::Read,
    schema::TUNNEL,
    values::{self, Entry, Wrong},
    walk::{Located, Table},
};

/// Outer source addresses of tunnels, and the settings of tunnels in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// Present when a service with a tunnel has an IPv4 backend.
    pub source_v4: Option<Ipv4Addr>,
    /// Present when a service with a tunnel has an IPv6 backend.
    pub source_v6: Option<Ipv6Addr>,
    /// Prefix from which packets in `ipip` get their source by flow, instead of `source_v4`.
    pub range_v4: Option<Range>,
    pub range_v6: Option<Range>,
    /// Destination port of packets in `gue`.
    pub gue_port: u16,
    /// GUE variant, 0 or 1.
    pub gue_variant: u16,
}

/// A prefix of addresses. The bits of `first` behind `length` are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub first: IpAddr,
    pub length: u8,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            source_v4: None,
            source_v6: None,
            range_v4: None,
            range_v6: None,
            gue_port: gue::PORT,
            gue_variant: DIRECT,
        }
    }
}

impl Tunnel {
    /// Source of tunnel packets to this address, and of the lookup of their route.
    pub(crate) fn source(&self, to: IpAddr) -> Option<IpAddr> {
        match to {
            IpAddr::V4(_) => self.source_v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.source_v6.map(IpAddr::V6),
        }
    }
}

impl Tunnel {
    /// The prefixes from which packets in `ipip` get their source.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> {
        [self.range_v4, self.range_v6].into_iter().flatten()
    }

    /// Forwarding mode for packets of services in `mode`: `ipip` has two, with and without a range of sources.
    pub(crate) fn forwards(&self, mode: Mode) -> Mode {
        let has_range = self.range_v4.is_some() || self.range_v6.is_some();
        if mode == Mode::Ipip && has_range { Mode::IpipRange } else { mode }
    }
}

impl Range {
    /// Mask of the bits that depend on the flow, in the last four bytes of the address.
    pub(crate) fn hosts(self) -> u32 {
        let longest: u8 = if self.first.is_ipv4() { 32 } else { 128 };
        let own = u32::from(longest.saturating_sub(self.length));
        u32::MAX.checked_shr(32_u32.saturating_sub(own)).unwrap_or(0)
    }

    /// The first and the last address.
    pub(crate) fn ends(self) -> [IpAddr; 2] {
        let last = match self.first {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | self.hosts())),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() | u128::from(self.hosts()))),
        };
        [self.first, last]
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

/// The GUE variant without a header of its own.
const DIRECT: u16 = 1;

pub(super) fn read(root: &Table<'_>) -> Read<Tunnel> {
    let Some(table) = root.table("tunnel", &TUNNEL)? else { return Ok(Tunnel::default()) };
    let source_v4 = table.optional("source_v4", |entry: &Entry<'_>| {
        let example = "source_v4 = \"10.0.0.1\", an address of this host";
        match values::address("source_v4 = \"10.0.0.1\"")(entry)? {
            IpAddr::V4(v4) => Ok(v4),
            IpAddr::V6(_) => Err(entry.wrong("which is IPv6", example)),
        }
    });
    let source_v6 = table.optional("source_v6", |entry: &Entry<'_>| {
        let example = "source_v6 = \"fd00::1\", an address of this host";
        match values::address("source_v6 = \"fd00::1\"")(entry)? {
            IpAddr::V6(v6) => Ok(v6),
            IpAddr::V4(_) => Err(entry.wrong("which is IPv4", example)),
        }
    });
    let range_v4 = range(&table, "source_v4_range", "source_v4");
    let range_v6 = range(&table, "source_v6_range", "source_v6");
    let gue_port = table.optional("gue_port", values::integer(1..=65_535, "gue_port = 6080"));
    let gue_variant = table.optional("gue_variant", values::integer(0..=DIRECT.into(), "gue_variant = 1"));
    Ok(Tunnel {
        source_v4: source_v4?.map(|found| found.value),
        source_v6: source_v6?.map(|found| found.value),
        range_v4: range_v4?,
        range_v6: range_v6?,
        gue_port: gue_port?.map_or(gue::PORT, |found| found.value),
        gue_variant: gue_variant?.map_or(DIRECT, |found| found.value),
    })
}

/// The prefix under `key`, which needs the address under `source`.
fn range(table: &Table<'_>, key: &'static str, source: &'static str) -> Read<Option<Range>> {
    let v4 = source == "source_v4";
    let found = table.optional(key, |entry: &Entry<'_>| prefix(entry, v4))?;
    let Some(Located { value, at }) = found else { return Ok(None) };
    if table.has(source) {
        return Ok(Some(value));
    }
    let what = format!("`{key}` without `{source}`: routes are looked up from an address of this host");
    let example = if v4 { "10.0.0.1" } else { "fd00::1" };
    Err(table.problems.add(at, what, format!("{source} = \"{example}\", an address of this host")))
}

fn prefix(entry: &Entry<'_>, v4: bool) -> Result<Range, Wrong> {
    let (example, shortest, longest) = if v4 { ("10.9.0.0/24", 16, 31) } else { ("fd00:9::/112", 96, 127) };
    let example = format!("{} = \"{example}\", a prefix of {shortest} to {longest} bits", entry.key);
    let text = entry.string(&example)?;
    let read = text.split_once('/').and_then(|(first, length)| Some((first.parse().ok()?, length.parse().ok()?)));
    let Some((first, length)) = read else { return Err(entry.wrong("which is not a prefix", example)) };
    let first: IpAddr = first;
    if first.is_ipv4() != v4 {
        return Err(entry.wrong(if v4 { "which is IPv6" } else { "which is IPv4" }, example));
    }
    if !(shortest..=longest).contains(&length) {
        return Err(entry.wrong("which has another length", example));
    }
    let range = Range { first, length };
    let last = match first {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(v6) => u32::try_from(v6.to_bits() & 0xffff_ffff).unwrap_or_default(),
    };
    if last & range.hosts() != 0 {
        let whole = match first {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !range.hosts())),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(range.hosts()))),
        };
        let write = format!("{} = \"{}\"", entry.key, Range { first: whole, length });
        return Err(entry.wrong("which has bits set behind its length", write));
    }
    match values::unfit(first) {
        Some(why) => Err(entry.wrong(why, example)),
        None => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_chooses_the_bits_behind_the_prefix() {
        for (first, length, hosts) in
            [("10.9.0.0", 24, 0xff), ("10.9.0.0", 16, 0xffff), ("10.9.0.0", 31, 1), ("fd00::", 112, 0xffff)]
        {
            assert_eq!(Range { first: first.parse().unwrap(), length }.hosts(), hosts, "{first}/{length}");
        }
        assert_eq!(Range { first: "fd00::".parse().unwrap(), length: 96 }.hosts(), u32::MAX);
    }
}
