//! Measures the cost of a datagram's whole path, from a client's `send` to a backend's socket, with this load balancer
//! and with its alternatives in the kernel, in one topology.
//!
//! Meant for a machine that counts instructions as time (`cargo xtask vm --icount`). With one CPU, a packet's whole
//! path is executed before the sender continues.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use edge_common::abi::{Exit, program};

use crate::{
    both::{self, Both},
    cases::{self, Scene},
    lab::{
        netns::Netns,
        patience::patience,
        small::{BACKENDS, CLIENT, Mode, SINK, Served, Small, UNSERVED},
        tool,
        topology::EDGE,
        wait_until,
    },
    namespace::in_namespace,
};

/// Datagrams of a measurement, and of the warm-up before it.
const COUNT: u32 = 4_000;
const WARM_UP: u32 = 500;
/// Bytes of data in a 64-byte frame over IPv4.
const DATA: usize = 22;
/// Most datagrams that wait in the backend's socket.
const BATCH: u32 = 32;

/// A path for datagrams from the client to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketPath {
    /// The edge's kernel routes the VIP to the backend.
    Forwarding,
    EdgeDsr,
    EdgeIpip,
    IpvsDr,
    IpvsTun,
    /// Destination NAT.
    Nftables,
}

impl PacketPath {
    pub const ALL: [Self; 6] =
        [Self::Forwarding, Self::EdgeDsr, Self::EdgeIpip, Self::IpvsDr, Self::IpvsTun, Self::Nftables];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "plain forwarding",
            Self::EdgeDsr => "edge dsr",
            Self::EdgeIpip => "edge ipip, edge-ctl decap",
            Self::IpvsDr => "IPVS DR",
            Self::IpvsTun => "IPVS TUN, kernel ipip",
            Self::Nftables => "nftables DNAT",
        }
    }
}

/// Programs that the paths need.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    pub ipvsadm: &'a Path,
    pub nft: &'a Path,
}

/// Duration of one run of the load balancer's program for a packet of each kind, including the kernel's work to start
/// it.
///
/// # Panics
/// If the program does not load.
pub fn programs() -> Vec<(String, Duration)> {
    let scene = Scene::new();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        let kinds = [Exit::IpipTx, Exit::DsrTx, Exit::NotOurs];
        let cases = cases::all(&scene);
        let first = |exit: Exit| {
            cases.iter().find(|case| case.exit == both::ProgramExit::Edge(exit) && case.arrival.metadata == 0)
        };
        kinds
            .into_iter()
            .filter_map(first)
            .map(|case| {
                // The first runs also pay for cold caches.
                let runs = (0..20).map(|_| both.kernel.duration(program::EDGE, &case.frame));
                (format!("program: {}", case.name), runs.min().unwrap_or_default())
            })
            .collect()
    })
}

/// Time per datagram.
///
/// # Errors
/// If the path cannot be set up, or loses a datagram.
pub fn measure(path: PacketPath, tools: Tools<'_>) -> Result<Duration> {
    let mut lab = Small::on_veth()?;
    let vip = set_up(&mut lab, path, tools)?;
    let backend = BACKENDS[0];
    let to = SocketAddr::new(vip, SINK);
    // Destination NAT sends the datagram to the backend's own address.
    let sink = lab.netns(backend).within(|| UdpSocket::bind(("0.0.0.0", SINK)))??;
    sink.set_nonblocking(true)?;
    let client = lab.netns(CLIENT).within(|| UdpSocket::bind(("0.0.0.0", 40_000)))??;
    client.connect(to)?;
    let arrives = wait_until(patience(Duration::from_secs(5)), || {
        client.send(&[0; DATA])?;
        Ok(drain(&sink) > 0)
    })?;
    ensure!(arrives, "{}: no datagram arrives", path.name());
    send(&client, &sink, WARM_UP)?;
    let start = Instant::now();
    let arrived = send(&client, &sink, COUNT)?;
    let time = start.elapsed();
    ensure!(arrived == COUNT, "{}: {arrived} of {COUNT} datagrams arrived", path.name());
    Ok(time / COUNT)
}

fn send(client: &UdpSocket, sink: &UdpSocket, count: u32) -> Result<u32> {
    drain(sink);
    let mut arrived = 0;
    for number in 1..=count {
        client.send(&[0; DATA])?;
        if number % BATCH == 0 || number == count {
            arrived += drain(sink);
        }
    }
    Ok(arrived)
}

fn drain(sink: &UdpSocket) -> u32 {
    let mut data = [0; 64];
    let mut count = 0;
    while sink.recv(&mut data).is_ok() {
        count += 1;
    }
    count
}

/// Prepares the lab for this path; returns the VIP.
fn set_up(lab: &mut Small, path: PacketPath, tools: Tools<'_>) -> Result<IpAddr> {
    let unserved = UNSERVED[0];
    match path {
        PacketPath::Forwarding => {
            lab.netns(EDGE).ip(&format!("route add {unserved} via 10.1.1.11\n"))?;
            Ok(unserved)
        }
        PacketPath::EdgeDsr | PacketPath::EdgeIpip => {
            if path == PacketPath::EdgeIpip {
                lab.decapsulate_all(Mode::Native, &["10.0.0.1"])?;
            } else {
                lab.pass(BACKENDS[0])?;
            }
            // The lab lacks parts that a probe through a service needs.
            let configuration = lab.prepare(Mode::Native, "")?.configuration();
            let text = std::fs::read_to_string(&configuration)?;
            std::fs::write(&configuration, text.replace("[pool.probe]", "[pool.probe]\nthrough = \"address\""))?;
            lab.start_daemon()?;
            for pool in ["p4", "p6"] {
                lab.ctl(&["disable", &format!("{pool}/{}", BACKENDS[1])])?;
            }
            // The packet path needs no daemon, and the daemon's work must not count as part of a packet's.
            lab.kill_daemon()?;
            let name = if path == PacketPath::EdgeDsr { "dsr4" } else { "4in4" };
            Ok(Served::named(name).vip)
        }
        PacketPath::IpvsDr | PacketPath::IpvsTun => {
            let edge = lab.netns(EDGE);
            edge.ip(&format!("addr add {unserved}/32 dev lo\n"))?;
            let service = format!("{unserved}:{SINK}");
            run(edge, tools.ipvsadm, &["-A", "-u", &service, "-s", "rr"])?;
            let method = if path == PacketPath::IpvsDr { "-g" } else { "-i" };
            run(edge, tools.ipvsadm, &["-a", "-u", &service, "-r", &format!("10.1.1.11:{SINK}"), method])?;
            if path == PacketPath::IpvsTun {
                let backend = lab.netns(BACKENDS[0]);
                backend.ip("link add ipip1 type ipip local 10.1.1.11 remote any\nlink set ipip1 up\n")?;
                backend.set("ipv4/conf/ipip1/rp_filter", "0")?;
            }
            Ok(unserved)
        }
        PacketPath::Nftables => {
            let edge = lab.netns(EDGE);
            run(edge, tools.nft, &["add table ip cost"])?;
            run(edge, tools.nft, &["add chain ip cost pre { type nat hook prerouting priority dstnat; }"])?;
            let rule = format!("add rule ip cost pre ip daddr {unserved} udp dport {SINK} dnat to 10.1.1.11");
            run(edge, tools.nft, &[&rule])?;
            Ok(unserved)
        }
    }
}

fn run(netns: &Netns, program: &Path, args: &[&str]) -> Result<()> {
    let mut command: Command = netns.command(program)?;
    tool::run(command.args(args)).with_context(|| format!("{} {}", program.display(), args.join(" ")))?;
    Ok(())
}
