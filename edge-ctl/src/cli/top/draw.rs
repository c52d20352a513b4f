//! Draws the screen.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Cell as Shown, Paragraph, Row as ShownRow, Table},
};

use super::{
    page::{PAGES, Page},
    rows::{Row, find_backend, find_service, header},
    screen::Screen,
};
use crate::{
    cli::{
        render::{addresses, backends, glance::NAME, level_word},
        table::{Cell, Shade, age, cut, is_right, printable, wrapped},
    },
    control::{
        headline::Headline,
        short,
        status::{BackendStatus, PoolStatus, ServiceStatus, TrafficStatus},
    },
};

/// Most lines about the page's service or backend.
const FACTS: usize = 8;

const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let width = usize::from(frame.area().width);
    let rows = screen.rows();
    let facts = facts(screen, width);
    let height = |lines: usize| Constraint::Length(u16::try_from(lines).unwrap_or(u16::MAX));
    let areas = [height(4), height(facts.len()), Constraint::Min(1), height(1)];
    let [top, about, table, keys] = Layout::vertical(areas).areas(frame.area());
    frame.render_widget(Text::from(head(screen, width)), top);
    frame.render_widget(Paragraph::new(facts), about);
    screen.page_rows = usize::from(table.height.saturating_sub(1));
    draw_table(frame, screen, &rows, table);
    frame.render_widget(Line::from(footer(screen, rows.len(), width)), keys);
}

fn colour(shade: Shade) -> Color {
    match shade {
        Shade::Green => Color::Green,
        Shade::Yellow => Color::Yellow,
        Shade::Red => Color::Red,
    }
}

/// How things are, the sums, and the pages.
fn head(screen: &Screen, width: usize) -> Vec<Line<'static>> {
    let snapshot = &screen.snapshot;
    let Headline { level, text } = &snapshot.headline;
    let (word, shade) = if screen.failed.is_some() { ("NO READING", Shade::Red) } else { level_word(*level) };
    let text = screen.failed.as_ref().unwrap_or(text);
    let text = cut(&printable(text), width.saturating_sub(word.len() + 2));
    let source = match &snapshot.status.daemon {
        Some(daemon) => {
            format!("daemon {}, up {}", daemon.pid, age(snapshot.status.at.saturating_sub(daemon.started) / 1000))
        }
        None => "NO DAEMON: read from the pinned maps".to_owned(),
    };
    let total = snapshot.total();
    let number = |rate: Option<f64>| rate.map_or("-".to_owned(), short);
    let translated = snapshot.status.nat.as_ref();
    let translated =
        translated.map_or(String::new(), |nat| format!("  translated flows {} of {}", nat.flows, nat.room));
    let sums = format!(
        "{} pkt/s  {} bit/s  {} flows/s  {} dropped/s{translated}",
        number(total.map(|rates| rates.packets)),
        number(total.map(|rates| rates.bytes * 8.0)),
        number(total.map(|rates| rates.flows)),
        number(snapshot.drops()),
    );
    vec![
        Line::from(vec![Span::styled(word, BOLD.fg(colour(shade))), Span::raw(format!(": {text}"))]),
        Line::from(cut(&format!("generation {}, {source}", snapshot.status.generation), width)),
        Line::styled(cut(&sums, width), BOLD),
        tabs(screen),
    ]
}

fn tabs(screen: &Screen) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, (page, name)) in (1..).zip(&PAGES) {
        let style = if page == screen.first_page() { Style::new().add_modifier(Modifier::REVERSED) } else { DIM };
        spans.extend([Span::styled(format!(" {number} {name} "), style), Span::raw(" ")]);
    }
    if let Page::Service(name) | Page::Backend(name) = &screen.view.page {
        spans.push(Span::styled(format!("> {}", printable(name)), BOLD));
    }
    Line::from(spans)
}

/// What there is to say of the page's service or backend.
fn facts(screen: &Screen, width: usize) -> Vec<Line<'static>> {
    let gone = |name: &str| vec![format!("{name} is no longer in the configuration in force")];
    let facts = match &screen.view.page {
        Page::Services | Page::Backends | Page::Exits => return Vec::new(),
        Page::Service(name) => {
            find_service(&screen.snapshot, name).map_or_else(|| gone(name), |service| about_service(screen, service))
        }
        Page::Backend(name) => find_backend(&screen.snapshot, name)
            .map_or_else(|| gone(name), |(pool, backend)| about_backend(pool, backend)),
    };
    let facts = facts.iter().filter(|fact| !fact.is_empty());
    let lines = facts.flat_map(|fact| wrapped(&printable(fact), width));
    lines.take(FACTS).map(Line::from).collect()
}

fn about_service(screen: &Screen, service: &ServiceStatus) -> Vec<String> {
    let pool = |name: &String| {
        let pool = screen.snapshot.status.pools.iter().find(|pool| pool.name == *name)?;
        Some(format!("{name} ({} of {} available)", pool.available, pool.backends.len()))
    };
    let pools: Vec<_> = service.pools.iter().filter_map(pool).collect();
    let mut facts = vec![
        format!("{} in {} mode; {}", addresses(service), service.mode, traffic(&service.traffic)),
        service.reason.clone(),
        format!("pools in order: {}", pools.join(", ")),
    ];
    if let Some(failover) = &service.failover {
        facts.push(format!("failed over to {} by an operator", failover.to));
    }
    if service.transition.is_some() {
        facts.push("in transition: flows are recorded after a change".to_owned());
    }
    facts
}

fn about_backend(pool: &PoolStatus, backend: &BackendStatus) -> Vec<String> {
    let (state, _) = backends::backend_state(backend.state, backend.health);
    let time = backend.for_seconds.map_or(String::new(), |seconds| format!(" for {}", age(seconds)));
    let forced = if backend.forced.is_some() { ", forced by an operator" } else { "" };
    let next_hop = backend.next_hop.as_deref().unwrap_or("looked up for each packet");
    let mut facts = vec![
        format!("{} with weight {}; {}", backend.address, backend.weight, traffic(&backend.traffic)),
        format!("{state}{time}{forced}; probe: {}", pool.probe.as_deref().unwrap_or("none")),
        format!("next hop {next_hop}"),
    ];
    facts.extend(Some(backends::why(backend)).filter(|why| !why.is_empty()));
    facts.extend(backend.certificate.map(|certificate| certificate.to_string()));
    facts
}

fn traffic(traffic: &TrafficStatus) -> String {
    let peak = traffic.peak.filter(|peak| peak.packets > 0.0).map_or(String::new(), |peak| {
        format!("; peaks of the last hour: {} pkt/s, {} flows/s", short(peak.packets), short(peak.flows))
    });
    format!("{} packets, {} flows since the maps were made{peak}", traffic.packets, traffic.flows)
}

fn draw_table(frame: &mut Frame<'_>, screen: &mut Screen, rows: &[Row], area: Rect) {
    let names = header(&screen.view.page);
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.cells.get(column)).map(Cell::width);
        let widest = cells.chain([names[column].len()]).max().unwrap_or_default();
        u16::try_from(if column == 0 { widest.min(NAME) } else { widest }).unwrap_or(u16::MAX)
    };
    // The last column takes what the others leave.
    let last = names.len() - 1;
    let width = |column| if column == last { Constraint::Fill(1) } else { Constraint::Length(widest(column)) };
    let widths: Vec<_> = (0..names.len()).map(width).collect();
    let line = |text: String, name: &str| {
        let line = Line::from(text);
        if is_right(name) { line.right_aligned() } else { line }
    };
    let shown = |row: &Row| {
        let cells = row.cells.iter().zip(names).enumerate().map(|(column, (cell, name))| {
            let text = if column == 0 { cut(cell.text(), NAME) } else { cell.text().to_owned() };
            let style = cell.shade().map_or(Style::new(), |shade| Style::new().fg(colour(shade)));
            Shown::from(line(text, name)).style(style)
        });
        ShownRow::new(cells)
    };
    let titles = ShownRow::new(names.iter().map(|name| line((*name).to_owned(), name))).style(DIM);
    let table = Table::new(rows.iter().map(shown), widths)
        .header(titles)
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut screen.view.table);
}

fn footer(screen: &Screen, rows: usize, width: usize) -> String {
    let filter = &screen.view.filter;
    if screen.typing {
        return cut(&format!("filter: {}_   (enter: keep, esc: all)", printable(filter)), width);
    }
    let at = screen.view.table.selected().map_or(0, |at| at + 1);
    let filter = if filter.is_empty() { String::new() } else { format!(" with \"{}\"", printable(filter)) };
    let keys = "q quit  enter open  esc back  / filter  tab page  s order:";
    cut(&format!("{at}/{rows}{filter}  {keys} {}", screen.order.name()), width)
}
