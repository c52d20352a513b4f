//! What the packet path is to cost, and whether it does.

use super::{
    super::results::{Results, Row},
    format,
    names::{FEW, MANY, find},
};

/// A figure that is to stay below a limit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) what: String,
    pub(super) limit: f64,
    /// What would be better still.
    pub(super) aim: Option<f64>,
    /// None where its rows were not measured.
    pub(super) measured: Option<f64>,
}

/// Of the raw cost of forwarding over the program that moves the head.
pub(super) const HEAD_LIMIT: f64 = 1.7;
pub(super) const HEAD_AIM: f64 = 1.45;
const FAMILY_LIMIT: f64 = 1.15;
const UDP_LIMIT: f64 = 1.05;
const NOT_OURS_LIMIT: f64 = 1.5;

impl Target {
    fn new(what: String, limit: f64, measured: Option<f64>) -> Self {
        Self { what, limit, aim: None, measured }
    }

    /// The limit as it is written.
    pub(super) fn bound(&self) -> String {
        let aim = self.aim.map(|aim| format!(" (aim {aim})")).unwrap_or_default();
        format!("≤ {}{aim}", self.limit)
    }

    pub(super) fn verdict(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(figure) if self.aim.is_some_and(|aim| figure <= aim) => "met, and the aim",
            Some(figure) if figure <= self.limit => "met",
            Some(_) => "**missed**",
        }
    }
}

/// All targets, against what `results` found.
pub(super) fn all(results: &Results) -> Vec<Target> {
    let mut targets = Vec::new();
    let steady = |mode, family, protocol, flows| find(results, [mode, family, protocol, "steady"], flows);
    for flows in [FEW, MANY] {
        let measured = steady("ipip", "4in4", "tcp", flows).map(|row| row.ratio_head);
        let what = format!("moves the head: TCP data, `ipip 4in4`, steady, {} flows", format::count(flows));
        targets.push(Target { aim: Some(HEAD_AIM), ..Target::new(what, HEAD_LIMIT, measured) });
    }
    for (mode, v4, v6) in [("ipip", "4in4", "6in6"), ("dsr", "4", "6")] {
        for flows in [FEW, MANY] {
            let measured = over(steady(mode, v6, "tcp", flows), steady(mode, v4, "tcp", flows));
            let what = format!("IPv4, of IPv6: TCP data, `{mode}`, steady, {} flows", format::count(flows));
            targets.push(Target::new(what, FAMILY_LIMIT, measured));
        }
    }
    for family in ["4in4", "6in6"] {
        for flows in [FEW, MANY] {
            let measured = over(steady("ipip", family, "udp", flows), steady("ipip", family, "tcp", flows));
            let what = format!("TCP data, of UDP: `ipip {family}`, steady, {} flows", format::count(flows));
            targets.push(Target::new(what, UDP_LIMIT, measured));
        }
    }
    for (family, name) in [("4", "IPv4"), ("6", "IPv6")] {
        for (protocol, packet) in [("tcp", "TCP data"), ("udp", "UDP")] {
            let row = find(results, ["none", family, protocol, "not_ours"], FEW);
            let what = format!("returns at once: {packet} over {name} that is not ours");
            targets.push(Target::new(what, NOT_OURS_LIMIT, row.map(|row| row.ratio_return)));
        }
    }
    targets
}

/// Over the same baseline: the machine's pace may change between two rows.
fn over(row: Option<&Row>, other: Option<&Row>) -> Option<f64> {
    Some(row?.ratio_head / other?.ratio_head)
}
