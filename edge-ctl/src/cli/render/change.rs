//! Renders plans, differences and the history for a terminal.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use super::super::table::{Cell, Shade, Table, printable};
use crate::control::change::{Diff, Entry, History, Item, Moves, Plan, Verdict, What};

/// The effects of a planned change.
pub(crate) fn plan(plan: &Plan, colour: bool) -> String {
    let mut text = String::new();
    let _ = match plan.generation {
        Some(generation) => writeln!(text, "against     generation {generation}, which is in force"),
        None => writeln!(text, "against     nothing: no maps are pinned, and all of it is new"),
    };
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    let memory = plan.memory;
    let _ = match memory.pinned {
        Some(pinned) if pinned != memory.anew => {
            writeln!(
                text,
                "memory      {} in the pinned maps; {} when the daemon starts anew",
                mib(pinned),
                mib(memory.anew)
            )
        }
        _ => writeln!(text, "memory      {} in maps", mib(memory.anew)),
    };
    if let Some(why) = &plan.new_maps {
        let _ = writeln!(
            text,
            "maps        a running daemon makes new ones for this change, and carries the flows over: {why}"
        );
    }
    for later in &plan.limits_later {
        let _ = writeln!(text, "limits      {later} until the daemon starts anew");
    }
    text += "\n";
    text += &diff(&plan.diff, colour);
    let moving: Vec<_> = plan.flows.iter().filter(|moves| moves.new_flows > 0.0 || moves.running_flows > 0.0).collect();
    if !moving.is_empty() {
        text += "\n";
        text += &flows(&moving, colour);
    } else if !plan.flows.is_empty() {
        text += "\nno flow moves, new or running\n";
    }
    if !plan.host.is_empty() {
        text += "\non this host:\n";
    }
    for finding in &plan.host {
        for line in finding.to_string().lines() {
            let _ = writeln!(text, "  {}", printable(line));
        }
    }
    if let Some(why) = &plan.host_unknown {
        let _ = writeln!(text, "\n{why}");
    }
    let findings: Vec<_> = plan.findings.removals.iter().chain(&plan.findings.moves).collect();
    if let Some(needs) = &plan.needs {
        if !findings.is_empty() {
            text += "\nneeds an operator's consent:\n";
        }
        for finding in findings {
            let _ = writeln!(text, "  {}", printable(finding));
        }
        let _ = writeln!(text, "to apply it, add {needs}");
    }
    text
}

fn flows(moving: &[&Moves], colour: bool) -> String {
    let mut table = Table::new(colour, ["SERVICE", "NEW FLOWS THAT MOVE", "RUNNING FLOWS THAT MOVE"]);
    for moves in moving {
        table.row([
            Cell::from(&moves.service),
            Cell::from(percent(moves.new_flows)),
            if moves.running_flows > 0.0 {
                Cell::shaded(percent(moves.running_flows), Shade::Red)
            } else {
                Cell::from("none")
            },
        ]);
    }
    table.finish()
}

fn percent(share: f64) -> String {
    if share > 0.0 && share < 0.001 { "less than 0.1 %".to_owned() } else { format!("{:.1} %", share * 100.0) }
}

/// The differences between two configurations.
pub(crate) fn diff(diff: &Diff, colour: bool) -> String {
    if diff.is_empty() {
        return "nothing differs but the text\n".to_owned();
    }
    let mut table = Table::new(colour, ["", "WHAT", "NAME", "HOW"]);
    for key in &diff.keys {
        table.row([Cell::shaded("~".to_owned(), Shade::Yellow), Cell::from("key"), Cell::from(""), Cell::from(key)]);
    }
    for (what, items) in [("service", &diff.services), ("pool", &diff.pools), ("backend", &diff.backends)] {
        for Item { name, what: change } in items {
            let (sign, shade, how) = match change {
                What::Added => ("+", Shade::Green, String::new()),
                What::Removed => ("-", Shade::Red, String::new()),
                What::Changed(keys) => ("~", Shade::Yellow, keys.join("; ")),
            };
            table.row([Cell::shaded(sign.to_owned(), shade), Cell::from(what), Cell::from(name), Cell::from(how)]);
        }
    }
    table.finish()
}

/// The generations of the history.
pub(crate) fn history(history: &History, in_force: u64, colour: bool) -> String {
    let mut table = Table::new(colour, ["GENERATION", "WHEN", "HOW", "BY", "RESULT", "FILE", "REASON"]);
    for entry in &history.entries {
        let trial = history.trial.as_ref().filter(|trial| trial.generation == entry.generation);
        let (mut result, shade) = match &entry.verdict {
            Verdict::Soaking if trial.is_some() => ("on trial".to_owned(), Shade::Yellow),
            Verdict::Soaking => ("soaking".to_owned(), Shade::Yellow),
            Verdict::Good => ("good".to_owned(), Shade::Green),
            Verdict::Replaced => ("replaced".to_owned(), Shade::Yellow),
            Verdict::Undone(why) => (format!("undone: {why}"), Shade::Red),
        };
        if entry.generation == in_force {
            result = format!("in force, {result}");
        }
        table.row([
            Cell::from(entry.generation),
            Cell::from(when(entry)),
            Cell::from(how(entry)),
            Cell::from(entry.by.as_deref().unwrap_or("")),
            Cell::shaded(printable(&result), shade),
            Cell::from(entry.file.as_deref().unwrap_or("")),
            Cell::from(entry.reason.as_deref().unwrap_or("")),
        ]);
    }
    table.finish()
}

fn when(entry: &Entry) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(entry.at)).to_string()
}

fn how(entry: &Entry) -> String {
    match entry.text_of {
        Some(generation) => format!("{} to {generation}", entry.how.name()),
        None => entry.how.name().to_owned(),
    }
}
