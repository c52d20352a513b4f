//! Presents the results: a few lines for each kernel, and docs/kernels.md.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context as _, Result};
use xtask::cargo;

use super::results::Outcome;

const PAGE: &str = "docs/kernels.md";
/// Text before the table.
const HEAD: &str = include_str!("page.md");
/// Prefixes of the names of tests that are rows of the table.
const ROWS: [&str; 2] = ["packets load::", "lab kernels::"];

/// Results of one kernel: tests that passed, skipped tests with the reasons, and failures.
pub(super) fn summary(outcome: &Outcome) -> String {
    let failures = outcome.failures();
    let mut text = format!(
        "Linux {} ({}): {} passed, {} failed, {} skipped, in {:.0} s{}\n",
        outcome.release,
        outcome.whose,
        outcome.passed(),
        failures.len(),
        outcome.skipped.len(),
        outcome.seconds,
        verified(outcome)
            .map(|counts| format!("; instructions examined by the verifier: {counts}"))
            .unwrap_or_default(),
    );
    let ran = |start: &str| outcome.tests.iter().filter(|test| test.passed && test.name.starts_with(start)).count();
    let features = outcome.tests.iter().filter(|test| test.passed).filter_map(|test| feature(&test.name));
    let features: Vec<_> = features.map(|feature| feature.replace('_', " ")).collect();
    writeln!(text, "  ran: {} packet tests; {}", ran("packets "), features.join("; "))
        .expect("writing to a string succeeds");
    for skipped in &outcome.skipped {
        writeln!(text, "  {skipped}").expect("writing to a string succeeds");
    }
    for failure in failures {
        writeln!(text, "  FAILED {failure}").expect("writing to a string succeeds");
    }
    if outcome.tests.iter().any(|test| !test.passed) {
        writeln!(text, "  their output is in target/vm/*/{}", outcome.kernel).expect("writing to a string succeeds");
    }
    text
}

/// Writes the page.
pub(super) fn write(outcomes: &[Outcome]) -> Result<()> {
    std::fs::write(cargo::root().join(PAGE), page(outcomes)).with_context(|| format!("could not write {PAGE}"))
}

fn page(outcomes: &[Outcome]) -> String {
    let mut text = HEAD.to_owned();
    row(&mut text, "", outcomes.iter().map(|outcome| outcome.kernel.clone()));
    row(&mut text, "---", outcomes.iter().map(|_| "---".to_owned()));
    row(&mut text, "kernel", outcomes.iter().map(|outcome| format!("{}, {}", outcome.release, outcome.whose)));
    row(&mut text, "packet tests", outcomes.iter().map(packets));
    let features: BTreeSet<_> =
        outcomes.iter().flat_map(|outcome| outcome.tests.iter().filter_map(|test| feature(&test.name))).collect();
    for feature in features {
        row(
            &mut text,
            &feature.replace('_', " ").replace("::", ": "),
            outcomes.iter().map(|outcome| cell(outcome, feature)),
        );
    }
    let skipped: BTreeSet<_> = outcomes
        .iter()
        .flat_map(|outcome| outcome.skipped.iter().map(|skipped| format!("{}: {}", outcome.kernel, reason(skipped))))
        .collect();
    if !skipped.is_empty() {
        text.push_str("\nLeft out, since the kernel lacks a required feature:\n\n");
    }
    for skipped in skipped {
        writeln!(text, "- {skipped}").expect("writing to a string succeeds");
    }
    text
}

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells.collect();
    writeln!(text, "| {name} | {} |", cells.join(" | ")).expect("writing to a string succeeds");
}

/// The cell of a kernel and a feature that a lab test shows.
fn cell(outcome: &Outcome, feature: &str) -> String {
    if let Some(skipped) = outcome.skipped.iter().find(|skipped| reason(skipped).starts_with(&format!("{feature}:"))) {
        return skipped.rsplit(": ").next().unwrap_or(skipped).to_owned();
    }
    match outcome.tests.iter().find(|test| self::feature(&test.name) == Some(feature)) {
        Some(test) if test.passed => "yes".to_owned(),
        Some(_) => "**no**".to_owned(),
        None => "not run".to_owned(),
    }
}

/// The feature that a test shows; `None` if the test is not a row.
fn feature(test: &str) -> Option<&str> {
    ROWS.iter().find_map(|start| test.strip_prefix(start))
}

/// The reason after the word "skipped".
fn reason(skipped: &str) -> &str {
    skipped.trim_start_matches("skipped: ").trim_start_matches("kernels::")
}

fn packets(outcome: &Outcome) -> String {
    let packets = || outcome.tests.iter().filter(|test| test.name.starts_with("packets "));
    let passed = packets().filter(|test| test.passed).count();
    match packets().count() {
        0 => "not run".to_owned(),
        all if all == passed => format!("{all} pass"),
        all => format!("**{} of {all} fail**", all - passed),
    }
}

fn verified(outcome: &Outcome) -> Option<String> {
    let count = |program: &str| Some(thousands(*outcome.figures.get(&format!("verified_{program}"))?));
    Some(format!("{} (edge), {} (nat), {} (decap)", count("edge")?, count("nat")?, count("decap")?))
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::results::Test, *};

    fn outcome() -> Outcome {
        let test = |name: &str, passed| Test { name: name.to_owned(), passed };
        Outcome {
            kernel: "6.1".to_owned(),
            whose: "Debian 12".to_owned(),
            release: "6.1.0-1".to_owned(),
            seconds: 61.0,
            tests: vec![
                test("packets a", true),
                test("packets b", false),
                test("lab kernels::native_on_veth", true),
                test("lab kernels::native_on_virtio", true),
            ],
            skipped: vec!["skipped: native_on_virtio: needs shared transmit queues (5.13)".to_owned()],
            figures: [("verified_edge", 471_871), ("verified_nat", 1000), ("verified_decap", 999)]
                .map(|(k, v)| (k.to_owned(), v))
                .into(),
            failure: None,
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_feature_and_a_column_for_each_kernel() {
        let page = page(&[outcome()]);
        let table = page.strip_prefix(HEAD).expect("the head comes first");
        assert_eq!(
            table,
            "|  | 6.1 |\n| --- | --- |\n| kernel | 6.1.0-1, Debian 12 |\n\
             | packet tests | **1 of 2 fail** |\n| native on veth | yes |\n\
             | native on virtio | needs shared transmit queues (5.13) |\n\n\
             Left out, since the kernel lacks a required feature:\n\n\
             - 6.1: native_on_virtio: needs shared transmit queues (5.13)\n"
        );
    }

    #[test]
    fn a_summary_names_failures_and_skipped_tests() {
        let text = summary(&outcome());
        assert!(text.starts_with("Linux 6.1.0-1 (Debian 12): 3 passed, 1 failed, 1 skipped, in 61 s"), "{text}");
        assert!(
            text.contains("FAILED packets b") && text.contains("471,871 (edge), 1,000 (nat), 999 (decap)"),
            "{text}"
        );
        assert!(text.contains("ran: 1 packet tests; native on veth; native on virtio\n"), "{text}");
    }
}
