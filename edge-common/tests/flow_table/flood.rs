//! A flood of new flows: what it takes, and what it does not.

use std::ops::Range;

use edge_common::flow_table::{Entry, Native, Refused, SLOTS, Signal, Stage};

use crate::state::State;

const ENTRIES: u32 = 4096;

/// Offers `flows`; returns how many found a place.
fn offer(state: &State<Native>, flows: Range<u32>) -> u32 {
    flows.map(|flow| u32::from(state.insert(flow, Stage::HalfOpen).is_ok())).sum()
}

#[test]
fn no_flood_takes_an_established_flow_that_is_not_idle() {
    let mut state = State::<Native>::new(ENTRIES);
    // Two thirds of a table can be filled without a flow that finds no place among those it looks at.
    let known = 0..2500;
    for flow in known.clone() {
        state.insert(flow, Stage::Established).expect("room");
    }
    let places: Vec<_> = known.clone().map(|flow| state.find(flow).expect("added").number).collect();
    for round in 1..40u32 {
        state.now += 100;
        // The flood has all the rest of the table, but no more.
        let added = offer(&state, round << 20..(round << 20) + 20_000);
        assert!((1500..=ENTRIES - 2500).contains(&added), "{added} of a flood added");
        for (flow, place) in known.clone().zip(&places) {
            let found = state.find(flow).unwrap_or_else(|| panic!("flow {flow} was taken"));
            assert_eq!(found.number, *place);
            if round % 9 == 0 {
                assert!(state.table().touch(&found, Signal::Bare, found.served.sequence));
            }
        }
        state.check();
    }
}

#[test]
fn a_full_table_refuses_and_keeps_what_it_has() {
    let mut state = State::<Native>::new(ENTRIES);
    let mut flows = Vec::new();
    for flow in 0..100_000 {
        match state.insert(flow, Stage::Established) {
            Ok(_) => flows.push(flow),
            Err(refused) => assert_eq!(refused, Refused::Full),
        }
    }
    assert_eq!(flows.len(), ENTRIES as usize, "a place that nobody found");
    assert!(flows.iter().all(|flow| state.find(*flow).is_some()));
    state.check_clean();
    // Once they are idle, all of it is there for others.
    state.now += 1002;
    let added = offer(&state, 1 << 20..(1 << 20) + 100_000);
    assert_eq!(added, ENTRIES);
    assert!(flows.iter().all(|flow| state.find(*flow).is_none()));
    state.check_clean();
}

#[test]
fn a_full_index_refuses_and_slots_of_what_is_gone_are_free() {
    let mut state = State::<Native>::with_few_slots(ENTRIES);
    let slots = ENTRIES / 2;
    for flow in 0..100_000 {
        let _full = state.insert(flow, Stage::Established);
    }
    assert_eq!(state.flows().len(), slots as usize);
    state.check_clean();
    state.now += 1002;
    let hundred = 1 << 24..(1 << 24) + 100;
    assert_eq!(offer(&state, hundred), 100, "a slot of what is gone was not to be had");
    assert_eq!(100 + offer(&state, 1 << 20..(1 << 20) + 100_000), slots);
    state.check_clean();
}

#[test]
fn hardly_a_flow_is_refused_until_three_quarters_are_taken() {
    let state = State::<Native>::new(ENTRIES);
    let refused = (0..ENTRIES / 4 * 3).filter(|flow| state.insert(*flow, Stage::Established).is_err()).count();
    assert!(refused <= 1, "{refused} refused");
}

#[test]
fn an_entry_takes_72_bytes() {
    assert_eq!(size_of::<Entry<Native>>() + 2 * size_of::<u32>(), 72);
    let arrays = State::<Native>::new(ENTRIES).arrays;
    assert_eq!(arrays.buckets.len() * SLOTS as usize, 2 * ENTRIES as usize);
    assert!(arrays.buckets.iter().all(|slots| slots.len() == SLOTS as usize));
}
