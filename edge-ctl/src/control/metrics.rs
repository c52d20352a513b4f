//! A status as `OpenMetrics` text. The only labels are names of services, pools, backends and exits, so that the number
//! of series does not depend on clients.

mod latency;

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use self::latency::Latency;
use super::{
    headline::headline,
    status::{BackendState, HealthStatus, Level, ServiceState, Status, TrafficStatus},
};

/// Media type of the text, for `Content-Type`.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter<u64, AtomicU64>>;

/// All metrics of a status.
pub(crate) fn text(status: &Status) -> String {
    let mut registry = Registry::with_prefix("edge");
    level(&mut registry, status);
    daemon(&mut registry, status);
    hooks(&mut registry, status);
    services(&mut registry, status);
    pools(&mut registry, status);
    backends(&mut registry, status);
    let exits = counters(&mut registry, "exit_packets", "Packets by how they left the packet path");
    for exit in &status.exits {
        let labels = vec![("exit", exit.name.clone()), ("verdict", exit.verdict.clone())];
        exits.get_or_create(&labels).inc_by(exit.packets);
    }
    let mut text = String::new();
    // Writing to a string can't fail.
    let _infallible = encode(&mut text, &registry);
    text
}

fn daemon(registry: &mut Registry, status: &Status) {
    let mut one = |name: &str, help: &str, value: f64| {
        gauges(registry, name, help).get_or_create(&Vec::new()).set(value);
    };
    one("generation", "Number of the configuration in force", count(status.generation));
    if let Some(history) = &status.history {
        one("generation_applied_seconds", "When it came into force, since 1970", count(history.at) / 1000.0);
        one("generation_good", "Whether the generation has passed its soak", flag(history.good));
        one(
            "generation_on_trial",
            "Whether the generation is on trial, and undone unless confirmed",
            flag(history.trial.is_some()),
        );
        one("evacuated_pools", "Pools that an operator has evacuated", count(history.evacuations.len() as u64));
    }
    one("daemon_up", "Whether a daemon answers", flag(status.daemon.is_some()));
    if let Some(daemon) = &status.daemon {
        one("daemon_started_seconds", "When the daemon has started, since 1970", count(daemon.started) / 1000.0);
        one("config_refused", "Whether the file, as it was last read, is refused", flag(daemon.refused.is_some()));
        one("program_refused", "Whether the kernel refuses this version's program", flag(daemon.program.is_some()));
        one(
            "health_frozen",
            "Whether health is frozen, since this host may be the cause of failed probes",
            flag(daemon.frozen.is_some()),
        );
        one("maps_repaired", "How often another program's writes were repaired", count(daemon.repaired));
        one("state_unsaved", "Whether operators' decisions are missing on disk", flag(daemon.state_error.is_some()));
    }
    one("host_findings", "Findings where the configuration does not fit this host", count(status.host.len() as u64));
    let attached = gauges(registry, "interface_attached", "Whether the program is attached; absent if unknown");
    for interface in &status.interfaces {
        if let Some(is_attached) = interface.attached {
            attached.get_or_create(&vec![("interface", interface.name.clone())]).set(flag(is_attached));
        }
    }
    if let Some(table) = &status.flow_table {
        gauges(registry, "flow_records", "Flow records in use, of services in transition")
            .get_or_create(&Vec::new())
            .set(count(table.records));
        gauges(registry, "flow_room", "Flow records that the flow table has room for")
            .get_or_create(&Vec::new())
            .set(table.room.into());
    }
    if let Some(nat) = &status.nat {
        gauges(registry, "nat_flows", "Entries for translated flows in use")
            .get_or_create(&Vec::new())
            .set(nat.flows.into());
        gauges(registry, "nat_room", "Entries for translated flows").get_or_create(&Vec::new()).set(nat.room.into());
    }
}

fn level(registry: &mut Registry, status: &Status) {
    let level = headline(status).level;
    let levels = gauges(registry, "headline", "1 for the level of the status's first line");
    for (named, name) in [(Level::Ok, "ok"), (Level::Warning, "warning"), (Level::Critical, "critical")] {
        levels.get_or_create(&vec![("level", name.to_owned())]).set(flag(level == named));
    }
}

fn hooks(registry: &mut Registry, status: &Status) {
    let hooks = status.daemon.as_ref().map_or(&[][..], |daemon| &daemon.notify);
    if hooks.is_empty() {
        return;
    }
    let runs = counters(registry, "notify_runs", "Events that the hook was told of");
    let failures = counters(registry, "notify_failures", "Runs of the hook that have failed");
    let dropped = counters(registry, "notify_dropped", "Events that came faster than the hook took them");
    let failing = gauges(registry, "notify_failing", "Whether the hook's last run has failed");
    for hook in hooks {
        let labels = vec![("notify", hook.name.clone())];
        runs.get_or_create(&labels).inc_by(hook.runs);
        failures.get_or_create(&labels).inc_by(hook.failures);
        dropped.get_or_create(&labels).inc_by(hook.dropped);
        failing.get_or_create(&labels).set(flag(hook.failing.is_some()));
    }
}

fn services(registry: &mut Registry, status: &Status) {
    let states = gauges(registry, "service_state", "1 for the state that the service is in");
    let serving = gauges(registry, "service_serving", "1 for the pool that its new flows go to");
    let transition = gauges(registry, "service_in_transition", "Whether flows are recorded after a change");
    let traffic = Traffic::new(registry, "service");
    let records = counters(registry, "service_flow_records", "Operations of the flow table");
    for service in &status.services {
        let labels = vec![("service", service.name.clone())];
        for (state, name) in [
            (ServiceState::Ok, "ok"),
            (ServiceState::Failover, "failover"),
            (ServiceState::Fallback, "fallback"),
            (ServiceState::Unknown, "unknown"),
            (ServiceState::Panic, "panic"),
            (ServiceState::Exhausted, "exhausted"),
            (ServiceState::Unreachable, "unreachable"),
        ] {
            states.get_or_create(&with(&labels, "state", name)).set(flag(service.state == state));
        }
        for pool in &service.pools {
            serving.get_or_create(&with(&labels, "pool", pool)).set(flag(service.serving.as_ref() == Some(pool)));
        }
        transition.get_or_create(&labels).set(flag(service.transition.is_some()));
        traffic.count(&labels, &service.traffic);
        for (operation, number) in &service.flows {
            records.get_or_create(&with(&labels, "operation", operation)).inc_by(*number);
        }
    }
}

fn pools(registry: &mut Registry, status: &Status) {
    let available = gauges(registry, "pool_available", "Backends that take new flows");
    let needed = gauges(registry, "pool_min_healthy", "Backends that must take new flows for the pool to serve");
    let backends = gauges(registry, "pool_backends", "Backends of the pool");
    let panic = gauges(registry, "pool_panic", "Whether all backends of the pool serve, up or not");
    let withheld = gauges(registry, "pool_withheld", "Share of new flows that has not returned to it yet");
    let latencies = Family::<Labels, Latency>::default();
    registry.register("probe_latency_seconds", "Times of probes that have passed", latencies.clone());
    for pool in &status.pools {
        let labels = vec![("pool", pool.name.clone())];
        if let Some(latency) = &pool.probe_latency {
            latencies.get_or_create(&labels).set(latency);
        }
        available.get_or_create(&labels).set(count(pool.available as u64));
        needed.get_or_create(&labels).set(pool.min_healthy.into());
        backends.get_or_create(&labels).set(count(pool.backends.len() as u64));
        panic.get_or_create(&labels).set(flag(pool.panic));
        withheld.get_or_create(&labels).set(pool.withheld);
    }
}

fn backends(registry: &mut Registry, status: &Status) {
    let up = gauges(registry, "backend_up", "1: the backend's probes pass, 0: they fail; absent if unknown");
    let forced =
        gauges(registry, "backend_forced", "1: forced up by an operator, 0: forced down; absent if probes decide");
    let weights = gauges(registry, "backend_weight", "Its weight, the file's or an operator's");
    let states = gauges(registry, "backend_state", "1 for the state that the backend is in");
    let since = gauges(registry, "backend_state_seconds", "Time in this state");
    let reached = gauges(registry, "backend_next_hop_known", "Whether the MAC address of its next hop is known");
    let days = gauges(registry, "backend_certificate_days", "Days for which its certificate is valid");
    let suspected = gauges(registry, "backend_suspected", "Whether its clients' packets show trouble; nat only");
    let traffic = Traffic::new(registry, "backend");
    for backend in status.pools.iter().flat_map(|pool| &pool.backends) {
        let (pool, _) = backend.name.split_once('/').unwrap_or_default();
        let labels = vec![("backend", backend.name.clone()), ("pool", pool.to_owned())];
        let flag_of = |health| match health {
            HealthStatus::Up => Some(1.0),
            HealthStatus::Down => Some(0.0),
            HealthStatus::Unknown => None,
        };
        if let Some(known) = flag_of(backend.health).filter(|_| backend.forced.is_none()) {
            up.get_or_create(&labels).set(known);
        }
        if let Some(flag) = backend.forced.and_then(flag_of) {
            forced.get_or_create(&labels).set(flag);
        }
        weights.get_or_create(&labels).set(backend.weight.into());
        suspected.get_or_create(&labels).set(flag(backend.suspicion.is_some()));
        for (state, name) in [
            (BackendState::Up, "up"),
            (BackendState::Down, "down"),
            (BackendState::Unknown, "unknown"),
            (BackendState::Draining, "draining"),
            (BackendState::Disabled, "disabled"),
        ] {
            states.get_or_create(&with(&labels, "state", name)).set(flag(backend.state == state));
        }
        if let Some(seconds) = backend.for_seconds {
            since.get_or_create(&labels).set(count(seconds));
        }
        reached.get_or_create(&labels).set(flag(backend.next_hop.is_some()));
        if let Some(certificate) = &backend.certificate {
            #[expect(clippy::cast_precision_loss, reason = "days")]
            days.get_or_create(&labels).set(certificate.days as f64);
        }
        traffic.count(&labels, &backend.traffic);
    }
}

/// Packets, bytes and flows.
struct Traffic {
    packets: Counters,
    bytes: Counters,
    flows: Counters,
}

impl Traffic {
    fn new(registry: &mut Registry, of: &str) -> Self {
        Self {
            packets: counters(registry, &format!("{of}_packets"), "Forwarded packets"),
            bytes: counters(registry, &format!("{of}_bytes"), "Their bytes, of the clients' IP packets"),
            flows: counters(registry, &format!("{of}_flows"), "Flows that have started"),
        }
    }

    fn count(&self, labels: &Labels, traffic: &TrafficStatus) {
        self.packets.get_or_create(labels).inc_by(traffic.packets);
        self.bytes.get_or_create(labels).inc_by(traffic.bytes);
        self.flows.get_or_create(labels).inc_by(traffic.flows);
    }
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of people's lives")]
const fn count(number: u64) -> f64 {
    number as f64
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        fixture::{FakeDataPlane, inventory},
        status::{self, Clock, Sample},
    };

    #[test]
    fn services_pools_backends_and_exits_are_there_and_nothing_else_grows() {
        let inventory = inventory();
        let mut plane = FakeDataPlane::fresh(&inventory);
        plane.packets = 7;
        let now = Sample::take(&inventory, &plane, Clock::now());
        let text = text(&status::build(&inventory, &plane, None, &now, None));
        for line in [
            "edge_generation 7.0",
            "edge_daemon_up 0.0",
            "edge_headline{level=\"warning\"} 1.0",
            "edge_service_state{service=\"web\",state=\"unreachable\"} 0.0",
            "edge_service_state{service=\"web\",state=\"unknown\"} 1.0",
            "edge_service_serving{service=\"web\",pool=\"provider-a\"} 1.0",
            "edge_pool_available{pool=\"provider-b\"} 3.0",
            "edge_backend_state{backend=\"provider-a/a1\",pool=\"provider-a\",state=\"unknown\"} 1.0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(
            text.contains("# TYPE edge_service_packets counter")
                && text.contains("edge_exit_packets_total{exit=\"not_ours\"")
        );
        assert!(!text.contains("edge_backend_up{"), "their state is unknown");
        assert!(!text.contains("edge_probe_latency_seconds_bucket"), "no probe has passed");
        assert!(text.ends_with("# EOF\n"));
        let kinds = text.lines().filter(|line| line.starts_with("# HELP")).count();
        assert_eq!(kinds, text.lines().filter(|line| line.starts_with("# TYPE")).count());
    }

    #[test]
    fn latencies_are_a_histogram_of_each_pool_and_the_tables_have_their_fill() {
        let inventory = inventory();
        let plane = FakeDataPlane::fresh(&inventory);
        let now = Sample::take(&inventory, &plane, Clock::now());
        let mut status = status::build(&inventory, &plane, None, &now, None);
        let mut latency = status::LatencyStatus::default();
        for micros in [300, 1700, 1800, 9_000_000] {
            latency.note(std::time::Duration::from_micros(micros));
        }
        status.pools[0].probe_latency = Some(latency);
        status.flow_table = Some(status::FlowTableStatus { records: 12, room: 65_536 });
        let text = text(&status);
        for line in [
            "edge_probe_latency_seconds_bucket{le=\"0.001\",pool=\"provider-a\"} 1",
            "edge_probe_latency_seconds_bucket{le=\"0.002\",pool=\"provider-a\"} 3",
            "edge_probe_latency_seconds_bucket{le=\"5.0\",pool=\"provider-a\"} 3",
            "edge_probe_latency_seconds_bucket{le=\"+Inf\",pool=\"provider-a\"} 4",
            "edge_probe_latency_seconds_count{pool=\"provider-a\"} 4",
            "edge_flow_records 12.0",
            "edge_flow_room 65536.0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(
            text.contains("# TYPE edge_probe_latency_seconds histogram") && !text.contains("{pool=\"provider-b\"} 4")
        );
    }
}
