//! Repeats failed labs and replays.
//!
//! They use a real clock, on a machine with other users. A failed test is repeated alone; if it passes then, the last line
//! names it. A fault that shows once in a hundred runs is a fault nevertheless, but should not hold up an unrelated change.
//! Unit and packet tests are not repeated: what a property test finds at random would pass the next time.

use anyhow::Result;
use xtask::counts::Counts;

use crate::test_run::TestRun;

/// Maximum number of failed tests that are repeated; more do not fail by chance.
const MOST: usize = 3;

/// Runs the tests that have `failed` once more by `start`, and counts those that pass then as passed.
pub(crate) fn repeat(
    mut failed: Vec<String>,
    counts: &mut Counts,
    start: impl FnOnce(&[String]) -> Result<TestRun>,
) -> Result<()> {
    if failed.is_empty() || failed.len() > MOST {
        return Ok(());
    }
    let mut again = Counts::default();
    let still = start(&failed)?.finish(&mut again)?;
    failed.retain(|name| !still.contains(name));
    counts.again(failed, &again);
    Ok(())
}
