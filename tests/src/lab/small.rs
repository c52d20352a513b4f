//! A small lab, for slow machines, and for devices and tunnels that the big lab lacks.
//!
//! ```text
//!   client ------ edge ------ be1     10.0.0.0/24, fd00::/64 on the left; 10.1.N.0/24, fd01:N::/64 to backend N
//!                      ------ be2     VIPs are routed to the edge, and answers go through its kernel
//! ```
//!
//! Or on existing network devices, all of them in one segment, 10.0.0.0/24 and `fd00::/64`, with one backend.

pub mod behind;
mod attached;
mod served;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

pub use self::attached::attached;
use self::served::vips;
pub use self::served::{Mode, SERVED, SINK, Served, UNSERVED};
use crate::{
    feature,
    lab::{
        Dir, Ground,
        bpffs::BpfFs,
        edge::Edge,
        fabric,
        link::{self, End},
        netns::Netns,
        patience::patience,
        process::Process,
        status,
        talk::Talk,
        tcp_echo::{self, TcpEcho},
        tool,
        topology::{ECHO, EDGE, EDGE_V4, EDGE_V6},
        udp_echo::{self, UdpEcho},
        wait_until,
        xdp_pass::XdpPass,
    },
};

pub const CLIENT: &str = "client";
pub const BACKENDS: [&str; 2] = ["be1", "be2"];
const SWITCH: &str = "switch";

/// The servers of a backend.
#[derive(Debug)]
struct Servers {
    _echo: TcpEcho,
    _talk: Talk,
    _udp_echo: UdpEcho,
}

/// Most requests to a VIP until every backend has answered: chance misses one of two once in 2^39 times.
const MOST_REQUESTS: usize = 20;

/// A running small lab. The fields are in the order in which they must be dropped.
#[derive(Debug)]
pub struct Small {
    edge: Option<Edge>,
    servers: Vec<Servers>,
    passing: Vec<XdpPass>,
    /// Whether backends take packets as they are, and so no tunnel packets: they are probed at their addresses.
    plain: bool,
    bpffs: BpfFs,
    hosts: Vec<(&'static str, Netns)>,
    /// Names and addresses.
    backends: Vec<(&'static str, Ipv4Addr, Ipv6Addr)>,
    edge_ctl: PathBuf,
    dir: Dir,
}

impl Small {
    /// A lab on veth, with two backends.
    pub fn on_veth() -> Result<Self> {
        let mut lab = Self::bare(&[CLIENT, EDGE, BACKENDS[0], BACKENDS[1]])?;
        lab.cable(CLIENT, "eth0")?;
        for (number, backend) in (1..).zip(BACKENDS) {
            lab.cable(backend, &format!("eth{number}"))?;
            let (v4, v6) =
                (Ipv4Addr::new(10, 1, number, 11), Ipv6Addr::new(0xfd01, number.into(), 0, 0, 0, 0, 0, 0x11));
            lab.netns(EDGE).ip(&format!(
                "addr add 10.1.{number}.1/24 dev eth{number}\naddr add fd01:{number}::1/64 dev eth{number} nodad\n"
            ))?;
            lab.backend(backend, v4, v6)?;
            lab.netns(backend)
                .ip(&format!("route add default via 10.1.{number}.1\nroute add default via fd01:{number}::1\n"))?;
        }
        lab.front()?;
        // For frames that the edge sends by `XDP_TX`: see `Fabric::far_ends`.
        lab.pass(CLIENT)?;
        Ok(lab)
    }

    /// A lab on veth in one segment, with one backend and with the kernel's default offloads of a veth: what a host sends at once
    /// passes in one piece, longer than the MTU.
    pub fn on_bridge() -> Result<Self> {
        let hosts = [CLIENT, EDGE, BACKENDS[0]];
        let mut lab = Self::bare(&[hosts[0], hosts[1], hosts[2], SWITCH])?;
        let switch = lab.netns(SWITCH);
        switch.ip("link add br0 type bridge\nlink set br0 up\n")?;
        for host in hosts {
            let (netns, port) = (lab.netns(host), format!("port-{host}"));
            link::pair(End { netns, name: "eth0" }, End { netns: switch, name: &port })?;
            switch.ip(&format!("link set {port} master br0\n"))?;
            link::offload_checksums(netns, "eth0", true)?;
            link::offload_checksums(switch, &port, true)?;
        }
        lab.front()?;
        lab.backend(BACKENDS[0], Ipv4Addr::new(10, 0, 0, 11), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x11))?;
        lab.answer_for_itself()?;
        Ok(lab)
    }

    /// Keeps a backend in the segment of the edge from answering for the VIPs.
    fn answer_for_itself(&self) -> Result<()> {
        for setting in ["arp_ignore", "arp_announce"] {
            self.netns(BACKENDS[0]).set(&format!("ipv4/conf/all/{setting}"), "2")?;
        }
        Ok(())
    }

    /// A lab on the three network devices of this process's namespace with these MAC addresses: client, edge, backend. They return
    /// to that namespace when the lab is dropped.
    ///
    /// Requirements of native XDP on `virtio_net` (`virtnet_xdp_set` in the kernel's `drivers/net/virtio_net.c`):
    /// - before Linux 5.13, a pair of queues for each CPU beside those in use: with `mq=on` and fewer of them in use (`ethtool -L
    ///   DEV combined N`). Since then transmit queues are shared, under a lock, and all queues may be in use.
    /// - no receive offloads that merge packets or leave checksums open (`guest_tso4`, `guest_tso6`, `guest_ecn`,
    ///   `guest_ufo`, `guest_csum`), or a device that lets the driver turn them off (`ctrl_guest_offloads`, which qemu
    ///   has); the driver then does so itself. A hub of qemu has none of them.
    /// - an MTU whose frames fit in a page with the room before and behind: at most some 3,500 bytes; in 6.3 and later longer ones
    ///   only for programs that take fragmented frames.
    ///
    /// Frames that a NIC sends by `XDP_TX` or redirection need no program at the other end: only veth does.
    pub fn on_devices(addresses: &[[u8; 6]; 3]) -> Result<Self> {
        let mut lab = Self::bare(&[CLIENT, EDGE, BACKENDS[0]])?;
        for (host, address) in [CLIENT, EDGE, BACKENDS[0]].into_iter().zip(addresses) {
            let device = feature::device(*address).context("the device is there")?;
            let netns = lab.netns(host);
            tool::run(Command::new("ip").args(["link", "set", &device, "netns", netns.name()]))?;
            let name = if device == "eth0" { "" } else { " name eth0" };
            netns.ip(&format!("link set {device} down\nlink set {device}{name} up\n"))?;
        }
        lab.front()?;
        lab.backend(BACKENDS[0], Ipv4Addr::new(10, 0, 0, 11), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x11))?;
        lab.answer_for_itself()?;
        Ok(lab)
    }

    /// Namespaces without anything in them.
    fn bare(hosts: &[&'static str]) -> Result<Self> {
        let Ground { name, dir, bpffs } = Ground::prepare()?;
        let edge_ctl = crate::built("edge-ctl")?;
        let mut lab = Self {
            edge: None,
            servers: Vec::new(),
            passing: Vec::new(),
            plain: false,
            bpffs,
            hosts: Vec::new(),
            backends: Vec::new(),
            edge_ctl,
            dir,
        };
        for host in hosts {
            let netns = Netns::create(&format!("{name}-{host}"))?;
            fabric::settings(&netns, *host == EDGE)?;
            lab.hosts.push((host, netns));
        }
        Ok(lab)
    }

    /// Makes a cable between `eth0` of `host` and `device` of the edge.
    pub fn cable(&self, host: &str, device: &str) -> Result<()> {
        link::pair(End { netns: self.netns(host), name: "eth0" }, End { netns: self.netns(EDGE), name: device })
    }

    /// The segment of client and edge.
    fn front(&self) -> Result<()> {
        self.netns(EDGE).ip(&format!("addr add {EDGE_V4}/24 dev eth0\naddr add {EDGE_V6}/64 dev eth0 nodad\n"))?;
        self.netns(CLIENT).ip(&format!(
            "addr add 10.0.0.2/24 dev eth0\naddr add fd00::2/64 dev eth0 nodad\n\
             route add default via {EDGE_V4}\nroute add default via {EDGE_V6}\n"
        ))
    }

    /// Addresses and servers of a backend.
    fn backend(&mut self, name: &'static str, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<()> {
        let netns = self.netns(name);
        let mut lines = format!("addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n");
        let vips = vips();
        for vip in &vips {
            let more = if vip.is_ipv4() { "/32" } else { "/128 nodad" };
            let (length, nodad) = more.split_once(' ').unwrap_or((more, ""));
            writeln!(lines, "addr add {vip}{length} dev lo {nodad}")?;
        }
        netns.ip(&lines)?;
        let servers = Servers {
            _echo: TcpEcho::start(netns, name)?,
            _talk: Talk::start(netns, name)?,
            _udp_echo: UdpEcho::start(netns, name, &vips)?,
        };
        self.servers.push(servers);
        self.backends.push((name, v4, v6));
        Ok(())
    }

    /// The namespace of a host.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn netns(&self, host: &str) -> &Netns {
        let found = self.hosts.iter().find(|(name, _)| *name == host);
        &found.unwrap_or_else(|| panic!("the lab has no host {host}")).1
    }

    /// Names of the backends.
    pub fn backends(&self) -> BTreeSet<String> {
        self.backends.iter().map(|(name, ..)| (*name).to_owned()).collect()
    }

    /// Lets a host receive frames from the edge's program: its veth needs a program for that, even one that only passes.
    pub fn pass(&mut self, host: &str) -> Result<()> {
        self.passing.push(XdpPass::attach(self.netns(host), "eth0")?);
        self.plain |= BACKENDS.contains(&host);
        Ok(())
    }

    /// Makes the daemon probe backends at their addresses, for a test of faults that probes through a service would find.
    pub fn probe_addresses(&mut self) {
        self.plain = true;
    }

    /// Runs `edge-ctl decap ARGS` for `eth0` of a host; returns the output.
    pub fn decap(&self, host: &str, args: &[&str]) -> Result<String> {
        tool::run(self.decap_command(host)?.args(args))
    }

    /// Starts `edge-ctl decap --watch ARGS` for `eth0` of a host; returns the process and the path of its log.
    pub fn watch_decap(&self, host: &str, args: &[&str]) -> Result<(Process, PathBuf)> {
        let log = self.dir.0.join(format!("decap-{host}.log"));
        let mut command = self.decap_command(host)?;
        Ok((Process::start("decap", command.arg("--watch").args(args), &log)?, log))
    }

    fn decap_command(&self, host: &str) -> Result<Command> {
        let mut command = self.netns(host).command(&self.edge_ctl)?;
        command.env("EDGE_PIN_DIR", self.bpffs.path().join(host)).env("EDGE_RUN_DIR", self.dir.0.join(host));
        command.env("EDGE_STATE_DIR", self.dir.0.join(host).join("state"));
        command.args(["decap", "--interface", "eth0"]);
        Ok(command)
    }

    /// Attaches decapsulation to a host, for packets from `sources` to the VIPs that a backend has.
    pub fn decapsulate(&self, host: &str, mode: Mode, sources: &[&str]) -> Result<()> {
        self.decapsulate_for(host, mode, sources, &vips())
    }

    /// Attaches decapsulation to a host, for packets from `sources` to `vips` alone.
    pub fn decapsulate_for(&self, host: &str, mode: Mode, sources: &[&str], vips: &[IpAddr]) -> Result<()> {
        let mode = mode.to_string();
        let vips: Vec<_> = vips.iter().map(ToString::to_string).collect();
        let mut args = vec!["--mode", &mode];
        args.extend(sources.iter().flat_map(|source| ["--from", *source]));
        args.extend(vips.iter().flat_map(|vip| ["--vip", vip]));
        self.decap(host, &args).map(drop)
    }

    /// Attaches decapsulation to every backend.
    pub fn decapsulate_all(&self, mode: Mode, sources: &[&str]) -> Result<()> {
        self.backends.iter().try_for_each(|(backend, ..)| self.decapsulate(backend, mode, sources))
    }

    /// Starts the load balancer, and waits until the daemon reports every backend up.
    pub fn balance(&mut self, mode: Mode) -> Result<()> {
        self.prepare(mode, "")?;
        self.start_daemon()
    }

    /// Starts the daemon, for the first time or again.
    pub fn launch_daemon(&mut self) -> Result<()> {
        let netns = self.hosts.iter().find(|(name, _)| *name == EDGE).context("there is an edge")?;
        self.edge.as_mut().context("there is no load balancer")?.start(&netns.1)
    }

    /// Starts the daemon, and waits until it reports every backend up.
    pub fn start_daemon(&mut self) -> Result<()> {
        self.launch_daemon()?;
        let up = wait_until(patience(Duration::from_secs(10)), || {
            let seen = status::backends(&self.edge()?.status(self.netns(EDGE))?)?;
            let ours = |name: &str| self.backends.iter().any(|(known, ..)| *known == name);
            Ok(seen.iter().filter(|backend| ours(&backend.name)).all(|backend| backend.health == "up"))
        })?;
        ensure!(up, "the daemon does not see the backends up:\n{}", self.edge()?.log_text());
        Ok(())
    }

    /// Sends SIGKILL to the daemon.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.edge.as_mut().context("there is no load balancer")?.kill()
    }

    /// Sends SIGTERM to the daemon.
    pub fn stop_daemon(&mut self) -> Result<()> {
        self.edge.as_mut().context("there is no load balancer")?.stop()
    }

    /// The load balancer.
    pub fn edge(&self) -> Result<&Edge> {
        self.edge.as_ref().context("there is no load balancer")
    }

    /// Runs `edge-ctl ARGS` on the edge.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        self.edge()?.ctl(self.netns(EDGE), args)
    }

    /// Names of the backends that answer `count` datagrams, each from a new socket, and as many connections.
    pub fn request(&self, vip: IpAddr, count: usize) -> Result<BTreeSet<String>> {
        let service = SocketAddr::new(vip, ECHO);
        let mut answered = BTreeSet::new();
        let exchanged = self.netns(CLIENT).within(|| -> Result<()> {
            for number in 0..count {
                let answer = udp_echo::request(service, &number.to_be_bytes(), patience(Duration::from_secs(1)));
                answered.insert(answer.context("UDP")?);
                answered.insert(tcp_echo::exchange(service, b"who?").context("TCP")?.backend);
            }
            Ok(())
        })?;
        exchanged.with_context(|| format!("{vip}, answered by {answered:?}"))?;
        Ok(answered)
    }

    /// Sends many small requests to a VIP, and one large upload with its answer; returns the backends' names.
    pub fn use_it(&self, vip: IpAddr) -> Result<BTreeSet<String>> {
        // Only as many as show every backend: each request is expensive on a slow machine.
        let mut answered = BTreeSet::new();
        for _ in 0..MOST_REQUESTS {
            answered.extend(self.request(vip, 1)?);
            if answered == self.backends() {
                break;
            }
        }
        let data: Vec<u8> = (0..=250).cycle().take(300_000).collect();
        let exchange = self.netns(CLIENT).within(|| tcp_echo::exchange(SocketAddr::new(vip, ECHO), &data))?;
        exchange.with_context(|| format!("{vip}: an upload of {} bytes", data.len()))?;
        self.ping(vip)?;
        Ok(answered)
    }

    /// Pings the VIP from the client.
    pub fn ping(&self, vip: IpAddr) -> Result<()> {
        let wait = patience(Duration::from_secs(1)).as_secs().to_string();
        let mut ping = self.netns(CLIENT).command("ping")?;
        tool::run(ping.args(["-n", "-c", "1", "-W", &wait, &vip.to_string()]))?;
        Ok(())
    }

    /// As [`attached`] for an interface of a host.
    pub fn attached(&self, host: &str, interface: &str) -> Result<Option<(Mode, u32)>> {
        attached(self.netns(host), interface)
    }

    /// Removes the load balancer by its own command.
    pub fn detach(&mut self) -> Result<()> {
        self.ctl(&["detach"])?;
        self.edge = None;
        Ok(())
    }

    /// Files that are pinned for a host.
    pub fn pinned(&self, host: &str) -> Vec<PathBuf> {
        files(&self.bpffs.path().join(host))
    }
}

fn files(dir: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}
