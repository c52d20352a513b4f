//! How the health of a pool is judged.

use std::time::Duration;

use super::{Judging, problems::Read, values, walk::Table};

impl Default for Judging {
    fn default() -> Self {
        Self {
            ejection_cap: 0.2,
            panic_below: 0.5,
            damping: Duration::from_mins(5),
            failback_after: Duration::from_mins(10),
            failback_over: Duration::from_mins(1),
            slow_start: Duration::from_secs(30),
        }
    }
}

/// Reads the settings from the table of a pool.
pub(super) fn read(table: &Table<'_>) -> Read<Judging> {
    let ejection_cap = table.optional("ejection_cap", values::fraction(0.0..=1.0, "ejection_cap = 0.2"));
    let panic_below = table.optional("panic_below", values::fraction(0.0..=1.0, "panic_below = 0.5"));
    let damping =
        table.optional("damping", values::duration(Duration::ZERO..=Duration::from_hours(1), "damping = \"5m\""));
    let times = || Duration::ZERO..=Duration::from_hours(24);
    let failback_after = table.optional("failback_after", values::duration(times(), "failback_after = \"10m\""));
    let failback_over = table.optional("failback_over", values::duration(times(), "failback_over = \"60s\""));
    let slow_start = table.optional("slow_start", values::duration(times(), "slow_start = \"30s\""));
    let default = Judging::default();
    Ok(Judging {
        ejection_cap: ejection_cap?.map_or(default.ejection_cap, |found| found.value),
        panic_below: panic_below?.map_or(default.panic_below, |found| found.value),
        damping: damping?.map_or(default.damping, |found| found.value),
        failback_after: failback_after?.map_or(default.failback_after, |found| found.value),
        failback_over: failback_over?.map_or(default.failback_over, |found| found.value),
        slow_start: slow_start?.map_or(default.slow_start, |found| found.value),
    })
}
