//! Clients in flight when a provider died: which were reset, and how soon each was served again.

use std::time::Instant;

use edge_tests::lab::load::Record;
use serde::Serialize;

/// Kept connections whose backends died at an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Resets {
    pub(super) event: &'static str,
    /// Number of clients with a connection in use.
    pub(super) clients: usize,
    /// Number of clients whose next packet was answered with a RST.
    pub(super) reset: usize,
    /// Time from the event until a reset client got an answer on its next connection, in milliseconds.
    pub(super) median_ms: u64,
    pub(super) longest_ms: u64,
}

/// Evaluates streams over kept connections, which have even numbers.
pub(super) fn resets(records: &[Record], event: &'static str, since: Instant) -> Option<Resets> {
    let kept = |record: &&Record| record.stream.is_multiple_of(2);
    let mut streams: Vec<_> = records.iter().filter(kept).map(|record| record.stream).collect();
    streams.sort_unstable();
    streams.dedup();
    let again = |stream: usize| {
        let mut after = records.iter().filter(|record| record.stream == stream && record.end >= since);
        after.find(|record| record.outcome.as_ref().is_err_and(|error| error.contains("reset by peer")))?;
        let served = after.find(|record| record.outcome.is_ok())?;
        u64::try_from(served.end.saturating_duration_since(since).as_millis()).ok()
    };
    let mut times: Vec<_> = streams.iter().filter_map(|stream| again(*stream)).collect();
    times.sort_unstable();
    let (clients, reset) = (streams.len(), times.len());
    Some(Resets { event, clients, reset, median_ms: *times.get(reset / 2)?, longest_ms: *times.last()? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_was_reset_and_when_it_was_served_again() {
        let start = Instant::now();
        let record = |stream, from: u64, to: u64, outcome: Result<&str, &str>| Record {
            stream,
            start: start + Duration::from_millis(from),
            end: start + Duration::from_millis(to),
            outcome: outcome.map(str::to_owned).map_err(str::to_owned),
        };
        let reset = Err("connection error: Connection reset by peer (os error 104)");
        let records = [
            record(0, 0, 10, Ok("a1")),
            record(2, 0, 10, reset),
            record(0, 40, 500, reset),
            record(2, 40, 600, reset),
            // A new connection each time, so no flow was in use.
            record(1, 40, 600, reset),
            record(4, 40, 50, Ok("a2")),
            record(0, 500, 520, Ok("b1")),
            record(2, 600, 700, Err("no answer within 1000 ms")),
            record(2, 700, 710, Ok("b1")),
        ];
        let found = resets(&records, "killed", start + Duration::from_millis(100)).unwrap();
        let expected = Resets { event: "killed", clients: 3, reset: 2, median_ms: 610, longest_ms: 610 };
        assert_eq!(found, expected);
        assert_eq!(resets(&records, "later", start + Duration::from_secs(9)), None);
    }
}
