//! Renders the pools that an operator has evacuated, and the failovers that have a reason or an end.

use std::fmt::Write as _;

use crate::{
    cli::table::{age, printable},
    control::status::Status,
};

pub(super) fn lines(text: &mut String, status: &Status) {
    let Some(history) = &status.history else { return };
    for evacuation in &history.evacuations {
        let since = age(status.at.saturating_sub(evacuation.since) / 1000);
        let terms = terms(evacuation.seconds_left, evacuation.reason.as_deref());
        let pool = &evacuation.pool;
        let how = if evacuation.drain { "EVACUATED but for established flows," } else { "EVACUATED" };
        let _ = writeln!(text, "pool        {pool} {how} {since} ago{terms}; undo: edge-ctl return {pool}");
    }
    for failover in &history.failovers {
        let since = age(status.at.saturating_sub(failover.since) / 1000);
        let terms = terms(failover.seconds_left, failover.reason.as_deref());
        let (service, to) = (&failover.service, &failover.to);
        let how = format!("FAILED OVER to {to} {since} ago");
        let _ = writeln!(text, "service     {service} {how}{terms}; undo: edge-ctl failback {service}");
    }
}

/// The end and the reason of an operator's word.
fn terms(seconds_left: Option<u64>, reason: Option<&str>) -> String {
    let back = match seconds_left {
        None => String::new(),
        Some(0) => "; it is over when a daemon runs".to_owned(),
        Some(seconds) => format!("; it is over in {}", age(seconds)),
    };
    let reason = reason.map_or(String::new(), |reason| format!(": {}", printable(reason)));
    back + &reason
}
