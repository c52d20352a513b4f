//! Judges whether this host is itself the cause of silence: it is deaf, cut off or cannot probe. Health is frozen then.
//!
//! | silent | also known | judged |
//! |---|---|---|
//! | two pools or more, within one fall time, and more than answer | | deaf |
//! | the same | another pool of a silent pool's services was heard since | that pool's silence is its provider's |
//! | the same | a reference target has answered since | not deaf |
//! | all backends | all reference targets are silent as well | deaf |
//! | | nothing can be sent to any backend | deaf |
//! | | most probes can't be made any more, and no pool whose probes are all made is heard | deaf |
//!
//! A backend that answers at its own address is heard, even if its services' probes are lost: this host is not deaf to it.
//!
//! A deaf host hears again when half of the pools answer, when one pool has answered for [`PATIENCE`], or when one of
//! the reasons above excludes deafness. A pool that is still silent then does not count towards another wave until it
//! has answered.

use std::time::Duration;

use super::Count;

/// How long a deaf host stays deaf if it hears at least one pool, but not half of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reason to regard this host as the cause of silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deafness {
    /// This many pools fell silent within one fall time.
    Pools(u32),
    /// All backends and all references are silent.
    References,
    /// No packet can be sent to any backend.
    CutOff,
    /// Most probes could not be made.
    Unable,
}

impl Deafness {
    /// The reason in words, for the operator.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Pools(pools) => format!("{pools} pools fell silent at once"),
            Self::References => "all backends are silent, and so are the reference targets".to_owned(),
            Self::CutOff => "no backend is reachable".to_owned(),
            Self::Unable => "most probes could not be made".to_owned(),
        }
    }
}

/// Results of the reference targets that could be probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Whether there are reference targets, and none of them answers.
    pub are_silent: bool,
    /// Time of the last answer of any of them.
    pub answered: Option<Duration>,
}

/// Whether this host is deaf, and why. `thawed` is the end of its last deafness.
pub(crate) fn deafness(counts: &[Count], references: References, thawed: Option<Duration>) -> Option<Deafness> {
    let sum = |of: fn(&Count) -> u32| counts.iter().map(of).sum::<u32>();
    let members = sum(|count| count.members);
    if members == 0 {
        return None;
    }
    if sum(|count| count.unreachable) == members {
        return Some(Deafness::CutOff);
    }
    if is_unable(counts) {
        return Some(Deafness::Unable);
    }
    let silent = sum(Count::unheard);
    if references.are_silent && silent > 0 && silent == sum(Count::rest) {
        return Some(Deafness::References);
    }
    // Pools are probed at different rates: when one pool is silent already, another one may have lost only its last
    // probe by then.
    if !counts.iter().any(Count::is_silent) {
        return None;
    }
    let wave = Wave::of(counts, references, thawed);
    wave.is_of_this_host().then_some(Deafness::Pools(wave.pools))
}

/// Whether this host lacks what it needs to probe. A pool that it probes and hears shows that it does not: then the cause
/// is in the other probes.
fn is_unable(counts: &[Count]) -> bool {
    let sum = |of: fn(&Count) -> u32| counts.iter().map(of).sum::<u32>();
    let is_well = |count: &Count| count.unprobed == 0 && count.is_heard();
    sum(|count| count.unprobed) * 2 > sum(|count| count.members) && !counts.iter().any(is_well)
}

/// Pools that fell silent together, and the evidence against this host as the cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wave {
    /// Pools that fell silent within one fall time.
    pools: u32,
    /// Pools that answer, rightly or wrongly.
    others: u32,
    /// Silent pools while another pool of their services answers.
    explained: u32,
    /// Whether a reference target has answered since the last pool fell silent.
    is_refuted: bool,
}

impl Wave {
    /// The last wave of silence. Pools that were silent before `thawed` are excluded, since they were part of a freeze
    /// already.
    fn of(counts: &[Count], references: References, thawed: Option<Duration>) -> Self {
        let is_new = |count: &Count, hushed: Duration| !count.is_final() && Some(hushed) > thawed;
        let unexplained = |count: &Count| {
            let hushed = count.hushed()?;
            (is_new(count, hushed) && !count.is_explained(hushed)).then_some(hushed)
        };
        let last = counts.iter().filter_map(unexplained).max();
        let mut wave = Self { is_refuted: last.is_some() && references.answered > last, ..Self::default() };
        for count in counts {
            match count.hushed() {
                None => wave.others += u32::from(count.rest() > 0 || count.is_wrong()),
                Some(hushed) if !is_new(count, hushed) => {}
                Some(hushed) if count.is_explained(hushed) => wave.explained += 1,
                Some(hushed) if Some(hushed + count.fall_time) >= last => wave.pools += 1,
                // This pool fell silent earlier.
                Some(_) => {}
            }
        }
        wave
    }

    fn is_of_this_host(&self) -> bool {
        !self.is_refuted && self.pools > 1 && self.pools > self.others + self.explained
    }
}

/// Whether a host that was deaf for `deaf_for` hears again; `thawed` is the end of its previous deafness. If it was
/// deaf because probes could not be sent, that must be over as well.
pub(crate) fn hears(
    counts: &[Count],
    references: References,
    thawed: Option<Duration>,
    why: Deafness,
    deaf_for: Duration,
) -> bool {
    let pools = counts.iter().filter(|count| count.rest() > count.silenced).count();
    let heard = counts.iter().filter(|count| count.is_heard()).count();
    let is_any_heard = heard > 0 || counts.iter().any(Count::is_wrong);
    let sum = |of: fn(&Count) -> u32| counts.iter().map(of).sum::<u32>();
    let members = sum(|count| count.members);
    let is_refuted = match why {
        Deafness::CutOff if sum(|count| count.unreachable) == members => return members == 0,
        Deafness::Unable if is_unable(counts) => return false,
        Deafness::CutOff | Deafness::Unable => false,
        Deafness::References => references.answered.is_some(),
        Deafness::Pools(_) => {
            let wave = Wave::of(counts, references, thawed);
            (wave.is_refuted || wave.explained > 0) && !wave.is_of_this_host()
        }
    };
    is_refuted || heard * 2 >= pools || is_any_heard && deaf_for >= PATIENCE
}
