//! States of slots, records and packets that a row measures.

use edge_common::abi::FlowCount;

use super::frames::Shape;

/// The state that the packets of a row find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The service is stable: the slot's owner is alive and takes new flows, and no flow is recorded.
    Steady,
    /// The service is in transition, but `look` is clear in the flow's slot.
    Unconcerned,
    /// Packets look further than the slot, and find no record of the flow; the slot's owner is its pick.
    NoRecord,
    /// The flow is recorded, and its backend is alive.
    RecordRead,
    /// As `RecordRead`, in a table in which other records came and went meanwhile.
    RecordAged,
    /// The flow starts, and is recorded at the pick, which is not the owner.
    RecordedAtNew,
    /// The flow runs, and is recorded at the owner, which is not the pick.
    RecordedAtOwner,
    /// The flow starts while the pick is not the owner, but there is no room for a record.
    NoRoom,
    /// As `NoRoom`, with a dead owner: the flow's backend becomes the owner.
    OwnerTakenOver,
    /// As `Steady`; packets have a VLAN tag.
    Vlan,
    /// As `Steady`; packets have an extension header.
    Extension,
    /// No backend is left.
    Reject,
    TtlExceeded,
    TooBig,
    Echo,
    IcmpError,
    NotOurs,
    /// The first fragment of a packet, which is remembered for later ones.
    FirstFragment,
    /// A later fragment whose first one was not seen.
    Fragment,
    Malformed,
    /// A tunnel packet at the decapsulating end.
    Decapsulated,
    NotTunnel,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Unconcerned => "unconcerned",
            Self::NoRecord => "no_record",
            Self::RecordRead => "record_read",
            Self::RecordAged => "record_aged",
            Self::RecordedAtNew => "recorded_at_new",
            Self::RecordedAtOwner => "recorded_at_owner",
            Self::NoRoom => "no_room",
            Self::OwnerTakenOver => "owner_taken_over",
            Self::Vlan => "vlan",
            Self::Extension => "extension",
            Self::Reject => "reject",
            Self::TtlExceeded => "ttl_exceeded",
            Self::TooBig => "too_big",
            Self::Echo => "echo",
            Self::IcmpError => "icmp_error",
            Self::NotOurs => "not_ours",
            Self::FirstFragment => "first_fragment",
            Self::Fragment => "fragment",
            Self::Malformed => "malformed",
            Self::Decapsulated => "decapsulated",
            Self::NotTunnel => "not_tunnel",
        }
    }

    pub(super) const fn shape(self) -> Shape {
        match self {
            Self::Vlan => Shape::Tagged,
            Self::Extension => Shape::Extended,
            Self::TtlExceeded => Shape::LastHop,
            Self::TooBig => Shape::Long,
            Self::FirstFragment => Shape::FirstFragment,
            Self::Fragment => Shape::Fragment,
            Self::Malformed => Shape::CutOff,
            _ => Shape::Plain,
        }
    }

    /// Whether packets reach the choice of a service's backend, even if there is none.
    pub(super) const fn is_forwarded(self) -> bool {
        match self {
            Self::Steady
            | Self::Unconcerned
            | Self::NoRecord
            | Self::RecordRead
            | Self::RecordAged
            | Self::RecordedAtNew
            | Self::RecordedAtOwner
            | Self::NoRoom
            | Self::OwnerTakenOver
            | Self::Vlan
            | Self::Extension
            | Self::FirstFragment
            | Self::Reject
            | Self::TtlExceeded
            | Self::TooBig => true,
            Self::Echo
            | Self::IcmpError
            | Self::NotOurs
            | Self::Fragment
            | Self::Malformed
            | Self::Decapsulated
            | Self::NotTunnel => false,
        }
    }

    pub(super) const fn is_answered(self) -> bool {
        matches!(self, Self::Reject | Self::TtlExceeded | Self::TooBig | Self::Echo)
    }

    /// Counts of flow records per packet; packets of stable slots have none.
    pub(super) const fn counts(self) -> &'static [FlowCount] {
        match self {
            Self::NoRecord => &[FlowCount::Lookups],
            Self::RecordRead | Self::RecordAged => &[FlowCount::Lookups, FlowCount::Hits],
            Self::RecordedAtNew => &[FlowCount::Lookups, FlowCount::RecordedAtNew],
            Self::RecordedAtOwner => &[FlowCount::Lookups, FlowCount::RecordedAtOwner],
            Self::NoRoom => &[FlowCount::Lookups, FlowCount::KeptAtOwner],
            Self::OwnerTakenOver => &[FlowCount::Lookups, FlowCount::OwnerTakenOver],
            _ => &[],
        }
    }

    /// Whether packets may look records up in a stable service as well: a slot without an owner always makes them look
    /// further.
    pub(super) const fn may_look_up(self) -> bool {
        matches!(self, Self::Reject)
    }

    pub(super) const fn owners(self) -> Owners {
        match self {
            Self::RecordRead | Self::RecordAged | Self::RecordedAtNew | Self::RecordedAtOwner | Self::NoRoom => {
                Owners::Others
            }
            Self::OwnerTakenOver => Owners::Nobody,
            _ => Owners::Picks,
        }
    }

    pub(super) const fn records(self) -> Records {
        match self {
            Self::RecordRead => Records::Own,
            Self::RecordAged => Records::Aged,
            Self::NoRoom | Self::OwnerTakenOver => Records::Full,
            _ => Records::Free,
        }
    }

    /// Whether each packet leaves a record.
    pub(super) const fn records_flows(self) -> bool {
        matches!(self, Self::RecordedAtNew | Self::RecordedAtOwner)
    }

    /// Whether packets look further than the owners of their slots.
    pub(super) const fn looks(self) -> bool {
        !self.counts().is_empty()
    }

    /// Whether the state is one of a service in transition.
    pub(super) const fn is_transition(self) -> bool {
        matches!(self, Self::Unconcerned) || self.looks()
    }
}

/// The owners of the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owners {
    /// The slots' picks.
    Picks,
    /// Another backend than the pick.
    Others,
    Nobody,
}

/// The records in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// No records of the packets' flows; there is room.
    Free,
    /// A record of each of the packets' flows.
    Own,
    /// As `Own`, made while other records were made and removed.
    Aged,
    /// No records of the packets' flows; there is no room.
    Full,
}
