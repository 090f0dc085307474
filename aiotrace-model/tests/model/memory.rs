//! What comes again with the same place in the file is a retry only if its memory is the same, too: each with a twin
//! whose memory is other.

use aiotrace_common::{abi, synchronous::Call};
use aiotrace_model::{
    event::{
        Address, Body, Change, Event, ExitStatus, File, FileKind, Iocb, Looked, Synchronous,
        Vector, Vectors, Ways,
    },
    model::{Doubt, Half, Name, Outcome, Question, Verdict, verdict::HUNG_AFTER},
};

use crate::told::process;
use crate::verdicts::{EAGAIN, EIO, ERROR, Trace, at, pwrite, submit};

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const PWRITEV: u16 = 8;

const SURE: (Half, Option<Doubt>) = (Half::Retried, None);
const OTHER: (Half, Option<Doubt>) = (Half::Unsure, Some(Doubt::OtherBuffer));
const LOST: (Half, Option<Doubt>) = (Half::Lost, None);

/// A write of these bytes of memory, from there on in the file.
fn write(address: u64, offset: i64, (buf, nbytes): (u64, u64)) -> Option<Iocb> {
    let value = abi::Iocb { opcode: PWRITE, fildes: 3, offset, nbytes, buf, ..Default::default() };
    Some(Iocb {
        address: Some(Address(address)),
        value: Some(value),
        read_late: false,
        vectors: None,
    })
}

fn vectors(pieces: &[(u64, u64)]) -> Vectors {
    let of = |(base, length): &(u64, u64)| Vector { base: Address(*base), length: *length };
    Vectors::new(pieces.iter().map(of).collect())
}

/// The same of these pieces of memory.
fn writev(address: u64, offset: i64, pieces: &[(u64, u64)]) -> Option<Iocb> {
    let mut iocb = write(address, offset, (0x7000, pieces.len() as u64))?;
    iocb.value.as_mut()?.opcode = PWRITEV;
    Some(Iocb { vectors: Some(vectors(pieces)), ..iocb })
}

fn end(mut trace: Trace) -> Verdict {
    trace.exit(ExitStatus::Code(0));
    trace.verdict()
}

fn is(verdict: &Verdict) -> (Half, Option<Doubt>) {
    (verdict.half, verdict.doubt)
}

/// io_submit of `first` fails, and then these calls succeed, one after the other.
fn again(first: Vec<Option<Iocb>>, then: Vec<Vec<Option<Iocb>>>) -> (Half, Option<Doubt>) {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, submit(first));
    trace.looked();
    then.into_iter().for_each(|it| trace.call(None, it.len() as i64, submit(it)));
    is(&end(trace))
}

/// `first` completes with `res` instead of what it asked for, and `then` comes and does what it asks for.
fn short(first: Option<Iocb>, (own, res): (i64, i64), then: (Option<Iocb>, i64)) -> Verdict {
    let mut trace = Trace::new();
    trace.call(None, 1, submit(vec![first]));
    trace.complete(1, own);
    trace.changed(1, own, res);
    trace.reap(1, res, true);
    trace.looked();
    trace.call(None, 1, submit(vec![then.0]));
    trace.complete(2, then.1);
    trace.reap(2, then.1, false);
    end(trace)
}

#[test]
fn the_rest_of_a_short_write_comes_from_behind_what_was_written() {
    let own = || write(1, 0, (0x1000, 4096));
    let rest = |buf| short(own(), (4096, 512), (write(2, 512, (buf, 3584)), 3584));
    assert_eq!(is(&rest(0x1200)), SURE);
    assert_eq!(is(&rest(0x1000)), OTHER, "the buffer was not moved");
    let whole = short(own(), (4096, 512), (write(2, 0, (0x1000, 4096)), 4096));
    assert_eq!(is(&whole), SURE);
    // The same with vectors.
    let own = || writev(1, 0, &[(0x1000, 1024), (0x8000, 1024)]);
    let rest = |pieces| short(own(), (2048, 512), (writev(2, 512, pieces), 1536));
    assert_eq!(is(&rest(&[(0x1200, 512), (0x8000, 1024)])), SURE);
    assert_eq!(is(&rest(&[(0x1000, 512), (0x8000, 1024)])), OTHER);
    let in_one = short(own(), (2048, 1024), (write(2, 1024, (0x8000, 1024)), 1024));
    assert_eq!(is(&in_one), SURE, "what is left is one piece");
}

#[test]
fn vectors_that_changed_are_another_request() {
    let own = || vec![writev(1, 0, &[(0x1000, 512), (0x2000, 512)])];
    let same = |pieces| again(own(), vec![vec![writev(2, 0, pieces)]]);
    assert_eq!(same(&[(0x1000, 512), (0x2000, 512)]), SURE);
    assert_eq!(same(&[(0x1000, 512), (0x3000, 512)]), OTHER);
    assert_eq!(same(&[(0x2000, 512), (0x1000, 512)]), OTHER);
    assert_eq!(same(&[(0x1000, 512), (0x2000, 256)]), OTHER, "it is shorter");
    assert_eq!(same(&[(0x1000, 256), (0x1100, 256)]), OTHER, "and so is this one");
    assert_eq!(again(own(), Vec::new()), LOST);
    // Vectors that were not read.
    let unread = |mut iocb: Option<Iocb>| {
        iocb.as_mut().expect("an iocb").vectors = None;
        iocb
    };
    let vague = || vec![unread(writev(2, 0, &[(0x1000, 512), (0x2000, 512)]))];
    assert_eq!(again(own(), vec![vague()]), (Half::Unsure, Some(Doubt::Vectors)));
    assert_eq!(again(vague(), vec![own()]), (Half::Unsure, Some(Doubt::Vectors)));
}

#[test]
fn pieces_and_merged_requests_have_the_memory_of_what_they_do() {
    let own = || vec![write(1, 0, (0x1000, 1024))];
    let halves = |first, second| {
        again(own(), vec![vec![write(2, 0, (first, 512)), write(3, 512, (second, 512))]])
    };
    assert_eq!(halves(0x1000, 0x1200), SURE);
    assert_eq!(halves(0x1200, 0x1000), OTHER, "the halves changed places");
    let two = || vec![write(1, 0, (0x1000, 512)), write(2, 512, (0x8000, 512))];
    let gathered = vec![writev(3, 0, &[(0x1000, 512), (0x8000, 512)])];
    assert_eq!(again(two(), vec![gathered]), SURE);
    let copied = vec![write(3, 0, (0x20000, 1024))];
    assert_eq!(again(two(), vec![copied]), OTHER);
}

/// A synchronous call that does this with this memory.
fn called(call: Call, offset: i64, pieces: &[(u64, u64)]) -> Body {
    let memory = vectors(pieces);
    let length = memory.length();
    let count = if call.is_vectored() { pieces.len() as u64 } else { length };
    let (offset, ret) = (Some(offset), length as i64);
    let memory = Some(memory);
    Body::Synchronous(Synchronous { call, entered: None, fd: 3, offset, memory, count, ret })
}

#[test]
fn synchronous_calls_have_the_memory_of_what_they_do() {
    let by = |first: Option<Iocb>, call: Body| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, submit(vec![first]));
        trace.looked();
        trace.tell(call);
        is(&end(trace))
    };
    let pieces: &[(u64, u64)] = &[(0x1000, 512), (0x8000, 512)];
    let vectored = || writev(1, 0, pieces);
    assert_eq!(by(vectored(), called(Call::Pwritev, 0, pieces)), (Half::Done, None));
    assert_eq!(by(vectored(), called(Call::Pwritev, 0, &[(0x1000, 1024)])), OTHER);
    let plain = || write(1, 0, (0x1000, 1024));
    assert_eq!(
        by(plain(), called(Call::Pwritev, 0, &[(0x1000, 512), (0x1200, 512)])),
        (Half::Done, None)
    );
    assert_eq!(by(plain(), called(Call::Pwrite, 0, &[(0x2000, 1024)])), OTHER);
    let unread = Synchronous {
        call: Call::Pwritev,
        entered: None,
        fd: 3,
        offset: Some(0),
        memory: None,
        count: 99,
        ret: 1024,
    };
    let unread = by(plain(), Body::Synchronous(unread));
    assert_eq!(unread, (Half::Unsure, Some(Doubt::Vectors)));
}

#[test]
fn what_changes_the_data_or_their_place_before_a_retry_is_seen() {
    let by = |before: Option<Body>, first: Option<Iocb>, then: Option<Iocb>| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, submit(vec![first]));
        trace.looked();
        before.into_iter().for_each(|it| trace.tell(it));
        trace.call(None, 1, submit(vec![then]));
        is(&end(trace))
    };
    let own = |iocb| write(iocb, 0, (0x1000, 512));
    let of = |call: Call, fd: u32, pieces: &[(u64, u64)], ret: i64| {
        let memory = Some(vectors(pieces));
        let (entered, offset) = (None, None);
        Body::Synchronous(Synchronous { call, entered, fd, offset, memory, count: 4096, ret })
    };
    assert_eq!(by(None, own(1), own(2)), SURE);
    // Other data are received into its memory, or into other memory.
    let refilled = (Half::Unsure, Some(Doubt::Refilled));
    let receives = |at, ret| Some(of(Call::Recvfrom, 5, &[(at, 4096)], ret));
    assert_eq!(by(receives(0x1000, 100), own(1), own(2)), refilled);
    assert_eq!(by(receives(0x8000, 100), own(1), own(2)), SURE);
    assert_eq!(by(receives(0xf00, 100), own(1), own(2)), SURE, "it got less than it asked for");
    // O_APPEND is set, perhaps through a copy of the descriptor.
    for fd in [3, 9] {
        let appends = || Some(of(Call::Fcntl, fd, &[], 0));
        assert_eq!(by(appends(), own(1), own(2)), (Half::Unsure, Some(Doubt::Append)));
        let read = |iocb| at(iocb, PREAD, 512);
        assert_eq!(by(appends(), read(1), read(2)), SURE, "it says nothing of reads");
    }
}

/// fcntl(2) sets O_APPEND.
fn set_append(trace: &mut Trace) {
    let (call, entered, fd, offset, memory) = (Call::Fcntl, None, 3, None, None);
    trace.tell(Body::Synchronous(Synchronous {
        call,
        entered,
        fd,
        offset,
        memory,
        count: 0,
        ret: 0,
    }));
}

#[test]
fn o_append_that_was_set_before_a_fault_counts_until_a_look_shows_that_it_is_not() {
    let by = |opcode: u16, before: &dyn Fn(&mut Trace), meanwhile: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new();
        let write = || submit(vec![at(1, opcode, 512)]);
        looks(&mut trace, 5, 6, false);
        before(&mut trace);
        trace.call(None, 1, write());
        meanwhile(&mut trace);
        trace.complete(1, 512);
        trace.changed(1, 512, EIO);
        trace.reap(1, EIO, true);
        trace.call(None, 1, write());
        trace.complete(1, 512);
        trace.reap(1, 512, false);
        is(&end(trace))
    };
    let nothing = |_: &mut Trace| ();
    let looks = |trace: &mut Trace| looks(trace, 5, 6, false);
    let set_and_looked = |trace: &mut Trace| {
        set_append(trace);
        trace.now += 1000;
        looks(trace);
    };
    let unsure = (Half::Unsure, Some(Doubt::Append));
    assert_eq!(by(PWRITE, &nothing, &looks), SURE);
    assert_eq!(by(PWRITE, &nothing, &set_append), unsure);
    assert_eq!(by(PREAD, &nothing, &set_append), SURE);
    assert_eq!(by(PWRITE, &nothing, &set_and_looked), unsure, "only one of the two had a place");
    assert_eq!(by(PWRITE, &set_append, &nothing), unsure, "nobody has looked");
    assert_eq!(by(PWRITE, &set_append, &looks), SURE, "it was set on another one");
}

/// What comes again may be the next write at the end of the file, and so something else than a retry, for other faults, too.
#[test]
fn what_may_be_no_retry_of_one_fault_is_none_for_another() {
    for (appends, expected) in [(false, SURE), (true, (Half::Unsure, Some(Doubt::Submitted)))] {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512), at(2, PREAD, 1024)]));
        if appends {
            set_append(&mut trace);
        }
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(2, PREAD, 1024)]));
        trace.call(None, 1, submit(vec![at(1, PWRITE, 512)]));
        trace.call(None, 1, submit(vec![at(2, PREAD, 1024)]));
        trace.exit(ExitStatus::Code(0));
        let verdicts = trace.verdicts();
        assert_eq!(is(&verdicts[1]), expected, "{verdicts:?}");
    }
}

/// The next fault is the last word on what went before it, so nobody waits for a close that was made before the look.
#[test]
fn a_look_that_sees_more_than_was_heard_says_nothing_where_nobody_waits() {
    for is_early in [true, false] {
        let mut trace = Trace::new();
        let both = vec![at(1, PWRITE, 512), at(2, PWRITE, 1024)];
        trace.call(Some(ERROR), EAGAIN, submit(both));
        trace.tell(pwrite(4, 512, 512));
        let mut steps: [&dyn Fn(&mut Trace); 2] = [&|it| looks(it, 5, 5, false), &|it| {
            it.call(Some(ERROR), EAGAIN, submit(vec![at(2, PWRITE, 1024)]))
        }];
        if !is_early {
            steps.reverse();
        }
        steps.iter().for_each(|it| it(&mut trace));
        let expected = if is_early { SURE } else { (Half::Unsure, Some(Doubt::OtherDescriptor)) };
        assert_eq!(is(&trace.verdict()), expected);
    }
}

#[test]
fn an_fsync_does_what_an_fdsync_does_and_not_the_other_way_round() {
    let sync = |first, then| again(vec![at(1, first, 0)], vec![vec![at(2, then, 0)]]);
    assert_eq!(sync(FDSYNC, FDSYNC), SURE);
    assert_eq!(sync(FDSYNC, FSYNC), SURE);
    assert_eq!(sync(FSYNC, FDSYNC), (Half::Unsure, Some(Doubt::Fdatasync)));
    assert_eq!(again(vec![at(1, FDSYNC, 0)], Vec::new()), LOST);
    // The same after a completion that failed.
    let failed = |then| is(&short(at(1, FDSYNC, 0), (0, EIO), (at(2, then, 0), 0)));
    assert_eq!(failed(FSYNC), SURE);
    assert_eq!(failed(FDSYNC), SURE);
    // A twin that ignores the error: what was written may not be on the disk.
    let mut trace = Trace::new();
    trace.call(None, 1, submit(vec![at(1, FSYNC, 0)]));
    trace.complete(1, 0);
    trace.changed(1, 0, EIO);
    trace.reap(1, EIO, true);
    trace.looked();
    let verdict = end(trace);
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1), "{}", verdict.message());
}

#[test]
fn a_sync_of_a_whole_file_system_may_be_of_the_same_one() {
    let by = |call: Call, fd: u32| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, FSYNC, 0)]));
        trace.looked();
        let (entered, offset, memory, count, ret) = (None, None, None, 0, 0);
        let call = Synchronous { call, entered, fd, offset, memory, count, ret };
        trace.tell(Body::Synchronous(call));
        is(&end(trace))
    };
    assert_eq!(by(Call::Syncfs, 3), (Half::Done, None));
    assert_eq!(by(Call::Syncfs, 4), (Half::Unsure, Some(Doubt::Syncfs)));
    assert_eq!(by(Call::Sync, u32::MAX), (Half::Done, None));
}

/// The files of two descriptors, as a look finds them.
fn looks(trace: &mut Trace, own: u64, other: u64, append: bool) {
    for (fd, inode) in [(3, own), (4, other)] {
        let file = File {
            kind: FileKind::Storage,
            size: Some(1 << 20),
            id: Some((1, inode)),
            append: Some(append),
            ..File::default()
        };
        let body = Body::Looked(Looked::File { fd, file: Some(file), until: trace.now });
        trace.model.handle_event(&Event { time: trace.now, pid: 7, tid: 7, body });
    }
}

#[test]
fn another_descriptor_of_the_same_file_does_it_too() {
    let by = |look: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512)]));
        trace.looked();
        trace.tell(pwrite(4, 512, 512));
        let asked: Vec<_> = std::iter::from_fn(|| trace.model.next_question()).collect();
        assert!(asked.contains(&Question::File { pid: 7, fd: 4 }), "{asked:?}");
        look(&mut trace);
        is(&end(trace))
    };
    assert_eq!(by(&|it| looks(it, 5, 5, false)), (Half::Done, None));
    let unsure = (Half::Unsure, Some(Doubt::OtherDescriptor));
    assert_eq!(by(&|it| looks(it, 5, 5, true)), unsure, "with O_APPEND it went elsewhere");
    assert_eq!(by(&|_| ()), unsure, "nobody looked");
    assert_eq!(by(&|it| looks(it, 5, 6, false)), LOST);
    let closed = by(&|trace| {
        let (call, entered, offset, memory) = (Call::Close, None, None, None);
        let close = Synchronous { call, entered, fd: 4, offset, memory, count: 0, ret: 0 };
        trace.tell(Body::Synchronous(close));
        looks(trace, 5, 5, false);
    });
    assert_eq!(closed, unsure, "its number may be of another file now");
    // Of another file, which is closed after the look, or perhaps before it.
    let closes = |trace: &mut Trace, entered: Option<u64>| {
        looks(trace, 5, 6, false);
        let (call, offset, memory) = (Call::Close, None, None);
        let close = Synchronous { call, entered, fd: 4, offset, memory, count: 0, ret: 0 };
        trace.tell(Body::Synchronous(close));
    };
    assert_eq!(by(&|it| closes(it, Some(it.now + 500))), LOST);
    assert_eq!(by(&|it| closes(it, None)), unsure);
}

#[test]
fn what_is_done_late_is_told_anew() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512)]));
    trace.looked();
    // Other work goes on.
    let reads = || submit(vec![at(9, 0, 4096)]);
    for _ in 0..3 {
        trace.call(None, 1, reads());
        trace.wait(HUNG_AFTER / 2);
    }
    let told: Vec<Half> = trace.verdicts().iter().map(|it| it.half).collect();
    assert_eq!(told, [Half::Lost]);
    trace.tell(pwrite(3, 512, 512));
    trace.exit(ExitStatus::Code(0));
    let told: Vec<_> = trace.verdicts().iter().map(|it| (it.half, it.doubt, it.anew)).collect();
    assert_eq!(told, [(Half::Unsure, Some(Doubt::Late), true)]);
}

#[test]
fn a_process_that_opens_the_file_later_may_have_written_it() {
    let by = |body: &dyn Fn() -> Body| {
        let mut trace = Trace::new();
        trace.tell(process(Some(80), Change::Fork { child: 8, followed: true }));
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512)]));
        trace.looked();
        trace.now += 1000;
        trace.model.handle_event(&Event { time: trace.now, pid: 8, tid: 8, body: body() });
        is(&end(trace))
    };
    assert_eq!(by(&|| pwrite(5, 512, 512)), (Half::Unsure, Some(Doubt::SharedFile)));
    assert_eq!(by(&|| pwrite(5, 4096, 512)), LOST);
    assert_eq!(by(&|| pwrite(5, 512, EIO)), LOST);
}

#[test]
fn a_process_that_is_not_traced_may_open_the_file_later() {
    let by = |opcode: u16, below: bool| {
        let mut trace = Trace::new();
        trace.ways = Some(Ways { below, ..Ways::default() });
        trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, opcode, 512)]));
        is(&end(trace))
    };
    assert_eq!(by(PWRITE, true), (Half::Unsure, Some(Doubt::Below)));
    assert_eq!(by(PWRITE, false), LOST);
    assert_eq!(by(PREAD, true), LOST, "it reads into its own memory");
}

#[test]
fn a_retry_that_meets_the_next_fault_before_its_io_submit_returns_has_not_succeeded() {
    let mut trace = Trace::new();
    for iocb in [1, 2] {
        trace.now += 500;
        let entered = trace.now;
        // The completion is there, and is changed, before the call returns.
        trace.complete(iocb, 512);
        trace.changed(iocb, 512, EIO);
        trace.call_since(entered, None, 1, submit(vec![at(iocb, PWRITE, 512)]));
        trace.reap(iocb, EIO, true);
        trace.looked();
    }
    trace.exit(ExitStatus::Code(1));
    let told: Vec<_> =
        trace.verdicts().iter().map(|it| (it.half, it.succeeded, it.next_fault)).collect();
    assert_eq!(told, [(Half::Retried, false, true), (Half::Lost, false, false)]);
}

#[test]
fn a_retry_that_is_short_itself_has_not_done_all() {
    let own = || write(1, 0, (0x1000, 4096));
    let verdict = short(own(), (4096, EIO), (write(2, 0, (0x1000, 4096)), 1000));
    assert!(!verdict.succeeded, "{}", verdict.message());
    let verdict = short(own(), (4096, EIO), (write(2, 0, (0x1000, 4096)), 4096));
    assert!(verdict.succeeded, "{}", verdict.message());
}

#[test]
fn what_was_lost_and_done_in_an_unknown_way_is_not_lost_after_all() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, submit(vec![at(1, PWRITE, 512)]));
    trace.looked();
    for _ in 0..3 {
        trace.call(None, 1, submit(vec![at(9, PREAD, 4096)]));
        trace.wait(HUNG_AFTER / 2);
    }
    trace.tell(pwrite(4, 512, 512));
    trace.exit(ExitStatus::Code(0));
    let told: Vec<_> = trace.verdicts().iter().map(|it| (it.half, it.doubt)).collect();
    let unsure = (Half::Unsure, Some(Doubt::OtherDescriptor));
    assert_eq!(told, [LOST, unsure]);
}

#[test]
fn a_worker_that_has_ended_before_the_look_may_have_done_the_rest() {
    let by = |forks: bool| {
        let mut trace = Trace::new();
        if forks {
            trace.tell(process(Some(80), Change::Fork { child: 8, followed: false }));
        }
        trace.call(None, 1, submit(vec![at(1, PWRITE, 0), at(2, PWRITE, 512)]));
        trace.looked();
        trace.exit(ExitStatus::Code(0));
        let found = std::iter::from_fn(|| trace.model.next_finding());
        let dropped = found.filter(|it| it.name == Name::ShortSubmitDropped);
        dropped.map(|it| it.doubt).collect::<Vec<_>>()
    };
    assert_eq!(by(true), [Some(Doubt::Below)]);
    assert_eq!(by(false), [None]);
}
