//! Many contexts, many threads, long names: D8, D9, D15, D18.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::Stdio,
};

use aiotrace::output::json::FunctionObject;

use super::{found, knows_in_flight, ready, requests, rows, run_text};
use crate::{
    harness::Need,
    session,
    support::{Attached, aiotrace, programs, set_options},
};

/// E22: all contexts are alive, and the report fits on one screen.
fn contexts_are_counted_beyond_256() {
    let most: u64 = fs::read_to_string("/proc/sys/fs/aio-max-nr").unwrap().trim().parse().unwrap();
    for contexts in [300, 5000, 60_000] {
        // Each context takes some 8 KiB of the kernel's memory.
        if contexts > most || contexts * 8192 > free_memory() / 2 {
            continue;
        }
        let mut program = ready(&["many", &contexts.to_string(), "0"]).unwrap();
        let output = aiotrace()
            .args(["attach", "-q", "-d", "2", "-p", &program.pid().to_string()])
            .args(set_options(&[]))
            .output()
            .unwrap();
        program.go_on();
        let text = String::from_utf8(output.stdout).unwrap();
        let head = text.lines().find(|it| it.contains("contexts:")).unwrap();
        let plain = head.replace(',', "");
        assert!(plain.contains(&format!("{contexts} of them alive")), "{head}");
        assert!(text.lines().count() <= 50, "{} lines for {contexts}", text.lines().count());
    }
}

fn free_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|it| it.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// E21: one file has one finding, however many descriptors it has.
fn many_threads_that_do_the_same_are_told_once() {
    let mut program = ready(&["many", "10", "500"]).unwrap();
    let attached = Attached::new(&["-q", "-p", &program.pid().to_string()]);
    program.go_on();
    let trace = attached.end();
    assert_eq!(requests(&trace).0 + others(&trace), 500 * 20, "reads");
    let inline = rows(&trace, "inline-completion");
    // Descriptors that were closed before they could be looked up have a row of their own.
    let all: u64 = inline.iter().map(|it| it.count).sum();
    assert!(inline.len() <= 2 && all == 500, "{inline:?}");
    let mut found = found(&trace);
    // On a busy machine a call may take long.
    found.retain(|it| it != "warning blocking-submit");
    found.sort();
    found.dedup();
    assert_eq!(found, ["info inline-completion", "info released-at-exit"]);
    let text = run_text(&["-q"], &["many", "10", "500"]).unwrap();
    let lines = text.lines().filter(|it| !it.contains("blocking-submit")).count();
    assert!(lines <= 50, "{lines} lines: {text}");
}

fn others(trace: &crate::support::Trace) -> u64 {
    trace.report().other_contexts.as_ref().map_or(0, |it| it.requests)
}

/// R17: the finding says who makes contexts and drops them, and where.
fn a_reader_that_is_made_anew_grows_and_its_place_is_named() {
    let options = ["--growth", "8", "--idle-after", "1s"];
    let trace = session::run_until_found(&options, &["reconnect"], "context-growth");
    let findings = trace.findings();
    let finding = findings.iter().find(|it| it.name == "context-growth").unwrap();
    assert!(finding.evidence["idle"] >= 8, "{:?}", finding.evidence);
    let stack = finding.stack.as_ref().unwrap();
    let source = include_str!("../../../../programs/src/cases/contexts.rs");
    let line = (1..).zip(source.lines()).find(|(_, it)| it.contains("// here: io_setup"));
    let line = line.map(|it| it.0);
    let is_place = |it: &&FunctionObject| {
        let is =
            |text: &Option<String>, what: &str| text.as_ref().is_some_and(|it| it.contains(what));
        is(&it.function, "make_reader") && is(&it.file, "programs/src/cases/contexts.rs")
    };
    assert!(stack.iter().filter(is_place).any(|it| it.line == line), "{line:?} of {stack:?}");
}

/// D18: the report names the findings that need more time than the trace had.
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

/// E29: a name of 15 letters is shown whole.
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

/// E41: nothing was traced, so there is no trace, and the status is the shell's.
fn what_cannot_be_executed_has_one_status() {
    for (program, status) in [("/no/such/program", 127), ("/etc/passwd", 126), ("/", 126)] {
        let output = aiotrace().args(["run", "-q", "--", program]).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{program}");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.starts_with("aiotrace: cannot execute "), "{program}: {text}");
        assert_eq!(text.lines().count(), 1, "{program}: {text}");
    }
    // That its interpreter is missing is known only when the probes are attached.
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    for source in ["bpf", "ptrace"] {
        let run = ["run", "--source", source, "--"];
        let output = aiotrace().args(run).arg(&script).output().unwrap();
        assert_eq!(output.status.code(), Some(127), "{source}");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains("aiotrace: cannot execute ") && !text.contains("==="), "{text}");
    }
}

/// E34: two aiotraces trace one target.
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

/// E34: one aiotrace traces another, which goes on; the traced aiotrace makes no AIO call itself.
fn a_tracer_can_be_traced() {
    let mut program = ready(&["wait", "24"]).unwrap();
    let first = Attached::to(program.pid());
    let second = Attached::to(first.child.id());
    program.go_on();
    let (first, second) = (first.end(), second.end());
    first.assert_nothing_lost();
    assert_eq!((first.setups().len(), first.submits().len()), (1, 24));
    second.assert_nothing_lost();
    assert!(second.status.success(), "{}", second.stderr);
    assert_eq!((second.setups().len(), second.submits().len()), (0, 0));
    assert!(found(&second).iter().all(|it| it.starts_with("info")), "{:?}", found(&second));
}

/// E39: the output depends neither on the language, nor on the width of the terminal when it goes to a file.
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

/// E39 for a trace.
fn a_language_changes_nothing_of_a_trace_either() {
    let program = ready(&["many", "4", "0"]).unwrap();
    let pid = program.pid().to_string();
    let said = |arguments: &[&str], language: &str, columns: &str, zone: &str| {
        let mut command = aiotrace();
        command.args(arguments).env("LANG", language).env("LC_ALL", language);
        let output = command.env("COLUMNS", columns).env("TZ", zone).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // Lines of the target's own process, without times.
        let is_its = |it: &&str| {
            !it.contains("aio-nr")
                && (it.split([' ', ':']).any(|it| it == pid) || it.contains("==="))
        };
        let without_times = |it: &str| {
            let words = it.split_whitespace().filter(|it| *it == pid || !has_digit(it));
            words.collect::<Vec<_>>().join(" ")
        };
        text.lines().filter(is_its).map(without_times).collect::<Vec<_>>()
    };
    for arguments in [&["ls"][..], &["attach", "-d", "50ms", "-p", &pid]] {
        let expected = said(arguments, "C", "80", "UTC");
        assert!(!expected.is_empty(), "{arguments:?}");
        for (language, columns, zone) in
            [("fr_FR.UTF-8", "40", "Asia/Kathmandu"), ("C.UTF-8", "200", "America/New_York")]
        {
            assert_eq!(said(arguments, language, columns, zone), expected, "{language} {columns}");
        }
    }
}

fn has_digit(text: &str) -> bool {
    text.contains(|it: char| it.is_ascii_digit())
}

/// E37: the shortest time, and the first processes.
fn the_shortest_time_and_the_first_processes_can_be_traced() {
    let pid = std::process::id().to_string();
    for (options, status, said) in [
        (&["-d", "1ns", "-p", &pid][..], 0, "none lost"),
        (&["-d", "1ms", "-p", "1"], 0, "none lost"),
        (&["-p", "0"], 2, "no such process: 0"),
        // Process 2 is a thread of the kernel, if it can be seen.
        (&["-d", "1ms", "-p", "2"], 0, "none lost"),
    ] {
        if options.ends_with(&["2"]) && !is_kthreadd(2) {
            continue;
        }
        let output =
            aiotrace().arg("attach").args(set_options(&[])).args(options).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{options:?}: {text}");
        assert!(text.contains(said), "{options:?}: {text}");
    }
}

fn is_kthreadd(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it == "kthreadd\n")
}

/// E45: nothing is in flight in idle contexts, and the report shows no upper bound for them.
fn idle_contexts_have_nothing_in_flight() {
    let program = ready(&["many", "4", "0"]).unwrap();
    let output = aiotrace().arg("ls").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pid = program.pid().to_string();
    let row = text.lines().find(|it| it.split_whitespace().any(|word| word == pid));
    let row = row.unwrap_or_else(|| panic!("{text}"));
    let in_flight = row.split_whitespace().nth(5).unwrap();
    assert!(in_flight == "0" || (in_flight == "?" && !knows_in_flight()), "{text}");
}

tests![
    a_language_changes_nothing if Need::SAME,
    idle_contexts_have_nothing_in_flight if Need::SAME,
    a_language_changes_nothing_of_a_trace_either if Need::LONG,
    the_shortest_time_and_the_first_processes_can_be_traced
        if Need::Native("process 1 of a guest runs the tests"),
    two_tracers_see_the_same if Need::LONG,
    a_tracer_can_be_traced if Need::LONG,
    contexts_are_counted_beyond_256 if Need::LONG,
    many_threads_that_do_the_same_are_told_once if Need::LONG,
    a_reader_that_is_made_anew_grows_and_its_place_is_named if Need::SAME,
    no_findings_says_for_how_long_it_watched if Need::LONG,
    a_long_name_is_shown_from_its_beginning if Need::SAME,
    what_cannot_be_executed_has_one_status if Need::LONG,
];
