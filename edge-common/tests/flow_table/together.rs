//! Two CPUs and a collector at work in one table: every order of their accesses, as far as a processor may change it, with a
//! few changes between them. The words are a model checker's; all else is the code that packets run.

use edge_common::{
    flow_table::{Certainty, Claim, EntryState, Life, Refused, Served, Signal, Stage, Word, Words},
    hash::Hash,
    host::FlowArrays,
};
use loom::{
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
    },
    thread,
};

use crate::state::{self, CLASS, State, TIMEOUTS};

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Modelled;

#[derive(Debug, Default)]
pub(crate) struct Modelled32(AtomicU32);

#[derive(Debug, Default)]
pub(crate) struct Modelled64(AtomicU64);

impl Words for Modelled {
    type U32 = Modelled32;
    type U64 = Modelled64;
}

macro_rules! modelled {
    ($word:ty, $value:ty) => {
        impl Word<$value> for $word {
            fn load(&self) -> $value {
                self.0.load(Ordering::Acquire)
            }

            fn store(&self, value: $value) {
                self.0.store(value, Ordering::Release);
            }

            fn replace_if(&self, old: $value, new: $value) -> bool {
                let replaced = self.0.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok();
                fence(Ordering::SeqCst);
                replaced
            }
        }
    };
}

modelled!(Modelled32, u32);
modelled!(Modelled64, u64);

/// All flows have this hash, so that they want the same slots.
pub(crate) const HASH: Hash = Hash(0x5bf1_827f_0347_045b);
/// The table's two entries, each alone.
const LOWER: Among = Among { first: 0, last: 0 };
const HIGHER: Among = Among { first: 1, last: 0 };
/// Either of them.
const EITHER: Among = Among { first: 0, last: 1 };

/// Places one behind the other.
#[derive(Clone, Copy)]
struct Among {
    first: u32,
    last: u32,
}

impl Claim<Modelled> for Among {
    fn place(&self, probe: u32) -> u32 {
        self.first + (probe & self.last)
    }

    fn last(&self) -> u32 {
        self.last
    }

    fn may_displace(&self, _served: Served) -> bool {
        true
    }
}

pub(crate) type Table = State<Modelled>;

/// Runs `prepare` on a table of two entries with two slots, then `actions` together, and then `check` on what they returned.
///
/// `changes` is how often one of them goes on in the middle of what another one does.
pub(crate) fn together<const N: usize, R: Copy + 'static>(
    changes: usize,
    prepare: fn(&mut Table),
    actions: [fn(&Table) -> R; N],
    check: fn(&Table, [R; N]),
) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(changes);
    builder.max_branches = 10_000;
    builder.check(move || {
        let mut table = State { arrays: FlowArrays::with_buckets(2, 1, 2), now: 1000 };
        prepare(&mut table);
        let table = Arc::new(table);
        let [first, others @ ..] = &actions[..] else { return };
        let others: Vec<_> = others
            .iter()
            .map(|&action| {
                let table = Arc::clone(&table);
                thread::spawn(move || action(&table))
            })
            .collect();
        let mut results = vec![first(&table)];
        results.extend(others.into_iter().map(|other| other.join().expect("no panic")));
        table.check();
        assert!((0..2).all(|number| !table.life(number).is_busy()), "an entry that stayed busy");
        check(&table, std::array::from_fn(|number| results[number]));
    });
}

fn find(table: &Table, number: u32) -> Option<EntryState> {
    let found = table.table().find(&state::flow(number), HASH);
    assert!(found.is_none_or(|found| found.served == state::served(number)), "another flow's backend");
    found
}

fn insert(table: &Table, number: u32, places: Among) -> Result<u32, Refused> {
    table.table().insert(&state::flow(number), HASH, &state::birth(number, Stage::Established), &places)
}

/// A packet of a flow that is expected to be there: whether it was, and still was when it was touched.
fn packet(table: &Table, number: u32) -> bool {
    find(table, number).is_some_and(|found| table.table().touch(&found, Signal::Data, found.served.sequence))
}

/// Takes the flow out that was in the lower entry at first, and was looked up before.
fn remove(table: &Table) {
    let life = Life::default().taken(1000).born(Stage::Established, CLASS, Certainty::Certain);
    table.table().remove(&EntryState { number: 0, life, served: Served::default() });
}

/// What a collector does with an entry whose flow is gone.
fn collect(table: &Table, number: u32) -> bool {
    let life = table.life(number);
    life.is_gone(table.now, &TIMEOUTS) && table.table().forget(number, life)
}

/// Flow 1 in the lower entry, silent for so long that anybody may take it.
fn gone(table: &mut Table) {
    insert(table, 1, LOWER).expect("room");
    table.now += 1002;
}

#[test]
fn one_flow_on_two_cpus_has_one_entry_at_most() {
    together(
        3,
        |_| {},
        [|table| insert(table, 1, LOWER), |table| insert(table, 1, HIGHER)],
        |table, added| {
            let one = added.iter().filter(|added| added.is_ok()).count();
            assert_eq!((table.flows().len(), find(table, 1).is_some()), (one, one == 1));
        },
    );
}

#[test]
fn two_cpus_that_want_one_place_get_it_once() {
    together(
        3,
        |table| {
            insert(table, 3, LOWER).expect("room");
        },
        [|table| insert(table, 1, EITHER), |table| insert(table, 2, EITHER)],
        |table, added| {
            assert_eq!(added.iter().filter(|added| added.is_ok()).count(), 1);
            assert!(find(table, 3).is_some());
            assert!([1, 2].into_iter().zip(added).all(|(flow, added)| find(table, flow).is_some() == added.is_ok()));
        },
    );
}

#[test]
fn a_place_is_taken_from_its_flow_or_touched_by_it() {
    together(
        2,
        gone,
        [|table| packet(table, 1), |table| insert(table, 2, LOWER).is_ok()],
        |table, [touched, added]| {
            assert_ne!(touched, added);
            assert_eq!((find(table, 1).is_some(), find(table, 2).is_some()), (touched, added));
        },
    );
}

#[test]
fn an_entry_is_freed_by_a_collector_or_touched_by_its_flow() {
    together(3, gone, [|table| packet(table, 1), |table| collect(table, 0)], |table, [touched, freed]| {
        assert_ne!(touched, freed);
        assert_eq!(find(table, 1).is_some(), touched);
    });
}

#[test]
fn an_entry_that_a_collector_frees_is_the_next_flow_s_alone() {
    together(
        1,
        gone,
        [|table| packet(table, 1), |table| collect(table, 0), |table| insert(table, 2, LOWER).is_ok()],
        |table, [touched, _, added]| {
            assert!(!touched || !added);
            assert_eq!((find(table, 1).is_some(), find(table, 2).is_some()), (touched, added));
        },
    );
}

#[test]
fn nobody_reads_an_entry_half_of_one_flow_and_half_of_the_next() {
    // Its client's address is that of one of them, its VIP's port that of the other one.
    const MIXED: u32 = 0x1_0001;
    together(
        2,
        |table| {
            insert(table, 0x1_0002, LOWER).expect("room");
        },
        [
            |table| find(table, MIXED).is_some(),
            |table| {
                remove(table);
                insert(table, 1, LOWER).is_ok()
            },
        ],
        |table, [found, added]| assert!(!found && added && find(table, 1).is_some()),
    );
}

#[test]
fn a_flow_that_goes_and_comes_has_one_entry_at_most() {
    together(
        3,
        |table| {
            insert(table, 1, LOWER).expect("room");
        },
        [
            |table| {
                remove(table);
                false
            },
            |table| find(table, 1).is_none() && insert(table, 1, HIGHER).is_ok(),
        ],
        |table, [_, added]| assert_eq!(find(table, 1).is_some(), added),
    );
}

#[test]
fn two_cpus_that_remove_one_flow_leave_the_next_one_alone() {
    together(
        3,
        |table| {
            insert(table, 1, LOWER).expect("room");
        },
        [
            |table| {
                remove(table);
                insert(table, 2, LOWER).is_ok()
            },
            |table| {
                remove(table);
                false
            },
        ],
        |table, [added, _]| assert_eq!(find(table, 2).is_some(), added),
    );
}

#[test]
fn a_flow_that_is_added_while_slots_come_and_go_has_one_entry_at_most() {
    together(
        2,
        |table| {
            insert(table, 2, LOWER).expect("room");
        },
        [
            |table| {
                remove(table);
                insert(table, 1, LOWER).is_ok()
            },
            |table| insert(table, 1, HIGHER).is_ok(),
        ],
        |table, added| {
            assert_eq!(added.iter().filter(|added| **added).count(), table.flows().len());
            assert_eq!(find(table, 1).is_some(), added.contains(&true));
        },
    );
}
