//! Public reports and cases from practice, each as a program of `programs/src/cases`, and what a trace must say of
//! them. docs/dev/cases.md lists them: the case, what is right, and the test that shows it.
//!
//! A program that needs what this machine does not have (a disk with O_DIRECT, /dev/fuse) says so and ends with
//! status 77: then the test is ignored, with that reason.

pub mod faults;
pub mod refused;
pub mod results;
pub mod rings;
pub mod scale;
pub mod waiting;

use std::{
    fs,
    process::{Command, Stdio},
};

use aiotrace::output::json::{FindingLine, FindingRow};

use super::{
    harness::cannot_run,
    support::{Program, Trace, output_of, parse, programs},
};

/// The status of a program that cannot run here.
const CANNOT_RUN: i32 = 77;

/// What aiotrace wrote about a program, and what the program said.
struct Case {
    trace: Trace,
    said: String,
}

/// Runs a program under `aiotrace run -f` with these options, with no input. `None`: it cannot run here, and has said
/// why.
fn run(options: &[&str], arguments: &[&str]) -> Option<Case> {
    let (text, trace, said) = run_as("json", options, arguments)?;
    let case = Case { trace: Trace { lines: parse(&text), ..trace }, said };
    Some(case)
}

/// Runs a program in the same way, and returns the output as text.
fn run_text(options: &[&str], arguments: &[&str]) -> Option<String> {
    let (text, trace, _) = run_as("text", options, arguments)?;
    Some(text + &trace.stderr)
}

fn run_as(format: &str, options: &[&str], arguments: &[&str]) -> Option<(String, Trace, String)> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let output = output_of(&file, format, options, arguments);
    let said = String::from_utf8(output.stdout).unwrap();
    if output.status.code() == Some(CANNOT_RUN) {
        assert!(!said.trim().is_empty(), "it says why it cannot run");
        cannot_run(&said);
        return None;
    }
    let stderr = String::from_utf8(output.stderr).unwrap();
    let text = fs::read_to_string(&file).unwrap_or_default();
    assert!(!text.is_empty(), "{arguments:?}: {stderr}");
    Some((text, Trace { lines: Vec::new(), stderr, status: output.status, most_memory: 0 }, said))
}

/// Starts a program that waits; `None`: it cannot run here, and has said why.
fn ready(arguments: &[&str]) -> Option<Program> {
    let mut program = Program::start(arguments);
    let line = program.line();
    if line != "ready" {
        assert_eq!(program.child.wait().unwrap().code(), Some(CANNOT_RUN), "{line:?}");
        cannot_run(&line);
        return None;
    }
    Some(program)
}

/// Whether a program can run here; if not, it says why. It ends because it has no input.
fn can_run(arguments: &[&str]) -> bool {
    let output = Command::new(programs()).args(arguments).stdin(Stdio::null()).output().unwrap();
    let is_refused = output.status.code() == Some(CANNOT_RUN);
    assert!(!is_refused || !output.stdout.is_empty(), "it says why it cannot run");
    if is_refused {
        cannot_run(&String::from_utf8_lossy(&output.stdout));
    }
    !is_refused
}

impl Case {
    /// As [`run`], for a program that succeeds, and without losses.
    fn of(options: &[&str], arguments: &[&str]) -> Option<Self> {
        let case = run(options, arguments)?;
        assert!(case.trace.status.success(), "{arguments:?}: {}", case.trace.stderr);
        case.trace.assert_nothing_lost();
        Some(case)
    }
}

/// Names and severities of the findings, in order; with `unsure`, if they are.
fn found(trace: &Trace) -> Vec<String> {
    let in_words = |it: &FindingLine| {
        let unsure = if it.unsure { " (unsure)" } else { "" };
        format!("{} {}{unsure}", it.severity, it.name)
    };
    // On a busy machine an io_submit may really wait.
    let findings = trace.findings().into_iter().filter(|it| it.name != "blocking-submit");
    let mut found: Vec<String> = findings.map(in_words).collect();
    found.sort();
    found.dedup();
    found
}

/// The rows of the report with this finding.
fn rows<'a>(trace: &'a Trace, name: &str) -> Vec<&'a FindingRow> {
    trace.report().findings.iter().filter(|it| it.name == name).collect()
}

/// How often something was found.
fn count(trace: &Trace, name: &str) -> u64 {
    rows(trace, name).iter().map(|it| it.count).sum()
}

/// Requests in all contexts, and the most in flight in one.
fn requests(trace: &Trace) -> (u64, u64) {
    let of = &trace.report().contexts;
    let peak = of.iter().map(|it| it.peak_in_flight).max();
    (of.iter().map(|it| it.requests).sum(), peak.unwrap_or(0))
}

/// The lines of findings and faults in a text, without their times.
fn told(text: &str) -> Vec<&str> {
    let line = |it: &'static str| move |line: &&str| line.contains(it);
    text.lines()
        .filter(line("*** "))
        .filter_map(|it| it.split_once("*** ").map(|it| it.1))
        .collect()
}

/// Whether the number of requests in flight can be read. Without CONFIG_KALLSYMS_ALL it cannot: nothing says where
/// the kernel keeps its counters for each processor.
pub fn knows_in_flight() -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    symbols.lines().any(|it| {
        let mut words = it.split(' ');
        let address = words.next().unwrap_or_default();
        words.nth(1) == Some("__per_cpu_offset") && !address.bytes().all(|it| it == b'0')
    })
}

/// No two lines about findings say the same.
fn assert_all_differ(text: &str) {
    let mut lines = told(text);
    lines.sort_unstable();
    let all = lines.len();
    lines.dedup();
    assert_eq!(all, lines.len(), "equal lines: {text}");
}
