//! Attaching to programs that run already, and detaching.

use std::process::{Command, Output};

use aiotrace::output::json::Line;
use aiotrace_common::names::{CALLS_BY_TRACEPOINT, LIFETIME, Program as Probe};

use super::{
    harness::Need,
    lifecycle::await_blocked,
    machine,
    support::{Attached, Program, aiotrace, binary},
};

fn attach(options: &[&str]) -> Output {
    aiotrace().arg("attach").args(options).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn the_first_call_after_the_attach_is_seen() {
    let mut program = Program::ready(&["wait", "10"]);
    let attached = Attached::to(program.pid());
    program.go_on();
    let trace = attached.end();
    assert_eq!(trace.status.code(), Some(0), "the end of the target ends it: {}", trace.stderr);
    trace.assert_nothing_lost();
    assert_eq!((trace.setups().len(), trace.destroys().len()), (1, 1));
    assert_eq!(trace.accepted_and_reaped(), (10, 10));
    assert_eq!(trace.processes()[0].change, "attached");
}

fn several_processes_at_once() {
    let mut programs = [Program::ready(&["wait", "3"]), Program::ready(&["wait", "4"])];
    let attached =
        Attached::new(&["-p", &programs.each_ref().map(|it| it.pid().to_string()).join(",")]);
    for program in &mut programs {
        program.go_on();
    }
    let trace = attached.end();
    trace.assert_nothing_lost();
    assert_eq!(trace.accepted_and_reaped(), (7, 7));
}

fn every_process_or_a_cgroup() {
    for options in [&["-a"][..], &["--cgroup", "/"]] {
        let mut program = Program::ready(&["wait", "3"]);
        let mut attached = Attached::new(options);
        program.go_on();
        let pid = program.pid();
        attached.await_line(|line| matches!(line, Line::Destroy(it) if it.pid == pid));
        attached.signal(libc::SIGINT);
        let trace = attached.end();
        assert_eq!(trace.status.code(), Some(0), "{options:?}: {}", trace.stderr);
        trace.assert_nothing_lost();
        assert_eq!(trace.submits().iter().filter(|it| it.pid == pid).count(), 3);
    }
}

fn a_process_outside_of_the_cgroup_is_not_traced() {
    let cgroup = test_cgroup();
    is_traced_alone(&cgroup, Attached::new(&["--cgroup", cgroup.to_str().unwrap()]));
}

fn a_systemd_unit_is_traced_by_its_name() {
    let cgroup = test_cgroup().with_file_name("aiotrace-test.service");
    std::fs::create_dir_all(&cgroup).unwrap();
    is_traced_alone(&cgroup, Attached::new(&["--unit", "aiotrace-test"]));
}

/// Only aiotrace sees the bind mount, in a mount namespace of its own.
fn a_cgroup_is_traced_by_a_bind_mount_of_it_too() {
    let cgroup = test_cgroup();
    let script = "mount --bind \"$1\" /mnt && shift && exec \"$@\"";
    let above = cgroup.parent().unwrap().to_str().unwrap().to_owned();
    for (mounted, path) in [(cgroup.to_str().unwrap(), "/mnt"), (&above, "/mnt/aiotrace-test")] {
        std::fs::create_dir_all(&cgroup).unwrap();
        let before = ["unshare", "-m", "sh", "-c", script, "sh", mounted];
        is_traced_alone(&cgroup, Attached::through(&before, &["--cgroup", path]));
    }
}

/// A cgroup for a test, in the hierarchy of this machine.
pub fn test_cgroup() -> std::path::PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let hierarchy = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
        .and_then(|line| line.split(' ').nth(1))
        .expect("a cgroup v2 hierarchy is mounted, as systemd and container managers do");
    let cgroup = std::path::Path::new(hierarchy).join("aiotrace-test");
    std::fs::create_dir_all(&cgroup).unwrap();
    cgroup
}

/// Two programs run, one of them in this cgroup: only that one is traced.
fn is_traced_alone(cgroup: &std::path::Path, mut attached: Attached) {
    let [mut inside, mut outside] = [3, 4].map(|nr| Program::ready(&["wait", &nr.to_string()]));
    std::fs::write(cgroup.join("cgroup.procs"), inside.pid().to_string()).unwrap();
    outside.go_on();
    outside.child.wait().unwrap();
    inside.go_on();
    attached.await_line(|line| matches!(line, Line::Destroy(_)));
    attached.signal(libc::SIGTERM);
    let trace = attached.end();
    assert_eq!(trace.accepted_and_reaped(), (3, 3));
    assert!(trace.submits().iter().all(|it| it.pid == inside.pid()));
    inside.child.wait().unwrap();
    // The kernel may need a moment to see that the cgroup is empty; if it is left, the next run uses it.
    let _ = std::fs::remove_dir(cgroup);
}

fn a_call_in_progress_at_the_attach_is_known_and_its_end_is_told() {
    let mut program = Program::start(&["blocked-on-stdin", "3600500"]);
    await_blocked(program.pid());
    let mut attached = Attached::to(program.pid());
    attached.await_line(|line| matches!(line, Line::Unfinished(_)));
    program.go_on();
    let trace = attached.end();
    trace.assert_nothing_lost();
    let [unfinished] = trace.unfinished()[..] else { panic!("one call: {:?}", trace.lines) };
    assert_eq!((&*unfinished.call, &*unfinished.why), ("io_getevents", "blocked_at_attach"));
    let [call] = trace.getevents()[..] else { panic!("one io_getevents") };
    assert_eq!((&*call.entry, call.ret, call.entered), ("before_attach", 1, None));
    assert_eq!(call.timeout.as_ref().unwrap().tv_nsec, 500_000_000);
}

fn a_call_in_progress_at_the_end_is_unfinished() {
    let mut program = Program::start(&["wait-blocked", "100000"]);
    assert_eq!(program.line(), "ready");
    let mut attached = Attached::to(program.pid());
    program.go_on();
    attached.await_line(|line| matches!(line, Line::Submit(_)));
    assert_eq!(program.line(), "ready");
    await_blocked(program.pid());
    attached.signal(libc::SIGINT);
    let trace = attached.end();
    assert_eq!(trace.status.code(), Some(0), "{}", trace.stderr);
    let [unfinished] = trace.unfinished()[..] else { panic!("one call: {:?}", trace.lines) };
    assert_eq!((&*unfinished.call, &*unfinished.why), ("io_getevents", "trace_ends"));
    assert!(unfinished.age_ns.unwrap() > 0);
    assert!(matches!(program.child.try_wait(), Ok(None)), "the target keeps running");
}

/// Its only iocb is recorded, too, although the record of a single iocb usually comes with the result.
fn an_io_submit_in_progress_at_the_end_says_what_it_submits() {
    let mut program = Program::start(&["wait-submit-blocked"]);
    assert_eq!(program.line(), "ready");
    let mut attached = Attached::to(program.pid());
    program.go_on();
    attached.await_line(|line| matches!(line, Line::Setup(_)));
    await_blocked(program.pid());
    attached.signal(libc::SIGINT);
    let trace = attached.end();
    let [unfinished] = trace.unfinished()[..] else { panic!("one call: {:?}", trace.lines) };
    assert_eq!((&*unfinished.call, &*unfinished.why), ("io_submit", "trace_ends"));
    let [Some(iocb)] = &unfinished.iocbs.as_ref().unwrap()[..] else { panic!("one iocb") };
    assert_eq!((iocb.op.as_deref(), iocb.data.map(|it| it.0)), (Some("pread"), Some(7)));
}

/// A thread is blocked for 2 s; in the meantime we attach, and detach before it returns.
fn attaching_and_detaching_change_nothing() {
    let mut program = Program::start(&["blocked", "6000"]);
    assert_eq!(program.line(), "ready");
    await_blocked(program.pid());
    for _ in 0..3 {
        let attached = Attached::to(program.pid());
        attached.signal(libc::SIGTERM);
        assert_eq!(attached.end().status.code(), Some(0));
    }
    assert!(!aiotrace::proc::blocked_calls(program.pid()).is_empty(), "still blocked");
    let line = program.line();
    let (ret, millis) = line.split_once(' ').unwrap();
    assert_eq!(ret, "0", "a timeout, not EINTR");
    assert!(millis.parse::<u64>().unwrap() >= 6000, "{millis} ms");
}

/// The probes used on this machine, which refuses trampolines and has no kprobes.
pub fn syscall_set() -> [Probe; 5] {
    let ([fork, exec, exit], [sys_exit, sys_enter]) = (LIFETIME, CALLS_BY_TRACEPOINT);
    [fork, exec, exit, sys_exit, sys_enter]
}

/// How many links the kernel lists that attach a program to one of our tracepoints, on this machine.
fn links() -> usize {
    let output = Command::new("bpftool").args(["-j", "link", "show"]).output().unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tracepoints = syscall_set().map(|it| it.at);
    let ours = |it: &&serde_json::Value| {
        it["tp_name"].as_str().is_some_and(|name| tracepoints.contains(&name))
    };
    all.as_array().unwrap().iter().filter(ours).count()
}

/// Waits until this aiotrace has attached all its programs.
pub fn await_attached(pid: u32) {
    let is_link = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = entry.and_then(|it| std::fs::read_to_string(it.path())).unwrap_or_default();
        text.contains("link_type:")
    };
    let held = || {
        let all = std::fs::read_dir(format!("/proc/{pid}/fdinfo"));
        all.map_or(0, |all| all.map(is_link).filter(|it| *it).count())
    };
    while held() < syscall_set().len() {
        assert!(aiotrace::proc::is_alive(pid), "aiotrace has ended");
        std::thread::yield_now();
    }
}

fn killed_with_9_it_leaves_nothing_attached() {
    assert_eq!(links(), 0, "tests run one by one");
    let storm = Program::ready(&["storm"]);
    let mut attached = Attached::to(storm.pid());
    attached.await_line(|line| matches!(line, Line::Submit(_)));
    assert_eq!(links(), syscall_set().len());
    attached.signal(libc::SIGKILL);
    attached.child.wait().unwrap();
    // The kernel frees links when their last reference is gone, which may take a moment.
    let start = std::time::Instant::now();
    while links() != 0 {
        assert!(start.elapsed() < super::support::PATIENCE, "links are left");
        std::thread::yield_now();
    }
}

fn a_thread_id_stands_for_its_process() {
    let mut program = Program::start(&["wait-threads", "2"]);
    assert_eq!(program.line(), "ready");
    let tid = std::fs::read_dir(format!("/proc/{}/task", program.pid()))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .find(|it| *it != program.pid().to_string())
        .expect("another thread");
    let attached = Attached::new(&["-p", &tid]);
    program.go_on();
    let trace = attached.end();
    assert_eq!(trace.accepted_and_reaped(), (200, 200));
    let expected = format!("{tid} is a thread of process {}", program.pid());
    assert!(trace.stderr.contains(&expected), "{}", trace.stderr);
}

fn errors_say_what_to_do() {
    let output = attach(&["-p", "4194304"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no such process: 4194304"), "{}", stderr(&output));
    assert!(stderr(&output).contains("pidof NAME"), "{}", stderr(&output));

    let output = attach(&["--cgroup", "no/such"]);
    assert!(stderr(&output).contains("no such cgroup: no/such"), "{}", stderr(&output));

    let pid = std::process::id().to_string();
    let output = attach(&["-p", &pid, "-o", "/no/such/directory/file"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cannot write to /no/such"), "{}", stderr(&output));
}

fn a_zombie_is_gone() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    // An ended process is a zombie until its parent waits for it.
    while aiotrace::proc::is_alive(pid) {
        std::thread::yield_now();
    }
    let output = attach(&["-p", &pid.to_string()]);
    child.wait().unwrap();
    assert!(stderr(&output).contains("no such process"), "{}", stderr(&output));
}

fn a_process_outlives_its_first_thread() {
    let mut program = Program::ready(&["hold-leaderless"]);
    let attached = Attached::to(program.pid());
    program.go_on();
    let trace = attached.end();
    assert_eq!(trace.status.code(), Some(0), "{}", trace.stderr);
    assert_eq!(trace.report().contexts.iter().filter(|it| it.adopted).count(), 1);
}

/// The target dies between any two steps of the attach: it is killed while aiotrace starts, at a moment that is later
/// from round to round.
fn a_target_may_go_at_any_moment() {
    for round in 0..20u32 {
        let mut program = Program::ready(&["wait"]);
        let child = aiotrace()
            .args(["attach", "-p", &program.pid().to_string()])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(4) * round);
        program.kill();
        let output = child.wait_with_output().unwrap();
        let text = stderr(&output);
        match output.status.code() {
            Some(0) => assert!(text.contains("none lost"), "{text}"),
            Some(2) => assert!(text.contains("no such process"), "{text}"),
            other => panic!("{other:?}: {text}"),
        }
    }
}

fn not_root_is_told_to_be() {
    let pid = std::process::id().to_string();
    let program = binary();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program)
        .args(["attach", "-p", &pid])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("run as root"), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("run as root").count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).matches("failed to create map").count() <= 1, "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"));
}

/// They do what needs no privilege, and say once what to do for the rest.
fn without_privileges_ls_and_doctor_say_what_they_can() {
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        let output = command.arg(binary()).args(arguments).output().unwrap();
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("run as root").count(), 1, "{arguments:?}: {text}");
        assert!(text.matches("failed to create map").count() <= 1, "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
        (output.status.code(), text)
    };
    let (status, text) = as_nobody(&["ls"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("fs.aio-nr") && text.contains("without BPF, from /proc"), "{text}");
    let (status, text) = as_nobody(&["doctor"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("tracing with probes does not work: needs CAP_BPF"), "{text}");
    assert!(text.contains("faults, by ptrace only"), "{text}");
}

/// It says what the best probe set lacks here, in the words of somebody who reads a trace.
fn doctor_says_what_a_missing_probe_means() {
    let doctor = machine::doctor();
    let says = |words: &str| doctor.contains(words);
    assert_eq!(says("latencies are upper bounds"), !machine::sees_inside(), "{doctor}");
    assert_eq!(says("why io_submit took fewer requests"), !machine::sees_inside(), "{doctor}");
    let by_mremap = machine::doctor_says("contexts that are moved");
    assert_eq!(
        says("noticed at the next call on it"),
        by_mremap == "at the next call on the context",
        "{doctor}"
    );
    // Kprobes miss the end of a call that began before they were attached, so a tracepoint of all calls looks for it.
    let is_slower = machine::doctor_says("calls") != "trampolines";
    assert_eq!(says("every system call of the machine takes"), is_slower, "{doctor}");
}

fn inside_of_a_pid_namespace_ids_are_as_seen_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let output = Command::new("unshare")
        .args(["-p", "-f", "--mount-proc"])
        .arg(binary())
        .args(["run", "-f", "--format", "json", "-o"])
        .arg(&file)
        .arg("--")
        .arg(super::support::programs())
        .args(["fork", "5"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = super::support::parse(&std::fs::read_to_string(&file).unwrap());
    let pids: std::collections::BTreeSet<u32> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Submit(it) => Some(it.pid),
            _ => None,
        })
        .collect();
    assert_eq!(pids.len(), 5);
    assert!(pids.iter().all(|pid| *pid < 100), "{pids:?}");
    assert!(stderr(&output).contains("none lost"), "{}", stderr(&output));
}

fn a_target_in_another_pid_namespace_has_the_ids_we_see() {
    let mut child = Command::new("unshare")
        .args(["-p", "-f"])
        .arg(super::support::programs())
        .args(["wait", "3"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut ready).unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let inner: u32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let attached = Attached::to(inner);
    drop(child.stdin.take());
    let trace = attached.end();
    child.wait().unwrap();
    trace.assert_nothing_lost();
    assert_eq!(trace.accepted_and_reaped(), (3, 3));
    assert!(trace.submits().iter().all(|it| it.pid == inner));
}

/// A thread makes half a million calls a second while we attach: calls that began before the attach are not taken for
/// losses, nor for denied calls.
fn attaching_to_a_busy_thread_loses_nothing() {
    let storm = Program::ready(&["storm"]);
    let all = [&["-p"][..], &["-a", "-f"]];
    // Where the processor is emulated, the storm leaves little time for the attach.
    let tried = if machine::guest().is_some() { &all[..1] } else { &all };
    for options in tried {
        let pid = storm.pid().to_string();
        let mut options = options.to_vec();
        if options == ["-p"] {
            options.push(&pid);
        }
        let attached = Attached::new(&[&options[..], &["-c", "--duration", "500ms"]].concat());
        let trace = attached.end();
        trace.assert_nothing_lost();
        let calls = trace.report().calls.clone().unwrap();
        let count = |name: &str| {
            let of = calls.iter().filter(|it| it.pid == storm.pid() && it.call == name);
            of.inspect(|it| assert!(it.errors.is_empty(), "{it:?}")).map(|it| it.calls).sum::<u64>()
        };
        assert!(count("io_submit") > 1000, "{calls:?}");
        let (submits, reaps) = (count("io_submit"), count("io_getevents"));
        assert!(submits.abs_diff(reaps) <= 1, "{submits} and {reaps}");
    }
}

tests![
    the_first_call_after_the_attach_is_seen if Need::LONG,
    several_processes_at_once if Need::LONG,
    every_process_or_a_cgroup if Need::LONG,
    a_process_outside_of_the_cgroup_is_not_traced if Need::LONG,
    a_systemd_unit_is_traced_by_its_name if Need::LONG,
    a_cgroup_is_traced_by_a_bind_mount_of_it_too if Need::Native("the guests have no mount(8)"),
    a_call_in_progress_at_the_attach_is_known_and_its_end_is_told,
    a_call_in_progress_at_the_end_is_unfinished if Need::SAME,
    an_io_submit_in_progress_at_the_end_says_what_it_submits if Need::LONG,
    attaching_and_detaching_change_nothing if Need::Native("the attaches must be shorter than a wait"),
    killed_with_9_it_leaves_nothing_attached if Need::Native("it runs bpftool"),
    a_thread_id_stands_for_its_process if Need::SAME,
    errors_say_what_to_do if Need::LONG,
    a_zombie_is_gone if Need::SAME,
    a_process_outlives_its_first_thread if Need::LONG,
    a_target_may_go_at_any_moment if Need::SLOW,
    not_root_is_told_to_be if Need::Native("it runs setpriv"),
    without_privileges_ls_and_doctor_say_what_they_can if Need::Native("it runs setpriv"),
    doctor_says_what_a_missing_probe_means if Need::LONG,
    inside_of_a_pid_namespace_ids_are_as_seen_there if Need::LONG,
    a_target_in_another_pid_namespace_has_the_ids_we_see if Need::LONG,
    attaching_to_a_busy_thread_loses_nothing if Need::LONG,
];
