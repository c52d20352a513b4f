//! The verbs that change the configuration in force, and those that show planned and past changes.

use std::{
    cell::OnceCell,
    io::{self, Write as _},
    path::Path,
};

use serde::Serialize;

use super::{
    NOTICE,
    args::{AllowArgs, Dirs, WordArgs},
    coloured,
    failure::Failure,
    file::{self, FileArgs},
    needed, print_error, print_outcome,
    render::change as render,
    runtime, to_json,
};
use crate::{
    config::{self, Config},
    control::{
        change::{Candidate, Diff, Entry, History, How, Words},
        offline::{self, Change},
        operations::Outcome,
    },
    daemon::{
        api::{ApplyBody, RollbackBody},
        client::{Client, ClientError, LATER, SOON},
    },
    preflight,
};

/// A history for `--json`.
#[derive(Serialize)]
struct Kept<'a> {
    in_force: u64,
    #[serde(flatten)]
    history: &'a History,
}

pub(super) fn plan(dirs: &Dirs, file: &FileArgs, json: bool) -> Result<(), Failure> {
    let config = loaded(file)?;
    let plan = offline::plan(&dirs.pin_dir, &config).map_err(|error| Failure::offline(error, dirs))?;
    show(&if json { to_json(&plan, true) + "\n" } else { render::plan(&plan, coloured(&io::stdout())) });
    Ok(())
}

pub(super) fn apply(dirs: &Dirs, file: &FileArgs, allow: AllowArgs, words: WordArgs) -> Result<(), Failure> {
    let config = loaded(file)?;
    let file = file.absolute();
    let words = words_of(Some(&allow), words);
    let body = ApplyBody { text: config.text.clone(), file: file.clone(), words: words.clone() };
    let candidate = Candidate { config, how: How::Apply, file: Some(file), words, text_of: None, host: None };
    send(dirs, "/v1/apply", &body, LATER, Change::Apply(Box::new(candidate)))
}

/// Loads the file, and says which of its patterns match no file.
fn loaded(file: &FileArgs) -> Result<Config, Failure> {
    let config = file.load()?;
    for finding in preflight::unmatched(&config) {
        print_error(&format!("edge-ctl: {finding}"));
    }
    Ok(config)
}

pub(super) fn confirm(dirs: &Dirs) -> Result<(), Failure> {
    send(dirs, "/v1/confirm", &(), SOON, Change::Confirm)
}

pub(super) fn roll_back(dirs: &Dirs, generation: Option<u64>, words: WordArgs) -> Result<(), Failure> {
    let words = words_of(None, words);
    let body = RollbackBody { generation, words: words.clone() };
    send(dirs, "/v1/rollback", &body, LATER, Change::Rollback(generation, words))
}

pub(super) async fn reload(dirs: &Dirs, allow: AllowArgs, words: WordArgs) -> Result<(), Failure> {
    let mut client = needed(dirs, "reload", LATER).await?;
    print_outcome(&client.post("/v1/reload", &words_of(Some(&allow), words)).await?);
    Ok(())
}

/// Sends the change to the daemon; without a daemon, applies it to the pinned maps.
fn send(
    dirs: &Dirs,
    path: &str,
    body: &(impl Serialize + Sync),
    patience: std::time::Duration,
    change: Change,
) -> Result<(), Failure> {
    let answer: Result<Outcome, _> = runtime(false)?.block_on(async {
        let mut client = Client::connect_alive(&dirs.socket(), patience).await?;
        client.post(path, body).await
    });
    let outcome = match answer {
        // A hanging daemon holds the lock: the change then fails with an error that names the daemon's PID.
        Err(ClientError::Absent { .. } | ClientError::Slow(_)) => {
            let notify = || print_error(NOTICE);
            offline::change(&dirs.pin_dir, change, notify).map_err(|error| Failure::offline(error, dirs))?
        }
        answer => answer?,
    };
    print_outcome(&outcome);
    Ok(())
}

pub(super) fn history(dirs: &Dirs, json: bool, text: Option<u64>) -> Result<(), Failure> {
    let (history, in_force) = offline::history(&dirs.pin_dir).map_err(|error| Failure::offline(error, dirs))?;
    show(&match text {
        Some(generation) => {
            history.entry(generation).and_then(Entry::text).ok_or_else(|| no_such(&generation.to_string(), &history))?
        }
        None if json => to_json(&Kept { in_force, history: &history }, true) + "\n",
        None => render::history(&history, in_force, coloured(&io::stdout())),
    });
    Ok(())
}

pub(super) fn diff(dirs: &Dirs, from: &str, to: Option<&str>, json: bool) -> Result<(), Failure> {
    // Read on demand: the comparison of two files needs no maps.
    let kept = OnceCell::new();
    let kept = || -> Result<&(History, u64), Failure> {
        if kept.get().is_none() {
            let read = offline::history(&dirs.pin_dir).map_err(|error| Failure::offline(error, dirs))?;
            let _first = kept.set(read);
        }
        kept.get().ok_or(Failure::NoSuchGeneration { name: from.to_owned(), known: String::new() })
    };
    let read = |name: &str| -> Result<Config, Failure> {
        if name.parse::<u64>().is_err() {
            return Ok(file::load(Path::new(name))?);
        }
        let (history, _) = kept()?;
        let entry = name.parse().ok().and_then(|generation| history.entry(generation));
        let text = entry.and_then(Entry::text).ok_or_else(|| no_such(name, history))?;
        Ok(config::parse_accepted(&text, &format!("generation {name}"))?)
    };
    let old = read(from)?;
    let new = match to {
        Some(to) => read(to)?,
        None => read(&kept()?.1.to_string())?,
    };
    let diff = Diff::of(Some(&old), &new);
    show(&if json { to_json(&diff, true) + "\n" } else { render::diff(&diff, coloured(&io::stdout())) });
    Ok(())
}

fn no_such(name: &str, history: &History) -> Failure {
    let known: Vec<_> = history.entries.iter().map(|entry| entry.generation.to_string()).collect();
    Failure::NoSuchGeneration { name: name.to_owned(), known: format!("; those are {}", known.join(", ")) }
}

fn words_of(allow: Option<&AllowArgs>, WordArgs { reason }: WordArgs) -> Words {
    let by = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
    let by = by.map(|by| by.chars().take(64).collect());
    let words = Words { reason, by, ..Words::default() };
    match allow {
        None => words,
        Some(&AllowArgs { allow_removal, allow_moves, allow_unrehearsed, allow_unfit, confirm }) => {
            let confirm_ms = confirm.map(|confirm| u64::try_from(confirm.as_millis()).unwrap_or(u64::MAX));
            Words { allow_removal, allow_moves, allow_unrehearsed, allow_unfit, confirm_ms, ..words }
        }
    }
}

fn show(text: &str) {
    // A closed pipe is no failure, as in `print_line`.
    let _ = write!(io::stdout(), "{text}");
}
