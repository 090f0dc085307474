//! What was counted in the kernel, as rows: of the table of `-c`, and of contexts.

use std::{borrow::Cow, collections::BTreeMap, io, io::Write};

use aiotrace_common::counts::{OTHER_OP, UNREAD_OP};
use serde::{Deserialize, Serialize};

use super::{
    escape::escaped,
    json::Hex,
    report::{bytes, duration, process},
    summary::{Durations, Errors, Row, named},
};
use crate::{
    counted::{CallCounts, ContextCounts, Counted},
    event::{Syscall, opcode_name},
};

/// Contexts shown as text; JSON has all.
const MOST: usize = 10;

/// The requests of a context, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextRow {
    /// Process; 0 for all contexts that are not counted one by one.
    pub pid: u32,
    /// Its name, escaped.
    pub name: String,
    /// The handle. One that was given again is the same.
    pub ctx: Hex,
    /// Requests accepted.
    pub requests: u64,
    /// The same by operation; null without `--requests`.
    pub ops: Option<BTreeMap<Cow<'static, str>, OpRow>>,
    /// Events that io_getevents gave.
    pub reaped: u64,
    /// Of these, with `res` < 0; null without `--requests`.
    pub failed: Option<u64>,
    /// The sum of the others' `res`; null without `--requests`, and if polls are among them.
    pub bytes: Option<u64>,
}

/// Requests of one operation, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpRow {
    /// How many.
    pub requests: u64,
    /// Bytes that they asked for; null where iovecs, or nothing, are counted.
    pub asked: Option<u64>,
    /// How many were reaped by io_getevents and have a latency.
    pub timed: u64,
    /// From the entry of io_submit to the return of that io_getevents; null if there is none.
    pub latency_ns: Option<Durations>,
}

/// What requests resulted in, in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultRow {
    /// Process.
    pub pid: u32,
    /// Its name, escaped.
    pub name: String,
    /// Negative results of events that io_getevents gave, by name of the errno.
    pub errors: BTreeMap<Cow<'static, str>, u64>,
}

/// What a process is called; pid 0 is all others.
pub type Name<'a> = &'a dyn Fn(u32) -> String;

/// The name of a process, from the bytes that are known.
pub fn name_of(names: &BTreeMap<u32, Vec<u8>>, pid: u32) -> String {
    match pid {
        0 => "(other processes)".to_owned(),
        _ => names.get(&pid).map_or_else(|| "?".to_owned(), |it| escaped(it)),
    }
}

/// By process and call.
pub fn rows(counted: &Counted, name: Name<'_>) -> Vec<Row> {
    let none = BTreeMap::new();
    let of = |(key, counts): (&(u32, Syscall), &CallCounts)| {
        let errors = counted.errors.get(key).unwrap_or(&none);
        row((key.0, name(key.0)), key.1, counts, errors)
    };
    counted.calls.iter().map(of).collect()
}

/// By call, all processes together.
pub fn totals(counted: &Counted) -> Vec<Row> {
    let mut all: BTreeMap<Syscall, (CallCounts, BTreeMap<i64, u64>)> = BTreeMap::new();
    for ((_, syscall), counts) in &counted.calls {
        all.entry(*syscall).or_default().0.add(counts);
    }
    for ((_, syscall), errors) in &counted.errors {
        let (_, sum) = all.entry(*syscall).or_default();
        errors.iter().for_each(|(ret, count)| *sum.entry(*ret).or_default() += count);
    }
    let rows = all
        .iter()
        .map(|(syscall, (counts, errors))| row((0, String::new()), *syscall, counts, errors));
    rows.collect()
}

fn row(
    (pid, name): (u32, String),
    syscall: Syscall,
    counts: &CallCounts,
    errors: &BTreeMap<i64, u64>,
) -> Row {
    let mut errors: Errors = named(errors);
    // There was no room to count them by errno.
    let rest = counts.failed.saturating_sub(errors.values().sum());
    if rest > 0 {
        errors.insert("?".into(), rest);
    }
    Row {
        pid,
        name,
        call: syscall.name().into(),
        calls: counts.calls(),
        errors,
        injected: Errors::new(),
        duration_ns: durations(counts),
    }
}

fn durations(counts: &CallCounts) -> Option<Durations> {
    let timed = counts.timed();
    (timed > 0).then(|| Durations {
        min: counts.least(),
        avg: counts.total / timed,
        p50: counts.quantile(0.5),
        p99: counts.quantile(0.99),
        max: counts.most(),
    })
}

/// Contexts, those with most requests first.
pub fn contexts(counted: &Counted, name: Name<'_>) -> Vec<ContextRow> {
    let has_requests = counted.has_requests;
    let of = |((pid, handle), it): (&(u32, _), &ContextCounts)| {
        context((*pid, *handle), it, has_requests, name)
    };
    let mut rows: Vec<ContextRow> = counted.contexts.iter().map(of).collect();
    rows.sort_by_key(|it| (std::cmp::Reverse(it.requests), it.pid, it.ctx.0));
    rows
}

fn context(
    (pid, handle): (u32, crate::event::Handle),
    counts: &ContextCounts,
    has_requests: bool,
    name: Name<'_>,
) -> ContextRow {
    let none = CallCounts::default();
    let ops = counts.ops.iter().enumerate();
    let ops = ops.map(|(place, it)| (place, it, counts.latencies.get(&place).unwrap_or(&none)));
    let ops = ops.filter(|(_, it, latencies)| it.requests > 0 || latencies.timed() > 0);
    let ops = ops.map(|(place, it, latencies)| {
        let name = match place {
            OTHER_OP => "other".into(),
            UNREAD_OP => "unread".into(),
            _ => opcode_name(place as u16).map_or_else(|| place.to_string().into(), Cow::from),
        };
        let asked = (place < 2).then_some(it.asked);
        let (timed, latency_ns) = (latencies.timed(), durations(latencies));
        (name, OpRow { requests: it.requests, asked, timed, latency_ns })
    });
    ContextRow {
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

/// What requests resulted in, by process.
pub fn results(counted: &Counted, name: Name<'_>) -> Vec<ResultRow> {
    let rows = counted.results.iter().filter(|(_, errors)| !errors.is_empty());
    rows.map(|(pid, errors)| ResultRow { pid: *pid, name: name(*pid), errors: named(errors) })
        .collect()
}

/// The contexts as text.
pub fn write_contexts(out: &mut impl Write, rows: &[ContextRow]) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let has_requests = rows.iter().any(|it| it.ops.is_some());
    write!(out, "\n{:<20} {:<18} {:>10} {:>10}", "contexts", "handle", "requests", "reaped")?;
    if has_requests {
        write!(
            out,
            " {:>8} {:>6}  requests by operation (p50, p99, max until reaped)",
            "failed", "bytes"
        )?;
    }
    writeln!(out)?;
    for it in rows.iter().take(MOST) {
        let who = if it.pid == 0 { it.name.clone() } else { process(it.name.as_bytes(), it.pid) };
        let handle = format!("{:#x}", it.ctx.0);
        write!(out, "  {who:<18} {handle:<18} {:>10} {:>10}", it.requests, it.reaped)?;
        if let Some(ops) = &it.ops {
            let moved = it.bytes.map_or_else(|| "?".to_owned(), bytes);
            let ops: Vec<String> = ops.iter().map(|(op, it)| operation(op, it)).collect();
            let failed = it.failed.unwrap_or(0);
            write!(out, " {failed:>8} {moved:>6}  {}", ops.join(", "))?;
        }
        writeln!(out)?;
    }
    match rows.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => writeln!(out, "  ... and {more} more; --format json has them"),
    }
}

fn operation(name: &str, it: &OpRow) -> String {
    let requests = it.requests;
    it.latency_ns.map_or_else(
        || format!("{name} {requests}"),
        |it| {
            format!(
                "{name} {requests} ({} {} {})",
                duration(it.p50),
                duration(it.p99),
                duration(it.max)
            )
        },
    )
}

/// What requests resulted in, as text.
pub fn write_results(out: &mut impl Write, rows: &[ResultRow]) -> io::Result<()> {
    for it in rows {
        let errors = it.errors.iter().map(|(errno, count)| format!("{errno} {count}"));
        let errors: Vec<String> = errors.collect();
        let who = if it.pid == 0 { it.name.clone() } else { process(it.name.as_bytes(), it.pid) };
        writeln!(out, "  {who:<18} results of requests: {}", errors.join(", "))?;
    }
    Ok(())
}
