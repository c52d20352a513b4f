//! Several edges in one segment whose switch sends every frame out of all its ports.
//!
//! ```text
//!   client, edge1, edge2, edge3, backend: 10.0.0.0/24, on a bridge that learns nothing
//! ```
//!
//! Each edge serves the same VIP by `dsr` with the same backend; the client's route selects the edge.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::lab::{
    Dir, Ground,
    bpffs::BpfFs,
    edge::Edge,
    fabric,
    link::{self, End},
    netns::Netns,
    patience::patience,
    status, tool,
    xdp_pass::XdpPass,
};

pub const VIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 9);
pub const EDGES: usize = 3;
/// MAC address at which the first edge accepts frames besides its own.
pub const VIRTUAL_MAC: &str = "00:00:5e:00:01:07";

/// A running segment. The fields are in the order in which they must be dropped.
#[derive(Debug)]
pub struct Segment {
    edges: Vec<Edge>,
    /// Receives at the backend.
    received: UdpSocket,
    client: UdpSocket,
    _passing: Vec<XdpPass>,
    _bpffs: BpfFs,
    hosts: Vec<Netns>,
    _dir: Dir,
}

impl Segment {
    pub fn start() -> Result<Self> {
        let Ground { name, dir, bpffs } = Ground::prepare()?;
        let switch = Netns::create(&format!("{name}-switch"))?;
        // The bridge ages every address out at once, so that it floods each frame.
        switch.ip("link add br0 type bridge ageing_time 0\nlink set br0 up\n")?;
        let (mut hosts, mut passing) = (Vec::new(), Vec::new());
        let names = ["client", "edge1", "edge2", "edge3", "backend"];
        for (number, host) in (1..).zip(names) {
            let netns = Netns::create(&format!("{name}-{host}"))?;
            fabric::settings(&netns, host.starts_with("edge"))?;
            let port = format!("port{number}");
            link::pair(End { netns: &netns, name: "eth0" }, End { netns: &switch, name: &port })?;
            switch.ip(&format!("link set {port} master br0\n"))?;
            // For frames that the edge sends by `XDP_TX`: see `Fabric::far_ends`.
            passing.push(XdpPass::attach(&switch, &port)?);
            netns.ip(&format!("addr add 10.0.0.{number}/24 dev eth0\n"))?;
            hosts.push(netns);
        }
        let [client, edges @ .., backend] = &hosts[..] else { unreachable!("five hosts") };
        for setting in ["arp_ignore", "arp_announce"] {
            backend.set(&format!("ipv4/conf/all/{setting}"), "2")?;
        }
        backend.ip(&format!("addr add {}/32 dev lo\n", VIP.ip()))?;
        let received = backend.within(|| UdpSocket::bind(VIP))??;
        received.set_nonblocking(true)?;
        let socket = client.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
        let edge_ctl = crate::built("edge-ctl")?;
        let mut running = Vec::new();
        for (number, netns) in (1..).zip(edges) {
            let host = format!("edge{number}");
            let mut edge =
                Edge::new(&edge_ctl, &dir.0.join(&host), &bpffs.path().join(&host), &configuration(number)?)?;
            edge.start(netns)?;
            running.push(edge);
        }
        hosts.push(switch);
        Ok(Self { edges: running, received, client: socket, _passing: passing, _bpffs: bpffs, hosts, _dir: dir })
    }

    /// The namespace of the client (0), or of an edge (from 1).
    fn host(&self, number: usize) -> &Netns {
        &self.hosts[number]
    }

    /// Runs `ip` with these lines on an edge, counted from 1.
    pub fn on_edge(&self, number: usize, lines: &str) -> Result<()> {
        self.host(number).ip(lines)
    }

    /// MAC address of an edge's device.
    pub fn mac(&self, number: usize, device: &str) -> Result<String> {
        let shown = tool::run(self.host(number).command("ip")?.args(["-brief", "link", "show", "dev", device]))?;
        // The columns are name, state, address and flags.
        shown.split_whitespace().nth(2).map(str::to_owned).with_context(|| format!("no address: {shown}"))
    }

    /// Makes the client send packets for the VIP to a MAC address.
    pub fn send_to(&self, mac: &str) -> Result<()> {
        let line = format!("neigh replace 10.0.0.99 lladdr {mac} dev eth0 nud permanent\n");
        self.host(0).ip(&format!("{line}route replace {}/32 via 10.0.0.99\n", VIP.ip()))
    }

    /// Sends `count` datagrams; returns how many arrive at the backend until none arrives for a while.
    pub fn arrivals(&self, count: usize) -> Result<usize> {
        for number in 0..count {
            self.client.send_to(&number.to_be_bytes(), VIP).context("the client can't send")?;
        }
        let mut arrived = 0;
        loop {
            // Frames that loop between edges arrive within this time as well.
            std::thread::sleep(patience(Duration::from_millis(200)));
            let before = arrived;
            while self.received.recv(&mut [0; 64]).is_ok() {
                arrived += 1;
            }
            if arrived == before {
                return Ok(arrived);
            }
        }
    }

    /// Number of packets that left an edge by an exit.
    pub fn left_by(&self, edge: usize, exit: &str) -> Result<u64> {
        status::exit(&self.edges[edge - 1].status(self.host(edge))?, exit)
    }
}

fn configuration(edge: usize) -> Result<String> {
    let mut text =
        String::from("hash_key = \"4be0a7c195d2438f8a6613f05c7d92ea\"\nslots = 1024\n[[interface]]\nname = \"eth0\"\n");
    if edge == 1 {
        writeln!(text, "virtual_macs = [\"{VIRTUAL_MAC}\"]")?;
    }
    write!(
        text,
        "[[pool]]\nname = \"one\"\n[[pool.backend]]\nname = \"backend\"\naddress = \"10.0.0.5\"\n\
         [[service]]\nname = \"sink\"\nvips = [\"{}\"]\nports = [\"{}/udp\"]\nmode = \"dsr\"\npools = [\"one\"]\n",
        VIP.ip(),
        VIP.port()
    )?;
    Ok(text)
}
