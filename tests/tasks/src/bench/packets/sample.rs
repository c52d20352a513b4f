//! Sampling of a row's figures.
//!
//! A CPU has slow times, caused by other work on this machine or beside it (on a virtual machine they cannot be
//! observed), and slows some programs down more than others: a base half as long again was seen beside a program of
//! ours that took twice as long. Each run also has another position of the kernel's stack, which affects caches and
//! store forwarding. Therefore there are many short turns, in each of which the baselines and the program under test
//! run one after the other. Turns in which the baseline shows the machine at its full speed are combined into samples.
//! Ratios are computed within a sample, and the row contains the medians.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{
    super::results::{Row, median},
    cases::Case,
    rig::Rig,
    state::State,
    stream::{Leaving, Measured},
};

/// Number of turns in a sample.
const TURNS: usize = 8;
/// Minimum number of quiet samples for reliable times of a row.
const ENOUGH: usize = 5;
/// Maximum excess of the baseline over the best one of the whole run: more than the steps of a CPU's clock, less than
/// the effect of slow times.
const PACE: f64 = 0.25;
/// Number of packets in a run: few enough for a turn to fit into a short pause of other work. No power of two divides it,
/// so that each program reaches all flows.
const ROUNDS: u32 = 1_999;
/// Number of packets in a run in which each SYN must find a slot of its own.
const MOVING_ROUNDS: u32 = 11_999;

/// Nanoseconds per packet of each program: of one run, or the mean of several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) base: f64,
    /// The slower baseline of the runs before and after the others.
    pub(super) slower_base: f64,
    pub(super) head: f64,
    /// Time of cutting the end off; equal to `base` if the program under test does not.
    pub(super) tail: f64,
    pub(super) raw: f64,
}

impl Sample {
    /// Combines several turns. The kernel reports whole nanoseconds, so that a median alone would jump.
    fn mean(turns: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| middle_mean(turns.iter().map(figure));
        Self {
            base: of(|turn| turn.base),
            slower_base: of(|turn| turn.slower_base),
            head: of(|turn| turn.head),
            tail: of(|turn| turn.tail),
            raw: of(|turn| turn.raw),
        }
    }

    /// Whether the machine was at its full speed.
    fn is_quiet(&self, fastest: f64) -> bool {
        self.slower_base < (1.0 + PACE) * fastest
    }

    /// Cost of the program under test without the driver.
    fn net(&self, moves: bool) -> f64 {
        // Half of the cost of a move is the driver's, which undoes it. The distance does not matter.
        let head = if moves { (self.head - self.base) / 2.0 } else { 0.0 };
        self.raw - self.base - head - (self.tail - self.base) / 2.0
    }
}

/// Mean of the middle half of the values of a sample's turns, which excludes disturbances of single turns.
fn middle_mean(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = &values[TURNS / 4..TURNS - TURNS / 4];
    let count = u32::try_from(middle.len()).expect("a few turns");
    middle.iter().sum::<f64>() / f64::from(count)
}

/// Takes the samples of all rows, in several passes: a slow time may last longer than a row is worth waiting for.
pub(super) struct Sampler {
    /// Wanted number of quiet samples of a row.
    wanted: usize,
    /// Maximum time of a row in this pass.
    patience: Duration,
    /// The fastest base so far: where the driver restores what forwarding rewrites, and where it restores more.
    fastest: [f64; 2],
}

/// The samples of one row.
pub(super) struct Samples {
    /// Quiet samples; if there are too few, [`ENOUGH`] of the least disturbed turns.
    pub(super) all: Vec<Sample>,
    pub(super) quiet: usize,
    pub(super) noisy: bool,
}

impl Sampler {
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, patience: Duration::ZERO, fastest: [f64::INFINITY; 2] }
    }

    /// Begins a pass over `rows` rows that may take `time`.
    pub(super) fn begin(&mut self, rows: usize, time: Duration) {
        self.patience = time / u32::try_from(rows.max(1)).expect("a table that somebody reads");
    }

    /// Takes turns until enough of them were quiet.
    pub(super) fn take(&mut self, rewritten: bool, mut turn: impl FnMut() -> Result<Sample>) -> Result<Samples> {
        let fastest = &mut self.fastest[usize::from(rewritten)];
        let start = Instant::now();
        let mut turns: Vec<Sample> = Vec::new();
        let mut quiet = 0;
        while turns.len() < TURNS * ENOUGH || quiet < TURNS * self.wanted && start.elapsed() < self.patience {
            let turn = turn()?;
            turns.push(turn);
            if turn.base < *fastest {
                *fastest = turn.base;
                quiet = turns.iter().filter(|turn| turn.is_quiet(*fastest)).count();
            } else {
                quiet += usize::from(turn.is_quiet(*fastest));
            }
        }
        let noisy = quiet < TURNS * ENOUGH;
        if noisy {
            // The least disturbed turns.
            turns.sort_by(|one, other| one.slower_base.total_cmp(&other.slower_base));
            turns.truncate(TURNS * ENOUGH);
        } else {
            turns.retain(|turn| turn.is_quiet(*fastest));
        }
        let all = turns.chunks_exact(TURNS).map(Sample::mean).collect();
        Ok(Samples { all, quiet: quiet / TURNS, noisy })
    }

    /// Whether this base is slower than the machine's best, as known now.
    pub(super) fn is_slow(&self, rewritten: bool, base: f64) -> bool {
        base > (1.0 + PACE) * self.fastest[usize::from(rewritten)]
    }

    /// Measures one row of timed runs.
    pub(super) fn row(&mut self, case: &Case, rig: &mut Rig) -> Result<Row> {
        rig.prepare(case)?;
        let samples = rig.checked(case.state, |rig| {
            if !moves_owners(case) && !case.state.records_flows() {
                // Every flow once, to warm the caches.
                rig.run(Measured::Ours(case.leaving), &case.stream, case.stream.flows.max(ROUNDS))?;
            }
            self.take(case.stream.rewritten, || turn(case, rig))
        })?;
        if moves_owners(case) {
            let moved = rig.owned();
            ensure!(moved * 20 > MOVING_ROUNDS as usize * 19, "only {moved} of {MOVING_ROUNDS} SYNs moved an owner");
        }
        Ok(summary(case, &samples))
    }
}

/// Whether each packet changes the owner of its slot.
fn moves_owners(case: &Case) -> bool {
    case.state == State::OwnerTakenOver
}

fn turn(case: &Case, rig: &mut Rig) -> Result<Sample> {
    // A flow is recorded only once.
    let most = if case.state.records_flows() { case.stream.flows - 1 } else { u32::MAX };
    let rounds = if moves_owners(case) { MOVING_ROUNDS } else { ROUNDS.min(most) };
    let Leaving { cut, .. } = case.leaving;
    let mut run = |target| rig.run(target, &case.stream, rounds);
    let before = run(Measured::Return)?;
    let head = run(Measured::Head)?;
    let tail = if cut == 0 { None } else { Some(run(Measured::Tail(cut))?) };
    if moves_owners(case) {
        rig.write_slots(case.state);
    }
    if case.state.records_flows() {
        rig.make_room(case, rounds)?;
    }
    let raw = rig.run(Measured::Ours(case.leaving), &case.stream, rounds)?;
    let after = rig.run(Measured::Return, &case.stream, rounds)?;
    let base = f64::midpoint(before, after);
    Ok(Sample { base, slower_base: before.max(after), head, tail: tail.unwrap_or(base), raw })
}

/// Medians of `samples`.
fn summary(case: &Case, Samples { all: samples, quiet, noisy }: &Samples) -> Row {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
    let moves = case.leaving.moved != 0;
    let raw_ns = of(|sample| sample.raw);
    Row {
        program: case.leaving.exit.program().name().to_owned(),
        mode: case.mode.to_owned(),
        family: case.family.to_owned(),
        protocol: case.protocol.to_owned(),
        state: case.state.name().to_owned(),
        flows: case.stream.flows,
        services: case.world.services,
        layout: case.world.layout(),
        backends: case.world.backends,
        raw_ns,
        net_ns: median(samples.iter().map(|sample| sample.net(moves))),
        ratio_return: of(|sample| sample.raw / sample.base),
        ratio_head: of(|sample| sample.raw / sample.head),
        spread: median(samples.iter().map(|sample| (sample.raw - raw_ns).abs())) / raw_ns,
        samples: samples.len(),
        quiet: *quiet,
        noisy: *noisy,
        base_ns: of(|sample| sample.base),
        head_ns: of(|sample| sample.head),
    }
}
