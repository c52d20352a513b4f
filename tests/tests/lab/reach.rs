//! A backend that this host can send nothing to gets nothing, as soon as that is known.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    small::{BACKENDS, Mode, Served, Small},
    topology::EDGE,
};

/// From the change to the moment when packets go elsewhere: the time that changes are collected for, and a debug build's work.
const SOON: Duration = Duration::from_millis(300);

#[test]
fn a_link_that_is_down_and_a_route_that_is_gone_move_new_flows_at_once() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    let only = BTreeSet::from([BACKENDS[1].to_owned()]);
    let edge = lab.netns(EDGE);
    for (gone, back) in [
        ("link set eth1 down\n", "link set eth1 up\nroute replace 10.1.1.0/24 dev eth1\n"),
        ("route add blackhole 10.1.1.11/32\n", "route del blackhole 10.1.1.11/32\n"),
    ] {
        let start = Instant::now();
        edge.ip(gone).unwrap();
        std::thread::sleep(SOON.saturating_sub(start.elapsed()));
        for name in ["4in4", "6in4"] {
            assert_eq!(lab.ask(Served::named(name).vip, 12).unwrap(), only, "{name} after {gone}");
        }
        let status = lab.ctl(&["status"]).unwrap();
        assert!(status.contains("nothing can be sent there"), "{status}");
        edge.ip(back).unwrap();
        let both = edge_tests::lab::wait_until(Duration::from_secs(5), || {
            Ok(lab.ask(Served::named("4in4").vip, 12).is_ok_and(|served| served == lab.backends()))
        });
        assert!(both.unwrap(), "both serve again after {back}");
    }
}

#[test]
fn in_dsr_nothing_goes_to_a_backend_behind_a_router() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    let sent = || {
        let status = lab.edge().unwrap().status(lab.netns(EDGE)).unwrap();
        let pools = status["pools"].as_array().unwrap().clone();
        let mut backends = pools.iter().flat_map(|pool| pool["backends"].as_array().unwrap().clone());
        backends.find(|backend| backend["name"] == "p4/be1").unwrap()["traffic"]["packets"].as_u64().unwrap()
    };
    lab.ask(Served::named("dsr4").vip, 12).unwrap();
    assert!(sent() > 0);
    // The first backend is behind the second one from now on. Frames to the VIP would end there, or go in circles.
    lab.netns(EDGE).ip("route add 10.1.1.11/32 via 10.1.2.11\n").unwrap();
    std::thread::sleep(SOON);
    let before = sent();
    lab.ask(Served::named("dsr4").vip, 12).unwrap();
    assert_eq!(sent(), before);
    let status = lab.ctl(&["status"]).unwrap();
    assert!(status.contains("it is behind the router 10.1.2.11"), "{status}");
}
