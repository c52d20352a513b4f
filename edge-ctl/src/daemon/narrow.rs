//! Reports backends whose path is too narrow for IPv6 in a tunnel, and those whose path no longer is.

#![deny(clippy::disallowed_methods)]

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::BackendNumber;

use crate::control::{events::EventKind, narrow::Narrow};

/// How long a path must not have been too narrow until that is reported. A learnt path MTU is forgotten after this time, and
/// is learnt again by the next packet that is too long.
pub(super) const WIDE_FOR: Duration = Duration::from_mins(20);

/// The narrow paths that were reported, by their backends.
#[derive(Debug, Default)]
pub(super) struct Reported(BTreeMap<BackendNumber, Path>);

#[derive(Debug)]
struct Path {
    /// Name of the backend.
    name: String,
    /// Since when the path has not been too narrow, by `CLOCK_MONOTONIC`; `None` while it is.
    wide_since: Option<Duration>,
}

/// An event to report: kind, subject, message.
pub(super) type Change = (EventKind, String, String);

impl Reported {
    /// Compares the narrow paths at `now` with those that were reported, and returns the changes; `name` returns a backend's name.
    pub(super) fn look(
        &mut self,
        narrow: &BTreeMap<BackendNumber, Narrow>,
        now: Duration,
        name: impl Fn(BackendNumber) -> Option<String>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (number, Narrow { mtu, needed }) in narrow {
            if let Some(path) = self.0.get_mut(number) {
                path.wide_since = None;
            } else if let Some(name) = name(*number) {
                let message = format!(
                    "path too narrow for IPv6: it carries {mtu} bytes, and a packet of 1280 bytes, the minimum MTU of IPv6, has \
                     {needed} in the tunnel; raise the MTU of the egress or of the path to {needed}"
                );
                changes.push((EventKind::PathNarrow, name.clone(), message));
                self.0.insert(*number, Path { name, wide_since: None });
            }
        }
        self.0.retain(|number, path| {
            if narrow.contains_key(number) {
                return true;
            }
            let since = *path.wide_since.get_or_insert(now);
            let is_over = now.saturating_sub(since) >= WIDE_FOR;
            if is_over {
                let message = "the path has not been too narrow for IPv6 for 20 minutes".to_owned();
                changes.push((EventKind::PathWide, path.name.clone(), message));
            }
            !is_over
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_path_is_reported_once_until_it_has_been_wide_for_long_enough() {
        let mut reported = Reported::default();
        let mut look = |minutes, numbers: &[BackendNumber]| {
            let narrow = numbers.iter().map(|number| (*number, Narrow { mtu: 1290, needed: 1300 })).collect();
            let changes = reported.look(&narrow, Duration::from_mins(minutes), |number| Some(format!("a/a{number}")));
            changes.into_iter().map(|(kind, subject, _)| format!("{} {subject}", kind.name())).collect::<Vec<_>>()
        };
        assert_eq!(look(0, &[1, 2]), ["path_narrow a/a1", "path_narrow a/a2"]);
        assert_eq!(look(5, &[1]), [""; 0]);
        // The path MTU was forgotten, and is learnt again.
        assert_eq!(look(10, &[]), [""; 0]);
        assert_eq!(look(11, &[1]), [""; 0]);
        assert_eq!(look(25, &[]), ["path_wide a/a2"]);
        assert_eq!(look(44, &[]), [""; 0]);
        assert_eq!(look(45, &[]), ["path_wide a/a1"]);
        assert_eq!(look(50, &[1]), ["path_narrow a/a1"]);
    }
}
