//! `-c` counts in the kernel, and `--only` and `--sample` choose there: their counts are those of the stream of
//! events.

use std::collections::BTreeMap;

use aiotrace::output::json::{CountedContextRow, Line, ReportLine};

use super::{
    harness::Need,
    machine,
    support::{Trace, aiotrace, run_program, run_program_with, run_with},
};

/// Calls by name, and their errors by errno.
type Counts = BTreeMap<String, (u64, BTreeMap<String, u64>)>;

/// What the table of `-c` says, all processes together.
fn counted(report: &ReportLine) -> Counts {
    let mut counts = Counts::new();
    for row in report.calls.as_ref().unwrap() {
        let (calls, errors) = counts.entry(row.call.to_string()).or_default();
        *calls += row.calls;
        for (errno, count) in &row.errors {
            *errors.entry(errno.to_string()).or_default() += count;
        }
    }
    counts
}

/// The same counts, of the calls in the stream of events.
fn told(trace: &Trace) -> Counts {
    let mut counts = Counts::new();
    let mut add = |name: &str, ret: i64, errno: Option<&str>| {
        let (calls, errors) = counts.entry(name.to_owned()).or_default();
        *calls += 1;
        if ret < 0 {
            *errors.entry(errno.unwrap().to_owned()).or_default() += 1;
        }
    };
    for line in &trace.lines {
        match line {
            Line::Setup(it) => add(&it.event, it.ret, it.errno.as_deref()),
            Line::Destroy(it) => add(&it.event, it.ret, it.errno.as_deref()),
            Line::Submit(it) => add(&it.event, it.ret, it.errno.as_deref()),
            Line::Getevents(it) => add(&it.event, it.ret, it.errno.as_deref()),
            Line::Cancel(it) => add(&it.event, it.ret, it.errno.as_deref()),
            _ => (),
        }
    }
    counts
}

const SETS: [&str; 2] = ["auto", "syscall"];

fn counts_are_those_of_the_stream() {
    let programs: [&[&str]; 6] = [
        &["pairs", "1000"],
        &["submit", "1000"],
        &["threads", "8"],
        &["fork", "20"],
        &["seccomp"],
        &["compat"],
    ];
    // Where a processor is emulated, each program takes two starts of aiotrace, of five seconds each.
    let all = 5 + usize::from(machine::HAS_32_BIT_ENTRY);
    let tried = if machine::runs_everything() || machine::guest().is_none() { all } else { 1 };
    for program in &programs[..tried] {
        // Trampolines see calls that a filter answers only with an option for it.
        let stream = told(&run_program(program));
        let misses = |set: &&str| machine::guest().is_some_and(|it| it.skipped.contains(set));
        for set in SETS.into_iter().filter(|it| !misses(it)) {
            let trace = run_program_with(&["-c", "--denied", "--probes", set], program);
            assert_eq!(counted(trace.report()), stream, "{program:?}, {set}");
            assert!(trace.submits().is_empty(), "{program:?}");
        }
    }
}

/// The number of EAGAIN is left out: it depends on the number of processors.
fn every_errno_is_counted() {
    let names = |counts: Counts| -> Vec<(String, Vec<String>)> {
        counts.into_iter().map(|(call, (_, errors))| (call, errors.into_keys().collect())).collect()
    };
    let stream = names(told(&run_program(&["errnos"])));
    assert_eq!(names(counted(run_program_with(&["-c"], &["errnos"]).report())), stream);
}

fn requests_are_counted_by_context_and_operation() {
    let trace = run_program_with(&["-c", "--requests"], &["pairs", "1000"]);
    let counted = trace.report().counted.as_ref().unwrap();
    let context = &counted.contexts[0];
    assert_eq!((counted.contexts.len(), context.requests, context.reaped), (1, 1000, 1000));
    assert_eq!((context.failed, context.bytes), (Some(0), Some(8000)));
    let reads = &context.ops.as_ref().unwrap()["pread"];
    assert_eq!((reads.requests, reads.asked), (1000, Some(8000)));

    let trace = run_program_with(&["-c", "--requests"], &["bad-failed-completion"]);
    let counted = trace.report().counted.as_ref().unwrap();
    let failed: u64 = counted.contexts.iter().filter_map(|it| it.failed).sum();
    let named: u64 = counted.results.iter().flat_map(|it| it.errors.values()).sum();
    assert!(failed > 0 && failed == named, "{counted:?}");

    // Without `--requests` nothing about requests is guessed.
    let trace = run_program_with(&["-c"], &["pairs", "10"]);
    let context = &trace.report().counted.as_ref().unwrap().contexts[0];
    assert_eq!((context.requests, &context.ops, context.bytes), (10, &None, None));
}

/// The requests of this operation in all contexts: how many were reaped with a latency, and the longest latency.
fn latencies(trace: &Trace, op: &str) -> (u64, u64) {
    latencies_in(&trace.report().counted.as_ref().unwrap().contexts, op)
}

fn latencies_in(contexts: &[CountedContextRow], op: &str) -> (u64, u64) {
    let mut found = (0, 0);
    for context in contexts {
        let Some(row) = context.ops.as_ref().unwrap().get(op) else { continue };
        found.0 += row.timed;
        let Some(took) = &row.latency_ns else {
            assert_eq!(row.timed, 0, "{row:?}");
            continue;
        };
        assert!(took.min <= took.p50 && took.p50 <= took.p99 && took.p99 <= took.max, "{row:?}");
        assert!(took.min > 0 && took.min <= took.avg && took.avg <= took.max, "{row:?}");
        found.1 = found.1.max(took.max);
    }
    found
}

fn requests_have_a_latency_until_they_are_reaped() {
    for set in SETS {
        let run =
            |program: &[&str]| run_program_with(&["-c", "--requests", "--probes", set], program);
        assert_eq!(latencies(&run(&["pairs", "1000"]), "pread").0, 1000, "{set}");
        // Many threads, each with a context of its own.
        assert_eq!(latencies(&run(&["threads", "16"]), "pread").0, 1600, "{set}");
        // Other threads reap the requests, and their iocbs are used again at once.
        assert_eq!(latencies(&run(&["reuse", "3000"]), "pread").0, 3000, "{set}");
        // One call with many requests.
        let submit = run(&["bench-batch", "100"]);
        let (timed, context) =
            (latencies(&submit, "pread").0, &submit.report().counted.as_ref().unwrap().contexts[0]);
        assert!(timed >= 3200 && timed == context.reaped, "{set}: {timed}");
        // The program reaps without a call, so nobody sees it.
        assert_eq!(latencies(&run(&["reap-ring", "20"]), "pread"), (0, 0), "{set}");
        // A 32-bit program.
        let has_entry = machine::HAS_32_BIT_ENTRY;
        assert!(!has_entry || latencies(&run(&["compat"]), "pread").0 > 0, "{set}");
        // Nothing was reaped.
        assert_eq!(latencies(&run(&["blocked", "10"]), "poll"), (0, 0), "{set}");
    }
    // io_submit itself takes 300 ms.
    let trace = run_program_with(&["-c", "--requests"], &["bad-blocking-submit"]);
    assert!(latencies(&trace, "pread").1 >= 300_000_000, "{:?}", latencies(&trace, "pread"));
}

fn latencies_of_processes_that_ended_are_kept() {
    let trace = run_program_with(&["-c", "--requests"], &["fork", "300"]);
    let reaped: u64 =
        trace.report().counted.as_ref().unwrap().contexts.iter().map(|it| it.reaped).sum();
    let (timed, _) = latencies(&trace, "pread");
    assert!(timed > 0 && timed == reaped, "{timed} of {reaped}");
}

fn durations_are_those_of_the_stream() {
    let trace = run_program_with(&["-c"], &["blocked", "300"]);
    let rows = trace.report().calls.as_ref().unwrap();
    let waited = rows.iter().find(|it| it.call == "io_getevents").unwrap();
    let took = waited.duration_ns.as_ref().unwrap();
    assert!((300_000_000..400_000_000).contains(&took.max), "{took:?}");
    assert!(took.min <= took.avg && took.avg <= took.max && took.p50 <= took.p99, "{took:?}");
}

fn findings_that_need_no_requests_are_made_and_the_others_are_not() {
    let found = |program: &str| -> Vec<String> {
        let trace = run_with(&["-c", "--denied"], &[program]);
        trace.report().findings.iter().map(|it| it.name.to_string()).collect()
    };
    for (program, finding) in [
        ("bad-released-at-exit", "released-at-exit"),
        ("bad-use-after-destroy", "use-after-destroy"),
        ("bad-setup-denied", "setup-denied"),
        ("bad-sandbox-denied", "sandbox-denied"),
        ("bad-cancel-refused", "cancel-refused"),
        ("bad-not-kernel-aio", "not-kernel-aio"),
    ] {
        assert!(found(program).contains(&finding.to_owned()), "{program}");
    }
    for program in [
        "exit-in-flight",
        "destroy-in-flight",
        "bad-iocb-reused-in-flight",
        "bad-short-submit-dropped",
        "bad-failed-completion",
        "bad-inline-completion",
    ] {
        let found = found(program);
        assert!(found.iter().all(|it| it == "released-at-exit"), "{program}: {found:?}");
    }
}

fn only_errors_are_shown_and_all_is_counted() {
    let stream = told(&run_program(&["pairs", "200"]));
    let trace = run_program_with(&["--only", "error"], &["pairs", "200"]);
    assert_eq!(told(&trace), Counts::new());
    let counted = trace.report().counted.as_ref().unwrap();
    assert_eq!(counted.calls, stream.values().map(|it| it.0).sum::<u64>());
    assert_eq!(counted.shown, Some(0));

    let whole = run_program_with(&[], &["bad-failed-completion"]);
    let trace = run_program_with(&["--only", "error"], &["bad-failed-completion"]);
    let failing = |it: &Trace| {
        let events = it.getevents().into_iter();
        events.filter(|it| it.events.iter().flatten().any(|it| it.res < 0)).count()
    };
    assert!(failing(&whole) > 0);
    assert_eq!((trace.getevents().len(), failing(&trace)), (failing(&whole), failing(&whole)));
    assert!(trace.submits().is_empty());
}

fn only_calls_about_some_requests_are_shown() {
    let trace = run_program_with(&["--only", "op=pread"], &["pairs", "20"]);
    assert_eq!((trace.submits().len(), trace.getevents().len()), (20, 20));
    let iocbs = trace.submits().into_iter().flat_map(|it| it.iocbs.iter().flatten());
    assert!(iocbs.into_iter().all(|it| it.op.as_deref() == Some("pread")));
    for other in ["op=pwrite", "fd=1000", "op=pread,error"] {
        let trace = run_program_with(&["--only", other], &["pairs", "20"]);
        assert_eq!(told(&trace), Counts::new(), "{other}");
    }
}

fn a_sample_has_a_part_of_the_calls_and_all_are_counted() {
    let trace = run_program_with(&["--sample", "10"], &["pairs", "2000"]);
    let shown = trace.submits().len() + trace.getevents().len();
    // Each processor begins its own count.
    assert!((390..=400).contains(&shown), "{shown}");
    let counted = trace.report().counted.as_ref().unwrap();
    assert_eq!((counted.calls, counted.shown), (4002, Some(shown as u64 + 2)));
    assert!(trace.findings().is_empty());
}

fn more_processes_than_rows_are_counted_together() {
    let trace = run_program_with(&["-c"], &["fork", "1500"]);
    let report = trace.report();
    let stream = told(&run_program(&["fork", "1500"]));
    assert_eq!(counted(report), stream);
    let rows = report.calls.as_ref().unwrap();
    assert!(rows.iter().any(|it| it.pid == 0), "{} rows", rows.len());
}

fn each_interval_has_its_own_counts() {
    let options = ["-c", "--requests", "--interval", "100ms"];
    let trace = run_program_with(&options, &["pairs", "300000"]);
    let mut timed = 0;
    let of = |it: &Line| match it {
        Line::Interval(it) => {
            timed += latencies_in(&it.contexts, "pread").0;
            Some(it.calls.iter().map(|it| it.calls).sum::<u64>())
        }
        _ => None,
    };
    let intervals: Vec<u64> = trace.lines.iter().filter_map(of).collect();
    let total: u64 = trace.report().calls.as_ref().unwrap().iter().map(|it| it.calls).sum();
    assert_eq!((total, latencies(&trace, "pread").0), (600_002, 300_000));
    assert!(timed > 0 && timed <= 300_000, "{timed}");
    assert!(intervals.len() > 1 && intervals.iter().sum::<u64>() <= total, "{intervals:?}");
}

/// The kernel's own count of what BPF programs cost, which is on while this lives.
struct Statistics {
    before: String,
}

impl Statistics {
    const FILE: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn set(value: &str) -> Self {
        let before = std::fs::read_to_string(Self::FILE).unwrap();
        std::fs::write(Self::FILE, value).unwrap();
        Self { before }
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::FILE, &self.before);
    }
}

fn what_the_probes_cost_is_told_where_the_kernel_counts_it() {
    let statistics = Statistics::set("1");
    let trace = run_program_with(&[], &["pairs", "1000"]);
    drop(statistics);
    let cost = trace.report().cost.as_ref().unwrap();
    assert!(cost.probe_runs.unwrap() >= 4000, "two programs at each of 2,000 calls: {cost:?}");
    assert!(cost.probe_ns.unwrap().0 > 0, "{cost:?}");
    assert!(trace.stderr.contains(" runs of probes took "), "{}", trace.stderr);
    let _statistics = Statistics::set("0");
    let trace = run_program_with(&[], &["pairs", "10"]);
    assert_eq!(trace.report().cost.as_ref().unwrap().probe_runs, None);
}

fn what_needs_every_call_is_refused() {
    let refused = |options: &[&str]| {
        let output = aiotrace().arg("run").args(options).args(["--", "true"]).output().unwrap();
        assert!(!output.status.success(), "{options:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--only", "error", "-c"]).contains("cannot be used with"));
    assert!(
        refused(&["--only", "error", "--inject", "io_submit:error=EAGAIN"]).contains("cannot be")
    );
    assert!(refused(&["--sample", "10", "--source", "ptrace"]).contains("not with ptrace"));
    assert!(refused(&["--sample", "0"]).contains("0"));
    assert!(refused(&["--only", "op=nonsense"]).contains("not one of pread"));
    assert!(
        refused(&["-c", "--interval", "1s", "--source", "ptrace"])
            .contains("counted in the kernel")
    );
}

tests![
    counts_are_those_of_the_stream if Need::LONG,
    every_errno_is_counted if Need::LONG,
    requests_are_counted_by_context_and_operation if Need::LONG,
    requests_have_a_latency_until_they_are_reaped if Need::LONG,
    latencies_of_processes_that_ended_are_kept if Need::LONG,
    durations_are_those_of_the_stream if Need::LONG,
    findings_that_need_no_requests_are_made_and_the_others_are_not if Need::LONG,
    only_errors_are_shown_and_all_is_counted if Need::LONG,
    only_calls_about_some_requests_are_shown if Need::LONG,
    a_sample_has_a_part_of_the_calls_and_all_are_counted if Need::LONG,
    more_processes_than_rows_are_counted_together if Need::LONG,
    each_interval_has_its_own_counts if Need::LONG,
    what_the_probes_cost_is_told_where_the_kernel_counts_it if Need::LONG,
    what_needs_every_call_is_refused if Need::SAME,
];
