//! `aiotrace top -b`: a table for each interval, for scripts and files.

use std::io::{self, ErrorKind, Write};

use super::{
    choice::Choice,
    column::{Column, Scale, time},
    gather::Sink,
    snapshot::Snapshot,
    status,
};
use crate::{
    event::Event,
    model::{Finding, Report, Verdict},
    output::{Ended, Interval, Output, Rows, Start, people::Person},
};

/// Writes a table for each snapshot.
pub struct Batch<W> {
    out: W,
    choice: Choice,
    /// How many more tables are written; `None`: without end.
    left: Option<u64>,
    told: u64,
}

impl<W: Write> Batch<W> {
    /// Writes to `out`, so many tables.
    pub fn new(out: W, choice: Choice, tables: Option<u64>) -> Self {
        Self { out, choice, left: tables, told: 0 }
    }

    /// What it was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Sink for Batch<W> {
    fn take(&mut self, it: Snapshot) -> io::Result<()> {
        self.check()?;
        write!(self.out, "{}", table(&it, &self.choice))?;
        let is_new = |place: u64| place >= self.told;
        for finding in it.findings.iter().filter(|it| is_new(it.place)) {
            let (severity, name) = (finding.severity.text(), finding.name.text());
            let who = format!("{}:{}", finding.process, finding.pid);
            writeln!(self.out, "  {severity} {name}: {who}: {}", finding.text)?;
        }
        self.told = it.findings.len() as u64;
        writeln!(self.out)?;
        self.out.flush()?;
        self.left = self.left.map(|it| it.saturating_sub(1));
        self.check()
    }

    fn check(&mut self) -> io::Result<()> {
        if self.left == Some(0) { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// The table of a snapshot.
fn table(it: &Snapshot, choice: &Choice) -> String {
    let most = it.limit.map(|it| it.1);
    let scale = Scale { length: it.length, is_sum: false, counted: it.counted, most };
    let columns = choice.columns.clone().unwrap_or_else(|| {
        if !it.counted {
            return Column::LISTED.to_vec();
        }
        let reaped = [Column::Reaped, Column::Eagain, Column::Idle, Column::Unit];
        Column::PROCESSES.into_iter().chain(reaped).collect()
    });
    let mut text = format!(
        "=== until {}: {} ===\n",
        time(it.since),
        status::line(&status::machine(it), usize::MAX)
    );
    let padded = |column: Column, it: &str, is_last: bool| match column.is_text() {
        true if is_last => it.to_owned(),
        true => format!("{it:<0$}", column.width()),
        false => format!("{it:>0$}", column.width()),
    };
    let mut line = |of: &dyn Fn(Column) -> String| {
        let last = columns.len().saturating_sub(1);
        let cells = columns.iter().enumerate();
        let cells: Vec<String> =
            cells.map(|(place, it)| padded(*it, &of(*it), place == last)).collect();
        text.push_str(cells.join(" ").trim_end());
        text.push('\n');
    };
    line(&|it| it.title(false).to_owned());
    for row in choice.rows(it.processes.iter(), scale) {
        line(&|it| it.text(row, scale));
    }
    text
}

/// Passes on so many intervals, and then ends the trace: `aiotrace top -b --format json -n N`.
pub struct Limited {
    output: Box<dyn Output>,
    left: Option<u64>,
}

impl Limited {
    /// Passes them on to this output.
    pub fn new(output: Box<dyn Output>, intervals: Option<u64>) -> Self {
        Self { output, left: intervals }
    }

    fn check(&self) -> io::Result<()> {
        if self.left == Some(0) { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Output for Limited {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.output.start(start)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.output.event(event)
    }

    fn person(&mut self, person: &Person) -> io::Result<()> {
        self.output.person(person)
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.output.finding(finding)
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.output.verdict(verdict)
    }

    fn interval(&mut self, interval: &Interval) -> io::Result<()> {
        self.check()?;
        self.output.interval(interval)?;
        self.left = self.left.map(|it| it.saturating_sub(1));
        self.output.flush()
    }

    fn report(&mut self, end: &Ended, report: &Report, rows: Option<&Rows>) -> io::Result<()> {
        self.output.report(end, report, rows)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()?;
        self.check()
    }
}
