//! Rings of every size, and pools of iocbs: D4.

use aiotrace::output::json::{FindingLine, Line};

use super::{Case, found, ready, requests};
use crate::{
    harness::Need,
    machine,
    support::{
        Attached, Program, Trace, aiotrace, await_that, parse, programs, set_options, traced,
    },
};

/// E1: 6,000 requests, never more than one in flight. Nothing else is found, whatever the size of the ring is.
fn a_ring_of_any_size_is_read_to_its_end() {
    let of_limit = std::fs::read_to_string("/proc/sys/fs/aio-max-nr").unwrap();
    let of_limit: u64 = of_limit.trim().parse().unwrap();
    for asked in ["128", "1000", "2048", "8000", "60000"] {
        if asked.parse::<u64>().unwrap() > of_limit {
            continue;
        }
        for how in ["call", "ring"] {
            for source in [&[][..], &["--source", "ptrace"]] {
                // A ring of several pages, and a small one, stand for all.
                let is_in_short = !machine::runs_everything() && !["128", "8000"].contains(&asked);
                if is_in_short && !source.is_empty() {
                    continue;
                }
                let count = if source.is_empty() { "6000" } else { "3000" };
                let arguments = ["big-ring", asked, count, how];
                let options = [&["-q"], source].concat();
                let case = Case::of(&options, &arguments).unwrap();
                assert_nothing_is_wrong(&case.trace, &format!("{arguments:?} {source:?}"));
                let expected = (count.parse().unwrap(), 1);
                assert_eq!(requests(&case.trace), expected, "{arguments:?} {source:?}");
                let context = &case.trace.report().contexts[0];
                assert_eq!((context.failed, context.unreaped, context.in_flight), (0, Some(0), 0));
                // Every third request has 1,024 bytes, the others have 512.
                let bytes = (expected.0 * 4 / 3) * 512;
                assert_eq!(context.bytes, bytes, "{arguments:?} {source:?}");
            }
        }
    }
}

/// Nothing is found but that the file is in memory and, on a busy machine, that a call takes long.
fn assert_nothing_is_wrong(trace: &Trace, of: &str) {
    let mut found = found(trace);
    found.retain(|it| it != "info inline-completion" && it != "warning blocking-submit");
    assert!(found.is_empty(), "{of}: {found:?}");
}

fn a_healthy_database_is_healthy() {
    let case = Case::of(&["-q", "--fail-on", "warning"], &["big-ring", "2048", "6000"]).unwrap();
    assert_nothing_is_wrong(&case.trace, "a ring of 2048");
    let latency = case.trace.report().contexts[0].complete_ns.as_ref().unwrap();
    assert!(latency.p50 < 50_000_000, "it takes microseconds: {latency:?}");
}

/// The pool has 64 iocbs. What completed while one of its three threads was in io_submit may have been in flight with
/// what is then, so that a bound may be larger.
fn is_of_pool(trace: &Trace, peak: u64) -> bool {
    let is_bound = trace.report().contexts.iter().any(|it| it.peak_at_most);
    peak <= if is_bound { 128 } else { 64 }
}

/// E3: the same wherever the ring is in memory.
fn a_pool_of_iocbs_raises_no_alarm_whenever_one_attaches() {
    for place in ["anywhere", "across"] {
        let mut program = ready(&["shared-pool", "1000", "3", place]).unwrap();
        let pid = program.pid().to_string();
        let mut looked = 0;
        while looked < 2 {
            let trace = Attached::new(&["-q", "-p", &pid, "-d", "1"]).end();
            trace.assert_nothing_lost();
            let above_info: Vec<_> =
                found(&trace).into_iter().filter(|it| !it.starts_with("info")).collect();
            assert_eq!(above_info, Vec::<String>::new(), "{place}");
            let (requests, peak) = requests(&trace);
            assert!(is_of_pool(&trace, peak), "{place}: {peak} at a time: {:?}", trace.report());
            // The disk may stand still for a second. (If it never moves again, the harness ends this test.)
            looked += u32::from(requests > 0);
        }
        program.go_on();
        assert!(program.line().ends_with("wrong 0"));
    }
    let case = Case::of(&["-q"], &["shared-pool", "20000"]).unwrap();
    let (requests, peak) = requests(&case.trace);
    let said = format!("submitted {requests}, wrong 0");
    assert!(case.said.contains(&said) && is_of_pool(&case.trace, peak), "{said} {}", case.said);
    assert!(found(&case.trace).iter().all(|it| it.starts_with("info")), "{:?}", found(&case.trace));
}

/// N11: the handle of a context works again when other memory is mapped where its ring was.
fn a_context_that_works_without_its_ring_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let text = || std::fs::read_to_string(&file).unwrap_or_default();
    let options = ["run", "-q", "--fail-on", "error", "--format", "json"];
    let mut command = aiotrace();
    command.args(options).args(set_options(&[])).arg("-o").arg(&file).arg("--");
    let mut program = Program::of(command.arg(programs()).arg("ring-covered"));
    assert_eq!(program.line(), "ready");
    await_that("its ring is found to be unmapped", || text().contains("context-leak"));
    program.go_on();
    assert_eq!(program.line(), "1 0", "io_submit and io_destroy");
    assert!(program.child.wait().unwrap().success(), "no error was found, after all");
    let lines = parse(&text());
    let report = lines.iter().rev().find_map(|it| match it {
        Line::Report(report) => Some(report),
        _ => None,
    });
    let report = report.unwrap();
    assert!(report.findings.iter().all(|it| it.name != "context-leak"), "{:?}", report.findings);
    let ends: Vec<_> = report.contexts.iter().map(|it| it.end.as_deref()).collect();
    assert_eq!(ends, [Some("destroyed")], "there was one context");
}

/// N12: contexts live as long as anybody has their memory.
fn what_a_child_shares_is_not_told_to_end_with_its_parent() {
    for (how, is_unsure) in [(&[][..], true), (&["spawn"], false)] {
        let program = programs().into_os_string();
        let rest = ["child-shares"].iter().chain(how).map(std::ffi::OsString::from);
        let command: Vec<_> = [program].into_iter().chain(rest).collect();
        let trace = traced(&["run", "-q"], &command);
        let is_released = |it: &&FindingLine| it.name == "released-at-exit";
        let found = trace.findings().into_iter().filter(is_released);
        let found: Vec<bool> = found.map(|it| it.unsure).collect();
        // With trampolines the end of the contexts is seen, and it has not come.
        let is_seen = is_unsure && found.is_empty();
        assert!(is_seen || found == [is_unsure], "{how:?}: {found:?}");
    }
}

tests![
    a_context_that_works_without_its_ring_is_not_lost if Need::LONG,
    what_a_child_shares_is_not_told_to_end_with_its_parent if Need::SAME,
    a_ring_of_any_size_is_read_to_its_end if Need::LONG,
    a_healthy_database_is_healthy if Need::SAME,
    a_pool_of_iocbs_raises_no_alarm_whenever_one_attaches if Need::LONG,
];
