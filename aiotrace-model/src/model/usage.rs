//! How a process uses AIO: what an engineer asks first. How deep is its queue, are its files
//! asynchronous at all, where does the time go, and what fails?

use std::collections::BTreeMap;

use super::{
    Map, Model, Peak,
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
}

/// The calls of all processes.
#[derive(Debug, Default)]
pub struct Usages(Map<u32, Calls>);

impl Usages {
    /// Counts a call; `is_injected`: its answer is a fault.
    pub fn call(&mut self, pid: u32, call: &Call, is_injected: bool) {
        if self.0.len() >= MOST_PROCESSES && !self.0.contains_key(&pid) {
            return;
        }
        let of = self.0.entry(pid).or_default();
        match call.args {
            Args::Submit { .. } => of.submits += 1,
            Args::Getevents { .. } => of.getevents += 1,
            _ => (),
        }
        let syscall = call.args.syscall();
        let worked = syscall == Syscall::Cancel && call.ret == EINPROGRESS;
        if call.ret < 0 && !is_injected && !worked {
            let key = (syscall.name(), call.ret);
            if of.errors.len() < MOST_ERRORS || of.errors.contains_key(&key) {
                *of.errors.entry(key).or_default() += 1;
            }
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
    /// How many of these failed.
    pub failed: u64,
    /// The bytes that they moved.
    pub bytes: u64,
    /// io_submit calls whose last request was a read or a write, and how many of these requests were
    /// complete before the call returned.
    pub inline: (u64, u64),
    /// Files that are open with O_DIRECT, files that are not, and those of which that is unknown.
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
        for row in rows {
            let new = || (self.usage(row), Latency::default());
            let (usage, latency) = all.entry(row.pid).or_insert_with(new);
            usage.contexts += row.contexts;
            usage.asked = usage.asked.max(row.asked);
            usage.peak = usage.peak.or(row.peak);
            usage.requests += row.done.requests;
            usage.failed += row.done.failed;
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
        let files = self.spaces.get(&self.space(pid)).map(|it| it.files.summary());
        let (inline, files) = files.unwrap_or_default();
        Usage {
            pid,
            process: if row.process.is_empty() { name() } else { row.process.clone() },
            calls: self.usages.0.get(&pid).cloned().unwrap_or_default(),
            contexts: 0,
            asked: None,
            peak: Peak::default(),
            requests: 0,
            failed: 0,
            bytes: 0,
            inline,
            files,
            submit: None,
            complete: None,
            reap: None,
        }
    }
}

impl super::inline::Files {
    /// See [`Usage::inline`] and [`Usage::files`].
    fn summary(&self) -> ((u64, u64), [u64; 3]) {
        let (mut inline, mut files) = ((0, 0), [0; 3]);
        for (_, it) in self.uses().in_any_order() {
            let (calls, complete, direct) = it.counted();
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
