//! A program as health check: it passes if it exits with 0, and otherwise prints the reason.

use std::{
    io,
    net::IpAddr,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, User},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

use super::super::classify::{Stage, classify};
use crate::health::Verdict;

/// Descriptors of a child while it starts: both ends of its standard output and error, its handle, the pipe that reports
/// whether it started, and its input.
pub(super) const DESCRIPTORS: u32 = 8;

/// Bytes of the output that are kept. The rest is read and discarded, so that the program does not block.
const KEPT: usize = 512;

pub(super) async fn look(address: IpAddr, port: u16, argv: &[String], user: &str) -> Result<(), Verdict> {
    let (program, arguments) =
        argv.split_first().ok_or_else(|| Verdict::Inconclusive("no command to run".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.env("EDGE_ADDRESS", address.to_string()).env("EDGE_PORT", port.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    become_user(&mut command, user)?;
    let mut child = command.spawn().map_err(|error| {
        // A command that can't be started is no evidence about the backend.
        Verdict::Inconclusive(format!("{program} does not start: {}", reason(&error)))
    })?;
    let group = Group(child.id());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let (output, errors, status) = tokio::join!(read(output), read(errors), child.wait());
    group.has_ended();
    let status = status.map_err(|error| classify(&error, Stage::Local))?;
    if status.success() {
        return Ok(());
    }
    let output_text = [output, errors].concat();
    let output_text: String =
        String::from_utf8_lossy(&output_text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let output_text = output_text.trim();
    let ended = ended(status);
    Err(Verdict::Fail(if output_text.is_empty() {
        format!("command {ended}")
    } else {
        format!("command {ended}: {output_text}")
    }))
}

/// Drops the daemon's rights, which a command does not need.
fn become_user(command: &mut Command, user: &str) -> Result<(), Verdict> {
    let unknown = |why: String| Verdict::Inconclusive(format!("the user {user} to run the command as: {why}"));
    let entry = User::from_name(user).map_err(|error| unknown(error.to_string()))?;
    let entry = entry.ok_or_else(|| unknown("there is none".to_owned()))?;
    if entry.uid != nix::unistd::geteuid() {
        command.uid(entry.uid.as_raw()).gid(entry.gid.as_raw());
    }
    Ok(())
}

/// The process group of a child, which is killed at the timeout.
struct Group(Option<u32>);

impl Group {
    /// The child was waited for, and its output is closed: its PID may be reused from now on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.and_then(|group| i32::try_from(group).ok()) {
            let _unused = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// Reads all output, and returns the beginning.
async fn read(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let room = KEPT - kept.len().min(KEPT);
        kept.extend(buffer.iter().take(length.min(room)));
    }
    kept
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_lowercase()
}
