//! Rate limits per second, for all CPUs together.

use bytemuck::{Pod, Zeroable};

/// Rate limiter with one word for each [`RateLimited`] action: the second (nanoseconds of `CLOCK_MONOTONIC` over 2^30) in
/// the high half, and the number of actions in that second in the low half. CPUs change a word by compare-exchange.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RateLimiter(pub [u64; RateLimited::COUNT]);

/// An action that is limited to so many times a second, so that a flood can't cause any number of them.
///
/// Each action has a limit of its own: a flood that uses one up must not suppress another, least of all "too big", without
/// which path MTU discovery fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RateLimited {
    /// Recording a new flow.
    NewRecord,
    /// Recording an established flow.
    OwnerRecord,
    /// Sending a port unreachable.
    PortUnreachable,
    /// Sending a time exceeded.
    TimeExceeded,
    /// Sending a fragmentation needed or packet too big.
    TooBig,
    /// Sending a RST.
    Reset,
    /// Answering an echo request.
    EchoReply,
    /// Remembering where a first fragment went.
    FirstFragment,
}

impl RateLimited {
    pub const COUNT: usize = 8;
}

impl RateLimiter {
    /// The word after one more action at this time; `None` if this second's `limit` is used up.
    #[inline(always)]
    pub const fn after_one_more(word: u64, now_ns: u64, limit: u32) -> Option<u64> {
        let second = (now_ns >> 30) as u32;
        let count = if (word >> 32) as u32 == second { word as u32 } else { 0 };
        if count >= limit { None } else { Some((second as u64) << 32 | (count as u64 + 1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own() {
        const SECOND: u64 = 1 << 30;
        let mut word = 0;
        for second in [0, 1, 7, 1 << 32] {
            for nth in 0..3 {
                word = RateLimiter::after_one_more(word, second * SECOND + nth * 1000, 3).expect("one is left");
            }
            assert_eq!(RateLimiter::after_one_more(word, second * SECOND + SECOND - 1, 3), None);
            assert_eq!(RateLimiter::after_one_more(word, (second + 1) * SECOND, 0), None);
        }
    }
}
