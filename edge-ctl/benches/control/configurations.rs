//! From text to a checked configuration, and from that to everything that its generation writes.

use criterion::{BenchmarkId, Criterion};
use edge_ctl::bench::Config;

use crate::{group, text::World};

pub(crate) fn bench(criterion: &mut Criterion, quick: bool) {
    // These are quick enough at any size.
    let worlds: Vec<World> = crate::worlds(false);
    let mut parse = group(criterion, "configuration parse", quick);
    for world in &worlds {
        let text = world.text(100);
        parse.bench_function(BenchmarkId::from_parameter(world), |bencher| bencher.iter(|| Config::parse(&text)));
    }
    parse.finish();
    let mut plan = group(criterion, "plan of a generation", quick);
    for world in &worlds {
        let config = world.config(100);
        plan.bench_function(BenchmarkId::from_parameter(world), |bencher| {
            bencher.iter(|| config.plan().expect("it fits"));
        });
    }
}
