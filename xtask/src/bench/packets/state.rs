//! What packets meet on their way.

use edge_common::abi::FlowCount;

use super::frames::Shape;

/// What the packets of a row meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The service is stable: the slot's owner is alive, and the one that takes new flows, and no flow is recorded.
    Steady,
    /// The service is in transition, and this flow's slot is not concerned.
    Unconcerned,
    /// Packets look at the slot, and find no record of the flow: its owner is who takes new flows.
    NoRecord,
    /// The flow is recorded, and its backend alive.
    RecordRead,
    /// The same in a table in which others came and went meanwhile.
    RecordAged,
    /// The flow starts while another backend than the owner takes new flows, and is recorded there.
    RecordedAtNew,
    /// The flow runs while another backend than the owner takes new flows, and is recorded at the owner.
    RecordedAtOwner,
    /// The flow starts while another backend than the owner takes new flows; but there is no room for a record.
    NoRoom,
    /// The same, and the owner is dead: who takes the flow becomes the owner.
    OwnerTakenOver,
    /// As steady; packets come in a VLAN.
    Vlan,
    /// As steady; packets have an extension header.
    Extension,
    /// No backend is left.
    Reject,
    TtlExceeded,
    TooBig,
    Echo,
    IcmpError,
    NotOurs,
    /// The first fragment of a packet: the later ones are to follow it.
    FirstFragment,
    /// A later one, whose first one was not seen.
    Fragment,
    Malformed,
    /// At the other end of a tunnel.
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

    /// Whether packets get as far as a service's backend, or to where there is none.
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

    /// What each packet makes the program count of flow records; a stable slot's packets nothing.
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

    /// Whether packets may ask for records of a stable service, too: where nobody owns their slot, they look everywhere.
    pub(super) const fn may_ask(self) -> bool {
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

    /// Whether each packet leaves a record behind.
    pub(super) const fn records_flows(self) -> bool {
        matches!(self, Self::RecordedAtNew | Self::RecordedAtOwner)
    }

    /// Whether packets look further than at the owners of their slots.
    pub(super) const fn looks(self) -> bool {
        !self.counts().is_empty()
    }

    /// Whether it is about a service that is in transition.
    pub(super) const fn is_transition(self) -> bool {
        matches!(self, Self::Unconcerned) || self.looks()
    }
}

/// Who owns the slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owners {
    /// Who takes their new flows.
    Picks,
    /// Another backend.
    Others,
    Nobody,
}

/// Which records there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Records {
    /// None of the flows that packets are of; there is room.
    Free,
    /// One of each flow that packets are of.
    Own,
    /// The same, made while others were made and removed.
    Aged,
    /// None of these flows; there is no room.
    Full,
}
