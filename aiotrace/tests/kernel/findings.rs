//! Findings in programs: first the false alarms, where nothing may be found, then each finding with its repaired
//! twin.

use aiotrace::output::json::{FindingLine, Line, ReportLine};

use super::{
    harness::Need,
    machine, session,
    support::{Attached, Program, Trace, run_program, run_program_with},
};

/// Names and severities of the findings, in order; with `unsure`, if they are.
fn found(trace: &Trace) -> Vec<String> {
    let mut found: Vec<String> = trace.findings().into_iter().map(in_words).collect();
    found.sort();
    found
}

fn in_words(it: &FindingLine) -> String {
    let unsure = if it.unsure { " (unsure)" } else { "" };
    format!("{} {}{unsure}", it.severity, it.name)
}

/// Runs a program under aiotrace, which must make exactly these findings.
fn expect(program: &str, expected: &[&str]) -> Trace {
    let trace = run_program(&[program]);
    assert_eq!(found(&trace), expected, "{program}; unsure: {:?}", trace.why_unsure());
    assert_eq!(trace.report().findings.len(), expected.len(), "{program}");
    trace
}

/// The sums over all contexts: requests done, unreaped completions (if known), and requests in flight.
fn totals(report: &ReportLine) -> (u64, Option<u64>, u64) {
    let of = &report.contexts;
    (
        of.iter().map(|it| it.requests).sum(),
        of.iter().map(|it| it.unreaped).sum(),
        of.iter().map(|it| it.in_flight).sum(),
    )
}

/// Makes a test of a possible false alarm: what is found, and what the report counts (requests, unreaped, in flight).
macro_rules! alarm {
    ($test:ident, $program:literal, $found:expr, $totals:expr) => {
        fn $test() {
            let trace = expect($program, &$found);
            assert_eq!(totals(trace.report()), $totals, "requests, unreaped, in flight");
        }
    };
}

const NOTHING: [&str; 0] = [];
const RELEASED: [&str; 1] = ["info released-at-exit"];

alarm!(
    who_reaps_from_the_ring_leaves_nothing_unreaped,
    "alarm-from-the-ring",
    NOTHING,
    (40, Some(0), 0)
);
alarm!(contexts_at_exit_are_released, "alarm-alive-at-exit", RELEASED, (3, Some(0), 0));
alarm!(
    a_waiting_io_getevents_may_end_with_einval,
    "alarm-destroyed-by-another-thread",
    NOTHING,
    (1, Some(0), 0)
);
alarm!(
    two_processes_may_have_the_same_handle,
    "alarm-same-handle-in-two-processes",
    NOTHING,
    (4, Some(0), 0)
);
alarm!(a_handle_is_given_again, "alarm-same-handle-again", NOTHING, (2, Some(0), 0));
alarm!(an_iocb_is_used_again, "alarm-data-is-no-identity", NOTHING, (12, Some(0), 0));
alarm!(io_pgetevents_is_interrupted, "alarm-interrupted", NOTHING, (1, Some(0), 0));
alarm!(
    what_a_short_submit_left_is_submitted_again,
    "alarm-refused-one-dropped",
    ["warning refused-calls"],
    (3, Some(0), 0)
);
alarm!(a_context_to_try_whether_there_is_aio, "alarm-probe-at-the-start", NOTHING, (4, Some(0), 0));
alarm!(
    io_destroy_of_nothing,
    "alarm-nothing-destroyed",
    ["warning refused-calls"],
    (0, Some(0), 0)
);
alarm!(libaio_answers_without_a_call, "alarm-through-libaio", NOTHING, (1, Some(0), 0));
alarm!(
    a_context_that_nobody_got,
    "alarm-handle-nowhere-to-go",
    ["warning refused-calls"],
    (1, Some(0), 0)
);
alarm!(
    the_limit_may_be_below_what_is_used,
    "alarm-limit-lowered",
    ["error setup-denied"],
    (1, Some(0), 0)
);
alarm!(calls_without_libaio, "alarm-without-libraries", NOTHING, (1, Some(0), 0));
alarm!(polls_pend_by_design, "alarm-pending-by-design", RELEASED, (1, None, 2));
alarm!(
    iovecs_masks_and_the_end_of_a_file,
    "alarm-numbers-that-are-no-lengths",
    NOTHING,
    (6, Some(0), 0)
);
alarm!(reads_left_in_the_ring_at_exit, "alarm-some-left-in-the-ring", RELEASED, (5, None, 0));
alarm!(the_variable_of_a_handle_is_used_again, "alarm-local-handle", NOTHING, (1, Some(0), 0));

alarm!(
    requests_of_one_iocb_are_told_apart_by_their_data,
    "alarm-one-iocb",
    NOTHING,
    (3, Some(0), 1)
);

fn a_ring_that_is_moved_is_the_same_context() {
    let trace = expect("alarm-moved", &[]);
    assert_eq!(trace.moved().len(), 1);
    assert_eq!(trace.report().contexts.len(), 1, "one context, of two handles");
}

fn a_ring_that_is_moved_before_its_first_use_is_the_same_context() {
    let trace = expect("alarm-moved-before-use", &[]);
    assert_eq!(trace.moved().len(), 1);
    let [context] = &trace.report().contexts[..] else { panic!("one context, of two handles") };
    assert_eq!((context.end.as_deref(), context.requests), (Some("destroyed"), 1));
}

fn errors_are_those_of_the_completion() {
    let trace = expect(
        "alarm-errors-as-events",
        &["warning failed-completion", "warning failed-completion"],
    );
    assert!(trace.submits().iter().all(|it| it.ret == 1), "no submit failed");
    let results: Vec<_> = trace.findings().iter().map(|it| it.evidence["res"]).collect();
    assert_eq!(results, [-14, -22]);
}

fn eagain_comes_below_the_capacity() {
    let trace = expect("alarm-refused-below-capacity", &["warning submit-eagain"]);
    let finding = trace.findings()[0];
    let (in_flight, capacity) = (finding.evidence["in_flight"], finding.evidence["capacity"]);
    assert!(in_flight < capacity && in_flight > 0, "{:?}", finding.evidence);
    assert_eq!(finding.evidence["unreaped"], 0);
    assert!(!finding.message.contains("reap, do not"), "{}", finding.message);
    assert_eq!(totals(trace.report()).1, Some(0));
}

/// Makes a test of a program with a defect, and of its twin without it.
macro_rules! pair {
    ($test:ident, $name:literal, $found:literal, $evidence:expr, $silent:expr) => {
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
/// The finding is certain where synchronous calls are watched.
fn short_submit_dropped() {
    let expected = if machine::watches() {
        "error short-submit-dropped"
    } else {
        "warning short-submit-dropped (unsure)"
    };
    let trace = expect("bad-short-submit-dropped", &[expected]);
    for (name, value) in [("given", 4), ("accepted", 2), ("dropped", 2)] {
        assert_eq!(trace.findings()[0].evidence[name], value, "{name}");
    }
    expect("good-short-submit-dropped", &["warning refused-calls"]);
}

pair!(submit_eagain, "submit-eagain", "warning submit-eagain", [("unreaped", 0)], NOTHING);
pair!(failed_completion, "failed-completion", "warning failed-completion", [("res", -14)], NOTHING);
/// Under ptrace a part of the time may be the tracer's.
fn blocking_submit() {
    let expected = match machine::is_ptrace() {
        true => "warning blocking-submit (unsure)",
        false => "warning blocking-submit",
    };
    let trace = expect("bad-blocking-submit", &[expected]);
    assert_eq!(trace.findings()[0].evidence["accepted"], 1);
    expect("good-blocking-submit", &NOTHING);
}

pair!(inline_completion, "inline-completion", "info inline-completion", [], NOTHING);
pair!(setup_denied, "setup-denied", "error setup-denied", [], NOTHING);
pair!(sandbox_denied, "sandbox-denied", "error sandbox-denied", [("ret", -1)], NOTHING);
pair!(cancel_refused, "cancel-refused", "info cancel-refused", [], NOTHING);

/// Under ptrace a fast request may have completed when the stop after its io_submit is over.
fn shallow_queue() {
    if !machine::is_ptrace() {
        // Where one processor does all, the worker takes it before the thread waits: then the thread does not wait.
        let found_in = |trace: &Trace| found(trace) == ["info shallow-queue"];
        let mut trace = run_program(&["bad-shallow-queue"]);
        for _ in 1..20 {
            if found_in(&trace) {
                break;
            }
            trace = run_program(&["bad-shallow-queue"]);
        }
        assert!(found_in(&trace), "{:?}; unsure: {:?}", found(&trace), trace.why_unsure());
        for (name, value) in [("asked", 8), ("reached", 1), ("requests", 1200)] {
            assert_eq!(trace.findings()[0].evidence[name], value, "{name}");
        }
    }
    expect("good-shallow-queue", &NOTHING);
}

/// The finding is about a trace as a whole: so the program must make no AIO call at all.
fn not_kernel_aio() {
    for (program, expected) in
        [("bad-not-kernel-aio", &["info not-kernel-aio"][..]), ("good-not-kernel-aio", &[])]
    {
        let trace = run_program_with(&[], &[program]);
        assert_eq!(found(&trace), expected, "{program}");
    }
}

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

/// Nobody looks at the ring between the last call and the exit, unless a probe sees completions.
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

/// Options with short times, after which a lasting state is found.
pub const SOON: [&str; 10] = [
    "--denied",
    "--slow-submit",
    "10s",
    "--idle-after",
    "500ms",
    "--growth=8",
    "--stuck-after",
    "500ms",
    "--unreaped-after",
    "500ms",
];

/// A defect that lasts is found while it lasts; its twin has no finding in five times that time.
fn stands(name: &str, expected: &str, also: &[&str]) -> (FindingLine, Trace) {
    let bad = format!("bad-{name}");
    let trace = session::run_until_found(&SOON, &[&bad], name);
    assert!(trace.status.success(), "{bad}: {}", trace.status);
    trace.assert_nothing_lost();
    let mut all: Vec<&str> = also.iter().copied().chain([expected]).collect();
    all.sort_unstable();
    let mut found = found(&trace);
    // The program makes enough calls for this finding before the other one is found.
    found.retain(|it| it != "info inline-completion");
    assert_eq!(found, all);
    twin(&format!("good-{name}"));
    let finding = trace.findings().into_iter().find(|it| it.name == name).unwrap().clone();
    (finding, trace)
}

/// The program waits, and nothing is found for longer than the finding takes.
fn twin(program: &str) {
    // Nothing happens that a test could wait for.
    let trace = session::run_for(&SOON, &[program], std::time::Duration::from_millis(2500));
    assert!(trace.status.success(), "{program}: {}", trace.status);
    trace.assert_nothing_lost();
    let mut found = found(&trace);
    // The program makes as many calls as fit into the time.
    found.retain(|it| it != "info inline-completion");
    assert_eq!(found, NOTHING, "{program}");
}

fn context_leak() {
    let (finding, trace) = stands("context-leak", "error context-leak", &[]);
    assert!(finding.context.is_some());
    assert_eq!((finding.unsure, finding.evidence["charge"]), (false, 8));
    assert_eq!(trace.report().contexts[0].end.as_deref(), Some("leaked"));
    let stack = finding.stack.unwrap();
    let names: Vec<&str> = stack.iter().filter_map(|it| it.function.as_deref()).collect();
    assert!(names.contains(&"setup"), "{names:?}");
    assert!(names.contains(&"main"), "{names:?}");
    assert!(stack.iter().any(|it| it.line.is_some()), "{stack:?}");
}

fn short_io() {
    let (finding, _) = stands("short-io", "info short-io", &[]);
    assert_eq!(finding.evidence["res"], 4);
}

fn direct_io_misaligned() {
    let (finding, _) = stands("direct-io-misaligned", "warning direct-io-misaligned (unsure)", &[]);
    assert_eq!(finding.evidence["offset_over"], 100 % finding.evidence["range_align"]);
    for aligned in ["length_over", "buffer_over"] {
        assert!(!finding.evidence.contains_key(aligned), "{:?}", finding.evidence);
    }
}

fn reads_past_end() {
    let (finding, _) = stands("reads-past-end", "info reads-past-end (unsure)", &[]);
    assert_eq!(finding.evidence["size"], 60);
    assert!(finding.evidence["reads"] >= 2, "{:?}", finding.evidence);
}

fn ignored_offset() {
    let (finding, _) = stands("ignored-offset", "warning ignored-offset", &[]);
    let evidence = &finding.evidence;
    assert!(evidence["size"] >= 60 && evidence["grown"] >= 8, "{evidence:?}");
    assert_eq!(evidence["grown"] % 8, 0, "{evidence:?}");
}

fn poll_on_closed() {
    let (finding, _) = stands("poll-on-closed", "warning poll-on-closed", &[]);
    assert_eq!(finding.evidence["reused"], 0);
    assert_eq!(finding.request.and_then(|it| it.op).as_deref(), Some("poll"));
    let trace = session::run_until_found(&SOON, &["bad-poll-on-reused"], "poll-on-closed");
    assert_eq!(found(&trace), ["warning poll-on-closed"]);
    assert_eq!(trace.findings()[0].evidence["reused"], 1);
}

fn context_growth() {
    let (finding, _) =
        stands("context-growth", "warning context-growth", &["info released-at-exit"]);
    assert!(finding.evidence["idle"] >= 8, "{:?}", finding.evidence);
}

fn request_stuck() {
    let (finding, _) = stands("request-stuck", "warning request-stuck", &[]);
    let request = finding.request.unwrap();
    assert_eq!((request.op.as_deref(), request.nbytes), (Some("pread"), 4096));
    twin("good-request-stuck-poll");
}

fn unreaped_completions() {
    let (finding, _) = stands("unreaped-completions", "warning unreaped-completions", &[]);
    assert_eq!(finding.evidence["unreaped"], 5);
}

fn busy_reaping() {
    let (finding, _) = stands("busy-reaping", "info busy-reaping", &[]);
    let number = |name| finding.evidence[name];
    assert!(number("calls") * 1_000_000 >= number("within_ns"), "{}", finding.message);
    assert_eq!(number("in_flight"), number("calls"), "{}", finding.message);
}

/// The findings of programs that are killed, without those about what they leave behind.
fn waits(trace: &Trace) -> Vec<&FindingLine> {
    trace.findings().into_iter().filter(|it| it.severity != "info").collect()
}

/// Each takes some seven seconds.
fn endless_wait() {
    let some = if machine::runs_everything() { 4 } else { 2 };
    let all = [
        ("bad-endless-wait", 2, None),
        ("bad-endless-wait-until-a-signal", 1, Some("a signal that the program handles")),
        ("bad-endless-wait-negative", 1, Some("the timeout was read later")),
        ("bad-endless-wait-beside-another", 1, Some("another thread is alive")),
    ];
    for (program, threads, why) in all.into_iter().take(some) {
        let trace = session::run_until_found(&[], &[program], "endless-wait");
        trace.assert_nothing_lost();
        let [finding] = waits(&trace)[..] else { panic!("{program}: {:?}", found(&trace)) };
        assert_eq!((&*finding.severity, &*finding.name), ("warning", "endless-wait"));
        assert_eq!(finding.evidence["threads"], threads, "{program}: {}", finding.message);
        assert!(finding.evidence["age_ns"] >= 5_000_000_000, "{}", finding.message);
        let found = finding.why.as_deref().unwrap_or_default();
        assert!(finding.unsure == why.is_some() && found.starts_with(why.unwrap_or_default()));
    }
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let is_child = |it: &u32| {
        let status = aiotrace::proc::status(*it, *it).unwrap_or_default();
        aiotrace::proc::status_field(&status, "PPid") == Some(&*pid.to_string())
    };
    aiotrace::proc::all().into_iter().filter(is_child).collect()
}

/// Attaches to the children of a program.
fn attached(program: &Program, options: &[&str]) -> Attached {
    let pids: Vec<String> = children(program.pid()).iter().map(u32::to_string).collect();
    Attached::new(&[&["-p", &pids.join(",")], options].concat())
}

fn endless_wait_that_began_before_the_attach() {
    if machine::is_ptrace() {
        // ptrace cannot read what was in flight at the attach.
        return;
    }
    let program = Program::ready(&["bad-endless-wait"]);
    let mut attached = attached(&program, &[]);
    attached.await_line(|it| matches!(it, Line::Finding(it) if it.name == "endless-wait"));
    attached.signal(libc::SIGINT);
    let trace = attached.end();
    let [finding] = waits(&trace)[..] else { panic!("{:?}", found(&trace)) };
    assert_eq!((finding.unsure, finding.evidence["threads"]), (false, 2), "{}", finding.message);
}

/// Under `run` and under `attach`, three times as long as what is endless is waited for. Nothing happens that could be
/// awaited.
fn a_wait_that_may_end_is_not_endless() {
    let program = Program::ready(&["good-endless-wait"]);
    let attached = attached(&program, &["-d", &machine::a_while().as_secs().to_string()]);
    let trace = session::run_for(&[], &["good-endless-wait"], machine::a_while());
    for trace in [trace, attached.end()] {
        trace.assert_nothing_lost();
        let waits = waits(&trace);
        assert!(waits.is_empty(), "{waits:?}");
    }
}

fn a_handle_that_is_nowhere_in_memory_is_lost() {
    let options = ["--idle-after", "100ms", "--scan"];
    for (program, expected) in [
        ("bad-lost-handle", &["warning context-leak (unsure)"][..]),
        ("good-lost-handle", &[]),
        ("alarm-local-handle-alive", &[]),
    ] {
        let trace = super::support::attach_for_a_second(&options, &[program]);
        assert_eq!(found(&trace), expected, "{program}");
        assert!(trace.report().contexts[0].adopted);
    }
}

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

fn a_finding_can_be_an_exit_status() {
    let status = |least: &str, program: &str| {
        let trace = super::support::run_with(&["--fail-on", least], &[program]);
        assert!(trace.lines.iter().any(|it| matches!(it, Line::Report(_))));
        (trace.status.code(), trace.stderr.contains("as --fail-on asks"))
    };
    assert_eq!(status("error", "bad-setup-denied"), (Some(1), true));
    assert_eq!(status("error", "bad-failed-completion"), (Some(0), false));
    assert_eq!(status("warning", "bad-failed-completion"), (Some(1), true));
    assert_eq!(status("info", "good-failed-completion"), (Some(0), false));
}

const FUSE: Need = Need::Native("the guests have no /dev/fuse");
const DISK: Need = Need::Native("the guests have no disk with O_DIRECT");

/// There the requests are complete at once, of which inline-completion tells.
const EMULATED: Need = Need::Native("an emulated worker is often done before io_submit returns");

tests![
    a_ring_that_is_moved_is_the_same_context,
    a_ring_that_is_moved_before_its_first_use_is_the_same_context,
    requests_of_one_iocb_are_told_apart_by_their_data,
    errors_are_those_of_the_completion,
    eagain_comes_below_the_capacity,
    use_after_destroy,
    writes_in_flight_at_exit_are_unsure_without_exact_completions if FUSE,
    context_leak if Need::SAME,
    short_io if Need::SAME,
    direct_io_misaligned if DISK,
    reads_past_end if Need::SAME,
    ignored_offset if Need::SAME,
    poll_on_closed if Need::SAME,
    context_growth if Need::SAME,
    request_stuck if FUSE,
    unreaped_completions if Need::SAME,
    busy_reaping if Need::LONG,
    endless_wait if Need::LONG,
    endless_wait_that_began_before_the_attach if Need::LONG,
    a_wait_that_may_end_is_not_endless if Need::LONG,
    shallow_queue if EMULATED,
    a_handle_that_is_nowhere_in_memory_is_lost if Need::LONG,
    who_holds_fs_aio_nr_is_told,
    a_finding_can_be_an_exit_status if Need::LONG,
    who_reaps_from_the_ring_leaves_nothing_unreaped if Need::SAME,
    contexts_at_exit_are_released if Need::SAME,
    a_waiting_io_getevents_may_end_with_einval,
    two_processes_may_have_the_same_handle,
    a_handle_is_given_again if Need::SAME,
    an_iocb_is_used_again if Need::SAME,
    io_pgetevents_is_interrupted,
    what_a_short_submit_left_is_submitted_again if Need::SAME,
    a_context_to_try_whether_there_is_aio if Need::SAME,
    io_destroy_of_nothing if Need::SAME,
    libaio_answers_without_a_call if Need::SAME,
    a_context_that_nobody_got if Need::SAME,
    the_limit_may_be_below_what_is_used if Need::SAME,
    calls_without_libaio if Need::SAME,
    polls_pend_by_design if Need::SAME,
    iovecs_masks_and_the_end_of_a_file if Need::SAME,
    reads_left_in_the_ring_at_exit if Need::SAME,
    the_variable_of_a_handle_is_used_again if Need::SAME,
    released_at_exit if Need::SAME,
    discarded_requests if FUSE,
    iocb_reused_in_flight if Need::SAME,
    short_submit_dropped if Need::SAME,
    submit_eagain if Need::SAME,
    failed_completion if Need::SAME,
    blocking_submit,
    inline_completion,
    setup_denied,
    sandbox_denied if Need::SAME,
    cancel_refused if Need::SAME,
    not_kernel_aio if Need::LONG,
];
