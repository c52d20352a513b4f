//! Chooses how much a lab does: little in each test run, and all that users are promised with `EDGE_TEST_LONG=1`.

use std::sync::OnceLock;

const LONG: &str = "EDGE_TEST_LONG";

/// `whole` with `EDGE_TEST_LONG=1`, otherwise `short`.
pub fn extent<T>(short: T, whole: T) -> T {
    static IS_LONG: OnceLock<bool> = OnceLock::new();
    if *IS_LONG.get_or_init(|| std::env::var_os(LONG).is_some_and(|value| value == "1")) { whole } else { short }
}
