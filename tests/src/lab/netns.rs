//! Network namespaces that are deleted with their owner.

use std::{
    fs::File,
    marker::PhantomData,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal},
};

use crate::lab::tool;

/// Directory of iproute2's namespace names.
const NAMES: &str = "/run/netns";

/// A named network namespace, as `ip netns add` makes it; deleted on drop, also when a panic unwinds.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes the namespace `name` with its loopback up.
    ///
    /// # Errors
    /// If the caller is not root, or the name is taken.
    pub fn create(name: &str) -> Result<Self> {
        tool::run(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self { name: name.to_owned() };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Runs `lines` of iproute2 in the namespace, one command a line without the leading `ip`.
    pub fn ip(&self, lines: &str) -> Result<()> {
        // Not `ip -n`: that remounts /sys, which a chroot does not allow.
        tool::run_with_input(self.command("ip")?.args(["-batch", "-"]), lines)
            .with_context(|| format!("in namespace {}", self.name))?;
        Ok(())
    }

    /// Writes `value` to the network setting `name` (slashes, below /proc/sys/net).
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.within(|| std::fs::write(Path::new("/proc/sys/net").join(name), value))?
            .with_context(|| format!("could not set net/{name} in namespace {}", self.name))
    }

    /// A command that runs in the namespace, and that the kernel kills if the spawning thread dies: even a SIGKILL of
    /// the lab leaves no process behind.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let file = self.open()?;
        let mut command = Command::new(program);
        // A process group of its own: a Ctrl-C at the terminal is for the lab, which then ends its processes in order.
        command.process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; setns and prctl are bare system
        // calls, and neither they nor the conversion of their errors to io::Error allocates or takes a lock.
        unsafe {
            command.pre_exec(move || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        Ok(command)
    }

    /// Moves the calling thread into the namespace until the guard is dropped.
    pub fn enter(&self) -> Result<Entered> {
        let home = File::open("/proc/thread-self/ns/net").context("could not open this thread's namespace")?;
        setns(self.open()?, CloneFlags::CLONE_NEWNET).with_context(|| format!("could not enter {}", self.name))?;
        Ok(Entered { home, not_send: PhantomData })
    }

    /// Runs `work` on a thread of its own in the namespace; the calling thread stays in its namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| -> Result<T> {
                let _entered = self.enter()?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` on a new thread, which has entered the namespace before this function returns.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = self.open()?;
        let (entered, waiting) = mpsc::channel();
        let thread = thread::spawn(move || {
            let moved = setns(file, CloneFlags::CLONE_NEWNET);
            // The receiver is missing only if the starter panicked.
            let _ = entered.send(moved);
            moved?;
            work()
        });
        waiting.recv().context("the thread is gone")?.with_context(|| format!("could not enter {}", self.name))?;
        Ok(thread)
    }

    fn open(&self) -> Result<File> {
        File::open(self.path()).with_context(|| format!("namespace {} is gone", self.name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Nothing useful can be done about a failure here, and a panic in drop would hide the first one.
        if let Err(error) = tool::run(Command::new("ip").args(["netns", "delete", &self.name])) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Proof that this thread is in a namespace. Not `Send`: only the thread that entered can leave.
#[derive(Debug)]
pub struct Entered {
    home: File,
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // A thread that stays in the wrong namespace would run later work on the wrong network.
        setns(&self.home, CloneFlags::CLONE_NEWNET).expect("a thread can always return to its own namespace");
    }
}

/// Deletes the namespaces whose names consist of `prefix` and a rest for which `stale` returns `true`.
///
/// # Errors
/// If one of them can't be deleted, and is still there.
pub fn sweep(prefix: &str, stale: impl Fn(&str) -> bool) -> Result<()> {
    let Ok(names) = std::fs::read_dir(NAMES) else { return Ok(()) };
    for entry in names {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(prefix).is_some_and(&stale) {
            let deleted = tool::run(Command::new("ip").args(["netns", "delete", &name]));
            // Another process may delete it at the same time.
            if let Err(error) = deleted
                && Path::new(NAMES).join(&name).exists()
            {
                return Err(error);
            }
        }
    }
    Ok(())
}
