//! Evaluates a load's records for each event during the load.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::Record;

/// An event while load ran.
#[derive(Clone, Debug)]
pub struct Moment {
    pub name: &'static str,
    pub at: Instant,
}

/// The evaluation of a whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub requests: usize,
    pub failed: usize,
    /// The longest time in which any one stream had no successful answer, in milliseconds.
    pub longest_gap_ms: u64,
    pub events: Vec<EventReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventReport {
    pub name: String,
    /// Time since the start of the load, in milliseconds.
    pub at_ms: u64,
    /// Requests that failed between this event and the next.
    pub failed: usize,
    /// Time from the event until the last failed request was *sent*, in milliseconds; 0 if none failed. The time of the
    /// failure itself would add the client's own timeout.
    pub recovered_after_ms: u64,
}

/// Evaluates `records`. A failure belongs to the last event before the request's end.
pub fn report(records: &[Record], start: Instant, moments: &[Moment]) -> Report {
    let failures: Vec<_> = records.iter().filter(|record| record.outcome.is_err()).collect();
    let events = moments.iter().enumerate().map(|(index, moment)| {
        let next = moments.get(index + 1).map(|next| next.at);
        let own = failures.iter().filter(|record| record.end >= moment.at && next.is_none_or(|next| record.end < next));
        let sent = own.clone().map(|record| record.start.saturating_duration_since(moment.at)).max();
        EventReport {
            name: moment.name.to_owned(),
            at_ms: milliseconds(moment.at.saturating_duration_since(start)),
            failed: own.count(),
            recovered_after_ms: milliseconds(sent.unwrap_or_default()),
        }
    });
    Report {
        requests: records.len(),
        failed: failures.len(),
        longest_gap_ms: milliseconds(longest_gap(records)),
        events: events.collect(),
    }
}

/// The longest time between two successful answers of a stream, counted from its first request to its end.
pub fn longest_gap(records: &[Record]) -> Duration {
    let mut streams: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
    for record in records {
        streams.entry(record.stream).or_default().push(record);
    }
    let mut longest = Duration::ZERO;
    for records in streams.values() {
        let Some(mut last) = records.first().map(|record| record.start) else { continue };
        for record in records {
            if record.outcome.is_ok() {
                longest = longest.max(record.end.saturating_duration_since(last));
                last = record.end;
            }
        }
        let end = records.last().map_or(last, |record| record.end);
        longest = longest.max(end.saturating_duration_since(last));
    }
    longest
}

/// Number of successful answers of each backend between two moments.
pub fn served(records: &[Record], from: Instant, to: Instant) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for record in records.iter().filter(|record| record.end >= from && record.end < to) {
        if let Ok(backend) = &record.outcome {
            *served.entry(backend.clone()).or_default() += 1;
        }
    }
    served
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(zero: Instant, stream: usize, start: u64, end: u64, ok: bool) -> Record {
        let outcome = if ok { Ok("a1".to_owned()) } else { Err("timeout".to_owned()) };
        let at = |ms| zero + Duration::from_millis(ms);
        Record { stream, start: at(start), end: at(end), outcome }
    }

    #[test]
    fn a_failure_belongs_to_the_event_before_its_end() {
        let zero = Instant::now();
        let records = [
            record(zero, 0, 0, 5, true),
            // In flight at the event at 100.
            record(zero, 0, 95, 1095, false),
            record(zero, 1, 700, 1700, false),
            record(zero, 0, 3000, 3005, true),
            record(zero, 0, 3010, 3500, false),
        ];
        let at = |ms| zero + Duration::from_millis(ms);
        let moments = [Moment { name: "backend_killed", at: at(100) }, Moment { name: "backend_healed", at: at(3000) }];
        let report = report(&records, zero, &moments);
        assert_eq!((report.requests, report.failed), (5, 3));
        let figures: Vec<_> = report.events.iter().map(|event| (event.failed, event.recovered_after_ms)).collect();
        assert_eq!(figures, [(2, 600), (1, 10)]);
    }

    #[test]
    fn a_gap_is_of_one_stream_and_counts_to_its_end() {
        let zero = Instant::now();
        let records = [
            record(zero, 0, 0, 10, true),
            record(zero, 1, 100, 110, true),
            record(zero, 0, 200, 210, true),
            record(zero, 1, 120, 1000, false),
        ];
        assert_eq!(longest_gap(&records), Duration::from_millis(890));
    }
}
