//! `incident`: the details of an outage, from the recorded events.

use std::{io, time::Duration};

use super::{
    args::{Dirs, IncidentArgs},
    coloured,
    failure::Failure,
    print_error, print_line, runtime,
    status::status_once,
    table::{Shade, age, painted, printable, wrapped},
    to_json,
};
use crate::{
    control::{
        events::Event,
        few,
        incident::{Incident, Kind, Part, Step, incidents},
        kept,
        status::{BackendState, ServiceState, Status},
    },
    daemon::client::{Client, ClientError, SOON},
};

/// Subjects that a line has.
const NAMED: usize = 6;
/// Columns of a text, so that it fits where it is read.
const WIDTH: usize = 78;

pub(super) fn incident(dirs: &Dirs, args: &IncidentArgs) -> Result<(), Failure> {
    let IncidentArgs { id, last, json } = args;
    let (events, status) = runtime(false)?.block_on(look(dirs))?;
    let flows = status.as_ref().map(|status| status.services.iter().map(|service| service.traffic.flows).sum());
    let still = |kind: Kind, name: &str| status.as_ref().is_none_or(|status| is_still_wrong(status, kind, name));
    let mut found = incidents(&events, flows, &still);
    if *last {
        found.drain(..found.len().saturating_sub(1));
    } else if let Some(id) = id {
        found.retain(|incident| incident.id == *id);
        if found.is_empty() {
            return Err(Failure::NoSuchIncident { id: id.clone() });
        }
    }
    if *json {
        print_line(&to_json(&found, true));
        return Ok(());
    }
    if found.is_empty() {
        print_line("no incident in the recorded events");
        return Ok(());
    }
    let colour = coloured(&io::stdout());
    let render = if *last || id.is_some() { story } else { line };
    let texts: Vec<_> = found.iter().map(|incident| render(incident, colour)).collect();
    print_line(texts.join("\n").trim_end());
    Ok(())
}

/// The events of the daemon, or else those on disk, and the status if it can be read.
pub(super) async fn look(dirs: &Dirs) -> Result<(Vec<Event>, Option<Status>), Failure> {
    let request = async {
        let mut client = Client::connect(&dirs.socket(), SOON).await?;
        let mut events = Vec::new();
        let note = |line: &[u8]| {
            events.extend(serde_json::from_slice::<Event>(line).ok());
            true
        };
        client.lines("/v1/events", note).await?;
        Ok(events)
    };
    let events = match request.await {
        Ok(events) => events,
        Err(ClientError::Absent { .. } | ClientError::Slow(_)) => {
            print_error("edge-ctl: the daemon does not answer; these are the events that it has kept");
            kept::load_events(&dirs.state_dir)
                .map_err(|source| Failure::Events { dir: dirs.state_dir.clone(), source })?
        }
        Err(error) => return Err(error.into()),
    };
    // Without root, or where nothing is pinned, there are only the events.
    let status = status_once(dirs, &mut None, false).await.ok();
    Ok((events, status))
}

/// Whether a fault that the events leave open persists: its backend may have been removed, and its service may use
/// another pool by now.
fn is_still_wrong(status: &Status, kind: Kind, name: &str) -> bool {
    let backends = || status.pools.iter().flat_map(|pool| &pool.backends);
    let is_bad = |state| match state {
        ServiceState::Ok | ServiceState::Failover | ServiceState::Unknown => false,
        ServiceState::Fallback | ServiceState::Panic | ServiceState::Exhausted | ServiceState::Unreachable => true,
    };
    match kind {
        Kind::Backend => backends().any(|backend| backend.name == name && backend.state == BackendState::Down),
        Kind::Panic => status.pools.iter().any(|pool| pool.name == name && pool.panic),
        Kind::Frozen => status.daemon.as_ref().is_some_and(|daemon| daemon.frozen.is_some()),
        Kind::Left => status.services.iter().any(|service| service.name == name && is_bad(service.state)),
    }
}

/// One of several.
fn line(incident: &Incident, colour: bool) -> String {
    let first = format!("{}: {}", few(&incident.first.subjects, NAMED), incident.first.message);
    format!("{}  {}  {}", incident.id, lasted(incident, colour), printable(first.lines().next().unwrap_or_default()))
}

fn lasted(incident: &Incident, colour: bool) -> String {
    match incident.until {
        Some(until) => format!("over after {}", age(until.saturating_sub(incident.since) / 1000)),
        None => painted("GOES ON", Shade::Red, colour),
    }
}

/// All of it, on 80 columns.
fn story(incident: &Incident, colour: bool) -> String {
    let Incident { id, since, until, open, first, before, steps, new_flows } = incident;
    let mut lines = vec![format!("incident {id}, from {} UTC, {}", day(*since), lasted(incident, colour))];
    lines.extend(part("first sign", &format!("{}: {}", few(&first.subjects, NAMED), first.message)));
    for step in before {
        let ago = age(since.saturating_sub(step.at) / 1000);
        lines.extend(part("before it", &format!("{ago} before, {}: {}", few(&step.subjects, NAMED), step.message)));
    }
    lines.push(String::new());
    for step in steps {
        lines.extend(step_lines(*since, step, colour));
    }
    lines.push(String::new());
    if until.is_none() {
        lines.extend(part("wrong still", &few(open, 2 * NAMED)));
    }
    if let Some(flows) = new_flows {
        let count = if *flows == 1 { "1 new flow has".to_owned() } else { format!("{flows} new flows have") };
        lines.extend(part("flows", &format!("{count} started meanwhile, to the second")));
    }
    lines.iter().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// `2026-11-30 04:54:36`.
fn day(at: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_millis(at);
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', "")
}

fn part(name: &str, text: &str) -> Vec<String> {
    wrapped(&printable(text.lines().next().unwrap_or_default()), WIDTH - 13)
        .into_iter()
        .enumerate()
        .map(|(place, line)| format!("{:<12} {line}", if place == 0 { name } else { "" }))
        .collect()
}

fn step_lines(since: u64, step: &Step, colour: bool) -> Vec<String> {
    let after = Duration::from_millis(step.at.saturating_sub(since));
    let after = if after < Duration::from_secs(10) {
        format!("+{:.1}s", after.as_secs_f64())
    } else {
        format!("+{}", age(after.as_secs()))
    };
    let shade = match step.part {
        Part::Fault => Shade::Red,
        Part::Move | Part::Action => Shade::Yellow,
        Part::Recovery | Part::Aside => Shade::Green,
    };
    let subjects = few(&step.subjects, NAMED);
    let of = if step.subjects.len() > 1 { ", the first" } else { "" };
    let text = format!("{subjects}{of}: {}", step.message.lines().next().unwrap_or_default());
    let mut lines = Vec::new();
    for (place, line) in wrapped(&printable(&text), WIDTH - 20).into_iter().enumerate() {
        let (name, at) = if place == 0 { (step.part.name(), after.as_str()) } else { ("", "") };
        let name = painted(&format!("{name:<8}"), shade, colour && place == 0);
        lines.push(format!("{at:>9}  {name} {line}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::incident::outage;

    #[test]
    fn a_story_fits_where_it_is_read() {
        let found = incidents(&outage(), None, &|_, _| true);
        let text = story(&found[0], false);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(format!("{}\n\n{text}", line(&found[0], false)));
    }

    #[test]
    fn a_running_incident_lists_what_is_still_wrong() {
        let found = incidents(&outage()[..9], Some(99_000), &|_, _| true);
        insta::assert_snapshot!(story(&found[0], false));
    }
}
