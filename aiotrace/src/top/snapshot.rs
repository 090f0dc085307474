//! What the screen shows of one interval: rows of processes, contexts and descriptors, with what the
//! kernel counted in the interval and what there is at its end.

use std::collections::BTreeMap;

use crate::{
    counted::{Counted, histogram::Histogram},
    event::{Handle, Syscall},
    model::{Finding, Name, Severity},
    opcode::Opcode,
    words::escape::escaped,
};

/// What a row is about, whatever its place in the table is. A pid may be given again, so a process
/// is known by the time of its start, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A process: its pid and its start, in clock ticks after the boot (0: unknown).
    Process(u32, u64),
    /// A context: its process and its handle.
    Context(u32, u64, Handle),
    /// Requests of a process to a descriptor, by operation.
    Descriptor(u32, u64, u32, Opcode),
    /// A finding, by its place in the order in which findings came.
    Finding(u64),
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Requests that were accepted.
    pub requests: u64,
    /// Completions that io_getevents returned.
    pub reaped: u64,
    /// Bytes moved, as far as known.
    pub bytes: u64,
    /// Some results are masks, or could not be read, so the bytes are not all.
    pub bytes_unknown: bool,
    /// Calls that failed, and requests whose result is an error.
    pub errors: u64,
    /// io_submit that returned EAGAIN.
    pub eagain: u64,
    /// From the entry of io_submit until io_getevents gave the result.
    pub latency: Histogram,
}

impl Numbers {
    /// Adds other numbers.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.reaped += other.reaped;
        self.bytes += other.bytes;
        self.bytes_unknown |= other.bytes_unknown;
        self.errors += other.errors;
        self.eagain += other.eagain;
        self.latency.add(&other.latency);
    }

    /// Whether anything was done.
    pub fn is_active(&self) -> bool {
        self.requests + self.reaped + self.errors > 0
    }
}

/// How many findings there are, by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Errors.
    pub errors: u64,
    /// Warnings.
    pub warnings: u64,
    /// What is good to know.
    pub infos: u64,
}

impl Flags {
    /// Counts a finding.
    pub fn count(&mut self, severity: Severity) {
        match severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
            Severity::Info => self.infos += 1,
        }
    }

    /// The worst severity, and how many findings have it.
    pub fn worst(self) -> Option<(Severity, u64)> {
        [
            (Severity::Error, self.errors),
            (Severity::Warning, self.warnings),
            (Severity::Info, self.infos),
        ]
        .into_iter()
        .find(|it| it.1 > 0)
    }
}

/// A row of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is about.
    pub id: Identity,
    /// The process; 0 for all processes that are not counted one by one.
    pub pid: u32,
    /// The name of the process, escaped.
    pub name: String,
    /// A context: its handle. A descriptor: the descriptor, the operation and the path.
    pub what: String,
    /// The container or the cgroup of the process.
    pub unit: Option<String>,
    /// The number of contexts; `None`: unknown.
    pub contexts: Option<u64>,
    /// What it takes from fs.aio-nr.
    pub charge: Option<u64>,
    /// Requests in flight now.
    pub in_flight: Option<u64>,
    /// Unreaped completions now.
    pub unreaped: Option<u64>,
    /// How long the context that was not used for the longest time was not used, nanoseconds.
    pub idle: Option<u64>,
    /// It was not used since the start, and it is not known how long before that.
    pub idle_at_least: bool,
    /// What was counted in the interval.
    pub now: Numbers,
    /// What was counted since the start.
    pub all: Numbers,
    /// p50 and p99 since the start, where there are no latencies of the interval.
    pub since_start: Option<(u64, u64)>,
    /// Its findings.
    pub flags: Flags,
    /// It is not there any more.
    pub ended: bool,
}

impl Row {
    /// A row of which nothing is known.
    pub fn new(id: Identity, pid: u32, name: impl Into<String>) -> Self {
        Self {
            id,
            pid,
            name: name.into(),
            what: String::new(),
            unit: None,
            contexts: None,
            charge: None,
            in_flight: None,
            unreaped: None,
            idle: None,
            idle_at_least: false,
            now: Numbers::default(),
            all: Numbers::default(),
            since_start: None,
            flags: Flags::default(),
            ended: false,
        }
    }
}

/// A finding, as the screen shows it.
#[derive(Clone, Debug)]
pub struct FindingRow {
    /// Its place in the order in which findings came.
    pub place: u64,
    /// When it came, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// The process.
    pub pid: u32,
    /// The name of the process, escaped.
    pub process: String,
    /// Its name.
    pub name: Name,
    /// How bad it is.
    pub severity: Severity,
    /// The handle of its context, if it is about one.
    pub context: Option<Handle>,
    /// Its words.
    pub text: String,
}

impl FindingRow {
    /// The row of a finding.
    pub fn of(it: &Finding, place: u64) -> Self {
        let unsure = it.doubt.map_or_else(String::new, |it| format!("unsure ({}): ", it.text()));
        Self {
            place,
            time: it.time,
            pid: it.pid,
            process: escaped(&it.process),
            name: it.name,
            severity: it.severity,
            context: it.context.map(|it| it.handle),
            text: escaped(format!("{unsure}{}", it.message()).as_bytes()),
        }
    }
}

/// What aiotrace itself costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Own {
    /// The part of a processor that it took in the interval, in percent.
    pub cpu: f64,
    /// Its memory, in bytes.
    pub memory: u64,
    /// How long the probes take for each call, nanoseconds; `None`: it was not measured yet.
    pub each_call: Option<u64>,
}

/// Everything that is shown of one interval.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When the interval ended, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// How long it was, nanoseconds.
    pub length: u64,
    /// How long the trace has lasted, nanoseconds.
    pub since: u64,
    /// How long the next one will be, nanoseconds.
    pub every: u64,
    /// The interval that was asked for, nanoseconds.
    pub asked: u64,
    /// fs.aio-nr and fs.aio-max-nr, if they are known.
    pub limit: Option<(u64, u64)>,
    /// Calls that returned in the interval.
    pub calls: u64,
    /// Where the numbers come from, in words.
    pub source: String,
    /// What was lost so far.
    pub lost: u64,
    /// What aiotrace itself costs; `None` for a recording.
    pub own: Option<Own>,
    /// The processes, in any order.
    pub processes: Vec<Row>,
    /// The contexts.
    pub contexts: Vec<Row>,
    /// The requests by descriptor; `None`: they are not known, as calls are only counted.
    pub descriptors: Option<Vec<Row>>,
    /// The findings, in the order in which they came.
    pub findings: Vec<FindingRow>,
    /// Findings that were too many to keep.
    pub more_findings: u64,
    /// Calls and requests were counted, and not only contexts listed.
    pub counted: bool,
}

impl Snapshot {
    /// All processes together.
    pub fn total(&self) -> Numbers {
        let mut total = Numbers::default();
        self.processes.iter().for_each(|it| total.add(&it.now));
        total
    }

    /// Requests in flight, if they are known of all processes.
    pub fn in_flight(&self) -> Option<u64> {
        self.processes.iter().map(|it| it.in_flight).sum()
    }

    /// Puts the interval that came before in front of this one.
    pub fn prepend(&mut self, before: &Self) {
        self.length += before.length;
        self.calls += before.calls;
        let tables =
            [(&mut self.processes, &before.processes), (&mut self.contexts, &before.contexts)];
        for (rows, earlier) in tables {
            let mut known: BTreeMap<Identity, usize> =
                rows.iter().enumerate().map(|(place, it)| (it.id, place)).collect();
            for row in earlier {
                match known.get(&row.id) {
                    Some(place) => rows[*place].now.add(&row.now),
                    // It ended in between.
                    None => {
                        known.insert(row.id, rows.len());
                        rows.push(Row { in_flight: Some(0), ..row.clone() });
                    }
                }
            }
        }
        if let (Some(rows), Some(earlier)) = (&mut self.descriptors, &before.descriptors) {
            for row in rows {
                if let Some(it) = earlier.iter().find(|it| it.id == row.id) {
                    row.now.add(&it.now);
                }
            }
        }
    }
}

/// What was counted, by process and by context.
#[derive(Debug, Default)]
pub struct ByOwner {
    /// By process.
    pub processes: BTreeMap<u32, Numbers>,
    /// By process and handle.
    pub contexts: BTreeMap<(u32, Handle), Numbers>,
}

impl ByOwner {
    /// The sums of these counts.
    pub fn of(counted: &Counted) -> Self {
        let mut by = Self::default();
        for ((pid, handle), it) in &counted.contexts {
            let mut numbers = Numbers {
                requests: it.accepted,
                reaped: it.reaped,
                bytes: it.moved,
                bytes_unknown: it.bytes().is_none(),
                errors: it.failed,
                ..Numbers::default()
            };
            it.latencies.values().for_each(|it| numbers.latency.add(it));
            by.processes.entry(*pid).or_default().add(&numbers);
            by.contexts.entry((*pid, *handle)).or_default().add(&numbers);
        }
        for ((pid, syscall), it) in &counted.calls {
            let errors = counted.errors.get(&(*pid, *syscall));
            // An io_cancel that worked returns EINPROGRESS.
            let worked = errors.filter(|_| *syscall == Syscall::Cancel);
            let worked = worked.and_then(|it| it.get(&-EINPROGRESS)).copied().unwrap_or(0);
            let numbers = by.processes.entry(*pid).or_default();
            numbers.errors += it.failed.saturating_sub(worked);
            let eagain = errors.filter(|_| *syscall == Syscall::Submit);
            numbers.eagain += eagain.and_then(|it| it.get(&-EAGAIN)).copied().unwrap_or(0);
        }
        by
    }
}

const EAGAIN: i64 = 11;
const EINPROGRESS: i64 = 115;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counted::CallCounts;

    #[test]
    fn a_cancel_that_worked_is_no_error() {
        let mut counted = Counted::default();
        let calls = CallCounts { failed: 3, unseen: 3, ..CallCounts::default() };
        for call in [Syscall::Cancel, Syscall::Submit] {
            counted.calls.insert((7, call), calls.clone());
            counted.errors.insert((7, call), BTreeMap::from([(-115, 1), (-11, 2)]));
        }
        let by = ByOwner::of(&counted);
        assert_eq!((by.processes[&7].errors, by.processes[&7].eagain), (2 + 3, 2));
    }

    #[test]
    fn two_intervals_make_one_and_who_ended_in_the_first_is_in_it() {
        let row = |pid, requests| {
            let mut row = Row::new(Identity::Process(pid, 1), pid, "p");
            row.now.requests = requests;
            row
        };
        let before =
            Snapshot { length: 5, processes: vec![row(1, 2), row(2, 3)], ..Snapshot::default() };
        let mut after = Snapshot { length: 6, processes: vec![row(1, 10)], ..Snapshot::default() };
        after.prepend(&before);
        let requests: Vec<_> = after.processes.iter().map(|it| (it.pid, it.now.requests)).collect();
        assert_eq!((after.length, requests), (11, vec![(1, 12), (2, 3)]));
    }
}
