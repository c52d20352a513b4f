//! Planning: turns a configuration and the previous generation into an image of what to write where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edge_common::{
    abi::{Generation, Timeouts, Tracking, map},
    flow_table::Class,
    nat,
    tables::service_index::vip_bits,
};

use super::{
    Capacity, Edition, Image, NatPlan, PlanError, Previous, Snapshot, index, numbers::full, pools, retired, services,
};
use crate::config::{Config, Ports, Range};

/// Plans the publication of `config` into maps of `capacity`, after `previous`.
///
/// Numbers are kept by name, and a backend's also by address: state of the old address must not follow to a new one.
/// Numbers and cells that the previous generation uses are not reassigned. A backend that is removed from the
/// configuration keeps its number in the generation after it, and then for as long as an owner or a record names it; if
/// it comes back in this time, it gets that number again.
///
/// # Errors
/// If the configuration does not fit; nothing needs to be undone.
pub(crate) fn plan(config: &Config, capacity: &Capacity, previous: Option<Previous<'_>>) -> Result<Image, PlanError> {
    let mut image = Image {
        after: previous.map_or(Edition::default(), |previous| previous.edition),
        snapshot: Snapshot {
            generation: previous.map_or(0, |p| p.snapshot.generation) + 1,
            config: config.text.clone(),
            services: Vec::new(),
            pools: Vec::new(),
            weights: config.weights.clone(),
            common: Vec::new(),
            retired: Vec::new(),
        },
        json: Vec::new(),
        generation: Generation::default(),
        flow_timeouts: timeouts(config),
        nat: nat(config),
        index_v4: Vec::new(),
        index_v6: Vec::new(),
        services: Vec::new(),
        pools: Vec::new(),
        backends: Vec::new(),
        returned: Vec::new(),
        candidates: Vec::new(),
    };
    check_nat(config, capacity)?;
    let kept = retired::kept(config, previous);
    pools::plan(config, capacity, previous, &kept, &mut image)?;
    image.snapshot.retired = retired::retired(previous, &kept, &image.snapshot);
    services::plan(config, capacity, previous, &mut image)?;
    (image.index_v4, image.index_v6) = index::build(config, capacity, &image.services)?;
    let mask = |length: usize| u32::try_from(length.max(1) - 1).unwrap_or(u32::MAX);
    image.generation = Generation {
        number: image.snapshot.generation,
        hash_key: config.hash_key,
        index_mask_v4: mask(image.index_v4.len()),
        index_mask_v6: mask(image.index_v6.len()),
        any_port: config.services.iter().flat_map(|service| &service.ports).any(Ports::is_any).into(),
        translates: config.limits.nat_flows.is_some().into(),
        tunnel_source_v4: config.tunnel.source_v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets(),
        tunnel_source_v6: config.tunnel.source_v6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets(),
        tunnel_range_v4: match config
            .tunnel
            .range_v4
            .map(|range| range.first)
            .or(config.tunnel.source_v4.map(IpAddr::V4))
        {
            Some(IpAddr::V4(first)) => first.octets(),
            Some(IpAddr::V6(_)) | None => [0; 4],
        },
        tunnel_range_v6: match config
            .tunnel
            .range_v6
            .map(|range| range.first)
            .or(config.tunnel.source_v6.map(IpAddr::V6))
        {
            Some(IpAddr::V6(first)) => first.octets(),
            Some(IpAddr::V4(_)) | None => [0; 16],
        },
        tunnel_hosts_v4: config.tunnel.range_v4.map_or(0, Range::hosts).to_be(),
        tunnel_hosts_v6: config.tunnel.range_v6.map_or(0, Range::hosts).to_be(),
        gue_port: config.tunnel.gue_port.to_be_bytes(),
        gue_variant: config.tunnel.gue_variant,
        reserved: Generation::default().reserved,
        records_per_second: config.limits.flows_per_second,
        answers_per_second: config.limits.answers,
        first_fragments_per_second: config.limits.first_fragments_per_second,
        // The controller fills these in: it has the interfaces.
        stations: Generation::default().stations,
        vip_other: config.vip_other as u32,
        vip_bits: vip_bits(config.vips().chain(config.nat.sources().filter(|_| config.limits.nat_flows.is_some()))),
    };
    image.write_json(capacity)?;
    Ok(image)
}

/// Idle timeouts of the flow table by tracking class: the longest of all services in that class. The controller deletes
/// the records of the other services earlier.
fn timeouts(config: &Config) -> Timeouts {
    let ports = || config.services.iter().flat_map(|service| &service.ports).filter(|ports| !ports.translated);
    let timeouts = |tracking| {
        let longest = ports().filter(|ports| ports.tracking == tracking).map(Ports::expiry).max()?;
        Some((Class::from(tracking), Timeouts::of_idle(u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX))))
    };
    let all = [Tracking::Tcp, Tracking::Quic, Tracking::Learn].into_iter().filter_map(timeouts);
    all.fold(Timeouts::STANDARD, |all, (class, timeouts)| all.with(class, timeouts))
}

/// Checks that the maps have the entries of translated flows for the configured ports.
fn check_nat(config: &Config, capacity: &Capacity) -> Result<(), PlanError> {
    if config.limits.nat_flows.is_none() {
        return Ok(());
    }
    let wanted = config.nat.ports;
    if let Some(has) = capacity.nat_ports.filter(|has| *has != wanted) {
        return Err(PlanError::NatPorts { has: has.to_string(), wanted: wanted.to_string() });
    }
    if capacity.nat_flows < wanted.count() {
        return Err(full(map::NAT_FLOWS, "entries", capacity.nat_flows, wanted.count() as usize));
    }
    Ok(())
}

/// The plan of translated flows; `None` if nothing is translated.
fn nat(config: &Config) -> Option<NatPlan> {
    config.limits.nat_flows?;
    let ports = || config.services.iter().flat_map(|service| &service.ports).filter(|ports| ports.translated);
    let idle = |tracking| {
        let longest = ports().filter(|ports| ports.tracking == tracking).map(|ports| ports.flow_idle_timeout).max();
        longest.map_or(0, |longest| u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX))
    };
    Some(NatPlan { ports: config.nat.ports, sources: config.nat.sources().collect(), timeouts: nat::timeouts(idle) })
}
