//! Findings, each beside a twin about which nothing is found.

use aiotrace_common::abi;
use aiotrace_model::{
    counted::{CallCounts, Counted},
    event::{
        Address, Adopted, Alignment, AlignmentSource, Args, Body, Change, Completion, Event,
        ExitStatus, File, FileKind, Gone, Handle, How, IoEvent, Iocb, Looked, Open, Ring,
        RingFound, Syscall, Unfinished, User, Why,
    },
    model::{Doubt, Finding, Model, Name, Question, Report, Settings, Severity, Thresholds},
};

use crate::{
    found::{H, POLL, PREAD, PWRITE, Trace, call_of, getevents_of, one, request, submit},
    told::{SECOND, process},
};

const EBADF: i64 = -9;
const EAGAIN: i64 = -11;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const ENOSPC: i64 = -28;
const NOWAIT: u32 = 8;

fn trace() -> Trace {
    let mut trace = Trace::seen(true);
    trace.setup();
    trace
}

fn of(name: Name, findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|it| it.name == name).collect()
}

/// Counts and messages of a finding, from the report.
fn told(report: &Report, name: Name) -> Vec<(u64, String)> {
    let of = report.findings.iter().filter(|it| it.name == name);
    of.map(|it| (it.count, it.message())).collect()
}

fn with(change: impl FnOnce(&mut abi::Iocb)) -> Option<Iocb> {
    let mut iocb = request(1, PWRITE, 4096)?;
    change(iocb.value.as_mut()?);
    Some(iocb)
}

fn completes(trace: &mut Trace, res: i64) {
    let event = Some(IoEvent { data: 0, obj: 1, res, res2: 0 });
    trace.tell(Body::Completion(Completion::exact(H, event)));
}

/// Submits a request that completes before its io_submit returns, or after.
fn does(trace: &mut Trace, iocb: Option<Iocb>, res: i64, is_inline: bool) {
    let entered = trace.now + 1;
    if is_inline {
        trace.now += 1;
        completes(trace, res);
    }
    trace.call_since(entered, 1, submit(vec![iocb]));
    if !is_inline {
        completes(trace, res);
    }
}

/// A call on a ring that can be read fails.
fn refuse(trace: &mut Trace, ret: i64, args: Args) {
    let mut call = call_of(trace.now + 1, ret, args);
    call.ring = Some(Ring { head: 0, tail: 0, nr: 4 });
    trace.tell(Body::Call(call));
}

fn is(trace: &mut Trace, file: Option<File>) {
    is_at(trace, 3, file);
}

/// A look at the file behind a descriptor, which takes a microsecond.
fn is_at(trace: &mut Trace, fd: u32, file: Option<File>) {
    let until = trace.now + 1000;
    trace.tell(Body::Looked(Looked::File { fd, file, until }));
    trace.now = until;
}

const DISK: File = File {
    kind: FileKind::Storage,
    size: Some(0),
    id: Some((1, 2)),
    direct: Some(true),
    in_memory: false,
    append: Some(false),
    alignment: None,
};

#[test]
fn a_refused_io_submit_is_told_once_and_counted_with_its_cause() {
    let mut trace = trace();
    for _ in 0..3 {
        trace.now += SECOND;
        trace.call(EBADF, one(PWRITE));
    }
    let fsync = with(|it| (it.opcode, it.buf) = (2, 0x1000));
    trace.call(EINVAL, submit(vec![fsync]));
    let found = trace.findings();
    let messages: Vec<String> = found.iter().map(|it| it.message()).collect();
    assert_eq!(
        messages,
        [
            "io_submit = EBADF (Bad file descriptor): pwrite fd=3 offset=0 nbytes=512: fd 3 is not open, or not \
             open for writing",
            "io_submit = EINVAL (Invalid argument): fsync fd=3: aio_buf, aio_nbytes and aio_offset are set, and \
             fsync takes none",
        ]
    );
    assert!(found.iter().all(|it| it.severity == Severity::Warning && it.doubt.is_none()));
    let report = trace.model.report();
    let first = report.findings.iter().find(|it| it.count == 3).unwrap();
    assert!(first.last - first.time >= 2 * SECOND);
    let refused: Vec<(u16, u64, u64)> =
        report.kinds.iter().map(|it| (it.opcode.0, it.done.requests, it.refused)).collect();
    assert_eq!(refused, [(PWRITE, 0, 3), (2, 0, 1)]);
}

#[test]
fn what_is_no_failure_of_the_program_is_not_told_as_one() {
    let mut trace = trace();
    for ret in [-4, -514] {
        trace.call(ret, getevents_of(1, 1));
    }
    // The program destroys the context that io_setup failed to make.
    trace.call(EINVAL, Args::Destroy { ctx: Handle(0) });
    let iocb = Address(1);
    trace.call(1, one(POLL));
    trace.call(-115, Args::Cancel { ctx: H, iocb, result: Address(0), value: None });
    completes(&mut trace, 0);
    // These failures have findings of their own.
    trace.call(EAGAIN, one(PREAD));
    trace.call(EAGAIN, Args::Setup { nr_events: 4, ctxp: Address(0), stored: None });
    trace.call(EINVAL, Args::Cancel { ctx: H, iocb, result: Address(0), value: None });
    trace.destroy(0);
    trace.call(EINVAL, one(PREAD));
    trace.model.finish(trace.now);
    assert_eq!(of(Name::RefusedCalls, &trace.findings()), [] as [&Finding; 0]);
    assert_eq!(told(&trace.model.report(), Name::UseAfterDestroy).len(), 1);
}

#[test]
fn iovecs_are_looked_up_when_they_may_be_the_reason() {
    for is_answered in [true, false] {
        let mut trace = trace();
        let vector = with(|it| (it.opcode, it.buf, it.nbytes) = (8, 0x5000, 6));
        refuse(&mut trace, EINVAL, submit(vec![vector]));
        trace.look(RingFound::There(Ring { head: 0, tail: 0, nr: 4 }));
        assert_eq!(trace.found(), []);
        if is_answered {
            let list = Some(vec![(Address(0x1000), 512), (Address(0), u64::MAX)]);
            trace.tell(Body::Looked(Looked::Iovecs { at: Address(0x5000), list }));
        } else {
            trace.model.finish(trace.now);
        }
        let findings = trace.findings();
        let text = "io_submit = EINVAL (Invalid argument): pwritev fd=3 offset=4096 iovcnt=6";
        let now = "; its iovecs now: [{0x1000, 512}, {0x0, 18446744073709551615}, ... 4 more]";
        let expected = if is_answered { format!("{text}{now}") } else { text.to_owned() };
        assert_eq!(findings[0].message(), expected);
    }
}

#[test]
fn an_unknown_handle_is_refused() {
    let mut trace = trace();
    let args = Args::Destroy { ctx: Handle(0x9000) };
    trace.call(EINVAL, args);
    let text =
        "io_destroy(0x9000) = EINVAL (Invalid argument): no context with this handle is known";
    assert_eq!(trace.findings()[0].message(), text);
}

/// A thread that waits while another thread destroys the context gets EINVAL before io_destroy returns.
#[test]
fn einval_of_a_context_that_seems_to_live_waits_for_its_end() {
    for is_destroyed in [true, false] {
        let mut trace = Trace::seen(false);
        trace.setup();
        let entered = trace.now;
        trace.call_since(entered, EINVAL, getevents_of(1, 1));
        assert_eq!(trace.found(), []);
        if is_destroyed {
            trace.destroy(0);
            trace.model.finish(trace.now);
            assert_eq!(trace.found(), []);
        } else {
            trace.look(RingFound::There(Ring { head: 0, tail: 0, nr: 4 }));
            assert_eq!(trace.found(), [(Name::RefusedCalls, Severity::Warning)]);
        }
    }
    // The trace ends while a thread is in io_destroy.
    let mut trace = Trace::seen(false);
    trace.setup();
    trace.call(EINVAL, getevents_of(1, 1));
    let (entered, args) = (Some(trace.now), Args::Destroy { ctx: H });
    trace.tell(Body::Unfinished(Unfinished { entered, args, why: Why::TraceEnds }));
    trace.model.finish(trace.now);
    assert_eq!(trace.found(), []);
}

/// A call that failed before io_destroy began did not fail because of it.
#[test]
fn einval_from_before_io_destroy_is_told() {
    let fsync = || submit(vec![with(|it| (it.opcode, it.nbytes, it.offset) = (2, 0, 0))]);
    let told = |trace: &mut Trace| {
        trace.model.finish(trace.now);
        of(Name::RefusedCalls, &trace.findings()).len()
    };
    let mut before = trace();
    refuse(&mut before, EINVAL, fsync());
    before.now += 1;
    before.destroy(0);
    let findings = before.findings();
    let text = "perhaps fd 3 has no fsync, as pipes, sockets and eventfds have none";
    assert!(findings.len() == 1 && findings[0].message().ends_with(text), "{findings:?}");
    // While one io_destroy waits for its requests, another thread makes a context at the same address and ends it.
    let mut both = trace();
    let first = both.now;
    both.call(EINVAL, getevents_of(1, 1));
    both.gone(How::Destroy, Some(0));
    both.setup();
    both.look(RingFound::There(Ring { head: 0, tail: 0, nr: 4 }));
    both.destroy(0);
    assert_eq!(both.found(), []);
    both.call_since(first, 0, Args::Destroy { ctx: H });
    assert_eq!(told(&mut both), 0);
}

#[test]
fn where_calls_are_counted_one_that_fails_by_design_does_not_hide_another() {
    let settings = Settings {
        thresholds: Thresholds::default(),
        exact_completions: false,
        every_call: false,
        synchronous: true,
        stops: false,
    };
    let mut trace = Trace { model: Model::new(settings), now: SECOND };
    trace.tell(process(Some(70), Change::Seen));
    trace.call(EINVAL, Args::Destroy { ctx: Handle(0) });
    trace.call(EINVAL, Args::Destroy { ctx: Handle(0x9000) });
    let key = (7, Syscall::Destroy);
    trace.model.counted(Counted {
        time: trace.now,
        calls: [(key, CallCounts { failed: 2, ..CallCounts::default() })].into(),
        errors: [(key, [(EINVAL, 2)].into())].into(),
        ..Counted::default()
    });
    let rows = told(&trace.model.report(), Name::RefusedCalls);
    assert!(rows.len() == 1 && rows[0].1.starts_with("io_destroy(0x9000) = EINVAL"), "{rows:?}");
}

#[test]
fn where_calls_are_counted_refused_ones_are_told_from_the_counts() {
    let thresholds = Thresholds::default();
    let settings = Settings {
        thresholds,
        exact_completions: false,
        every_call: false,
        synchronous: true,
        stops: false,
    };
    let mut model = Model::new(settings);
    let counted = |time, count| {
        let errors = [(EBADF, count), (EAGAIN, 2), (EINVAL, 1), (-4, 9)].into();
        let key = (7, Syscall::Submit);
        Counted {
            time,
            calls: [(key, CallCounts { failed: count + 12, ..CallCounts::default() })].into(),
            errors: [(key, errors)].into(),
            ..Counted::default()
        }
    };
    model.counted(counted(SECOND, 20));
    model.counted(counted(2 * SECOND, 60));
    let mut rows: Vec<(u64, String)> = told(&model.report(), Name::RefusedCalls);
    rows.sort();
    assert_eq!(
        rows,
        [
            (1, "io_submit = EINVAL (Invalid argument)".to_owned()),
            (2, "io_submit = EAGAIN (Resource temporarily unavailable)".to_owned()),
            (60, "io_submit = EBADF (Bad file descriptor)".to_owned()),
        ]
    );
    // For calls without events, it is unknown whether somebody destroyed the context.
    let report = model.report();
    let doubts = report.findings.iter().map(|it| (it.message().contains("EINVAL"), it.doubt));
    for (is_einval, doubt) in doubts {
        assert_eq!(doubt, is_einval.then_some(Doubt::LeftOut));
    }
}

/// What one descriptor is refused for says nothing about another.
#[test]
fn refused_requests_are_told_by_descriptor_and_operation() {
    let mut trace = trace();
    for (fd, opcode) in [(3, PREAD), (4, PREAD), (4, PWRITE), (3, PREAD)] {
        trace.call(EBADF, submit(vec![with(|it| (it.fildes, it.opcode) = (fd, opcode))]));
    }
    let mut rows = told(&trace.model.report(), Name::RefusedCalls);
    rows.sort();
    assert_eq!(rows.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 1, 2], "{rows:?}");
    assert!(rows[2].1.contains("pread fd=3"), "{rows:?}");
}

/// Calls other than io_submit fail, too.
#[test]
fn other_calls_that_are_refused_are_told_too() {
    let cancel = || Args::Cancel { ctx: H, iocb: Address(8), result: Address(0), value: None };
    let mut trace = trace();
    trace.call(1, one(PREAD));
    for _ in 0..3 {
        trace.call(EFAULT, getevents_of(1, 1));
    }
    for _ in 0..2 {
        trace.call(EFAULT, cancel());
    }
    let mut rows = told(&trace.model.report(), Name::RefusedCalls);
    rows.sort();
    assert_eq!(
        rows,
        [
            (
                2,
                "io_cancel(0x1000, 0x8) = EFAULT (Bad address): the iocb at 0x8 cannot be read"
                    .to_owned(),
            ),
            (
                3,
                "io_getevents(0x1000, min_nr=1, nr=1) = EFAULT (Bad address): the timeout cannot be read, or the \
                 events cannot be written"
                    .to_owned(),
            ),
        ]
    );
}

#[test]
fn why_requests_are_complete_at_once_is_looked_up() {
    let told = |file: Option<File>, last: Option<Option<File>>, offset: fn(u64) -> i64| {
        let mut trace = trace();
        is(&mut trace, None);
        for round in 0..20 {
            does(&mut trace, request(1, PWRITE, offset(round)), 512, true);
            if round == 0 {
                is(&mut trace, file);
            }
        }
        assert_eq!(trace.findings().len(), 0, "it is looked up once more");
        match last {
            Some(last) => {
                is(&mut trace, last);
                trace.model.handle_timeout(trace.now + SECOND);
            }
            None => trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) })),
        }
        let findings = trace.findings();
        let [finding] = &of(Name::InlineCompletion, &findings)[..] else { panic!("{findings:?}") };
        finding.message().split_once("completed: ").unwrap().1.to_owned()
    };
    let cause = |file, offset| told(file, Some(file), offset);
    let file = |change: fn(&mut File)| {
        let mut file = DISK;
        change(&mut file);
        Some(file)
    };
    let grows = |round: u64| 512 * round as i64;
    assert!(cause(Some(DISK), grows).contains("the writes extend the file"));
    assert!(cause(file(|it| it.size = Some(1 << 20)), grows).contains("very fast"));
    assert!(cause(Some(DISK), |_| 0).contains("very fast"), "only the first one extends it");
    assert!(cause(file(|it| it.direct = Some(false)), grows).contains("without O_DIRECT"));
    assert!(cause(file(|it| it.in_memory = true), grows).contains("in memory"));
    assert!(cause(file(|it| it.kind = FileKind::Other), grows).contains("neither a regular file"));
    assert!(cause(None, grows).contains("could not be looked up"));
    // The file is longer than the writes have made it; or exactly as long.
    let longer = file(|it| it.size = Some(1 << 20));
    assert!(told(Some(DISK), Some(longer), grows).contains("not only these writes"));
    let as_long = file(|it| it.size = Some(512 * 20));
    assert!(told(Some(DISK), Some(as_long), grows).starts_with("the writes extend the file"));
    // The descriptor leads to another file, or the file was opened in another way.
    let memory = file(|it| (it.in_memory, it.id) = (true, Some((9, 9))));
    assert!(told(memory, Some(Some(DISK)), grows).contains("another file before"));
    let buffered = file(|it| it.direct = Some(false));
    assert!(told(buffered, Some(Some(DISK)), grows).contains("opened differently"));
    // The file was closed before it could be looked up again.
    let perhaps = "perhaps because the writes extend the file";
    assert!(told(Some(DISK), Some(None), grows).starts_with(perhaps));
    assert!(told(Some(DISK), None, grows).starts_with(perhaps));
}

/// The first look came late: the size that it found has what writes added that are told only afterwards.
#[test]
fn what_was_written_before_the_first_look_does_not_tell_whether_the_file_was_extended() {
    let told = |later: u64| {
        let mut trace = trace();
        is(&mut trace, None);
        let grows = |trace: &mut Trace, round: u64| {
            does(trace, request(1, PWRITE, 512 * round as i64), 512, true);
        };
        grows(&mut trace, 0);
        let until = trace.now + SECOND / 10;
        let file = Some(File { size: Some(512 * 20), ..DISK });
        trace.tell(Body::Looked(Looked::File { fd: 3, file, until }));
        (1..20).for_each(|round| grows(&mut trace, round));
        assert!(trace.now < until);
        trace.now = until;
        (20..20 + later).for_each(|round| grows(&mut trace, round));
        let file = Some(File { size: Some(512 * (20 + later)), ..DISK });
        is(&mut trace, file);
        trace.now += SECOND;
        trace.model.finish(trace.now);
        let findings = trace.findings();
        let [finding] = &of(Name::InlineCompletion, &findings)[..] else { panic!("{findings:?}") };
        finding.message().split_once("completed: ").unwrap().1.to_owned()
    };
    assert!(told(20).starts_with("the writes extend the file"), "{}", told(20));
    assert!(told(5).contains("perhaps writes that extended it before"), "{}", told(5));
}

#[test]
fn requests_that_fail_at_once_or_complete_later_say_nothing_about_the_file() {
    let mut trace = trace();
    for round in 0..40 {
        // A write fails at once, and another one later.
        does(&mut trace, request(1, PWRITE, 0), ENOSPC, true);
        does(&mut trace, request(1, PWRITE, 512 * round), 512, false);
        is(&mut trace, Some(DISK));
    }
    trace.model.finish(trace.now);
    assert_eq!(of(Name::InlineCompletion, &trace.findings()), [] as [&Finding; 0]);
}

#[test]
fn descriptors_of_one_file_are_one_finding() {
    let mut trace = trace();
    for fd in 10..510 {
        for _ in 0..17 {
            does(&mut trace, with(|it| it.fildes = fd), 512, true);
        }
        is_at(&mut trace, fd, Some(DISK));
        trace.model.handle_timeout(trace.now + SECOND);
        trace.now += 2 * SECOND;
    }
    trace.model.finish(trace.now);
    let rows = told(&trace.model.report(), Name::InlineCompletion);
    assert_eq!(rows.iter().map(|it| it.0).collect::<Vec<_>>(), [500], "{rows:?}");
    assert_eq!(of(Name::InlineCompletion, &trace.findings()).len(), 1);
}

/// Files are open at the same time: files that were judged make room, and the others are not forgotten for new ones.
#[test]
fn of_many_descriptors_the_first_ones_are_judged() {
    let mut trace = trace();
    for _ in 0..17 {
        for fd in 10..1300 {
            does(&mut trace, with(|it| it.fildes = fd), 512, true);
        }
    }
    // One file is judged, and another one gets its place.
    for _ in 0..2 {
        is_at(&mut trace, 10, Some(DISK));
        for _ in 0..17 {
            does(&mut trace, with(|it| it.fildes = 10), 512, true);
        }
    }
    trace.now += SECOND;
    trace.model.handle_timeout(trace.now);
    for _ in 0..17 {
        does(&mut trace, with(|it| it.fildes = 5000), 512, true);
    }
    trace.model.finish(trace.now);
    let rows = told(&trace.model.report(), Name::InlineCompletion);
    assert_eq!(rows.iter().map(|it| it.0).sum::<u64>(), 1025, "{rows:?}");
}

fn direct(memory: u32, range: u32, source: AlignmentSource) -> File {
    let alignment = Some(Alignment { memory, write: range, read: range, source });
    File { direct: Some(true), alignment, ..DISK }
}

/// A request with this buffer, offset and length gives EINVAL, and this file is behind its descriptor: the findings.
fn told_of_einval(
    before: Option<File>,
    (buf, offset, nbytes): (u64, i64, u64),
    file: Option<File>,
) -> (Name, Option<Doubt>, Vec<(&'static str, i64)>) {
    let mut trace = trace();
    does(&mut trace, request(1, PWRITE, 0), 512, true);
    is(&mut trace, before);
    trace.now += SECOND;
    does(
        &mut trace,
        with(|it| (it.buf, it.offset, it.nbytes) = (buf, offset, nbytes)),
        EINVAL,
        true,
    );
    assert_eq!(trace.found(), [], "the file is asked for");
    trace.now += 1000;
    is(&mut trace, file);
    let findings = trace.findings();
    let [finding] = &findings[..] else { panic!("{findings:?}") };
    (finding.name, finding.doubt, finding.numbers())
}

#[test]
fn einval_of_a_request_that_is_not_aligned_says_by_how_much_it_is_not() {
    use AlignmentSource::{Device, FileSystem, Statx};
    let disk = direct(4, 512, Statx);
    let told = |request, file| told_of_einval(file, request, file);
    let (name, doubt, numbers) = told((0x1003, 100, 1000), Some(disk));
    assert_eq!((name, doubt), (Name::DirectIoMisaligned, None));
    assert_eq!(
        numbers,
        [
            ("range_align", 512),
            ("memory_align", 4),
            ("offset_over", 100),
            ("length_over", 488),
            ("buffer_over", 3)
        ]
    );
    let numbers = told((0x1004, 512, 513), Some(disk)).2;
    assert_eq!(numbers[2..], [("length_over", 1)]);
    for (request, file, text) in [
        ((0x1004, 512, 1024), Some(disk), "it is aligned"),
        ((0x1003, 100, 1000), None, "it cannot be looked up"),
        ((0x1003, 100, 1000), Some(DISK), "it asks for no alignment"),
    ] {
        assert_eq!(told(request, file).0, Name::FailedCompletion, "{text}");
    }
    // The alignment is a guess.
    for source in [Device, FileSystem] {
        let (name, doubt, _) = told((0x1003, 100, 1000), Some(direct(512, 512, source)));
        assert_eq!((name, doubt), (Name::DirectIoMisaligned, Some(Doubt::Guessed)));
    }
    // Before, it was another file, or was not looked up, or was opened in another way: perhaps still when the request
    // was made.
    let buffered = File { direct: Some(false), alignment: None, ..disk };
    for before in [Some(File { id: Some((3, 4)), ..disk }), None, Some(buffered)] {
        let (name, doubt, _) = told_of_einval(before, (0x1003, 100, 1000), Some(disk));
        assert_eq!((name, doubt), (Name::DirectIoMisaligned, Some(Doubt::Later)), "{before:?}");
    }
}

#[test]
fn reads_may_be_aligned_to_less_than_writes() {
    let file = File {
        alignment: Some(Alignment {
            memory: 4,
            write: 4096,
            read: 512,
            source: AlignmentSource::Statx,
        }),
        ..DISK
    };
    for (opcode, name) in [(PREAD, Name::FailedCompletion), (PWRITE, Name::DirectIoMisaligned)] {
        let mut trace = trace();
        let iocb = with(|it| (it.opcode, it.offset, it.nbytes) = (opcode, 512, 512));
        does(&mut trace, iocb, EINVAL, true);
        is(&mut trace, Some(file));
        assert_eq!(trace.found(), [(name, Severity::Warning)]);
    }
}

#[test]
fn of_vectors_each_part_must_be_aligned() {
    let told = |offset, list: Option<Vec<(Address, u64)>>| {
        let mut trace = trace();
        let iocb = with(|it| (it.opcode, it.buf, it.nbytes, it.offset) = (8, 0x5000, 3, offset));
        does(&mut trace, iocb, EINVAL, true);
        is(&mut trace, Some(direct(8, 512, AlignmentSource::Statx)));
        trace.tell(Body::Looked(Looked::Iovecs { at: Address(0x5000), list }));
        let findings = trace.findings();
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        (finding.name, finding.doubt, finding.numbers().get(2..).map(<[_]>::to_vec))
    };
    let good = (Address(0x1000), 512);
    let parts = |third| Some(vec![good, good, third]);
    let misaligned = |numbers: &[(&'static str, i64)]| {
        (Name::DirectIoMisaligned, Some(Doubt::Later), Some(numbers.to_vec()))
    };
    let failed = (Name::FailedCompletion, None, None);
    assert_eq!(
        told(512, parts((Address(0x1001), 512))),
        misaligned(&[("buffer_over", 1), ("iovec", 2)])
    );
    assert_eq!(
        told(512, parts((Address(0x1000), 7))),
        misaligned(&[("length_over", 7), ("iovec", 2)])
    );
    assert_eq!(told(7, parts(good)), misaligned(&[("offset_over", 7)]));
    assert_eq!(told(512, parts(good)), failed);
    assert_eq!(told(512, None), failed);
}

/// However often a program fails, its files are looked at now and then; and all of it is counted.
#[test]
fn what_is_not_aligned_is_counted_without_a_look_for_each() {
    let counted = |fds: u32, calls: u32, file: Option<File>| {
        let (mut trace, mut looks) = (trace(), 0);
        for number in 0..calls {
            let fd = 3 + number % fds;
            does(&mut trace, with(|it| (it.fildes, it.offset) = (fd, 100)), EINVAL, true);
            while let Some(question) = trace.model.next_question() {
                let Question::File { fd, .. } = question else { continue };
                looks += 1;
                is_at(&mut trace, fd, file);
            }
        }
        trace.model.finish(trace.now);
        let report = trace.model.report();
        let of = |name| told(&report, name).iter().map(|it| it.0).sum::<u64>();
        (looks, of(Name::DirectIoMisaligned), of(Name::FailedCompletion))
    };
    let disk = Some(direct(4, 512, AlignmentSource::Statx));
    let (looks, misaligned, failed) = counted(1, 5000, disk);
    assert_eq!((misaligned, failed), (5000, 0));
    assert!(looks < 10, "{looks}");
    let (looks, misaligned, failed) = counted(2000, 2000, disk);
    assert_eq!(misaligned + failed, 2000);
    assert!(looks <= 2 * 64 + 10, "{looks}");
    // That it is aligned, or asks for nothing, is remembered, too.
    let (looks, _, failed) = counted(1, 5000, None);
    assert_eq!(failed, 5000);
    assert!(looks < 10, "{looks}");
}

#[test]
fn a_request_whose_file_is_not_looked_up_failed_all_the_same() {
    let mut trace = trace();
    for length in 1..400 {
        does(&mut trace, with(|it| (it.fildes, it.nbytes) = (length, 100)), EINVAL, true);
    }
    trace.model.finish(trace.now);
    let counts = told(&trace.model.report(), Name::FailedCompletion);
    assert_eq!(counts.iter().map(|it| it.0).sum::<u64>(), 399, "{counts:?}");
}

/// Reads of one descriptor at these offsets, all of which give nothing; `at_a_time` are submitted at a time.
fn reads_nothing(trace: &mut Trace, at_a_time: usize, places: &[i64]) {
    for places in places.chunks(at_a_time) {
        let read = |place: &i64| with(|it| (it.opcode, it.offset) = (PREAD, *place));
        trace.call(places.len() as i64, submit(places.iter().map(read).collect()));
        places.iter().for_each(|_| completes(trace, 0));
    }
}

#[test]
fn reads_in_a_row_behind_the_end_are_told_and_no_others() {
    const FILE: File = File { size: Some(1000), direct: Some(false), ..DISK };
    let told = |at_a_time, places: &[i64], file: Option<File>| {
        let mut trace = trace();
        does(&mut trace, with(|it| it.opcode = PREAD), 512, true);
        is(&mut trace, Some(FILE));
        trace.now += SECOND;
        reads_nothing(&mut trace, at_a_time, places);
        is(&mut trace, file);
        let findings = trace.findings();
        let found = of(Name::ReadsPastEnd, &findings);
        assert_eq!(found.len(), findings.len(), "nothing else: {findings:?}");
        found.first().map(|it| (it.doubt, it.numbers()))
    };
    let numbers = |reads| vec![("reads", reads), ("size", 1000)];
    assert_eq!(told(1, &[1000, 1512], Some(FILE)), Some((None, numbers(2))));
    assert_eq!(told(1, &[4096, 4096], Some(FILE)), Some((None, numbers(2))));
    let another = Some(File { id: Some((3, 4)), ..FILE });
    assert_eq!(told(1, &[1000, 1512], another), Some((Some(Doubt::Later), numbers(2))));
    // A program that reads to the end with some reads in flight, and one that waits there for more.
    assert_eq!(told(1, &[1000], Some(FILE)), None);
    assert_eq!(told(1, &[1000; 50], Some(FILE)), None);
    assert_eq!(told(4, &[1000, 1512, 2024, 2536], Some(FILE)), None);
    assert_eq!(told(4, &[1000, 1512, 2024, 2536, 3048], Some(FILE)), Some((None, numbers(5))));
    // A program that does both.
    assert_eq!(told(4, &[1000, 1512, 2024, 2536, 1000, 1000, 1000], Some(FILE)), None);
    // The file has no end, or its end is unknown.
    let pipe = File { kind: FileKind::Other, size: None, ..FILE };
    let disk = File { size: None, ..FILE };
    for file in [None, Some(pipe), Some(disk)] {
        assert_eq!(told(1, &[1000, 1512], file), None, "{file:?}");
    }
}

#[test]
fn who_reads_something_in_between_reads_to_the_end_again() {
    let mut trace = trace();
    for _ in 0..10 {
        reads_nothing(&mut trace, 1, &[1000]);
        does(&mut trace, with(|it| it.opcode = PREAD), 512, true);
        is(&mut trace, Some(File { size: Some(900), ..DISK }));
    }
    assert_eq!(of(Name::ReadsPastEnd, &trace.findings()), [] as [&Finding; 0]);
}

const LOG: File = File { size: Some(1000), direct: Some(false), append: Some(true), ..DISK };

/// Writes of 512 bytes to a file that is looked at before and after: the finding, and the number of writes in it.
fn appends(offsets: &[i64], flags: u32, start: File, end: File) -> Option<(Option<Doubt>, i64)> {
    let mut trace = trace();
    // This write makes the model ask for what it wants to know.
    does(&mut trace, with(|it| it.rw_flags = flags), 512, true);
    is(&mut trace, Some(start));
    for offset in offsets {
        trace.now += SECOND;
        does(&mut trace, with(|it| (it.offset, it.rw_flags) = (*offset, flags)), 512, true);
    }
    is(&mut trace, Some(end));
    trace.model.handle_timeout(trace.now + SECOND);
    let findings = trace.findings();
    let found = of(Name::IgnoredOffset, &findings);
    assert_eq!(found.len(), findings.len(), "nothing else: {findings:?}");
    found.first().map(|it| (it.doubt, it.numbers()[2].1))
}

#[test]
fn a_write_before_the_end_that_makes_the_file_longer_was_not_made_at_its_offset() {
    let ends = |size| File { size: Some(size), ..LOG };
    let told = |offsets: &[i64], size| appends(offsets, 0, LOG, ends(size));
    assert_eq!(told(&[0, 0, 0], 2536), Some((None, 3)));
    assert_eq!(told(&[1000, 1512, 999], 2536), Some((None, 1)), "one of three");
    // O_APPEND was set for both, or for none: then the second left a gap, and the file has the same length.
    assert_eq!(told(&[0, 1512], 2024), Some((Some(Doubt::Cleared), 1)));
    assert_eq!(told(&[0, 1000], 2024), Some((None, 1)), "no gap");
    // Each write goes to the end of the file, in whatever order they complete.
    assert_eq!(told(&[1000, 1512, 2024], 2536), None);
    assert_eq!(told(&[2024, 1000, 1512], 2536), None);
    // The file was cut before the first write, and each write goes to its offset.
    assert_eq!(told(&[0, 512, 1024], 1536), None);
    assert_eq!(told(&[500, 1012, 1524], 2036), None);
    // Somebody else has written, too.
    assert_eq!(told(&[0, 0, 0], 5000), Some((Some(Doubt::OtherWriter), 3)));
    assert_eq!(told(&[1000, 1512, 2024], 5000), None);
    // It is another file, or it was opened in another way.
    let other = File { id: Some((3, 4)), ..ends(2536) };
    assert_eq!(appends(&[0, 0, 0], 0, LOG, other), None);
    let plain = File { append: Some(false), ..ends(2536) };
    assert_eq!(appends(&[0, 0, 0], 0, LOG, plain), None);
    assert_eq!(appends(&[0, 0, 0], 0, plain, plain), None);
}

#[test]
fn flags_of_a_write_say_where_it_goes() {
    const RWF_APPEND: u32 = 0x10;
    const RWF_NOAPPEND: u32 = 0x20;
    let plain = File { append: Some(false), ..LOG };
    let ends = |file| File { size: Some(2536), ..file };
    assert_eq!(appends(&[0, 0, 0], RWF_APPEND, plain, ends(plain)), Some((None, 3)));
    assert_eq!(appends(&[0, 0, 0], RWF_NOAPPEND, LOG, ends(LOG)), None);
}

/// Writes follow each other so fast that some are made during each look.
#[test]
fn what_is_written_during_a_look_may_have_been_before_it_or_after_it() {
    let told = |start: u64, end: u64| {
        let mut trace = trace();
        does(&mut trace, with(|it| it.offset = 0), 512, true);
        let during = |trace: &mut Trace, size| {
            let (from, file) = (trace.now, Some(File { size: Some(size), ..LOG }));
            let until = from + 10_000;
            let body = Body::Looked(Looked::File { fd: 3, file, until });
            trace.model.handle_event(&Event { time: from, pid: 7, tid: 7, body });
            does(trace, with(|it| it.offset = 0), 512, true);
            trace.now = until;
        };
        during(&mut trace, start);
        does(&mut trace, with(|it| it.offset = 0), 512, true);
        during(&mut trace, end);
        trace.now += SECOND;
        trace.model.handle_timeout(trace.now);
        of(Name::IgnoredOffset, &trace.findings()).first().map(|it| it.doubt)
    };
    // Between one and three writes were made in between.
    for writes in 1..=3 {
        assert_eq!(told(10_000, 10_000 + writes * 512), Some(None), "{writes}");
    }
    assert_eq!(told(10_000, 10_000), None, "it was cut");
    assert_eq!(told(10_000, 10_000 + 4 * 512), Some(Some(Doubt::OtherWriter)));
    // The file may have been cut by less than is known, even to nothing.
    assert_eq!(told(1000, 1512), None);
}

#[test]
fn nothing_is_said_of_appends_where_something_was_lost() {
    let mut trace = trace();
    does(&mut trace, with(|_| ()), 512, true);
    is(&mut trace, Some(LOG));
    trace.tell(Body::Lost { records: 1 });
    does(&mut trace, with(|it| it.offset = 0), 512, true);
    is(&mut trace, Some(File { size: Some(1512), ..LOG }));
    trace.model.finish(trace.now);
    assert_eq!(of(Name::IgnoredOffset, &trace.findings()), [] as [&Finding; 0]);
}

/// How the program went on is counted from the request on, and not from the look.
#[test]
fn what_came_after_einval_is_counted_from_the_request_on() {
    let mut trace = trace();
    does(&mut trace, with(|it| it.offset = 100), EINVAL, true);
    for _ in 0..3 {
        does(&mut trace, request(1, PWRITE, 0), 512, true);
    }
    is(&mut trace, Some(DISK));
    let rows = told(&trace.model.report(), Name::FailedCompletion);
    assert!(rows[0].1.ends_with("the program went on (3 io_submit after it)"), "{rows:?}");
}

/// The first look always comes after the first request; the second request makes the finding certain.
#[test]
fn what_becomes_certain_is_told_again() {
    let mut trace = trace();
    let file = Some(direct(4, 512, AlignmentSource::Statx));
    for doubt in [Some(Some(Doubt::Later)), Some(None), None] {
        does(&mut trace, with(|it| it.offset = 100), EINVAL, true);
        trace.now += SECOND;
        is(&mut trace, file);
        assert_eq!(trace.findings().first().map(|it| it.doubt), doubt);
        trace.now += SECOND;
    }
    let rows = told(&trace.model.report(), Name::DirectIoMisaligned);
    assert_eq!(rows.iter().map(|it| it.0).collect::<Vec<_>>(), [3], "{rows:?}");
}

#[test]
fn a_short_read_may_have_ended_where_the_file_did() {
    let doubt = |opcode, file: File| {
        let mut trace = trace();
        does(&mut trace, request(1, opcode, 0), 512, false);
        is(&mut trace, Some(File { size: Some(4096), ..DISK }));
        does(&mut trace, request(1, opcode, 512), 100, false);
        is(&mut trace, Some(file));
        let findings = trace.findings();
        of(Name::ShortIo, &findings).first().map(|it| it.doubt)
    };
    let longer = File { size: Some(4096), ..DISK };
    assert_eq!(doubt(PREAD, longer), Some(Some(Doubt::Grown)));
    assert_eq!(doubt(PREAD, File { size: Some(612), ..DISK }), None);
    assert_eq!(doubt(PWRITE, longer), Some(None));
    assert_eq!(doubt(PWRITE, File { id: Some((3, 4)), ..longer }), Some(Some(Doubt::Closed)));
    // A reader that follows a growing file: each of its reads is looked at.
    let mut trace = trace();
    for (offset, size) in [(0, 4096), (100, 4096), (200, 300), (300, 400)] {
        does(&mut trace, request(1, PREAD, offset), 100, false);
        is(&mut trace, Some(File { size: Some(size), ..DISK }));
    }
    let findings = trace.findings();
    let of_it = of(Name::ShortIo, &findings);
    assert_eq!(
        of_it.iter().map(|it| (it.doubt, it.count)).collect::<Vec<_>>(),
        [(Some(Doubt::Grown), 1)]
    );
    let rows = told(&trace.model.report(), Name::ShortIo);
    assert_eq!(rows.iter().map(|it| it.0).collect::<Vec<_>>(), [2], "{rows:?}");
}

#[test]
fn a_stuck_request_is_told_though_its_descriptor_was_closed() {
    let found = |first: FileKind| {
        let mut trace = trace();
        does(&mut trace, request(1, PREAD, 0), 512, false);
        is(&mut trace, Some(File { kind: first, ..DISK }));
        trace.call(1, one(PREAD));
        trace.now += 60 * SECOND;
        trace.model.handle_timeout(trace.now);
        is(&mut trace, None);
        let findings = trace.findings();
        of(Name::RequestStuck, &findings).first().map(|it| it.doubt)
    };
    assert_eq!(found(FileKind::Storage), Some(Some(Doubt::Closed)));
    assert_eq!(found(FileKind::Other), None, "it may wait by design");
}

#[test]
fn rwf_nowait_that_never_works_is_told_and_one_that_mostly_does_is_not() {
    const MILLISECOND: u64 = 1_000_000;
    // How many requests worked before; how many gave EAGAIN then, how many of four, and at which distance; the
    // finding.
    for (before, after, of_four, distance, told_of) in [
        (0, 60, 4, 0, Some((60, "16 of 16 requests with RWF_NOWAIT"))),
        (0, 60, 1, 0, None),
        (
            1000,
            100,
            4,
            20 * MILLISECOND,
            Some((100, "the last 64 of 1,064 requests with RWF_NOWAIT")),
        ),
        (1000, 63, 4, 20 * MILLISECOND, None),
        (1000, 200, 3, 20 * MILLISECOND, None),
        // The queue of the disk was full for a moment.
        (1000, 200, 4, MILLISECOND, None),
    ] {
        let mut trace = trace();
        for _ in 0..before {
            does(&mut trace, with(|it| it.rw_flags = NOWAIT), 512, true);
        }
        for round in 0..after {
            trace.now += distance;
            let res = if round % 4 < of_four { EAGAIN } else { 512 };
            does(&mut trace, with(|it| it.rw_flags = NOWAIT), res, true);
        }
        let rows = told(&trace.model.report(), Name::FailedCompletion);
        assert_eq!(rows.len(), usize::from(told_of.is_some()), "{rows:?}");
        if let Some((count, begins)) = told_of {
            assert_eq!(rows[0].0, count);
            assert!(rows[0].1.starts_with(begins), "{rows:?}");
            if before > 0 {
                continue;
            }
            let inline = of(Name::InlineCompletion, &trace.findings()).len();
            assert_eq!(inline, 0, "they are not done");
        }
    }
}

#[test]
fn what_came_after_a_failure_is_said_of_the_first_and_of_the_last() {
    let sequel = |failing: &[bool]| {
        let mut trace = trace();
        for fails in failing {
            does(&mut trace, request(1, PWRITE, 0), if *fails { ENOSPC } else { 512 }, true);
        }
        let (_, text) = told(&trace.model.report(), Name::FailedCompletion).remove(0);
        text.split_once("; ").unwrap().1.to_owned()
    };
    assert_eq!(sequel(&[true]), "nothing was submitted after it");
    assert_eq!(sequel(&[true, false]), "the program went on (1 io_submit after it)");
    assert_eq!(sequel(&[true, true, true]), "2 io_submit after it, none after the last of these");
    assert_eq!(
        sequel(&[true, true, false]),
        "the program went on (2 io_submit after it, 1 after the last of these)"
    );
}

#[test]
fn of_many_that_are_alike_the_rest_is_counted_as_one() {
    let mut trace = trace();
    for fd in 0..100 {
        does(&mut trace, with(|it| it.fildes = fd), ENOSPC, true);
    }
    let findings = trace.findings();
    let found = of(Name::FailedCompletion, &findings);
    assert_eq!(found.len(), 9);
    assert!(
        found[8].message().contains("8 others of this kind were told before"),
        "{}",
        found[8].message()
    );
    let counts: u64 =
        told(&trace.model.report(), Name::FailedCompletion).iter().map(|it| it.0).sum();
    assert_eq!(counts, 100);
}

fn adopted(ring: Ring, in_flight: Option<u32>) -> Body {
    Body::ContextAdopted(Adopted { ctx: H, ring: Some(ring), charge: Some(64), in_flight })
}

#[test]
fn completions_that_a_thread_waits_for_with_others_are_not_left() {
    for awaited in [Some(40), Some(6), None] {
        let mut trace = Trace::seen(true);
        let ring = Ring { head: 0, tail: 6, nr: 127 };
        trace.tell(adopted(ring, None));
        for _ in 0..30 {
            trace.now += SECOND;
            trace.model.handle_timeout(trace.now);
            trace.look_while(RingFound::There(ring), awaited);
        }
        trace.model.handle_timeout(trace.now + SECOND);
        let is_awaited = awaited == Some(40);
        let found = of(Name::UnreapedCompletions, &trace.findings()).len();
        assert_eq!(found, usize::from(!is_awaited), "{awaited:?}");
    }
}

#[test]
fn a_negative_timeout_waits_for_ever_and_one_that_was_not_read_is_not_known() {
    let timeout = |sec, nsec| Some(abi::Timespec { sec, nsec });
    for (value, said) in [
        (timeout(-1, 0), "for 1 completion without a timeout (it is negative); "),
        (timeout(2, 500_000_000), "for 1 completion for at most 2.50s; "),
        (None, "for 1 completion with a timeout that was not read; "),
    ] {
        let mut args = getevents_of(1, 1);
        if let Args::Getevents { timeout, timeout_value, .. } = &mut args {
            (*timeout, *timeout_value) = (Address(8), value);
        }
        let mut trace = trace();
        trace.tell(Body::Unfinished(Unfinished { entered: None, args, why: Why::BlockedAtAttach }));
        trace.now += 2 * SECOND;
        trace.model.finish(trace.now);
        let waits = trace.model.report().waits;
        assert!(waits[0].message.contains(said), "{said}: {}", waits[0].message);
    }
}

#[test]
fn what_a_thread_waits_for_is_said_with_what_is_known_of_it() {
    let in_call = |trace: &mut Trace, args, why| {
        trace.tell(Body::Unfinished(Unfinished { entered: None, args, why }));
        trace.now += 17 * SECOND;
        trace.model.finish(trace.now);
        trace.model.report().waits.into_iter().map(|it| it.message).collect::<Vec<_>>()
    };
    let empty = Ring { head: 0, tail: 0, nr: 127 };
    // What the kernel counted at the attach, and what was seen since.
    for (older, submitted, known) in [
        (Some(0), 0, "no request is in flight"),
        (Some(3), 0, "3 requests are in flight"),
        // The program uses the context, so requests may have begun and ended during the attach.
        (Some(3), 1, "what is in flight is not known"),
    ] {
        let mut attached = Trace::seen(true);
        attached.tell(process(Some(70), Change::Attached));
        attached.tell(adopted(empty, older));
        for _ in 0..submitted {
            attached.call(1, one(POLL));
            completes(&mut attached, 1);
        }
        let waits = in_call(&mut attached, getevents_of(4, 4), Why::BlockedAtAttach);
        assert!(waits[0].contains(known), "{waits:?}");
        let quiet = attached.model.report().quiet;
        let is_known = submitted == 0;
        assert_eq!(quiet[0].in_flight, older.filter(|_| is_known).map(u64::from), "{quiet:?}");
    }
    let mut attached = Trace::seen(true);
    attached.tell(adopted(empty, None));
    assert_eq!(
        in_call(&mut attached, getevents_of(4, 4), Why::BlockedAtAttach),
        ["waits in io_getevents for 4 completions without a timeout; the ring is empty (the \
          call may have taken up to 3 of them out of it already, which nobody can see); what is in flight is not known (submitted \
          before the attach; under `aiotrace run` it would be); since before the attach, 17.0s ago"]
    );
    // What is known to be in flight is said.
    for (submitted, text) in
        [(1, "at least 1 request is in flight"), (2, "at least 2 requests are in flight")]
    {
        let mut attached = Trace::seen(true);
        attached.tell(adopted(empty, None));
        for _ in 0..=submitted {
            attached.call(1, one(POLL));
        }
        completes(&mut attached, 1);
        let waits = in_call(&mut attached, getevents_of(4, 4), Why::TraceEnds);
        assert!(waits[0].contains(text), "{waits:?}");
    }
    let mut from_the_start = trace();
    from_the_start.call(1, one(PREAD));
    completes(&mut from_the_start, 512);
    from_the_start.look(RingFound::There(Ring { head: 0, tail: 1, nr: 127 }));
    assert_eq!(
        in_call(&mut from_the_start, getevents_of(4, 4), Why::TraceEnds),
        [
            "waits in io_getevents for 4 completions without a timeout; 1 completion is in the ring; no request is in \
          flight; for 17.0s"
        ]
    );
    // The thread returned from the call.
    let mut back = trace();
    let args = getevents_of(1, 1);
    back.tell(Body::Unfinished(Unfinished { entered: None, args, why: Why::BlockedAtAttach }));
    back.now += 2 * SECOND;
    back.call(1, getevents_of(1, 1));
    assert_eq!(back.model.report().waits, []);
}

#[test]
fn whoever_is_in_a_call_or_in_exit_uses_kernel_aio() {
    let attached = |then: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new(false);
        trace.tell(process(None, Change::Attached));
        then(&mut trace);
        trace.now += 2 * SECOND;
        trace.model.finish(trace.now);
        trace.found()
    };
    let unused = (Name::NotKernelAio, Severity::Info);
    assert_eq!(attached(&|_| ()), [unused]);
    // A shell, for instance, makes no AIO call, but its children do.
    let mut shell = Trace::seen(false);
    shell.tell(process(None, Change::Attached));
    for child in [8, 9] {
        shell.tell(process(Some(70), Change::Fork { child, followed: false }));
    }
    shell.now += 2 * SECOND;
    shell.model.finish(shell.now);
    let text = shell.findings()[0].message();
    assert!(
        text.ends_with("it made 2 child processes, which were not followed (-f follows them)"),
        "{text}"
    );
    // Its descendants do, and are not traced: whoever looks is told where.
    let mut parent = Trace::new(false);
    parent.tell(process(None, Change::Attached));
    let asked: Vec<_> = std::iter::from_fn(|| parent.model.next_question()).collect();
    assert_eq!(asked, [Question::Below { pid: 7 }]);
    let user = |pid, contexts| User { pid, name: b"fio".to_vec(), contexts };
    parent.tell(Body::Looked(Looked::Below(vec![user(8, 1), user(9, 4)])));
    parent.now += 2 * SECOND;
    parent.model.finish(parent.now);
    let text = parent.findings()[0].message();
    let expected = "the target itself made no io_* call while it was traced, but its descendant fio:8 has 1 context, and \
                    another descendant has some: attach -p 8 traces it (-f follows only children that are made later)";
    assert_eq!(text, expected);
    let ended_at_once = attached(&|trace| {
        trace.tell(process(None, Change::Exit { status: ExitStatus::Code(0) }));
    });
    assert_eq!(ended_at_once, [], "there was no time for a call");
    let args = Args::Destroy { ctx: H };
    let why = Why::BlockedAtAttach;
    let in_destroy = Unfinished { entered: None, args, why };
    assert_eq!(attached(&|trace| trace.tell(Body::Unfinished(in_destroy.clone()))), []);
    assert_eq!(attached(&|trace| trace.tell(process(None, Change::ExitWaits))), []);
}

#[test]
fn of_a_process_that_did_not_answer_it_is_not_certain_that_it_does_without() {
    let why = |unanswered: bool| {
        let mut trace = Trace::new(false);
        trace.tell(process(None, Change::Attached));
        trace.now += 2 * SECOND;
        if unanswered {
            trace.model.unanswered();
        }
        trace.model.finish(trace.now);
        trace.findings().iter().map(|it| (it.name, it.doubt)).collect::<Vec<_>>()
    };
    assert_eq!(why(false), [(Name::NotKernelAio, None)]);
    assert_eq!(why(true), [(Name::NotKernelAio, Some(Doubt::Unanswered))]);
}

#[test]
fn what_contexts_take_is_told_if_it_is_known_of_each() {
    let released = |charges: &[Option<u32>]| {
        let mut trace = Trace::seen(false);
        for (number, charge) in (1..).zip(charges) {
            let ctx = Handle(number * 0x1000);
            let (ring, in_flight) = (None, None);
            trace.tell(Body::ContextAdopted(Adopted { ctx, ring, charge: *charge, in_flight }));
        }
        for number in 1..=charges.len() as u64 {
            let (ctx, how) = (Handle(number * 0x1000), How::Exit);
            trace.tell(Body::ContextGone(Gone { ctx, how, in_flight: Some(0), at_most: false }));
        }
        trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
        trace.model.finish(trace.now);
        let mut findings = trace.findings();
        findings.retain(|it| it.name == Name::ReleasedAtExit);
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        (finding.message(), finding.numbers())
    };
    let (message, numbers) = released(&[Some(8), Some(16)]);
    assert_eq!(message, "2 contexts (24 of fs.aio-nr) alive at exit: released by the kernel");
    assert_eq!(numbers, [("contexts", 2), ("charge", 24)]);
    let (message, numbers) = released(&[Some(8), None]);
    assert_eq!(message, "2 contexts alive at exit: released by the kernel");
    assert_eq!(numbers, [("contexts", 2)]);
}

#[test]
fn a_process_that_made_no_call_for_a_while_is_named() {
    let mut trace = trace();
    trace.call(1, one(PREAD));
    trace.now += 4 * SECOND;
    trace.model.handle_timeout(trace.now);
    assert_eq!(trace.model.report().quiet, []);
    trace.now += 2 * SECOND;
    trace.model.handle_timeout(trace.now);
    let quiet = trace.model.report().quiet;
    assert!(quiet.len() == 1 && quiet[0].age >= 6 * SECOND && quiet[0].last_call.is_some());
    trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
    assert_eq!(trace.model.report().quiet, []);
}

/// Makes contexts for six seconds; each is used when it is made, or all the time; some end. Returns the number of
/// findings.
fn makes(each: impl Fn(&mut Trace, u64)) -> usize {
    let mut trace = Trace::seen(true);
    for round in 0..24 {
        trace.now += SECOND / 4;
        each(&mut trace, round);
    }
    trace.model.handle_timeout(trace.now);
    trace.model.report().trends.len()
}

fn make(trace: &mut Trace, handle: u64) {
    trace.call(0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(Handle(handle)) });
}

fn use_it(trace: &mut Trace, handle: u64) {
    let Args::Submit { nr, iocbpp, iocbs, truncated, .. } = one(POLL) else { return };
    trace.call(1, Args::Submit { ctx: Handle(handle), nr, iocbpp, iocbs, truncated });
}

#[test]
fn contexts_that_are_made_all_the_time_and_left_are_a_trend_and_others_are_not() {
    let handle = |round: u64| 0x1000 * (round + 1);
    assert_eq!(makes(|trace, round| make(trace, handle(round))), 1);
    let pool = makes(|trace, round| {
        if round == 0 {
            (0..32).for_each(|it| make(trace, handle(it)));
        }
        use_it(trace, handle(0));
    });
    assert_eq!(pool, 0, "made at once");
    let used = makes(|trace, round| {
        make(trace, handle(round));
        (0..=round).for_each(|it| use_it(trace, handle(it)));
    });
    assert_eq!(used, 0, "one for each client, which uses it");
    let destroyed = makes(|trace, round| {
        make(trace, handle(round));
        if round == 3 {
            trace.tell(gone(handle(0)));
        }
    });
    assert_eq!(destroyed, 0, "some are destroyed");
    let other = makes(|trace, round| {
        trace.setup_by(&[1], handle(round));
        if round == 0 {
            // Programs that use libaio make such a context first.
            trace.setup_by(&[2], handle(100));
            trace.tell(gone(handle(100)));
        }
    });
    assert_eq!(other, 1, "another function's context was destroyed");
}

fn gone(handle: u64) -> Body {
    let (how, in_flight) = (How::Destroy, Some(0));
    Body::ContextGone(aiotrace_model::event::Gone {
        ctx: Handle(handle),
        how,
        in_flight,
        at_most: false,
    })
}

/// One function makes all contexts, and is called from many places.
#[test]
fn contexts_of_one_function_grow_from_wherever_it_is_called() {
    let found = |each: &dyn Fn(&mut Trace, u64)| {
        let mut trace = Trace::seen(true);
        for round in 0..40 {
            trace.now += SECOND;
            each(&mut trace, round);
            trace.model.handle_timeout(trace.now);
        }
        of(Name::ContextGrowth, &trace.findings()).len()
    };
    let handle = |round: u64| 0x1000 * (round + 1);
    let from = |round: u64| [1, 2, 3, 4, 100 + round];
    let by_others = |round: u64| [1, 100 + round, 2, 3, 4];
    assert_eq!(found(&|trace, round| trace.setup_by(&by_others(round), handle(round))), 0);
    assert_eq!(found(&|trace, round| trace.setup_by(&from(round), handle(round))), 1);
    assert_eq!(found(&|trace, round| trace.setup_by(&from(7), handle(round))), 1);
    let pool = found(&|trace, round| match round {
        0 => (0..32).for_each(|it| trace.setup_by(&from(0), handle(it))),
        // Other contexts, which are used for a moment.
        _ => {
            trace.setup_by(&from(1), handle(100 + round));
            if round > 3 {
                trace.tell(gone(handle(97 + round)));
            }
        }
    });
    assert_eq!(pool, 0, "made at once");
    let little_by_little = found(&|trace, round| {
        if round < 17 {
            trace.setup_by(&from(0), handle(round));
        } else {
            trace.setup_by(&from(1), handle(100 + round));
            trace.setup_by(&from(1), handle(200 + round));
            trace.tell(gone(handle(100 + round - 1)));
            trace.tell(gone(handle(200 + round - 1)));
        }
    });
    assert_eq!(little_by_little, 0, "others are made by the same function, and end");
}

#[test]
fn each_unsure_says_why() {
    let mut trace = trace();
    trace.call(1, one(PWRITE));
    trace.tell(Body::Lost { records: 1 });
    trace.destroy(1);
    assert_eq!(trace.findings()[0].doubt, Some(Doubt::Lost));
    assert_eq!(trace.rows()[0].doubt, Some(Doubt::Lost));

    let mut trace = Trace::seen(false);
    trace.setup();
    trace.call(1, one(PWRITE));
    trace.gone(How::Exit, None);
    assert_eq!(trace.findings()[0].doubt, Some(Doubt::Window));

    // The context is known only by a call on it.
    let mut trace = Trace::seen(true);
    trace.call(1, one(PWRITE));
    trace.destroy(1);
    assert_eq!(trace.findings()[0].doubt, Some(Doubt::Older));

    let mut trace = self::trace();
    trace.call(1, submit((1..=2).map(|it| request(it, PREAD, 0)).collect()));
    trace.now += 11 * SECOND;
    trace.model.finish(trace.now);
    let findings = trace.findings();
    let dropped = of(Name::ShortSubmitDropped, &findings);
    assert_eq!(dropped[0].doubt, Some(Doubt::Ended));
}

/// A program waits for requests that io_submit did not accept.
#[test]
fn the_rest_of_a_short_submit_is_dropped_by_whoever_is_ended_and_not_by_whoever_is_killed() {
    let waits = || {
        let mut trace = trace();
        trace.call(1, submit((1..=2).map(|it| request(it, PREAD, 512 * it as i64)).collect()));
        trace.now += 2 * SECOND;
        trace
    };
    let mut ended = waits();
    ended.model.timed_out(ended.now);
    let findings = ended.findings();
    let dropped = of(Name::ShortSubmitDropped, &findings);
    assert_eq!(dropped.iter().map(|it| it.doubt).collect::<Vec<_>>(), [Some(Doubt::Ended)]);
    for (status, expected) in [(ExitStatus::Signal(9), 0), (ExitStatus::Code(1), 1)] {
        let mut left = waits();
        left.tell(process(Some(70), Change::Exit { status }));
        left.model.finish(left.now);
        assert_eq!(of(Name::ShortSubmitDropped, &left.findings()).len(), expected, "{status:?}");
    }
}

#[test]
fn why_io_cancel_found_nothing_is_told_apart() {
    let cancel = |iocb: u64, opcode: u16, key: u32| {
        let value = Some(abi::Iocb { opcode, key, fildes: 3, nbytes: 512, ..Default::default() });
        Args::Cancel { ctx: H, iocb: Address(iocb), result: Address(0), value }
    };
    let mut trace = trace();
    trace.call(1, submit(vec![request(1, POLL, 0)]));
    trace.call(1, submit(vec![request(2, PREAD, 0)]));
    // An iocb that was not submitted, and a copy of the poll.
    let mut other = cancel(9, POLL, 0);
    if let Args::Cancel { value: Some(value), .. } = &mut other {
        value.data = 5;
    }
    for args in [cancel(1, POLL, 77), other, cancel(9, POLL, 0), cancel(2, PREAD, 0)] {
        trace.call(EINVAL, args);
    }
    let findings = trace.findings();
    let messages: Vec<String> = findings.iter().map(|it| it.message()).collect();
    assert_eq!(
        messages,
        [
            "io_cancel of a poll, iocb 0x1 = EINVAL: aio_key is 77 and not 0, so the kernel did not look for the \
             request, which is in flight",
            "io_cancel of a poll, iocb 0x9 = EINVAL: no request of an iocb at this address is in flight: it has \
             completed, was submitted from another address, or its io_submit had not returned",
            "io_cancel of a poll, iocb 0x9 = EINVAL: no request of an iocb at this address is known to be in flight, \
             but one with the same content is, submitted from 0x1",
            "io_cancel of a pread, iocb 0x2 = EINVAL: a pread cannot be cancelled, only polls can",
        ]
    );
    // A poll of another context.
    let elsewhere = Handle(0x2000);
    trace.call(0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(elsewhere) });
    let mut args = cancel(1, POLL, 0);
    if let Args::Cancel { ctx, .. } = &mut args {
        *ctx = elsewhere;
    }
    trace.call(EINVAL, args);
    let text = "io_cancel of a poll, iocb 0x1 = EINVAL: it is in flight in context 1 at 0x1000";
    assert_eq!(trace.findings()[0].message(), text);
    // Here the poll was cancelled, so there is no finding.
    let mut trace = self::trace();
    trace.call(1, submit(vec![request(1, POLL, 0)]));
    trace.call(-115, cancel(1, POLL, 0));
    completes(&mut trace, 0);
    assert_eq!(trace.found(), []);
}

/// A poll pends; its descriptor is looked at half a second apart, with these results.
fn polled(exact: bool, looks: &[Open], then: impl FnOnce(&mut Trace)) -> Vec<(&'static str, i64)> {
    let mut trace = Trace::seen(exact);
    trace.setup();
    trace.call(1, one(POLL));
    for open in looks {
        trace.now += SECOND;
        trace.model.handle_timeout(trace.now);
        let asked = std::iter::from_fn(|| trace.model.next_question());
        assert!(asked.into_iter().any(|it| it == Question::Descriptor { pid: 7, fd: 3 }));
        let until = trace.now + 10_000;
        trace.tell(Body::Looked(Looked::Descriptor { fd: 3, open: *open, until }));
    }
    then(&mut trace);
    trace.now += SECOND;
    trace.model.handle_timeout(trace.now);
    let findings = trace.findings();
    of(Name::PollOnClosed, &findings).first().map_or(Vec::new(), |it| it.numbers())
}

#[test]
fn a_poll_is_told_whose_descriptor_is_closed_at_two_looks() {
    const PIPE: Open = Open::As((1, 2));
    const OTHER: Open = Open::As((1, 3));
    let reused = |looks: &[Open]| polled(true, looks, |_| ()).get(1).map(|it| it.1);
    assert_eq!(reused(&[PIPE, Open::No, Open::No]), Some(0));
    assert_eq!(reused(&[Open::No, Open::No]), Some(0), "it was accepted, so it was open");
    assert_eq!(reused(&[PIPE, OTHER, OTHER]), Some(1));
    assert_eq!(reused(&[PIPE, Open::No, OTHER]), Some(1));
    for (looks, why) in [
        (&[PIPE, PIPE, PIPE][..], "it is open"),
        (&[OTHER, OTHER, OTHER], "it is open"),
        (&[PIPE, Open::No], "it may be cancelled right now"),
        (&[PIPE, Open::No, PIPE], "it is the same again"),
        (&[PIPE, Open::Unknown, Open::Unknown], "nobody knows"),
        (&[PIPE, Open::No, Open::Unknown], "nobody knows"),
    ] {
        assert_eq!(reused(looks), None, "{why}");
    }
}

#[test]
fn a_poll_that_has_completed_or_is_of_the_other_file_is_not_told() {
    const PIPE: Open = Open::As((1, 2));
    const OTHER: Open = Open::As((1, 3));
    let looks = [PIPE, Open::No, Open::No];
    let told = |exact, then: fn(&mut Trace)| polled(exact, &looks, then);
    assert_eq!(told(true, |trace| trace.complete(1)), []);
    assert_eq!(told(true, |trace| trace.tell(Body::Lost { records: 1 })), []);
    assert_eq!(told(true, |trace| trace.destroy(1)), []);
    // Another process has the same memory, but descriptors of its own.
    let fork = |trace: &mut Trace| {
        trace.tell(process(Some(70), Change::Fork { child: 8, followed: true }));
    };
    assert_eq!(told(true, fork), []);
    // Where completions are seen only in the ring, the ring is looked at after the descriptor.
    assert_eq!(told(false, |_| ()), []);
    let there = |trace: &mut Trace| {
        trace.now += SECOND;
        trace.look(RingFound::There(Ring { head: 0, tail: 0, nr: 4 }));
    };
    assert_eq!(told(false, there).len(), 2);
    let completed = |trace: &mut Trace| {
        trace.now += SECOND;
        trace.look(RingFound::There(Ring { head: 0, tail: 1, nr: 4 }));
    };
    assert_eq!(told(false, completed), []);
    // The first poll is over, and the second one is about the file that has the number by now.
    let mut trace = trace();
    trace.call(1, one(POLL));
    for open in [PIPE, OTHER, OTHER, OTHER, OTHER] {
        trace.now += SECOND;
        trace.model.handle_timeout(trace.now);
        let until = trace.now + 10_000;
        if open == OTHER {
            trace.complete(1);
            trace.call(1, one(POLL));
        }
        trace.tell(Body::Looked(Looked::Descriptor { fd: 3, open, until }));
    }
    trace.now += SECOND;
    trace.model.handle_timeout(trace.now);
    assert_eq!(of(Name::PollOnClosed, &trace.findings()), [] as [&Finding; 0]);
}

/// Each poll is looked at, but few at a time, and less and less often.
#[test]
fn polls_are_looked_at_a_few_at_a_time() {
    let mut trace = trace();
    let poll = |fd| {
        let mut iocb = request(u64::from(fd), POLL, 0)?;
        iocb.value.as_mut()?.fildes = fd;
        Some(iocb)
    };
    for fd in 0..2000 {
        trace.call(1, submit(vec![poll(fd)]));
    }
    let mut looks = 0;
    for tick in 0..400 {
        trace.now += SECOND / 2;
        trace.model.handle_timeout(trace.now);
        let questions = std::iter::from_fn(|| trace.model.next_question());
        let count = questions.filter(|it| matches!(it, Question::Descriptor { .. })).count();
        assert!(count <= 16, "{count} at tick {tick}");
        looks += count;
    }
    assert!(looks >= 1024, "{looks}");
}

/// While ptrace stops a thread before it returns from io_submit, a disk may complete the requests. What a file explains by
/// itself is sure all the same.
#[test]
fn what_a_stop_may_have_let_complete_is_no_cause() {
    let told = |file: Option<File>, is_stopping: bool| {
        let mut trace = if is_stopping { Trace::stopping() } else { Trace::seen(false) };
        trace.setup();
        is(&mut trace, None);
        for round in 0..20 {
            does(&mut trace, request(1, PREAD, 0), 512, true);
            if round == 0 {
                is(&mut trace, file);
            }
        }
        is(&mut trace, file);
        trace.model.finish(trace.now + SECOND);
        let report = trace.model.report();
        let findings = of(Name::InlineCompletion, &report.findings);
        let [finding] = &findings[..] else { panic!("{:?}", report.findings) };
        (finding.doubt, report.usages[0].inline)
    };
    let buffered = Some(File { direct: Some(false), ..DISK });
    assert_eq!(told(buffered, true), (None, (17, 17)));
    assert_eq!(told(Some(DISK), false), (None, (17, 17)));
    assert_eq!(told(Some(DISK), true), (Some(Doubt::Stopped), (0, 0)));
    assert_eq!(told(None, true), (Some(Doubt::Stopped), (0, 0)));
}

/// The ring of a new context can often not be read at its first io_submit: what completed there is not known.
#[test]
fn what_could_not_be_looked_at_is_not_counted_as_not_complete() {
    let inline = |first: Option<Ring>, of_others: u32| {
        let mut trace = Trace::seen(false);
        trace.setup();
        for number in 0..20 {
            let mut call = call_of(trace.now + 1, 1, one(PREAD));
            let ring = |tail| Ring { head: number, tail, nr: 64 };
            let is_first = number == 0;
            let after = if is_first { first } else { Some(ring(number + of_others)) };
            (call.ring_before, call.ring) = (Some(ring(number)).filter(|_| !is_first), after);
            let (since, until) = (Some(trace.now + 2), None);
            trace.now += 2;
            let event = Some(IoEvent { data: 0, obj: 1, res: 512, res2: 0 });
            let completion = Completion { ctx: H, event, since, until, discarded: false };
            let is_told_before = after.is_some() && of_others > 0;
            if is_told_before {
                trace.tell(Body::Completion(completion));
            }
            trace.tell(Body::Call(call));
            if !is_told_before {
                trace.tell(Body::Completion(completion));
            }
            trace.call(1, getevents_of(1, 1));
        }
        trace.model.finish(trace.now);
        told(&trace.model.report(), Name::InlineCompletion)
    };
    let all = inline(None, 1);
    assert!(all[0].1.starts_with("19 of 19 io_submit calls"), "{all:?}");
    let all = inline(Some(Ring { head: 0, tail: 1, nr: 64 }), 1);
    assert!(all[0].1.starts_with("20 of 20 io_submit calls"), "{all:?}");
    assert_eq!(inline(None, 0), [], "none of them was complete");
}

#[test]
fn a_handle_that_is_not_valid_any_more_is_the_reason() {
    let ring = Ring { head: 0, tail: 0, nr: 64 };
    let refused = |prepare: &dyn Fn(&mut Trace), then: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::seen(false);
        trace.setup();
        prepare(&mut trace);
        let mut call = call_of(trace.now + 1, EINVAL, one(PREAD));
        call.ring = None;
        trace.tell(Body::Call(call));
        then(&mut trace);
        trace.model.finish(trace.now);
        let told = told(&trace.model.report(), Name::RefusedCalls);
        assert_eq!(told.len(), 1);
        told[0].1.clone()
    };
    let nothing = |_: &mut Trace| ();
    let could_be_read = |trace: &mut Trace| trace.look(RingFound::There(ring));
    let unmapped = |trace: &mut Trace| {
        for _ in 0..2 {
            trace.now += SECOND;
            trace.look(RingFound::Unmapped);
        }
    };
    let moved = |trace: &mut Trace| {
        let (from, to) = (H, Handle(0x5000));
        trace.tell(Body::ContextMoved(aiotrace_model::event::Moved { from, to }));
    };
    let text = refused(&could_be_read, &nothing);
    assert!(text.contains(": perhaps the ring at 0x1000 cannot be read"), "{text}");
    assert!(!text.contains("directory"), "{text}");
    let text = refused(&nothing, &nothing);
    assert!(text.ends_with(", or fd 3 cannot be read by AIO, as a directory cannot"), "{text}");
    for (prepare, then) in
        [(&unmapped as &dyn Fn(&mut Trace), &nothing as &dyn Fn(&mut Trace)), (&nothing, &unmapped)]
    {
        let text = refused(prepare, then);
        assert!(text.ends_with(": its ring was unmapped, and not destroyed"), "{text}");
    }
    for (prepare, then) in
        [(&moved as &dyn Fn(&mut Trace), &nothing as &dyn Fn(&mut Trace)), (&nothing, &moved)]
    {
        let text = refused(prepare, then);
        assert!(text.ends_with(": its handle is 0x5000 now"), "{text}");
    }
}

#[test]
fn a_thread_that_does_not_come_back_from_io_submit_is_found_when_the_trace_ends() {
    let told_after = |time: u64, why: Why, entered_seen: bool| {
        let mut trace = trace();
        let entered = Some(trace.now).filter(|_| entered_seen);
        trace.now += time;
        let args = submit(vec![request(1, PWRITE, 0)]);
        trace.tell(Body::Unfinished(Unfinished { entered, args, why }));
        trace.model.finish(trace.now);
        trace.findings().iter().map(Finding::message).collect::<Vec<_>>()
    };
    let text = "io_submit has not returned for 30.0s: pwrite fd=3 offset=0 nbytes=512";
    assert_eq!(told_after(30 * SECOND, Why::TraceEnds, true), [text]);
    assert_eq!(told_after(SECOND / 100, Why::TraceEnds, true), [""; 0]);
    assert_eq!(told_after(30 * SECOND, Why::Reported, true), [""; 0]);
    assert_eq!(told_after(30 * SECOND, Why::TraceEnds, false), [""; 0], "it is older");
}
