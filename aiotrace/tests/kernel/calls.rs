//! What single calls look like in a trace.

use aiotrace::output::json::IocbObject;
use aiotrace_common::slots;

use super::{
    harness::{Need, cannot_run},
    machine, session,
    support::{SHARED, programs, run, run_program},
};

fn every_iocb_up_to_4096_is_recorded_and_the_rest_counted() {
    for (nr, truncated) in [(1, 0), (2, 0), (64, 0), (65, 0), (1000, 0), (4096, 0), (5000, 904)] {
        let trace = session::run(&SHARED, &["submit", &nr.to_string()]);
        assert!(trace.status.success(), "{}", trace.stderr);
        // Some of the requests beyond 4,096 complete before the large ring can be read.
        let report = trace.report();
        let unread = report.lost_by_cause.get("unread_completions").copied().unwrap_or(0);
        let skipped = if machine::skips_runs() { trace.skipped() } else { 0 };
        assert!(unread <= truncated, "{unread}");
        assert_eq!(report.lost, unread + skipped, "{:?}", report.lost_by_cause);
        let [submit] = trace.submits()[..] else { panic!("one io_submit") };
        assert_eq!((submit.args.nr, submit.ret), (nr, nr));
        assert_eq!(submit.truncated, truncated);
        assert_eq!(submit.iocbs.len() as i64, nr - truncated as i64);
        for (iocb, data) in submit.iocbs.iter().zip(1..) {
            assert_eq!(iocb.as_ref().unwrap().data.unwrap().0, data, "in order");
        }
        let [getevents] = trace.getevents()[..] else { panic!("one io_getevents") };
        assert_eq!((getevents.ret, getevents.truncated), (nr, truncated));
        assert!(getevents.events.iter().all(|it| it.as_ref().is_some_and(|it| it.res == 8)));
    }
}

fn what_cannot_be_read_is_unread() {
    let trace = run_program(&["unreadable"]);
    let [array, pointer] = trace.submits()[..] else { panic!("two io_submits") };
    let read = |it: &Option<IocbObject>| it.as_ref().unwrap().read.clone();
    assert_eq!(array.iocbs.iter().map(read).collect::<Vec<_>>(), ["yes", "yes", "no", "no"]);
    assert!(array.iocbs[2].as_ref().unwrap().address.is_none());
    assert_eq!(pointer.iocbs.iter().map(read).collect::<Vec<_>>(), ["yes", "no", "yes"]);
    assert_eq!(pointer.iocbs[1].as_ref().unwrap().address.unwrap().0, 0x10);
    assert_eq!((array.ret, pointer.ret), (2, 1));
}

fn what_is_paged_in_during_the_call_is_read_late() {
    let trace = run_program(&["late"]);
    let [submit] = trace.submits()[..] else { panic!("one io_submit") };
    let iocbs: Vec<_> = submit.iocbs.iter().flatten().collect();
    // A probe cannot page in memory; ptrace can.
    let read = if machine::is_ptrace() { ["yes"; 3] } else { ["yes", "late", "late"] };
    assert_eq!(iocbs.iter().map(|it| &*it.read).collect::<Vec<_>>(), read);
    assert_eq!(iocbs.iter().map(|it| it.data.unwrap().0).collect::<Vec<_>>(), [1, 2, 3]);
}

fn a_call_denied_by_seccomp_is_shown_as_denied() {
    let trace = run_program(&["seccomp"]);
    let [allowed, denied] = trace.submits()[..] else { panic!("two io_submits") };
    assert_eq!((&*allowed.entry, allowed.ret), ("seen", 1));
    assert_eq!((&*denied.entry, denied.errno.as_deref()), ("denied", Some("EPERM")));
    assert_eq!(
        denied.iocbs[0].as_ref().unwrap().data.unwrap().0,
        2,
        "its iocb is told all the same"
    );
    let [cancel] = trace.cancels()[..] else { panic!("one io_cancel") };
    assert_eq!((&*cancel.entry, cancel.errno.as_deref()), ("denied", Some("ENOSYS")));
    assert_eq!(trace.destroys()[0].entry, "seen");
}

fn completions_are_found_in_the_ring_where_nobody_calls_io_getevents() {
    let trace = run_program(&["reap-ring", "500"]);
    assert!(trace.getevents().is_empty());
    let results: Vec<_> =
        trace.completions().iter().map(|it| (it.data.unwrap().0, it.res.unwrap())).collect();
    let expected: Vec<_> = (1..=500).map(|data| (data, 8)).collect();
    assert_eq!(results, expected, "each once, in order");
    let last = trace.submits().last().unwrap().ring.clone().unwrap();
    assert_eq!((last.tail + last.nr - last.head) % last.nr, 1, "the last is not reaped yet");
}

fn the_ring_shows_what_io_destroy_discards() {
    let trace = run_program(&["errnos"]);
    let with_polls =
        trace.submits().into_iter().find(|it| it.truncated > 0).expect("the submit of many polls");
    assert_eq!(with_polls.iocbs.len(), 4096);
    assert!(with_polls.ret < with_polls.args.nr, "a short submit");
    let ctx = with_polls.args.ctx;
    let destroy = trace.destroys().into_iter().find(|it| it.args.ctx == ctx).unwrap();
    let ring = destroy.ring.as_ref().expect("read when the call was entered");
    assert_eq!(ring.tail - ring.head, 1, "the read of the short submit was never reaped");
}

fn threads_that_reap_and_reuse_iocbs_are_told_in_order() {
    let trace = run_program(&["reuse", "1000"]);
    assert_eq!(trace.accepted_and_reaped(), (1000, 1000));
    let [submits, reapers] = [true, false].map(|submit| {
        let tids: std::collections::BTreeSet<u32> = if submit {
            trace.submits().iter().map(|it| it.tid).collect()
        } else {
            trace.getevents().iter().map(|it| it.tid).collect()
        };
        tids
    });
    assert_eq!((submits.len(), reapers.len()), (1, 2));
    let data = |it: &IocbObject| it.data.unwrap().0;
    let submitted: Vec<u64> =
        trace.submits().iter().map(|it| data(it.iocbs[0].as_ref().unwrap())).collect();
    assert_eq!(submitted, (1..=1000).collect::<Vec<_>>(), "what was submitted, not its reuse");
    let mut reaped: Vec<u64> = trace
        .getevents()
        .iter()
        .flat_map(|it| it.events.iter().flatten().map(|it| it.data.0))
        .collect();
    reaped.sort_unstable();
    assert_eq!(reaped, submitted);
}

/// The thread that looked first may be overtaken by the other, and would see the ring go backwards.
fn threads_that_look_at_a_ring_at_once_tell_a_completion_once() {
    let programs = programs();
    let script = "for i in $(seq 50); do \"$0\" reuse 200 || exit 1; done";
    let trace = run(&["sh".as_ref(), "-c".as_ref(), script.as_ref(), programs.as_os_str()]);
    assert!(trace.status.success(), "{}", trace.stderr);
    trace.assert_nothing_lost();
    assert_eq!(trace.accepted_and_reaped(), (50 * 200, 50 * 200));
    assert_eq!(trace.completions().len(), 50 * 200);
}

/// The slot of a thread is chosen by the remainder of its id; a second thread with this remainder gets another slot.
fn threads_that_want_the_same_slot_are_told_apart() {
    let trace = run_program(&["same-place"]);
    let mut submits = std::collections::BTreeMap::new();
    for it in trace.submits() {
        assert_eq!((&*it.entry, it.ret), ("seen", 1));
        *submits.entry(it.tid).or_insert(0) += 1;
    }
    assert!(submits.len() >= 2 && submits.values().all(|count| *count == 100), "{submits:?}");
    let places: std::collections::BTreeSet<u32> =
        submits.keys().map(|tid| slots::place(*tid, 0)).collect();
    assert!(places.len() < submits.len(), "{submits:?}");
}

fn times_are_in_order_within_a_thread() {
    let trace = run_program(&["threads", "64"]);
    if machine::skips_runs() && trace.skipped() > 0 {
        return;
    }
    assert_eq!(trace.accepted_and_reaped(), (6400, 6400));
    let mut last = std::collections::HashMap::new();
    for it in trace.submits() {
        let entered = it.entered.unwrap().0;
        assert!(entered <= it.ts.0);
        assert_eq!(it.duration_ns, Some((it.ts.0 - entered) as u64));
        assert!(last.insert(it.tid, it.ts.0).is_none_or(|before| before <= entered));
    }
    assert_eq!(last.len(), 64);
}

fn calls_through_the_32_bit_entry_are_told_and_not_mistaken() {
    if !machine::HAS_32_BIT_ENTRY {
        return cannot_run("64-bit programs have no 32-bit entry here");
    }
    let trace = run_program(&["compat"]);
    let abis: Vec<_> = trace.setups().iter().map(|it| it.abi.as_deref()).collect();
    assert_eq!(abis, [None, Some("i386"), Some("i386"), Some("i386")]);
    // In this table the numbers stand for other calls.
    assert_eq!(trace.submits().len(), 1);
}

/// What 32-bit calls are called here.
const COMPAT: &str = if cfg!(target_arch = "aarch64") { "arm" } else { "i386" };

fn a_32_bit_program_is_told_like_any_other() {
    let program = super::support::programs().with_file_name("aio-programs-32");
    let trace = super::support::run(&[program.as_os_str()]);
    assert!(trace.status.success(), "line {:?}; {}", trace.status.code(), trace.stderr);
    trace.assert_nothing_lost();
    assert!(trace.submits().iter().all(|it| it.abi.as_deref() == Some(COMPAT)));
    if machine::guest().is_some_and(|it| !it.has_32_bit_times) {
        assert_eq!(trace.getevents()[0].errno.as_deref(), Some("ENOSYS"));
        return;
    }
    let [short, negative, one, refused] = trace.submits()[..] else { panic!("four io_submit") };
    assert_eq!((short.ret, short.args.nr, short.iocbs.len()), (1, 3, 3));
    let fds: Vec<_> = short.iocbs.iter().map(|it| it.as_ref().unwrap().fd.unwrap()).collect();
    assert_eq!((fds[0], fds[1]), (fds[2], 999));
    assert_eq!((negative.args.nr, negative.errno.as_deref()), (-1, Some("EINVAL")));
    assert_eq!((one.ret, refused.errno.as_deref()), (1, Some("EBADF")));
    let timeouts: Vec<_> = trace
        .getevents()
        .iter()
        .map(|it| it.timeout.as_ref().map(|it| (it.tv_sec, it.tv_nsec)))
        .collect();
    assert_eq!(timeouts, [Some((1, 5)), Some((1, 5)), Some((1, 6))]);
    let sigset = trace.getevents()[1].sigset.clone().expect("a signal set");
    assert_eq!((sigset.sigsetsize, sigset.mask.unwrap().0), (8, 0x200));
    assert_eq!(trace.getevents()[0].events[0].as_ref().unwrap().res, 8);
    assert_eq!((trace.setups()[0].ret, trace.cancels().len()), (0, 1));
}

fn every_request_has_its_completion() {
    let trace = run_program(&["completions"]);
    let results: Vec<_> = trace.completions().iter().map(|it| it.res.unwrap()).collect();
    // Plain and vectored reads and writes, two syncs, a request with an eventfd, one into invalid memory, and a poll.
    assert_eq!(results, [8, 8, 8, 8, 0, 0, 8, -14, 0x41]);
    let objects: Vec<_> = trace.completions().iter().map(|it| it.obj.unwrap()).collect();
    let submitted: Vec<_> =
        trace.submits().iter().map(|it| it.iocbs[0].as_ref().unwrap().address.unwrap()).collect();
    assert_eq!(objects, submitted);
    assert!(trace.completions().iter().all(|it| it.since.is_none_or(|since| since.0 < it.ts.0)));
}

fn contexts_end_and_move_and_that_is_told() {
    let ends = |program: &str| -> Vec<(String, Option<u64>)> {
        let trace = run_program(&[program]);
        trace.gone().iter().map(|it| (it.how.clone().into_owned(), it.in_flight)).collect()
    };
    let of = |how: &str, in_flight| (how.to_owned(), Some(in_flight));
    assert_eq!(ends("destroy-in-flight"), [of("destroy", 1)]);
    assert_eq!(ends("exit-in-flight"), [of("exit", 1)]);
    assert_eq!(ends("exec-in-flight"), [of("exec", 1), of("destroy", 0)]);
    assert_eq!(ends("unmap-ring"), [of("exit", 0)], "it lived on without its ring");
    assert_eq!(ends("forked-handle"), [of("destroy", 0)], "the child has no context");
    assert_eq!(ends("vfork"), [of("destroy", 0), of("destroy", 0)]);
    let trace = run_program(&["move-ring"]);
    let [moved] = trace.moved()[..] else { panic!("one move") };
    assert_eq!(moved.from, trace.setups()[0].handle.unwrap());
    assert_eq!(moved.to, trace.destroys()[0].args.ctx);
    assert_eq!(trace.completions().len(), 2);
}

tests![
    every_iocb_up_to_4096_is_recorded_and_the_rest_counted if Need::LONG,
    what_cannot_be_read_is_unread if Need::SLOW,
    what_is_paged_in_during_the_call_is_read_late,
    a_call_denied_by_seccomp_is_shown_as_denied,
    completions_are_found_in_the_ring_where_nobody_calls_io_getevents,
    the_ring_shows_what_io_destroy_discards,
    threads_that_reap_and_reuse_iocbs_are_told_in_order,
    threads_that_look_at_a_ring_at_once_tell_a_completion_once if Need::LONG,
    threads_that_want_the_same_slot_are_told_apart if Need::LONG,
    times_are_in_order_within_a_thread if Need::LONG,
    calls_through_the_32_bit_entry_are_told_and_not_mistaken,
    a_32_bit_program_is_told_like_any_other,
    every_request_has_its_completion,
    contexts_end_and_move_and_that_is_told,
];
