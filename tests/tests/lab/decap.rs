//! Packets that a backend's decapsulation accepts: forged tunnel packets from the edge's address, sent for real to a
//! backend that forwards.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use edge_tests::{
    lab::{
        patience::patience,
        small::{BACKENDS, CLIENT, Mode, Served, Small},
        status,
        topology::EDGE,
        wait_until,
    },
    packet::{Ip, Payload, Udp},
};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket};

/// The edge's tunnel sources, and the backend's addresses in the same order.
const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];
const ENDPOINTS: [&str; 2] = ["10.1.1.11", "fd01:1::11"];
/// A host behind the backend, to which the backend forwards.
const BEYOND: [&str; 2] = ["10.0.0.2", "fd00::2"];
const CLIENTS: [&str; 2] = ["198.51.100.7", "2001:db8:ffff::7"];
/// The lab's VIPs `4in4` and `6in6`.
const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];
const PORT: u16 = 4789;
/// How long a packet may take to the backend.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn nothing_is_relayed_that_is_for_no_vip_native() {
    nothing_is_relayed(Mode::Native);
}

#[test]
fn nothing_is_relayed_that_is_for_no_vip_generic() {
    nothing_is_relayed(Mode::Generic);
}

fn nothing_is_relayed(mode: Mode) {
    let world = Tunnel::new();
    let vips = VIPS.map(address);
    let beyond = BEYOND.map(|address| Inbox::of(&world, CLIENT, address));
    for (number, inbox) in beyond.iter().enumerate() {
        for outer in [0, 1] {
            let inner = datagram(CLIENTS[number], BEYOND[number]);
            // With this address configured as a VIP, the backend forwards the packet.
            world.takes(mode, &[&vips[..], &[address(BEYOND[number])]].concat());
            world.send(outer, inner.clone());
            assert!(inbox.gets_one(), "the backend forwards");
            world.takes(mode, &vips);
            world.send(outer, inner);
            assert!(!inbox.gets_one(), "relayed by IPv{}", 4 + 2 * outer);
        }
    }
    assert_eq!(world.packets("unknown_vip"), 4);
}

#[test]
fn forged_packets_do_not_reach_a_vip() {
    for mode in [Mode::Native, Mode::Generic] {
        let world = Tunnel::new();
        world.takes(mode, &VIPS.map(address));
        let inboxes = VIPS.map(|vip| Inbox::of(&world, BACKENDS[0], vip));
        for (number, inbox) in inboxes.iter().enumerate() {
            for outer in [0, 1] {
                world.send(outer, datagram(CLIENTS[number], VIPS[number]));
                assert!(inbox.gets_one(), "from a client");
                let here = ENDPOINTS[outer];
                let mut left = BTreeMap::new();
                for (to, forged, exit) in [
                    (here, datagram(["127.0.0.1", "::1"][number], VIPS[number]), "martian_source"),
                    (here, datagram(["169.254.0.1", "fe80::1"][number], VIPS[number]), "martian_source"),
                    (here, datagram(ENDPOINTS[number], VIPS[number]), "own_source"),
                    (here, datagram(VIPS[number], VIPS[number]), "own_source"),
                    (here, datagram(CLIENTS[number], ["224.0.0.1", "ff02::1"][number]), "inner_multicast"),
                    (here, datagram(CLIENTS[number], ["127.0.0.1", "::1"][number]), "unknown_vip"),
                    (here, within(CLIENTS[number], VIPS[number], datagram(CLIENTS[0], VIPS[0])), "nested_tunnel"),
                    // The VIP is an address of the backend, but not one that edges send tunnel packets to.
                    (VIPS[outer], datagram(CLIENTS[number], VIPS[number]), "wrong_endpoint"),
                ] {
                    let before = world.packets(exit);
                    world.send_to(outer, to, forged.clone());
                    let has_left = wait_until(patience(SOON), || Ok(world.packets(exit) > before));
                    assert!(has_left.unwrap(), "{exit}: {forged:?}");
                    left.insert(exit, before + 1);
                }
                // Long after the last of these packets.
                assert!(!inbox.gets_one(), "one of these came through: {left:?}");
                for (exit, packets) in left {
                    assert_eq!(world.packets(exit), packets, "{exit}");
                }
            }
        }
        assert_eq!(world.packets("decapsulated"), 4);
    }
}

struct Tunnel {
    lab: Small,
}

impl Tunnel {
    fn new() -> Self {
        let lab = Small::on_veth().expect("the lab comes up");
        assert_eq!(["4in4", "6in6"].map(|name| Served::named(name).vip), VIPS.map(address));
        let backend = lab.netns(BACKENDS[0]);
        backend.set("ipv4/ip_forward", "1").expect("it forwards");
        backend.set("ipv6/conf/all/forwarding", "1").expect("it forwards");
        // The edge's own kernel routes packets for a VIP to the backend.
        for (vip, to) in VIPS.into_iter().zip(ENDPOINTS) {
            lab.netns(EDGE).ip(&format!("route add {vip} via {to}\n")).expect("a route to the VIP");
        }
        Self { lab }
    }

    fn takes(&self, mode: Mode, vips: &[IpAddr]) {
        self.lab.decapsulate_for(BACKENDS[0], mode, &SOURCES, vips).expect("decapsulation attaches");
    }

    /// Number of packets that left by an exit.
    fn packets(&self, exit: &str) -> u64 {
        let status = self.lab.decap(BACKENDS[0], &["--status", "--json"]).expect("a status");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status::exit(&status, exit).expect("an exit")
    }

    /// Sends `inner` in a tunnel of IPv4 or IPv6.
    fn send(&self, outer: usize, inner: Ip) {
        self.send_to(outer, ENDPOINTS[outer], inner);
    }

    fn send_to(&self, outer: usize, to: &str, inner: Ip) {
        let packet = within(SOURCES[outer], to, inner).bytes();
        let family = [AddressFamily::Inet, AddressFamily::Inet6][outer];
        let to = SockaddrStorage::from(SocketAddr::new(address(to), 0));
        let send = || {
            // The packet includes its IP header (raw(7)).
            let socket =
                socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).expect("a raw socket");
            sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).expect("the packet is sent");
        };
        self.lab.netns(EDGE).within(send).expect("a thread at the edge");
    }
}

/// A socket that receives datagrams.
struct Inbox(UdpSocket);

impl Inbox {
    fn of(world: &Tunnel, host: &str, at: &str) -> Self {
        let socket = world.lab.netns(host).within(|| UdpSocket::bind((address(at), PORT)));
        Self(socket.expect("a thread there").expect("the host has this address"))
    }

    /// Whether a datagram arrives within a while.
    fn gets_one(&self) -> bool {
        self.0.set_read_timeout(Some(patience(Duration::from_millis(200)))).expect("a timeout");
        self.0.recv(&mut [0; 64]).is_ok()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn datagram(source: &str, destination: &str) -> Ip {
    let payload = Payload::Udp(Udp { destination: PORT, data: b"hello".to_vec(), ..Udp::default() });
    Ip::new(address(source), address(destination), payload)
}

/// `inner` in a tunnel packet.
fn within(source: &str, destination: &str, inner: Ip) -> Ip {
    Ip::new(address(source), address(destination), Payload::Ip(Box::new(inner)))
}
