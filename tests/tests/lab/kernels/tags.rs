//! A real driver that strips VLAN tags from frames before a program sees them.

use std::{collections::BTreeSet, time::Duration};

use edge_tests::{
    feature::{Feature, missing},
    lab::{
        patience::patience,
        small::{BACKENDS, CLIENT, Mode, Served, Small},
        tool,
        topology::EDGE,
        wait_until,
    },
};

/// MAC addresses of client, edge and backend: vmxnet3 devices.
const NICS: [[u8; 6]; 3] =
    [[0x52, 0x54, 0, 0, 0xed, 0x11], [0x52, 0x54, 0, 0, 0xed, 0x12], [0x52, 0x54, 0, 0, 0xed, 0x13]];

/// Time from a change of the host to its report in `status`.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn that_a_driver_takes_out_are_named_and_served_when_it_leaves_them() {
    let needed = [Feature::Devices(&NICS), Feature::Module("8021q")];
    if missing("that_a_driver_takes_out_are_named_and_served_when_it_leaves_them", &needed).is_some() {
        return;
    }
    let mut lab = Small::on_devices(&NICS).expect("the lab comes up");
    let (client, edge) = (lab.netns(CLIENT), lab.netns(EDGE));
    // The client is in a VLAN, the backend is not.
    let vip = Served::named("dsr4").vip;
    let vlan = |address| {
        format!("link add link eth0 name tagged type vlan id 5\nlink set tagged up\naddr add {address}/24 dev tagged\n")
    };
    edge.ip(&vlan("10.0.5.1")).unwrap();
    client.ip(&vlan("10.0.5.2")).unwrap();
    client.ip(&format!("route add {vip}/32 via 10.0.5.1 dev tagged src 10.0.5.2\n")).unwrap();
    lab.netns(BACKENDS[0]).ip("route add 10.0.5.0/24 via 10.0.0.1\n").unwrap();
    take_out(&lab, "on");
    lab.probe_addresses();
    lab.balance(Mode::Generic).unwrap();

    let warned = || lab.ctl(&["status"]).unwrap().contains("rxvlan off");
    assert!(wait_until(patience(SOON), || Ok(warned())).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    assert!(lab.request(vip, 1).is_err(), "the warning is right: what the program sends is in the wrong VLAN");

    take_out(&lab, "off");
    let only = BTreeSet::from([BACKENDS[0].to_owned()]);
    assert_eq!(lab.request(vip, 4).unwrap(), only);
    lab.ping(vip).expect("the edge answers in the VLAN");
    assert!(wait_until(patience(SOON), || Ok(!warned())).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
}

/// Sets whether the driver strips tags from received frames.
fn take_out(lab: &Small, on: &str) {
    let mut ethtool = lab.netns(EDGE).command("ethtool").expect("a namespace");
    tool::run(ethtool.args(["-K", "eth0", "rxvlan", on])).expect("the driver does it");
}
