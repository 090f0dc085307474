//! What comes again after a fault: a retry, or the program's next use of the same place. A log that drops the write of its header
//! writes it anew with the next record, and a program that drops an fsync makes the next one.

use aiotrace_common::abi::Iocb;
use aiotrace_model::{
    event::{self, Body, Change, ExitStatus},
    model::{Doubt, Half, Outcome, Verdict},
    opcode,
};

use crate::{
    told::{SECOND, process},
    verdicts::{EAGAIN, EIO, ERROR, Trace, at, getevents, pwrite, submit, write},
};

const PREAD: u16 = opcode::PREAD.0;
const PWRITE: u16 = opcode::PWRITE.0;
const FSYNC: u16 = opcode::FSYNC.0;
const POLL: u16 = opcode::POLL.0;

/// The header is written to the beginning of the file, in the iocb 1; a record behind it.
fn header(trace: &mut Trace) {
    trace.call(None, 1, write(1, 0));
}

fn record(trace: &mut Trace, number: i64) {
    trace.call(None, 1, write(2, 512 * number));
}

/// The header meets a fault, and this follows. What is told of it, in the end.
fn after_the_header(before: &dyn Fn(&mut Trace), after: &dyn Fn(&mut Trace)) -> Verdict {
    let mut trace = Trace::new();
    before(&mut trace);
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    after(&mut trace);
    trace.exit(ExitStatus::Code(0));
    let verdict = trace.verdict();
    assert!(verdict.succeeded && verdict.lost == 0, "{}", verdict.message());
    verdict
}

fn is(verdict: &Verdict) -> (Half, Option<Doubt>) {
    (verdict.half, verdict.doubt)
}

const SURE: (Half, Option<Doubt>) = (Half::Retried, None);

fn unsure(doubt: Doubt) -> (Half, Option<Doubt>) {
    (Half::Unsure, Some(doubt))
}

#[test]
fn what_comes_again_at_once_is_a_retry_and_what_comes_later_may_be_the_next_one() {
    let nothing = |_: &mut Trace| ();
    assert_eq!(is(&after_the_header(&nothing, &header)), SURE);
    // What was done before does not matter, if it was something else.
    assert_eq!(is(&after_the_header(&|it| record(it, 1), &header)), SURE);
    let after = |after: &dyn Fn(&mut Trace)| {
        let verdict = after_the_header(&nothing, &|trace| {
            after(trace);
            header(trace);
        });
        is(&verdict)
    };
    assert_eq!(after(&|it| record(it, 1)), unsure(Doubt::Submitted));
    assert_eq!(after(&|it| it.call(None, EAGAIN, write(2, 512))), unsure(Doubt::Submitted));
    assert_eq!(after(&|it| it.call(None, 1, submit(vec![None]))), unsure(Doubt::Unread));
    assert_eq!(after(&|it| it.now += 2 * SECOND), unsure(Doubt::Late));
    assert_eq!(after(&|it| it.tell(Body::Lost { records: 1 })), unsure(Doubt::Lost));
    // The kernel refuses it for a while.
    let refused = |trace: &mut Trace| {
        for _ in 0..4 {
            trace.now += SECOND / 2;
            trace.call(None, EAGAIN, write(1, 0));
        }
    };
    assert_eq!(after(&refused), unsure(Doubt::Periodic), "it was not watched for long after that");
    let goes_on = |trace: &mut Trace| {
        header(trace);
        trace.now += SECOND;
    };
    let watched = |trace: &mut Trace| {
        refused(trace);
        goes_on(trace);
    };
    assert_eq!(is(&after_the_header(&nothing, &watched)), SURE);
    let soon = |trace: &mut Trace| trace.now += SECOND / 25;
    assert_eq!(after(&soon), SURE, "that is no period");
    // A new one stands before it in the same call; behind it, it came later.
    let of = |places: &[i64]| submit(places.iter().map(|it| at(1, PWRITE, *it)).collect());
    let verdict = after_the_header(&nothing, &|trace| trace.call(None, 2, of(&[512, 0])));
    assert_eq!(is(&verdict), unsure(Doubt::Submitted));
    let verdict = after_the_header(&nothing, &|trace| trace.call(None, 2, of(&[0, 512])));
    assert_eq!(is(&verdict), SURE);
    let verdict = after_the_header(&nothing, &|trace| trace.by(9, 1, write(1, 0)));
    assert_eq!(is(&verdict), unsure(Doubt::AnotherThread));
    let mut other = at(1, PWRITE, 0);
    other.as_mut().unwrap().value.as_mut().unwrap().buf = 4096;
    let verdict = after_the_header(&nothing, &|it| it.call(None, 1, submit(vec![other.clone()])));
    assert_eq!(is(&verdict), unsure(Doubt::OtherBuffer));
    assert!(
        verdict
            .message()
            .starts_with("came again after 500ns, succeeded, unsure: it was made with")
    );
}

#[test]
fn a_place_that_is_used_at_other_times_is_no_evidence() {
    // Before the fault, or after what seemed to be a retry.
    let nothing = |_: &mut Trace| ();
    assert_eq!(is(&after_the_header(&header, &header)), unsure(Doubt::Used));
    let twice = |trace: &mut Trace| {
        header(trace);
        trace.now += SECOND;
        header(trace);
    };
    assert_eq!(is(&after_the_header(&nothing, &twice)), unsure(Doubt::Used));
    // Of a completion, too.
    for uses in 0..2 {
        let mut trace = Trace::new();
        for number in 0..=uses {
            header(&mut trace);
            trace.complete(1, 512);
            if number == 0 {
                trace.changed(1, 512, EIO);
            }
            trace.reap(1, if number == 0 { EIO } else { 512 }, number == 0);
        }
        header(&mut trace);
        trace.complete(1, 512);
        trace.reap(1, 512, false);
        trace.exit(ExitStatus::Code(0));
        let expected = if uses == 0 { SURE } else { unsure(Doubt::Used) };
        assert_eq!(is(&trace.verdict()), expected);
    }
}

#[test]
fn of_faults_in_a_row_none_is_surer_than_the_last() {
    for (uses, outcome) in [(1, Outcome::Retried), (2, Outcome::Unsure)] {
        let mut trace = Trace::new();
        (0..3).for_each(|_| trace.call(Some(ERROR), EAGAIN, write(1, 0)));
        let told: Vec<_> = trace.verdicts().iter().map(|it| (it.outcome, it.anew)).collect();
        assert_eq!(told, [(Outcome::Retried, false); 2]);
        (0..uses).for_each(|_| header(&mut trace));
        trace.exit(ExitStatus::Code(0));
        let all = trace.verdicts();
        let told: Vec<_> = all.iter().map(|it| (it.outcome, it.next_fault, it.anew)).collect();
        match uses {
            1 => assert_eq!(told, [(outcome, false, false)]),
            _ => assert_eq!(
                told,
                [(outcome, true, true), (outcome, true, true), (outcome, false, false)]
            ),
        }
        assert_eq!(trace.model.report().faults[0].outcomes, [(outcome, 3)]);
    }
    // What is known at once is said at once.
    let mut trace = Trace::new();
    header(&mut trace);
    (0..2).for_each(|_| trace.call(Some(ERROR), EAGAIN, write(1, 0)));
    assert_eq!(
        trace.told(),
        [
            "io_submit EAGAIN: came again after 500ns, met the next fault, unsure: the program makes the same \
             request at other times, too, so what seems to be a retry may be its next one, and the one that met the \
             fault may be lost"
        ]
    );
}

/// Whoever has several requests left makes one after the other, and that is nothing else.
#[test]
fn retries_of_others_do_not_stand_between() {
    // Those of one call, of which one meets the next fault.
    let mut trace = Trace::new();
    trace.call(
        Some(ERROR),
        EAGAIN,
        submit((0..3).map(|it| at(it, PWRITE, 512 * it as i64)).collect()),
    );
    header_of(&mut trace, 0);
    trace.call(Some(ERROR), EAGAIN, write(1, 512));
    header_of(&mut trace, 1);
    header_of(&mut trace, 2);
    trace.exit(ExitStatus::Code(0));
    let halves: Vec<_> = trace.verdicts().iter().map(is).collect();
    assert_eq!(halves, [SURE; 2]);
    // Completions that are reaped together.
    let mut trace = Trace::new();
    for iocb in [1, 2] {
        header_of(&mut trace, iocb);
        trace.complete(iocb, 512);
        trace.changed(iocb, 512, EIO);
    }
    for iocb in [1, 2] {
        trace.reap(iocb, EIO, true);
    }
    for iocb in [1, 2] {
        header_of(&mut trace, iocb);
        trace.complete(iocb, 512);
    }
    for iocb in [1, 2] {
        trace.reap(iocb, 512, false);
    }
    trace.exit(ExitStatus::Code(0));
    let halves: Vec<_> = trace.verdicts().iter().map(is).collect();
    assert_eq!(halves, [SURE; 2]);
}

/// The write at the place of its iocb.
fn header_of(trace: &mut Trace, iocb: u64) {
    trace.call(None, 1, write(iocb, 512 * iocb as i64));
}

/// The next one of the same file is always the same request.
#[test]
fn a_sync_or_a_poll_that_comes_after_other_work_is_no_certain_retry() {
    let again = |opcode: u16, between: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, opcode, 0)]));
        between(&mut trace);
        trace.call(None, 1, submit(vec![at(1, opcode, 0)]));
        trace.exit(ExitStatus::Code(0));
        trace.verdict().doubt
    };
    for opcode in [FSYNC, FSYNC + 1, POLL] {
        assert_eq!(again(opcode, &|_| ()), None, "{opcode}");
        assert_eq!(again(opcode, &|it| record(it, 1)), Some(Doubt::Submitted), "{opcode}");
        assert_eq!(again(opcode, &|it| it.now += 2 * SECOND), Some(Doubt::Late), "{opcode}");
        let syncs = opcode != POLL;
        let written = again(opcode, &|it| it.tell(pwrite(3, 512, 512)));
        assert_eq!(written, syncs.then_some(Doubt::Submitted), "{opcode}");
    }
}

/// A request of the iocb 1 meets a fault, and comes again at once with this changed. What is told of it.
fn again_with(opcode: u16, rw_flags: u32, change: &dyn Fn(&mut Iocb)) -> (Half, Option<Doubt>) {
    let mut first = at(1, opcode, 0);
    value(&mut first).rw_flags = rw_flags;
    let mut second = first.clone();
    change(value(&mut second));
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, submit(vec![first]));
    trace.call(None, 1, submit(vec![second]));
    trace.exit(ExitStatus::Code(0));
    is(&trace.verdict())
}

fn value(iocb: &mut Option<event::Iocb>) -> &mut Iocb {
    iocb.as_mut().and_then(|it| it.value.as_mut()).expect("a request that was read")
}

#[test]
fn a_read_into_other_memory_may_be_for_somebody_else() {
    assert_eq!(again_with(PREAD, 0, &|_| ()), SURE);
    assert_eq!(again_with(PREAD, 0, &|it| it.buf = 4096), unsure(Doubt::OtherBuffer));
}

/// The offset of a write to the end of the file says nothing.
#[test]
fn records_that_are_appended_look_the_same() {
    const RWF_APPEND: u32 = 0x10;
    assert_eq!(again_with(PWRITE, 0, &|_| ()), SURE);
    assert_eq!(again_with(PWRITE, RWF_APPEND, &|_| ()), unsure(Doubt::Append));
    let at_the_end = again_with(PWRITE, 0, &|it| it.rw_flags = RWF_APPEND);
    assert_eq!(at_the_end, (Half::Lost, None), "it is written elsewhere");
}

/// A commit drops its fsync; the next ones make theirs.
#[test]
fn a_sync_that_is_made_again_and_again_is_no_evidence() {
    let syncs = |after: usize| {
        let sync = || submit(vec![at(1, FSYNC, 0)]);
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, sync());
        (0..after).for_each(|_| trace.call(None, 1, sync()));
        trace.exit(ExitStatus::Code(0));
        is(&trace.verdict())
    };
    assert_eq!(syncs(1), SURE);
    assert_eq!(syncs(2), unsure(Doubt::Used));
}

#[test]
fn what_pwrite_does_later_may_be_something_else() {
    for (wait, expected) in [(0, (Half::Done, None)), (2 * SECOND, unsure(Doubt::Late))] {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, write(1, 0));
        trace.now += wait;
        trace.tell(pwrite(3, 0, 512));
        trace.exit(ExitStatus::Code(0));
        assert_eq!(is(&trace.verdict()), expected);
    }
}

/// A child that shares the memory may use the context, and nobody sees it.
#[test]
fn what_a_child_may_do_that_shares_the_memory_is_unsure() {
    for (space, is_before, expected) in [
        (70, true, unsure(Doubt::SharedMemory)),
        (70, false, unsure(Doubt::SharedMemory)),
        (80, true, (Half::Lost, None)),
    ] {
        let mut trace = Trace::new();
        let fork = process(Some(space), Change::Fork { child: 8, followed: false });
        if is_before {
            trace.tell(fork.clone());
        }
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PREAD, 0)]));
        if !is_before {
            trace.tell(fork);
        }
        trace.exit(ExitStatus::Code(0));
        assert_eq!(is(&trace.verdict()), expected, "{space}, {is_before}");
    }
}

/// What is told of an io_setup of 4 requests that failed, before and after which these were called: for how many requests, with
/// which variable, and whether that met a fault, too.
fn made(before: &[(u32, u64)], after: &[(u32, u64, bool)]) -> Vec<Verdict> {
    let mut trace = Trace::new();
    let mut handle = 0x2000;
    let mut make = |trace: &mut Trace, nr_events, ctxp, is_fault: bool| {
        handle += 0x1000;
        let stored = Some(event::Handle(handle));
        let args = event::Args::Setup { nr_events, ctxp: event::Address(ctxp), stored };
        let (fault, ret) = if is_fault { (Some(ERROR), EAGAIN) } else { (None, 0) };
        trace.call(fault, ret, args);
    };
    before.iter().for_each(|it| make(&mut trace, it.0, it.1, false));
    make(&mut trace, 4, 8, true);
    after.iter().for_each(|it| make(&mut trace, it.0, it.1, it.2));
    trace.exit(ExitStatus::Code(0));
    let mut last = trace.verdicts();
    last.sort_by_key(|it| it.time);
    last
}

#[test]
fn the_next_context_of_a_loop_is_no_certain_retry_of_io_setup() {
    let used = unsure(Doubt::Used);
    let one = |before: &[(u32, u64)], after: &[(u32, u64, bool)]| is(&made(before, after)[0]);
    assert_eq!(one(&[], &[(4, 8, false)]), SURE);
    // Contexts of other variables are no reason.
    assert_eq!(one(&[(4, 16)], &[(4, 8, false), (4, 24, false)]), SURE);
    // A loop that has one variable for all of its workers, whatever they ask for.
    assert_eq!(one(&[(4, 8)], &[(4, 8, false)]), used);
    assert_eq!(one(&[(2, 8)], &[(4, 8, false)]), used);
    assert_eq!(one(&[], &[(4, 8, false), (4, 8, false)]), used);
    // The second and the third fail, the fourth does not.
    let both = made(&[(4, 8)], &[(4, 8, true), (4, 8, false)]);
    assert_eq!(both.iter().map(is).collect::<Vec<_>>(), [used, used]);
}

#[test]
fn an_io_setup_for_fewer_requests_is_a_retry_if_it_is_for_the_same_variable() {
    let fewer = made(&[], &[(2, 8, false)]);
    assert_eq!(is(&fewer[0]), SURE);
    assert_eq!(
        fewer[0].message(),
        "retried after 500ns, for 2 requests instead of 4, succeeded; exited with status 0 2.00us later"
    );
    let twice = made(&[], &[(2, 8, true), (1, 8, false)]);
    assert_eq!((is(&twice[0]), twice[0].next_fault), (SURE, true));
    assert!(twice[1].message().starts_with("retried after 500ns, for 1 requests instead of 2"));
    let other = unsure(Doubt::OtherSetup);
    assert_eq!(is(&made(&[], &[(2, 16, false)])[0]), other);
    assert_eq!(is(&made(&[], &[(8, 8, false)])[0]), other);
    assert_eq!(is(&made(&[(4, 8)], &[(2, 8, false)])[0]), unsure(Doubt::Used));
}

/// A program has two requests in flight, and its wait for the first one fails. It waits again, perhaps for the other one.
#[test]
fn a_wait_that_leaves_requests_may_have_been_for_another_one() {
    for (reaps, half) in [(2, SURE), (1, unsure(Doubt::Unreaped))] {
        let mut trace = Trace::new();
        trace.call(None, 2, submit(vec![at(1, PWRITE, 0), at(2, PWRITE, 512)]));
        trace.call(Some(ERROR), -4, getevents(Vec::new(), Vec::new()));
        trace.complete(1, 512);
        trace.complete(2, 512);
        (1..=reaps).for_each(|it| trace.reap(it, 512, false));
        trace.wait(6 * SECOND);
        let verdict = trace.verdict();
        assert_eq!(is(&verdict), half, "{}", verdict.message());
        if reaps == 1 {
            // It was later than others, and nothing else.
            trace.reap(2, 512, false);
            trace.exit(ExitStatus::Code(0));
            let verdict = trace.verdict();
            assert_eq!((is(&verdict), verdict.anew), (SURE, true), "{}", verdict.message());
        }
    }
}

/// A write fails by a fault; then each of these pauses, and a pwrite(2) there; and the process ends after the last pause.
fn pwrites(pauses: &[u64], last: u64) -> (Half, Option<Doubt>) {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    for pause in pauses {
        trace.now += pause;
        trace.tell(pwrite(3, 0, 512));
    }
    trace.now += last;
    trace.exit(ExitStatus::Code(0));
    is(&trace.verdict())
}

#[test]
fn what_pwrite_writes_again_and_again_is_not_done_for_sure() {
    const DONE: (Half, Option<Doubt>) = (Half::Done, None);
    let used = unsure(Doubt::Used);
    assert_eq!(pwrites(&[0], 0), DONE);
    assert_eq!(pwrites(&[0, 0], 0), used);
    assert_eq!(pwrites(&[0, SECOND], 0), used);
    // It may be made each 100 ms, or have been made for what had failed.
    assert_eq!(pwrites(&[SECOND / 10], 0), unsure(Doubt::Periodic));
    assert_eq!(pwrites(&[SECOND / 10], SECOND), DONE);

    // A program whose every io_submit fails, and which does the rest with pwrite(2).
    let mut trace = Trace::new();
    for number in 0..3 {
        trace.call(Some(ERROR), EAGAIN, write(1, 512 * number));
        trace.tell(pwrite(3, 512 * number, 512));
    }
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdicts().iter().map(is).collect::<Vec<_>>(), [DONE, DONE, DONE]);

    // What was seen in time: after another fault.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 512));
    trace.tell(pwrite(3, 0, 512));
    trace.tell(pwrite(3, 512, 512));
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.tell(pwrite(3, 0, 512));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdicts().iter().map(is).collect::<Vec<_>>(), [DONE, used]);
}

#[test]
fn calls_are_watched_until_it_is_told_that_they_have_done_it() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.tell(pwrite(3, 0, 512));
    trace.wait(SECOND);
    assert_eq!(trace.model.settled_up_to(), None, "the next one would show that it is made anyway");
    trace.wait(5 * SECOND);
    assert_eq!(trace.verdict().half, Half::Done);
    assert!(trace.model.settled_up_to().is_some());
}
