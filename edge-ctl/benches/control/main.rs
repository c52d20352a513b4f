//! What the control plane's work takes: tables, configurations, publications, owners, and a backend's death (root).
//!
//! `cargo bench --package edge-ctl --bench control` measures everything, about a minute. `EDGE_BENCH_QUICK=1` leaves
//! out what takes long.

mod configurations;
mod liveness;
mod maps;
mod namespace;
mod tables;
mod size;

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};

use self::{namespace::Namespace, size::Size};

fn main() {
    let namespace = Namespace::enter();
    let quick = std::env::var_os("EDGE_BENCH_QUICK").is_some();
    let mut criterion = Criterion::default().nresamples(10_000).configure_from_args();
    tables::bench(&mut criterion, quick);
    configurations::bench(&mut criterion, quick);
    maps::bench(&mut criterion, &namespace, quick);
    liveness::bench(&mut criterion, &namespace, quick);
    criterion.final_summary();
}

/// The small and the large installation.
fn sizes(quick: bool) -> Vec<Size> {
    let small = Size { services: 10, backends: 3, slots: 65_536 };
    // With the fewest slots that a pool of so many backends may have, which are half a gigabyte of owners.
    let large = Size { services: 1000, backends: 1000, slots: 131_072 };
    if quick { vec![small] } else { vec![small, large] }
}

/// A group of benches whose rounds take from a tenth of a millisecond to some milliseconds.
fn group<'a>(criterion: &'a mut Criterion, name: &str, quick: bool) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(if quick { 100 } else { 200 }));
    group.measurement_time(Duration::from_millis(if quick { 300 } else { 1000 }));
    group.sample_size(if quick { 10 } else { 20 });
    group
}

/// A group of benches of which each sample is one round: for rounds that take long, or that vary much.
fn single_rounds<'a>(criterion: &'a mut Criterion, name: &str, samples: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(samples);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    group
}
