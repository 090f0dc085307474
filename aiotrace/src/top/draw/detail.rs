//! Details of a row: small graphs of the last intervals, how long its requests took, and what was
//! found.

use ratatui::{layout::Rect, style::Style};

use super::{Theme, pen::Pen};
use crate::top::{
    app::App,
    column::{short, time},
    history::Point,
    snapshot::Numbers,
};

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_BARS: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// What a graph is of; `None` if it is unknown.
type Of = fn(&Point) -> Option<f32>;
/// How its last value is written.
type Shown = fn(f64) -> String;

/// A graph of this width, the newest value on the right; a blank where a value is unknown.
pub fn graph(values: &[Option<f32>], width: usize, ascii: bool) -> String {
    let bars = if ascii { ASCII_BARS } else { BARS };
    let newest = &values[values.len().saturating_sub(width)..];
    let most = newest.iter().flatten().copied().fold(0.0f32, f32::max);
    let bar = |value: &Option<f32>| match value {
        None => ' ',
        Some(_) if most <= 0.0 => bars[0],
        Some(value) => bars[((value / most * 7.0).round() as usize).min(7)],
    };
    let drawn: String = newest.iter().map(bar).collect();
    format!("{drawn:>width$}")
}

/// Draws the details of the selected row.
pub fn draw(app: &App, theme: Theme, pen: &mut Pen<'_>, area: Rect) {
    let Some(id) = app.selected() else { return };
    let rows = app.rows();
    let Some(row) = rows.into_iter().find(|it| it.id == id) else { return };
    let mut number = 0;
    let mut put = |parts: &[(&str, Style)]| {
        let mut line = pen.line_at(area, number);
        parts.iter().for_each(|(text, style)| line.text(text, *style));
        number += 1;
    };
    let plain = Style::new();
    let title = format!("{}:{} {}", row.name, row.pid, row.what);
    let rule = if app.ascii { "-" } else { "─" };
    let more = usize::from(area.width).saturating_sub(title.trim_end().chars().count() + 4);
    let (before, after) = (format!("{rule}{rule} "), format!(" {}", rule.repeat(more)));
    put(&[(&before, plain), (title.trim_end(), theme.heading()), (&after, plain)]);
    let points = app.history.of(id);
    let width = usize::from(area.width).saturating_sub(20).min(60);
    let graphs: [(&str, Of, Shown); 3] = [
        ("req/s", |it| it.requests, short),
        ("in flight", |it| it.in_flight, short),
        ("p99", |it| it.p99, |it| time(it as u64)),
    ];
    for (name, of, shown) in graphs {
        let values: Vec<Option<f32>> = points.iter().map(of).collect();
        let now = values.last().copied().flatten();
        let now = now.map_or_else(|| "-".to_owned(), |it| shown(it.into()));
        let graph = graph(&values, width, app.ascii);
        put(&[
            (&format!("{name:>9} "), theme.heading()),
            (&graph, plain),
            (&format!(" {now}"), plain),
        ]);
    }
    let numbers = app.scale().numbers(row);
    latencies(numbers, width, app.ascii, &mut |label, text| {
        put(&[(label, theme.heading()), (text, plain)]);
    });
    for it in app.findings_of(id) {
        let text = format!("{}: {}", it.name.text(), it.text);
        put(&[
            (&format!("{:>9} ", it.severity.text()), theme.severity(it.severity)),
            (&text, plain),
        ]);
    }
}

/// How long requests took until they were reaped, as bars.
fn latencies(it: &Numbers, width: usize, ascii: bool, put: &mut dyn FnMut(&str, &str)) {
    let all = &it.latency;
    if all.count() == 0 {
        return put("  latency ", "- (nothing was reaped by io_getevents)");
    }
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|part| time(all.quantile(part)));
    put(
        "  latency ",
        &format!(
            "p50 {p50}  p90 {p90}  p99 {p99}  max {}, from io_submit until reaped",
            time(all.most())
        ),
    );
    let powers = all.powers();
    let most = powers.iter().map(|it| it.1).max().unwrap_or(1).max(1);
    for (power, count) in powers {
        let length = (count as f64 / most as f64 * width as f64 * 0.6).ceil() as usize;
        let bar = if ascii { "#" } else { "█" }.repeat(length);
        let from = time(1 << power.min(63));
        let part = count as f64 * 100.0 / all.count() as f64;
        put(&format!("{from:>9} "), &format!("{bar} {} ({part:.1} %)", short(count as f64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_has_a_blank_where_a_value_is_unknown_and_is_never_wider() {
        let values = [Some(0.0), None, Some(7.0), Some(3.5)];
        assert_eq!(graph(&values, 6, true), "  _ #=");
        assert_eq!(graph(&values, 2, false), "█▅");
        assert_eq!(graph(&[Some(0.0)], 1, true), "_");
        assert_eq!(graph(&[], 3, true), "   ");
        assert_eq!(graph(&values, 0, true), "");
    }
}
