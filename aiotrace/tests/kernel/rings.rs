//! Rings of any size are followed exactly: the report says what the program counted by itself. A probe can read the
//! first 64 KiB of a ring, which are 2,047 entries, and the rest after somebody has touched its pages.

use aiotrace::output::json::Line;

use super::{
    harness::Need,
    machine,
    support::{Attached, Program, Trace, aiotrace, run_program_with},
};

/// Traces `batches` with these arguments: all its requests are shown, none of them counts as in flight at the end,
/// and only the first ones may be shown late.
fn assert_exact(options: &[&str], asked: u64, requests: u64, batch: u64, how: &str) {
    let arguments = [asked, requests, batch].map(|it| it.to_string());
    let [asked, _, _] = arguments.each_ref();
    let program = ["batches", asked, &arguments[1], &arguments[2], how];
    let trace = run_program_with(options, &program);
    assert_row(&trace, requests, batch, &program);
}

fn assert_row(trace: &Trace, requests: u64, peak: u64, what: &[&str]) {
    let report = trace.report();
    let [row] = &report.contexts[..] else { panic!("{what:?}: one context") };
    let counts = (row.requests, row.in_flight, row.unknown, row.unreaped, row.failed);
    assert_eq!(counts, (requests, 0, 0, Some(0), 0), "{what:?}");
    assert_eq!((row.peak_in_flight, row.bytes % 8, row.sure), (peak, 0, true), "{what:?}");
    assert_sums_agree(trace, requests, what);
    let completions = trace.completions().len() as u64;
    // An entry may be overwritten before its page is touched: then only io_getevents shows it.
    let is_told = completions == requests || completions < requests && !what.contains(&"ring");
    assert!(is_told, "{what:?}: {completions} completions: each is told once");
    let found: Vec<&str> = report.findings.iter().map(|it| &*it.name).collect();
    let allowed = |it: &&str| matches!(*it, "inline-completion" | "blocking-submit");
    assert!(found.iter().all(allowed), "{what:?}: {found:?}");
}

/// All sums agree for this many requests, whichever way they are counted.
fn assert_sums_agree(trace: &Trace, requests: u64, what: &[&str]) {
    let report = trace.report();
    assert!(report.disagreements.is_empty(), "{what:?}: {:?}", report.disagreements);
    let sums = &report.sums;
    assert_eq!((sums.contexts, sums.alive, sums.ended), (1, 0, 1), "{what:?}");
    let ends = (sums.submitted, sums.accepted, sums.completed, sums.reaped);
    assert_eq!(ends, (requests, requests, requests, requests), "{what:?}");
    let rest = (sums.refused, sums.before, sums.unknown, sums.discarded, sums.discarded_unreaped);
    assert_eq!(rest, (0, 0, 0, 0, 0), "{what:?}");
}

/// fs.aio-max-nr, which is raised while this value lives.
struct Limit(String);

impl Limit {
    const FILE: &str = "/proc/sys/fs/aio-max-nr";

    fn at_least(wanted: u64) -> Self {
        let before = std::fs::read_to_string(Self::FILE).unwrap().trim().to_owned();
        let most = wanted.max(before.parse().unwrap());
        std::fs::write(Self::FILE, most.to_string()).unwrap();
        Self(before)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::FILE, &self.0);
    }
}

/// What io_setup is asked for, the number of requests, and how many of them are submitted at a time.
const SIZES: [(u64, u64, u64); 6] = [
    (128, 3_000, 100),
    // The smallest ring that does not fit into 64 KiB.
    (1023, 6_000, 1),
    (1024, 20_000, 1000),
    (2048, 6_000, 1),
    (8000, 40_000, 4000),
    (70_000, 20_000, 4096),
];

/// All sizes if there is time, else every other one.
fn sizes(first: usize) -> impl Iterator<Item = (u64, u64, u64)> {
    let (first, step) = if machine::runs_everything() { (0, 1) } else { (first, 2) };
    SIZES.into_iter().skip(first).step_by(step)
}

fn large_rings_reaped_with_io_getevents_are_followed_exactly() {
    let _limit = Limit::at_least(200_000);
    for (asked, requests, batch) in sizes(1) {
        assert_exact(&[], asked, requests, batch, "getevents");
    }
}

fn large_rings_reaped_by_the_program_itself_are_followed_exactly() {
    let _limit = Limit::at_least(200_000);
    for (asked, requests, batch) in sizes(0) {
        assert_exact(&[], asked, requests, batch, "ring");
    }
}

fn large_rings_are_followed_exactly_by_ptrace() {
    let _limit = Limit::at_least(200_000);
    for how in ["getevents", "ring"] {
        for (asked, requests, batch) in [(1024, 4_000, 1000), (70_000, 12_288, 4096)] {
            assert_exact(&["--source", "ptrace"], asked, requests, batch, how);
        }
    }
}

fn a_program_with_a_large_ring_is_healthy() {
    for how in ["", "ring"] {
        let program = ["big-ring", "2048", "6000", how];
        let trace = run_program_with(&["--fail-on", "warning"], &program);
        assert_row(&trace, 6000, 1, &program);
    }
}

fn a_large_ring_that_was_there_before_is_read_from_the_first_event_on() {
    let mut program = Program::start(&["large-ring-waits", "2048", "3000"]);
    assert_eq!(program.line(), "ready");
    let attached = Attached::to(program.pid());
    program.go_on();
    let trace = attached.end();
    trace.assert_nothing_lost();
    let [row] = &trace.report().contexts[..] else { panic!("one context") };
    assert_eq!((row.requests, row.peak_in_flight, row.unknown), (3000, 1, 0));
    let sums = &trace.report().sums;
    assert_eq!((sums.before, sums.accepted, sums.completed, sums.found), (0, 3000, 3000, 0));
    assert!(trace.report().disagreements.is_empty());
    let unread = trace.completions().iter().filter(|it| it.res.is_none()).count();
    assert_eq!((trace.completions().len(), unread), (3000, 0), "its pages were there");
}

fn every_context_that_is_alive_is_counted_and_not_only_those_that_have_a_row() {
    let mut program = Program::ready(&["hold", "300"]);
    let pid = program.pid().to_string();
    let output = aiotrace().args(["attach", "-q", "-d", "0.2", "-p", &pid]).output().unwrap();
    program.kill();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("=== contexts: 300, 300 of them alive"), "{text}");
}

/// Whether the probe set sees completions when they happen.
fn is_exact(trace: &Trace) -> bool {
    let Some(Line::Start(start)) = trace.lines.first() else { panic!("it begins with a start") };
    !matches!(&*start.probes, "syscall" | "ptrace")
}

fn a_latency_that_is_a_bound_is_shown_as_one() {
    for options in [&[][..], &["--source", "ptrace"]] {
        let trace = run_program_with(options, &["pairs", "20"]);
        let [row] = &trace.report().contexts[..] else { panic!("one context") };
        let complete = row.complete_ns.as_ref().unwrap();
        assert_eq!(complete.at_most, !is_exact(&trace), "{options:?}");
        let kinds = trace.report().requests.iter();
        let within = kinds.map(|it| it.submit_ns.as_ref().unwrap().at_most);
        assert_eq!(within.collect::<Vec<_>>(), [false], "how long io_submit took is exact");
    }
}

tests![
    large_rings_reaped_with_io_getevents_are_followed_exactly if Need::LONG,
    large_rings_reaped_by_the_program_itself_are_followed_exactly if Need::LONG,
    large_rings_are_followed_exactly_by_ptrace if Need::LONG,
    a_program_with_a_large_ring_is_healthy if Need::LONG,
    a_large_ring_that_was_there_before_is_read_from_the_first_event_on if Need::LONG,
    every_context_that_is_alive_is_counted_and_not_only_those_that_have_a_row if Need::LONG,
    a_latency_that_is_a_bound_is_shown_as_one if Need::LONG,
];
