//! Reports the start and the duration of long steps.

use std::time::Instant;

use anyhow::Result;

/// Runs `work` between two lines on standard error, which leaves standard output to results.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("xtask: {what} ...");
    let start = Instant::now();
    let done = work();
    let how = if done.is_ok() { "done" } else { "FAILED" };
    eprintln!("xtask: {what}: {how} in {:.1} s", start.elapsed().as_secs_f64());
    done
}
