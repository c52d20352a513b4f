//! Writes the state that survives a reboot to the disk, on a thread of its own that writes the newest state. A disk
//! that is full, read-only or hangs costs an alarm, and nothing else.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::control::{
    events::unix_ms,
    kept::{self, Kept},
};

/// Pause before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// A write or read that takes longer counts as hanging.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interval in which [`Keeper::flush`] checks for the end of the write.
const LOOK: Duration = Duration::from_millis(2);

/// Handle of the writing thread, which ends when the handle is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
    shared: Arc<(Mutex<Desk>, Condvar)>,
    /// The last state that was handed over.
    last: Option<Kept>,
}

/// State shared by the loop and the thread.
#[derive(Debug, Default)]
struct Desk {
    /// The newest state, until the thread begins to write it.
    waiting: Option<Kept>,
    /// Start of the write under way.
    writing: Option<Instant>,
    fault: Option<String>,
    ended: bool,
}

impl Keeper {
    /// Starts the thread. If `is_unread`, the directory has a state that could not be read: it is set aside before
    /// anything is written.
    pub(super) fn start(directory: &Path, is_unread: bool) -> Self {
        let shared = Arc::<(Mutex<Desk>, Condvar)>::default();
        let (theirs, path) = (Arc::clone(&shared), directory.to_owned());
        thread::spawn(move || write_on(&path, is_unread, &theirs));
        Self { directory: directory.to_owned(), shared, last: None }
    }

    /// Hands `kept` over, if it differs from the last state. Never blocks.
    pub(super) fn keep(&mut self, kept: &Kept) {
        if self.last.as_ref() == Some(kept) {
            return;
        }
        self.last = Some(kept.clone());
        self.desk().waiting = Some(Kept { at: unix_ms(), ..kept.clone() });
        self.shared.1.notify_one();
    }

    /// Waits until the last state is on the disk, or its write has failed, for `limit` at most.
    pub(super) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let is_done = |desk: &Desk| desk.waiting.is_none() && desk.writing.is_none();
        while !is_done(&self.desk()) && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }

    /// Why the last state is not on the disk.
    pub(super) fn fault(&self) -> Option<String> {
        let desk = self.desk();
        let hangs = desk.writing.is_some_and(|since| since.elapsed() > PATIENCE);
        let why = if hangs { Some("the disk does not answer".to_owned()) } else { desk.fault.clone() };
        why.map(|why| {
            format!(
                "{}: {why}; operators' decisions are not on disk, and a reboot would lose them",
                self.directory.display()
            )
        })
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        locked(&self.shared.0)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.desk().ended = true;
        self.shared.1.notify_one();
    }
}

fn write_on(directory: &Path, mut is_unread: bool, (desk, rung): &(Mutex<Desk>, Condvar)) {
    let mut failed: Option<Kept> = None;
    loop {
        let kept = {
            let mut guard = locked(desk);
            while guard.waiting.is_none() && !guard.ended {
                if failed.is_some() {
                    let (woken, slept) = rung.wait_timeout(guard, AGAIN).unwrap_or_else(PoisonError::into_inner);
                    guard = woken;
                    if slept.timed_out() {
                        break;
                    }
                } else {
                    guard = rung.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
            }
            let Some(kept) = guard.waiting.take().or_else(|| failed.take()) else { return };
            guard.writing = Some(Instant::now());
            kept
        };
        let written = set_aside(directory, &mut is_unread).and_then(|()| kept::save(directory, &kept));
        let mut guard = locked(desk);
        guard.writing = None;
        guard.fault = written.as_ref().err().map(ToString::to_string);
        failed = written.is_err().then_some(kept);
        if guard.ended && guard.waiting.is_none() {
            return;
        }
    }
}

fn set_aside(directory: &Path, is_unread: &mut bool) -> io::Result<()> {
    if *is_unread {
        kept::set_aside(directory)
            .map_err(|error| io::Error::other(format!("a state that cannot be read cannot be set aside: {error}")))?;
        *is_unread = false;
    }
    Ok(())
}

fn locked(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    // A panic leaves no part of it half done.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the kept state, before the loop runs; fails after [`PATIENCE`].
pub(super) fn read_at_start(directory: &Path) -> io::Result<Option<Kept>> {
    read_within(PATIENCE, directory, kept::load)
}

/// Reads the copy of the kept state in the run directory, which is in memory: it has what a disk that fails has not. `None`
/// after a reboot, or if the copy cannot be read.
pub(super) fn read_copy(directory: &Path) -> Option<Kept> {
    read_within(PATIENCE, directory, kept::load).unwrap_or_default()
}

/// The newer of two copies.
pub(super) fn newer(copy: Option<Kept>, disk: Option<Kept>) -> Option<Kept> {
    match (copy, disk) {
        (Some(copy), Some(disk)) if disk.at > copy.at => Some(disk),
        (copy, disk) => copy.or(disk),
    }
}

/// Runs `read` on a thread of its own, since a disk may hang.
///
/// # Errors
/// If `read` fails, or takes longer than `patience`.
pub(super) fn read_within<T: Send + 'static>(
    patience: Duration,
    directory: &Path,
    read: fn(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let (done, result) = mpsc::sync_channel(1);
    let directory = directory.to_owned();
    thread::spawn(move || {
        // The receiver is gone if the read took too long.
        let _late = done.send(read(&directory));
    });
    result.recv_timeout(patience).unwrap_or_else(|_| Err(io::Error::other("the disk does not answer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_state_is_read_again_and_a_fault_is_reported() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        std::fs::write(&path, "no directory").expect("written");
        let mut keeper = Keeper::start(&path, false);
        keeper.keep(&Kept { version: kept::VERSION, generation: 7, ..Kept::default() });
        let waited = Instant::now();
        while keeper.fault().is_none() {
            assert!(waited.elapsed() < PATIENCE, "the fault is reported");
            thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(&path).expect("it is a file");
        keeper.keep(&Kept { version: kept::VERSION, generation: 8, ..Kept::default() });
        while keeper.fault().is_some() {
            assert!(waited.elapsed() < 2 * PATIENCE, "it is over");
            thread::sleep(Duration::from_millis(5));
        }
        keeper.keep(&Kept { version: kept::VERSION, generation: 9, ..Kept::default() });
        keeper.flush(PATIENCE);
        assert_eq!(read_at_start(&path).expect("readable").expect("there").generation, 9);
    }

    #[test]
    fn a_disk_that_fails_leaves_the_newer_copy_in_the_run_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let [disk, run] = ["disk", "run"].map(|name| directory.path().join(name));
        let read = || newer(read_copy(&run), read_at_start(&disk).expect("readable")).map(|kept| kept.generation);
        assert_eq!(read(), None);
        let mut keepers = [&disk, &run].map(|path| Keeper::start(path, false));
        let keep = |keeper: &mut Keeper, generation| {
            keeper.keep(&Kept { version: kept::VERSION, generation, ..Kept::default() });
            keeper.flush(PATIENCE);
            thread::sleep(Duration::from_millis(2));
        };
        for keeper in &mut keepers {
            keep(keeper, 7);
        }
        assert_eq!(read(), Some(7));
        keep(&mut keepers[1], 8);
        assert_eq!(read(), Some(8));
        let written = std::fs::read(run.join("state.json")).expect("there");
        keep(&mut keepers[1], 8);
        assert_eq!(std::fs::read(run.join("state.json")).expect("there"), written, "it was the same");
        // A run directory that is full.
        keep(&mut keepers[0], 9);
        assert_eq!(read(), Some(9));
        std::fs::write(run.join("state.json"), "cut o").expect("written");
        assert_eq!(read(), Some(9));
    }

    #[test]
    fn a_state_that_cannot_be_read_is_set_aside_and_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let state = path.join("state.json");
        for (number, unread) in ["{\"version\": 2}", "{\"ver", "no json"].into_iter().enumerate() {
            std::fs::write(&state, unread).expect("written");
            std::fs::write(path.join(format!("generation-{number}-0.toml")), unread).expect("written");
            assert!(read_at_start(path).is_err());
            let mut keeper = Keeper::start(path, true);
            keeper.keep(&Kept { version: kept::VERSION, generation: 7, ..Kept::default() });
            keeper.flush(PATIENCE);
            assert_eq!(keeper.fault(), None);
            let aside = |name: &str| std::fs::read_to_string(path.join("unread").join(name)).expect("it is there");
            assert_eq!(aside("state.json"), unread);
            assert_eq!(aside(&format!("generation-{number}-0.toml")), unread);
            assert_eq!(read_at_start(path).expect("readable").expect("there").generation, 7);
        }
        assert_eq!(std::fs::read_to_string(path.join("unread.1/state.json")).expect("kept"), "{\"ver");

        // Nothing is written while the state cannot be set aside.
        std::fs::write(&state, "no json").expect("written");
        std::fs::remove_dir_all(path.join("unread")).expect("a directory");
        std::fs::write(path.join("unread"), "in the way").expect("written");
        let mut keeper = Keeper::start(path, true);
        keeper.keep(&Kept { version: kept::VERSION, generation: 8, ..Kept::default() });
        keeper.flush(PATIENCE);
        assert!(keeper.fault().expect("an alarm").contains("cannot be set aside"));
        assert_eq!(std::fs::read_to_string(&state).expect("there"), "no json");
    }
}
