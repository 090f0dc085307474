//! Counted numbers as rows, for the tables of `-c` and for JSON.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use aiotrace_common::counts::{OPS, OTHER_OP, UNREAD_OP};

use super::{
    escape::escaped,
    json::{CallRow, CountedContextRow, DurationsObject, Hex, OpRow, ResultRow},
};
use crate::{
    counted::{CallCounts, ContextCounts, Counted, OTHER_ERROR, histogram::Histogram},
    event::{Handle, Syscall, errno_name, opcode_name},
    opcode::Opcode,
};

/// Gives the name of a process; pid 0 stands for all processes that are not counted one by one.
pub type Name<'a> = &'a dyn Fn(u32) -> String;

/// Number of errors, by the name of the errno.
type Errors = BTreeMap<Cow<'static, str>, u64>;

/// All rows of one count.
#[derive(Debug, Default)]
pub struct Rows {
    /// One row for each call, all processes together.
    pub all: Vec<CallRow>,
    /// One row for each process and call.
    pub calls: Vec<CallRow>,
    /// Contexts, those with most requests first.
    pub contexts: Vec<CountedContextRow>,
    /// The errors that requests resulted in, by process.
    pub results: Vec<ResultRow>,
}

impl Rows {
    /// The rows of these numbers.
    pub fn of(counted: &Counted, name: Name<'_>) -> Self {
        Self {
            all: totals(counted),
            calls: calls(counted, name),
            contexts: contexts(counted, name),
            results: results(counted, name),
        }
    }
}

/// The name of a process, from the names that are known.
pub fn name_of(names: &BTreeMap<u32, Vec<u8>>, pid: u32) -> String {
    match pid {
        0 => "(other processes)".to_owned(),
        _ => names.get(&pid).map_or_else(|| "?".to_owned(), |it| escaped(it)),
    }
}

fn calls(counted: &Counted, name: Name<'_>) -> Vec<CallRow> {
    let none = BTreeMap::new();
    let of = |(key, counts): (&(u32, Syscall), &CallCounts)| {
        let of = |errors: &BTreeMap<_, _>| errors.get(key).unwrap_or(&none).clone();
        let errors = (of(&counted.errors), of(&counted.injected));
        row((key.0, name(key.0)), key.1, counts, errors)
    };
    counted.calls.iter().map(of).collect()
}

fn totals(counted: &Counted) -> Vec<CallRow> {
    let of = |syscall: Syscall| {
        let mut counts = CallCounts::default();
        let all = counted.calls.iter().filter(|it| it.0.1 == syscall);
        all.for_each(|(_, it)| counts.add(it));
        let sum = |errors: &BTreeMap<(u32, Syscall), BTreeMap<i64, u64>>| {
            let mut sum: BTreeMap<i64, u64> = BTreeMap::new();
            let errors = errors.iter().filter(|it| it.0.1 == syscall).flat_map(|it| it.1);
            errors.for_each(|(ret, count)| *sum.entry(*ret).or_default() += count);
            sum
        };
        let errors = (sum(&counted.errors), sum(&counted.injected));
        row((0, String::new()), syscall, &counts, errors)
    };
    let names = counted.calls.keys().chain(counted.errors.keys()).map(|it| it.1);
    names.collect::<BTreeSet<_>>().into_iter().map(of).collect()
}

fn row(
    (pid, name): (u32, String),
    syscall: Syscall,
    counts: &CallCounts,
    (errors, injected): (BTreeMap<i64, u64>, BTreeMap<i64, u64>),
) -> CallRow {
    // Errors for which the kernel had no room to count them by errno.
    let rest = counts.failed.saturating_sub(errors.values().sum());
    let mut errors = named(&errors);
    if rest > 0 {
        *errors.entry("?".into()).or_default() += rest;
    }
    CallRow {
        pid,
        name,
        call: syscall.name().into(),
        calls: counts.calls(),
        errors,
        injected: named(&injected),
        duration_ns: durations(&counts.durations),
    }
}

fn named(errors: &BTreeMap<i64, u64>) -> Errors {
    let name = |ret: i64| match errno_name(ret) {
        Some(name) => name.into(),
        None if ret >= 0 => "short".into(),
        None if ret == OTHER_ERROR => "?".into(),
        None => ret.to_string().into(),
    };
    errors.iter().map(|(ret, count)| (name(*ret), *count)).collect()
}

fn durations(of: &Histogram) -> Option<DurationsObject> {
    (of.count() > 0).then(|| DurationsObject {
        min: of.least(),
        avg: of.average(),
        p50: of.quantile(0.5),
        p99: of.quantile(0.99),
        max: of.most(),
    })
}

/// Contexts, those with most requests first.
pub fn contexts(counted: &Counted, name: Name<'_>) -> Vec<CountedContextRow> {
    let has_requests = counted.has_requests;
    let of = |((pid, handle), it): (&(u32, _), &ContextCounts)| {
        context((*pid, *handle), it, has_requests, name)
    };
    let mut rows: Vec<CountedContextRow> = counted.contexts.iter().map(of).collect();
    rows.sort_by_key(|it| (Reverse(it.requests), it.pid, it.ctx.0));
    rows
}

fn context(
    (pid, handle): (u32, Handle),
    counts: &ContextCounts,
    has_requests: bool,
    name: Name<'_>,
) -> CountedContextRow {
    let none = Histogram::default();
    let ops = (0..OPS).zip(&counts.ops);
    let ops = ops.map(|(place, it)| (place, it, counts.latencies.get(&place).unwrap_or(&none)));
    let ops = ops.filter(|(_, it, latencies)| it.requests > 0 || latencies.count() > 0);
    let ops = ops.map(|(place, it, latencies)| {
        let name = match place {
            OTHER_OP => "other".into(),
            UNREAD_OP => "unread".into(),
            _ => opcode_name(Opcode(place as u16))
                .map_or_else(|| place.to_string().into(), Cow::from),
        };
        let asked = (place < 2).then_some(it.asked);
        let (timed, latency_ns) = (latencies.count(), durations(latencies));
        (name, OpRow { requests: it.requests, asked, timed, latency_ns })
    });
    CountedContextRow {
        pid,
        name: name(pid),
        ctx: Hex(handle.0),
        requests: counts.accepted,
        ops: has_requests.then(|| ops.collect()),
        reaped: counts.reaped,
        failed: has_requests.then_some(counts.failed),
        bytes: counts.bytes().filter(|_| has_requests),
    }
}

/// The errors that requests resulted in, by process.
pub fn results(counted: &Counted, name: Name<'_>) -> Vec<ResultRow> {
    let rows = counted.results.iter().filter(|(_, errors)| !errors.is_empty());
    rows.map(|(pid, errors)| ResultRow { pid: *pid, name: name(*pid), errors: named(errors) })
        .collect()
}
