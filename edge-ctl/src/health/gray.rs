//! Gray failure: a backend whose probes pass, and that loses its clients' packets all the same.
//!
//! A SYN that is sent again shows a loss, on the client's way or on the backend's. Only what a backend loses more than
//! others do is held against it: a bad network of clients, or a flood of SYNs, concerns all backends alike, since nobody
//! outside knows which backend a connection goes to.

use std::collections::VecDeque;

/// Seconds over which handshakes are counted.
const WINDOW: usize = 5;
/// Fewest SYNs sent again, and fewest clients (by their prefix) that sent them.
const LEAST_REPEATED: u64 = 10;
const LEAST_CLIENTS: u32 = 2;
/// Least share of connections whose SYN is sent again.
const LEAST_SHARE: f64 = 0.1;
/// The same, over the share of the other backends.
const TIMES: f64 = 3.0;
/// Fewest connections of the other backends for a comparison.
const LEAST_OTHERS: u64 = 20;

/// Handshakes within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshakes {
    pub(crate) started: u64,
    /// SYNs that were sent again.
    pub(crate) repeated: u64,
    /// Clients that sent SYNs again.
    pub(crate) clients: u32,
}

/// The counters of one backend in the last seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    /// The counters (connections, SYNs sent again; both only grow, the second wraps) and the clients of each second.
    seconds: VecDeque<(u64, u32, u64)>,
}

impl Recent {
    /// Adds the counters of a second, and the bits of the clients that sent SYNs again in it; returns what is within the
    /// window.
    pub(crate) fn note(&mut self, started: u64, repeated: u32, clients: u64) -> Handshakes {
        self.seconds.push_back((started, repeated, clients));
        if self.seconds.len() > WINDOW + 1 {
            self.seconds.pop_front();
        }
        let Some((first_started, first_repeated, _)) = self.seconds.front().copied() else {
            return Handshakes::default();
        };
        // The clients of the first second are those of the time before it.
        let clients = self.seconds.iter().skip(1).fold(0, |all, (.., clients)| all | clients);
        Handshakes {
            started: started.saturating_sub(first_started),
            repeated: repeated.wrapping_sub(first_repeated).into(),
            clients: clients.count_ones(),
        }
    }
}

/// Whether a backend loses so much more than the `others` together that the fault is its own, or its path's.
pub(crate) fn is_gray(own: Handshakes, others: Handshakes) -> bool {
    own.repeated >= LEAST_REPEATED
        && own.clients >= LEAST_CLIENTS
        && others.started >= LEAST_OTHERS
        && share(own) >= LEAST_SHARE
        && share(own) >= share(others) * TIMES
}

/// SYNs sent again per connection.
#[expect(clippy::cast_precision_loss, reason = "counts of seconds are far below 2^52")]
fn share(Handshakes { started, repeated, .. }: Handshakes) -> f64 {
    repeated as f64 / started.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(started: u64, repeated: u64) -> Handshakes {
        Handshakes { started, repeated, clients: 9 }
    }

    #[test]
    fn only_what_others_do_not_lose_is_a_backends_own() {
        assert!(is_gray(lost(100, 30), lost(200, 0)));
        assert!(is_gray(lost(100, 40), lost(200, 20)));
        assert!(!is_gray(lost(100, 30), lost(200, 40)), "the clients' network");
        assert!(!is_gray(lost(100, 6), lost(200, 0)), "few");
        assert!(!is_gray(lost(1_000, 60), lost(200, 0)), "a small share");
        assert!(!is_gray(lost(100, 30), lost(10, 0)), "nothing to compare with");
        assert!(!is_gray(Handshakes { clients: 1, ..lost(100, 90) }, lost(200, 0)), "one client's own trouble");
    }

    #[test]
    fn a_window_has_the_last_seconds_and_counts_that_wrap() {
        let mut recent = Recent::default();
        assert_eq!(recent.note(1_000, u32::MAX, 0b1), Handshakes::default());
        assert_eq!(recent.note(1_010, 4, 0b110), Handshakes { started: 10, repeated: 5, clients: 2 });
        for _ in 0..WINDOW {
            recent.note(1_010, 4, 0);
        }
        assert_eq!(recent.note(1_011, 4, 0), Handshakes { started: 1, ..Handshakes::default() });
    }
}
