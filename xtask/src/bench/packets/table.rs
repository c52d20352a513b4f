//! The rows, as they are printed while they come.

use std::fmt;

use super::{
    super::results::{Live, Row},
    cases::Case,
};

/// Name of a row.
pub(super) fn name(case: &Case) -> String {
    let Case { mode, family, protocol, state, stream, world, leaving, .. } = case;
    let (program, state) = (leaving.way.program().name(), state.name());
    let table = world.table.map(|table| format!(" {}", table.name())).unwrap_or_default();
    format!(
        "{program} {mode} {family} {protocol} {state} {} {} {}{table}",
        stream.flows, world.services, world.backends
    )
}

/// What the table is headed by.
pub(super) fn heading() -> String {
    format!(
        "{:<7} {:<5} {:<5} {:<8} {:<17} {:<5} {:>8} {:>5} {:>5} {:>7} {:>7} {:>8} {:>7} {:>7}",
        "program",
        "mode",
        "fam",
        "packet",
        "state",
        "table",
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

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<7} {:<5} {:<5} {:<8} {:<17} {:<5} {:>8} {:>5} {:>5} {:>7.1} {:>7.1} {:>8.2} {:>7.2} {:>6.1}%{}",
            self.program,
            self.mode,
            self.family,
            self.protocol,
            self.state,
            self.table,
            self.flows,
            self.services,
            self.backends,
            self.raw_ns,
            self.net_ns,
            self.ratio_return,
            self.ratio_head,
            100.0 * self.spread,
            if self.noisy { " *" } else { "" }
        )
    }
}

/// What the live table is headed by.
pub(super) fn live_heading() -> String {
    format!(
        "{:<5} {:<5} {:<8} {:>8} {:>12} {:>12} {:>7}",
        "mode", "fam", "packet", "flows", "packets/s", "x returned", "spread"
    )
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, family, protocol, flows, packets_per_second, ratio, spread, noisy, .. } = self;
        let (spread, star) = (100.0 * spread, if *noisy { " *" } else { "" });
        write!(
            f,
            "{mode:<5} {family:<5} {protocol:<8} {flows:>8} {packets_per_second:>12.0} {ratio:>12.3} {spread:>6.1}%{star}"
        )
    }
}
