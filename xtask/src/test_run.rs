//! A command that runs test programs: what it prints is shown and counted when it is asked for, whenever it came.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{counts::Counts, slowest::Slowest};

/// A running test command.
#[derive(Debug)]
pub(crate) struct TestRun {
    what: String,
    since: Instant,
    child: Child,
    /// Each line of its standard output, and when it came. Read at once, so that the tests never wait for who looks at them.
    lines: Receiver<(Instant, String)>,
}

impl TestRun {
    pub(crate) fn start(what: &str, command: &mut Command) -> Result<Self> {
        eprintln!("xtask: {what} ...");
        let since = Instant::now();
        let mut child =
            command.stdout(Stdio::piped()).spawn().with_context(|| format!("could not start the {what}"))?;
        let output = BufReader::new(child.stdout.take().context("the tests have no output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send((Instant::now(), line)))
        });
        Ok(Self { what: what.to_owned(), since, child, lines })
    }

    /// Waits until it has ended.
    pub(crate) fn ended(mut self) -> Result<Self> {
        self.child.wait()?;
        Ok(self)
    }

    /// Shows what it prints until it ends, and counts its results. Returns the names of the tests that failed.
    pub(crate) fn finish(mut self, counts: &mut Counts) -> Result<Vec<String>> {
        let before = counts.failed;
        let mut slowest = Slowest::starting(self.since);
        let mut end = self.since;
        let mut failed = Vec::new();
        for (at, line) in self.lines {
            counts.read(&line);
            slowest.read(&line, at);
            let name = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
            failed.extend(name.map(str::to_owned));
            println!("{line}");
            end = at;
        }
        eprint!("{slowest}");
        // A program that does not build, or that dies, prints no result line.
        if !self.child.wait()?.success() && counts.failed == before {
            counts.check(false);
        }
        let how = if counts.failed == before { "done" } else { "FAILED" };
        eprintln!("xtask: {}: {how} in {:.1} s", self.what, end.duration_since(self.since).as_secs_f64());
        Ok(failed)
    }
}
