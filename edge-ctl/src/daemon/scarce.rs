//! Reports when ports of translation sources or entries for translated flows run out: at three quarters in use, and
//! when enough are free again.

#![deny(clippy::disallowed_methods)]

use std::{collections::BTreeMap, fmt, net::IpAddr};

use edge_common::abi::BackendNumber;

use crate::{
    bpf::{NatBackend, NatUse},
    control::events::EventKind,
};

/// Percentage of ports in use from which scarcity is reported, and below which it is over. When three quarters are in
/// use, a new flow finds all of the 32 places that it looks at taken once in ten thousand times.
///
/// The ports of connections that are over do not count: they are reserved only as long as no new flow needs them.
const SCARCE: u64 = 75;
const PLENTY: u64 = 60;

/// A resource that runs out: ports by which a backend is reached from a source, or entries of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scarce {
    Ports(BackendNumber, IpAddr),
    Entries,
}

/// The scarce resources that were reported, with the subjects of their events.
#[derive(Debug, Default)]
pub(super) struct Reported(BTreeMap<Scarce, String>);

/// An event to report: kind, subject, message.
pub(super) type Change = (EventKind, String, String);

impl Reported {
    /// Compares the use with the reported scarcities, and returns the changes; `name` returns a backend's name.
    pub(super) fn look(&mut self, nat: &NatUse, name: impl Fn(BackendNumber) -> Option<String>) -> Vec<Change> {
        let mut changes = Vec::new();
        for NatBackend { backend, source, counts } in &nat.backends {
            let &Some(source) = source else { continue };
            let (of, what) = (Scarce::Ports(*backend, source), format_args!("ports of {source}"));
            let remedy = "another source in [nat], or more `ports`";
            let used = counts.flows.saturating_sub(counts.closed);
            changes.extend(self.judge(of, || name(*backend), (used, nat.ports), what, remedy));
        }
        let closed = nat.backends.iter().map(|backend| backend.counts.closed).sum();
        let what = format_args!("entries for translated flows");
        let subject = || Some("nat".to_owned());
        changes.extend(self.judge(
            Scarce::Entries,
            subject,
            (nat.flows.saturating_sub(closed), nat.room),
            what,
            "larger [limits] `nat_flows`",
        ));
        // A backend without flows is not in `nat`.
        let counted = |of: &Scarce| match of {
            Scarce::Entries => true,
            Scarce::Ports(number, source) => {
                nat.backends.iter().any(|counted| counted.backend == *number && counted.source == Some(*source))
            }
        };
        let unused: Vec<_> = self.0.keys().filter(|of| !counted(of)).copied().collect();
        changes.extend(unused.into_iter().filter_map(|of| {
            self.0.remove(&of).map(|subject| (EventKind::PortsPlenty, subject, "no port is in use any more".to_owned()))
        }));
        changes
    }

    /// Judges one resource. `subject` is called only for a change to report, since finding a name takes a walk over all
    /// backends.
    fn judge(
        &mut self,
        of: Scarce,
        subject: impl FnOnce() -> Option<String>,
        (used, all): (u32, u32),
        what: fmt::Arguments<'_>,
        remedy: &str,
    ) -> Option<Change> {
        let in_use = || format!("{used} of {all} {what} are in use");
        let percent = u64::from(used) * 100 / u64::from(all).max(1);
        if percent >= SCARCE && !self.0.contains_key(&of) {
            let subject = subject()?;
            self.0.insert(of, subject.clone());
            return Some((EventKind::PortsScarce, subject, format!("{}: {remedy}", in_use())));
        }
        if percent >= PLENTY {
            return None;
        }
        self.0.remove(&of).map(|subject| (EventKind::PortsPlenty, subject, in_use()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::NatCounts;

    fn used(flows: u32) -> NatUse {
        let counts = NatCounts { flows, ..NatCounts::default() };
        let backends = vec![NatBackend { backend: 1, source: Some("198.51.100.5".parse().unwrap()), counts }];
        NatUse { flows, room: 1000, ports: 100, backends }
    }

    #[test]
    fn ports_are_reported_once_until_there_are_plenty() {
        let mut reported = Reported::default();
        let mut look = |flows| {
            let changes = reported.look(&used(flows), |_| Some("a/a1".to_owned()));
            changes
                .into_iter()
                .map(|(kind, subject, text)| format!("{} {subject}: {text}", kind.name()))
                .collect::<Vec<_>>()
        };
        assert_eq!(look(74), [""; 0]);
        assert_eq!(
            look(75),
            ["ports_scarce a/a1: 75 of 100 ports of 198.51.100.5 are in use: another source in [nat], or more `ports`"]
        );
        assert_eq!(look(99), [""; 0], "it is known");
        assert_eq!(look(60), [""; 0], "not yet plenty");
        assert_eq!(look(59), ["ports_plenty a/a1: 59 of 100 ports of 198.51.100.5 are in use"]);
        assert_eq!(look(80).len(), 1);
        let changes = reported.look(&NatUse { ports: 100, room: 1000, ..NatUse::default() }, |_| None);
        assert_eq!(changes.len(), 1, "none is in use any more: {changes:?}");
    }

    #[test]
    fn connections_that_are_over_make_nothing_scarce() {
        let mut nat = NatUse { room: 100, ..used(100) };
        nat.backends[0].counts.closed = 100;
        assert_eq!(Reported::default().look(&nat, |_| Some("a/a1".to_owned())), []);
        nat.backends[0].counts.closed = 25;
        assert_eq!(Reported::default().look(&nat, |_| Some("a/a1".to_owned())).len(), 2);
    }

    #[test]
    fn so_are_entries() {
        let nat = NatUse { flows: 750, room: 1000, ports: 100, backends: Vec::new() };
        let changes = Reported::default().look(&nat, |_| None);
        let text = "750 of 1000 entries for translated flows are in use: larger [limits] `nat_flows`";
        assert_eq!(changes, [(EventKind::PortsScarce, "nat".to_owned(), text.to_owned())]);
    }
}
