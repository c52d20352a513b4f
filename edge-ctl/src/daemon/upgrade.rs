//! Upgrades the daemon in place: the same process executes the new version. The attached program goes on meanwhile.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use tokio::time::sleep;

use super::api::{Back, Refusal};
use crate::control::operations::Outcome;

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

/// Answers, and returns the executable to go on with; `None` if there is none.
pub(super) async fn answer(back: Back) -> Option<&'static Path> {
    let Some(executable) = EXECUTABLE.get() else {
        let _ = back.send(Err(Refusal::internal(&io::Error::from(io::ErrorKind::NotFound))));
        return None;
    };
    let message = format!("{} starts anew as PID {}", executable.display(), std::process::id());
    let _ = back.send(Ok(Outcome { changed: true, message, warnings: Vec::new() }));
    sleep(FAREWELL).await;
    Some(executable)
}

/// Executes the file that is at the path now, with this process's arguments. Returns only if that is not possible.
pub(super) fn execute(executable: &Path) -> io::Error {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    Command::new(executable).args(arguments).exec()
}
