//! Pools and their backends.

#![deny(clippy::wildcard_enum_match_arm)]

use super::{rates::rates, shaded};
use crate::{
    cli::table::{Cell, Shade, Table, age},
    control::status::{BackendState, BackendStatus, CertificateState, HealthStatus, PoolStatus},
};

pub(super) fn backends(pools: &[&PoolStatus], colour: bool) -> String {
    let mut table =
        Table::new(colour, ["BACKEND", "ADDRESS", "WEIGHT", "STATE", "FOR", "PKT/S", "BIT/S", "FLOWS/S", "WHY"]);
    for pool in pools {
        let probe = pool.probe.as_deref().unwrap_or("not probed");
        let short = pool.available < usize::from(pool.min_healthy);
        let available = format!("{} of {} available", pool.available, pool.backends.len());
        let needs = if pool.min_healthy > 1 || short { format!(", needs {}", pool.min_healthy) } else { String::new() };
        table.row([
            Cell::from(&pool.name),
            "".into(),
            "".into(),
            match (pool.panic, short, pool.withheld > 0.0) {
                (true, ..) => shaded("PANIC", Shade::Red),
                (_, true, _) => shaded("short", Shade::Red),
                (.., true) => shaded("returning", Shade::Yellow),
                (false, false, false) => "".into(),
            },
            "".into(),
            "".into(),
            "".into(),
            "".into(),
            Cell::from(format!("{available}{needs}; {probe}")),
        ]);
        for backend in &pool.backends {
            table.row(backend_row(pool, backend));
        }
    }
    table.finish()
}

fn backend_row(pool: &PoolStatus, backend: &BackendStatus) -> [Cell; 9] {
    let weight = backend.file_weight.map_or_else(|| backend.weight.to_string(), |file| weight_note(backend, file).0);
    let bare = backend.name.strip_prefix(&format!("{}/", pool.name)).unwrap_or(&backend.name);
    let [packets, bits, flows] = rates(&backend.traffic);
    [
        Cell::from(format!("  {bare}")),
        Cell::from(&backend.address),
        Cell::from(weight),
        state(backend),
        Cell::from(backend.for_seconds.map_or("-".to_owned(), age)),
        packets,
        bits,
        flows,
        Cell::from(why(backend)),
    ]
}

/// The state of a backend, and whether an operator has set its health.
pub(in crate::cli) fn state(backend: &BackendStatus) -> Cell {
    let (state, shade) = backend_state(backend.state, backend.health);
    Cell::shaded(if backend.forced.is_some() { format!("{state}, forced") } else { state.to_owned() }, shade)
}

/// The reason of a backend's state, and what else is unusual.
pub(in crate::cli) fn why(backend: &BackendStatus) -> String {
    let why_weight = backend.file_weight.map(|file| weight_note(backend, file).1);
    let path = backend.path_mtu.map(|mtu| format!("path MTU {mtu}"));
    let narrow = backend.needed_mtu.map(|mtu| format!("path too narrow for IPv6, which needs {mtu} bytes"));
    let certificate = backend.certificate.filter(|certificate| certificate.state != CertificateState::Valid);
    let certificate = certificate.map(|certificate| certificate.to_string());
    let reason = Some(backend.reason.clone()).filter(|reason| !reason.is_empty());
    let notes = [reason, why_weight, certificate, path, narrow];
    notes.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A weight set by an operator, in short and in words.
fn weight_note(backend: &BackendStatus, file: u32) -> (String, String) {
    let because = backend.weight_reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    (format!("{}*", backend.weight), format!("*set by an operator; {file} in the file{because}"))
}

pub(in crate::cli) fn backend_state(state: BackendState, health: HealthStatus) -> (&'static str, Shade) {
    match (state, health) {
        (BackendState::Up, _) => ("up", Shade::Green),
        (BackendState::Down, _) => ("down", Shade::Red),
        (BackendState::Unknown, _) => ("unknown", Shade::Yellow),
        (BackendState::Draining, HealthStatus::Down) => ("draining, down", Shade::Red),
        (BackendState::Draining, _) => ("draining", Shade::Yellow),
        (BackendState::Disabled, _) => ("disabled", Shade::Yellow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{WeightWord, Weights},
        control::{
            events::Events,
            fixture::{FakeDataPlane, inventory},
            operations::{Operation, operate},
            status::{Clock, Sample, build},
        },
        health::Health,
    };

    #[test]
    fn operators_decisions_are_shown_apart_from_probed_states() {
        let mut inventory = inventory();
        let mut plane = FakeDataPlane::fresh(&inventory);
        let mut weights = Weights::default();
        let reason = Some("new hardware".to_owned());
        weights.set("provider-a/a1", Some(WeightWord { weight: 250, reason }));
        weights.set("provider-a/a2", Some(WeightWord { weight: 1, reason: None }));
        inventory.config = inventory.config.weighted(&weights);
        for (backend, health) in [("a2", Health::Down), ("b1", Health::Up), ("b2", Health::Down)] {
            let operation = Operation::Health { backend: backend.to_owned(), health: Some(health), reason: None };
            operate(&inventory, &mut plane, |_| Health::Up.into(), &Events::new(), &operation).unwrap();
        }
        let drain = Operation::Drain { backend: "b2".to_owned(), reason: None };
        operate(&inventory, &mut plane, |_| Health::Up.into(), &Events::new(), &drain).unwrap();
        let now = Sample::take(&inventory, &plane, Clock { unix_ms: 1_763_424_000_000, boot_ms: 1_080_000 });
        let status = build(&inventory, &plane, None, &now, None);
        insta::assert_snapshot!(backends(&status.pools.iter().collect::<Vec<_>>(), false));
        let json = serde_json::to_value(&status.pools[0].backends[0]).unwrap();
        assert_eq!(
            (&json["weight"], &json["file_weight"], &json["weight_reason"]),
            (&250.into(), &100.into(), &"new hardware".into())
        );
        let json = serde_json::to_value(&status.pools[1].backends[0]).unwrap();
        assert_eq!((&json["forced"], json.get("file_weight")), (&"up".into(), None));
    }
}
