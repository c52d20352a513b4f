//! The writer's lock: one process at a time writes the maps, and a second one gets the PID of the first.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use thiserror::Error;

/// How long the lock is tried for: an `edge-ctl drain` without a daemon holds it for a moment, and a daemon that was
/// killed until the kernel has cleared it away.
const PATIENCE: Duration = Duration::from_millis(300);

/// Name of the lock file in the run directory.
const FILE: &str = "edge.lock";

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub(crate) enum LockError {
    /// `pid` is 0 when the holder has not written it yet.
    #[error("another edge-ctl is running: PID {pid}")]
    Held { pid: u32 },
    #[error("cannot lock {path}", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The right to write the maps, until it is dropped; the kernel drops it with the process, however that ends.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: Flock<File>,
}

/// Takes the lock in `run_dir`, which is made if it is not there.
///
/// # Errors
/// When another process holds it, and goes on to hold it for 300 ms.
pub(crate) fn lock(run_dir: &Path) -> Result<WriterLock, LockError> {
    let started = Instant::now();
    loop {
        match try_lock(run_dir) {
            Err(LockError::Held { .. }) if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
}

fn try_lock(run_dir: &Path) -> Result<WriterLock, LockError> {
    let path = run_dir.join(FILE);
    let failed = |source| LockError::File { path: path.clone(), source };
    fs::create_dir_all(run_dir).map_err(failed)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            // Not removed at the end: somebody could be waiting on the file that we remove.
            file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            Ok(WriterLock { _file: file })
        }
        Err((file, Errno::EWOULDBLOCK)) => Err(LockError::Held { pid: holder(file).map_err(failed)? }),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// PID in the lock file. Its holder writes it right after taking the lock, so an empty file is read again.
fn holder(mut file: File) -> io::Result<u32> {
    for _ in 0..20 {
        let mut text = String::new();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        if let Ok(pid) = text.trim().parse() {
            return Ok(pid);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(0)
}
