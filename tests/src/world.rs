//! A small world of services, pools and backends, in the layout of the maps.

mod layout;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use edge_common::{
    abi::{
        AddressPrefix, AnswerLimits, Backend, DecapSettings, Failover, HashKey, MAX_STATIONS, Mac, Mode,
        SLOTS_PER_CELL, State, Station, Tracking, VipOther, WhenExhausted,
    },
    hash::Hash,
    maps::Route,
};

use crate::{
    namespace::{EDGE0, LO},
    packet::{Ip, Udp},
};

/// UDP port of packets in `gue`.
pub const GUE_PORT: u16 = 6080;
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0xcc, 0, 1];
pub const EDGE_MAC: [u8; 6] = [0x02, 0, 0, 0xed, 0, 1];
/// The edge's second MAC address: that of VRRP for virtual router 7.
pub const VIRTUAL_MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x01, 7];

/// States of a backend: up, drained, down, disabled.
pub const UP: u32 = State::NEW | State::ALIVE | State::ENABLED | State::UP;
pub const DRAINED: u32 = State::ALIVE | State::ENABLED | State::DRAINED | State::UP;
pub const DOWN: u32 = State::ENABLED | State::DOWN;
pub const DISABLED: u32 = State::DISABLED;

const KEY: HashKey = HashKey([
    0x243f_6a88,
    0x85a3_08d3,
    0x1319_8a2e,
    0x0370_7344,
    0xa409_3822,
    0x299f_31d0,
    0x082e_fa98,
    0xec4e_6c89,
    0x4528_21e6,
    0x38d0_1377,
    0xbe54_66cf,
    0x34e9_0c6c,
]);

/// An address family, and the world's addresses in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    V4,
    V6,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    const fn address(self, v4: [u8; 4], v6: u16) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::from_octets(v4)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, v6)),
        }
    }

    pub const fn vip(self) -> IpAddr {
        self.address([192, 0, 2, 10], 0x10)
    }

    pub const fn client(self) -> IpAddr {
        self.address([198, 51, 100, 7], 0x7)
    }

    /// An address that is no VIP.
    pub const fn other(self) -> IpAddr {
        self.address([192, 0, 2, 11], 0x11)
    }

    /// A VIP that is not an address of the host.
    pub const fn closed(self) -> IpAddr {
        self.address([192, 0, 2, 12], 0x12)
    }

    /// The first address of a prefix of VIPs.
    pub const fn anycast(self) -> IpAddr {
        self.address([192, 0, 3, 0], 0xa000)
    }

    /// The source address of translated packets.
    pub const fn source(self) -> IpAddr {
        self.address([203, 0, 113, 5], 0x5)
    }

    /// The edge's end of tunnels.
    pub const fn tunnel(self) -> IpAddr {
        self.address([203, 0, 113, 1], 0x1)
    }

    /// The first of 256 addresses that packets in `ipip` may come from.
    pub const fn range(self) -> IpAddr {
        self.address([203, 0, 114, 0], 0xb000)
    }

    /// A router on the way from the edge to a backend.
    pub const fn router(self) -> IpAddr {
        self.address([203, 0, 113, 99], 0x99)
    }

    /// Address of a backend by its number.
    pub const fn backend(self, number: u8) -> IpAddr {
        self.address([10, 1, 0, number], 0x100 + number as u16)
    }
}

/// An address as the ABI stores it.
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// An address as a decapsulating backend stores it.
pub fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The address as a VIP of its own, a prefix of full length.
pub fn single_vip(address: IpAddr) -> AddressPrefix {
    AddressPrefix { address: mapped(address), length: 128 }
}

/// The description of a pool.
#[derive(Clone, Debug)]
pub struct PoolPlan {
    pub members: Vec<u16>,
    /// Weights of the members whose weight is not 100.
    pub weights: BTreeMap<u16, u32>,
    pub min_healthy: u16,
    /// Number of places in the fixed order of slots that still pass the pool over.
    pub withheld: u32,
}

/// The description of a service.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    pub vip: IpAddr,
    pub port: u16,
    pub protocol: u8,
    pub mode: Mode,
    pub pools: Vec<u16>,
    pub when_exhausted: WhenExhausted,
    pub failover: Failover,
    pub tracking: Tracking,
    pub in_transition: bool,
    /// Time of the last change that redirected new flows, in units; 0 for never.
    pub redirected: u32,
    /// Number of bits of the client's address that are hashed; `None` hashes the whole flow.
    pub affinity: Option<u8>,
    /// Position of the server's number in connection IDs: first bit, and number of bits.
    pub quic_cid: Option<(u8, u8)>,
    /// In `nat`, the port of backends that have none of their own; 0 keeps the client's destination port.
    pub backend_port: u16,
    /// In `nat`, whether flows stay with a backend that is down.
    pub sticks: bool,
    pub tells_client: bool,
}

/// The edge's stations: its own address on each interface, and a virtual one on the first interface.
pub fn stations() -> [Station; MAX_STATIONS] {
    let mut stations = [Station::default(); MAX_STATIONS];
    stations[0] = Station::new(LO, Mac::new(EDGE_MAC));
    stations[1] = Station::new(EDGE0, Mac::new(EDGE_MAC));
    // Behind unused entries: the entries in use need not be adjacent.
    stations[MAX_STATIONS - 1] = Station::new(LO, Mac::new(VIRTUAL_MAC));
    stations
}

/// The description of translation.
#[derive(Clone, Debug)]
pub struct NatWorld {
    pub sources: Vec<IpAddr>,
    pub first_port: u16,
    pub ports: u32,
    /// Entries per port.
    pub lanes: u32,
    /// Whether no entry is ever taken from its flow at any time: the real program's clock differs from the test's.
    pub keeps: bool,
}

/// The whole description. After a change, build the [`Memory`] anew.
#[derive(Clone, Debug)]
pub struct World {
    /// Number of slots per service, a power of two.
    pub slots: u32,
    /// Entry 0 stands for no backend.
    pub backends: Vec<Backend>,
    pub pools: Vec<PoolPlan>,
    pub services: Vec<ServicePlan>,
    /// Additional index entries: address, port, protocol, and the service that they lead to.
    pub strays: Vec<(IpAddr, u16, u8, u16)>,
    pub routes: Vec<([u8; 16], Route)>,
    /// Addresses and their roles for the decapsulation.
    pub decap_addresses: Vec<([u8; 16], u32)>,
    pub decap_vips: Vec<AddressPrefix>,
    pub decap_edges: Vec<AddressPrefix>,
    pub decap_settings: DecapSettings,
    /// Variant of packets in `gue`.
    pub gue_variant: u16,
    /// Whether packets in `ipip` come from the addresses of [`Side::range`].
    pub ranges: bool,
    /// Flows that may be recorded in a second, of either kind.
    pub records_per_second: u32,
    /// Answers of each kind that may be sent in a second.
    pub answers_per_second: AnswerLimits,
    /// First fragments that may be remembered in a second.
    pub first_fragments_per_second: u32,
    /// Policy for packets to a VIP that belong to no service. In most tests all VIPs are the host's.
    pub vip_other: VipOther,
    /// VIPs that are addresses of the host, where this is configured per VIP.
    pub host_vips: Vec<IpAddr>,
    /// `None` if nothing is translated.
    pub nat: Option<NatWorld>,
}

impl World {
    pub fn new(slots: u32) -> Self {
        Self {
            slots,
            backends: vec![Backend::default()],
            pools: Vec::new(),
            services: Vec::new(),
            strays: Vec::new(),
            routes: Vec::new(),
            decap_addresses: Vec::new(),
            decap_vips: Vec::new(),
            decap_edges: Vec::new(),
            decap_settings: DecapSettings::default(),
            gue_variant: 1,
            ranges: false,
            records_per_second: 1 << 30,
            answers_per_second: AnswerLimits::all(1 << 30),
            first_fragments_per_second: 1 << 30,
            vip_other: VipOther::Host,
            host_vips: Vec::new(),
            nat: None,
        }
    }

    /// Adds a backend that is up, behind interface `egress`, with a known next hop; returns its number.
    pub fn backend(&mut self, side: Side, egress: u32) -> u16 {
        let number = u8::try_from(self.backends.len()).expect("a small world");
        self.backends.push(Backend {
            state: UP,
            egress,
            next_hop: Mac::new([0x02, 0, 0, 0xbb, 0, number]),
            source_mac: Mac::new([0x02, 0, 0, 0xee, 0, u8::try_from(egress).expect("a small index")]),
            mtu: 1500,
            family: if side == Side::V4 { 4 } else { 6 },
            address: octets(side.backend(number)),
            ..Backend::default()
        });
        number.into()
    }

    /// Adds a pool of backends; returns its number.
    pub fn pool(&mut self, members: &[u16], min_healthy: u16) -> u16 {
        let number = u16::try_from(self.pools.len()).expect("a small world");
        for member in members {
            self.backends[usize::from(*member)].pool = number;
        }
        self.pools.push(PoolPlan { members: members.to_vec(), weights: BTreeMap::new(), min_healthy, withheld: 0 });
        number
    }

    /// Adds a service that fails open; returns its number.
    pub fn service(&mut self, vip: IpAddr, port: u16, protocol: u8, mode: Mode, pools: &[u16]) -> u32 {
        let number = u32::try_from(self.services.len()).expect("a small world");
        self.services.push(ServicePlan {
            vip,
            port,
            protocol,
            mode,
            pools: pools.to_vec(),
            when_exhausted: WhenExhausted::Open,
            failover: Failover::default(),
            tracking: if protocol == 6 { Tracking::Tcp } else { Tracking::Stateless },
            in_transition: true,
            redirected: 0,
            affinity: None,
            quic_cid: None,
            backend_port: 0,
            sticks: false,
            tells_client: false,
        });
        number
    }

    /// Cells that a service's slots take.
    pub const fn slot_cells(&self) -> u32 {
        self.slots.div_ceil(SLOTS_PER_CELL)
    }

    /// A backend's number in connection IDs.
    pub const fn server_number(backend: u16) -> u32 {
        0x9a00 + backend as u32 * 3
    }

    /// Hash of the flow from `client` and port `source` to `port`.
    pub fn flow(client: IpAddr, source: u16, port: u16) -> Hash {
        let ([a, b], [c, d]) = (source.to_be_bytes(), port.to_be_bytes());
        let ports = u32::from_le_bytes([a, b, c, d]);
        match client {
            IpAddr::V4(address) => KEY.hash_v4(address.octets(), ports),
            IpAddr::V6(address) => KEY.hash_v6(address.octets(), ports),
        }
    }

    /// Identification of the outer IPv4 packet of a flow with this label, if DF is set.
    pub fn fingerprint(label: u32) -> u16 {
        let [.., high, low] = label.to_be_bytes();
        u16::from_be_bytes([low, high])
    }

    /// Source address in `ipip` of a flow with this label.
    pub fn ipip_source(&self, side: Side, label: u32) -> IpAddr {
        if !self.ranges {
            return side.tunnel();
        }
        match side.range() {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | label & 0xff).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | u128::from(label & 0xff)).into(),
        }
    }

    /// The UDP datagram that carries a packet of a flow with this label.
    pub fn in_udp(&self, label: u32, inner: &Ip) -> Udp {
        let header = match self.gue_variant {
            0 => vec![0, if inner.source.is_ipv4() { 4 } else { 41 }, 0, 0],
            _ => Vec::new(),
        };
        let source = 0xc000 | u16::try_from(label >> 6).expect("twenty bits");
        Udp {
            source,
            destination: GUE_PORT,
            data: [header, inner.bytes()].concat(),
            checksum: Some(0),
            ..Udp::default()
        }
    }

    /// The flow's slot.
    pub fn slot(&self, client: IpAddr, source: u16, port: u16) -> u32 {
        Self::flow(client, source, port).slot(self.slots - 1)
    }
}
