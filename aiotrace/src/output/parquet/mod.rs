//! Tables for a fleet: calls, requests, contexts, findings and faults of many recordings, as Parquet, which DuckDB,
//! ClickHouse, Spark and others read as one. docs/reference/parquet.md has the columns.
//!
//! ```text
//!  DIR/requests/date=2026-11-29/host=db1/0f3c2a91-1764376071000000000.parquet
//! ```
//! A recording has one file in each table, whose name is made of the run of the machine and of the time when the trace
//! began: whoever writes it again replaces it. The files have their names only once they are whole.

mod file;
mod paths;
mod rows;
pub mod table;

use std::{collections::HashMap, io, path::Path};

use aiotrace_model::trace::{Clock, Reason};
use parquet::data_type::ByteArray;

pub use self::paths::Staged;
use self::{
    file::{TableFile, Value, count},
    rows::Followed,
    table::{CALLS, CONTEXTS, FAULTS, FINDINGS, RECORDINGS, REQUESTS, Table},
};
use super::{Ended, Output, Rows, Start, escape::escaped, paths::Paths, people::Person};
use crate::{
    event::{Body, Change, Event},
    model::{Finding, Report, Verdict},
};

/// Most processes whose names are remembered.
const MOST_NAMES: usize = 65_536;

/// Writes the tables of one recording.
pub struct Parquet {
    staged: Staged,
    /// What the recording is called in its rows.
    file: String,
    paths: Paths,
    open: Option<Open>,
    people: HashMap<u32, Names>,
}

/// The names of a process.
#[derive(Clone, Debug, Default)]
struct Names {
    process: Option<ByteArray>,
    unit: Option<ByteArray>,
    container: Option<ByteArray>,
    pod: Option<ByteArray>,
}

/// The tables, once the recording has begun.
struct Open {
    clock: Clock,
    first: [Value; 3],
    about: [Option<ByteArray>; 3],
    calls: TableFile,
    requests: TableFile,
    contexts: TableFile,
    findings: TableFile,
    faults: TableFile,
    recordings: TableFile,
    followed: Followed,
}

fn bytes(text: &str) -> ByteArray {
    text.as_bytes().to_vec().into()
}

/// A text of a recording, which anybody may have written.
fn readable(text: &str) -> ByteArray {
    escaped(text.as_bytes()).into_bytes().into()
}

impl Parquet {
    /// Writes into a directory, by way of `staged`. `file`: the recording; `paths` knows what its descriptors led to.
    pub fn new(staged: Staged, file: &Path, paths: Paths) -> Self {
        let file = escaped(file.as_os_str().as_encoded_bytes());
        Self { staged, file, paths, open: None, people: HashMap::new() }
    }

    fn names(&self, pid: u32) -> [Value; 5] {
        let it = self.people.get(&pid).cloned().unwrap_or_default();
        [pid.into(), it.process.into(), it.unit.into(), it.container.into(), it.pod.into()]
    }

    fn names_mut(&mut self, pid: u32) -> &mut Names {
        if self.people.len() >= MOST_NAMES {
            self.people.clear();
        }
        self.people.entry(pid).or_default()
    }
}

impl Open {
    fn begin(staged: &Staged, start: &Start) -> io::Result<Self> {
        let machine = &start.machine;
        let host = machine.host.as_deref().unwrap_or("unknown");
        let began = utc(start.clock, start.clock.start);
        let name = staged.begin(host, machine.boot_id.as_deref(), began)?;
        let file = |table: &'static Table| -> io::Result<TableFile> {
            TableFile::create(&staged.file(table.name)?, table)
        };
        Ok(Self {
            clock: start.clock,
            first: [
                readable(host).into(),
                machine.boot_id.as_deref().map(readable).into(),
                bytes(&name).into(),
            ],
            about: [
                machine.kernel.as_deref().map(readable),
                Some(readable(&machine.arch)),
                Some(readable(start.probes.text())),
            ],
            calls: file(&CALLS)?,
            requests: file(&REQUESTS)?,
            contexts: file(&CONTEXTS)?,
            findings: file(&FINDINGS)?,
            faults: file(&FAULTS)?,
            recordings: file(&RECORDINGS)?,
            followed: Followed::default(),
        })
    }

    fn time(&self, time: u64) -> Value {
        Value::Number(utc(self.clock, time))
    }

    fn row(&self, names: [Value; 5], rest: impl IntoIterator<Item = Value>) -> Vec<Value> {
        self.first.clone().into_iter().chain(names).chain(rest).collect()
    }

    fn end(self) -> io::Result<()> {
        let Self { calls, requests, contexts, findings, faults, recordings, .. } = self;
        for it in [calls, requests, contexts, findings, faults, recordings] {
            it.end()?;
        }
        Ok(())
    }
}

/// Nanoseconds since 1970 UTC.
fn utc(clock: Clock, time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX).saturating_add(clock.to_wall)
}

impl Output for Parquet {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.open = Some(Open::begin(&self.staged, start)?);
        Ok(())
    }

    fn person(&mut self, person: &Person) -> io::Result<()> {
        let who = &person.who;
        let pod = who.pod.as_ref().and_then(|it| {
            Some(readable(&format!("{}/{}", it.namespace.as_ref()?, it.name.as_ref()?)))
        });
        let container = who.container.as_ref();
        let container =
            container.map(|it| readable(it.name.as_deref().unwrap_or_else(|| it.short_id())));
        let names = Names {
            process: Some(escaped(&person.process).into_bytes().into()),
            unit: who.unit.as_deref().map(readable),
            container,
            pod,
        };
        *self.names_mut(person.pid) = names;
        Ok(())
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Body::Process(process) = &event.body {
            let name: ByteArray = escaped(&process.name).into_bytes().into();
            if let Change::Fork { child, .. } = process.change {
                // A child is where its parent is.
                let parent = self.people.get(&event.pid).cloned().unwrap_or_default();
                *self.names_mut(child) = Names { process: Some(name.clone()), ..parent };
            }
            self.names_mut(event.pid).process = Some(name);
        }
        let names = self.names(event.pid);
        let Some(open) = &mut self.open else { return Ok(()) };
        rows::event(open, &mut self.paths, names, event)
    }

    fn finding(&mut self, _: &Finding) -> io::Result<()> {
        // They are in the report, each once, with what was found later.
        Ok(())
    }

    fn verdict(&mut self, it: &Verdict) -> io::Result<()> {
        let mut names = self.names(it.pid);
        if names[1] == Value::Null {
            names[1] = escaped(&it.process).into();
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let rest = [
            it.tid.into(),
            open.time(it.time),
            it.fault.rule.into(),
            it.cause.name().into(),
            it.ret.into(),
            it.outcome.text().into(),
            it.doubt.map(|it| it.text()).into(),
            escaped(it.message().as_bytes()).into(),
        ];
        let row = open.row(names, rest);
        open.faults.row(row)
    }

    fn report(&mut self, end: &Ended, report: &Report, _: Option<&Rows>) -> io::Result<()> {
        if end.reason == Reason::Asked {
            return Ok(());
        }
        let Some(mut open) = self.open.take() else { return Ok(()) };
        rows::left(&mut open, |pid| self.names(pid))?;
        for it in report.contexts.iter().chain(&report.others) {
            let (complete, doubt) = (it.complete.filter(|it| !it.at_most), it.doubt);
            let rest = [
                format!("{:#x}", it.context.handle.0).into(),
                count(it.contexts),
                it.adopted.into(),
                it.asked.map(count).unwrap_or(Value::Null),
                count(it.lifetime),
                it.end_text().into(),
                count(it.done.requests),
                count(it.done.bytes),
                count(it.done.failed),
                count(it.peak.number()),
                count(it.in_flight),
                it.unreaped.map(count).unwrap_or(Value::Null),
                complete.map(|it| count(it.p50)).unwrap_or(Value::Null),
                complete.map(|it| count(it.p99)).unwrap_or(Value::Null),
                complete.map(|it| count(it.max)).unwrap_or(Value::Null),
                doubt.is_none().into(),
            ];
            let row = open.row(self.named(it.pid, &it.process), rest);
            open.contexts.row(row)?;
        }
        for it in &report.findings {
            let rest = [
                it.context.map(|it| format!("{:#x}", it.handle.0)).into(),
                it.name.text().into(),
                it.severity.text().into(),
                it.doubt.map(|it| it.text()).into(),
                open.time(it.time),
                if it.last >= it.time { open.time(it.last) } else { Value::Null },
                count(it.count),
                escaped(it.message().as_bytes()).into(),
            ];
            let row = open.row(self.named(it.pid, &it.process), rest);
            open.findings.row(row)?;
        }
        let [kernel, arch, probes] = open.about.clone();
        let row = [
            self.file.as_str().into(),
            kernel.into(),
            arch.into(),
            probes.into(),
            open.time(open.clock.start),
            open.time(end.time),
            readable(end.reason.text()).into(),
            count(end.events),
            count(end.losses.total()),
            count(report.sums.completed),
            count(report.findings.len() as u64 + report.more_findings),
            count(open.followed.left_out),
        ];
        let row: Vec<Value> = open.first.clone().into_iter().chain(row).collect();
        open.recordings.row(row)?;
        open.end()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Parquet {
    /// The names of a process; its own as the report has it, if it is not known otherwise.
    fn named(&self, pid: u32, process: &[u8]) -> [Value; 5] {
        let mut names = self.names(pid);
        if !process.is_empty() {
            names[1] = escaped(process).into();
        }
        names
    }
}

/// The tables, for docs/reference/parquet.md.
pub fn described() -> String {
    let all = table::ALL.iter().map(|it| format!("## {}\n\n{}", it.name, it.described()));
    all.collect::<Vec<String>>().join("\n")
}

/// The columns that all tables have, for the same page.
pub fn described_first() -> String {
    table::described(table::FIRST)
}
