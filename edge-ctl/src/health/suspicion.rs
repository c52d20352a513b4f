//! Suspicion: what the packets of a backend's own clients show before any probe does.
//!
//! A suspicion ejects no backend. It is the reason to probe the backend at once, and the probes decide. So whoever can
//! provoke a suspicion (with packets that a backend doesn't answer) provokes probes, at most a few a second.

use std::time::Duration;

/// Time for which clients wait until their backend is suspected. A host acknowledges data within 40 ms (Linux), even if
/// its server takes longer to answer.
const PATIENCE: Duration = Duration::from_millis(50);
/// Time after the last sign until the suspicion is over.
const QUIET: Duration = Duration::from_secs(1);
/// Time for which a suspicion lasts, while probes pass, until it is reported to the operator.
const LASTING: Duration = Duration::from_secs(3);

/// Evidence about one backend at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// How long a client has waited for any packet of the backend; zero if no client waits.
    pub(crate) waited: Duration,
    /// SYNs that were answered with a RST, in all; wraps.
    pub(crate) refused: u32,
    /// ICMP errors that reported the backend as unreachable, in all; wraps.
    pub(crate) unreachable: u32,
}

/// Kind of a suspicion's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspected {
    Silent,
    Refuses,
    Unreachable,
}

impl Suspected {
    /// What the clients' packets show.
    pub(crate) const fn evidence(self) -> &'static str {
        match self {
            Self::Silent => "clients wait, and none of them is answered",
            Self::Refuses => "it answers clients' SYNs with RST",
            Self::Unreachable => "ICMP errors report it as unreachable",
        }
    }
}

/// A suspicion of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    pub(crate) what: Suspected,
    /// When it began, by the clock of [`Watch::look`].
    pub(crate) since: Duration,
    /// When its last sign was seen.
    last: Duration,
    is_reported: bool,
}

/// A change that the operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A suspicion lasts although probes pass.
    Lasts(Suspicion),
    /// A suspicion that was reported is over.
    Over,
}

/// Watches the signs of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    /// The counts at the last look; `None` before the first.
    before: Option<(u32, u32)>,
    suspicion: Option<Suspicion>,
}

impl Watch {
    /// The present suspicion.
    pub(crate) const fn suspicion(&self) -> Option<Suspicion> {
        self.suspicion
    }

    /// Judges the signs at `now`; `passes` is whether the backend's probes say that it is well. A backend that is known to be
    /// down is not suspected any more.
    pub(crate) fn look(&mut self, signs: Signs, passes: bool, now: Duration) -> Option<Change> {
        let counts = (signs.refused, signs.unreachable);
        let before = self.before.replace(counts).unwrap_or(counts);
        let what = if counts.0 != before.0 {
            Some(Suspected::Refuses)
        } else if counts.1 != before.1 {
            Some(Suspected::Unreachable)
        } else if signs.waited >= PATIENCE {
            Some(Suspected::Silent)
        } else {
            None
        };
        match (&mut self.suspicion, what) {
            (Some(known), Some(what)) => (known.what, known.last) = (what, now),
            (None, Some(what)) => {
                self.suspicion = Some(Suspicion { what, since: now, last: now, is_reported: false });
            }
            (Some(known), None) if now.saturating_sub(known.last) >= QUIET => {
                let was_reported = known.is_reported;
                self.suspicion = None;
                return was_reported.then_some(Change::Over);
            }
            (_, None) => {}
        }
        let known = self.suspicion.as_mut()?;
        let lasts = passes && !known.is_reported && now.saturating_sub(known.since) >= LASTING;
        known.is_reported |= lasts;
        lasts.then_some(Change::Lasts(*known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const fn waited(time: u64) -> Signs {
        Signs { waited: ms(time), refused: 7, unreachable: 3 }
    }

    fn what(watch: &Watch) -> Option<Suspected> {
        watch.suspicion().map(|suspicion| suspicion.what)
    }

    #[test]
    fn an_answer_within_the_usual_time_is_no_sign() {
        let mut watch = Watch::default();
        for at in 0..100 {
            assert_eq!(watch.look(waited(at % 50), true, ms(at * 20)), None);
            assert_eq!(watch.suspicion(), None, "{at}");
        }
    }

    #[test]
    fn counts_of_before_the_first_look_are_no_sign_and_any_change_is_one() {
        let mut watch = Watch::default();
        watch.look(waited(0), true, ms(0));
        assert_eq!(watch.suspicion(), None);
        watch.look(Signs { refused: 8, ..waited(0) }, true, ms(20));
        assert_eq!(what(&watch), Some(Suspected::Refuses));
        // A count that wraps.
        let mut watch = Watch::default();
        watch.look(Signs { unreachable: u32::MAX, ..waited(0) }, true, ms(0));
        watch.look(Signs { unreachable: 0, ..waited(0) }, true, ms(20));
        assert_eq!(what(&watch), Some(Suspected::Unreachable));
    }

    #[test]
    fn silence_is_a_sign_at_once_and_ends_a_second_after_an_answer() {
        let mut watch = Watch::default();
        watch.look(waited(0), true, ms(0));
        watch.look(waited(60), true, ms(60));
        assert_eq!(what(&watch), Some(Suspected::Silent));
        watch.look(waited(0), true, ms(1_040));
        assert_eq!(what(&watch), Some(Suspected::Silent), "another sign may follow");
        assert_eq!(watch.look(waited(0), true, ms(1_060)), None, "what was not reported needs no end");
        assert_eq!(watch.suspicion(), None);
    }

    #[test]
    fn what_lasts_while_probes_pass_is_reported_once_and_so_is_its_end() {
        let mut watch = Watch::default();
        let mut reports = Vec::new();
        for step in 0..500 {
            let at = step * 20;
            // Well again after six seconds.
            let signs = if at < 6_000 { waited(100 + at) } else { waited(0) };
            reports.extend(watch.look(signs, true, ms(at)).map(|change| (at, matches!(change, Change::Over))));
        }
        assert_eq!(reports, [(3_000, false), (6_980, true)]);
    }

    #[test]
    fn what_probes_have_found_is_not_reported_again() {
        let mut watch = Watch::default();
        let reports = (0..500).filter_map(|step| watch.look(waited(100), false, ms(step * 20))).count();
        assert_eq!(reports, 0);
    }
}
