//! Checks that the README's figures belong to the present packet path.
//!
//! The README names the commit at which its figures were measured. The instruction counts in that commit's
//! `tests/budgets.toml` must agree with the present ones.

use std::collections::BTreeMap;

use serde::Deserialize;
use xtask::cargo;

use crate::budget;

/// Maximum difference of a count, relative to the present one.
const MOST: f64 = 0.05;
/// Minimum number of kinds of packets in both, for a meaningful comparison.
const ENOUGH: usize = 5;

#[derive(Debug, Deserialize)]
struct Executed {
    executed: BTreeMap<String, u32>,
}

/// The commit in a text: the first hexadecimal number in backticks after the word "commit".
fn commit(text: &str) -> Option<&str> {
    let (name, _) = text.split_once("commit `")?.1.split_once('`')?;
    let is_commit = name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then_some(name)
}

/// The reasons why figures of `then` do not apply to `now`, one per line.
fn outdated(then: &BTreeMap<String, u32>, now: &BTreeMap<String, u32>) -> Vec<String> {
    let both: Vec<_> = now.iter().filter_map(|(kind, now)| Some((kind, *then.get(kind)?, *now))).collect();
    let differ = both.iter().filter(|(_, then, now)| f64::from(then.abs_diff(*now)) > MOST * f64::from(*now));
    let mut reasons: Vec<_> = differ.map(|(kind, then, now)| format!("`{kind}`: {then} then, {now} now")).collect();
    if both.len() < ENOUGH {
        reasons.push(format!("only {} kinds of packets are in both", both.len()));
    }
    reasons
}

#[test]
fn the_readme_has_figures_of_this_packet_path() {
    let read = |name| std::fs::read_to_string(cargo::root().join(name)).expect("a file of the checkout");
    let readme = read("README.md");
    let commit = commit(&readme).expect("the README names the commit that its figures were measured at");
    let git = |arguments: &[&str]| cargo::output(cargo::command("git").args(arguments));
    let is_shallow = git(&["rev-parse", "--is-shallow-repository"]);
    if is_shallow.is_none_or(|answer| answer.trim() != "false") {
        eprintln!("not compared: no git, no checkout, or a shallow one");
        return;
    }
    let known = git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]);
    assert!(known.is_some(), "{commit}, at which the README's figures were measured, is no commit of this project");
    let then = git(&["show", &format!("{commit}:{}", budget::FILE)]).expect("the commit has budgets");
    let [then, now] =
        [&then, &read(budget::FILE)].map(|text| toml::from_str::<Executed>(text).expect("budgets").executed);
    let reasons = outdated(&then, &now);
    assert!(
        reasons.is_empty(),
        "measure again (`cargo xtask bench`), and say so in README.md:\n{}",
        reasons.join("\n")
    );
}

#[test]
fn a_path_that_changed_is_noticed() {
    let counts = |first: u32| (0u32..).zip('a'..='e').map(|(place, kind)| (kind.to_string(), first + place)).collect();
    let now: BTreeMap<_, _> = counts(200);
    assert!(outdated(&counts(210), &now).is_empty());
    assert!(outdated(&counts(190), &now).is_empty());
    assert_eq!(outdated(&counts(211), &now)[0], "`a`: 211 then, 200 now");
    assert_eq!(outdated(&counts(189), &now).len(), 5);
    let few: BTreeMap<_, _> = now.clone().into_iter().skip(1).collect();
    assert_eq!(outdated(&few, &now), ["only 4 kinds of packets are in both"]);
}

#[test]
fn the_commit_is_found() {
    assert_eq!(commit("measured at commit `0123abc`, on"), Some("0123abc"));
    assert_eq!(commit("commit `--help`"), None);
    assert_eq!(commit("none"), None);
}
