//! Which key does what: the only place where this is written.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// To the row so many below, or above.
    Move(i32),
    /// A screen down, or up.
    Page(i32),
    /// To the first row.
    First,
    /// To the last row.
    Last,
    /// Into the row.
    Down,
    /// Out of it.
    Up,
    /// To the table of this number, from 0.
    Table(usize),
    /// Sort by the column to the left, or to the right.
    Column(i32),
    /// The other order.
    Reverse,
    /// Type a filter.
    Filter,
    /// Hold what is shown.
    Pause,
    /// Hold the order of the rows.
    Freeze,
    /// Keep the selected row in sight.
    Follow,
    /// Only active rows.
    Active,
    /// Since the start, instead of the interval.
    Sum,
    /// A longer interval, or a shorter one.
    Interval(i32),
    /// Back, or forward, in a recording.
    Seek(i32),
    /// Details of the row.
    Detail,
    /// Explain the finding.
    Explain,
    /// Write what is shown to a file.
    Write,
    /// All keys.
    Help,
    /// Stop, as Ctrl-Z does.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// The end.
    Quit,
}

/// The keys as the help shows them.
pub const HELP: [(&str, &str); 21] = [
    ("arrows, j, k, PgUp, PgDn, g, G", "choose a row"),
    ("Enter", "into the row: its contexts, its requests; of a finding: explain it"),
    ("Esc", "back"),
    ("1 2 3 4", "processes, contexts, descriptors, findings"),
    ("< >", "sort by another column"),
    ("r", "the other order"),
    ("/", "filter by a regular expression; Esc clears it"),
    ("Space", "pause: hold what is shown (a recording: stop and go on)"),
    ("z", "hold the order of the rows; their values go on"),
    ("f", "keep the chosen row in sight"),
    ("o", "only rows that do something"),
    ("a", "since the start, or in the interval"),
    ("+ -", "look less often, or more often (a recording: slower, faster)"),
    ("left, right", "a recording: back, forward"),
    ("v", "details of the row: graphs, latencies, findings"),
    ("e", "explain the worst finding of the row"),
    ("w", "write what is shown to a file in this directory"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "stop; fg goes on"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
];

/// The line at the bottom.
pub const FOOTER: &str = "q quit  ? keys  Enter into  / filter  < > sort  v details  Space pause  z hold order  a since start";

/// What a key asks for, while nothing is typed.
pub fn command(key: KeyEvent) -> Option<Command> {
    use Command::*;
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c') if control => Quit,
        KeyCode::Char('z') if control => Suspend,
        KeyCode::Char('l') if control => Redraw,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char('q') => Quit,
        KeyCode::Char('j') | KeyCode::Down => Move(1),
        KeyCode::Char('k') | KeyCode::Up => Move(-1),
        KeyCode::PageDown => Page(1),
        KeyCode::PageUp => Page(-1),
        KeyCode::Char('g') | KeyCode::Home => First,
        KeyCode::Char('G') | KeyCode::End => Last,
        KeyCode::Enter => Down,
        KeyCode::Esc => Up,
        KeyCode::Char(digit @ '1'..='4') => Table(digit as usize - '1' as usize),
        KeyCode::Char('<') => Column(-1),
        KeyCode::Char('>') => Column(1),
        KeyCode::Char('r') => Reverse,
        KeyCode::Char('/') => Filter,
        KeyCode::Char(' ') => Pause,
        KeyCode::Char('z') => Freeze,
        KeyCode::Char('f') => Follow,
        KeyCode::Char('o') => Active,
        KeyCode::Char('a') => Sum,
        KeyCode::Char('+') => Interval(1),
        KeyCode::Char('-') => Interval(-1),
        KeyCode::Left => Seek(-1),
        KeyCode::Right => Seek(1),
        KeyCode::Char('v') => Detail,
        KeyCode::Char('e') => Explain,
        KeyCode::Char('w') => Write,
        KeyCode::Char('?') | KeyCode::F(1) => Help,
        _ => return None,
    })
}
