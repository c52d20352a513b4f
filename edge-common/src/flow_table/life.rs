//! The life of an entry: one word, and how it changes.
//!
//! ```text
//!            taken                 filled
//!   free ------------> busy ------------------> half open, established, closed, reset
//!    ^   <------------                                  |  (see `Stage::after`)
//!    |     given back          forgotten, removed       |
//!    +--------------------------------------------------+--> busy: taken, when it is gone or under pressure
//! ```
//!
//! Time is counted in units of about a quarter of a second of `CLOCK_MONOTONIC` ([`units`]), which packets read coarsely and user
//! space finely. One of them may be a unit ahead, and 32 bits of units wrap after 36 years: so ages are signed.

use crate::abi::{FLOW_STATES as STATES, Limits, Timeouts, Tracking};

/// Nanoseconds of a unit are two to this power: 0.27 s.
pub const UNIT: u32 = 28;

/// The same of the units that it is told in when a flow was added: 17 s of each of them.
const SINCE: u32 = 6;

/// How long an entry may be busy, in units; then who took it has lost it.
pub const ABANDONED: i32 = 40;
/// How long a closed flow and one that is half open keep their entries whatever comes, in units.
const CLOSED_KEPT: i32 = 8;
const HALF_OPEN_KEPT: i32 = 12;
/// Stages of a class.
const STAGES: usize = 8;
/// States: these two, and from the first class on each stage of each class.
const FREE: usize = 0;
const BUSY: usize = 1;
/// Of an entry that waits for nobody, and of one that is never taken, in units.
const NONE: i32 = i32::MIN;
const NEVER: i32 = i32::MAX;

/// A time in units, given nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub const fn units(ns: u64) -> u32 {
    (ns >> UNIT) as u32
}

/// [`Served::since`](super::Served::since) of a time.
#[inline(always)]
pub const fn since(now: u32) -> u16 {
    (now >> SINCE) as u16
}

/// How long ago that was, in units: a quarter of a minute too much at most, and of what is older than twelve days less.
pub const fn age_of(since: u16, now: u32) -> u32 {
    (self::since(now).wrapping_sub(since) as u32) << SINCE
}

/// The word: when a packet was seen last (32 bits), flags (8), state (8: stage and class), and which life it is (16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life(pub u64);

/// How far a flow is. Where only its client's packets are seen, it has one of the first four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    HalfOpen = 0,
    #[default]
    Established = 1,
    /// The client has sent a FIN; where both sides are seen, both have, and the backend was the first.
    Closed = 2,
    /// A RST was sent, or by somebody in the name of a side.
    Reset = 3,
    /// The backend has answered, and the client has not shown yet that it has heard.
    Answered = 4,
    /// The client has sent a FIN, the backend has not.
    ClientClosed = 5,
    /// Both have, the client first.
    Finished = 6,
    /// The backend has sent a FIN, the client has not.
    BackendClosed = 7,
}

/// What a packet shows of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Syn,
    /// Of TCP an ACK without data.
    Bare,
    /// Data, or any packet of a protocol that shows nothing.
    Data,
    Fin,
    Reset,
}

/// How certain it is that a flow is one, when it is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Certainty {
    #[default]
    Certain = 0,
    /// Nothing but its start was seen, which anybody can send: the next packet must quote what only the flow's client knows.
    Tentative = 1,
    /// One packet of it was seen, which anybody can send, and without its entry it goes where it goes now, too, as long as its slot
    /// is not handed over: so long its entry is there for others, too.
    Once = 2,
}

/// Kinds of flows that have limits of their own: 1 to 7. Flows of a service are of its [`Tracking`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u8);

impl From<Tracking> for Class {
    #[inline(always)]
    fn from(tracking: Tracking) -> Self {
        Self(tracking as u8)
    }
}

impl Stage {
    /// As they are numbered.
    pub const ALL: [Self; STAGES] = [
        Self::HalfOpen,
        Self::Established,
        Self::Closed,
        Self::Reset,
        Self::Answered,
        Self::ClientClosed,
        Self::Finished,
        Self::BackendClosed,
    ];

    /// Whether the flow is over.
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Reset | Self::Finished)
    }

    /// After a packet of the client, where only those are seen. A closed flow's last ACKs leave it closed, but data comes from none that is: the FIN was not its own. A RST is
    /// believed until the flow goes on.
    #[inline(always)]
    pub const fn after(self, signal: Signal) -> Self {
        match (self, signal) {
            (_, Signal::Fin) | (Self::Closed, Signal::Bare) => Self::Closed,
            (_, Signal::Reset) => Self::Reset,
            (Self::Established, Signal::Syn) | (_, Signal::Bare | Signal::Data) => Self::Established,
            (_, Signal::Syn) => Self::HalfOpen,
        }
    }
}

impl Class {
    /// `None` for 0, which is no flow's, and for what is too large.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 || number as usize >= STATES / STAGES { None } else { Some(Self(number)) }
    }
}

impl Timeouts {
    /// Of the flows of services: those that have ended, and those that nothing but a SYN was seen of, are forgotten after ten
    /// seconds of silence, others after five minutes.
    pub const STANDARD: Self = Self::all(Self::of_idle(300_000_000_000));

    /// The time-outs of flows that may be silent for so many nanoseconds.
    pub const fn of_idle(ns: u64) -> [i32; 4] {
        const SHORT: u64 = 10_000_000_000;
        [rounded(SHORT), rounded(ns), rounded(SHORT), rounded(SHORT)]
    }

    /// The time-outs of each stage, in units, the same of all classes.
    pub const fn all(stages: [i32; 4]) -> Self {
        let mut timeouts = Self([Limits { timeout: NEVER, kept: NEVER }; STATES]);
        timeouts.0[FREE].timeout = NONE;
        timeouts.0[BUSY].timeout = ABANDONED;
        let mut class = 1;
        while class < (STATES / STAGES) as u8 {
            timeouts = timeouts.with(Class(class), stages);
            class += 1;
        }
        timeouts
    }

    /// Of each state the longer ones.
    #[must_use]
    pub fn longest(&self, other: &Self) -> Self {
        let mut longest = *self;
        for (longest, other) in longest.0.iter_mut().zip(&other.0) {
            longest.timeout = longest.timeout.max(other.timeout);
            longest.kept = longest.kept.max(other.kept);
        }
        longest
    }

    /// With other time-outs of a class: half open, established, closed, reset.
    ///
    /// One unit more: the first unit may have been nearly over when it was counted.
    #[must_use]
    pub const fn with(mut self, Class(class): Class, stages: [i32; 4]) -> Self {
        let mut stage = 0;
        while stage < stages.len() {
            let kept = [HALF_OPEN_KEPT, NEVER, CLOSED_KEPT, CLOSED_KEPT][stage];
            self.0[STAGES * class as usize + stage] = Limits { timeout: stages[stage].saturating_add(1), kept };
            stage += 1;
        }
        self
    }
}

impl Timeouts {
    /// With other time-outs of a class in one stage, nanoseconds: how long such a flow may be silent, and how long its entry is its
    /// own whatever comes; `None`: as long.
    #[must_use]
    pub const fn with_stage(
        mut self,
        Class(class): Class,
        stage: Stage,
        timeout_ns: u64,
        kept_ns: Option<u64>,
    ) -> Self {
        let timeout = rounded(timeout_ns).saturating_add(1);
        let kept = match kept_ns {
            Some(ns) => rounded(ns),
            None => NEVER,
        };
        self.0[STAGES * class as usize + stage as usize] = Limits { timeout, kept };
        self
    }
}

/// So many nanoseconds in units, rounded up.
const fn rounded(ns: u64) -> i32 {
    let units = (ns >> UNIT) + 1;
    if units > NEVER as u64 / 2 { NEVER / 2 } else { units as i32 }
}

impl Life {
    /// The weakness of what anybody may take.
    pub const GONE: u32 = u32::MAX;
    const TENTATIVE: u64 = 1 << 32;
    const ONCE: u64 = 1 << 33;
    /// Where state and count are.
    const STATE: u32 = 40;
    const COUNT: u32 = 48;
    const CLASS: u64 = 7 << (Self::STATE + 3);

    pub const fn is_live(self) -> bool {
        self.0 & Self::CLASS != 0
    }

    pub const fn is_busy(self) -> bool {
        self.state() == BUSY
    }

    #[inline(always)]
    const fn state(self) -> usize {
        (self.0 >> Self::STATE) as usize % STATES
    }

    /// Whether nothing but a SYN was seen of the flow, whose answer the client must quote.
    pub const fn is_tentative(self) -> bool {
        self.0 & Self::TENTATIVE != 0
    }

    /// Whether one packet was seen of the flow, and its entry is for others, too.
    #[inline(always)]
    pub const fn is_seen_once(self) -> bool {
        self.0 & Self::ONCE != 0
    }

    /// The same, but certain.
    #[inline(always)]
    pub const fn certain(self) -> Self {
        Self(self.0 & !Self::ONCE)
    }

    /// When a packet was seen last, in units.
    pub const fn seen(self) -> u32 {
        self.0 as u32
    }

    /// Kind of flow; `None` of who is none.
    pub const fn class(self) -> Option<Class> {
        Class::new((self.state() / STAGES) as u8)
    }

    #[inline(always)]
    pub const fn stage(self) -> Stage {
        Stage::ALL[self.state() % STAGES]
    }

    /// Whether it is the same life of the same flow, whenever it was seen and however far it is.
    #[inline(always)]
    pub const fn is_same(self, other: Self) -> bool {
        (self.0 ^ other.0) & (u64::MAX << Self::COUNT | Self::CLASS) == 0
    }

    /// For how long nothing was seen of it; below 0 if another CPU has seen it in a time that is yet to come here.
    #[inline(always)]
    pub const fn age(self, now: u32) -> i32 {
        now.wrapping_sub(self.seen()).cast_signed()
    }

    /// Whether anybody may take the entry: it is free, its flow was silent for its time-out, or who took it is gone.
    #[inline(always)]
    pub const fn is_gone(self, now: u32, timeouts: &Timeouts) -> bool {
        self.age(now) > timeouts.0[self.state()].timeout
    }

    /// How willingly the entry is taken: at once if it is gone, then closed flows, those that were seen once, and at last half-open
    /// ones, of each the one that was silent for longest; 0: not at all.
    #[inline(always)]
    pub const fn weakness(self, now: u32, timeouts: &Timeouts) -> u32 {
        let (age, Limits { timeout, kept }) = (self.age(now), timeouts.0[self.state()]);
        // Nobody is silent for years.
        let silent = age.cast_unsigned() & ((1 << 29) - 1);
        if age > timeout {
            Self::GONE
        } else if self.is_seen_once() {
            silent | 1 << 29
        } else if age < kept {
            0
        } else {
            // The stages that are over have this bit.
            silent | (self.state() as u32 & Stage::Closed as u32) << 29
        }
    }

    /// The next life, in the hands of whoever takes the entry now.
    #[inline(always)]
    pub const fn taken(self, now: u32) -> Self {
        Self(((self.0 >> Self::COUNT) + 1) << Self::COUNT | (BUSY as u64) << Self::STATE | now as u64)
    }

    /// The life of a flow whose entry was taken for it.
    #[inline(always)]
    pub const fn born(self, stage: Stage, Class(class): Class, certainty: Certainty) -> Self {
        let state = (class as u64) << 3 | stage as u64;
        // As they are numbered.
        let flags = (certainty as u64) << Self::TENTATIVE.ilog2();
        Self(self.0 & (u64::MAX << Self::COUNT | 0xffff_ffff) | state << Self::STATE | flags)
    }

    /// Nobody's.
    #[inline(always)]
    pub const fn freed(self) -> Self {
        Self(self.0 >> Self::COUNT << Self::COUNT)
    }

    /// After another packet of the flow, which is at this stage now. What was seen does not become older.
    #[inline(always)]
    pub const fn seen_again(self, stage: Stage, now: u32) -> Self {
        let seen = if self.age(now) > 0 { now } else { self.seen() };
        let tentative = if matches!(stage, Stage::HalfOpen) { Self::TENTATIVE } else { 0 };
        let kept = self.0 & (u64::MAX << Self::COUNT | Self::CLASS);
        Self(kept | self.0 & tentative | (stage as u64) << Self::STATE | seen as u64)
    }
}
