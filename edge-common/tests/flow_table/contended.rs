//! Packets of one flow on several CPUs that change its entry at the same moment.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use edge_common::flow_table::{Signal, Stage, Word, Words};

use crate::state::State;

thread_local! {
    /// The number of compare-exchanges that another packet of the flow still precedes.
    static RIVALS: Cell<u32> = const { Cell::new(0) };
}

#[derive(Debug, Default)]
struct Contended;

impl Words for Contended {
    type U32 = AtomicU32;
    type U64 = ContendedWord;
}

#[derive(Debug, Default)]
struct ContendedWord(AtomicU64);

impl Word<u64> for ContendedWord {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    fn replace_if(&self, old: u64, new: u64) -> bool {
        let rivals = RIVALS.get();
        if rivals > 0 {
            RIVALS.set(rivals - 1);
            // It was seen at another time: the lowest bits of a life.
            self.0.fetch_xor(1, Ordering::AcqRel);
        }
        self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[test]
fn a_flow_stays_the_packets_own_however_many_others_are_faster() {
    for rivals in 0..4 {
        let mut state = State::<Contended>::new(16);
        state.insert(1, Stage::Established).expect("room");
        let found = state.find(1).expect("it was added");
        state.now += 10;
        RIVALS.set(rivals);
        assert!(state.table().touch(&found, Signal::Data, 7), "{rivals} others");
        RIVALS.set(0);
        state.table().remove(&found);
        state.now += 10;
        assert!(!state.table().touch(&found, Signal::Data, 7), "its life is over");
    }
}
