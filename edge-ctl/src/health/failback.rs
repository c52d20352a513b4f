//! Failback: when a lost pool takes new flows again, and at which rate pools and backends return.

use std::time::Duration;

/// Number of places in the order in which slots return. At first all of them are withheld.
pub(crate) const ALL: u32 = edge_common::abi::RETURN_PLACES;
/// Number of steps of a return: each step makes services look at their slots again.
const STEPS: u32 = 32;

/// Number of places still withheld after `elapsed` of a return that takes `over`.
pub(crate) fn withheld(elapsed: Duration, over: Duration) -> u32 {
    if elapsed >= over {
        return 0;
    }
    let step = elapsed.as_millis() * u128::from(STEPS) / over.as_millis().max(1);
    // The first step returns some places at once; otherwise it would have no effect.
    let step = u32::try_from(step).unwrap_or(STEPS).saturating_add(1).min(STEPS - 1);
    ALL - step * (ALL / STEPS)
}

/// Whether a pool takes its share of new flows.
///
/// ```text
///            too few up            enough up              for `after`               for `over`
///   whole ---------------> lost -------------> steady -----------------> returning ------------> whole
///                           ^                     | too few up               | too few up
///                           +---------------------+--------------------------+
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Return {
    #[default]
    Whole,
    Lost {
        since: Duration,
    },
    Steady {
        since: Duration,
    },
    Returning {
        since: Duration,
    },
}

impl Return {
    /// The next state; `enough` is whether enough of the pool is up, `after` is how long that must last before the
    /// return begins, and `over` is the duration of the return.
    pub(crate) fn step(self, enough: bool, after: Duration, over: Duration, now: Duration) -> Self {
        let past = |since: Duration, time: Duration| now.saturating_sub(since) >= time;
        match self {
            Self::Whole if enough || (after + over).is_zero() => Self::Whole,
            Self::Whole | Self::Steady { .. } | Self::Returning { .. } if !enough => Self::Lost { since: now },
            Self::Lost { .. } if enough => Self::Steady { since: now }.step(enough, after, over, now),
            Self::Steady { since } if past(since, after) => {
                Self::Returning { since: now }.step(enough, after, over, now)
            }
            Self::Returning { since } if past(since, over) => Self::Whole,
            Self::Whole | Self::Lost { .. } | Self::Steady { .. } | Self::Returning { .. } => self,
        }
    }

    /// Number of places withheld from the pool.
    pub(crate) fn withheld(self, over: Duration, now: Duration) -> u32 {
        match self {
            Self::Whole => 0,
            Self::Lost { .. } | Self::Steady { .. } => ALL,
            Self::Returning { since } => withheld(now.saturating_sub(since), over),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Return::{Lost, Returning, Steady, Whole},
        *,
    };

    const AFTER: Duration = Duration::from_secs(100);
    const OVER: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn every_transition() {
        for (from, enough, now, to) in [
            (Whole, true, 5, Whole),
            (Whole, false, 5, Lost { since: at(5) }),
            (Lost { since: at(1) }, false, 5, Lost { since: at(1) }),
            (Lost { since: at(1) }, true, 5, Steady { since: at(5) }),
            (Steady { since: at(5) }, true, 104, Steady { since: at(5) }),
            (Steady { since: at(5) }, true, 105, Returning { since: at(105) }),
            (Steady { since: at(5) }, false, 105, Lost { since: at(105) }),
            (Returning { since: at(105) }, true, 114, Returning { since: at(105) }),
            (Returning { since: at(105) }, true, 115, Whole),
            (Returning { since: at(105) }, false, 114, Lost { since: at(114) }),
        ] {
            assert_eq!(from.step(enough, AFTER, OVER, at(now)), to, "{from:?} {enough} at {now}");
        }
    }

    #[test]
    fn without_waiting_a_pool_is_never_lost_and_without_a_ramp_it_is_back_at_once() {
        let zero = Duration::ZERO;
        assert_eq!(Whole.step(false, zero, zero, at(1)), Whole);
        assert_eq!(Lost { since: at(1) }.step(true, zero, zero, at(2)), Whole);
        assert_eq!(Lost { since: at(1) }.step(true, zero, OVER, at(2)), Returning { since: at(2) });
        assert_eq!(Steady { since: at(1) }.step(true, AFTER, zero, at(101)), Whole);
    }

    #[test]
    fn a_return_is_even_and_never_goes_backwards() {
        let shares: Vec<_> = (0..=100).map(|tenth| withheld(OVER * tenth / 100, OVER)).collect();
        assert!(shares.is_sorted_by(|before, after| before >= after));
        assert_eq!((shares[0], shares[50], shares[100]), (248, 120, 0));
        assert_eq!(withheld(Duration::ZERO, Duration::ZERO), 0);
        assert!(shares[..100].iter().all(|share| *share > 0));
    }
}
