//! The plan of a run: its length, the rates of changes, the room for records, and the broken rule.

/// Times of a run, virtual milliseconds. A controller looks once a second; the idle timeout is shorter than in life, so that
/// much happens in each.
pub(crate) const IDLE_TIMEOUT: u64 = 20_000;
pub(crate) const LEARN: u64 = 6_000;
pub(crate) const TICK: u64 = 1_000;
/// For how long records of flows are kept that are over, or of which nothing but the start was seen; and within which time
/// a flow that has started goes on.
pub(crate) const ENDED: u64 = 11_000;
pub(crate) const HANDSHAKE: u64 = 9_000;
/// For how long a flow that has just started keeps its record when the table is full.
pub(crate) const HALF_OPEN_KEPT: u64 = 3_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Packets, changes and looks.
    pub(crate) steps: u64,
    /// Records, a power of two.
    pub(crate) room: usize,
    /// Flows that may be recorded in a second as they start, and as many as they run. The real program keeps its own time,
    /// so that a run on both takes all or nothing.
    pub(crate) records_per_second: u32,
    /// How often a thousand events there is a change, a flood, a change that is undone before anybody looks, and a death of
    /// the controller.
    pub(crate) changes: u64,
    pub(crate) floods: u64,
    /// And how often somebody who knows a flow, but not its sequence numbers, sends a packet in its name.
    pub(crate) forgeries: u64,
    pub(crate) blinks: u64,
    pub(crate) deaths: u64,
    /// Whether there are times without any, in which services become stable.
    pub(crate) calms: bool,
    pub(crate) broken: Broken,
}

/// The rule that a run breaks, to see that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// Services with flows are configured without a flow table (`flow_table = false`).
    Stateless,
    /// Slots with a flow that could not be recorded are handed over like others.
    UnrecordedIgnored,
    /// A slot waits only since its pick became the pick of any slot.
    HandoverPerBackend,
    /// A slot moves as soon as it is looked at.
    HandoverAtOnce,
    /// All changes since the last look count as one.
    ChangesUncounted,
    /// Packets need not look at a slot of which flows are recorded.
    ClearedUnscanned,
    /// Packets look at slots only once the controller has seen them differ.
    LookedAtLate,
    /// Records are deleted before their flows' idle timeout.
    ExpiredEarly,
    /// The number of a removed backend is reused while records name it.
    NumberGivenAway,
}

impl Plan {
    /// Room for all records. Every other run is more upset.
    pub(crate) const fn roomy(seed: u64, steps: u64) -> Self {
        let (changes, blinks) = if seed.is_multiple_of(2) { (8, 3) } else { (4, 5) };
        Self {
            seed,
            steps,
            room: PLENTY,
            records_per_second: NO_LIMIT,
            changes,
            floods: 2,
            forgeries: 10,
            blinks,
            deaths: 1,
            calms: true,
            broken: Broken::Nothing,
        }
    }

    /// Room for `room` records, and floods that fill it.
    pub(crate) const fn tight(seed: u64, steps: u64, room: usize) -> Self {
        let plan = Self { floods: 10, ..Self::roomy(seed, steps) };
        // There is no map without any room.
        if room == 0 { Self { room: 1, records_per_second: 0, ..plan } } else { Self { room, ..plan } }
    }

    pub(crate) const fn broken(self, broken: Broken) -> Self {
        Self { broken, ..self }
    }

    /// Whether every flow can be recorded.
    pub(crate) const fn has_room(&self) -> bool {
        self.room == PLENTY && self.records_per_second == NO_LIMIT
    }
}

/// More records than there can be flows in an idle timeout.
pub(crate) const PLENTY: usize = 1 << 13;
/// More than there are packets in a second.
const NO_LIMIT: u32 = 1 << 30;
