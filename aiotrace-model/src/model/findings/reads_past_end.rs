//! reads-past-end: reads of a file begin behind its end, one after the other, and give nothing.
//!
//! Whoever does not know how long a file is reads until a read gives nothing, and whoever has several reads in flight
//! has submitted some behind that one when it comes: as many as are in flight at a time, at most. Of more than these in a
//! row, nobody looks at the results. Whoever waits for a file to grow reads exactly at its end, and is not meant; that he
//! goes back there begins another row.

use super::Basis;
use crate::{
    event::{Event, File},
    model::{
        ContextRef, Doubt, Evidence, Finding, Map, Model, Needs, Severity, Subject,
        questions::Waiting,
        requests::{Match, Request},
    },
};

/// Rows that are followed, of each address space.
const MOST_ROWS: usize = 1024;

/// Reads that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadsPastEnd {
    /// The first.
    request: Subject,
    /// How many in a row.
    reads: u64,
    /// Where the file ended when it was looked up.
    size: u64,
}

impl Basis for ReadsPastEnd {
    const NAME: &'static str = "reads-past-end";
    const SEVERITY: Severity = Severity::Info;
    const NUMBERS: &'static [&'static str] = &["reads", "size"];

    fn message(&self) -> String {
        let Self { request, reads, size } = self;
        format!(
            "{reads} reads in a row gave 0 bytes, the first {}: the file ends at {size}, and the program reads on \
             behind that",
            request.in_words()
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("reads", self.reads as i64), ("size", self.size as i64)]
    }
}

/// Rows of reads that gave nothing, by descriptor and context.
#[derive(Debug, Default)]
pub struct Rows(Map<(u32, u64), Row>);

/// Reads of a descriptor, one after the other, that gave nothing.
#[derive(Clone, Copy, Debug)]
struct Row {
    first: Subject,
    /// When io_submit was entered with the first.
    entered: u64,
    reads: u64,
    /// Where the last one began, and so the furthest.
    furthest: i64,
    /// From so many on it is looked up where the file ends.
    ask_at: u64,
}

impl Rows {
    /// A read gave something: it was not behind the end.
    fn end(&mut self, fd: u32, context: u64) {
        self.0.remove(&(fd, context));
    }

    /// A read gave nothing. The row, if it is to be looked up where the file ends.
    fn more(
        &mut self,
        request: &Request,
        subject: Subject,
        (context, peak): (u64, u64),
    ) -> Option<Row> {
        let key = (request.fd, context);
        if self.0.len() >= MOST_ROWS && !self.0.contains_key(&key) {
            return None;
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
            // Whoever waits at the end for long is not looked at each time.
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
        let peak = self.contexts.get(&(space, context.handle.0)).and_then(|it| it.most_in_flight());
        let Some(known) = self.spaces.get_mut(&space) else { return };
        if res > 0 || doubt.is_some() {
            return known.rows.end(request.fd, context.id);
        }
        let (Some(subject), Some(peak)) = (Subject::of(request), peak) else { return };
        // Of vectors it is not known how long they are.
        if res < 0 || subject.opcode != 0 || request.nbytes == 0 || request.entered == 0 {
            return;
        }
        let Some(row) = known.rows.more(request, subject, (context.id, peak)) else { return };
        let Row { first, entered, reads, .. } = row;
        let evidence = ReadsPastEnd { request: first, reads, size: 0 };
        let mut finding = Finding::new(evidence, found.completed.time, pid);
        finding.context = Some(context);
        finding.request = Some(first);
        let needs = Needs::End { fd: request.fd, entered };
        self.find_once_if(needs, finding, u64::from(request.fd), context.id);
    }

    /// What a descriptor is, was looked up.
    pub(in crate::model) fn end_is_known(&mut self, event: &Event, fd: u32, file: Option<File>) {
        let is_of = |it: &Waiting| {
            matches!(it.needs, Needs::End { fd: needed, .. } if needed == fd)
        };
        for mut waiting in self.answered(event.pid, is_of) {
            let Needs::End { entered, .. } = waiting.needs else { continue };
            let Some(file) = file.filter(|it| it.is_regular()) else { continue };
            let Some(space) = self.spaces.get(&self.space(event.pid)) else { continue };
            let key = (fd, waiting.finding.context.map_or(0, |it| it.id));
            // As long as it is by now.
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
