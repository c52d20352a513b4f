//! The plan of a run: its length, the rates of changes, the room for records, and the broken rule.

/// Times of a run, virtual milliseconds. A controller makes a pass once a second. The idle timeout is shorter than in
/// production, so that each one contains many events.
pub(crate) const IDLE_TIMEOUT: u64 = 20_000;
pub(crate) const LEARN: u64 = 6_000;
pub(crate) const TICK: u64 = 1_000;
/// How long records are kept of flows that were reset, or of which only the start was seen; and the time in which a
/// started flow sends its next packet.
pub(crate) const ENDED: u64 = 11_000;
pub(crate) const HANDSHAKE: u64 = 9_000;
/// How long a flow that has just started keeps its record in a full table, and one whose client has closed its side.
pub(crate) const HALF_OPEN_KEPT: u64 = 3_000;
pub(crate) const CLOSED_KEPT: u64 = 1_800;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Number of packets, changes and passes.
    pub(crate) steps: u64,
    /// Number of records, a power of two.
    pub(crate) room: usize,
    /// Limit of records per second, for starting and for running flows each. The real program uses its own clock, so a
    /// run on both sides has a limit of all or nothing.
    pub(crate) records_per_second: u32,
    /// Frequencies per thousand events: changes, floods, changes that are undone before the next pass, and deaths of
    /// the controller.
    pub(crate) changes: u64,
    pub(crate) floods: u64,
    /// Frequency of forged packets, whose sender knows a flow, but not its sequence numbers.
    pub(crate) forgeries: u64,
    pub(crate) blinks: u64,
    pub(crate) deaths: u64,
    /// Whether there are times without changes, in which services become stable.
    pub(crate) calms: bool,
    pub(crate) broken: Broken,
}

/// The rule that a run breaks, to check that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// Services with flows are configured without a flow table (`flow_table = false`).
    Stateless,
    /// Slots with unrecorded flows are handed over like others.
    UnrecordedIgnored,
    /// A slot waits only since its pick became the pick of any slot.
    HandoverPerBackend,
    /// A slot moves in the first pass.
    HandoverAtOnce,
    /// All changes since the last pass count as one.
    ChangesUncounted,
    /// `look` is cleared in slots with recorded flows.
    ClearedUnscanned,
    /// `look` is set only once the controller has seen that owner and pick differ.
    LookedAtLate,
    /// A publication sets `look` only in the slots of its rehearsal, not in those that get another pick.
    PublishedUnforeseen,
    /// Packets of a service go on reading a shared table after a change, until the next pass.
    SeparatedLate,
    /// Records are deleted before their flows' idle timeout.
    ExpiredEarly,
    /// The number of a removed backend is reused while records name it.
    NumberGivenAway,
    /// The record of a start counts before another packet has confirmed it.
    TentativeBelieved,
    /// A RST is believed whatever its sequence number.
    ResetBelieved,
    /// A SYN replaces the record of a running flow.
    StartReplaces,
}

impl Plan {
    /// Room for all records. Runs with even seeds have more changes.
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
        // A map needs at least one entry.
        if room == 0 { Self { room: 1, records_per_second: 0, ..plan } } else { Self { room, ..plan } }
    }

    /// As [`Self::roomy`], with many forged packets.
    pub(crate) const fn attacked(seed: u64, steps: u64) -> Self {
        Self { forgeries: 100, ..Self::roomy(seed, steps) }
    }

    pub(crate) const fn broken(self, broken: Broken) -> Self {
        Self { broken, ..self }
    }

    /// Whether every flow can be recorded.
    pub(crate) const fn has_room(&self) -> bool {
        self.room == PLENTY && self.records_per_second == NO_LIMIT
    }
}

/// More records than there are flows in an idle timeout.
pub(crate) const PLENTY: usize = 1 << 13;
/// More records than there are packets in a second.
const NO_LIMIT: u32 = 1 << 30;
