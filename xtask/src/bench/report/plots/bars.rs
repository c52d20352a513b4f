//! Horizontal bars, in panels side by side.

use anyhow::Result;
use plotters::{chart::ChartBuilder, style::RGBColor};

use super::canvas::{self, Area, At, INK, WIDTH};

/// One panel; its axis begins at zero.
pub(super) struct Panel {
    /// What its axis says.
    pub(super) unit: &'static str,
    pub(super) format: fn(f64) -> String,
    /// Figures of each group, one for each series, where there is one.
    pub(super) groups: Vec<Vec<Option<f64>>>,
}

/// What is plotted, and how it is called.
pub(super) struct Bars<'a> {
    pub(super) title: &'a str,
    pub(super) subtitle: &'a str,
    /// Of the groups, from the top.
    pub(super) labels: &'a [String],
    /// Bars of a group, from the top. One alone has no name.
    pub(super) series: &'a [(&'a str, RGBColor)],
    pub(super) panels: &'a [Panel],
}

/// Of a bar, of the room between two groups, of the axis, and of the legend.
const BAR: i32 = 14;
const GAP: i32 = 9;
const AXIS: i32 = 42;
const LEGEND: i32 = 28;
/// At the right end of a panel, for the figure of the longest bar.
const FIGURE: i32 = 70;

impl Bars<'_> {
    pub(super) fn svg(&self) -> Result<String> {
        let height = self.top() + canvas::number(self.labels.len()) * self.group() + GAP + AXIS;
        canvas::plot(height.unsigned_abs(), self.title, self.subtitle, |area| self.paint(area))
    }

    fn group(&self) -> i32 {
        canvas::number(self.series.len()) * BAR + GAP
    }

    fn top(&self) -> i32 {
        if self.series.len() > 1 { LEGEND } else { 0 }
    }

    fn paint(&self, area: &Area<'_>) -> Result<()> {
        let labels = self.labels.iter().map(|label| canvas::width(label)).max().unwrap_or(0) + 24;
        if self.series.len() > 1 {
            canvas::legend(area, (labels, LEGEND / 2), self.series)?;
        }
        for (place, label) in self.labels.iter().enumerate() {
            let y = self.top() + GAP + canvas::number(place) * self.group() + (self.group() - GAP) / 2;
            canvas::write(area, (labels - 10, y), label, INK, At::Left)?;
        }
        let room = (canvas::number(WIDTH as usize) - labels) / canvas::number(self.panels.len());
        for (place, panel) in self.panels.iter().enumerate() {
            let left = labels + canvas::number(place) * room;
            let (_, rest) = area.split_horizontally(left);
            let (own, _) = rest.split_horizontally(room);
            self.panel(&own, panel)?;
        }
        Ok(())
    }

    fn panel(&self, area: &Area<'_>, panel: &Panel) -> Result<()> {
        let most = panel.groups.iter().flatten().flatten().copied().fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let (width, _) = area.dim_in_pixel();
        let mut chart = ChartBuilder::on(area)
            .margin_right(FIGURE)
            .margin_top(self.top())
            .x_label_area_size(AXIS)
            .build_cartesian_2d(0.0..most, 0.0..1.0)?;
        let labels = (width as usize / 60).clamp(3, 8);
        canvas::plain(&mut chart.configure_mesh())
            .disable_y_mesh()
            .x_labels(labels)
            .x_label_formatter(&|value| super::super::format::tick(*value))
            .x_desc(panel.unit)
            .draw()?;
        let (left, _) = area.get_base_pixel();
        for (group, figures) in panel.groups.iter().enumerate() {
            let top = self.top() + GAP + canvas::number(group) * self.group();
            for (place, (figure, (_, colour))) in figures.iter().zip(self.series).enumerate() {
                let Some(figure) = figure else { continue };
                let top = top + canvas::number(place) * BAR;
                let (from, to) =
                    (chart.backend_coord(&(0.0, 0.0)).0 - left, chart.backend_coord(&(*figure, 0.0)).0 - left);
                canvas::rectangle(area, (from, top + 1), (to, top + BAR - 2), *colour)?;
                let figure = (panel.format)(*figure);
                canvas::write(area, (to + 6, top + BAR / 2), &figure, INK, At::Right)?;
            }
        }
        Ok(())
    }
}
