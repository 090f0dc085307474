//! Calls that the kernel refuses while the program ignores the error: D1, D11.

use std::process::Stdio;

use aiotrace::output::json::FindingRow;

use super::{Case, count, found, ready, rows, run, run_text};
use crate::{
    harness::Need,
    support::{Attached, Program, aiotrace, programs, set_options},
};

/// R25: a journal loses 180 of 200 writes with EBADF.
fn writes_to_a_descriptor_that_is_closed_are_refused_and_that_is_told() {
    let case = Case::of(&["-q"], &["closed-fd"]).unwrap();
    assert!(case.said.contains("180 of 200 writes lost"));
    assert!(
        found(&case.trace).contains(&"warning refused-calls".to_owned()),
        "{:?}",
        found(&case.trace)
    );
    let rows = rows(&case.trace, "refused-calls");
    assert_eq!((rows.len(), rows[0].count), (1, 180), "{rows:?}");
    for what in ["io_submit", "EBADF", "pwrite", "offset=81920"] {
        assert!(rows[0].message.contains(what), "{what}: {}", rows[0].message);
    }
    // The finding is a warning: a program may try what a kernel supports.
    for (severity, status) in [("warning", 1), ("error", 0)] {
        let failing = run(&["-q", "--fail-on", severity], &["closed-fd"]).unwrap();
        assert_eq!(failing.trace.status.code(), Some(status), "--fail-on {severity}");
    }
}

/// D1: calls other than io_submit, and an io_destroy.
fn other_calls_that_are_refused_are_told_too() {
    let case = Case::of(&["-q"], &["refused-others"]).unwrap();
    let rows = rows(&case.trace, "refused-calls");
    assert_eq!(rows.len(), 3, "{rows:?}");
    for (count, call, errno) in [
        (1, "io_destroy(", " = EINVAL"),
        (2, "io_cancel(", " = EFAULT"),
        (3, "io_getevents(", " = EFAULT"),
    ] {
        let is_it = |it: &&&FindingRow| it.message.starts_with(call) && it.message.contains(errno);
        assert_eq!(rows.iter().find(is_it).map(|it| it.count), Some(count), "{call}: {rows:?}");
    }
}

/// D19: a call that was not shown may have ended the context.
fn where_not_every_call_is_told_that_is_the_reason_of_unsure() {
    let case = Case::of(&["--only", "error"], &["fsync-stale"]).unwrap();
    let rows = rows(&case.trace, "refused-calls");
    assert_eq!((rows.len(), rows[0].count), (1, 5), "{rows:?}");
    assert!(rows[0].unsure, "{rows:?}");
    let why = rows[0].why.as_deref().unwrap_or_default();
    assert!(why.contains("not every call was recorded"), "{rows:?}");
}

fn who_attaches_later_sees_refused_writes_too() {
    let mut program = ready(&["closed-fd"]).unwrap();
    let attached = Attached::new(&["-q", "-p", &program.pid().to_string()]);
    program.go_on();
    let trace = attached.end();
    assert_eq!(count(&trace, "refused-calls"), 180, "{:?}", found(&trace));
}

fn counted_calls_that_are_refused_are_a_finding_too() {
    let case = Case::of(&["-c"], &["closed-fd"]).unwrap();
    assert_eq!(count(&case.trace, "refused-calls"), 180, "{:?}", case.trace.report().findings);
    // A program whose calls all succeed has no such finding.
    let case = Case::of(&["-c"], &["pairs", "200"]).unwrap();
    assert_eq!(count(&case.trace, "refused-calls"), 0);
}

/// R8: a sync has the fields of the write that used its iocb before.
fn a_sync_that_is_refused_says_which_fields_are_wrong() {
    let case = Case::of(&["-q"], &["fsync-stale"]).unwrap();
    let rows = rows(&case.trace, "refused-calls");
    assert_eq!((rows.len(), rows[0].count), (1, 5), "{:?}", found(&case.trace));
    // The offset of the first one is 0.
    for what in ["EINVAL", "fsync", "buf", "nbytes"] {
        assert!(rows[0].message.contains(what), "{what}: {}", rows[0].message);
    }
    let text = run_text(&[], &["fsync-stale"]).unwrap();
    let refused = text.lines().find(|it| it.contains("fsync") && it.contains("EINVAL")).unwrap();
    assert!(refused.contains("buf=0x") && refused.contains("nbytes=4096"), "{refused}");
    let explained = aiotrace().args(["explain", "io_submit", "EINVAL"]).output().unwrap();
    let explained = String::from_utf8(explained.stdout).unwrap();
    for what in ["fsync", "UIO_MAXIOV", "IOCB_CMD_NOOP", "reserved2"] {
        assert!(explained.contains(what), "{what}: {explained}");
    }
}

/// R9: the descriptor that should be an eventfd is a file, or closed.
fn an_eventfd_that_is_none_is_refused_and_named() {
    let case = Case::of(&["-q"], &["resfd-file"]).unwrap();
    let rows = rows(&case.trace, "refused-calls");
    let of = |errno: &str| rows.iter().find(|it| it.message.contains(errno)).map(|it| it.count);
    assert_eq!((of("EINVAL"), of("EBADF")), (Some(1), Some(1)), "{rows:?}");
    assert!(rows.iter().all(|it| it.message.contains("resfd")), "{rows:?}");
}

/// The finding tells errors in what io_submit checks of a buffer from errors in what it does not check.
fn what_io_submit_cannot_reach_is_named() {
    let case = Case::of(&["-q"], &["out-of-reach"]).unwrap();
    let rows = rows(&case.trace, "refused-calls");
    assert_eq!(rows.len(), 3, "{rows:?}");
    for (request, what) in [
        (": pread ", ": aio_buf, 0xffff800000000000, is an address of the kernel"),
        (": preadv ", ": its iovecs at 0x8 cannot be read, or one"),
        (": fsync ", "'s aio_key cannot be written: is it constant?"),
    ] {
        let its: Vec<_> = rows.iter().filter(|it| it.message.contains(request)).collect();
        assert!(its.len() == 1 && its[0].message.contains(what), "{what}: {rows:?}");
    }
    assert_eq!(count(&case.trace, "failed-completion"), 1, "the one that is not mapped");
}

/// E15: the poll pends, so it has not completed and could be cancelled.
fn a_cancel_with_another_key_or_of_a_copy_is_refused_for_that() {
    let case = Case::of(&["-q"], &["key-cancel"]).unwrap();
    let messages: Vec<&str> = case.trace.findings().iter().map(|it| it.message.as_str()).collect();
    assert_eq!(count(&case.trace, "cancel-refused"), 2, "{messages:?}");
    assert!(
        messages[0].contains("aio_key is 77") && messages[0].contains("in flight"),
        "{messages:?}"
    );
    // The poll that was copied pends.
    assert!(
        messages[1].contains("one with the same content is, submitted from 0x"),
        "{messages:?}"
    );
    assert!(!messages[1].contains("completed"), "{messages:?}");
    let text = run_text(&[], &["key-cancel"]).unwrap();
    assert!(text.lines().any(|it| it.contains("io_cancel(") && it.contains("key=77")), "{text}");
}

/// E17.
fn two_owners_of_a_handle_use_it_after_its_end() {
    let case = Case::of(&["-q"], &["double-destroy"]).unwrap();
    assert!(case.said.contains("true"), "the handle was given again");
    assert_eq!(found(&case.trace), ["warning use-after-destroy"]);
    assert_eq!(count(&case.trace, "use-after-destroy"), 2, "and not the waiter");
}

/// E18.
fn who_is_denied_a_context_is_told_who_holds_them() {
    let limit = std::fs::read_to_string("/proc/sys/fs/aio-max-nr").unwrap();
    // For a larger number, io_setup returns EINVAL.
    let asked = limit.trim().parse::<u64>().unwrap().min(4_000_000) * 9 / 10;
    let asked = asked.to_string();
    let holder = ready(&["loop-setup", &asked, "1", "hold"]).unwrap();
    let case = Case::of(&["-q"], &["loop-setup", &asked, "3"]).unwrap();
    assert!(case.said.contains("3 of 3 io_setup failed"), "{}", case.said);
    let findings = case.trace.findings();
    assert_eq!(found(&case.trace), ["error setup-denied"]);
    let first = &findings[0].holders[0];
    assert_eq!((first.pid, first.charge.to_string()), (holder.pid(), asked), "{:?}", findings[0]);
}

/// E26: all processes are traced, and one of them has its calls refused.
fn of_all_processes_each_has_its_name() {
    let attached = Attached::new(&["-q", "-a", "-d", "2"]);
    let status = std::process::Command::new(programs())
        .arg("fsync-stale")
        .stdin(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let trace = attached.end();
    assert_eq!(count(&trace, "refused-calls"), 5, "{:?}", found(&trace));
    let processes = trace.processes();
    let unnamed: Vec<_> = processes.iter().filter(|it| it.name.is_empty()).collect();
    assert!(!processes.is_empty() && unnamed.is_empty(), "{processes:?}");
}

/// The same as text: the first that is seen of one process is its call, and of the other, which is older, its end.
fn in_the_text_of_all_processes_each_has_its_name() {
    let mut older = ready(&["closed-fd"]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace");
    let mut tracer = aiotrace();
    tracer.args(["attach", "-a", "-o"]).arg(&file).args(set_options(&[]));
    let mut tracer = tracer.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let read = || String::from_utf8(std::fs::read(&file).unwrap_or_default()).unwrap();
    // This line is written when the probes are attached.
    while read().is_empty() && tracer.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    older.go_on();
    assert!(older.child.wait().unwrap().success());
    let mut other = Program::start(&["fsync-stale"]);
    assert!(other.child.wait().unwrap().success());
    // SAFETY: a signal to our own child, which is not waited for yet.
    unsafe { libc::kill(tracer.id() as i32, libc::SIGINT) };
    let output = tracer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (text, pids) = (read(), [older.pid(), other.pid()]);
    for pid in pids {
        assert!(text.contains(&format!(":{pid} +++ exited with 0 +++")), "{pid}: {text}");
    }
    // A line is `TIME NAME:PID +++ ...`, never with a number alone.
    let is_of = |line: &str, pid: u32| line.contains(&format!("{pid} +++"));
    for line in text.lines().filter(|it| pids.iter().any(|pid| is_of(it, *pid))) {
        assert!(line.contains(" aio-programs:"), "{line}");
    }
    for pid in pids {
        let is_its = |it: &&str| it.contains(&format!("aio-programs:{pid} *** warning refused"));
        assert_eq!(text.lines().filter(is_its).count(), 1, "{pid}: {text}");
    }
}

tests![
    writes_to_a_descriptor_that_is_closed_are_refused_and_that_is_told if Need::LONG,
    who_attaches_later_sees_refused_writes_too if Need::SAME,
    counted_calls_that_are_refused_are_a_finding_too if Need::LONG,
    a_sync_that_is_refused_says_which_fields_are_wrong if Need::LONG,
    an_eventfd_that_is_none_is_refused_and_named if Need::SAME,
    what_io_submit_cannot_reach_is_named if Need::SAME,
    a_cancel_with_another_key_or_of_a_copy_is_refused_for_that if Need::LONG,
    two_owners_of_a_handle_use_it_after_its_end if Need::SAME,
    who_is_denied_a_context_is_told_who_holds_them if Need::SAME,
    of_all_processes_each_has_its_name if Need::SAME,
    in_the_text_of_all_processes_each_has_its_name if Need::SAME,
    other_calls_that_are_refused_are_told_too if Need::SAME,
    where_not_every_call_is_told_that_is_the_reason_of_unsure if Need::SAME,
];
