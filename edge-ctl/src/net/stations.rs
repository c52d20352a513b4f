//! Stations: the MAC addresses at which each interface takes frames for this host.

use std::collections::{BTreeMap, BTreeSet};

use edge_common::abi::{Mac, Station};

/// The properties of a network device that its stations, and the return routes by it, depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub name: String,
    /// `None` if the device is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Index of the bridge or bond that the device is a port of.
    pub controller: Option<u32>,
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

/// The stations of `receivers`: first the own address of each, then the configured ones, then the addresses of the
/// devices that receive by it, directly or indirectly (the bridge that it is a port of, VLAN and macvlan interfaces on
/// it). A missing interface has none.
pub(crate) fn stations<'a>(devices: &Devices, receivers: impl IntoIterator<Item = Receiver<'a>>) -> Vec<Station> {
    let mut ranked: Vec<(usize, Station)> = Vec::new();
    for receiver in receivers {
        let Some(index) = devices.iter().find(|(_, device)| device.name == receiver.name).map(|(index, _)| *index)
        else {
            continue;
        };
        let own = devices[&index].mac;
        let others = reached_from(devices, index).into_iter().filter_map(|other| devices[&other].mac);
        let configured = receiver.virtual_macs.iter().copied();
        let all = own.map(|mac| (0, mac)).into_iter().chain(configured.map(|mac| (1, mac)));
        for (rank, mac) in all.chain(others.map(|mac| (2, mac))) {
            let station = Station::new(index, Mac::new(mac));
            if ranked.iter().all(|(_, known)| *known != station) {
                ranked.push((rank, station));
            }
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, station)| station).collect()
}

/// Devices that receive by the device `index`, except itself.
fn reached_from(devices: &Devices, index: u32) -> BTreeSet<u32> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![index]);
    while let Some(at) = next.pop() {
        let controller = devices.get(&at).and_then(|device| device.controller);
        let above = devices.iter().filter(|(_, device)| device.below == Some(at)).map(|(above, _)| *above);
        for other in controller.into_iter().chain(above) {
            if other != index && devices.contains_key(&other) && reached.insert(other) {
                next.push(other);
            }
        }
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
        Device { name: name.to_owned(), mac: Some(mac(last)), controller: None, below: None, mtu: 1500 }
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
}
