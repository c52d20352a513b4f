//! Typical uses: name servers, traceroute, iperf3, and paths whose MTU is smaller than both ends assume.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use edge_tests::lab::{
    bulk::{self, BULK, Bulk, Direction},
    dnsmasq,
    extent::extent,
    nginx,
    patience::patience,
    process::Process,
    small::{BACKENDS, CLIENT, behind::addresses},
    tool,
    traced::{self, Datagrams, IPERF3},
    wait_until,
};

use super::{Nat, VIPS, configuration};

const DNS: u16 = 53;
/// A query for the text of `long.example.org` without EDNS: the answer is truncated over UDP, and complete over TCP.
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04long\x07example\x03org\0\0\x10\0\x01";
/// Longest datagram without EDNS (RFC 1035, section 4.2.1).
const SHORT: usize = 512;

fn with_ports(ports: &str) -> String {
    let more = format!("[[service]]\nname = \"more\"\nvips = [\"{}\", \"{}\"]\nports = [{ports}]\n", VIPS[0], VIPS[1]);
    configuration(&more)
}

#[test]
fn a_name_server_answers_by_udp_and_by_tcp() {
    let mut nat = Nat::without_balancer();
    let start = |name: &&str| {
        let dir = nat.dir.path().join(format!("dns-{name}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        dnsmasq::start(nat.lab.netns(name), &dir).expect("it starts")
    };
    let servers: Vec<Process> = BACKENDS.iter().map(start).collect();
    for name in BACKENDS {
        let listens = || Ok(nat.lab.netns(name).within(|| TcpStream::connect(("127.0.0.1", DNS)))?.is_ok());
        assert!(wait_until(patience(Duration::from_secs(10)), listens).expect("a namespace"), "{name}");
    }
    nat.balance(&with_ports("\"53/udp\", \"53/tcp\""));
    let wait = Some(patience(Duration::from_secs(3)));
    for vip in VIPS {
        let to = SocketAddr::new(vip.parse().expect("an address"), DNS);
        let exchange = || -> std::io::Result<()> {
            let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.set_read_timeout(wait)?;
            socket.connect(to)?;
            socket.send(QUESTION)?;
            let mut answer = [0; 2048];
            let length = socket.recv(&mut answer)?;
            assert!(length <= SHORT && answer[2] & 2 != 0, "{to}/udp is cut off: {length}");
            let mut stream = TcpStream::connect_timeout(&to, patience(Duration::from_secs(3)))?;
            stream.set_read_timeout(wait)?;
            let length = u16::try_from(QUESTION.len()).expect("short");
            stream.write_all(&[&length.to_be_bytes(), QUESTION].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer)?;
            assert!(answer.len() > SHORT && answer[..2] == QUESTION[..2], "{to}/tcp: {} bytes", answer.len());
            Ok(())
        };
        let exchanged = nat.lab.netns(CLIENT).within(exchange).expect("a namespace");
        exchanged.unwrap_or_else(|error| panic!("{to}: {error}"));
    }
    drop(servers);
}

#[test]
fn a_traceroute_shows_the_edge_and_the_service() {
    let nat = Nat::start("");
    for (vip, edge) in VIPS.into_iter().zip(["10.0.0.1", "fd00::1"]) {
        let hops = traced::traceroute(nat.lab.netns(CLIENT), vip, super::NOBODY).expect("it runs");
        println!("{vip}: {hops:?}");
        // The edge answers from the VIP, the only address of the edge that a client knows.
        let (last, before) = hops.split_last().expect("some hops");
        assert_eq!(last, vip, "{hops:?}");
        assert!(before.len() == 1 && [edge, vip].contains(&before[0].as_str()), "{hops:?}");
    }
}

#[test]
fn iperf3_gets_its_datagrams_through_either_way() {
    let mut nat = Nat::without_balancer();
    let servers: Vec<Process> = BACKENDS
        .iter()
        .map(|name| {
            let mut command = nat
                .lab
                .netns(name)
                .command(traced::binary("iperf3", "iperf3").expect("it is there"))
                .expect("a command");
            command.args(["--server", "--port", &IPERF3.to_string()]);
            Process::start("iperf3", &mut command, &nat.dir.path().join(format!("iperf3-{name}.log")))
                .expect("it starts")
        })
        .collect();
    nat.balance(&with_ports(&format!("\"{IPERF3}/udp\", \"{IPERF3}/tcp\"")));
    let lasts = extent(Duration::from_secs(2), Duration::from_secs(30));
    for vip in VIPS {
        for reverse in [false, true] {
            let seen = traced::iperf3_udp(nat.lab.netns(CLIENT), vip, 5_000_000, lasts, reverse).expect("it runs");
            println!("{vip}, reverse {reverse}: {seen:?}");
            let Datagrams { sent, lost } = seen;
            // Losses in queues due to other work of the machine are not the translation's.
            assert!(sent > 500 && lost * 100 <= sent, "{vip}: {seen:?}");
        }
    }
    drop(servers);
}

/// Routers before the backend, and before the client, have links with a smaller MTU: errors to either side are
/// translated.
#[test]
fn both_ends_learn_what_a_path_carries() {
    const LENGTH: u64 = 4 << 20;
    const MTU: u16 = 1300;
    const FAR: [&str; 2] = ["far-client", "far-backend"];
    let mut nat = Nat::without_balancer();
    nat.lab.behind(CLIENT, FAR[0], 1, MTU).expect("a client behind a router");
    nat.lab.behind(BACKENDS[0], FAR[1], 2, MTU).expect("a backend behind a router");
    let far = nat.lab.netns(FAR[1]);
    let _web = nginx::start(far, "a1", &nat.dir.path().join("far")).expect("nginx starts");
    let _bulk = Bulk::start(far).expect("it listens");
    let [v4, v6] = addresses(2);
    nat.balance(&configuration("").replace("10.1.1.11", &v4).replace("fd01:1::11", &v6));
    let has_learnt = |host: &str, address: &str| {
        let mut command = nat.lab.netns(host).command("ip").expect("a command");
        tool::run(command.args(["route", "get", address])).expect("a route").contains(&format!("mtu {MTU}"))
    };
    let forget = |host: &str| {
        for family in ["-4", "-6"] {
            let mut command = nat.lab.netns(host).command("ip").expect("a command");
            tool::run(command.args([family, "route", "flush", "cache"])).expect("it is forgotten");
        }
    };
    for (vip, source) in VIPS.into_iter().zip(["10.0.0.1", "fd00::1"]) {
        let to = SocketAddr::new(vip.parse().expect("an address"), BULK);
        for (direction, host, learnt) in [(Direction::Up, FAR[0], vip), (Direction::Down, FAR[1], source)] {
            assert!(!has_learnt(host, learnt), "{host} has learnt it already");
            let exchanged = nat.lab.netns(FAR[0]).within(|| bulk::exchange(to, direction, LENGTH));
            exchanged.expect("a namespace").unwrap_or_else(|error| panic!("{vip} {direction:?}: {error}"));
            assert!(has_learnt(host, learnt), "{host} has not learnt what the path to {learnt} carries");
            // A host that knows the MTU also announces a smaller MSS, and the other side would have nothing to learn.
            for host in FAR {
                forget(host);
            }
        }
    }
}
