//! IPv4 (RFC 791) and IPv6 (RFC 8200) packets; the family of the addresses selects the version.

use std::net::IpAddr;

use super::{
    checksum::rfc_1071,
    icmp::Icmp,
    protocol,
    transport::{Tcp, Udp},
};

/// The payload of an IP packet.
#[derive(Clone, Debug)]
pub enum Payload {
    Tcp(Tcp),
    Udp(Udp),
    Icmp(Icmp),
    Ip(Box<Ip>),
    /// A protocol number, and the bytes after the header.
    Other(u8, Vec<u8>),
}

/// An IPv6 extension header.
#[derive(Clone, Debug)]
pub struct Extension {
    pub kind: u8,
    /// The extension header without its first byte, which is the next header's number.
    pub rest: Vec<u8>,
}

impl Extension {
    /// An options or routing header of `8 * (eights + 1)` bytes without meaning.
    pub fn filler(kind: u8, eights: u8) -> Self {
        let length = 8 * (usize::from(eights) + 1);
        let mut rest = vec![0; length - 1];
        rest[0] = eights;
        if kind != protocol::ROUTING {
            // One or several PadN options (RFC 8200, section 4.2), each of 255 bytes at most.
            let mut at = 1;
            while at < rest.len() {
                let body = (rest.len() - at - 2).min(255);
                rest[at] = 1;
                rest[at + 1] = u8::try_from(body).expect("at most 255");
                at += body + 2;
                if rest.len() - at == 1 {
                    // A Pad1 option.
                    at += 1;
                }
            }
        }
        Self { kind, rest }
    }

    /// A fragment header; `offset` counts units of eight bytes.
    pub fn fragment(offset: u16, more: bool, id: u32) -> Self {
        let mut rest = vec![0];
        rest.extend((offset << 3 | u16::from(more)).to_be_bytes());
        rest.extend(id.to_be_bytes());
        Self { kind: protocol::FRAGMENT, rest }
    }
}

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Ip {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 only, as are all fields up to `options`.
    pub id: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    /// In units of eight bytes.
    pub fragment_offset: u16,
    /// A multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 only, as are the extensions.
    pub flow_label: u32,
    pub extensions: Vec<Extension>,
    pub payload: Payload,
    /// Set only to write a wrong value, as are all fields below.
    pub version: Option<u8>,
    /// IPv4: length of the header in 32-bit words.
    pub header_words: Option<u8>,
    /// IPv4: length of the packet; IPv6: length of all that follows the header.
    pub length: Option<u16>,
    /// Protocol number of what follows the header; in IPv6 that of what follows the extensions.
    pub protocol: Option<u8>,
    pub checksum: Option<u16>,
}

/// A packet to a backend with its flow's label, if it has room for one: routers may fragment a packet without DF.
pub fn labelled(mut ip: Ip, label: u32) -> Ip {
    match (ip.source.is_ipv4(), ip.dont_fragment) {
        (true, true) => ip.id = u16::try_from(label & 0xffff).expect("masked").swap_bytes(),
        (true, false) => {}
        (false, _) => ip.flow_label = label,
    }
    ip
}

impl Ip {
    /// # Panics
    /// If the addresses are of two families.
    pub fn new(source: IpAddr, destination: IpAddr, payload: Payload) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one packet is of one family");
        Self {
            source,
            destination,
            tos: 0,
            ttl: 64,
            id: 0,
            dont_fragment: source.is_ipv4(),
            more_fragments: false,
            fragment_offset: 0,
            options: Vec::new(),
            flow_label: 0,
            extensions: Vec::new(),
            payload,
            version: None,
            header_words: None,
            length: None,
            protocol: None,
            checksum: None,
        }
    }

    /// Protocol number of the payload.
    fn carries(&self) -> u8 {
        match &self.payload {
            Payload::Tcp(_) => protocol::TCP,
            Payload::Udp(_) => protocol::UDP,
            Payload::Icmp(_) if self.source.is_ipv4() => protocol::ICMP,
            Payload::Icmp(_) => protocol::ICMPV6,
            Payload::Ip(ip) if ip.source.is_ipv4() => protocol::IPV4,
            Payload::Ip(_) => protocol::IPV6,
            Payload::Other(number, _) => *number,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.v4(source.octets(), destination.octets()),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.v6(source.octets(), destination.octets()),
            _ => panic!("one packet is of one family"),
        }
    }

    fn v4(&self, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let addresses = [source, destination].concat();
        let pseudo = |length: usize| {
            let length = u16::try_from(length).expect("a packet's length").to_be_bytes();
            [&addresses[..], &[0, self.carries()], &length].concat()
        };
        let payload = self.payload(pseudo, |_| Vec::new());
        let header = 20 + self.options.len();
        let words = u8::try_from(header / 4).expect("options of an IPv4 header");
        let length = u16::try_from(header + payload.len()).expect("a packet's length");
        let fragment =
            u16::from(self.dont_fragment) << 14 | u16::from(self.more_fragments) << 13 | self.fragment_offset;
        let mut bytes = vec![self.version.unwrap_or(4) << 4 | self.header_words.unwrap_or(words), self.tos];
        bytes.extend(self.length.unwrap_or(length).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol.unwrap_or(self.carries()), 0, 0]);
        bytes.extend(addresses);
        bytes.extend(&self.options);
        let checksum = self.checksum.unwrap_or_else(|| rfc_1071(&[&bytes]));
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn v6(&self, source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
        let addresses = [source, destination].concat();
        let pseudo = |length: usize| {
            let length = u32::try_from(length).expect("a packet's length").to_be_bytes();
            [&addresses[..], &length, &[0, 0, 0, self.carries()]].concat()
        };
        let mut follows = Vec::new();
        for (number, extension) in self.extensions.iter().enumerate() {
            follows.push(self.extensions.get(number + 1).map_or(self.carries(), |next| next.kind));
            follows.extend(&extension.rest);
        }
        follows.extend(self.payload(pseudo, pseudo));
        let first = self.extensions.first().map_or(self.carries(), |first| first.kind);
        let length = u16::try_from(follows.len()).expect("a packet's length");
        let word = u32::from(self.version.unwrap_or(6)) << 28 | u32::from(self.tos) << 20 | self.flow_label;
        let mut bytes = word.to_be_bytes().to_vec();
        bytes.extend(self.length.unwrap_or(length).to_be_bytes());
        bytes.extend([self.protocol.unwrap_or(first), self.ttl]);
        bytes.extend(addresses);
        bytes.extend(follows);
        bytes
    }

    /// The payload's bytes. `pseudo` and `icmp_pseudo` build the pseudo-header for a length.
    fn payload(&self, pseudo: impl Fn(usize) -> Vec<u8>, icmp_pseudo: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
        match &self.payload {
            Payload::Tcp(tcp) => tcp.bytes(&pseudo(20 + tcp.options.len() + tcp.data.len())),
            Payload::Udp(udp) => udp.bytes(&pseudo(8 + udp.data.len())),
            Payload::Icmp(icmp) => icmp.bytes(&icmp_pseudo(8 + icmp.data.len())),
            Payload::Ip(ip) => ip.bytes(),
            Payload::Other(_, bytes) => bytes.clone(),
        }
    }
}
