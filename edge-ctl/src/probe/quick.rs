//! Quick looks at a backend whose clients wait in vain: several in succession with a short timeout, so that a death is
//! known after some tens of milliseconds, whatever the interval and the timeout of its probe.
//!
//! ```text
//! suspected   |--- patience ---|
//!                   |--- patience ---|
//!                         |--- patience ---|  as many looks as make the backend down
//! ```
//!
//! After a wrong answer the next look follows at once.
//!
//! One good answer refutes the suspicion, and nothing else of the series counts. Suspicions come from packets, which anybody
//! may provoke: all quick looks together have an [`allowance`] of their own.

use std::{future::Future, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{look::Look, pace::Allowance};
use crate::health::Verdict;

/// Least time for an answer: more than a host that is busy for a moment takes.
const LEAST: Duration = Duration::from_millis(30);
/// Time for an answer, over the usual one.
const TIMES: u32 = 4;
/// Time from a wrong answer to the next look.
const BREATH: Duration = Duration::from_millis(1);
/// Most looks of a series, whatever makes a backend down.
const MOST: u32 = 5;
/// Quick looks per second, and in a burst, of all backends.
const RATE: f64 = 20.0;
const BURST: f64 = 60.0;

/// The limit of all quick looks.
pub(super) fn allowance(now: Instant) -> Allowance {
    Allowance::fixed(RATE, BURST, now)
}

/// A series of quick looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    start: Instant,
    looks: u32,
    /// Time for an answer.
    patience: Duration,
}

impl Plan {
    /// The series at `start` of a probe with this timeout, `usual` time of a good answer (zero if none is known) and
    /// number of looks that make its backend down; `None` if the allowance is used up.
    pub(super) fn of(
        timeout: Duration,
        usual: Duration,
        fall: u32,
        start: Instant,
        allowance: &mut Allowance,
    ) -> Option<Self> {
        let patience = if usual.is_zero() { timeout } else { (usual * TIMES).max(LEAST).min(timeout) };
        let looks = (0..fall.clamp(1, MOST)).take_while(|_| allowance.take(start)).count();
        let looks = u32::try_from(looks).unwrap_or(MOST);
        (looks > 0).then_some(Self { start, looks, patience })
    }

    /// Makes the series by `look`, whose arguments are when the look is due and the time for an answer. Returns the
    /// looks that count: a good one, or all.
    pub(super) async fn run<F: Future<Output = Look>>(self, look: impl Fn(Instant, Duration) -> F) -> Vec<Look> {
        let Self { start, looks, patience } = self;
        let (mut flying, mut seen) = (FuturesUnordered::new(), Vec::new());
        let (mut next, mut left) = (start, looks);
        while left > 0 || !flying.is_empty() {
            select! {
                () = sleep_until(next), if left > 0 => {
                    flying.push(look(next, patience));
                    (next, left) = (next + patience / 2, left - 1);
                }
                Some(mut look) = flying.next() => {
                    match &mut look.verdict {
                        Verdict::Pass => return vec![look],
                        // A wrong answer needs no patience.
                        Verdict::Fail(_) => next = next.min(Instant::now() + BREATH),
                        Verdict::Silent(why) => why.push_str(", and clients wait in vain"),
                        Verdict::Unreachable(_) | Verdict::Inconclusive(_) => {}
                    }
                    seen.push(look);
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_answer_has_four_times_the_usual_time_within_limits() {
        let now = Instant::now();
        let patience =
            |timeout, usual| Plan::of(ms(timeout), ms(usual), 3, now, &mut allowance(now)).map(|plan| plan.patience);
        assert_eq!(patience(500, 20), Some(ms(80)));
        assert_eq!(patience(500, 1), Some(LEAST));
        assert_eq!(patience(500, 400), Some(ms(500)));
        assert_eq!(patience(20, 1), Some(ms(20)));
        assert_eq!(patience(500, 0), Some(ms(500)), "how long its answers take is not known");
    }

    #[test]
    fn a_series_has_the_looks_that_make_a_backend_down_and_all_series_are_limited() {
        let now = Instant::now();
        let mut all = allowance(now);
        let mut looks = |fall| Plan::of(ms(500), ms(1), fall, now, &mut all).map(|plan| plan.looks);
        assert_eq!((looks(3), looks(0), looks(50)), (Some(3), Some(1), Some(MOST)));
        let more = (0..100).filter_map(|_| looks(4)).sum::<u32>();
        assert_eq!(more, 60 - 3 - 1 - 5);
        assert_eq!(looks(4), None);
    }
}
