//! How a row's figures are sampled.
//!
//! The processor may be slow for seconds at a time, other work comes in between, and each run finds the kernel's stack
//! elsewhere, which caches and store forwarding may like more or less. So a sample is of many short runs, the baselines'
//! and those of the program under test in turn; ratios are taken within a sample, and the row has the medians.

use anyhow::{Result, ensure};
use edge_common::{abi::Cell, host::Memory};

use super::{
    super::results::{Row, median},
    cases::{Case, State},
    rig::{Leaving, Rig, Target},
};

/// Samples that a row's medians are of, at least.
const SAMPLES: usize = 20;
/// Samples that are taken for them at most: those in which the machine had its mind on other things do not count.
const TRIES: usize = 32;
/// How far the bases before and after a sample may be apart, and above the best of the whole run.
const PACE: f64 = 0.12;
/// Rounds of a run in which each SYN must find a slot of its own: few of them.
const MOVING_ROUNDS: u32 = 1 << 14;

/// One sample: nanoseconds a packet of each program, the mean of its runs.
#[derive(Clone, Copy, Default)]
struct Sample {
    base: f64,
    /// Between the bases before and after the others.
    drift: f64,
    head: f64,
    /// Of cutting the end off; as `base` if the program under test does not.
    tail: f64,
    raw: f64,
}

impl Sample {
    /// Whether the machine ran at its full pace all the time.
    fn is_quiet(&self, fastest: f64) -> bool {
        self.drift.abs() < PACE * self.base && self.base < (1.0 + PACE) * fastest
    }
}

/// Takes the samples of all rows.
pub(super) struct Sampler {
    /// Runs of each program in a sample.
    runs: u32,
    /// Packets of a run. No power of two divides it, so that each program comes by all flows.
    rounds: u32,
    /// The fastest base so far.
    fastest: f64,
}

impl Sampler {
    pub(super) fn new(quick: bool) -> Self {
        let env = |n: &str, d: u32| std::env::var(n).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
        let (runs, rounds) = if quick { (env("RUNS", 16), env("ROUNDS", 4_999)) } else { (32, 9_999) };
        Self { runs, rounds, fastest: f64::INFINITY }
    }

    /// Measures one row.
    pub(super) fn row(&mut self, case: &Case, memory: &Memory, rig: &mut Rig) -> Result<Row> {
        if case.state != State::OwnerMoved {
            // Every flow once, so that what can be in a cache is there.
            rig.run(Target::Ours(case.leaving), &case.stream, case.stream.flows.max(self.rounds))?;
        }
        let mut samples: Vec<Sample> = Vec::new();
        let mut quiet = 0;
        while quiet < SAMPLES && samples.len() < TRIES {
            samples.push(self.sample(case, memory, rig)?);
            self.fastest = samples.iter().map(|sample| sample.base).fold(self.fastest, f64::min);
            quiet = samples.iter().filter(|sample| sample.is_quiet(self.fastest)).count();
        }
        if 3 * quiet >= SAMPLES {
            samples.retain(|sample| sample.is_quiet(self.fastest));
        }
        Ok(summary(case, &samples, quiet))
    }

    fn sample(&self, case: &Case, memory: &Memory, rig: &mut Rig) -> Result<Sample> {
        let (runs, rounds) = match case.state {
            State::OwnerMoved => (8, MOVING_ROUNDS),
            _ => (self.runs, self.rounds),
        };
        let Leaving { cut, .. } = case.leaving;
        let mut sum = Sample::default();
        for _ in 0..runs {
            let before = rig.run(Target::Return, &case.stream, rounds)?;
            let head = rig.run(Target::Head, &case.stream, rounds)?;
            let raw = if case.state == State::OwnerMoved {
                rig.write_owners(&vec![Cell::default(); memory.owners.borrow().len()]);
                let raw = rig.run(Target::Ours(case.leaving), &case.stream, rounds)?;
                let moved = rig.owned();
                ensure!(moved * 20 > rounds as usize * 19, "only {moved} of {rounds} SYNs moved an owner");
                raw
            } else {
                rig.run(Target::Ours(case.leaving), &case.stream, rounds)?
            };
            let after = rig.run(Target::Return, &case.stream, rounds)?;
            let tail = if cut == 0 { before } else { rig.run(Target::Tail(cut), &case.stream, rounds)? };
            sum.base += f64::midpoint(before, after);
            sum.drift += before - after;
            sum.head += head;
            sum.tail += if cut == 0 { f64::midpoint(before, after) } else { tail };
            sum.raw += raw;
        }
        let Sample { base, drift, head, tail, raw } = sum;
        let mean = |sum: f64| sum / f64::from(runs);
        Ok(Sample { base: mean(base), drift: mean(drift), head: mean(head), tail: mean(tail), raw: mean(raw) })
    }
}

/// Medians of `samples`.
fn summary(case: &Case, samples: &[Sample], quiet: usize) -> Row {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
    let moves = case.leaving.moved != 0;
    let net = |sample: &Sample| {
        // Half of what a move costs is the driver's, which undoes it. How far it goes costs nothing.
        let head = if moves { (sample.head - sample.base) / 2.0 } else { 0.0 };
        sample.raw - sample.base - head - (sample.tail - sample.base) / 2.0
    };
    let raw_ns = of(|sample| sample.raw);
    Row {
        program: case.leaving.way.program().name().to_owned(),
        mode: case.mode.to_owned(),
        family: case.family.to_owned(),
        protocol: case.protocol.to_owned(),
        state: case.state.name().to_owned(),
        flows: case.stream.flows,
        services: case.world.services,
        backends: case.world.backends,
        raw_ns,
        net_ns: median(samples.iter().map(net)),
        ratio_return: of(|sample| sample.raw / sample.base),
        ratio_head: of(|sample| sample.raw / sample.head),
        spread: median(samples.iter().map(|sample| (sample.raw - raw_ns).abs())) / raw_ns,
        samples: samples.len(),
        quiet,
        base_ns: of(|sample| sample.base),
        head_ns: of(|sample| sample.head),
    }
}
