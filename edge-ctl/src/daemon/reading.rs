//! Reads and checks the configuration file beside the loop: a file system that hangs, a pipe without a writer or a huge
//! file must stop neither health nor the API. There is one reading at a time; requests meanwhile get the next one.

use std::{
    collections::VecDeque,
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
    control::change::{self, Candidate, How, Look, Words},
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
    task: Option<JoinHandle<Result<(Config, Look), ConfigError>>>,
    /// The end of the timeout; `None` once it was reported.
    deadline: Option<Instant>,
    /// The requests that the present reading is for.
    present: Requests,
    /// The readings after it, one for all requests with the same options.
    next: VecDeque<Requests>,
}

/// Requests for one reading.
#[derive(Debug)]
struct Requests {
    how: How,
    words: Words,
    /// Those of them that wait for an answer.
    waiting: Vec<Back>,
}

const NO_OPTIONS: (How, Words) = (
    How::Sighup,
    Words {
        allow_removal: 0,
        allow_moves: false,
        allow_unrehearsed: false,
        allow_unfit: false,
        confirm_ms: None,
        reason: None,
        by: None,
    },
);

impl Requests {
    fn new((how, words): (How, Words), back: Option<Back>) -> Self {
        Self { how, words, waiting: back.into_iter().collect() }
    }
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        let present = Requests::new(NO_OPTIONS, None);
        Self { path, patience: PATIENCE, task: None, deadline: None, present, next: VecDeque::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins to read the file, now or after the present reading. Requests with other options get another reading: a
    /// signal must not apply without a trial what a request before it wants on trial. [`read`](Self::read) returns the
    /// result.
    pub(super) fn begin(&mut self, (how, words): (How, Words), back: Option<Back>) {
        if self.task.is_none() {
            return self.start(Requests::new((how, words), back));
        }
        let back = match back {
            // The present reading hangs, for an unknown time.
            Some(back) if self.deadline.is_none() => {
                let hint = Some("nothing was changed");
                // The client may have gone.
                drop(back.send(Err(Refusal::new(StatusCode::BAD_REQUEST, self.late().to_string(), hint))));
                return;
            }
            back => back,
        };
        match self.next.iter_mut().find(|next| (next.how, &next.words) == (how, &words)) {
            Some(next) => next.waiting.extend(back),
            None => self.next.push_back(Requests::new((how, words), back)),
        }
    }

    fn start(&mut self, requests: Requests) {
        self.present = requests;
        let path = self.path.clone();
        self.task = Some(task::spawn_blocking(move || {
            let config = config::load(&path)?;
            let look = change::look(&config);
            Ok((config, look))
        }));
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
                    let late = self.deadline.is_none();
                    let Requests { how, words, waiting } =
                        std::mem::replace(&mut self.present, Requests::new(NO_OPTIONS, None));
                    let file = file.map(|(config, look)| {
                        let host = Some(look);
                        Candidate { host, ..candidate(config, &self.path, how, words) }
                    });
                    if let Some(next) = self.next.pop_front() {
                        self.start(next);
                    }
                    // A late result was refused at the timeout, and may be old.
                    if !late {
                        return Read { file, waiting };
                    }
                }
                () = late => {
                    self.deadline = None;
                    // All who wait are refused, so that nothing happens for them later. Signals get their reading.
                    let mut waiting = std::mem::take(&mut self.present.waiting);
                    self.next.iter_mut().for_each(|next| waiting.append(&mut next.waiting));
                    self.next.retain(|next| next.how == How::Sighup);
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
    for pattern in config.unmatched() {
        tracing::warn!(file = %path.display(), "no file matches \"{pattern}\" of `include`");
    }
    Candidate { config, how, file: Some(path.display().to_string()), words, text_of: None, host: None }
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
        reader.begin(NO_OPTIONS, None);

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

    #[tokio::test]
    async fn a_signal_does_not_take_the_options_of_a_request_before_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("edge.toml");
        std::fs::write(&path, include_str!("../../../packaging/edge.toml")).expect("written");
        let mut reader = Reader::new(path);
        let (back, _answer) = oneshot::channel();
        let on_trial = Words { confirm_ms: Some(300_000), ..Words::default() };
        reader.begin(NO_OPTIONS, None);
        reader.begin((How::Reload, on_trial.clone()), Some(back));
        reader.begin(NO_OPTIONS, None);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let read = tokio::time::timeout(PATIENCE, reader.read()).await;
            let Read { file, waiting } = read.expect("each has a reading of its own");
            let Candidate { how, words, .. } = file.expect("the example is good");
            seen.push((how, words, waiting.len()));
        }
        let signal = || (How::Sighup, Words::default(), 0);
        assert_eq!(seen, [signal(), (How::Reload, on_trial, 1), signal()]);
        assert!(reader.task.is_none());
    }
}
