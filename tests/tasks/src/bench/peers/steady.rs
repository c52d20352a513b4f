//! Latency and CPU time at a rate that all load balancers sustain: open loop, over kept connections.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use edge_tests::lab::{
    Lab,
    load::{self, Load, Manner, Pace, Reuse, Stream},
    topology::CLIENTS,
};

use super::{super::results::Latency, machine::Meter};
use crate::interrupt;

/// Requests per second of all clients. The interval is no whole number of milliseconds, so that it is not in step with
/// timers.
const RATE: u32 = 1900;
/// Time until all connections are established.
const WARM_UP: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub(super) struct Steady {
    pub(super) latency: Latency,
    /// CPU time of the whole machine, which includes clients, backends, and all other processes.
    pub(super) cpu_seconds_per_million: f64,
}

/// Sends requests at the fixed rate for `time`, over `connections` connections in all.
pub(super) fn run(lab: &Lab, targets: &[SocketAddr], connections: usize, time: Duration) -> Result<Steady> {
    let pace = Duration::from_secs(1).mul_f64(f64::from(u32::try_from(connections)?) / f64::from(RATE));
    let each = connections / CLIENTS.len();
    let streams: Vec<_> =
        (0..each).map(|index| Stream { target: targets[index % targets.len()], reuse: Reuse::KeepAlive }).collect();
    let manner = Manner { pace: Pace::Due(pace), patience: load::TIMEOUT };
    let clients = CLIENTS.into_iter().enumerate();
    let loads = clients.map(|(index, client)| Load::with(lab.netns(client), &streams, index * each, manner));
    let loads = loads.collect::<Result<Vec<_>>>()?;
    interrupt::pause(WARM_UP)?;
    let (from, meter) = (Instant::now(), Meter::start()?);
    interrupt::pause(time)?;
    let (to, busy) = (Instant::now(), meter.busy()?);

    let mut records = load::stop(loads)?;
    records.retain(|record| record.start >= from && record.start < to);
    let failed = records.iter().filter(|record| record.outcome.is_err()).count();
    ensure!(
        failed * 100 <= records.len(),
        "{failed} of {} requests failed at a rate that is far from the most",
        records.len()
    );
    let backends: BTreeSet<_> = records.iter().flat_map(|record| &record.outcome).collect();
    ensure!(backends.len() > 1, "all answers came from {backends:?}");
    let count = f64::from(u32::try_from(records.len())?);
    let due = (to - from).as_secs_f64() * f64::from(RATE);
    ensure!((count / due - 1.0).abs() < 0.05, "{count} requests were due, not {due:.0}");
    ensure!(!busy.is_zero(), "by its counters the machine was idle all the time, and it answered {count} requests");
    let latencies = records.iter().map(|record| record.end.saturating_duration_since(record.start));
    Ok(Steady { latency: latency(latencies.collect()), cpu_seconds_per_million: busy.as_secs_f64() / count * 1e6 })
}

fn latency(mut sorted: Vec<Duration>) -> Latency {
    sorted.sort();
    let at = |thousandths| percentile(&sorted, thousandths).as_secs_f64() * 1e6;
    Latency { rate: RATE, requests: sorted.len() as u64, p50_us: at(500), p99_us: at(990), p999_us: at(999) }
}

/// The smallest value that is at least as large as `thousandths` of all.
fn percentile(sorted: &[Duration], thousandths: usize) -> Duration {
    let rank = (sorted.len() * thousandths).div_ceil(1000);
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let values: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        let at = |thousandths| percentile(&values, thousandths).as_micros();
        assert_eq!([at(500), at(990), at(999), at(1000)], [500, 990, 999, 1000]);
        assert_eq!(percentile(&values[..3], 999), Duration::from_micros(3));
        assert_eq!(percentile(&values[..1], 500), Duration::from_micros(1));
        assert_eq!(percentile(&[], 500), Duration::ZERO);
    }
}
