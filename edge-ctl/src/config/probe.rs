//! How the backends of a pool are probed.

use std::time::Duration;

use super::{
    Probe, ProbeThrough, probe_kinds,
    problems::Read,
    values,
    walk::{Located, Table},
};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;
const DEFAULT_JITTER: f64 = 0.1;

/// Reads the probe of a pool. Messages name the pool, since a value of `[defaults]` is refused there.
pub(super) fn read(table: &Table<'_>, pool: &str) -> Read<Probe> {
    let kind = probe_kinds::read(table);
    let words = [("service", ProbeThrough::Service), ("address", ProbeThrough::Address)];
    let through = table.optional("through", values::choice(&words));
    let ports = values::integer(1..=65_535, "port = 80");
    let port = match &kind {
        Ok((_, false)) => table.optional("port", ports).map(|port| port.map_or(0, |port| port.value)),
        _ => table.required("port", "port = 80, the backends' port to probe", ports).map(|port| port.value),
    };
    let intervals = Duration::from_millis(50)..=Duration::from_hours(1);
    let interval = table.optional("interval", values::duration(intervals, "interval = \"1s\""));
    let interval = interval.map(|found| found.map_or(DEFAULT_INTERVAL, |found| found.value));
    let timeouts = Duration::from_millis(10)..=Duration::from_hours(1);
    let timeout = table.optional("timeout", values::duration(timeouts, "timeout = \"500ms\""));
    let timeout = timeout.and_then(|found| match (found, interval) {
        (None, Ok(interval)) => Ok(DEFAULT_TIMEOUT.min(interval)),
        (None, Err(reported)) => Err(reported),
        (Some(found), Ok(interval)) => within(table, "timeout", found, interval, pool),
        (Some(found), Err(_)) => Ok(found.value),
    });
    let fasts = Duration::from_millis(10)..=Duration::from_hours(1);
    let fast = table.optional("fast_interval", values::duration(fasts, "fast_interval = \"250ms\""));
    let fast = fast.and_then(|found| match (found, interval) {
        (None, interval) => interval.map(|interval| interval / 4),
        (Some(found), Ok(interval)) => within(table, "fast_interval", found, interval, pool),
        (Some(found), Err(_)) => Ok(found.value),
    });
    let rise = table.optional("rise", values::integer(1..=100, "rise = 2"));
    let fall = table.optional("fall", values::integer(1..=100, "fall = 3"));
    let jitter = table.optional("jitter", values::fraction(0.0..=0.5, "jitter = 0.1"));
    Ok(Probe {
        kind: kind?.0,
        through: through?.map_or_else(ProbeThrough::default, |found| found.value),
        port: port?,
        interval: interval?,
        fast_interval: fast?,
        timeout: timeout?,
        rise: rise?.map_or(DEFAULT_RISE, |found| found.value),
        fall: fall?.map_or(DEFAULT_FALL, |found| found.value),
        jitter: jitter?.map_or(DEFAULT_JITTER, |found| found.value),
    })
}

/// Checks that a time is not longer than the interval.
fn within(table: &Table<'_>, key: &str, found: Located<Duration>, interval: Duration, pool: &str) -> Read<Duration> {
    if found.value <= interval {
        return Ok(found.value);
    }
    let show = humantime::format_duration;
    let what = format!("`{key}` ({}) is longer than `interval` ({}) in {pool}", show(found.value), show(interval));
    Err(table.problems.add(found.at, what, format!("{key} = \"{}\" or less", show(interval))))
}
