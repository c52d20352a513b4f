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
//! Time is counted in units of about a quarter of a second: the kernel's jiffies, shifted, which cost a packet nothing.
//! Of two CPUs one may be a unit ahead, and 32 bits of units wrap after 34 years: so ages are signed.

use bytemuck::{Pod, Zeroable};

/// How many kinds of flows have time-outs of their own.
pub const CLASSES: usize = 16;
/// How long an entry may be busy, in units; then who took it has lost it.
pub const ABANDONED: u32 = 40;
/// How long a closed flow and one that is half open keep their entries whatever comes, in units.
const CLOSED_KEPT: u32 = 8;
const HALF_OPEN_KEPT: u32 = 12;

/// The word: when a packet was seen last (32 bits), flags (8), time-out (8: stage and class), and which life it is (16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life(pub u64);

/// How far a flow is, as far as its client's packets show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    HalfOpen,
    Established,
    /// The client has sent a FIN.
    Closed,
    /// The client has sent a RST, or somebody in its name.
    Reset,
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

/// How long flows of each stage and class may be silent, in units; at `class * 4 + stage`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Timeouts(pub [u32; 4 * CLASSES]);

impl Stage {
    const ALL: [Self; 4] = [Self::HalfOpen, Self::Established, Self::Closed, Self::Reset];

    /// A closed flow's last ACKs leave it closed, but data comes from none that is: the FIN was not its own. A RST is
    /// believed until the flow goes on.
    #[inline(always)]
    pub const fn after(self, signal: Signal) -> Self {
        match (self, signal) {
            (_, Signal::Fin) | (Self::Closed, Signal::Bare) => Self::Closed,
            (_, Signal::Reset) => Self::Reset,
            (Self::HalfOpen | Self::Closed | Self::Reset, Signal::Syn) => Self::HalfOpen,
            (Self::Established, Signal::Syn) | (_, Signal::Bare | Signal::Data) => Self::Established,
        }
    }
}

impl Timeouts {
    /// Those of flows whose stages differ and whose classes don't, in units.
    pub const fn all([half_open, established, closed, reset]: [u32; 4]) -> Self {
        let mut timeouts = [0; 4 * CLASSES];
        let mut class = 0;
        while class < CLASSES {
            timeouts[4 * class] = half_open;
            timeouts[4 * class + 1] = established;
            timeouts[4 * class + 2] = closed;
            timeouts[4 * class + 3] = reset;
            class += 1;
        }
        Self(timeouts)
    }

    #[inline(always)]
    const fn of(&self, life: Life) -> u32 {
        self.0[(life.0 >> Life::TIMEOUT) as usize % (4 * CLASSES)]
    }
}

impl Life {
    const LIVE: u64 = 1 << 32;
    const BUSY: u64 = 1 << 33;
    const TENTATIVE: u64 = 1 << 34;
    /// Where stage and class are, and which life it is.
    const TIMEOUT: u32 = 40;
    const COUNT: u32 = 48;
    const STAGE: u64 = 3 << Self::TIMEOUT;

    pub const fn is_live(self) -> bool {
        self.0 & Self::LIVE != 0
    }

    pub const fn is_busy(self) -> bool {
        self.0 & Self::BUSY != 0
    }

    /// Whether nothing but a SYN was seen of the flow, whose answer the client must quote.
    pub const fn is_tentative(self) -> bool {
        self.0 & Self::TENTATIVE != 0
    }

    /// When a packet was seen last, in units.
    pub const fn seen(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub const fn stage(self) -> Stage {
        Stage::ALL[(self.0 >> Self::TIMEOUT & 3) as usize]
    }

    /// Whether it is the same life of the same flow, whenever it was seen and however far it is.
    #[inline(always)]
    pub const fn is_same(self, other: Self) -> bool {
        (self.0 ^ other.0) & (u64::MAX << Self::COUNT | Self::LIVE) == 0
    }

    /// For how long nothing was seen of it; 0 if another CPU has seen it in a time that is yet to come here.
    #[inline(always)]
    pub const fn age(self, now: u32) -> u32 {
        let age = now.wrapping_sub(self.seen()) as i32;
        if age < 0 { 0 } else { age.cast_unsigned() }
    }

    /// Whether anybody may take the entry: it is free, its flow was silent for its time-out, or who took it is gone.
    ///
    /// One unit more than the time-out: the first unit may have been nearly over.
    #[inline(always)]
    pub const fn is_gone(self, now: u32, timeouts: &Timeouts) -> bool {
        if self.is_live() {
            self.age(now) > timeouts.of(self).saturating_add(1)
        } else {
            !self.is_busy() || self.age(now) > ABANDONED
        }
    }

    /// How willingly the entry is taken when none is gone: closed flows go first, then half-open ones, of each the one that
    /// was silent for longest; 0: not at all.
    #[inline(always)]
    pub const fn weakness(self, now: u32) -> u32 {
        if !self.is_live() {
            return 0;
        }
        let (age, kept, rank) = match self.stage() {
            Stage::Established => return 0,
            Stage::Closed | Stage::Reset => (self.age(now), CLOSED_KEPT, 1 << 31),
            Stage::HalfOpen => (self.age(now), HALF_OPEN_KEPT, 0),
        };
        if age < kept { 0 } else { age | rank }
    }

    /// The next life, in the hands of whoever takes the entry now.
    #[inline(always)]
    pub const fn taken(self, now: u32) -> Self {
        Self(((self.0 >> Self::COUNT) + 1) << Self::COUNT | Self::BUSY | now as u64)
    }

    /// The life of a flow whose entry was taken for it.
    #[inline(always)]
    pub const fn born(self, stage: Stage, class: u8, tentative: bool) -> Self {
        let timeout = (class as u64 % CLASSES as u64) << 2 | stage as u64;
        let flags = if tentative { Self::LIVE | Self::TENTATIVE } else { Self::LIVE };
        Self(self.0 & !Self::BUSY | flags | timeout << Self::TIMEOUT)
    }

    /// Nobody's.
    #[inline(always)]
    pub const fn freed(self) -> Self {
        Self(self.0 >> Self::COUNT << Self::COUNT)
    }

    /// After another packet of the flow. What was seen does not become older.
    #[inline(always)]
    pub const fn seen_again(self, signal: Signal, now: u32) -> Self {
        let stage = self.stage().after(signal);
        let seen = if now.wrapping_sub(self.seen()) as i32 > 0 { now } else { self.seen() };
        let tentative = if matches!(stage, Stage::HalfOpen) { Self::TENTATIVE } else { 0 };
        let kept = self.0 & !(0xffff_ffff | Self::STAGE | Self::TENTATIVE);
        Self(kept | self.0 & tentative | (stage as u64) << Self::TIMEOUT | seen as u64)
    }
}
