//! Rate limits: what a CPU may do only so many times a second.

use bytemuck::{Pod, Zeroable};

/// Limits how often a CPU does each [`RateLimited`] action in a second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RateLimiter(pub [Taken; RateLimited::COUNT]);

/// How often an action was taken in a second. Each action has a second of its own, so that a new one resets one word.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Taken {
    /// The second that is counted: nanoseconds of `CLOCK_MONOTONIC` over 2^30.
    pub second: u32,
    pub count: u32,
}

/// An action that is limited to so many times a second and CPU, so that a flood does not consume all of them.
///
/// Each has a limit of its own: what a flood makes of one kind must not use up another, least of all "too big", without
/// which path MTU discovery ends.
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
    /// Takes one of the `limit` actions of this second; false, and nothing taken, if none is left.
    #[inline(always)]
    pub const fn try_take(&mut self, action: RateLimited, now_ns: u64, limit: u32) -> bool {
        let second = (now_ns >> 30) as u32;
        let taken = &mut self.0[action as usize];
        if taken.second != second {
            *taken = Taken { second, count: 0 };
        }
        if taken.count >= limit {
            return false;
        }
        taken.count += 1;
        true
    }
}
