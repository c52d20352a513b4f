//! A status that is cut to a terminal's size: all trouble first, and then as much of the rest as there is room for.

use super::{Cell, Headline, Status, backends, by_trouble, head, judgement, rates, service_state};
use crate::{
    cli::table::{Table, age, cut},
    control::status::{BackendStatus, Level, PoolStatus, ServiceStatus},
};

/// Rows of general information at most; the headline has the worst of it.
const HEAD: usize = 8;

/// Most lines of the headline, or one more where words are long.
const LINES: usize = 2;

/// Widest name of a service, pool or backend, columns.
pub(in crate::cli) const NAME: usize = 24;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Room {
    /// Whether the text fits, where long lines are wrapped.
    pub(crate) fn holds(self, text: &str) -> bool {
        let rows = |line: &str| visible(line).div_ceil(self.columns.max(1)).max(1);
        text.lines().map(rows).sum::<usize>() <= self.rows
    }
}

/// Columns that a line takes, without the codes of colours.
fn visible(line: &str) -> usize {
    let mut parts = line.split("\x1b[");
    let first = parts.next().map_or(0, |part| part.chars().count());
    let after = |part: &str| part.split_once('m').map_or(0, |(_, text)| text.chars().count());
    first + parts.map(after).sum::<usize>()
}

/// At most `room.rows` lines of at most `room.columns` columns. The last one names what is left out.
pub(crate) fn glance(headline: &Headline, status: &Status, room: Room, colour: bool) -> String {
    let columns = room.columns;
    let short = Headline { text: cut(&headline.text, LINES * columns.saturating_sub(10)), level: headline.level };
    let mut text = judgement(&short, columns, colour);
    let all = head(status);
    let lines: Vec<_> = all.lines().collect();
    let most = HEAD.min(room.rows / 3).max(1);
    for line in lines.iter().take(if lines.len() > most { most - 1 } else { most }) {
        text += &(cut(line, columns) + "\n");
    }
    if lines.len() > most {
        text += &cut(&format!("            {} lines more", lines.len() - most + 1), columns);
        text += "\n";
    }
    let services = by_trouble(&status.services);
    let mut members: Vec<_> =
        status.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend))).collect();
    members.sort_by_cached_key(|(pool, backend)| std::cmp::Reverse(pool.level_of(backend)));
    let bad_services = services.iter().filter(|service| service.level() > Level::Ok).count();
    let bad_members = members.iter().filter(|(pool, backend)| pool.level_of(backend) > Level::Ok).count();

    // Each table has an empty line and a header above it, and the last line is about what is left out.
    let rows = room.rows.saturating_sub(text.lines().count() + 5);
    let (first, second) = share(rows, (services.len(), bad_services), (members.len(), bad_members));
    text += "\n";
    text += &services_table(&services[..first], columns, colour);
    text += "\n";
    text += &backends_table(&members[..second], columns, colour);
    let left = left_out((services.len() - first, bad_services), (members.len() - second, bad_members), (first, second));
    text += &(cut(&left, columns) + "\n");
    text
}

/// Rows for services and for backends, each given how many there are and how many of them are in trouble.
fn share(rows: usize, services: (usize, usize), backends: (usize, usize)) -> (usize, usize) {
    let half = rows / 2;
    // Where the trouble of both does not fit, each has half of the room.
    let first = services.1.min(rows.saturating_sub(backends.1).max(half));
    let second = backends.1.min(rows - first);
    let first = first + (services.0 - first).min(rows - first - second);
    (first, second + (backends.0 - second).min(rows - first - second))
}

/// What is left out, given how many are, how many are in trouble, and how many are shown.
fn left_out(services: (usize, usize), backends: (usize, usize), shown: (usize, usize)) -> String {
    let part = |(left, bad): (usize, usize), shown: usize, what: &str| {
        let bad = bad.saturating_sub(shown);
        let bad = if bad > 0 { format!(" ({bad} in trouble)") } else { String::new() };
        (left > 0).then(|| format!("{left} {what}{}{bad}", if left == 1 { "" } else { "s" }))
    };
    let parts = [part(services, shown.0, "service"), part(backends, shown.1, "backend")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return "more about each: --all".to_owned();
    }
    format!("{} more: --all, --trouble", parts.join(", "))
}

fn services_table(services: &[&ServiceStatus], columns: usize, colour: bool) -> String {
    let mut table = Table::new(colour, ["SERVICE", "STATE", "SERVED BY", "FLOWS/S", "WHY"]).within(columns);
    for service in services {
        let [_, _, flows] = rates(&service.traffic);
        table.row([
            Cell::from(cut(&service.name, NAME)),
            service_state(service.state),
            Cell::from(cut(service.serving.as_deref().unwrap_or("-"), NAME)),
            flows,
            Cell::from(&service.reason),
        ]);
    }
    table.finish()
}

fn backends_table(members: &[(&PoolStatus, &BackendStatus)], columns: usize, colour: bool) -> String {
    let mut table = Table::new(colour, ["BACKEND", "STATE", "FOR", "FLOWS/S", "WHY"]).within(columns);
    for (_, backend) in members {
        let [_, _, flows] = rates(&backend.traffic);
        table.row([
            Cell::from(cut(&backend.name, NAME)),
            backends::state(backend),
            Cell::from(backend.for_seconds.map_or("-".to_owned(), age)),
            flows,
            Cell::from(backends::why(backend)),
        ]);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::render,
        control::{
            fixture::{FakeDataPlane, inventory},
            headline::headline,
            status::{BackendState, Clock, Sample, ServiceState, build},
        },
    };

    const ROOM: Room = Room { rows: 23, columns: 80 };

    /// 600 services and 1,200 backends, of which every `nth` is in trouble.
    fn crowd(nth: usize) -> Status {
        let inventory = inventory();
        let plane = FakeDataPlane::fresh(&inventory);
        let now = Sample::take(&inventory, &plane, Clock { unix_ms: 1_763_424_000_000, boot_ms: 1_080_000 });
        let mut status = build(&inventory, &plane, None, &now, None);
        let (service, backend) = (status.services.remove(0), status.pools[1].backends[0].clone());
        status.services = (0..600)
            .map(|number| {
                let mut service = service.clone();
                service.name = format!("service-of-customer-{number:03}");
                service.state = if number % nth == nth - 1 { ServiceState::Exhausted } else { ServiceState::Ok };
                if service.state == ServiceState::Ok {
                    service.reason.clear();
                } else {
                    service.reason = "provider-a has 0 of 3 available, needs 2; has no backend left".to_owned();
                }
                service
            })
            .collect();
        status.pools.truncate(1);
        status.pools[0].backends = (0..1200)
            .map(|number| {
                let mut backend = backend.clone();
                backend.name = format!("provider-a/backend-{number:04}");
                let is_bad = number % nth == nth - 1;
                backend.state = if is_bad { BackendState::Down } else { BackendState::Up };
                backend.reason = "3 probes failed: the connection was refused by 10.1.0.11:80".to_owned();
                backend
            })
            .collect();
        status
    }

    fn shown(status: &Status, room: Room) -> String {
        let headline = headline(status);
        assert!(!room.holds(&render::status(&headline, status, false)));
        let text = glance(&headline, status, room, true);
        assert!(room.holds(&text) && text.lines().all(|line| visible(line) <= room.columns), "{text}");
        glance(&headline, status, room, false)
    }

    #[test]
    fn six_hundred_services_fit_into_a_small_terminal() {
        insta::assert_snapshot!(shown(&crowd(100), ROOM));
        let all_bad = shown(&crowd(1), ROOM);
        assert!(all_bad.contains("services (59") && all_bad.contains("backends (119"), "{all_bad}");
        assert!(shown(&crowd(500), ROOM).starts_with("CRITICAL: service service-of-customer-499: "));
        assert!(shown(&crowd(2), Room { rows: 12, columns: 20 }).starts_with("CRITICAL: "));
    }

    #[test]
    fn trouble_comes_before_the_rest_and_no_row_is_wasted() {
        assert_eq!(share(10, (600, 0), (1200, 0)), (10, 0));
        assert_eq!(share(10, (2, 0), (1200, 0)), (2, 8));
        assert_eq!(share(10, (600, 3), (1200, 4)), (6, 4));
        assert_eq!(share(10, (600, 30), (1200, 2)), (8, 2));
        assert_eq!(share(10, (600, 30), (1200, 40)), (5, 5));
        assert_eq!(share(10, (600, 1), (1200, 40)), (1, 9));
        assert_eq!(share(0, (600, 1), (1200, 40)), (0, 0));
    }
}
