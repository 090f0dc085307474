//! Counted calls as tables for people.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::{
    Ended, Interval, Output, Start,
    clock::{Clock, Format, Stamps},
    counted::Rows,
    json::{CallRow, CountedContextRow, OpRow, ResultRow},
    paths::Paths,
    people::{People, Person},
    report::{Style, bytes, duration, process, write as write_report},
};
use crate::{model::Report, words};

/// Most contexts shown; JSON has all.
const MOST: usize = 10;

/// Writes tables.
pub struct Table<W> {
    out: W,
    clock: Clock,
    has_intervals: bool,
    people: People,
}

impl<W: Write> Table<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        let clock = Clock { start: 0, to_wall: 0, to_boot: 0 };
        Self { out, clock, has_intervals: false, people: People::default() }
    }

    fn rows(&mut self, rows: &Rows) -> io::Result<()> {
        table(&mut self.out, &rows.all, &rows.calls)?;
        contexts(&mut self.out, &rows.contexts)?;
        results(&mut self.out, &rows.results)
    }
}

/// Findings and verdicts are not shown as they come: they are in the report.
impl<W: Write> Output for Table<W> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.clock = start.clock;
        Ok(())
    }

    fn person(&mut self, person: &Person) -> io::Result<()> {
        self.people.add(person);
        Ok(())
    }

    fn interval(&mut self, interval: &Interval) -> io::Result<()> {
        self.has_intervals = true;
        let until = duration(interval.until.saturating_sub(self.clock.start));
        writeln!(self.out, "=== until {until} ===")?;
        self.rows(&interval.rows)?;
        writeln!(self.out)?;
        self.out.flush()
    }

    fn report(&mut self, end: &Ended, report: &Report, rows: Option<&Rows>) -> io::Result<()> {
        if self.has_intervals {
            writeln!(self.out, "=== all intervals ===")?;
        }
        if let Some(rows) = rows {
            self.rows(rows)?;
        }
        let mut text = Vec::new();
        let style = Style {
            stamps: &Stamps::new(Format::Relative, self.clock, TimeZone::UTC),
            paint: &|_, text| text.to_owned(),
            made_by: &|_| String::new(),
            people: &self.people,
        };
        write_report(&mut text, end, report, &style, &mut Paths::none());
        self.out.write_all(&text)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn table(out: &mut impl Write, all: &[CallRow], rows: &[CallRow]) -> io::Result<()> {
    if all.is_empty() {
        return writeln!(out, "no AIO calls");
    }
    heading(out, "")?;
    for it in all {
        row(out, it)?;
    }
    let mut process = None;
    for it in rows {
        if process != Some(it.pid) {
            process = Some(it.pid);
            writeln!(out)?;
            let title =
                if it.pid == 0 { it.name.clone() } else { format!("{}:{}", it.name, it.pid) };
            heading(out, &title)?;
        }
        row(out, it)?;
    }
    Ok(())
}

fn heading(out: &mut impl Write, title: &str) -> io::Result<()> {
    let title = if title.is_empty() { "all processes" } else { title };
    writeln!(
        out,
        "{title:<20} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}  errors by errno",
        "calls", "errors", "min", "avg", "p50", "p99", "max"
    )
}

fn row(out: &mut impl Write, it: &CallRow) -> io::Result<()> {
    let CallRow { call, calls, errors, injected, .. } = it;
    let failed: u64 = errors.values().sum();
    write!(out, "  {call:<18} {calls:>10} {failed:>8}")?;
    let values = it.duration_ns.as_ref().map(|it| [it.min, it.avg, it.p50, it.p99, it.max]);
    for index in 0..5 {
        let mut text = Vec::new();
        match values {
            Some(values) => words::duration(&mut text, values[index]),
            None => text.push(b'-'),
        }
        write!(out, " {:>8}", String::from_utf8_lossy(&text))?;
    }
    let mut separator = "  ";
    for (errno, count) in errors {
        write!(out, "{separator}{errno} {count}")?;
        separator = ", ";
    }
    // These errors are faults, not the kernel's answers.
    separator = if errors.is_empty() { "  injected " } else { "; injected " };
    for (errno, count) in injected {
        write!(out, "{separator}{errno} {count}")?;
        separator = ", ";
    }
    writeln!(out)
}

/// Writes the contexts.
fn contexts(out: &mut impl Write, rows: &[CountedContextRow]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let has_requests = rows.iter().any(|it| it.ops.is_some());
    write!(out, "\n{:<20} {:<18} {:>10} {:>10}", "contexts", "handle", "requests", "reaped")?;
    if has_requests {
        write!(
            out,
            " {:>8} {:>6}  requests by operation (p50, p99, max until reaped)",
            "failed", "bytes"
        )?;
    }
    writeln!(out)?;
    for it in rows.iter().take(MOST) {
        let who = if it.pid == 0 { it.name.clone() } else { process(it.name.as_bytes(), it.pid) };
        let handle = format!("{:#x}", it.ctx.0);
        write!(out, "  {who:<18} {handle:<18} {:>10} {:>10}", it.requests, it.reaped)?;
        if let Some(ops) = &it.ops {
            let moved = it.bytes.map_or_else(|| "?".to_owned(), bytes);
            let ops: Vec<String> = ops.iter().map(|(op, it)| operation(op, it)).collect();
            let failed = it.failed.unwrap_or(0);
            write!(out, " {failed:>8} {moved:>6}  {}", ops.join(", "))?;
        }
        writeln!(out)?;
    }
    match rows.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => writeln!(out, "  ... and {more} more; --format json has them"),
    }
}

fn operation(name: &str, it: &OpRow) -> String {
    let requests = it.requests;
    it.latency_ns.as_ref().map_or_else(
        || format!("{name} {requests}"),
        |it| {
            format!(
                "{name} {requests} ({} {} {})",
                duration(it.p50),
                duration(it.p99),
                duration(it.max)
            )
        },
    )
}

/// Writes the errors that requests resulted in.
fn results(out: &mut impl Write, rows: &[ResultRow]) -> io::Result<()> {
    for it in rows {
        let errors = it.errors.iter().map(|(errno, count)| format!("{errno} {count}"));
        let errors: Vec<String> = errors.collect();
        let who = if it.pid == 0 { it.name.clone() } else { process(it.name.as_bytes(), it.pid) };
        writeln!(out, "  {who:<18} results of requests: {}", errors.join(", "))?;
    }
    Ok(())
}
