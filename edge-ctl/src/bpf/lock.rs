//! The writer's lock: one process at a time writes the maps, and a second one gets the PID of the first.
//!
//! The lock is on the pin directory itself, so that every process that uses the pins contends for the same lock, from
//! any network namespace and with any run directory; and it can't be deleted while anything is pinned.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::{major, minor},
};
use thiserror::Error;

use super::{PinDir, if_present};

/// How long a busy lock is retried: an `edge-ctl drain` without a daemon holds it for a moment, and so does a killed
/// daemon until the kernel has cleaned up.
const PATIENCE: Duration = Duration::from_millis(300);

/// Name of the lock file in the run directory.
const FILE: &str = "edge.lock";

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub(crate) enum LockError {
    /// `pid` is 0 if unknown.
    #[error("another edge-ctl is running: PID {pid}")]
    Held { pid: u32 },
    #[error("cannot lock {path}", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A held lock, released on drop. The kernel releases it when the process ends, however that happens.
#[derive(Debug)]
pub(crate) struct Lock(Flock<File>);

impl Lock {
    /// Whether this lock is on the present pin directory, and not on one that was removed.
    pub(crate) fn is_of(&self, pins: &PinDir) -> Result<bool, LockError> {
        let directory = pins.version_dir();
        let failed = |source| LockError::File { path: directory.to_owned(), source };
        let there = if_present(fs::metadata(directory)).map_err(failed)?;
        let held = self.0.metadata().map_err(failed)?;
        Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
    }
}

/// Takes the lock on the pins, and with it the right to write the maps.
///
/// # Errors
/// If another process holds the lock for 300 ms.
pub(crate) fn lock_pins(pins: &PinDir) -> Result<Lock, LockError> {
    patiently(|| try_lock_pins(pins))
}

/// Takes the lock of tracers, and with it the right to attach the program for traces.
///
/// It is on the directory of the pinned programs, for the reasons for which [`lock_pins`] is on its directory.
///
/// # Errors
/// If another process traces.
pub(crate) fn lock_tracing(pins: &PinDir) -> Result<Lock, LockError> {
    patiently(|| try_lock(&pins.programs(), FlockArg::LockExclusiveNonblock))
}

/// Whether a process has taken the lock of tracers.
///
/// # Errors
/// If that can't be found out.
pub(crate) fn is_tracing(pins: &PinDir) -> Result<bool, LockError> {
    match try_lock(&pins.programs(), FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err(LockError::Held { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Takes the lock on the run directory, which contains the socket. The directory is made if it is missing.
///
/// # Errors
/// If another process holds the lock for 300 ms.
pub(crate) fn lock_run_dir(run_dir: &Path) -> Result<Lock, LockError> {
    patiently(|| try_lock_run_dir(run_dir))
}

fn patiently(lock: impl Fn() -> Result<Lock, LockError>) -> Result<Lock, LockError> {
    let started = Instant::now();
    loop {
        match lock() {
            Err(LockError::Held { .. }) if started.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
}

fn try_lock_pins(pins: &PinDir) -> Result<Lock, LockError> {
    let directory = pins.version_dir();
    let failed = |source| LockError::File { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let lock = try_lock(directory, FlockArg::LockExclusiveNonblock)?;
    // The previous holder may have removed all pins with the directory; this lock is then on a deleted directory.
    if lock.is_of(pins)? { Ok(lock) } else { try_lock_pins(pins) }
}

/// Takes a lock on a directory that exists.
fn try_lock(directory: &Path, how: FlockArg) -> Result<Lock, LockError> {
    let failed = |source| LockError::File { path: directory.to_owned(), source };
    let file = File::open(directory).map_err(failed)?;
    match Flock::lock(file, how) {
        Ok(locked) => Ok(Lock(locked)),
        Err((file, Errno::EWOULDBLOCK)) => Err(LockError::Held { pid: holder(&file).map_err(failed)? }),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// PID of the process that holds the lock on `file`; 0 if the kernel does not report it.
fn holder(file: &File) -> io::Result<u32> {
    let metadata = file.metadata()?;
    let wanted = format!("{:02x}:{:02x}:{}", major(metadata.dev()), minor(metadata.dev()), metadata.ino());
    let locks = fs::read_to_string("/proc/locks")?;
    // `1: FLOCK  ADVISORY  WRITE 4242 00:2a:17 0 EOF`
    let holder = locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        (*words.get(1)? == "FLOCK" && *words.get(5)? == wanted).then(|| words[4].parse().ok())?
    });
    Ok(holder.unwrap_or(0))
}

fn try_lock_run_dir(run_dir: &Path) -> Result<Lock, LockError> {
    let path = run_dir.join(FILE);
    let failed = |source| LockError::File { path: path.clone(), source };
    fs::create_dir_all(run_dir).map_err(failed)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut file) => {
            // The file is not removed at the end: another process may be waiting for the lock on it.
            file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            Ok(Lock(file))
        }
        Err((file, Errno::EWOULDBLOCK)) => Err(LockError::Held { pid: written(file).map_err(failed)? }),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// PID in the lock file. Its holder writes it right after taking the lock, so an empty file is read again.
fn written(mut file: File) -> io::Result<u32> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::bpffs::Bpffs;

    #[test]
    fn a_second_daemon_learns_the_first_ones_pid() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let run = directory.path().join("run");
        let held = lock_run_dir(&run).expect("nobody holds it");
        assert!(matches!(lock_run_dir(&run), Err(LockError::Held { pid }) if pid == std::process::id()));
        drop(held);
        lock_run_dir(&run).expect("it was given up");
    }

    #[test]
    fn a_second_writer_of_the_pins_learns_the_first_ones_pid() {
        let bpffs = Bpffs::mount();
        let pins = bpffs.pins();
        let held = lock_pins(&pins).expect("nobody holds it");
        assert!(matches!(lock_pins(&pins), Err(LockError::Held { pid }) if pid == std::process::id()));
        // A process that removes the pins is left with the lock of a deleted directory, and excludes nobody from a new
        // one.
        pins.remove_directories().expect("removed");
        assert!(!pins.version_dir().exists());
        let other = lock_pins(&pins).expect("it is another directory");
        drop(held);
        assert!(matches!(lock_pins(&pins), Err(LockError::Held { .. })));
        drop(other);
        lock_pins(&pins).expect("it was given up");
    }
}
