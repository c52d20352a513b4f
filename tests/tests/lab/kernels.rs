//! Requirements of the kernel, with a test for each: the tests' names are the rows of docs/kernels.md.

mod bonds;
mod egress;
mod next_hops;
mod tags;
mod vlans;

use std::{collections::BTreeSet, time::Duration};

use edge_tests::{
    feature::{Feature, IPVSADM, missing},
    lab::{
        kept::Kept,
        netns::Netns,
        patience::patience,
        small::{BACKENDS, CLIENT, Mode, SERVED, Served, Small, UNSERVED},
        talk::TALK,
        tool,
        topology::{ECHO, EDGE, Family},
        wait_until,
    },
};

/// The edge's tunnel sources.
const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];

/// MAC addresses of client, edge and backend.
const NICS: [[u8; 6]; 3] = [[0x52, 0x54, 0, 0, 0xed, 1], [0x52, 0x54, 0, 0, 0xed, 2], [0x52, 0x54, 0, 0, 0xed, 3]];

#[test]
fn dsr_and_ipip_generic() {
    serve_all(Mode::Generic);
}

/// Serves all services over real sockets, with decapsulation at the backends.
fn serve_all(mode: Mode) -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    if mode == Mode::Generic {
        // A veth hands over the same packet that was redirected to it, and generic programs don't see such packets
        // again (`netif_receive_generic_xdp` in the kernel's net/core/dev.c). On a wire it would be a new packet.
        lab.probe_addresses();
    }
    lab.decapsulate_all(mode, &SOURCES).expect("decapsulation attaches");
    lab.balance(mode).expect("the load balancer starts");
    for host in [EDGE, BACKENDS[0], BACKENDS[1]] {
        let attached = lab.attached(host, "eth0").expect("ip shows a program");
        assert_eq!(attached.map(|(mode, _)| mode), Some(mode), "{host}");
    }
    // This kernel also accepts the programs beside the packet path.
    let status = lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("the daemon answers");
    assert!(status["daemon"]["probes"].is_null(), "probes go through the services: {status}");
    for backend in BACKENDS {
        let shortens = |path: &std::path::PathBuf| path.iter().any(|part| part == "mss");
        assert!(lab.pinned(backend).iter().any(shortens), "{backend} shortens segments: {:?}", lab.pinned(backend));
    }
    all_are_served(&lab);
    lab
}

fn all_are_served(lab: &Small) {
    for served in SERVED {
        assert_eq!(lab.use_it(served.vip).expect(served.name), lab.backends(), "{}", served.name);
    }
}

#[test]
fn dsr_and_ipip_native_with_drain_kill_restart_and_detach() {
    // A single lab for all of it: each start of a daemon costs an emulated CPU a verification.
    let mut lab = serve_all(Mode::Native);

    lab.ctl(&["drain", "p4/be1"]).unwrap();
    let only = BTreeSet::from(["be2".to_owned()]);
    for name in ["4in4", "6in4", "dsr4"] {
        assert_eq!(lab.request(Served::named(name).vip, 8).unwrap(), only, "{name} with be1 drained");
    }
    assert_eq!(lab.request(Served::named("6in6").vip, 12).unwrap(), lab.backends(), "the other pool");

    let kept = keep(&lab);
    let all_go_on = || kept.iter().try_for_each(|flow| flow.wait_for(10)).unwrap();
    all_go_on();
    lab.kill_daemon().unwrap();
    let (_, before) = lab.attached(EDGE, "eth0").unwrap().expect("the program outlives the daemon");
    assert_eq!(lab.request(Served::named("dsr6").vip, 12).unwrap(), lab.backends(), "served without a daemon");
    assert!(lab.ctl(&["status"]).unwrap().contains("ask-4in4"), "a status without a daemon");
    lab.ctl(&["drain", "p6/be2"]).unwrap();

    lab.start_daemon().unwrap();
    // The daemon loads its program while the program that it found serves.
    let replaced = wait_until(patience(Duration::from_secs(30)), || {
        let (mode, now) = lab.attached(EDGE, "eth0")?.expect("a program at any moment");
        assert_eq!(mode, Mode::Native);
        Ok(now != before)
    });
    assert!(replaced.unwrap(), "the link never had the new daemon's program");
    all_go_on();
    for kept in kept {
        kept.end().unwrap();
    }
    assert!(lab.ctl(&["events"]).unwrap().contains("adopted"), "the daemon adopts what it finds");
    assert_eq!(lab.request(Served::named("4in4").vip, 8).unwrap(), only, "be1 is drained still");
    let only = BTreeSet::from(["be1".to_owned()]);
    assert_eq!(lab.request(Served::named("6in6").vip, 8).unwrap(), only, "what was drained without a daemon is");
    lab.ctl(&["enable", "p4/be1"]).unwrap();
    assert_eq!(lab.request(Served::named("4in4").vip, 12).unwrap(), lab.backends(), "enabled again");

    lab.detach().unwrap();
    assert_eq!(lab.attached(EDGE, "eth0").unwrap(), None);
    assert_eq!(lab.pinned(EDGE), Vec::<std::path::PathBuf>::new());
    for backend in BACKENDS {
        lab.decap(backend, &["--detach"]).unwrap();
        assert_eq!(lab.attached(backend, "eth0").unwrap(), None);
        assert_eq!(lab.pinned(backend), Vec::<std::path::PathBuf>::new());
    }
}

/// Long-lived flows, each over another path.
fn keep(lab: &Small) -> Vec<Kept> {
    let client = lab.netns(CLIENT);
    let tcp = ["4in4", "6in6", "dsr4"].map(|name| Kept::tcp(client, Served::named(name).at(TALK)));
    let udp = ["6in4", "dsr6"].map(|name| Kept::udp(client, Served::named(name).at(ECHO)));
    tcp.into_iter().chain(udp).map(|flow| flow.expect("a flow")).collect()
}

#[test]
fn kernel_tunnels_take_what_the_edge_encapsulates() {
    if lacks_tunnels("kernel_tunnels_take_what_the_edge_encapsulates") {
        return;
    }
    let mut lab = Small::on_veth().unwrap();
    for (number, backend) in (1..).zip(BACKENDS) {
        let (v4, v6) = (format!("10.1.{number}.11"), format!("fd01:{number}::11"));
        tunnel(lab.netns(backend), "ipip1", &format!("ipip local {v4} remote any"));
        tunnel(lab.netns(backend), "sit1", &format!("sit local {v4} remote any"));
        tunnel(lab.netns(backend), "tnl1", &format!("ip6tnl mode any local {v6} remote ::"));
        lab.pass(backend).unwrap();
    }
    lab.balance(Mode::Native).unwrap();
    for served in SERVED.into_iter().filter(Served::is_tunnel) {
        assert_eq!(lab.use_it(served.vip).expect(served.name), lab.backends(), "{}", served.name);
    }
}

#[test]
fn decap_takes_what_kernel_tunnels_encapsulate() {
    if lacks_tunnels("decap_takes_what_kernel_tunnels_encapsulate") {
        return;
    }
    let lab = Small::on_veth().unwrap();
    let (edge, only) = (lab.netns(EDGE), BTreeSet::from(["be1".to_owned()]));
    let kinds = [
        ("4in4", Family::V4, "ipip local 10.0.0.1 remote 10.1.1.11"),
        ("6in4", Family::V6, "sit local 10.0.0.1 remote 10.1.1.11"),
        ("4in6 with a limit of encapsulation", Family::V4, "ip6tnl mode any local fd00::1 remote fd01:1::11"),
        ("6in6 with a limit of encapsulation", Family::V6, "ip6tnl mode any local fd00::1 remote fd01:1::11"),
        ("4in6", Family::V4, "ip6tnl mode any local fd00::1 remote fd01:1::11 encaplimit none"),
        ("6in6", Family::V6, "ip6tnl mode any local fd00::1 remote fd01:1::11 encaplimit none"),
    ];
    lab.decapsulate(BACKENDS[0], Mode::Native, &SOURCES).unwrap();
    for (what, family, kind) in kinds {
        tunnel(edge, "tunnel", kind);
        let vip = UNSERVED[usize::from(family == Family::V6)];
        edge.ip(&format!("route add {vip} dev tunnel")).unwrap();
        assert_eq!(lab.use_it(vip).expect(what), only, "{what}");
        edge.ip("link del tunnel").unwrap();
    }
}

#[test]
fn decap_takes_what_ipvs_encapsulates() {
    let modules = ["ip_vs", "ip_vs_rr"].map(Feature::Module);
    if missing("decap_takes_what_ipvs_encapsulates", &[&[Feature::Ipvsadm], &modules[..]].concat()).is_some() {
        return;
    }
    let lab = Small::on_veth().unwrap();
    let edge = lab.netns(EDGE);
    // The director's tunnels start at its address in the backend's segment.
    lab.decapsulate_all(Mode::Native, &["10.1.1.1", "10.1.2.1", "fd01:1::1", "fd01:2::1"]).unwrap();
    // A VIP is the director's own address. Answers, whose source is the VIP, pass through the director here.
    for scope in ["all", "eth1", "eth2"] {
        edge.set(&format!("ipv4/conf/{scope}/accept_local"), "1").unwrap();
    }
    let ipvsadm = std::env::var_os(IPVSADM).expect("it is there");
    let command = |line: &str| tool::run(edge.command(&ipvsadm).unwrap().args(line.split(' '))).unwrap();
    for name in ["4in4", "6in6", "4in6", "6in4"] {
        let vip = Served::named(name).vip;
        edge.ip(&format!("addr add {vip} dev lo")).unwrap();
        for kind in ["-t", "-u"] {
            let service = Served::named(name).at(ECHO);
            command(&format!("-A {kind} {service} -s rr"));
            for backend in 1..=2 {
                let real = if name.ends_with('4') {
                    format!("10.1.{backend}.11:{ECHO}")
                } else {
                    format!("[fd01:{backend}::11]:{ECHO}")
                };
                command(&format!("-a {kind} {service} -r {real} -i"));
            }
        }
        // The director answers pings itself.
        assert_eq!(lab.use_it(vip).expect(name), lab.backends(), "{name}");
    }
}

#[test]
fn dsr_and_ipip_native_on_virtio_net() {
    let needed = [Feature::Devices(&NICS), Feature::SharedTransmitQueues];
    if missing("dsr_and_ipip_native_on_virtio_net", &needed).is_some() {
        return;
    }
    let mut lab = Small::on_devices(&NICS).unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    lab.balance(Mode::Native).unwrap();
    assert_eq!(lab.attached(EDGE, "eth0").unwrap().unwrap().0, Mode::Native);
    all_are_served(&lab);
}

fn lacks_tunnels(test: &str) -> bool {
    missing(test, &["ipip", "sit", "ip6_tunnel"].map(Feature::Module)).is_some()
}

/// Creates a tunnel device of the kernel.
fn tunnel(netns: &Netns, name: &str, kind: &str) {
    netns.ip(&format!("link add {name} type {kind}\nlink set {name} up\n")).expect("a tunnel device");
}
