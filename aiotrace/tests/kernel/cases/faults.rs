//! What a program makes of a fault: D2, D3, D12, D16, D17.

use aiotrace::output::json::{FaultLine, Line};

use super::{Case, count, found, run, run_text};
use crate::{
    harness::Need,
    machine,
    support::{aiotrace, programs},
};

/// The last verdict on each fault.
fn verdicts(case: &Case) -> Vec<&FaultLine> {
    let faults = case.trace.lines.iter().filter_map(|line| match line {
        Line::Fault(it) => Some(it),
        _ => None,
    });
    let mut last: Vec<&FaultLine> = Vec::new();
    for it in faults {
        if it.anew {
            last.retain(|old| old.ts != it.ts);
        }
        last.push(it);
    }
    last
}

fn one(case: &Case) -> &FaultLine {
    let verdicts = verdicts(case);
    assert_eq!(verdicts.len(), 1, "{verdicts:?}");
    verdicts[0]
}

fn with_fault(rule: &str, arguments: &[&str]) -> Option<Case> {
    run(&["-q", "--seed", "1", "--inject", rule], arguments)
}

/// E4: the fifth write is made again, with the same iocb; on a disk with direct writes, too.
fn a_write_that_failed_and_is_made_again_is_retried() {
    for arguments in [&["fault-retry"][..], &["fault-retry", "direct"]] {
        for _ in 0..3 {
            let rule = "complete:res=EIO:op=pwrite:when=5";
            let Some(case) = with_fault(rule, arguments) else {
                assert_eq!(arguments.len(), 2, "buffered writes need no disk");
                continue;
            };
            assert!(case.said.contains("1 made again, all done"), "{}", case.said);
            let verdict = one(&case);
            assert_eq!((&*verdict.verdict, verdict.lost), ("retried", 0), "{}", verdict.message);
            assert!(verdict.succeeded, "{}", verdict.message);
            let request = verdict.request.as_ref().unwrap();
            assert_eq!((request.offset, request.nbytes), (262_144, 8192), "{}", verdict.message);
        }
    }
}

/// E5: the program says which of its writes failed.
fn a_fault_for_one_file_names_the_request_that_got_it() {
    for rule in [
        "complete:res=EIO:path=**/aio-fault-file-b-*:when=3",
        "complete:res=EIO:op=pwrite:when=7",
        "complete:res=EIO:prob=20%",
    ] {
        let case = with_fault(rule, &["fault-file", "60"]).unwrap();
        let verdicts = verdicts(&case);
        let said: Vec<&str> = case.said.lines().filter(|it| it.starts_with("write ")).collect();
        assert_eq!(said.len(), verdicts.len(), "{rule}: {} {verdicts:?}", case.said);
        assert!(!said.is_empty(), "{rule} acts");
        for (said, verdict) in said.iter().zip(verdicts) {
            let request = verdict.request.as_ref().unwrap();
            let named = format!(
                "fd {} offset {} nbytes {}: res=-5",
                request.fd, request.offset, request.nbytes
            );
            assert!(said.ends_with(&named), "{rule}: {said}, and the verdict: {}", verdict.message);
            assert_eq!((&*verdict.verdict, verdict.lost), ("lost", 1), "{}", verdict.message);
        }
    }
}

/// E7: the next request uses the iocb, and that is no retry.
fn a_request_whose_iocb_is_used_for_another_one_is_lost() {
    for rule in ["io_submit:error=EAGAIN:when=10", "io_submit:error=EINTR:when=10:force"] {
        let case = with_fault(rule, &["drop-reuse"]).unwrap();
        assert!(case.said.contains("block 9 was never written"), "{}", case.said);
        let verdict = one(&case);
        assert_eq!((&*verdict.verdict, verdict.lost), ("lost", 1), "{}", verdict.message);
        let request = verdict.request.as_ref().unwrap();
        assert_eq!((request.offset, request.nbytes), (9 * 4096, 4096), "{}", verdict.message);
        assert_eq!(verdict.exit_code, Some(0), "{}", verdict.message);
        assert_eq!(case.trace.report().faults[0].lost, 1);
    }
}

/// The twin of E7: the same request comes again, in another iocb.
fn a_request_that_comes_again_in_another_iocb_is_retried() {
    for rule in ["io_submit:error=EAGAIN:when=10", "complete:res=EIO:when=10"] {
        let case = with_fault(rule, &["retry-pool"]).unwrap();
        assert!(case.said.contains("1 made again, all done"), "{}", case.said);
        let verdict = one(&case);
        assert_eq!((&*verdict.verdict, verdict.lost), ("retried", 0), "{}", verdict.message);
        assert!(verdict.succeeded, "{}", verdict.message);
    }
}

/// E10: requests that io_submit does not accept are written at once, by whatever call.
fn what_is_done_with_pwrite_is_not_lost() {
    for how in ["pwrite64", "pwritev", "pwritev2", "write", "writev"] {
        for rule in ["io_submit:error=EAGAIN:when=3", "io_submit:accept=2:when=3"] {
            let case = with_fault(rule, &["sync-fallback", how]).unwrap();
            assert!(case.trace.status.success(), "{}", case.trace.stderr);
            let verdict = one(&case);
            assert_eq!(verdict.lost, 0, "{how} {rule}: {}", verdict.message);
            let done = format!("done by {}(2)", how.trim_end_matches("64"));
            assert!(verdict.message.contains(&done), "{how} {rule}: {}", verdict.message);
            let dropped = count(&case.trace, "short-submit-dropped");
            assert_eq!(dropped, 0, "{how} {rule}: {:?}", found(&case.trace));
        }
    }
}

/// A child has the same files as its parent.
fn what_a_child_does_is_not_lost() {
    let case = with_fault("io_submit:error=EAGAIN:when=3", &["sync-fallback", "child"]).unwrap();
    let verdict = one(&case);
    assert_eq!((&*verdict.verdict, verdict.lost), ("done", 0), "{}", verdict.message);
    assert!(verdict.message.contains("done by pwrite(2)"), "{}", verdict.message);
}

/// By stores to a mapping, or by a process that was there before the fault.
fn what_others_may_have_written_is_not_lost_for_sure() {
    for (how, why) in
        [("mapping", "has mapped the file"), ("worker", "another process has the file open")]
    {
        let rule = ["--inject", "io_submit:error=EAGAIN:when=3"];
        for options in [&["-q"][..], &["-q", "--source", "ptrace"]] {
            let case = run(&[options, &rule].concat(), &["unseen-writer", how]).unwrap();
            assert!(case.said.contains("1 written unseen, all done"), "{}", case.said);
            let verdict = one(&case);
            assert_eq!((&*verdict.verdict, verdict.lost), ("unsure", 1), "{}", verdict.message);
            assert!(verdict.message.contains(why), "{options:?}: {}", verdict.message);
        }
    }
    // What it writes to other files at these places is no reason.
    let case = with_fault("io_submit:error=EAGAIN:when=10", &["drop-reuse"]).unwrap();
    assert_eq!(&*one(&case).verdict, "lost", "{}", one(&case).message);
}

/// A place that is written again and again. The first and the third header, and a record.
fn the_next_header_of_a_log_is_no_retry() {
    for (call, verdict) in [(1, "unsure"), (5, "unsure"), (6, "lost")] {
        let rule = format!("io_submit:error=EAGAIN:when={call}");
        let case = with_fault(&rule, &["log-header"]).unwrap();
        assert!(case.said.contains("1 dropped"), "{}", case.said);
        assert_eq!(&*one(&case).verdict, verdict, "{rule}: {}", one(&case).message);
    }
}

/// The same of reads.
fn what_is_read_at_once_is_not_lost() {
    for how in ["readv", "read", "preadv2"] {
        let case = with_fault("io_submit:accept=2:when=3", &["sync-read", how]).unwrap();
        assert!(case.said.contains("2 done with another call"), "{}", case.said);
        let verdict = one(&case);
        assert_eq!((&*verdict.verdict, verdict.lost), ("done", 0), "{how}: {}", verdict.message);
        assert!(verdict.message.contains(&format!("done by {how}(2)")), "{}", verdict.message);
    }
}

/// D22: every kind of write is a write, whatever its opcode.
fn a_rule_for_writes_is_about_all_kinds_of_them() {
    // Two of the last four writes are made again with one pwritev: it is the 79th completion, and fails.
    let rule = "complete:res=EIO:op=write:when=79";
    let options = ["-q", "--inject", "io_submit:accept=2:when=20", "--inject", rule];
    let case = run(&options, &["retry-cut", "vectors"]).unwrap();
    let of_write = verdicts(&case).into_iter().find(|it| it.rule == 2);
    let of_write = of_write.unwrap_or_else(|| panic!("{:?}", verdicts(&case)));
    assert_eq!(
        of_write.request.as_ref().unwrap().op.as_deref(),
        Some("pwritev"),
        "{}",
        of_write.message
    );
}

/// D23: the lines are in the order of time, with stacks if they are asked for.
fn what_is_told_quietly_is_in_order_and_has_its_stack() {
    let rule = ["--inject", "io_submit:error=EAGAIN:when=3+7"];
    let text = run_text(&[&["-q", "--stacks"], &rule[..]].concat(), &["sync-fallback"]).unwrap();
    let times = text.lines().filter(|it| it.contains(" *** ")).map(|it| {
        let time = it.split_whitespace().next().unwrap();
        time.parse::<f64>().unwrap_or_else(|_| panic!("{it}"))
    });
    let times: Vec<f64> = times.collect();
    // Of the faults, the equal ones are one line.
    assert!(times.len() >= 3 && times.is_sorted(), "{text}");
    let text = run_text(&["-q", "--stacks"], &["closed-fd"]).unwrap();
    let below = text.lines().skip_while(|it| !it.contains("*** warning refused-calls")).skip(1);
    let mut stack = below.take_while(|it| it.starts_with("    at "));
    assert!(stack.any(|it| it.contains("closed_fd (")), "{text}");
}

/// The requests come again merged, with vectors, or in pieces.
fn what_is_submitted_again_in_another_cut_is_retried() {
    for how in ["merged", "vectors", "pieces"] {
        for (rule, count) in
            [("io_submit:error=EAGAIN:when=3", 4), ("io_submit:accept=2:when=3", 2)]
        {
            let case = with_fault(rule, &["retry-cut", how]).unwrap();
            let said = format!("{count} submitted again in another cut");
            assert!(case.said.contains(&said), "{}", case.said);
            let verdict = one(&case);
            assert_eq!((&*verdict.verdict, verdict.lost), ("retried", 0), "{}", verdict.message);
            assert!(verdict.succeeded, "{how} {rule}: {}", verdict.message);
        }
    }
}

/// Each with a twin at the same place of the file, with other memory, or with another kind of sync.
fn what_comes_again_is_the_same_only_with_the_same_memory() {
    const REFUSED: &str = "io_submit:error=EAGAIN:when=1";
    for (how, rule, verdict, why) in [
        ("rest", "complete:res=512:when=1", "retried", ""),
        ("rest-not-moved", "complete:res=512:when=1", "unsure", "other memory"),
        ("vectors", REFUSED, "retried", ""),
        ("vectors-changed", REFUSED, "unsure", "other memory"),
        ("halves", REFUSED, "retried", ""),
        ("halves-swapped", REFUSED, "unsure", "other memory"),
        ("pwritev", REFUSED, "done", ""),
        ("duplicate", REFUSED, "done", ""),
        ("opened-again", REFUSED, "done", ""),
        ("fdsync", REFUSED, "retried", ""),
        ("fsync", REFUSED, "retried", ""),
        ("fsync", "complete:res=EIO:when=1", "retried", ""),
        ("syncfs", REFUSED, "unsure", "syncfs(2)"),
        ("ignored", "complete:res=EIO:when=1", "lost", ""),
        ("worker", REFUSED, "unsure", "another process has the file"),
        ("append", REFUSED, "unsure", "O_APPEND"),
        ("append", "complete:res=EIO:when=1", "unsure", "O_APPEND"),
        ("append-by-copy", REFUSED, "unsure", "O_APPEND"),
        ("append-another", REFUSED, "unsure", "O_APPEND"),
        ("received", REFUSED, "unsure", "into the same memory"),
        ("received-elsewhere", REFUSED, "retried", ""),
    ] {
        let case = with_fault(rule, &["same-memory", how]).unwrap();
        let told = one(&case);
        assert_eq!(told.verdict, verdict, "{how}: {}", told.message);
        assert!(told.message.contains(why), "{how}: {}", told.message);
    }
    // The worker is not traced.
    let mut alone = aiotrace();
    alone.args(["run", "-q", "--inject", REFUSED, "--"]).arg(programs());
    let output = alone.args(["same-memory", "worker"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // A look that comes late finds the file open.
    let is_why = ["a process below this one is not traced", "another process has the file"];
    assert!(is_why.iter().any(|it| said.contains(it)), "{said}");
}

/// The number of a descriptor identifies no file any more when the descriptor was closed.
fn what_another_file_with_the_same_number_gets_is_no_retry() {
    for how in ["submitted", "at-once"] {
        let case = with_fault("io_submit:error=EAGAIN:when=1", &["reuse-number", how]).unwrap();
        assert!(case.said.contains("the file has 0"), "{}", case.said);
        let verdict = one(&case);
        assert_eq!((&*verdict.verdict, verdict.lost), ("unsure", 1), "{}", verdict.message);
        assert!(verdict.message.contains("was closed"), "{}", verdict.message);
    }
}

/// E9, and its twin that forgets the rest of the requests; without any fault.
fn the_rest_of_a_short_submit_that_is_read_at_once_is_not_dropped() {
    for source in [&[][..], &["--source", "ptrace"]] {
        let options = [&["-q"], source].concat();
        let case = Case::of(&options, &["ring-full-sync"]).unwrap();
        assert!(case.said.contains("by pread, all done"), "{}", case.said);
        let mut alarms = rows_above_info(&case);
        // Trampolines and kprobes do not watch pread(2), and the finding says so.
        let is_watched = !source.is_empty() || machine::watches();
        if !is_watched {
            assert!(alarms.iter().any(|it| it == UNSURE), "{alarms:?}");
            alarms.retain(|it| it != UNSURE && it != "warning submit-eagain");
        }
        assert_eq!(alarms, Vec::<String>::new(), "{source:?}");
        let case = Case::of(&options, &["ring-full-drop"]).unwrap();
        let findings = case.trace.findings();
        let dropped = findings.iter().find(|it| it.name == "short-submit-dropped");
        let dropped = dropped.unwrap_or_else(|| panic!("{source:?}: {:?}", found(&case.trace)));
        let said = format!("{} dropped", dropped.evidence["dropped"]);
        let says_so = case.said.lines().any(|it| it.trim() == said);
        assert!(says_so, "{source:?}: {said}, the program: {}", case.said);
        let expected = if is_watched { ("error", false) } else { ("warning", true) };
        assert_eq!((&*dropped.severity, dropped.unsure), expected, "{source:?}");
        let says = dropped.why.as_deref().is_some_and(|it| it.contains("are not watched"));
        assert_eq!(says, !is_watched, "{source:?}: {:?}", dropped.why);
    }
}

const UNSURE: &str = "warning short-submit-dropped (unsure)";

fn rows_above_info(case: &Case) -> Vec<String> {
    found(&case.trace).into_iter().filter(|it| !it.starts_with("info")).collect()
}

/// D17: one half of the verdict says that it was retried, the other half how the process ended.
fn how_the_process_went_on_belongs_to_the_verdict() {
    let submit = "io_submit:error=EFAULT:when=5";
    let case = with_fault(submit, &["retry-exit", "14"]).unwrap();
    assert_eq!(case.trace.status.code(), Some(14));
    let verdict = one(&case);
    assert_eq!((verdict.exit_code, verdict.lost), (Some(14), 0), "{}", verdict.message);
    assert!(verdict.message.contains("retried"), "{}", verdict.message);
    assert!(verdict.message.contains("exited with status 14"), "{}", verdict.message);

    let case = with_fault(submit, &["retry-exit", "abort"]).unwrap();
    let verdict = one(&case);
    assert_eq!((&*verdict.verdict, verdict.signal.as_deref()), ("died", Some("SIGABRT")));
    assert!(verdict.message.contains("retried"), "{}", verdict.message);

    // The twin goes on well.
    let case = with_fault(submit, &["retry-pool"]).unwrap();
    let verdict = one(&case);
    assert_eq!((&*verdict.verdict, verdict.exit_code), ("retried", Some(0)), "{}", verdict.message);
}

/// The reaping thread of a server gets EFAULT; the server writes its stack and dies of the fault.
fn a_process_that_dies_of_a_fault_later_died_of_it() {
    let rule = "io_getevents:error=EFAULT:when=5";
    let case = with_fault(rule, &["reap-fails", "abort"]).unwrap();
    let verdict = one(&case);
    assert_eq!((&*verdict.verdict, verdict.signal.as_deref()), ("died", Some("SIGABRT")));
    let case = with_fault(rule, &["reap-fails", "14"]).unwrap();
    let verdict = one(&case);
    assert_eq!((&*verdict.verdict, verdict.exit_code), ("exited", Some(14)), "{}", verdict.message);
}

/// E46.
fn rules_that_cannot_be_are_refused_with_the_list() {
    let refused = run_refused("io_getevents:error=EAGAIN:when=1");
    assert!(refused.contains("EINTR") && refused.contains("force"), "{refused}");
}

fn run_refused(rule: &str) -> String {
    let output = crate::support::aiotrace()
        .args(["run", "--inject", rule, "--", "/bin/true"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// D16: each rule has a line in the report, even if it never acted.
fn a_rule_that_never_fired_says_so() {
    let options = ["-q", "--inject", "io_cancel:error=EINVAL:when=1"];
    let text = run_text(&options, &["append"]).unwrap();
    let line = text.lines().find(|it| it.contains("never acted"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    for what in ["io_cancel:error=EINVAL:when=1", "0 calls", "io_submit 4"] {
        assert!(line.contains(what), "{what}: {line}");
    }
}

tests![
    a_write_that_failed_and_is_made_again_is_retried if Need::LONG,
    a_fault_for_one_file_names_the_request_that_got_it if Need::LONG,
    a_request_whose_iocb_is_used_for_another_one_is_lost if Need::LONG,
    a_request_that_comes_again_in_another_iocb_is_retried if Need::LONG,
    what_is_done_with_pwrite_is_not_lost if Need::LONG,
    what_a_child_does_is_not_lost if Need::LONG,
    what_others_may_have_written_is_not_lost_for_sure if Need::LONG,
    the_next_header_of_a_log_is_no_retry if Need::LONG,
    what_is_read_at_once_is_not_lost if Need::LONG,
    a_rule_for_writes_is_about_all_kinds_of_them if Need::SAME,
    what_is_told_quietly_is_in_order_and_has_its_stack if Need::LONG,
    what_is_submitted_again_in_another_cut_is_retried if Need::LONG,
    what_comes_again_is_the_same_only_with_the_same_memory if Need::LONG,
    what_another_file_with_the_same_number_gets_is_no_retry if Need::LONG,
    the_rest_of_a_short_submit_that_is_read_at_once_is_not_dropped if Need::LONG,
    how_the_process_went_on_belongs_to_the_verdict if Need::LONG,
    a_process_that_dies_of_a_fault_later_died_of_it if Need::SAME,
    rules_that_cannot_be_are_refused_with_the_list if Need::SAME,
    a_rule_that_never_fired_says_so if Need::SAME,
];
