//! The figures: medians, JSON, and what is printed.

use std::fmt;

use serde::Serialize;

use super::{Case, Sample};
use crate::programs::Size;

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    pub(super) baselines: Baselines,
    pub(super) programs: Vec<Size>,
    pub(super) rows: Vec<Row>,
    /// What is not measured, and why.
    notes: Vec<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
}

/// Medians over all rows, nanoseconds: what the driver costs with the two programs that do next to nothing.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Baselines {
    return_ns: f64,
    head_ns: f64,
}

/// One row of the table. Times are medians, nanoseconds a packet.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    program: &'static str,
    mode: &'static str,
    family: &'static str,
    protocol: &'static str,
    state: &'static str,
    flows: u32,
    services: u32,
    backends: u16,
    /// With the driver.
    raw_ns: f64,
    /// Without it.
    net_ns: f64,
    /// Raw, over a program that returns at once.
    ratio_return: f64,
    /// Raw, over a program that moves the head by 20 bytes.
    ratio_head: f64,
    /// Half of the samples lie within this part of the median of `raw_ns`.
    spread: f64,
    base_ns: f64,
    head_ns: f64,
}

impl Row {
    pub(super) fn new(case: &Case, samples: &[Sample]) -> Self {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        let moves = case.moved != 0;
        let net = |sample: &Sample, moves: bool| {
            // Half of what a move costs is the driver's, which undoes it.
            let undo = if moves { (sample.head - sample.base) / 2.0 } else { 0.0 };
            sample.raw - sample.base - undo
        };
        let raw_ns = of(|sample| sample.raw);
        Self {
            program: "edge",
            mode: case.mode,
            family: case.family,
            protocol: case.protocol,
            state: case.state.name(),
            flows: case.stream.flows,
            services: case.world.services,
            backends: case.world.backends,
            raw_ns,
            net_ns: median(samples.iter().map(|sample| net(sample, moves))),
            ratio_return: of(|sample| sample.raw / sample.base),
            ratio_head: of(|sample| sample.raw / sample.head),
            spread: median(samples.iter().map(|sample| (sample.raw - raw_ns).abs())) / raw_ns,
            base_ns: of(|sample| sample.base),
            head_ns: of(|sample| sample.head),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<5} {:<5} {:<8} {:<12} {:>8} {:>5} {:>5} {:>7.1} {:>7.1} {:>8.2} {:>7.2} {:>6.1}%",
            self.mode,
            self.family,
            self.protocol,
            self.state,
            self.flows,
            self.services,
            self.backends,
            self.raw_ns,
            self.net_ns,
            self.ratio_return,
            self.ratio_head,
            100.0 * self.spread
        )
    }
}

/// Name of a row.
pub(super) fn name(case: &Case) -> String {
    let Case { mode, family, protocol, state, stream, world, .. } = case;
    let state = state.name();
    format!("{mode} {family} {protocol} {state} {} {} {}", stream.flows, world.services, world.backends)
}

impl Report {
    pub(super) fn new() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_owned()))
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        Self {
            machine: Machine {
                processor,
                processors: std::thread::available_parallelism().map_or(1, Into::into),
                kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            },
            baselines: Baselines::default(),
            programs: Vec::new(),
            rows: Vec::new(),
            notes: vec!["in transition (flow records read, written): there are no flow records yet"],
        }
    }

    /// What the table is headed by; printed before the first row.
    pub(super) fn heading() -> String {
        format!(
            "{:<5} {:<5} {:<8} {:<12} {:>8} {:>5} {:>5} {:>7} {:>7} {:>8} {:>7} {:>7}",
            "mode",
            "fam",
            "packet",
            "state",
            "flows",
            "serv",
            "back",
            "raw ns",
            "net ns",
            "x return",
            "x head",
            "spread"
        )
    }

    pub(super) fn summarise(&mut self) {
        self.baselines = Baselines {
            return_ns: median(self.rows.iter().map(|row| row.base_ns)),
            head_ns: median(self.rows.iter().map(|row| row.head_ns)),
        };
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<14} {:>10} {:>10} {:>10}", "program", "translated", "jited", "verified")?;
        for Size { program, translated, jited, verified } in &self.programs {
            writeln!(f, "{program:<14} {translated:>10} {jited:>10} {verified:>10}")?;
        }
        let Machine { processor, processors, kernel } = &self.machine;
        writeln!(f, "\n{processor}, {processors} processors, Linux {kernel}")?;
        let Baselines { return_ns, head_ns } = self.baselines;
        writeln!(f, "baselines, driver included: returns at once {return_ns:.1} ns, moves the head {head_ns:.1} ns")?;
        for note in &self.notes {
            writeln!(f, "not measured: {note}")?;
        }
        Ok(())
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count => f64::midpoint(values[(count - 1) / 2], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "halves are exact")]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}
