//! Packets that are too long for the path to a backend, and fragmented packets: all of them arrive nevertheless.

use std::{collections::BTreeSet, io, sync::mpsc, time::Duration};

use anyhow::Result;
use edge_tests::lab::{
    Lab, Options,
    configuration::Configuration,
    tcp_echo::{self, Exchange, TcpEcho},
    topology::{Backend, ECHO, EDGE, EDGE_V4, EDGE_V6, Family, Part, Protocol, ROUTER, SERVICES, Service},
    udp_echo,
    udp_late::{self, UdpLate},
};

/// Size of an upload, bytes: 1 MB.
const UPLOAD: usize = 1_000_000;
/// MTU of the narrow link, bytes.
const NARROW: u32 = 1400;
/// MTU of a narrow link on the path to the clients, bytes.
const NARROWER: u32 = 1300;
/// Length of a UDP header, which a tunnel in UDP adds, bytes.
const UDP: u32 = 8;
/// MTU of an Ethernet link, which the clients assume for the whole path, bytes.
const WIDE: u32 = 1500;

#[test]
fn an_upload_completes_through_a_narrow_link_of_the_edge() {
    let world = Narrow::new(|lab| {
        // The path to the providers uses the segment that the edge shares with the router and with `dsr` backends.
        lab.netns(ROUTER).ip("addr add 10.0.1.254/24 dev lan\naddr add fd00:1::fe/64 dev lan nodad\n")?;
        lab.netns(EDGE).ip(&format!(
            "link set eth1 mtu {NARROW}\n\
             route add 10.1.0.0/24 via 10.0.1.254\nroute add 10.2.0.0/24 via 10.0.1.254\n\
             route add fd00:a::/64 via fd00:1::fe\nroute add fd00:b::/64 via fd00:1::fe\n"
        ))
    });
    for service in bulk() {
        let exchange = world.upload(service);
        let segments = [WIDE, NARROW - tunnel(service)].map(|mtu| segment(service, mtu));
        assert_eq!(exchange.segments, segments, "{}", service.name);
    }
}

#[test]
fn an_upload_completes_through_a_narrow_link_behind_the_edge() {
    // The router reports to the edge, the source of the packets on this path.
    let world = Narrow::new(|lab| narrow(lab, &["provider-a", "provider-b"], NARROW));
    for service in bulk().filter(|service| service.part == Part::Wan) {
        let exchange = world.upload(service);
        let segments = [WIDE, NARROW - tunnel(service)].map(|mtu| segment(service, mtu));
        assert_eq!(exchange.segments, segments, "{}", service.name);
    }
}

/// The router quotes a packet in UDP, and the edge reads the flow behind the UDP header.
#[test]
fn an_upload_in_udp_completes_through_a_narrow_link_behind_the_edge() {
    let world = Narrow::with(true, |lab| narrow(lab, &["provider-a", "provider-b"], NARROW));
    for service in bulk().filter(|service| service.part == Part::Wan) {
        let exchange = world.upload(service);
        let segments = [WIDE, NARROW - tunnel(service) - UDP].map(|mtu| segment(service, mtu));
        assert_eq!(exchange.segments, segments, "{}", service.name);
    }
}

#[test]
fn a_download_completes_through_a_narrow_link_to_the_client() {
    // The router reports to the backend by way of the VIP, the source of the backend's packets.
    let world = Narrow::new(|lab| {
        narrow(lab, &["front"], NARROWER)?;
        lab.netns(ROUTER).ip(&format!("route add 192.0.2.0/24 via {EDGE_V4}\nroute add 2001:db8::/64 via {EDGE_V6}\n"))
    });
    for service in bulk() {
        world.upload(service);
    }
}

#[test]
fn a_datagram_in_parts_arrives_whole() {
    let world = Narrow::new(|lab| {
        // Leaves room for a tunnel around each fragment: no part may be fragmented again, or reported as too long.
        let routes = format!(
            "route replace 192.0.2.0/24 via {EDGE_V4} mtu {NARROW}\nroute replace 2001:db8::/64 via {EDGE_V6} mtu {NARROW}\n"
        );
        lab.netns("client1").ip(&routes)
    });
    for service in Service::of(Protocol::Udp) {
        let exchange = |number: u8| udp_echo::request(service.address(), &[number; 4000], Duration::from_secs(1));
        let answers = world.client(|| (0..30).map(exchange).collect::<io::Result<BTreeSet<_>>>());
        let served = answers.unwrap_or_else(|error| panic!("{}: {error}", service.name));
        assert_eq!(served.into_iter().collect::<Vec<_>>(), ["a1", "a2", "a3"], "{}", service.name);
    }
}

#[test]
fn a_backend_receives_the_error_about_an_absent_client() {
    let world = Narrow::new(|lab| {
        lab.netns("client1").set("ipv4/icmp_ratelimit", "0")?;
        lab.netns("client1").set("ipv6/icmp/ratelimit", "0")
    });
    for service in late() {
        let (sender, heard) = mpsc::channel();
        let servers = Backend::all()
            .map(|backend| UdpLate::start(world.lab.netns(&backend.to_string()), service.address(), sender.clone()));
        let _servers: Vec<_> = servers.collect::<Result<_>>().expect("backends listen");
        for flow in 0..8 {
            world.client(|| udp_late::leave(service.address())).expect("a datagram is sent");
            let error = heard.recv_timeout(Duration::from_secs(2)).expect("a backend answered");
            assert_eq!(error, Some(io::ErrorKind::ConnectionRefused), "{}, flow {flow}", service.name);
        }
    }
}

/// Limits the MTU of the router's links to these segments.
fn narrow(lab: &Lab, segments: &[&str], mtu: u32) -> Result<()> {
    segments.iter().try_for_each(|segment| lab.netns(ROUTER).ip(&format!("link set {segment} mtu {mtu}")))
}

/// A lab with a TCP echo in each mode, whose hosts all send segments of their own link's size.
struct Narrow {
    _echoes: Vec<TcpEcho>,
    lab: Lab,
}

impl Narrow {
    /// `narrow` reduces the MTU of a path before the load balancer starts.
    fn new(narrow: impl FnOnce(&Lab) -> Result<()>) -> Self {
        Self::with(false, narrow)
    }

    /// As [`Self::new`], in UDP if `gue` is set.
    fn with(gue: bool, narrow: impl FnOnce(&Lab) -> Result<()>) -> Self {
        let mut lab = Lab::up(&Options::default()).expect("the lab comes up");
        let echoes =
            Backend::all().map(|backend| TcpEcho::start(lab.netns(&backend.to_string()), &backend.to_string()));
        let echoes = echoes.collect::<Result<_>>().expect("backends echo");
        narrow(&lab).expect("a path gets a small MTU");
        let edge_ctl = edge_tests::built("edge-ctl").expect("edge-ctl is built");
        // The MTU of tunnels is left to ICMP.
        let more = if gue { &["--keep-mss", "--gue"][..] } else { &["--keep-mss"] };
        lab.decapsulate_with(&edge_ctl, more).expect("backends decapsulate");
        let services = SERVICES.into_iter().chain(bulk()).chain(late()).collect();
        let configuration = Configuration { services, gue, ..Configuration::default() };
        lab.install_edge(&edge_ctl, &configuration.text()).expect("the load balancer starts");
        lab.wait_for_health(|_| "up").expect("every backend is seen up");
        Self { _echoes: echoes, lab }
    }

    /// Sends 1 MB from a client, and reads it back.
    #[track_caller]
    fn upload(&self, service: Service) -> Exchange {
        let data: Vec<u8> = (0..=250).cycle().take(UPLOAD).collect();
        let exchange = self.client(|| tcp_echo::exchange(service.address(), &data));
        exchange.unwrap_or_else(|error| panic!("{}: {error}", service.name))
    }

    /// Runs `work` on a client.
    fn client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.lab.netns("client1").within(work).expect("the client is there")
    }
}

/// A TCP echo service on each VIP that is routed to the edge.
fn bulk() -> impl Iterator<Item = Service> {
    let names = ["bulk-dsr4", "bulk-dsr6", "bulk-4in4", "bulk-6in6", "bulk-4in6", "bulk-6in4"];
    let webs = Service::of(Protocol::Tcp).filter(|service| !service.announced);
    webs.zip(names).map(|(web, name)| Service { name, port: ECHO, ..web })
}

/// A service that answers late, on the VIP of each echo.
fn late() -> impl Iterator<Item = Service> {
    let names = ["late-dsr4", "late-dsr6", "late-4in4", "late-6in6", "late-4in6", "late-6in4"];
    Service::of(Protocol::Udp).zip(names).map(|(echo, name)| Service { name, port: 9, ..echo })
}

/// Bytes that the tunnel to a service's backends adds to a packet.
fn tunnel(service: Service) -> u32 {
    match (service.part, service.via) {
        (Part::Lan, _) => 0,
        (Part::Wan, Family::V4) => 20,
        (Part::Wan, Family::V6) => 40,
    }
}

/// Data in the longest segment that fits an IP packet of `mtu` bytes, less the headers of IP and TCP, and its time
/// stamps.
fn segment(service: Service, mtu: u32) -> u32 {
    mtu - if service.vip.is_ipv4() { 20 } else { 40 } - 20 - 12
}
