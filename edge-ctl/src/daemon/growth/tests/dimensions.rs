//! Growths for each reason why a configuration does not fit: all flows, with records and without, stay where they were.

use std::fmt::Write as _;

use edge_common::abi::map;

use super::*;
use crate::plan::PlanError;

/// The first configuration, with other sizes, and with more of everything.
fn text(limits: &str, more: &str) -> String {
    let (head, rest) = SMALL.split_once("[limits]").expect("it has this line");
    let (_, rest) = rest.split_once("[tunnel]").expect("it has this line, too");
    format!("{head}[limits]\nflows = 65536\n{limits}\n[tunnel]{rest}{more}")
}

/// Sizes of the first maps, as numbers of each: 16 services, 4 pools, 64 backends, 64 positions of an index.
const FIRST: &str = "services = 8\ndestinations = 8\npools = 2\nbackends = 32";
/// Sizes that all of the larger configurations are within.
const WIDE: &str = "services = 100\ndestinations = 200\npools = 50\nbackends = 200";

fn services(count: u32, slots: u32) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        write!(
            text,
            "[[service]]\nname = \"s{n}\"\nvips = [\"192.0.2.{}\"]\nports = [\"80/tcp\"]\nmode = \"ipip\"\n\
             pools = [\"one\", \"two\"]\nslots = {slots}\n",
            n + 100
        )
        .unwrap();
        text
    })
}

fn pools(count: u32, backends: u32) -> String {
    (0..count).fold(String::new(), |mut text, pool| {
        let backends = (0..backends).map(|n| format!("{{ name = \"b{n}\", address = \"10.9.{pool}.{}\" }}", n + 1));
        let backends: Vec<_> = backends.collect();
        write!(text, "[[pool]]\nname = \"p{pool}\"\nbackend = [{}]\n", backends.join(", ")).unwrap();
        text
    })
}

/// Names of the backends that own the slots of the service `web`.
fn owners(maps: &PinnedMaps) -> Vec<Option<String>> {
    let snapshot = maps.snapshot().unwrap().unwrap();
    let config = Inventory::from_snapshot(&snapshot).unwrap().config;
    let image = maps.with_previous(|previous| plan::plan(&config, maps.capacity(), previous)).unwrap().unwrap();
    let preview = maps.preview(&image).unwrap();
    let owners = preview.owners(snapshot.service("web").unwrap().number);
    owners.into_iter().map(|number| snapshot.name_of(number)).collect()
}

#[test]
fn maps_grow_in_each_dimension_and_all_flows_stay() {
    let one = |more: &str| text(WIDE, more);
    let doors = "[[service]]\nname = \"many\"\nvips = [\"192.0.2.50\"]\nports = [\"1000-1099/tcp\"]\nmode = \"ipip\"\n\
                 pools = [\"one\"]\n";
    let growths = [
        (Some(map::SERVICES), one(&services(20, 1024))),
        (None, one(doors)),
        (Some(map::POOLS), one(&pools(3, 1))),
        (Some(map::BACKENDS), one(&pools(1, 70))),
        (Some(map::SLOTS), one(&services(6, 65_536))),
        (Some(map::CANDIDATES), one(&services(1, 262_144))),
    ];
    for (map, large) in growths {
        let bpffs = Bpffs::mount();
        let small = used_by(&bpffs, &text(FIRST, ""));
        let before = owners(&small);
        let in_force = Inventory::from_snapshot(&small.snapshot().unwrap().unwrap()).unwrap();
        let refused = match Planned::new(&small, Some(&in_force), wanted(&large)) {
            Err(ChangeError::Plan(PlanError::Full { map, .. })) => Some(map),
            Err(ChangeError::Plan(PlanError::Index { .. })) => None,
            Err(other) => panic!("{map:?}: {other}"),
            Ok(_) => panic!("{map:?}: it fits"),
        };
        assert_eq!(refused, map);
        let (mut grown, _) = grow_of(&small, &large);
        carry(small, &mut grown, &Events::new()).expect("it carries");
        assert_eq!(check_all(&grown, Step::Call(0)), large, "{map:?}");
        assert_eq!(owners(&grown), before, "{map:?}");
    }
}
