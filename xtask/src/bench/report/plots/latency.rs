//! Latencies of each peer, on one logarithmic axis.

use anyhow::Result;
use plotters::chart::ChartBuilder;
use plotters::{
    element::{Circle, PathElement},
    style::Color as _,
};

use super::{
    super::{super::results::Peer, format},
    axis::Axis,
    canvas::{self, Area, At, COLOURS, FAINT, INK},
};

const ROW: i32 = 34;
const LEGEND: i32 = 30;
const AXIS: i32 = 42;
/// Right of the axis, for the figures.
const FIGURES: i32 = 210;

/// One line of three points a peer.
pub(super) fn svg(title: &str, subtitle: &str, peers: &[&Peer]) -> Result<String> {
    let height = LEGEND + canvas::number(peers.len()) * ROW + AXIS;
    canvas::plot(height.unsigned_abs(), title, subtitle, |area| paint(area, peers))
}

fn figures(peer: &Peer) -> [f64; 3] {
    [peer.latency.p50_us, peer.latency.p99_us, peer.latency.p999_us]
}

fn paint(area: &Area<'_>, peers: &[&Peer]) -> Result<()> {
    let all = || peers.iter().flat_map(|peer| figures(peer)).filter(|figure| *figure > 0.0);
    let (least, most) = (0.8 * all().fold(f64::INFINITY, f64::min), 1.2 * all().fold(0.0, f64::max));
    let labels = peers.iter().map(|peer| canvas::width(&peer.name)).max().unwrap_or(0) + 24;
    let series = [("p50", COLOURS[0]), ("p99", COLOURS[5]), ("p99.9", COLOURS[1])];
    canvas::legend(area, (labels, LEGEND / 2), &series)?;
    let (_, right) = area.split_horizontally(labels);
    let bottom = f64::from(canvas::number(peers.len()));
    let mut chart = ChartBuilder::on(&right)
        .margin_top(LEGEND)
        .margin_right(FIGURES)
        .x_label_area_size(AXIS)
        .build_cartesian_2d(Axis::new(least.log10()..most.log10(), ticks(least, most)), bottom..0.0)?;
    canvas::plain(&mut chart.configure_mesh())
        .disable_y_mesh()
        .x_label_formatter(&|value| format::round_time(10f64.powf(*value)))
        .x_desc("latency from when the request was due (log scale)")
        .draw()?;
    let end = canvas::number(area.dim_in_pixel().0 as usize) - FIGURES + 12;
    canvas::write(area, (end, LEGEND / 2), "p50 / p99 / p99.9", FAINT, At::Right)?;
    for (place, peer) in (0..).zip(peers) {
        let y = f64::from(place) + 0.5;
        let points = figures(peer).map(|figure| (figure.max(least).log10(), y));
        chart.draw_series([PathElement::new(points, FAINT.stroke_width(2))])?;
        for (point, (_, colour)) in points.into_iter().zip(series) {
            chart.draw_series([Circle::new(point, 6, colour.filled())])?;
        }
        let pixel = LEGEND + place * ROW + ROW / 2;
        canvas::write(area, (labels - 10, pixel), &peer.name, INK, At::Left)?;
        canvas::write(area, (end, pixel), &figures(peer).map(format::time).join(" / "), INK, At::Right)?;
    }
    Ok(())
}

/// One, two and five times the powers of ten; just the powers where there are many.
fn ticks(least: f64, most: f64) -> Vec<f64> {
    let steps: &[f64] = if most / least > 3000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = (0..9).map(|power| 10f64.powi(power));
    let all = powers.flat_map(|power| steps.iter().map(move |step| step * power));
    all.filter(|tick| (least..=most).contains(tick)).map(f64::log10).collect()
}
