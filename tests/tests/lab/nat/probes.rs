//! Probes of backends in `nat`: from the source of clients' packets, and never from one of its ports.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};

use edge_tests::lab::{patience::patience, small::BACKENDS, topology::EDGE, wait_until};

use super::{Nat, VIPS, configuration};

/// Nearly all ports that the kernel gives to sockets.
const PORTS: (u16, u16) = (16384, 60000);
/// The port that is probed.
const PROBED: u16 = 99;

/// Backends that answer nobody but the address of translated packets, as behind a security group.
#[test]
fn backends_that_accept_only_the_source_of_translated_packets_are_up_and_serve() {
    let mut nat = Nat::without_balancer();
    let mut listeners = Vec::new();
    for (number, name) in (1..).zip(BACKENDS) {
        let backend = nat.lab.netns(name);
        let others = format!("route add blackhole 10.1.{number}.1/32\nroute add blackhole fd01:{number}::1/128\n");
        backend.ip(&others).expect("routes");
        for address in [format!("10.1.{number}.11"), format!("fd01:{number}::11")] {
            let at = SocketAddr::new(address.parse().expect("an address"), PROBED);
            listeners.push(backend.within(|| TcpListener::bind(at)).expect("a namespace").expect("it listens"));
        }
    }
    let (first, last) = PORTS;
    nat.lab.netns(EDGE).set("ipv4/ip_local_reserved_ports", &format!("{first}-{last}")).expect("a setting");
    let text = configuration("")
        .replace("16384-20479", &format!("{first}-{last}"))
        .replace("nat_flows = 16384", "nat_flows = 65536")
        .replace("type = \"http\"\nport = 80\npath = \"/healthz\"", &format!("type = \"tcp\"\nport = {PROBED}"));
    nat.balance(&text);
    (0..BACKENDS.len()).for_each(|backend| nat.wait_for(backend, "up"));
    for listener in listeners {
        let (_, from) = listener.accept().expect("a probe");
        let source: IpAddr = if from.is_ipv4() { "10.0.0.1" } else { "fd00::1" }.parse().expect("an address");
        assert_eq!(from.ip(), source);
        assert!(!(first..=last).contains(&from.port()), "{from}");
    }
    for vip in VIPS {
        // The second pool serves for a moment if its backend is the first that is seen up.
        let by_first = || Ok(nat.request(vip, 4) == [BACKENDS[0].to_owned()].into());
        assert!(wait_until(patience(Duration::from_secs(5)), by_first).unwrap(), "{vip}");
    }
}
