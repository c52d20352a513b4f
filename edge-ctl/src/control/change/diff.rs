//! Differences between two configurations, by names. Pure.

#![deny(clippy::disallowed_methods)]

use std::{collections::BTreeMap, fmt::Debug, net::IpAddr, time::Duration};

use serde::Serialize;

use crate::config::{Affinity, Announce, Backend, Config, Judging, Nat, Pool, Ports, Probe, QuicCid, Service, Tunnel};

/// The changes from one configuration to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Diff {
    /// Keys outside services and pools, `KEY: OLD -> NEW`.
    pub(crate) keys: Vec<String>,
    pub(crate) services: Vec<Item>,
    pub(crate) pools: Vec<Item>,
    /// Named `POOL/BACKEND`; includes the backends of pools that are added or removed as a whole.
    pub(crate) backends: Vec<Item>,
}

/// A named item that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "change", content = "keys")]
pub(crate) enum What {
    Added,
    Removed,
    /// Each `KEY: OLD -> NEW`.
    Changed(Vec<String>),
}

impl Diff {
    /// The changes from `old` to `new`; without `old` everything is new.
    pub(crate) fn of(old: Option<&Config>, new: &Config) -> Self {
        let old = old.map(Config::joined);
        let (old, new) = (old.as_ref(), &new.joined());
        let services = |config: &Config| {
            config
                .services
                .iter()
                .map(|service| (service.name.clone(), (service.clone(), pools_of(config, service))))
                .collect()
        };
        let pools = |config: &Config| config.pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect();
        let backends = |config: &Config| {
            let mut backends: BTreeMap<_, (Backend, Vec<IpAddr>)> = BTreeMap::new();
            for (pool, backend) in config.pools.iter().flat_map(|pool| pool.backends.iter().map(move |b| (pool, b))) {
                let name = format!("{}/{}", pool.name, backend.name);
                backends.entry(name).or_insert_with(|| (backend.clone(), Vec::new())).1.push(backend.address);
            }
            backends
        };
        Self {
            keys: old.map_or_else(Vec::new, |old| keys(old, new)),
            services: items(old.map(services), services(new), service),
            pools: items(old.map(pools), pools(new), pool),
            backends: items(old.map(backends), backends(new), backend),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.services.is_empty() && self.pools.is_empty() && self.backends.is_empty()
    }

    /// Counts for one line: `2 services, 1 pool and 4 backends change`.
    pub(crate) fn summary(&self) -> String {
        let count = |items: &[Item], one: &str| {
            let number = |is: fn(&What) -> bool| items.iter().filter(|item| is(&item.what)).count();
            let added = number(|what| matches!(what, What::Added));
            let removed = number(|what| matches!(what, What::Removed));
            let changed = items.len() - added - removed;
            let parts = [(added, "added"), (removed, "removed"), (changed, "changed")];
            let parts: Vec<_> = parts
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            (!parts.is_empty()).then(|| format!("{one}: {}", parts.join(", ")))
        };
        let keys = (!self.keys.is_empty()).then(|| format!("keys: {} changed", self.keys.len()));
        let parts =
            [keys, count(&self.services, "services"), count(&self.pools, "pools"), count(&self.backends, "backends")];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "nothing but the text changes".to_owned() } else { parts.join("; ") }
    }
}

/// Names of a service's pools in their order.
pub(super) fn pools_of(config: &Config, service: &Service) -> Vec<String> {
    service.pools.iter().map(|at| config.pools[*at].name.clone()).collect()
}

fn items<T>(
    old: Option<BTreeMap<String, T>>,
    new: BTreeMap<String, T>,
    changes: impl Fn(&T, &T) -> Vec<String>,
) -> Vec<Item> {
    let old = old.unwrap_or_default();
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    let mut items: Vec<_> = removed.map(|name| Item { name: name.clone(), what: What::Removed }).collect();
    for (name, new) in new {
        let what = match old.get(&name) {
            None => What::Added,
            Some(old) => match changes(old, &new) {
                changes if changes.is_empty() => continue,
                changes => What::Changed(changes),
            },
        };
        items.push(Item { name, what });
    }
    items.sort_by(|one, other| one.name.cmp(&other.name));
    items
}

/// `KEY: OLD -> NEW`, where the two differ.
struct Changes(Vec<String>);

impl Changes {
    fn note<T: PartialEq>(&mut self, key: &str, old: &T, new: &T, shown: impl Fn(&T) -> String) {
        if old != new {
            self.0.push(format!("{key}: {} -> {}", shown(old), shown(new)));
        }
    }
}

fn keys(old: &Config, new: &Config) -> Vec<String> {
    // Exhaustive, so that a new key fails to compile until it is compared below.
    let Config {
        hash_key: _,
        vip_other: _,
        soak: _,
        reference_targets: _,
        http: _,
        notify: _,
        interfaces: _,
        tunnel: Tunnel { source_v4: _, source_v6: _, range_v4: _, range_v6: _, gue_port: _, gue_variant: _ },
        nat: Nat { source_v4: _, source_v6: _, ports: _ },
        limits: _,
        pools: _,
        services: _,
        text: _,
        // Weights show as changes of backends.
        weights: _,
    } = new;
    let mut changes = Changes(Vec::new());
    if old.hash_key != new.hash_key {
        changes.0.push("hash_key: another one".to_owned());
    }
    changes.note("edge.vip_other", &old.vip_other, &new.vip_other, lower);
    changes.note("edge.soak", &old.soak, &new.soak, |soak| humantime::format_duration(*soak).to_string());
    changes.note("edge.reference_targets", &old.reference_targets, &new.reference_targets, |targets| {
        targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    });
    changes.note("http.listen", &old.http, &new.http, optional);
    // The URL of a webhook and the arguments of a command may be secrets.
    if old.notify != new.notify {
        let names = |config: &Config| config.notify.iter().map(|hook| hook.name.clone()).collect::<Vec<_>>().join(", ");
        changes.0.push(format!("notify: {} -> {}", names(old), names(new)));
    }
    changes.note("tunnel.source_v4", &old.tunnel.source_v4, &new.tunnel.source_v4, optional);
    changes.note("tunnel.source_v6", &old.tunnel.source_v6, &new.tunnel.source_v6, optional);
    changes.note("tunnel.source_v4_range", &old.tunnel.range_v4, &new.tunnel.range_v4, optional);
    changes.note("tunnel.source_v6_range", &old.tunnel.range_v6, &new.tunnel.range_v6, optional);
    changes.note("tunnel.gue_port", &old.tunnel.gue_port, &new.tunnel.gue_port, ToString::to_string);
    changes.note("tunnel.gue_variant", &old.tunnel.gue_variant, &new.tunnel.gue_variant, ToString::to_string);
    let addresses = |nat: &Nat| nat.sources().map(|source| source.to_string()).collect::<Vec<_>>().join(", ");
    changes.note("nat.source", &addresses(&old.nat), &addresses(&new.nat), Clone::clone);
    changes.note("nat.ports", &old.nat.ports, &new.nat.ports, ToString::to_string);
    let (before, after) = (limits(old), limits(new));
    for ((key, old), (_, new)) in before.into_iter().zip(after) {
        changes.note(&format!("limits.{key}"), &old, &new, u32::to_string);
    }
    let interfaces = |config: &Config| {
        let shown = |interface: &crate::config::Interface| {
            let macs = interface.virtual_macs.iter().map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"));
            let macs: Vec<_> = macs.collect();
            let macs = if macs.is_empty() { String::new() } else { format!(" with {}", macs.join(" ")) };
            format!("{} ({}{macs})", interface.name, interface.mode.name())
        };
        config.interfaces.iter().map(shown).collect::<Vec<_>>().join(", ")
    };
    changes.note("interface", &interfaces(old), &interfaces(new), Clone::clone);
    changes.0
}

/// `[limits]`, key by key.
pub(super) fn limits(config: &Config) -> [(&'static str, u32); 14] {
    let limits = &config.limits;
    [
        ("services", limits.services),
        ("destinations", limits.destinations),
        ("pools", limits.pools),
        ("backends", limits.backends),
        ("flows", limits.flows),
        ("nat_flows", limits.nat_flows.unwrap_or_default()),
        ("fragments", limits.fragments),
        ("flows_per_second", limits.flows_per_second),
        ("first_fragments_per_second", limits.first_fragments_per_second),
        ("unreachable_per_second", limits.answers.unreachable),
        ("time_exceeded_per_second", limits.answers.time_exceeded),
        ("too_big_per_second", limits.answers.too_big),
        ("resets_per_second", limits.answers.resets),
        ("echo_replies_per_second", limits.answers.echo_replies),
    ]
}

/// The first items of a list, and the total number.
fn listed<T: ToString>(all: &[T]) -> String {
    const SHOWN: usize = 6;
    let shown: Vec<_> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{}, and {more} more ({} in all)", shown.join(", "), all.len()),
    }
}

fn service((old, old_pools): &(Service, Vec<String>), (new, new_pools): &(Service, Vec<String>)) -> Vec<String> {
    let mut changes = Changes(Vec::new());
    let duration = |duration: &Duration| humantime::format_duration(*duration).to_string();
    changes.note("vips", &old.vips, &new.vips, |vips| listed(vips));
    changes.note("ports", &old.ports, &new.ports, |ports| listed(ports));
    changes.note("mode", &old.mode, &new.mode, lower);
    changes.note("backend_port", &old.backend_port, &new.backend_port, optional);
    changes
        .note("on_backend_down", &old.sticks, &new.sticks, |sticks| if *sticks { "stick" } else { "reset" }.to_owned());
    changes.note("client_address", &old.tells_client, &new.tells_client, |tells| {
        if *tells { "toa" } else { "none" }.to_owned()
    });
    changes.note("pools", old_pools, new_pools, |pools| pools.join(", "));
    changes.note("when_exhausted", &old.when_exhausted, &new.when_exhausted, lower);
    changes.note("slots", &old.slots, &new.slots, u32::to_string);
    // Port ranges that both have; the others are listed above.
    for ports in &new.ports {
        let is_it =
            |other: &&Ports| (other.first, other.last, other.protocol) == (ports.first, ports.last, ports.protocol);
        let Some(old) = old.ports.iter().find(is_it) else { continue };
        let mut note = |what: &str, old: &dyn Fn(&Ports) -> String, was: &Ports| {
            changes.note(&format!("{ports}: {what}"), &old(was), &old(ports), Clone::clone);
        };
        note("tracking", &|ports| lower(&ports.tracking), old);
        note("flow_idle_timeout", &|ports| duration(&ports.flow_idle_timeout), old);
        note("learn", &|ports| duration(&ports.learn), old);
    }
    changes.note("affinity", &old.affinity, &new.affinity, |affinity| match affinity {
        None => "flow".to_owned(),
        Some(Affinity { v4, v6 }) => format!("source /{v4}, IPv6 /{v6}"),
    });
    changes.note("quic_cid", &old.quic_cid, &new.quic_cid, |cid| match cid {
        None => "none".to_owned(),
        Some(QuicCid { offset, length }) => format!("{length} bits from bit {offset}"),
    });
    changes.note("announce", &old.announce, &new.announce, |announce| match announce {
        Announce::None => "none".to_owned(),
        Announce::L2 { interface } => format!("l2 on {interface}"),
    });
    changes.0
}

fn pool(old: &Pool, new: &Pool) -> Vec<String> {
    let mut changes = Changes(Vec::new());
    changes.note("min_healthy", &old.min_healthy, &new.min_healthy, u16::to_string);
    changes.note("probe", &old.probe, &new.probe, |probe| probe.as_ref().map_or_else(|| "none".to_owned(), probe_text));
    let Pool { name: _, min_healthy: _, probe: _, judging, backends: _ } = new;
    let Judging { ejection_cap, panic_below, damping, failback_after, failback_over, slow_start } = judging;
    let time = |time: &Duration| humantime::format_duration(*time).to_string();
    changes.note("ejection_cap", &old.judging.ejection_cap, ejection_cap, f64::to_string);
    changes.note("panic_below", &old.judging.panic_below, panic_below, f64::to_string);
    changes.note("damping", &old.judging.damping, damping, time);
    changes.note("failback_after", &old.judging.failback_after, failback_after, time);
    changes.note("failback_over", &old.judging.failback_over, failback_over, time);
    changes.note("slow_start", &old.judging.slow_start, slow_start, time);
    changes.0
}

fn probe_text(probe: &Probe) -> String {
    let show = humantime::format_duration;
    format!(
        "{} :{} every {}, then {}, within {}, rise {}, fall {}, jitter {}",
        lower(&probe.kind),
        probe.port,
        show(probe.interval),
        show(probe.fast_interval),
        show(probe.timeout),
        probe.rise,
        probe.fall,
        probe.jitter
    )
}

fn backend((old, old_addresses): &(Backend, Vec<IpAddr>), (new, addresses): &(Backend, Vec<IpAddr>)) -> Vec<String> {
    let mut changes = Changes(Vec::new());
    changes.note("address", old_addresses, addresses, |addresses| listed(addresses));
    changes.note("port", &old.port, &new.port, optional);
    changes.note("weight", &old.weight, &new.weight, u32::to_string);
    changes.note("probe_port", &old.probe_port, &new.probe_port, optional);
    changes.note("probe_host", &old.probe_host, &new.probe_host, optional);
    changes.note("server_number", &old.server_number, &new.server_number, optional);
    changes.0
}

fn lower(value: &impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

#[expect(clippy::ref_option, reason = "what the comparison hands over")]
fn optional(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
}
