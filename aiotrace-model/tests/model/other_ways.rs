//! Other ways in which what a fault left may have been done, and looks that come late, each with a twin that is sure. A reader who
//! did not know the code found them.

use aiotrace_common::synchronous::Call as Synced;
use aiotrace_model::{
    event::{
        Address, Args, Body, Call, Change, Completion, Entry, Event, ExitStatus, File, FileKind,
        Gone, Handle, How, IoEvent, Iocb, Looked, Others, Synchronous, Vectors, Ways,
    },
    model::{Doubt, Half, Name, Question, Severity, verdict::HUNG_AFTER},
};

use crate::{
    told::{SECOND, process},
    verdicts::{EAGAIN, EIO, ERROR, Trace, at, buffer, pwrite, submit, submit_to},
};

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;

const LOST: (Half, Option<Doubt>) = (Half::Lost, None);
const DONE: (Half, Option<Doubt>) = (Half::Done, None);

fn unsure(doubt: Doubt) -> (Half, Option<Doubt>) {
    (Half::Unsure, Some(doubt))
}

/// The same of another descriptor.
fn on(fd: u32, mut iocb: Option<Iocb>) -> Option<Iocb> {
    iocb.as_mut().and_then(|it| it.value.as_mut()).expect("an iocb").fildes = fd;
    iocb
}

/// The same of so many bytes.
fn of(nbytes: u64, mut iocb: Option<Iocb>) -> Option<Iocb> {
    iocb.as_mut().and_then(|it| it.value.as_mut()).expect("an iocb").nbytes = nbytes;
    iocb
}

/// A look that was over at this time finds that a descriptor is of this file.
fn is_file(trace: &mut Trace, fd: u32, inode: u64, until: u64) {
    let (kind, id, append) = (FileKind::Storage, Some((1, inode)), Some(false));
    let file = File { kind, size: Some(1 << 20), id, append, ..File::default() };
    let body = Body::Looked(Looked::File { fd, file: Some(file), until });
    trace.model.handle_event(&Event { time: trace.now, pid: 7, tid: 7, body });
}

fn files(trace: &mut Trace, own: u64, other: u64) {
    let now = trace.now;
    is_file(trace, 3, own, now);
    is_file(trace, 4, other, now);
}

/// A call that was not seen to be entered.
fn called(call: Synced, fd: u32, offset: Option<i64>, count: u64, ret: i64) -> Body {
    let memory = offset.map(|it| Vectors::one(Address(buffer(it)), count));
    Body::Synchronous(Synchronous { call, entered: None, fd, offset, memory, count, ret })
}

fn close(fd: u32) -> Body {
    called(Synced::Close, fd, None, 0, 0)
}

/// io_submit fails.
fn refused(iocb: Option<Iocb>) -> Trace {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, submit(vec![iocb]));
    trace.looked();
    trace
}

/// A write fails, and the program has got that.
fn failed() -> Trace {
    let mut trace = Trace::new();
    trace.call(None, 1, submit(vec![at(1, PWRITE, 512)]));
    trace.complete(1, 512);
    trace.changed(1, 512, EIO);
    trace.reap(1, EIO, true);
    trace.looked();
    trace
}

/// The last verdict, after the end.
fn end(mut trace: Trace) -> (Half, Option<Doubt>) {
    trace.exit(ExitStatus::Code(0));
    let verdicts = trace.verdicts();
    verdicts.last().map(|it| (it.half, it.doubt)).expect("a verdict")
}

#[test]
fn a_doubt_stays_though_another_descriptor_is_of_another_file() {
    let after = |body: Option<Body>| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(pwrite(4, 512, 512));
        body.into_iter().for_each(|it| trace.tell(it));
        files(&mut trace, 5, 6);
        end(trace)
    };
    assert_eq!(after(None), LOST);
    let copied = called(Synced::CopyFileRange, 9, None, 0, 512);
    assert_eq!(after(Some(copied)), unsure(Doubt::Unseen));
    let mapped = called(Synced::Mmap, 3, None, 1, 0x7f00_0000_0000);
    assert_eq!(after(Some(mapped)), unsure(Doubt::Mapped));
    let fork = process(Some(80), Change::Fork { child: 8, followed: false });
    assert_eq!(after(Some(fork)), unsure(Doubt::Forked));
}

#[test]
fn two_descriptors_are_looked_at_one_after_the_other() {
    let with = |third: u64| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(pwrite(4, 512, 512));
        trace.tell(pwrite(5, 512, 512));
        files(&mut trace, 5, 6);
        let now = trace.now;
        is_file(&mut trace, 5, third, now);
        end(trace)
    };
    assert_eq!(with(7), LOST);
    assert_eq!(with(5), DONE);
}

#[test]
fn what_was_told_to_be_lost_may_have_been_done_through_another_descriptor() {
    let then = |body: Option<Body>| {
        let mut trace = failed();
        for _ in 0..3 {
            trace.call(None, 1, submit(vec![at(9, PREAD, 4096)]));
            trace.complete(9, 512);
            trace.reap(9, 512, false);
            trace.wait(HUNG_AFTER / 2);
        }
        let told: Vec<Half> = trace.verdicts().iter().map(|it| it.half).collect();
        assert_eq!(told, [Half::Lost]);
        body.into_iter().for_each(|it| trace.tell(it));
        trace.exit(ExitStatus::Code(0));
        trace.verdicts().last().map(|it| (it.half, it.doubt))
    };
    assert_eq!(then(None), None, "what was told stands");
    let unsure = unsure(Doubt::OtherDescriptor);
    assert_eq!(then(Some(pwrite(4, 512, 512))), Some(unsure));
}

#[test]
fn what_is_known_of_a_descriptor_ends_when_it_is_closed() {
    let shared = Ways { writers: Others::Some, others: Others::Some, ..Ways::default() };
    let second = |closes: bool| {
        let mut trace = Trace { ways: None, ..Trace::new() };
        let look = |trace: &mut Trace, ways: Ways| {
            while let Some(question) = trace.model.next_question() {
                if let Question::Ways { fd, .. } = question {
                    trace.tell(Body::Looked(Looked::Ways { fd, ways: Some(ways) }));
                }
            }
        };
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 0)]));
        look(&mut trace, Ways::default());
        if closes {
            trace.tell(close(3));
        }
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(2, PWRITE, 4096)]));
        look(&mut trace, shared);
        end(trace)
    };
    assert_eq!(second(false), LOST, "nobody looks twice at once");
    assert_eq!(second(true), unsure(Doubt::SharedFile));
}

#[test]
fn more_calls_through_a_descriptor_than_are_remembered_are_unsure() {
    let by = |count: i64| {
        let mut trace = refused(of(count as u64 * 512, at(1, PWRITE, 0)));
        (0..count).for_each(|it| trace.tell(pwrite(4, it * 512, 512)));
        files(&mut trace, 5, 5);
        end(trace)
    };
    assert_eq!(by(8), DONE);
    assert_eq!(by(32), unsure(Doubt::OtherDescriptor));
    // One request by AIO, and a call.
    let with = |other: u64| {
        let mut trace = refused(of(4096, at(1, PWRITE, 0)));
        trace.call(None, 1, submit(vec![on(4, of(4096, at(2, PWRITE, 0)))]));
        trace.tell(pwrite(4, 0, 512));
        files(&mut trace, 5, other);
        end(trace)
    };
    assert_eq!(with(5), unsure(Doubt::OtherDescriptor));
    assert_eq!(with(6), LOST);
}

#[test]
fn a_look_that_was_not_over_before_a_close_shows_nothing() {
    // Of its own descriptor.
    let with = |own: u64, other: u64| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(close(3));
        trace.tell(pwrite(4, 512, 512));
        files(&mut trace, own, other);
        end(trace)
    };
    assert_eq!(with(99, 5), unsure(Doubt::OtherDescriptor), "the first file");
    assert_eq!(with(99, 99), unsure(Doubt::OtherDescriptor), "the next one");
    // Of the other one.
    let closed = |until: u64| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(pwrite(4, 512, 512));
        let now = trace.now;
        is_file(&mut trace, 3, 5, now);
        is_file(&mut trace, 4, 5, now + until);
        let (call, offset, memory) = (Synced::Close, None, None);
        let entered = Some(now + 500);
        let close = Synchronous { call, entered, fd: 4, offset, memory, count: 0, ret: 0 };
        trace.tell(Body::Synchronous(close));
        trace.now += 10_000;
        end(trace)
    };
    assert_eq!(closed(100), DONE);
    assert_eq!(closed(5000), unsure(Doubt::OtherDescriptor));
    // Of what else may have the file.
    for call in [Synced::Close, Synced::Munmap] {
        let ends = |entered: u64| {
            let mut trace = Trace { ways: None, ..Trace::new() };
            trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 0)]));
            let now = trace.now;
            let body = Body::Looked(Looked::Ways { fd: 3, ways: Some(Ways::default()) });
            trace.model.handle_event(&Event { time: now + 100, pid: 7, tid: 7, body });
            let (entered, offset, memory, count) = (Some(now + entered), None, None, 0);
            let it = Synchronous { call, entered, fd: 3, offset, memory, count, ret: 0 };
            let body = Body::Synchronous(it);
            trace.model.handle_event(&Event { time: now + 200, pid: 7, tid: 7, body });
            trace.now += 1000;
            end(trace)
        };
        assert_eq!(ends(150), LOST, "{call:?}");
        assert_eq!(ends(50).0, Half::Unsure, "{call:?} was in progress when the look was made");
    }
}

#[test]
fn a_sync_by_aio_through_another_descriptor_may_be_of_the_same_file() {
    let after = |fd: u32, other: u64| {
        let mut trace = refused(at(1, FSYNC, 0));
        trace.call(None, 1, submit(vec![on(fd, at(2, FSYNC, 0))]));
        files(&mut trace, 5, other);
        end(trace)
    };
    assert_eq!(after(3, 6), (Half::Retried, None));
    assert_eq!(after(4, 5), unsure(Doubt::OtherDescriptor));
    assert_eq!(after(4, 6), LOST);
    // After a short io_submit.
    let short = |then: Option<Iocb>| {
        let mut trace = Trace::new();
        trace.call(None, 1, submit(vec![at(1, PWRITE, 0), at(2, FSYNC, 0)]));
        trace.looked();
        trace.call(None, 1, submit(vec![then]));
        trace.exit(ExitStatus::Code(0));
        let all = std::iter::from_fn(|| trace.model.next_finding());
        let found: Vec<_> = all.filter(|it| it.name == Name::ShortSubmitDropped).collect();
        found.last().map(|it| (it.severity, it.doubt))
    };
    let warning = Some((Severity::Warning, Some(Doubt::OtherDescriptor)));
    assert_eq!(short(on(4, at(3, FSYNC, 0))), warning);
    assert_eq!(short(at(3, PREAD, 0)), Some((Severity::Error, None)));
    assert_eq!(short(at(3, FSYNC, 0)), None);
}

#[test]
fn a_read_in_pieces_may_have_ended_with_the_file() {
    let by = |pieces: &[(i64, i64)]| {
        let mut trace = refused(of(8192, at(1, PREAD, 0)));
        for (offset, ret) in pieces {
            trace.tell(called(Synced::Pread, 3, Some(*offset), 4096, *ret));
        }
        end(trace)
    };
    assert_eq!(by(&[(0, 4096), (4096, 4096)]).0, Half::Done);
    assert_eq!(by(&[(0, 100)]), unsure(Doubt::Partly), "the file may end there");
    assert_eq!(by(&[]), LOST);
    // The file of the request itself ends at 100.
    let mut trace = Trace::new();
    trace.call(None, 1, submit(vec![of(4096, at(1, PREAD, 0))]));
    trace.complete(1, 100);
    trace.changed(1, 100, 50);
    trace.reap(1, 50, true);
    trace.looked();
    trace.tell(called(Synced::Pread, 3, Some(50), 50, 50));
    assert_eq!(end(trace).0, Half::Done);
}

#[test]
fn another_traced_process_may_do_it_by_any_call() {
    let by = |body: &dyn Fn(u64) -> Body| {
        let mut trace = Trace::new();
        let other = |now, body| Event { time: now, pid: 8, tid: 8, body };
        trace.model.handle_event(&other(trace.now, process(Some(80), Change::Seen)));
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512)]));
        trace.looked();
        trace.now += 1000;
        trace.model.handle_event(&other(trace.now, body(trace.now)));
        end(trace)
    };
    let submits = |offset: i64| {
        move |now: u64| {
            let (entered, entry) = (Some(now - 500), Entry::Seen);
            let args = submit(vec![on(5, at(1, PWRITE, offset))]);
            let (ring, ring_before, compat, stack, fault) = (None, None, false, None, None);
            let ret = 1;
            Body::Call(Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault })
        }
    };
    assert_eq!(by(&submits(512)), unsure(Doubt::SharedFile));
    assert_eq!(by(&submits(8192)), LOST);
    let copies = |ret| move |_: u64| called(Synced::CopyFileRange, 9, None, 0, ret);
    assert_eq!(by(&copies(512)), unsure(Doubt::SharedFile));
    assert_eq!(by(&copies(EIO)), LOST);
    let maps = |stored| move |_: u64| called(Synced::Mmap, 9, None, stored, 0x7f00_0000_0000);
    assert_eq!(by(&maps(1)), unsure(Doubt::SharedFile));
    assert_eq!(by(&maps(0)), LOST);
}

#[test]
fn what_others_submit_is_compared_with_what_is_left_so_many_times_in_a_second() {
    for (others, expected) in [(16, LOST), (2048, unsure(Doubt::TooMany))] {
        let mut trace = Trace::new();
        let writes = |from: i64, count: u64| {
            submit((0..count).map(|it| at(it, PWRITE, from + 512 * it as i64)).collect())
        };
        let other = |now, body| Event { time: now, pid: 8, tid: 8, body };
        trace.model.handle_event(&other(trace.now, process(Some(80), Change::Seen)));
        trace.call(Some(ERROR), EAGAIN, writes(0, 2048));
        trace.looked();
        trace.now += 1000;
        let (entered, entry) = (Some(trace.now - 500), Entry::Seen);
        let (ret, args) = (others as i64, writes(1 << 30, others));
        let (ring, ring_before, compat, stack, fault) = (None, None, false, None, None);
        let call = Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault };
        trace.model.handle_event(&other(trace.now, Body::Call(call)));
        let (half, doubt) = end(trace);
        assert_eq!((half, doubt), expected);
    }
}

#[test]
fn a_read_of_a_socket_may_be_done_by_recv() {
    let by = |fd: Option<u32>| {
        let mut trace = refused(at(1, PREAD, 0));
        if let Some(fd) = fd {
            trace.tell(called(Synced::Recvfrom, fd, None, 512, 100));
        }
        end(trace)
    };
    assert_eq!(by(Some(3)), unsure(Doubt::Stream));
    assert_eq!(by(Some(4)), LOST);
    assert_eq!(by(None), LOST);
}

#[test]
fn what_is_done_at_once_must_have_the_data_and_the_time_of_a_retry() {
    let refill = |at| {
        let memory = Some(Vectors::one(Address(buffer(at)), 512));
        let (call, entered, fd, offset) = (Synced::Read, None, 9, None);
        Body::Synchronous(Synchronous { call, entered, fd, offset, memory, count: 512, ret: 512 })
    };
    let after = |place| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(refill(place));
        trace.tell(pwrite(3, 512, 512));
        end(trace)
    };
    assert_eq!(after(512), unsure(Doubt::Refilled));
    assert_eq!(after(65536), DONE);
    let later = |nanos: u64| {
        let mut trace = failed();
        trace.now += nanos;
        trace.tell(pwrite(3, 512, 512));
        end(trace)
    };
    assert_eq!(later(1000), DONE);
    assert_eq!(later(30_000_000_000), unsure(Doubt::Late));
}

#[test]
fn a_sync_of_another_thread_may_have_begun_before() {
    let by = |tid: u32, entered: Option<u64>| {
        let mut trace = refused(at(1, FSYNC, 0));
        trace.now += 100;
        let (call, offset, memory, count) = (Synced::Fsync, None, None, 0);
        let entered = entered.map(|it| trace.now - it);
        let call = Synchronous { call, entered, fd: 3, offset, memory, count, ret: 0 };
        let body = Body::Synchronous(call);
        trace.model.handle_event(&Event { time: trace.now, pid: 7, tid, body });
        end(trace)
    };
    assert_eq!(by(7, None), DONE);
    assert_eq!(by(9, None), unsure(Doubt::AnotherThread));
    assert_eq!(by(9, Some(50)), DONE);
    assert_eq!(by(9, Some(5000)), LOST);
}

#[test]
fn what_was_unmapped_before_it_was_known_what_a_fault_was_about_is_remembered() {
    let with = |unmaps: bool| {
        let mut trace = Trace { ways: None, ..Trace::new() };
        let entered = trace.now + 500;
        trace.changed(1, 512, EIO);
        if unmaps {
            trace.tell(called(Synced::Munmap, u32::MAX, None, 0, 0));
        }
        trace.call_since(entered, None, 1, submit(vec![at(1, PWRITE, 0)]));
        trace.ways = Some(Ways::default());
        trace.looked();
        trace.reap(1, EIO, true);
        end(trace)
    };
    assert_eq!(with(true), unsure(Doubt::Unmapped));
    assert_eq!(with(false), LOST);
}

#[test]
fn one_sync_is_of_all_that_were_refused() {
    let after = |opcode: u16| {
        let mut trace = Trace::new();
        let both = vec![at(1, FSYNC, 0), at(2, FDSYNC, 0)];
        trace.call(Some(ERROR), EAGAIN, submit(both));
        trace.looked();
        trace.call(None, 1, submit(vec![at(3, opcode, 0)]));
        end(trace)
    };
    assert_eq!(after(FSYNC), (Half::Retried, None));
    assert_eq!(after(FDSYNC), unsure(Doubt::Fdatasync));
}

#[test]
fn what_aio_reads_into_the_memory_of_a_write_is_the_next_one() {
    let after = |place| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.call(None, 1, submit(vec![on(9, at(2, PREAD, place))]));
        trace.tell(pwrite(3, 512, 512));
        end(trace)
    };
    assert_eq!(after(512), unsure(Doubt::Refilled));
    assert_eq!(after(65536), unsure(Doubt::Submitted), "it is the program's next one, perhaps");
}

#[test]
fn calls_wait_until_the_own_descriptor_is_looked_at() {
    let with = |other: u64| {
        let mut trace = refused(of(1024, at(1, PWRITE, 0)));
        trace.tell(pwrite(4, 0, 512));
        let now = trace.now;
        is_file(&mut trace, 4, other, now);
        is_file(&mut trace, 3, 5, now);
        trace.tell(pwrite(4, 512, 512));
        let now = trace.now;
        is_file(&mut trace, 4, other, now);
        end(trace)
    };
    assert_eq!(with(5), DONE);
    assert_eq!(with(6), LOST);
}

#[test]
fn a_look_at_the_own_descriptor_must_be_over_before_a_close_too() {
    let with = |own: u64, until: u64| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(pwrite(4, 512, 512));
        let now = trace.now;
        is_file(&mut trace, 3, own, now + until);
        is_file(&mut trace, 4, 5, now);
        let (call, offset, memory) = (Synced::Close, None, None);
        let entered = Some(now + 500);
        let close = Synchronous { call, entered, fd: 3, offset, memory, count: 0, ret: 0 };
        trace.tell(Body::Synchronous(close));
        trace.now += 10_000;
        end(trace)
    };
    assert_eq!(with(5, 100), DONE);
    assert_eq!(with(99, 100), LOST);
    assert_eq!(with(5, 5000), unsure(Doubt::OtherDescriptor));
    assert_eq!(with(99, 5000), unsure(Doubt::OtherDescriptor));
}

#[test]
fn what_was_looked_up_before_anything_was_left_may_be_of_another_file() {
    let with = |again: bool| {
        let mut trace = Trace::new();
        let now = trace.now;
        is_file(&mut trace, 3, 99, now);
        // Nobody watches for what is closed now.
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512)]));
        trace.looked();
        if again {
            let now = trace.now;
            is_file(&mut trace, 3, 5, now);
        }
        trace.tell(pwrite(4, 512, 512));
        let now = trace.now;
        is_file(&mut trace, 4, 5, now);
        end(trace)
    };
    assert_eq!(with(true), DONE);
    assert_eq!(with(false), unsure(Doubt::OtherDescriptor));
}

#[test]
fn a_look_that_serves_two_faults_keeps_its_time() {
    let second = |after: u64| {
        let mut trace = Trace { ways: None, ..Trace::new() };
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 0)]));
        let looked = Looked::Ways { fd: 3, ways: Some(Ways::default()) };
        let time = trace.now + after;
        trace.model.handle_event(&Event { time, pid: 7, tid: 7, body: Body::Looked(looked) });
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(2, PWRITE, 4096)]));
        trace.tell(called(Synced::Munmap, u32::MAX, None, 0, 0));
        trace.now += 10_000;
        end(trace)
    };
    assert_eq!(second(100), LOST);
    assert_eq!(second(5000), unsure(Doubt::Unmapped), "what was mapped was gone by then");
}

#[test]
fn a_number_that_was_closed_may_lead_to_the_same_file_again() {
    let after = |fd: u32| {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(close(3));
        trace.tell(called(Synced::Write, fd, None, 512, 512));
        end(trace)
    };
    assert_eq!(after(3), unsure(Doubt::Closed), "a write(2), wherever it went");
    assert_eq!(after(9), unsure(Doubt::OtherDescriptor), "it may be of the same file");
}

#[test]
fn a_write_at_an_unknown_place_through_another_descriptor_may_have_done_it() {
    let by = |address: u64, count: u64, file: Option<u64>| {
        let mut trace = refused(at(1, PWRITE, 512));
        let (call, offset, ret) = (Synced::Write, None, count as i64);
        let memory = Some(Vectors::one(Address(address), count));
        let write = Synchronous { call, entered: None, fd: 4, offset, memory, count, ret };
        trace.tell(Body::Synchronous(write));
        file.into_iter().for_each(|it| files(&mut trace, 5, it));
        end(trace)
    };
    let (own, other) = (buffer(512), buffer(1 << 20));
    assert_eq!(by(own, 512, None), unsure(Doubt::OtherDescriptor));
    assert_eq!(by(other, 512, None), unsure(Doubt::OtherDescriptor), "a copy of the data");
    assert_eq!(by(own, 100, None), unsure(Doubt::OtherDescriptor), "a part of the data");
    assert_eq!(by(own, 512, Some(6)), LOST, "it is of another file");
    assert_ne!(by(own, 512, Some(5)).0, Half::Lost, "it is of the same file");
    assert_eq!(by(other, 100, None), LOST, "a message");
}

#[test]
fn the_use_of_a_process_is_that_of_all_its_contexts() {
    let mut trace = Trace::new();
    for number in 1..=300 {
        let handle = Handle(0x10_0000 + number * 0x1000);
        let made = Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(handle) };
        trace.call(None, 0, made);
        trace.call(None, 1, submit_to(handle, vec![at(number, PREAD, 0)]));
        let event = Some(IoEvent { data: 0, obj: number, res: 512, res2: 0 });
        trace.tell(Body::Completion(Completion::exact(handle, event)));
        if number <= 290 {
            let entered = trace.now + 500;
            let (ctx, how, in_flight) = (handle, How::Destroy, Some(0));
            trace.tell(Body::ContextGone(Gone { ctx, how, in_flight, at_most: false }));
            trace.call_since(entered, None, 0, Args::Destroy { ctx });
        }
    }
    let report = trace.model.report();
    let others = report.others.as_ref().expect("more contexts than rows");
    assert_eq!(others.end_text(), Some("several"), "{others:?}");
    let all: u64 = report.contexts.iter().chain([others]).map(|it| it.done.requests).sum();
    let usage = &report.usages[0];
    assert_eq!((usage.requests, usage.contexts, all), (300, 301, 300));
    assert_eq!((usage.asked, usage.calls.submits), (Some(4), 300));
    assert!(!usage.is_at_least);
}

/// Two faults, each followed by the same sync through another descriptor of the file, which is looked at later.
#[test]
fn a_call_that_is_made_again_after_the_next_fault_counts_for_that_too() {
    for is_again in [true, false] {
        let mut trace = Trace::new();
        let sync = || called(Synced::Fsync, 4, None, 0, 0);
        for iocb in [1, 2] {
            trace.call(Some(ERROR), EAGAIN, submit(vec![at(iocb, FSYNC, 0)]));
            trace.looked();
            if iocb == 1 || is_again {
                trace.tell(sync());
            }
        }
        files(&mut trace, 5, 5);
        trace.exit(ExitStatus::Code(0));
        let verdicts = trace.verdicts();
        let expected = if is_again { Half::Done } else { Half::Lost };
        assert_eq!(
            verdicts.last().map(|it| (it.half, it.doubt)),
            Some((expected, None)),
            "{verdicts:?}"
        );
    }
}

/// A look finds that the descriptor has O_APPEND, and it is given up then: the next look is at another file, also if it is
/// heard of before the close.
#[test]
fn a_look_at_what_took_the_number_of_a_descriptor_says_nothing_of_its_file() {
    let append = unsure(Doubt::Append);
    for (is_closed, is_heard, expected) in
        [(false, false, DONE), (true, true, append), (true, false, append)]
    {
        let mut trace = Trace::new();
        let look = |trace: &mut Trace, append: bool| {
            trace.now += 1000;
            let (kind, id, size) = (FileKind::Storage, Some((1, 5)), Some(1 << 20));
            let file = File { kind, size, id, append: Some(append), ..File::default() };
            let body = Body::Looked(Looked::File { fd: 3, file: Some(file), until: trace.now });
            trace.model.handle_event(&Event { time: trace.now, pid: 7, tid: 7, body });
        };
        let closes = |trace: &mut Trace, entered: u64| {
            let (call, offset, memory, entered) = (Synced::Close, None, None, Some(entered));
            let close = Synchronous { call, entered, fd: 3, offset, memory, count: 0, ret: 0 };
            is_closed.then(|| trace.tell(Body::Synchronous(close)));
        };
        look(&mut trace, true);
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512)]));
        trace.tell(pwrite(3, 512, 512));
        let now = trace.now;
        if is_heard {
            closes(&mut trace, now);
        }
        look(&mut trace, false);
        if !is_heard {
            closes(&mut trace, now);
        }
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        assert_eq!((verdict.half, verdict.doubt), expected);
    }
}

/// What became of it was told, and unsure: since then nobody has seen what the program closes.
#[test]
fn what_comes_again_when_nothing_is_watched_any_more_is_unsure() {
    for is_shared in [false, true] {
        let mut trace = Trace::new();
        trace.call(None, 1, submit(vec![at(1, FSYNC, 0)]));
        trace.complete(1, 0);
        trace.changed(1, 0, EIO);
        let others = if is_shared { Others::Some } else { Others::None };
        trace.ways = Some(Ways { others, ..Ways::default() });
        trace.wait(HUNG_AFTER + SECOND);
        trace.reap(1, EIO, true);
        trace.call(None, 1, submit(vec![at(1, FSYNC, 0)]));
        trace.complete(1, 0);
        trace.reap(1, 0, false);
        trace.exit(ExitStatus::Code(0));
        let told = trace.verdicts();
        let told: Vec<_> = told.iter().map(|it| (it.half, it.doubt)).collect();
        let expected = match is_shared {
            true => [unsure(Doubt::SharedFile), unsure(Doubt::NotWatched)],
            false => [(Half::Open, None), (Half::Retried, None)],
        };
        assert_eq!(told, expected);
    }
}

/// What was done through a descriptor before it was given up is not done by the file that has its number then.
#[test]
fn what_was_done_through_a_descriptor_before_its_close_is_of_an_unknown_file() {
    for closes in [false, true] {
        let mut trace = refused(at(1, PWRITE, 512));
        trace.tell(pwrite(4, 512, 512));
        if closes {
            trace.tell(close(4));
        }
        // A part of the same range.
        trace.tell(called(Synced::Pwrite, 4, Some(512), 100, 100));
        files(&mut trace, 5, 5);
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        let expected = if closes { unsure(Doubt::OtherDescriptor) } else { DONE };
        assert_eq!((verdict.half, verdict.doubt), expected);
    }
}
