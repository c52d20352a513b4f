//! Judges the cause of silence: the backends, their provider or this host.
//!
//! | silent | cause | consequence |
//! |---|---|---|
//! | few backends of a pool (the cap at most), and few of all others | these backends | they are out |
//! | more of a pool, but not all | unclear | they take no new flows, and keep their own |
//! | a whole pool, while another pool of its services answers | its provider | its backends are out: fail over |
//! | a whole pool, and no other pool answers | unclear | its backends take no new flows, and keep their own |
//! | most pools at once, or all backends and the references | this host | frozen: all keep their condition |

use std::time::Duration;

use super::Machine;

/// How long a deaf host that hears at least one pool, but not half of the pools, stays deaf.
const PATIENCE: Duration = Duration::from_secs(30);

/// Summary of the machines of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Probed backends.
    members: u32,
    /// Backends that are down because of wrong answers.
    hard: u32,
    /// Backends that are down because of silence.
    silenced: u32,
    /// Backends whose last probe was lost.
    hushed: u32,
    /// Backends that are silent now.
    silent: u32,
    /// Backends that are silent, were silent not long ago, or are out for silence.
    lately: u32,
    /// Backends that are out for silence, beyond doubt.
    out: u32,
    /// Backends that answer and are not down.
    answering: u32,
    /// Backends that could not be probed.
    unprobed: u32,
    /// Backends that no packet can be sent to.
    unreachable: u32,
    /// When the last of the `hushed` backends lost the first of its probes.
    hushed_since: Option<Duration>,
    /// How long it takes to declare a backend of this pool down.
    pub fall_time: Duration,
}

impl Count {
    pub(crate) fn add(&mut self, machine: &Machine, is_out: bool, unreachable: bool) {
        let hushed_since = machine.hushed_since();
        self.members += 1;
        self.hard += u32::from(machine.is_down_hard());
        self.silenced += u32::from(machine.is_silenced());
        self.hushed += u32::from(hushed_since.is_some());
        self.silent += u32::from(machine.silent_since().is_some());
        self.lately += u32::from(is_out || machine.was_silent_lately());
        self.out += u32::from(is_out);
        self.answering += u32::from(machine.answers() && !machine.is_down_hard() && !machine.is_silenced());
        self.unprobed += u32::from(machine.is_unprobed());
        self.unreachable += u32::from(unreachable);
        self.hushed_since = self.hushed_since.max(hushed_since);
    }

    /// Whether there is no silence to judge.
    pub(crate) fn is_calm(&self) -> bool {
        self.silenced == 0 && self.lately == 0 && self.unprobed == 0
    }

    /// Backends without wrong answers.
    fn rest(&self) -> u32 {
        self.members - self.hard
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
    fn hushed(&self) -> Option<Duration> {
        self.hushed_since.filter(|_| self.hushed * 2 > self.rest())
    }

    /// Whether most of the pool is silent.
    fn is_silent(&self) -> bool {
        self.silent * 2 > self.rest()
    }

    /// Whether at least half of the backends that are not down answer.
    fn is_heard(&self) -> bool {
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

/// Judges the silence in a pool. `cap` is the share of the pool that silence may take out, `others` is the sum of all
/// other pools, and `heard` returns whether one of them has answered after the given time.
pub(crate) fn blame(count: &Count, others: &Count, cap: f64, heard: impl FnOnce(Duration) -> bool) -> Blame {
    if count.silenced == 0 {
        return Blame::Nobody;
    }
    if count.lately <= most(cap, count.members) && count.lately < count.members && !others.is_noisy(cap) {
        return Blame::Backends;
    }
    match count.hushed_since {
        Some(hushed) if count.silenced == count.rest() && count.silent == count.silenced => {
            if heard(hushed) {
                Blame::Provider
            } else {
                Blame::All
            }
        }
        Some(_) | None => Blame::Many,
    }
}

/// Number of backends in `share` of a pool of `members`: at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number, from 0 to 1")]
fn most(share: f64, members: u32) -> u32 {
    ((share * f64::from(members)).floor() as u32).max(1)
}

/// Why this host is taken for the cause of silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deafness {
    /// This many pools fell silent within one fall time.
    Pools(u32),
    /// All backends and all references are silent.
    References,
    /// No packet can be sent to any backend.
    CutOff,
    /// Most probes could not be sent.
    Unable,
}

impl Deafness {
    /// The reason in words, for the operator.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Pools(pools) => format!("{pools} pools fell silent at once"),
            Self::References => "all backends are silent, and so are the reference targets".to_owned(),
            Self::CutOff => "nothing can be sent to any backend".to_owned(),
            Self::Unable => "most probes could not be made".to_owned(),
        }
    }
}

/// Whether this host is deaf, and why. `references` is whether the reference targets are silent; `None` if there are
/// none.
pub(crate) fn deafness(counts: &[Count], references: Option<bool>) -> Option<Deafness> {
    let sum = |of: fn(&Count) -> u32| counts.iter().map(of).sum::<u32>();
    let members = sum(|count| count.members);
    if members == 0 {
        return None;
    }
    if sum(|count| count.unreachable) == members {
        return Some(Deafness::CutOff);
    }
    if sum(|count| count.unprobed) * 2 > members {
        return Some(Deafness::Unable);
    }
    let silent = sum(|count| count.silent);
    if references == Some(true) && silent > 0 && silent == sum(Count::rest) {
        return Some(Deafness::References);
    }
    if !counts.iter().any(Count::is_silent) {
        return None;
    }
    // Pools are probed at different rates: when one pool is silent already, another one may have lost only its last
    // probe by then.
    let last = counts.iter().filter_map(Count::hushed).max()?;
    let (mut wave, mut others) = (0, 0);
    for count in counts.iter().filter(|count| count.rest() > 0) {
        match count.hushed() {
            Some(hushed) if hushed + count.fall_time >= last => wave += 1,
            // This pool fell silent earlier.
            Some(_) => {}
            None => others += 1,
        }
    }
    (wave > 1 && wave > others).then_some(Deafness::Pools(wave))
}

/// Whether a host that was deaf for `deaf_for` hears again: half of the pools answer, or one pool answers after
/// [`PATIENCE`]. If it was deaf because probes could not be sent, that must be over as well.
pub(crate) fn hears(counts: &[Count], why: Deafness, deaf_for: Duration) -> bool {
    let pools = counts.iter().filter(|count| count.rest() > count.silenced).count();
    let heard = counts.iter().filter(|count| count.is_heard()).count();
    let sum = |of: fn(&Count) -> u32| counts.iter().map(of).sum::<u32>();
    let members = sum(|count| count.members);
    match why {
        Deafness::CutOff if sum(|count| count.unreachable) == members => members == 0,
        Deafness::Unable if sum(|count| count.unprobed) * 2 > members => false,
        Deafness::CutOff | Deafness::Unable | Deafness::Pools(_) | Deafness::References => {
            heard * 2 >= pools || heard > 0 && deaf_for >= PATIENCE
        }
    }
}
