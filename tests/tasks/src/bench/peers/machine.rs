//! CPU time of the whole machine, computed from idle time.
//!
//! The kernel counts idle time exactly where an idle CPU has no ticks, as nearly everywhere. Busy time is sampled at
//! ticks: work in short bursts between ticks, as here, is often missed entirely.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Unit of /proc/stat, whatever the kernel's own ticks are.
const TICK_MS: u64 = 10;

/// A meter that counts from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    start: Instant,
    left: Left,
}

/// Unused time of all CPUs since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Left {
    processors: u32,
    /// Time idle, or waiting for disks. Stolen time is accounted late, so it is not treated separately.
    time: Duration,
}

impl Meter {
    pub(super) fn start() -> Result<Self> {
        Ok(Self { start: Instant::now(), left: Left::now()? })
    }

    /// Busy time of all CPUs.
    pub(super) fn busy(&self) -> Result<Duration> {
        let all = self.start.elapsed() * self.left.processors;
        Ok(all.saturating_sub(Left::now()?.time.saturating_sub(self.left.time)))
    }

    /// Busy time relative to the total: 0 to 1.
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
        // The columns are user, nice, system, idle, iowait, and more.
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
