//! How a row's figures are sampled.
//!
//! A processor has slow times, by other work on this machine or beside it (on a virtual one nobody here can tell), and
//! they slow some programs down more than others: seen were a base half as long again beside a program of ours that took
//! twice as long. And each run finds
//! the kernel's stack elsewhere, which caches and store forwarding may like more or less. So there are many short turns,
//! in each of which the baselines and the program under test run one after the other. Those in which the baseline shows
//! that the machine was at its full pace are put together to samples; ratios are taken within a sample, and the row has
//! the medians.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{
    super::results::{Row, median},
    cases::Case,
    rig::Rig,
    state::State,
    stream::{Leaving, Target},
};

/// Turns of a sample.
const TURNS: usize = 8;
/// Quiet samples without which a row's times are not to be trusted.
const ENOUGH: usize = 5;
/// How far the baseline may be above the best of the whole run: more than the steps of a processor's clock, less than
/// slow times make of it.
const PACE: f64 = 0.25;
/// Packets of a run: as few as let a turn fit into a short pause of everything else. No power of two divides it, so that
/// each program comes by all flows.
const ROUNDS: u32 = 1_999;
/// The same where each SYN must find a slot of its own.
const MOVING_ROUNDS: u32 = 11_999;

/// Nanoseconds a packet of each program: one run of each, or the mean of several.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) base: f64,
    /// The slower one of those before and after the others.
    pub(super) slower_base: f64,
    pub(super) head: f64,
    /// Of cutting the end off; as `base` if the program under test does not.
    pub(super) tail: f64,
    pub(super) raw: f64,
}

impl Sample {
    /// Of several turns. The kernel tells time in whole nanoseconds, so a median alone would jump.
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

    /// Whether the machine was at its full pace.
    fn is_quiet(&self, fastest: f64) -> bool {
        self.slower_base < (1.0 + PACE) * fastest
    }

    /// What the program under test costs without the driver.
    fn net(&self, moves: bool) -> f64 {
        // Half of what a move costs is the driver's, which undoes it. How far it goes costs nothing.
        let head = if moves { (self.head - self.base) / 2.0 } else { 0.0 };
        self.raw - self.base - head - (self.tail - self.base) / 2.0
    }
}

/// The mean of the middle half of the values of a sample's turns: what came between in a single turn is in none of them.
fn middle_mean(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = &values[TURNS / 4..TURNS - TURNS / 4];
    let count = u32::try_from(middle.len()).expect("a few turns");
    middle.iter().sum::<f64>() / f64::from(count)
}

/// Takes the samples of all rows, in several passes: a slow time may last longer than anyone should wait at one row.
pub(super) struct Sampler {
    /// Quiet samples that a row is to have.
    wanted: usize,
    /// How long a row may take in this pass.
    patience: Duration,
    /// The fastest base so far: where the driver restores what forwarding rewrites, and where it restores more.
    fastest: [f64; 2],
}

/// What was found of one row.
pub(super) struct Samples {
    /// Quiet ones; if those are too few, [`ENOUGH`] of the least disturbed turns.
    pub(super) all: Vec<Sample>,
    pub(super) quiet: usize,
    pub(super) noisy: bool,
}

impl Sampler {
    pub(super) fn new(wanted: usize) -> Self {
        Self { wanted, patience: Duration::ZERO, fastest: [f64::INFINITY; 2] }
    }

    /// Begins a pass over so many rows that may take so much time.
    pub(super) fn begin(&mut self, rows: usize, time: Duration) {
        self.patience = time / u32::try_from(rows.max(1)).expect("a table that somebody reads");
    }

    /// Takes turns until enough were quiet.
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
            // The best there is.
            turns.sort_by(|one, other| one.slower_base.total_cmp(&other.slower_base));
            turns.truncate(TURNS * ENOUGH);
        } else {
            turns.retain(|turn| turn.is_quiet(*fastest));
        }
        let all = turns.chunks_exact(TURNS).map(Sample::mean).collect();
        Ok(Samples { all, quiet: quiet / TURNS, noisy })
    }

    /// Whether this base turned out, now that all is known, to be slower than the machine's best.
    pub(super) fn is_slow(&self, rewritten: bool, base: f64) -> bool {
        base > (1.0 + PACE) * self.fastest[usize::from(rewritten)]
    }

    /// Measures one row of timed runs.
    pub(super) fn row(&mut self, case: &Case, rig: &mut Rig) -> Result<Row> {
        rig.prepare(case)?;
        let samples = rig.checked(case.state, |rig| {
            if !moves_owners(case) && !case.state.records_flows() {
                // Every flow once, so that what can be in a cache is there.
                rig.run(Target::Ours(case.leaving), &case.stream, case.stream.flows.max(ROUNDS))?;
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

/// Whether each packet makes another backend the owner of its slot.
fn moves_owners(case: &Case) -> bool {
    case.state == State::OwnerTakenOver
}

fn turn(case: &Case, rig: &mut Rig) -> Result<Sample> {
    // A flow is recorded once.
    let most = if case.state.records_flows() { case.stream.flows - 1 } else { u32::MAX };
    let rounds = if moves_owners(case) { MOVING_ROUNDS } else { ROUNDS.min(most) };
    let Leaving { cut, .. } = case.leaving;
    let mut run = |target| rig.run(target, &case.stream, rounds);
    let before = run(Target::Return)?;
    let head = run(Target::Head)?;
    let tail = if cut == 0 { None } else { Some(run(Target::Tail(cut))?) };
    if moves_owners(case) {
        rig.write_slots(case.state);
    }
    if case.state.records_flows() {
        rig.make_room(case, rounds)?;
    }
    let raw = rig.run(Target::Ours(case.leaving), &case.stream, rounds)?;
    let after = rig.run(Target::Return, &case.stream, rounds)?;
    let base = f64::midpoint(before, after);
    Ok(Sample { base, slower_base: before.max(after), head, tail: tail.unwrap_or(base), raw })
}

/// Medians of `samples`.
fn summary(case: &Case, Samples { all: samples, quiet, noisy }: &Samples) -> Row {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
    let moves = case.leaving.moved != 0;
    let raw_ns = of(|sample| sample.raw);
    Row {
        program: case.leaving.way.program().name().to_owned(),
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
