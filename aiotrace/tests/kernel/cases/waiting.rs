//! Threads that wait, and what they wait for: D5, D6, D13, D20.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use aiotrace::output::json::Line;

use super::{
    Case, assert_all_differ, can_run, count, found, knows_in_flight, ready, rows, run_text,
};
use crate::{
    harness::Need,
    session,
    support::{Attached, Trace, aiotrace, parse, programs, set_options},
};

/// The text of a trace of two seconds of a program that waits already.
fn attach_text(arguments: &[&str], options: &[&str]) -> Option<String> {
    let mut program = ready(arguments)?;
    let text = text_of(program.pid(), options);
    program.go_on();
    assert!(program.child.wait().unwrap().success());
    Some(text)
}

fn text_of(pid: u32, options: &[&str]) -> String {
    let output = aiotrace()
        .args(["attach", "-q", "-d", "2", "-p", &pid.to_string()])
        .args(set_options(options))
        .args(options)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

/// Waits until a process is in an uninterruptible wait.
fn await_stuck(pid: u32) {
    let is_stuck = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('D')
    };
    let start = std::time::Instant::now();
    while !is_stuck() {
        assert!(start.elapsed().as_secs() < 30, "process {pid} does not wait");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// R4: each thread leaves a context with eight completions.
fn contexts_that_threads_leave_are_told_apart() {
    if !can_run(&["thread-leaves"]) {
        return;
    }
    let options = ["--unreaped-after", "500ms"];
    // Contexts are looked at one after the other.
    let time = std::time::Duration::from_secs(4);
    let trace = session::run_for(&options, &["thread-leaves"], time);
    assert_eq!(count(&trace, "unreaped-completions"), 4, "{:?}", found(&trace));
    let contexts: std::collections::BTreeSet<u64> = rows(&trace, "unreaped-completions")
        .iter()
        .filter_map(|it| it.context.as_ref().map(|it| it.id))
        .collect();
    assert!(contexts.len() == 4 || rows(&trace, "unreaped-completions").len() == 1, "{contexts:?}");
    let text = attach_text(&["thread-leaves"], &["--unreaped-after", "500ms"]).unwrap();
    let lines: Vec<_> = text.lines().filter(|it| it.contains("unreaped-completions: ")).collect();
    let named = lines.iter().filter_map(|it| it.split_once("(context ")?.1.split_once(')'));
    let named: std::collections::BTreeSet<&str> = named.map(|it| it.0).collect();
    assert!(named.len() == 4 || lines.iter().any(|it| it.contains("x 4")), "{text}");
    assert_all_differ(&text);
}

/// R22, traced from the start: the disk is slow, not the program.
fn a_file_that_does_not_answer_is_told_and_not_that_nobody_reaps() {
    if !can_run(&["stuck-read"]) {
        return;
    }
    let options = ["--stuck-after", "1s", "--unreaped-after", "500ms"];
    let trace = session::run_until_found(&options, &["stuck-read"], "request-stuck");
    let findings = trace.findings();
    let stuck = findings.iter().find(|it| it.name == "request-stuck").unwrap();
    let request = stuck.request.as_ref().unwrap();
    let first = (request.offset, request.nbytes);
    assert_eq!(first, (6 * 4096, 4096), "the first that is not answered");
    assert_eq!(count(&trace, "unreaped-completions"), 0, "{:?}", found(&trace));
}

/// R22, attached later; and D20: what is known of a process that hangs.
fn who_attaches_to_a_wait_learns_what_is_waited_for() {
    let text = attach_text(&["min-nr-waits"], &["--unreaped-after", "500ms"]).unwrap();
    assert!(text.contains("waits in io_getevents for 4 completions"), "{text}");
    assert!(!text.contains("unreaped-completions"), "{text}");
    let is_known = if tells_in_flight() { "no request is in flight" } else { NOT_KNOWN };
    assert!(text.contains(is_known), "{text}");

    let Some(text) = attach_text(&["stuck-read"], &["--unreaped-after", "500ms"]) else { return };
    assert!(!text.contains("unreaped-completions"), "{text}");
    assert!(text.contains("waits in io_getevents for 40 completions"), "{text}");
    let is_known = if tells_in_flight() { "; 34 requests are in flight; " } else { NOT_KNOWN };
    assert!(text.contains(is_known), "{text}");
    assert!(!text.contains("not-kernel-aio"), "{text}");
}

const NOT_KNOWN: &str = "what is in flight is not known (submitted before the attach; ";

/// Whether aiotrace can read the number of requests in flight: with BPF, on a kernel that tells it.
fn tells_in_flight() -> bool {
    knows_in_flight() && !set_options(&[]).contains(&"ptrace")
}

/// R22 with a program that waits for nothing: requests that have completed are not in flight.
fn what_is_in_flight_at_the_attach_is_told() {
    for count in [0, 3, 40] {
        let program = ready(&["pending", &count.to_string()]).unwrap();
        let pid = program.pid().to_string();
        let trace = Attached::new(&["-q", "-p", &pid, "-d", "1"]).end();
        let adopted: Vec<_> = trace.adopted().iter().map(|it| it.in_flight).collect();
        assert_eq!(adopted, [tells_in_flight().then_some(count)]);
        let listed = aiotrace().args(["ls", "--format", "json"]).output().unwrap();
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
        let rows = listed["processes"].as_array().unwrap();
        let row = rows.iter().find(|it| it["pid"] == program.pid()).unwrap();
        let in_flight = row["in_flight"].as_u64();
        assert_eq!(in_flight, knows_in_flight().then_some(count.into()), "{listed}");
    }
}

/// E13, ended by `--timeout`: the program might still have submitted the request again.
fn who_is_ended_while_it_waits_may_have_dropped_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let mut run = aiotrace();
    run.args(["run", "-q", "--timeout", "3s", "--format", "json", "-o"]).arg(&file);
    let run = run.args(set_options(&[])).arg("--").arg(programs()).arg("min-nr-waits");
    // The input of the program stays open, so it waits for ever.
    let mut run =
        run.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let input = run.stdin.take();
    assert_eq!(run.wait().unwrap().code(), Some(124));
    drop(input);
    let lines = parse(&std::fs::read_to_string(file).unwrap());
    let findings = lines.iter().filter_map(|it| match it {
        Line::Finding(it) if it.name == "short-submit-dropped" => Some(it.unsure),
        _ => None,
    });
    assert_eq!(findings.collect::<Vec<_>>(), [true]);
    // What it waits for is looked at before it is ended.
    let waits = lines.iter().find_map(|it| match it {
        Line::Report(it) => Some(it.waits.iter().map(|it| it.message.clone()).collect::<Vec<_>>()),
        _ => None,
    });
    let waits = waits.unwrap();
    let [wait] = &waits[..] else { panic!("{waits:?}") };
    assert!(
        wait.starts_with("waits in io_getevents for 4 completions without a timeout"),
        "{wait}"
    );
}

/// Whoever traces a process whose child uses AIO is told which one that is, and not that nobody does.
fn whose_child_uses_aio_is_told_which() {
    let script = format!("'{}' many 4 0; true", programs().display());
    let mut shell = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let text = text_of(shell.id(), &[]);
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert!(text.contains("has 4 contexts and is not traced: attach -p "), "{text}");
    assert!(text.contains("the target itself made no io_* call"), "{text}");
    assert!(!text.contains("POSIX AIO"), "{text}");
}

/// E13, traced from the start: the wait cannot end.
fn who_waits_for_a_request_that_was_refused_has_dropped_it() {
    let case = Case::of(&["-q"], &["min-nr-waits"]).unwrap();
    assert_eq!(count(&case.trace, "short-submit-dropped"), 1, "{:?}", found(&case.trace));
}

/// R23.
fn completions_that_an_eventfd_told_and_nobody_reaped_wait() {
    let options = ["--unreaped-after", "500ms"];
    let trace = session::run_until_found(&options, &["eventfd-miss"], "unreaped-completions");
    assert_eq!(found(&trace), ["warning unreaped-completions"]);
    assert_eq!(trace.findings()[0].evidence["unreaped"], 20, "30 - 10");
}

/// E11: the program hangs in io_destroy.
fn who_hangs_in_io_destroy_uses_kernel_aio() {
    let Some(mut program) = ready(&["exit-waits", "destroy"]) else { return };
    await_stuck(program.pid());
    let text = text_of(program.pid(), &[]);
    program.go_on();
    assert!(program.child.wait().unwrap().success());
    assert!(text.contains("io_destroy(") && text.contains("unfinished"), "{text}");
    assert!(!text.contains("not-kernel-aio"), "{text}");
}

/// E12: the program hangs in exit, where it has no context any more.
fn who_hangs_in_exit_waits_for_its_requests() {
    let Some(mut program) = ready(&["exit-waits", "exit"]) else { return };
    await_stuck(program.pid());
    let text = text_of(program.pid(), &[]);
    program.go_on();
    assert!(program.child.wait().unwrap().success());
    assert!(!text.contains("not-kernel-aio"), "{text}");
    let told = text.lines().find(|it| it.contains("exit") && it.contains("requests"));
    assert!(told.is_some_and(|it| it.contains("waits")), "{text}");
}

/// R7: the calls are counted. (That they return nothing has a finding of its own.)
fn a_loop_that_reaps_nothing_is_counted() {
    let case = Case::of(&["-c"], &["busy-reap", "2000"]).unwrap();
    let made: u64 =
        case.said.lines().find_map(|it| it.strip_suffix(" calls")?.parse().ok()).unwrap();
    let calls = case.trace.report().calls.as_ref().unwrap();
    let of = calls.iter().find(|it| it.call == "io_getevents").unwrap();
    assert_eq!(of.calls, made, "{of:?}");
}

/// R5: the result of a poll is a mask, and its bits have names.
fn results_of_polls_have_names() {
    let text = run_text(&[], &["poll-closed"]).unwrap();
    let reaped: Vec<_> = text.lines().filter(|it| it.contains("io_getevents(")).collect();
    assert_eq!(reaped.len(), 5, "{text}");
    assert!(reaped.iter().all(|it| it.contains("POLLIN")), "{text}");
}

/// E44: without a probe for completions, a latency is an upper bound, and is marked as one.
fn a_latency_that_is_a_bound_is_shown_as_one() {
    let text = run_text(&["-q", "--probes", "syscall"], &["pairs", "20"]).unwrap();
    let row = text.lines().rfind(|it| it.contains(" pread "));
    let row = row.unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("<="), "{text}");
}

/// D9: the text of [`contexts_that_threads_leave_are_told_apart`] and of other programs.
fn no_line_is_told_twice() {
    for arguments in [&["exec-self", "4"][..], &["many", "20", "30"], &["closed-fd"]] {
        assert_all_differ(&run_text(&["-q"], arguments).unwrap());
    }
}

/// aiotrace attaches to a target while it executes itself.
fn a_target_that_executes_itself_is_followed() {
    let mut program = ready(&["exec-self", "14"]).unwrap();
    let attached = Attached::new(&["-p", &program.pid().to_string()]);
    program.go_on();
    let trace = attached.end();
    let counts = (trace.setups().len(), trace.submits().len(), trace.getevents().len());
    assert_eq!(counts, (15, 90, 75));
    assert_eq!(count(&trace, "released-at-exit"), 15, "{:?}", trace.report().findings);
    assert!(rows(&trace, "released-at-exit").len() <= 2, "exec and exit, each with its count");
}

/// The same with several attaches, one after the other.
fn a_target_that_executes_itself_is_followed_from_any_moment_on() {
    let mut program = ready(&["exec-self", "6000", "20"]).unwrap();
    let pid = program.pid().to_string();
    program.go_on();
    for round in 0..4 {
        std::thread::sleep(std::time::Duration::from_millis(3 * round));
        let output = aiotrace()
            .args(["attach", "--format", "json", "-d", "100ms", "-p", &pid])
            .args(set_options(&[]))
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let text = String::from_utf8(output.stdout).unwrap();
        let (lines, status) = (parse(&text), output.status);
        let trace = Trace { lines, stderr, status, most_memory: 0 };
        trace.assert_nothing_lost();
        let submits = trace.submits().len();
        assert!(submits.abs_diff(6 * trace.setups().len()) <= 6, "{submits}");
        let known = ["info released-at-exit", "info inline-completion"];
        assert!(found(&trace).iter().all(|it| known.contains(&&**it)), "{:?}", found(&trace));
        let ends = rows(&trace, "released-at-exit");
        assert!(ends.len() <= 2, "exec and exit, each with its count: {ends:?}");
        let mut told: Vec<&str> = trace.findings().iter().map(|it| &*it.message).collect();
        let all = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!(all, told.len(), "each once: {told:?}");
    }
}

tests![
    contexts_that_threads_leave_are_told_apart if Need::LONG,
    a_file_that_does_not_answer_is_told_and_not_that_nobody_reaps if Need::SAME,
    who_attaches_to_a_wait_learns_what_is_waited_for if Need::LONG,
    what_is_in_flight_at_the_attach_is_told if Need::LONG,
    who_is_ended_while_it_waits_may_have_dropped_it if Need::LONG,
    who_waits_for_a_request_that_was_refused_has_dropped_it if Need::SAME,
    whose_child_uses_aio_is_told_which if Need::Native("it runs a shell"),
    completions_that_an_eventfd_told_and_nobody_reaped_wait if Need::LONG,
    who_hangs_in_io_destroy_uses_kernel_aio if Need::LONG,
    who_hangs_in_exit_waits_for_its_requests if Need::LONG,
    a_loop_that_reaps_nothing_is_counted if Need::SAME,
    results_of_polls_have_names if Need::SAME,
    a_latency_that_is_a_bound_is_shown_as_one if Need::SAME,
    no_line_is_told_twice if Need::LONG,
    a_target_that_executes_itself_is_followed if Need::LONG,
    a_target_that_executes_itself_is_followed_from_any_moment_on
        if Need::Native("where a processor is emulated, an attach takes many times as long"),
];
