//! Publications into the kernel's maps, and owners that follow.

use std::{cell::RefCell, time::Duration};

use aya::maps::{HashMap, Map, MapData};
use criterion::{BatchSize, BenchmarkId, Criterion};
use edge_common::abi::{FlowKeyV4, FlowRecord, map};
use edge_ctl::bench::Maps;

use crate::{place::Place, single_rounds, text::World};

/// The time at which rounds are made.
const NOW: Duration = Duration::from_secs(1000);

pub(crate) fn bench(criterion: &mut Criterion, place: &Place, quick: bool) {
    for world in crate::worlds(quick) {
        first(criterion, place, world);
        next(criterion, place, world);
    }
    for services in [1, 100] {
        follow(criterion, place, World { services, backends: 3, slots: 65_536 });
    }
    if !quick {
        follow(criterion, place, World { services: 1000, backends: 1000, slots: 131_072 });
    }
    records(criterion, place);
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

/// Rounds over services that a backend has left or come back to: of these the owners of every other one follow at once, the
/// flows of the rest are waited for. How much of a processor a round takes, and the longest of its steps, which nothing else
/// that the daemon does can come between.
fn follow(criterion: &mut Criterion, place: &Place, world: World) {
    let config = world.config(100);
    let mut maps = published(place, "follow", world);
    let backend = config.plan().expect("it fits").backends().next().expect("there is one");
    let mut up = false;
    let mut round = |step: bool| {
        maps.set_up(backend, up).expect("it is configured");
        up = !up;
        let (whole, longest) = maps.round(&config, NOW).expect("it ends");
        if step { longest } else { whole }
    };
    let mut group = single_rounds(criterion, "owners follow", 10);
    for (what, step) in [("a round over all services", false), ("its longest step", true)] {
        group.bench_function(BenchmarkId::new(what, world), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| round(step)).sum());
        });
    }
}

/// The same over as many flow records as there are room for by default, which stay.
fn records(criterion: &mut Criterion, place: &Place) {
    const RECORDS: u32 = 131_072;
    let world = World { services: 2, backends: 3, slots: 1024 };
    let config = world.config(100);
    let mut maps = published(place, "records", world);
    let table = place.pins("records").join(format!("v{}/maps/{}", edge_common::abi::ABI_VERSION, map::FLOWS_V4));
    let table = MapData::from_pin(table).and_then(Map::from_map_data).expect("it is pinned");
    let mut table: HashMap<_, [u32; 4], [u32; 4]> = table.try_into().expect("it is a hash");
    let (vip, port) = World::VIP;
    for n in 0..RECORDS {
        let (client, vip) = (n.wrapping_mul(0x9e37_79b9), u32::from_ne_bytes(vip));
        let key = FlowKeyV4 { client, vip, ports: (n % 50_000) | (u32::from(port.to_be()) << 16), protocol: 6 };
        // At nobody's: no owner of a slot can make it needless.
        let record = FlowRecord { seen_ns: u64::MAX, recorded_s: 0, backend: 7, ..FlowRecord::default() };
        let (key, record): ([u32; 4], [u32; 4]) = (bytemuck::cast(key), bytemuck::cast(record));
        table.insert(key, record, 0).expect("there is room");
    }
    let mut group = single_rounds(criterion, "owners follow", 10);
    for (what, step) in [("a round over 131,072 records", false), ("its longest step, over records", true)] {
        group.bench_function(BenchmarkId::new(what, world), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut round = || {
                    let (whole, longest) = maps.round(&config, NOW).expect("it ends");
                    if step { longest } else { whole }
                };
                (0..rounds).map(|_| round()).sum()
            });
        });
    }
}

/// Maps in which the world, all weights equal, is published.
pub(crate) fn published(place: &Place, name: &str, world: World) -> Maps {
    let config = world.config(100);
    let mut maps = Maps::create(&place.pins(name), &config).expect("maps");
    let image = maps.plan(&config).expect("it fits");
    maps.publish(&image).expect("it is the first");
    maps
}
