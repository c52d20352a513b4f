//! Publications into the kernel's maps, and owners that follow.

use std::{cell::RefCell, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion};
use edge_ctl::bench::Maps;

use crate::{place::Place, single_rounds, text::World};

/// The time at which rounds are made.
const NOW: Duration = Duration::from_secs(1000);

pub(crate) fn bench(criterion: &mut Criterion, place: &Place, quick: bool) {
    for world in crate::worlds(quick) {
        first(criterion, place, world);
        next(criterion, place, world);
        follow(criterion, place, world);
    }
}

/// The first publication into empty maps: tables are written and each slot of each service gets its owner.
fn first(criterion: &mut Criterion, place: &Place, world: World) {
    let config = world.config(100);
    let pins = place.pins("first");
    single_rounds(criterion, "publish, first", 10).bench_function(BenchmarkId::from_parameter(world), |bencher| {
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
fn next(criterion: &mut Criterion, place: &Place, world: World) {
    let configs = [50, 100].map(|weight| world.config(weight));
    let maps = RefCell::new(published(place, "next", world));
    let mut turn = configs.iter().cycle();
    single_rounds(criterion, "publish, a weight changed", 10).bench_function(
        BenchmarkId::from_parameter(world),
        |bencher| {
            let plan = || maps.borrow().plan(turn.next().expect("it never ends")).expect("it fits");
            let publish = |image| maps.borrow_mut().publish(&image).expect("it is the next");
            bencher.iter_batched(plan, publish, BatchSize::PerIteration);
        },
    );
}

/// A round over all services, each of which a backend has left, and no owner follows yet: the services that are alike are
/// looked at, and records are read, of which there are none.
fn follow(criterion: &mut Criterion, place: &Place, world: World) {
    let config = world.config(100);
    let maps = RefCell::new(published(place, "follow", world));
    let backend = config.plan().expect("it fits").backends().next().expect("there is one");
    let mut group = single_rounds(criterion, "owners follow", 10);
    let mut up = false;
    group.bench_function(BenchmarkId::new("a round over all services", world), |bencher| {
        let change = || {
            maps.borrow_mut().set_up(backend, up).expect("it is configured");
            up = !up;
        };
        let round = |()| maps.borrow_mut().round(&config, NOW).expect("it ends");
        bencher.iter_batched(change, round, BatchSize::PerIteration);
    });
}

/// Maps in which the world, all weights equal, is published.
pub(crate) fn published(place: &Place, name: &str, world: World) -> Maps {
    let config = world.config(100);
    let mut maps = Maps::create(&place.pins(name), &config).expect("maps");
    let image = maps.plan(&config).expect("it fits");
    maps.publish(&image).expect("it is the first");
    maps
}
