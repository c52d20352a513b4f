//! Next hops from made-up tables.

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(mtu: u32) -> Link {
    Link { name: "eth0".into(), mac: Some(OWN), mtu, up: true, ..Link::default() }
}

fn to(text: &str) -> Destination {
    Destination::of(ip(text))
}

fn via(hops: &[(&str, u32)], mtu: Option<u32>) -> Lookup {
    let hop = |&(via, egress): &(&str, u32)| Hop { egress, via: ip(via), weight: 1 };
    Lookup::Via(Route { hops: hops.iter().map(hop).collect(), mtu, source: None })
}

fn resolve(tables: &Tables, address: IpAddr) -> Resolution {
    crate::net::next_hop::resolve(tables, Destination::of(address), &BTreeSet::new())
}

/// 10.0.0.9 on link 2, its MAC address confirmed, and 192.0.2.1 behind this router.
fn tables() -> Tables {
    let via = |mtu| via(&[("10.0.0.9", 2)], mtu);
    Tables {
        native: false,
        links: [(2, link(1500))].into(),
        neighbours: [((2, ip("10.0.0.9")), Neighbour::Usable(MAC))].into(),
        lookups: [(to("10.0.0.9"), via(None)), (to("192.0.2.1"), via(Some(1400)))].into(),
    }
}

#[test]
fn on_link_and_behind_a_gateway() {
    let entry = NextHopEntry { egress: 2, mac: MAC, source_mac: OWN, mtu: 1500, own_mtu: true, vlan: 0 };
    let neighbour = (2, ip("10.0.0.9"));
    let tables = tables();
    assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::Resolved { entry, neighbour });
    let entry = NextHopEntry { mtu: 1400, own_mtu: false, ..entry };
    assert_eq!(resolve(&tables, ip("192.0.2.1")), Resolution::Resolved { entry, neighbour });
}

#[test]
fn gateway_of_the_other_family() {
    let mut tables = tables();
    let gateway = ip("fe80::1");
    tables.lookups.insert(to("192.0.2.1"), via(&[("fe80::1", 2)], None));
    tables.neighbours.insert((2, gateway), Neighbour::Stale([2; 6]));
    let found = resolve(&tables, ip("192.0.2.1"));
    assert_eq!(found.entry().map(|entry| entry.mac), Some([2; 6]));
}

#[test]
fn neighbour_of_another_link_does_not_count() {
    let mut tables = tables();
    tables.neighbours = [((3, ip("10.0.0.9")), Neighbour::Usable(MAC))].into();
    let unresolved = Resolution::Unresolved { neighbour: (2, ip("10.0.0.9")), pending: false };
    assert_eq!(resolve(&tables, ip("10.0.0.9")), unresolved);
}

#[test]
fn every_neighbour_state() {
    for (state, mac) in [
        (Neighbour::Usable(MAC), Some(MAC)),
        (Neighbour::Stale(MAC), Some(MAC)),
        (Neighbour::Pending, None),
        (Neighbour::Failed, None),
        (Neighbour::Unknown, None),
    ] {
        let mut tables = tables();
        tables.neighbours.insert((2, ip("10.0.0.9")), state);
        let found = resolve(&tables, ip("10.0.0.9"));
        assert_eq!(found.entry().map(|entry| entry.mac), mac, "{state:?}");
        assert_eq!(found.neighbour(), Some((2, ip("10.0.0.9"))), "{state:?}");
        assert_eq!(matches!(found, Resolution::Unresolved { pending: true, .. }), state == Neighbour::Pending);
    }
}

#[test]
fn every_reason_for_unreachability() {
    let reason = |change: fn(&mut Tables)| {
        let mut tables = tables();
        change(&mut tables);
        match resolve(&tables, ip("10.0.0.9")) {
            Resolution::Unreachable(reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reason(|tables| tables.lookups.clear()), Unreachable::NotQueried);
    let none = |tables: &mut Tables| {
        tables.lookups.insert(to("10.0.0.9"), Lookup::Unreachable(Unreachable::NoRoute));
    };
    assert_eq!(reason(none), Unreachable::NoRoute);
    assert_eq!(reason(|tables| tables.links.clear()), Unreachable::LinkGone);
    assert_eq!(reason(|tables| tables.links.get_mut(&2).unwrap().up = false), Unreachable::LinkDown);
    assert_eq!(reason(|tables| tables.links.get_mut(&2).unwrap().mac = None), Unreachable::NotEthernet);
}

#[test]
fn vlan_leaves_by_the_parent_with_the_vlan_links_own_mac() {
    let mut tables = tables();
    let vlan = |parent, customer_tag| Some(Vlan { parent, id: 7, customer_tag });
    tables.links.insert(2, Link { vlan: vlan(5, true), mac: Some([8; 6]), ..link(1500) });
    tables.links.insert(5, link(1400));
    let entry = NextHopEntry { egress: 5, mac: MAC, source_mac: [8; 6], mtu: 1400, own_mtu: true, vlan: 7 };
    assert_eq!(resolve(&tables, ip("10.0.0.9")).entry(), Some(entry));

    tables.links.get_mut(&5).unwrap().up = false;
    assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::Unreachable(Unreachable::LinkDown));
    tables.links.insert(5, Link { vlan: vlan(6, true), ..link(1500) });
    assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::Unreachable(Unreachable::UnsupportedVlan));
    tables.links.insert(5, link(1500));
    tables.links.get_mut(&2).unwrap().vlan = vlan(5, false);
    assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::Unreachable(Unreachable::UnsupportedVlan));
    tables.links.remove(&5);
    assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::Unreachable(Unreachable::LinkGone));
}

#[test]
fn a_bridge_sends_by_its_only_port_and_a_macvlan_interface_by_what_it_lies_on() {
    let mut tables = tables();
    tables.links.insert(2, Link { kind: LinkKind::Bridge, mac: Some([8; 6]), ..link(1500) });
    tables.links.insert(5, Link { controller: Some(2), ..link(1400) });
    let entry = |egress, mtu| NextHopEntry { egress, mac: MAC, source_mac: [8; 6], mtu, own_mtu: true, vlan: 0 };
    assert_eq!(resolve(&tables, ip("10.0.0.9")).entry(), Some(entry(5, 1400)));
    tables.links.insert(6, Link { controller: Some(2), ..link(1500) });
    assert_eq!(resolve(&tables, ip("10.0.0.9")).entry(), Some(entry(2, 1500)), "it has the egress");
    tables.native = true;
    assert_eq!(resolve(&tables, ip("10.0.0.9")), Resolution::Unreachable(Unreachable::Bridge));
    tables.links.insert(2, Link { below: Some(5), mac: Some([8; 6]), ..link(1500) });
    assert_eq!(resolve(&tables, ip("10.0.0.9")).entry(), Some(entry(5, 1400)));
}

#[test]
fn answers_to_a_macvlan_interface_come_in_by_what_it_lies_on_as_well() {
    let mut tables = tables();
    tables.links.insert(5, link(1500));
    let interfaces = |tables: &Tables| -> Vec<u32> {
        let route = resolved_route(tables, to("10.0.0.9"), &resolve(tables, ip("10.0.0.9"))).unwrap();
        route.interfaces().collect()
    };
    assert_eq!(interfaces(&tables), [2]);
    tables.links.insert(2, Link { below: Some(5), ..link(1500) });
    assert_eq!(interfaces(&tables), [2, 5]);
    let vlan = Vlan { parent: 5, id: 7, customer_tag: true };
    tables.links.insert(2, Link { below: Some(5), vlan: Some(vlan), ..link(1500) });
    assert_eq!(interfaces(&tables), [2], "what is below has no part in that segment");
}

#[test]
fn mtu_beyond_what_fits_saturates() {
    let mut tables = tables();
    tables.links.insert(2, link(65_536));
    assert_eq!(resolve(&tables, ip("10.0.0.9")).entry().unwrap().mtu, 65_535);
}

/// A backend's two next hops, the preferred one first.
fn multipath() -> (Tables, [NeighbourKey; 2]) {
    let mut tables = tables();
    let lookup = via(&[("10.0.0.1", 2), ("10.0.1.1", 3)], None);
    tables.lookups.insert(to("192.0.2.1"), lookup.clone());
    tables.links.insert(3, link(1500));
    let Lookup::Via(route) = lookup else { panic!("a route") };
    let hops = route.preferred(ip("192.0.2.1"));
    let keys = [0, 1].map(|place: usize| (hops[place].egress, hops[place].via));
    tables.neighbours.extend(keys.map(|key| (key, Neighbour::Usable(MAC))));
    (tables, keys)
}

#[test]
fn a_next_hop_that_fails_is_left_for_another_one() {
    let (mut tables, [first, second]) = multipath();
    let taken = |tables: &Tables| resolve(tables, ip("192.0.2.1")).neighbour();
    assert_eq!(taken(&tables), Some(first));
    for state in [Neighbour::Failed, Neighbour::Pending, Neighbour::Unknown] {
        tables.neighbours.insert(first, state);
        assert_eq!(taken(&tables), Some(second), "{state:?}");
    }
    tables.neighbours.insert(first, Neighbour::Stale(MAC));
    assert_eq!(taken(&tables), Some(first));
    tables.links.get_mut(&first.0).unwrap().up = false;
    assert_eq!(taken(&tables), Some(second));
    tables.links.get_mut(&second.0).unwrap().up = false;
    assert_eq!(resolve(&tables, ip("192.0.2.1")), Resolution::Unreachable(Unreachable::LinkDown));
}

#[test]
fn a_next_hop_that_was_given_up_is_the_last_one() {
    let (mut tables, [first, second]) = multipath();
    for key in [first, second] {
        tables.neighbours.insert(key, Neighbour::Pending);
    }
    let resolve = |given_up: &[NeighbourKey]| {
        crate::net::next_hop::resolve(&tables, to("192.0.2.1"), &given_up.iter().copied().collect()).neighbour()
    };
    assert_eq!(resolve(&[]), Some(first));
    assert_eq!(resolve(&[first]), Some(second));
    assert_eq!(resolve(&[first, second]), Some(first));
}

#[test]
fn no_router_is_between_where_none_may_be() {
    let mut tables = tables();
    let direct = |text: &str| Destination { on_link: true, ..to(text) };
    for address in ["10.0.0.9", "192.0.2.1"] {
        let lookup = tables.lookups[&to(address)].clone();
        tables.lookups.insert(direct(address), lookup);
    }
    let resolved = |text| crate::net::next_hop::resolve(&tables, direct(text), &BTreeSet::new());
    assert!(resolved("10.0.0.9").entry().is_some());
    assert_eq!(resolved("192.0.2.1"), Resolution::Unreachable(Unreachable::BehindRouter(ip("10.0.0.9"))));
    assert!(resolved("192.0.2.1").why_not(true, &BTreeSet::new()).is_some_and(|why| why.contains("10.0.0.9")));
}

#[test]
fn an_address_without_a_next_hop_gets_no_packets_unless_the_kernel_may_find_one() {
    let mut given_up = BTreeSet::new();
    for reason in [
        Unreachable::NoRoute,
        Unreachable::OwnAddress,
        Unreachable::NotUnicast,
        Unreachable::Encapsulates,
        Unreachable::BehindRouter(ip("10.0.0.1")),
        Unreachable::LinkGone,
        Unreachable::LinkDown,
        Unreachable::NotEthernet,
        Unreachable::Bridge,
        Unreachable::NoXdp,
    ] {
        for native in [false, true] {
            assert_eq!(Resolution::Unreachable(reason).why_not(native, &given_up), Some(reason.to_string()));
        }
    }
    assert_eq!(Resolution::Unreachable(Unreachable::NotQueried).why_not(true, &given_up), None, "nothing is certain");
    let tags = Resolution::Unreachable(Unreachable::UnsupportedVlan);
    assert_eq!([false, true].map(|native| tags.why_not(native, &given_up).is_some()), [false, true]);
    let neighbour = (2, ip("10.0.0.9"));
    let waits = Resolution::Unresolved { neighbour, pending: true };
    assert_eq!(waits.why_not(true, &given_up), None);
    given_up.insert(neighbour);
    assert!(waits.why_not(true, &given_up).is_some());
}

#[test]
fn native_mode_sends_by_no_device_without_the_means_for_it() {
    let mut tables = tables();
    let egress = |tables: &Tables| match resolve(tables, ip("10.0.0.9")) {
        Resolution::Unreachable(reason) => Err(reason),
        found => Ok(found.entry().unwrap().egress),
    };
    let vlan = |parent| Some(Vlan { parent, id: 7, customer_tag: true });
    // A macvlan interface on a VLAN, vxlan and the like, and VLANs on top of either and of a bridge.
    let cases: [(Link, Link, Unreachable); 5] = [
        (Link { below: Some(5), ..link(1500) }, Link { vlan: vlan(6), ..link(1500) }, Unreachable::NoXdp),
        (Link { kind: LinkKind::NoXdp, ..link(1500) }, link(1500), Unreachable::NoXdp),
        (Link { vlan: vlan(5), ..link(1500) }, Link { kind: LinkKind::NoXdp, ..link(1500) }, Unreachable::NoXdp),
        (Link { vlan: vlan(5), ..link(1500) }, Link { below: Some(6), ..link(1500) }, Unreachable::NoXdp),
        (Link { vlan: vlan(5), ..link(1500) }, Link { kind: LinkKind::Bridge, ..link(1500) }, Unreachable::Bridge),
    ];
    for (first, second, reason) in cases {
        tables.links.insert(2, first.clone());
        tables.links.insert(5, second.clone());
        tables.links.insert(6, link(1500));
        tables.native = true;
        assert_eq!(egress(&tables), Err(reason), "{first:?} {second:?}");
        tables.native = false;
        assert!(egress(&tables).is_ok(), "{first:?} {second:?}");
    }
}

#[test]
fn a_neighbour_that_was_given_up_stays_so_without_its_entry_until_it_answers() {
    let key = (2, ip("10.0.0.9"));
    let (needed, none) = (BTreeSet::from([key]), BTreeSet::new());
    let noted = |tables: &Tables, needed: &BTreeSet<NeighbourKey>| {
        let mut given_up = BTreeSet::from([key]);
        tables.note_given_up(&mut given_up, needed);
        !given_up.is_empty()
    };
    let mut tables = tables();
    assert!(!noted(&tables, &needed), "it has a MAC address");
    tables.neighbours.insert(key, Neighbour::Pending);
    assert!(noted(&tables, &none), "it is being resolved");
    tables.neighbours.clear();
    assert!(noted(&tables, &needed), "somebody has deleted its entry");
    assert!(!noted(&tables, &none), "no route needs it");
    tables.links.get_mut(&2).unwrap().up = false;
    assert!(!noted(&tables, &needed), "its link is down");
}
