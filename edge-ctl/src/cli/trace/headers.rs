//! The headers of a traced frame, as far as a line of text shows them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use edge_common::wire::protocol::{ICMP, ICMPV6, IPV4, IPV6, IPV6_FRAGMENT, TCP, UDP};
use serde::Serialize;

/// EtherTypes: VLAN tags, IPv4, IPv6.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IS_V4: u16 = 0x0800;
const IS_V6: u16 = 0x86dd;
/// Names of TCP's flags from the lowest bit, as tcpdump has them.
const FLAGS: [(u8, char); 6] = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (0x20, 'U'), (0x10, '.')];
/// IPv6 extension headers that are skipped: hop-by-hop options, routing, destination options.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const MOST_EXTENSIONS: usize = 6;

/// The headers of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Headers {
    /// VLAN identifiers, the outer one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) vlans: Vec<u16>,
    /// The station that the frame is sent to.
    pub(super) station: String,
    #[serde(flatten)]
    pub(super) network: Network,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Network {
    Ip(Box<Packet>),
    /// Another network protocol.
    Other {
        ether_type: u16,
    },
}

/// An IP packet, or the start of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ports: Option<[u16; 2]>,
    /// TCP's flags, as tcpdump has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flags: Option<String>,
    /// ICMP type and code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icmp: Option<[u8; 2]>,
    /// Offset of a fragment, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fragment: Option<u16>,
    /// The packet in a tunnel, or quoted by an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inner: Option<Box<Self>>,
}

impl Headers {
    /// Reads the start of a frame; `None` if it ends in the link layer.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let station = frame.get(..6)?.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
        let (mut vlans, mut at) = (Vec::new(), 12);
        let mut ether_type = word(frame, at)?;
        while TAGS.contains(&ether_type) && vlans.len() < 2 {
            vlans.push(word(frame, at + 2)? & 0xfff);
            at += 4;
            ether_type = word(frame, at)?;
        }
        let packet = matches!(ether_type, IS_V4 | IS_V6).then(|| Packet::read(frame.get(at + 2..)?, 2)).flatten();
        let network = packet.map_or(Network::Other { ether_type }, |packet| Network::Ip(Box::new(packet)));
        Some(Self { vlans, station, network })
    }
}

impl Packet {
    /// Reads a packet, and up to `depth` packets in it.
    fn read(bytes: &[u8], depth: usize) -> Option<Self> {
        if bytes.first()? >> 4 == 4 { Self::v4(bytes, depth) } else { Self::v6(bytes, depth) }
    }

    fn v4(bytes: &[u8], depth: usize) -> Option<Self> {
        let header = usize::from(bytes.first()? & 0xf) * 4;
        let fragment = word(bytes, 6)?;
        let is_fragment = fragment & 0x3fff != 0;
        let address = |at| Some(IpAddr::V4(Ipv4Addr::from_octets(*bytes.get(at..)?.first_chunk()?)));
        let ends = [address(12)?, address(16)?];
        let offset = is_fragment.then_some((fragment & 0x1fff) * 8);
        Some(Self::of(ends, *bytes.get(9)?, offset, bytes.get(header..).unwrap_or_default(), depth))
    }

    fn v6(bytes: &[u8], depth: usize) -> Option<Self> {
        let address = |at| Some(IpAddr::V6(Ipv6Addr::from_octets(*bytes.get(at..)?.first_chunk()?)));
        let ends = [address(8)?, address(24)?];
        let (mut next, mut at, mut fragment) = (*bytes.get(6)?, 40, None);
        for _ in 0..MOST_EXTENSIONS {
            let Some(&[following, length]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else { break };
            if next == IPV6_FRAGMENT {
                fragment = Some(word(bytes, at + 2)? & 0xfff8);
                (next, at) = (following, at + 8);
            } else if EXTENSIONS.contains(&next) {
                (next, at) = (following, at + 8 + usize::from(length) * 8);
            } else {
                break;
            }
        }
        Some(Self::of(ends, next, fragment, bytes.get(at..).unwrap_or_default(), depth))
    }

    fn of([source, destination]: [IpAddr; 2], number: u8, fragment: Option<u16>, rest: &[u8], depth: usize) -> Self {
        let rest = if fragment.unwrap_or(0) == 0 { rest } else { &[] };
        let protocol = match number {
            TCP => "tcp".to_owned(),
            UDP => "udp".to_owned(),
            ICMP => "icmp".to_owned(),
            ICMPV6 => "icmpv6".to_owned(),
            IPV4 | IPV6 => "ipip".to_owned(),
            other => format!("protocol {other}"),
        };
        let mut packet =
            Self { source, destination, protocol, ports: None, flags: None, icmp: None, fragment, inner: None };
        let inner = |at: usize| {
            let bytes = rest.get(at..)?;
            if depth == 0 { None } else { Self::read(bytes, depth - 1).map(Box::new) }
        };
        match number {
            TCP | UDP => {
                packet.ports = word(rest, 0).zip(word(rest, 2)).map(|(from, to)| [from, to]);
                packet.flags = (number == TCP).then(|| rest.get(13).map(|flags| named(*flags))).flatten();
            }
            ICMP | ICMPV6 => {
                packet.icmp = rest.first_chunk().copied();
                let is_error = match (number, packet.icmp) {
                    (ICMP, Some([kind, _])) => matches!(kind, 3 | 4 | 5 | 11 | 12),
                    (_, Some([kind, _])) => kind < 128,
                    _ => false,
                };
                packet.inner = is_error.then(|| inner(8)).flatten();
            }
            IPV4 | IPV6 => packet.inner = inner(0),
            _ => {}
        }
        packet
    }
}

/// The flags of a TCP header.
fn named(flags: u8) -> String {
    FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| name).collect()
}

/// A number of two bytes in network order.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for vlan in &self.vlans {
            write!(f, "vlan {vlan} ")?;
        }
        match &self.network {
            Network::Ip(packet) => packet.fmt(f),
            Network::Other { ether_type } => write!(f, "ethertype {ether_type:#06x}"),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, protocol, ports, flags, icmp, fragment, inner } = self;
        f.write_str(protocol)?;
        if let Some(flags) = flags {
            write!(f, " [{flags}]")?;
        }
        if let Some([kind, code]) = icmp {
            write!(f, " {kind}/{code}")?;
        }
        match ports {
            Some([from, to]) => {
                write!(f, " {} > {}", SocketAddr::new(*source, *from), SocketAddr::new(*destination, *to))?;
            }
            None => write!(f, " {source} > {destination}")?,
        }
        if let Some(offset) = fragment {
            write!(f, " fragment at {offset}")?;
        }
        match inner {
            Some(inner) if icmp.is_some() => write!(f, " about {inner}"),
            Some(inner) => write!(f, " ({inner})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u8, fragment: u16, behind: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, number, 0, 0, 203, 0, 113, 7, 192, 0, 2, 10]);
        packet.extend(behind);
        packet
    }

    fn v6(next: u8, behind: &[u8]) -> Vec<u8> {
        let ends = ["2001:db8::7", "2001:db8:1::1"].map(|text| text.parse::<Ipv6Addr>().expect("v6").octets());
        [&[0x60, 0, 0, 0, 0, 0, next, 64], ends.concat().as_slice(), behind].concat()
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut header = vec![0xc0, 0, 1, 187];
        header.resize(13, 0);
        header.push(flags);
        header.resize(20, 0);
        header
    }

    fn read(tags: &[u16], ether_type: u16, packet: &[u8]) -> String {
        let mut frame = vec![2; 12];
        for tag in tags {
            frame.extend([0x81, 0]);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(packet);
        Headers::read(&frame).expect("a link layer").to_string()
    }

    #[test]
    fn a_line_has_what_an_operator_looks_for() {
        let error = [&[3, 4, 0, 0, 0, 0, 5, 120], v4(6, 0, &tcp(0)[..8]).as_slice()].concat();
        let lines = [
            read(&[], IS_V4, &v4(6, 0, &tcp(2))),
            read(&[7], IS_V4, &v4(6, 0, &tcp(0x18))),
            read(&[7, 8], IS_V6, &v6(17, &tcp(0))),
            read(&[], IS_V4, &v4(17, 0x2000, &tcp(0))),
            read(&[], IS_V4, &v4(17, 185, &tcp(0))),
            read(&[], IS_V6, &v6(44, &[&[6, 0, 0, 1, 0, 0, 0, 9], tcp(0x11).as_slice()].concat())),
            read(&[], IS_V4, &v4(1, 0, &error)),
            read(&[], IS_V4, &v4(4, 0, &v4(6, 0, &tcp(4)))),
            read(&[], IS_V4, &v4(47, 0, &[])),
            read(&[], 0x0806, &[]),
            read(&[], IS_V4, &v4(6, 0, &[])[..10]),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r"
        tcp [S] 203.0.113.7:49152 > 192.0.2.10:443
        vlan 7 tcp [P.] 203.0.113.7:49152 > 192.0.2.10:443
        vlan 7 vlan 8 udp [2001:db8::7]:49152 > [2001:db8:1::1]:443
        udp 203.0.113.7:49152 > 192.0.2.10:443 fragment at 0
        udp 203.0.113.7 > 192.0.2.10 fragment at 1480
        tcp [F.] [2001:db8::7]:49152 > [2001:db8:1::1]:443 fragment at 0
        icmp 3/4 203.0.113.7 > 192.0.2.10 about tcp 203.0.113.7:49152 > 192.0.2.10:443
        ipip 203.0.113.7 > 192.0.2.10 (tcp [R] 203.0.113.7:49152 > 192.0.2.10:443)
        protocol 47 203.0.113.7 > 192.0.2.10
        ethertype 0x0806
        ethertype 0x0800
        ");
    }

    #[test]
    fn a_frame_may_end_anywhere() {
        let whole =
            [&[2; 12], [8, 0].as_slice(), &v4(1, 0, &[&[3, 4, 0, 0, 0, 0, 0, 0], v6(6, &tcp(2)).as_slice()].concat())]
                .concat();
        for length in 0..whole.len() {
            let _read = Headers::read(&whole[..length]);
        }
    }
}
