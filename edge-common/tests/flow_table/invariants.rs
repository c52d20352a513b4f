//! Random operations on a small table, one at a time, against a model.

use std::collections::BTreeMap;

use edge_common::flow_table::{Native, Refused, Signal, Stage};
use proptest::prelude::*;

use crate::state::{self, State, TIMEOUTS};

/// Each place of such a table is looked at for each flow.
const ENTRIES: u32 = 16;
const FLOWS: u32 = 40;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A packet of a flow, which adds it if it is not there.
    Packet(u32, Signal),
    Remove(u32),
    /// A collector looks at an entry.
    Forget(u32),
    Wait(u32),
}

fn operation() -> impl Strategy<Value = Operation> {
    let signal = prop_oneof![
        2 => Just(Signal::Syn),
        2 => Just(Signal::Bare),
        2 => Just(Signal::Data),
        1 => Just(Signal::Fin),
        1 => Just(Signal::Reset),
    ];
    prop_oneof![
        12 => (0..FLOWS, signal).prop_map(|(flow, signal)| Operation::Packet(flow, signal)),
        1 => (0..FLOWS).prop_map(Operation::Remove),
        2 => (0..ENTRIES).prop_map(Operation::Forget),
        2 => (0u32..20).prop_map(Operation::Wait),
        1 => (0u32..2000).prop_map(Operation::Wait),
    ]
}

/// What a flow's last packet was, and when.
type Model = BTreeMap<u32, (Stage, u32)>;

/// Whether nobody may take the flow's entry: it was seen in its time-out, and is established, or too young to go.
fn stays((stage, seen): (Stage, u32), now: u32, pressed: bool) -> bool {
    let (timeout, kept) = match stage {
        Stage::HalfOpen => (40, 12),
        Stage::Established => (1000, u32::MAX),
        Stage::Closed => (16, 8),
        Stage::Reset => (40, 8),
        Stage::Answered | Stage::ClientClosed | Stage::Finished | Stage::BackendClosed => {
            unreachable!("seen from one side alone")
        }
    };
    now - seen <= timeout + 1 && (!pressed || now - seen < kept)
}

fn run(operations: &[Operation]) {
    let mut state = State::<Native>::new(ENTRIES);
    let mut model = Model::new();
    for operation in operations {
        match *operation {
            Operation::Packet(flow, signal) => packet(&state, &mut model, flow, signal),
            Operation::Remove(flow) => {
                if let Some(found) = state.find(flow) {
                    state.table().remove(&found);
                    model.remove(&flow);
                    assert_eq!(state.find(flow), None);
                }
            }
            Operation::Forget(number) => {
                let life = state.life(number);
                if life.is_live() && life.is_gone(state.now, &TIMEOUTS) {
                    assert!(state.table().forget(number, life));
                }
            }
            Operation::Wait(units) => state.now += units,
        }
        state.check();
        assert!((0..ENTRIES).all(|number| !state.life(number).is_busy()), "an entry that stayed busy");
        for (&flow, &last) in model.iter().filter(|(_, last)| stays(**last, state.now, true)) {
            let found = state.find(flow).unwrap_or_else(|| panic!("flow {flow} was taken"));
            assert_eq!((found.life.stage(), found.served), (last.0, state::served(flow)));
        }
    }
}

fn packet(state: &State<Native>, model: &mut Model, flow: u32, signal: Signal) {
    if let Some(found) = state.find(flow) {
        assert_eq!(found.served, state::served(flow));
        assert!(state.table().touch(&found, signal, found.served.sequence));
        let (stage, _) = model[&flow];
        model.insert(flow, (stage.after(signal), state.now));
        return;
    }
    let stage = Stage::HalfOpen.after(signal);
    match state.insert(flow, stage) {
        Ok(number) => {
            assert_eq!(state.find(flow).map(|found| found.number), Some(number));
            model.insert(flow, (stage, state.now));
        }
        Err(Refused::Full) => {
            let strong = model.values().filter(|last| stays(**last, state.now, true)).count();
            assert!(strong >= ENTRIES as usize, "refused with {strong} entries that must stay");
        }
        Err(Refused::Raced) => panic!("there is nobody else"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flows_are_found_until_their_entries_may_be_taken(operations in prop::collection::vec(operation(), 1..200)) {
        run(&operations);
    }
}
