//! Recordings, and reports while the trace goes on.

use std::process::Stdio;

use aiotrace::output::json::Line;

use super::{
    harness::Need,
    support::{Attached, Program, aiotrace, parse, programs},
};

/// The report of a recording is compared with the live output of the same trace.
fn a_recorded_trace_is_told_as_it_was_live() {
    let directory = tempfile::tempdir().unwrap();
    let [recording, live, again] = ["r", "live", "again"].map(|it| directory.path().join(it));
    let programs = programs();
    for options in [&[][..], &["--format", "json"], &["-c"], &["-q"], &["-v", "-t", "delta"]] {
        for program in
            ["errnos", "alarm-pending-by-design", "bad-short-io", "bad-discarded-requests"]
        {
            let ran = aiotrace()
                .args(["run", "-f", "-o"])
                .arg(&live)
                .arg("--record")
                .arg(&recording)
                .args(options)
                .arg("--")
                .args([programs.as_os_str(), program.as_ref()])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert!(ran.status.success(), "{program}: {ran:?}");
            let told = aiotrace()
                .args(["report", "-o"])
                .arg(&again)
                .args(options)
                .arg(&recording)
                .output()
                .unwrap();
            assert!(told.status.success(), "{program}: {told:?}");
            let read = |path| std::fs::read_to_string(path).unwrap();
            assert!(read(&live).len() > 100, "{options:?} {program}");
            assert_eq!(read(&live), read(&again), "{options:?} {program}");
        }
    }
}

/// Records that were flushed survive, whatever ends aiotrace.
fn a_recording_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let recording = directory.path().join("r");
    let mut program = Program::ready(&["wait", "50"]);
    let pid = program.pid().to_string();
    let mut attached = Attached::new(&["-p", &pid, "--record", recording.to_str().unwrap()]);
    program.go_on();
    attached.await_line(|line| matches!(line, Line::Process(it) if it.change == "exit"));
    // The last chunk is written when nothing happens, so before the end of the trace.
    let _ = attached.end();
    let whole = std::fs::read(&recording).unwrap();
    let mut program = Program::ready(&["storm"]);
    let pid = program.pid().to_string();
    let mut attached = Attached::new(&["-p", &pid, "--record", recording.to_str().unwrap()]);
    for _ in 0..5000 {
        attached.await_line(|line| matches!(line, Line::Submit(_)));
    }
    attached.signal(libc::SIGKILL);
    program.kill();
    for (bytes, is_cut) in [(std::fs::read(&recording).unwrap(), true), (whole, false)] {
        std::fs::write(&recording, bytes).unwrap();
        let output =
            aiotrace().args(["report", "--format", "json"]).arg(&recording).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.contains("the recording ends early"), is_cut, "{stderr}");
        let lines = parse(&String::from_utf8(output.stdout).unwrap());
        let Some(Line::Report(report)) = lines.last() else { panic!("no report") };
        assert_eq!(report.reason == "recording_ends", is_cut);
        assert!(report.contexts[0].requests >= 50, "{:?}", report.contexts);
    }
}

fn a_full_disk_ends_the_trace_and_is_said() {
    let output = aiotrace()
        .args(["run", "-q", "--record", "/dev/full", "--"])
        .args([programs().as_os_str(), "pairs".as_ref()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("cannot write the recording"), "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
}

fn sigusr1_asks_for_a_report() {
    let mut program = Program::ready(&["hold-unreaped"]);
    let mut attached = Attached::to(program.pid());
    let is_report = |line: &Line| matches!(line, Line::Report(_));
    for _ in 0..2 {
        attached.signal(libc::SIGUSR1);
        let Line::Report(report) = attached.await_line(is_report) else { unreachable!() };
        assert_eq!(report.reason, "asked");
        assert!(report.contexts[0].adopted && report.contexts[0].end.is_none());
        assert!(report.contexts[0].unreaped.unwrap() > 0, "{:?}", report.contexts);
    }
    program.go_on();
    assert_eq!(attached.end().report().reason, "targets_gone");
}

/// The report says that a thread waits in a call, even if the call began after the attach.
fn a_report_that_is_asked_for_has_the_threads_that_wait() {
    let mut program = Program::ready(&["wait-blocked"]);
    let mut attached = Attached::to(program.pid());
    program.go_on();
    let wait = loop {
        attached.signal(libc::SIGUSR1);
        let line = attached.await_line(|it| matches!(it, Line::Report(_)));
        let Line::Report(mut report) = line else { unreachable!() };
        // The report leaves out waits of less than a second.
        if let Some(wait) = report.waits.pop() {
            break wait;
        }
    };
    assert_eq!((wait.pid, &*wait.call), (program.pid(), "io_getevents"), "{wait:?}");
    assert!(!wait.before_attach && wait.age_ns >= 1_000_000_000, "{wait:?}");
    // The call has returned, so nobody waits in it.
    let trace = attached.end();
    assert!(trace.report().waits.is_empty(), "{:?}", trace.report().waits);
    assert!(trace.unfinished().is_empty(), "{:?}", trace.unfinished());
}

tests![
    a_recorded_trace_is_told_as_it_was_live if Need::LONG,
    a_recording_survives_kill_9 if Need::LONG,
    a_full_disk_ends_the_trace_and_is_said if Need::LONG,
    sigusr1_asks_for_a_report if Need::LONG,
    a_report_that_is_asked_for_has_the_threads_that_wait if Need::LONG,
];
