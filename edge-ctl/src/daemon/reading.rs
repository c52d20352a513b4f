//! Reads and checks the configuration file beside the loop: a file system that hangs, a pipe without a writer or a huge
//! file must stop neither health nor the API. There is one reading at a time; requests meanwhile get the next one.

use std::{
    future,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use axum::http::StatusCode;
use tokio::{
    task::{self, JoinHandle},
    time::{Instant, sleep_until},
};

use super::api::{Back, Refusal};
use crate::{
    config::{self, Config, ConfigError},
    control::change::{Candidate, How, Words},
};

/// Timeout of a reading.
const PATIENCE: Duration = Duration::from_secs(10);

/// The result of a reading, and the requests that wait for it.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) file: Result<Candidate, ConfigError>,
    pub(super) waiting: Vec<Back>,
}

/// Readings of one file.
#[derive(Debug)]
pub(super) struct Reader {
    path: PathBuf,
    patience: Duration,
    task: Option<JoinHandle<Result<Config, ConfigError>>>,
    /// The end of the timeout; `None` once it was reported.
    deadline: Option<Instant>,
    /// Requests that wait for the present reading, and for the next, which is due if it has a list.
    waiting: Vec<Back>,
    next: Option<Vec<Back>>,
    /// Origin and options of the requests that wait for the present reading, and for the next.
    options: (How, Words),
    next_options: (How, Words),
}

const NO_OPTIONS: (How, Words) = (
    How::Sighup,
    Words { allow_removal: 0, allow_moves: false, allow_unrehearsed: false, confirm_ms: None, reason: None, by: None },
);

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            patience: PATIENCE,
            task: None,
            deadline: None,
            waiting: Vec::new(),
            next: None,
            options: NO_OPTIONS,
            next_options: NO_OPTIONS,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to read the file, now or after the present reading; the last request's options count.
    /// [`read`](Self::read) returns the result.
    pub(super) fn begin(&mut self, (how, words): (How, Words), back: Option<Back>) {
        if self.task.is_some() {
            self.next_options = (how, words);
            let next = self.next.get_or_insert_default();
            match back {
                // The present reading hangs, for an unknown time.
                Some(back) if self.deadline.is_none() => {
                    let hint = Some("nothing was changed");
                    // The client may have gone.
                    drop(back.send(Err(Refusal::new(StatusCode::BAD_REQUEST, self.late().to_string(), hint))));
                }
                back => next.extend(back),
            }
            return;
        }
        self.options = (how, words);
        self.waiting.extend(back);
        let path = self.path.clone();
        self.task = Some(task::spawn_blocking(move || config::load(&path)));
        self.deadline = Some(Instant::now() + self.patience);
    }

    /// Waits until the file is read, or the timeout is over; for ever while no reading is under way.
    pub(super) async fn read(&mut self) -> Read {
        loop {
            let Some(task) = &mut self.task else { return future::pending().await };
            let late = async {
                match self.deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                done = task => {
                    self.task = None;
                    // The task is never aborted, so the error is a panic, which has ended this process.
                    let file = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                    let (late, waiting) = (self.deadline.is_none(), std::mem::take(&mut self.waiting));
                    let (how, words) = std::mem::replace(&mut self.options, NO_OPTIONS);
                    let file = file.map(|config| candidate(config, &self.path, how, words));
                    if let Some(next) = self.next.take() {
                        let options = std::mem::replace(&mut self.next_options, NO_OPTIONS);
                        self.begin(options, None);
                        self.waiting = next;
                    }
                    // A late result was refused at the timeout, and may be old.
                    if !late {
                        return Read { file, waiting };
                    }
                }
                () = late => {
                    self.deadline = None;
                    let mut waiting = std::mem::take(&mut self.waiting);
                    waiting.extend(self.next.take().into_iter().flatten());
                    return Read { file: Err(self.late()), waiting };
                }
            }
        }
    }

    fn late(&self) -> ConfigError {
        ConfigError::Late { file: self.path.display().to_string(), patience: self.patience }
    }
}

/// The candidate from the daemon's file.
fn candidate(config: Config, path: &Path, how: How, words: Words) -> Candidate {
    Candidate { config, how, file: Some(path.display().to_string()), words, text_of: None }
}

/// Reads the file before the loop runs; fails after [`PATIENCE`].
pub(super) fn read_at_start(path: &Path) -> Result<Candidate, ConfigError> {
    let (done, result) = std::sync::mpsc::sync_channel(1);
    let owned = path.to_owned();
    thread::spawn(move || {
        // The receiver is gone if the reading took too long.
        let _late = done.send(config::load(&owned));
    });
    let late = |_| Err(ConfigError::Late { file: path.display().to_string(), patience: PATIENCE });
    let read = result.recv_timeout(PATIENCE).unwrap_or_else(late);
    read.map(|config| candidate(config, path, How::Start, Words::default()))
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_pipe_that_nobody_writes_to_is_refused_and_read_once_somebody_does() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("edge.toml");
        mkfifo(&path, Mode::S_IRWXU).expect("a pipe");
        let mut reader = Reader { patience: Duration::from_millis(300), ..Reader::new(path.clone()) };
        let (back, mut answer) = oneshot::channel();
        reader.begin(NO_OPTIONS, Some(back));
        let read = reader.read().await;
        assert!(matches!(read.file, Err(ConfigError::Late { .. })), "{:?}", read.file);
        assert_eq!(read.waiting.len(), 1, "it is reported");
        drop(read);
        assert!(answer.try_recv().is_err());

        // While the reading hangs, other requests are refused at once.
        let (back, answer) = oneshot::channel();
        reader.begin(NO_OPTIONS, Some(back));
        assert!(answer.await.expect("told").is_err());

        // The result of the first reading is old by now; the second reading follows it.
        std::fs::write(&path, "nonsense").expect("a reader exists");
        let writer = thread::spawn(move || {
            // Late enough for the second reading.
            thread::sleep(Duration::from_millis(100));
            std::fs::write(&path, "other nonsense")
        });
        let read = reader.read().await;
        assert!(matches!(read.file, Err(ConfigError::Refused(_))), "{:?}", read.file);
        writer.join().expect("no panic").expect("written");
    }

    #[tokio::test]
    async fn a_pipe_among_the_included_files_is_refused_at_once_and_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("edge.toml");
        std::fs::write(&path, "include = [\"conf.d/*.toml\"]\n").expect("written");
        std::fs::create_dir(directory.path().join("conf.d")).expect("made");
        mkfifo(&directory.path().join("conf.d/10.toml"), Mode::S_IRWXU).expect("a pipe");
        let mut reader = Reader::new(path.clone());
        reader.begin(NO_OPTIONS, None);
        let error = reader.read().await.file.expect_err("a pipe").to_string();
        assert!(error.contains("conf.d/10.toml: can't be read"), "{error}");
        let error = read_at_start(&path).expect_err("a pipe").to_string();
        assert!(error.contains("conf.d/10.toml: can't be read"), "{error}");
    }

    #[tokio::test]
    async fn a_request_during_a_reading_gets_the_next_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut reader = Reader::new(directory.path().join("edge.toml"));
        let backs: Vec<_> = (0..3).map(|_| oneshot::channel()).collect();
        let mut answers = Vec::new();
        for (back, answer) in backs {
            reader.begin(NO_OPTIONS, Some(back));
            answers.push(answer);
        }
        assert_eq!(reader.read().await.waiting.len(), 1);
        assert_eq!(reader.read().await.waiting.len(), 2);
        assert!(reader.task.is_none());
    }
}
