//! Stacked devices that come and go.

use super::watch_tests::{PEER, SOON, Watching};
use crate::net::{
    lab::{in_lab, sh},
    next_hop::Unreachable,
};

/// The index of the device named `name`.
fn index(watching: &Watching, name: &str) -> Option<u32> {
    watching.devices.iter().find(|(_, device)| device.name == name).map(|(index, _)| *index)
}

fn egress(watching: &Watching) -> Option<u32> {
    watching.known.get(&1)?.map(|entry| entry.egress)
}

#[test]
fn a_port_that_leaves_its_bridge_is_none_of_its_ports_any_more() {
    in_lab(|lab| {
        sh(
            "ip link add br0 address 02:00:00:00:00:01 type bridge && ip link set br0 up && ip link set edge0 master br0",
        );
        sh("ip address flush dev edge0 && ip address add 10.0.0.1/24 dev br0");
        sh("ip link add more0 type veth peer name more1 && ip link set more0 master br0 up && ip link set more1 up");
        lab.wait_until_up();
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect_reach(1, Some(&Unreachable::Bridge.to_string()), 2 * SOON);
        sh("ip link set more0 nomaster");
        watching.expect_reach(1, None, SOON);
        watching.expect(1, Some(PEER));
        watching.wait(|watching| index(watching, "edge0").is_some());
        assert_eq!(egress(&watching), index(&watching, "edge0"), "the only port");
    });
}

#[test]
fn what_lies_on_a_device_of_another_namespace_lies_on_none_here() {
    in_lab(|lab| {
        // Both devices are the first of their namespaces, and have the same index.
        lab.peer("ip link add link peer0 name far type macvlan mode bridge");
        lab.peer(&format!("ip link set far netns {}", nix::unistd::gettid()));
        sh("ip link set far up && ip address add 10.9.0.1/24 dev far");
        sh("ip neighbour add 10.9.0.2 lladdr 02:00:00:00:00:02 dev far nud permanent");
        let mut watching = Watching::new(&["10.9.0.2"], None);
        watching.wait(|watching| egress(watching).is_some() && index(watching, "far").is_some());
        assert_eq!(egress(&watching), index(&watching, "far"));
    });
}
