//! The first lines of the report, in words: what is wrong, and whether this is a good use of AIO.
//! They fit on a screen of 80 columns.

use std::collections::BTreeMap;

use super::{
    Ended,
    report::{bytes, duration, process},
};
use crate::{
    event::errno_name,
    model::{Bound, Outcome, Report, Severity, latency::Percentiles, usage::Usage},
    words::number::thousands,
};
use aiotrace_model::trace::Reason;

/// Most processes told of.
const MOST: usize = 2;
/// Most kinds of errors told of.
const MOST_ERRORS: usize = 4;

/// The lines.
pub(super) fn lines(
    end: &Ended,
    report: &Report,
    paint: &dyn Fn(Severity, &str) -> String,
) -> Vec<String> {
    let mut lines = vec![wrong(end, report, paint)];
    for it in report.usages.iter().filter(|it| it.requests + it.calls.submits > 0).take(MOST) {
        lines.extend(usage(end, it));
    }
    let more = report
        .usages
        .iter()
        .filter(|it| it.requests + it.calls.submits > 0)
        .count()
        .saturating_sub(MOST);
    if more > 0 {
        lines.push(format!("({} more processes in the tables below)", thousands(more as u64)));
    }
    lines
}

/// What is wrong, or that nothing was found.
fn wrong(end: &Ended, report: &Report, paint: &dyn Fn(Severity, &str) -> String) -> String {
    let watched = duration(end.attached.as_nanos() as u64);
    let lost = end.losses.of_anybody() > 0 || !report.disagreements.is_empty();
    let but = if lost { ", but not everything was seen" } else { "" };
    let faults = after_faults(report);
    let count = |severity| report.findings.iter().filter(|it| it.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let some = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{} {what}s", thousands(count as u64))),
    };
    let counts: Vec<String> =
        [some(errors, "error"), some(warnings, "warning")].into_iter().flatten().collect();
    let Some(worst) = report.findings.first().filter(|it| it.severity > Severity::Info) else {
        // What is worth a look, or was made of faults, is for the reader to judge.
        let info = match report.findings.as_slice() {
            [] => String::new(),
            [one] => format!("; info: {}", one.name.text()),
            [first, rest @ ..] => format!("; info: {} and {} more", first.name.text(), rest.len()),
        };
        let is_plain = info.is_empty() && faults.is_empty();
        let nothing = if is_plain { "nothing wrong was found" } else { "no error or warning" };
        let so_far = match end.reason {
            _ if report.counted.as_ref().is_some_and(|it| it.counted.has_errors()) => {
                format!("calls or requests failed, see below; counts do not tell why{info}")
            }
            _ if report.counted.is_some() => format!("{nothing}, as far as counts tell{info}"),
            Reason::TargetsGone => format!("{nothing}, up to the end of the program{info}"),
            _ => format!("{nothing} in {watched}{info}"),
        };
        let what = if end.events == 0 { no_call(report, &watched) } else { so_far };
        // What grows is no finding yet.
        let not_yet = if report.trends.is_empty() { "" } else { "; perhaps soon: context-growth" };
        return match faults.strip_prefix("; ") {
            Some(faults) => format!("=== {faults}; {what}{but}{not_yet} ==="),
            None => format!("=== {what}{but}{not_yet} ==="),
        };
    };
    let name = paint(worst.severity, worst.name.text());
    let unsure = if worst.doubt.is_some() { " (unsure)" } else { "" };
    let counts = counts.join(" and ");
    format!("=== wrong: {counts}{but}; the worst is {name}{unsure}{faults} ===")
}

/// That there was no AIO call, and who lives and could have made one.
fn no_call(report: &Report, watched: &str) -> String {
    let mut contexts: BTreeMap<(u32, &[u8]), u64> = BTreeMap::new();
    for row in report.contexts.iter().filter(|it| it.end.is_none()) {
        *contexts.entry((row.pid, &row.process)).or_default() += row.contexts;
    }
    let mut live: Vec<String> = contexts
        .iter()
        .take(MOST)
        .map(|((pid, name), count)| match count {
            1 => format!("{} lives and has 1 context", process(name, *pid)),
            _ => format!("{} lives and has {} contexts", process(name, *pid), thousands(*count)),
        })
        .collect();
    if contexts.len() > MOST {
        live.push(format!("so do {} more", thousands((contexts.len() - MOST) as u64)));
    }
    let live = if live.is_empty() { String::new() } else { format!(": {}", live.join(", ")) };
    format!("no AIO call in {watched}{live}")
}

/// What programs made of faults, but for retries: `; after faults: 1 lost`.
fn after_faults(report: &Report) -> String {
    let of = |outcome: Outcome| -> u64 {
        let all = report.faults.iter().flat_map(|it| &it.outcomes);
        all.filter(|it| it.0 == outcome).map(|it| it.1).sum()
    };
    let bad = [
        Outcome::Lost,
        Outcome::Leaked,
        Outcome::Hung,
        Outcome::Died,
        Outcome::Reported,
        Outcome::Exited,
        Outcome::GaveUp,
        Outcome::Unsure,
    ];
    let bad = bad.into_iter().map(|it| (of(it), it.text())).filter(|it| it.0 > 0);
    let bad: Vec<String> =
        bad.map(|(count, name)| format!("{} {name}", thousands(count))).collect();
    if bad.is_empty() { String::new() } else { format!("; after faults: {}", bad.join(", ")) }
}

/// How a process uses AIO.
fn usage(end: &Ended, it: &Usage) -> Vec<String> {
    let who = process(&it.process, it.pid);
    let completed = match (it.requests, it.is_at_least) {
        (0, true) => "no request was seen to complete".to_owned(),
        (1, false) => "1 request completed".to_owned(),
        (count, false) => format!("{} requests completed", thousands(count)),
        (count, true) => format!("at least {} requests completed", thousands(count)),
    };
    let (moved, time) = (bytes(it.bytes), duration(end.attached.as_nanos() as u64));
    let mut lines = vec![format!("{who}: {completed}, {moved}B moved, in {time} of trace")];
    let bound = match it.peak.bound() {
        Bound::Exact => "",
        Bound::AtMost => "at most ",
        Bound::AtLeast => "at least ",
    };
    let asked = it.asked.map_or_else(|| "unknown".to_owned(), thousands);
    let contexts = match it.contexts {
        1 => "1 context".to_owned(),
        count => format!("{} contexts", thousands(count)),
    };
    let reached = thousands(it.peak.number());
    lines.push(format!(
        "  depth    {contexts}, asked for {asked}, reached {bound}{reached} in flight"
    ));
    lines.push(format!("  inline   {}", inline(it)));
    lines.push(format!("  calls    {}", calls(it)));
    // The moment of a completion was not seen: each of both has all the time in which it may have been.
    let is_shared = it.complete.is_some_and(|it| it.at_most) && it.reap.is_some();
    let shared = if is_shared { "; with <= both may have the same time" } else { "" };
    let time = |it: Option<Percentiles>| match it {
        None => "unknown".to_owned(),
        Some(it) => {
            let sign = if it.at_most { "<=" } else { "" };
            format!("p50 {sign}{} p99 {sign}{}", duration(it.p50), duration(it.p99))
        }
    };
    lines.push(format!("  submit   {}: how long io_submit took", time(it.submit)));
    lines.push(format!("  device   {}: from io_submit to the completion", time(it.complete)));
    lines.push(format!(
        "  reap     {}: from the completion until it was reaped{shared}",
        time(it.reap)
    ));
    lines.push(format!("  errors   {}", errors(it)));
    lines
}

/// Whether its files are asynchronous.
fn inline(it: &Usage) -> String {
    let share = match it.inline {
        (0, _) => "unknown".to_owned(),
        (all, some) => {
            let percent = some as f64 * 100.0 / all as f64;
            format!("{percent:.0} % were done before io_submit returned")
        }
    };
    let [direct, buffered, unknown] = it.files;
    let kinds = [
        (direct, "with O_DIRECT"),
        (buffered, "without O_DIRECT"),
        (unknown, "of which O_DIRECT is unknown"),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|it| it.0 > 0)
        .map(|(count, what)| match count {
            1 => format!("1 descriptor {what}"),
            count => format!("{} descriptors {what}", thousands(*count)),
        })
        .collect();
    if kinds.is_empty() { share } else { format!("{share}; {}", kinds.join(", ")) }
}

fn calls(it: &Usage) -> String {
    if it.requests == 0 {
        let [submits, getevents] = [it.calls.submits, it.calls.getevents].map(thousands);
        return format!("{submits} io_submit and {getevents} io_getevents; no request completed");
    }
    let each = |calls: u64| calls as f64 / it.requests as f64;
    format!(
        "{:.2} io_submit and {:.2} io_getevents for each request",
        each(it.calls.submits),
        each(it.calls.getevents)
    )
}

fn errors(it: &Usage) -> String {
    let own = failures(&it.calls.errors, it.failed, "with an error as result");
    let injected = failures(&it.calls.injected, it.made_to_fail, "made to fail");
    match (own.is_empty(), injected.is_empty()) {
        (true, true) => "none".to_owned(),
        (true, false) => format!("none but those of faults: {injected}"),
        (false, true) => own,
        (false, false) => format!("{own}; and by faults: {injected}"),
    }
}

/// Calls that failed, the most frequent first, and requests that did.
fn failures(errors: &BTreeMap<(&'static str, i64), u64>, requests: u64, what: &str) -> String {
    let mut all: Vec<(u64, String)> = errors
        .iter()
        .map(|((call, ret), count)| {
            let name = errno_name(*ret).map_or_else(|| ret.to_string(), str::to_owned);
            (*count, format!("{call} {name} x {}", thousands(*count)))
        })
        .collect();
    all.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    let more = all.len().saturating_sub(MOST_ERRORS);
    let mut texts: Vec<String> = all.into_iter().take(MOST_ERRORS).map(|it| it.1).collect();
    if more > 0 {
        texts.push(format!("{more} more kinds"));
    }
    match requests {
        0 => (),
        1 => texts.push(format!("1 request {what}")),
        some => texts.push(format!("{} requests {what}", thousands(some))),
    }
    texts.join(", ")
}
