//! Results of the replays: a table in the terminal, JSON, and docs/outages.md.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::json;
use xtask::cargo;

use super::incident::{Incident, Observed};

const PAGE: &str = "docs/outages.md";

/// A row that was replayed.
pub(super) struct Row {
    pub(super) incident: Incident,
    pub(super) observed: Observed,
}

impl Row {
    fn verdict(&self) -> &'static str {
        if self.observed.met { "met" } else { "NOT MET" }
    }
}

/// A table for a terminal: a paragraph per row.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let Incident { name, story, done, expected, helped, why, .. } = row.incident;
        let parts = [("incident", story), ("done", done), ("expected", expected), ("observed", &row.observed.text)];
        let _ = writeln!(text, "{:<8} {name}", row.verdict());
        for (part, what) in parts {
            let _ = writeln!(text, "  {part:<9} {what}");
        }
        let _ = writeln!(text, "  would this edge have helped: {}: {why}\n", helped.word());
    }
    let met = rows.iter().filter(|row| row.observed.met).count();
    let _ = writeln!(text, "{met} of {} met", rows.len());
    text
}

pub(super) fn json(rows: &[Row]) -> Result<String> {
    let shown = rows.iter().map(|row| {
        let Incident { name, story, done, expected, helped, why, .. } = row.incident;
        let Observed { text, met } = &row.observed;
        json!({ "name": name, "incident": story, "done": done, "expected": expected, "observed": text, "met": met,
                "helped": helped, "why": why })
    });
    let all = json!({ "rows": shown.collect::<Vec<_>>() });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

/// Writes the page.
pub(super) fn write(rows: &[Row]) -> Result<()> {
    let mut text = String::from(
        "# Outages\n\nReal outages, and how this load balancer handles each. `cargo xtask outages --page` wrote this page: it \
         replays\nthem in namespaces, with a lab of two providers under load (HTTP requests over kept and new connections, and \
         numbered\ndatagrams), and records the results. `cargo xtask test` replays those that take seconds.\n\n\
         Limits: the edge does not help *behind* a failed CDN, or where DNS or certificates exist only at the failed \
         provider. One edge is\nitself a single point of failure: run two. A TCP connection with a backend that died is lost. \
         A gray failure, in which a backend\nanswers probes but loses clients' packets, is not detected yet, and has no replay \
         here.\n",
    );
    for row in rows {
        let Incident { name, story, done, expected, helped, why, .. } = row.incident;
        let verdict = row.verdict();
        let observed = &row.observed.text;
        write!(
            text,
            "\n## `{name}`: {verdict}\n\n{story}.\n\n- Done: {done}.\n- Expected: {expected}.\n- Observed: {observed}.\n\
             - Would this edge have helped? {}: {why}.\n",
            helped.word()
        )?;
    }
    std::fs::write(cargo::root().join(PAGE), text).context(PAGE)
}
