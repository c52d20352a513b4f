//! Every transition of the health machine in a table, and its guarantees as properties.

use proptest::{collection::vec, prelude::*};

use std::time::Duration;

use super::{
    Evidence,
    Health::{self, Down, Unknown, Up},
    HealthChange, Machine, Verdict,
};

/// A machine without damping.
fn starting(health: Health, rise: u32, fall: u32) -> Machine {
    Machine::starting_from(health, Evidence::Hard, rise, fall, Duration::ZERO)
}

fn observe(machine: &mut Machine, verdict: &Verdict) -> Option<HealthChange> {
    machine.observe(verdict, Duration::ZERO, false)
}

/// Verdict of a letter: `p` pass, `f` fail, `n` unreachable, `s` silence, `i` inconclusive.
fn verdict(letter: char) -> Verdict {
    match letter {
        'p' => Verdict::Pass,
        'f' => Verdict::Fail("connection refused".to_owned()),
        'n' => Verdict::Unreachable("host unreachable".to_owned()),
        's' => Verdict::Silent("no answer".to_owned()),
        _ => Verdict::Inconclusive("too many open files".to_owned()),
    }
}

/// Health after each letter: `u` unknown, `U` up, `D` down, `d` down because of silence or unreachability.
fn run(machine: &mut Machine, letters: &str) -> String {
    let letter = |machine: &Machine| match machine.health() {
        Unknown => 'u',
        Up => 'U',
        Down if machine.is_silenced() => 'd',
        Down => 'D',
    };
    letters
        .chars()
        .map(|c| {
            observe(machine, &verdict(c));
            letter(machine)
        })
        .collect()
}

#[test]
fn every_transition() {
    // Start, verdicts, health after each verdict; rise is 2, fall is 3.
    let table = [
        (Unknown, "p", "U", "one pass makes an unknown backend up"),
        (Unknown, "fff", "uuD", "fall fails make it down"),
        (Unknown, "ffpff", "uuUUU", "a pass between starts the count anew"),
        (Unknown, "iiiiii", "uuuuuu", "inconclusive probes leave it unknown"),
        (Unknown, "ffifff", "uuuuuD", "an inconclusive one between starts the count anew"),
        (Up, "pppp", "UUUU", "passes leave it up"),
        (Up, "fff", "UUD", "fall fails make it down"),
        (Up, "ffpffp", "UUUUUU", "a pass between starts the count anew"),
        (Up, "ffiffi", "UUUUUU", "an inconclusive one, too"),
        (Up, "iii", "UUu", "fall inconclusive ones make it unknown"),
        (Up, "iifiip", "UUUUUU", "a fail between starts that count anew"),
        (Up, "iiifff", "UUuuuD", "unknown, then down by fails of their own"),
        (Down, "ffff", "DDDD", "fails leave it down"),
        (Down, "iiiiii", "DDDDDD", "inconclusive ones leave it down: the last evidence stands"),
        (Down, "pp", "DU", "rise passes make it up"),
        (Down, "pfpfpp", "DDDDDU", "a fail between starts the count anew"),
        (Down, "pipipp", "DDDDDU", "an inconclusive one, too"),
        (Unknown, "sss", "uud", "silence makes it down as well"),
        (Up, "sss", "UUd", "as soon as wrong answers do"),
        (Up, "sfs", "UUd", "and mixed with them: soft, if any of it was silence"),
        (Up, "ffs", "UUd", "whichever came last"),
        (Up, "sspsss", "UUUUUd", "a pass between starts the count anew"),
        (Up, "ssisss", "UUUUUd", "an inconclusive one, too"),
        (Up, "sssffs", "UUdddd", "two wrong answers do not harden it"),
        (Up, "sssfff", "UUdddD", "fall of them do"),
        (Up, "fffsss", "UUDDDD", "silence does not soften it"),
        (Up, "ssspp", "UUddU", "rise passes make it up"),
        (Up, "nnn", "UUd", "reports of unreachability are soft as well"),
        (Up, "nsn", "UUd", "and mixed with silence"),
        (Up, "nnf", "UUd", "and with wrong answers"),
        (Up, "nnpnnn", "UUUUUd", "a pass between starts the count anew"),
        (Up, "nnnfff", "UUdddD", "wrong answers harden it"),
        (Up, "fffnnn", "UUDDDD", "reports do not soften it"),
        (Down, "nnnn", "DDDD", "reports leave it down"),
    ];
    for (from, verdicts, expected, what) in table {
        let mut machine = starting(from, 2, 3);
        assert_eq!(run(&mut machine, verdicts), expected, "{from} {verdicts}: {what}");
    }
}

#[test]
fn a_transition_has_a_reason() {
    let mut machine = starting(Unknown, 2, 3);
    run(&mut machine, "ii");
    let reason = "3 probes in a row could not be made: too many open files".to_owned();
    assert_eq!(observe(&mut machine, &verdict('i')), Some(HealthChange { from: Unknown, to: Unknown, reason }));
    assert_eq!(observe(&mut machine, &verdict('i')), None, "it is said once");
    let up = observe(&mut machine, &verdict('p'));
    assert_eq!(up, Some(HealthChange { from: Unknown, to: Up, reason: "1 probe passed".to_owned() }));
    run(&mut machine, "ff");
    let down = observe(&mut machine, &Verdict::Fail("HTTP status 503".to_owned()));
    let reason = "3 probes in a row failed: HTTP status 503".to_owned();
    assert_eq!(down, Some(HealthChange { from: Up, to: Down, reason }));
    run(&mut machine, "p");
    let reason = "2 probes in a row passed".to_owned();
    assert_eq!(observe(&mut machine, &verdict('p')), Some(HealthChange { from: Down, to: Up, reason }));
    run(&mut machine, "ii");
    let reason = "3 probes in a row could not be made: too many open files".to_owned();
    assert_eq!(observe(&mut machine, &verdict('i')), Some(HealthChange { from: Up, to: Unknown, reason }));
}

#[test]
fn counts_of_zero_count_as_one() {
    let mut machine = starting(Unknown, 0, 0);
    assert_eq!(run(&mut machine, "fpi"), "DUu");
}

#[test]
fn a_new_machine_is_unknown() {
    assert_eq!(starting(Unknown, 2, 3).health(), Unknown);
    assert_eq!(Health::default(), Unknown);
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![Just(Unknown), Just(Up), Just(Down)]
}

fn letters() -> impl Strategy<Value = Vec<char>> {
    vec(prop_oneof![Just('p'), Just('f'), Just('n'), Just('s'), Just('i')], 0..200)
}

/// Length of the run of letters from `wanted` at the end of `letters`.
fn tail(letters: &[char], wanted: &str) -> usize {
    letters.iter().rev().take_while(|&&c| wanted.contains(c)).count()
}

proptest! {
    #[test]
    fn a_change_has_its_run_of_evidence(from in health(), rise in 1u32..6, fall in 1u32..6, letters in letters()) {
        let mut machine = starting(from, rise, fall);
        for (i, &letter) in letters.iter().enumerate() {
            let before = machine.health();
            let transition = observe(&mut machine, &verdict(letter));
            let seen = &letters[..=i];
            match transition {
                None => prop_assert_eq!(machine.health(), before),
                Some(HealthChange { from, to, .. }) => {
                    prop_assert_eq!((from, to), (before, machine.health()));
                    if from == to {
                        let has_hardened = to == Down && tail(seen, "f") >= fall as usize;
                        let is_explained = to == Unknown && tail(seen, "i") == fall as usize;
                        prop_assert!(has_hardened || is_explained);
                        continue;
                    }
                    match to {
                        Down => prop_assert!(tail(seen, "fns") >= fall as usize),
                        Up if from == Down => prop_assert!(tail(seen, "p") >= rise as usize),
                        Up => prop_assert_eq!(letter, 'p'),
                        Unknown => {
                            prop_assert_eq!(from, Up);
                            prop_assert!(tail(seen, "i") >= fall as usize);
                        }
                    }
                }
            }
            // Conversely, a long enough run always has its effect.
            if tail(seen, "fns") >= fall as usize {
                prop_assert_eq!(machine.health(), Down);
            }
            if tail(seen, "p") >= rise as usize {
                prop_assert_eq!(machine.health(), Up);
            }
        }
    }

    #[test]
    fn inconclusive_probes_never_bring_down(from in health(), fall in 1u32..6, count in 0usize..500, pass_each in 1usize..9) {
        let mut machine = starting(from, 2, fall);
        for i in 0..count {
            let transition = observe(&mut machine, &verdict(if i % pass_each == 0 { 'p' } else { 'i' }));
            prop_assert!(transition.is_none_or(|transition| transition.to != Down));
        }
    }

    #[test]
    fn fails_mixed_with_inconclusive_ones_bring_down_only_in_a_row(fall in 2u32..6, letters in letters()) {
        let mut machine = starting(Unknown, 2, fall);
        for pair in letters.chunks(fall as usize - 1) {
            for _ in pair {
                observe(&mut machine, &verdict('f'));
            }
            observe(&mut machine, &verdict('i'));
            prop_assert_ne!(machine.health(), Down);
        }
    }

    #[test]
    fn the_same_verdicts_give_the_same_health(rise in 1u32..6, fall in 1u32..6, letters in letters()) {
        let letters: String = letters.into_iter().collect();
        prop_assert_eq!(run(&mut starting(Unknown, rise, fall), &letters), run(&mut starting(Unknown, rise, fall), &letters));
    }
}

#[test]
fn what_is_forgotten_is_unknown_and_counts_begin_anew() {
    for health in [Unknown, Up, Down] {
        let mut machine = starting(health, 2, 2);
        observe(&mut machine, &Verdict::Fail("no answer".to_owned()));
        let before = machine.health();
        let change = machine.forget(Duration::ZERO, "no probe has ended");
        assert_eq!(change.map(|change| (change.from, change.to)), (before != Unknown).then_some((before, Unknown)));
        assert_eq!((machine.health(), machine.silent_since(), machine.answers()), (Unknown, None, false), "{health}");
        assert_eq!(run(&mut machine, "sss"), "udd", "{health}");
    }
}

#[test]
fn silence_and_unreachability_in_turn_are_one_time_without_an_answer() {
    let mut machine = starting(Up, 2, 3);
    for (second, letter) in (1..).zip("snsn".chars()) {
        machine.observe(&verdict(letter), Duration::from_secs(second), false);
        assert_eq!(machine.hushed_since(), Some(Duration::from_secs(1)));
        assert_eq!(machine.silent_since().is_some(), second > 1);
        assert!(machine.was_silent_lately() && !machine.is_reported());
    }
    run(&mut machine, "nn");
    assert!(machine.is_reported(), "three reports in a row");
    run(&mut machine, "f");
    assert_eq!((machine.hushed_since(), machine.is_reported()), (None, false), "a wrong answer is an answer");
    // While this host is to blame, neither counts.
    let mut machine = starting(Up, 2, 3);
    for letter in "nnnnsnnn".chars() {
        machine.observe(&verdict(letter), Duration::ZERO, true);
    }
    assert_eq!(machine.health(), Up);
}
