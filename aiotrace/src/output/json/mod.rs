//! JSON Lines: one object per event, with every field. docs/reference/json.md specifies it, and [`format`] has its
//! types.

mod calls;
mod conclusions;
mod events;
mod faults;
mod format;
mod pieces;

use std::{
    borrow::Cow,
    io::{self, Write},
};

use aiotrace_model::trace::Machine;
use faults::faults;
pub use format::*;
use serde::Serialize;

use super::{
    Ended, Interval, Output, Start,
    counted::Rows,
    escape::escaped,
    lines::Lines,
    paths::Paths,
    people::{People, Person},
};
use crate::{
    event::{Body, Event},
    model::{Finding, Report, Rules, Verdict},
    stacks::Symbolizer,
};

/// Writes JSON Lines.
pub struct Json<W> {
    lines: Lines<W>,
    paths: Paths,
    symbols: Symbolizer,
    rules: Rules,
    people: People,
    /// What 32-bit calls are called on the machine that was traced.
    compat: &'static str,
}

impl<W: Write> Json<W> {
    /// Writes to `out`; `paths` looks up what descriptors point to.
    pub fn new(out: W, paths: Paths) -> Self {
        let (lines, symbols) = (Lines::new(out), Symbolizer::none());
        let (rules, people) = Default::default();
        Self { lines, paths, symbols, rules, people, compat: compat("") }
    }

    /// Takes the names of functions in stacks from `symbols`.
    #[must_use]
    pub fn with_symbols(self, symbols: Symbolizer) -> Self {
        Self { symbols, ..self }
    }

    fn write(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines.line, object)?;
        self.lines.end()
    }
}

impl<W: Write> Output for Json<W> {
    fn start(&mut self, start: &Start) -> io::Result<()> {
        self.rules = Rules::of(start.faults.as_ref());
        self.compat = compat(&start.machine.arch);
        self.write(&StartLine {
            v: VERSION,
            event: "start".into(),
            ts: start.clock.start.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            wall_offset_ns: start.clock.to_wall.into(),
            boot_offset_ns: start.clock.to_boot.into(),
            machine: MachineObject::of(&start.machine),
            probes: readable(start.probes.text()),
            lacks: start.lacks.iter().map(|it| readable(it)).collect(),
            faults: start.faults.as_ref().map(faults),
        })
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match &event.body {
            Body::Call(call) => self.call(event, call),
            Body::Unfinished(call) => self.unfinished(event, call),
            Body::Completion(completion) => self.completion(event, completion),
            Body::Changed(changed) => self.changed(event, changed),
            Body::Refused(refused) => self.refused(event, refused),
            Body::ContextGone(gone) => self.gone(event, gone),
            Body::ContextMoved(moved) => self.moved(event, moved),
            Body::ContextAdopted(adopted) => self.adopted(event, adopted),
            // These are the answers to questions of the model.
            Body::Looked(_) | Body::Behind(_) => Ok(()),
            Body::Process(process) => self.process(event, process),
            Body::Synchronous(call) => self.synchronous(event, call),
            Body::Lost { records } => self.lost(event, *records),
        }
    }

    fn person(&mut self, person: &Person) -> io::Result<()> {
        self.people.add(person);
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.finding_line(finding)
    }

    fn verdict(&mut self, verdict: &Verdict) -> io::Result<()> {
        self.verdict_line(verdict)
    }

    fn interval(&mut self, interval: &Interval) -> io::Result<()> {
        self.interval_line(interval)
    }

    fn report(&mut self, end: &Ended, report: &Report, rows: Option<&Rows>) -> io::Result<()> {
        self.report_line(end, report, rows)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

impl MachineObject {
    fn of(machine: &Machine) -> Self {
        let known = |text: &Option<String>| text.as_deref().map(readable);
        Self {
            arch: readable(&machine.arch),
            page_size: machine.page_size,
            kernel: known(&machine.kernel),
            host: known(&machine.host),
            boot_id: known(&machine.boot_id),
        }
    }
}

/// The name of the ABI of 32-bit calls on a machine of this architecture.
fn compat(arch: &str) -> &'static str {
    match arch {
        "aarch64" => "arm",
        _ => "i386",
    }
}

/// A text as this program wrote it, made readable: somebody else may have written the recording that it comes from.
fn readable(text: &str) -> Cow<'static, str> {
    escaped(text.as_bytes()).into()
}
