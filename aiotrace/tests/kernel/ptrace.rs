//! The ptrace source: it gives the same events as the probes, the target notices nothing, and it makes faults.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use aiotrace::output::json::Line;

use super::{
    harness::{Need, cannot_run},
    lifecycle::await_blocked,
    support::{
        Attached, Program, aiotrace, await_that, binary, parse, programs, run_program_with,
        run_with,
    },
};

const PTRACE: [&str; 2] = ["--source", "ptrace"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `aiotrace run --source ptrace` of a workload, with options.
fn run(options: &[&str], program: &[&str]) -> Output {
    let all = ["run", "-o", "/dev/null"].iter().chain(&PTRACE).chain(options);
    aiotrace().args(all).arg("--").arg(programs()).args(program).output().unwrap()
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn attach(pid: u32, options: &[&str]) -> Attached {
    let pid = pid.to_string();
    let all: Vec<&str> =
        PTRACE.iter().copied().chain(["-p", &pid]).chain(options.iter().copied()).collect();
    Attached::new(&all)
}

/// The state of a thread, and the id of its tracer.
fn state(pid: u32) -> (char, u32) {
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap();
    let field = |name| aiotrace::proc::status_field(&status, name).unwrap();
    (field("State").chars().next().unwrap(), field("TracerPid").parse().unwrap())
}

/// A command that runs as a real user without any privilege.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    command.arg(program);
    command
}

fn the_status_of_the_program_is_the_tracers_to_tell() {
    for options in [&[][..], &["--no-seccomp"]] {
        for (program, status) in [("0", 0), ("42", 42), ("137", 137)] {
            let output = run(options, &["exit-status", program]);
            assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
        }
        let output = aiotrace()
            .arg("run")
            .args(PTRACE)
            .args(options)
            .args(["--", "/no/such/program"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(127), "{}", text(&output.stderr));
    }
    // The program is traced to its end, although nothing is shown any more.
    let output = run(&["--duration", "0.3"], &["blocked", "1000"]);
    assert_eq!(lines(&output)[0], "ready");
    assert!(lines(&output)[1].starts_with("0 1"), "{:?}", lines(&output));
}

fn it_works_without_any_privilege() {
    let us = binary();
    let output = as_nobody(&us)
        .args(["run", "-f", "--source", "ptrace", "--format", "json", "--"])
        .arg(programs())
        .args(["pairs", "7"])
        .output()
        .unwrap();
    let trace = parse(&text(&output.stdout));
    let calls = trace.iter().filter(|it| matches!(it, Line::Submit(_))).count();
    assert_eq!((output.status.code(), calls), (Some(0), 7), "{}", text(&output.stderr));
    let refused = as_nobody(&us).args(["run", "--", "true"]).output().unwrap();
    let hint = text(&refused.stderr);
    assert_eq!(hint.matches("run as root, or use --source ptrace").count(), 1, "{hint}");
    // The process belongs to another user.
    let program = Program::ready(&["wait", "1"]);
    let pid = program.pid().to_string();
    let refused =
        as_nobody(&us).args(["attach", "--source", "ptrace", "-p", &pid]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("run as root"), "{}", text(&refused.stderr));
    // The process belongs to the same user.
    let mut own = Program::of(as_nobody(&programs()).args(["wait", "5"]));
    assert_eq!(own.line(), "ready");
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if scope.is_empty() || scope.trim() == "0" {
        let tracer = as_nobody(&us)
            .args(["attach", "--source", "ptrace", "--format", "json", "-p"])
            .arg(own.pid().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        await_that("it is traced", || state(own.pid()).1 != 0);
        own.go_on();
        let output = tracer.wait_with_output().unwrap();
        let trace = parse(&text(&output.stdout));
        assert_eq!(trace.iter().filter(|it| matches!(it, Line::Submit(_))).count(), 5);
    }
}

fn what_cannot_be_is_refused_with_the_next_step() {
    let refused = |options: &[&str], wanted: &str| {
        let output = aiotrace().arg("attach").args(PTRACE).args(options).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(text(&output.stderr).contains(wanted), "{options:?}: {}", text(&output.stderr));
    };
    refused(&["-a"], "name them with -p");
    refused(&["--cgroup", "/"], "name them with -p");
    refused(&["--inject", "io_submit:error=EAGAIN", "-p", "1"], "process 1");
    let program = Program::ready(&["wait", "1"]);
    let first = attach(program.pid(), &[]);
    let traced_by = format!("process {} traces it already", first.child.id());
    refused(&["-p", &program.pid().to_string()], &traced_by);
    first.signal(libc::SIGINT);
    first.end();
}

/// Only one tracer is possible: aiotrace names the one that came first, and the target notices nothing.
fn who_comes_second_beside_strace_is_told_who_was_first() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return cannot_run("there is no strace");
    }
    let strace = |pid: u32| {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-p", &pid.to_string()]).stderr(Stdio::piped());
        strace.spawn().unwrap()
    };
    let mut program = Program::ready(&["wait", "5"]);
    let mut first = strace(program.pid());
    await_that("strace traces it", || state(program.pid()).1 == first.id());
    let mut second = aiotrace();
    second.args(["attach", "-p", &program.pid().to_string()]).args(PTRACE);
    let second = second.output().unwrap();
    let (said, by) = (text(&second.stderr), format!("process {} traces it already", first.id()));
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains(&by) && said.contains("--source bpf"), "{said}");
    assert_eq!(state(program.pid()).1, first.id(), "it traces on");
    program.go_on();
    assert!(program.child.wait().unwrap().success());
    assert!(first.wait().unwrap().success(), "strace");

    let mut program = Program::ready(&["wait", "5"]);
    let first = attach(program.pid(), &[]);
    let second = strace(program.pid()).wait_with_output().unwrap();
    assert!(!second.status.success(), "{}", text(&second.stderr));
    // One of aiotrace's threads is the tracer.
    let tracer = state(program.pid()).1;
    let is_ours = Path::new(&format!("/proc/{}/task/{tracer}", first.child.id())).exists();
    assert!(is_ours, "thread {tracer} traces it");
    program.go_on();
    let trace = first.end();
    trace.assert_nothing_lost();
    assert_eq!(trace.accepted_and_reaped(), (5, 5));
}

fn a_running_program_is_traced_in_the_middle_and_let_go() {
    let mut program = Program::ready(&["wait-threads", "16"]);
    let attached = attach(program.pid(), &[]);
    program.go_on();
    let trace = attached.end();
    trace.assert_nothing_lost();
    assert_eq!(trace.accepted_and_reaped(), (1600, 1600));
    assert!(trace.stderr.contains("every system call of the target stops it"));
    let program = Program::ready(&["storm"]);
    for _ in 0..5 {
        let mut attached = attach(program.pid(), &[]);
        for _ in 0..10 {
            attached.await_line(|it| matches!(it, Line::Submit(_)));
        }
        attached.signal(libc::SIGINT);
        let trace = attached.end();
        assert_eq!(trace.status.code(), Some(0), "{}", trace.stderr);
        assert!(trace.submits().iter().all(|it| it.ret == 1));
        assert_eq!(state(program.pid()).1, 0, "nobody traces it any more");
    }
}

fn children_are_left_alone_unless_asked_for() {
    let forks = |options: &[&str], followed: bool| {
        let trace = aiotrace()
            .args(["run", "--format", "json", "-o", "/dev/stderr"])
            .args(PTRACE)
            .args(options)
            .arg("--")
            .arg(programs())
            .args(["fork", "5"])
            .output()
            .unwrap();
        assert_eq!(trace.status.code(), Some(0), "{}", text(&trace.stderr));
        let stderr = text(&trace.stderr);
        assert_eq!(stderr.matches("\"event\":\"io_submit\"").count(), if followed { 5 } else { 0 });
    };
    forks(&[], false);
    forks(&["--no-seccomp"], false);
    forks(&["-f"], true);
    forks(&["-f", "--no-seccomp"], true);
}

/// Without a tracer, the calls that the filter stops would return ENOSYS.
fn a_child_that_wants_no_tracer_works() {
    for options in [&[][..], &["-f"], &["--no-seccomp"], &["-f", "--no-seccomp"]] {
        lines(&run(options, &["untraced"]));
    }
    let trace = run_program_with(&PTRACE, &["untraced"]);
    assert_eq!(trace.accepted_and_reaped(), (2, 2));
    let of = |change: &str| trace.processes().iter().filter(|it| it.change == change).count();
    assert_eq!((of("fork"), of("exit")), (2, 3));
}

/// With CLONE_PTRACE the kernel makes us the tracer of the child, and does not announce it if children are not
/// followed.
fn a_child_that_asks_for_a_tracer_is_not_held_up() {
    for (options, calls) in [(&[][..], 0), (&["-f"], 2)] {
        let mut program = Program::ready(&["asks-for-a-tracer"]);
        let attached = attach(program.pid(), options);
        program.go_on();
        let took: u64 = program.line().parse().unwrap();
        assert!(program.child.wait().unwrap().success());
        // Without adoption it takes a second and more.
        assert!(took < 900, "{options:?}: {took} ms");
        let trace = attached.end();
        assert_eq!(trace.submits().len(), calls, "{options:?}");
        let told = trace.processes().iter().filter(|it| it.change == "fork").count();
        assert_eq!(told, calls.min(1), "{options:?}: of the one without CLONE_UNTRACED");
        trace.assert_nothing_lost();
    }
}

/// A thread that ended before its maker's stop announced it must not pass for a process.
fn short_threads_are_threads() {
    let mut programs = vec![run_program_with(&PTRACE, &["short-threads", "5000"])];
    programs.push(run_program_with(&["--source", "ptrace", "--no-seccomp"], &["short-threads"]));
    for trace in programs {
        assert_eq!(trace.destroys().len(), 5000);
        let made = trace.processes().into_iter().filter(|it| it.change == "fork");
        assert_eq!(made.count(), 0, "{:?}", trace.processes());
    }
}

/// A waiting call returns neither at the attach nor at the end.
fn a_call_that_waits_goes_on_waiting() {
    let mut program = Program::ready(&["blocked", "1500"]);
    await_blocked(program.pid());
    let trace = attach(program.pid(), &["--duration", "0.2"]).end();
    let [unfinished] = trace.unfinished()[..] else { panic!("one call: {:?}", trace.lines) };
    assert_eq!((&*unfinished.call, &*unfinished.why), ("io_getevents", "blocked_at_attach"));
    assert!(trace.stderr.contains("which begins again"), "{}", trace.stderr);
    assert!(trace.getevents().is_empty());
    let line = program.line();
    let (ret, time) = line.split_once(' ').unwrap();
    assert_eq!(ret, "0", "the timeout, and no EINTR");
    assert!((1500..4000).contains(&time.parse().unwrap()), "{time}");

    let mut program = Program::ready(&["interrupted"]);
    await_blocked(program.pid());
    for _ in 0..5 {
        attach(program.pid(), &["--duration", "0.05"]).end();
    }
    program.go_on();
    assert_eq!(program.line(), "1 0", "it returned once");
}

/// It cannot be undone: the completions are the program's by then.
fn a_call_that_has_some_of_its_completions_returns_these() {
    let mut program = Program::ready(&["partly"]);
    await_blocked(program.pid());
    let trace = attach(program.pid(), &["--duration", "0.2"]).end();
    assert_eq!(program.line(), "1", "of two: {}", trace.stderr);
}

/// This includes calls that the kernel never makes again by itself, and calls that begin at that moment.
fn no_call_returns_eintr_when_we_come_and_go() {
    let mut program = Program::ready(&["interruptible"]);
    for _ in 0..40 {
        attach(program.pid(), &["--duration", "0.05"]).end();
    }
    program.go_on();
    assert_eq!(program.line(), "none");
}

/// The short write cannot be undone, so aiotrace reports it.
fn a_write_that_the_attach_cuts_short_is_counted() {
    const SAID: &str = "a write(2) or send(2) wrote a part only when its thread was stopped";
    let mut program = Program::ready(&["blocked-write"]);
    let call = || std::fs::read_to_string(format!("/proc/{}/syscall", program.pid()));
    await_that("it waits in write(2)", || call().is_ok_and(|it| it.starts_with("1 ")));
    let trace = attach(program.pid(), &["--duration", "1"]).end();
    assert!(trace.stderr.contains(SAID), "{}", trace.stderr);
    assert!(program.line().parse::<u64>().unwrap() < 1 << 20);
    program.go_on();
    // The twin waits for something else than a write.
    let mut program = Program::ready(&["blocked", "300"]);
    await_blocked(program.pid());
    let trace = attach(program.pid(), &["--duration", "1"]).end();
    assert!(!trace.stderr.contains("wrote a part"), "{}", trace.stderr);
    program.line();
}

fn the_end_of_a_call_that_began_before_is_told() {
    let mut program = Program::ready(&["blocked", "1000"]);
    await_blocked(program.pid());
    let trace = attach(program.pid(), &[]).end();
    let [call] = trace.getevents()[..] else { panic!("one io_getevents: {:?}", trace.lines) };
    assert_eq!((&*call.entry, call.ret, call.entered), ("before_attach", 0, None));
    assert!(program.line().starts_with("0 "));
}

/// Each signal interrupts once, whenever it comes, and nothing else interrupts.
fn a_real_signal_at_the_same_moment_interrupts() {
    let mut program = Program::ready(&["interrupted"]);
    let pid = program.pid();
    await_blocked(pid);
    for count in 1..=40u64 {
        let tracer = aiotrace()
            .args(["attach", "--source", "ptrace", "-q", "-o", "/dev/null"])
            .args(["--duration", "0.02", "-p", &pid.to_string()])
            .stderr(Stdio::null())
            .spawn();
        std::thread::sleep(Duration::from_millis(count * 3));
        // SAFETY: the signal goes to our own child, which lives.
        assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGUSR1) }, 0);
        assert_eq!(program.line(), format!("-4 {count}"));
        assert!(tracer.unwrap().wait().unwrap().success());
    }
    program.go_on();
    assert_eq!(program.line(), "1 40");
}

fn a_signal_that_nobody_handles_does_not_interrupt() {
    let mut program = Program::ready(&["interrupted"]);
    let pid = program.pid();
    await_blocked(pid);
    let attached = attach(pid, &[]);
    for signal in [libc::SIGCHLD, libc::SIGWINCH, libc::SIGCONT] {
        // SAFETY: the signal goes to our own child, which lives.
        assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
        std::thread::sleep(Duration::from_millis(20));
    }
    program.go_on();
    assert_eq!(program.line(), "1 0");
    let trace = attached.end();
    assert_eq!(trace.getevents().len(), 1, "one call that began before: {:?}", trace.lines);
}

fn a_program_can_be_stopped_and_continued() {
    let program = Program::ready(&["storm"]);
    let pid = program.pid();
    let mut attached = attach(pid, &[]);
    let kill = |signal| {
        // SAFETY: the signal goes to our own child, which lives.
        assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
    };
    kill(libc::SIGSTOP);
    let time = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let used = || time().split(' ').skip(13).take(2).map(str::to_owned).collect::<Vec<_>>();
    std::thread::sleep(Duration::from_millis(200));
    let before = used();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(used(), before, "it does not run");
    kill(libc::SIGCONT);
    await_that("it runs again", || used() != before);
    // The process stays stopped when aiotrace ends.
    kill(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(200));
    attached.await_line(|line| matches!(line, Line::Submit(_)));
    attached.signal(libc::SIGINT);
    attached.end();
    await_that("it is stopped", || state(pid) == ('T', 0));
    kill(libc::SIGCONT);
    await_that("it runs on", || state(pid).0 != 'T');
}

fn a_target_goes_on_when_we_are_killed() {
    let mut program = Program::ready(&["submits"]);
    let mut attached = attach(program.pid(), &["--inject", "io_submit:error=EAGAIN:prob=50%"]);
    let failed = |line: String| line.split_once(' ').unwrap().1.parse::<u64>().unwrap();
    while failed(program.line()) == 0 {}
    attached.signal(libc::SIGKILL);
    attached.child.wait().unwrap();
    await_that("nobody traces it", || state(program.pid()).1 == 0);
    for tid in aiotrace::proc::threads(program.pid()) {
        assert!(!matches!(state(tid).0, 't' | 'T'), "thread {tid} is stopped");
    }
    program.line();
    let then = failed(program.line());
    for _ in 0..5 {
        assert_eq!(failed(program.line()), then, "no more faults");
    }
}

fn a_launched_program_dies_with_us_unless_it_has_no_filter() {
    for (options, lives) in [(&[][..], false), (&["--no-seccomp"], true)] {
        let mut tracer = aiotrace()
            .args(["run", "-q", "-o", "/dev/null"])
            .args(PTRACE)
            .args(options)
            .arg("--")
            .arg(programs())
            .arg("submits")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", tracer.id());
        let child = || -> Option<u32> {
            let text = std::fs::read_to_string(&children).ok()?;
            text.split(' ').filter_map(|it| it.trim().parse().ok()).find(|it| {
                std::fs::read(format!("/proc/{it}/cmdline"))
                    .is_ok_and(|it| it.ends_with(b"submits\0") && !it.starts_with(b"aiotrace"))
                    && std::fs::read_link(format!("/proc/{it}/exe")).ok() == Some(programs())
            })
        };
        await_that("it runs", || child().is_some());
        let pid = child().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        tracer.kill().unwrap();
        tracer.wait().unwrap();
        if lives {
            std::thread::sleep(Duration::from_millis(200));
            assert!(aiotrace::proc::is_alive(pid) && state(pid).1 == 0);
            // SAFETY: the signal goes to the process that we started through aiotrace, and which lives.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        } else {
            await_that("it dies", || !aiotrace::proc::is_alive(pid));
        }
    }
}

fn a_completion_is_changed_also_for_who_reaps_from_the_ring() {
    let rule = "complete:res=EIO:when=2";
    assert_eq!(lines(&run(&["--inject", rule], &["receive-ring"])), ["1 8", "2 -5", "3 8"]);
    let trace = run_program_with(&["--source", "ptrace", "--inject", rule], &["receive-ring"]);
    let results = |injected: bool| -> Vec<_> {
        let of = trace.completions().into_iter().filter(|it| it.injected == injected);
        of.map(|it| it.res.unwrap()).collect()
    };
    assert_eq!(results(false), [8, 8, 8], "as the kernel made them");
    assert_eq!(results(true), [-5]);
    let trace = run_program_with(&["--source", "ptrace", "--inject", rule], &["receive"]);
    let events = &trace.getevents()[0].events;
    let told: Vec<_> = events.iter().flatten().map(|it| (it.res, it.injected)).collect();
    assert_eq!(told, [(8, false), (-5, true), (8, false)], "what the program got");
    let dry = ["--inject", rule, "--dry-run"];
    assert_eq!(lines(&run(&dry, &["receive-ring"])), ["1 8", "2 8", "3 8"]);
}

fn a_dry_run_changes_nothing() {
    let rules =
        ["--inject", "io_submit,io_setup:error=EAGAIN", "--inject", "io_getevents:error=EINTR"];
    let options: Vec<&str> = rules.iter().copied().chain(["--dry-run"]).collect();
    let unharmed = lines(&run(&[], &["receive"]));
    assert_eq!(lines(&run(&options, &["receive"])), unharmed);
}

fn a_fault_can_be_for_some_files_only() {
    let by = |path: &str| {
        lines(&run(&["--inject", &format!("io_submit:error=EBADF:path={path}")], &["receive"]))
    };
    assert_eq!(by("/dev/null")[1], "io_submit 3");
    assert_eq!(by("/dev/zero")[1], "io_submit -9");
}

fn a_delay_holds_one_thread_and_no_other() {
    for rule in ["io_submit:delay_enter=300ms:when=3", "io_submit:delay_exit=300ms:when=3"] {
        let trace = run_program_with(&["--source", "ptrace", "--inject", rule], &["threads", "4"]);
        let long: Vec<_> = trace
            .submits()
            .into_iter()
            .filter(|it| it.duration_ns.unwrap() >= 300_000_000)
            .map(|it| (it.tid, it.entered.unwrap().0, it.ts.0))
            .collect();
        let [(tid, from, to)] = long[..] else { panic!("{rule}: {long:?}") };
        let others =
            trace.submits().iter().any(|it| it.tid != tid && it.ts.0 > from && it.ts.0 < to);
        assert!(others, "others go on meanwhile");
    }
}

fn children_have_faults_too_if_they_are_followed() {
    // Each process counts its own calls, and the program fails if one of them gets the fault.
    let trace =
        run_with(&["--source", "ptrace", "--inject", "io_setup:error=ENOMEM"], &["fork", "3"]);
    let failed = trace.setups().iter().filter(|it| it.errno.as_deref() == Some("ENOMEM")).count();
    assert_eq!(failed, 3, "{}", trace.stderr);
    assert!(!trace.status.success());
}

tests![
    the_status_of_the_program_is_the_tracers_to_tell if Need::LONG,
    it_works_without_any_privilege if Need::Native("it runs setpriv"),
    what_cannot_be_is_refused_with_the_next_step if Need::SAME,
    who_comes_second_beside_strace_is_told_who_was_first if Need::Native("it runs strace"),
    a_running_program_is_traced_in_the_middle_and_let_go if Need::LONG,
    children_are_left_alone_unless_asked_for if Need::LONG,
    a_child_that_wants_no_tracer_works if Need::SAME,
    a_child_that_asks_for_a_tracer_is_not_held_up if Need::SAME,
    short_threads_are_threads if Need::Native("it takes long where a processor is emulated"),
    a_call_that_waits_goes_on_waiting if Need::SAME,
    a_call_that_has_some_of_its_completions_returns_these if Need::SAME,
    no_call_returns_eintr_when_we_come_and_go if Need::Native("not each guest has semaphores of System V"),
    a_write_that_the_attach_cuts_short_is_counted if Need::SAME,
    the_end_of_a_call_that_began_before_is_told if Need::SAME,
    a_real_signal_at_the_same_moment_interrupts if Need::LONG,
    a_signal_that_nobody_handles_does_not_interrupt if Need::SAME,
    a_program_can_be_stopped_and_continued if Need::SAME,
    a_target_goes_on_when_we_are_killed if Need::SAME,
    a_launched_program_dies_with_us_unless_it_has_no_filter if Need::SAME,
    a_completion_is_changed_also_for_who_reaps_from_the_ring if Need::LONG,
    a_dry_run_changes_nothing if Need::SAME,
    a_fault_can_be_for_some_files_only if Need::SAME,
    a_delay_holds_one_thread_and_no_other if Need::Native("it compares times"),
    children_have_faults_too_if_they_are_followed if Need::SAME,
];
