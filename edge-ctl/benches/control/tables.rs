//! How long a pool's candidate table takes to build.

use criterion::{BenchmarkId, Criterion};
use edge_common::tables::candidates::{self, Member};

use crate::{group, size::thousands};

pub(crate) fn bench(criterion: &mut Criterion, quick: bool) {
    let mut group = group(criterion, "table build", quick);
    let slots: &[u32] = if quick { &[65_536] } else { &[4096, 65_536, 262_144] };
    let backends: &[u16] = if quick { &[3, 1000] } else { &[3, 100, 1000] };
    for &slots in slots {
        for &backends in backends {
            let members = members(backends);
            let size = format!("{} backends, {} slots", thousands(backends.into()), thousands(slots));
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| candidates::build(&members, slots));
            });
        }
    }
}

/// Backends of three weights.
fn members(count: u16) -> Vec<Member> {
    let member = |number: u16| Member {
        number,
        weight: 100 * (1 + u32::from(number % 3)),
        identity: (0xffff_0a01_0000 + u128::from(number)).to_be_bytes(),
    };
    (1..=count).map(member).collect()
}
