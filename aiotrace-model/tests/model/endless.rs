//! Waits that never end.

use aiotrace_model::{
    event::{
        Address, Adopted, Body, Change, ExitStatus, Handle, Looked, Ring, RingFound, Thread,
        Timespec, Waits,
    },
    model::{Doubt, Finding, Name, Question, Severity},
};

use crate::{
    found::{H, POLL, PREAD, Trace, getevents_of, one, request, submit},
    told::{SECOND, process},
};

const EMPTY: Ring = Ring { head: 0, tail: 0, nr: 8 };
/// A ring from which one completion was reaped.
const DONE: Ring = Ring { head: 1, tail: 1, nr: 8 };

/// A thread that waits for `min_nr` completions without a timeout.
fn waiting(tid: u32, min_nr: i64) -> Thread {
    let waits = Waits { ctx: H, min_nr, timeout: Address(0), timeout_value: None };
    Thread { pid: 7, tid, waits: Some(waits), signals: 0 }
}

fn busy(tid: u32) -> Thread {
    Thread { pid: 7, tid, waits: None, signals: 0 }
}

/// A context after this work, which nobody uses any more.
fn after(work: impl Fn(&mut Trace)) -> Trace {
    let mut trace = Trace::seen(true);
    trace.setup();
    work(&mut trace);
    trace
}

fn pair(trace: &mut Trace) {
    trace.call(1, one(PREAD));
    trace.complete(1);
    trace.call(1, getevents_of(1, 1));
}

/// A look at the ring finds a thread that waits for `awaited` completions. Returns whether the model asks for the
/// threads.
fn is_asked(trace: &mut Trace, ring: Ring, awaited: i64) -> bool {
    trace.now += SECOND;
    trace.look_while(RingFound::There(ring), Some(awaited));
    tick(trace)
}

/// Time passes. Returns whether the model asks for the threads.
fn tick(trace: &mut Trace) -> bool {
    trace.now += SECOND;
    trace.model.handle_timeout(trace.now);
    let is_it = |it: &Question| *it == Question::Threads { pid: 7 };
    std::iter::from_fn(|| trace.model.next_question()).filter(is_it).count() == 1
}

fn answer(trace: &mut Trace, threads: &[Thread]) {
    trace.tell(Body::Looked(Looked::Threads(Some(threads.to_vec()))));
}

/// Two looks, 5 s apart, find these threads. Returns the findings.
fn found(mut trace: Trace, ring: Ring, awaited: i64, threads: &[Thread]) -> Vec<Finding> {
    if !is_asked(&mut trace, ring, awaited) {
        return Vec::new();
    }
    answer(&mut trace, threads);
    assert_eq!(of(&mut trace), [], "once is not enough");
    trace.now += 5 * SECOND;
    if !tick(&mut trace) {
        return Vec::new();
    }
    answer(&mut trace, threads);
    of(&mut trace)
}

fn of(trace: &mut Trace) -> Vec<Finding> {
    trace.findings().into_iter().filter(|it| it.name == Name::EndlessWait).collect()
}

#[test]
fn a_wait_that_nobody_can_end_is_told() {
    let told = found(after(pair), DONE, 1, &[waiting(7, 1)]);
    let [finding] = &told[..] else { panic!("{told:?}") };
    assert_eq!((finding.severity, finding.doubt, finding.tid), (Severity::Warning, None, Some(7)));
    assert_eq!(
        finding.message(),
        "the thread waits in io_getevents for 1 completion without a timeout, for 6.00s at least: none is in flight or \
         in the ring, and no thread is left that could submit"
    );
    // All threads wait, and two completions can come where three are wanted.
    let two = after(|trace| {
        trace.call(2, submit(vec![request(1, POLL, 0), request(2, PREAD, 0)]));
        trace.complete(2);
    });
    let told = found(two, Ring { tail: 1, ..EMPTY }, 4, &[waiting(7, 4), waiting(8, 3)]);
    assert_eq!(
        told[0].message(),
        "2 threads wait in io_getevents for 3 completions each without a timeout, for 6.00s at least: only 2 can come, \
         and no thread is left that could submit"
    );
}

#[test]
fn a_wait_that_something_may_end_is_not_told() {
    let none: [Finding; 0] = [];
    let in_flight = |trace: &mut Trace| trace.call(1, one(POLL));
    assert_eq!(found(after(in_flight), EMPTY, 1, &[waiting(7, 1)]), none);
    // The thread has taken one of the two completions that it waits for, and the other request is in flight.
    let one_taken = |trace: &mut Trace| {
        trace.call(2, submit(vec![request(1, POLL, 0), request(2, PREAD, 0)]));
        trace.complete(2);
    };
    assert_eq!(found(after(one_taken), DONE, 2, &[waiting(7, 2)]), none);
    // Another thread lives; or another process lives, which is not traced.
    assert_eq!(found(after(pair), DONE, 1, &[waiting(7, 1), busy(8)]), none);
    let other = Thread { pid: 9, ..waiting(9, 1) };
    assert_eq!(found(after(pair), DONE, 1, &[waiting(7, 1), other]), none);
    // There is a timeout, or it is unknown.
    for value in [Some(Timespec { sec: 1 << 30, nsec: 0 }), None] {
        let mut thread = waiting(7, 1);
        let waits = thread.waits.as_mut().unwrap();
        (waits.timeout, waits.timeout_value) = (Address(8), value);
        assert_eq!(found(after(pair), DONE, 1, &[thread]), none);
    }
    // The thread waits on another context, about which nothing is known.
    let mut thread = waiting(7, 1);
    thread.waits.as_mut().unwrap().ctx = Handle(0x9000);
    assert_eq!(found(after(pair), DONE, 1, &[waiting(6, 1), thread]), none);
    // An event was lost.
    let lost = |trace: &mut Trace| trace.tell(Body::Lost { records: 1 });
    assert_eq!(found(after(lost), EMPTY, 1, &[waiting(7, 1)]), none);
    // No thread is left.
    assert_eq!(found(after(pair), DONE, 1, &[]), none);
}

#[test]
fn who_does_something_between_two_looks_does_not_wait_for_ever() {
    type Between = fn(&mut Trace);
    let somebody: [Between; 4] = [
        // A call returned; a thread is new; a process is new; what the threads do cannot be found out.
        pair,
        |trace| answer(trace, &[waiting(7, 1), waiting(8, 1)]),
        |trace| {
            let change = Change::Fork { child: 8, followed: false };
            trace.tell(process(Some(70), change));
        },
        |trace| trace.tell(Body::Looked(Looked::Threads(None))),
    ];
    for (index, between) in somebody.iter().enumerate() {
        let mut trace = after(pair);
        assert!(is_asked(&mut trace, DONE, 1));
        answer(&mut trace, &[waiting(7, 1)]);
        between(&mut trace);
        trace.now += 4 * SECOND;
        answer(&mut trace, &[waiting(7, 1)]);
        trace.now += SECOND;
        answer(&mut trace, &[waiting(7, 1)]);
        assert_eq!(of(&mut trace), [], "{index}");
    }
}

#[test]
fn what_a_signal_or_another_thread_may_do_makes_it_unsure() {
    let doubts = |told: Vec<Finding>| told.into_iter().map(|it| it.doubt).collect::<Vec<_>>();
    let handles = Thread { signals: 1 << 13, ..waiting(7, 1) };
    assert_eq!(doubts(found(after(pair), DONE, 1, &[handles])), [Some(Doubt::Signal)]);
    let mut negative = waiting(7, 1);
    let waits = negative.waits.as_mut().unwrap();
    (waits.timeout, waits.timeout_value) = (Address(8), Some(Timespec { sec: -1, nsec: 0 }));
    assert_eq!(doubts(found(after(pair), DONE, 1, &[negative])), [Some(Doubt::ReadLater)]);
    // Only this thread has ever submitted to the context, and more than a few times.
    let often = |trace: &mut Trace| (0..16).for_each(|_| pair(trace));
    let told = found(after(often), EMPTY, 1, &[waiting(7, 1), busy(8)]);
    assert_eq!(doubts(told), [Some(Doubt::OtherThread)]);
    let told = found(after(often), EMPTY, 1, &[waiting(8, 1), busy(7)]);
    assert_eq!(doubts(told), [], "the other one submits");
}

#[test]
fn of_a_context_from_before_the_attach_it_is_told_if_all_of_it_is_known() {
    let adopted = |in_flight, min_nr| {
        let mut trace = Trace::seen(true);
        let ring = Some(EMPTY);
        trace.tell(Body::ContextAdopted(Adopted { ctx: H, ring, charge: Some(8), in_flight }));
        found(trace, EMPTY, min_nr, &[waiting(7, min_nr)]).len()
    };
    assert_eq!((adopted(Some(0), 1), adopted(Some(0), 4)), (1, 1));
    // The thread may have taken three of the four before the attach.
    assert_eq!((adopted(None, 1), adopted(Some(1), 4)), (0, 0));
}

#[test]
fn it_is_told_once_and_forgotten_with_its_process() {
    let mut trace = after(pair);
    for round in 0..3 {
        assert_eq!(is_asked(&mut trace, DONE, 1), round == 0);
        answer(&mut trace, &[waiting(7, 1)]);
        trace.now += 5 * SECOND;
        answer(&mut trace, &[waiting(7, 1)]);
        assert_eq!(of(&mut trace).len(), usize::from(round == 0), "{round}");
    }
    let mut trace = after(pair);
    assert!(is_asked(&mut trace, DONE, 1));
    trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
    assert!(!tick(&mut trace) && !tick(&mut trace));
}
