//! The health of one backend, from a row of probe results.

use std::time::Duration;

use super::{Evidence, Health, HealthChange, Verdict, damper::Damper};

/// The health of one backend.
///
/// ```text
///                 1 pass                      `fall` bad ones in a row
///   +---------+ -----------> +------+ ----------------------------------> +------+
///   | unknown |              |  up  |                                     | down |  soft, if one of them was silence;
///   +---------+ <----------- +------+ <---------------------------------- +------+  hard after `fall` wrong answers
///        |       `fall` inconclusive      `rise` passes in a row, and         ^
///        |             in a row             as many as damping wants          |
///        +--------------------------------------------------------------------+
///                                `fall` bad ones in a row
/// ```
///
/// In a row means that nothing else came between, an inconclusive probe neither: when this host has a fault of its own,
/// failures next to it are doubtful, too, and doubt keeps traffic flowing. Down has no way to unknown by probes: the last
/// evidence stands until there is better. When there is none at all any more, [`forget`](Self::forget) leads there from
/// everywhere; when the evidence is found to be none, [`pardon`](Self::pardon) leads back to where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    health: Health,
    /// Of a backend that is down.
    evidence: Evidence,
    /// Whether it is down for its silence beyond doubt.
    convicted: bool,
    /// What a backend that is down was before.
    before: Health,
    /// When its health last changed.
    changed: Duration,
    rise: u32,
    fall: u32,
    damper: Damper,
    last: Option<VerdictKind>,
    /// Verdicts of the kind `last` in a row. Stands still at its maximum.
    run: u32,
    /// When that row began.
    run_since: Duration,
    /// Wrong answers and silences in a row that count.
    bad: u32,
    /// Verdicts since the last silence. Stands still at its maximum.
    since_silence: u32,
    /// When it last answered anything.
    answered: Option<Duration>,
}

/// A verdict without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VerdictKind {
    Pass,
    Fail,
    Silent,
    Inconclusive,
}

impl Machine {
    /// A backend whose health an earlier daemon has left behind. `rise` and `fall` count probes; 0 counts as 1. `damping` is
    /// how long it is held back at most when it comes back.
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
            since_silence: u32::MAX,
            answered: None,
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
    }

    /// Whether it is down, and nobody has said so but its silence.
    pub(crate) fn is_silenced(&self) -> bool {
        self.health == Health::Down && self.evidence == Evidence::Soft
    }

    /// Whether it is so beyond doubt.
    pub(crate) fn is_convicted(&self) -> bool {
        self.is_silenced() && self.convicted
    }

    /// It is down for its own silence: this is a death, and what was doubtful before is none.
    pub(crate) fn convict(&mut self, now: Duration) {
        if self.is_silenced() && !self.convicted {
            self.convicted = true;
            self.damper.died(now);
        }
    }

    pub(crate) fn is_down_hard(&self) -> bool {
        self.health == Health::Down && self.evidence == Evidence::Hard
    }

    /// When its health last changed.
    pub(crate) fn changed(&self) -> Duration {
        self.changed
    }

    /// Since when nothing has been heard of it: its last probe was lost.
    pub(crate) fn hushed_since(&self) -> Option<Duration> {
        (self.last == Some(VerdictKind::Silent)).then_some(self.run_since)
    }

    /// Since when it has been silent: for as many probes as make it down, but one.
    pub(crate) fn silent_since(&self) -> Option<Duration> {
        let enough = self.fall.saturating_sub(1).max(1);
        self.hushed_since().filter(|_| self.run >= enough)
    }

    /// Whether a probe of it was lost not long ago: within twice as many as make it down.
    pub(crate) fn was_silent_lately(&self) -> bool {
        self.since_silence < self.fall.saturating_mul(2)
    }

    /// When it last answered anything, if nothing was lost lately.
    pub(crate) fn answered(&self) -> Option<Duration> {
        self.answered.filter(|_| !self.was_silent_lately())
    }

    /// Whether it answers again: as often as makes it up.
    pub(crate) fn answers(&self) -> bool {
        match self.last {
            Some(VerdictKind::Pass) => self.run >= self.rise,
            Some(VerdictKind::Fail) => true,
            Some(VerdictKind::Silent | VerdictKind::Inconclusive) | None => false,
        }
    }

    /// Whether it could not be probed, for as many probes as make it down, but one.
    pub(crate) fn is_unprobed(&self) -> bool {
        self.last == Some(VerdictKind::Inconclusive) && self.run >= self.fall.saturating_sub(1).max(1)
    }

    /// The last evidence is too old to be any: nothing is known.
    pub(crate) fn forget(&mut self, now: Duration, reason: &str) -> Option<HealthChange> {
        let from = self.health;
        (self.health, self.last, self.run, self.bad) = (Health::Unknown, None, 0, 0);
        (self.since_silence, self.answered, self.changed) = (u32::MAX, None, now);
        (from != Health::Unknown).then(|| HealthChange { from, to: Health::Unknown, reason: reason.to_owned() })
    }

    /// Its silence was not its own: it is what it was before, and is counted anew.
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

    /// Takes the next verdict; gives the change of health when it makes one. With `deaf` silence does not count: this host is
    /// to blame for it.
    pub(crate) fn observe(&mut self, verdict: &Verdict, now: Duration, deaf: bool) -> Option<HealthChange> {
        let (kind, detail) = match verdict {
            Verdict::Pass => (VerdictKind::Pass, ""),
            Verdict::Fail(why) => (VerdictKind::Fail, why.as_str()),
            Verdict::Silent(why) => (VerdictKind::Silent, why.as_str()),
            Verdict::Inconclusive(why) => (VerdictKind::Inconclusive, why.as_str()),
        };
        self.count(kind, now, deaf);
        let (enough, needed, to) = match (self.health, kind) {
            (Health::Unknown, VerdictKind::Pass) => (true, 1, Health::Up),
            (Health::Down, VerdictKind::Pass) => (self.run >= self.rise && !self.is_held(now), self.run, Health::Up),
            (Health::Unknown | Health::Up, VerdictKind::Fail | VerdictKind::Silent) => {
                (self.bad >= self.fall, self.fall, Health::Down)
            }
            (Health::Down, VerdictKind::Fail) => {
                (self.evidence == Evidence::Soft && self.run >= self.fall, self.fall, Health::Down)
            }
            (Health::Up, VerdictKind::Inconclusive) => (self.run >= self.fall, self.fall, Health::Unknown),
            (Health::Up, VerdictKind::Pass)
            | (Health::Down, VerdictKind::Silent | VerdictKind::Inconclusive)
            | (Health::Unknown, VerdictKind::Inconclusive) => return None,
        };
        enough.then(|| self.change(to, now, reason(kind, needed, detail)))
    }

    /// Whether its probes pass often enough for it to be up, and it is held back all the same.
    pub(crate) fn is_held(&self, now: Duration) -> bool {
        !self.held_for(now).is_zero()
    }

    /// How much longer it is held back although its probes pass, and after how many deaths.
    pub(crate) fn held(&self, now: Duration) -> Option<(Duration, u32)> {
        let passes = self.health == Health::Down && self.last == Some(VerdictKind::Pass) && self.run >= self.rise;
        Some((self.held_for(now), self.damper.deaths())).filter(|(time, _)| passes && !time.is_zero())
    }

    /// It is held back no longer: there is no other one.
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
        match kind {
            VerdictKind::Pass => (self.bad, self.answered) = (0, Some(now)),
            VerdictKind::Fail => (self.bad, self.answered) = (self.bad.saturating_add(1), Some(now)),
            VerdictKind::Silent => {
                self.since_silence = 0;
                self.bad = if deaf { 0 } else { self.bad.saturating_add(1) };
            }
            VerdictKind::Inconclusive => self.bad = 0,
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
        VerdictKind::Fail | VerdictKind::Silent => format!("{probes} failed: {detail}"),
        VerdictKind::Inconclusive => format!("{probes} could not be made: {detail}"),
    }
}
