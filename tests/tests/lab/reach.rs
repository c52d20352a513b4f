//! A backend that this host can't reach gets no packets, as soon as this is known. `failover_time` has the time that
//! this takes.

use std::{collections::BTreeSet, time::Duration};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, Mode, Served, Small},
    topology::EDGE,
    wait_until,
};

/// A time in which a change is noticed on any machine.
const NOTICED: Duration = Duration::from_secs(5);

/// Waits until the status contains `text`.
#[track_caller]
fn says(lab: &Small, text: &str) {
    let status = || lab.ctl(&["status"]).expect("a status");
    let said = wait_until(patience(NOTICED), || Ok(status().contains(text))).expect("it can be looked at");
    assert!(said, "{text}: {}", status());
}

/// Each change with its reversal.
const UNREACHABLE: [(&str, &str); 4] = [
    ("link set eth1 down\n", "link set eth1 up\nroute replace 10.1.1.0/24 dev eth1\n"),
    ("route add blackhole 10.1.1.11/32\n", "route del blackhole 10.1.1.11/32\n"),
    // The host's own stack could send by these, but the program can't.
    ("route add 10.1.1.11/32 dev vxlan0\n", "route del 10.1.1.11/32 dev vxlan0\n"),
    ("addr add 10.1.1.11/32 dev lo\n", "addr del 10.1.1.11/32 dev lo\n"),
];

#[test]
fn a_link_that_is_down_and_a_route_that_is_gone_move_new_flows_at_once() {
    for (gone, back) in UNREACHABLE {
        // Each in a lab of its own: a backend that flaps returns later each time.
        let mut lab = Small::on_veth().unwrap();
        lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
        lab.balance(Mode::Native).unwrap();
        let only = BTreeSet::from([BACKENDS[1].to_owned()]);
        let edge = lab.netns(EDGE);
        edge.ip("link add vxlan0 type vxlan id 7 remote 10.1.2.11 dstport 4789\nlink set vxlan0 up\n").unwrap();
        edge.ip(gone).unwrap();
        says(&lab, "unreachable from this host");
        for name in ["4in4", "6in4"] {
            assert_eq!(lab.request(Served::named(name).vip, 12).unwrap(), only, "{name} after {gone}");
        }
        edge.ip(back).unwrap();
        let both = wait_until(Duration::from_secs(10), || {
            Ok(lab.request(Served::named("4in4").vip, 12).is_ok_and(|served| served == lab.backends()))
        });
        assert!(both.unwrap(), "both serve again after {back}: {}", lab.ctl(&["status"]).unwrap());
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
    lab.request(Served::named("dsr4").vip, 12).unwrap();
    assert!(sent() > 0);
    // From now on the first backend is behind the second one. Frames to the VIP would end there, or loop.
    lab.netns(EDGE).ip("route add 10.1.1.11/32 via 10.1.2.11\n").unwrap();
    says(&lab, "it is behind the router 10.1.2.11");
    let before = sent();
    lab.request(Served::named("dsr4").vip, 12).unwrap();
    assert_eq!(sent(), before);
}

#[test]
fn an_edge_that_is_cut_off_reports_it_and_leaves_all_as_it_was() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    lab.netns(EDGE).ip("link set eth1 down\nlink set eth2 down\n").unwrap();
    let reported = wait_until(Duration::from_secs(5), || {
        Ok(lab.ctl(&["events"])?.lines().filter(|line| line.contains("  unreachable ")).count() >= 2)
    });
    let events = lab.ctl(&["events"]).unwrap();
    assert!(reported.unwrap() && events.contains("so it stays as it was"), "{events}");
    std::thread::sleep(Duration::from_secs(2));
    // The backend that was cut off first is out, since the other one was still available; no pool is empty.
    let status = lab.ctl(&["status"]).unwrap();
    assert!(!status.contains("exhausted"), "{status}");
    lab.netns(EDGE).ip("link set eth1 up\nlink set eth2 up\n").unwrap();
    lab.netns(EDGE).ip("addr replace fd01:1::1/64 dev eth1 nodad\naddr replace fd01:2::1/64 dev eth2 nodad\n").unwrap();
    let both = wait_until(Duration::from_secs(10), || {
        Ok(lab.request(Served::named("4in4").vip, 12).is_ok_and(|served| served == lab.backends()))
    });
    assert!(both.unwrap(), "{}", lab.ctl(&["status"]).unwrap());
}

#[test]
fn a_backend_whose_next_hop_was_never_known_is_not_sent_to() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    // Without probes, so that nothing else is known of the backend.
    let vip = edge_tests::lab::small::UNSERVED[0];
    let ghost = format!(
        "\n[[pool]]\nname = \"ghost\"\nbackend = [{{ name = \"ghost\", address = \"10.1.1.99\" }}]\n\
         \n[[service]]\nname = \"ghost\"\nvips = [\"{vip}\"]\nports = [\"7/udp\"]\nmode = \"ipip\"\n\
         pools = [\"ghost\", \"p4\"]\n"
    );
    lab.prepare(Mode::Native, &ghost).unwrap();
    lab.start_daemon().unwrap();
    // The kernel sends three solicitations, a second apart.
    let out = wait_until(Duration::from_secs(15), || {
        Ok(lab.ctl(&["status"])?.contains("its next hop 10.1.1.99 does not answer"))
    });
    assert!(out.unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    let service = std::net::SocketAddr::new(vip, 7);
    let exchange = || edge_tests::lab::udp_echo::request(service, b"who?", Duration::from_secs(1)).is_ok();
    assert!(lab.netns("client").within(|| (0..12).all(|_| exchange())).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
}
