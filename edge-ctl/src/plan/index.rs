//! The content of the service indexes.

use std::{collections::BTreeSet, net::IpAddr};

use edge_common::{
    abi::{ServiceEntryV4, ServiceEntryV6, ServiceKeyV4, ServiceKeyV6, ServiceRef, Tracking, map},
    tables::service_index,
    wire::protocol,
};

use super::{Capacity, NewService, PlanError, numbers::narrow};
use crate::config::Config;

/// Both indexes of `config`, given its services' numbers: an entry for each destination, and one for each VIP itself.
pub(super) fn build(
    config: &Config,
    capacity: &Capacity,
    services: &[NewService],
) -> Result<(Vec<ServiceEntryV4>, Vec<ServiceEntryV6>), PlanError> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    let mut vips = BTreeSet::new();
    for (service, new) in config.services.iter().zip(services) {
        for (vip, port, ports) in service.destinations() {
            let (port, protocol) = (port.to_be_bytes(), ports.protocol.number());
            let service_ref = ServiceRef::new(narrow(new.number), service.slots, new.service.slots)
                .with_mode(config.tunnel.forwards(service.mode))
                .with_flows(ports.tracking, service.affinity.map(|affinity| affinity.prefix(vip)));
            let service_ref = if service.quic_cid.is_some() && ports.tracking == Tracking::Quic {
                service_ref.by_connection()
            } else {
                service_ref
            };
            match vip {
                IpAddr::V4(vip) => v4.push((ServiceKeyV4::new(vip.octets(), port, protocol), service_ref)),
                IpAddr::V6(vip) => v6.push((ServiceKeyV6::new(vip.octets(), port, protocol), service_ref)),
            }
        }
        vips.extend(&service.vips);
    }
    // The controller fills in whether a VIP is the host's: it has the host's addresses.
    let vip_itself = ServiceRef::vip(false);
    for vip in vips {
        match vip {
            IpAddr::V4(vip) => v4.push((ServiceKeyV4::new(vip.octets(), [0; 2], protocol::ICMP), vip_itself)),
            IpAddr::V6(vip) => v6.push((ServiceKeyV6::new(vip.octets(), [0; 2], protocol::ICMPV6), vip_itself)),
        }
    }
    let key = &config.hash_key;
    let full = |map| PlanError::Index { map };
    Ok((
        service_index::build(&v4, key, capacity.index_v4).ok_or(full(map::SERVICE_INDEX_V4))?,
        service_index::build(&v6, key, capacity.index_v6).ok_or(full(map::SERVICE_INDEX_V6))?,
    ))
}
