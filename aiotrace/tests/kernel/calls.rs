//! What is told of single calls.

use aiotrace::output::json::IocbObject;

use super::support::run_program;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn every_iocb_up_to_4096_is_recorded_and_the_rest_counted() {
    for (nr, truncated) in [(1, 0), (2, 0), (64, 0), (65, 0), (1000, 0), (4096, 0), (5000, 904)] {
        let trace = run_program(&["submit", &nr.to_string()]);
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

#[test]
#[ignore = "needs root: cargo xtask test"]
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

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_paged_in_during_the_call_is_read_late() {
    let trace = run_program(&["late"]);
    let [submit] = trace.submits()[..] else { panic!("one io_submit") };
    let iocbs: Vec<_> = submit.iocbs.iter().flatten().collect();
    assert_eq!(iocbs.iter().map(|it| &*it.read).collect::<Vec<_>>(), ["yes", "late", "late"]);
    assert_eq!(iocbs.iter().map(|it| it.data.unwrap().0).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
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

#[test]
#[ignore = "needs root: cargo xtask test"]
fn completions_are_found_in_the_ring_where_nobody_calls_io_getevents() {
    let trace = run_program(&["reap-ring", "500"]);
    assert!(trace.getevents().is_empty());
    let mut entries = trace.submits().into_iter().flat_map(|it| &it.new_in_ring);
    let mut next = 1;
    for list in entries.by_ref() {
        assert_eq!(list.beyond, 0);
        for entry in list.entries.as_ref().expect("the ring is readable") {
            assert_eq!((entry.data.0, entry.res), (next, 8), "each once, in order");
            next += 1;
        }
    }
    assert_eq!(next, 501);
    let last = trace.submits().last().unwrap().ring.clone().unwrap();
    assert_eq!((last.tail + last.nr - last.head) % last.nr, 1, "the last is not reaped yet");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
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

#[test]
#[ignore = "needs root: cargo xtask test"]
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

#[test]
#[ignore = "needs root: cargo xtask test"]
fn times_are_in_order_within_a_thread() {
    let trace = run_program(&["threads", "64"]);
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

#[test]
#[ignore = "needs root: cargo xtask test"]
fn calls_through_the_32_bit_entry_are_counted_and_not_mistaken() {
    let program = super::support::programs();
    let trace = super::support::run(&[program.as_os_str(), "compat".as_ref()]);
    assert!(trace.status.success(), "{}", trace.stderr);
    let report = trace.report();
    assert_eq!(report.lost_by_cause["compat"], 3, "{:?}", report.lost_by_cause);
    assert_eq!(report.lost, 3);
    assert!(trace.stderr.contains("through the 32-bit entry"), "{}", trace.stderr);
    // Numbers mean other calls there.
    assert_eq!((trace.setups().len(), trace.submits().len()), (1, 1));
}
