//! Decisions about packets that are not forwarded.

use crate::{abi::Exit, wire::icmp::Message};

/// The exit of a packet that is not forwarded, before it is answered, with what the answer needs: in one word, which a
/// function takes in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision(pub u64);

impl Decision {
    /// Next to the exit, so that the word of an exit without detail is a small number, which takes one instruction.
    const PENDING: u64 = 1 << 8;
    const UNSERVED: u64 = 1 << 9;
    /// The decision on a packet whose path continues in the translation ([`pipeline::translate`](crate::pipeline::translate)).
    pub const HANDED_OVER: Self = Self(Self::HANDED_OVER_BIT | Exit::BadTables as u64);
    const HANDED_OVER_BIT: u64 = 1 << 10;
    const TO_SERVICE: u64 = 1 << 13;
    /// The bit of a translated packet that was sent; the detail is the egress interface. [`Self::BACK`]: to a client, not to a backend.
    /// [`Self::ELSEWHERE`]: the egress is not the ingress.
    pub(super) const SENT: u64 = 1 << 11;
    pub(super) const BACK: u64 = 1 << 12;
    pub(super) const ELSEWHERE: u64 = 1 << 14;

    /// [`Self::HANDED_OVER`] of a packet to a translated service. `bank` is the one that was published when the packet arrived.
    #[inline(always)]
    pub const fn to_service(service: u32, bank: u32) -> Self {
        Self(Self::HANDED_OVER.0 | Self::TO_SERVICE | ((service << 1 | bank & 1) as u64) << 32)
    }

    /// The service and the bank, if the decision is [`Self::to_service`].
    #[inline(always)]
    pub const fn service(self) -> Option<(u32, u32)> {
        if self.0 & Self::TO_SERVICE == 0 { None } else { Some((self.detail() >> 1, self.detail() & 1)) }
    }

    /// A decision with `detail`: the offset of the transport header of a packet to answer; the MTU for one that is too big;
    /// the offset of the protocol number in the IP packet for one whose protocol is unknown. `detail` is below 2^30.
    #[inline(always)]
    pub const fn new(exit: Exit, detail: u32) -> Self {
        let decided = Self((detail as u64) << 32 | exit as u64);
        if decided.answer().is_some() { Self(decided.0 | Self::PENDING) } else { decided }
    }

    /// The decision about a packet to a VIP, or to an address that may be one, that belongs to no service: it leaves by
    /// `exit` if the VIP is an address of the host. `bank` is the one that was published when the packet arrived.
    #[inline(always)]
    pub const fn unserved(exit: Exit, bank: u32) -> Self {
        Self(((bank & 1) as u64) << 32 | Self::PENDING | Self::UNSERVED | exit as u64)
    }

    /// The bank, if the decision is [`Self::unserved`].
    #[inline(always)]
    pub const fn unserved_in(self) -> Option<u32> {
        if self.0 & Self::UNSERVED != 0 { Some(self.detail() & 1) } else { None }
    }

    #[inline(always)]
    pub const fn is_handed_over(self) -> bool {
        self.0 & Self::HANDED_OVER_BIT != 0
    }

    /// Whether the translation may continue the packet's path: it was handed over, or belongs to no service.
    #[inline(always)]
    pub const fn goes_on(self) -> bool {
        self.0 & (Self::HANDED_OVER_BIT | Self::UNSERVED) != 0
    }

    /// Whether the decision is not final: an answer is due if it is permitted, or the packet is for no service.
    #[inline(always)]
    pub const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    #[inline(always)]
    pub const fn exit(self) -> Exit {
        Exit::from_raw(self.0 as u32 & 0xff)
    }

    #[inline(always)]
    pub const fn detail(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The answer to send to the packet, if any.
    #[inline(always)]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an exit is a line in `abi::exit`, and only an answered one has a second here"
    )]
    pub const fn answer(self) -> Option<AnswerKind> {
        match self.exit() {
            Exit::EchoReply => Some(AnswerKind::EchoReply),
            Exit::RejectReset | Exit::VipReset | Exit::NatNoFlow | Exit::NatBackendDown | Exit::NatExhausted => {
                Some(AnswerKind::Reset)
            }
            Exit::RejectUnreachable | Exit::VipUnreachable => Some(AnswerKind::Error(Message::PortUnreachable)),
            Exit::VipProtocol => Some(AnswerKind::Error(Message::ProtocolUnreachable)),
            Exit::TtlExceeded => Some(AnswerKind::Error(Message::TimeExceeded)),
            Exit::TooBig | Exit::NatTooBig => Some(AnswerKind::Error(Message::TooBig)),
            _ => None,
        }
    }
}

/// Kind of an answer that the edge sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    EchoReply,
    /// A TCP RST.
    Reset,
    /// An ICMP or ICMPv6 error.
    Error(Message),
}

impl From<Exit> for Decision {
    #[inline(always)]
    fn from(exit: Exit) -> Self {
        Self::new(exit, 0)
    }
}
