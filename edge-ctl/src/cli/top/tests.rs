//! Screens and keys, with a terminal in memory.

use std::collections::BTreeSet;

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    draw::draw,
    page::Page,
    screen::{Screen, Then},
    snapshot::Snapshot,
};
use crate::control::{
    fixture::{FakeDataPlane, inventory},
    status::{BackendState, Clock, HealthStatus, Rates, Sample, ServiceState, Status, build},
};

/// Two services, of which one has lost its first pool, with traffic.
fn status() -> Status {
    let inventory = inventory();
    let plane = FakeDataPlane::fresh(&inventory);
    let now = Sample::take(&inventory, &plane, Clock { unix_ms: 1_763_424_000_000, boot_ms: 1_080_000 });
    let mut status = build(&inventory, &plane, None, &now, None);
    let rates = |packets: f64| Some(Rates { packets, bytes: packets * 900.0, flows: packets / 20.0 });
    for (service, packets) in status.services.iter_mut().zip([12_400.0, 310.0]) {
        service.traffic.rates = rates(packets);
        service.state = ServiceState::Ok;
        service.reason = "the first pool serves".to_owned();
    }
    for backend in status.pools.iter_mut().flat_map(|pool| &mut pool.backends) {
        (backend.state, backend.health) = (BackendState::Up, HealthStatus::Up);
        backend.reason = "its probes pass".to_owned();
        backend.traffic.rates = rates(100.0);
    }
    status.services[0].state = ServiceState::Fallback;
    status.services[0].serving = Some("provider-b".to_owned());
    status.services[0].reason = "provider-a has 1 of 3 backends and needs 2".to_owned();
    for backend in &mut status.pools[0].backends[..2] {
        (backend.state, backend.health) = (BackendState::Down, HealthStatus::Down);
        backend.reason = "3 probes failed: the connection was refused\x1b[2J by 10.1.0.11:80".to_owned();
        backend.traffic.rates = rates(0.0);
    }
    status
}

/// The next reading: a second later, with more packets.
fn later(mut status: Status) -> Status {
    status.at += 1000;
    for (exit, more) in status.exits.iter_mut().zip([1_000_000, 12_710, 7, 5]) {
        exit.packets += more;
    }
    status
}

fn screen() -> Screen {
    let mut screen = Screen::new(Snapshot::new(status(), None));
    screen.take(Ok(later(status())));
    screen
}

fn press(screen: &mut Screen, keys: &[KeyCode]) {
    for key in keys {
        assert_eq!(screen.press(KeyEvent::new(*key, KeyModifiers::NONE)), Then::Stay);
    }
}

fn typed(text: &str) -> Vec<KeyCode> {
    text.chars().map(KeyCode::Char).collect()
}

/// The screen as text.
fn drawn(screen: &mut Screen, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    terminal.backend().to_string()
}

/// The first cells of the rows that are shown.
fn names(screen: &mut Screen) -> Vec<String> {
    screen.rows().into_iter().map(|row| row.name).collect()
}

#[test]
fn services_backends_and_drops_fit_into_a_small_terminal() {
    let mut screen = screen();
    insta::assert_snapshot!("services", drawn(&mut screen, 80, 24));
    insta::assert_snapshot!("services_wide", drawn(&mut screen, 140, 30));
    press(&mut screen, &[KeyCode::Tab]);
    insta::assert_snapshot!("backends", drawn(&mut screen, 80, 24));
    press(&mut screen, &[KeyCode::Tab]);
    insta::assert_snapshot!("exits", drawn(&mut screen, 80, 24));
    // Whatever the size, it is drawn.
    for (columns, rows) in [(1, 1), (5, 3), (20, 5), (300, 100)] {
        for page in [KeyCode::Char('1'), KeyCode::Enter, KeyCode::Enter, KeyCode::Char('3')] {
            press(&mut screen, &[page]);
            drawn(&mut screen, columns, rows);
        }
    }
}

#[test]
fn enter_opens_a_service_then_a_backend_and_escape_goes_back() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Enter]);
    assert_eq!(screen.view.page, Page::Service("web".to_owned()));
    insta::assert_snapshot!("service", drawn(&mut screen, 80, 24));
    press(&mut screen, &[KeyCode::Down, KeyCode::Enter]);
    assert_eq!(screen.view.page, Page::Backend("provider-a/a2".to_owned()));
    insta::assert_snapshot!("backend", drawn(&mut screen, 80, 24));
    press(&mut screen, &[KeyCode::Esc]);
    assert_eq!(screen.view.page, Page::Service("web".to_owned()));
    assert_eq!(screen.view.table.selected(), Some(1), "where it was left");
    press(&mut screen, &[KeyCode::Left, KeyCode::Esc]);
    assert_eq!(screen.view.page, Page::Services);
    // An exit opens nothing.
    press(&mut screen, &[KeyCode::Char('3'), KeyCode::Enter]);
    assert_eq!(screen.view.page, Page::Exits);
}

#[test]
fn a_filter_keeps_names_and_states() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Char('2'), KeyCode::Char('/')]);
    press(&mut screen, &typed("DOWN"));
    assert_eq!(names(&mut screen), ["provider-a/a1", "provider-a/a2"], "q is a letter of it while it is typed");
    insta::assert_snapshot!("filter", drawn(&mut screen, 80, 24));
    press(&mut screen, &[KeyCode::Esc, KeyCode::Char('/')]);
    press(&mut screen, &typed("sharedq"));
    press(&mut screen, &[KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!(names(&mut screen), ["provider-a/shared", "provider-b/shared"]);
    press(&mut screen, &[KeyCode::Esc]);
    assert_eq!(names(&mut screen).len(), 6, "escape shows all of them again");
}

#[test]
fn the_order_is_by_trouble_by_traffic_or_by_name() {
    let mut screen = screen();
    assert_eq!(names(&mut screen), ["web", "dns"]);
    press(&mut screen, &typed("ss"));
    assert_eq!(names(&mut screen), ["dns", "web"], "by name");
    press(&mut screen, &typed("s2"));
    assert_eq!(names(&mut screen)[..2], ["provider-a/a1", "provider-a/a2"], "those that are down");
    press(&mut screen, &typed("s"));
    assert_eq!(names(&mut screen)[0], "provider-a/shared", "the first with traffic");
}

#[test]
fn the_selection_follows_its_row_and_scrolls() {
    let mut many = status();
    let service = many.services[1].clone();
    many.services.extend((0..600).map(|number| {
        let mut service = service.clone();
        service.name = format!("customer-{number:03}");
        service
    }));
    let mut screen = Screen::new(Snapshot::new(many.clone(), None));
    let selected = |screen: &mut Screen| {
        let rows = names(screen);
        rows[screen.view.table.selected().unwrap()].clone()
    };
    drawn(&mut screen, 80, 24);
    assert_eq!(screen.page_rows, 18);
    press(&mut screen, &[KeyCode::PageDown, KeyCode::PageDown, KeyCode::Up]);
    assert_eq!(selected(&mut screen), "customer-033");
    assert!(drawn(&mut screen, 80, 24).contains("customer-033"));
    // The service above it is gone, another one gets into trouble: the selection stays on its own.
    many.services.remove(1);
    many.services[500].state = ServiceState::Exhausted;
    screen.take(Ok(many.clone()));
    assert_eq!(selected(&mut screen), "customer-033");
    press(&mut screen, &[KeyCode::Home]);
    assert_eq!(selected(&mut screen), "customer-499", "the worst is the first");
    press(&mut screen, &[KeyCode::End, KeyCode::Down]);
    assert_eq!(selected(&mut screen), "customer-599");
    many.services.truncate(2);
    screen.take(Ok(many));
    assert_eq!(selected(&mut screen), "customer-000", "a row that is gone leaves its place to the last");
}

#[test]
fn a_reading_that_fails_is_named_above_the_last_one() {
    let mut screen = screen();
    screen.take(Err("no daemon answers on /run/edge/edge.sock, and nothing is pinned".to_owned()));
    let text = drawn(&mut screen, 80, 24);
    assert!(text.contains("NO READING: no daemon answers") && text.contains("provider-b"), "{text}");
    screen.take(Ok(status()));
    assert!(drawn(&mut screen, 80, 24).contains("WARNING: "));
}

#[test]
fn rates_of_exits_are_over_the_time_between_two_readings() {
    let first = Snapshot::new(status(), None);
    assert_eq!((first.drops(), first.exit("not_ours")), (None, None), "one reading has no rates");
    let second = Snapshot::new(later(status()), Some(&first));
    let names: Vec<_> = second.status.exits.iter().map(|exit| exit.name.clone()).collect();
    assert_eq!(second.exit(&names[1]), Some(12_710.0));
    assert_eq!(second.exit(&names[10]), Some(0.0));
    let dropped = second.status.exits.iter().take(4).filter(|exit| exit.verdict == "drop");
    let dropped: u32 = dropped.map(|exit| u32::try_from(exit.packets).unwrap()).sum();
    assert_eq!(second.drops(), Some(f64::from(dropped)));
    // The same reading again, a clock that was set back, and counters that begin anew.
    let mut again = later(status());
    assert_eq!(Snapshot::new(again.clone(), Some(&second)).exit(&names[1]), Some(12_710.0));
    again.at -= 5000;
    assert_eq!(Snapshot::new(again, Some(&second)).exit(&names[1]), Some(12_710.0));
    let mut anew = status();
    anew.at += 3000;
    assert_eq!(Snapshot::new(anew, Some(&second)).exit(&names[1]), Some(0.0));
}

#[test]
fn only_quitting_ends_it() {
    let mut screen = screen();
    let quit = |screen: &mut Screen, key, modifiers| screen.press(KeyEvent::new(key, modifiers)) == Then::Quit;
    assert!(quit(&mut screen, KeyCode::Char('q'), KeyModifiers::NONE));
    press(&mut screen, &typed("/q"));
    assert_eq!(screen.view.filter, "q");
    assert!(quit(&mut screen, KeyCode::Char('c'), KeyModifiers::CONTROL), "also while a filter is typed");
    let pages: BTreeSet<_> = "123"
        .chars()
        .map(|key| {
            let mut screen = super::tests::screen();
            press(&mut screen, &[KeyCode::Char(key)]);
            format!("{:?}", screen.view.page)
        })
        .collect();
    assert_eq!(pages.len(), 3);
}
