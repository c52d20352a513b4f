//! The configuration file, read and checked beside the loop: a file system that hangs, a pipe that nobody writes to, or a huge
//! file must stop neither health nor the API. One reading at a time; who asks meanwhile gets the next one.

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

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of a reading.
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
    /// When it has taken too long; `None` once that was told.
    deadline: Option<Instant>,
    /// Who waits for this one, and for the next; that is due if there is a list for it.
    waiting: Vec<Back>,
    next: Option<Vec<Back>>,
    /// What was said by those who wait for this one, and for the next.
    said: (How, Words),
    next_said: (How, Words),
}

const UNSAID: (How, Words) = (
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
            said: UNSAID,
            next_said: UNSAID,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to read the file, now or when it has been read; the last word counts. The result is [`read`](Self::read)'s.
    pub(super) fn begin(&mut self, (how, words): (How, Words), back: Option<Back>) {
        if self.task.is_some() {
            self.next_said = (how, words);
            let next = self.next.get_or_insert_default();
            match back {
                // The one before hangs, and nobody knows until when.
                Some(back) if self.deadline.is_none() => {
                    let hint = Some("nothing was changed");
                    // The client may have gone.
                    drop(back.send(Err(Refusal::new(StatusCode::BAD_REQUEST, self.late().to_string(), hint))));
                }
                back => next.extend(back),
            }
            return;
        }
        self.said = (how, words);
        self.waiting.extend(back);
        let path = self.path.clone();
        self.task = Some(task::spawn_blocking(move || config::load(&path)));
        self.deadline = Some(Instant::now() + self.patience);
    }

    /// Waits until the file is read, or that has taken too long; for ever while nobody has asked for it.
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
                    // It is never aborted, so the error is a panic, which has ended this process.
                    let file = done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                    let (late, waiting) = (self.deadline.is_none(), std::mem::take(&mut self.waiting));
                    let (how, words) = std::mem::replace(&mut self.said, UNSAID);
                    let file = file.map(|config| candidate(config, &self.path, how, words));
                    if let Some(next) = self.next.take() {
                        let said = std::mem::replace(&mut self.next_said, UNSAID);
                        self.begin(said, None);
                        self.waiting = next;
                    }
                    // What came too late was refused then, and may be old.
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

/// What was read from the daemon's file.
fn candidate(config: Config, path: &Path, how: How, words: Words) -> Candidate {
    Candidate { config, how, file: Some(path.display().to_string()), words }
}

/// Reads the file before there is a loop, for as long as it may take.
pub(super) fn read_at_start(path: &Path) -> Result<Candidate, ConfigError> {
    let (done, result) = std::sync::mpsc::sync_channel(1);
    let owned = path.to_owned();
    thread::spawn(move || {
        // Nobody waits any more if it was too late.
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
        reader.begin(UNSAID, Some(back));
        let read = reader.read().await;
        assert!(matches!(read.file, Err(ConfigError::Late { .. })), "{:?}", read.file);
        assert_eq!(read.waiting.len(), 1, "it is told");
        drop(read);
        assert!(answer.try_recv().is_err());

        // While it hangs others are refused at once.
        let (back, answer) = oneshot::channel();
        reader.begin(UNSAID, Some(back));
        assert!(answer.await.expect("told").is_err());

        // What comes of the first one is old by now; the second one is read after it.
        std::fs::write(&path, "nonsense").expect("somebody reads");
        let writer = thread::spawn(move || {
            // Not into the same reading.
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
        reader.begin(UNSAID, None);
        let error = reader.read().await.file.expect_err("a pipe").to_string();
        assert!(error.contains("conf.d/10.toml: can't be read"), "{error}");
        let error = read_at_start(&path).expect_err("a pipe").to_string();
        assert!(error.contains("conf.d/10.toml: can't be read"), "{error}");
    }

    #[tokio::test]
    async fn who_asks_during_a_reading_gets_the_next_one() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut reader = Reader::new(directory.path().join("edge.toml"));
        let backs: Vec<_> = (0..3).map(|_| oneshot::channel()).collect();
        let mut answers = Vec::new();
        for (back, answer) in backs {
            reader.begin(UNSAID, Some(back));
            answers.push(answer);
        }
        assert_eq!(reader.read().await.waiting.len(), 1);
        assert_eq!(reader.read().await.waiting.len(), 2);
        assert!(reader.task.is_none());
    }
}
