//! How much longer than on ordinary hardware everything may take: an emulated processor is some 20 times slower.

use std::{sync::OnceLock, time::Duration};

/// The factor, a whole number.
const FACTOR: &str = "EDGE_TEST_PATIENCE";

/// A limit for what should have happened by now, on this machine.
///
/// # Panics
/// The factor that the environment gives is no number.
pub fn patience(limit: Duration) -> Duration {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    let factor = PATIENCE.get_or_init(|| match std::env::var(FACTOR) {
        Ok(factor) => factor.parse().unwrap_or_else(|error| panic!("{FACTOR}={factor}: {error}")),
        Err(_) => 1,
    });
    limit * *factor
}
