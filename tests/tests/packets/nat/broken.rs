//! Checks that the judge notices each broken rule of translation, and reports nothing if all rules are kept.

use edge_tests::{
    packet::{ACK, FIN, SYN},
    world::Side,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::{
    TCP,
    rules::{Broken, Happens, Manner, happens, play},
};

/// Histories, the same in each call.
fn histories() -> Vec<Vec<Happens>> {
    let mut runner = TestRunner::deterministic();
    let long = prop::collection::vec(happens(), 400);
    (0..20).map(|_| long.new_tree(&mut runner).expect("some history").current()).collect()
}

/// Histories of consecutive connections from all clients, each opened, and closed by both sides.
fn closed() -> Vec<Happens> {
    let sends = |client, flags, sequence, acknowledgment| Happens::Sends {
        client,
        service: TCP,
        flags,
        sequence,
        acknowledgment,
    };
    let answers = |client, flags, sequence| Happens::Answers { client, service: TCP, flags, sequence };
    let connection = |client| {
        let first = 90_000 - 1000 * u32::from(client);
        [
            sends(client, SYN, first, 0),
            answers(client, SYN | ACK, 100),
            sends(client, ACK, first + 1, 101),
            answers(client, FIN | ACK, 101),
            sends(client, FIN | ACK, first + 1, 102),
        ]
    };
    // More connections than ports; the others follow half a second later.
    let mut all: Vec<_> = (0..30).flat_map(connection).collect();
    all.push(Happens::Passes { units: 2 });
    all.extend((30..40).flat_map(connection));
    all
}

/// The judge's findings in each history.
fn judged(broken: Broken, lanes: u32) -> Vec<String> {
    let mut all = histories();
    if broken == Broken::TimeWaitTaken {
        all = vec![closed(); 4];
    }
    let play = |(number, happening): (usize, &Vec<Happens>)| {
        let side = Side::BOTH[number % 2];
        play(Manner { side, sticks: false, lanes, broken }, happening).err()
    };
    all.iter().enumerate().filter_map(play).collect()
}

fn is_noticed(broken: Broken, lanes: u32, by: &str) {
    let findings = judged(broken, lanes);
    let rightly = findings.iter().filter(|finding| finding.contains(by)).count();
    println!("{broken:?}: noticed in {} histories, in {rightly} as \"{by}\"", findings.len());
    assert!(rightly >= 3, "{broken:?} is hardly seen: {findings:?}");
}

#[test]
fn with_all_rules_kept_the_judge_has_no_findings() {
    for lanes in 1..4 {
        let kept = judged(Broken::Nothing, lanes);
        assert!(kept.is_empty(), "{kept:?}");
    }
    for side in Side::BOTH {
        assert_eq!(play(Manner { side, sticks: false, lanes: 1, broken: Broken::Nothing }, &closed()), Ok(()));
    }
}

#[test]
fn established_flows_that_make_room_are_noticed() {
    is_noticed(Broken::EstablishedTaken, 1, "lost its tuple");
}

#[test]
fn tuples_in_time_wait_that_are_taken_too_early_are_noticed() {
    is_noticed(Broken::TimeWaitTaken, 1, "has the tuple");
}

#[test]
fn places_that_follow_from_something_else_are_noticed() {
    is_noticed(Broken::OtherLanes, 3, "its answer leaves by");
}

#[test]
fn another_key_of_the_table_is_noticed() {
    is_noticed(Broken::OtherKey, 2, "");
}

#[test]
fn a_source_whose_number_is_given_away_is_noticed() {
    is_noticed(Broken::SourceGivenAway, 2, "it left from or to somebody else");
}

#[test]
fn a_backend_whose_number_is_given_away_is_noticed() {
    is_noticed(Broken::BackendGivenAway, 2, "it left from or to somebody else");
}

#[test]
fn a_hop_that_is_given_away_is_noticed() {
    is_noticed(Broken::HopGivenAway, 2, "an answer goes another way");
}

#[test]
fn a_death_that_packets_do_not_see_is_noticed() {
    is_noticed(Broken::DeathUntold, 2, "it went to a dead backend");
}

#[test]
fn flows_that_wait_where_they_are_to_be_reset_are_noticed() {
    is_noticed(Broken::Waits, 2, "it went to a dead backend");
}

#[test]
fn connections_that_are_established_without_their_clients_are_noticed() {
    is_noticed(Broken::Unproven, 2, "is established without proof");
}
