//! Aligned columns for a terminal.

use std::iter::zip;

/// Columns of numbers and durations, which are aligned to the right.
const RIGHT: [&str; 10] =
    ["WEIGHT", "FOR", "PKT/S", "BIT/S", "FLOWS/S", "PACKETS", "SLOTS", "RECORDS", "AGE", "SILENT"];

/// Whether the cells of a column are aligned to the right.
pub(super) fn is_right(column: &str) -> bool {
    RIGHT.contains(&column)
}

/// A table whose cells are as wide as the widest text of their column.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    colour: bool,
    /// Columns of the terminal.
    room: usize,
}

/// The text of one cell, and its colour if it has one.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    shade: Option<Shade>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shade {
    Green,
    Yellow,
    Red,
}

impl Shade {
    const fn code(self) -> u8 {
        match self {
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
        }
    }
}

impl Cell {
    pub(super) const fn shaded(text: String, shade: Shade) -> Self {
        Self { text, shade: Some(shade) }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn shade(&self) -> Option<Shade> {
        self.shade
    }

    pub(super) fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn cut(&self, room: usize) -> Self {
        Self { text: cut(&self.text, room), shade: self.shade }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: printable(&text.to_string()), shade: None }
    }
}

/// Makes `text` one line without control characters: an operator's reason must not move the cursor, or worse.
pub(super) fn printable(text: &str) -> String {
    let replaced = |char: char| match char {
        '\n' | '\t' => ' ',
        control if control.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    text.chars().map(replaced).collect()
}

/// `text` in a shade, where there is `colour`.
pub(super) fn painted(text: &str, shade: Shade, colour: bool) -> String {
    if colour { format!("\x1b[{}m{text}\x1b[0m", shade.code()) } else { text.to_owned() }
}

/// `text` in at most `room` columns; an ellipsis stands for what is left out.
pub(super) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let ellipsis = if room > 0 { "…" } else { "" };
    text.chars().take(room.saturating_sub(1)).collect::<String>() + ellipsis
}

/// `text` in lines of at most `width` columns, broken at spaces where there are any.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            let gap = usize::from(line > 0);
            if line > 0 && line + gap + rest.len() > width {
                lines.push(String::new());
                continue;
            }
            let fits = rest.len().min(width.max(1));
            if let Some(last) = lines.last_mut() {
                last.extend(std::iter::repeat_n(' ', gap).chain(rest.drain(..fits)));
            }
        }
    }
    lines
}

impl Table {
    /// `colour`: whether shades are shown.
    pub(super) fn new<const N: usize>(colour: bool, header: [&'static str; N]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new(), colour, room: usize::MAX }
    }

    /// Cuts lines that are longer than `room` columns.
    pub(super) const fn within(mut self, room: usize) -> Self {
        self.room = room;
        self
    }

    /// Adds a row with as many cells as the header has.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.header.len());
        self.rows.push(cells.into());
    }

    /// The table as text; empty if it has no rows.
    pub(super) fn finish(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let header: Vec<_> = self.header.iter().map(Cell::from).collect();
        let rows = || [&header].into_iter().chain(&self.rows);
        let width = |column: usize| rows().filter_map(|row| row.get(column)).map(Cell::width).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        rows().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[Cell], widths: &[usize]) -> String {
        let mut line = String::new();
        let mut room = self.room;
        for ((cell, width), name) in zip(zip(row, widths), &self.header) {
            if room == 0 {
                break;
            }
            let (cell, width) = (&cell.cut(room), &(*width).min(room));
            room = room.saturating_sub(width + 2);
            let gap = " ".repeat(width - cell.width());
            let (before, after) = if is_right(name) { (gap.as_str(), "") } else { ("", gap.as_str()) };
            let text = match cell.shade.filter(|_| self.colour) {
                Some(shade) => format!("\x1b[{}m{}\x1b[0m", shade.code(), cell.text),
                None => cell.text.clone(),
            };
            line.extend([before, &text, after, "  "]);
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

/// Seconds as the two largest units: `12s`, `3m 20s`, `5h 2m`, `8d 1h`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text_and_shades_take_no_room() {
        let table = |colour| {
            let mut table = Table::new(colour, ["NAME", "WEIGHT", "WHY"]);
            table.row(["ü".into(), 5.into(), "up".into()]);
            table.row([Cell::shaded("a long name".to_owned(), Shade::Red), 1_000_000.into(), "two\nlines".into()]);
            table.finish()
        };
        let plain = "NAME          WEIGHT  WHY\nü                  5  up\na long name  1000000  two lines\n";
        assert_eq!(table(false), plain);
        assert_eq!(table(true), plain.replace("a long name", "\x1b[31ma long name\x1b[0m"));
        assert_eq!(Table::new(true, ["NAME"]).finish(), "");
    }

    #[test]
    fn lines_end_where_the_terminal_does() {
        let mut table = Table::new(true, ["NAME", "FOR", "WHY"]).within(14);
        table.row(["a".into(), 5.into(), "short".into()]);
        table.row([Cell::shaded("b".to_owned(), Shade::Red), 60.into(), "a long reason".into()]);
        assert_eq!(table.finish(), "NAME  FOR  WHY\na       5  sh…\n\x1b[31mb\x1b[0m      60  a …\n");
        let mut narrow = Table::new(false, ["NAME", "FOR", "WHY"]).within(3);
        narrow.row(["a long name".into(), 5.into(), "short".into()]);
        assert_eq!(narrow.finish(), "NA…\na …\n");
    }

    #[test]
    fn ages_are_short() {
        assert_eq!([5, 200, 18_120, 694_800].map(age), ["5s", "3m 20s", "5h 2m", "8d 1h"]);
    }
}
