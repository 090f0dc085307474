//! Makes a frame of the state of the screen. Nothing here changes anything.

mod detail;
mod pen;
mod table;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    widgets::{Block, Clear, Paragraph, Widget as _, Wrap},
};

use self::pen::Pen;
use super::{
    app::{App, Table},
    keys,
    popup::Popup,
    snapshot::Flags,
    status::{self, Look, Part},
};
use crate::model::Severity;

/// The parts of the screen; one without height is not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Areas {
    /// The machine.
    pub machine: Rect,
    /// How all this is known.
    pub source: Rect,
    /// Which table this is.
    pub title: Rect,
    /// The titles of its columns.
    pub heading: Rect,
    /// Its rows.
    pub table: Rect,
    /// Details of a row.
    pub detail: Rect,
    /// The keys.
    pub footer: Rect,
}

impl Areas {
    /// The parts of a screen of this size. Rows of the table are the last to go.
    pub fn of((width, height): (u16, u16), has_detail: bool) -> Self {
        let mut left = height;
        let mut take = |wanted: u16| {
            let taken = wanted.min(left);
            left -= taken;
            taken
        };
        let (machine, heading) = (take(1), take(1));
        // A row or two of the table.
        let least = take(2);
        let (title, footer, source) = (take(1), take(1), take(1));
        let detail = if has_detail { take(left_for_detail(height)) } else { 0 };
        let table = least + take(u16::MAX);
        let mut y = 0;
        let mut place = |height: u16| {
            let area = Rect { x: 0, y, width, height };
            y += height;
            area
        };
        Self {
            machine: place(machine),
            source: place(source),
            title: place(title),
            heading: place(heading),
            table: place(table),
            detail: place(detail),
            footer: place(footer),
        }
    }
}

/// Details take a half.
fn left_for_detail(height: u16) -> u16 {
    (height / 2).saturating_sub(2)
}

/// Colours and their absence. Only the 16 colours that each terminal chooses by itself are used, and
/// neither white nor black, so that a light terminal can be read as well as a dark one.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    color: bool,
}

impl Theme {
    fn fg(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn look(self, look: Look) -> Style {
        match look {
            Look::Plain => Style::new(),
            Look::Warning => self.fg(Color::Yellow),
            Look::Bad => self.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Error => self.look(Look::Bad),
            Severity::Warning => self.look(Look::Warning),
            Severity::Info => Style::new(),
        }
    }

    fn ended(self) -> Style {
        self.fg(Color::DarkGray)
    }

    fn heading(self) -> Style {
        self.fg(Color::Cyan).add_modifier(Modifier::BOLD)
    }
}

/// Draws the screen into a buffer of its size.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = Theme { color: app.color };
    let areas = Areas::of((area.width, area.height), app.detail);
    let mut pen = Pen::new(buffer);
    pen.parts(areas.machine, &machine(app), theme);
    pen.parts(areas.source, &source(app), theme);
    title(app, theme, &mut pen, areas.title);
    table::draw(app, theme, &mut pen, areas.heading, areas.table);
    detail::draw(app, theme, &mut pen, areas.detail);
    footer(app, theme, &mut pen, areas.footer);
    if let Some(popup) = &app.popup {
        over(popup, area, buffer);
    }
}

/// The machine, with a bar that shows how full fs.aio-nr is.
fn machine(app: &App) -> Vec<Part> {
    const WIDTH: usize = 12;
    let mut parts = status::machine(&app.shown);
    if let Some(percent) = app.shown.limit.and_then(status::percent)
        && app.size.0 >= 80
    {
        let full = ((percent / 100.0 * WIDTH as f64).round() as usize).min(WIDTH);
        let bar = format!("[{}{}]", "#".repeat(full), "-".repeat(WIDTH - full));
        parts.insert(1, (bar, status::look(percent)));
    }
    parts
}

fn source(app: &App) -> Vec<Part> {
    let mut parts = status::source(&app.shown);
    if app.is_paused {
        let since = app.waiting.as_ref().map_or(0, |it| it.time.saturating_sub(app.shown.time));
        let text = match app.is_recording {
            true => "PAUSED".to_owned(),
            false => format!("PAUSED {}", super::column::time(since)),
        };
        parts.insert(0, (text, Look::Warning));
    }
    parts
}

fn title(app: &App, theme: Theme, pen: &mut Pen<'_>, area: Rect) {
    let mut line = pen.line(area);
    for (number, table) in (1..).zip(Table::ALL) {
        let mut text = format!("{number}:{}", table.name());
        if table == Table::Findings {
            let mut flags = Flags::default();
            app.shown.findings.iter().for_each(|it| flags.count(it.severity));
            text.push_str(&counts(flags));
        }
        let style = match table == app.table {
            true => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            false => Style::new(),
        };
        line.text(&text, style);
        line.text("  ", Style::new());
    }
    if let Some(id) = app.only
        && app.table != Table::Processes
    {
        let whose = app.shown.processes.iter().chain(&app.shown.contexts).find(|it| it.id == id);
        let of = whose
            .map_or_else(|| "gone".to_owned(), |it| format!("{}:{} {}", it.name, it.pid, it.what));
        line.text(&format!("of {}  ", of.trim_end()), theme.heading());
    }
    if let Some(filter) = &app.choice.filter {
        line.text(&format!("/{}  ", escape(filter.as_str())), theme.look(Look::Warning));
    }
    let holds = [
        (app.frozen.is_some(), "order held  "),
        (app.choice.active, "active only  "),
        (app.is_sum, "since start  "),
        (app.follow, "follows  "),
    ];
    for (_, text) in holds.iter().filter(|it| it.0) {
        line.text(text, theme.look(Look::Warning));
    }
}

/// ` E1 W2 i3`.
fn counts(it: Flags) -> String {
    let all = [("E", it.errors), ("W", it.warnings), ("i", it.infos)];
    let some = all.iter().filter(|it| it.1 > 0);
    some.map(|(letter, count)| format!(" {letter}{count}")).collect()
}

fn escape(text: &str) -> String {
    crate::words::escape::escaped(text.as_bytes())
}

fn footer(app: &App, theme: Theme, pen: &mut Pen<'_>, area: Rect) {
    let mut line = pen.line(area);
    match (&app.typing, &app.message) {
        (_, Some(message)) => line.text(message, theme.look(Look::Warning)),
        (Some(typed), _) => {
            line.text("filter: ", theme.heading());
            line.text(&escape(typed), Style::new());
            line.text(" ", Style::new().add_modifier(Modifier::REVERSED));
            line.text("  Enter applies it, Esc clears it", Style::new());
        }
        _ => line.text(keys::FOOTER, Style::new()),
    }
}

fn over(popup: &Popup, area: Rect, buffer: &mut Buffer) {
    let margin = |size: u16| if size > 60 { 4 } else { 0 };
    let (x, y) = (margin(area.width), u16::from(area.height > 12) * 2);
    let inner = Rect {
        x: area.x + x,
        y: area.y + y,
        width: area.width.saturating_sub(2 * x),
        height: area.height.saturating_sub(2 * y),
    };
    Clear.render(inner, buffer);
    let title = format!(" {}: Esc closes, j and k scroll ", popup.title);
    let text = Paragraph::new(popup.text.join("\n"))
        .block(Block::bordered().title(title))
        .wrap(Wrap { trim: false })
        .scroll((popup.scrolled, 0));
    text.render(inner, buffer);
}
