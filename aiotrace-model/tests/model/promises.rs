//! What seems to be wrong with honest programs, and how else the same events came about.

use aiotrace_model::{
    event::{
        Address, Args, Body, Change, Completion, ExitStatus, File, FileKind, Handle, How, IoEvent,
        Limit, Looked, Refused, Ring, RingFound,
    },
    model::{Doubt, Finding, Name, Severity},
};

use crate::{
    found::{H, PREAD, PWRITE, Trace, call_of, one, request, submit},
    told::{SECOND, process},
};

const EAGAIN: i64 = -11;
const EINVAL: i64 = -22;
const EIO: i64 = -5;

fn of(name: Name, mut trace: Trace) -> Vec<Finding> {
    trace.findings().into_iter().filter(|it| it.name == name).collect()
}

/// A batch is larger than what the ring has room for.
#[test]
fn of_a_batch_it_is_told_how_much_was_accepted_and_what_is_in_flight_by_then() {
    let told = |ring: Option<Ring>| {
        let mut trace = Trace::seen(true);
        trace.setup();
        let refused = Refused { ctx: H, index: 3, iocb: Some(Address(4)), ret: EAGAIN };
        trace.tell(Body::Refused(refused));
        let batch = submit((1..=5).map(|it| request(it, PREAD, 512 * it as i64)).collect());
        let mut call = call_of(trace.now + 1, 3, batch);
        call.ring = ring;
        trace.tell(Body::Call(call));
        let found = of(Name::SubmitEagain, trace);
        let [finding] = &found[..] else { panic!("{found:?}") };
        finding.message()
    };
    let begin = "io_submit accepted 3 of 5 requests, and the next one = EAGAIN with 3 in flight and 0 completed but \
                 not reaped";
    let wait = ": wait for completions and reap them, then try again";
    let ring = Some(Ring { head: 0, tail: 0, nr: 4 });
    assert_eq!(told(ring), format!("{begin}, in a ring of 3{wait}"));
    assert_eq!(told(None), format!("{begin}{wait}"), "its size is not known");
}

/// What was submitted before the attach holds slots, too.
#[test]
fn what_is_in_flight_in_an_adopted_context_is_at_least_that() {
    let mut trace = Trace::seen(true);
    let mut call = call_of(trace.now + 1, 1, one(PREAD));
    call.ring = Some(Ring { head: 0, tail: 0, nr: 127 });
    trace.tell(Body::Call(call.clone()));
    (call.ret, call.args) = (EAGAIN, submit(vec![request(2, PREAD, 512)]));
    trace.tell(Body::Call(call));
    let found = of(Name::SubmitEagain, trace);
    let [finding] = &found[..] else { panic!("{found:?}") };
    let message = finding.message();
    assert!(message.contains("with at least 1 in flight"), "{message}");
    assert!(!message.contains("below its capacity"), "{message}");
}

/// The node of a disk is in a file system in memory, the disk is not; and writes do not make it longer.
#[test]
fn a_disk_is_neither_in_memory_nor_extended() {
    let mut trace = Trace::seen(true);
    trace.setup();
    let disk = File {
        kind: FileKind::Storage,
        size: None,
        id: Some((0, 9)),
        direct: Some(true),
        ..File::default()
    };
    let look = |trace: &mut Trace| {
        let until = trace.now + 1000;
        trace.tell(Body::Looked(Looked::File { fd: 3, file: Some(disk), until }));
        trace.now = until;
    };
    for round in 0..20 {
        let entered = trace.now + 1;
        trace.now += 1;
        let event = Some(IoEvent { data: 0, obj: 1, res: 512, res2: 0 });
        trace.tell(Body::Completion(Completion::exact(H, event)));
        trace.call_since(entered, 1, submit(vec![request(1, PWRITE, 512 * round)]));
        if round == 0 {
            look(&mut trace);
        }
    }
    look(&mut trace);
    trace.model.handle_timeout(trace.now + SECOND);
    let found = of(Name::InlineCompletion, trace);
    let [finding] = &found[..] else { panic!("{found:?}") };
    let message = finding.message();
    assert!(message.contains("a disk that is very fast"), "{message}");
    assert!(!message.contains("extend the file"), "{message}");
}

/// ptrace stops the thread at the end of its call, and other threads may come first.
#[test]
fn how_long_a_call_took_is_unsure_where_threads_are_stopped() {
    for (mut trace, doubt) in [(Trace::seen(false), None), (Trace::stopping(), Some(Doubt::Tracer))]
    {
        trace.setup();
        let entered = trace.now;
        trace.now += SECOND;
        trace.call_since(entered, 1, one(PWRITE));
        let found = of(Name::BlockingSubmit, trace);
        assert_eq!(found.iter().map(|it| it.doubt).collect::<Vec<_>>(), [doubt]);
    }
}

/// What leaked is in fs.aio-nr until the process ends.
#[test]
fn what_a_process_holds_is_not_told_after_a_leak() {
    let told = |leaks: bool| {
        let mut trace = Trace::seen(true);
        trace.setup();
        let other = Handle(0x9000);
        trace.call(0, Args::Setup { nr_events: 8, ctxp: Address(0), stored: Some(other) });
        if leaks {
            for _ in 0..2 {
                trace.look(RingFound::Unmapped);
                trace.now += 20 * SECOND;
                trace.model.handle_timeout(trace.now);
            }
        }
        trace.call(EAGAIN, Args::Setup { nr_events: 64, ctxp: Address(0), stored: None });
        let limit = Limit { used: 65_536, limit: 65_536, holders: Vec::new() };
        trace.tell(Body::Looked(Looked::Limit(limit)));
        let found = of(Name::SetupDenied, trace);
        let [finding] = &found[..] else { panic!("{found:?}") };
        finding.message()
    };
    assert!(told(false).contains("the process held 12 then, in 2 contexts"), "{}", told(false));
    assert!(!told(true).contains("held"), "{}", told(true));
}

/// A pool of threads, each of which waits in io_getevents on its own context.
#[test]
fn contexts_in_which_threads_wait_are_in_use() {
    let found = |is_awaited: bool| {
        let mut trace = Trace::seen(true);
        for round in 0..40 {
            let handle = Handle(0x1000 * (round + 1));
            trace.setup_by(&[1, 2, 3, 4, 7], handle.0);
            trace.now += SECOND;
            for ctx in (0..=round).map(|it| Handle(0x1000 * (it + 1))) {
                let ring = RingFound::There(Ring { head: 0, tail: 0, nr: 4 });
                let awaited = is_awaited.then_some(1);
                let look = Looked::Ring { ctx, found: ring, destroying: false, awaited };
                trace.tell(Body::Looked(look));
            }
            trace.model.handle_timeout(trace.now);
        }
        of(Name::ContextGrowth, trace).len()
    };
    assert_eq!((found(false), found(true)), (1, 0));
}

/// The call of one request was in progress at the attach, so it is not known when it was entered.
#[test]
fn one_request_of_unknown_age_hides_no_other_that_is_stuck() {
    let mut trace = Trace::seen(true);
    trace.setup();
    let mut call = call_of(0, 1, one(PREAD));
    call.entered = None;
    trace.tell(Body::Call(call));
    trace.call(1, submit(vec![request(2, PREAD, 512)]));
    trace.now += 60 * SECOND;
    trace.model.handle_timeout(trace.now);
    let file = File { kind: FileKind::Storage, ..File::default() };
    let until = trace.now;
    trace.tell(Body::Looked(Looked::File { fd: 3, file: Some(file), until }));
    let found = of(Name::RequestStuck, trace);
    assert_eq!(found.iter().filter_map(|it| it.request).map(|it| it.iocb).collect::<Vec<_>>(), [2]);
}

/// A daemon calls io_setup, and then fork(2).
#[test]
fn a_child_has_not_the_contexts_of_its_parent() {
    let told = |handle: Handle| {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.tell(process(Some(80), Change::Fork { child: 8, followed: true }));
        trace.now += 1000;
        let mut call = call_of(trace.now - 1, EINVAL, one(PREAD));
        if let Args::Submit { ctx, .. } = &mut call.args {
            *ctx = handle;
        }
        let event = aiotrace_model::event::Event {
            time: trace.now,
            pid: 8,
            tid: 8,
            body: Body::Call(call),
        };
        trace.model.handle_event(&event);
        trace.model.finish(trace.now + SECOND);
        let found = of(Name::RefusedCalls, trace);
        let [finding] = &found[..] else { panic!("{found:?}") };
        finding.message()
    };
    let cause = "it is context 1 of process 7: a child of fork(2) does not inherit contexts";
    assert!(told(H).contains(cause), "{}", told(H));
    assert!(!told(Handle(0x7000)).contains("inherit"), "{}", told(Handle(0x7000)));
}

/// What `--timeout` ends is not the program's own mistake.
#[test]
fn what_aiotrace_ends_itself_is_no_error() {
    for (is_ended, severity) in [(false, Severity::Error), (true, Severity::Info)] {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, one(PWRITE));
        if is_ended {
            trace.model.timed_out(trace.now);
        }
        trace.gone(How::Exit, Some(1));
        trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Signal(9) }));
        let found = of(Name::DiscardedRequests, trace);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!(finding.severity, severity);
        assert_eq!(finding.message().ends_with("; --timeout ended the process"), is_ended);
    }
}

/// The next program has the descriptors.
#[test]
fn what_the_next_program_may_do_is_not_dropped_for_sure() {
    let exec = Change::Exec { path: b"/bin/true".to_vec() };
    let exit = Change::Exit { status: ExitStatus::Code(0) };
    for (change, space, doubt) in [(exit, 70, None), (exec, 71, Some(Doubt::Exec))] {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, submit(vec![request(1, PWRITE, 0), request(2, PWRITE, 512)]));
        trace.looked();
        trace.tell(process(Some(space), change));
        let found = of(Name::ShortSubmitDropped, trace);
        assert_eq!(found.iter().map(|it| it.doubt).collect::<Vec<_>>(), [doubt]);
    }
}

/// An io_submit of another thread began before the failure.
#[test]
fn a_program_went_on_only_if_it_submitted_after_the_failure() {
    let told = |entered_later: bool| {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, one(PWRITE));
        let entered = trace.now + if entered_later { 2000 } else { 0 };
        let event = Some(IoEvent { data: 0, obj: 1, res: EIO, res2: 0 });
        trace.tell(Body::Completion(Completion::exact(H, event)));
        trace.now += 5000;
        trace.call_since(entered, 1, submit(vec![request(2, PWRITE, 512)]));
        // One that was refused is no progress.
        trace.call(EAGAIN, submit(vec![request(3, PWRITE, 1024)]));
        trace.model.finish(trace.now);
        let report = trace.model.report();
        let mut of_it = report.findings.iter().filter(|it| it.name == Name::FailedCompletion);
        of_it.next().unwrap().message()
    };
    assert!(told(true).ends_with("; the program went on (1 io_submit after it)"), "{}", told(true));
    assert!(told(false).ends_with("; nothing was submitted after it"), "{}", told(false));
}

/// What calls were made is told late, when aiotrace gets a processor again; a look sees the process at once.
#[test]
fn a_look_that_is_newer_than_what_was_told_of_the_calls_shows_no_silence() {
    let found = |is_told: bool| {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, one(PREAD));
        trace.now += 60 * SECOND;
        let ring = RingFound::There(Ring { head: 0, tail: 0, nr: 4 });
        trace.look(ring);
        // All records up to this time were told.
        let told = if is_told { trace.now } else { 2 * SECOND };
        trace.model.handle_timeout(told);
        let (file, until) = (File { kind: FileKind::Storage, ..File::default() }, trace.now);
        trace.tell(Body::Looked(Looked::File { fd: 3, file: Some(file), until }));
        of(Name::RequestStuck, trace).len()
    };
    assert_eq!((found(true), found(false)), (1, 0));
}
