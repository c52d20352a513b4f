//! A [`Status`] and events as a person reads them in a terminal.

#![deny(clippy::wildcard_enum_match_arm)]

pub(super) mod backends;
pub(super) mod change;
mod evacuations;
pub(super) mod glance;
mod nat;
mod rates;
mod transition;

use std::{cmp::Reverse, fmt::Write};

pub(super) use self::rates::rates;
use super::table::{Cell, Shade, Table, age, painted, printable, wrapped};
use crate::{
    control::{
        events::Event,
        headline::Headline,
        status::{Level, PoolStatus, ServiceState, ServiceStatus, Status},
    },
    preflight::Finding,
};

/// The whole status, services and pools by trouble. `colour` where it goes to a terminal.
pub(crate) fn status(headline: &Headline, status: &Status, colour: bool) -> String {
    let mut text = judgement(headline, usize::MAX, colour) + &head(status);
    if !status.services.is_empty() {
        text += "\n";
        text += &services(&by_trouble(&status.services), colour);
    }
    let mut add = |part: String| {
        if !part.is_empty() {
            text += "\n";
            text += &part;
        }
    };
    add(transition::transitions(status, colour));
    add(transition::unrecorded(&status.services, colour));
    if !status.pools.is_empty() {
        add(backends::backends(&pools_by_trouble(&status.pools), colour));
    }
    add(transition::retired(&status.retired, colour));
    add(nat::nat(status.nat.as_ref(), colour));
    add(transition::counts(&status.services, colour));
    add(exits(status, colour));
    text
}

/// How things are, and the worst reason; one line, unless it is longer than `columns`.
fn judgement(Headline { level, text }: &Headline, columns: usize, colour: bool) -> String {
    let (word, shade) = level_word(*level);
    let lines = wrapped(&format!("{word}: {}", printable(text)), columns);
    lines.join("\n").replacen(word, &painted(word, shade, colour), 1) + "\n"
}

/// How things are, in a word.
pub(super) const fn level_word(level: Level) -> (&'static str, Shade) {
    match level {
        Level::Ok => ("OK", Shade::Green),
        Level::Warning => ("WARNING", Shade::Yellow),
        Level::Critical => ("CRITICAL", Shade::Red),
    }
}

/// The services, those with the worst state first.
fn by_trouble(services: &[ServiceStatus]) -> Vec<&ServiceStatus> {
    let mut services: Vec<_> = services.iter().collect();
    services.sort_by_cached_key(|service| Reverse((service.level(), service.state.badness())));
    services
}

/// The pools, those in trouble first.
fn pools_by_trouble(pools: &[PoolStatus]) -> Vec<&PoolStatus> {
    let mut pools: Vec<_> = pools.iter().collect();
    pools.sort_by_cached_key(|pool| Reverse(pool.level()));
    pools
}

/// One line.
pub(crate) fn event(event: &Event) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(event.at);
    format!(
        "{}  {:<16}  {:<20}  {}",
        humantime::format_rfc3339_millis(at),
        event.kind.name(),
        printable(&event.subject),
        event.message.lines().map(printable).collect::<Vec<_>>().join("\n")
    )
}

fn head(status: &Status) -> String {
    let mut text = String::new();
    if let Some(daemon) = &status.daemon {
        let up = age(status.at.saturating_sub(daemon.started) / 1000);
        let _ = writeln!(text, "daemon      running for {up}, PID {}, version {}", daemon.pid, daemon.version);
        let _ = writeln!(text, "config      {}, generation {}", daemon.config, status.generation);
        if let Some(refused) = &daemon.refused {
            let _ = writeln!(text, "            THE FILE IS REFUSED; the configuration before it stays in force:");
            indent(&mut text, refused);
        }
        if let Some(why) = &daemon.program {
            let _ = writeln!(text, "program     NOT LOADED; the attached program goes on, and the load is retried:");
            indent(&mut text, why);
        }
        if let Some(why) = &daemon.state_error {
            let _ =
                writeln!(text, "state       NOT STORED ON DISK; traffic is not affected, and the write is retried:");
            indent(&mut text, why);
        }
        if let Some(frozen) = &daemon.frozen {
            let _ =
                writeln!(text, "health      FROZEN for {}, as it was before: {}", age(frozen.for_seconds), frozen.why);
        }
        if let Some(why) = daemon.http.as_ref().and_then(|http| http.why.as_ref()) {
            let _ = writeln!(text, "http        NOT LISTENING; traffic is not affected, and the daemon retries:");
            indent(&mut text, why);
        }
        for hook in daemon.notify.iter().filter(|hook| hook.failing.is_some() || hook.dropped > 0) {
            let (name, dropped) = (&hook.name, hook.dropped);
            let what = if hook.failing.is_some() { "FAILS; traffic is not affected" } else { "works" };
            let _ = writeln!(
                text,
                "notify      {name} {what}; {} of {} runs failed, {dropped} dropped",
                hook.failures, hook.runs
            );
            indent(&mut text, &printable(hook.failing.as_deref().unwrap_or_default()));
        }
        if let Some(why) = &daemon.probes {
            let _ = writeln!(text, "probes      TO ADDRESSES ONLY: a missing tunnel end or VIP is not found, since");
            indent(&mut text, why);
        }
        if daemon.repaired > 0 {
            let _ = writeln!(text, "maps        REPAIRED {} times: another program writes them", daemon.repaired);
        }
    } else {
        let _ = writeln!(text, "daemon      does not answer; the status below is read from the pinned maps");
        let _ = writeln!(text, "config      generation {}", status.generation);
    }
    if let Some(history) = &status.history {
        if let Some(trial) = &history.trial {
            let left = match trial.seconds_left {
                0 => "when a daemon runs".to_owned(),
                seconds => format!("in {}", age(seconds)),
            };
            let back = trial.back_to;
            let _ = writeln!(
                text,
                "            ON TRIAL: goes back to generation {back} {left}, without `edge-ctl confirm`"
            );
            if let Some(why) = &trial.overdue {
                let _ = writeln!(text, "            it cannot go back yet, and is tried again each second: {why}");
            }
        } else if !history.good {
            let good = history.last_good.map_or("none was good yet".to_owned(), |good| format!("{good} was good"));
            let _ = writeln!(text, "            by {}; still in its soak, {good}", history.how);
        }
    }
    evacuations::lines(&mut text, status);
    let interfaces = status.interfaces.iter().map(|interface| {
        let name = &interface.name;
        match interface.attached {
            Some(true) => name.clone(),
            Some(false) => format!("{name} NOT ATTACHED"),
            None => format!("{name} NOT KNOWN TO BE ATTACHED"),
        }
    });
    let _ = writeln!(text, "interfaces  {}", interfaces.collect::<Vec<_>>().join(", "));
    for (name, why) in status.interfaces.iter().filter_map(|interface| Some((&interface.name, interface.why.as_ref()?)))
    {
        indent(&mut text, &format!("{name}: {why}"));
    }
    for finding in &status.host {
        let Finding { severity, subject, message, remedy } = finding;
        let _ =
            writeln!(text, "{:<10}  {}: {}", severity.name().to_uppercase(), printable(subject), printable(message));
        indent(&mut text, &format!("do: {}", printable(remedy)));
    }
    text
}

/// Lines below the one that they explain.
fn indent(text: &mut String, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "            {line}");
    }
}

fn services(services: &[&ServiceStatus], colour: bool) -> String {
    let mut table =
        Table::new(colour, ["SERVICE", "VIP", "MODE", "STATE", "SERVED BY", "PKT/S", "BIT/S", "FLOWS/S", "WHY"]);
    for service in services {
        let [packets, bits, flows] = rates(&service.traffic);
        table.row([
            Cell::from(&service.name),
            Cell::from(addresses(service)),
            Cell::from(&service.mode),
            service_state(service.state),
            Cell::from(service.serving.as_deref().unwrap_or("-")),
            packets,
            bits,
            flows,
            Cell::from(&service.reason),
        ]);
    }
    table.finish()
}

pub(super) fn service_state(state: ServiceState) -> Cell {
    match state {
        ServiceState::Ok => shaded("ok", Shade::Green),
        ServiceState::Failover => shaded("failover", Shade::Yellow),
        ServiceState::Fallback => shaded("fallback", Shade::Yellow),
        ServiceState::Unknown => shaded("unknown", Shade::Yellow),
        ServiceState::Panic => shaded("PANIC", Shade::Red),
        ServiceState::Exhausted => shaded("exhausted", Shade::Red),
        ServiceState::Unreachable => shaded("UNREACHABLE", Shade::Red),
    }
}

/// The first VIP and ports of a service, and how many more it has.
pub(super) fn addresses(service: &ServiceStatus) -> String {
    const SHOWN: usize = 3;
    let vip = match service.vips.first() {
        Some(vip) if vip.contains(':') => format!("[{vip}]"),
        Some(vip) => vip.clone(),
        None => String::new(),
    };
    let more = |count: usize, shown: usize| if count > shown { format!(" +{}", count - shown) } else { String::new() };
    let vips = more(service.vips.len(), 1);
    let ports = service.ports.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(" ");
    format!("{vip}{vips}{}{ports}{}", if vips.is_empty() { ":" } else { " :" }, more(service.ports.len(), SHOWN))
}

fn exits(status: &Status, colour: bool) -> String {
    let mut table = Table::new(colour, ["EXIT", "VERDICT", "PACKETS", "MEANING"]);
    for exit in status.exits.iter().filter(|exit| exit.packets > 0) {
        table.row([
            Cell::from(&exit.name),
            Cell::from(&exit.verdict),
            Cell::from(exit.packets),
            Cell::from(&exit.meaning),
        ]);
    }
    table.finish()
}

fn shaded(text: &str, shade: Shade) -> Cell {
    Cell::shaded(text.to_owned(), shade)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edge_common::abi::{Failover, State};

    use super::*;
    use crate::control::{
        data_plane::DataPlane,
        events::EventKind,
        fixture::{FakeDataPlane, inventory},
        headline::headline,
        status::{Clock, DaemonStatus, Sample, Source, build},
    };

    const DAY: u64 = 1_763_424_000_000;

    fn shown(status: &Status, colour: bool) -> String {
        super::status(&headline(status), status, colour)
    }

    fn a_bad_day() -> Status {
        let inventory = inventory();
        let mut plane = FakeDataPlane::fresh(&inventory);
        let down = State(State::ENABLED | State::DOWN);
        plane.set_state(1, down, "3 probes failed: connection refused").unwrap();
        plane.set_state(2, down, "3 probes failed: timed out").unwrap();
        plane.clock = Duration::from_secs(1060);
        plane
            .set_state(
                4,
                State(State::ALIVE | State::ENABLED | State::DRAINED | State::UP),
                "drained by an operator: disk swap",
            )
            .unwrap();
        plane.set_state(5, State(State::NEW | State::ALIVE | State::ENABLED | State::UP), "1 probe passed").unwrap();
        plane.set_state(6, State(State::DISABLED), "disabled by an operator").unwrap();
        let earlier = Sample::take(&inventory, &plane, Clock { unix_ms: DAY, boot_ms: 1_080_000 });
        plane.packets = 12_500;
        let now = Sample::take(&inventory, &plane, Clock { unix_ms: DAY + 1000, boot_ms: 1_081_000 });
        let daemon = DaemonStatus {
            pid: 4242,
            version: "0.1.0".to_owned(),
            started: DAY - 7_200_000,
            config: "/etc/edge/edge.toml".to_owned(),
            probes: None,
            refused: None,
            program: None,
            loading: false,
            state_error: None,
            repaired: 0,
            frozen: None,
            http: None,
            notify: Vec::new(),
        };
        build(&inventory, &plane, Some(&earlier), &now, Some(daemon))
    }

    #[test]
    fn a_status_with_everything_in_it() {
        insta::assert_snapshot!(shown(&a_bad_day(), false));
    }

    #[test]
    fn a_status_without_a_daemon_and_with_a_refused_file() {
        let mut offline = a_bad_day();
        offline.pools.clear();
        offline.exits.clear();
        offline.interfaces[0].attached = Some(false);
        let mut refused = offline.clone();
        offline.daemon = None;
        offline.source = Source::PinnedMaps;
        refused.daemon.as_mut().unwrap().refused = Some("edge.toml:3:1: unknown key `slot`\n  write: slots".to_owned());
        insta::assert_snapshot!(format!("{}\n---\n\n{}", shown(&offline, false), shown(&refused, false)));
    }

    #[test]
    fn a_failover_and_an_exhausted_service() {
        let inventory = inventory();
        let mut plane = FakeDataPlane::fresh(&inventory);
        plane.set_failover(1, Failover { first: 1, evacuate: true }).unwrap();
        let clock = Clock { unix_ms: DAY, boot_ms: 1_080_000 };
        let now = Sample::take(&inventory, &plane, clock);
        let failed_over = build(&inventory, &plane, None, &now, None);
        for backend in 4..=6 {
            plane.set_state(backend, State(State::ENABLED | State::DOWN), "").unwrap();
        }
        let exhausted = build(&inventory, &plane, None, &now, None);
        let both = services(&by_trouble(&failed_over.services), false)
            + "\n"
            + &services(&by_trouble(&exhausted.services), false);
        insta::assert_snapshot!(both);
    }

    #[test]
    fn json_is_stable() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&a_bad_day()).unwrap());
    }

    #[test]
    fn colour_is_only_added() {
        assert!(shown(&a_bad_day(), true).contains("\u{1b}["));
        assert!(!shown(&a_bad_day(), false).contains('\u{1b}'));
    }

    #[test]
    fn an_event_is_one_line() {
        let down = Event {
            at: DAY,
            kind: EventKind::BackendDown,
            subject: "provider-a/a1".to_owned(),
            message: "3 probes failed: connection refused".to_owned(),
            services: Vec::new(),
            flows: None,
        };
        insta::assert_snapshot!(event(&down));
    }

    #[test]
    fn control_characters_of_a_reason_do_not_reach_the_terminal() {
        let inventory = inventory();
        let mut plane = FakeDataPlane::fresh(&inventory);
        let nasty = "drained by an operator: \u{1b}[2J\u{7}\r\u{9b}31mgone";
        plane.set_state(1, State(State::ALIVE | State::ENABLED | State::DRAINED), nasty).unwrap();
        let now = Sample::take(&inventory, &plane, Clock { unix_ms: DAY, boot_ms: 1_080_000 });
        let shown = shown(&build(&inventory, &plane, None, &now, None), false);
        let kind = EventKind::BackendDrained;
        let event = event(&Event {
            at: DAY,
            kind,
            subject: "a/\u{1b}c".to_owned(),
            message: nasty.to_owned(),
            services: Vec::new(),
            flows: None,
        });
        for text in [shown, event] {
            assert!(text.contains("gone") && text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
        }
    }
}
