//! Results of a guest's tests, read from the programs' output.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::kernels::Prepared;

/// Results of one kernel.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) kernel: String,
    /// The distribution or source of the kernel.
    pub(crate) whose: String,
    /// Output of `uname -r`.
    pub(crate) release: String,
    pub(crate) seconds: f64,
    pub(crate) tests: Vec<Test>,
    /// Skipped tests, with the missing feature.
    pub(crate) skipped: Vec<String>,
    /// Figures that tests report, such as the number of instructions that the verifier processed.
    pub(crate) figures: BTreeMap<String, u64>,
    /// Reason why the guest did not complete, if it did not.
    pub(crate) failure: Option<String>,
}

/// Result of a test function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Test {
    /// Program and path of the test.
    pub(crate) name: String,
    pub(crate) passed: bool,
}

impl Outcome {
    /// Reads the results in a guest's `/out`.
    pub(super) fn read(kernel: &Prepared, out: &Path, time: Duration, ended: &Result<i32>) -> Result<Self> {
        let mut outcome = Self {
            kernel: kernel.kernel.name.to_owned(),
            whose: kernel.kernel.whose.to_owned(),
            release: kernel.release.clone(),
            seconds: time.as_secs_f64(),
            tests: Vec::new(),
            // Tests with the same cases skip the same ones.
            skipped: lines(&out.join("skips")).into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
            figures: BTreeMap::new(),
            failure: ended.as_ref().err().map(|error| format!("{error:#}")),
        };
        for line in lines(&out.join("figures")) {
            let figure = line.split_once('=').and_then(|(name, value)| Some((name, value.trim().parse().ok()?)));
            let (name, value) = figure.with_context(|| format!("`{line}` is no figure"))?;
            outcome.figures.insert(name.trim().to_owned(), value);
        }
        for line in lines(&out.join("runs")) {
            // A program that ends in any other way than by a failed test has not run all of its tests.
            let (program, code) = line.split_once(' ').with_context(|| format!("`{line}` is no run"))?;
            let tests = read_tests(program, &lines(&out.join(format!("{program}.txt"))));
            let reported = tests.iter().any(|test| !test.passed);
            outcome.tests.extend(tests);
            if code != "0" && !reported {
                let why = if code == "124" { "did not end in time" } else { "did not come to its end" };
                outcome.tests.push(Test { name: format!("{program} {why}"), passed: false });
            }
        }
        Ok(outcome)
    }

    pub(crate) fn passed(&self) -> usize {
        self.tests.iter().filter(|test| test.passed).count()
    }

    /// Failed tests, and the guest's own failure.
    pub(crate) fn failures(&self) -> Vec<String> {
        let tests = self.tests.iter().filter(|test| !test.passed).map(|test| test.name.clone());
        tests.chain(self.failure.clone()).collect()
    }
}

/// The results in a test program's output.
fn read_tests(program: &str, printed: &[String]) -> Vec<Test> {
    let result = |line: &String| {
        let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ").or_else(|| {
            // A test's own output comes between its name and its result.
            let (name, _) = line.strip_prefix("test ")?.split_once(" ... ")?;
            Some((name, "unknown"))
        })?;
        let passed = match result {
            "ok" => true,
            "FAILED" => false,
            _ => return None,
        };
        Some(Test { name: format!("{program} {name}"), passed })
    };
    printed.iter().filter_map(result).collect()
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_and_other_lines_are_not() {
        let printed =
            ["running 3 tests", "test a::b ... ok", "test c ... FAILED", "test d ... ignored", "test result: ok."];
        let test = |name: &str, passed| Test { name: name.to_owned(), passed };
        assert_eq!(
            read_tests("packets", &printed.map(str::to_owned)),
            [test("packets a::b", true), test("packets c", false)]
        );
    }
}
