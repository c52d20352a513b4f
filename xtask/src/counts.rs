//! Adds up the result lines of test programs.

use std::fmt;

/// Tests that passed and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    /// Tests that failed once and passed when repeated; included in `passed`.
    pub again: Vec<String>,
}

impl Counts {
    /// Counts a line of output if it is a result.
    pub fn read(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let words: Vec<_> = part.split_whitespace().collect();
            if let [number, what] = words[..]
                && let Ok(number) = number.parse::<usize>()
            {
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    _ => {}
                }
            }
        }
    }

    /// A line that [`Self::read`] counts.
    pub fn line(&self) -> String {
        let Self { passed, failed, .. } = self;
        let result = if *failed == 0 { "ok" } else { "FAILED" };
        format!("test result: {result}. {passed} passed; {failed} failed")
    }

    /// Counts the repetition of failed tests, whose results are `others`.
    pub fn again(&mut self, names: Vec<String>, others: &Self) {
        self.failed -= others.passed;
        self.passed += others.passed;
        self.again.extend(names);
    }

    /// Counts a check that is not a test program.
    pub fn check(&mut self, passed: bool) {
        self.passed += usize::from(passed);
        self.failed += usize::from(!passed);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, again } = self;
        write!(f, "{passed} passed, {failed} failed")?;
        if again.is_empty() { Ok(()) } else { write!(f, " (passed only when run again: {})", again.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up_and_other_lines_count_nothing() {
        let mut counts = Counts::default();
        counts.read("test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s");
        counts.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s");
        counts.read("test one ... ok");
        counts.read("99 passed; 99 failed");
        assert_eq!(counts.to_string(), "10 passed, 2 failed");
        counts.again(vec!["a::b".to_owned()], &Counts { passed: 1, failed: 1, again: Vec::new() });
        assert_eq!(counts.to_string(), "11 passed, 1 failed (passed only when run again: a::b)");
        counts.read(&Counts { passed: 4, failed: 3, again: Vec::new() }.line());
        assert_eq!((counts.passed, counts.failed), (15, 4));
    }
}
