//! Translated flows: their sources, and their way into other maps.

use std::{collections::BTreeMap, net::IpAddr};

use edge_common::{
    abi::{FlowEnds, Mode, NatHop, Tracking},
    flow_table::{Birth, Certainty, Flow, Stage, words_of},
    nat::{self, Hop, Ports, Translation},
    tables::service_index::vip_bits,
    wire::protocol,
};

use super::{super::nat::NatTable, *};
use crate::config::NatPorts;

const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 5), Ipv4Addr::new(198, 51, 100, 6)];
const BACKENDS: u8 = 8;
/// Flows of each backend: half of its ports.
const FLOWS: u16 = 64;
const PORTS: NatPorts = NatPorts { first: 20_000, last: 20_127 };
/// The client's return route.
const HOP: u8 = 3;

fn translating(source: Ipv4Addr, ports: NatPorts, entries: u32) -> Config {
    let mut config = config();
    let backends: Vec<_> = (0..BACKENDS).map(|number| (usize::from(number), number + 1)).collect();
    config.pools = vec![samples::pool("one", &backends)];
    config.services.truncate(1);
    let service = &mut config.services[0];
    (service.mode, service.pools) = (Mode::Nat, vec![0]);
    service.ports[0].translated = true;
    config.nat.source_v4 = vec![source];
    config.nat.ports = ports;
    config.limits.nat_flows = Some(entries);
    config
}

/// Fills half of the table, as packets do, and returns the flows: half of each backend's ports.
fn fill(pinned: &PinnedMaps) -> BTreeMap<FlowEnds, Translation> {
    pinned.maps.nat_hops.write(HOP.into(), NatHop([0x0200_0000_0001, 7, 0x0200_0000_0002, 5])).expect("in range");
    let table = NatTable::new(&pinned.maps, monotonic_time()).expect("maps").expect("it translates");
    let service = u16::try_from(service_number(pinned, "web")).expect("small");
    let mut flows = BTreeMap::new();
    for place in 0..BACKENDS {
        let backend = backend(pinned, &format!("one/b{place}"));
        let to = table.backend(backend).expect("a backend");
        let [to, from] = [to.address, table.head.sources[0].address].map(|address| words_of(address, false));
        let tuple = nat::tuple(&table.head, to, from, 80, protocol::TCP);
        for port in 0..FLOWS {
            let [client, vip] = ["203.0.113.7", "192.0.2.1"].map(|address| address.parse::<IpAddr>().expect("one"));
            let client_port = 1024 + u16::from(place) * FLOWS + port;
            let ends = FlowEnds { client, client_port, vip, port: 80, protocol: protocol::TCP };
            let translation = Translation { backend, hop: HOP, service, port: 80, ..Translation::default() };
            let birth = Birth {
                stage: Stage::Established,
                class: Tracking::Tcp.into(),
                certainty: Certainty::Certain,
                served: translation.served(0),
            };
            let flow = Flow::from(ends);
            let hash = flow.hash(&table.head.hash_key);
            let claim = Ports { head: &table.head, tuple, flow: hash, stamp: None, now: table.table().now };
            if table.table().insert(&flow, hash, &birth, &claim).is_ok() {
                flows.insert(ends, translation);
            }
        }
    }
    assert!(flows.len() > 500, "{}", flows.len());
    flows
}

/// What the backends and the client see of each flow.
fn seen(pinned: &PinnedMaps) -> BTreeMap<FlowEnds, (Option<IpAddr>, u16)> {
    let flows = pinned.nat_flows(monotonic_time()).expect("readable");
    flows.into_iter().map(|(ends, flow)| (ends, (flow.source, flow.source_port))).collect()
}

/// Carries all flows into maps for another configuration; returns how many were carried, and the new maps.
fn carried(bpffs: &Bpffs, from: PinnedMaps, config: &Config) -> (Carried, PinnedMaps) {
    let pins = PinDir::new(&bpffs.path().join("other")).expect("it is a BPF file system");
    let mut to = started(&pins, config);
    let before = Before::new(from, &to).expect("both are published");
    (before.carry(&mut to).expect("it carries"), to)
}

#[test]
fn all_go_on_in_larger_maps_in_maps_for_more_ports_and_when_their_source_was_removed() {
    let wider = NatPorts { first: 19_936, last: 20_191 };
    for (source, ports, entries) in [(SOURCES[0], PORTS, 2048), (SOURCES[0], wider, 2048), (SOURCES[1], PORTS, 4096)] {
        let bpffs = Bpffs::mount();
        let small = started(&bpffs.pins(), &translating(SOURCES[0], PORTS, 1024));
        let flows = fill(&small);
        let before = seen(&small);
        let (carried, large) = carried(&bpffs, small, &translating(source, ports, entries));
        assert_eq!(carried, Carried { flows: flows.len(), lost: 0 }, "{source} {ports} {entries}");
        assert_eq!(seen(&large), before);
        let table = NatTable::new(&large.maps, monotonic_time()).expect("maps").expect("it translates");
        // The backend may be the next to send.
        assert!(table.all().all(|(_, found)| Translation::of(found.served).hop == HOP));
        let hop = Hop(large.maps.nat_hops.words(HOP.into()).expect("in range"));
        assert_eq!(hop.leads_to().map(|(egress, ..)| egress), Some(5));
        let (_, generation) = large.maps.published().expect("published");
        assert_ne!(generation.vip_bits & vip_bits([SOURCES[0].into()]), 0, "its packets are looked up");
    }
}

#[test]
fn flows_that_other_maps_have_no_place_for_are_counted() {
    let bpffs = Bpffs::mount();
    let small = started(&bpffs.pins(), &translating(SOURCES[0], PORTS, 1024));
    let flows = fill(&small);
    let kept = seen(&small).values().filter(|(_, port)| (20_000..20_064).contains(port)).count();
    let fewer = NatPorts { last: 20_063, ..PORTS };
    let (carried, _large) = carried(&bpffs, small, &translating(SOURCES[0], fewer, 1024));
    assert_eq!(carried, Carried { flows: kept, lost: flows.len() - kept });
}

#[test]
fn packets_to_a_removed_source_are_looked_up_while_flows_use_it() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &translating(SOURCES[0], PORTS, 1024));
    assert!(!fill(&pinned).is_empty());
    let [old, new] = SOURCES.map(|source| vip_bits([source.into()]));
    for _ in 0..2 {
        pinned.publish(&plan(&pinned, &translating(SOURCES[1], PORTS, 1024))).expect("published");
        let (_, generation) = pinned.maps.published().expect("published");
        assert_eq!(generation.vip_bits & (old | new), old | new);
    }
    assert_eq!(old & new, 0, "or the test shows nothing");
}

#[test]
fn a_flow_is_over_after_the_timeout_of_its_own_service_and_class() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &translating(SOURCES[0], PORTS, 1024));
    let flows = fill(&pinned).len();
    let service = u16::try_from(service_number(&pinned, "web")).expect("small");
    let later = monotonic_time() + Duration::from_secs(10);
    for (number, tracking, seconds, left) in [
        (service, Tracking::Tcp, 60, flows),
        (service, Tracking::Learn, 5, flows),
        (service + 1, Tracking::Tcp, 5, flows),
        (service, Tracking::Tcp, 5, 0),
    ] {
        let idle = NatIdle::from([(number, vec![(tracking, Duration::from_secs(seconds))])]);
        for _ in 0..10 {
            pinned.sweep_nat(&idle, later).expect("it is swept");
        }
        assert_eq!(seen(&pinned).len(), left, "{number} {tracking:?} {seconds}");
    }
}
