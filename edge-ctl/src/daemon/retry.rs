//! What has failed and is tried again: soon at first, then less and less often.

use std::time::{Duration, Instant};

/// From a first failure to the next try.
const FIRST: Duration = Duration::from_secs(1);
/// Between two tries at most. A try costs the verifier seconds, and some drivers their link.
const LONGEST: Duration = Duration::from_secs(30);

/// The last failure of something, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    why: String,
    pause: Duration,
    due: Instant,
}

impl Retry {
    /// Something has failed, `before` last.
    pub(super) fn after(before: Option<&Self>, why: String, now: Instant) -> Self {
        let pause = before.map_or(FIRST, |before| (before.pause * 2).clamp(FIRST, LONGEST));
        Self { why, pause, due: now + pause }
    }

    /// Whether it is to be reported: what fails again for the same reason is, once.
    pub(super) fn is_news(&self, before: Option<&Self>) -> bool {
        before.is_none_or(|before| before.why != self.why)
    }

    pub(super) fn why(&self) -> &str {
        &self.why
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due <= now
    }

    /// Something has changed: it is tried at once, and soon again if that fails.
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
