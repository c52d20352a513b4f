//! How an entry's life goes: each stage and signal, ages, and who may be taken when.

use edge_common::flow_table::{
    Certainty, Class, Life,
    Signal::{self, Bare, Data, Fin, Syn},
    Stage::{self, Closed, Established, HalfOpen, Reset},
    Timeouts,
};

use crate::state::TIMEOUTS;

const LAST: Class = Class::new(7).expect("a class");
const FOREVER: Timeouts = Timeouts::all([i32::MAX; 4]);

#[test]
fn a_stage_follows_from_the_last_one_and_the_packet() {
    let signals = [Syn, Bare, Data, Fin, Signal::Reset];
    let rows = [
        (HalfOpen, [HalfOpen, Established, Established, Closed, Reset]),
        (Established, [Established, Established, Established, Closed, Reset]),
        (Closed, [Established, Closed, Established, Closed, Reset]),
        (Reset, [HalfOpen, Established, Established, Closed, Reset]),
    ];
    for (stage, after) in rows {
        assert_eq!(signals.map(|signal| stage.after(signal)), after, "{stage:?}");
    }
}

fn born(stage: Stage) -> Life {
    Life::default().taken(100).born(
        stage,
        LAST,
        if stage == HalfOpen { Certainty::Tentative } else { Certainty::Certain },
    )
}

#[test]
fn a_life_has_what_was_put_in() {
    for stage in [HalfOpen, Established, Closed, Reset] {
        let life = born(stage);
        assert_eq!((life.stage(), life.seen(), life.is_live(), life.is_busy()), (stage, 100, true, false));
        assert_eq!(life.is_tentative(), stage == HalfOpen);
        let later = life.seen_again(stage.after(Data), 107);
        assert_eq!((later.stage(), later.seen(), later.is_tentative()), (Established, 107, false));
        assert!(later.is_same(life) && !later.is_same(life.taken(107)) && !later.is_same(life.freed()));
    }
    assert!(born(HalfOpen).seen_again(HalfOpen.after(Syn), 101).is_tentative());
}

#[test]
fn a_doubt_stays_for_a_life() {
    let life = born(Established).doubted();
    assert!(!born(Established).is_doubted() && life.is_doubted() && life.is_same(born(Established)));
    assert!(life.seen_again(Closed, 107).seen_again(Established, 109).is_doubted());
    assert!(!life.taken(107).born(Established, LAST, Certainty::Once).is_doubted());
}

#[test]
fn a_flow_is_gone_a_unit_after_its_time_out() {
    for (stage, timeout) in [(HalfOpen, 40), (Established, 1000), (Closed, 16), (Reset, 40)] {
        let gone = |now| born(stage).is_gone(now, &TIMEOUTS);
        assert!(!gone(100) && !gone(101 + timeout) && gone(102 + timeout), "{stage:?}");
        // A CPU whose clock is a unit behind.
        assert!(!gone(99));
    }
    assert!(!born(Established).is_gone(100 + (1 << 30), &FOREVER));
}

#[test]
fn ages_pass_the_end_of_the_counter() {
    let life = Life::default().taken(u32::MAX - 1).born(Established, LAST, Certainty::Certain);
    assert_eq!([u32::MAX - 2, u32::MAX, 0, 5].map(|now| life.age(now)), [-1, 1, 2, 7]);
    assert_eq!(life.seen_again(Established, 3).seen(), 3);
    assert_eq!(life.seen_again(Established, u32::MAX - 5).seen(), u32::MAX - 1);
}

#[test]
fn who_took_an_entry_and_is_not_heard_of_has_lost_it() {
    let busy = born(Established).taken(200);
    assert!(busy.is_busy() && !busy.is_live() && !busy.is_gone(240, &TIMEOUTS) && busy.is_gone(241, &TIMEOUTS));
    assert!(busy.freed().is_gone(200, &TIMEOUTS));
    // The last life is followed by the first.
    assert!(Life(u64::MAX).taken(0).freed().0 == 0);
}

#[test]
fn closed_flows_go_before_half_open_ones_and_established_ones_not_at_all() {
    let weakness = |stage, age: u32| born(stage).weakness(100 + age, &FOREVER);
    assert_eq!(weakness(Established, 1 << 30), 0);
    assert_eq!([weakness(Closed, 7), weakness(Reset, 7), weakness(HalfOpen, 11)], [0; 3]);
    assert!(weakness(Closed, 8) > weakness(HalfOpen, 39) && weakness(Reset, 8) > weakness(HalfOpen, 39));
    assert!(weakness(Closed, 9) > weakness(Closed, 8) && weakness(HalfOpen, 13) > weakness(HalfOpen, 12));
    assert_eq!(born(Closed).taken(100).weakness(140, &FOREVER), 0);
    assert_eq!(born(Closed).taken(100).weakness(141, &FOREVER), Life::GONE);
    assert_eq!(born(Closed).weakness(200, &TIMEOUTS), Life::GONE);
}
