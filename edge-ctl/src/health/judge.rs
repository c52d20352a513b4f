//! Judges the cause of silence: the backends, their provider or this host. A backend that routers report as unreachable is
//! silent here.
//!
//! | silent | cause | consequence |
//! |---|---|---|
//! | few backends of a pool (the cap at most), and few of all others | these backends | they are out |
//! | more of a pool, but not all | unclear | they take no new flows, and keep their own, unless reported as unreachable |
//! | a whole pool, while another pool of its services answers | its provider | its backends are out: fail over |
//! | a whole pool, and no other pool answers | unclear | its backends take no new flows, and keep their own |
//!
//! Whether this host is the cause is judged before that, in [`deafness`](super::deafness).

use std::time::Duration;

use super::Machine;

/// When most of another pool that serves the same clients last answered, rightly or wrongly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// While none of these answering backends has lost a probe lately.
    pub well: Option<Duration>,
    /// The same, even if probes were lost in between.
    pub at_all: Option<Duration>,
}

/// Summary of the machines of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Probed backends.
    pub(super) members: u32,
    /// Backends that are down because of wrong answers.
    hard: u32,
    /// Backends that are down because of wrong answers, and gave one to their last probe.
    wrong: u32,
    /// Backends that are down because of silence.
    pub(super) silenced: u32,
    /// Backends whose last probe was lost, except those that are down because of wrong answers or answer at their own
    /// address.
    hushed: u32,
    /// The `hushed` backends except those that have been out for longer than a wave of silence takes.
    fresh: u32,
    /// Backends that are silent now, except those that are down because of wrong answers.
    pub(super) silent: u32,
    /// The `silent` backends that answer at their own address.
    silent_through_services: u32,
    /// Backends that are silent, were silent not long ago, or are out for silence.
    lately: u32,
    /// Backends that are out for silence, beyond doubt.
    out: u32,
    /// Backends that answer and are not down.
    answering: u32,
    /// Backends that can't be probed any more, for no reason of their own.
    pub(super) unprobed: u32,
    /// Backends that no packet can be sent to.
    pub(super) unreachable: u32,
    /// When the last of the `hushed` backends lost the first of its probes.
    hushed_since: Option<Duration>,
    /// When any backend last answered.
    answered: Option<Duration>,
    /// How long it takes to declare a backend of this pool down.
    pub fall_time: Duration,
    /// The answers of other pools of the pool's services.
    pub another: Heard,
}

impl Count {
    /// Adds a backend. `is_out` is whether it is out for silence, and `is_final` whether it has been for longer than a
    /// wave of silence takes. `unreachable` is whether no packet can be sent to it.
    pub(crate) fn add(&mut self, machine: &Machine, is_out: bool, is_final: bool, unreachable: bool) {
        let is_hard = machine.is_down_hard();
        // A backend that is down anyway is no witness of silence.
        let hushed_since = machine.hushed_since().filter(|_| !is_hard);
        self.members += 1;
        self.hard += u32::from(is_hard);
        self.wrong += u32::from(is_hard && machine.answers());
        self.silenced += u32::from(machine.is_silenced());
        let (is_hushed, is_heard_at_address) = (hushed_since.is_some(), machine.is_heard_at_address());
        let is_silent = machine.silent_since().is_some() && !is_hard;
        self.hushed += u32::from(is_hushed && !is_heard_at_address);
        self.fresh += u32::from(is_hushed && !is_heard_at_address && !is_final);
        self.silent += u32::from(is_silent);
        self.silent_through_services += u32::from(is_silent && is_heard_at_address);
        self.lately += u32::from(is_out || machine.was_silent_lately());
        self.out += u32::from(is_out);
        self.answering += u32::from((machine.answers() || is_heard_at_address) && !is_hard && !machine.is_silenced());
        self.unprobed += u32::from(machine.is_unprobed() && !unreachable);
        self.unreachable += u32::from(unreachable);
        self.hushed_since = self.hushed_since.max(hushed_since);
        self.answered = self.answered.max(machine.last_answer());
    }

    /// Whether there is no silence to judge.
    pub(crate) fn is_calm(&self) -> bool {
        self.silenced == 0 && self.lately == 0 && self.unprobed == 0
    }

    /// Whether there is silence whose cause is to be found.
    pub(crate) fn has_silence(&self) -> bool {
        self.silent > 0 || self.silenced > 0
    }

    /// Backends without wrong answers.
    pub(super) fn rest(&self) -> u32 {
        self.members - self.hard
    }

    /// Whether another backend of the pool has answered since this one fell silent.
    pub(crate) fn is_heard_after(&self, machine: &Machine) -> bool {
        self.answered > machine.hushed_since()
    }

    /// Whether more than this share of the pool was silent lately for no clear reason, maybe because of noise that
    /// affects all probes.
    fn is_noisy(&self, share: f64) -> bool {
        let (members, lately) = (self.members - self.out, self.lately - self.out);
        lately > 0 && lately > most(share, members)
    }

    /// The sum of all pools except `pool`.
    pub(crate) fn without(counts: &[Self], pool: usize) -> Self {
        let mut sum = Self::default();
        for (_, count) in counts.iter().enumerate().filter(|(position, _)| *position != pool) {
            sum.members += count.members;
            sum.lately += count.lately;
            sum.out += count.out;
        }
        sum
    }

    /// Since when nothing is heard from most of the pool; `None` while most of it answers.
    pub(super) fn hushed(&self) -> Option<Duration> {
        self.hushed_since.filter(|_| self.hushed * 2 > self.rest())
    }

    /// Whether the pool's silence is an old one: all of its silent backends have been out for long.
    pub(super) fn is_final(&self) -> bool {
        self.fresh == 0
    }

    /// Whether most of the pool answers wrongly.
    pub(super) fn is_wrong(&self) -> bool {
        self.wrong * 2 > self.members
    }

    /// Whether the silence since `hushed` concerns the pool and not this host, since another pool of its services is
    /// heard. A pool that loses some probes counts as heard only after the time in which one cause silences all.
    pub(super) fn is_explained(&self, hushed: Duration) -> bool {
        self.another.well > Some(hushed) || self.another.at_all > Some(hushed + self.fall_time)
    }

    /// Backends from which this host hears nothing, not even at their own address.
    pub(super) fn unheard(&self) -> u32 {
        self.silent - self.silent_through_services
    }

    /// Whether nothing is heard from most of the pool.
    pub(super) fn is_silent(&self) -> bool {
        self.unheard() * 2 > self.rest()
    }

    /// Whether at least half of the backends that are not down answer.
    pub(super) fn is_heard(&self) -> bool {
        let up = self.rest().saturating_sub(self.silenced);
        up > 0 && self.answering * 2 >= up
    }
}

/// The cause of the silence in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// No backend is down because of silence.
    Nobody,
    /// The silent backends.
    Backends,
    /// Something that the whole pool depends on.
    Provider,
    /// Unclear: a part of the pool, more than the cap, is silent.
    Many,
    /// Unclear: the whole pool is silent, and no other pool answers.
    All,
}

/// Judges the silence in a pool. `cap` is the share of the pool that silence may take out, and `others` is the sum of all
/// other pools.
pub(crate) fn blame(count: &Count, others: &Count, cap: f64) -> Blame {
    if count.silenced == 0 {
        return Blame::Nobody;
    }
    if count.lately <= most(cap, count.members) && count.lately < count.members && !others.is_noisy(cap) {
        return Blame::Backends;
    }
    match count.hushed_since {
        Some(hushed) if count.silenced == count.rest() && count.silent == count.silenced => {
            if count.another.well > Some(hushed) { Blame::Provider } else { Blame::All }
        }
        Some(_) | None => Blame::Many,
    }
}

/// Number of backends in `share` of a pool of `members`: at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number, from 0 to 1")]
fn most(share: f64, members: u32) -> u32 {
    ((share * f64::from(members)).floor() as u32).max(1)
}
