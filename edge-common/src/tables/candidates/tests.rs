//! The properties of every table: balance, balance after one death, determinism, distinct candidates, little disruption.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Members `10.0.0.0`, `10.0.0.1`, … with these weights and ascending numbers.
fn members(weights: &[u32]) -> Vec<Member> {
    let addresses = 0xffff_0a00_0000u128..;
    let member =
        |((number, address), &weight): ((u16, u128), &u32)| Member { number, weight, identity: address.to_be_bytes() };
    (1..).zip(addresses).zip(weights).map(member).collect()
}

/// Weights from 50 to 249, unordered.
fn uneven(members: u32) -> Vec<u32> {
    (0..members).map(|i| 50 + i * 7919 % 200).collect()
}

fn total(members: &[Member]) -> f64 {
    members.iter().map(|member| f64::from(member.weight)).sum()
}

/// How often each number, all less than 1,024, is among `numbers`.
fn count(numbers: impl Iterator<Item = BackendNumber>) -> [f64; 1024] {
    let mut counts = [0.0; 1024];
    numbers.for_each(|number| counts[usize::from(number)] += 1.0);
    counts
}

fn first_counts(table: &[Cell]) -> [f64; 1024] {
    count(table.iter().map(|cell| cell.0[0]))
}

/// Number of slots whose first candidate differs.
fn moved(before: &[Cell], after: &[Cell]) -> f64 {
    let moved = before.iter().zip(after).filter(|(before, after)| before.0[0] != after.0[0]).count();
    f64::from(u32::try_from(moved).unwrap())
}

/// The fewest slots that must move to change the balance of one table to that of the other.
fn must_move(before: &[Cell], after: &[Cell]) -> f64 {
    first_counts(before).iter().zip(first_counts(after)).map(|(before, after)| (before - after).abs()).sum::<f64>()
        / 2.0
}

/// Checks that every member has its share of the slots, rounded down or up.
fn check_balance(members: &[Member], slots: u32) {
    let table = build(members, slots);
    let counts = first_counts(&table);
    let total = total(members);
    for member in members {
        let share = f64::from(slots) * f64::from(member.weight) / total;
        let found = counts[usize::from(member.number)];
        assert!((found - share).abs() < 1.0, "{found} slots of {share} for {member:?}");
        assert!(share < 100.0 || (found / share - 1.0).abs() <= 0.01, "{found} slots of {share} for {member:?}");
    }
}

/// Checks that with any one member down every other inherits its share of the freed slots, rounded down or up, so that all
/// are within 10 % of their share among the members that are left, or within 3 slots for small shares.
fn check_balance_with_one_down(members: &[Member], slots: u32) {
    let table = build(members, slots);
    let counts = first_counts(&table);
    let mut inherited = std::collections::BTreeMap::<_, Vec<_>>::new();
    for Cell([first, second, ..]) in table {
        inherited.entry(first).or_default().push(second);
    }
    for (down, heirs) in inherited {
        let freed = counts[usize::from(down)];
        let heirs = count(heirs.into_iter());
        let left: Vec<Member> = members.iter().copied().filter(|member| member.number != down).collect();
        let rest = total(&left);
        for member in &left {
            let part = f64::from(member.weight) / rest;
            let found = heirs[usize::from(member.number)];
            assert!((found - freed * part).abs() < 1.0, "{found} of {freed} slots of {down} for {member:?}");
            let load = counts[usize::from(member.number)] + found;
            let fair = f64::from(slots) * part;
            assert!((load - fair).abs() < f64::max(3.0, fair * 0.1), "{load} slots of {fair} without {down}");
        }
    }
}

#[test]
fn shares_are_within_one_percent_of_the_weights() {
    for n in [3, 10, 100, 655] {
        check_balance(&members(&vec![100; n as usize]), 1 << 16);
        check_balance(&members(&uneven(n)), 1 << 16);
    }
    check_balance(&members(&[65_535, 1, 1, 300, 20_000]), 1 << 16);
}

#[test]
fn a_dead_members_slots_spread_by_weight() {
    for n in [2, 3, 10, 100, 256, 655] {
        check_balance_with_one_down(&members(&vec![100; n as usize]), 1 << 16);
        check_balance_with_one_down(&members(&uneven(n)), 1 << 16);
    }
    check_balance_with_one_down(&members(&[65_535, 1, 1, 300, 20_000]), 1 << 16);
}

/// Of 100 slots that one of 11 members frees, a random choice would give some heir 5 and another 15.
#[test]
fn few_slots_spread_evenly_too() {
    let table = build(&members(&[100; 11]), 1024);
    for down in 1..=11 {
        let heirs = count(table.iter().filter(|cell| cell.0[0] == down).map(|cell| cell.0[1]));
        let heirs: Vec<f64> =
            (1..=11).filter(|&number| number != down).map(|number| heirs[usize::from(number)]).collect();
        assert!(heirs.iter().all(|heirs| (9.0..=10.0).contains(heirs)), "{heirs:?}");
    }
}

#[test]
fn third_and_fourth_candidates_follow_the_weights() {
    let members = members(&[300, 200, 200, 200, 100]);
    let table = build(&members, 1 << 16);
    // With the first two given, each of the others has its weight's part of what is left.
    for position in [2, 3] {
        let mut expected = [0.0; 6];
        for Cell(candidates) in &table {
            let left: Vec<Member> =
                members.iter().copied().filter(|member| !candidates[..position].contains(&member.number)).collect();
            for member in &left {
                expected[usize::from(member.number)] += f64::from(member.weight) / total(&left);
            }
        }
        let found = count(table.iter().map(|cell| cell.0[position]));
        for number in 1..=5 {
            assert!(
                (found[number] / expected[number] - 1.0).abs() < 0.05,
                "{number}: {} of {}",
                found[number],
                expected[number]
            );
        }
    }
}

#[test]
fn a_member_of_most_of_the_weight_leaves_the_others_their_places() {
    let mut weights = vec![1; 200];
    weights[7] = 65_535;
    let table = build(&members(&weights), 4096);
    // It has all slots but 12; the others inherit them in turn.
    let heirs = count(table.iter().filter(|cell| cell.0[0] == 8).map(|cell| cell.0[1]));
    assert!((1..=200).filter(|&number| number != 8).all(|number| (20.0..=21.0).contains(&heirs[number])));
    let third = count(table.iter().map(|cell| cell.0[2]));
    assert!((1..=200).filter(|&number| number != 8).all(|number| third[number] > 0.0));
}

#[test]
fn pools_of_fewer_members_than_a_cell_leave_the_rest_empty() {
    assert_eq!(build(&[], 4), [Cell::default(); 4]);
    assert_eq!(build(&members(&[9]), 2), [Cell([1, 0, 0, 0]); 2]);
    for Cell([first, second, third, fourth]) in build(&members(&[1, 2, 3]), 256) {
        assert_eq!(BTreeSet::from([first, second, third]), BTreeSet::from([1, 2, 3]));
        assert_eq!(fourth, 0);
    }
}

#[test]
fn more_members_than_slots_have_a_table() {
    let table = build(&members(&[100; 40]), 16);
    assert_eq!(table.iter().map(|cell| cell.0[0]).collect::<BTreeSet<_>>().len(), 16);
}

/// Edges of different versions run side by side and must agree. Change these with the ABI version only.
#[test]
fn the_tables_of_known_pools_never_change() {
    let table = build(&members(&[100, 100, 50, 200, 150]), 8);
    assert_eq!(
        table.iter().map(|cell| cell.0).collect::<Vec<_>>(),
        [
            [5, 4, 2, 1],
            [4, 1, 2, 5],
            [1, 4, 5, 2],
            [2, 5, 1, 4],
            [3, 1, 4, 5],
            [5, 1, 4, 3],
            [4, 5, 2, 3],
            [4, 2, 5, 3]
        ]
    );
    let digest = |table: Vec<Cell>| {
        table.iter().flat_map(|cell| cell.0).fold(0, |sum, number| mix::mix(sum ^ u64::from(number)))
    };
    assert_eq!(digest(build(&members(&uneven(100)), 1 << 14)), 0x1ae9_def1_6ca0_0e17);
    assert_eq!(digest(build(&members(&[65_535, 1, 20_000, 3, 7, 500]), 1 << 10)), 0xccb2_b68d_06e0_8406);
}

/// With 100 slots per member, the fewest that a configuration may have, the matching has little room to keep other members'
/// slots.
#[test]
fn a_member_that_goes_moves_little_in_the_fullest_table() {
    for weights in [vec![100; 655], uneven(655)] {
        let members = members(&weights);
        let before = build(&members, 1 << 16);
        let mut all = 0.0;
        for gone in (0..655).step_by(131) {
            let mut left = members.clone();
            let share = 65_536.0 * f64::from(left.remove(gone).weight) / total(&members);
            let after = build(&left, 1 << 16);
            all += moved(&before, &after) / share;
        }
        assert!(all / 5.0 <= 4.5, "a member that goes moves {} times its slots", all / 5.0);
    }
}

fn any_weights() -> impl Strategy<Value = Vec<u32>> {
    let alike = (1usize..60, 1u32..=65_535).prop_map(|(n, weight)| vec![weight; n]);
    let any = prop::collection::vec(1u32..=65_535, 1..60);
    let steep = prop::collection::vec((0u32..16).prop_map(|bits| 1 << bits), 1..60);
    prop_oneof![alike, any, steep]
}

/// Pools of 10 and more members with at least 250 slots each in a table of 16,384.
fn roomy_weights() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![(10usize..=60).prop_map(|n| vec![100; n]), prop::collection::vec(80u32..=160, 10..=40),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn balance(weights in any_weights(), bits in 0u32..=13) {
        check_balance(&members(&weights), 1 << bits);
    }

    #[test]
    fn balance_with_one_down(weights in any_weights(), bits in 0u32..=13) {
        check_balance_with_one_down(&members(&weights), 1 << bits);
    }

    #[test]
    fn candidates_are_distinct_and_as_many_as_there_are(weights in any_weights(), bits in 0u32..=12) {
        let members = members(&weights);
        for Cell(candidates) in build(&members, 1 << bits) {
            let found = members.len().min(CELL);
            let distinct: BTreeSet<_> = candidates[..found].iter().collect();
            prop_assert!(distinct.len() == found && !distinct.contains(&0), "{candidates:?}");
            prop_assert!(candidates[found..].iter().all(|&number| number == 0), "{candidates:?}");
            prop_assert!(candidates.iter().all(|&number| usize::from(number) <= members.len()), "{candidates:?}");
        }
    }

    #[test]
    fn order_and_numbers_of_the_members_do_not_count(
        (members, shuffled) in any_weights().prop_map(|weights| members(&weights))
            .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle())),
        bits in 0u32..=12,
    ) {
        let renumbered: Vec<Member> =
            (0..).zip(&shuffled).map(|(i, &member)| Member { number: 60_000 - 7 * i, ..member }).collect();
        // Maps a member's number in `renumbered` to its number in `members`.
        let back = |number: BackendNumber| if number == 0 { 0 } else { shuffled[usize::from((60_000 - number) / 7)].number };
        let table = build(&members, 1 << bits);
        prop_assert_eq!(&table, &build(&shuffled, 1 << bits));
        let same: Vec<Cell> = build(&renumbered, 1 << bits).into_iter().map(|cell| Cell(cell.0.map(back))).collect();
        prop_assert_eq!(table, same);
    }

    /// Adding or removing one of n members moves at most 2 / n of the slots with equal weights; otherwise twice its share.
    #[test]
    fn a_member_that_comes_or_goes_moves_little(weights in roomy_weights(), which: prop::sample::Index) {
        let with = members(&weights);
        let mut without = with.clone();
        let other = without.remove(which.index(with.len()));
        let share = 16_384.0 * f64::from(other.weight) / total(&with);
        let moved = moved(&build(&with, 1 << 14), &build(&without, 1 << 14));
        prop_assert!(moved <= 2.0 * share, "{moved} slots move for one that has {share}");
    }

    /// Changing a weight moves at most 2.5 times the slots that must move, and a few more.
    #[test]
    fn another_weight_moves_in_proportion(weights in roomy_weights(), which: prop::sample::Index, weight in 20u32..400) {
        let before = members(&weights);
        let mut after = before.clone();
        after[which.index(before.len())].weight = weight;
        let [before, after] = [before, after].map(|members| build(&members, 1 << 14));
        let [moved, must] = [moved(&before, &after), must_move(&before, &after)];
        prop_assert!(moved <= 2.5 * must + 32.0, "{moved} slots move where {must} must");
    }
}
