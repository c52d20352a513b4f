//! The writer's lock: one process at a time writes the maps, and a second one gets the PID of the first.
//!
//! It lies on the directory of the pins themselves: whoever finds the pins finds the lock, from any network namespace and with
//! any run directory, and it can't be deleted while anything is pinned.

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

use super::{PinDir, found};

/// How long the lock is tried for: an `edge-ctl drain` without a daemon holds it for a moment, and a daemon that was
/// killed until the kernel has cleared it away.
const PATIENCE: Duration = Duration::from_millis(300);

/// Name of the lock file in the run directory.
const FILE: &str = "edge.lock";

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub(crate) enum LockError {
    /// `pid` is 0 when it is not known.
    #[error("another edge-ctl is running: PID {pid}")]
    Held { pid: u32 },
    #[error("cannot lock {path}", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A lock, until it is dropped; the kernel drops it with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock(Flock<File>);

impl Lock {
    /// Whether it is the lock of the directory that is there now, and not of one that was removed.
    pub(crate) fn is_of(&self, pins: &PinDir) -> Result<bool, LockError> {
        let directory = pins.version_dir();
        let failed = |source| LockError::File { path: directory.to_owned(), source };
        let there = found(fs::metadata(directory)).map_err(failed)?;
        let held = self.0.metadata().map_err(failed)?;
        Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())))
    }
}

/// Takes the right to write the maps.
///
/// # Errors
/// When another process holds it, and goes on to hold it for 300 ms.
pub(crate) fn lock_pins(pins: &PinDir) -> Result<Lock, LockError> {
    patiently(|| try_lock_pins(pins))
}

/// Takes the run directory, with the socket in it; it is made if it is not there.
///
/// # Errors
/// When another process holds it, and goes on to hold it for 300 ms.
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
    let file = File::open(directory).map_err(failed)?;
    let locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => locked,
        Err((file, Errno::EWOULDBLOCK)) => return Err(LockError::Held { pid: holder(&file).map_err(failed)? }),
        Err((_, errno)) => return Err(failed(errno.into())),
    };
    // Its holder may have removed all pins, and the directory with them: then another one is there now.
    let lock = Lock(locked);
    if lock.is_of(pins)? { Ok(lock) } else { try_lock_pins(pins) }
}

/// Who holds the lock on `file`, as far as the kernel tells; 0 if it does not.
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
            // Not removed at the end: somebody could be waiting on the file that we remove.
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
        // Who removes the pins holds the lock of a directory that is gone, and keeps nobody out of a new one.
        pins.remove_directories().expect("removed");
        assert!(!pins.version_dir().exists());
        let other = lock_pins(&pins).expect("it is another directory");
        drop(held);
        assert!(matches!(lock_pins(&pins), Err(LockError::Held { .. })));
        drop(other);
        lock_pins(&pins).expect("it was given up");
    }
}
