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
    verdicts::{EAGAIN, EIO, ERROR, Trace, at, pwrite, submit, write},
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
