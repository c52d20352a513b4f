//! Lines over the number of flows.

use anyhow::Result;
use plotters::{
    chart::ChartBuilder,
    element::Circle,
    series::{DashedLineSeries, LineSeries},
    style::{Color as _, RGBColor},
};

use super::{
    super::{format, names::FLOWS},
    axis::Axis,
    canvas::{self, At, COLOURS, FAINT, INK},
};

/// One line.
pub(super) struct Line {
    pub(super) name: String,
    /// Flows, and the figure with them.
    pub(super) points: Vec<(u32, f64)>,
}

/// What the lines are to be compared with.
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) value: f64,
    /// A limit, and not just something else that was measured.
    pub(super) limit: bool,
}

/// What is plotted, and how it is called.
pub(super) struct OverFlows<'a> {
    pub(super) title: &'a str,
    pub(super) subtitle: &'a str,
    pub(super) unit: &'a str,
    pub(super) lines: &'a [Line],
    pub(super) references: &'a [Reference],
}

const HEIGHT: u32 = 420;
/// Right of the lines, for their names.
const NAMES: u32 = 150;
/// Between two names.
const LEADING: i32 = 17;

impl OverFlows<'_> {
    pub(super) fn svg(&self) -> Result<String> {
        canvas::plot(HEIGHT, self.title, self.subtitle, |area| self.paint(area))
    }

    fn paint(&self, area: &canvas::Area<'_>) -> Result<()> {
        let values = self.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        let all = values.chain(self.references.iter().map(|reference| reference.value));
        let top = 1.08 * all.fold(0.0, f64::max);
        let (first, last) = (-0.4, 20.4);
        let mut chart = ChartBuilder::on(area)
            .margin_right(NAMES)
            .margin_left(8)
            .margin_top(8)
            .x_label_area_size(42)
            .y_label_area_size(54)
            .build_cartesian_2d(Axis::new(first..last, FLOWS.map(place)), 0.0..top)?;
        canvas::plain(&mut chart.configure_mesh())
            .x_label_formatter(&|place: &f64| format::decimals(place.exp2(), 0))
            .y_label_formatter(&|value| format::tick(*value))
            .x_desc("flows (log scale)")
            .y_desc(self.unit)
            .draw()?;
        let mut names = Vec::new();
        for reference in self.references {
            let colour = if reference.limit { INK } else { FAINT };
            let ends = [(first, reference.value), (last, reference.value)];
            chart.draw_series(DashedLineSeries::new(ends, 6, 4, colour.stroke_width(1)))?;
            names.push(Name::new(chart.backend_coord(&ends[1]), &reference.name, colour));
        }
        for (line, colour) in self.lines.iter().zip(COLOURS.into_iter().cycle()) {
            let points = line.points.iter().map(|(flows, value)| (place(*flows), *value));
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
            chart.draw_series(points.clone().map(|point| Circle::new(point, 4, colour.filled())))?;
            let Some(end) = line.points.last() else { continue };
            names.push(Name::new(chart.backend_coord(&(place(end.0), end.1)), &line.name, colour));
        }
        let right = chart.plotting_area().get_pixel_range().0.end;
        spread(&mut names);
        let (left, down) = area.get_base_pixel();
        for Name { end: (x, y), y: own, text, colour } in names {
            let leader = [(x.max(right - 8) + 6 - left, y - down), (right + 22 - left, own - down)];
            canvas::line(area, leader[0], leader[1], colour)?;
            canvas::write(area, (right + 27 - left, own - down), text, INK, At::Right)?;
        }
        Ok(())
    }
}

/// Where so many flows are on the axis.
fn place(flows: u32) -> f64 {
    f64::from(flows).log2()
}

/// The name of a line, beside its end.
struct Name<'a> {
    end: (i32, i32),
    y: i32,
    text: &'a str,
    colour: RGBColor,
}

impl<'a> Name<'a> {
    fn new(end: (i32, i32), text: &'a str, colour: RGBColor) -> Self {
        Self { end, y: end.1, text, colour }
    }
}

/// Moves names apart that would stand on each other, each as little as it can.
fn spread(names: &mut [Name<'_>]) {
    names.sort_by_key(|name| name.end.1);
    // Groups of names that touch, each around the middle of where its names would like to be.
    let mut groups: Vec<(usize, i32)> = Vec::new();
    for name in names.iter() {
        groups.push((1, name.end.1));
        while let [.., (above, above_middle), (below, below_middle)] = groups[..] {
            let (count_above, count_below) = (canvas::number(above), canvas::number(below));
            if below_middle - above_middle >= (count_above + count_below) * LEADING / 2 {
                break;
            }
            let count = count_above + count_below;
            let middle = (above_middle * count_above + below_middle * count_below) / count;
            groups.truncate(groups.len() - 2);
            groups.push((above + below, middle));
        }
    }
    let mut names = names.iter_mut();
    for (count, middle) in groups {
        let mut y = middle - (canvas::number(count) - 1) * LEADING / 2;
        for name in names.by_ref().take(count) {
            name.y = y;
            y += LEADING;
        }
    }
}
