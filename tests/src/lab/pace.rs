//! A steady rate: computes how many events are due.

use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start: Instant,
    per_second: u32,
}

impl Pace {
    pub fn start(per_second: u32) -> Self {
        Self { start: Instant::now(), per_second }
    }

    /// Number of events due since the start.
    pub fn due(&self) -> u64 {
        let done = self.start.elapsed().as_micros() * u128::from(self.per_second) / 1_000_000;
        u64::try_from(done).unwrap_or(u64::MAX)
    }
}
