//! CPUs that open, use and take over translated flows at once, with the claim that packets have: in every order of their accesses.
//!
//! A tuple that is translated to is a place, so that what must hold of tuples must hold of places.

use edge_common::{
    abi::{FlowHead, HashKey, NatHead, Tracking},
    flow_table::{Birth, Certainty, EntryState, FlowTable, Refused, Signal, Stage},
    hash::Hash,
    host::FlowArrays,
    nat::{Ports, Stamp, Translation, after_backend, after_client},
};

use crate::{
    state::flow,
    together::{HASH, Modelled, Table, together},
};

/// Two ports in one lane: as many places as the table has.
fn head(state: &Table) -> NatHead {
    let mut head = NatHead::new(HashKey::default(), 20_000, 2, 1, |_| 1_000_000_000_000);
    head.flows = FlowHead { mask: state.entries() - 1, ..head.flows };
    head
}

/// A SYN of flow `number` to the backend of this number, with a timestamp.
fn open(state: &Table, number: u32, backend: u16, timestamp: u32) -> Result<u32, Refused> {
    let head = head(state);
    let stamp = Stamp { is_timestamp: true, value: timestamp };
    let tuple = Hash(u64::from(backend) << 32);
    // A flow of its own order: it tries both ports.
    let claim = Ports {
        head: &head,
        tuple,
        flow: Hash(u64::from(number) << 63 | 0x8000_0001),
        stamp: Some(stamp),
        now: state.now,
    };
    let translation = Translation { backend, is_stamped: true, ..Translation::default() };
    let birth = Birth {
        stage: Stage::HalfOpen,
        class: Tracking::Tcp.into(),
        certainty: Certainty::Certain,
        served: translation.served(0),
    };
    table(state, &head).insert(&flow(number), HASH, &birth, &claim)
}

fn table<'a>(state: &'a Table, head: &'a NatHead) -> FlowTable<'a, FlowArrays<Modelled>> {
    FlowTable { timeouts: &head.flows.timeouts, ..state.table() }
}

/// The flow's entry, as a packet of its client finds it.
fn find(state: &Table, number: u32) -> Option<EntryState> {
    let head = head(state);
    table(state, &head).find(&flow(number), HASH)
}

/// A packet of the client: whether it went on as this flow's.
fn forward(state: &Table, number: u32, signal: Signal) -> bool {
    let head = head(state);
    let table = table(state, &head);
    let Some((found, entry)) = table.look(&flow(number), HASH) else { return false };
    table.advance(&found, entry, |life| life.seen_again(after_client(life.stage(), signal, true), table.now), None)
}

/// An answer to a port, by its place alone: the flow that it went to.
fn back(state: &Table, place: u32, signal: Signal) -> Option<u32> {
    let head = head(state);
    let table = table(state, &head);
    let (found, entry, its) = table.at(place)?;
    let advanced = table.advance(
        &found,
        entry,
        |life| life.seen_again(after_backend(life.stage(), signal, true), table.now),
        None,
    );
    let number = (1..=3).find(|number| flow(*number) == its);
    assert!(number.is_some(), "a flow that nobody has");
    if advanced { number } else { None }
}

/// Places of these flows, each of which has one at most.
fn places(state: &Table, flows: &[u32]) -> Vec<u32> {
    let mut places: Vec<_> = flows.iter().filter_map(|number| Some(find(state, *number)?.number)).collect();
    let found = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), found, "two flows with one tuple");
    places
}

#[test]
fn two_flows_that_open_at_once_have_two_tuples() {
    together(
        3,
        |_| {},
        [|table| open(table, 1, 7, 1).is_ok(), |table| open(table, 2, 7, 1).is_ok()],
        |table, opened| {
            assert_eq!(places(table, &[1, 2]).len(), opened.iter().filter(|opened| **opened).count());
            assert!([1, 2].iter().zip(opened).all(|(flow, opened)| find(table, *flow).is_some() == opened));
        },
    );
}

#[test]
fn three_flows_that_open_at_once_share_two_tuples() {
    together(
        1,
        |_| {},
        [
            |table| open(table, 1, 7, 1).is_ok(),
            |table| open(table, 2, 7, 1).is_ok(),
            |table| open(table, 3, 7, 1).is_ok(),
        ],
        |table, opened| {
            assert_eq!(places(table, &[1, 2, 3]).len(), opened.iter().filter(|opened| **opened).count());
            assert!(opened.contains(&true), "nobody got a port");
        },
    );
}

/// As when a SYN is sent twice, and its backend dies in between.
#[test]
fn one_flow_that_opens_twice_at_once_has_one_backend_at_most() {
    together(
        2,
        |_| {},
        [|table| open(table, 1, 7, 1), |table| open(table, 1, 8, 1)],
        |table, opened| {
            let one = opened.iter().filter(|opened| opened.is_ok()).count();
            assert_eq!((table.flows().len(), find(table, 1).is_some()), (one, one == 1));
        },
    );
}

/// Flow 1 has the one port, and flow 2 the other; both sides of flow 1 have closed it, with a timestamp of 100.
fn closed(state: &mut Table) {
    let place = open(state, 1, 7, 90).expect("room");
    open(state, 2, 7, 90).expect("room");
    assert_eq!(back(state, place, Signal::Syn), Some(1));
    assert!(forward(state, 1, Signal::Bare));
    assert_eq!(back(state, place, Signal::Fin), Some(1));
    assert!(forward(state, 1, Signal::Fin));
    assert_eq!(find(state, 1).expect("it is there").life.stage(), Stage::Closed);
    let found = find(state, 1).expect("it is there");
    let head = head(state);
    let table = table(state, &head);
    let (_, entry) = table.look(&flow(1), HASH).expect("it is there");
    assert_eq!(found.number, place);
    table.remember(entry, 100);
    // Flow 2 is established, so that nobody may take its place.
    let other = find(state, 2).expect("it is there").number;
    back(state, other, Signal::Syn);
    assert!(forward(state, 2, Signal::Bare));
    state.now += 8;
}

#[test]
fn a_tuple_in_time_wait_is_taken_once_or_by_its_own_client() {
    together(
        2,
        closed,
        [|table| open(table, 3, 7, 200).is_ok(), |table| forward(table, 1, Signal::Syn)],
        |table, [taken, again]| {
            assert_ne!(taken, again, "both have it, or nobody");
            assert_eq!((find(table, 3).is_some(), find(table, 1).is_some()), (taken, again));
            assert!(find(table, 2).is_some(), "an established flow is gone");
            places(table, &[1, 2, 3]);
        },
    );
}

#[test]
fn a_late_answer_goes_to_whoever_has_the_tuple_and_to_nobody_else() {
    together(
        2,
        closed,
        [
            |table| u32::from(open(table, 3, 7, 200).is_ok()),
            |table| back(table, 0, Signal::Bare).unwrap_or(0) << 8 | back(table, 1, Signal::Bare).unwrap_or(0),
        ],
        |table, [taken, answered]| {
            let to = [answered >> 8, answered & 0xff];
            assert!(to.iter().all(|to| [0, 1, 2, 3].contains(to)), "{to:?}");
            assert!(to.contains(&2), "an established flow's answer is lost: {to:?}");
            assert!(taken == 1 || !to.contains(&3), "{to:?}");
            places(table, &[1, 2, 3]);
        },
    );
}

#[test]
fn an_established_flow_keeps_its_tuple_while_two_others_want_it() {
    together(
        1,
        |table| {
            closed(table);
            assert!(forward(table, 2, Signal::Data));
        },
        [
            |table| open(table, 1, 8, 300).is_ok(),
            |table| open(table, 3, 7, 300).is_ok(),
            |table| forward(table, 2, Signal::Data),
        ],
        |table, [_, _, went_on]| {
            assert!(went_on && find(table, 2).is_some());
            places(table, &[1, 2, 3]);
        },
    );
}
