//! Chooses the CPU to measure on.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Number of measurements on each CPU before one is chosen.
const LOOKS: usize = 3;

/// The CPUs that this thread may run on. Each has slow times of its own, when others use it or its sibling on the same
/// core.
pub(super) struct Processors(Vec<CpuSet>);

impl Processors {
    pub(super) fn all() -> Result<Self> {
        let all = sched_getaffinity(Pid::from_raw(0)).context("could not ask which processors there are")?;
        let mut each = Vec::new();
        // In reverse order, as interrupts tend to go to the first CPU.
        for number in (0..CpuSet::count()).rev().filter(|number| all.is_set(*number).unwrap_or(false)) {
            let mut alone = CpuSet::new();
            alone.set(number)?;
            each.push(alone);
        }
        Ok(Self(each))
    }

    /// Pins this thread to the CPU that is the fastest one at the moment, as measured by `time`.
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
