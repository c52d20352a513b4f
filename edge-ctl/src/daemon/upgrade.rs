//! Upgrades the daemon in place: the same process executes the new version. The attached program goes on meanwhile.

use std::{
    env, ffi::OsString, io, os::unix::process::CommandExt as _, path::PathBuf, process::Command, sync::OnceLock,
    time::Duration,
};

use tokio::time::sleep;

use super::api::{Back, Refusal};
use crate::control::{
    chain,
    events::{EventKind, Events},
    operations::Outcome,
};

/// How long the answer may take to reach its client.
const FAREWELL: Duration = Duration::from_millis(100);

/// Path of the executable. Once the file is replaced, the kernel has no name for the one that runs.
static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();

/// Notes the path of the executable.
pub(super) fn remember() {
    if let Ok(executable) = env::current_exe() {
        let _once = EXECUTABLE.set(executable);
    }
}

/// Answers, and executes the file that is at the noted path now. Returns only if that is not possible.
pub(super) async fn answer(back: Back, events: &Events) {
    let Some(executable) = EXECUTABLE.get() else {
        let _ = back.send(Err(Refusal::internal(&io::Error::from(io::ErrorKind::NotFound))));
        return;
    };
    let message = format!("{} starts anew as PID {}", executable.display(), std::process::id());
    let _ = back.send(Ok(Outcome { changed: true, message, warnings: Vec::new() }));
    sleep(FAREWELL).await;
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let error = Command::new(executable).args(arguments).exec();
    events.report(EventKind::LocalFault, &executable.display().to_string(), chain(&error));
}
