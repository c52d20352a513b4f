//! A child process that is killed and reaped when its owner is dropped.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::lab::patience::patience;

/// How long a process may take to exit after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running child whose output goes to a log file.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
}

impl Process {
    /// Starts `command`; `what` names it in messages, and `log` receives its output.
    pub fn start(what: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("could not open {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .with_context(|| format!("could not start {what} ({})", command.get_program().to_string_lossy()))?;
        Ok(Self { what: what.to_owned(), child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("could not read the status of {}", self.what))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(pid, signal).with_context(|| format!("could not send {signal} to {}", self.what))
    }

    /// Sends SIGKILL, as an out-of-memory killer would; returns once the process is reaped.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM; an error if the process does not end in time.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < patience(PATIENCE) {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("{} ignored SIGTERM for {} s", self.what, patience(PATIENCE).as_secs())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both calls fail only when the process is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
