//! Answers around the death of a backend, one panel a peer.

use anyhow::Result;
use plotters::{
    chart::ChartBuilder,
    element::{PathElement, Rectangle},
    style::Color as _,
};

use super::{
    super::{super::results::Peer, format},
    axis::Axis,
    canvas::{self, Area, At, COLOURS, FAINT, INK},
};

const ROW: i32 = 66;
const AXIS: i32 = 42;
/// Right of the panels, for the figures.
const FIGURES: i32 = 220;
/// Tenths of a second that are shown before the death, and after it at most.
const BEFORE: usize = 10;
const AFTER: usize = 80;
/// Part of what it was before that a panel has room for: bursts after a gap are cut.
const TOP: f64 = 1.5;

pub(super) fn svg(title: &str, subtitle: &str, peers: &[&Peer]) -> Result<String> {
    let height = canvas::number(peers.len()) * ROW + AXIS;
    canvas::plot(height.unsigned_abs(), title, subtitle, |area| paint(area, peers))
}

fn paint(area: &Area<'_>, peers: &[&Peer]) -> Result<()> {
    let labels = peers.iter().map(|peer| canvas::width(&peer.name)).max().unwrap_or(0) + 60;
    let shown = peers.iter().map(|peer| after(peer).len()).max().unwrap_or(0);
    let last = f64::from(canvas::number(shown)) / 10.0;
    let first = -f64::from(canvas::number(BEFORE)) / 10.0;
    for (place, peer) in peers.iter().enumerate() {
        let is_last = place + 1 == peers.len();
        let top = canvas::number(place) * ROW;
        let axis = if is_last { AXIS } else { 0 };
        let (_, below) = area.split_vertically(top);
        let (own, _) = below.split_vertically(ROW + axis);
        let (_, right) = own.split_horizontally(labels);
        let mut chart = ChartBuilder::on(&right)
            .margin_top(8)
            .margin_right(FIGURES)
            .x_label_area_size(axis)
            .build_cartesian_2d(Axis::new(first..last, seconds(first, last)), Axis::new(0.0..TOP, [0.0, 1.0]))?;
        canvas::plain(&mut chart.configure_mesh())
            .x_label_formatter(&|value| format::tick(*value))
            .x_desc(if is_last { "seconds since the backend died" } else { "" })
            .draw()?;
        let usual = usual(peer);
        let bars = tenths(peer).map(|(tenth, answers)| {
            let part = (f64::from(answers) / usual).min(TOP);
            Rectangle::new([(tenth, 0.0), (tenth + 0.1, part)], COLOURS[0].mix(0.75).filled())
        });
        chart.draw_series(bars)?;
        chart.draw_series([PathElement::new([(0.0, 0.0), (0.0, TOP)], COLOURS[1].stroke_width(2))])?;
        let (left, down) = area.get_base_pixel();
        for (part, text) in [(0.0, "0 %"), (1.0, "100 %")] {
            let (x, y) = chart.backend_coord(&(first, part));
            canvas::write(area, (x - 6 - left, y - down), text, FAINT, At::Left)?;
        }
        let middle = top + 8 + (ROW - 8) / 2;
        canvas::write(area, (labels - 52, middle), &peer.name, INK, At::Left)?;
        let end = canvas::number(area.dim_in_pixel().0 as usize) - FIGURES + 12;
        let failover = &peer.failover;
        let gap = format!("longest gap {}", format::time(1000.0 * failover.longest_gap_ms));
        canvas::write(area, (end, middle - 9), &gap, INK, At::Right)?;
        let failed = format!("{} of {} failed", format::count(failover.failed), format::count(failover.requests));
        canvas::write(area, (end, middle + 9), &failed, INK, At::Right)?;
    }
    Ok(())
}

/// Answers from the death on.
fn after(peer: &Peer) -> &[u32] {
    let answers = peer.failover.answers.get(peer.failover.died_at..).unwrap_or_default();
    &answers[..answers.len().min(AFTER)]
}

/// Seconds since the death, and answers in the tenth that begins then.
fn tenths(peer: &Peer) -> impl Iterator<Item = (f64, u32)> {
    let died = peer.failover.died_at;
    let start = died.saturating_sub(BEFORE);
    let shown = peer.failover.answers.iter().copied().enumerate().skip(start).take(died - start + AFTER);
    shown.map(move |(tenth, answers)| (f64::from(canvas::number(tenth) - canvas::number(died)) / 10.0, answers))
}

/// Answers in a tenth of a second before the death.
fn usual(peer: &Peer) -> f64 {
    let before = peer.failover.answers.iter().take(peer.failover.died_at);
    crate::bench::results::median(before.map(|answers| f64::from(*answers))).max(1.0)
}

/// Whole seconds.
fn seconds(first: f64, last: f64) -> Vec<f64> {
    (-9..=9).map(f64::from).filter(|second| (first..=last).contains(second)).collect()
}
