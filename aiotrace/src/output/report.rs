//! The report for people: the findings first, then what each context and process did.

use std::io::Write;

use super::{Ended, clock::Stamps, escape::escaped, paths::Paths, people::People, short};
use crate::{
    event::opcode_name,
    model::{
        ContextId, Done, FaultRow, Finding, Name, Report, Severity,
        latency::Percentiles,
        report::{Quiet, Row},
    },
    words::{self, number::thousands},
};
use aiotrace_model::trace::Reason;

/// Most findings, contexts and kinds of requests shown; JSON has more.
const MOST: usize = 10;
/// Most kinds of faults shown.
const MOST_FAULTS: usize = 32;

/// Writes a line to a Vec, which cannot fail.
macro_rules! line {
    ($out:expr, $($argument:tt)*) => {{
        let _ = writeln!($out, $($argument)*);
    }};
}

/// What the report needs besides its numbers.
pub(super) struct Style<'a> {
    /// Writes times.
    pub stamps: &'a Stamps,
    /// Puts a severity into its colour.
    pub paint: &'a dyn Fn(Severity, &str) -> String,
    /// Who made the context of a finding.
    pub made_by: &'a dyn Fn(&Finding) -> String,
    /// Who the processes are.
    pub people: &'a People,
}

/// Writes the report.
pub(super) fn write(
    out: &mut Vec<u8>,
    end: &Ended,
    report: &Report,
    style: &Style<'_>,
    paths: &mut Paths,
) {
    if end.reason == Reason::Asked {
        let after = duration(end.attached.as_nanos() as u64);
        line!(out, "=== report asked for after {after}; the trace goes on ===");
    }
    for it in short::lines(end, report, style.paint) {
        line!(out, "{it}");
    }
    findings(out, end, report, style);
    trends(out, report);
    faults(out, report);
    waits(out, report);
    quiet(out, report);
    if let Some(people) = style.people.in_words(MOST) {
        line!(out, "=== who: {people} ===");
    }
    contexts(out, report);
    requests(out, end, report, paths);
    counted(out, report);
    lost(out, end, report, style.paint);
}

const SECOND: u64 = 1_000_000_000;

/// The heading of columns with latencies.
const LATENCY: &str = "p50, p99, max: from io_submit until the completion was seen";

fn findings(out: &mut Vec<u8>, end: &Ended, report: &Report, style: &Style<'_>) {
    let too_early = too_early(end, report);
    if report.findings.is_empty() {
        return line!(out, "=== no findings{too_early} ===");
    }
    let of = |severity| report.findings.iter().filter(|it| it.severity == severity).count();
    let counts = [
        (of(Severity::Error), "error", "errors"),
        (of(Severity::Warning), "warning", "warnings"),
        (of(Severity::Info), "info", "info"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| {
            format!("{} {}", number(*count), if *count == 1 { one } else { many })
        })
        .collect();
    line!(out, "=== findings: {}{too_early} ===", counts.join(", "));
    for it in report.findings.iter().take(MOST) {
        let text = in_words(it, style.paint) + &(style.made_by)(it);
        line!(out, "  {:<18} {text}{}", process(&it.process, it.pid), times(it, style.stamps));
    }
    let more = report.findings.len().saturating_sub(MOST) as u64 + report.more_findings;
    if more > 0 {
        line!(out, "  ... and {} more; --format json has them", number(more));
    }
}

/// How often a finding was made, and when: ` (x 180, from 0.105 s to 1.004 s)`.
fn times(it: &Finding, stamps: &Stamps) -> String {
    // Both times would look the same.
    let is_at_once = it.last <= it.time.saturating_add(1_000_000);
    let count = thousands(it.count);
    match it.count {
        1 => String::new(),
        _ if is_at_once => format!(" (x {count})"),
        _ => {
            let [first, last] = [it.time, it.last].map(|it| stamps.in_words(it, 3));
            format!(" (x {count}, from {first} to {last})")
        }
    }
}

/// The findings for which the trace was too short: ` (watched 6.00s; context-growth and unreaped-completions need
/// 10.0s, request-stuck 30.0s)`.
fn too_early(end: &Ended, report: &Report) -> String {
    let (watched, needs) = (end.attached.as_nanos() as u64, report.thresholds);
    // A program that ended within a second has nothing that could take that long.
    if end.reason == Reason::TargetsGone && watched < SECOND {
        return String::new();
    }
    let mut all = vec![(needs.idle, Name::ContextGrowth)];
    if report.counted.is_none() {
        all.extend([
            (needs.unreaped, Name::UnreapedCompletions),
            (needs.stuck, Name::RequestStuck),
        ]);
    }
    all.retain(|(needs, _)| *needs > watched);
    all.sort_by_key(|it| it.0);
    let groups = all.chunk_by(|a, b| a.0 == b.0).enumerate().map(|(index, group)| {
        let names: Vec<&str> = group.iter().map(|it| it.1.text()).collect();
        let verb = match (index, group.len()) {
            (0, 1) => "needs ",
            (0, _) => "need ",
            _ => "",
        };
        format!("{} {verb}{}", names.join(" and "), duration(group[0].0))
    });
    let groups: Vec<String> = groups.collect();
    match groups.is_empty() {
        true => String::new(),
        false => format!(" (watched {}; {})", duration(watched), groups.join(", ")),
    }
}

/// Growing numbers of contexts that will be context-growth if they go on.
fn trends(out: &mut Vec<u8>, report: &Report) {
    for it in report.trends.iter().take(MOST) {
        line!(
            out,
            "=== not yet context-growth: {} made {} contexts within {}, ended none, and used none of the first {} \
             for {} ===",
            process(&it.process, it.pid),
            thousands(it.made),
            duration(it.within),
            thousands(it.unused),
            duration(it.unused_for)
        );
    }
}

/// Threads that wait in a call.
fn waits(out: &mut Vec<u8>, report: &Report) {
    if report.waits.is_empty() {
        return;
    }
    match report.is_timed_out {
        true => {
            line!(out, "=== threads that waited in a call when --timeout ended the program ===")
        }
        false => line!(out, "=== threads that wait in a call ==="),
    }
    for it in report.waits.iter().take(MOST) {
        let others = match it.threads {
            1 => String::new(),
            count => format!(" (and {} others)", number(count - 1)),
        };
        line!(
            out,
            "  {:<18} thread {}{others} {}",
            process(&it.process, it.pid),
            it.tid,
            it.message
        );
    }
    let more = report.waits.len().saturating_sub(MOST);
    if more > 0 {
        line!(out, "  ... and {} more; --format json has them", number(more));
    }
}

/// Processes that have made no AIO call for a while.
fn quiet(out: &mut Vec<u8>, report: &Report) {
    if report.quiet.is_empty() {
        return;
    }
    let of = |it: &Quiet| {
        let (who, age) = (process(&it.process, it.pid), duration(it.age));
        let bound = if it.is_at_most { "<=" } else { "" };
        let in_flight = match it.in_flight {
            None | Some(0) => String::new(),
            Some(1) => format!(" ({bound}1 request in flight)"),
            Some(count) => format!(" ({bound}{} requests in flight)", thousands(count)),
        };
        match it.last_call {
            Some(_) => format!("{who} {age} ago{in_flight}"),
            None => format!("{who} none since the attach {age} ago{in_flight}"),
        }
    };
    let mut all: Vec<String> = report.quiet.iter().take(MOST).map(of).collect();
    let more = report.quiet.len().saturating_sub(MOST);
    if more > 0 {
        all.push(format!("{} more processes", number(more)));
    }
    line!(out, "=== last AIO call: {} ===", all.join(", "));
}

/// A finding in words: `error context-leak: ...`.
pub(super) fn in_words(it: &Finding, paint: &dyn Fn(Severity, &str) -> String) -> String {
    let severity = paint(it.severity, it.severity.text());
    let unsure = it.doubt.map_or_else(String::new, |it| format!(" (unsure: {})", it.text()));
    // The number of the context tells equal findings about several contexts apart.
    let message = it.message();
    let is_named = message.contains("context") || it.request.is_some();
    let context = it.context.filter(|it| it.id != ContextId::UNKNOWN && !is_named);
    let context = context.map_or_else(String::new, |it| format!(" (context {})", it.id));
    format!("{severity} {}{unsure}: {message}{context}", it.name.text())
}

/// What the programs made of the faults.
fn faults(out: &mut Vec<u8>, report: &Report) {
    if report.faults.is_empty() && report.rules.is_empty() {
        return;
    }
    let of = |count: fn(&FaultRow) -> u64| report.faults.iter().map(count).sum::<u64>();
    let counts = [
        (of(|it| it.made), "made"),
        (of(|it| it.delayed), "delayed"),
        (of(|it| it.dry_run), "not made (dry run)"),
        (of(|it| it.missed), "could not be made"),
    ];
    let counts = counts.iter().filter(|it| it.0 > 0);
    let counts: Vec<String> =
        counts.map(|(count, what)| format!("{} {what}", thousands(*count))).collect();
    let counts = if counts.is_empty() { "none made".to_owned() } else { counts.join(", ") };
    line!(out, "=== faults: {counts} ===");
    for it in report.faults.iter().take(MOST_FAULTS) {
        line!(out, "  rule {:<3} {}", it.rule, it.in_words());
    }
    let more = report.faults.len().saturating_sub(MOST_FAULTS);
    if more > 0 {
        line!(out, "  ... and {} more; --format json has them", number(more));
    }
    for it in &report.rules {
        line!(out, "  rule {:<3} {}", it.rule, escaped(it.in_words().as_bytes()));
    }
}

fn contexts(out: &mut Vec<u8>, report: &Report) {
    if report.contexts.is_empty() {
        return;
    }
    let [count, alive] = [report.sums.contexts, report.sums.alive].map(thousands);
    line!(out, "=== contexts: {count}, {alive} of them alive; {LATENCY} ===");
    line!(
        out,
        "  {:<4} {:<23} {:>6} {:>6} {:>5} {:>8} {:>8} {:>5} {:>8} {:>8} {:>8} {:>9}",
        "id",
        "process",
        "asked",
        "life",
        "peak",
        "unreaped",
        "requests",
        "bytes",
        "p50",
        "p99",
        "max",
        "end"
    );
    for it in report.contexts.iter().take(MOST) {
        row(out, &it.context.id.to_string(), it);
    }
    if let Some(rest) = rest(report) {
        row(out, &format!("+{}", thousands(rest.contexts)), &rest);
    }
}

/// All contexts that are not shown one by one, as one row.
fn rest(report: &Report) -> Option<Row> {
    let hidden = report.contexts.iter().skip(MOST).chain(&report.others);
    hidden.cloned().reduce(|mut sum, it| {
        sum.add(&it);
        (sum.complete, sum.end) = (None, sum.end.filter(|end| it.end == Some(*end)));
        sum
    })
}

fn row(out: &mut Vec<u8>, id: &str, it: &Row) {
    let asked = it.asked.map_or_else(|| "?".to_owned(), thousands);
    let process = process(&it.process, it.pid);
    let [p50, p99, max] = durations(it.complete);
    let adopted = if it.adopted { " adopted" } else { "" };
    let unsure = it.doubt.map_or_else(String::new, |it| format!(" unsure: {}", it.text()));
    let unknown = match it.unknown {
        0 => String::new(),
        some => format!(", {} completed with unknown result", thousands(some)),
    };
    let made_to_fail = made_to_fail(it.done);
    let peak = format!("{}{}", it.peak.bound().sign(), thousands(it.peak.number()));
    let end = it.end_text().unwrap_or("alive");
    line!(
        out,
        "  {id:<4} {process:<23} {asked:>6} {:>6} {:>5} {:>8} {:>8} {:>5} {p50:>8} {p99:>8} {max:>8} \
         {end:>9}{adopted}{unsure}{unknown}{made_to_fail}",
        duration(it.lifetime),
        peak,
        it.unreaped.map_or_else(|| "?".to_owned(), thousands),
        thousands(it.done.requests),
        bytes(it.done.bytes)
    );
}

fn requests(out: &mut Vec<u8>, ended: &Ended, report: &Report, paths: &mut Paths) {
    if report.kinds.is_empty() {
        return;
    }
    line!(out, "=== requests by descriptor; {LATENCY} ===");
    line!(
        out,
        "  {:<23} {:>6} {:<8} {:>8} {:>5} {:>6} {:>7} {:>8} {:>8} {:>8}",
        "process",
        "fd",
        "op",
        "requests",
        "bytes",
        "failed",
        "refused",
        "p50",
        "p99",
        "max"
    );
    for it in report.kinds.iter().take(MOST) {
        let [p50, p99, max] = durations(it.complete);
        let path = paths.now(it.pid, it.fd, ended.time);
        let path = path.map_or_else(String::new, |it| format!(" now {}", escaped(it)));
        let made_to_fail = made_to_fail(it.done);
        line!(
            out,
            "  {:<23} {:>6} {:<8} {:>8} {:>5} {:>6} {:>7} {p50:>8} {p99:>8} {max:>8}{path}{made_to_fail}",
            process(&it.process, it.pid),
            it.fd as i32,
            opcode_name(it.opcode).unwrap_or("?"),
            thousands(it.done.requests),
            bytes(it.done.bytes),
            thousands(it.done.failed),
            thousands(it.refused)
        );
    }
    let more = report.kinds.len().saturating_sub(MOST);
    if more > 0 {
        line!(out, "  ({} more; --format json has all)", thousands(more as u64));
    }
}

/// Requests that a fault made fail: no other number counts them as such.
fn made_to_fail(done: Done) -> String {
    match done.made_to_fail {
        0 => String::new(),
        some => format!(" ({} made to fail by faults)", thousands(some)),
    }
}

/// Says that calls were only counted, or which part of them was shown, and so what cannot be known.
fn counted(out: &mut Vec<u8>, report: &Report) {
    let Some(counts) = &report.counted else { return };
    match counts.shown {
        None => line!(
            out,
            "=== counted in the kernel: findings about requests need every call (-q without -c) ==="
        ),
        Some(shown) => line!(
            out,
            "=== {} of {} calls shown; findings about requests need every call ===",
            thousands(shown),
            thousands(counts.counted.total())
        ),
    }
}

fn lost(out: &mut Vec<u8>, end: &Ended, report: &Report, paint: &dyn Fn(Severity, &str) -> String) {
    let total = end.losses.total() - end.losses.unanswered;
    if total > 0 {
        let text = format!("{} lost: what rests on it is unsure", thousands(total));
        line!(out, "=== {} ===", paint(Severity::Error, &text));
    }
    if end.losses.unanswered > 0 {
        let text = format!(
            "{} looks at processes had no answer: what they would have shown is unknown",
            thousands(end.losses.unanswered)
        );
        line!(out, "=== {} ===", paint(Severity::Warning, &text));
    }
    for it in &report.disagreements {
        let text = format!("numbers do not agree, this report is unsure: {}", it.in_words());
        line!(out, "=== {} ===", paint(Severity::Error, &text));
    }
    if report.evicted > 0 {
        let text =
            format!("{} contexts or requests were too many to follow", thousands(report.evicted));
        line!(out, "=== {} ===", paint(Severity::Error, &text));
    }
}

/// How many there are of something.
fn number(count: impl TryInto<u64>) -> String {
    thousands(count.try_into().unwrap_or(u64::MAX))
}

/// A process as `fio:4711`.
pub(super) fn process(name: &[u8], pid: u32) -> String {
    format!("{}:{pid}", escaped(name))
}

fn durations(it: Option<Percentiles>) -> [String; 3] {
    it.map_or_else(
        || ["-", "-", "-"].map(str::to_owned),
        |it| [it.p50, it.p99, it.max].map(|nanos| at_most(it.at_most) + &duration(nanos)),
    )
}

/// The sign in front of an upper bound.
fn at_most(is_bound: bool) -> String {
    if is_bound { "<=".to_owned() } else { String::new() }
}

pub(super) fn duration(nanos: u64) -> String {
    let mut text = Vec::new();
    words::duration(&mut text, nanos);
    String::from_utf8_lossy(&text).into_owned()
}

/// A number of bytes in binary units, as `ls -h` has it: `1.5M`.
pub(super) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["", "K", "M", "G", "T"] {
        if value < 1024.0 {
            let digits = if value < 10.0 && !unit.is_empty() { 1 } else { 0 };
            return format!("{value:.digits$}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0}P")
}
