//! Scales timeouts for slow machines: an emulated CPU is some 20 times slower than ordinary hardware.

use std::{sync::OnceLock, thread, time::Duration};

/// Environment variable with the factor, a whole number.
const FACTOR: &str = "EDGE_TEST_PATIENCE";

/// A time limit, scaled for this machine.
pub fn patience(limit: Duration) -> Duration {
    limit * factor()
}

/// Sleeps between two polls of which the last took `look`: for `usual`, but on a slow machine at least twice as long as
/// the poll, so that polling does not take the CPU away from what is polled.
pub fn rest(usual: Duration, look: Duration) {
    thread::sleep(if factor() == 1 { usual } else { usual.max(2 * look) });
}

/// # Panics
/// If the environment's factor is not a number.
fn factor() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| match std::env::var(FACTOR) {
        Ok(factor) => factor.parse().unwrap_or_else(|error| panic!("{FACTOR}={factor}: {error}")),
        Err(_) => 1,
    })
}
