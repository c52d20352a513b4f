//! Which processor to measure on.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Looks at each processor before one is chosen.
const LOOKS: usize = 3;

/// The processors that this thread may run on. Each has slow times of its own, when others have work on it or on the one
/// that it shares a core with.
pub(super) struct Processors(Vec<CpuSet>);

impl Processors {
    pub(super) fn all() -> Result<Self> {
        let all = sched_getaffinity(Pid::from_raw(0)).context("could not ask which processors there are")?;
        let mut each = Vec::new();
        // The last one first, as interrupts tend to go to the first one.
        for number in (0..CpuSet::count()).rev().filter(|number| all.is_set(*number).unwrap_or(false)) {
            let mut alone = CpuSet::new();
            alone.set(number)?;
            each.push(alone);
        }
        Ok(Self(each))
    }

    /// Puts this thread on the processor that `time` finds the fastest now, there to stay.
    pub(super) fn choose(&self, mut time: impl FnMut() -> Result<f64>) -> Result<()> {
        let mut best: Option<(f64, &CpuSet)> = None;
        for processor in &self.0 {
            stay(processor)?;
            let mut fastest = f64::INFINITY;
            for _ in 0..LOOKS {
                fastest = fastest.min(time()?);
            }
            if best.is_none_or(|(time, _)| fastest < time) {
                best = Some((fastest, processor));
            }
        }
        best.map_or(Ok(()), |(_, processor)| stay(processor))
    }
}

fn stay(processor: &CpuSet) -> Result<()> {
    sched_setaffinity(Pid::from_raw(0), processor).context("could not stay on one processor")
}
