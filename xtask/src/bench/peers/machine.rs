//! Processor time of the whole machine, as what was left of it.
//!
//! The kernel counts idle time exactly where an idle processor has no ticks, as nearly everywhere. What it says of busy
//! time is who was seen at each tick: work in short bursts between ticks, which this is, is often not seen at all.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// What /proc/stat counts in, whatever the kernel's own ticks are.
const TICK_MS: u64 = 10;

/// Counts from when it was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    start: Instant,
    left: Left,
}

/// What processors did not do since the machine started, all together.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Left {
    processors: u32,
    /// Idle, or waiting for disks. Time that a host gave to other machines is booked late, so it stays what it looks like.
    time: Duration,
}

impl Meter {
    pub(super) fn start() -> Result<Self> {
        Ok(Self { start: Instant::now(), left: Left::now()? })
    }

    /// Time that all processors together were busy with anything.
    pub(super) fn busy(&self) -> Result<Duration> {
        let all = self.start.elapsed() * self.left.processors;
        Ok(all.saturating_sub(Left::now()?.time.saturating_sub(self.left.time)))
    }

    /// The same as a part of all that there was: 0 to 1.
    pub(super) fn busy_part(&self) -> Result<f64> {
        Ok(self.busy()?.div_duration_f64(self.start.elapsed() * self.left.processors))
    }
}

impl Left {
    fn now() -> Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat")?).context("/proc/stat does not say how long it was idle")
    }

    fn parse(stat: &str) -> Option<Self> {
        let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user nice system idle iowait, and more
        let ticks = all.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>().ok()?;
        let left = ticks.get(3)?.checked_add(*ticks.get(4)?)?;
        let processors = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        Some(Self {
            processors: u32::try_from(processors).ok()?,
            time: Duration::from_millis(left.checked_mul(TICK_MS)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_idle_or_waiting() {
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 9 9 9 9\ncpu1 9 9 9 9\nintr 5\n";
        assert_eq!(Left::parse(stat), Some(Left { processors: 2, time: Duration::from_mins(9) }));
        assert_eq!(Left::parse("intr 5\n"), None);
    }
}
