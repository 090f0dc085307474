//! What else may have done what io_submit did not take, unseen; and what is no such reason.

use aiotrace_common::synchronous::Call;
use aiotrace_model::{
    event::{
        Address, Body, Change, Event, ExitStatus, File, FileKind, Looked, Others, Synchronous,
        Vectors, Ways,
    },
    model::{Doubt, Name, Outcome, Question, Severity, Verdict},
    opcode,
};

use crate::{
    told::process,
    verdicts::{EAGAIN, EIO, ERROR, Trace, at, pwrite, submit, write},
};

const PREAD: u16 = opcode::PREAD.0;
const PWRITE: u16 = opcode::PWRITE.0;
const FSYNC: u16 = opcode::FSYNC.0;
const FILE: (u64, u64) = (1, 77);
const OTHER: (u64, u64) = (1, 78);
const NOTHING: Ways = Ways {
    stored: false,
    mapped: false,
    uring: false,
    writers: Others::None,
    others: Others::None,
    below: false,
};

fn tell(trace: &mut Trace, body: Body) {
    trace.now += 1000;
    trace.model.handle_event(&Event { time: trace.now, pid: 7, tid: 7, body });
}

/// All that is asked: what the descriptors are, and by what else the file of the fault may be written.
fn answer(trace: &mut Trace, ways: Option<Ways>) {
    while let Some(question) = trace.model.next_question() {
        let until = trace.now + 2000;
        let looked = match question {
            Question::File { fd, .. } => {
                let file = File {
                    kind: FileKind::Storage,
                    size: Some(0),
                    id: Some(if fd == 3 { FILE } else { OTHER }),
                    direct: Some(false),
                    in_memory: false,
                    append: Some(false),
                    alignment: None,
                };
                Looked::File { fd, file: Some(file), until }
            }
            Question::Ways { fd, .. } => Looked::Ways { fd, ways },
            _ => continue,
        };
        tell(trace, Body::Looked(looked));
    }
}

/// A trace in which only `answer` looks at files.
fn trace() -> Trace {
    Trace { ways: None, ..Trace::new() }
}

/// A request with this operation meets a fault, and this happens after it and before the look, and after that.
fn after(
    opcode: u16,
    before: &dyn Fn(&mut Trace),
    ways: Option<Ways>,
    then: &dyn Fn(&mut Trace),
) -> Verdict {
    let mut trace = trace();
    trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, opcode, 0)]));
    before(&mut trace);
    answer(&mut trace, ways);
    then(&mut trace);
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

fn made(call: Call, fd: u32, count: u64, ret: i64) -> Body {
    Body::Synchronous(Synchronous {
        call,
        entered: None,
        fd,
        offset: None,
        memory: None,
        count,
        ret,
    })
}

#[test]
fn nothing_is_lost_for_sure_before_anybody_has_looked_what_else_may_have_done_it() {
    let of = |opcode, ways: Option<Ways>| is(&after(opcode, &nothing, ways, &nothing));
    for opcode in [PREAD, PWRITE, FSYNC] {
        assert_eq!(of(opcode, Some(NOTHING)), LOST);
        assert_eq!(of(opcode, None), unsure(Doubt::Unlooked));
        let uring = Ways { uring: true, ..NOTHING };
        assert_eq!(of(opcode, Some(uring)), unsure(Doubt::Unseen));
    }
    let stored = Ways { stored: true, mapped: true, ..NOTHING };
    let mapped = Ways { mapped: true, ..NOTHING };
    assert_eq!(of(PWRITE, Some(stored)), unsure(Doubt::Mapped));
    assert_eq!(of(PWRITE, Some(mapped)), LOST, "what is read from it is not written");
    assert_eq!(of(PREAD, Some(mapped)), unsure(Doubt::Mapped));
    assert_eq!(of(FSYNC, Some(stored)), LOST, "msync(2) is seen");
    let readers = Ways { others: Others::Some, ..NOTHING };
    let writers = Ways { writers: Others::Some, ..readers };
    assert_eq!(of(PWRITE, Some(writers)), unsure(Doubt::SharedFile));
    assert_eq!(of(PWRITE, Some(readers)), LOST);
    assert_eq!(of(FSYNC, Some(readers)), unsure(Doubt::SharedFile));
    assert_eq!(of(PREAD, Some(writers)), LOST);
    let many = Ways { writers: Others::Unknown, others: Others::Unknown, ..NOTHING };
    assert_eq!(of(PWRITE, Some(many)), unsure(Doubt::ManySharers));
}

#[test]
fn what_is_mapped_after_the_fault_or_unmapped_before_the_look_may_have_done_it() {
    let later = |opcode, body: &Body| {
        let then = |trace: &mut Trace| tell(trace, body.clone());
        is(&after(opcode, &nothing, Some(NOTHING), &then))
    };
    let mmap = |fd, stored| made(Call::Mmap, fd, stored, 0x7f00_0000_0000);
    assert_eq!(later(PWRITE, &mmap(3, 1)), unsure(Doubt::Mapped));
    assert_eq!(later(PWRITE, &mmap(3, 0)), LOST, "it is read only");
    assert_eq!(later(PREAD, &mmap(3, 0)), unsure(Doubt::Mapped));
    assert_eq!(later(PWRITE, &mmap(5, 1)), unsure(Doubt::OtherDescriptor));
    assert_eq!(later(FSYNC, &mmap(3, 1)), LOST);
    // A descriptor that is looked at is of another file.
    let looked = |trace: &mut Trace| {
        tell(trace, mmap(5, 1));
        answer(trace, Some(NOTHING));
    };
    assert_eq!(is(&after(PWRITE, &nothing, Some(NOTHING), &looked)), LOST);
    let munmap = made(Call::Munmap, u32::MAX, 0, 0);
    assert_eq!(later(PWRITE, &munmap), LOST, "the mappings were looked at before");
    let before = |opcode| {
        let before = |trace: &mut Trace| tell(trace, munmap.clone());
        is(&after(opcode, &before, Some(NOTHING), &nothing))
    };
    assert_eq!(before(PWRITE), unsure(Doubt::Unmapped));
    assert_eq!(before(FSYNC), LOST);
    // Its number may have been another file's when it was looked at.
    let close = made(Call::Close, 3, 0, 0);
    assert_eq!(later(PWRITE, &close), LOST);
    let closed = |trace: &mut Trace| tell(trace, close.clone());
    let verdict = after(PWRITE, &closed, Some(NOTHING), &nothing);
    assert_eq!(is(&verdict), unsure(Doubt::Unlooked));
    for (call, fd, opcode, is_so) in [
        (Call::Msync, u32::MAX, FSYNC, true),
        (Call::Msync, u32::MAX, PWRITE, false),
        (Call::Fallocate, 3, PWRITE, true),
        (Call::Fallocate, 3, PREAD, false),
        (Call::IoUringSetup, u32::MAX, PWRITE, true),
        (Call::IoUringSetup, u32::MAX, PREAD, true),
    ] {
        let expected = if is_so { unsure(Doubt::Unseen) } else { LOST };
        assert_eq!(later(opcode, &made(call, fd, 0, 0)), expected, "{call:?} {opcode}");
    }
    let other = made(Call::Fallocate, 5, 0, 0);
    assert_eq!(later(PWRITE, &other), unsure(Doubt::OtherDescriptor));
    let instead = made(Call::Fdatasync, 3, 0, 0);
    assert_eq!(later(FSYNC, &instead), unsure(Doubt::Fdatasync));
}

/// The kernel takes one of two writes, without any fault.
#[test]
fn the_rest_of_a_short_submit_is_dropped_for_sure_only_if_nothing_else_may_have_done_it() {
    let found = |ways: Option<Ways>, then: &dyn Fn(&mut Trace)| {
        let mut trace = trace();
        trace.call(None, 1, submit(vec![at(1, PWRITE, 0), at(2, PWRITE, 512)]));
        answer(&mut trace, ways);
        then(&mut trace);
        trace.exit(ExitStatus::Code(0));
        let all = std::iter::from_fn(|| trace.model.next_finding());
        let found = all.filter(|it| it.name == Name::ShortSubmitDropped);
        found.map(|it| (it.severity, it.doubt)).collect::<Vec<_>>()
    };
    assert_eq!(found(Some(NOTHING), &nothing), [(Severity::Error, None)]);
    assert_eq!(found(None, &nothing), [(Severity::Warning, Some(Doubt::Unlooked))]);
    let uring = Ways { uring: true, ..NOTHING };
    assert_eq!(found(Some(uring), &nothing), [(Severity::Warning, Some(Doubt::Unseen))]);
    let mapped = |trace: &mut Trace| tell(trace, made(Call::Mmap, 3, 1, 0x7f00_0000_0000));
    assert_eq!(found(Some(NOTHING), &mapped), [(Severity::Warning, Some(Doubt::Mapped))]);
}

/// Its descriptors are those of the next program, which may do it.
#[test]
fn what_the_next_program_may_do_is_not_lost_for_sure() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.looked();
    trace.tell(process(Some(71), Change::Exec { path: b"again".to_vec() }));
    assert_eq!(is(&trace.verdict()), unsure(Doubt::Exec));
}

/// What is known of descriptors ends with the address space, whose number is given again.
#[test]
fn a_new_process_has_no_mappings_of_an_old_one() {
    let mut trace = trace();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    answer(&mut trace, Some(Ways { stored: true, ..NOTHING }));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(is(&trace.verdict()), unsure(Doubt::Mapped));
    trace.tell(process(Some(70), Change::Seen));
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    answer(&mut trace, Some(NOTHING));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(is(&trace.verdict()), LOST);
}

/// A flood of faults has the processes of the machine looked at once in a second, and anew when something is mapped.
#[test]
fn a_flood_of_faults_looks_once() {
    let mut trace = trace();
    let asked = |trace: &mut Trace, iocb: u64| {
        trace.call(Some(ERROR), EAGAIN, write(iocb, 512 * iocb as i64));
        let is_it = |it: &Question| matches!(it, Question::Ways { .. });
        let asked = std::iter::from_fn(|| trace.model.next_question()).any(|it| is_it(&it));
        if asked {
            tell(trace, Body::Looked(Looked::Ways { fd: 3, ways: Some(NOTHING) }));
        }
        asked
    };
    assert_eq!([1, 2, 3].map(|it| asked(&mut trace, it)), [true, false, false]);
    tell(&mut trace, made(Call::Mmap, 5, 1, 0x7f00_0000_0000));
    assert_eq!([4, 5].map(|it| asked(&mut trace, it)), [true, false]);
    trace.exit(ExitStatus::Code(0));
    let lost = trace.verdicts().iter().filter(|it| it.outcome == Outcome::Lost).count();
    assert_eq!(lost, 2, "those after the mapping");
}

/// A completion is changed before io_submit returns, so that it is known only later which file it was about.
#[test]
fn who_writes_is_asked_also_of_what_becomes_known_late() {
    let of = |ways| {
        let mut trace = trace();
        let entered = trace.now + 500;
        trace.changed(1, 512, EIO);
        trace.call_since(entered, None, 1, write(1, 0));
        answer(&mut trace, Some(ways));
        trace.reap(1, EIO, true);
        trace.exit(ExitStatus::Code(0));
        is(&trace.verdict())
    };
    assert_eq!(of(Ways { stored: true, ..NOTHING }), unsure(Doubt::Mapped));
    assert_eq!(of(NOTHING), LOST);
}

/// Of two requests one is of a file that nobody else has.
#[test]
fn what_is_lost_of_another_file_is_lost() {
    let mut trace = trace();
    let mut other = at(2, PWRITE, 512);
    other.as_mut().unwrap().value.as_mut().unwrap().fildes = 5;
    trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 0), other]));
    for (fd, stored) in [(3, true), (5, false)] {
        let ways = Some(Ways { stored, ..NOTHING });
        tell(&mut trace, Body::Looked(Looked::Ways { fd, ways }));
    }
    trace.exit(ExitStatus::Code(0));
    let verdict = trace.verdict();
    assert_eq!(is(&verdict), LOST);
    assert_eq!(verdict.first.map(|it| it.fd), Some(5));
}

/// Another write that happens to cover the range comes from other memory.
#[test]
fn what_is_written_from_other_memory_may_be_something_else() {
    let mut own = at(1, PWRITE, 512);
    own.as_mut().unwrap().value.as_mut().unwrap().buf = 0x10000;
    let by = |call: Call, (offset, memory): (i64, u64), count: u64, ret: i64| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, submit(vec![own.clone()]));
        let length = if call.is_vectored() { ret as u64 } else { count };
        let (offset, memory) = (Some(offset), Some(Vectors::one(Address(memory), length)));
        let told = Synchronous { call, entered: None, fd: 3, offset, memory, count, ret };
        trace.tell(Body::Synchronous(told));
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        (verdict.outcome, verdict.doubt)
    };
    assert_eq!(by(Call::Pwrite, (512, 0x10000), 512, 512), (Outcome::Done, None));
    assert_eq!(by(Call::Pwritev, (512, 0x10000), 1, 512), (Outcome::Done, None));
    let from_below = (0, 0x10000 - 512);
    assert_eq!(by(Call::Pwrite, from_below, 1024, 1024), (Outcome::Done, None));
    let other = (Outcome::Unsure, Some(Doubt::OtherBuffer));
    assert_eq!(by(Call::Pwrite, (512, 0x20000), 512, 512), other);
    assert_eq!(by(Call::Pwritev, (512, 0x20000), 1, 512), other);
    assert_eq!(by(Call::Pwrite, (0, 0x10000), 1024, 1024), other);
    assert_eq!(by(Call::Pwrite, (4096, 0x20000), 512, 512), (Outcome::Lost, None), "elsewhere");
}

#[test]
fn a_descriptor_that_is_of_another_file_is_no_reason() {
    let close = |trace: &mut Trace, fd: u32| {
        let (call, entered) = (Call::Close, None);
        let closed =
            Synchronous { call, entered, fd, offset: None, memory: None, count: 0, ret: 0 };
        trace.tell(Body::Synchronous(closed));
    };
    let after = |then: &dyn Fn(&mut Trace)| is(&after(PWRITE, &nothing, Some(NOTHING), then));
    let answered = |trace: &mut Trace| answer(trace, Some(NOTHING));
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
    // Through two of them, which are looked at one after the other.
    let two = |trace: &mut Trace| {
        trace.tell(pwrite(1, 0, 512));
        trace.tell(pwrite(2, 0, 512));
        answered(trace);
    };
    assert_eq!(after(&two), LOST);
}
