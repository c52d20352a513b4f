//! Faults that may come back each second: each is reported when it begins, and again after growing pauses while it lasts, so
//! that its events do not displace all others.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// First pause until a fault that lasts is reported again; it doubles each time.
const FIRST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(1);
/// A fault that has not come back for this long is over.
const OVER: Duration = Duration::from_mins(1);

/// The faults that last.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// By subject and message.
    lasting: BTreeMap<(String, String), Lasting>,
}

#[derive(Debug)]
struct Lasting {
    seen: Instant,
    reported: Instant,
    pause: Duration,
}

impl Faults {
    /// Notes a fault; returns whether it is to be reported.
    pub(super) fn note(&mut self, subject: &str, message: &str, now: Instant) -> bool {
        self.lasting.retain(|_, known| now.duration_since(known.seen) < OVER);
        let key = (subject.to_owned(), message.to_owned());
        let Some(known) = self.lasting.get_mut(&key) else {
            self.lasting.insert(key, Lasting { seen: now, reported: now, pause: FIRST });
            return true;
        };
        known.seen = now;
        if now.duration_since(known.reported) < known.pause {
            return false;
        }
        known.reported = now;
        known.pause = (known.pause * 2).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_lasts_is_reported_less_and_less_and_others_at_once() {
        let (mut faults, start) = (Faults::default(), Instant::now());
        let mut reported = Vec::new();
        for second in 0..1000 {
            if faults.note("undo", "no ports", start + Duration::from_secs(second)) {
                reported.push(second);
            }
        }
        assert_eq!(reported, [0, 60, 180, 420, 900]);
        let now = start + Duration::from_secs(1000);
        assert!(faults.note("undo", "no memory", now) && faults.note("pins", "no ports", now));
        // It was over, and has come back.
        assert!(!faults.note("undo", "no ports", now));
        assert!(faults.note("undo", "no ports", now + OVER));
        assert_eq!(faults.lasting.len(), 1);
    }
}
