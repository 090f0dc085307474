//! What is found in real programs, and what is not: the false alarms first, then each finding and its
//! repaired twin. The same programs run in virtual machines, with other probes (`cargo xtask vm`).

use aiotrace::output::json::{FindingLine, Line, ReportLine};

use super::support::{Live, Trace, run_program_with};

/// Names and severities, in order; `unsure` is said.
fn found(trace: &Trace) -> Vec<String> {
    let mut found: Vec<String> = trace.findings().into_iter().map(in_words).collect();
    found.sort();
    found
}

fn in_words(it: &FindingLine) -> String {
    let unsure = if it.unsure { " (unsure)" } else { "" };
    format!("{} {}{unsure}", it.severity, it.name)
}

/// Runs a program under aiotrace: just this is found.
fn expect(program: &str, expected: &[&str]) -> Trace {
    let trace = run_program_with(&["--denied", "--slow-submit", "250ms"], &[program]);
    assert_eq!(found(&trace), expected, "{program}");
    assert_eq!(trace.report().findings.len(), expected.len(), "{program}");
    trace
}

/// Requests done, and what is left unreaped (if that is known) and in flight, over all contexts.
fn totals(report: &ReportLine) -> (u64, Option<u64>, u64) {
    let of = &report.contexts;
    (
        of.iter().map(|it| it.requests).sum(),
        of.iter().map(|it| it.unreaped).sum(),
        of.iter().map(|it| it.in_flight).sum(),
    )
}

/// A false alarm: what is found, and what the report counts (requests, unreaped, in flight).
macro_rules! alarm {
    ($test:ident, $program:literal, $found:expr, $totals:expr) => {
        #[test]
        #[ignore = "needs root: cargo xtask test"]
        fn $test() {
            let trace = expect($program, &$found);
            assert_eq!(totals(trace.report()), $totals, "requests, unreaped, in flight");
        }
    };
}

const NOTHING: [&str; 0] = [];
const RELEASED: [&str; 1] = ["info released-at-exit"];

alarm!(t1_who_reaps_from_the_ring_leaves_nothing_unreaped, "t1", NOTHING, (40, Some(0), 0));
alarm!(t2_contexts_at_exit_are_released, "t2", RELEASED, (3, Some(0), 0));
alarm!(t3_a_waiting_io_getevents_may_end_with_einval, "t3", NOTHING, (1, Some(0), 0));
alarm!(t4_two_processes_may_have_the_same_handle, "t4", NOTHING, (4, Some(0), 0));
alarm!(t5_a_handle_is_given_again, "t5", NOTHING, (2, Some(0), 0));
alarm!(t7_an_iocb_is_used_again, "t7", NOTHING, (12, Some(0), 0));
alarm!(t9_io_pgetevents_is_interrupted, "t9", NOTHING, (1, Some(0), 0));
alarm!(t10_what_a_short_submit_left_is_submitted_again, "t10", NOTHING, (3, Some(0), 0));
alarm!(t11_a_context_to_try_whether_there_is_aio, "t11", NOTHING, (4, Some(0), 0));
alarm!(t12_io_destroy_of_nothing, "t12", NOTHING, (0, Some(0), 0));
alarm!(t13_libaio_answers_without_a_call, "t13", NOTHING, (1, Some(0), 0));
alarm!(t14_a_context_that_nobody_got, "t14", NOTHING, (1, Some(0), 0));
alarm!(t15_the_limit_may_be_below_what_is_used, "t15", ["error setup-denied"], (1, Some(0), 0));
alarm!(t16_calls_without_libaio, "t16", NOTHING, (1, Some(0), 0));
alarm!(t18_polls_pend_by_design, "t18", RELEASED, (1, None, 2));
alarm!(t19_iovecs_masks_and_the_end_of_a_file, "t19", NOTHING, (6, Some(0), 0));
alarm!(t20_reads_left_in_the_ring_at_exit, "t20", RELEASED, (5, None, 0));
alarm!(t22_the_variable_of_a_handle_is_used_again, "t22", NOTHING, (1, Some(0), 0));

#[test]
#[ignore = "needs root: cargo xtask test"]
fn t6_a_ring_that_is_moved_is_the_same_context() {
    let trace = expect("t6", &[]);
    assert_eq!(trace.moved().len(), 1);
    assert_eq!(trace.report().contexts.len(), 1, "one context, of two handles");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn t8_errors_are_those_of_the_completion() {
    let trace = expect("t8", &["warning failed-completion", "warning failed-completion"]);
    assert!(trace.submits().iter().all(|it| it.ret == 1), "no submit failed");
    let results: Vec<_> = trace.findings().iter().map(|it| it.evidence["res"]).collect();
    assert_eq!(results, [-14, -22]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn t17_a_ring_that_is_unmapped_is_a_leak() {
    let mut live = Live::start(&[], &["t17"]);
    let finding = live.wait_for("context-leak");
    assert_eq!((finding.severity.as_ref(), finding.unsure), ("error", false));
    assert_eq!(finding.evidence["charge"], 8);
    let trace = live.finish();
    assert_eq!(found(&trace), ["error context-leak"], "and not released at exit");
    assert_eq!(trace.report().contexts[0].end.as_deref(), Some("leaked"));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn t21_eagain_comes_below_the_capacity() {
    let trace = expect("t21", &["warning submit-eagain"]);
    let finding = trace.findings()[0];
    let (in_flight, capacity) = (finding.evidence["in_flight"], finding.evidence["capacity"]);
    assert!(in_flight < capacity && in_flight > 0, "{:?}", finding.evidence);
    assert_eq!(finding.evidence["unreaped"], 0);
    assert!(!finding.message.contains("reap, do not"), "{}", finding.message);
    assert_eq!(totals(trace.report()).1, Some(0));
}

/// A program with a fault, and its twin without: what of it is found.
macro_rules! pair {
    ($test:ident, $name:literal, $found:literal, $evidence:expr, $silent:expr) => {
        #[test]
        #[ignore = "needs root: cargo xtask test"]
        fn $test() {
            let trace = expect(concat!("bad-", $name), &[$found]);
            let evidence: &[(&str, i64)] = &$evidence;
            for (name, value) in evidence {
                assert_eq!(trace.findings()[0].evidence[*name], *value, "{name}");
            }
            expect(concat!("good-", $name), &$silent);
        }
    };
}

pair!(
    released_at_exit,
    "released-at-exit",
    "info released-at-exit",
    [("contexts", 3), ("charge", 24)],
    NOTHING
);
pair!(
    discarded_requests,
    "discarded-requests",
    "error discarded-requests",
    [("writes", 3), ("others", 0)],
    NOTHING
);
pair!(iocb_reused_in_flight, "iocb-reused-in-flight", "warning iocb-reused-in-flight", [], NOTHING);
pair!(
    short_submit_dropped,
    "short-submit-dropped",
    "error short-submit-dropped",
    [("given", 4), ("accepted", 2), ("dropped", 2)],
    NOTHING
);
pair!(submit_eagain, "submit-eagain", "warning submit-eagain", [("unreaped", 0)], NOTHING);
pair!(failed_completion, "failed-completion", "warning failed-completion", [("res", -14)], NOTHING);
pair!(blocking_submit, "blocking-submit", "warning blocking-submit", [("accepted", 1)], NOTHING);
pair!(inline_completion, "inline-completion", "info inline-completion", [("calls", 16)], NOTHING);
pair!(setup_denied, "setup-denied", "error setup-denied", [], NOTHING);
pair!(sandbox_denied, "sandbox-denied", "error sandbox-denied", [("ret", -1)], NOTHING);
pair!(cancel_refused, "cancel-refused", "info cancel-refused", [], NOTHING);
pair!(not_kernel_aio, "not-kernel-aio", "info not-kernel-aio", [], NOTHING);

#[test]
#[ignore = "needs root: cargo xtask test"]
fn use_after_destroy() {
    let trace = expect(
        "bad-use-after-destroy",
        &["warning use-after-destroy", "warning use-after-destroy"],
    );
    let messages: Vec<_> = trace.findings().iter().map(|it| it.message.clone()).collect();
    assert!(messages[0].starts_with("io_submit on 0x"), "{messages:?}");
    assert!(messages[1].starts_with("io_getevents on 0x"), "{messages:?}");
    expect("good-use-after-destroy", &[]);
}

/// Nobody looks at the ring between the last call and the exit, unless a probe tells of completions.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn writes_in_flight_at_exit_are_unsure_without_exact_completions() {
    let trace = expect(
        "bad-discarded-at-exit",
        &["info discarded-requests (unsure)", "info released-at-exit"],
    );
    let finding = trace.findings().into_iter().find(|it| it.name == "discarded-requests").unwrap();
    assert!(finding.message.contains("at most 3 writes"), "{}", finding.message);
    expect("good-discarded-at-exit", &RELEASED);
    expect("good-discarded-poll", &[]);
}

/// A fault that stands for a while: found then, and its twin not in three times that long.
fn stands(options: &[&str], name: &str, expected: &str, also: &[&str]) -> FindingLine {
    let bad = format!("bad-{name}");
    let mut live = Live::start(options, &[&bad]);
    let finding = live.wait_for(name);
    assert_eq!(in_words(&finding), expected);
    let trace = live.finish();
    let mut all: Vec<&str> = also.iter().copied().chain([expected]).collect();
    all.sort_unstable();
    assert_eq!(found(&trace), all);
    let good = format!("good-{name}");
    twin(options, &good);
    finding
}

/// It waits, and nothing is found for longer than it takes to find what is there.
fn twin(options: &[&str], program: &str) {
    let mut live = Live::start(options, &[program]);
    live.wait_ready();
    // Nothing happens that could be awaited.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(found(&live.finish()), NOTHING, "{program}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn context_leak() {
    let finding = stands(&[], "context-leak", "error context-leak", &[]);
    assert!(finding.context.is_some());
    let stack = finding.stack.unwrap();
    let names: Vec<&str> = stack.iter().filter_map(|it| it.function.as_deref()).collect();
    assert!(names.contains(&"setup"), "{names:?}");
    assert!(names.contains(&"main"), "{names:?}");
    assert!(stack.iter().any(|it| it.line.is_some()), "{stack:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn short_io() {
    let finding = stands(&[], "short-io", "info short-io", &[]);
    assert_eq!(finding.evidence["res"], 4);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn context_growth() {
    let options = ["--idle-after", "500ms", "--growth", "8"];
    let finding =
        stands(&options, "context-growth", "warning context-growth", &["info released-at-exit"]);
    assert!(finding.evidence["idle"] >= 8, "{:?}", finding.evidence);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn request_stuck() {
    let options = ["--stuck-after", "500ms"];
    let finding = stands(&options, "request-stuck", "warning request-stuck", &[]);
    let request = finding.request.unwrap();
    assert_eq!((request.op.as_deref(), request.nbytes), (Some("pread"), 4096));
    twin(&options, "good-request-stuck-poll");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn unreaped_completions() {
    let options = ["--unreaped-after", "500ms"];
    let finding = stands(&options, "unreaped-completions", "warning unreaped-completions", &[]);
    assert_eq!(finding.evidence["unreaped"], 5);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_handle_that_is_nowhere_in_memory_is_lost() {
    let options = ["--idle-after", "100ms", "--scan"];
    for (program, expected) in [
        ("bad-lost-handle", &["warning context-leak (unsure)"][..]),
        ("good-lost-handle", &[]),
        ("t22-alive", &[]),
    ] {
        let trace = super::support::attach_for_a_second(&options, &[program]);
        assert_eq!(found(&trace), expected, "{program}");
        assert!(trace.report().contexts[0].adopted);
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn who_holds_fs_aio_nr_is_told() {
    let holder = super::support::Program::ready(&["hold", "3"]);
    let trace = expect("bad-setup-denied", &["error setup-denied"]);
    let finding = trace.findings()[0];
    let found = finding.holders.iter().find(|it| it.pid == holder.child.id());
    assert_eq!(found.map(|it| (it.contexts, it.charge)), Some((3, 6)), "{finding:?}");
    assert_eq!(finding.evidence["limit"] as u64, limit("aio-max-nr"));
    drop(holder);
}

fn limit(name: &str) -> u64 {
    std::fs::read_to_string(format!("/proc/sys/fs/{name}")).unwrap().trim().parse().unwrap()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_finding_can_be_an_exit_status() {
    let status = |least: &str, program: &str| {
        let trace = super::support::run_with(&["--fail-on", least], &[program]);
        assert!(trace.lines.iter().any(|it| matches!(it, Line::Report(_))));
        (trace.status.code(), trace.stderr.contains("as --fail-on asks"))
    };
    assert_eq!(status("error", "bad-short-submit-dropped"), (Some(1), true));
    assert_eq!(status("error", "bad-failed-completion"), (Some(0), false));
    assert_eq!(status("warning", "bad-failed-completion"), (Some(1), true));
    assert_eq!(status("info", "good-failed-completion"), (Some(0), false));
}
