//! What the control plane's work takes: tables, configurations, publications, owners, and a backend's death (root).
//!
//! `cargo bench --package edge-ctl --bench control` measures everything, some two minutes. `EDGE_BENCH_QUICK=1` leaves
//! out what takes long.

mod configurations;
mod liveness;
mod maps;
mod place;
mod tables;
mod text;

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};

use self::{place::Place, text::World};

fn main() {
    let place = Place::enter();
    let quick = std::env::var_os("EDGE_BENCH_QUICK").is_some();
    let mut criterion = Criterion::default().configure_from_args();
    tables::bench(&mut criterion, quick);
    configurations::bench(&mut criterion, quick);
    maps::bench(&mut criterion, &place, quick);
    liveness::bench(&mut criterion, &place, quick);
    criterion.final_summary();
}

/// The small and the large installation.
fn worlds(quick: bool) -> Vec<World> {
    let small = World { services: 10, backends: 3, slots: 65_536 };
    let large = World { services: 1000, backends: 1000, slots: 65_536 };
    if quick { vec![small] } else { vec![small, large] }
}

/// A group of benches whose rounds take from a tenth of a millisecond to some milliseconds.
fn group<'a>(criterion: &'a mut Criterion, name: &str, quick: bool) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(if quick { 100 } else { 500 }));
    group.measurement_time(Duration::from_millis(if quick { 400 } else { 2000 }));
    group.sample_size(if quick { 10 } else { 50 });
    group
}

/// A group of benches whose rounds take a good part of a second: as many rounds as samples, and few.
fn slow_group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    group
}
