//! Keeps what survives a reboot on the disk: a thread of its own writes what was said last. A disk that is full, read-only or hangs
//! costs an alarm, and nothing else.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::control::kept::{self, Kept};

/// What failed is tried again after this time.
const AGAIN: Duration = Duration::from_secs(10);
/// A write that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often one who waits for the disk looks.
const LOOK: Duration = Duration::from_millis(2);

/// The writing thread, which ends with this.
#[derive(Debug)]
pub(super) struct Keeper {
    directory: PathBuf,
    shared: Arc<(Mutex<Desk>, Condvar)>,
    /// What was handed over last.
    last: Option<Kept>,
}

/// What loop and thread share.
#[derive(Debug, Default)]
struct Desk {
    /// The newest that is not written.
    waiting: Option<Kept>,
    /// Since when the thread writes.
    writing: Option<Instant>,
    fault: Option<String>,
    ended: bool,
}

impl Keeper {
    pub(super) fn start(directory: &Path) -> Self {
        let shared = Arc::<(Mutex<Desk>, Condvar)>::default();
        let (theirs, path) = (Arc::clone(&shared), directory.to_owned());
        thread::spawn(move || write_on(&path, &theirs));
        Self { directory: directory.to_owned(), shared, last: None }
    }

    /// Hands `kept` over, if it is another than before. Never waits.
    pub(super) fn keep(&mut self, kept: Kept) {
        if self.last.as_ref() == Some(&kept) {
            return;
        }
        self.last = Some(kept.clone());
        self.desk().waiting = Some(kept);
        self.shared.1.notify_one();
    }

    /// Waits until what was handed over last is on the disk, or was tried to be, for `limit` at most.
    pub(super) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let is_done = |desk: &Desk| desk.waiting.is_none() && desk.writing.is_none();
        while !is_done(&self.desk()) && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }

    /// Why what was handed over last is not on the disk.
    pub(super) fn fault(&self) -> Option<String> {
        let desk = self.desk();
        let hangs = desk.writing.is_some_and(|since| since.elapsed() > PATIENCE);
        let why = if hangs { Some("the disk does not answer".to_owned()) } else { desk.fault.clone() };
        why.map(|why| format!("{}: {why}; a reboot would not find what operators have said", self.directory.display()))
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

fn write_on(directory: &Path, (desk, rung): &(Mutex<Desk>, Condvar)) {
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
        let written = kept::save(directory, &kept);
        let mut guard = locked(desk);
        guard.writing = None;
        guard.fault = written.as_ref().err().map(ToString::to_string);
        failed = written.is_err().then_some(kept);
        if guard.ended && guard.waiting.is_none() {
            return;
        }
    }
}

fn locked(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    // Nothing in it is left half done by a panic.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what is kept, before there is a loop; for as long as it may take.
pub(super) fn read_at_start(directory: &Path) -> io::Result<Option<Kept>> {
    let (done, result) = mpsc::sync_channel(1);
    let directory = directory.to_owned();
    thread::spawn(move || {
        // Nobody waits any more if it was too late.
        let _late = done.send(kept::load(&directory));
    });
    result.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(io::Error::other("the disk does not answer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_over_is_found_again_and_a_fault_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        std::fs::write(&path, "no directory").expect("written");
        let mut keeper = Keeper::start(&path);
        keeper.keep(Kept { version: kept::VERSION, generation: 7, ..Kept::default() });
        let waited = Instant::now();
        while keeper.fault().is_none() {
            assert!(waited.elapsed() < PATIENCE, "the fault is told");
            thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(&path).expect("it is a file");
        keeper.keep(Kept { version: kept::VERSION, generation: 8, ..Kept::default() });
        while keeper.fault().is_some() {
            assert!(waited.elapsed() < 2 * PATIENCE, "it is over");
            thread::sleep(Duration::from_millis(5));
        }
        keeper.keep(Kept { version: kept::VERSION, generation: 9, ..Kept::default() });
        keeper.flush(PATIENCE);
        assert_eq!(read_at_start(&path).expect("readable").expect("there").generation, 9);
    }
}
