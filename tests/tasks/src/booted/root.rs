//! A Debian 12 system that systemd boots in a network namespace, from a root made by debootstrap.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use edge_tests::lab::{bpffs::BpfFs, netns::Netns};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use xtask::{
    cargo::{self, output},
    packages::{self, Package},
    step::step,
};

/// Packages beside those of every Debian system.
const INCLUDED: &str = "systemd,systemd-sysv,dbus,iproute2,procps";
/// How long a boot may take on a loaded machine.
const BOOT: Duration = Duration::from_mins(2);

/// A running system; on drop it is removed with all changes in it.
#[derive(Debug)]
pub(super) struct Root {
    nspawn: Child,
    /// PID of its first process on the host.
    init: String,
    _bpffs: BpfFs,
}

impl Root {
    /// Boots a system whose network is `netns`, with `packages` below /packages.
    pub(super) fn boot(netns: &Netns, packages: &Path) -> Result<Self> {
        let root = ensure_root()?;
        // A bpffs of its own: pins would collide with the host's.
        let bpffs = BpfFs::mount(&cargo::root().join("target/package/bpf"))?;
        let mut command = Command::new("systemd-nspawn");
        command.arg("--quiet").arg("--directory").arg(root);
        // Writes go to memory.
        command.args([
            "--volatile=overlay",
            "--register=no",
            "--keep-unit",
            "--capability=all",
            "--console=pipe",
            "--boot",
        ]);
        command.arg(format!("--machine={}", netns.name()));
        command.arg(format!("--network-namespace-path={}", netns.path().display()));
        command.arg(format!("--bind={}:/sys/fs/bpf", bpffs.path().display()));
        command.arg(format!("--bind-ro={}:/packages", packages.display()));
        // nspawn's seccomp filter does not permit bpf(2).
        command.env("SYSTEMD_SECCOMP", "0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).process_group(0);
        // SAFETY: prctl is a bare system call, which allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        let nspawn = command.spawn().context("could not start systemd-nspawn")?;
        let mut root = Self { nspawn, init: String::new(), _bpffs: bpffs };
        root.wait_for_boot()?;
        Ok(root)
    }

    fn wait_for_boot(&mut self) -> Result<()> {
        let deadline = Instant::now() + BOOT;
        let children = format!("/proc/{0}/task/{0}/children", self.nspawn.id());
        while Instant::now() < deadline {
            ensure!(self.nspawn.try_wait()?.is_none(), "systemd-nspawn has ended");
            thread::sleep(Duration::from_millis(300));
            fs::read_to_string(&children)?.split_whitespace().next().unwrap_or_default().clone_into(&mut self.init);
            if self.init.is_empty() {
                continue;
            }
            let state = self.run("systemctl is-system-running").map(|output| text(&output.stdout));
            if state.is_ok_and(|state| matches!(state.trim(), "running" | "degraded")) {
                return Ok(());
            }
        }
        bail!("the root was not up within {} s", BOOT.as_secs())
    }

    /// Runs a shell command line in the system.
    pub(super) fn run(&self, line: &str) -> Result<Output> {
        let mut enter = Command::new("nsenter");
        enter.args(["--target", &self.init, "--all", "/bin/sh", "-c", line]);
        enter.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        enter.stdin(Stdio::null()).output().context("could not start nsenter")
    }

    /// Runs a command line that must succeed; returns its output.
    pub(super) fn ok(&self, line: &str) -> Result<String> {
        let output = self.run(line)?;
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "`{line}` ended with {}:\n{printed}", output.status);
        Ok(printed)
    }

    /// Runs a command line that must fail; returns its output.
    pub(super) fn fails(&self, line: &str) -> Result<String> {
        let output = self.run(line)?;
        let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
        ensure!(!output.status.success(), "`{line}` did not fail:\n{printed}");
        Ok(printed)
    }

    /// Repeats a command line until it succeeds; returns the time taken.
    pub(super) fn until(&self, line: &str, patience: Duration) -> Result<Duration> {
        let start = Instant::now();
        while !self.run(line)?.status.success() {
            ensure!(start.elapsed() < patience, "`{line}` did not succeed within {} s", patience.as_secs());
            thread::sleep(Duration::from_millis(200));
        }
        Ok(start.elapsed())
    }

    /// Writes a file in the system.
    pub(super) fn write(&self, path: &str, content: &str) -> Result<()> {
        let inside = format!("/proc/{}/root{path}", self.init);
        fs::write(&inside, content).with_context(|| format!("could not write {path}"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let (Ok(id), Ok(init)) = (i32::try_from(self.nspawn.id()), self.init.parse()) {
            // The whole system ends with its first process; nspawn cleans up after it.
            let _ = kill(Pid::from_raw(init), Signal::SIGKILL);
            let patience = Instant::now() + Duration::from_secs(10);
            while Instant::now() < patience && matches!(self.nspawn.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(50));
            }
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        let _ = self.nspawn.wait();
    }
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Path of the root that systems are booted from; nothing ever writes to it.
fn ensure_root() -> Result<PathBuf> {
    let root = cargo::tools().join("root");
    packages::ensure(&["debootstrap", "systemd-container", "util-linux"].map(Package::any), "a fresh Debian")?;
    if !root.exists() {
        step("making a root of Debian 12 (a minute or two, once)", || {
            let draft = root.with_extension("new");
            if draft.exists() {
                fs::remove_dir_all(&draft)?;
            }
            let mut make = cargo::command("debootstrap");
            make.args(["--variant=minbase", &format!("--include={INCLUDED}"), "bookworm"]).arg(&draft);
            make.stdout(Stdio::null());
            if let Some(mirror) = mirror() {
                make.arg(mirror);
            }
            cargo::run(&mut make)?;
            Ok(fs::rename(&draft, &root)?)
        })?;
    }
    Ok(root)
}

/// The mirror of this system's own packages, if it is a Debian.
fn mirror() -> Option<String> {
    let policy = output(Command::new("apt-get").args(["indextargets", "--format", "$(SITE)", "Codename: bookworm"]))?;
    policy.lines().find(|site| site.starts_with("http")).map(str::to_owned)
}
