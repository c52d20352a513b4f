//! The lab without a load balancer: a failure here is a fault of the lab.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr},
    sync::mpsc,
    time::Duration,
};

use edge_tests::lab::{
    Lab, Options,
    load::{Load, Reuse, Stream, report},
    tcp_echo::{self, TcpEcho},
    topology::{Backend, ECHO, EDGE, Family, HTTP, Part, ROUTER},
    udp_echo,
    udp_late::{self, UdpLate},
};

#[test]
fn every_backend_answers_on_every_address() {
    let lab = Lab::up(&Options::default()).unwrap();
    for backend in Backend::all() {
        for family in [Family::V4, Family::V6] {
            let address = backend.address(Part::Wan, family);
            let target = std::net::SocketAddr::new(address, HTTP);
            assert_eq!(lab.curl("client1", &format!("http://{target}/")).unwrap(), backend.to_string());
            let target = std::net::SocketAddr::new(backend.address(Part::Lan, family), HTTP);
            assert_eq!(lab.curl(EDGE, &format!("http://{target}/healthz")).unwrap(), "ok");
        }
    }
}

#[test]
fn a_vip_that_the_edge_routes_to_a_backend_is_served_by_it() {
    let lab = Lab::up(&Options::default()).unwrap();
    lab.netns(EDGE).ip("route add 192.0.2.10 via 10.0.1.22").unwrap();
    assert_eq!(lab.curl("client1", "http://192.0.2.10/").unwrap(), "b2");
    let target = (Ipv4Addr::new(192, 0, 2, 10), 7).into();
    let answer = lab.netns("client2").within(|| udp_echo::request(target, b"who?", Duration::from_secs(1)));
    assert_eq!(answer.unwrap().unwrap(), "b2");
}

#[test]
fn parts_and_errors_reach_a_backend_that_the_edge_routes_to() {
    let lab = Lab::up(&Options::default()).unwrap();
    lab.netns(EDGE).ip("route add 192.0.2.10 via 10.0.1.22\nroute add 2001:db8::10 via fd00:1::22\n").unwrap();
    let backend = lab.netns("b2");
    let _echo = TcpEcho::start(backend, "b2").unwrap();
    let vips = [IpAddr::from([192, 0, 2, 10]), "2001:db8::10".parse().unwrap()];
    let client = lab.netns("client1");
    for vip in vips {
        let answer = client.within(|| udp_echo::request((vip, ECHO).into(), &[7; 4000], Duration::from_secs(1)));
        assert_eq!(answer.unwrap().unwrap(), "b2", "{vip}");

        let (sender, heard) = mpsc::channel();
        let _late = UdpLate::start(backend, (vip, 9).into(), sender).unwrap();
        client.within(|| udp_late::leave((vip, 9).into())).unwrap().unwrap();
        let error = heard.recv_timeout(Duration::from_secs(2)).unwrap();
        assert_eq!(error, Some(ErrorKind::ConnectionRefused), "{vip}");
    }
    // A narrow return path, whose router has a route to the sender of packets that are too long for it.
    lab.netns(ROUTER)
        .ip("link set front mtu 1300\nroute add 192.0.2.0/24 via 10.0.0.1\nroute add 2001:db8::/64 via fd00::1\n")
        .unwrap();
    let data: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
    for vip in vips {
        let exchange = client.within(|| tcp_echo::exchange((vip, ECHO).into(), &data)).unwrap();
        assert_eq!(exchange.unwrap().backend, "b2", "{vip}");
    }
}

#[test]
fn load_sees_a_dead_backend_and_its_return() {
    let mut lab = Lab::up(&Options::default()).unwrap();
    lab.netns(EDGE).ip("route add 192.0.2.10 via 10.0.1.11").unwrap();
    let target = (Ipv4Addr::new(192, 0, 2, 10), HTTP).into();
    let streams = [Reuse::KeepAlive, Reuse::New].map(|reuse| Stream { target, reuse });
    let load = Load::start(lab.netns("client1"), &streams, 0, Duration::from_millis(10)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let a1 = Backend::named("a1").unwrap();
    lab.kill_backend(a1).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    lab.heal_backend(a1).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let records = load.stop().unwrap();
    let failed = records.iter().filter(|record| record.outcome.is_err()).count();
    assert!((1..10).contains(&failed), "{failed} of {} failed", records.len());
    assert!(report::longest_gap(&records) > Duration::from_millis(300));
    assert!(records.last().unwrap().outcome.is_ok(), "{:?}", records.last());
}

#[test]
fn nothing_is_left_of_a_lab() {
    let lab = Lab::up(&Options::default()).unwrap();
    let (prefix, dir) = (lab.prefix().to_owned(), lab.dir().to_owned());
    drop(lab);
    assert!(!dir.exists());
    let names = std::fs::read_dir("/run/netns").unwrap();
    assert_eq!(
        names.filter(|name| name.as_ref().unwrap().file_name().to_string_lossy().starts_with(&prefix)).count(),
        0
    );
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*dir.to_string_lossy()));
}
