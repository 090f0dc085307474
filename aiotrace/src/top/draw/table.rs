//! The table: as many columns as there is room for, and as many rows.

use ratatui::{
    layout::Rect,
    style::{Modifier, Style},
};

use super::{Theme, detail::graph, pen::Pen};
use crate::{
    top::{
        app::{App, Table},
        column::{Column, Scale},
        snapshot::{Identity, Row},
        status,
    },
    words::duration,
};

/// Where there is little room, the columns that stand first here are left out first.
const LEAVE_OUT: [Column; 11] = [
    Column::P50,
    Column::Unreaped,
    Column::Contexts,
    Column::Megabytes,
    Column::Max,
    Column::Errors,
    Column::P99,
    Column::Findings,
    Column::InFlight,
    Column::Charge,
    Column::Requests,
];
/// The width of the graph at the end of a wide table.
const GRAPH: usize = 20;

/// Draws the table.
pub fn draw(app: &App, theme: Theme, pen: &mut Pen<'_>, heading: Rect, area: Rect) {
    if app.table == Table::Findings {
        return findings(app, theme, pen, heading, area);
    }
    let width = usize::from(area.width);
    let (columns, has_graph) = columns(app, width);
    let layout = Layout { app, theme, columns, has_graph, scale: app.scale(), width };
    layout.heading(pen, heading);
    let rows = app.rows();
    let selected = app.selected();
    let in_sight = rows.iter().skip(app.first.min(rows.len()));
    for (number, row) in (0..area.height).zip(in_sight) {
        layout.row(pen, area, number, row, selected == Some(row.id));
    }
    if rows.is_empty() {
        let text = match app.table {
            Table::Descriptors if app.shown.descriptors.is_none() => {
                "not known while calls are counted: `aiotrace attach -q -p PID` tells, and so does a recording"
            }
            _ if app.choice.filter.is_some() => "nothing is found by this filter",
            Table::Processes => "no process has a context or makes AIO calls",
            _ => "nothing",
        };
        pen.line(area).text(text, Style::new());
    }
}

/// The columns that there is room for, and whether there is room for graphs.
fn columns(app: &App, width: usize) -> (Vec<Column>, bool) {
    if let Some(columns) = &app.choice.columns {
        return (columns.clone(), false);
    }
    let mut columns = app.table.columns(app.shown.counted).to_vec();
    let needed = |columns: &[Column]| columns.iter().map(|it| it.width() + 1).sum::<usize>();
    for column in LEAVE_OUT {
        if needed(&columns) <= width + 1 {
            break;
        }
        columns.retain(|it| *it != column);
    }
    if app.table == Table::Descriptors || !app.shown.counted {
        return (columns, false);
    }
    let has_graph = needed(&columns) + GRAPH < width;
    let room = if has_graph { width - GRAPH } else { width };
    for column in Column::WIDE {
        if needed(&columns) + column.width() <= room {
            columns.push(column);
        }
    }
    (columns, has_graph)
}

struct Layout<'a> {
    app: &'a App,
    theme: Theme,
    columns: Vec<Column>,
    has_graph: bool,
    scale: Scale,
    width: usize,
}

impl Layout<'_> {
    /// A text in its column. The last one has all the room that is left.
    fn cell(&self, place: usize, text: &str) -> String {
        let column = self.columns[place];
        let is_last = place + 1 == self.columns.len() && !self.has_graph;
        let width = if is_last && column.is_text() { self.width } else { column.width() };
        let cut: String = text.chars().take(width).collect();
        match column.is_text() {
            true => format!("{cut:<0$} ", column.width()),
            false => format!("{cut:>0$} ", column.width()),
        }
    }

    fn heading(&self, pen: &mut Pen<'_>, area: Rect) {
        let mut line = pen.line(area);
        for (place, column) in self.columns.iter().enumerate() {
            let mut style = self.theme.heading();
            if *column == self.app.choice.sort.column {
                style = style.add_modifier(Modifier::REVERSED);
            }
            let cell = self.cell(place, column.title(self.app.is_sum));
            line.text(cell.trim_end_matches(' '), style);
            let blanks = cell.len() - cell.trim_end_matches(' ').len();
            line.text(&" ".repeat(blanks), Style::new());
        }
        if self.has_graph {
            line.text("REQ/s before", self.theme.heading());
        }
    }

    fn row(&self, pen: &mut Pen<'_>, area: Rect, number: u16, row: &Row, is_selected: bool) {
        let mut line = pen.line_at(area, number);
        let base = if row.ended { self.theme.ended() } else { Style::new() };
        for (place, column) in self.columns.iter().enumerate() {
            let text = self.cell(place, &column.text(row, self.scale));
            line.text(&text, base.patch(self.style(*column, row)));
        }
        if self.has_graph {
            let points = self.app.history.of(row.id);
            let values: Vec<_> = points.iter().map(|it| it.requests).collect();
            line.text(&graph(&values, GRAPH, self.app.ascii), base);
        }
        if is_selected {
            line.style(Style::new().add_modifier(Modifier::REVERSED));
        }
    }

    fn style(&self, column: Column, row: &Row) -> Style {
        let bad = |is_so: bool| {
            if is_so { self.theme.look(status::Look::Warning) } else { Style::new() }
        };
        match column {
            Column::Max => {
                let look = self.scale.percent(row).map(status::look).unwrap_or_default();
                self.theme.look(look)
            }
            Column::Errors => bad(self.scale.numbers(row).errors > 0),
            Column::Eagain => bad(self.scale.numbers(row).eagain > 0),
            Column::Findings => {
                let worst = row.flags.worst();
                worst.map_or_else(Style::new, |it| self.theme.severity(it.0))
            }
            _ => Style::new(),
        }
    }
}

fn findings(app: &App, theme: Theme, pen: &mut Pen<'_>, heading: Rect, area: Rect) {
    let cells = |age: &str, severity: &str, who: &str, what: &str| {
        format!("{age:>7} {severity:<8} {who:<20} {what}")
    };
    pen.line(heading).text(&cells("AGO", "SEVERITY", "PROCESS", "FINDING"), theme.heading());
    let all = app.findings();
    let selected = app.selected();
    for (number, it) in (0..area.height).zip(all.iter().skip(app.first.min(all.len()))) {
        let ago = duration::in_words(app.shown.time.saturating_sub(it.time));
        let who: String = format!("{}:{}", it.process, it.pid).chars().take(20).collect();
        let what = format!("{}: {}", it.name.text(), it.text);
        let mut line = pen.line_at(area, number);
        line.text(&cells(&ago, it.severity.text(), &who, &what), theme.severity(it.severity));
        if selected == Some(Identity::Finding(it.place)) {
            line.style(Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    if all.is_empty() {
        pen.line(area).text("no findings so far", Style::new());
    }
    let more = app.shown.more_findings;
    if more > 0 && usize::from(area.height) > all.len() {
        pen.line_at(area, all.len() as u16)
            .text(&format!("... and {more} more, which are not kept"), Style::new());
    }
}
