//! A command that runs test programs; its output is shown and counted later, with the times at which it came.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use xtask::counts::Counts;

use crate::slowest::Slowest;

/// A running test command.
#[derive(Debug)]
pub(crate) struct TestRun {
    what: String,
    since: Instant,
    child: Child,
    /// Each line of the standard output, and when it came. A thread reads them at once, so that the tests never block.
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

    /// Waits until the command has ended.
    pub(crate) fn ended(mut self) -> Result<Self> {
        self.child.wait()?;
        Ok(self)
    }

    /// Shows the output until the command ends, and counts its results. Returns the names of failed tests.
    pub(crate) fn finish(mut self, counts: &mut Counts) -> Result<Vec<String>> {
        let before = counts.failed;
        let mut slowest = Slowest::starting(self.since);
        let mut end = self.since;
        let mut failed = Vec::new();
        for (at, line) in self.lines {
            counts.read(&line);
            slowest.read(&line, at);
            failed.extend(failed_test(&line).map(str::to_owned));
            println!("{line}");
            end = at;
        }
        eprint!("{slowest}");
        // A program that does not build, or crashes, prints no result line.
        if !self.child.wait()?.success() && counts.failed == before {
            counts.check(false);
        }
        let how = if counts.failed == before { "done" } else { "FAILED" };
        eprintln!("xtask: {}: {how} in {:.1} s", self.what, end.duration_since(self.since).as_secs_f64());
        Ok(failed)
    }
}

/// The name of a test, or of a replayed outage, if the line says that it failed.
fn failed_test(line: &str) -> Option<&str> {
    let test = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
    test.or_else(|| line.strip_prefix("NOT MET").map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_and_unmet_outages_have_names() {
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(failed_test("NOT MET  full-disk"), Some("full-disk"));
        for line in ["test a::b ... ok", "met      full-disk", "test result: FAILED. 0 passed; 1 failed"] {
            assert_eq!(failed_test(line), None, "{line}");
        }
    }
}
