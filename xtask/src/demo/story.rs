//! How the demo tells what happens: a timeline for people, or one JSON object.

use std::time::{Duration, Instant};

use anyhow::Result;
use edge_tests::lab::load::{
    Record,
    report::{Moment, Report, report, served},
};
use serde::Serialize;

use super::known::Known;

/// Answers younger than this show which backends serve at the end of an act.
const SETTLED: Duration = Duration::from_millis(500);

/// What `--json` prints.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    report: &'a Report,
    known: &'a [Known],
}

pub(super) struct Story {
    json: bool,
}

impl Story {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) fn opening(&self) {
        if !self.json {
            println!(
                "\nTwo clients ask 7 services (IPv4 and IPv6; L2 and tunnels) over HTTP, on kept and on new \
                 connections.\nTwo providers, a and b, with three backends each, probed each 200 ms, down after 3 \
                 misses.\n"
            );
        }
    }

    /// An act begins.
    pub(super) fn act(&self, start: Instant, at: Instant, tells: &str) {
        if !self.json {
            println!("{:6.1} s  {tells}", at.saturating_duration_since(start).as_secs_f64());
        }
    }

    /// What the last of `moments` did to the requests.
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
        let serving: Vec<_> = served(records, now.checked_sub(SETTLED).unwrap_or(now), now).into_keys().collect();
        println!("          -> {failed}; now served by {}", serving.join(" "));
        if let Some(Known { backends, median_ms, longest_ms, .. }) = known {
            println!(
                "          -> known of {backends} backends in pools after {median_ms} ms (median), {longest_ms} ms (last)"
            );
        }
    }

    pub(super) fn ending(&self, report: &Report, known: &[Known]) -> Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&Whole { report, known })?);
        } else {
            println!(
                "\n{} requests, {} failed; the longest that any client went without an answer: {} ms (it gives up \
                 on a request after 1000 ms).",
                report.requests, report.failed, report.longest_gap_ms
            );
        }
        Ok(())
    }
}
