//! What each workload does, as a text: every call of every thread in order, every completion, every end of a context,
//! and the findings. events.txt has the expected text, which is the same for every source and probe set: it was
//! compared with strace (oracle.rs compares the calls of the same workloads with strace's) and read.
//!
//! `AIOTRACE_WRITE_EVENTS=FILE` writes the texts of the tests that run to a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
};

use aiotrace::output::json::Line;

use super::{
    findings,
    harness::cannot_run,
    machine, session,
    support::{Trace, run_program},
};

const EXPECTED: &str = include_str!("events.txt");

/// Makes a test for each workload; if a finding is named, the workload goes on until it is found.
macro_rules! workloads {
    ($([all if $need:expr])? $($test:ident: $program:literal $(until $finding:literal)?,)*) => {
        $(fn $test() {
            $crate::events::check($program, [$($finding)?].first().copied());
        })*

        workloads!(@tests [$($need)?] $($test)*);
    };
    (@tests [] $($test:ident)*) => {
        tests![$($test),*];
    };
    (@tests [$need:expr] $($test:ident)*) => {
        tests![$($test if $need),*];
    };
}
pub(crate) use workloads;

workloads! {
    submit_1: "submit 1",
    submit_65: "submit 65",
    submit_1000: "submit 1000",
    errnos: "errnos",
    libaio: "libaio",
    unreadable: "unreadable",
    late: "late",
    reap_ring: "reap-ring 300",
    reuse: "reuse 200",
    threads: "threads 8",
    fork: "fork 20",
    exec: "exec",
    seccomp: "seccomp",
    compat: "compat",
    completions: "completions",
    short: "short",
    destroy_in_flight: "destroy-in-flight",
    exit_in_flight: "exit-in-flight",
    exec_in_flight: "exec-in-flight",
    unmap_ring: "unmap-ring",
    move_ring: "move-ring",
    forked_handle: "forked-handle",
    vfork: "vfork",
    callers: "callers",
    program_of_32_bits: "32-bit",
}

pub fn check(program: &str, finding: Option<&str>) {
    if program == "compat" && !machine::HAS_32_BIT_ENTRY {
        return cannot_run("64-bit programs have no 32-bit entry here");
    }
    if program.starts_with("threads") && machine::may_skip() && !machine::runs_everything() {
        return cannot_run(
            "with --everywhere: the kernel skips runs of these probes here, as a rule",
        );
    }
    // The loss of a run that the kernel skipped may be reported only after the program is over.
    let attempts = match machine::skips_runs() {
        true if machine::runs_everything() => 4,
        true => 3,
        false => 1,
    };
    let expected = expected(program);
    let mut seen = String::new();
    for _ in 0..attempts {
        let trace = trace(program, finding);
        seen = facts(program, &trace);
        if let Some(file) = std::env::var_os("AIOTRACE_WRITE_EVENTS") {
            let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
            write!(file, "## {program}\n{seen}\n").unwrap();
            return;
        }
        // If the kernel skipped probes and said so, the text may lack something, but no finding may be false.
        let is_cut = trace.skipped() > 0 && machine::may_skip();
        let mut found = seen.lines().filter(|it| it.starts_with("found "));
        if seen == expected || is_cut && found.all(|it| expected.lines().any(|known| known == it)) {
            return;
        }
    }
    panic!("{program}: expected\n{expected}seen\n{seen}");
}

fn trace(program: &str, finding: Option<&str>) -> Trace {
    let words: Vec<&str> = program.split(' ').collect();
    let Some(finding) = finding else { return run_program(&words) };
    let trace = session::run_until_found(&findings::SOON, &words, finding);
    assert!(trace.status.success(), "{program}: {}; {}", trace.status, trace.stderr);
    trace.assert_nothing_lost();
    trace
}

/// The section of the program in [`EXPECTED`].
fn expected(program: &str) -> String {
    let sections = EXPECTED.split("## ").skip(1);
    let mut of_it = sections.filter_map(|it| it.split_once('\n'));
    let lacks_times = machine::guest().is_some_and(|it| !it.has_32_bit_times);
    let program = if program == "32-bit" && lacks_times { "32-bit without times" } else { program };
    let found = of_it.find(|(name, _)| *name == program);
    let text = found.unwrap_or_else(|| panic!("events.txt does not have {program}")).1;
    // Some lines are there only where the probes are inside of the kernel, or where synchronous calls are watched.
    let conditions = [
        ("if seen inside: ", machine::sees_inside()),
        ("if watched: ", machine::watches()),
        ("if not watched: ", !machine::watches()),
    ];
    let lines = text.lines().filter(|it| !it.is_empty()).map(|it| {
        let named =
            conditions.iter().find_map(|(text, holds)| Some((it.strip_prefix(text)?, *holds)));
        named.map_or(Some(it), |(rest, holds)| holds.then_some(rest))
    });
    let text = lines.flatten().fold(String::new(), |text, line| text + line + "\n");
    if machine::skips_runs() { text.replace(", unsure", "") } else { text }
}

/// Not countable are threads whose calls differ in order or number from run to run: the entries of a ring depend on
/// the number of processors, threads compete, and some go on until something is found.
fn is_countable(program: &str) -> bool {
    let not =
        ["bad-context-growth", "bad-submit-eagain", "alarm-moved", "alarm-refused-below-capacity"];
    !not.contains(&program)
}

fn is_ordered(program: &str) -> bool {
    !program.starts_with("reuse") && program != "errnos" && is_countable(program)
}

/// The threads of these programs look at one ring. Without a probe inside of the kernel it depends on which thread
/// looks first whether a completion is known to have come inside of an io_submit.
fn shares_a_ring(program: &str) -> bool {
    ["reuse", "threads"].iter().any(|it| program.starts_with(it))
}

/// The text of what the trace says about the program.
fn facts(program: &str, trace: &Trace) -> String {
    let mut threads: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut of = |what: String| *counts.entry(what).or_default() += 1;
    // A completion in a context that has ended is discarded, and only some sources see it. While an io_destroy waits,
    // another io_setup may get the same handle: then one context is alive after the first of the two has ended.
    let mut there: BTreeMap<(u32, u64), u64> = BTreeMap::new();
    let mut ended: BTreeSet<(u32, u64)> = BTreeSet::new();
    for line in &trace.lines {
        match line {
            Line::Setup(it) => {
                let context = (it.pid, it.handle.map_or(0, |it| it.0));
                *there.entry(context).or_default() += 1;
                ended.remove(&context);
            }
            Line::ContextGone(it) => {
                let context = (it.pid, it.ctx.0);
                let left = there.get(&context).map_or(0, |it| it.saturating_sub(1));
                there.insert(context, left);
                if left == 0 {
                    ended.insert(context);
                }
            }
            Line::Completion(it) if ended.contains(&(it.pid, it.ctx.0)) => continue,
            _ => (),
        }
        if let Some((tid, call)) = call(line) {
            threads.entry(tid).or_default().push(call);
            continue;
        }
        match line {
            Line::Completion(it) => {
                of(format!("completion {}", it.res.map_or_else(|| "unread".to_owned(), result)));
            }
            Line::ContextGone(it) => {
                let in_flight = match it.in_flight {
                    // The number depends on how many fit into the ring.
                    Some(50..) => "many".to_owned(),
                    other => other.map_or_else(|| "?".to_owned(), |it| it.to_string()),
                };
                of(format!("context ends by {} with {in_flight} in flight", it.how));
            }
            Line::Refused(it) => {
                // The index depends on how many fit into the ring.
                let index = if it.index < 50 { it.index.to_string() } else { "many".to_owned() };
                of(format!("refused [{index}] {}", it.errno.as_deref().unwrap_or("?")));
            }
            Line::ContextMoved(_) => of("context moved".to_owned()),
            Line::Process(it) => of(format!("process {}", it.change)),
            Line::Finding(it)
                if it.name == "inline-completion"
                    && (!is_countable(program) || shares_a_ring(program)) => {}
            // Where a processor is emulated, calls really take long.
            Line::Finding(it) if it.name == "blocking-submit" => (),
            Line::Finding(it) => {
                // After a run that the kernel skipped for one program, findings about the next ones may be unsure,
                // too.
                let is_unsure = it.unsure && !machine::skips_runs();
                let unsure = if is_unsure { ", unsure" } else { "" };
                of(format!("found {} {}{unsure}", it.severity, it.name));
            }
            _ => (),
        }
    }
    let mut text = String::new();
    if is_ordered(program) {
        let mut stories: BTreeMap<String, u64> = BTreeMap::new();
        for calls in threads.into_values() {
            *stories.entry(story(&calls)).or_default() += 1;
        }
        for (story, count) in stories {
            let head = if count == 1 { "thread".to_owned() } else { format!("{count} threads") };
            writeln!(text, "{head}: {story}").unwrap();
        }
    } else if is_countable(program) {
        let mut calls: BTreeMap<String, u64> = BTreeMap::new();
        for call in threads.into_values().flatten() {
            *calls
                .entry(call.split(['[', '(']).next().unwrap_or_default().to_owned())
                .or_default() += 1;
        }
        calls.iter().for_each(|(call, count)| writeln!(text, "{call} x {count}").unwrap());
    }
    let keeps = |what: &str| is_countable(program) || what.starts_with("found");
    for (what, count) in counts.iter().filter(|it| keeps(it.0)) {
        let times = if *count == 1 { String::new() } else { format!(" x {count}") };
        writeln!(text, "{what}{times}").unwrap();
    }
    text
}

/// The calls in a row; calls that repeat are written once.
fn story(calls: &[String]) -> String {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < calls.len() {
        let repeats = |length: usize| {
            let first = &calls[at..(at + length).min(calls.len())];
            calls[at..].chunks(length).take_while(|it| *it == first).count()
        };
        let best = (1..=3).filter(|it| repeats(*it) > 1).max_by_key(|it| it * repeats(*it));
        let (length, times) = best.map_or((1, 1), |it| (it, repeats(it)));
        let part = calls[at..at + length].join(" ");
        parts.push(if times == 1 { part } else { format!("{times} x {{ {part} }}") });
        at += length * times;
    }
    parts.join(" ")
}

/// A call as one word: `io_submit[pread x 65]=65`.
fn call(line: &Line) -> Option<(u32, String)> {
    let list = |items: Vec<String>, truncated: u64| {
        let mut parts: Vec<(String, usize)> = Vec::new();
        for item in items {
            match parts.last_mut().filter(|it| it.0 == item) {
                Some(last) => last.1 += 1,
                None => parts.push((item, 1)),
            }
        }
        let parts = parts.into_iter().map(|(item, count)| match count {
            1 => item,
            _ => format!("{item} x {count}"),
        });
        let more = (truncated > 0).then(|| format!("{truncated} more"));
        parts.chain(more).collect::<Vec<_>>().join(", ")
    };
    let word = |name: &str, entry: &str, inside: String, ret: i64| {
        let entry = if entry == "seen" { String::new() } else { format!("({entry})") };
        let inside = if inside.is_empty() { inside } else { format!("[{inside}]") };
        format!("{name}{entry}{inside}={}", result(ret))
    };
    Some(match line {
        Line::Setup(it) => {
            (it.tid, word("io_setup", &it.entry, it.args.nr_events.to_string(), it.ret))
        }
        Line::Destroy(it) => (it.tid, word("io_destroy", &it.entry, String::new(), it.ret)),
        Line::Cancel(it) => (it.tid, word("io_cancel", &it.entry, String::new(), it.ret)),
        Line::Submit(it) => {
            let iocb = |it: &Option<aiotrace::output::json::IocbObject>| {
                let op = it.as_ref().map(|it| it.op.as_deref().unwrap_or("unread").to_owned());
                op.unwrap_or_else(|| "lost".to_owned())
            };
            let iocbs = list(it.iocbs.iter().map(iocb).collect(), it.truncated);
            (it.tid, word("io_submit", &it.entry, iocbs, it.ret))
        }
        Line::Getevents(it) => {
            let event = |it: &Option<aiotrace::output::json::EventObject>| {
                it.as_ref().map_or_else(|| "lost".to_owned(), |it| result(it.res))
            };
            let events = list(it.events.iter().map(event).collect(), it.truncated);
            (it.tid, word(&it.event, &it.entry, events, it.ret))
        }
        _ => return None,
    })
}

/// A number, or the name of an errno.
fn result(ret: i64) -> String {
    aiotrace::event::errno_name(ret).map_or_else(|| ret.to_string(), str::to_owned)
}
