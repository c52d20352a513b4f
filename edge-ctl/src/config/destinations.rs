//! Where clients connect to: lists of VIPs and ports, as the file writes them and as they are shown.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    Protocol,
    values::{self, Entry, Wrong},
    walk::Found,
};

/// The most VIPs that one prefix of the file stands for: longer lists are no service, but a mistake.
const LONGEST_PREFIX: u32 = 16;

pub(super) const VIPS: &str = "vips = [\"192.0.2.10\", \"2001:db8::10\", \"198.51.100.0/28\"]";
pub(super) const PORTS: &str = "ports = [\"80/tcp\", \"443/tcp\", \"443/quic\"]";

/// Ports as `ports` or `port` of the file names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) protocol: Protocol,
    pub(super) quic: bool,
}

impl Named {
    /// Whether both name a port of one protocol. That takes every other port stands beside all of these.
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

/// VIPs: addresses, and prefixes that stand for all of their addresses.
pub(super) fn vips(entry: &Entry<'_>) -> Result<Vec<Found<IpAddr>>, Wrong> {
    let mut vips: Vec<Found<IpAddr>> = Vec::new();
    let mut known = HashSet::new();
    for (at, some) in values::list(entry, 1..=usize::MAX, VIPS, prefix)? {
        for vip in some {
            if !known.insert(vip) {
                let what = format!("`{}` has {vip} twice", entry.key);
                return Err(Wrong {
                    what,
                    write: "each address once; a prefix stands for all of its".to_owned(),
                    at: Some(at),
                });
            }
            vips.push(Found { value: vip, at });
        }
    }
    Ok(vips)
}

/// The addresses of a prefix, or the one address.
fn prefix(entry: &Entry<'_>) -> Result<Vec<IpAddr>, Wrong> {
    let text = entry.string(VIPS)?;
    let Some((front, length)) = text.split_once('/') else {
        return values::address("\"192.0.2.10\"")(entry).map(|address| vec![address]);
    };
    let example = "a prefix as \"198.51.100.0/28\", which stands for its 16 addresses";
    let (Ok(network), Ok(length)) = (front.parse::<IpAddr>(), length.parse::<u32>()) else {
        return Err(entry.wrong("which is no prefix", example));
    };
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
    let number = match network {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let address = |number: u128| match network {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    };
    let first = number >> host << host;
    if first != number {
        let write = format!("\"{}/{length}\", or \"{network}\" for this address alone", address(first));
        return Err(entry.wrong("which has bits set behind its length", write));
    }
    let all: Vec<_> = (0..1u128 << host).map(|place| address(first + place)).collect();
    if let Some((bad, why)) = all.iter().find_map(|&vip| Some((vip, values::unfit(vip)?))) {
        return Err(entry.wrong(&format!("and {bad} in it is {why}"), example));
    }
    Ok(all)
}

/// Ports with their protocol, singly or in ranges.
pub(super) fn ports(entry: &Entry<'_>) -> Result<Vec<Found<Named>>, Wrong> {
    let mut all: Vec<Found<Named>> = Vec::new();
    for (at, value) in values::list(entry, 1..=usize::MAX, PORTS, port)? {
        check_distinct(&all, value).map_err(|wrong| Wrong { at: Some(at), ..wrong })?;
        all.push(Found { value, at });
    }
    Ok(all)
}

/// Refuses ports of which `known` has some already.
pub(super) fn check_distinct(known: &[Found<Named>], ports: Named) -> Result<(), Wrong> {
    match known.iter().find(|known| known.value.overlaps(ports)) {
        None => Ok(()),
        Some(first) => Err(Wrong {
            what: format!("{ports} has a port that {} has already", first.value),
            write: "each port of a protocol once; \"443/quic\" is UDP, too".to_owned(),
            at: None,
        }),
    }
}

/// One port, a range, or all that are left, of a protocol.
pub(super) fn port(entry: &Entry<'_>) -> Result<Named, Wrong> {
    const EXAMPLE: &str = "\"443/tcp\", \"53/udp\", \"443/quic\", a range as \"27015-27030/udp\", or \"any/tcp\"";
    let text = entry.string(EXAMPLE)?;
    let Some((numbers, protocol)) = text.split_once('/') else {
        let write = match text.parse::<u16>() {
            Ok(port) => format!("\"{port}/tcp\", \"{port}/udp\" or \"{port}/quic\""),
            Err(_) => EXAMPLE.to_owned(),
        };
        return Err(entry.wrong("which lacks a protocol", write));
    };
    let (protocol, quic) = match protocol {
        "tcp" => (Protocol::Tcp, false),
        "udp" => (Protocol::Udp, false),
        "quic" => (Protocol::Udp, true),
        "http" | "https" | "h2" | "tls" => {
            return Err(entry.wrong(
                "which names no protocol of this edge: it sees connections, not requests",
                format!("\"{numbers}/tcp\""),
            ));
        }
        "http3" | "h3" => return Err(entry.wrong("which is called quic here", format!("\"{numbers}/quic\""))),
        _ => return Err(entry.wrong("which names neither tcp, udp nor quic", EXAMPLE)),
    };
    if numbers == "any" {
        return Ok(Named { first: 0, last: 0, protocol, quic });
    }
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|&port| port != 0)
            .ok_or_else(|| entry.wrong("whose ports are not from 1 to 65535", EXAMPLE))
    };
    let (first, last) = match numbers.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(numbers)?, number(numbers)?),
    };
    if first > last {
        return Err(entry.wrong(
            "whose first port is behind its last",
            format!("\"{last}-{first}/{}\"", text.rsplit('/').next().unwrap_or("tcp")),
        ));
    }
    Ok(Named { first, last, protocol, quic })
}
