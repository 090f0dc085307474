//! The state of the screen. It changes by keys, snapshots and the size of the terminal, and by
//! nothing else: [`App::handle`]. [`super::draw`] makes a frame of it.

use std::{collections::HashMap, time::Duration};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    choice::{self, Choice},
    column::{Column, Scale},
    history::History,
    keys::{self, Command},
    popup::Popup,
    snapshot::{FindingRow, Identity, Row, Snapshot},
};

/// A table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Table {
    /// Processes.
    #[default]
    Processes,
    /// Contexts.
    Contexts,
    /// Requests by descriptor.
    Descriptors,
    /// Findings.
    Findings,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Processes, Self::Contexts, Self::Descriptors, Self::Findings];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Contexts => "contexts",
            Self::Descriptors => "descriptors",
            Self::Findings => "findings",
        }
    }

    /// Its usual columns; `counted`: requests are counted, and not only contexts listed.
    pub fn columns(self, counted: bool) -> &'static [Column] {
        match self {
            Self::Processes if !counted => &Column::LISTED,
            Self::Processes | Self::Findings => &Column::PROCESSES,
            Self::Contexts => &Column::CONTEXTS,
            Self::Descriptors => &Column::DESCRIPTORS,
        }
    }
}

/// What happens to the screen.
#[derive(Debug)]
pub enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// An interval is over.
    Snapshot(Box<Snapshot>),
    /// The terminal has this many columns and rows.
    Size(u16, u16),
}

/// What is to be done outside of the screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// The end.
    Quit,
    /// Stop this process until somebody lets it go on.
    Suspend,
    /// Draw everything anew, as something else has written on the terminal.
    Redraw,
    /// Look as often.
    Pace(Duration),
    /// A recording: this many snapshots forward, or back.
    Seek(i32),
    /// A recording: stop, or go on.
    Hold(bool),
    /// Write the screen to a file.
    Write,
}

/// The state of the screen.
#[derive(Debug, Default)]
pub struct App {
    /// Which rows are shown, and how.
    pub choice: Choice,
    /// The table that is shown.
    pub table: Table,
    /// Only rows of this process, and of this context.
    pub only: Option<Identity>,
    /// Colours are used.
    pub color: bool,
    /// Only ASCII characters are drawn.
    pub ascii: bool,
    /// A recording is played.
    pub is_recording: bool,
    /// What is shown now.
    pub shown: Snapshot,
    /// What came meanwhile, where the screen is paused.
    pub waiting: Option<Box<Snapshot>>,
    /// The screen is paused.
    pub is_paused: bool,
    /// Numbers since the start are shown.
    pub is_sum: bool,
    /// The rows keep this order.
    pub frozen: Option<Vec<Identity>>,
    /// The selected row is kept in sight.
    pub follow: bool,
    /// Details of the selected row are shown.
    pub detail: bool,
    /// The filter that is being typed.
    pub typing: Option<String>,
    /// A text over the table.
    pub popup: Option<Popup>,
    /// A short message in the last line, until the next key.
    pub message: Option<String>,
    /// What was before.
    pub history: History,
    /// The first row in sight.
    pub first: usize,
    /// The size of the terminal.
    pub size: (u16, u16),
    selected: HashMap<Table, Identity>,
}

/// The interval is never shorter than this, and never longer.
const INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// The longest filter.
const MOST_TYPED: usize = 100;

impl App {
    /// A screen that shows nothing yet.
    pub fn new(choice: Choice, color: bool, ascii: bool) -> Self {
        Self { choice, color, ascii, ..Self::default() }
    }

    /// Takes what happened, and says what is to be done.
    pub fn handle(&mut self, input: Input) -> Action {
        match input {
            Input::Key(key) if key.kind == KeyEventKind::Release => Action::None,
            Input::Key(key) => self.key(key),
            Input::Size(width, height) => {
                self.size = (width, height);
                self.keep_in_sight();
                Action::None
            }
            Input::Snapshot(snapshot) => {
                self.history.take(&snapshot, self.waiting.as_deref().unwrap_or(&self.shown));
                match self.is_paused && !self.is_recording {
                    true => self.waiting = Some(snapshot),
                    false => self.shown = *snapshot,
                }
                if self.follow {
                    self.keep_in_sight();
                }
                Action::None
            }
        }
    }

    fn key(&mut self, key: KeyEvent) -> Action {
        self.message = None;
        if let Some(popup) = &mut self.popup
            && key.code != KeyCode::Char('q')
            && !key.modifiers.contains(KeyModifiers::CONTROL)
        {
            if !popup.key(key) {
                self.popup = None;
            }
            return Action::None;
        }
        if self.typing.is_some() && !key.modifiers.contains(KeyModifiers::CONTROL) {
            self.type_key(key);
            return Action::None;
        }
        let Some(command) = keys::command(key) else { return Action::None };
        self.obey(command)
    }

    fn obey(&mut self, command: Command) -> Action {
        match command {
            Command::Quit => return Action::Quit,
            Command::Suspend => return Action::Suspend,
            Command::Redraw => return Action::Redraw,
            Command::Write => return Action::Write,
            Command::Seek(by) if self.is_recording => return Action::Seek(by),
            Command::Seek(_) => (),
            Command::Move(by) => self.move_by(by as isize),
            Command::Page(by) => self.move_by(by as isize * self.table_height().max(1) as isize),
            Command::First => self.select(0),
            Command::Last => self.select(usize::MAX),
            Command::Table(number) => self.open(Table::ALL[number.min(3)], self.only),
            Command::Down => self.enter(),
            Command::Up => self.leave(),
            Command::Column(by) => self.sort_by(by),
            Command::Reverse => self.choice.sort.ascending ^= true,
            Command::Filter => {
                let text = self.choice.filter.as_ref().map_or("", |it| it.as_str());
                self.typing = Some(text.to_owned());
            }
            Command::Pause => {
                self.is_paused ^= true;
                if let (false, Some(snapshot)) = (self.is_paused, self.waiting.take()) {
                    self.shown = *snapshot;
                }
                if self.is_recording {
                    return Action::Hold(self.is_paused);
                }
            }
            Command::Freeze => {
                self.frozen = match self.frozen {
                    Some(_) => None,
                    None => Some(self.rows().iter().map(|it| it.id).collect()),
                }
            }
            Command::Follow => {
                self.follow ^= true;
                self.keep_in_sight();
            }
            Command::Active => self.choice.active ^= true,
            Command::Sum => self.is_sum ^= true,
            Command::Interval(by) => return self.pace(by),
            Command::Detail => {
                self.detail ^= true;
                self.keep_in_sight();
            }
            Command::Explain => self.explain(),
            Command::Help => self.popup = Some(Popup::help()),
        }
        Action::None
    }

    fn pace(&mut self, by: i32) -> Action {
        let every = Duration::from_nanos(self.shown.every);
        let every = if by > 0 { every * 2 } else { every / 2 };
        let every = every.clamp(INTERVALS[0], INTERVALS[1]);
        if !self.is_recording {
            self.shown.every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
            self.shown.asked = self.shown.every;
        }
        Action::Pace(every)
    }

    fn type_key(&mut self, key: KeyEvent) {
        let Some(text) = &mut self.typing else { return };
        match key.code {
            KeyCode::Char(letter) if text.chars().count() < MOST_TYPED => text.push(letter),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Esc => (self.typing, self.choice.filter) = (None, None),
            KeyCode::Enter => match choice::filter(text) {
                Ok(filter) => {
                    self.choice.filter = (!text.is_empty()).then_some(filter);
                    (self.typing, self.first) = (None, 0);
                }
                Err(error) => self.message = Some(error),
            },
            _ => (),
        }
    }

    fn open(&mut self, table: Table, only: Option<Identity>) {
        (self.table, self.only, self.first, self.frozen) = (table, only, 0, None);
        self.keep_in_sight();
    }

    fn enter(&mut self) {
        let Some(id) = self.selected() else { return };
        match (self.table, id) {
            (Table::Processes, _) => self.open(Table::Contexts, Some(id)),
            (Table::Contexts, _) if self.shown.descriptors.is_some() => {
                self.open(Table::Descriptors, Some(id));
            }
            (Table::Findings, _) => self.explain(),
            _ => self.detail = true,
        }
    }

    fn leave(&mut self) {
        if self.choice.filter.take().is_some() {
            return;
        }
        if std::mem::take(&mut self.detail) {
            return;
        }
        let up = match self.table {
            Table::Descriptors => Table::Contexts,
            _ => Table::Processes,
        };
        let only = match (self.table, self.only) {
            (Table::Descriptors, Some(Identity::Context(pid, start, _))) => {
                Some(Identity::Process(pid, start))
            }
            _ => None,
        };
        self.open(up, only);
    }

    fn sort_by(&mut self, by: i32) {
        let columns =
            self.choice.columns.as_deref().unwrap_or(self.table.columns(self.shown.counted));
        let place = columns.iter().position(|it| *it == self.choice.sort.column).unwrap_or(0);
        let place = (place as i64 + i64::from(by)).rem_euclid(columns.len().max(1) as i64);
        if let Some(column) = columns.get(place as usize) {
            self.choice.sort.column = *column;
            self.choice.sort.ascending = column.is_text();
        }
    }

    fn explain(&mut self) {
        let found = match (self.table, self.selected()) {
            (Table::Findings, Some(Identity::Finding(place))) => {
                self.shown.findings.iter().find(|it| it.place == place)
            }
            (_, Some(id)) => {
                self.shown.findings.iter().filter(|it| is_of(it, id)).max_by_key(|it| it.severity)
            }
            _ => None,
        };
        match found {
            Some(it) => self.popup = Some(Popup::explain(it)),
            None => self.message = Some("there is no finding about this row".to_owned()),
        }
    }

    /// The findings about the selected row.
    pub fn findings_of(&self, id: Identity) -> impl Iterator<Item = &FindingRow> {
        self.shown.findings.iter().filter(move |it| is_of(it, id))
    }

    /// How numbers are shown.
    pub fn scale(&self) -> Scale {
        let length = if self.is_sum { self.shown.since } else { self.shown.length };
        let most = self.shown.limit.map(|it| it.1);
        Scale { length, is_sum: self.is_sum, counted: self.shown.counted, most }
    }

    /// The rows of the table in their order, without those of findings.
    pub fn rows(&self) -> Vec<&Row> {
        let (rows, is_it): (&[Row], fn(&Row) -> bool) = match self.table {
            Table::Processes => {
                (&self.shown.processes, |it| matches!(it.id, Identity::Process(..)))
            }
            Table::Contexts => (&self.shown.contexts, |it| matches!(it.id, Identity::Context(..))),
            Table::Descriptors => {
                (self.shown.descriptors.as_deref().unwrap_or_default(), |_| false)
            }
            Table::Findings => return Vec::new(),
        };
        let only = |it: &&Row| match self.only {
            None => true,
            Some(Identity::Process(pid, _)) => self.table == Table::Processes || it.pid == pid,
            Some(Identity::Context(pid, _, handle)) => match it.id {
                Identity::Context(_, _, its) => its == handle && it.pid == pid,
                _ => self.table == Table::Processes || it.pid == pid,
            },
            Some(_) => true,
        };
        let ended = self.history.ended().filter(|it| is_it(it));
        let ended = ended.filter(|it| rows.iter().all(|row| row.id != it.id));
        let mut rows = self.choice.rows(rows.iter().chain(ended).filter(only), self.scale());
        if let Some(order) = &self.frozen {
            let places: HashMap<&Identity, usize> = order.iter().zip(0..).collect();
            // Rows that are new come last.
            rows.sort_by_key(|it| places.get(&it.id).copied().unwrap_or(usize::MAX));
        }
        rows
    }

    /// The findings that are shown, the newest last.
    pub fn findings(&self) -> Vec<&FindingRow> {
        let is_meant = |it: &&FindingRow| {
            let filter = self.choice.filter.as_ref();
            let only = self.only.is_none_or(|id| is_of(it, id));
            only && filter.is_none_or(|filter| {
                filter.is_match(&format!(
                    "{} {} {} {}",
                    it.pid,
                    it.process,
                    it.name.text(),
                    it.text
                ))
            })
        };
        self.shown.findings.iter().filter(is_meant).collect()
    }

    /// What the rows of the table are about, in their order.
    fn ids(&self) -> Vec<Identity> {
        match self.table {
            Table::Findings => {
                self.findings().iter().map(|it| Identity::Finding(it.place)).collect()
            }
            _ => self.rows().iter().map(|it| it.id).collect(),
        }
    }

    /// The selected row, if it is there; the first one if none was chosen.
    pub fn selected(&self) -> Option<Identity> {
        let ids = self.ids();
        let chosen = self.selected.get(&self.table);
        chosen.filter(|it| ids.contains(it)).or(ids.first()).copied()
    }

    fn move_by(&mut self, by: isize) {
        let place = self.selected_place().map_or(0, |it| it.saturating_add_signed(by));
        self.select(place);
    }

    fn selected_place(&self) -> Option<usize> {
        let selected = self.selected()?;
        self.ids().iter().position(|it| *it == selected)
    }

    fn select(&mut self, place: usize) {
        let ids = self.ids();
        if let Some(id) = ids.get(place.min(ids.len().saturating_sub(1))) {
            self.selected.insert(self.table, *id);
        }
        self.keep_in_sight();
    }

    fn keep_in_sight(&mut self) {
        let (place, height) = (self.selected_place().unwrap_or(0), self.table_height().max(1));
        self.first = self.first.clamp((place + 1).saturating_sub(height), place);
    }

    /// How many rows of the table there is room for.
    pub fn table_height(&self) -> usize {
        usize::from(super::draw::Areas::of(self.size, self.detail).table.height)
    }
}

fn is_of(it: &FindingRow, id: Identity) -> bool {
    match id {
        Identity::Process(pid, _) | Identity::Descriptor(pid, ..) => it.pid == pid,
        Identity::Context(pid, _, handle) => it.pid == pid && it.context == Some(handle),
        Identity::Finding(place) => it.place == place,
    }
}
