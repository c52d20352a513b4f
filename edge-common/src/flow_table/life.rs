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
//! Time is counted in units of about a quarter of a second of `CLOCK_MONOTONIC` ([`units`]). Packets read a coarse clock
//! and user space a fine one, so that one of the two may be a unit ahead, and 32 bits of units wrap after 36 years: so ages
//! are signed.

use crate::abi::{FLOW_STATES as STATES, Limits, Timeouts, Tracking};

/// Binary logarithm of a unit in nanoseconds: a unit is 0.27 s.
pub const UNIT: u32 = 28;

/// Binary logarithm, in units, of the steps in which [`since`] counts: a step is 17 s.
const SINCE: u32 = 6;

/// How long an entry may be busy, in units, before its taker has lost it.
pub const ABANDONED: i32 = 40;
/// How long a closed flow and a half-open one keep their entries in any case, in units.
const CLOSED_KEPT: i32 = 8;
const HALF_OPEN_KEPT: i32 = 12;
/// Number of stages of a class.
const STAGES: usize = 8;
/// States without a class; the other states are the stages of each class.
const FREE: usize = 0;
const BUSY: usize = 1;
/// Timeouts, in units, of an entry that can be taken at once, and of one that is never taken.
const NONE: i32 = i32::MIN;
const NEVER: i32 = i32::MAX;

/// A time in units, given nanoseconds of `CLOCK_MONOTONIC`.
#[inline(always)]
pub const fn units(ns: u64) -> u32 {
    (ns >> UNIT) as u32
}

/// The time `now` as [`Served::since`](super::Served::since) has it.
#[inline(always)]
pub const fn since(now: u32) -> u16 {
    (now >> SINCE) as u16
}

/// Time that has passed since `since`, in units: at most a quarter of a minute too much; an age of more than twelve days wraps.
pub const fn age_of(since: u16, now: u32) -> u32 {
    (self::since(now).wrapping_sub(since) as u32) << SINCE
}

/// The life word: time of the last packet (32 bits), flags (8), state (8: stage and class), and number of the life (16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life(pub u64);

/// How far a flow has come. Where only its client's packets are seen, it has one of the first four stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    HalfOpen = 0,
    #[default]
    Established = 1,
    /// The client has sent a FIN; where both sides are seen, both have, and the backend was the first.
    Closed = 2,
    /// A side has sent a RST, or somebody else has in its name.
    Reset = 3,
    /// The backend has answered, and the client has not yet shown that it received the answer.
    Answered = 4,
    /// The client has sent a FIN, the backend has not.
    ClientClosed = 5,
    /// Both have sent a FIN, the client first.
    Finished = 6,
    /// The backend has sent a FIN, the client has not.
    BackendClosed = 7,
}

/// The kind of a packet, which changes the life of its flow's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Syn,
    /// An ACK of TCP without data.
    Bare,
    /// Data, or any packet of a protocol without such signs.
    Data,
    Fin,
    Reset,
}

/// How certain it is, when a flow is added, that it is a real one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Certainty {
    #[default]
    Certain = 0,
    /// Only its first packet was seen, which anybody can send: the next packet must quote what only the flow's client knows.
    Tentative = 1,
    /// One packet of it was seen, which anybody can send. As long as its slot is not handed over, the flow goes to the same
    /// backend without the entry, so until then other flows may take the entry.
    Once = 2,
}

/// Kind of flow with timeouts of its own, 1 to 7. The flows of a service have the class of its [`Tracking`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u8);

impl From<Tracking> for Class {
    #[inline(always)]
    fn from(tracking: Tracking) -> Self {
        Self(tracking as u8)
    }
}

impl Stage {
    /// All stages, in the order of their numbers.
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

    /// The stage after a packet of the client, where only the client's packets are seen. The last ACKs of a closed flow
    /// leave it closed, as do those by which the client receives what its backend still sends; data makes it established
    /// again, since a closed flow sends none: the FIN was forged, or the client begins a new connection. A RST is believed
    /// until the flow goes on.
    #[inline(always)]
    pub const fn after(self, signal: Signal) -> Self {
        match (self, signal) {
            (_, Signal::Fin) | (Self::Closed, Signal::Bare) => Self::Closed,
            (_, Signal::Reset) => Self::Reset,
            (Self::Established | Self::Closed, Signal::Syn) | (_, Signal::Bare | Signal::Data) => Self::Established,
            (_, Signal::Syn) => Self::HalfOpen,
        }
    }
}

impl Class {
    /// `None` for 0, which is no class, and for a number that is too large.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 || number as usize >= STATES / STAGES { None } else { Some(Self(number)) }
    }
}

impl Timeouts {
    /// Timeouts for the flows of services that may be silent for five minutes.
    pub const STANDARD: Self = Self::all(Self::of_idle(300_000_000_000));

    /// The timeouts of flows that may be silent for `ns` nanoseconds: half open, established, closed, reset. Flows of which
    /// only a SYN was seen, and those after a RST, are forgotten after ten seconds of silence. A flow whose client has sent
    /// a FIN is kept for 45 s: the client may have closed only its own side, and wait for the answer. For longer, closed
    /// flows would leave too little of a table of the default size at a site with 2,000 connections a second.
    pub const fn of_idle(ns: u64) -> [i32; 4] {
        const SHORT: u64 = 10_000_000_000;
        const ANSWER: u64 = 45_000_000_000;
        [rounded(SHORT), rounded(ns), rounded(if ns < ANSWER { ns } else { ANSWER }), rounded(SHORT)]
    }

    /// Timeouts with these for the first four stages, in units, in each class.
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

    /// The longer timeouts of the two for each state.
    #[must_use]
    pub fn longest(&self, other: &Self) -> Self {
        let mut longest = *self;
        for (longest, other) in longest.0.iter_mut().zip(&other.0) {
            longest.timeout = longest.timeout.max(other.timeout);
            longest.kept = longest.kept.max(other.kept);
        }
        longest
    }

    /// Replaces the timeouts of a class: half open, established, closed, reset.
    ///
    /// Adds one unit to each, since the first unit may have been nearly over when it was counted.
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
    /// Replaces the timeouts of one stage of a class, in nanoseconds: `timeout_ns` limits the flow's silence, and its entry
    /// is not taken within `kept_ns` in any case; with `None`, as long as the timeout.
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

/// `ns` nanoseconds in units, rounded up.
const fn rounded(ns: u64) -> i32 {
    let units = (ns >> UNIT) + 1;
    if units > NEVER as u64 / 2 { NEVER / 2 } else { units as i32 }
}

impl Life {
    /// The weakness of an entry that may be taken by any flow.
    pub const GONE: u32 = u32::MAX;
    const TENTATIVE: u64 = 1 << 32;
    const ONCE: u64 = 1 << 33;
    const DOUBTED: u64 = 1 << 34;
    /// Next below the state, so that both are read at once.
    const UNTOLD: u64 = 1 << (Self::STATE - 1);
    /// Lowest bits of the state and of the number of the life.
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

    /// Whether only a SYN was seen of the flow, so that its client must quote the answer.
    pub const fn is_tentative(self) -> bool {
        self.0 & Self::TENTATIVE != 0
    }

    /// Whether only one packet was seen of the flow, so that other flows may take its entry.
    #[inline(always)]
    pub const fn is_seen_once(self) -> bool {
        self.0 & Self::ONCE != 0
    }

    /// Whether packets with sequence numbers far from each other were seen of the flow, of which some are forged: it does
    /// not show which.
    #[inline(always)]
    pub const fn is_doubted(self) -> bool {
        self.0 & Self::DOUBTED != 0
    }

    /// The same life, but [`Self::is_doubted`] from now on.
    #[inline(always)]
    pub const fn doubted(self) -> Self {
        Self(self.0 | Self::DOUBTED)
    }

    /// Whether it is not known yet that the flow's backend was told the client's address.
    #[inline(always)]
    pub const fn is_untold(self) -> bool {
        self.0 & Self::UNTOLD != 0
    }

    /// Whether the flow is established, and nothing is left to be told to its backend.
    #[inline(always)]
    pub const fn is_settled(self) -> bool {
        self.0 >> (Self::STATE - 1) & 0xf == (Stage::Established as u64) << 1
    }

    /// The same life, [`Self::is_untold`] or not.
    #[inline(always)]
    pub const fn with_untold(self, untold: bool) -> Self {
        Self(if untold { self.0 | Self::UNTOLD } else { self.0 & !Self::UNTOLD })
    }

    /// The same life, but not [`Self::is_seen_once`].
    #[inline(always)]
    pub const fn certain(self) -> Self {
        Self(self.0 & !Self::ONCE)
    }

    /// Time of the last packet, in units.
    pub const fn seen(self) -> u32 {
        self.0 as u32
    }

    /// Class of the flow; `None` if the entry has no flow.
    pub const fn class(self) -> Option<Class> {
        Class::new((self.state() / STAGES) as u8)
    }

    #[inline(always)]
    pub const fn stage(self) -> Stage {
        Stage::ALL[self.state() % STAGES]
    }

    /// Whether both are the same life of the same flow, whatever the time of the last packet and the stage.
    #[inline(always)]
    pub const fn is_same(self, other: Self) -> bool {
        (self.0 ^ other.0) & (u64::MAX << Self::COUNT | Self::CLASS) == 0
    }

    /// How long the flow has been silent, in units; negative if another CPU has seen a packet at a time that is still ahead
    /// here.
    #[inline(always)]
    pub const fn age(self, now: u32) -> i32 {
        now.wrapping_sub(self.seen()).cast_signed()
    }

    /// Whether any flow may take the entry: it is free, its flow was silent for longer than its timeout, or its taker has
    /// lost it.
    #[inline(always)]
    pub const fn is_gone(self, now: u32, timeouts: &Timeouts) -> bool {
        self.age(now) > timeouts.0[self.state()].timeout
    }

    /// How readily the entry is taken: an entry that is gone first, then closed flows, then those seen once, and at last
    /// half-open ones, in each kind the longest silent first; 0 if the entry must not be taken.
    #[inline(always)]
    pub const fn weakness(self, now: u32, timeouts: &Timeouts) -> u32 {
        let (age, Limits { timeout, kept }) = (self.age(now), timeouts.0[self.state()]);
        // No flow is silent for years.
        let silent = age.cast_unsigned() & ((1 << 29) - 1);
        if age > timeout {
            Self::GONE
        } else if self.is_seen_once() {
            silent | 1 << 29
        } else if age < kept {
            0
        } else {
            // The stages of flows that have ended have this bit.
            silent | (self.state() as u32 & Stage::Closed as u32) << 29
        }
    }

    /// The entry's next life: busy, taken now.
    #[inline(always)]
    pub const fn taken(self, now: u32) -> Self {
        Self(((self.0 >> Self::COUNT) + 1) << Self::COUNT | (BUSY as u64) << Self::STATE | now as u64)
    }

    /// The life of a flow whose entry was taken for it.
    #[inline(always)]
    pub const fn born(self, stage: Stage, Class(class): Class, certainty: Certainty) -> Self {
        let state = (class as u64) << 3 | stage as u64;
        // The flags are in the order of [`Certainty`]'s numbers.
        let flags = (certainty as u64) << Self::TENTATIVE.ilog2();
        Self(self.0 & (u64::MAX << Self::COUNT | 0xffff_ffff) | state << Self::STATE | flags)
    }

    /// The same life of a free entry.
    #[inline(always)]
    pub const fn freed(self) -> Self {
        Self(self.0 >> Self::COUNT << Self::COUNT)
    }

    /// The life after another packet of the flow that changes nothing but the time, which never goes back.
    #[inline(always)]
    pub const fn renewed(self, now: u32) -> Self {
        let seen = if self.age(now) > 0 { now } else { self.seen() };
        Self(self.0 & !0xffff_ffff | seen as u64)
    }

    /// The life after another packet of the flow, which is at this stage now. It is not [`Self::is_untold`].
    #[inline(always)]
    pub const fn seen_again(self, stage: Stage, now: u32) -> Self {
        let seen = if self.age(now) > 0 { now } else { self.seen() };
        let tentative = if matches!(stage, Stage::HalfOpen) { Self::TENTATIVE } else { 0 };
        let kept = self.0 & (u64::MAX << Self::COUNT | Self::CLASS | Self::DOUBTED);
        Self(kept | self.0 & tentative | (stage as u64) << Self::STATE | seen as u64)
    }
}
