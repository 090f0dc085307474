//! `-c`: counts, errors and durations, by call and by process.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    io::{self, Write},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Ended, Output, Start, counted, escape::escaped, json::Json, paths::Paths};
use crate::{
    counted::Counted,
    event::{Body, Call, Change, Event, Syscall, errno_name},
    model::{Finding, Report, Rules, Verdict},
    words,
};

/// Processes counted one by one; calls of more of them are counted together, as pid 0. A
/// histogram takes some 20 KiB.
const MOST_PROCESSES: usize = 256;
/// Errors of a call counted one by one. (The kernel has some 140; a recording may say anything.)
const MOST_ERRORS: usize = 256;
/// Stands for all others.
const OTHER_ERROR: i64 = i64::MIN;

/// What is known of one call in one process, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Process; 0 for all that are not counted one by one.
    pub pid: u32,
    /// Its name, escaped.
    pub name: String,
    /// The call.
    pub call: Cow<'static, str>,
    /// How many calls returned.
    pub calls: u64,
    /// Of these, how many with an error of the kernel's, by name of the errno.
    pub errors: BTreeMap<Cow<'static, str>, u64>,
    /// Of these, how many whose answer is a fault, by name of the errno; `short`: a short io_submit.
    pub injected: BTreeMap<Cow<'static, str>, u64>,
    /// Durations of calls whose beginning was seen; null if there is none.
    pub duration_ns: Option<Durations>,
}

/// Durations in nanoseconds. The percentiles are exact to 1 % where events are counted here, and to 6 % where the
/// kernel counted them; the rest is exact.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Durations {
    pub min: u64,
    pub avg: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

struct Counts {
    calls: u64,
    errors: BTreeMap<i64, u64>,
    injected: BTreeMap<i64, u64>,
    /// For the percentiles; the rest is exact.
    durations: Histogram<u64>,
    shortest: u64,
    longest: u64,
    total: u64,
}

impl Counts {
    fn new() -> Self {
        // Two digits, growing as needed: the bounds are valid.
        #[expect(clippy::expect_used, reason = "constant and valid arguments")]
        let durations = Histogram::new(2).expect("2 is a valid precision");
        Self {
            calls: 0,
            errors: BTreeMap::new(),
            injected: BTreeMap::new(),
            durations,
            shortest: u64::MAX,
            longest: 0,
            total: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        for (errno, count) in &other.errors {
            *self.errors.entry(*errno).or_default() += count;
        }
        for (errno, count) in &other.injected {
            *self.injected.entry(*errno).or_default() += count;
        }
        // Both grow as needed, so adding cannot fail.
        let _ = self.durations.add(&other.durations);
        self.shortest = self.shortest.min(other.shortest);
        self.longest = self.longest.max(other.longest);
        self.total = self.total.saturating_add(other.total);
    }

    fn took(&mut self, nanos: u64) {
        // It grows as needed.
        let _ = self.durations.record(nanos);
        self.shortest = self.shortest.min(nanos);
        self.longest = self.longest.max(nanos);
        self.total = self.total.saturating_add(nanos);
    }

    fn row(&self, (pid, name): (u32, String), call: Syscall) -> Row {
        Row {
            pid,
            name,
            call: call.name().into(),
            calls: self.calls,
            errors: named(&self.errors),
            injected: named(&self.injected),
            duration_ns: self.durations(),
        }
    }

    fn durations(&self) -> Option<Durations> {
        let of = &self.durations;
        (!of.is_empty()).then(|| Durations {
            min: self.shortest,
            avg: self.total / of.len(),
            p50: of.value_at_quantile(0.5).min(self.longest),
            p99: of.value_at_quantile(0.99).min(self.longest),
            max: self.longest,
        })
    }
}

fn count(errors: &mut BTreeMap<i64, u64>, ret: i64) {
    let has_room = errors.len() < MOST_ERRORS || errors.contains_key(&ret);
    *errors.entry(if has_room { ret } else { OTHER_ERROR }).or_default() += 1;
}

/// By name.
pub(super) fn named(errors: &BTreeMap<i64, u64>) -> Errors {
    let name = |ret: i64| match errno_name(ret) {
        Some(name) => name.into(),
        None if ret >= 0 => "short".into(),
        None if ret == OTHER_ERROR => "?".into(),
        None => ret.to_string().into(),
    };
    errors.iter().map(|(ret, count)| (name(*ret), *count)).collect()
}

/// How many, by name of the errno.
pub(super) type Errors = BTreeMap<Cow<'static, str>, u64>;

/// Counts events, and writes the result at the end.
pub struct Summary<W: Write> {
    form: Form<W>,
    counts: BTreeMap<(u32, Syscall), Counts>,
    names: HashMap<u32, String>,
    processes: usize,
    rules: Rules,
    /// When the trace began.
    began: u64,
    /// What was counted up to the last interval's end.
    interval: Option<Counted>,
}

enum Form<W: Write> {
    Text(W),
    Json(Json<W>),
}

impl<W: Write> Summary<W> {
    /// A table.
    pub fn text(out: W) -> Self {
        Self::new(Form::Text(out))
    }

    /// In the `report` object.
    pub fn json(json: Json<W>) -> Self {
        Self::new(Form::Json(json))
    }

    fn new(form: Form<W>) -> Self {
        let (counts, names, rules) = (BTreeMap::new(), HashMap::new(), Rules::default());
        Self { form, counts, names, processes: 0, rules, began: 0, interval: None }
    }

    fn rows(&self) -> Vec<Row> {
        let of = |((pid, call), counts): (&(u32, Syscall), &Counts)| {
            counts.row((*pid, self.name(*pid).to_owned()), *call)
        };
        self.counts.iter().map(of).collect()
    }

    /// All processes together.
    fn totals(&self) -> Vec<Row> {
        let mut all: BTreeMap<Syscall, Counts> = BTreeMap::new();
        for ((_, call), counts) in &self.counts {
            all.entry(*call).or_insert_with(Counts::new).add(counts);
        }
        all.iter().map(|(call, counts)| counts.row((0, String::new()), *call)).collect()
    }

    fn name(&self, pid: u32) -> &str {
        match pid {
            0 => "(other processes)",
            _ => self.names.get(&pid).map_or("?", String::as_str),
        }
    }

    fn count(&mut self, event: &Event, call: &Call) {
        let (syscall, ret) = (call.args.syscall(), call.ret);
        let known = self.counts.range((event.pid, Syscall::Setup)..).next();
        let pid = if known.is_some_and(|((pid, _), _)| *pid == event.pid) {
            event.pid
        } else if self.processes < MOST_PROCESSES {
            self.processes += 1;
            event.pid
        } else {
            0
        };
        let counts = self.counts.entry((pid, syscall)).or_insert_with(Counts::new);
        counts.calls += 1;
        if self.rules.injected(call) {
            // A short io_submit takes any number.
            count(&mut counts.injected, ret.min(0));
        } else if ret < 0 {
            count(&mut counts.errors, ret);
        }
        if let Some(entered) = call.entered {
            counts.took(event.time.saturating_sub(entered));
        }
    }
}

impl<W: Write> Output for Summary<W> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.rules = Rules::of(start.faults.as_ref());
        self.began = start.clock.start;
        match &mut self.form {
            Form::Text(_) => Ok(()),
            Form::Json(json) => json.start(start),
        }
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Call(call) => self.count(event, call),
            Body::Process(process) => {
                if let Change::Fork { child, .. } = process.change {
                    self.remember_name(child, &process.name);
                }
                self.remember_name(event.pid, &process.name);
            }
            _ => (),
        }
        Ok(())
    }

    fn thinned(&mut self, _hidden: u64) -> io::Result<()> {
        Ok(())
    }

    fn counted(&mut self, counted: &Counted) -> io::Result<()> {
        if !counted.ends_interval {
            return Ok(());
        }
        let before = self.interval.replace(counted.clone()).unwrap_or_default();
        let since = counted.since(&before);
        let from = if before.time == 0 { self.began } else { before.time };
        let names = &self.names;
        let name = |pid: u32| match pid {
            0 => "(other processes)".to_owned(),
            _ => names.get(&pid).cloned().unwrap_or_else(|| "?".to_owned()),
        };
        let rows = counted::rows(&since, &name);
        let contexts = counted::contexts(&since, &name);
        let results = counted::results(&since, &name);
        match &mut self.form {
            Form::Json(json) => json.interval(from, since.time, rows, contexts, results),
            Form::Text(out) => {
                let mut at = Vec::new();
                words::duration(&mut at, since.time.saturating_sub(self.began));
                writeln!(out, "=== until {} ===", String::from_utf8_lossy(&at))?;
                table(out, &counted::totals(&since), &rows)?;
                counted::write_contexts(out, &contexts)?;
                counted::write_results(out, &results)?;
                writeln!(out)?;
                out.flush()
            }
        }
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        match &mut self.form {
            // The report has them.
            Form::Text(_) => Ok(()),
            Form::Json(json) => json.finding(finding),
        }
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        match &mut self.form {
            Form::Text(_) => Ok(()),
            Form::Json(json) => json.verdict(verdict),
        }
    }

    fn report(&mut self, end: &Ended, report: &Report) -> io::Result<()> {
        let (all, rows) = match &report.counted {
            Some(counts) => {
                let name = |pid| counted::name_of(&counts.names, pid);
                (counted::totals(&counts.counted), counted::rows(&counts.counted, &name))
            }
            None => (self.totals(), self.rows()),
        };
        match &mut self.form {
            Form::Json(json) => json.report_line(end, report, Some(rows)),
            Form::Text(out) => {
                if self.interval.is_some() {
                    writeln!(out, "=== all intervals ===")?;
                }
                table(out, &all, &rows)?;
                if let Some(counts) = &report.counted {
                    let name = |pid| counted::name_of(&counts.names, pid);
                    counted::write_contexts(out, &counted::contexts(&counts.counted, &name))?;
                    counted::write_results(out, &counted::results(&counts.counted, &name))?;
                }
                let mut text = Vec::new();
                let style = super::report::Style {
                    began: self.began,
                    paint: &|_, text| text.to_owned(),
                    made_by: &|_| String::new(),
                };
                super::report::write(&mut text, end, report, &style, &mut Paths::none());
                out.write_all(&text)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Text(out) => out.flush(),
            Form::Json(json) => json.flush(),
        }
    }
}

impl<W: Write> Summary<W> {
    /// Bounded: a machine that starts processes all day is not remembered whole.
    fn remember_name(&mut self, pid: u32, name: &[u8]) {
        if self.names.len() < 16 * MOST_PROCESSES || self.names.contains_key(&pid) {
            self.names.insert(pid, escaped(name));
        }
    }
}

fn table(out: &mut impl Write, all: &[Row], rows: &[Row]) -> io::Result<()> {
    if all.is_empty() {
        return writeln!(out, "no AIO calls");
    }
    heading(out, "")?;
    for it in all {
        row(out, &it.call, it.calls, (&it.errors, &it.injected), it.duration_ns)?;
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
        row(out, &it.call, it.calls, (&it.errors, &it.injected), it.duration_ns)?;
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

fn row(
    out: &mut impl Write,
    name: &str,
    calls: u64,
    (errors, injected): (&Errors, &Errors),
    durations: Option<Durations>,
) -> io::Result<()> {
    let failed: u64 = errors.values().sum();
    write!(out, "  {name:<18} {calls:>10} {failed:>8}")?;
    let values = durations.map(|it| [it.min, it.avg, it.p50, it.p99, it.max]);
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
    // Not the kernel's.
    separator = if errors.is_empty() { "  injected " } else { "; injected " };
    for (errno, count) in injected {
        write!(out, "{separator}{errno} {count}")?;
        separator = ", ";
    }
    writeln!(out)
}
