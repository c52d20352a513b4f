//! What packets meet on their way.

use super::frames::Shape;

/// What the packets of a row meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The slot's owner is alive, and the one that takes new flows.
    Steady,
    /// Each SYN finds that another backend takes new flows, and makes it the owner.
    OwnerMoved,
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
            Self::OwnerMoved => "owner_moved",
            Self::Vlan => "vlan",
            Self::Extension => "extension",
            Self::Reject => "reject",
            Self::TtlExceeded => "ttl_exceeded",
            Self::TooBig => "too_big",
            Self::Echo => "echo",
            Self::IcmpError => "icmp_error",
            Self::NotOurs => "not_ours",
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
            Self::Fragment => Shape::Fragment,
            Self::Malformed => Shape::CutOff,
            _ => Shape::Plain,
        }
    }

    /// Whether packets get as far as a service's backend, or to where there is none.
    pub(super) const fn is_forwarded(self) -> bool {
        match self {
            Self::Steady
            | Self::OwnerMoved
            | Self::Vlan
            | Self::Extension
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
}
