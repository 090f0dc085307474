//! Rings of any size, followed exactly: what the report says is what the program counted itself. A probe can read
//! the first 64 KiB of a ring, 2,047 entries, and the rest when somebody has touched it.

use super::support::{Trace, run_program_with};

/// `batches` with these arguments: all its requests are told, none is taken for one in flight, and none is late
/// but for the first ones.
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
    let completions = trace.completions().len() as u64;
    assert_eq!(completions, requests, "{what:?}: each is told once");
    let found: Vec<&str> = report.findings.iter().map(|it| &*it.name).collect();
    let allowed = |it: &&str| matches!(*it, "inline-completion" | "blocking-submit");
    assert!(found.iter().all(allowed), "{what:?}: {found:?}");
}

/// fs.aio-max-nr, raised while this lives.
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

/// Asked for, requests, and how many of them at a time.
const SIZES: [(u64, u64, u64); 6] = [
    (128, 3_000, 100),
    // The first that does not fit.
    (1023, 6_000, 1),
    (1024, 20_000, 1000),
    (2048, 6_000, 1),
    (8000, 40_000, 4000),
    (70_000, 20_000, 4096),
];

#[test]
#[ignore = "needs root: cargo xtask test"]
fn large_rings_reaped_with_io_getevents_are_followed_exactly() {
    let _limit = Limit::at_least(200_000);
    for (asked, requests, batch) in SIZES {
        assert_exact(&[], asked, requests, batch, "getevents");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn large_rings_reaped_by_the_program_itself_are_followed_exactly() {
    let _limit = Limit::at_least(200_000);
    for (asked, requests, batch) in SIZES {
        assert_exact(&[], asked, requests, batch, "ring");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn large_rings_are_followed_exactly_by_ptrace() {
    let _limit = Limit::at_least(200_000);
    for how in ["getevents", "ring"] {
        for (asked, requests, batch) in [(1024, 4_000, 1000), (70_000, 12_288, 4096)] {
            assert_exact(&["--source", "ptrace"], asked, requests, batch, how);
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_program_with_a_large_ring_is_healthy() {
    for how in ["", "ring"] {
        let program = ["big-ring", "2048", "6000", how];
        let trace = run_program_with(&["--fail-on", "warning"], &program);
        assert_row(&trace, 6000, 1, &program);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_large_ring_that_was_there_before_is_read_from_the_first_event_on() {
    let mut program = super::support::Program::start(&["large-ring-waits", "2048", "3000"]);
    assert_eq!(program.line(), "ready");
    let attached = super::support::Attached::to(program.pid());
    program.go_on();
    let trace = attached.end();
    trace.assert_nothing_lost();
    let [row] = &trace.report().contexts[..] else { panic!("one context") };
    assert_eq!((row.requests, row.peak_in_flight, row.unknown), (3000, 1, 0));
    let unread = trace.completions().iter().filter(|it| it.res.is_none()).count();
    assert_eq!((trace.completions().len(), unread), (3000, 0), "its pages were there");
}
