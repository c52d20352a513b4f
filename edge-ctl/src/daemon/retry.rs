//! Retries after failures, at growing intervals.

use std::time::{Duration, Instant};

/// Pause between a first failure and the next try.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two tries. A try costs seconds in the verifier, and some drivers their link.
const LONGEST: Duration = Duration::from_secs(30);

/// The last failure of an operation, and the time of the next try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    why: String,
    pause: Duration,
    due: Instant,
}

impl Retry {
    /// A failure for the reason `why`; `before` is the last failure of the same operation.
    pub(super) fn after(before: Option<&Self>, why: String, now: Instant) -> Self {
        let pause = before.map_or(FIRST, |before| (before.pause * 2).clamp(FIRST, LONGEST));
        Self { why, pause, due: now + pause }
    }

    /// Whether the failure is to be reported: a repeated reason is not.
    pub(super) fn is_news(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| before.why != self.why)
    }

    pub(super) fn why(&self) -> &str {
        &self.why
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// Makes the next try due at once, since something has changed; if it fails, the pauses start anew.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.pause = Duration::ZERO;
        self.due = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_further_and_further_apart_and_a_reason_is_news_once() {
        let start = Instant::now();
        let mut before: Option<Retry> = None;
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let retry = Retry::after(before.as_ref(), "no".to_owned(), now);
            assert_eq!(retry.is_news(before.as_ref()), now == start);
            let next = now + Duration::from_secs(seconds);
            assert!(!retry.is_due(next.checked_sub(Duration::from_millis(1)).expect("later than the start")));
            assert!(retry.is_due(next));
            now = next;
            before = Some(retry);
        }
        let mut retry = Retry::after(before.as_ref(), "no more".to_owned(), now);
        assert!(retry.is_news(before.as_ref()));
        retry.hasten(now);
        assert!(retry.is_due(now));
        assert!(!Retry::after(Some(&retry), "no more".to_owned(), now).is_due(now));
    }
}
