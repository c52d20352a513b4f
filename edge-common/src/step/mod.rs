//! Values that the steps of the packet path pass to each other: the location of a flow, the result of a step, how a packet
//! leaves.

mod decision;
mod outcome;

pub use self::{
    decision::{AnswerKind, Decision},
    outcome::{Outcome, Sent},
};
use crate::abi::{BackendNumber, Exit, Mode, ServiceRef};

/// The result of a subprogram, in one word; [`Step`] is its readable form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepResult(pub u64);

/// The result of a subprogram: what happens to the packet next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The packet is not forwarded to a backend.
    Leave(Decision),
    /// The packet is forwarded to a backend.
    Forward(Chosen),
    /// A backend is to be selected for the flow at a location.
    Select(FlowLocation),
    /// A backend is to be chosen, given the flow's record.
    Choose(Seen),
    /// The packet goes to a backend, after a change of its flow's record.
    Change(Change),
    /// The packet is translated, and goes to its flow's backend or client.
    Translate(Translate),
}

/// The way in which a packet is translated.
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of a word")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translate {
    /// Number of the flow's entry.
    pub entry: u32,
    /// Whether the packet goes from the backend to the client.
    pub back: bool,
    /// Whether the packet starts the flow.
    pub starts: bool,
    /// Whether the packet becomes one of the other IP version.
    pub crosses: bool,
    /// Whether the packet is to tell its backend the client's address.
    pub tells: bool,
}

/// A service and its backend for one packet. Its fields are words, as the eBPF stack aligns them.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Service number; below 2^16.
    pub service: u32,
    /// Twenty bits by which an outer header identifies the flow.
    pub label: u32,
    pub backend: BackendNumber,
    /// Whether the packet starts a flow.
    pub starts: bool,
    pub mode: Mode,
}

impl Chosen {
    #[inline(always)]
    pub const fn new(service_ref: ServiceRef, backend: BackendNumber, label: u32, starts: bool) -> Self {
        Self { service: service_ref.service(), label, backend, starts, mode: service_ref.mode() }
    }
}

/// A change of a flow's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub what: What,
    /// The backend that the packet goes to.
    pub to: BackendNumber,
    /// The slot's owner, to which the packet goes if the record can't be changed; 0 if the owner is dead, and `to` becomes
    /// the owner instead.
    pub owner: BackendNumber,
    /// Whether the owner takes no new flows any more, and does not get them even when there is no room for records.
    pub has_left: bool,
    /// Whether the packet starts a flow.
    pub starts: bool,
}

/// A kind of change of a flow's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// Adds a record to a flow that has none.
    Add = 0,
    /// Changes the backend of a record whose backend does not serve the flow any more.
    Move = 1,
    /// Removes a record whose backend does not serve the flow any more.
    Remove = 2,
    /// Marks the slot, since the flow can't be recorded: the flow has a record of a start that the packet does not belong
    /// to. Either of the two may be forged, so the record stays as it is.
    Mark = 3,
}

/// The content of the flow table for a packet's flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The backend of the flow's record; 0 if there is no record.
    pub backend: BackendNumber,
    /// Whether the packet shows that the flow is established, but not that it started as in its record. Such a record does
    /// not count.
    pub is_forged: bool,
}

/// Where in a frame a flow can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLocation {
    pub relation: FlowRelation,
    /// Offset of the network header; below 256.
    pub l3: usize,
    /// Offset of the transport header; below 2^14.
    pub l4: usize,
    pub protocol: u8,
    /// The bank of the maps that was published when the packet arrived.
    pub bank: u32,
    /// Whether the packet starts a flow, as far as that shows without its service.
    pub starts: bool,
    /// Whether the network header is an IPv6 header.
    pub v6: bool,
}

/// How a packet is related to the flow that is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FlowRelation {
    /// A packet of the flow.
    Whole,
    /// The first fragment of a packet of the flow.
    FirstFragment,
    /// An ICMP error that quotes an answer from the flow's backend to the client.
    IcmpQuote,
    /// An ICMP error that quotes a packet of the flow inside a tunnel packet of this edge.
    TunnelQuote,
}

impl StepResult {
    const TO: u64 = 1 << 63;
    const CHOOSE: u64 = 1 << 62;
    const STARTS: u64 = 1 << 61;
    const V6: u64 = 1 << 60;
    /// The flow's record is needed to choose a backend.
    pub const LOOK_UP: Self = Self(Self::CHOOSE);
    /// Marks a record. It is above the bits that a location uses for its offsets.
    const SEEN: u64 = 1 << 58;
    const FORGED: u64 = 1 << 57;
    /// Bits of a change.
    const HAS_LEFT: u64 = 1 << 60;
    const IPIP: u64 = 1 << 59;
    const GUE: u64 = 1 << 57;
    const TRANSLATE: u64 = 1 << 58;
    const BACK: u64 = 1 << 60;
    /// Next above the entry's number.
    const CROSSES: u64 = 1 << 32;
    const TELLS: u64 = 1 << 33;

    #[inline(always)]
    pub const fn step(self) -> Step {
        if self.0 & Self::TO != 0 && self.0 & Self::CHOOSE != 0 {
            return Step::Change(self.change());
        }
        if self.0 & Self::CHOOSE != 0 && self.0 & Self::SEEN != 0 {
            return Step::Choose(Seen { backend: self.0 as u16, is_forged: self.0 & Self::FORGED != 0 });
        }
        if self.0 & Self::TO != 0 && self.0 & Self::TRANSLATE != 0 {
            return Step::Translate(self.translate());
        }
        if self.0 & Self::TO != 0 {
            return Step::Forward(self.chosen());
        }
        if self.0 & Self::CHOOSE != 0 { Step::Select(self.location()) } else { Step::Leave(Decision(self.0)) }
    }

    #[inline(always)]
    pub const fn chosen(self) -> Chosen {
        Chosen {
            service: (self.0 >> 16) as u32 & 0xffff,
            mode: match self.0 & (Self::IPIP | Self::GUE) {
                Self::IPIP => Mode::Ipip,
                0 => Mode::Dsr,
                Self::GUE => Mode::Gue,
                _ => Mode::IpipRange,
            },
            backend: self.0 as u16,
            label: (self.0 >> 32) as u32 & 0xf_ffff,
            starts: self.0 & Self::STARTS != 0,
        }
    }

    #[inline(always)]
    pub const fn change(self) -> Change {
        Change {
            what: match self.0 >> 32 & 3 {
                0 => What::Add,
                1 => What::Move,
                2 => What::Remove,
                _ => What::Mark,
            },
            to: self.0 as u16,
            owner: (self.0 >> 16) as u16,
            has_left: self.0 & Self::HAS_LEFT != 0,
            starts: self.0 & Self::STARTS != 0,
        }
    }

    #[inline(always)]
    pub const fn translate(self) -> Translate {
        let Self(word) = self;
        Translate {
            entry: word as u32,
            back: word & Self::BACK != 0,
            starts: word & Self::STARTS != 0,
            crosses: word & Self::CROSSES != 0,
            tells: word & Self::TELLS != 0,
        }
    }

    #[inline(always)]
    pub const fn location(self) -> FlowLocation {
        FlowLocation {
            relation: match self.0 >> 32 & 3 {
                1 => FlowRelation::FirstFragment,
                2 => FlowRelation::IcmpQuote,
                3 => FlowRelation::TunnelQuote,
                _ => FlowRelation::Whole,
            },
            l3: self.0 as usize & 0xff,
            l4: (self.0 >> 16) as usize & 0x3fff,
            protocol: (self.0 >> 8) as u8,
            bank: (self.0 >> 34) as u32 & 1,
            starts: self.0 & Self::STARTS != 0,
            v6: self.0 & Self::V6 != 0,
        }
    }

    const fn flag(is: bool, flag: u64) -> u64 {
        if is { flag } else { 0 }
    }
}

impl From<Decision> for StepResult {
    #[inline(always)]
    fn from(Decision(out): Decision) -> Self {
        Self(out & (Self::CHOOSE - 1))
    }
}

impl From<Exit> for StepResult {
    #[inline(always)]
    fn from(exit: Exit) -> Self {
        Decision::from(exit).into()
    }
}

impl From<Chosen> for StepResult {
    #[inline(always)]
    fn from(Chosen { service, label, backend, starts, mode }: Chosen) -> Self {
        let mode = match mode {
            Mode::Ipip => Self::IPIP,
            Mode::Gue => Self::GUE,
            Mode::IpipRange => Self::IPIP | Self::GUE,
            Mode::Dsr | Mode::Nat => 0,
        };
        let flags = Self::TO | Self::flag(starts, Self::STARTS) | mode;
        let (label, service) = (u64::from(label & 0xf_ffff), u64::from(service & 0xffff));
        Self(flags | label << 32 | service << 16 | u64::from(backend))
    }
}

impl From<Translate> for StepResult {
    #[inline(always)]
    fn from(Translate { entry, back, starts, crosses, tells }: Translate) -> Self {
        let flags = Self::flag(back, Self::BACK)
            | Self::flag(starts, Self::STARTS)
            | Self::flag(crosses, Self::CROSSES)
            | Self::flag(tells, Self::TELLS);
        Self(Self::TO | Self::TRANSLATE | flags | u64::from(entry))
    }
}

impl From<Seen> for StepResult {
    #[inline(always)]
    fn from(Seen { backend, is_forged }: Seen) -> Self {
        Self(Self::CHOOSE | Self::SEEN | Self::flag(is_forged, Self::FORGED) | u64::from(backend))
    }
}

impl From<Change> for StepResult {
    #[inline(always)]
    fn from(Change { what, to, owner, has_left, starts }: Change) -> Self {
        let flags = Self::TO | Self::CHOOSE | Self::flag(has_left, Self::HAS_LEFT) | Self::flag(starts, Self::STARTS);
        Self(flags | (what as u64) << 32 | u64::from(owner) << 16 | u64::from(to))
    }
}

impl From<FlowLocation> for StepResult {
    #[inline(always)]
    fn from(FlowLocation { relation, l3, l4, protocol, bank, starts, v6 }: FlowLocation) -> Self {
        let flags = Self::CHOOSE | Self::flag(starts, Self::STARTS) | Self::flag(v6, Self::V6);
        let word = u64::from(bank & 1) << 34 | (relation as u64) << 32 | (l4 as u64 & 0x3fff) << 16;
        Self(flags | word | u64::from(protocol) << 8 | l3 as u64 & 0xff)
    }
}

impl Seen {
    const KNOWN: u64 = 1 << 17;
    const FORGED: u64 = 1 << 16;

    /// The record in one word; 0 if it is not known.
    #[inline(always)]
    pub const fn word(seen: Option<Self>) -> u64 {
        match seen {
            Some(Self { backend, is_forged }) => {
                Self::KNOWN | if is_forged { Self::FORGED } else { 0 } | backend as u64
            }
            None => 0,
        }
    }

    #[inline(always)]
    pub const fn from_word(word: u64) -> Option<Self> {
        if word & Self::KNOWN == 0 {
            return None;
        }
        Some(Self { backend: word as u16, is_forged: word & Self::FORGED != 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_hold_what_was_put_in(
            service in 0u32..1 << 16, backend: u16, label in 0u32..1 << 20, starts: bool,
            detail in 0u32..1 << 30, exit in 0..Exit::COUNT,
        ) {
            for mode in Mode::ALL.into_iter().filter(|mode| *mode != Mode::Nat) {
                let chosen = Chosen { service, label, backend, starts, mode };
                prop_assert_eq!(StepResult::from(chosen).step(), Step::Forward(chosen));
            }
            let decided = Decision::new(Exit::from_raw(exit), detail);
            prop_assert_eq!(StepResult::from(decided).step(), Step::Leave(decided));
            prop_assert_eq!((decided.exit() as u32, decided.detail()), (exit, detail));
        }

        #[test]
        fn a_decision_says_what_it_is_of(service in 0u32..1 << 16, bank in 0u32..2, egress: u32, back: bool, elsewhere: bool) {
            let to = Decision::to_service(service, bank);
            prop_assert_eq!((to.service(), to.outcome(), to.is_handed_over()), (Some((service, bank)), None, true));
            prop_assert!(to.goes_on() && !to.is_pending() && Decision::unserved(Exit::NotOurs, bank).goes_on());
            let sent = Decision::sent(egress, back, elsewhere);
            let exits = [[Exit::NatTx, Exit::NatRedirect], [Exit::NatReplyTx, Exit::NatReplyRedirect]];
            let exit = exits[usize::from(back)][usize::from(elsewhere)];
            prop_assert_eq!((sent.outcome(), sent.service()), (Some(Outcome { exit, egress }), None));
            prop_assert!(!sent.goes_on() && !sent.is_pending() && sent.unserved_in().is_none());
            for other in [Decision::from(Exit::NoRoom), Decision::HANDED_OVER, Decision::unserved(Exit::NotOurs, bank)] {
                prop_assert_eq!((other.outcome(), other.service()), (None, None));
            }
        }

        #[test]
        fn changes_and_what_leads_to_them_are_packed_whole(
            to: u16, owner: u16, has_left: bool, starts: bool, crosses: bool, tells: bool,
        ) {
            for what in [What::Add, What::Move, What::Remove, What::Mark] {
                let change = Change { what, to, owner, has_left, starts };
                prop_assert_eq!(StepResult::from(change).step(), Step::Change(change));
            }
            let seen = Seen { backend: to, is_forged: starts };
            prop_assert_eq!(StepResult::from(seen).step(), Step::Choose(seen));
            let translate =
                Translate { entry: u32::from(to) << 16 | u32::from(owner), back: has_left, starts, crosses, tells };
            prop_assert_eq!(StepResult::from(translate).step(), Step::Translate(translate));
            for seen in [None, Some(seen)] {
                prop_assert_eq!(Seen::from_word(Seen::word(seen)), seen);
            }
        }

        #[test]
        fn places_are_packed_whole(
            l3 in 0usize..256, l4 in 0usize..1 << 14, protocol: u8, bank in 0u32..2, starts: bool, v6: bool,
        ) {
            for relation in [FlowRelation::Whole, FlowRelation::FirstFragment, FlowRelation::IcmpQuote, FlowRelation::TunnelQuote] {
                let location = FlowLocation { relation, l3, l4, protocol, bank, starts, v6 };
                prop_assert_eq!(StepResult::from(location).step(), Step::Select(location));
                prop_assert_eq!(StepResult::from(location).location(), location);
            }
        }
    }
}
