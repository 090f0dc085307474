//! Numbers of calls and requests, instead of an event for each call. The kernel counts them, or [`Tally`] counts
//! events.

pub mod histogram;
mod requests;
mod tally;

use std::collections::{BTreeMap, BTreeSet};

use aiotrace_common::counts::{OPS, OpCounts};

use self::histogram::Histogram;
pub use self::tally::Tally;
use self::tally::count;
use crate::{
    event::{Handle, Syscall},
    trace::ProbeRuns,
};

/// Processes that are counted one by one; what further processes do is counted together, as pid 0.
pub const MOST_PROCESSES: usize = 256;
/// Ended contexts that are counted one by one; further ones are counted together, as pid 0.
pub const MOST_CONTEXTS: usize = 256;
/// Stands for all errnos that are not counted one by one.
pub const OTHER_ERROR: i64 = i64::MIN;

/// All that was counted up to some time.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// When it was read, nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// `--interval`: an interval ends here.
    pub ends_interval: bool,
    /// Requests and their results were counted, too, and not only calls.
    pub has_requests: bool,
    /// Calls by process and name.
    pub calls: BTreeMap<(u32, Syscall), CallCounts>,
    /// The errnos of failed calls, by process and call.
    pub errors: BTreeMap<(u32, Syscall), BTreeMap<i64, u64>>,
    /// The errnos of calls whose answer is a fault, and not the kernel's error; 0: a short io_submit. Always empty
    /// where the kernel counts.
    pub injected: BTreeMap<(u32, Syscall), BTreeMap<i64, u64>>,
    /// The errnos that requests resulted in, by process.
    pub results: BTreeMap<u32, BTreeMap<i64, u64>>,
    /// Contexts, by process and handle.
    pub contexts: BTreeMap<(u32, Handle), ContextCounts>,
    /// What the probes took so far, where that was read.
    pub runs: Option<ProbeRuns>,
    /// Processes that have ended, where they are forgotten ([`Processes::forget`]): their counts are not told again.
    pub gone: BTreeSet<u32>,
}

/// The counts of one call, or the latencies of one operation.
#[derive(Clone, Debug, Default)]
pub struct CallCounts {
    /// How many calls returned an error.
    pub failed: u64,
    /// How many calls were not seen to begin; these have no duration.
    pub unseen: u64,
    /// How long the other calls took.
    pub durations: Histogram,
}

/// The counts of one context.
#[derive(Clone, Debug, Default)]
pub struct ContextCounts {
    /// When a call on it last returned.
    pub used: u64,
    /// Requests that were accepted.
    pub accepted: u64,
    /// The accepted requests by opcode, if requests were counted.
    pub ops: [OpCounts; OPS],
    /// How long requests took until io_getevents reaped them, by index in `ops`.
    pub latencies: BTreeMap<usize, Histogram>,
    /// Events that io_getevents returned.
    pub reaped: u64,
    /// How many of these had a negative `res`.
    pub failed: u64,
    /// The sum of `res` of the others.
    pub moved: u64,
    /// Events that could not be read.
    pub unread: u64,
}

/// The opcode of polls, whose result is a mask.
const POLL: usize = 5;

impl CallCounts {
    /// How many calls returned.
    pub fn calls(&self) -> u64 {
        self.durations.count() + self.unseen
    }

    /// Adds other counts to these.
    pub fn add(&mut self, other: &Self) {
        self.failed += other.failed;
        self.unseen += other.unseen;
        self.durations.add(&other.durations);
    }

    /// What was counted since the state `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            failed: self.failed.saturating_sub(before.failed),
            unseen: self.unseen.saturating_sub(before.unseen),
            durations: self.durations.since(&before.durations),
        }
    }
}

impl ContextCounts {
    /// The bytes moved, as the events say; `None` if polls may be among the events, whose results are masks, or
    /// events could not be read.
    pub fn bytes(&self) -> Option<u64> {
        (self.ops[POLL].requests == 0 && self.unread == 0).then_some(self.moved)
    }

    /// Adds other counts to these.
    pub fn add(&mut self, other: &Self) {
        self.used = self.used.max(other.used);
        self.accepted += other.accepted;
        for (to, it) in self.ops.iter_mut().zip(other.ops) {
            to.requests += it.requests;
            to.asked += it.asked;
        }
        for (op, it) in &other.latencies {
            self.latencies.entry(*op).or_default().add(it);
        }
        self.reaped += other.reaped;
        self.failed += other.failed;
        self.moved += other.moved;
        self.unread += other.unread;
    }

    /// What was counted since the state `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        since.accepted = since.accepted.saturating_sub(before.accepted);
        for (to, it) in since.ops.iter_mut().zip(before.ops) {
            to.requests = to.requests.saturating_sub(it.requests);
            to.asked = to.asked.saturating_sub(it.asked);
        }
        let none = Histogram::default();
        for (op, it) in &mut since.latencies {
            *it = it.since(before.latencies.get(op).unwrap_or(&none));
        }
        since.latencies.retain(|_, it| it.count() > 0);
        since.reaped = since.reaped.saturating_sub(before.reaped);
        since.failed = since.failed.saturating_sub(before.failed);
        since.moved = since.moved.saturating_sub(before.moved);
        since.unread = since.unread.saturating_sub(before.unread);
        since
    }
}

impl Counted {
    /// Whether a call failed, or a request, without a fault.
    pub fn has_errors(&self) -> bool {
        let some = |of: &BTreeMap<i64, u64>| of.values().any(|it| *it > 0);
        self.errors.values().any(some) || self.results.values().any(some)
    }

    /// How many calls returned.
    pub fn total(&self) -> u64 {
        self.calls.values().map(CallCounts::calls).sum()
    }

    /// What was counted since the state `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let (no_calls, no_context) = (CallCounts::default(), ContextCounts::default());
        let calls = self
            .calls
            .iter()
            .map(|(key, it)| (*key, it.since(before.calls.get(key).unwrap_or(&no_calls))));
        let contexts = self
            .contexts
            .iter()
            .map(|(key, it)| (*key, it.since(before.contexts.get(key).unwrap_or(&no_context))));
        Self {
            time: self.time,
            ends_interval: self.ends_interval,
            has_requests: self.has_requests,
            calls: calls.filter(|(_, it)| it.calls() > 0).collect(),
            errors: less(&self.errors, &before.errors),
            injected: less(&self.injected, &before.injected),
            results: less(&self.results, &before.results),
            contexts: contexts.filter(|(_, it)| it.accepted + it.reaped > 0).collect(),
            runs: self.runs,
            gone: self.gone.clone(),
        }
    }

    /// Drops the counts of these processes.
    pub fn forget(&mut self, gone: &BTreeSet<u32>) {
        self.calls.retain(|(pid, _), _| !gone.contains(pid));
        self.errors.retain(|(pid, _), _| !gone.contains(pid));
        self.injected.retain(|(pid, _), _| !gone.contains(pid));
        self.results.retain(|pid, _| !gone.contains(pid));
        self.contexts.retain(|(pid, _), _| !gone.contains(pid));
    }
}

type Errors<K> = BTreeMap<K, BTreeMap<i64, u64>>;

fn less<K: Ord + Copy>(now: &Errors<K>, before: &Errors<K>) -> Errors<K> {
    let none = BTreeMap::new();
    now.iter()
        .map(|(key, counts)| {
            let before = before.get(key).unwrap_or(&none);
            let less = |(ret, count): (&i64, &u64)| {
                (*ret, count.saturating_sub(before.get(ret).copied().unwrap_or(0)))
            };
            (*key, counts.iter().map(less).filter(|(_, count)| *count > 0).collect())
        })
        .collect()
}

/// The processes that are counted one by one.
#[derive(Debug, Default)]
pub struct Processes(BTreeSet<u32>);

impl Processes {
    /// The process, or 0 if it is not counted by itself, because there are too many.
    pub fn place(&mut self, pid: u32) -> u32 {
        if self.0.contains(&pid) {
            return pid;
        }
        let has_room = self.0.len() < MOST_PROCESSES && pid != 0;
        if has_room {
            self.0.insert(pid);
        }
        if has_room { pid } else { 0 }
    }

    /// Those of them for which this is true.
    pub fn those(&self, mut wanted: impl FnMut(u32) -> bool) -> BTreeSet<u32> {
        self.0.iter().copied().filter(|pid| wanted(*pid)).collect()
    }

    /// Makes room: these processes have ended.
    pub fn forget(&mut self, gone: &BTreeSet<u32>) {
        self.0.retain(|pid| !gone.contains(pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(durations: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        durations.iter().for_each(|it| histogram.record(*it));
        histogram
    }

    #[test]
    fn bytes_are_not_known_where_polls_are() {
        let mut context = ContextCounts { moved: 4096, ..ContextCounts::default() };
        assert_eq!(context.bytes(), Some(4096));
        context.ops[POLL].requests = 1;
        assert_eq!(context.bytes(), None);
    }

    #[test]
    fn latencies_are_added_and_told_by_interval() {
        let of = |op, nanos: &[u64]| ContextCounts {
            latencies: BTreeMap::from([(op, durations(nanos))]),
            ..ContextCounts::default()
        };
        let mut both = of(0, &[1000]);
        both.add(&of(0, &[3000]));
        both.add(&of(1, &[5000]));
        let timed = |it: &ContextCounts| -> Vec<(usize, u64)> {
            it.latencies.iter().map(|(op, it)| (*op, it.count())).collect()
        };
        assert_eq!(timed(&both), [(0, 2), (1, 1)]);
        assert_eq!(timed(&both.since(&of(1, &[5000]))), [(0, 2)]);
    }

    #[test]
    fn so_many_processes_are_counted_one_by_one() {
        let mut processes = Processes::default();
        assert_eq!(processes.place(0), 0);
        for pid in 1..=MOST_PROCESSES as u32 {
            assert_eq!(processes.place(pid), pid);
        }
        assert_eq!((processes.place(5000), processes.place(7)), (0, 7));
    }
}
