//! Stations: the MAC addresses at which each interface takes frames for this host.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};

use edge_common::abi::{Mac, Station};

use crate::config::Interface;

/// The properties of a network device that its stations, and the return routes by it, depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub name: String,
    /// `None` if the device is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Index of the bridge or bond that the device is a port of.
    pub controller: Option<u32>,
    /// Whether the device is a port of a bond, or the virtual function behind a Hyper-V device: a native program on the
    /// controller runs in such ports, where the ingress interface of a frame is the port.
    pub bonded: bool,
    /// Index of the device below a VLAN or macvlan interface.
    pub below: Option<u32>,
    /// Bytes of IP packet.
    pub mtu: u32,
}

/// The host's devices, by index.
pub(crate) type Devices = BTreeMap<u32, Device>;

/// An interface that takes frames, and the configured addresses at which it does so besides its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver<'a> {
    pub name: &'a str,
    pub virtual_macs: &'a [[u8; 6]],
}

impl<'a> Receiver<'a> {
    pub(crate) fn of(Interface { name, virtual_macs, .. }: &'a Interface) -> Self {
        Self { name, virtual_macs }
    }
}

/// The stations of `receivers`: first the own address of each, then these addresses at the ports of bonds, then the
/// configured addresses, then those of the devices that receive by an interface, directly or indirectly (the bridge that
/// it is a port of, VLAN and macvlan interfaces on it). A missing interface has none.
///
/// The first station of a bond's port has the bond's address, as the frames have that the bond sends by this port.
pub(crate) fn stations<'a>(devices: &Devices, receivers: impl IntoIterator<Item = Receiver<'a>>) -> Vec<Station> {
    let mut ranked: Vec<(usize, Station)> = Vec::new();
    for receiver in receivers {
        let Some(index) = devices.iter().find(|(_, device)| device.name == receiver.name).map(|(index, _)| *index)
        else {
            continue;
        };
        for ingress in std::iter::once(index).chain(bonded_below(devices, index)) {
            let first = usize::from(ingress != index);
            let own = devices[&index].mac.map(|mac| (first, mac));
            let configured = receiver.virtual_macs.iter().map(|mac| (2, *mac));
            let others = std::iter::once(ingress).chain(reached_from(devices, ingress));
            let others = others.filter_map(|other| devices[&other].mac.map(|mac| (3, mac)));
            for (rank, mac) in own.into_iter().chain(configured).chain(others) {
                let station = Station::new(ingress, Mac::new(mac));
                if ranked.iter().all(|(_, known)| *known != station) {
                    ranked.push((rank, station));
                }
            }
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, station)| station).collect()
}

/// Names of the devices whose incoming frames are those of one of these interfaces, which are among them.
pub(crate) fn heard_on<'a>(devices: &Devices, interfaces: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    for name in interfaces {
        let found = devices.iter().filter(|(_, device)| device.name == name);
        let others = found.flat_map(|(index, _)| reached_from(devices, *index));
        heard.extend(others.filter_map(|other| devices.get(&other)).map(|device| device.name.clone()));
        heard.insert(name.to_owned());
    }
    heard
}

/// The ports of the bond `index`, and theirs, except itself.
fn bonded_below(devices: &Devices, index: u32) -> BTreeSet<u32> {
    closure(index, |at| {
        let ports = devices.iter().filter(move |(_, device)| device.bonded && device.controller == Some(at));
        ports.map(|(port, _)| *port)
    })
}

/// Devices that receive by the device `index`, except itself.
fn reached_from(devices: &Devices, index: u32) -> BTreeSet<u32> {
    closure(index, |at| {
        let controller = devices.get(&at).and_then(|device| device.controller);
        let above = devices.iter().filter(move |(_, device)| device.below == Some(at)).map(|(above, _)| *above);
        controller.into_iter().chain(above).filter(|other| devices.contains_key(other))
    })
}

/// The devices to which steps lead from `first`, except itself.
fn closure<N: Iterator<Item = u32>>(first: u32, step: impl Fn(u32) -> N) -> BTreeSet<u32> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![first]);
    while let Some(at) = next.pop() {
        next.extend(step(at).filter(|other| *other != first && reached.insert(*other)));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mac(last: u8) -> [u8; 6] {
        [2, 0, 0, 0, 0, last]
    }

    fn device(name: &str, last: u8) -> Device {
        Device { name: name.to_owned(), mac: Some(mac(last)), controller: None, bonded: false, below: None, mtu: 1500 }
    }

    fn stations_of(devices: &Devices, receivers: &[(&str, &[[u8; 6]])]) -> Vec<Station> {
        stations(devices, receivers.iter().map(|(name, virtual_macs)| Receiver { name, virtual_macs }))
    }

    fn station(index: u32, last: u8) -> Station {
        Station::new(index, Mac::new(mac(last)))
    }

    #[test]
    fn an_interface_has_its_own_address_and_those_that_are_configured() {
        let devices = Devices::from([(1, device("lo", 9)), (2, device("eth0", 2)), (3, device("eth1", 3))]);
        assert_eq!(stations_of(&devices, &[("eth0", &[])]), [station(2, 2)]);
        let both = stations_of(&devices, &[("eth0", &[mac(0x51)]), ("eth1", &[mac(0x51)])]);
        assert_eq!(both, [station(2, 2), station(3, 3), station(2, 0x51), station(3, 0x51)], "own addresses first");
        assert_eq!(stations_of(&devices, &[("eth9", &[mac(1)])]), [], "an interface that is not there takes nothing");
    }

    #[test]
    fn what_receives_by_the_interface_counts_too() {
        let devices = Devices::from([
            (2, Device { controller: Some(4), ..device("eth0", 2) }),
            (4, device("br0", 4)),
            (5, Device { below: Some(4), ..device("br0.7", 5) }),
            (6, Device { below: Some(2), ..device("vrrp.51", 6) }),
            (7, Device { below: Some(6), ..device("deeper", 7) }),
            (8, device("eth1", 8)),
            (9, Device { below: Some(2), mac: None, ..device("not Ethernet", 0) }),
            (10, Device { below: Some(2), ..device("eth0.7", 2) }),
            (11, Device { below: Some(99), controller: Some(98), ..device("of another namespace", 11) }),
        ]);
        let all = stations_of(&devices, &[("eth0", &[])]);
        assert_eq!(all, [station(2, 2), station(2, 4), station(2, 5), station(2, 6), station(2, 7)]);
    }

    #[test]
    fn a_circle_ends() {
        let devices = Devices::from([
            (2, Device { controller: Some(3), ..device("a", 2) }),
            (3, Device { controller: Some(2), below: Some(2), ..device("b", 3) }),
        ]);
        assert_eq!(stations_of(&devices, &[("a", &[])]), [station(2, 2), station(2, 3)]);
    }

    fn port(bond: u32, name: &str, last: u8) -> Device {
        Device { controller: Some(bond), bonded: true, ..device(name, last) }
    }

    #[test]
    fn the_ports_of_a_bond_take_what_is_for_the_bond() {
        let mut devices = Devices::from([
            (2, port(4, "eth0", 4)),
            (3, port(4, "eth1", 4)),
            (4, device("bond0", 4)),
            (5, Device { controller: Some(9), ..device("port of a bridge", 5) }),
            (9, device("br0", 9)),
        ]);
        let of_bond = |devices: &Devices| stations_of(devices, &[("bond0", &[])]);
        assert_eq!(of_bond(&devices), [station(4, 4), station(2, 4), station(3, 4)]);
        // A port joins, and another one leaves.
        devices.insert(6, port(4, "eth2", 4));
        devices.insert(2, device("eth0", 2));
        assert_eq!(of_bond(&devices), [station(4, 4), station(3, 4), station(6, 4)]);
        assert_eq!(
            stations_of(&devices, &[("br0", &[])]),
            [station(9, 9)],
            "the ports of a bridge run no program of it"
        );
    }

    #[test]
    fn a_bonds_port_has_the_bonds_address_first_and_every_other_one_too() {
        let devices = Devices::from([
            (2, port(4, "eth0", 4)),
            // A port that keeps its own address while it is a spare one.
            (3, port(4, "eth1", 3)),
            (4, device("bond0", 4)),
            (5, Device { below: Some(4), ..device("vrrp.51", 5) }),
            (8, device("eth9", 8)),
        ]);
        let all = stations_of(&devices, &[("bond0", &[mac(0x51)]), ("eth9", &[])]);
        let own = [station(4, 4), station(8, 8)];
        let at_ports = [station(2, 4), station(3, 4)];
        let configured = [station(4, 0x51), station(2, 0x51), station(3, 0x51)];
        let others = [station(4, 5), station(2, 5), station(3, 3), station(3, 5)];
        assert_eq!(all, [&own[..], &at_ports, &configured, &others].concat());
    }

    #[test]
    fn answers_leave_a_bonds_port_from_the_bonds_address() {
        let devices = Devices::from([(2, port(4, "eth0", 2)), (4, device("bond0", 4))]);
        let first = stations_of(&devices, &[("bond0", &[])]).into_iter().find_map(|station| station.address_on(2));
        assert_eq!(first, Some(Mac::new(mac(4))));
    }

    #[test]
    fn a_bond_in_a_bond_has_the_ports_of_both() {
        let devices = Devices::from([(2, port(3, "vf", 4)), (3, port(4, "netvsc", 4)), (4, device("bond0", 4))]);
        assert_eq!(stations_of(&devices, &[("bond0", &[])]), [station(4, 4), station(2, 4), station(3, 4)]);
    }
}
