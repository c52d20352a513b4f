//! Whose fault is silence: the backend's, its provider's, or this host's?
//!
//! | who is silent | who is to blame | what follows |
//! |---|---|---|
//! | few backends of a pool, the cap at most, and few of all others | these | they are out |
//! | more, but not all | nobody knows | they take no new flows, and keep their own |
//! | all of a pool, while another one of its services answers | its provider | they are out: fail over |
//! | all of a pool, and no other is heard | nobody knows | as above |
//! | most pools at once, or all while the references are silent, too | this host | frozen: all is as it was before |

use std::time::Duration;

use super::Machine;

/// How long a host that hears one whole pool, and not half of them, goes on to doubt itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the machines of one pool say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// All that are probed.
    members: u32,
    /// Of these, those that are down since they answered wrongly.
    hard: u32,
    /// Those that are down since they were silent.
    silenced: u32,
    /// Those whose last probe was lost.
    hushed: u32,
    /// Those that are silent now.
    silent: u32,
    /// Those that are silent, or were not long ago, and those that are out for it.
    lately: u32,
    /// Those that are out for their silence: of these it is clear.
    out: u32,
    /// Those that answer and are not down.
    answering: u32,
    /// Those that could not be probed.
    unprobed: u32,
    /// Those that nothing can be sent to.
    unreachable: u32,
    /// When the last of these lost the first of its probes.
    hushed_since: Option<Duration>,
    /// How long it takes to find a backend of this pool down.
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

    /// Whether any silence is to be judged.
    pub(crate) fn is_calm(&self) -> bool {
        self.silenced == 0 && self.lately == 0 && self.unprobed == 0
    }

    /// Those that do not answer wrongly.
    fn rest(&self) -> u32 {
        self.members - self.hard
    }

    /// Whether more of it than this share was silent lately, and it is not clear why. It may be noise that all probes meet.
    fn is_noisy(&self, share: f64) -> bool {
        let (members, lately) = (self.members - self.out, self.lately - self.out);
        lately > 0 && lately > most(share, members)
    }

    /// The same of several pools, without this one.
    pub(crate) fn without(counts: &[Self], pool: usize) -> Self {
        let mut sum = Self::default();
        for (_, count) in counts.iter().enumerate().filter(|(position, _)| *position != pool) {
            sum.members += count.members;
            sum.lately += count.lately;
            sum.out += count.out;
        }
        sum
    }

    /// When nothing was heard any more of most of the pool.
    fn hushed(&self) -> Option<Duration> {
        self.hushed_since.filter(|_| self.hushed * 2 > self.rest())
    }

    /// Whether most of it is silent.
    fn is_silent(&self) -> bool {
        self.silent * 2 > self.rest()
    }

    /// Whether at least half of those answer that are not down.
    fn is_heard(&self) -> bool {
        let up = self.rest().saturating_sub(self.silenced);
        up > 0 && self.answering * 2 >= up
    }
}

/// Who is to blame for the silence in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// None is down for its silence.
    Nobody,
    /// Those that are silent.
    Backends,
    /// Whoever they have in common.
    Provider,
    /// A part of the pool, more than the cap: it is not clear.
    Many,
    /// The whole pool, and no other one is heard: it is not clear.
    All,
}

/// Judges the silence in a pool. `cap` is the share of it that silence may take out, `others` are all other pools together, and
/// `heard` says whether one of them has answered after a moment.
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

/// How many backends of a pool are `share` of it: at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number, from 0 to 1")]
fn most(share: f64, members: u32) -> u32 {
    ((share * f64::from(members)).floor() as u32).max(1)
}

/// Why this host believes that it is its own fault when nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deafness {
    /// So many pools fell silent within one fall time.
    Pools(u32),
    /// All backends are silent, and so are the references.
    References,
    /// Nothing can be sent to any backend.
    CutOff,
    /// Most probes could not be made.
    Unable,
}

impl Deafness {
    /// Why, for people.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Pools(pools) => format!("{pools} pools fell silent at once"),
            Self::References => "all backends are silent, and so are the reference targets".to_owned(),
            Self::CutOff => "nothing can be sent to any backend".to_owned(),
            Self::Unable => "most probes could not be made".to_owned(),
        }
    }
}

/// Whether this host is deaf. `references` says whether the reference targets are silent; `None` without any.
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
    // Not all are asked at the same pace: where one pool is silent already, of others only the last probe may be lost by now.
    let last = counts.iter().filter_map(Count::hushed).max()?;
    let (mut wave, mut others) = (0, 0);
    for count in counts.iter().filter(|count| count.rest() > 0) {
        match count.hushed() {
            Some(hushed) if hushed + count.fall_time >= last => wave += 1,
            // It was silent before.
            Some(_) => {}
            None => others += 1,
        }
    }
    (wave > 1 && wave > others).then_some(Deafness::Pools(wave))
}

/// Whether a host that was deaf for so long hears again: half of the pools, or one of them for long enough; and if it was not
/// by its ears that it was found to be deaf, that this is over.
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
