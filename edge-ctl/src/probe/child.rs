//! A program as a child process: with a user's rights, and killed with the processes that it has started.

use std::{
    io,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, User},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};

/// Bytes of the output that are kept. The rest is read and discarded, so that the program does not block.
const KEPT: usize = 512;

/// A command in a process group of its own, without this process's environment, with the rights of `user` alone.
///
/// # Errors
/// If there is nothing to run, or no such user.
pub(crate) fn command(argv: &[String], user: &str) -> Result<Command, String> {
    let (program, arguments) = argv.split_first().ok_or_else(|| "no command to run".to_owned())?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    become_user(&mut command, user)?;
    Ok(command)
}

/// Drops the daemon's rights, which a command does not need.
fn become_user(command: &mut Command, user: &str) -> Result<(), String> {
    let unknown = |why: String| format!("the user {user} to run the command as: {why}");
    let entry = User::from_name(user).map_err(|error| unknown(error.to_string()))?;
    let entry = entry.ok_or_else(|| unknown("there is none".to_owned()))?;
    if entry.uid != nix::unistd::geteuid() {
        command.uid(entry.uid.as_raw()).gid(entry.gid.as_raw());
    }
    Ok(())
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    status: ExitStatus,
    /// The beginning of what it has written, without control characters.
    output: String,
}

impl Outcome {
    /// How it failed; `None` if it ended with 0.
    pub(crate) fn failure(&self) -> Option<String> {
        let ended = ended(self.status);
        match self.output.as_str() {
            _ if self.status.success() => None,
            "" => Some(ended),
            output => Some(format!("{ended}: {output}")),
        }
    }
}

/// Waits for the end of the child and of its output; kills its group if the future is dropped before that.
pub(crate) async fn outcome(mut child: Child) -> io::Result<Outcome> {
    let group = Group(child.id());
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let (output, errors, status) = tokio::join!(read(output), read(errors), child.wait());
    group.has_ended();
    let text = [output, errors].concat();
    let text: String = String::from_utf8_lossy(&text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Ok(Outcome { status: status?, output: text.trim().to_owned() })
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

/// An error of the system in short.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_lowercase()
}
