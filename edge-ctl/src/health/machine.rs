//! The health of one backend, from a sequence of probe results.

use std::time::Duration;

use super::{Evidence, Health, HealthChange, Verdict, damper::Damper};

/// The health of one backend.
///
/// ```text
///                 1 pass                      `fall` bad ones in a row
///   +---------+ -----------> +------+ ----------------------------------> +------+
///   | unknown |              |  up  |                                     | down |  soft, if one of them was no answer;
///   +---------+ <----------- +------+ <---------------------------------- +------+  hard after `fall` wrong answers
///        |       `fall` inconclusive      `rise` passes in a row, and         ^
///        |             in a row             the damping hold is over           |
///        +--------------------------------------------------------------------+
///                                `fall` bad ones in a row
/// ```
///
/// Any other result in between restarts a count, even an inconclusive one: when this host has a fault of its own, failures
/// next to it are doubtful, too, and doubt keeps traffic flowing. Probes never lead from down to unknown: the last
/// evidence stands until there is better. When no evidence is left, [`forget`](Self::forget) leads to unknown from every
/// state; when the evidence proves wrong, [`pardon`](Self::pardon) leads back to the previous state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    health: Health,
    /// Why the backend is down; only valid while it is.
    evidence: Evidence,
    /// Whether the backend is down for silence beyond doubt.
    convicted: bool,
    /// The health before the backend went down.
    before: Health,
    /// When the health last changed.
    changed: Duration,
    rise: u32,
    fall: u32,
    damper: Damper,
    last: Option<VerdictKind>,
    /// Number of consecutive verdicts of the kind `last`; saturates.
    run: u32,
    /// When this run began.
    run_since: Duration,
    /// Number of consecutive wrong answers, silences and reports of unreachability that count.
    bad: u32,
    /// Number of consecutive silences and reports of unreachability; saturates.
    unheard: u32,
    /// When these began.
    unheard_since: Duration,
    /// Verdicts since the last silence or report of unreachability; saturates.
    since_silence: u32,
    /// When the backend last answered, rightly or wrongly.
    answered: Option<Duration>,
    /// Whether any probe of the backend could be made.
    was_probed: bool,
    /// Whether the backend answers at its own address, while probes through a service fail.
    answers_at_address: bool,
}

/// A verdict without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VerdictKind {
    Pass,
    Fail,
    Unreachable,
    Silent,
    Inconclusive,
}

impl Machine {
    /// A backend whose health an earlier daemon has recorded. `rise` and `fall` count probes; 0 counts as 1. `damping`
    /// is the longest hold of a returning backend.
    pub(crate) fn starting_from(health: Health, evidence: Evidence, rise: u32, fall: u32, damping: Duration) -> Self {
        Self {
            health,
            evidence,
            convicted: false,
            before: Health::Unknown,
            changed: Duration::ZERO,
            rise: rise.max(1),
            fall: fall.max(1),
            damper: Damper::new(damping),
            last: None,
            run: 0,
            run_since: Duration::ZERO,
            bad: 0,
            unheard: 0,
            unheard_since: Duration::ZERO,
            since_silence: u32::MAX,
            answered: None,
            was_probed: false,
            answers_at_address: false,
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Whether the backend is down, and the evidence is silence, or a report of unreachability.
    pub(crate) fn is_silenced(&self) -> bool {
        self.health == Health::Down && self.evidence == Evidence::Soft
    }

    /// Whether the backend is down for silence beyond doubt.
    pub(crate) fn is_convicted(&self) -> bool {
        self.is_silenced() && self.convicted
    }

    /// Confirms that the silence is the backend's own. Only then it counts as a death for damping.
    pub(crate) fn convict(&mut self, now: Duration) {
        if self.is_silenced() && !self.convicted {
            self.convicted = true;
            self.damper.died(now);
        }
    }

    pub(crate) fn is_down_hard(&self) -> bool {
        self.health == Health::Down && self.evidence == Evidence::Hard
    }

    /// When the health last changed.
    pub(crate) fn changed(&self) -> Duration {
        self.changed
    }

    /// Whether a router has reported the backend as unreachable, for as many probes as make it down.
    pub(crate) fn is_reported(&self) -> bool {
        self.is_silenced() && self.last == Some(VerdictKind::Unreachable) && self.run >= self.fall
    }

    /// Since when nothing was heard from the backend itself; `None` unless its last probe got no answer.
    pub(crate) fn hushed_since(&self) -> Option<Duration> {
        (self.unheard > 0).then_some(self.unheard_since)
    }

    /// Since when the backend has been silent: for one probe less than makes it down.
    pub(crate) fn silent_since(&self) -> Option<Duration> {
        let enough = self.fall.saturating_sub(1).max(1);
        self.hushed_since().filter(|_| self.unheard >= enough)
    }

    /// Whether a probe was lost not long ago: within twice as many probes as make the backend down.
    pub(crate) fn was_silent_lately(&self) -> bool {
        self.since_silence < self.fall.saturating_mul(2)
    }

    pub(crate) fn note_address(&mut self, answers: bool) {
        self.answers_at_address = answers;
    }

    /// Whether the backend is silent through its services alone: it answers at its own address, so this host hears it.
    pub(crate) fn is_heard_at_address(&self) -> bool {
        self.answers_at_address && self.unheard > 0
    }

    /// When the backend last answered, if no probe was lost lately.
    pub(crate) fn answered(&self) -> Option<Duration> {
        self.answered.filter(|_| !self.was_silent_lately())
    }

    /// When the backend last answered, whatever was lost since.
    pub(crate) fn last_answer(&self) -> Option<Duration> {
        self.answered
    }

    /// Whether the backend answers again: a wrong answer, or as many passes as make it up.
    pub(crate) fn answers(&self) -> bool {
        match self.last {
            Some(VerdictKind::Pass) => self.run >= self.rise,
            Some(VerdictKind::Fail) => true,
            Some(VerdictKind::Unreachable | VerdictKind::Silent | VerdictKind::Inconclusive) | None => false,
        }
    }

    /// Whether the backend can't be probed any more, for one probe less than makes it down. A backend whose probes could
    /// never be made does not count: the cause may be its probe's configuration, and so is no sign of a fault of this host.
    pub(crate) fn is_unprobed(&self) -> bool {
        self.was_probed
            && self.last == Some(VerdictKind::Inconclusive)
            && self.run >= self.fall.saturating_sub(1).max(1)
    }

    /// Discards evidence that is too old: the health becomes unknown.
    pub(crate) fn forget(&mut self, now: Duration, reason: &str) -> Option<HealthChange> {
        let from = self.health;
        (self.health, self.last, self.run, self.bad) = (Health::Unknown, None, 0, 0);
        (self.unheard, self.since_silence, self.answered, self.changed) = (0, u32::MAX, None, now);
        (from != Health::Unknown).then(|| HealthChange { from, to: Health::Unknown, reason: reason.to_owned() })
    }

    /// Withdraws the backend's silence, which was not its own fault: the previous health is restored, and counts start
    /// anew.
    pub(crate) fn pardon(&mut self, now: Duration, reason: &str) -> Option<HealthChange> {
        self.bad = 0;
        if !self.is_silenced() {
            return None;
        }
        if self.convicted {
            self.damper.pardon();
        }
        (self.health, self.changed, self.convicted) = (self.before, now, false);
        Some(HealthChange { from: Health::Down, to: self.health, reason: reason.to_owned() })
    }

    /// Processes the next verdict, and returns the change of health if there is one, or the reason why it stays unknown. With `deaf` silence and
    /// unreachability do not count, since this host is their cause.
    pub(crate) fn observe(&mut self, verdict: &Verdict, now: Duration, deaf: bool) -> Option<HealthChange> {
        let (kind, detail) = match verdict {
            Verdict::Pass => (VerdictKind::Pass, ""),
            Verdict::Fail(why) => (VerdictKind::Fail, why.as_str()),
            Verdict::Unreachable(why) => (VerdictKind::Unreachable, why.as_str()),
            Verdict::Silent(why) => (VerdictKind::Silent, why.as_str()),
            Verdict::Inconclusive(why) => (VerdictKind::Inconclusive, why.as_str()),
        };
        self.count(kind, now, deaf);
        let (enough, needed, to) = match (self.health, kind) {
            (Health::Unknown, VerdictKind::Pass) => (true, 1, Health::Up),
            (Health::Down, VerdictKind::Pass) => (self.run >= self.rise && !self.is_held(now), self.run, Health::Up),
            (Health::Unknown | Health::Up, VerdictKind::Fail | VerdictKind::Unreachable | VerdictKind::Silent) => {
                (self.bad >= self.fall, self.fall, Health::Down)
            }
            (Health::Down, VerdictKind::Fail) => {
                (self.evidence == Evidence::Soft && self.run >= self.fall, self.fall, Health::Down)
            }
            (Health::Up, VerdictKind::Inconclusive) => (self.run >= self.fall, self.fall, Health::Unknown),
            // Not a change, but a reason: nobody knows why the health is unknown otherwise.
            (Health::Unknown, VerdictKind::Inconclusive) => (self.run == self.fall, self.fall, Health::Unknown),
            (Health::Up, VerdictKind::Pass)
            | (Health::Down, VerdictKind::Unreachable | VerdictKind::Silent | VerdictKind::Inconclusive) => {
                return None;
            }
        };
        enough.then(|| self.change(to, now, reason(kind, needed, detail)))
    }

    /// Whether damping still holds the backend.
    pub(crate) fn is_held(&self, now: Duration) -> bool {
        !self.held_for(now).is_zero()
    }

    /// How much longer the backend is held back although its probes pass, and after how many deaths.
    pub(crate) fn held(&self, now: Duration) -> Option<(Duration, u32)> {
        let passes = self.health == Health::Down && self.last == Some(VerdictKind::Pass) && self.run >= self.rise;
        Some((self.held_for(now), self.damper.deaths())).filter(|(time, _)| passes && !time.is_zero())
    }

    /// Ends the hold, since no other backend is up.
    pub(crate) fn release(&mut self, now: Duration) -> Option<HealthChange> {
        self.held(now)?;
        let reason = format!("{}; it is not held back any longer, since no other is up", passed(self.run));
        Some(self.change(Health::Up, now, reason))
    }

    fn held_for(&self, now: Duration) -> Duration {
        self.damper.hold().saturating_sub(now.saturating_sub(self.run_since))
    }

    fn count(&mut self, kind: VerdictKind, now: Duration, deaf: bool) {
        if self.last == Some(kind) {
            self.run = self.run.saturating_add(1);
        } else {
            (self.last, self.run, self.run_since) = (Some(kind), 1, now);
        }
        self.since_silence = self.since_silence.saturating_add(1);
        self.was_probed |= kind != VerdictKind::Inconclusive;
        match kind {
            VerdictKind::Pass => (self.bad, self.unheard, self.answered) = (0, 0, Some(now)),
            VerdictKind::Fail => {
                (self.bad, self.unheard, self.answered) = (self.bad.saturating_add(1), 0, Some(now));
            }
            VerdictKind::Unreachable | VerdictKind::Silent => {
                if self.unheard == 0 {
                    self.unheard_since = now;
                }
                self.unheard = self.unheard.saturating_add(1);
                self.since_silence = 0;
                self.bad = if deaf { 0 } else { self.bad.saturating_add(1) };
            }
            VerdictKind::Inconclusive => (self.bad, self.unheard) = (0, 0),
        }
    }

    fn change(&mut self, to: Health, now: Duration, reason: String) -> HealthChange {
        let from = self.health;
        match to {
            Health::Down => {
                let hard = self.last == Some(VerdictKind::Fail) && self.run >= self.fall;
                self.evidence = if hard { Evidence::Hard } else { Evidence::Soft };
                if from != Health::Down {
                    (self.before, self.convicted) = (from, false);
                }
                if hard && !self.convicted {
                    self.damper.died(now);
                }
            }
            Health::Up => self.damper.came_back(now),
            Health::Unknown => {}
        }
        if from != to {
            self.changed = now;
        }
        self.health = to;
        HealthChange { from, to, reason }
    }
}

fn passed(probes: u32) -> String {
    if probes == 1 { "1 probe passed".to_owned() } else { format!("{probes} probes in a row passed") }
}

fn reason(kind: VerdictKind, needed: u32, detail: &str) -> String {
    let probes = if needed == 1 { "1 probe".to_owned() } else { format!("{needed} probes in a row") };
    match kind {
        VerdictKind::Pass => passed(needed),
        VerdictKind::Fail | VerdictKind::Unreachable | VerdictKind::Silent => format!("{probes} failed: {detail}"),
        VerdictKind::Inconclusive => format!("{probes} could not be made: {detail}"),
    }
}
