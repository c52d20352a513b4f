//! How much longer than on ordinary hardware everything may take: an emulated processor is some 20 times slower.

use std::{sync::OnceLock, thread, time::Duration};

/// The factor, a whole number.
const FACTOR: &str = "EDGE_TEST_PATIENCE";

/// A limit for what should have happened by now, on this machine.
pub fn patience(limit: Duration) -> Duration {
    limit * factor()
}

/// Rests between two looks at something, of which the last took `look`: `usual`, and on a slow machine twice as long as the
/// look, or looking would take the processor from what is looked at.
pub fn rest(usual: Duration, look: Duration) {
    thread::sleep(if factor() == 1 { usual } else { usual.max(2 * look) });
}

/// # Panics
/// The factor that the environment gives is no number.
fn factor() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| match std::env::var(FACTOR) {
        Ok(factor) => factor.parse().unwrap_or_else(|error| panic!("{FACTOR}={factor}: {error}")),
        Err(_) => 1,
    })
}
