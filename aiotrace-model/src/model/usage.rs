//! How a process uses AIO: what an engineer asks first. How deep is its queue, are its files
//! asynchronous at all, where does the time go, and what fails?

use std::collections::BTreeMap;

use super::{
    Map, Model, Peak,
    inline::Files,
    latency::{Latency, Percentiles},
    report::Row,
};
use crate::{
    any_order::AnyOrder as _,
    event::{Args, Call, Syscall},
};

/// Most processes whose use is counted; what the others do is in the tables only.
const MOST_PROCESSES: usize = 1024;
/// Most errnos of a process counted one by one.
const MOST_ERRORS: usize = 32;
/// io_cancel that worked returns this.
const EINPROGRESS: i64 = -115;

/// The calls of a process.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    /// io_submit.
    pub submits: u64,
    /// io_getevents and io_pgetevents.
    pub getevents: u64,
    /// The calls that failed, by call and errno, without faults.
    pub errors: BTreeMap<(&'static str, i64), u64>,
    /// The calls that a fault made fail.
    pub injected: BTreeMap<(&'static str, i64), u64>,
}

/// What is counted by process.
#[derive(Debug, Default)]
pub struct Usages {
    calls: Map<u32, Calls>,
    /// How the requests of those completed whose address space is gone.
    files: Map<u32, Summary>,
    /// The contexts that have no row of their own, together, and the largest charge of one of them.
    contexts: Map<u32, (Row, Option<u64>)>,
}

/// See [`Usage::inline`] and [`Usage::files`].
type Summary = ((u64, u64), [u64; 3]);

impl Usages {
    /// Counts a call; `is_injected`: its answer is a fault.
    pub fn call(&mut self, pid: u32, call: &Call, is_injected: bool) {
        if self.calls.len() >= MOST_PROCESSES && !self.calls.contains_key(&pid) {
            return;
        }
        let of = self.calls.entry(pid).or_default();
        match call.args {
            Args::Submit { .. } => of.submits += 1,
            Args::Getevents { .. } => of.getevents += 1,
            _ => (),
        }
        let syscall = call.args.syscall();
        let worked = syscall == Syscall::Cancel && call.ret == EINPROGRESS;
        if call.ret < 0 && !worked {
            let key = (syscall.name(), call.ret);
            let errors = if is_injected { &mut of.injected } else { &mut of.errors };
            if errors.len() < MOST_ERRORS || errors.contains_key(&key) {
                *errors.entry(key).or_default() += 1;
            }
        }
    }

    /// The address space of a process is gone.
    pub(super) fn ended(&mut self, pid: u32, files: &Files, stops: bool) {
        if self.files.len() < MOST_PROCESSES {
            self.files.insert(pid, files.summary(stops));
        }
    }

    /// A context has ended that gets no row of its own.
    pub(super) fn context(&mut self, row: &Row) {
        if let Some((sum, asked)) = self.contexts.get_mut(&row.pid) {
            sum.add(row);
            *asked = (*asked).max(row.asked);
        } else if self.contexts.len() < MOST_PROCESSES {
            self.contexts.insert(row.pid, (row.clone(), row.asked));
        }
    }
}

/// How a process uses AIO.
#[derive(Clone, Debug)]
pub struct Usage {
    /// The process.
    pub pid: u32,
    /// Its name: any bytes.
    pub process: Vec<u8>,
    /// Its calls.
    pub calls: Calls,
    /// Its contexts.
    pub contexts: u64,
    /// What the largest of its contexts was asked for, if that is known.
    pub asked: Option<u64>,
    /// Most requests of one context that were in flight at a time.
    pub peak: Peak,
    /// Requests that completed.
    pub requests: u64,
    /// There may have been more: not all is known of one of its contexts.
    pub is_at_least: bool,
    /// How many of these failed.
    pub failed: u64,
    /// How many others a fault made fail.
    pub made_to_fail: u64,
    /// The bytes that they moved.
    pub bytes: u64,
    /// io_submit calls whose last request was a read or a write, and how many of these requests were
    /// complete before the call returned.
    pub inline: (u64, u64),
    /// Descriptors of files that are open with O_DIRECT, of files that are not, and those of which that is unknown.
    pub files: [u64; 3],
    /// How long their io_submit took.
    pub submit: Option<Percentiles>,
    /// From io_submit to the completion.
    pub complete: Option<Percentiles>,
    /// From the completion until it was reaped.
    pub reap: Option<Percentiles>,
}

impl Model {
    /// How the processes use AIO, those with most requests first.
    pub(super) fn usages(&self, rows: &[Row]) -> Vec<Usage> {
        let mut all: BTreeMap<u32, (Usage, Latency)> = BTreeMap::new();
        let together = self.usages.contexts.in_any_order().map(|(_, (row, asked))| {
            let mut row = row.clone();
            row.asked = *asked;
            row
        });
        for row in rows.iter().cloned().chain(together) {
            let new = || (self.usage(&row), Latency::default());
            let (usage, latency) = all.entry(row.pid).or_insert_with(new);
            usage.contexts += row.contexts;
            usage.asked = usage.asked.max(row.asked);
            usage.peak = usage.peak.or(row.peak);
            usage.requests += row.done.requests;
            usage.is_at_least |= row.doubt.is_some();
            usage.failed += row.done.failed;
            usage.made_to_fail += row.done.made_to_fail;
            usage.bytes += row.done.bytes;
            row.latency().into_iter().for_each(|it| latency.add(it));
        }
        let mut usages: Vec<Usage> = all
            .into_values()
            .map(|(usage, latency)| Usage {
                submit: latency.submit.percentiles(),
                complete: latency.complete.percentiles(),
                reap: latency.reap.percentiles(),
                ..usage
            })
            .collect();
        usages.sort_by_key(|it| (std::cmp::Reverse(it.requests), it.pid));
        usages
    }

    /// The use of a process, without what its contexts tell.
    fn usage(&self, row: &Row) -> Usage {
        let pid = row.pid;
        let name = || self.names.get(&pid).cloned().unwrap_or_default();
        let live =
            self.spaces.get(&self.space(pid)).map(|it| it.files.summary(self.settings.stops));
        let summary = live.or_else(|| self.usages.files.get(&pid).copied());
        let (inline, files) = summary.unwrap_or_default();
        Usage {
            pid,
            process: if row.process.is_empty() { name() } else { row.process.clone() },
            calls: self.usages.calls.get(&pid).cloned().unwrap_or_default(),
            contexts: 0,
            asked: None,
            peak: Peak::default(),
            requests: 0,
            is_at_least: false,
            failed: 0,
            made_to_fail: 0,
            bytes: 0,
            inline,
            files,
            submit: None,
            complete: None,
            reap: None,
        }
    }
}

impl Files {
    /// See [`Usage::inline`] and [`Usage::files`].
    fn summary(&self, stops: bool) -> Summary {
        let (mut inline, mut files) = ((0, 0), [0; 3]);
        for (_, it) in self.uses().in_any_order() {
            let (calls, complete, direct) = it.counted(stops);
            inline = (inline.0 + calls, inline.1 + complete);
            files[match direct {
                Some(true) => 0,
                Some(false) => 1,
                None => 2,
            }] += 1;
        }
        (inline, files)
    }
}
