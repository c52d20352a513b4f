//! Evidence of a backend's health in the packets that pass, for the controller, which judges it.
//!
//! In `nat` the packets of both sides pass. A backend is *asked* by a packet that demands an answer (a SYN, a FIN, data
//! of TCP), and *heard* when any packet of it comes back, which answers for all clients. Both are noted in the backend's
//! own line, which a packet reads in any case. At most one question a tick is noted, so that processors do not take the line
//! from each other:
//!
//! ```text
//! heard == asked   nobody waits for the backend
//! heard != asked   a client has waited since `asked`, and the backend has sent nothing to any client since
//! ```
//!
//! A question that is not noted, since another one was noted and answered in its tick, is asked again by its client.

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
        self.heard != self.asked
    }
}

/// Notes that a client's packet demands an answer of a backend for which nobody waits yet.
#[inline(always)]
pub fn asks<M: Maps>(maps: &M, number: BackendNumber, backend: &Backend, now_ns: u64) {
    let now = ticks(now_ns);
    if !backend.is_waited_for() && backend.asked != now {
        maps.set_asked(number, now);
    }
}

/// Notes that a packet of `backend` has come back.
#[inline(always)]
pub fn hears<M: Maps>(maps: &M, number: BackendNumber, backend: &Backend) {
    if backend.is_waited_for() {
        maps.set_heard(number, backend.asked);
    }
}

/// The bit of a client in [`Evidence::repeaters`](crate::abi::Evidence), by the hash of its prefix.
#[inline(always)]
pub const fn client_bit(prefix: Hash) -> u64 {
    1 << (prefix.0 >> 58)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{host::Memory, maps::PoolMaps as _};

    /// A packet of a client or of the backend, so many nanoseconds after the one before.
    #[derive(Clone, Copy, Debug)]
    enum Packet {
        Asks(u64),
        Answers(u64),
    }

    fn packets() -> impl Strategy<Value = Vec<Packet>> {
        let gap = prop_oneof![0..1_000_000_u64, 0..20_000_000_u64, Just(1 << 40)];
        let packet = prop_oneof![gap.clone().prop_map(Packet::Asks), gap.prop_map(Packet::Answers)];
        prop::collection::vec(packet, 0..60)
    }

    /// The maps with one backend, number 1.
    struct World {
        memory: Memory,
        writes: u32,
    }

    impl World {
        /// Makes the notes of the packet path those of the backend's line.
        fn take(&mut self) {
            let (asked, heard) = (self.memory.asked.take().remove(&1), self.memory.heard.take().remove(&1));
            self.writes += u32::from(asked.is_some()) + u32::from(heard.is_some());
            let backend = &mut self.memory.backends[1];
            (backend.asked, backend.heard) = (asked.unwrap_or(backend.asked), heard.unwrap_or(backend.heard));
        }

        fn backend(&self) -> Backend {
            *self.memory.backend(1).expect("it is there")
        }
    }

    proptest! {
        /// After an answer nobody waits; a question in a tick of its own is noted, with its time, unless somebody
        /// waits already; and no tick has more than two writes.
        #[test]
        fn a_client_waits_from_its_question_to_any_answer(packets in packets(), start in any::<u32>()) {
            let mut memory = Memory::default();
            memory.backends = vec![Backend::default(); 2];
            let mut world = World { memory, writes: 0 };
            let mut now = u64::from(start) << TICK;
            let (mut since, mut last_asked, mut ticks_seen) = (None, None, std::collections::BTreeSet::new());
            for packet in packets {
                let (Packet::Asks(gap) | Packet::Answers(gap)) = packet;
                now += gap;
                ticks_seen.insert(ticks(now));
                let backend = world.backend();
                if let Packet::Asks(_) = packet {
                    asks(&world.memory, 1, &backend, now);
                    if since.is_none() && last_asked != Some(ticks(now)) && ticks(now) != backend.asked {
                        (since, last_asked) = (Some(ticks(now)), Some(ticks(now)));
                    }
                } else {
                    hears(&world.memory, 1, &backend);
                    since = None;
                }
                world.take();
                let backend = world.backend();
                prop_assert_eq!(since, backend.is_waited_for().then_some(backend.asked));
            }
            prop_assert!(world.writes as usize <= 2 * ticks_seen.len());
        }
    }
}
