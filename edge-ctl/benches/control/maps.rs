//! Publications into the kernel's maps, and owners that follow.

use std::{cell::RefCell, net::Ipv4Addr, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion};
use edge_common::abi::FlowEnds;
use edge_ctl::bench::Maps;

use crate::{namespace::Namespace, single_rounds, size::Size};

/// The time at which passes are made.
const NOW: Duration = Duration::from_secs(1000);

pub(crate) fn bench(criterion: &mut Criterion, namespace: &Namespace, quick: bool) {
    for size in crate::sizes(quick) {
        first(criterion, namespace, size);
        next(criterion, namespace, size);
    }
    for services in [1, 100] {
        follow(criterion, namespace, Size { services, backends: 3, slots: 65_536 });
    }
    if !quick {
        follow(criterion, namespace, Size { services: 1000, backends: 1000, slots: 131_072 });
    }
    records(criterion, namespace);
}

/// The first publication into empty maps: tables are written and each slot of each service gets its owner.
fn first(criterion: &mut Criterion, namespace: &Namespace, size: Size) {
    let config = size.config(100);
    let pins = namespace.pins("first");
    single_rounds(criterion, "publish, first", 10).bench_function(BenchmarkId::from_parameter(size), |bencher| {
        let fresh = || {
            let maps = Maps::create(&pins, &config).expect("maps");
            let image = maps.plan(&config).expect("it fits");
            (maps, image)
        };
        let publish = |(maps, image): &mut (Maps, _)| maps.publish(image).expect("it is the next");
        bencher.iter_batched_ref(fresh, publish, BatchSize::PerIteration);
    });
}

/// One that changes a weight: the pool's table is written anew, all else is checked.
fn next(criterion: &mut Criterion, namespace: &Namespace, size: Size) {
    let configs = [50, 100].map(|weight| size.config(weight));
    let maps = RefCell::new(published(namespace, "next", size));
    let mut turn = configs.iter().cycle();
    single_rounds(criterion, "publish, a weight changed", 10).bench_function(
        BenchmarkId::from_parameter(size),
        |bencher| {
            let plan = || maps.borrow().plan(turn.next().expect("it never ends")).expect("it fits");
            let publish = |image| maps.borrow_mut().publish(&image).expect("it is the next");
            bencher.iter_batched(plan, publish, BatchSize::PerIteration);
        },
    );
}

/// Passes over services that a backend has left or come back to: the slots of every other one are handed over at once, the
/// flows of the rest are waited for. How much of a processor a pass takes, and the longest of its steps, which nothing else
/// that the daemon does can come between.
fn follow(criterion: &mut Criterion, namespace: &Namespace, size: Size) {
    let config = size.config(100);
    let mut maps = published(namespace, "follow", size);
    let backend = config.plan().expect("it fits").backends().next().expect("there is one");
    let mut up = false;
    let mut pass = |step: bool| {
        maps.set_up(backend, up).expect("it is configured");
        up = !up;
        let (whole, longest) = maps.reconcile(&config, NOW).expect("it ends");
        if step { longest } else { whole }
    };
    let mut group = single_rounds(criterion, "owners follow", 10);
    for (what, step) in [("a pass over all services", false), ("its longest step", true)] {
        group.bench_function(BenchmarkId::new(what, size), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| pass(step)).sum());
        });
    }
}

/// The same over as many flow records as there are room for by default, which stay.
fn records(criterion: &mut Criterion, namespace: &Namespace) {
    const RECORDS: u32 = 131_072;
    let size = Size { services: 2, backends: 3, slots: 1024 };
    let config = size.config(100);
    let mut maps = published(namespace, "records", size);
    let (vip, port) = Size::VIP;
    let client = |n: u32| Ipv4Addr::from(n.wrapping_mul(0x9e37_79b9)).into();
    // At nobody's: no owner of a slot can make it needless.
    let flows = (0..RECORDS).map(|n| FlowEnds {
        client: client(n),
        client_port: u16::try_from(n % 50_000).expect("below"),
        vip: Ipv4Addr::from(vip).into(),
        port,
        protocol: 6,
    });
    maps.record(flows, 7, NOW).expect("there is room");
    let mut group = single_rounds(criterion, "owners follow", 10);
    for (what, step) in [("a pass over 131,072 records", false), ("its longest step, over records", true)] {
        group.bench_function(BenchmarkId::new(what, size), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut pass = || {
                    let (whole, longest) = maps.reconcile(&config, NOW).expect("it ends");
                    if step { longest } else { whole }
                };
                (0..rounds).map(|_| pass()).sum()
            });
        });
    }
}

/// Maps in which a configuration of this size, all weights equal, is published.
pub(crate) fn published(namespace: &Namespace, name: &str, size: Size) -> Maps {
    let config = size.config(100);
    let mut maps = Maps::create(&namespace.pins(name), &config).expect("maps");
    let image = maps.plan(&config).expect("it fits");
    maps.publish(&image).expect("it is the first");
    maps
}
