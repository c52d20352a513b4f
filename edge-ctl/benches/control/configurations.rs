//! From text to a checked configuration, and from that to everything that its generation writes.

use criterion::{BenchmarkId, Criterion};
use edge_ctl::bench::Config;

use crate::{group, size::Size};

pub(crate) fn bench(criterion: &mut Criterion, quick: bool) {
    // These are quick enough at any size.
    let sizes: Vec<Size> = crate::sizes(false);
    let mut parse = group(criterion, "configuration parse", quick);
    for size in &sizes {
        let text = size.text(100);
        parse.bench_function(BenchmarkId::from_parameter(size), |bencher| bencher.iter(|| Config::parse(&text)));
    }
    parse.finish();
    let mut plan = group(criterion, "plan of a generation", quick);
    for size in &sizes {
        let config = size.config(100);
        plan.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| config.plan().expect("it fits"));
        });
    }
}
