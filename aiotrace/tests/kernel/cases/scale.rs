//! Many contexts, many threads, long names: D8, D9, D15, D18.

use std::{fs, os::unix::fs::symlink, process::Stdio, time::Instant};

use super::{count, found, ready, requests, rows, run_text};
use crate::{
    harness::Need,
    machine, session,
    support::{Attached, aiotrace, programs, set_options},
};

/// E22: all of them are alive, and the report is of one screen.
fn contexts_are_counted_beyond_256() {
    let most: u64 = fs::read_to_string("/proc/sys/fs/aio-max-nr").unwrap().trim().parse().unwrap();
    for contexts in [300, 5000, 60_000] {
        // Each takes some 8 KiB of the kernel's memory.
        if contexts > most || contexts * 8192 > free_memory() / 2 {
            continue;
        }
        let mut program = ready(&["many", &contexts.to_string(), "0"]).unwrap();
        let start = Instant::now();
        let output = aiotrace()
            .args(["attach", "-q", "-d", "2", "-p", &program.pid().to_string()])
            .args(set_options(&[]))
            .output()
            .unwrap();
        let took = start.elapsed();
        program.go_on();
        let text = String::from_utf8(output.stdout).unwrap();
        let head = text.lines().find(|it| it.contains("contexts:")).unwrap();
        let plain = head.replace(',', "");
        assert!(plain.contains(&format!("{contexts} of them alive")), "{head}");
        assert!(text.lines().count() <= 50, "{} lines for {contexts}", text.lines().count());
        let is_in_time = took.as_secs_f64() < 4.0 || machine::guest().is_some();
        assert!(is_in_time, "{took:?} for {contexts}");
    }
}

fn free_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|it| it.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// E21: one finding for one file, however many descriptors it has.
fn many_threads_that_do_the_same_are_told_once() {
    let mut program = ready(&["many", "10", "200"]).unwrap();
    let attached = Attached::new(&["-q", "-p", &program.pid().to_string()]);
    program.go_on();
    let trace = attached.end();
    assert_eq!(requests(&trace).0 + others(&trace), 200 * 20, "reads");
    let inline = rows(&trace, "inline-completion");
    // Descriptors that were closed before they could be looked up are told apart.
    assert!(inline.len() <= 2, "{inline:?}");
    // A number that is free again is another thread's, and one descriptor to us.
    assert!((1..=200).contains(&count(&trace, "inline-completion")), "{inline:?}");
    assert_eq!(found(&trace), ["info inline-completion", "info released-at-exit"]);
    let text = run_text(&["-q"], &["many", "10", "200"]).unwrap();
    assert!(text.lines().count() <= 50, "{} lines: {text}", text.lines().count());
}

fn others(trace: &crate::support::Trace) -> u64 {
    trace.report().other_contexts.as_ref().map_or(0, |it| it.requests)
}

/// R17: who makes contexts and drops them, from where.
fn a_reader_that_is_made_anew_grows_and_its_place_is_named() {
    let options = ["--growth", "8", "--idle-after", "1s"];
    let trace = session::run_until_found(&options, &["reconnect"], "context-growth");
    let findings = trace.findings();
    let finding = findings.iter().find(|it| it.name == "context-growth").unwrap();
    assert!(finding.evidence["idle"] >= 8, "{:?}", finding.evidence);
    let stack = finding.stack.as_ref().unwrap();
    let is_reconnect = |it: &Option<String>| it.as_ref().is_some_and(|it| it.contains("reconnect"));
    assert!(stack.iter().any(|it| is_reconnect(&it.function)), "{stack:?}");
}

/// D18: what takes longer to be seen than the trace took.
fn no_findings_says_for_how_long_it_watched() {
    let mut program = ready(&["eventfd-miss"]).unwrap();
    let output = aiotrace()
        .args(["attach", "-q", "-d", "1500ms", "-p", &program.pid().to_string()])
        .args(set_options(&[]))
        .output()
        .unwrap();
    program.go_on();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|it| it.contains("no findings"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    for what in ["need 10.0s", "request-stuck 30.0s"] {
        assert!(line.contains(what), "{line}");
    }
    let watched = line.split_once("watched ").and_then(|it| it.1.split_once("s;"));
    let watched: f64 = watched.and_then(|it| it.0.parse().ok()).unwrap();
    assert!((1.5..10.0).contains(&watched), "{line}");
}

/// E29: a name of 15 letters is not cut.
fn a_long_name_is_shown_from_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("a_very_long_program_x");
    symlink(programs(), &program).unwrap();
    let output = aiotrace()
        .args(["run", "-q", "--"])
        .arg(&program)
        .args(["pairs", "5"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text.lines().find(|it| it.contains("pread")).unwrap();
    assert!(row.contains("a_very_long_pro"), "{text}");
}

/// E41: one status, and the same everywhere.
fn what_cannot_be_executed_has_one_status() {
    let output = aiotrace().args(["run", "--", "/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!text.contains("exited with 125"), "{text}");
}

/// E34: two aiotraces on one target.
fn two_tracers_see_the_same() {
    let mut program = ready(&["wait", "24"]).unwrap();
    let tracers = [Attached::to(program.pid()), Attached::to(program.pid())];
    program.go_on();
    let counts = tracers.map(|it| {
        let trace = it.end();
        trace.assert_nothing_lost();
        (trace.setups().len(), trace.submits().len(), trace.getevents().len())
    });
    assert_eq!(counts, [(1, 24, 24); 2]);
}

/// E39: what is written does not depend on the language, nor on the width of what is no terminal.
fn a_language_changes_nothing() {
    let explained = |language: &str, columns: &str| {
        let mut command = aiotrace();
        command.args(["explain", "io_submit", "EINVAL"]);
        command.env("LANG", language).env("LC_ALL", language).env("COLUMNS", columns);
        command.env("TZ", if columns == "80" { "UTC" } else { "Asia/Kathmandu" });
        let output = command.output().unwrap();
        assert!(output.status.success());
        output.stdout
    };
    let expected = explained("C", "80");
    assert!(!expected.is_empty());
    for (language, columns) in [("fr_FR.UTF-8", "40"), ("C.UTF-8", "200"), ("nonsense", "0")] {
        assert_eq!(explained(language, columns), expected, "{language} {columns}");
    }
}

/// E45: nothing is in flight in idle contexts, and no bound is shown for it.
fn idle_contexts_have_nothing_in_flight() {
    let program = ready(&["many", "4", "0"]).unwrap();
    let output = aiotrace().arg("ls").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pid = program.pid().to_string();
    let row = text.lines().find(|it| it.split_whitespace().any(|word| word == pid));
    let row = row.unwrap_or_else(|| panic!("{text}"));
    let in_flight = row.split_whitespace().nth(5).unwrap();
    assert!(["0", "?"].contains(&in_flight), "{text}");
}

tests![
    a_language_changes_nothing if Need::SAME,
    idle_contexts_have_nothing_in_flight if Need::SAME,
    two_tracers_see_the_same if Need::LONG,
    contexts_are_counted_beyond_256 if Need::LONG,
    many_threads_that_do_the_same_are_told_once if Need::SAME,
    a_reader_that_is_made_anew_grows_and_its_place_is_named if Need::SAME,
    no_findings_says_for_how_long_it_watched if Need::SAME,
    a_long_name_is_shown_from_its_beginning if Need::SAME,
    what_cannot_be_executed_has_one_status if Need::SAME,
];
