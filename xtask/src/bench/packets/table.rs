//! The rows, as they are printed while they come.

use std::fmt;

use super::{super::results::Row, cases::Case};

/// Name of a row.
pub(super) fn name(case: &Case) -> String {
    let Case { mode, family, protocol, state, stream, world, .. } = case;
    let state = state.name();
    format!("{mode} {family} {protocol} {state} {} {} {}", stream.flows, world.services, world.backends)
}

/// What the table is headed by.
pub(super) fn heading() -> String {
    format!(
        "{:<5} {:<5} {:<8} {:<12} {:>8} {:>5} {:>5} {:>7} {:>7} {:>8} {:>7} {:>7}",
        "mode", "fam", "packet", "state", "flows", "serv", "back", "raw ns", "net ns", "x return", "x head", "spread"
    )
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
