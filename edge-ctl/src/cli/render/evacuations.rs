//! Renders the pools that an operator has evacuated.

use std::fmt::Write as _;

use crate::{
    cli::table::{age, printable},
    control::status::Status,
};

pub(super) fn lines(text: &mut String, status: &Status) {
    let Some(history) = &status.history else { return };
    for evacuation in &history.evacuations {
        let since = age(status.at.saturating_sub(evacuation.since) / 1000);
        let back = match evacuation.seconds_left {
            None => String::new(),
            Some(0) => "; it is over when a daemon runs".to_owned(),
            Some(seconds) => format!("; it is over in {}", age(seconds)),
        };
        let reason = evacuation.reason.as_ref().map_or(String::new(), |reason| format!(": {}", printable(reason)));
        let pool = &evacuation.pool;
        let how = if evacuation.drain { "EVACUATED but for established flows," } else { "EVACUATED" };
        let _ = writeln!(text, "pool        {pool} {how} {since} ago{back}{reason}; undo: edge-ctl return {pool}");
    }
}
