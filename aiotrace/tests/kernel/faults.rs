//! Fault rules: the kernel and the ptrace loop decide alike, each condition holds, and a target is left as it was.

use std::{collections::BTreeMap, process::Command};

use aiotrace::output::json::Line;

use super::{
    harness::Need,
    machine,
    support::{Attached, Program, Trace, aiotrace, binary, programs, run_program_with, run_with},
};

fn rules<'a>(rules: &[&'a str]) -> Vec<&'a str> {
    rules.iter().flat_map(|it| ["--inject", it]).collect()
}

/// For each kind of call, the calls that have a fault, counted from 1, and the number of the rule; for completions,
/// the requests. It holds for processes that make their calls one after the other.
type Hits = BTreeMap<String, Vec<(u64, u32)>>;

fn hits(trace: &Trace) -> Hits {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut hits = Hits::new();
    for line in &trace.lines {
        let (name, fault) = match line {
            Line::Setup(it) => ("io_setup", &it.fault),
            Line::Destroy(it) => ("io_destroy", &it.fault),
            Line::Submit(it) => ("io_submit", &it.fault),
            Line::Cancel(it) => ("io_cancel", &it.fault),
            Line::Getevents(it) => ("io_getevents", &it.fault),
            Line::Completion(it) => {
                if let Some(fault) = &it.fault {
                    assert_eq!((&*fault.effect, it.injected), ("dry_run", false));
                    hits.entry("complete".to_owned())
                        .or_default()
                        .push((it.data.unwrap().0, fault.rule));
                }
                continue;
            }
            _ => continue,
        };
        let count = counts.entry(name).or_default();
        *count += 1;
        if let Some(fault) = fault {
            assert_eq!(fault.effect, "dry_run");
            hits.entry(name.to_owned()).or_default().push((*count, fault.rule));
        }
    }
    hits
}

/// What these rules would do to `varied`: the probes and the ptrace loop must decide alike.
fn decided(of: &[&str], seed: &str) -> Hits {
    let by = |source: &str| {
        let rules = rules(of);
        let options = ["--source", source, "--dry-run", "--seed", seed];
        let trace = run_program_with(&[&options[..], &rules].concat(), &["varied"]);
        assert!(trace.submits().iter().all(|it| !it.injected && it.ret != -11), "it is dry");
        hits(&trace)
    };
    let (kernel, ptrace) = (by("bpf"), by("ptrace"));
    assert_eq!(kernel, ptrace, "{of:?}");
    kernel
}

/// Whether the kernel cannot count in BPF: then such a rule is refused with the reason.
fn is_refused(rule: &str) -> bool {
    if machine::can_count() {
        return false;
    }
    let output = aiotrace()
        .args(["run", "--source", "bpf", "--dry-run", "--inject", rule, "--"])
        .arg(programs())
        .arg("varied")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("only ptrace can") && stderr.contains("`aiotrace doctor`"), "{stderr}");
    true
}

fn numbers(hits: &Hits, name: &str) -> Vec<u64> {
    hits.get(name).map(|it| it.iter().map(|it| it.0).collect()).unwrap_or_default()
}

fn the_kernel_counts_as_the_ptrace_loop_does() {
    if is_refused("io_submit:error=EAGAIN:when=3") {
        return;
    }
    // The child and the thread make this many calls each. The process itself has made one io_setup before.
    let (submits, cancels) = (38, 8);
    let hits = decided(
        &[
            "io_submit:error=EAGAIN:when=3",
            "io_submit,io_cancel:error=EINVAL:when=5..30+4",
            "io_getevents,io_pgetevents:error=EINTR:when=2+10",
            "io_setup,io_destroy:error=EINVAL:when=3",
        ],
        "1",
    );
    let of_rule = |name: &str, rule| -> Vec<u64> {
        hits[name].iter().filter(|it| it.1 == rule).map(|it| it.0).collect()
    };
    assert_eq!(of_rule("io_submit", 1), [3, submits + 3], "once in each process");
    let of_cancel = [5].into_iter().chain((5..24).step_by(4).map(|it| cancels + it));
    assert_eq!(of_rule("io_cancel", 2), of_cancel.collect::<Vec<_>>(), "counted apart");
    assert_eq!(of_rule("io_setup", 4), [4, 1 + 3 + 2], "the child has three, and then they go on");
    let all_act = |of: &[&str]| {
        let hits = decided(of, "1");
        for rule in 1..=of.len() as u32 {
            assert!(hits.values().flatten().any(|it| it.1 == rule), "rule {rule} acts: {hits:?}");
        }
    };
    all_act(&[
        "io_submit:error=EFAULT:when=10+7:per=thread",
        "io_submit:error=EPERM:when=9+:per=context:max=11",
        "io_submit:accept=2:max=4",
    ]);
    all_act(&[
        "io_submit:accept=1:op=pwrite:when=3+3",
        "io_submit:error=ENOSYS:fd=101:when=2+5",
        "io_cancel:error=EAGAIN:op=poll:when=4:force",
        "io_submit:error=EBADF:op=pread:fd=100:for=1h:max=3:per=thread",
    ]);
}

fn the_kernel_takes_as_many_rules_about_requests_as_there_may_be() {
    if is_refused("io_submit:error=EAGAIN:op=pread:fd=94:when=2") {
        return;
    }
    let of: Vec<_> =
        (94..110).map(|fd| format!("io_submit:error=EAGAIN:op=pread:fd={fd}:when=2")).collect();
    let hits = decided(&of.iter().map(String::as_str).collect::<Vec<_>>(), "1");
    assert!(hits["io_submit"].iter().any(|it| it.1 == 8), "{hits:?}");
}

fn the_kernel_has_the_same_chances_as_the_ptrace_loop() {
    if is_refused("io_submit:error=EAGAIN:prob=20%") {
        return;
    }
    let of = [
        "io_submit:error=EAGAIN:prob=20%",
        "io_getevents,io_pgetevents:error=EINTR:prob=0.1",
        "io_submit:error=EFAULT:prob=30%:per=thread",
        "io_submit:error=EPERM:prob=30%:per=context:when=2+2",
        "io_cancel:error=EINVAL:prob=50%:max=5",
    ];
    let first = decided(&of, "7");
    assert!(numbers(&first, "io_submit").len() > 40, "{first:?}");
    assert_ne!(first, decided(&of, "8"), "another seed");
    // The process that makes a context first is the first one, even if no rule is about that call.
    let one = decided(&["io_submit:error=EAGAIN:prob=30%"], "9");
    let other = decided(&["io_submit,io_setup:error=EAGAIN:prob=30%"], "9");
    assert_eq!(one.get("io_submit"), other.get("io_submit"));
}

fn the_kernel_judges_completions_as_the_ptrace_loop_does() {
    if is_refused("complete:res=EIO:when=5+20") {
        return;
    }
    let hits = decided(
        &[
            "complete:res=EIO:when=5+20",
            "complete:res=ENOSPC:op=pwrite:when=3+4",
            "complete:res=4:op=pread:fd=101:max=6",
            "complete:res=EAGAIN:prob=25%:per=context",
        ],
        "3",
    );
    let rules: Vec<u32> = hits["complete"].iter().map(|it| it.1).collect();
    assert!((1..=4).all(|it| rules.contains(&it)), "{hits:?}");
    assert_eq!(rules.iter().filter(|it| **it == 3).count(), 6);
}

/// Which calls of io_submit failed in a program of one thread, counted from 1, and by which rule.
fn failed(of: &[&str], options: &[&str]) -> Vec<(u64, u32)> {
    let options = [&["--source", "ptrace"], options, &rules(of)].concat();
    let trace = run_program_with(&options, &["receive-threads", "1"]);
    let submits = trace.submits();
    let failed = (1..).zip(&submits).filter(|(_, it)| it.injected);
    failed.map(|(number, it)| (number, it.fault.as_ref().unwrap().rule)).collect()
}

fn numbers_of(failed: &[(u64, u32)]) -> Vec<u64> {
    failed.iter().map(|it| it.0).collect()
}

fn when_is_at_these_counts() {
    let when =
        |text: &str| numbers_of(&failed(&[&format!("io_submit:error=EAGAIN:when={text}")], &[]));
    assert_eq!(when("3"), [3]);
    assert_eq!(when("2..5"), [2, 3, 4, 5]);
    assert_eq!(when("2..10+4"), [2, 6, 10]);
    assert_eq!(when("3+:max=4"), [3, 4, 5, 6]);
    // 200 calls are accepted, and every other call is not.
    assert_eq!(when("3+2"), (0..198).map(|it| 3 + 2 * it).collect::<Vec<_>>());
}

fn the_same_seed_has_the_same_faults() {
    let by = |seed| failed(&["io_submit:error=EAGAIN:prob=25%"], &["--seed", seed]);
    let first = by("7");
    assert_eq!(first, by("7"));
    assert_ne!(first, by("8"));
    assert!((20..200).contains(&first.len()), "{first:?}");
}

fn of_several_rules_the_first_that_is_due_acts_and_all_count() {
    let of = ["io_submit:error=EAGAIN:when=2", "io_submit:error=EAGAIN:when=2+2:max=3"];
    assert_eq!(failed(&of, &[]), [(2, 1), (4, 2), (6, 2), (8, 2)]);
    let of = ["io_submit:error=EAGAIN:max=2", "io_submit:error=EAGAIN:when=2..3"];
    assert_eq!(failed(&of, &[]), [(1, 1), (2, 1), (3, 2)], "what max= leaves is the next rule's");
}

/// What a workload says under these rules.
fn says(options: &[&str], program: &[&str]) -> Vec<String> {
    let output = aiotrace()
        .args(["run", "-o", "/dev/null", "--source", "ptrace"])
        .args(options)
        .arg("--")
        .arg(programs())
        .args(program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn rules_end_and_begin_at_a_time() {
    let got = ["io_submit -11", "io_submit 1"];
    let by = |options: &[&str]| says(options, &["until-accepted"]);
    assert_eq!(by(&["--inject", "io_submit:error=EAGAIN:for=2s"]), got);
    assert_eq!(by(&["--inject", "io_submit:error=EAGAIN", "--for", "2s"]), got);
    assert_eq!(by(&["--inject", "io_submit:error=EAGAIN:after=50ms:max=1"]), got);
    let never = ["--inject", "io_submit:error=EAGAIN:after=1h"];
    assert_eq!(says(&never, &["receive"]), says(&[], &["receive"]));
}

fn a_rule_can_be_about_some_requests_only() {
    let by = |condition: &str| {
        let rule = format!("io_submit:error=EBADF:max=1:{condition}");
        let lines = says(&["--inject", &rule], &["receive"]);
        lines.iter().position(|it| it == "io_submit -9")
    };
    assert_eq!(by("op=pread"), Some(1));
    assert_eq!(by("op=pwrite"), Some(3));
    assert_eq!(by("op=fsync|poll"), Some(5));
    assert_eq!(by("op=fsync"), None);
    let trace = run_program_with(&["--source", "ptrace"], &["receive"]);
    let fd = |index: usize| trace.submits()[index].iocbs[0].as_ref().unwrap().fd.unwrap();
    assert_eq!(by(&format!("fd={}", fd(0))), Some(1));
    assert_eq!(by(&format!("fd={}", fd(2))), Some(5), "the pipe");
    assert_eq!(by("fd=1000"), None);
}

fn threads_and_contexts_are_counted_apart_if_asked_for() {
    let by = |per: &str| {
        let rule = format!("io_submit:error=EAGAIN:when=7{per}");
        says(&["--inject", &rule], &["receive-threads", "4"])
    };
    assert_eq!(by(""), ["801 calls, 1 failed"]);
    assert_eq!(by(":per=process"), ["801 calls, 1 failed"]);
    assert_eq!(by(":per=thread"), ["804 calls, 4 failed"]);
    assert_eq!(by(":per=context"), ["804 calls, 4 failed"]);
}

fn attach(pid: u32, options: &[&str]) -> Attached {
    let pid = pid.to_string();
    Attached::new(&[&["--source", "ptrace", "-p", &pid], options].concat())
}

fn a_rule_can_be_about_one_thread_or_context() {
    let program = Program::ready(&["submits"]);
    let mut attached = attach(program.pid(), &[]);
    let Line::Submit(it) = attached.await_line(|it| matches!(it, Line::Submit(_))) else {
        unreachable!()
    };
    attached.signal(libc::SIGINT);
    attached.end();
    let (tid, ctx) = (program.pid(), it.args.ctx.0);
    let rule = |condition: String| format!("io_submit:error=EAGAIN:when=3..5:{condition}");
    let others = [rule(format!("tid={}", tid + 1)), rule(format!("ctx={:#x}", ctx + 4096))];
    for its in [rule(format!("tid={tid}")), rule(format!("ctx={ctx:#x}"))] {
        let mut attached = attach(tid, &rules(&[&others[0], &others[1], &its]));
        let mut count = 0;
        while count < 50 {
            attached.await_line(|it| matches!(it, Line::Submit(_)));
            count += 1;
        }
        attached.signal(libc::SIGINT);
        let trace = attached.end();
        // Calls that began before the attach get no fault.
        let submits = trace.submits().into_iter().filter(|it| it.entry == "seen");
        let failed = (1..).zip(submits).filter(|(_, it)| it.injected);
        let failed: Vec<(u64, u32)> =
            failed.map(|(number, it)| (number, it.fault.as_ref().unwrap().rule)).collect();
        assert_eq!(failed, [(3, 3), (4, 3), (5, 3)], "{its}");
    }
}

/// Waits until no more calls of `submits` fail, and returns how many failed. Half of all calls would fail, so no
/// tenth of a second would pass without a failure.
fn until_no_more_fail(program: &mut Program) -> u64 {
    let mut last = (0, 0);
    let mut same = 0;
    for _ in 0..300 {
        let line = program.line();
        let (calls, failed) = line.split_once(' ').unwrap();
        let (calls, failed): (u64, u64) = (calls.parse().unwrap(), failed.parse().unwrap());
        assert!(calls > last.0, "it goes on");
        same = if failed == last.1 && calls > last.0 + 50 { same + 1 } else { 0 };
        last = (calls, failed);
        if same == 5 {
            return failed;
        }
    }
    panic!("it still fails: {last:?}");
}

fn nothing_is_left_when_we_are_asked_to_end() {
    let mut program = Program::ready(&["submits"]);
    let mut before = 0;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let attached = attach(program.pid(), &["--inject", "io_submit:error=EAGAIN:prob=50%"]);
        loop {
            let line = program.line();
            if line.split_once(' ').unwrap().1.parse::<u64>().unwrap() > before {
                break;
            }
        }
        attached.signal(signal);
        let trace = attached.end();
        assert!(trace.status.success(), "{}", trace.stderr);
        for tid in aiotrace::proc::threads(program.pid()) {
            let status = std::fs::read(format!("/proc/{tid}/status")).unwrap();
            let field = |name| aiotrace::proc::status_field(&status, name).unwrap();
            assert!(!field("State").starts_with(['T', 't']), "it is stopped");
            assert_eq!(field("TracerPid"), "0");
        }
        before = until_no_more_fail(&mut program);
    }
}

fn faults_need_no_privilege() {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"])
        .arg(binary())
        .args(["run", "-o", "/dev/null", "--inject", "io_submit:error=EAGAIN:when=1", "--"])
        .arg(programs())
        .arg("receive")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().collect();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(lines[..4], ["io_setup 0", "io_submit -11", "io_submit 3", "io_getevents 3 8,8,8"]);
    assert_eq!(lines.len(), 9);
}

fn a_mechanism_that_cannot_be_had_is_refused_with_the_reason() {
    let refused = |mechanism: &str, rule: &str, why: &str| {
        let trace = run_with(&["--mechanism", mechanism, "--inject", rule], &["receive"]);
        assert_eq!(trace.status.code(), Some(125), "{}", trace.stderr);
        assert!(trace.stderr.contains(why), "{}", trace.stderr);
        assert!(trace.stderr.contains("`aiotrace doctor`"), "{}", trace.stderr);
    };
    let cannot = "cannot make io_submit:delay_enter=1ms: BPF cannot wait";
    refused("fmod_ret", "io_submit:delay_enter=1ms", cannot);
    refused("write_user", "io_submit:error=EAGAIN", "it reaches completions only");
    refused("file_permission", "io_setup:error=EAGAIN", "it reaches io_submit only");
    let rule = "io_submit:delay_enter=1ms";
    let trace = run_with(&["--source", "bpf", "--inject", rule], &["receive"]);
    assert_eq!(trace.status.code(), Some(125), "{}", trace.stderr);
    let told = "--source bpf cannot make rule 1, io_submit:delay_enter=1ms, on this machine";
    assert!(trace.stderr.contains(told), "{}", trace.stderr);
    // The reason is the one that `doctor` gives.
    let doctor = aiotrace().arg("doctor").output().unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    for mechanism in ["fmod_ret", "override"] {
        let of_it = doctor.lines().find_map(|it| it.trim_start().strip_prefix(mechanism));
        if !of_it.unwrap().trim_start().starts_with("yes") {
            refused(mechanism, "io_setup:error=EAGAIN", "the kernel ");
        }
    }
}

tests![
    the_kernel_counts_as_the_ptrace_loop_does if Need::LONG,
    the_kernel_takes_as_many_rules_about_requests_as_there_may_be if Need::LONG,
    the_kernel_has_the_same_chances_as_the_ptrace_loop if Need::LONG,
    the_kernel_judges_completions_as_the_ptrace_loop_does if Need::SLOW,
    when_is_at_these_counts if Need::LONG,
    the_same_seed_has_the_same_faults if Need::LONG,
    of_several_rules_the_first_that_is_due_acts_and_all_count if Need::SAME,
    rules_end_and_begin_at_a_time if Need::LONG,
    a_rule_can_be_about_some_requests_only if Need::LONG,
    threads_and_contexts_are_counted_apart_if_asked_for if Need::LONG,
    a_rule_can_be_about_one_thread_or_context if Need::SLOW,
    nothing_is_left_when_we_are_asked_to_end if Need::SLOW,
    faults_need_no_privilege if Need::Native("it runs setpriv"),
    a_mechanism_that_cannot_be_had_is_refused_with_the_reason if Need::LONG,
];
