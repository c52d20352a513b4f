//! What all plots share: paper, colours, text.

use anyhow::Result;
use plotters::{
    chart::MeshStyle,
    coord::{Shift, ranged1d::Ranged},
    prelude::{DrawingArea, IntoDrawingArea as _, PathElement, Rectangle, SVGBackend, Text},
    style::{
        Color as _, FontStyle, IntoFont as _, RGBColor, TRANSPARENT, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

/// All of a plot, or a part of it.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Colours that colour-blind people can tell apart (Okabe and Ito's), the darkest first.
pub(super) const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(190, 100, 155),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
/// Of what is said beside the data.
pub(super) const FAINT: RGBColor = RGBColor(102, 102, 102);
pub(super) const GRID: RGBColor = RGBColor(226, 226, 226);

/// Pixels, as of all below.
pub(super) const WIDTH: u32 = 880;
pub(super) const TEXT: u32 = 13;
const MARGIN: i32 = 16;
/// Title, and the line below it.
pub(super) const HEADING: u32 = 60;

/// Where a text stands to the point that it is given.
#[derive(Clone, Copy)]
pub(super) enum At {
    Right,
    Left,
    Middle,
}

/// Paints a plot with a title and a line that says how to read it. `paint` gets what is below them.
pub(super) fn plot(
    height: u32,
    title: &str,
    subtitle: &str,
    paint: impl FnOnce(&Area<'_>) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEADING + height)).into_drawing_area();
        // GitHub shows it on a dark page, too.
        root.fill(&WHITE)?;
        let title_style = TextStyle::from(("sans-serif", 17, FontStyle::Bold)).color(&INK).pos(pos(At::Right));
        root.draw(&Text::new(title, (MARGIN, 20), title_style))?;
        write(&root, (MARGIN, 42), subtitle, FAINT, At::Right)?;
        paint(&root.margin(HEADING, 0, 0, 0))?;
        root.present()?;
    }
    svg.push('\n');
    Ok(svg)
}

pub(super) fn style(colour: RGBColor, at: At) -> TextStyle<'static> {
    TextStyle { font: ("sans-serif", TEXT).into_font(), color: colour.to_backend_color(), pos: pos(at) }
}

fn pos(at: At) -> Pos {
    let horizontal = match at {
        At::Right => HPos::Left,
        At::Left => HPos::Right,
        At::Middle => HPos::Center,
    };
    Pos::new(horizontal, VPos::Center)
}

/// Axes and grid as all charts have them.
pub(super) fn plain<'m, 'a, 'b, 'c, X: Ranged, Y: Ranged>(
    mesh: &'m mut MeshStyle<'a, 'b, X, Y, SVGBackend<'c>>,
) -> &'m mut MeshStyle<'a, 'b, X, Y, SVGBackend<'c>> {
    mesh.light_line_style(TRANSPARENT).bold_line_style(GRID).axis_style(FAINT).label_style(style(INK, At::Middle))
}

pub(super) fn write(area: &Area<'_>, point: (i32, i32), text: &str, colour: RGBColor, at: At) -> Result<()> {
    Ok(area.draw(&Text::new(text.to_owned(), point, style(colour, at)))?)
}

pub(super) fn rectangle(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
    Ok(area.draw(&Rectangle::new([from, to], colour.filled()))?)
}

pub(super) fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<()> {
    Ok(area.draw(&PathElement::new([from, to], colour.stroke_width(2)))?)
}

/// Swatches and their names, from the left.
pub(super) fn legend(area: &Area<'_>, start: (i32, i32), entries: &[(&str, RGBColor)]) -> Result<()> {
    let (mut x, y) = start;
    for (name, colour) in entries {
        rectangle(area, (x, y - 6), (x + 12, y + 6), *colour)?;
        write(area, (x + 18, y), name, INK, At::Right)?;
        x += 18 + width(name) + 24;
    }
    Ok(())
}

/// How wide a text is, at most or nearly so: there are no fonts to ask.
pub(super) fn width(text: &str) -> i32 {
    number(text.chars().count()) * 15 / 2
}

/// A number of things, as coordinates count.
pub(super) fn number(count: usize) -> i32 {
    i32::try_from(count).expect("a few of them")
}
