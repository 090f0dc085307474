//! What a program receives of each fault by each mechanism: the workload `receive` prints what each of its calls
//! returned, one in a line, and a fault changes one of these lines. A mechanism that the kernel lacks is refused with
//! the reason.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use aiotrace::output::json::Line;

use super::{
    harness::Need,
    kernels::Skips,
    machine, session,
    support::{aiotrace, binary, parse, programs},
};

/// The lines of `receive` without faults.
const UNHARMED: [&str; 8] = [
    "io_setup 0",
    "io_submit 3",
    "io_getevents 3 8,8,8",
    "io_submit 1",
    "io_pgetevents 1 8",
    "io_submit 1",
    "io_cancel -115",
    "io_destroy 0",
];

/// A fault, and the lines that replace one line of the program.
struct Case {
    rule: &'static str,
    /// The index of the line that is replaced.
    line: usize,
    says: &'static [&'static str],
    by: &'static [&'static str],
}

const fn case(
    rule: &'static str,
    line: usize,
    says: &'static [&'static str],
    by: &'static [&'static str],
) -> Case {
    Case { rule, line, says, by }
}

const WHOLE: &[&str] = &["fmod_ret", "override", "ptrace"];
const REQUEST: &[&str] = &["fmod_ret", "override", "file_permission", "ptrace"];
const SHORT: &[&str] = &["file_permission", "ptrace"];
const RESULT: &[&str] = &["write_user", "ptrace"];
const PTRACE: &[&str] = &["ptrace"];

const CASES: &[Case] = &[
    case("io_setup:error=EAGAIN:when=1", 0, &["io_setup -11", "io_setup 0"], WHOLE),
    case("io_setup:error=ENOMEM:when=1", 0, &["io_setup -12", "io_setup 0"], WHOLE),
    case("io_submit:error=EAGAIN:when=1", 1, &["io_submit -11", "io_submit 3"], REQUEST),
    case("io_submit:error=EFAULT:max=1", 1, &["io_submit -14", "io_submit 3"], REQUEST),
    case(
        "io_submit:error=EAGAIN:when=1..2",
        1,
        &["io_submit -11", "io_submit -11", "io_submit 3"],
        REQUEST,
    ),
    case("io_submit:accept=2", 1, &["io_submit 2", "io_submit 1"], SHORT),
    case("io_submit:accept=1:when=1", 1, &["io_submit 1", "io_submit 2"], SHORT),
    case("io_getevents:error=EINTR:when=1", 2, &["io_getevents -4", "io_getevents 3 8,8,8"], WHOLE),
    case(
        "io_getevents:error=EFAULT:when=1",
        2,
        &["io_getevents -14", "io_getevents 3 8,8,8"],
        WHOLE,
    ),
    case("complete:res=EIO:when=2", 2, &["io_getevents 3 8,-5,8"], RESULT),
    case("complete:res=ENOSPC:op=pwrite", 4, &["io_pgetevents 1 -28"], RESULT),
    case("complete:res=5:op=pwrite", 4, &["io_pgetevents 1 5"], RESULT),
    case("io_pgetevents:error=EINTR:when=1", 4, &["io_pgetevents -4", "io_pgetevents 1 8"], WHOLE),
    case("io_cancel:error=EAGAIN:when=1:force", 6, &["io_cancel -11", "io_cancel -115"], WHOLE),
    case("io_cancel:error=EINVAL:when=1", 6, &["io_cancel -22", "io_cancel -115"], WHOLE),
    case("io_destroy:error=EINVAL:when=1", 7, &["io_destroy -22", "io_destroy 0"], WHOLE),
    case("io_submit:error=EAGAIN:after=1h", 1, &["io_submit 3"], REQUEST),
    case("io_submit:delay_enter=20ms:when=1", 1, &["io_submit 3"], PTRACE),
    case("io_submit:delay_exit=20ms:when=1", 1, &["io_submit 3"], PTRACE),
];

/// Whether a rule needs a count. Without counting in BPF, only ptrace can apply it.
fn counts(rule: &str) -> bool {
    ["when=", "max=", "prob="].iter().any(|it| rule.contains(it))
}

/// The cases of a mechanism on this kernel, in sets that are tried in one run each: the cases of a set are about
/// different lines. (Where processors are emulated, the kernel takes seconds to attach a program.)
fn sets(mechanism: &str) -> Vec<Vec<&'static Case>> {
    let is_counted = machine::can_count() || mechanism == "ptrace";
    let of_it = CASES.iter().filter(|it| it.by.contains(&mechanism));
    let mut sets: Vec<Vec<&Case>> = Vec::new();
    for case in of_it.filter(|it| is_counted || !counts(it.rule)) {
        match sets.iter_mut().find(|set| set.iter().all(|it| it.line != case.line)) {
            Some(set) => set.push(case),
            None => sets.push(vec![case]),
        }
    }
    // The kernel makes no difference to most of what a rule can say, so a guest tries two sets, with each kind of
    // fault.
    if machine::guest().is_some() && !machine::runs_everything() {
        let takes_some = |set: &[&Case]| set.iter().any(|it| it.rule.contains("accept=1"));
        let mut index = 0;
        sets.retain(|set| {
            index += 1;
            index <= 2 || takes_some(set)
        });
    }
    sets
}

/// The lines of `receive` with all these faults.
fn expected(set: &[&Case]) -> String {
    let says = |(line, unharmed): (usize, &'static str)| {
        let case = set.iter().find(|it| it.line == line);
        case.map_or_else(|| vec![unharmed], |it| it.says.to_vec())
    };
    UNHARMED.into_iter().enumerate().flat_map(says).collect::<Vec<_>>().join("; ")
}

/// What a program says under rules, in one line; its exit status, if that is not 0; and what aiotrace wrote to
/// stderr.
fn receive(as_who: Option<&str>, mechanism: &str, rules: &[&str], program: &[&str]) -> String {
    give_way(mechanism);
    let mut command = match as_who {
        None => aiotrace(),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={user}"), "--regid=65534", "--clear-groups"]);
            command.arg("--inh-caps=-all").arg(binary());
            command
        }
    };
    let output = command
        .args(["run", "-f", "-q", "-o", "/dev/null", "--mechanism", mechanism])
        .args(rules.iter().flat_map(|it| ["--inject", it]))
        .arg("--")
        .arg(programs())
        .args(program)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => (),
        Some(77) => return "77".to_owned(),
        _ => return format!("{} {stderr}", output.status),
    }
    String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>().join("; ")
}

/// While a program is attached by trampoline to the return of a function, as those of the shared aiotrace are, the
/// trampoline calls the function even if a kprobe at its entry has overridden it. So that aiotrace must end.
fn give_way(mechanism: &str) {
    if mechanism == "override" {
        session::pause_all();
    }
}

fn check(mechanism: &str) {
    if !machine::has(mechanism) {
        let case = CASES.iter().find(|it| it.by.contains(&mechanism) && !counts(it.rule));
        let refused = receive(None, mechanism, &[case.unwrap().rule], &["receive"]);
        assert!(refused.starts_with("exit status: 125"), "{mechanism}: {refused}");
        let reason = machine::doctor_says(mechanism).strip_prefix("no: ").unwrap_or_default();
        // The part of the reason that names the program that the kernel refuses; the verifier's words follow, which
        // doctor leaves out.
        let reason = reason.split([':', ';']).next().unwrap();
        assert!(!reason.is_empty() && refused.contains(reason), "{refused}; doctor: {reason}");
        assert!(refused.contains("`aiotrace doctor`"), "{refused}");
        return;
    }
    for set in sets(mechanism) {
        let rules: Vec<&str> = set.iter().map(|it| it.rule).collect();
        let got = receive(None, mechanism, &rules, &["receive"]);
        assert_eq!(got, expected(&set), "{mechanism}: {rules:?}");
    }
}

fn every_fault_by_fmod_ret() {
    check("fmod_ret");
}

fn every_fault_by_override() {
    check("override");
}

fn every_fault_by_file_permission() {
    check("file_permission");
}

fn every_fault_by_write_user() {
    check("write_user");
}

fn every_fault_by_ptrace() {
    check("ptrace");
}

fn every_fault_without_any_privilege() {
    for set in sets("ptrace") {
        let rules: Vec<&str> = set.iter().map(|it| it.rule).collect();
        let got = receive(Some("65534"), "ptrace", &rules, &["receive"]);
        assert_eq!(got, expected(&set), "{rules:?}");
    }
}

/// Those of the mechanisms that this kernel has.
fn available(of: &[&'static str]) -> impl Iterator<Item = &'static str> {
    of.iter().copied().filter(|it| machine::has(it))
}

fn the_same_through_libaio_and_in_a_child() {
    for mechanism in available(WHOLE) {
        let sets = sets(mechanism);
        let Some(set) = sets.first() else { continue };
        let rules: Vec<&str> = set.iter().map(|it| it.rule).collect();
        for program in ["receive-libaio", "receive-in-child"] {
            let got = receive(None, mechanism, &rules, &[program]);
            assert_eq!(got, expected(set), "{mechanism}, {program}: {rules:?}");
        }
    }
}

/// The kernel asks both for the file and for the one below it whether a request is allowed.
fn the_same_on_overlayfs() {
    for mechanism in available(REQUEST) {
        for rule in ["io_submit:error=EAGAIN:when=1", "io_submit:accept=2"] {
            let is_counted = mechanism == "ptrace" || machine::can_count() || !counts(rule);
            let of_it = CASES.iter().filter(|it| it.rule == rule && it.by.contains(&mechanism));
            for case in of_it.filter(|_| is_counted) {
                let got = receive(None, mechanism, &[rule], &["receive-on-overlayfs"]);
                assert_eq!(got, expected(&[case]), "{mechanism}: {rule}");
            }
        }
    }
}

/// The fault is missed, and the next call, which has no verdict, does not get it.
fn a_request_that_passes_by_the_mechanism_leaves_nothing_behind() {
    let mechanism = "file_permission";
    if machine::has(mechanism) && machine::can_count() {
        let rules = ["io_submit:error=EAGAIN:when=1"];
        let got = receive(None, mechanism, &rules, &["receive-poll"]);
        assert_eq!(got, "io_submit 1; io_submit 1");
    } else {
        let refused =
            receive(None, mechanism, &["io_submit:error=EAGAIN:when=1"], &["receive-poll"]);
        assert!(refused.starts_with("exit status: 125"), "{refused}");
    }
}

/// With this many calls, the 5th, the 15th and so on fail, whichever thread makes them.
fn of_sixteen_threads_every_tenth_call() {
    // It takes minutes where a processor is emulated, and how each makes its faults is another test.
    let is_in_haste = machine::guest().is_some() && !machine::runs_everything();
    let counts = |it: &&str| machine::is_exact(it) && (*it == "ptrace" || machine::can_count());
    let most = if is_in_haste { 1 } else { usize::MAX };
    for mechanism in available(REQUEST).filter(counts).take(most) {
        let rule = "io_submit:error=EAGAIN:when=5+10";
        let says = receive(None, mechanism, &[rule], &["receive-threads"]);
        let calls: u64 = says.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        assert!(calls > 3200, "{mechanism}: {says}");
        let failed = (calls - 5) / 10 + 1;
        assert_eq!(says, format!("{calls} calls, {failed} failed"), "{mechanism}");
    }
}

/// A running program gets faults as long as aiotrace runs, and none when aiotrace is stopped or killed. (Under ptrace
/// it stands still while aiotrace is stopped.)
fn faults_only_while_aiotrace_lives() {
    for mechanism in available(REQUEST) {
        give_way(mechanism);
        let mut program = Command::new(programs())
            .arg("submits")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut tracer = aiotrace()
            .args(["attach", "-q", "-o", "/dev/null", "--mechanism", mechanism])
            .args(["--inject", "io_submit:error=EAGAIN", "-p", &program.id().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tell = |signal: i32| {
            // SAFETY: the signal goes to a process of ours that is not waited for yet.
            unsafe { libc::kill(tracer.id() as i32, signal) };
        };
        let mut until = |fails: bool| {
            // The program prints ten lines a second: how many calls it made, and how many failed.
            let tallies = said.by_ref().map_while(Result::ok).take(600);
            let mut tallies = tallies.filter_map(|it| {
                let (calls, failed) = it.split_once(' ')?;
                Some((calls.parse::<u64>().ok()?, failed.parse::<u64>().ok()?))
            });
            let mut before = tallies.next();
            tallies.any(|now| {
                let last = before.replace(now).unwrap_or(now);
                let (calls, failed) = (now.0 - last.0, now.1 - last.1);
                calls > 0 && if fails { failed == calls } else { failed == 0 }
            })
        };
        assert!(until(true), "{mechanism}: no faults");
        if mechanism != "ptrace" {
            tell(libc::SIGSTOP);
            assert!(until(false), "{mechanism}: faults although aiotrace is stopped");
            tell(libc::SIGCONT);
            assert!(until(true), "{mechanism}: no faults when it goes on");
        }
        tell(libc::SIGKILL);
        assert!(until(false), "{mechanism}: faults although aiotrace was killed");
        tracer.wait().unwrap();
        program.kill().unwrap();
        program.wait().unwrap();
    }
}

/// The result of a rule by the mechanism that aiotrace chooses itself: mechanism, verdict, and exit status.
fn best(rule: &str, command: &[&OsStr], preloaded: Option<&Path>) -> (String, String, Option<i32>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = aiotrace()
        .args(["run", "-f", "--format", "json", "--inject", rule, "-o"])
        .arg(file.path())
        .envs(preloaded.map(|it| ("LD_PRELOAD", it)))
        .arg("--")
        .args(command)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (mechanism, verdict) = told(&std::fs::read_to_string(file.path()).unwrap());
    (mechanism, verdict, output.status.code())
}

/// The mechanism of the first rule in the output, and the first verdict.
fn told(json: &str) -> (String, String) {
    let lines = parse(json);
    let Some(Line::Start(start)) = lines.first() else { panic!("no start: {json}") };
    let mechanism = start.faults.as_ref().unwrap().rules[0].mechanism.to_string();
    let verdict = lines.iter().find_map(|line| match line {
        Line::Fault(it) => Some(it.verdict.to_string()),
        _ => None,
    });
    let is_missed = match lines.last() {
        Some(Line::Report(report)) => {
            report.lost > 0 || report.faults.iter().any(|it| it.missed > 0)
        }
        _ => false,
    };
    // What was lost may have been what a verdict needs.
    let verdict = match verdict.as_deref() {
        None | Some("unsure") if is_missed => format!("missed: {json}"),
        Some("unsure") => format!("unsure: {json}"),
        verdict => verdict.unwrap_or("none").to_owned(),
    };
    (mechanism, verdict)
}

/// Whether that was told. (What was missed or unsure has the whole output with it.)
fn is_verdict(told: &str, verdict: &str) -> bool {
    told.split(':').next() == Some(verdict)
}

/// The best of these mechanisms for a rule on this kernel.
fn best_of(ways: &[&'static str], counts: bool) -> &'static str {
    let is_usable = |way: &&str| {
        machine::has(way) && (!counts || (machine::can_count() && machine::is_exact(way)))
    };
    ways.iter().copied().find(|it| is_usable(it)).unwrap_or("ptrace")
}

/// Checks a rule with the mechanisms that can make it, best first: its verdict, and how the program ends.
fn expect_best(
    rule: &str,
    (command, preloaded): (&[&OsStr], Option<&Path>),
    ways: &[&'static str],
    (verdicts, status): (&[&str], i32),
) {
    let by = best_of(ways, counts(rule) || command[0] == FIO);
    let (mechanism, told, ended) = best(rule, command, preloaded);
    assert_eq!(mechanism, by, "{rule}");
    // If the kernel has skipped a program, which aiotrace says, there may be no fault.
    if machine::is_exact(by) || !is_verdict(&told, "missed") {
        assert!(verdicts.iter().any(|it| is_verdict(&told, it)), "{rule}: {told}");
        assert_eq!(ended, Some(status), "{rule}");
    }
}

fn without_a_name_the_best_mechanism_is_taken() {
    let programs = programs();
    let receive = (&[programs.as_os_str(), "receive".as_ref()][..], None);
    let of_calls = ["fmod_ret", "override"];
    expect_best("io_setup:error=EAGAIN:when=1", receive, &of_calls, (&["retried"], 0));
    expect_best("io_submit:accept=2", receive, &["file_permission"], (&["retried"], 0));
    // What is written to /dev/zero may have been written otherwise, too, for all that anybody can see.
    expect_best("complete:res=EIO:op=pwrite", receive, &["write_user"], (&["unsure"], 0));
}

const FIO: &str = "/usr/bin/fio";
/// fio forks, and its child makes the calls.
const FIO_OPTIONS: [&str; 8] = [
    "--name=x",
    "--size=64k",
    "--bs=4k",
    "--rw=randread",
    "--ioengine=libaio",
    "--iodepth=8",
    "--invalidate=0",
    "--minimal",
];

fn what_fio_makes_of_the_best_mechanism() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut name = std::ffi::OsString::from("--filename=");
    name.push(file.path());
    let mut command: Vec<&OsStr> = vec![FIO.as_ref(), &name];
    command.extend(FIO_OPTIONS.map(OsStr::new));
    // fio does not start without shared memory of System V; a library stands in for it.
    let preloaded: Option<PathBuf> =
        (!has_shared_memory()).then(|| programs().with_file_name("libaio_shm.so"));
    let fio = (&command[..], preloaded.as_deref());
    let of_requests = ["fmod_ret", "override", "file_permission"];
    expect_best("io_submit:error=EAGAIN:when=3", fio, &of_requests, (&["retried"], 0));
    // fio ends at once, perhaps before anybody could look what else may have read the file.
    let ended = (&["reported", "unsure"][..], 1);
    expect_best("complete:res=EIO:op=pread:when=3", fio, &["write_user"], ended);
}

fn has_shared_memory() -> bool {
    // SAFETY: the call takes no pointers. Nobody else uses the segment, and it is removed at once.
    unsafe {
        let id = libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600);
        id >= 0 && libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) == 0
    }
}

/// A running program gets faults for a second.
fn a_running_program_gets_faults_by_the_best_mechanism() {
    let program = Command::new(programs())
        .args(["until-accepted", "5"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = aiotrace()
        .args(["attach", "-q", "--format", "json", "--inject", "io_submit:error=EAGAIN:for=200ms"])
        .args(["-p", &program.id().to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let program = program.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&program.stdout);
    assert!(said.contains("io_submit -11\nio_submit 1\n"), "{said}");
    let (mechanism, verdict) = told(&String::from_utf8_lossy(&output.stdout));
    let by = best_of(&["fmod_ret", "override", "file_permission"], false);
    assert_eq!(mechanism, by);
    if machine::is_exact(by) || !is_verdict(&verdict, "missed") {
        // It made the same request before, without a fault.
        let is_unsure = is_verdict(&verdict, "unsure") || is_verdict(&verdict, "missed");
        let is_right = verdict == "retried" || is_unsure;
        assert!(is_right && program.status.success(), "{verdict}, {}: {stderr}", program.status);
    }
}

/// `aiotrace doctor` says what the table of kernels says.
fn this_kernel_has_the_mechanisms_that_are_known_of_it() {
    // These lines are for the table of docs/reference/kernels.md.
    machine::doctor().lines().for_each(|it| eprintln!("doctor | {it}"));
    let Some(kernel) = machine::guest() else {
        assert!(machine::doctor_says("ptrace").starts_with("yes"), "{}", machine::doctor());
        return;
    };
    for mechanism in ["fmod_ret", "override", "file_permission", "write_user"] {
        let says = machine::doctor_says(mechanism);
        let known = kernel.mechanisms.iter().find(|it| it.0 == mechanism);
        let expected = match known {
            None => "no",
            Some((_, Skips::Never)) => "yes",
            Some((_, Skips::Sometimes)) => "yes; rules that count go by ptrace",
        };
        assert!(says.starts_with(expected), "{mechanism}: {expected}, but doctor says {says}");
        let skips = says.contains("skips programs");
        assert_eq!(skips, known.is_some_and(|it| it.1 == Skips::Sometimes), "{mechanism}");
    }
    let can_count = machine::doctor_says("counting in BPF").starts_with("yes");
    assert_eq!(can_count, kernel.counts, "counting in BPF");
    let best = machine::doctor().lines().find_map(|it| it.strip_prefix("probe set "));
    assert_eq!(best, Some(kernel.best), "{}", machine::doctor());
    let locked = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let should_be = kernel.parameters.contains("lockdown=integrity");
    assert_eq!(locked.contains("[integrity]"), should_be, "{locked}");
}

tests![
    this_kernel_has_the_mechanisms_that_are_known_of_it,
    every_fault_by_fmod_ret,
    every_fault_by_override,
    every_fault_by_file_permission,
    every_fault_by_write_user,
    every_fault_by_ptrace,
    every_fault_without_any_privilege if Need::Native("it runs setpriv"),
    the_same_through_libaio_and_in_a_child if Need::SLOW,
    the_same_on_overlayfs if Need::Native("the guests have no overlayfs"),
    a_request_that_passes_by_the_mechanism_leaves_nothing_behind,
    of_sixteen_threads_every_tenth_call if Need::SLOW,
    faults_only_while_aiotrace_lives if Need::SLOW,
    without_a_name_the_best_mechanism_is_taken,
    what_fio_makes_of_the_best_mechanism if Need::SLOW,
    a_running_program_gets_faults_by_the_best_mechanism if Need::SLOW,
];
