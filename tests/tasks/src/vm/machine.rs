//! One guest: qemu with a test kernel and this machine's files, and the result of the command that it ran.

use std::{
    fs::{self, File},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use xtask::cargo;

use super::{kernels::Prepared, tools::Tools};
use crate::interrupt;

/// Memory of a guest, MiB.
pub(super) const MEMORY: u32 = 2048;

/// The job of a guest.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) kernel: &'a Prepared,
    pub(super) tools: &'a Tools,
    /// A shell script, run as root in the checkout's folder.
    pub(super) script: &'a str,
    /// The guest's `/out`: its log, and all files that the script writes there.
    pub(super) out: &'a Path,
    pub(super) limit: Duration,
    /// Whether each instruction takes a nanosecond of the guest's time, independent of this machine's load.
    pub(super) counts_instructions: bool,
}

/// Script that the guest runs once the root is mounted.
const START: &str = include_str!("start.sh");

/// MAC addresses of three network cards on one hub, which floods: each card receives all frames.
const CARDS: [&str; 3] = ["52:54:00:00:ed:01", "52:54:00:00:ed:02", "52:54:00:00:ed:03"];
/// MAC addresses of three more on another hub, whose driver strips VLAN tags.
const UNTAGGING_CARDS: [&str; 3] = ["52:54:00:00:ed:11", "52:54:00:00:ed:12", "52:54:00:00:ed:13"];

impl Job<'_> {
    /// Boots, runs, and ends the guest; returns the script's exit code.
    ///
    /// # Errors
    /// If the guest does not complete within the limit; the error contains the end of its console.
    pub(super) fn run(&self) -> Result<i32> {
        if self.out.exists() {
            fs::remove_dir_all(self.out)?;
        }
        fs::create_dir_all(self.out)?;
        let wrapper = self.tools.modprobe.display().to_string();
        fs::write(self.out.join("start"), START.replace("@MODPROBE@", &wrapper))?;
        fs::write(self.out.join("script"), self.script)?;
        // Paths of sockets must be short, and a checkout's may be long.
        let sockets = Sockets::new()?;
        let shares = [("root", Path::new("/")), ("out", self.out)];
        let mut servers = Vec::new();
        for (tag, source) in shares {
            servers.push(self.share(&sockets, tag, source)?);
        }
        sockets.wait_for(shares.map(|(tag, _)| tag), &mut servers)?;
        let mut qemu = Ended(self.qemu(&sockets)?.spawn().context("could not start qemu")?);
        let start = Instant::now();
        let ended = loop {
            if let Some(status) = qemu.0.try_wait()? {
                break Some(status);
            }
            if start.elapsed() > self.limit || interrupt::check().is_err() {
                break None;
            }
            thread::sleep(Duration::from_millis(50));
        };
        drop(qemu);
        interrupt::check()?;
        match fs::read_to_string(self.out.join("rc")).ok().and_then(|code| code.trim().parse().ok()) {
            Some(code) => Ok(code),
            None => bail!("{}; its console ends with\n{}", self.why(ended.is_some()), self.console()),
        }
    }

    fn why(&self, ended: bool) -> String {
        let limit = self.limit.as_secs();
        let why = if ended { "ended before its time".to_owned() } else { format!("had not ended after {limit} s") };
        format!("Linux {} {why}", self.kernel.release)
    }

    fn console(&self) -> String {
        let text = fs::read(self.out.join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn share(&self, sockets: &Sockets, tag: &str, source: &Path) -> Result<Ended> {
        let mut server = Command::new(&self.tools.virtiofsd);
        server.arg(format!("--socket-path={}", sockets.path(tag).display()));
        server.arg("-o").arg(format!("source={},sandbox=chroot,cache=auto", source.display()));
        server.arg("--thread-pool-size=2").stdin(Stdio::null());
        let log = File::create(self.out.join(format!("virtiofsd-{tag}.log")))?;
        server.stdout(log.try_clone()?).stderr(log);
        Ok(Ended(server.spawn().context("could not start virtiofsd")?))
    }

    fn qemu(&self, sockets: &Sockets) -> Result<Command> {
        let mut qemu = Command::new(&self.tools.qemu);
        for folder in &self.tools.firmware {
            qemu.arg("-L").arg(folder);
        }
        let threads = if self.counts_instructions { "single" } else { "multi" };
        qemu.args(["-M", "q35", "-accel", &format!("tcg,thread={threads}")]);
        // Five-level page tables slow emulation down; more than one CPU makes it hang occasionally.
        qemu.args(["-cpu", "max,-la57", "-smp", "1", "-m", &MEMORY.to_string()]);
        if self.counts_instructions {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        qemu.args(["-nodefaults", "-no-reboot", "-display", "none", "-nographic"]);
        // File sharing requires shared memory.
        qemu.args(["-object", &format!("memory-backend-memfd,id=memory,size={MEMORY}M,share=on")]);
        qemu.args(["-numa", "node,memdev=memory"]);
        for tag in ["root", "out"] {
            qemu.args(["-chardev", &format!("socket,id={tag},path={}", sockets.path(tag).display())]);
            qemu.args(["-device", &format!("vhost-user-fs-pci,chardev={tag},tag={tag}")]);
        }
        qemu.args(["-device", "virtio-rng-pci"]);
        for (hub, (model, cards)) in [("virtio-net-pci", CARDS), ("vmxnet3", UNTAGGING_CARDS)].into_iter().enumerate() {
            for (place, mac) in cards.iter().enumerate() {
                qemu.args(["-netdev", &format!("hubport,id=card{hub}-{place},hubid={hub}")]);
                qemu.args(["-device", &format!("{model},netdev=card{hub}-{place},mac={mac},romfile=")]);
            }
        }
        qemu.arg("-serial").arg(format!("file:{}", self.out.join("console").display()));
        qemu.arg("-kernel").arg(self.kernel.image()).arg("-initrd").arg(self.kernel.initrd());
        let modules = format!("edge.modules={}/lib/modules", self.kernel.dir().display());
        let words = ["console=ttyS0 loglevel=4 mitigations=off oops=panic panic=-1 random.trust_cpu=on", &modules];
        qemu.arg("-append").arg(words.join(" "));
        let log = File::create(self.out.join("qemu.log"))?;
        qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        qemu.current_dir(cargo::root());
        Ok(qemu)
    }
}

/// A process that is killed on drop.
#[derive(Debug)]
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both calls fail only when the process is already gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder for sockets; removed on drop.
#[derive(Debug)]
struct Sockets(PathBuf);

impl Sockets {
    fn new() -> Result<Self> {
        let template = std::env::temp_dir().join("edge-vm.XXXXXX");
        Ok(Self(nix::unistd::mkdtemp(&template).context("could not make a folder for sockets")?))
    }

    fn path(&self, tag: &str) -> PathBuf {
        self.0.join(tag)
    }

    fn wait_for<const N: usize>(&self, tags: [&str; N], servers: &mut [Ended]) -> Result<()> {
        let start = Instant::now();
        let is_socket = |tag| fs::metadata(self.path(tag)).is_ok_and(|file| file.file_type().is_socket());
        while !tags.iter().all(|tag| is_socket(tag)) {
            for server in &mut *servers {
                if let Some(status) = server.0.try_wait()? {
                    bail!("virtiofsd ended ({status}); see its log in the guest's folder");
                }
            }
            if start.elapsed() > Duration::from_secs(10) {
                bail!("virtiofsd does not listen");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
