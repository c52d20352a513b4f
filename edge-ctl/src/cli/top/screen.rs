//! What the screen shows, and how keys change it. Pure: it neither reads nor draws.

#![deny(clippy::disallowed_methods)]

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    widgets::TableState,
};

use super::{
    Reading,
    page::{PAGES, Page},
    rows::{Order, Row, rows},
    snapshot::Snapshot,
};

/// An open page.
#[derive(Debug)]
pub(super) struct View {
    pub(super) page: Page,
    pub(super) filter: String,
    /// Name of the selected row: rows move when their order changes.
    selected: Option<String>,
    pub(super) table: TableState,
}

impl View {
    fn new(page: Page) -> Self {
        Self { page, filter: String::new(), selected: None, table: TableState::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Stay,
    Quit,
}

#[derive(Debug)]
pub(super) struct Screen {
    pub(super) snapshot: Snapshot,
    /// Why the last reading has failed; the one before is still shown.
    pub(super) failed: Option<String>,
    /// The page that is shown, and the way back from it.
    pub(super) view: View,
    back: Vec<View>,
    pub(super) order: Order,
    /// Whether the filter is being typed.
    pub(super) typing: bool,
    /// Rows of the table that fit on the screen, as it was last drawn.
    pub(super) page_rows: usize,
}

impl Screen {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let view = View::new(Page::Services);
        let order = Order::default();
        Self { snapshot, failed: None, view, back: Vec::new(), order, typing: false, page_rows: 1 }
    }

    /// Takes a new reading.
    pub(super) fn take(&mut self, reading: Reading) {
        match reading {
            Ok(status) => {
                self.snapshot = Snapshot::new(status, Some(&self.snapshot));
                self.failed = None;
            }
            Err(why) => self.failed = Some(why),
        }
    }

    /// The rows of the table, after the selection has followed its row.
    pub(super) fn rows(&mut self) -> Vec<Row> {
        let rows = rows(&self.view.page, &self.snapshot, &self.view.filter, self.order);
        let view = &mut self.view;
        let at = view.selected.as_ref().and_then(|name| rows.iter().position(|row| row.name == *name));
        // A row that is gone leaves its place to the next.
        let place = at.or(view.table.selected()).unwrap_or_default().min(rows.len().saturating_sub(1));
        view.table.select(rows.get(place).map(|_| place));
        rows
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Then {
        if key.kind == KeyEventKind::Release {
            return Then::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Then::Quit } else { Then::Stay };
        }
        if self.typing {
            self.type_filter(key.code);
            return Then::Stay;
        }
        let page = isize::try_from(self.page_rows).unwrap_or(isize::MAX).max(1);
        match key.code {
            KeyCode::Char('q') => return Then::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown | KeyCode::Char(' ') => self.step(page),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Enter | KeyCode::Right | KeyCode::Char('l') => self.open(),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace | KeyCode::Char('h') => self.go_back(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(PAGES.len() - 1),
            KeyCode::Char(digit @ '1'..='3') => self.turn_to(digit as usize - '1' as usize),
            _ => {}
        }
        Then::Stay
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) => self.view.filter.push(letter),
            KeyCode::Backspace => drop(self.view.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.view.filter.clear();
            }
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            _ => {}
        }
    }

    /// Moves the selection by a number of rows.
    fn step(&mut self, by: isize) {
        let rows = self.rows();
        let at = self.view.table.selected().unwrap_or_default().saturating_add_signed(by);
        let at = at.min(rows.len().saturating_sub(1));
        self.view.selected = rows.get(at).map(|row| row.name.clone());
    }

    fn open(&mut self) {
        let rows = self.rows();
        let Some(row) = self.view.table.selected().and_then(|at| rows.get(at)) else { return };
        if let Some(page) = row.opens.clone() {
            self.view.selected = Some(row.name.clone());
            self.back.push(std::mem::replace(&mut self.view, View::new(page)));
        }
    }

    /// Back to the page before; on the first one, to all its rows.
    fn go_back(&mut self) {
        match self.back.pop() {
            Some(view) => self.view = view,
            None => self.view.filter.clear(),
        }
    }

    fn turn(&mut self, by: usize) {
        let at = PAGES.iter().position(|(page, _)| page == self.first_page()).unwrap_or_default();
        self.turn_to((at + by) % PAGES.len());
    }

    fn turn_to(&mut self, number: usize) {
        if let Some((page, _)) = PAGES.get(number) {
            self.back.clear();
            self.view = View::new(page.clone());
        }
    }

    /// The page that the way to this one has begun with.
    pub(super) fn first_page(&self) -> &Page {
        &self.back.first().unwrap_or(&self.view).page
    }
}
