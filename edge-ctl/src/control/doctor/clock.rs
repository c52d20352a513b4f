//! The host's clock: events, incidents and the validity of certificates have its time.

use super::Checked;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Whether the kernel says that the clock is synchronised; absent if the kernel does not answer.
    pub(crate) synchronised: Option<bool>,
    /// Seconds since 1970.
    pub(crate) seconds: u64,
}

/// 2025-01-01. No host that runs this has an earlier time.
const BEFORE: u64 = 1_735_689_600;

impl Clock {
    pub(super) fn check(self) -> Checked {
        const REMEDY: &str = "timedatectl set-ntp true, or start chronyd";
        let seen = match self.synchronised {
            Some(true) => "synchronised",
            Some(false) => "not synchronised",
            None => "the kernel does not tell whether it is synchronised",
        };
        let mut check = Checked::new("clock", seen);
        if self.seconds < BEFORE {
            check.fail("it is years behind: certificates seem to be invalid, and events have wrong times", REMEDY);
        } else if self.synchronised == Some(false) {
            check.warn("nothing synchronises it: times of events differ from those of other hosts", REMEDY);
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Severity;

    #[test]
    fn what_is_wrong_with_a_clock() {
        let now = BEFORE + 1;
        for (synchronised, seconds, expected) in [
            (Some(true), now, None),
            (None, now, None),
            (Some(false), now, Some(Severity::Warning)),
            (Some(true), 1000, Some(Severity::Error)),
        ] {
            let check = Clock { synchronised, seconds }.check();
            assert_eq!(check.findings.first().map(|finding| finding.severity), expected, "{check:?}");
        }
    }
}
