//! The load balancer under test: its daemon and its command line.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::{
    netns::Netns,
    patience::{patience, rest},
    process::Process,
    status,
};

/// Name of the daemon's socket in its run directory.
const SOCKET: &str = "edge.sock";
/// How long the daemon may take to load its programs and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// `edge-ctl` with directories of its own, in one namespace.
#[derive(Debug)]
pub struct Edge {
    binary: PathBuf,
    dir: PathBuf,
    pins: PathBuf,
    daemon: Option<Process>,
    /// Commands that a shell runs before it becomes the daemon.
    before: Option<String>,
    /// Additional environment variables of the daemon.
    environment: Vec<(String, String)>,
}

impl Edge {
    /// An edge with files in `dir` and pins in `pins` (on a bpffs). Nothing is started.
    pub fn new(binary: &Path, dir: &Path, pins: &Path, configuration: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let edge = Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            pins: pins.to_owned(),
            daemon: None,
            before: None,
            environment: Vec::new(),
        };
        std::fs::write(edge.configuration(), configuration)?;
        Ok(edge)
    }

    pub fn configuration(&self) -> PathBuf {
        self.dir.join("edge.toml")
    }

    /// Limits the open files of daemons that start from now on.
    pub fn limit_files(&mut self, most: u32) {
        self.before(&format!("ulimit -n {most}"));
    }

    /// Commands that a shell runs first, in the process that becomes the daemon, for daemons that start from now on.
    pub fn before(&mut self, commands: &str) {
        self.before = Some(commands.to_owned());
    }

    /// Sets the additional environment variables of daemons that start from now on; earlier ones are dropped.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// Directory of the socket and the lock.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Directory of the state that survives a reboot.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Path of `edge-ctl`.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Directory of the pins.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("daemon.log")
    }

    /// Starts the daemon; returns once it answers.
    pub fn start(&mut self, netns: &Netns) -> Result<()> {
        let mut command = match &self.before {
            None => self.command(netns)?,
            Some(before) => {
                let mut shell = self.with_directories(netns.command("sh")?);
                shell.args(["-c", &format!("{before} && exec \"$0\" \"$@\"")]).arg(&self.binary);
                shell
            }
        };
        command.arg("run").arg("--config").arg(self.configuration()).envs(self.environment.iter().cloned());
        let mut daemon = Process::start("edge-ctl run", &mut command, &self.log())?;
        let start = Instant::now();
        loop {
            if let Some(status) = daemon.ended()? {
                bail!("edge-ctl run ended ({status}):\n{}", self.log_text());
            }
            let looked = Instant::now();
            // The socket exists once the daemon serves. Polling by a command would take CPU time from the verifier on a
            // slow machine; and without a daemon the command line answers as well, from pinned maps.
            if UnixStream::connect(self.run_dir().join(SOCKET)).is_ok()
                && self.status(netns).is_ok_and(|status| status::is_by_daemon(&status))
            {
                break;
            }
            if start.elapsed() > patience(PATIENCE) {
                bail!("edge-ctl run did not answer within {} s:\n{}", patience(PATIENCE).as_secs(), self.log_text());
            }
            rest(Duration::from_millis(20), looked.elapsed());
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// The daemon's log so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default().trim().to_owned()
    }

    /// Sends SIGKILL to the daemon.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("the daemon does not run")?.kill()
    }

    /// Sends SIGTERM to the daemon, and waits for its end.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.daemon.take().context("the daemon does not run")?.stop()?;
        anyhow::ensure!(status.success(), "the daemon ended with {status} after SIGTERM");
        Ok(())
    }

    /// Signals the daemon, for example with SIGHUP.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        self.daemon.as_ref().context("the daemon does not run")?.signal(signal)
    }

    /// Runs `edge-ctl ARGS`; returns the output, whether it succeeds or fails.
    pub fn output(&self, netns: &Netns, args: &[&str]) -> Result<Output> {
        Ok(self.command(netns)?.args(args).output()?)
    }

    /// Runs `edge-ctl ARGS`; returns its standard output.
    ///
    /// # Errors
    /// If the command fails; the error contains its output.
    pub fn ctl(&self, netns: &Netns, args: &[&str]) -> Result<String> {
        let output = self.output(netns, args)?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`edge-ctl {}` failed ({}): {}", args.join(" "), output.status, stderr.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The parsed output of `edge-ctl status --json`.
    pub fn status(&self, netns: &Netns) -> Result<Value> {
        Ok(serde_json::from_str(&self.ctl(netns, &["status", "--json"])?)?)
    }

    /// A command for `edge-ctl` in `netns` with this edge's directories.
    pub fn command(&self, netns: &Netns) -> Result<Command> {
        Ok(self.with_directories(netns.command(&self.binary)?))
    }

    fn with_directories(&self, mut command: Command) -> Command {
        command.env("EDGE_PIN_DIR", &self.pins).env("EDGE_RUN_DIR", self.run_dir());
        command.env("EDGE_STATE_DIR", self.state_dir());
        command
    }
}
