//! Rate limits: what a CPU may do only so many times a second.

use bytemuck::{Pod, Zeroable};

/// Limits how often a CPU does each [`RateLimited`] action in a second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct RateLimiter {
    /// The second that is counted: nanoseconds of `CLOCK_MONOTONIC` over 2^30.
    pub second: u64,
    /// How often each action was taken in it.
    pub taken: [u32; RateLimited::COUNT],
}

/// An action that is limited to so many times a second and CPU, so that a flood does not consume all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RateLimited {
    /// Recording a new flow.
    NewRecord,
    /// Recording an established flow.
    OwnerRecord,
    /// Sending an ICMP or ICMPv6 error.
    Error,
}

impl RateLimited {
    /// One more than there are: the size is a multiple of eight bytes.
    pub const COUNT: usize = 4;
}

impl RateLimiter {
    /// Takes one of the `limit` actions of this second; false, and nothing taken, if none is left.
    #[inline(always)]
    pub const fn try_take(&mut self, action: RateLimited, now_ns: u64, limit: u32) -> bool {
        let second = now_ns >> 30;
        if self.second != second {
            *self = Self { second, taken: [0; RateLimited::COUNT] };
        }
        let taken = match action {
            RateLimited::NewRecord => &mut self.taken[0],
            RateLimited::OwnerRecord => &mut self.taken[1],
            RateLimited::Error => &mut self.taken[2],
        };
        if *taken >= limit {
            return false;
        }
        *taken += 1;
        true
    }
}
