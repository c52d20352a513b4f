//! Evidence of a backend's health in the packets that pass, for the controller, which judges it.
//!
//! In `nat` the packets of both sides pass. A backend is *asked* by a packet that demands an answer (a SYN, a FIN, data
//! of TCP), and *heard* when any packet of it comes back. Both times are in the backend's own line, which a packet reads
//! in any case, and each is written at most twice a tick, so that processors do not take the line from each other:
//!
//! ```text
//! asked <= heard   nobody waits for the backend
//! asked >  heard   a client has waited since `asked`, and the backend has sent nothing to any client since
//! ```

use crate::{
    abi::{Backend, BackendNumber},
    hash::Hash,
    maps::Maps,
};

/// Binary logarithm of a tick in nanoseconds: a tick is 4.2 ms.
const TICK: u32 = 22;

/// A time in ticks, given nanoseconds of `CLOCK_MONOTONIC`; wraps after 208 days.
#[inline(always)]
pub const fn ticks(ns: u64) -> u32 {
    (ns >> TICK) as u32
}

/// Duration of so many ticks, in nanoseconds.
pub const fn tick_ns(ticks: u32) -> u64 {
    (ticks as u64) << TICK
}

impl Backend {
    /// Whether a client waits for an answer.
    #[inline(always)]
    pub const fn is_waited_for(&self) -> bool {
        self.asked.wrapping_sub(self.heard).cast_signed() > 0
    }
}

/// Notes that a client's packet demands an answer of `backend`.
#[inline(always)]
pub fn asks<M: Maps>(maps: &M, number: BackendNumber, backend: &Backend, now_ns: u64) {
    if backend.is_waited_for() {
        return;
    }
    // An answer of this tick was not yet one to this packet.
    let now = ticks(now_ns);
    let asked = if backend.heard == now { now.wrapping_add(1) } else { now };
    if backend.heard != now.wrapping_add(1) && backend.asked != asked {
        maps.set_asked(number, asked);
    }
}

/// Notes that a packet of `backend` has come back.
#[inline(always)]
pub fn hears<M: Maps>(maps: &M, number: BackendNumber, backend: &Backend, now_ns: u64) {
    let now = ticks(now_ns);
    // Asked within this tick, after another answer: see above.
    let heard = if backend.asked.wrapping_sub(now) == 1 { backend.asked } else { now };
    if backend.heard != heard && backend.heard.wrapping_sub(now) != 1 {
        maps.set_heard(number, heard);
    }
}

/// The bit of a client in [`Evidence::repeaters`](crate::abi::Evidence), by the hash of its prefix.
#[inline(always)]
pub const fn client_bit(prefix: Hash) -> u64 {
    1 << (prefix.0 >> 58)
}
