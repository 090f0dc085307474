//! `aiotrace run` from the user's side: status, users, signals, output.

use std::process::{Command, Output, Stdio};

use super::{
    harness::Need,
    support::{Program, aiotrace, await_that, await_work, binary, programs},
};

fn run(options: &[&str], command: &[&str]) -> Output {
    aiotrace().arg("run").args(options).arg("--").args(command).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn program() -> String {
    programs().to_str().unwrap().to_owned()
}

fn the_status_is_that_of_the_program() {
    for status in [0, 1, 42] {
        let output = run(&[], &[&program(), "exit-status", &status.to_string()]);
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
    }
    let output = run(&[], &[&program(), "exit-status", "137"]);
    assert_eq!(output.status.code(), Some(137));
    assert!(text(&output.stdout).contains("+++ killed by SIGKILL +++"));
}

fn what_cannot_be_executed_is_126_or_127() {
    let output = run(&[], &["no-such-program-anywhere"]);
    assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cannot execute no-such-program-anywhere"));
    let output = run(&[], &["/etc/passwd"]);
    assert_eq!(output.status.code(), Some(126), "{}", text(&output.stderr));
}

fn a_failure_of_ours_is_125_and_the_program_never_begins() {
    let mark = tempfile::tempdir().unwrap();
    let mark = mark.path().join("begun");
    let output = run(&["-o", "/no/such/file"], &["touch", mark.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    assert!(!mark.exists());
    let output = run(&["-u", "no-such-user"], &["true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("no such user: no-such-user"));
    assert_eq!(run(&["--no-such-option"], &["true"]).status.code(), Some(125));
}

fn it_runs_as_another_user() {
    let output = run(&["-u", "nobody", "-o", "/dev/null"], &["id", "-un"]);
    assert_eq!(text(&output.stdout), "nobody\n");
}

fn the_summary_counts_calls_and_errors() {
    let output = run(&["-c"], &[&program(), "errnos"]);
    let summary = text(&output.stdout);
    let row = |name: &str| {
        let line = summary.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("io_setup")[1..3], ["9", "5"], "{summary}");
    assert!(row("io_setup").join(" ").contains("EAGAIN 1"), "{summary}");
    assert_eq!(row("io_destroy")[1..3], ["5", "1"], "{summary}");
    assert!(row("io_cancel").join(" ").contains("EINPROGRESS 1"), "{summary}");
}

fn a_reader_who_goes_away_is_no_error() {
    let command = format!("{} run -- {} pairs 100000 | head -n 1", binary().display(), program());
    let script = format!("set -o pipefail; {command}");
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

fn a_full_disk_is_an_error_and_the_program_goes_on() {
    let mark = tempfile::NamedTempFile::new().unwrap();
    let script = format!("{} pairs 1000 && echo done > {}", program(), mark.path().display());
    let output = run(&["-f", "-o", "/dev/full"], &["/bin/sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(std::fs::read_to_string(mark.path()).unwrap(), "done\n", "the program went on");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("cannot write the output"), "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
}

/// The same with an attach: the target finishes its work.
fn an_attach_that_cannot_write_ends_and_the_target_goes_on() {
    let small = Small::new();
    let full = ["-o", "/dev/full"].map(str::to_owned);
    let tmpfs = ["-o".to_owned(), small.0.path().join("trace").display().to_string()];
    for output in [full, tmpfs] {
        // The target makes pairs of calls without end, so the disk is full in a moment.
        let target = Program::ready(&["storm"]);
        let mut tracer = aiotrace();
        tracer.args(["attach", "-p", &target.pid().to_string()]).args(&output);
        let tracer = tracer.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = tracer.wait_with_output().unwrap();
        await_work(target.pid());
        let stderr = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{output:?}: {stderr}");
        assert!(stderr.contains("cannot write the output"), "{stderr}");
        assert!(stderr.contains("No space left"), "{stderr}");
    }
}

/// A file system of one page.
struct Small(tempfile::TempDir);

impl Small {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(directory.path());
        assert!(mount.status().unwrap().success(), "mount");
        Self(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// An output that is closed is /dev/null for aiotrace, and everything works.
fn closed_outputs_harm_nobody() {
    for closed in [">&-", "2>&-", ">&- 2>&-"] {
        let mut target = Program::ready(&["closed-fd"]);
        let script = format!("exec \"$0\" attach -p {} {closed}", target.pid());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(binary()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut tracer = shell.spawn().unwrap();
        super::attach::await_attached(tracer.id());
        target.go_on();
        assert_eq!(target.line(), "180 of 200 writes lost", "the target went on");
        assert!(target.child.wait().unwrap().success());
        assert_eq!(tracer.wait().unwrap().code(), Some(0), "{closed}");
    }
}

/// The reader of our output reads nothing until the target is done: records are lost and counted, and the target is
/// not held up.
fn a_slow_reader_loses_events_and_not_the_target() {
    let child = aiotrace()
        .args(["run", "--format", "json", "--", &program(), "pairs", "400000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The end of the program is taken from its process, because our pipe is full.
    let mut pid = None;
    await_that("the program begins", || {
        pid = super::processes::launched_by(child.id());
        pid.is_some()
    });
    let pid = pid.unwrap();
    while aiotrace::proc::is_alive(pid) {
        std::thread::yield_now();
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("LOST") && stderr.contains("output slower"), "{stderr}");
    let lines = super::support::parse(&text(&output.stdout));
    let lost: u64 = lines
        .iter()
        .map(|line| match line {
            aiotrace::output::json::Line::Lost(lost) => lost.records,
            _ => 0,
        })
        .sum();
    let Some(aiotrace::output::json::Line::Report(report)) = lines.last() else {
        panic!("no report")
    };
    assert!(lost > 0 && lost <= report.lost, "{lost} told in between, {} in all", report.lost);
}

fn sigterm_ends_the_program_too() {
    let child = aiotrace()
        .args(["run", "--format", "json", "--", &program(), "storm"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    super::attach::await_attached(child.id());
    // SAFETY: the signal goes to our own child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + libc::SIGTERM), "{}", text(&output.stderr));
}

fn doctor_says_that_tracing_works() {
    let output = aiotrace().arg("doctor").output().unwrap();
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    for program in super::attach::syscall_set() {
        let yes =
            |line: &str| line.trim_start().starts_with(program.name) && line.contains(" yes ");
        assert!(out.lines().any(yes), "{out}");
    }
}

fn a_program_without_aio_is_told_so() {
    let output = run(&[], &["true"]);
    assert!(text(&output.stdout).contains("made no io_* call"), "{}", text(&output.stdout));
}

tests![
    the_status_is_that_of_the_program if Need::LONG,
    what_cannot_be_executed_is_126_or_127 if Need::LONG,
    a_failure_of_ours_is_125_and_the_program_never_begins if Need::LONG,
    it_runs_as_another_user if Need::LONG,
    the_summary_counts_calls_and_errors if Need::LONG,
    a_reader_who_goes_away_is_no_error if Need::Native("it runs bash"),
    a_full_disk_is_an_error_and_the_program_goes_on if Need::LONG,
    an_attach_that_cannot_write_ends_and_the_target_goes_on
        if Need::Native("it runs mount"),
    closed_outputs_harm_nobody
        if Need::Native("it waits for the links of the probe set of this machine"),
    a_slow_reader_loses_events_and_not_the_target if Need::LONG,
    sigterm_ends_the_program_too if Need::Native("it waits for the links of the probe set of this machine"),
    doctor_says_that_tracing_works if Need::LONG,
    a_program_without_aio_is_told_so if Need::LONG,
];
