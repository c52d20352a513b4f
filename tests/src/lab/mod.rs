//! The whole lab, running; removed on drop.

pub mod topology;
pub mod configuration;

pub mod patience;
pub mod extent;
pub mod netns;
mod sweep;
pub mod link;
pub mod fabric;
mod bpf;
pub mod xdp_pass;
pub mod tc_crowd;

pub mod process;
pub mod terminal;
pub mod worker;
pub mod own_runtime;
pub mod tmpfs;
pub mod tool;
pub mod traced;
pub mod bpffs;
pub mod nginx;
pub mod dnsmasq;
pub mod prometheus;
pub mod udp_echo;
pub mod tcp_echo;
pub mod requests;
pub mod talk;
pub mod kept;
pub mod udp_late;

pub mod edge;
pub mod status;
pub mod instead;
pub mod load;
pub mod pace;
pub mod random;
pub mod vandal;
pub mod sequence;
pub mod flows;
pub mod flood;
pub mod short;
pub mod bulk;
mod own_link;
pub mod upheaval;

pub mod small;
pub mod segment;
pub mod cost;

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

pub use self::sweep::sweep;
use self::{
    bpffs::BpfFs,
    configuration::Configuration,
    edge::Edge,
    fabric::Fabric,
    load::{Load, Reuse, Stream},
    netns::Netns,
    patience::patience,
    process::Process,
    topology::{Backend, CLIENTS, EDGE, Family, HTTP, Part, ROUTER, Service},
    udp_echo::UdpEcho,
    xdp_pass::XdpPass,
};

/// Start of the name of every lab's namespaces; the owner's PID, `x`, a number, `-` and the host follow.
const PREFIX: &str = "edgelab";

/// Minimum interval between requests in each stream of [`Lab::load`].
const PACE: Duration = Duration::from_millis(40);

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Path of the `edge-ctl` to run. Without it there is no load balancer, and packets to VIPs end at `edge`.
    pub edge_ctl: Option<PathBuf>,
    /// The load balancer's configuration.
    pub configuration: Configuration,
}

/// A running lab. The fields are in the order in which they must be dropped.
#[derive(Debug)]
pub struct Lab {
    edge: Option<Edge>,
    echoes: Vec<UdpEcho>,
    servers: Vec<(Backend, Process)>,
    bpffs: BpfFs,
    own_link: Option<XdpPass>,
    fabric: Fabric,
    dir: Dir,
    prefix: String,
}

impl Lab {
    /// Builds the lab, and starts the servers, the decapsulation on each backend unless services are translated, and
    /// the load balancer.
    pub fn up(options: &Options) -> Result<Self> {
        let Ground { name, dir, bpffs } = Ground::prepare()?;
        let prefix = format!("{name}-");
        let prepared = !options.configuration.translated;
        let fabric = Fabric::build(&prefix, prepared)?;
        let mut lab =
            Self { edge: None, echoes: Vec::new(), servers: Vec::new(), bpffs, own_link: None, fabric, dir, prefix };
        for backend in Backend::all() {
            lab.serve(backend)?;
            if !prepared {
                continue;
            }
            let echo = UdpEcho::start(lab.netns(&backend.to_string()), &backend.to_string(), &topology::vips())?;
            lab.echoes.push(echo);
        }
        if let Some(edge_ctl) = &options.edge_ctl {
            if prepared {
                lab.decapsulate_with(edge_ctl, if options.configuration.gue { &["--gue"] } else { &[] })?;
            }
            lab.install_edge(edge_ctl, &options.configuration.text())?;
        }
        Ok(lab)
    }

    /// A lab for a test, with the `edge-ctl` that was built with the test, and with every backend up.
    ///
    /// # Panics
    /// If the lab cannot be built.
    pub fn with_edge() -> Self {
        let edge_ctl = crate::built("edge-ctl").expect("edge-ctl is built");
        let lab = Self::up(&Options { edge_ctl: Some(edge_ctl), ..Options::default() }).expect("the lab comes up");
        lab.wait_for_health(|_| "up").expect("every backend is seen up");
        lab
    }

    /// The namespace of a host.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn netns(&self, host: &str) -> &Netns {
        self.fabric.netns(host)
    }

    /// Directory of the lab's files.
    pub fn dir(&self) -> &Path {
        &self.dir.0
    }

    /// Start of each namespace's name; the host's name follows.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The load balancer.
    ///
    /// # Panics
    /// If the lab was made without a load balancer.
    pub fn edge(&self) -> &Edge {
        self.edge.as_ref().expect("this lab has a load balancer")
    }

    /// Runs `edge-ctl ARGS` on the edge.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        self.edge().ctl(self.netns(EDGE), args)
    }

    /// The parsed output of `edge-ctl status --json` on the edge.
    pub fn status(&self) -> Result<serde_json::Value> {
        self.edge().status(self.netns(EDGE))
    }

    pub fn start_daemon(&mut self) -> Result<()> {
        let edge = self.edge.as_mut().context("this lab has no load balancer")?;
        edge.start(self.fabric.netns(EDGE))
    }

    /// Sends SIGKILL to the daemon.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.edge.as_mut().context("this lab has no load balancer")?.kill()
    }

    /// Limits the open files of daemons that start from now on.
    pub fn limit_files(&mut self, most: u32) -> Result<()> {
        self.edge.as_mut().context("this lab has no load balancer")?.limit_files(most);
        Ok(())
    }

    /// Sets additional environment variables of daemons that start from now on.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) -> Result<()> {
        self.edge.as_mut().context("this lab has no load balancer")?.set_environment(variables);
        Ok(())
    }

    /// Sends SIGTERM to the daemon.
    pub fn stop_daemon(&mut self) -> Result<()> {
        self.edge.as_mut().context("this lab has no load balancer")?.stop()
    }

    /// Simulates a dead machine: the far ends of both links go down, and then the server is killed, so that none of its
    /// last packets gets out.
    pub fn kill_backend(&mut self, backend: Backend) -> Result<()> {
        for part in [Part::Lan, Part::Wan] {
            self.fabric.set_cable(backend, part, false)?;
        }
        let at = self.servers.iter().position(|(who, _)| *who == backend).context("this backend is dead already")?;
        self.servers.swap_remove(at).1.kill()
    }

    /// Brings the machine back. The kernel takes up to a second to use a cable again, and longer for IPv6 than for
    /// IPv4. The server starts last, since a probe tests only one cable and one family, and clients may need the
    /// others.
    pub fn heal_backend(&mut self, backend: Backend) -> Result<()> {
        for (part, neighbour) in [(Part::Wan, ROUTER), (Part::Lan, EDGE)] {
            self.fabric.set_cable(backend, part, true)?;
            for family in [Family::V4, Family::V6] {
                let address = SocketAddr::new(backend.address(part, family), HTTP);
                let reached = wait_until(patience(Duration::from_secs(10)), || {
                    self.netns(neighbour).within(|| reaches(address))
                })?;
                ensure!(reached, "{backend} does not come back on {address}");
            }
        }
        self.serve(backend)
    }

    /// The answer of `curl URL` from a host: the name of the backend that served it.
    pub fn curl(&self, host: &str, url: &str) -> Result<String> {
        let mut curl = self.netns(host).command("curl")?;
        // A proxy from the environment must not come between client and load balancer.
        let answer = tool::run(curl.args(["-gsS", "--noproxy", "*", "--max-time", "3", url]))?;
        Ok(answer.trim().to_owned())
    }

    /// Starts load from both clients on `services`, each over kept and over new connections, with at most one request
    /// per 40 ms in each of these streams. Streams over kept connections have even numbers, the others odd ones.
    pub fn load(&self, services: impl IntoIterator<Item = Service>) -> Result<Vec<Load>> {
        let streams: Vec<_> = services
            .into_iter()
            .flat_map(|service| [Reuse::KeepAlive, Reuse::New].map(|reuse| Stream { target: service.address(), reuse }))
            .collect();
        CLIENTS
            .into_iter()
            .enumerate()
            .map(|(index, client)| Load::start(self.netns(client), &streams, index * streams.len(), PACE))
            .collect()
    }

    /// Waits until the daemon reports the wanted health for every backend.
    pub fn wait_for_health(&self, wanted: impl Fn(Backend) -> &'static str) -> Result<()> {
        let mut last = String::new();
        let reached = wait_until(patience(Duration::from_secs(15)), || {
            let status = self.status()?;
            let wrong = status::backends(&status)?
                .into_iter()
                .filter(|seen| Backend::named(&seen.name).is_some_and(|backend| wanted(backend) != seen.health))
                .map(|seen| format!("{}/{} is {}", seen.pool, seen.name, seen.health))
                .collect::<Vec<_>>();
            last = wrong.join(", ");
            Ok(wrong.is_empty())
        })?;
        ensure!(reached, "the daemon does not see the backends as they are: {last}");
        Ok(())
    }

    fn serve(&mut self, backend: Backend) -> Result<()> {
        let name = backend.to_string();
        let server = nginx::start(self.fabric.netns(&name), &name, &self.dir.0.join(&name))?;
        self.servers.push((backend, server));
        Ok(())
    }
}

/// What every lab needs: a name, a folder for files, and a bpffs in the folder.
struct Ground {
    name: String,
    dir: Dir,
    bpffs: BpfFs,
}

impl Ground {
    /// Removes the remains of dead labs, and prepares a new one.
    fn prepare() -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "a lab needs root, to make network namespaces: run it with sudo");
        sweep()?;
        let name = fresh_name();
        let dir = Dir::create(&base().join(&name))?;
        let bpffs = BpfFs::mount(&dir.0.join("bpf"))?;
        Ok(Self { name, dir, bpffs })
    }
}

/// A name that no other lab has, with the owner's PID.
fn fresh_name() -> String {
    static LABS: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}x{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed))
}

/// Whether a host answers, even with a refusal.
fn reaches(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(50))
        .map_or_else(|error| error.kind() == ErrorKind::ConnectionRefused, |_| true)
}

/// Polls `condition` every 10 ms until it holds; `false` if it does not within `patience`.
pub fn wait_until(patience: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let start = Instant::now();
    loop {
        let looked = Instant::now();
        if condition()? {
            return Ok(true);
        }
        if start.elapsed() > patience {
            return Ok(false);
        }
        patience::rest(Duration::from_millis(10), looked.elapsed());
    }
}

/// Directory of all labs' files.
pub fn base() -> PathBuf {
    crate::workspace().join("target/lab")
}

/// A directory that is removed on drop, unless a panic unwinds: its logs may explain the failure.
#[derive(Debug)]
struct Dir(PathBuf);

impl Dir {
    fn create(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("could not make {}", path.display()))?;
        match path.canonicalize() {
            Ok(path) => Ok(Self(path)),
            Err(error) => bail!("{}: {error}", path.display()),
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("lab: logs are kept in {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
