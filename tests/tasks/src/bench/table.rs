//! A Markdown table.

use std::fmt;

/// Columns and rows. The output has aligned columns, so that its source is readable as well.
pub(super) struct Table<'a> {
    columns: Vec<Column<'a>>,
    rows: Vec<Vec<String>>,
}

struct Column<'a> {
    heading: &'a str,
    /// Figures are aligned to the right.
    right: bool,
}

impl<'a> Table<'a> {
    /// A table with these columns. A heading that begins with `>` marks a column of figures.
    pub(super) fn new(headings: &[&'a str]) -> Self {
        let column = |heading: &&'a str| match heading.strip_prefix('>') {
            Some(heading) => Column { heading, right: true },
            None => Column { heading, right: false },
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<_> = cells.into_iter().map(|cell| cell.replace('|', "\\|").replace('<', "\\<")).collect();
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, widths: &[usize], cells: &[&str]) -> fmt::Result {
        for ((column, width), cell) in self.columns.iter().zip(widths).zip(cells) {
            if column.right { write!(f, "| {cell:>width$} ")? } else { write!(f, "| {cell:<width$} ")? }
        }
        writeln!(f, "|")
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<_> = (0..self.columns.len())
            .map(|place| {
                let cells = self.rows.iter().map(|row| row[place].chars().count());
                cells.chain([self.columns[place].heading.chars().count(), 3]).max().unwrap_or(3)
            })
            .collect();
        let headings: Vec<_> = self.columns.iter().map(|column| column.heading).collect();
        self.line(f, &widths, &headings)?;
        for (column, width) in self.columns.iter().zip(&widths) {
            let dashes = "-".repeat(width - 1);
            if column.right { write!(f, "| {dashes}: ")? } else { write!(f, "| {dashes}- ")? }
        }
        writeln!(f, "|")?;
        for row in &self.rows {
            self.line(f, &widths, &row.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
