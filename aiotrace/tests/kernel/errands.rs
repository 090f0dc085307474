//! Targets that do not answer a look at them (programs/src/unanswered.rs): a helper waits for them, and is given up.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use aiotrace::output::json::{FunctionObject, IocbObject, Line};

use super::{
    harness::{Need, cannot_run},
    machine,
    support::{Attached, Program, Trace, aiotrace, as_nobody, await_that, parse, programs, traced},
};

/// What aiotrace says of a process that does not answer.
const SAID: &str = "does not answer: a read of its memory";
/// Both sources are tried.
const SOURCES: [&[&str]; 2] = [&[], &["--source", "ptrace"]];

/// A program that is ready not to answer; `None` if it cannot run here.
fn unanswered(what: &str) -> Option<Program> {
    let mut program = Program::start(&["unanswered", what]);
    let line = program.line();
    if line != "ready" {
        cannot_run(&line);
        return None;
    }
    Some(program)
}

fn attached(source: &[&str], program: &Program, options: &[&str]) -> Attached {
    let pid = program.pid().to_string();
    Attached::new(&[source, options, &["-p", &pid]].concat())
}

/// Looks without an answer are counted, and nothing else is lost.
fn assert_told(trace: &Trace) {
    assert!(trace.stderr.contains(SAID), "{}", trace.stderr);
    let report = trace.report();
    let unanswered = report.lost_by_cause.get("unanswered").copied().unwrap_or(0);
    assert!(unanswered > 0, "{:?}", report.lost_by_cause);
    if !machine::skips_runs() {
        assert_eq!(report.lost, unanswered, "{:?}", report.lost_by_cause);
    }
}

/// Where a ring was, there is memory whose server does not serve it: the trace goes on, and ends when it is asked to.
fn memory_that_does_not_answer_does_not_hold_us_up() {
    // The ptrace source looks at a ring at calls, and this program makes none. The same thread of both sources asks
    // about a quiet ring.
    for source in SOURCES {
        let Some(mut program) = unanswered("ring") else { return };
        let directory = tempfile::tempdir().unwrap();
        let recording = directory.path().join("recording");
        let options = ["--idle-after", "1s", "--record", recording.to_str().unwrap()];
        let attached = attached(source, &program, &options);
        program.go_on();
        assert_eq!(program.line(), "mapped");
        await_given_up(attached.child.id());
        attached.signal(libc::SIGINT);
        let trace = attached.end();
        assert!(trace.status.success(), "{source:?}: {}", trace.stderr);
        assert_told(&trace);
        let again =
            aiotrace().args(["report", "--format", "json"]).arg(&recording).output().unwrap();
        let again = parse(&String::from_utf8(again.stdout).unwrap());
        let Some(Line::Report(again)) = again.last() else { panic!("no report") };
        assert_eq!(again.lost_by_cause, trace.report().lost_by_cause);
        program.go_on();
        assert!(program.child.wait().unwrap().success());
    }
}

/// Waits until a helper waits for a page, and then until it is killed.
fn await_given_up(aiotrace: u32) {
    let waiting = |it: u32| helpers_of(it).into_iter().find(|it| state(*it) == Some('D'));
    await_that("a helper waits for the page", || waiting(aiotrace).is_some());
    // The helper ends only when somebody serves the page, but SIGKILL is pending.
    const KILLED: u64 = 1 << (libc::SIGKILL - 1);
    let is_killed = |it: u32| {
        let status = status(it);
        let pending = aiotrace::proc::status_field(&status, "SigPnd").map(str::to_owned);
        let shared = aiotrace::proc::status_field(&status, "ShdPnd").map(str::to_owned);
        let mask =
            |it: Option<String>| u64::from_str_radix(&it.unwrap_or_default(), 16).unwrap_or(0);
        (mask(pending) | mask(shared)) & KILLED != 0
    };
    await_that("it is given up", || waiting(aiotrace).is_none_or(is_killed));
}

/// aiotrace is killed while a helper waits: it ends at once, and a reader of its output does not wait for the helper.
fn killed_while_a_helper_waits_we_end() {
    let Some(mut program) = unanswered("ring") else { return };
    let pid = program.pid().to_string();
    let mut child = aiotrace()
        .args(["attach", "-q", "--idle-after", "1s", "-p", &pid])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.go_on();
    assert_eq!(program.line(), "mapped");
    let waits = |it: &u32| state(*it) == Some('D');
    await_that("a helper waits for the page", || helpers_of(child.id()).iter().any(waits));
    child.kill().unwrap();
    // This also waits for the end of both pipes: if a helper held them, it would wait until the harness ends it.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGKILL));
    program.go_on();
    assert!(program.child.wait().unwrap().success());
}

/// The kernel refuses these calls before it reads the array of iocbs. The tracer reads the array, gets no answer, and
/// lets the call go on.
fn iocbs_that_do_not_answer_do_not_hold_up_the_target() {
    let Some(mut program) = unanswered("iocbs") else { return };
    let attached = attached(&["--source", "ptrace"], &program, &[]);
    program.go_on();
    assert_eq!(program.line(), "done");
    attached.signal(libc::SIGINT);
    let trace = attached.end();
    assert_eq!(trace.submits().len(), 4, "{}", trace.stderr);
    assert_told(&trace);
    program.go_on();
    assert!(program.child.wait().unwrap().success());
}

/// The program's own thread fills the page, unless the tracer holds that thread in a stop.
fn a_program_that_serves_its_own_pages_goes_on() {
    for source in SOURCES {
        let Some(mut program) = unanswered("served") else { return };
        let attached = attached(source, &program, &[]);
        program.go_on();
        assert!(program.child.wait().unwrap().success(), "{source:?}");
        let trace = attached.end();
        assert_eq!(trace.accepted_and_reaped(), (8, 8), "{source:?}: {}", trace.stderr);
    }
}

/// Where Yama lets a plain user look only into its descendants, helpers may look into a program that we started.
/// Otherwise the tracer would read its memory itself, and wait for a thread that it holds in a stop.
fn a_program_of_a_plain_user_is_looked_into_under_yama() {
    const SCOPE: &str = "/proc/sys/kernel/yama/ptrace_scope";
    const FAULTS: &str = "/proc/sys/vm/unprivileged_userfaultfd";
    let read = |path| std::fs::read_to_string(path).ok();
    let (Some(scope), Some(faults)) = (read(SCOPE), read(FAULTS)) else {
        return cannot_run("there is no Yama, or no userfaultfd");
    };
    std::fs::write(SCOPE, "1").unwrap();
    std::fs::write(FAULTS, "1").unwrap();
    let run =
        ["run", "--source", "ptrace", "--no-seccomp", "--format", "json", "--timeout", "30", "--"];
    let output = as_nobody(&mut aiotrace())
        .args(run)
        .arg(programs())
        .args(["unanswered", "served"])
        .stdin(Stdio::null())
        .output();
    std::fs::write(SCOPE, scope).unwrap();
    std::fs::write(FAULTS, faults).unwrap();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    // The output also has the line of the program that says that it is ready.
    let events: String = text.split_inclusive('\n').filter(|it| it.starts_with('{')).collect();
    let is_accepted = |it: &&Line| matches!(it, Line::Submit(it) if it.ret == 1);
    let accepted = parse(&events).iter().filter(is_accepted).count();
    assert_eq!(accepted, 8, "{said}");
}

/// The program waits for its own requests, and a look at it would wait as well. It can be attached to and listed, and
/// its trace begins when it goes on.
fn a_process_that_hangs_in_exec_does_not_hang_us() {
    let Some(mut program) = unanswered("exec") else { return };
    let pid = program.pid();
    program.go_on();
    await_that("it waits in execve", || state(pid) == Some('D'));
    let listed = aiotrace().args(["ls"]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(listed.status.success(), "{said}");
    let attached = attached(&[], &program, &["--stacks", "-v"]);
    program.go_on();
    assert_eq!(program.line(), "executed");
    let trace = attached.end();
    assert!(trace.status.success(), "{}", trace.stderr);
    assert!(program.child.wait().unwrap().success());
}

/// PTRACE_SEIZE would wait for the file of the program that the process begins.
fn a_process_that_begins_a_program_is_not_seized() {
    let Some(mut program) = unanswered("begin") else { return };
    let pid = program.pid();
    program.go_on();
    let wchan = || std::fs::read_to_string(format!("/proc/{pid}/wchan"));
    await_that("it waits for the file", || wchan().is_ok_and(|it| it == "request_wait_answer"));
    let pid = pid.to_string();
    let output = aiotrace()
        .args(["attach", "--source", "ptrace", "-p", &pid])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("does not answer: perhaps it hangs where it begins a program"),
        "{stderr}"
    );
    program.go_on();
    assert_eq!(program.line(), "done");
    assert!(program.child.wait().unwrap().success());
}

/// The file is on a file system whose server is a program, below an overlay that hides this.
fn a_file_on_an_overlay_that_does_not_answer_does_not_hang_us() {
    for source in SOURCES {
        let Some(mut program) = unanswered("code") else { return };
        let attached = attached(source, &program, &["--stacks"]);
        program.go_on();
        assert_eq!(program.line(), "done");
        attached.signal(libc::SIGINT);
        let trace = attached.end();
        assert_eq!(trace.setups().len(), 8, "{source:?}: {}", trace.stderr);
        let is_in_file = |it: &FunctionObject| {
            it.module.as_ref().is_some_and(|it| it.ends_with("/held")) && it.function.is_some()
        };
        assert!(!trace.setups().iter().any(|it| it.stack.iter().flatten().any(is_in_file)));
        program.go_on();
        assert!(program.child.wait().unwrap().success());
    }
}

/// Many others want the processors, and a lock that each look needs is mostly held by somebody who waits for one.
fn a_healthy_program_on_a_busy_machine_keeps_its_looks() {
    const REQUESTS: usize = 50;
    let programs = programs();
    let locked = |options: &[&str], count: usize| {
        let options = [&["run", "--source", "ptrace", "--stacks"][..], options].concat();
        let trace = traced(
            &options,
            &[programs.as_os_str(), "locked".as_ref(), count.to_string().as_ref()],
        );
        assert!(trace.status.success(), "{}", trace.stderr);
        trace
    };
    let quiet = locked(&[], 1);
    let site = quiet.submits()[0].site.as_ref().unwrap().id.to_string();
    let processors = std::thread::available_parallelism().unwrap().get();
    let _spinning: Vec<Program> = (0..8 * processors).map(|_| Program::start(&["spin"])).collect();
    // Each request is refused, and accepted when it comes again.
    let rule = format!("io_submit:error=EAGAIN:site={site}:when=1+2");
    let busy = locked(&["--inject", &rule], REQUESTS);
    let submits = busy.submits();
    assert_eq!(submits.iter().filter(|it| it.injected).count(), REQUESTS, "{}", busy.stderr);
    assert_eq!(submits.len(), 2 * REQUESTS);
    let is_read = |it: &IocbObject| it.op.as_deref() == Some("pread");
    assert!(
        submits.iter().all(|it| it.iocbs.iter().flatten().filter(|it| is_read(it)).count() == 1)
    );
    assert!(submits.iter().all(|it| it.site.as_ref().is_some_and(|it| it.id == *site)));
    assert_eq!(busy.report().lost, 0, "{:?}; {}", busy.report().lost_by_cause, busy.stderr);
}

/// Helpers have nothing of ours, and nothing of our parent.
fn helpers_have_only_what_they_need() {
    let mut program = Program::ready(&["wait"]);
    let attached = attached(&["--source", "ptrace"], &program, &[]);
    let us = attached.child.id();
    // A helper that does an errand has more for a moment.
    await_that("a nursery and a helper have only what they need", || {
        let all = helpers_of(us);
        all.len() >= 2 && all.iter().all(|it| has_only_what_it_needs(*it))
    });
    let helpers = helpers_of(us);
    program.go_on();
    assert!(program.child.wait().unwrap().success());
    attached.end();
    let lives = |it: &u32| aiotrace::proc::is_alive(*it);
    await_that("they end with us", || !helpers.iter().any(lives));
}

/// Standard input and output lead nowhere, there is one socket, and no terminal of ours, so a Ctrl-C does not reach
/// the helper.
fn has_only_what_it_needs(helper: u32) -> bool {
    let files = std::fs::read_dir(format!("/proc/{helper}/fd")).into_iter().flatten().flatten();
    let files: Vec<_> = files.map(|it| std::fs::read_link(it.path()).unwrap_or_default()).collect();
    let is_null = |it: &&PathBuf| **it == Path::new("/dev/null");
    let is_socket = |it: &&PathBuf| it.to_string_lossy().starts_with("socket:");
    let session = |pid| nix::unistd::getsid(pid);
    files.len() == 4
        && files.iter().filter(is_null).count() == 3
        && files.iter().filter(is_socket).count() == 1
        && session(Some(nix::unistd::Pid::from_raw(helper.cast_signed()))) != session(None)
}

/// The nursery of an aiotrace and its helpers. (They are found without a look that may have to wait.)
fn helpers_of(aiotrace: u32) -> Vec<u32> {
    let parents = |pid: u32| {
        let of = |it: u32| parent(it).filter(|it| *it > 1);
        of(pid).into_iter().chain(of(pid).and_then(of)).any(|it| it == aiotrace)
    };
    let all = aiotrace::proc::all().into_iter();
    all.filter(|it| {
        let name = aiotrace::proc::name(*it).unwrap_or_default();
        name.starts_with(b"aiotrace-") && parents(*it)
    })
    .collect()
}

fn status(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn parent(pid: u32) -> Option<u32> {
    aiotrace::proc::status_field(&status(pid), "PPid")?.parse().ok()
}

/// The state of a process: a letter of proc(5).
fn state(pid: u32) -> Option<char> {
    aiotrace::proc::status_field(&status(pid), "State")?.chars().next()
}

const FUSE: Need = Need::Native("the guests have no /dev/fuse");

tests! {
    memory_that_does_not_answer_does_not_hold_us_up if FUSE,
    killed_while_a_helper_waits_we_end if FUSE,
    iocbs_that_do_not_answer_do_not_hold_up_the_target if FUSE,
    a_program_that_serves_its_own_pages_goes_on,
    a_program_of_a_plain_user_is_looked_into_under_yama,
    a_process_that_hangs_in_exec_does_not_hang_us if FUSE,
    a_process_that_begins_a_program_is_not_seized if FUSE,
    a_file_on_an_overlay_that_does_not_answer_does_not_hang_us if Need::Native("the guests have no overlayfs"),
    a_healthy_program_on_a_busy_machine_keeps_its_looks
        if Need::Native("an emulated machine is busy beyond all patience"),
    helpers_have_only_what_they_need,
}
