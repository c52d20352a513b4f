//! Threads that send packets of the same flows at the same time, in a table that is too small for them: what a model checker
//! can't go through. Checked whenever all pause.
//!
//! Time goes on while they work, but not so fast that what one of them has taken counts as abandoned: then it would have
//! lost it, and go on all the same.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use edge_common::flow_table::{Anywhere, FlowTable, Native, Refused, Signal, Stage, life::ABANDONED};

use crate::state::{self, State};

const ENTRIES: u32 = 64;
const FLOWS: u32 = 200;
const ROUNDS: u32 = 40;
const PACKETS: u32 = 4_000;

/// What the threads did.
#[derive(Debug, Default)]
struct Done {
    found: u32,
    added: u32,
    full: u32,
    raced: u32,
}

/// The time, and since when each thread is at work on its packet.
struct Clock {
    now: AtomicU32,
    packets: [AtomicU32; 2],
}

impl Clock {
    /// The time of the next packet of a thread.
    fn packet(&self, thread: usize, goes_on: bool) -> u32 {
        let now = self.now.load(Ordering::SeqCst);
        self.packets[thread].store(now, Ordering::SeqCst);
        let oldest = self.packets.iter().map(|packet| packet.load(Ordering::SeqCst)).min().unwrap_or(now);
        if goes_on && now - oldest < ABANDONED.unsigned_abs() / 2 {
            let _by_the_other = self.now.compare_exchange(now, now + 1, Ordering::SeqCst, Ordering::SeqCst);
        }
        now
    }
}

/// Sends packets, each fourth of which moves the clock on, so that flows last for some hundreds of them.
fn send(state: &State<Native>, clock: &Clock, thread: usize, mut random: u32) -> Done {
    let mut done = Done::default();
    for _ in 0..PACKETS {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let what = random >> 24;
        let now = clock.packet(thread, what < 64);
        // Often the same one in both threads.
        let number = if what.is_multiple_of(4) { random } else { now.wrapping_mul(0x9e37_79b1) } % FLOWS;
        let table = FlowTable { now, ..state.table() };
        let (flow, hash) = (state::flow(number), state::hash(number));
        let signal = if what.is_multiple_of(8) { Signal::Fin } else { Signal::Data };
        if let Some(found) = table.see(&flow, hash, signal, state::served(number).sequence) {
            assert_eq!(found.served, state::served(number), "another flow's backend");
            done.found += 1;
            match what {
                255 => table.remove(&found),
                254 => drop(table.forget(found.number, found.life.seen_again(found.life.stage().after(signal), now))),
                _ => {}
            }
            continue;
        }
        let places = Anywhere::new(hash, table.mask);
        match table.insert(&flow, hash, &state::birth(number, Stage::HalfOpen), &places) {
            Ok(_) => done.added += 1,
            Err(Refused::Full) => done.full += 1,
            Err(Refused::Raced) => done.raced += 1,
        }
    }
    // It holds up nobody.
    clock.packets[thread].store(u32::MAX, Ordering::SeqCst);
    done
}

fn run(state: &State<Native>) {
    let mut clock = Clock { now: AtomicU32::new(state.now), packets: [const { AtomicU32::new(0) }; 2] };
    let mut sum = Done::default();
    for round in 1..=ROUNDS {
        let now = *clock.now.get_mut();
        clock.packets = [now, now].map(AtomicU32::new);
        let clock = &clock;
        let all = thread::scope(|scope| {
            let seeds = [0x9e37_79b1, 0x85eb_ca6b].map(|seed: u32| seed.wrapping_mul(round));
            let threads = [0, 1].map(|thread| scope.spawn(move || send(state, clock, thread, seeds[thread])));
            threads.map(|thread| thread.join().expect("no panic"))
        });
        state.check();
        assert!((0..ENTRIES).all(|number| !state.life(number).is_busy()), "an entry that stayed busy");
        let found = (0..FLOWS).filter(|number| state.find(*number).is_some()).count();
        assert_eq!(found, state.flows().len(), "flows that are not found");
        for Done { found, added, full, raced } in all {
            sum.found += found;
            sum.added += added;
            sum.full += full;
            sum.raced += raced;
        }
    }
    assert!([sum.found, sum.added, sum.full].iter().all(|count| *count > 1000), "nothing was tried: {sum:?}");
}

#[test]
fn no_flow_has_two_entries_and_none_is_lost() {
    run(&State::new(ENTRIES));
}

#[test]
fn no_flow_is_lost_where_slots_are_few() {
    run(&State::with_few_slots(ENTRIES));
}
