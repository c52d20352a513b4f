//! Parts of configurations for tests.

#![expect(clippy::cast_possible_truncation, reason = "every number here is small")]

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use edge_common::abi::{AnswerLimits, HashKey, Mode, Tracking, VipOther, WhenExhausted};

use crate::config::{Announce, Backend, Config, Judging, Limits, Nat, Pool, Ports, Protocol, Service, Tunnel, Weights};

pub(crate) const LIMITS: Limits = Limits {
    named: [true; 4],
    services: 6,
    destinations: 32,
    pools: 5,
    backends: 30,
    flows: 1024,
    flows_per_second: 256,
    nat_flows: None,
    fragments: 64,
    first_fragments_per_second: 128,
    answers: AnswerLimits::all(32),
};

/// Slots of each service.
pub(crate) const SLOTS: u32 = 1024;

/// A configuration with nothing in it.
pub(crate) fn empty() -> Config {
    Config {
        hash_key: HashKey(std::array::from_fn(|i| 0x9e37_79b9_u32.wrapping_mul(i as u32 + 1))),
        vip_other: VipOther::Drop,
        soak: Duration::from_mins(5),
        reference_targets: Vec::new(),
        http: None,
        notify: Vec::new(),
        interfaces: Vec::new(),
        nat: Nat::default(),
        tunnel: Tunnel { source_v4: Some(Ipv4Addr::new(10, 0, 0, 1)), ..Tunnel::default() },
        limits: LIMITS,
        pools: Vec::new(),
        services: Vec::new(),
        text: "# nothing\n".to_owned(),
        weights: Weights::default(),
    }
}

/// A pool of backends `b0`, `b1` and so on, given by their numbers and the last bytes of their addresses.
pub(crate) fn pool(name: &str, addresses: &[(usize, u8)]) -> Pool {
    let backends = addresses
        .iter()
        .map(|&(n, last)| Backend {
            name: format!("b{n}"),
            address: IpAddr::V4(Ipv4Addr::new(10, 1, name.bytes().map(|b| b % 100).sum(), last)),
            weight: 100,
            file_weight: 100,
            probe_port: None,
            probe_host: None,
            port: None,
            server_number: None,
        })
        .collect();
    Pool { name: name.to_owned(), min_healthy: 1, probe: None, judging: Judging::default(), backends }
}

pub(crate) fn service(name: &str, vip: IpAddr, port: u16, protocol: Protocol, pools: Vec<usize>) -> Service {
    Service {
        name: name.to_owned(),
        vips: vec![vip],
        ports: vec![Ports {
            first: port,
            last: port,
            protocol,
            tracking: if protocol == Protocol::Tcp { Tracking::Tcp } else { Tracking::Stateless },
            flow_idle_timeout: Duration::from_mins(5),
            learn: Duration::from_secs(30),
            translated: false,
        }],
        mode: Mode::Ipip,
        backend_port: None,
        sticks: false,
        tells_client: false,
        pools,
        slots: SLOTS,
        when_exhausted: WhenExhausted::Open,
        announce: Announce::None,
        affinity: None,
        quic_cid: None,
    }
}
