//! reads-past-end: reads of a file begin beyond its end, one after the other, and give nothing.
//!
//! A program that does not know the size of a file reads until a read gives nothing. If it has several reads in
//! flight, it has submitted some beyond that one by then: at most as many as are in flight at a time. If more of them
//! come in a row, nobody looks at the results. A program that waits for a file to grow reads exactly at its end, and
//! is not meant: when it goes back there, another row begins.

use super::Basis;
use crate::{
    words::number::thousands,
    opcode::PREAD,
    event::{Event, File},
    model::{
        ContextId, ContextRef, Doubt, Evidence, Finding, Map, Model, Needs, Severity, Subject,
        questions::Waiting,
        requests::{Match, Request},
    },
};

/// Most rows followed for an address space.
const MOST_ROWS: usize = 1024;

/// Reads in a row that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadsPastEnd {
    /// The first of them.
    request: Subject,
    /// How many there are.
    reads: u64,
    /// The size of the file when it was looked up.
    size: u64,
}

impl Basis for ReadsPastEnd {
    const NAME: &'static str = "reads-past-end";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["reads", "size"];

    fn message(&self) -> String {
        let Self { request, reads, size } = self;
        format!(
            "{} reads in a row gave 0 bytes, the first {}: the file ends at {size}, and the program reads on \
             behind that",
            thousands(*reads),
            request.in_words()
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("reads", self.reads as i64), ("size", self.size as i64)]
    }
}

/// The rows of reads that gave nothing, by descriptor and context.
#[derive(Debug, Default)]
pub struct Rows(Map<(u32, ContextId), Row>);

/// Reads in a row of a descriptor that gave nothing.
#[derive(Clone, Copy, Debug)]
struct Row {
    first: Subject,
    /// When the io_submit of the first was entered.
    entered: u64,
    reads: u64,
    /// The offset of the last one, which is the largest.
    furthest: i64,
    /// From this many reads on, the size of the file is looked up.
    ask_at: u64,
}

impl Rows {
    /// A read gave something, so it did not begin beyond the end: the row is over.
    fn end(&mut self, fd: u32, context: ContextId) {
        self.0.remove(&(fd, context));
    }

    /// A read gave nothing. Returns the row, if the size of the file is to be looked up.
    fn more(
        &mut self,
        request: &Request,
        subject: Subject,
        (context, peak): (ContextId, u64),
    ) -> Option<Row> {
        let key = (request.fd, context);
        if self.0.len() >= MOST_ROWS && !self.0.contains_key(&key) {
            // Most are of contexts that are gone.
            self.0.clear();
        }
        let (offset, entered) = (request.offset, request.entered);
        let new = Row { first: subject, entered, reads: 0, furthest: offset, ask_at: 0 };
        let row = self.0.entry(key).or_insert(new);
        if offset < row.furthest {
            *row = Row { ask_at: row.ask_at, ..new };
        }
        row.reads += 1;
        row.furthest = offset;
        row.ask_at = row.ask_at.max(peak + 1);
        (row.reads >= row.ask_at).then(|| {
            // A program that waits at the end for long is not looked at each time.
            row.ask_at = row.reads * 2;
            *row
        })
    }
}

impl Model {
    /// A read completed.
    pub(in crate::model) fn read_something_or_nothing(
        &mut self,
        pid: u32,
        context: ContextRef,
        doubt: Option<Doubt>,
        found: &Match,
    ) {
        let (request, res) = (&found.request, found.completed.event.res);
        let space = self.space(pid);
        let peak = self.contexts.get(&(space, context.handle)).and_then(|it| it.most_in_flight());
        let Some(known) = self.spaces.get_mut(&space) else { return };
        if res > 0 || doubt.is_some() {
            return known.rows.end(request.fd, context.id);
        }
        let (Some(subject), Some(peak)) = (Subject::of(request), peak) else { return };
        // The length of a vectored read is unknown.
        if res < 0 || subject.opcode != PREAD || request.nbytes == 0 || request.entered == 0 {
            return;
        }
        let Some(row) = known.rows.more(request, subject, (context.id, peak)) else { return };
        let Row { first, entered, reads, .. } = row;
        let evidence = ReadsPastEnd { request: first, reads, size: 0 };
        let mut finding = Finding::new(evidence, found.completed.time, pid);
        finding.context = Some(context);
        finding.request = Some(first);
        let needs = Needs::End { fd: request.fd, entered };
        self.find_once_if(needs, finding, u64::from(request.fd), context.id.0);
    }

    /// Takes the answer about the file behind a descriptor.
    pub(in crate::model) fn end_is_known(&mut self, event: &Event, fd: u32, file: Option<File>) {
        let is_of = |it: &Waiting| {
            matches!(it.needs, Needs::End { fd: needed, .. } if needed == fd)
        };
        for mut waiting in self.answered(event.pid, is_of) {
            let Needs::End { entered, .. } = waiting.needs else { continue };
            let Some(file) = file.filter(|it| it.is_regular()) else { continue };
            let Some(space) = self.spaces.get(&self.space(event.pid)) else { continue };
            let key = (fd, waiting.finding.context.map_or(ContextId::UNKNOWN, |it| it.id));
            // The row as long as it is by now.
            let Some(row) = space.rows.0.get(&key).filter(|it| it.entered == entered) else { continue };
            let Some(end) = file.size.filter(|it| *it < row.furthest.max(0) as u64) else { continue };
            if !space.files.was_same(fd, file, entered) {
                waiting.finding.doubt.get_or_insert(Doubt::Later);
            }
            if let Evidence::ReadsPastEnd(it) = &mut waiting.finding.evidence {
                (it.reads, it.size) = (row.reads, end);
            }
            waiting.finding.count = 1;
            self.tell(waiting.finding, waiting.key.2, waiting.key.3);
        }
    }
}
