//! The outcome of a packet.

use super::Decision;
use crate::abi::Exit;

/// The exit by which a packet left, and the egress interface if it left by
/// [`Verdict::Redirect`](crate::abi::Verdict::Redirect).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub exit: Exit,
    /// Interface index; 0 unless the packet was forwarded.
    pub egress: u32,
}

impl Decision {
    /// The decision about a packet that was translated and sent by the interface `egress`, to its backend or `back` to its client.
    #[inline(always)]
    pub const fn sent(egress: u32, back: bool, elsewhere: bool) -> Self {
        let flags = if back { Self::BACK } else { 0 } | if elsewhere { Self::ELSEWHERE } else { 0 };
        Self((egress as u64) << 32 | Self::SENT | flags)
    }

    /// The outcome, if the decision is [`Self::sent`].
    #[inline(always)]
    pub const fn outcome(self) -> Option<Outcome> {
        if self.0 & Self::SENT == 0 {
            return None;
        }
        let exit = match (self.0 & Self::BACK != 0, self.0 & Self::ELSEWHERE != 0) {
            (false, false) => Exit::NatTx,
            (false, true) => Exit::NatRedirect,
            (true, false) => Exit::NatReplyTx,
            (true, true) => Exit::NatReplyRedirect,
        };
        Some(Outcome { exit, egress: self.detail() })
    }
}

/// The egress interface of a packet that a function has sent on, or the decision about the packet: in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent(pub u64);

impl Sent {
    const SENT: u64 = 1 << 63;

    /// The egress interface.
    ///
    /// # Errors
    /// The decision about a packet that was not sent on.
    #[inline(always)]
    pub const fn egress(self) -> Result<u32, Decision> {
        if self.0 & Self::SENT == 0 { Err(Decision(self.0)) } else { Ok(self.0 as u32) }
    }
}

impl From<Result<u32, Decision>> for Sent {
    #[inline(always)]
    fn from(egress: Result<u32, Decision>) -> Self {
        match egress {
            Ok(egress) => Self(Self::SENT | u64::from(egress)),
            Err(Decision(decided)) => Self(decided & !Self::SENT),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_holds_either(egress: u32, exit in 0..Exit::COUNT, detail in 0u32..1 << 30) {
            prop_assert_eq!(Sent::from(Ok(egress)).egress(), Ok(egress));
            let decided = Decision::new(Exit::from_raw(exit), detail);
            prop_assert_eq!(Sent::from(Err(decided)).egress(), Err(decided));
        }
    }
}
