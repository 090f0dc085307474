//! Verdicts from the user's side: what the two halves say of programs, `--fail-on-fault`, `--timeout`, and a line for
//! each rule.

use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use aiotrace::output::json::{FaultLine, Line};

use super::{
    harness::Need,
    support::{Trace, aiotrace, programs, run_with},
};

fn faults(trace: &Trace) -> Vec<&FaultLine> {
    let all = trace.lines.iter();
    all.filter_map(|line| if let Line::Fault(it) = line { Some(it) } else { None }).collect()
}

fn with_rule(rule: &str, program: &[&str]) -> Trace {
    let trace = run_with(&["--seed", "1", "--inject", rule], program);
    trace.assert_nothing_lost();
    trace
}

/// Runs with BPF, where this kernel has a mechanism for the rule, and always with ptrace.
fn by_each_source(rule: &str, program: &[&str], check: impl Fn(&Trace)) {
    check(&with_rule(rule, program));
    let options = ["--source", "ptrace", "--seed", "1", "--inject", rule];
    let trace = run_with(&options, program);
    trace.assert_nothing_lost();
    check(&trace);
    // Threads that no filter stops are watched, too.
    let options = ["--no-seccomp", "--source", "ptrace", "--seed", "1", "--inject", rule];
    check(&run_with(&options, program));
}

fn what_is_dropped_and_what_is_done_otherwise_stand_side_by_side() {
    by_each_source("io_submit:error=EAGAIN:max=1", &["drop-reuse"], |trace| {
        let [verdict] = faults(trace)[..] else { panic!("{}", trace.stderr) };
        assert_eq!((&*verdict.verdict, verdict.lost), ("lost", 1), "{}", verdict.message);
        assert_eq!((&*verdict.sequel, verdict.exit_code), ("lost", Some(0)));
        assert_eq!(verdict.process.as_deref(), Some("exited"));
        let report = &trace.report().faults[0];
        assert_eq!((report.lost, report.silent), (1, 1), "{}", report.message);
    });
    by_each_source("io_submit:error=EAGAIN:max=1", &["sync-fallback"], |trace| {
        let [verdict] = faults(trace)[..] else { panic!("{}", trace.stderr) };
        assert_eq!((&*verdict.verdict, verdict.lost), ("done", 0), "{}", verdict.message);
        assert_eq!((verdict.done, verdict.done_by.as_deref()), (4, Some("pwrite")));
        assert!(verdict.message.starts_with("4 requests done by pwrite(2) after "));
    });
}

/// Synchronous calls before a fault, and after everything is settled, are not in the trace, because they are not
/// watched then.
fn synchronous_calls_are_told_while_they_matter_only() {
    for source in ["bpf", "ptrace"] {
        let told = |program: &str| {
            let trace = run_with(&["--source", source], &[program]);
            let is_one = |line: &&Line| matches!(line, Line::Synchronous(_));
            trace.lines.iter().filter(is_one).count()
        };
        assert!(told("ring-full-sync") > 10, "{source}");
        // The program writes at once after its requests, none of which was refused.
        assert_eq!(told("drop-reuse"), 0, "{source}");
    }
}

fn each_rule_has_a_line_and_says_why_it_never_acted() {
    let rules =
        ["--inject", "io_cancel:error=EINVAL:when=1", "--inject", "io_submit:error=EAGAIN:when=3"];
    let options = [&["--source", "ptrace"], &rules[..]].concat();
    let trace = run_with(&options, &["retry-pool"]);
    let rules = &trace.report().rules;
    assert_eq!((rules[0].acted, rules[0].asked), (0, 0));
    let why = rules[0].why.as_deref().unwrap();
    assert!(
        why.starts_with("no io_cancel was called; there were: io_setup 1, io_destroy 1"),
        "{why}"
    );
    assert_eq!((rules[1].acted, &rules[1].why), (1, &None));
    assert_eq!(rules[1].asked as usize, trace.submits().len());
    let never = with_rule("io_submit:error=EAGAIN:when=900", &["retry-pool"]);
    let why = never.report().rules[0].why.as_deref().unwrap();
    assert!(why.starts_with("it begins with number 900"), "{why}");
}

fn told(options: &[&str], program: &[&str]) -> (Output, String) {
    let mut command: Command = aiotrace();
    command.args(["run", "-q", "--source", "ptrace"]).args(options).arg("--");
    let output = command.arg(programs()).args(program).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stderr)
}

fn a_test_fails_if_a_request_is_lost_or_if_nothing_was_tested() {
    let rule = "io_submit:error=EAGAIN:when=10";
    let status = |options: &[&str], program: &str| {
        let (output, stderr) = told(&[&["--inject"], options].concat(), &[program]);
        (output.status.code(), stderr)
    };
    let (code, stderr) = status(&[rule, "--fail-on-fault", "lost"], "drop-reuse");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("status 1, as --fail-on-fault asks (1 lost)"), "{stderr}");
    assert_eq!(status(&[rule, "--fail-on-fault", "hung,died"], "drop-reuse").0, Some(0));
    for (rule, program) in
        [(rule, "retry-pool"), ("io_submit:error=EAGAIN:when=3", "sync-fallback")]
    {
        let (code, stderr) = status(&[rule, "--fail-on-fault", "lost,leaked,hung,died"], program);
        assert_eq!(code, Some(0), "{program}: {stderr}");
    }
    // Only the verdict that was asked for fails the run.
    for (verdict, rule, program, limit) in [
        ("died", "io_submit:error=EFAULT:when=3", &["retry-exit", "abort"][..], "60s"),
        ("leaked", "io_destroy:error=EINVAL", &["receive"], "60s"),
        ("hung", "io_submit:error=EAGAIN", &["until-accepted"], "1s"),
    ] {
        for (asked, is_it) in ["died", "leaked", "hung"].map(|it| (it, it == verdict)) {
            let options = ["--timeout", limit, "--fail-on-fault", asked, "--inject", rule];
            let (output, stderr) = told(&options, program);
            let said = stderr.contains(&format!("as --fail-on-fault asks (1 {asked})"));
            let status = output.status.code();
            assert_eq!((said, status == Some(1)), (is_it, is_it), "{verdict} {asked}: {stderr}");
        }
    }
    let never = ["io_cancel:error=EINVAL", "--fail-on-fault", "lost"];
    let (code, stderr) = status(&never, "retry-pool");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("rule 1 never acted"), "{stderr}");
    let allowed = [&never[..], &["--allow-unfired"]].concat();
    assert_eq!(status(&allowed, "retry-pool").0, Some(0));
}

/// The program waits for a line on its standard input, which does not come.
fn a_program_that_does_not_end_is_ended_as_timeout_does_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let options =
        ["--timeout", "1s", "--format", "json", "--inject", "io_setup:error=EAGAIN:max=1"];
    let script = format!(
        "'{}' receive > /dev/null; trap '' TERM; while true; do sleep 0.1; done",
        programs().display()
    );
    let started = Instant::now();
    let output = aiotrace()
        .args(["run", "-f", "-q", "--source", "ptrace", "-o"])
        .arg(&file)
        .args(options)
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(124), "{stderr}");
    assert!(stderr.contains("did not end in 1 s (--timeout): SIGTERM"), "{stderr}");
    assert!(started.elapsed().as_secs() >= 5, "SIGTERM was ignored, so SIGKILL ended it");

    // A program that has a fault and still runs when its time is over has hung.
    let output = aiotrace()
        .args(["run", "-f", "-q", "--source", "ptrace", "-o"])
        .arg(&file)
        .args(["--timeout", "2s", "--format", "json", "--inject", "io_submit:error=EAGAIN", "--"])
        .arg(programs())
        .arg("until-accepted")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(124), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = super::support::parse(&std::fs::read_to_string(&file).unwrap());
    let hung = lines.iter().find_map(|line| match line {
        Line::Fault(it) if it.verdict == "hung" => Some(it),
        _ => None,
    });
    let hung = hung.expect("the last fault has hung");
    assert_eq!(hung.process.as_deref(), Some("timed_out"), "{}", hung.message);

    // It retries to the end, and is told to; and what is equal is told once.
    let output = aiotrace()
        .args(["run", "-f", "-q", "--source", "ptrace", "-o"])
        .arg(&file)
        .args(["--timeout", "1s", "--inject", "io_submit:error=EAGAIN", "--"])
        .arg(programs())
        .arg("until-accepted")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(124), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&file).unwrap();
    let count = |what: &str| text.lines().filter(|it| it.contains(what)).count();
    let met =
        text.lines().filter(|it| it.contains("*** fault") && it.contains("met the next fault"));
    assert_eq!(met.count(), 2, "{text}");
    assert_eq!(count(" more (-v tells each) ***"), 1, "{text}");
    assert_eq!(count("; still retrying when --timeout ended it"), 2, "{text}");
    assert_eq!(count("not tried again") + count("died by"), 0, "{text}");
}

/// Who is traced with ptrace is held while the tracer gets no processor: that is not its own silence.
fn a_tracer_that_stood_still_says_of_no_program_that_it_hangs() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut tracer = aiotrace()
        .args(["run", "-q", "--source", "ptrace", "--format", "json", "-o"])
        .arg(file.path())
        .args(["--inject", "io_submit:error=EAGAIN", "--"])
        .arg(programs())
        .arg("until-accepted")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let tell = |signal: i32| {
        // SAFETY: the signal goes to a process of ours that is not waited for yet.
        assert_eq!(unsafe { libc::kill(tracer.id() as i32, signal) }, 0);
    };
    let verdicts = |from: usize| {
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let lines = text.lines().skip(from);
            let faults = lines.filter(|it| it.contains(r#""event":"fault""#));
            if faults.count() > 10 {
                return text.lines().count();
            }
            assert!(start.elapsed() < super::support::PATIENCE, "no verdicts: {text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let before = verdicts(0);
    tell(libc::SIGSTOP);
    // Nothing can be awaited: the time itself is what must not be taken for the program's.
    std::thread::sleep(Duration::from_millis(5_500));
    tell(libc::SIGCONT);
    verdicts(before);
    tell(libc::SIGTERM);
    tracer.wait().unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    let hung: Vec<&str> = text.lines().filter(|it| it.contains(r#""hung""#)).collect();
    assert!(hung.iter().all(|it| !it.contains(r#""process":"hung""#)), "{hung:#?}");
}

/// A retry counts as one even if the process says at its end that something went wrong; and the verdict says both.
fn how_the_process_ends_belongs_to_the_verdict() {
    let trace = with_rule("io_submit:error=EFAULT:when=3", &["retry-exit", "14"]);
    assert_eq!(trace.status.code(), Some(14), "{}", trace.stderr);
    let [verdict] = faults(&trace)[..] else { panic!("{}", trace.stderr) };
    assert_eq!((&*verdict.verdict, &*verdict.sequel), ("exited", "retried"), "{}", verdict.message);
    assert!(verdict.message.contains(", succeeded; exited with status 14 "), "{}", verdict.message);
    let row = &trace.report().faults[0];
    assert!(row.message.ends_with("; exited with status 14"), "{}", row.message);
    assert_eq!(row.verdicts["exited"], 1);
    assert_eq!(row.processes[0].exit_code, Some(14));
}

tests![
    what_is_dropped_and_what_is_done_otherwise_stand_side_by_side if Need::LONG,
    synchronous_calls_are_told_while_they_matter_only if Need::Native("it needs a disk"),
    each_rule_has_a_line_and_says_why_it_never_acted if Need::LONG,
    a_test_fails_if_a_request_is_lost_or_if_nothing_was_tested if Need::LONG,
    a_program_that_does_not_end_is_ended_as_timeout_does_it if Need::Native("it runs a shell"),
    a_tracer_that_stood_still_says_of_no_program_that_it_hangs if Need::Native("it is about ptrace"),
    how_the_process_ends_belongs_to_the_verdict if Need::LONG,
];
