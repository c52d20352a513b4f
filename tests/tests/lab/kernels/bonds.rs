//! A bond, for which the kernel runs a native program in the ports.

use std::time::Duration;

use edge_tests::{
    feature::{Feature, missing},
    lab::{
        link::{self, End},
        patience::patience,
        small::{CLIENT, Mode, Served, Small},
        topology::EDGE,
        wait_until,
        xdp_pass::XdpPass,
    },
};

/// Time until a bond sends by another port, and the client has found the edge there.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn native_on_a_bond_whose_ports_join_and_leave() {
    if missing("native_on_a_bond_whose_ports_join_and_leave", &[Feature::Module("bonding")]).is_some() {
        return;
    }
    let mut lab = Small::on_veth().expect("the lab comes up");
    // The bond gets the name and the addresses of its first port.
    let bond = "addr flush dev eth0\nlink set eth0 down\nlink set eth0 name port0\n\
                link add eth0 type bond mode active-backup miimon 10\nlink set port0 master eth0\nlink set eth0 up\n\
                addr add 10.0.0.1/24 dev eth0\naddr add fd00::1/64 dev eth0 nodad\n";
    lab.netns(EDGE).ip(bond).expect("a bond");
    lab.decapsulate_all(Mode::Native, &super::SOURCES).expect("decapsulation attaches");
    lab.balance(Mode::Native).expect("the load balancer starts");
    assert_eq!(lab.attached(EDGE, "eth0").unwrap().map(|(mode, _)| mode), Some(Mode::Native));
    let served = ["4in4", "dsr6"].map(Served::named);
    for Served { name, vip, .. } in served {
        assert_eq!(lab.use_it(vip).expect(name), lab.backends(), "{name}");
    }

    let (client, edge) = (lab.netns(CLIENT), lab.netns(EDGE));
    link::pair(End { netns: client, name: "eth9" }, End { netns: edge, name: "port1" }).expect("a second cable");
    let _passing = XdpPass::attach(client, "eth9").expect("a program at its far end");
    edge.ip("link set port1 down\nlink set port1 master eth0\n").expect("the bond takes the second port");
    client
        .ip("addr flush dev eth0\nlink set eth0 down\naddr add 10.0.0.2/24 dev eth9\naddr add fd00::2/64 dev eth9 nodad\n\
             route add default via 10.0.0.1\nroute add default via fd00::1\n")
        .expect("the client has the second cable only");
    let serves = || served.iter().all(|served| lab.use_it(served.vip).is_ok_and(|names| names == lab.backends()));
    assert!(wait_until(patience(SOON), || Ok(serves())).unwrap(), "by the port that joined");
    edge.ip("link set port0 nomaster\n").expect("the first port leaves");
    assert!(wait_until(patience(SOON), || Ok(serves())).unwrap(), "after another port left");
}
