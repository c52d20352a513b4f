//! Budgets of the programs: `tests/budgets.toml`.
//!
//! Instruction counts are exact, so they are asserted, while times are only printed. They depend on the compiler, so
//! they are asserted only with the compiler that the budget was made with.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use xtask::{cargo, ebpf_toolchain::EbpfToolchain};

use crate::{
    bench::{self, Profile},
    programs::{self, Size},
};

pub(crate) const FILE: &str = "tests/budgets.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budgets {
    compiler: String,
    programs: BTreeMap<String, Budget>,
    /// Maximum number of instructions that the load balancer may execute for a packet, by kind.
    executed: BTreeMap<String, u32>,
}

/// Limits of a program.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    translated: u32,
    verified: u32,
}

/// Loads the built programs, runs the load balancer in the interpreter, and compares both with their budgets.
///
/// # Errors
/// If interpreter and host pipeline treat a packet differently; or if a program exceeds its budget, with the change
/// that the file needs.
pub(crate) fn check() -> Result<()> {
    let text = std::fs::read_to_string(cargo::root().join(FILE)).with_context(|| format!("could not read {FILE}"))?;
    let budgets: Budgets = toml::from_str(&text).with_context(|| FILE.to_owned())?;
    let sizes = programs::sizes()?;
    for Size { program, translated, jited, verified } in &sizes {
        eprintln!("xtask: {program}: {translated} instructions, {jited} bytes jited, {verified} verified");
    }
    let profile = bench::profile()?;
    for kind in &profile {
        eprintln!("xtask: {}: {} instructions executed", kind.name(), kind.instructions);
    }
    let compiler = EbpfToolchain::ensure()?.compiler()?;
    if compiler != budgets.compiler {
        eprintln!("xtask: not compared with {FILE}, which is for {}: this is {compiler}", budgets.compiler);
        return Ok(());
    }
    let over = excess(&budgets, &sizes)? + &executed_excess(&budgets, &counts(&profile))?;
    ensure!(
        over.is_empty(),
        "{over}Make them smaller, or raise the budgets in {FILE}, in a commit that gives the reason"
    );
    Ok(())
}

/// A line for each count that exceeds its budget.
fn excess(budgets: &Budgets, sizes: &[Size]) -> Result<String> {
    let mut over = String::new();
    for Size { program, translated, verified, .. } in sizes {
        let budget = budgets.programs.get(program).with_context(|| format!("{FILE} has no `{program}`"))?;
        for (what, now, most) in
            [("translated", *translated, budget.translated), ("verified", *verified, budget.verified)]
        {
            if now > most {
                writeln!(over, "`{program}` has {what} = {now}; its budget is {most}")?;
            }
        }
    }
    Ok(over)
}

fn counts(profile: &[Profile]) -> BTreeMap<String, u32> {
    profile.iter().map(|kind| (kind.name(), kind.instructions)).collect()
}

/// A line for each kind of packet that exceeds its budget, or has fallen so far below it that the budget, by which the
/// README's figures are compared with the packet path, no longer describes it.
fn executed_excess(budgets: &Budgets, counts: &BTreeMap<String, u32>) -> Result<String> {
    let mut over = String::new();
    for (kind, most) in &budgets.executed {
        let now = counts.get(kind).with_context(|| format!("{FILE} has `{kind}`, which is not counted"))?;
        if now > most {
            writeln!(over, "`{kind}` has executed = {now}; its budget is {most}")?;
        }
        if u64::from(*now) * 105 < u64::from(*most) * 100 {
            writeln!(over, "`{kind}` has executed = {now}: lower its budget, which is {most}")?;
        }
    }
    Ok(over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_over_its_budget_is_named() {
        let text = "compiler = \"x\"\nprograms.edge = { translated = 10, verified = 20 }\nexecuted.a = 5";
        let budgets: Budgets = toml::from_str(text).expect("a budget");
        let size = |translated, verified| [Size { program: "edge".to_owned(), translated, jited: 0, verified }];
        assert_eq!(excess(&budgets, &size(10, 20)).expect("a budget for each"), "");
        let over = excess(&budgets, &size(10, 21)).expect("a budget for each");
        assert_eq!(over, "`edge` has verified = 21; its budget is 20\n");

        let counts = |now| BTreeMap::from([("a".to_owned(), now), ("b".to_owned(), 1000)]);
        assert_eq!(executed_excess(&budgets, &counts(5)).expect("a count for each"), "");
        let over = executed_excess(&budgets, &counts(6)).expect("a count for each");
        assert_eq!(over, "`a` has executed = 6; its budget is 5\n");
        let under = executed_excess(&budgets, &counts(4)).expect("a count for each");
        assert_eq!(under, "`a` has executed = 4: lower its budget, which is 5\n");
        assert!(executed_excess(&budgets, &BTreeMap::new()).is_err());
    }
}
