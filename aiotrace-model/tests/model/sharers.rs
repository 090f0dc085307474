//! Who else may have written what io_submit did not take, unseen; and what is no such reason.

use aiotrace_common::synchronous::Call;
use aiotrace_model::{
    event::{Body, Change, Event, ExitStatus, File, FileKind, Looked, Open, Synchronous},
    model::{Doubt, Outcome, Question, Verdict},
};

use crate::{
    told::process,
    verdicts::{EAGAIN, EIO, ERROR, Trace, pwrite, write},
};

const FILE: (u64, u64) = (1, 77);
const OTHER: (u64, u64) = (1, 78);

/// The process 8, or another one, tells this.
fn tell_of(trace: &mut Trace, pid: u32, body: Body) {
    trace.now += 1000;
    trace.model.handle_event(&Event { time: trace.now, pid, tid: pid, body });
}

/// The process 7 makes the process 8.
fn fork(trace: &mut Trace, followed: bool) {
    trace.tell(process(Some(80), Change::Fork { child: 8, followed }));
}

/// All that is asked: what the descriptors of 7 are, whether the file of the fault is mapped there, and what is at its number in
/// other processes.
fn answer(trace: &mut Trace, mapped: Option<bool>, others: Open) {
    while let Some(question) = trace.model.next_question() {
        let until = trace.now + 2000;
        let (pid, looked) = match question {
            Question::File { pid, fd } => {
                let file = File {
                    kind: FileKind::Storage,
                    size: Some(0),
                    id: Some(if fd == 3 { FILE } else { OTHER }),
                    direct: Some(false),
                    in_memory: false,
                    append: Some(false),
                    alignment: None,
                };
                (pid, Looked::File { fd, file: Some(file), until })
            }
            Question::Mapped { pid, fd } => (pid, Looked::Mapped { fd, mapped }),
            Question::Descriptor { pid, fd } => {
                assert!((8..40).contains(&pid) && fd == 3, "{pid} {fd}");
                (pid, Looked::Descriptor { fd, open: others, until })
            }
            _ => continue,
        };
        tell_of(trace, pid, Body::Looked(looked));
    }
}

/// A write meets a fault, and this happens before and after it. What is told of it.
fn dropped(
    before: &dyn Fn(&mut Trace),
    (mapped, others): (Option<bool>, Open),
    after: &dyn Fn(&mut Trace),
) -> Verdict {
    let mut trace = Trace::new();
    before(&mut trace);
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    answer(&mut trace, mapped, others);
    after(&mut trace);
    trace.exit(ExitStatus::Code(0));
    trace.verdict()
}

fn is(verdict: &Verdict) -> (Outcome, Option<Doubt>, u64) {
    (verdict.outcome, verdict.doubt, verdict.lost)
}

const LOST: (Outcome, Option<Doubt>, u64) = (Outcome::Lost, None, 1);

fn unsure(doubt: Doubt) -> (Outcome, Option<Doubt>, u64) {
    (Outcome::Unsure, Some(doubt), 1)
}

fn nothing(_: &mut Trace) {}

#[test]
fn what_may_have_been_stored_to_a_mapping_is_not_lost_for_sure() {
    let of = |mapped| is(&dropped(&nothing, (mapped, Open::No), &nothing));
    assert_eq!(of(Some(true)), unsure(Doubt::Mapped));
    assert_eq!(of(Some(false)), LOST);
    assert_eq!(of(None), LOST, "what could not be looked at is no reason to doubt everything");
}

#[test]
fn what_a_process_may_have_written_that_was_there_before_is_not_lost_for_sure() {
    let with = |followed: bool, others: Open| {
        let forked = |trace: &mut Trace| fork(trace, followed);
        is(&dropped(&forked, (Some(false), others), &nothing))
    };
    for followed in [false, true] {
        assert_eq!(with(followed, Open::As(FILE)), unsure(Doubt::SharedFile));
        assert_eq!(with(followed, Open::As(OTHER)), LOST, "another file");
        assert_eq!(with(followed, Open::No), LOST);
    }
    // One that is followed was there when the fault was made, as its end was not told.
    assert_eq!(with(true, Open::Unknown), unsure(Doubt::SharedFile));
    assert_eq!(with(false, Open::Unknown), LOST);
    let ended = |trace: &mut Trace| {
        fork(trace, true);
        let status = ExitStatus::Code(0);
        tell_of(trace, 8, process(Some(80), Change::Exit { status }));
    };
    assert_eq!(is(&dropped(&ended, (Some(false), Open::As(FILE)), &nothing)), LOST);
    // Brothers have the same files, and there may be too many to look at.
    let many = |trace: &mut Trace| {
        for child in 8..40 {
            trace.tell(process(Some(80), Change::Fork { child, followed: false }));
        }
    };
    assert_eq!(is(&dropped(&many, (Some(false), Open::No), &nothing)), unsure(Doubt::ManySharers));
    assert_eq!(
        is(&dropped(&many, (Some(false), Open::As(FILE)), &nothing)).1,
        Some(Doubt::ManySharers)
    );
}

/// Nobody tells of the end of a process that is not followed, but a look at it does.
#[test]
fn processes_that_were_many_and_are_gone_are_no_reason() {
    let mut trace = Trace::new();
    for child in 8..40 {
        trace.tell(process(Some(80), Change::Fork { child, followed: false }));
    }
    for iocb in 1..4 {
        trace.call(Some(ERROR), EAGAIN, write(iocb, 512 * iocb as i64));
        answer(&mut trace, Some(false), Open::Unknown);
    }
    trace.exit(ExitStatus::Code(0));
    let verdicts = trace.verdicts();
    assert_eq!(is(&verdicts[0]), unsure(Doubt::ManySharers));
    assert_eq!(
        is(&verdicts[2]),
        LOST,
        "half of them were looked at after the first, and half after the second"
    );
}

#[test]
fn a_mapping_that_is_gone_is_no_reason_for_what_is_lost_later() {
    let mut trace = Trace::new();
    for (iocb, mapped) in [(1, true), (2, false)] {
        trace.call(Some(ERROR), EAGAIN, write(iocb, 512 * iocb as i64));
        answer(&mut trace, Some(mapped), Open::No);
    }
    trace.exit(ExitStatus::Code(0));
    let verdicts: Vec<_> = trace.verdicts().iter().map(is).collect();
    assert_eq!(verdicts, [unsure(Doubt::Mapped), LOST]);
}

/// What is known of descriptors ends with the address space, whose number is given again.
#[test]
fn a_new_process_has_no_mappings_of_an_old_one() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    answer(&mut trace, Some(true), Open::No);
    trace.exit(ExitStatus::Code(0));
    assert_eq!(is(&trace.verdict()), unsure(Doubt::Mapped));
    trace.tell(process(Some(70), Change::Seen));
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(is(&trace.verdict()), LOST);
}

/// A completion is changed before io_submit returns, so that it is known only later which file it was about.
#[test]
fn who_writes_is_asked_also_of_what_becomes_known_late() {
    let of = |mapped| {
        let mut trace = Trace::new();
        let entered = trace.now + 500;
        trace.changed(1, 512, EIO);
        trace.call_since(entered, None, 1, write(1, 0));
        answer(&mut trace, mapped, Open::No);
        trace.reap(1, EIO, true);
        trace.exit(ExitStatus::Code(0));
        is(&trace.verdict())
    };
    assert_eq!(of(Some(true)), unsure(Doubt::Mapped));
    assert_eq!(of(Some(false)), LOST);
}

/// Of two requests one is of a file that nobody else has.
#[test]
fn what_is_lost_of_another_file_is_lost() {
    let mut trace = Trace::new();
    let mut other = crate::verdicts::at(2, 1, 512);
    other.as_mut().unwrap().value.as_mut().unwrap().fildes = 5;
    let both = vec![crate::verdicts::at(1, 1, 0), other];
    trace.call(Some(ERROR), EAGAIN, crate::verdicts::submit(both));
    tell_of(&mut trace, 7, Body::Looked(Looked::Mapped { fd: 3, mapped: Some(true) }));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdict().outcome, Outcome::Lost);
}

#[test]
fn a_descriptor_that_is_of_another_file_is_no_reason() {
    let close = |trace: &mut Trace, fd: u32| {
        let (call, entered) = (Call::Close, None);
        let closed = Synchronous { call, entered, fd, offset: None, count: 0, ret: 0 };
        trace.tell(Body::Synchronous(closed));
    };
    let after = |after: &dyn Fn(&mut Trace)| is(&dropped(&nothing, (Some(false), Open::No), after));
    let answered = |trace: &mut Trace| answer(trace, Some(false), Open::No);
    // It is looked at after the write.
    assert_eq!(after(&|trace| trace.tell(pwrite(1, 0, 512))), unsure(Doubt::OtherDescriptor));
    let looked_at = |trace: &mut Trace| {
        trace.tell(pwrite(1, 0, 512));
        answered(trace);
    };
    assert_eq!(after(&looked_at), LOST);
    let twice = |trace: &mut Trace| {
        looked_at(trace);
        trace.tell(pwrite(1, 0, 512));
        assert_eq!(trace.model.next_question(), None, "it is known");
    };
    assert_eq!(after(&twice), LOST);
    // It was closed in between, perhaps: the look was taken later than the events say.
    let closed = |trace: &mut Trace| {
        looked_at(trace);
        close(trace, 1);
    };
    assert_eq!(after(&closed), unsure(Doubt::OtherDescriptor));
    let closed_first = |trace: &mut Trace| {
        trace.tell(pwrite(1, 0, 512));
        close(trace, 1);
        answered(trace);
    };
    assert_eq!(after(&closed_first), unsure(Doubt::OtherDescriptor));
    // Through two of them: which one it was is not looked at.
    let two = |trace: &mut Trace| {
        trace.tell(pwrite(1, 0, 512));
        trace.tell(pwrite(2, 0, 512));
        answered(trace);
    };
    assert_eq!(after(&two), unsure(Doubt::OtherDescriptor));
}
