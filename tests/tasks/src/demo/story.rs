//! Output of the demo: a timeline for people, or one JSON object.

use std::time::{Duration, Instant};

use anyhow::Result;
use edge_tests::lab::load::{
    Record,
    report::{Moment, Report, report, served},
};
use serde::Serialize;

use super::{known::Known, reset::Resets};

/// Answers from this last part of an act show which backends serve at its end.
const AFTER_CHANGE: Duration = Duration::from_millis(500);

/// Results of a chapter, as `--json` prints them.
#[derive(Serialize)]
pub(super) struct Part {
    pub(super) name: &'static str,
    #[serde(flatten)]
    pub(super) report: Report,
    pub(super) known: Vec<Known>,
    pub(super) resets: Vec<Resets>,
}

/// The output of `--json`.
#[derive(Serialize)]
struct Whole<'a> {
    chapters: &'a [Part],
}

pub(super) struct Story {
    json: bool,
}

impl Story {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn opening(&self, text: &str) {
        if !self.json {
            println!("\n{text}\n");
        }
    }

    /// Prints the beginning of an act.
    pub(super) fn act(&self, start: Instant, at: Instant, caption: &str) {
        if !self.json {
            println!("{:6.1} s  {caption}", at.saturating_duration_since(start).as_secs_f64());
        }
    }

    /// Prints the effect of the last of `moments` on requests.
    pub(super) fn outcome(&self, records: &[Record], start: Instant, moments: &[Moment], known: Option<&Known>) {
        if self.json {
            return;
        }
        let so_far = report(records, start, moments);
        let Some(event) = so_far.events.last() else { return };
        let failed = match event.failed {
            0 => "no request failed".to_owned(),
            1 => format!("1 request failed, sent {} ms after it", event.recovered_after_ms),
            many => format!("{many} requests failed, the last one sent {} ms after it", event.recovered_after_ms),
        };
        let now = Instant::now();
        let serving: Vec<_> = served(records, now.checked_sub(AFTER_CHANGE).unwrap_or(now), now).into_keys().collect();
        println!("          -> {failed}; now served by {}", serving.join(" "));
        if let Some(Known { backends, median_ms, longest_ms, .. }) = known {
            println!(
                "          -> known of {backends} backends in pools after {median_ms} ms (median), {longest_ms} ms (last)"
            );
        }
    }

    /// Prints the fate of clients in flight.
    pub(super) fn resets(&self, resets: Option<&Resets>) {
        if let Some(Resets { clients, reset, median_ms, longest_ms, .. }) = resets.filter(|_| !self.json) {
            println!(
                "          -> {reset} of {clients} clients with a connection were reset by their next packet, and served again \
                 after {median_ms} ms (median), {longest_ms} ms (last)"
            );
        }
    }

    pub(super) fn ending(&self, report: &Report) {
        if !self.json {
            println!(
                "\n{} requests, {} failed; the longest that any client went without an answer: {} ms (it gives up \
                 on a request after 1000 ms).",
                report.requests, report.failed, report.longest_gap_ms
            );
        }
    }

    /// Prints the end of all chapters.
    pub(super) fn end(&self, chapters: &[Part]) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&Whole { chapters })?);
        }
        Ok(())
    }
}
