//! Lists of VIPs and ports, which clients connect to: parsing and display.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use edge_common::wire::protocol;

use super::{
    host::MOST,
    values::{self, Entry, Wrong},
    walk::Located,
};

/// Most host bits of a prefix of VIPs. A larger prefix is a mistake rather than a service.
const LONGEST_PREFIX: u32 = 16;

pub(super) const VIPS: &str = "vips = [\"192.0.2.10\", \"2001:db8::10\", \"198.51.100.0/28\"]";
pub(super) const PORTS: &str = "ports = [\"80/tcp\", \"443/tcp\", \"443/quic\"]";

/// Transport protocol of a service.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// TCP
    Tcp,
    /// UDP, and QUIC
    Udp,
}

impl Protocol {
    /// IP protocol number.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    /// Name of the protocol in the file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A port or range of ports, as in `ports` or `port` of the file. Both ends are 0 for `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) protocol: Protocol,
    pub(super) quic: bool,
}

impl Named {
    /// Whether the two have a port of the same protocol in common. `any` stands for the ports that no other entry
    /// names, so it overlaps only with another `any`.
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.quic { "quic" } else { self.protocol.name() };
        match (self.first, self.last) {
            (0, 0) => write!(f, "any/{protocol}"),
            (first, last) if first == last => write!(f, "{first}/{protocol}"),
            (first, last) => write!(f, "{first}-{last}/{protocol}"),
        }
    }
}

/// Reads a list of VIPs: addresses, and prefixes that stand for all of their addresses. `left` is the number of VIPs
/// that the file may still add, and is reduced by the VIPs of this list.
pub(super) fn vips(entry: &Entry<'_>, left: &Cell<usize>) -> Result<Vec<Located<IpAddr>>, Wrong> {
    let mut vips: Vec<Located<IpAddr>> = Vec::new();
    let mut known = HashSet::new();
    for (at, prefix) in values::list(entry, 1..=usize::MAX, VIPS, prefix)? {
        let wrong = |what, write: &str| Wrong { what, write: write.to_owned(), at: Some(at) };
        // Checked before the addresses are listed: a few lines can stand for more addresses than fit into memory.
        let Some(rest) = left.get().checked_sub(prefix.count()) else {
            let what = format!("the file has more than {} VIPs with this", MOST.destinations);
            return Err(wrong(what, "longer prefixes, or another edge for some of them"));
        };
        left.set(rest);
        for vip in prefix.addresses() {
            if !known.insert(vip) {
                let what = format!("`{}` has {vip} twice", entry.key);
                return Err(wrong(what, "each address once; a prefix stands for all of its"));
            }
            vips.push(Located { value: vip, at });
        }
    }
    Ok(vips)
}

/// A range of consecutive addresses.
struct Prefix {
    first: IpAddr,
    /// Number of host bits, at most [`LONGEST_PREFIX`].
    host: u32,
}

impl Prefix {
    const fn count(&self) -> usize {
        1 << self.host
    }

    fn address(&self, place: usize) -> IpAddr {
        match self.first {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() | u32::try_from(place).unwrap_or_default()).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() | place as u128).into(),
        }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        (0..self.count()).map(|place| self.address(place))
    }
}

/// A prefix, or one address.
fn prefix(entry: &Entry<'_>) -> Result<Prefix, Wrong> {
    let text = entry.string(VIPS)?;
    let Some((front, length)) = text.split_once('/') else {
        let is_range = text.split_once('-').is_some_and(|(first, _)| first.trim().parse::<IpAddr>().is_ok());
        if is_range {
            let write = "its addresses one by one, or prefixes, as \"198.51.100.0/28\" for 16 addresses";
            return Err(entry.wrong("a range, not an address or a prefix", write));
        }
        return values::address("\"192.0.2.10\"")(entry).map(|first| Prefix { first, host: 0 });
    };
    let example = "a prefix as \"198.51.100.0/28\", which stands for its 16 addresses";
    let (Ok(network), Some(length)) = (front.parse::<IpAddr>(), values::plain_number::<u32>(length)) else {
        let write = with_length(front, length).unwrap_or_else(|| example.to_owned());
        return Err(entry.wrong("which is no prefix", write));
    };
    // Clients send such packets as IPv4, which are looked up as that.
    if let (IpAddr::V6(_), IpAddr::V4(v4)) = (network, network.to_canonical()) {
        let write = match length.checked_sub(96) {
            Some(length @ 0..=32) => format!("\"{v4}/{length}\""),
            _ => example.to_owned(),
        };
        return Err(entry.wrong("a prefix of IPv4-mapped addresses", write));
    }
    let bits: u32 = if network.is_ipv4() { 32 } else { 128 };
    let Some(host) = bits.checked_sub(length) else {
        return Err(entry.wrong(&format!("which is longer than an address: {bits} bits"), example));
    };
    if host > LONGEST_PREFIX {
        let write = format!(
            "prefixes of at least {} bits: each address is an entry of the service index",
            bits - LONGEST_PREFIX
        );
        return Err(entry.wrong("which is too many addresses", write));
    }
    let first = match network {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(host).unwrap_or(0)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(host).unwrap_or(0)).into(),
    };
    if first != network {
        let write = format!("\"{first}/{length}\", or \"{network}\" for this address alone");
        return Err(entry.wrong("which has bits set behind its length", write));
    }
    let prefix = Prefix { first, host };
    // Unfit addresses form whole prefixes, or are the first or last address of all; so it is enough to check both ends.
    let ends = [first, prefix.address(prefix.count() - 1)];
    if let Some((bad, why)) = ends.into_iter().find_map(|vip| Some((vip, values::unfit(vip)?))) {
        return Err(entry.wrong(&format!("and {bad} in it is {why}"), example));
    }
    Ok(prefix)
}

/// The prefix for a network with a mask, as `192.0.2.0` and `255.255.255.0`.
fn with_length(network: &str, mask: &str) -> Option<String> {
    let (network, mask) = (network.parse::<Ipv4Addr>().ok()?.to_bits(), mask.parse::<Ipv4Addr>().ok()?.to_bits());
    let length = mask.leading_ones();
    let is_mask = mask.count_ones() == length && length + LONGEST_PREFIX >= 32;
    is_mask.then(|| format!("\"{}/{length}\"", Ipv4Addr::from_bits(network & mask)))
}

/// Ports that were read so far, by protocol and first port.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<(Protocol, u16), Named>);

impl Taken {
    /// Adds ports; refuses them if some of them were added before.
    pub(super) fn take(&mut self, ports: Named) -> Result<(), Wrong> {
        let before = self.0.range(..=(ports.protocol, ports.last)).next_back();
        if let Some((_, first)) = before.filter(|(_, first)| first.overlaps(ports)) {
            return Err(Wrong {
                what: format!("{ports} has a port that {first} has already"),
                write: "each port of a protocol once; \"443/quic\" is UDP, too".to_owned(),
                at: None,
            });
        }
        self.0.insert((ports.protocol, ports.first), ports);
        Ok(())
    }
}

/// Reads a list of ports with their protocols: single ports and ranges.
pub(super) fn ports(entry: &Entry<'_>, taken: &mut Taken) -> Result<Vec<Located<Named>>, Wrong> {
    let mut all: Vec<Located<Named>> = Vec::new();
    for (at, value) in values::list(entry, 1..=usize::MAX, PORTS, port)? {
        taken.take(value).map_err(|wrong| Wrong { at: Some(at), ..wrong })?;
        all.push(Located { value, at });
    }
    Ok(all)
}

/// Reads an entry of ports: a port, a range, or `any` for all ports that are left, with the protocol.
pub(super) fn port(entry: &Entry<'_>) -> Result<Named, Wrong> {
    let text = entry.string(EXAMPLE)?;
    named(text).map_err(|(why, write)| {
        let tidy = tidied(text).filter(|tidy| named(tidy).is_ok());
        entry.wrong(why, tidy.map_or(write, |tidy| format!("\"{tidy}\"")))
    })
}

const EXAMPLE: &str = "\"443/tcp\", \"53/udp\", \"443/quic\", a range as \"27015-27030/udp\", or \"any/tcp\"";

/// Parses an entry of ports; the error says why it is none, and what to write.
fn named(text: &str) -> Result<Named, (&'static str, String)> {
    let example = || EXAMPLE.to_owned();
    let Some((numbers, protocol)) = text.split_once('/') else {
        let write = match text.parse::<u16>() {
            Ok(port) => format!("\"{port}/tcp\", \"{port}/udp\" or \"{port}/quic\""),
            Err(_) => example(),
        };
        return Err(("which lacks a protocol", write));
    };
    let (protocol, quic) = match protocol {
        "tcp" => (Protocol::Tcp, false),
        "udp" => (Protocol::Udp, false),
        "quic" => (Protocol::Udp, true),
        other => return Err(other_protocol(numbers, &other.to_lowercase())),
    };
    if numbers == "any" {
        return Ok(Named { first: 0, last: 0, protocol, quic });
    }
    let number = |text: &str| {
        values::plain_number::<u16>(text)
            .filter(|&port| port != 0)
            .ok_or_else(|| ("which has a port outside 1 to 65535", example()))
    };
    let (first, last) = match numbers.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(numbers)?, number(numbers)?),
    };
    if first > last {
        let write = format!("\"{last}-{first}/{}\"", text.rsplit('/').next().unwrap_or("tcp"));
        return Err(("which has its first port after its last", write));
    }
    Ok(Named { first, last, protocol, quic })
}

fn other_protocol(numbers: &str, protocol: &str) -> (&'static str, String) {
    match protocol {
        "http" | "https" | "h2" | "tls" => {
            ("which names no protocol of this edge: it sees connections, not requests", format!("\"{numbers}/tcp\""))
        }
        "http3" | "h3" => ("which is called quic here", format!("\"{numbers}/quic\"")),
        _ => ("which names neither tcp, udp nor quic", EXAMPLE.to_owned()),
    }
}

/// The usual form of an entry in the spelling of other systems: `tcp:80`, `80:90/tcp`, `*/tcp`, `080/TCP`.
fn tidied(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let (front, back) = text.split_once('/').or_else(|| text.split_once(':'))?;
    let is_protocol = |word: &str| matches!(word, "tcp" | "udp" | "quic");
    let (numbers, protocol) = if is_protocol(front) { (back, front) } else { (front, back) };
    if matches!(numbers, "*" | "all") {
        return Some(format!("any/{protocol}"));
    }
    let plain = |number: &str| number.trim().trim_start_matches(['+', '0']).to_owned();
    let numbers: Vec<_> = numbers.split(['-', ':']).map(plain).collect();
    Some(format!("{}/{}", numbers.join("-"), protocol.trim()))
}
