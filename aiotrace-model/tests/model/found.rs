//! Failures of the properties, each as the few events that show it.

use aiotrace_common::abi;
use aiotrace_model::{
    event::{
        Address, Adopted, Args, Body, Call, Change, Completion, Entry, Event, ExitStatus, Frame,
        Gone, Handle, How, IoEvent, Iocb, Limit, Looked, Moved, Ring, RingFound, Stack, Syscall,
        Ways,
    },
    model::{
        Bound, Doubt, Finding, Model, Name, Settings, Severity, Thresholds,
        report::{End, Row},
    },
};

use crate::told::{SECOND, process};

pub const PREAD: u16 = 0;
pub const PWRITE: u16 = 1;
pub const POLL: u16 = 5;
const EINPROGRESS: i64 = -115;
const ECANCELED: i64 = -125;
const EIO: i64 = -5;
pub const H: Handle = Handle(0x1000);

/// A trace of one process: 7 in address space 70. Each event is a microsecond after the one before.
pub struct Trace {
    pub model: Model,
    pub now: u64,
}

impl Trace {
    pub fn new(exact_completions: bool) -> Self {
        Self::of(exact_completions, false)
    }

    /// A trace of a source that stops threads at the return of each call.
    pub fn stopping() -> Self {
        let mut trace = Self::of(false, true);
        trace.tell(process(Some(70), Change::Seen));
        trace
    }

    fn of(exact_completions: bool, stops: bool) -> Self {
        let settings = Settings {
            thresholds: Thresholds::default(),
            exact_completions,
            every_call: true,
            synchronous: true,
            stops,
        };
        Self { model: Model::new(settings), now: SECOND }
    }

    /// The file of the requests is looked at: nothing else has it.
    pub fn looked(&mut self) {
        self.tell(Body::Looked(Looked::Ways { fd: 3, ways: Some(Ways::default()) }));
    }

    pub fn seen(exact_completions: bool) -> Self {
        let mut trace = Self::new(exact_completions);
        trace.tell(process(Some(70), Change::Seen));
        trace
    }

    pub fn tell(&mut self, body: Body) {
        self.now += 1000;
        self.model.handle_event(&Event { time: self.now, pid: 7, tid: 7, body });
    }

    /// A call that was entered at the time `entered`.
    pub fn call_since(&mut self, entered: u64, ret: i64, args: Args) {
        self.tell(Body::Call(call_of(entered, ret, args)));
    }

    pub fn call(&mut self, ret: i64, args: Args) {
        self.call_since(self.now + 1, ret, args);
    }

    pub fn setup(&mut self) {
        self.call(0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(H) });
    }

    /// io_setup called by these functions, the innermost first.
    pub fn setup_by(&mut self, functions: &[u64], handle: u64) {
        let frames = functions.iter().map(|address| Frame { address: *address, place: None });
        let stack = Stack { frames: frames.collect(), truncated: false };
        let args = Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(Handle(handle)) };
        let mut call = call_of(self.now + 1, 0, args);
        call.stack = Some(stack);
        self.tell(Body::Call(call));
    }

    pub fn complete(&mut self, obj: u64) {
        let event = Some(IoEvent { data: 0, obj, res: 512, res2: 0 });
        self.tell(Body::Completion(Completion::exact(H, event)));
    }

    pub fn gone(&mut self, how: How, in_flight: Option<u64>) {
        self.tell(Body::ContextGone(Gone { ctx: H, how, in_flight, at_most: false }));
    }

    pub fn destroy(&mut self, in_flight: u64) {
        let entered = self.now;
        self.gone(How::Destroy, Some(in_flight));
        self.call_since(entered, 0, Args::Destroy { ctx: H });
    }

    /// What is found when it is destroyed.
    fn destroy_told(&mut self, in_flight: u64) -> Vec<Name> {
        self.destroy(in_flight);
        self.found().iter().map(|it| it.0).collect()
    }

    pub fn look(&mut self, found: RingFound) {
        self.look_while(found, None);
    }

    /// A look at the ring while a thread waits for `awaited` completions.
    pub fn look_while(&mut self, found: RingFound, awaited: Option<i64>) {
        let destroying = false;
        self.tell(Body::Looked(Looked::Ring { ctx: H, found, destroying, awaited }));
    }

    pub fn findings(&mut self) -> Vec<Finding> {
        std::iter::from_fn(|| self.model.next_finding()).collect()
    }

    pub fn found(&mut self) -> Vec<(Name, Severity)> {
        self.findings().iter().map(|it| (it.name, it.severity)).collect()
    }

    /// The contexts of the report, in the order in which they became known.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.model.report().contexts;
        rows.sort_by_key(|it| it.context.id);
        rows
    }

    pub fn ends(&self) -> Vec<Option<End>> {
        self.rows().iter().map(|it| it.end).collect()
    }
}

pub fn call_of(entered: u64, ret: i64, args: Args) -> Call {
    let (entered, entry) = (Some(entered), Entry::Seen);
    let (ring, ring_before, compat, stack) = (None, None, false, None);
    Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault: None }
}

pub fn request(address: u64, opcode: u16, offset: i64) -> Option<Iocb> {
    let value = abi::Iocb { opcode, fildes: 3, offset, nbytes: 512, ..Default::default() };
    Some(Iocb {
        address: Some(Address(address)),
        value: Some(value),
        read_late: false,
        vectors: None,
    })
}

pub fn submit(iocbs: Vec<Option<Iocb>>) -> Args {
    submit_to(H, iocbs)
}

fn submit_to(ctx: Handle, iocbs: Vec<Option<Iocb>>) -> Args {
    let nr = iocbs.len() as i64;
    Args::Submit { ctx, nr, iocbpp: Address(0), iocbs, truncated: 0 }
}

pub fn one(opcode: u16) -> Args {
    submit(vec![request(1, opcode, 0)])
}

fn getevents() -> Args {
    getevents_of(0, 1)
}

pub fn getevents_of(min_nr: i64, nr: i64) -> Args {
    Args::Getevents {
        syscall: Syscall::Getevents,
        ctx: H,
        min_nr,
        nr,
        events: Address(0),
        timeout: Address(0),
        timeout_value: None,
        sigset: Address(0),
        sigset_value: None,
        list: Vec::new(),
        truncated: 0,
        changed: Vec::new(),
    }
}

#[test]
fn a_context_that_ended_says_what_was_in_flight_then() {
    for how in [How::Destroy, How::Exit] {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, one(PREAD));
        trace.gone(how, Some(1));
        assert_eq!(trace.rows()[0].in_flight, 1);
    }
}

#[test]
fn a_call_that_returns_after_its_context_ended_makes_no_other_one() {
    let mut trace = Trace::seen(true);
    trace.setup();
    let entered = trace.now;
    trace.complete(1);
    trace.gone(How::Destroy, Some(0));
    trace.call_since(entered, 1, getevents());
    trace.call_since(entered, 1, one(PREAD));
    trace.call_since(entered, 0, Args::Destroy { ctx: H });
    assert_eq!(trace.ends(), [Some(End::Destroyed)]);
    assert!(!trace.model.knows(7, H));
    // A call that is entered afterwards is on another context, whose io_setup was not seen.
    trace.call(1, one(PREAD));
    assert_eq!(trace.ends(), [Some(End::Destroyed), None]);
}

#[test]
fn a_call_that_returns_after_its_handle_was_given_away_is_still_on_the_first() {
    let mut trace = Trace::seen(false);
    trace.setup();
    let entered = trace.now;
    // Another thread is in io_destroy, and a third one gets the handle.
    trace.setup();
    trace.call_since(entered, 1, one(PWRITE));
    let in_flight: Vec<u64> = trace.rows().iter().map(|it| it.in_flight).collect();
    assert_eq!(in_flight, [1, 0]);
    trace.destroy(1);
    assert_eq!(trace.found(), [(Name::DiscardedRequests, Severity::Error)]);
    assert_eq!(trace.ends(), [Some(End::Destroyed), None]);
}

/// An io_submit is repeated, and is refused: on the context on which it began, or on the one that has the handle by
/// then.
#[test]
fn a_refused_call_that_returns_after_its_handle_was_given_away_was_on_the_first() {
    for (ret, name) in [(-22, Name::RefusedCalls), (-11, Name::SubmitEagain)] {
        let told = |is_late: bool| {
            let mut trace = Trace::seen(false);
            trace.setup();
            trace.call(1, submit(vec![request(1, PREAD, 0), request(2, PREAD, 512)]));
            let again = || submit(vec![request(2, PREAD, 512)]);
            let entered = trace.now;
            trace.setup();
            trace.call_since(if is_late { trace.now } else { entered }, ret, again());
            trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
            let findings = trace.findings();
            let found = findings.iter().map(|it| (it.name, it.context.map(|it| it.id.0), it.doubt));
            found.collect::<Vec<_>>()
        };
        assert_eq!(told(false), [(name, Some(1), None)]);
        let found = told(true);
        assert!(found.contains(&(name, Some(2), None)), "{found:?}");
        let dropped = (Name::ShortSubmitDropped, Some(1), Some(Doubt::OtherContext));
        assert!(found.contains(&dropped), "{found:?}");
    }
}

#[test]
fn a_ring_that_is_moved_to_where_a_dying_one_was_is_another_context() {
    let mut trace = Trace::seen(false);
    trace.setup();
    trace.call(1, one(PWRITE));
    let other = Handle(0x2000);
    trace.call(0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(other) });
    trace.tell(Body::ContextMoved(Moved { from: other, to: H }));
    trace.destroy(1);
    assert_eq!(trace.ends(), [Some(End::Destroyed), None]);
    assert!(trace.model.knows(7, H));
}

/// What completes after the last call of a program that reaps from the ring by itself is not seen, and is no defect.
#[test]
fn who_reaps_from_the_ring_and_ends_discards_nothing_as_far_as_seen() {
    let found = |by_hand: bool| {
        let mut trace = Trace::seen(false);
        trace.setup();
        let ring = |head, tail| Some(Ring { head, tail, nr: 10 });
        for (number, (head, tail)) in (1..).zip([(0, 0), (1, 1), (2, 2)]) {
            let (entered, entry, ret) = (Some(trace.now + 1), Entry::Seen, 1);
            let args = submit(vec![request(number, PWRITE, 512 * number as i64)]);
            let head = if by_hand { head } else { 0 };
            let (ring, ring_before) = (ring(head, tail), ring(head, tail));
            let (compat, stack, fault) = (false, None, None);
            let call = Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault };
            trace.tell(Body::Call(call));
        }
        let (how, in_flight, at_most) = (How::Exit, Some(1), true);
        trace.tell(Body::ContextGone(Gone { ctx: H, how, in_flight, at_most }));
        trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
        trace.model.finish(trace.now);
        trace.found().iter().any(|it| it.0 == Name::DiscardedRequests)
    };
    assert_eq!((found(true), found(false)), (false, true));
}

#[test]
fn what_is_worse_than_before_is_told_again() {
    let mut trace = Trace::seen(true);
    for opcode in [PREAD, PWRITE, PWRITE] {
        trace.setup();
        trace.call(1, one(opcode));
        trace.destroy(1);
    }
    let discarded = Name::DiscardedRequests;
    assert_eq!(trace.found(), [(discarded, Severity::Info), (discarded, Severity::Error)]);
    assert_eq!(trace.model.report().findings[0].count, 3);
}

#[test]
fn a_loss_makes_a_context_unsure_whose_handle_is_another_ones() {
    let mut trace = Trace::seen(false);
    trace.setup();
    trace.call(1, one(PWRITE));
    trace.setup();
    trace.tell(Body::Lost { records: 1 });
    trace.destroy(1);
    assert_eq!(trace.found(), [(Name::DiscardedRequests, Severity::Warning)]);
}

#[test]
fn a_loss_before_anything_else_of_a_process_is_remembered() {
    let mut trace = Trace::new(true);
    trace.tell(Body::Lost { records: 1 });
    trace.setup();
    assert!(trace.rows()[0].doubt.is_some());
    // The address space of the process becomes known only here.
    trace.tell(process(Some(70), Change::Seen));
    trace.call(1, one(PWRITE));
    trace.destroy(1);
    trace.setup();
    assert!(trace.rows().iter().all(|it| it.doubt.is_some()));
    assert_eq!(trace.found(), [(Name::DiscardedRequests, Severity::Warning)]);
}

#[test]
fn an_exec_before_the_address_space_is_known_ends_it() {
    let mut trace = Trace::new(true);
    trace.tell(process(None, Change::Attached));
    trace.tell(Body::ContextAdopted(Adopted {
        ctx: H,
        ring: None,
        charge: Some(4),
        in_flight: None,
    }));
    trace.tell(process(Some(71), Change::Exec { path: Vec::new() }));
    trace.setup();
    trace.now += SECOND;
    trace.model.handle_timeout(trace.now);
    assert_eq!(trace.ends(), [Some(End::Exit), None]);
}

#[test]
fn what_exec_released_is_told_also_if_somebody_held_the_memory_longer() {
    for is_late in [false, true] {
        let mut trace = Trace::seen(true);
        trace.setup();
        if !is_late {
            trace.gone(How::Exec, Some(0));
        }
        trace.tell(process(Some(71), Change::Exec { path: Vec::new() }));
        if is_late {
            trace.gone(How::Exec, Some(0));
        }
        trace.now += SECOND;
        trace.model.handle_timeout(trace.now);
        assert_eq!(trace.found(), [(Name::ReleasedAtExit, Severity::Info)], "{is_late}");
        assert_eq!(trace.ends(), [Some(End::Exec)], "{is_late}");
    }
}

#[test]
fn where_completions_were_missed_requests_in_flight_are_no_error() {
    for (in_flight, severity) in [(Some(1), Severity::Error), (None, Severity::Warning)] {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, one(PWRITE));
        trace.gone(How::Exit, in_flight);
        assert_eq!(trace.found(), [(Name::DiscardedRequests, severity)]);
    }
}

const MOVED: Handle = Handle(0x3000);

fn used_at(trace: &mut Trace, ctx: Handle, opcode: u16) {
    let iocbs = vec![request(1, opcode, 0)];
    trace.call(1, Args::Submit { ctx, nr: 1, iocbpp: Address(0), iocbs, truncated: 0 });
    let event = Some(IoEvent { data: 0, obj: 1, res: 512, res2: 0 });
    trace.tell(Body::Completion(Completion::exact(ctx, event)));
}

/// Looks for the ring of `H` do not find it.
fn look_for_it(trace: &mut Trace) {
    for _ in 0..3 {
        trace.look(RingFound::Unmapped);
        trace.now += SECOND;
    }
}

#[test]
fn a_ring_that_was_moved_unseen_is_the_same_context() {
    for (is_whole, first) in [(true, None), (false, Some(RingFound::Unknown))] {
        let mut trace = Trace::new(true);
        let change = if is_whole { Change::Exec { path: Vec::new() } } else { Change::Seen };
        trace.tell(process(Some(70), change));
        trace.setup();
        if let Some(first) = first {
            // There is a ring at another address.
            trace.look(first);
        }
        used_at(&mut trace, MOVED, PREAD);
        assert!(trace.model.knows(7, MOVED) && !trace.model.knows(7, H));
        let entered = trace.now;
        trace.tell(Body::ContextGone(Gone {
            ctx: MOVED,
            how: How::Destroy,
            in_flight: Some(0),
            at_most: false,
        }));
        trace.call_since(entered, 0, Args::Destroy { ctx: MOVED });
        look_for_it(&mut trace);
        assert_eq!(trace.found(), []);
        let [row] = &trace.rows()[..] else { panic!("one context") };
        assert_eq!((row.end, row.done.requests, row.asked), (Some(End::Destroyed), 1, Some(4)));
    }
}

#[test]
fn as_long_as_it_is_not_known_which_ring_was_moved_none_is_lost() {
    let mut trace = Trace::new(true);
    trace.tell(process(Some(70), Change::Exec { path: Vec::new() }));
    trace.setup();
    let other = Some(Handle(0x2000));
    trace.call(0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: other });
    used_at(&mut trace, MOVED, PREAD);
    look_for_it(&mut trace);
    assert_eq!(trace.found(), []);
    assert!(trace.model.knows(7, H));
    // A ring that is at its address after that was not moved.
    trace.look(RingFound::There(Ring { head: 0, tail: 0, nr: 10 }));
    look_for_it(&mut trace);
    assert_eq!(trace.found(), [(Name::ContextLeak, Severity::Error)]);
}

#[test]
fn a_ring_that_was_unmapped_is_lost_whatever_else_there_is() {
    let mut trace = Trace::new(true);
    trace.tell(process(Some(70), Change::Exec { path: Vec::new() }));
    trace.setup();
    let other = Some(Handle(0x2000));
    trace.call(0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: other });
    used_at(&mut trace, Handle(0x2000), PREAD);
    look_for_it(&mut trace);
    assert_eq!(trace.found(), [(Name::ContextLeak, Severity::Error)]);
}

#[test]
fn a_context_is_lost_although_another_one_had_its_handle_and_was_destroyed() {
    let mut trace = Trace::seen(true);
    trace.setup();
    trace.call(1, one(PREAD));
    trace.complete(1);
    // The ring was unmapped.
    trace.setup();
    trace.destroy(0);
    assert_eq!(trace.ends(), [None, Some(End::Destroyed)]);
    trace.look(RingFound::Unmapped);
    trace.now += SECOND;
    trace.look(RingFound::Unmapped);
    assert_eq!(trace.found(), [(Name::ContextLeak, Severity::Error)]);
    assert_eq!(trace.ends(), [Some(End::Leaked), Some(End::Destroyed)]);
}

#[test]
fn two_requests_that_are_the_same_are_submitted_again_as_copies() {
    let exit = Change::Exit { status: ExitStatus::Code(0) };
    for copies in 0..=2 {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, submit((1..=3).map(|it| request(it, PREAD, 0)).collect()));
        let copied: Vec<_> = (11..11 + copies).map(|it| request(it, PREAD, 0)).collect();
        trace.call(copies as i64, submit(copied));
        trace.tell(process(Some(70), exit.clone()));
        let dropped: Vec<i64> = trace
            .findings()
            .iter()
            .filter(|it| it.name == Name::ShortSubmitDropped)
            .filter_map(|it| it.numbers().iter().find(|it| it.0 == "dropped").map(|it| it.1))
            .collect();
        assert_eq!(dropped, [2 - copies as i64].repeat(usize::from(copies < 2)), "{copies}");
    }
}

/// The rest of a context whose ring was unmapped went to another context, and an exec made it certain that half of it
/// was dropped. (PROPTEST_RNG_SEED=1795806189)
#[test]
fn two_requests_that_are_the_same_may_both_be_submitted_to_another_context() {
    const OTHER: Handle = Handle(0x2000);
    let exit = Change::Exit { status: ExitStatus::Code(0) };
    let dropped = |copies: &[Handle]| {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(0, Args::Setup { nr_events: 4, ctxp: Address(8), stored: Some(OTHER) });
        trace.call(1, submit((1..=3).map(|it| request(it, PREAD, 0)).collect()));
        for (iocb, ctx) in (11..).zip(copies) {
            trace.call(1, submit_to(*ctx, vec![request(iocb, PREAD, 0)]));
        }
        trace.looked();
        trace.tell(process(Some(70), exit.clone()));
        let found = trace.findings();
        let found = found.iter().filter(|it| it.name == Name::ShortSubmitDropped);
        found.map(|it| (it.severity, it.doubt, it.numbers()[2].1)).collect::<Vec<_>>()
    };
    let unsure = |count| vec![(Severity::Warning, Some(Doubt::OtherContext), count)];
    assert_eq!(dropped(&[]), [(Severity::Error, None, 2)]);
    assert_eq!(dropped(&[OTHER]), [(Severity::Error, None, 1)], "two were left");
    assert_eq!(dropped(&[OTHER, OTHER]), unsure(2));
    assert_eq!(dropped(&[OTHER, OTHER, OTHER]), unsure(2));
    assert_eq!(dropped(&[OTHER, H]), unsure(1));
    assert_eq!(dropped(&[H, OTHER]), unsure(1));
    assert_eq!(dropped(&[OTHER, OTHER, H]), unsure(1));
    assert_eq!(dropped(&[OTHER, H, H]), []);
}

#[test]
fn how_the_ring_was_when_io_submit_began_is_not_how_it_is() {
    let mut trace = Trace::seen(true);
    trace.setup();
    let before = Some(Ring { head: 0, tail: 0, nr: 4 });
    let entered = trace.now;
    trace.call(2, submit((1..=2).map(|it| request(it, PREAD, 0)).collect()));
    trace.complete(1);
    trace.complete(2);
    let (entered, entry, args) = (Some(entered), Entry::Seen, one(PREAD));
    let (ring, ring_before, compat, stack) = (None, before, false, None);
    let ret = -11;
    trace.tell(Body::Call(Call {
        entered,
        entry,
        ret,
        args,
        ring,
        ring_before,
        compat,
        stack,
        fault: None,
    }));
    assert_eq!(trace.rows()[0].unreaped, Some(2));
}

#[test]
fn a_ring_in_which_anything_is_written_costs_no_memory() {
    let ring = Ring { head: 1, tail: 0, nr: u32::MAX };
    assert_eq!(ring.unreaped(), u32::MAX - 1);
    let mut trace = Trace::seen(true);
    let ring = Some(ring);
    trace.tell(Body::ContextAdopted(Adopted { ctx: H, ring, charge: None, in_flight: None }));
    assert_eq!(trace.rows()[0].unreaped, Some(u64::from(u32::MAX - 1)));
}

#[test]
fn only_the_io_destroy_that_worked_says_how_long_it_blocked() {
    let mut trace = Trace::seen(true);
    trace.setup();
    trace.call(1, one(PWRITE));
    let entered = trace.now;
    trace.gone(How::Destroy, Some(1));
    // Another thread tries it as well.
    trace.call(-22, Args::Destroy { ctx: H });
    trace.now += SECOND;
    trace.call_since(entered, 0, Args::Destroy { ctx: H });
    let findings = trace.findings();
    let discarded = findings.iter().find(|it| it.name == Name::DiscardedRequests).unwrap();
    assert!(discarded.numbers().iter().any(|it| it.0 == "blocked_ns" && it.1 > 1_000_000_000));
}

#[test]
fn requests_of_a_lost_context_make_room_for_others() {
    let mut trace = Trace::seen(true);
    for _ in 0..3 {
        trace.setup();
        let count = aiotrace_model::model::MOST_REQUESTS / 2;
        trace.call(count as i64, submit((0..count).map(|it| request(it, PREAD, 0)).collect()));
        for _ in 0..2 {
            trace.now += SECOND;
            trace.look(RingFound::Unmapped);
        }
    }
    assert_eq!(trace.ends(), [Some(End::Leaked); 3]);
    assert_eq!(trace.model.report().evicted, 0);
}

#[test]
fn an_io_destroy_whose_return_is_lost_does_not_wait_for_ever() {
    let mut trace = Trace::seen(true);
    for _ in 0..2 {
        trace.setup();
        trace.call(1, one(PWRITE));
        trace.gone(How::Destroy, Some(1));
    }
    // The io_destroy of the second context, which began after the end of the first.
    trace.call_since(trace.now - 1, 0, Args::Destroy { ctx: H });
    assert_eq!(trace.ends(), [None, Some(End::Destroyed)]);
    trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
    trace.now += SECOND;
    trace.model.handle_timeout(trace.now);
    assert_eq!(trace.ends(), [Some(End::Destroyed); 2]);
}

#[test]
fn a_cancelled_request_excuses_only_its_own_failure() {
    let mut trace = Trace::seen(true);
    trace.setup();
    let other = Handle(0x2000);
    trace.call(0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(other) });
    let mut of_other = one(PREAD);
    let Args::Submit { ctx, .. } = &mut of_other else { unreachable!() };
    *ctx = other;
    trace.call(1, of_other);
    let cancel = |ctx| Args::Cancel { ctx, iocb: Address(1), result: Address(0), value: None };
    let complete = |ctx, res| {
        let event = Some(IoEvent { data: 0, obj: 1, res, res2: 0 });
        Body::Completion(Completion::exact(ctx, event))
    };
    // The event of the completion comes after the return of io_cancel, or before it.
    trace.call(1, one(POLL));
    trace.call(EINPROGRESS, cancel(H));
    trace.tell(complete(H, ECANCELED));
    trace.call(1, one(POLL));
    trace.tell(complete(H, 0));
    trace.call(EINPROGRESS, cancel(H));
    assert_eq!(trace.found(), []);
    trace.tell(complete(other, EIO));
    assert_eq!(trace.found(), [(Name::FailedCompletion, Severity::Warning)]);
}

#[test]
fn the_rest_of_a_short_submit_may_change_places() {
    let mut trace = Trace::seen(true);
    trace.setup();
    trace.call(1, submit((1..=4).map(|it| request(it, PWRITE, it as i64)).collect()));
    // The request that was at 4 is now at 3, the one at 3 is at 2, and the one at 2 is somewhere else.
    for (iocb, offset) in [(3, 4), (9, 2), (2, 3)] {
        trace.call(1, submit(vec![request(iocb, PWRITE, offset)]));
    }
    trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
    assert_eq!(trace.found().iter().filter(|it| it.0 == Name::ShortSubmitDropped).count(), 0);
}

/// The second request of each pair is refused, and never made again: 64 short submits are followed at a time.
#[test]
fn short_submits_that_are_too_many_to_follow_are_counted_all_the_same() {
    for is_made_again in [false, true] {
        let mut trace = Trace::seen(true);
        trace.setup();
        for nth in 0..180 {
            let pair = [1, 2].map(|it| request(2 * nth + it, PWRITE, (2 * nth + it) as i64));
            trace.call(1, submit(pair.to_vec()));
            if is_made_again {
                trace.call(1, submit(pair[1..].to_vec()));
            }
        }
        trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
        let report = trace.model.report();
        let dropped = report.findings.iter().filter(|it| it.name == Name::ShortSubmitDropped);
        let count: u64 = dropped.map(|it| it.count).sum();
        assert_eq!(count, if is_made_again { 0 } else { 180 });
    }
}

/// 1,024 requests of a call are kept, and 4,096 of all calls; if some are not kept, the finding is unsure.
#[test]
fn the_rest_of_a_short_submit_is_bounded() {
    let dropped = |given: u64, before: u64| {
        let mut trace = Trace::seen(true);
        trace.setup();
        for nth in 0..before {
            let first = 10_000 * (nth + 1);
            trace.call(
                1,
                submit((first..first + 900).map(|it| request(it, PWRITE, it as i64)).collect()),
            );
        }
        trace.call(1, submit((1..=given).map(|it| request(it, PWRITE, it as i64)).collect()));
        trace.looked();
        trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
        let found = trace.found();
        found
            .iter()
            .filter(|it| it.0 == Name::ShortSubmitDropped)
            .map(|it| it.1)
            .collect::<Vec<_>>()
    };
    assert_eq!(dropped(1025, 0), [Severity::Error]);
    assert_eq!(dropped(1026, 0), [Severity::Warning], "one of them is not kept, so it is unsure");
    // The oldest short submits are given up, which is unsure, and the others are reported once.
    assert_eq!(dropped(900, 20), [Severity::Warning, Severity::Error]);
}

/// How many were in flight at a time is not known where they completed before io_submit returned.
#[test]
fn the_peak_of_what_completes_inside_of_io_submit_is_a_bound() {
    let ring = |tail| Some(Ring { head: 0, tail, nr: 64 });
    let requests = |count: u64| submit((0..count).map(|at| request(at, PWRITE, 0)).collect());
    let peak = |trace: &Trace| {
        let peak = trace.rows()[0].peak;
        (peak.number(), peak.bound() == Bound::AtMost)
    };
    for is_exact in [false, true] {
        let mut trace = Trace::seen(is_exact);
        trace.setup();
        // One is one, whenever it completes.
        let mut call = call_of(trace.now + 1, 1, requests(1));
        (call.ring_before, call.ring) = (ring(0), ring(1));
        trace.now += 1;
        trace.complete(0);
        trace.tell(Body::Call(call));
        assert_eq!(peak(&trace), (1, false), "exact: {is_exact}");
        let mut call = call_of(trace.now + 1, 8, requests(8));
        (call.ring_before, call.ring) = (ring(1), ring(9));
        trace.now += 1;
        (0..8).for_each(|at| trace.complete(at));
        trace.tell(Body::Call(call));
        assert_eq!(peak(&trace), (8, true), "exact: {is_exact}");
        // So many at least, as none of them has completed.
        let mut call = call_of(trace.now + 1, 12, requests(12));
        (call.ring_before, call.ring) = (ring(9), ring(9));
        trace.tell(Body::Call(call));
        assert_eq!(peak(&trace), (12, false), "exact: {is_exact}");
        // Two threads: what the other call has accepted and has completed meanwhile was in flight with it, perhaps.
        let mut call = call_of(trace.now + 1, 4, requests(4));
        (call.ring_before, call.ring) = (ring(9), ring(19));
        trace.now += 1;
        (0..10).for_each(|at| trace.complete(at));
        trace.tell(Body::Call(call));
        assert_eq!(peak(&trace), (16, true), "exact: {is_exact}");
    }
}

/// In memory that is mapped where a ring was, the kernel finds the number of the first context, which so works again.
#[test]
fn a_context_that_works_without_its_ring_is_not_lost() {
    let lose = |found| {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(1, one(POLL));
        for _ in 0..2 {
            trace.now += SECOND;
            trace.look(found);
        }
        trace
    };
    let covered = lose(RingFound::Covered).findings();
    assert_eq!(covered[0].doubt, Some(Doubt::Covered));
    assert_eq!(covered[0].severity, Severity::Warning);
    for is_used in [true, false] {
        let mut trace = lose(RingFound::Unmapped);
        assert_eq!(trace.found(), [(Name::ContextLeak, Severity::Error)]);
        assert_eq!(trace.ends(), [Some(End::Leaked)]);
        if is_used {
            trace.call(1, one(POLL));
            assert_eq!(trace.ends(), [None], "it is no other context");
            for _ in 0..3 {
                trace.now += SECOND;
                trace.look(RingFound::Covered);
            }
        }
        trace.destroy(0);
        let report = trace.model.report();
        assert!(report.findings.iter().all(|it| it.name != Name::ContextLeak));
        assert_eq!(trace.ends(), [Some(End::Destroyed)]);
        assert_eq!((report.sums.contexts, report.sums.ended), (1, 1));
        assert!(report.disagreements.is_empty(), "{:?}", report.disagreements);
        assert_eq!(trace.found(), []);
    }
    // Its ring is not seen any more, and neither is whether what was submitted since has completed.
    for is_exact in [true, false] {
        let mut trace = Trace::seen(is_exact);
        trace.setup();
        for _ in 0..2 {
            trace.now += SECOND;
            trace.look(RingFound::Unmapped);
        }
        trace.call(1, one(PREAD));
        trace.findings();
        trace.destroy(1);
        let told: Vec<_> = trace.findings().iter().map(|it| (it.name, it.doubt)).collect();
        let unsure = (Name::DiscardedRequests, Some(Doubt::Covered));
        assert_eq!(told, if is_exact { vec![unsure] } else { vec![] });
    }
    // Who was in a call on it before that had the context.
    let mut trace = lose(RingFound::Unmapped);
    trace.call_since(SECOND, 1, getevents_of(1, 1));
    assert_eq!(trace.ends()[0], Some(End::Leaked));
    assert_eq!(trace.model.worst_finding(), Some(Severity::Error));
    // It was so of one of them, and the other one's is told.
    let mut trace = lose(RingFound::Unmapped);
    trace.setup();
    for _ in 0..2 {
        trace.now += SECOND;
        trace.look(RingFound::Unmapped);
    }
    trace.destroy(0);
    assert_eq!(trace.ends(), [Some(End::Leaked), Some(End::Destroyed)]);
    let leaks = trace.model.report().findings;
    assert_eq!(
        leaks.iter().map(|it| (it.name, it.count)).collect::<Vec<_>>(),
        [(Name::ContextLeak, 1)]
    );
}

/// Contexts live as long as the memory of their process, which a child may share (clone(2) with CLONE_VM).
#[test]
fn what_a_child_shares_that_is_not_traced_may_not_end_with_the_process() {
    let told = |space, how: How| {
        let mut trace = Trace::new(true);
        trace.tell(process(Some(70), Change::Exec { path: Vec::new() }));
        trace.setup();
        trace.call(1, one(PWRITE));
        trace.tell(process(space, Change::Fork { child: 8, followed: false }));
        trace.gone(how, Some(1));
        let change = match how {
            How::Exit => Change::Exit { status: ExitStatus::Code(0) },
            _ => Change::Exec { path: Vec::new() },
        };
        trace.tell(process(Some(71), change));
        trace.model.finish(trace.now);
        let findings = trace.findings();
        let told: Vec<_> = findings.iter().map(|it| (it.name, it.severity, it.doubt)).collect();
        (told, trace.rows()[0].doubt)
    };
    for how in [How::Exit, How::Exec] {
        let doubt = Some(Doubt::SharedMemory);
        let unsure = [
            (Name::DiscardedRequests, Severity::Warning, doubt),
            (Name::ReleasedAtExit, Severity::Info, doubt),
        ];
        assert_eq!(told(Some(70), how), (unsure.to_vec(), doubt));
        let sure = [
            (Name::DiscardedRequests, Severity::Error, None),
            (Name::ReleasedAtExit, Severity::Info, None),
        ];
        assert_eq!(told(Some(80), how), (sure.to_vec(), None), "it has memory of its own");
        assert_eq!(told(None, how), (sure.to_vec(), None), "its parent waits for it");
    }
}

/// A child of vfork has made it and was not traced, for instance.
#[test]
fn what_completed_in_the_call_by_which_a_context_became_known_is_not_in_flight() {
    let ring = |head, tail| Some(Ring { head, tail, nr: 64 });
    for before in [None, ring(3, 5)] {
        for is_reaped_by_call in [true, false] {
            let mut trace = Trace::seen(false);
            let mut call = call_of(trace.now + 1, 1, one(PREAD));
            (call.ring_before, call.ring) = (before, ring(3, 6));
            trace.tell(Body::Call(call));
            let mut args = getevents_of(1, 4);
            if let Args::Getevents { list, .. } = &mut args {
                let event = |obj| Some(IoEvent { data: 0, obj, res: 512, res2: 0 });
                *list = vec![event(77), event(78), event(1)];
            }
            let mut call = call_of(trace.now + 1, 3, args);
            call.ring = ring(6, 6);
            if is_reaped_by_call {
                trace.tell(Body::Call(call));
            } else {
                trace.look(RingFound::There(Ring { head: 6, tail: 6, nr: 64 }));
            }
            assert_eq!(trace.rows()[0].in_flight, 0);
            assert_eq!(trace.rows()[0].done.requests, u64::from(is_reaped_by_call));
            let report = trace.destroy_told(0);
            assert_eq!(report, [], "no discarded-requests");
        }
    }
    // One that has not completed is.
    let mut trace = Trace::seen(false);
    let mut call = call_of(trace.now + 1, 1, one(PREAD));
    (call.ring_before, call.ring) = (ring(5, 5), ring(5, 5));
    trace.tell(Body::Call(call));
    assert_eq!(trace.rows()[0].in_flight, 1);
    assert_eq!(trace.destroy_told(1), [Name::DiscardedRequests]);
}

#[test]
fn what_was_done_before_an_exec_has_the_name_of_that_time() {
    for is_gone_before in [true, false] {
        let mut trace = Trace::seen(true);
        trace.setup();
        trace.call(2, submit(vec![request(1, PWRITE, 0), request(2, PREAD, 0)]));
        trace.complete(2);
        if is_gone_before {
            trace.gone(How::Exec, Some(1));
        }
        let mut exec = process(Some(71), Change::Exec { path: Vec::new() });
        if let Body::Process(it) = &mut exec {
            it.name = b"true".to_vec();
        }
        trace.tell(exec);
        if !is_gone_before {
            trace.gone(How::Exec, Some(1));
        }
        trace.model.finish(trace.now);
        let report = trace.model.report();
        assert_eq!(report.findings.len(), 2);
        let named = report.findings.iter().map(|it| &it.process);
        let named = named.chain(report.contexts.iter().map(|it| &it.process));
        let named = named.chain(report.kinds.iter().map(|it| &it.process));
        for name in named {
            assert_eq!(String::from_utf8_lossy(name), "reference");
        }
        // A request of its own.
        trace.setup();
        trace.call(1, one(PREAD));
        trace.complete(1);
        assert_eq!(trace.model.report().kinds[0].process, b"true");
    }
}

/// Who asks how much of fs.aio-nr is used comes too late: what the process itself held is known from its calls.
#[test]
fn what_a_process_held_when_it_was_denied_a_context_is_told() {
    let denied = |made: u64, lost: bool| {
        let mut trace = Trace::seen(true);
        (0..made).for_each(|it| trace.setup_by(&[1], 0x1000 + it * 0x1000));
        if lost {
            trace.tell(Body::Lost { records: 1 });
        }
        trace.call(-11, Args::Setup { nr_events: 64, ctxp: Address(0), stored: None });
        trace.tell(Body::Looked(Looked::Limit(Limit { used: 2, limit: 9, holders: Vec::new() })));
        let found = trace.findings();
        found.iter().find(|it| it.name == Name::SetupDenied).expect("it is found").message()
    };
    let rest = " later fs.aio-nr is 2 of 9";
    let message = denied(2, false);
    let held = "io_setup(64) = EAGAIN: the process held 8 then, in 2 contexts; ";
    assert!(message.starts_with(held) && message.ends_with(rest), "{message}");
    let message = denied(1, false);
    assert!(message.contains(": the process held 4 then, in 1 context; "), "{message}");
    // It may have made others, or ended these.
    for (made, lost) in [(0, false), (2, true)] {
        let message = denied(made, lost);
        assert!(
            message.starts_with("io_setup(64) = EAGAIN: ") && !message.contains("held"),
            "{message}"
        );
    }
}
