//! The slowest tests, by the times of their result lines: a lower bound where tests run in parallel.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Maximum number of tests that are listed.
const LISTED: usize = 12;

/// Tests that took less time are not listed.
const SLOW: Duration = Duration::from_secs(2);

/// Slow tests, displayed with the slowest first.
#[derive(Debug)]
pub(crate) struct Slowest {
    since: Instant,
    tests: Vec<(Duration, String)>,
}

impl Slowest {
    pub(crate) fn starting(now: Instant) -> Self {
        Self { since: now, tests: Vec::new() }
    }

    /// Processes a line of output that came at `now`.
    pub(crate) fn read(&mut self, line: &str, now: Instant) {
        let name = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
        if let Some((name, _)) = name {
            let took = now.duration_since(self.since);
            if took >= SLOW {
                self.tests.push((took, name.to_owned()));
            }
        }
        // Time before the first test, such as a build, belongs to no test.
        self.since = now;
    }
}

impl fmt::Display for Slowest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tests = self.tests.clone();
        tests.sort_by_key(|test| std::cmp::Reverse(test.0));
        for (took, name) in tests.iter().take(LISTED) {
            writeln!(f, "{:>8.1} s  {name}", took.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_come_first_and_builds_are_no_tests() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut slowest = Slowest::starting(start);
        slowest.read("running 3 tests", at(100));
        slowest.read("test lab::fast ... ok", at(101));
        slowest.read("test lab::slow ... ok", at(104));
        slowest.read("test lab::slower ... FAILED", at(114));
        assert_eq!(slowest.to_string(), "    10.0 s  lab::slower\n     3.0 s  lab::slow\n");
    }
}
