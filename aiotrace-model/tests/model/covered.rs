//! Requests and calls that do what others left, wholly or in part, in other pieces; each with a twin that does not do
//! it.

use aiotrace_common::{abi, synchronous::Call};
use aiotrace_model::{
    event::{
        Address, Args, Body, Change, Event, ExitStatus, File, FileKind, Handle, Iocb, Looked,
        Synchronous,
    },
    model::{Doubt, Name, Outcome, Question, Severity, Verdict},
};

use crate::told::process;
use crate::verdicts::{ACCEPT, EAGAIN, EIO, ERROR, Trace, pwrite, submit, submit_to};

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const PWRITEV: u16 = 8;

fn iocb(address: u64, opcode: u16, fd: u32, offset: i64, nbytes: u64) -> Option<Iocb> {
    let value = abi::Iocb { opcode, fildes: fd, offset, nbytes, ..Default::default() };
    Some(Iocb { address: Some(Address(address)), value: Some(value), read_late: false })
}

fn write(address: u64, offset: i64, nbytes: u64) -> Args {
    submit(vec![iocb(address, PWRITE, 3, offset, nbytes)])
}

fn writev(address: u64, offset: i64, count: u64) -> Args {
    submit(vec![iocb(address, PWRITEV, 3, offset, count)])
}

/// Four adjacent writes of 512 bytes.
fn four() -> Args {
    submit((0..4).map(|it| iocb(it + 1, PWRITE, 3, 512 * it as i64, 512)).collect())
}

fn end(mut trace: Trace) -> Verdict {
    trace.exit(ExitStatus::Code(0));
    trace.verdict()
}

fn refused(args: Args, after: impl FnOnce(&mut Trace)) -> Verdict {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, args);
    trace.looked();
    after(&mut trace);
    end(trace)
}

#[test]
fn what_goes_again_merged_is_retried() {
    let verdict = refused(four(), |trace| trace.call(None, 1, write(9, 0, 2048)));
    assert_eq!((verdict.outcome, verdict.succeeded, verdict.retries), (Outcome::Retried, true, 1));
    // The kernel did not accept the merged write either.
    let verdict = refused(four(), |trace| trace.call(None, -22, write(9, 0, 2048)));
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 4));
    // The merged write meets the next fault.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, four());
    trace.call(Some(ERROR), EAGAIN, write(9, 0, 2048));
    trace.call(None, 1, write(9, 0, 2048));
    trace.exit(ExitStatus::Code(0));
    let told: Vec<_> = trace.verdicts().iter().map(|it| (it.half.text(), it.next_fault)).collect();
    assert_eq!(told, [("retried", true), ("retried", false)]);
    // The twin merges only three of the four.
    let verdict = refused(four(), |trace| trace.call(None, 1, write(9, 0, 1536)));
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1), "{}", verdict.message());
    // Reads do no writes, and another offset is another place.
    let read = || submit(vec![iocb(9, 0, 3, 0, 2048)]);
    let verdict = refused(four(), |trace| trace.call(None, 1, read()));
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 4));
    let verdict = refused(four(), |trace| trace.call(None, 1, write(9, 2048, 2048)));
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 4));
}

#[test]
fn what_goes_again_with_vectors_tells_when_it_completes_what_it_was() {
    let rest = |res: Option<i64>| {
        let mut trace = Trace::new();
        trace.call(Some(ACCEPT), 2, four());
        trace.call(None, 1, writev(9, 1024, 2));
        res.into_iter().for_each(|res| trace.complete(9, res));
        end(trace)
    };
    let verdict = rest(Some(1024));
    assert_eq!((verdict.outcome, verdict.succeeded), (Outcome::Retried, true));
    assert_eq!(verdict.after, Some(500));
    let verdict = rest(Some(512));
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1), "{}", verdict.message());
    let verdict = rest(Some(EIO));
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 2), "{}", verdict.message());
    assert_eq!(rest(None).doubt, Some(Doubt::UnknownLength));

    // Of a request with vectors only the beginning is known.
    let verdict = refused(writev(1, 0, 2), |trace| trace.call(None, 1, write(2, 0, 512)));
    assert_eq!(verdict.doubt, Some(Doubt::UnknownLength));
    let verdict = refused(writev(1, 512, 2), |trace| trace.call(None, 1, write(2, 1024, 512)));
    assert_eq!(verdict.outcome, Outcome::Lost, "its first byte was never written");
}

#[test]
fn what_goes_again_in_pieces_is_retried_once_all_of_them_have() {
    let pieces = |trace: &mut Trace, count: i64| {
        let piece = |it| iocb(it as u64 + 2, PWRITE, 3, 256 * it, 256);
        trace.call(None, count, submit((0..count).map(piece).collect()));
    };
    let verdict = refused(write(1, 0, 1024), |trace| pieces(trace, 4));
    assert_eq!((verdict.outcome, verdict.succeeded, verdict.retries), (Outcome::Retried, true, 1));
    let verdict = refused(write(1, 0, 1024), |trace| pieces(trace, 3));
    assert_eq!((verdict.outcome, verdict.doubt), (Outcome::Unsure, Some(Doubt::Partly)));
    // The last piece is done with pwrite(2).
    let verdict = refused(write(1, 0, 1024), |trace| {
        pieces(trace, 2);
        trace.tell(pwrite(3, 512, 512));
    });
    assert_eq!(verdict.outcome, Outcome::Done);
}

/// A write of 1024 bytes completes with less, or with an errno.
fn short(opcode: u16, res: i64, after: impl FnOnce(&mut Trace)) -> Verdict {
    let mut trace = Trace::new();
    let amount = if opcode == PWRITEV { 2 } else { 1024 };
    trace.call(None, 1, submit(vec![iocb(1, opcode, 3, 0, amount)]));
    trace.complete(1, 1024);
    trace.changed(1, 1024, res);
    trace.reap(1, res, true);
    after(&mut trace);
    end(trace)
}

#[test]
fn the_rest_of_a_short_completion_may_come_in_any_cut() {
    let again = |args: Args, res: i64| {
        move |trace: &mut Trace| {
            trace.call(None, 1, args);
            trace.complete(1, res);
            trace.reap(1, res, false);
        }
    };
    for opcode in [PWRITE, PWRITEV] {
        for (verdict, what) in [
            (short(opcode, 512, again(writev(1, 512, 2), 512)), "vectors"),
            (short(opcode, 512, again(write(1, 512, 512), 512)), "the rest"),
            (short(opcode, 700, again(write(1, 512, 512), 512)), "from the block before"),
            (short(opcode, EIO, again(write(1, 0, 4096), 4096)), "more"),
        ] {
            assert_eq!((verdict.outcome, verdict.succeeded), (Outcome::Retried, true), "{what}");
            assert_eq!((verdict.retries, verdict.after.is_some()), (1, true), "{what}");
        }
        let verdict = short(opcode, 512, |trace| trace.tell(pwrite(3, 512, 512)));
        // From where in memory vectors write is not known.
        let done = if opcode == PWRITE { Outcome::Done } else { Outcome::Unsure };
        assert_eq!(verdict.outcome, done);
        // The twins do not do the rest.
        let verdict = short(opcode, 512, |_| ());
        assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1));
        let verdict = short(opcode, 512, again(write(1, 1024, 512), 512));
        assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1));
        let verdict = short(opcode, 512, again(writev(1, 512, 2), EIO));
        assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1));
        let verdict = short(opcode, 512, again(write(1, 512, 256), 256));
        assert_eq!((verdict.outcome, verdict.doubt), (Outcome::Unsure, Some(Doubt::Partly)));
    }
    // The rest comes in two pieces, one of which fails and is made again.
    let verdict = short(PWRITE, EIO, |trace| {
        trace.call(None, 1, write(1, 0, 512));
        trace.call(None, 1, write(2, 512, 512));
        trace.complete(1, 512);
        trace.complete(2, EIO);
        trace.reap(1, 512, false);
        trace.reap(2, EIO, false);
        trace.call(None, 1, write(3, 512, 512));
        trace.complete(3, 512);
        trace.reap(3, 512, false);
    });
    assert_eq!((verdict.outcome, verdict.succeeded), (Outcome::Retried, true));
}

#[test]
fn a_request_with_vectors_that_did_another_part_is_no_retry() {
    // A request at this offset may reach the rest: that is unknown until it completes.
    let beside = |done_by: Option<Body>, res: i64| {
        short(PWRITE, 512, |trace| {
            trace.call(None, 1, writev(2, 0, 2));
            done_by.into_iter().for_each(|call| trace.tell(call));
            trace.complete(2, res);
            trace.reap(2, res, false);
        })
    };
    let verdict = beside(Some(pwrite(3, 512, 512)), 512);
    assert_eq!((verdict.outcome, verdict.retries), (Outcome::Done, 0), "{}", verdict.message());
    let verdict = beside(None, 512);
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1), "{}", verdict.message());
    // The exact rest goes beside it, and is done before: the program went on with another request first.
    let verdict = short(PWRITE, 512, |trace| {
        trace.call(None, 1, writev(2, 0, 2));
        trace.call(None, 1, write(3, 512, 512));
        trace.complete(3, 512);
        trace.reap(3, 512, false);
        trace.complete(2, 512);
        trace.reap(2, 512, false);
    });
    let told = (verdict.outcome, verdict.doubt, verdict.succeeded);
    assert_eq!(told, (Outcome::Unsure, Some(Doubt::Submitted), true), "{verdict:?}");
    // The twin did this part, too.
    let verdict = beside(None, 1024);
    assert_eq!((verdict.outcome, verdict.retries), (Outcome::Retried, 1), "{}", verdict.message());
}

#[test]
fn the_same_through_another_descriptor_or_context_is_unsure() {
    let other = || submit(vec![iocb(9, PWRITE, 4, 0, 512)]);
    let verdict = refused(write(1, 0, 512), |trace| trace.call(None, 1, other()));
    assert_eq!(verdict.doubt, Some(Doubt::OtherDescriptor));
    let verdict = short(PWRITE, EIO, |trace| trace.call(None, 1, other()));
    assert_eq!(verdict.doubt, Some(Doubt::OtherDescriptor));
    let verdict = refused(four(), |trace| {
        trace.call(None, 0, crate::verdicts::setup(8));
        let merged = vec![iocb(9, PWRITE, 3, 0, 2048)];
        trace.call(None, 1, submit_to(Handle(0x2000), merged));
    });
    assert_eq!(verdict.doubt, Some(Doubt::OtherContext));
}

/// Two equal requests are in one call.
#[test]
fn of_equal_requests_each_may_have_been_submitted_elsewhere() {
    const OTHER: Handle = Handle(0x2000);
    const H: Handle = Handle(0x1000);
    let twice = || submit([1, 1].map(|it| iocb(it, PWRITE, 3, 0, 512)).to_vec());
    let again = |copies: &[Handle], is_closed: bool| {
        let verdict = refused(twice(), |trace| {
            trace.call(None, 0, crate::verdicts::setup(8));
            if is_closed {
                trace.tell(called(Call::Close, 3, None, 0, 0));
            }
            for (address, ctx) in (9..).zip(copies) {
                trace.call(None, 1, submit_to(*ctx, vec![iocb(address, PWRITE, 3, 0, 512)]));
            }
        });
        (verdict.outcome, verdict.doubt, verdict.lost)
    };
    let unsure = |doubt, count| (Outcome::Unsure, Some(doubt), count);
    assert_eq!(again(&[], false), (Outcome::Lost, None, 2));
    assert_eq!(again(&[OTHER], false), (Outcome::Lost, None, 1), "two were refused");
    assert_eq!(again(&[OTHER, OTHER], false), unsure(Doubt::OtherContext, 2));
    assert_eq!(again(&[OTHER, H], false), unsure(Doubt::OtherContext, 1));
    assert_eq!(again(&[H, OTHER], false), unsure(Doubt::OtherContext, 1));
    // All are done, by retries or by the next requests.
    assert_eq!(again(&[OTHER, H, H], false), unsure(Doubt::Submitted, 0));
    // The same of a descriptor that may be of another file since.
    assert_eq!(again(&[H], true), (Outcome::Lost, None, 1), "two were refused");
    assert_eq!(again(&[H, H], true), unsure(Doubt::Closed, 2));
}

#[test]
fn the_rest_of_a_genuine_short_submit_may_come_in_any_cut() {
    let found = |after: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new();
        trace.call(None, 2, four());
        after(&mut trace);
        trace.exit(ExitStatus::Code(0));
        let all = std::iter::from_fn(|| trace.model.next_finding());
        let dropped = all.filter(|it| it.name == Name::ShortSubmitDropped);
        dropped.map(|it| (it.severity, it.doubt, it.numbers()[2].1)).collect::<Vec<_>>()
    };
    assert_eq!(found(&|_| ()), [(Severity::Error, None, 2)]);
    assert_eq!(found(&|trace| trace.call(None, 1, write(9, 1024, 1024))), []);
    let with_vectors = |res| {
        move |trace: &mut Trace| {
            trace.call(None, 1, writev(9, 1024, 2));
            trace.complete(9, res);
        }
    };
    assert_eq!(found(&with_vectors(1024)), []);
    assert_eq!(found(&with_vectors(512)), [(Severity::Error, None, 1)]);
    let other =
        |trace: &mut Trace| trace.call(None, 1, submit(vec![iocb(9, PWRITE, 4, 1024, 1024)]));
    assert_eq!(found(&other), [(Severity::Warning, Some(Doubt::OtherDescriptor), 2)]);
    let half = |trace: &mut Trace| trace.call(None, 1, write(9, 1024, 256));
    assert_eq!(found(&half), [(Severity::Error, None, 1)], "one was not touched");
    // The kernel refused it, and its error is for the program to handle.
    assert_eq!(
        found(&|trace| trace.call(None, -22, write(9, 1024, 512))),
        [(Severity::Error, None, 1)]
    );
}

/// `CALL(fd, ..., count) = ret` at this offset.
fn called(call: Call, fd: u32, offset: Option<i64>, count: u64, ret: i64) -> Body {
    Body::Synchronous(Synchronous { call, entered: None, fd, offset, memory: None, count, ret })
}

#[test]
fn what_other_calls_do_or_may_do_is_not_lost() {
    let by = |args: Args, body: Body| refused(args, |trace| trace.tell(body));
    let verdict = by(write(1, 0, 512), called(Call::Writev, 3, Some(0), 2, 512));
    assert_eq!(verdict.outcome, Outcome::Done);
    let verdict = by(write(1, 0, 512), called(Call::Readv, 3, Some(0), 2, 512));
    assert_eq!(verdict.outcome, Outcome::Lost);
    let read = submit(vec![iocb(1, PREAD, 3, 0, 512)]);
    for (call, ret, outcome) in [
        (Call::Read, 512, Outcome::Done),
        (Call::Readv, 512, Outcome::Done),
        (Call::Readv, -5, Outcome::Lost),
        (Call::Writev, 512, Outcome::Lost),
    ] {
        let verdict = by(read.clone(), called(call, 3, Some(0), 2, ret));
        assert_eq!(verdict.outcome, outcome, "{call:?} = {ret}");
    }
    let sync = |opcode| submit(vec![iocb(1, opcode, 3, 0, 0)]);
    for opcode in [2, 3] {
        for (call, fd, outcome) in [
            (Call::Sync, u32::MAX, Outcome::Done),
            (Call::Syncfs, 3, Outcome::Done),
            (Call::Syncfs, 4, Outcome::Unsure),
            (Call::Fdatasync, 3, if opcode == 3 { Outcome::Done } else { Outcome::Unsure }),
            (Call::Sendfile, 3, Outcome::Lost),
            (Call::IoUringEnter, 9, Outcome::Unsure),
        ] {
            let verdict =
                by(sync(opcode), called(call, fd, None, 0, i64::from(call == Call::IoUringEnter)));
            assert_eq!(verdict.outcome, outcome, "{opcode} {call:?}");
        }
    }
    for call in [Call::Sendfile, Call::CopyFileRange, Call::Splice, Call::IoUringEnter] {
        let verdict = by(write(1, 0, 512), called(call, 9, None, 0, 1));
        assert_eq!(verdict.doubt, Some(Doubt::Unseen), "{call:?}");
        let verdict = by(write(1, 0, 512), called(call, 9, None, 0, -22));
        assert_eq!(verdict.outcome, Outcome::Lost, "{call:?}");
    }
}

#[test]
fn what_comes_through_the_number_of_a_descriptor_that_was_closed_is_unsure() {
    let closed = |close: Body, again: &dyn Fn(&mut Trace)| {
        refused(write(1, 0, 512), |trace| {
            trace.tell(close);
            again(trace);
        })
    };
    let again = |trace: &mut Trace| trace.call(None, 1, write(1, 0, 512));
    let merged = |trace: &mut Trace| trace.call(None, 1, write(1, 0, 1024));
    let at_once = |trace: &mut Trace| trace.tell(pwrite(3, 0, 512));
    let ways: [&dyn Fn(&mut Trace); 3] = [&again, &merged, &at_once];
    for how in ways {
        for (call, fd, last) in [(Call::Close, 3, 0), (Call::Dup2, 3, 0), (Call::CloseRange, 2, 4)]
        {
            let verdict = closed(called(call, fd, None, last, 0), how);
            assert_eq!(verdict.doubt, Some(Doubt::Closed), "{}", verdict.message());
        }
        // Another descriptor was closed.
        for (call, fd, last) in [(Call::Close, 4, 0), (Call::CloseRange, 4, 9)] {
            let verdict = closed(called(call, fd, None, last, 0), how);
            assert!(matches!(verdict.outcome, Outcome::Retried | Outcome::Done));
        }
    }
    let verdict = closed(called(Call::Close, 3, None, 0, 0), &|_| ());
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1), "nothing else was done");

    // The same after a completion, and after a short io_submit of the kernel's own.
    let verdict = short(PWRITE, EIO, |trace| {
        trace.tell(called(Call::Close, 3, None, 0, 0));
        trace.call(None, 1, write(1, 0, 1024));
    });
    assert_eq!(verdict.doubt, Some(Doubt::Closed));
    let mut trace = Trace::new();
    trace.call(None, 3, four());
    trace.tell(called(Call::Close, 3, None, 0, 0));
    trace.call(None, 1, write(4, 1536, 512));
    trace.exit(ExitStatus::Code(0));
    let found: Vec<_> = std::iter::from_fn(|| trace.model.next_finding()).collect();
    let dropped = found.iter().find(|it| it.name == Name::ShortSubmitDropped);
    assert_eq!(
        dropped.map(|it| (it.severity, it.doubt)),
        Some((Severity::Warning, Some(Doubt::Closed)))
    );
}

#[test]
fn a_child_with_the_same_files_does_it_or_may_do_it() {
    let other = |trace: &mut Trace, body: Body| {
        trace.now += 1000;
        let time = trace.now;
        trace.model.handle_event(&Event { time, pid: 8, tid: 8, body });
    };
    let fork = |followed| process(Some(80), Change::Fork { child: 8, followed });
    let exit = || process(Some(80), Change::Exit { status: ExitStatus::Code(0) });
    let verdict = |after: &dyn Fn(&mut Trace)| refused(write(1, 0, 512), |trace| after(trace));

    let done = verdict(&|trace| {
        trace.tell(fork(true));
        other(trace, pwrite(3, 0, 512));
        other(trace, exit());
    });
    assert_eq!(done.outcome, Outcome::Done, "{}", done.message());
    // The twins' children do nothing, or something else.
    let lost = verdict(&|trace| {
        trace.tell(fork(true));
        other(trace, pwrite(3, 512, 512));
        other(trace, exit());
    });
    assert_eq!((lost.outcome, lost.lost), (Outcome::Lost, 1));
    let goes_on = verdict(&|trace| trace.tell(fork(true)));
    assert_eq!(goes_on.doubt, Some(Doubt::Forked));
    let unfollowed = verdict(&|trace| trace.tell(fork(false)));
    assert_eq!(unfollowed.doubt, Some(Doubt::Forked));
    let other_program = verdict(&|trace| {
        trace.tell(fork(true));
        other(trace, process(Some(81), Change::Exec { path: b"other".to_vec() }));
    });
    assert_eq!(other_program.doubt, Some(Doubt::Forked));
    let closes = verdict(&|trace| {
        trace.tell(fork(true));
        other(trace, called(Call::Close, 3, None, 0, 0));
        other(trace, exit());
    });
    assert_eq!(closes.doubt, Some(Doubt::Forked));

    // A child that existed before the fault.
    let mut trace = Trace::new();
    trace.tell(fork(true));
    trace.call(Some(ERROR), EAGAIN, write(1, 0, 512));
    other(&mut trace, pwrite(3, 0, 512));
    assert_eq!(end(trace).outcome, Outcome::Lost);

    // The rest of a short io_submit of the kernel's own.
    let mut trace = Trace::new();
    trace.call(None, 3, four());
    trace.tell(fork(true));
    other(&mut trace, pwrite(3, 1536, 512));
    other(&mut trace, exit());
    trace.exit(ExitStatus::Code(0));
    let found: Vec<_> = std::iter::from_fn(|| trace.model.next_finding()).collect();
    assert!(found.iter().all(|it| it.name != Name::ShortSubmitDropped), "{found:?}");
}

#[test]
fn the_next_write_of_a_log_or_a_pipe_looks_like_the_one_that_was_dropped() {
    let file = |kind, append| File { kind, append: Some(append), ..Default::default() };
    for (file, doubt) in [
        (file(FileKind::Storage, false), None),
        (file(FileKind::Storage, true), Some(Doubt::Append)),
        (file(FileKind::Other, false), Some(Doubt::Stream)),
    ] {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, write(1, 0, 64));
        let asked: Vec<_> = std::iter::from_fn(|| trace.model.next_question()).collect();
        assert!(asked.contains(&Question::File { pid: 7, fd: 3 }), "{asked:?}");
        trace.tell(Body::Looked(Looked::File { fd: 3, file: Some(file), until: trace.now }));
        trace.call(None, 1, write(1, 0, 64));
        let verdict = end(trace);
        let outcome = if doubt.is_some() { Outcome::Unsure } else { Outcome::Retried };
        assert_eq!((verdict.outcome, verdict.doubt), (outcome, doubt), "{}", verdict.message());
    }
}

#[test]
fn what_was_not_written_to_a_socket_may_have_been_sent() {
    for (kind, outcome) in [(FileKind::Storage, Outcome::Lost), (FileKind::Other, Outcome::Unsure)]
    {
        let mut trace = Trace::new();
        // The descriptor led to a pipe before.
        let before = File { kind: FileKind::Other, ..Default::default() };
        trace.tell(Body::Looked(Looked::File { fd: 3, file: Some(before), until: trace.now }));
        trace.call(Some(ERROR), EAGAIN, write(1, 0, 64));
        let file = File { kind, append: Some(false), ..Default::default() };
        trace.tell(Body::Looked(Looked::File { fd: 3, file: Some(file), until: trace.now }));
        let verdict = end(trace);
        assert_eq!(verdict.outcome, outcome, "{}", verdict.message());
    }
}
