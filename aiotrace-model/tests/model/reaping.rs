//! How programs wait for their completions, and what the model concludes from it.

use aiotrace_model::{
    event::{Address, Adopted, Args, Body, Change, Event, ExitStatus, Timespec},
    model::{Doubt, Finding, Name},
};

use crate::{
    found::{H, POLL, PREAD, Trace, getevents_of, one, request, submit},
    told::{SECOND, process},
};

const MICRO: u64 = 1000;

fn made_for(nr_events: u32) -> Trace {
    let mut trace = Trace::seen(true);
    trace.call(0, Args::Setup { nr_events, ctxp: Address(0), stored: Some(H) });
    trace
}

fn of(name: Name, mut trace: Trace) -> Vec<Finding> {
    trace.model.finish(trace.now);
    trace.findings().into_iter().filter(|it| it.name == name).collect()
}

fn at_once(min_nr: i64) -> Args {
    with_timeout(min_nr, Timespec { sec: 0, nsec: 0 })
}

fn with_timeout(min_nr: i64, value: Timespec) -> Args {
    let mut args = getevents_of(min_nr, 1);
    if let Args::Getevents { timeout, timeout_value, .. } = &mut args {
        (*timeout, *timeout_value) = (Address(8), Some(value));
    }
    args
}

/// A request for which the thread waits, after `work` nanoseconds of other work.
fn turn(trace: &mut Trace, opcode: u16, work: u64) {
    trace.call(1, one(opcode));
    trace.now += work;
    let entered = trace.now;
    trace.now += 100 * MICRO;
    trace.complete(1);
    trace.call_since(entered, 1, getevents_of(1, 1));
}

fn turns(trace: &mut Trace, count: usize) {
    (0..count).for_each(|_| turn(trace, PREAD, 0));
}

#[test]
fn a_deep_context_that_is_used_one_by_one_is_told_when_it_is_over() {
    let mut trace = made_for(128);
    turns(&mut trace, 1000);
    trace.model.handle_timeout(trace.now + SECOND);
    assert_eq!(trace.found(), [], "it may still do otherwise");
    let found = of(Name::ShallowQueue, trace);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert_eq!(finding.doubt, None);
    assert_eq!(
        finding.message(),
        "this context was made for 128 requests, and never had more than 1 in flight: 1,000 requests were submitted \
         one by one, each followed by an io_getevents that waited for it, 102ms in all"
    );
    // A call that is interrupted, or whose timeout is over, is followed by another one that waits on.
    let mut trace = made_for(128);
    for _ in 0..1000 {
        trace.call(1, one(PREAD));
        trace.call(-4, getevents_of(1, 1));
        trace.call(0, with_timeout(1, Timespec { sec: 0, nsec: 1000 }));
        let entered = trace.now;
        trace.complete(1);
        trace.call_since(entered, 1, getevents_of(1, 1));
    }
    trace.destroy(0);
    assert_eq!(of(Name::ShallowQueue, trace).len(), 1);
}

#[test]
fn whoever_does_otherwise_once_is_not_shallow() {
    type Once = fn(&mut Trace);
    let otherwise: [Once; 8] = [
        // Two requests are in flight, from one call or from two.
        |trace| {
            trace.call(2, submit(vec![request(1, PREAD, 0), request(2, PREAD, 0)]));
            [1, 2].into_iter().for_each(|it| trace.complete(it));
            trace.call(2, getevents_of(2, 2));
        },
        |trace| {
            trace.call(1, one(PREAD));
            trace.call(1, submit(vec![request(2, PREAD, 0)]));
            [1, 2].into_iter().for_each(|it| trace.complete(it));
            trace.call(2, getevents_of(2, 2));
        },
        // No call waited for the request.
        |trace| {
            trace.call(1, one(PREAD));
            trace.complete(1);
        },
        |trace| {
            trace.call(1, one(PREAD));
            trace.complete(1);
            trace.call(1, at_once(1));
        },
        // The thread did something else in between.
        |trace| {
            trace.call(1, one(PREAD));
            trace.call(0, Args::Setup { nr_events: 1, ctxp: Address(0), stored: None });
            trace.complete(1);
            trace.call(1, getevents_of(1, 1));
        },
        // A thread that waits for a poll could wait for others at the same time.
        |trace| turn(trace, POLL, 0),
        // The thread works most of the time.
        |trace| turn(trace, PREAD, SECOND),
        |trace| trace.tell(Body::Lost { records: 1 }),
    ];
    for (index, otherwise) in otherwise.iter().enumerate() {
        let mut trace = made_for(128);
        turns(&mut trace, 500);
        otherwise(&mut trace);
        turns(&mut trace, 1000);
        assert_eq!(of(Name::ShallowQueue, trace), [], "{index}");
    }
}

#[test]
fn a_context_for_few_or_for_few_requests_or_for_another_thread_is_not_shallow() {
    let mut few = made_for(7);
    turns(&mut few, 2000);
    assert_eq!(of(Name::ShallowQueue, few), []);
    let mut beginning = made_for(128);
    turns(&mut beginning, 999);
    assert_eq!(of(Name::ShallowQueue, beginning), []);
    // One thread submits, another one reaps.
    let mut two = made_for(128);
    for _ in 0..2000 {
        two.call(1, one(PREAD));
        two.complete(1);
        two.tell_of(8, 1, getevents_of(1, 1));
    }
    assert_eq!(of(Name::ShallowQueue, two), []);
}

/// That requests are complete at once is caused by the file, and is the subject of inline-completion.
#[test]
fn requests_that_are_complete_at_once_do_not_make_a_context_shallow() {
    let mut trace = made_for(128);
    for _ in 0..2000 {
        let entered = trace.now + 1;
        trace.now += 1;
        trace.complete(1);
        trace.call_since(entered, 1, one(PREAD));
        trace.call(1, getevents_of(1, 1));
    }
    assert_eq!(of(Name::ShallowQueue, trace), []);
}

#[test]
fn what_an_adopted_context_did_before_is_not_known() {
    for charge in [None, Some(128)] {
        let mut trace = Trace::seen(true);
        let adopted = Adopted { ctx: H, ring: None, charge, in_flight: Some(0) };
        trace.tell(Body::ContextAdopted(adopted));
        turns(&mut trace, 1000);
        trace.tell(process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
        let found = of(Name::ShallowQueue, trace);
        let doubts: Vec<_> = found.iter().map(|it| it.doubt).collect();
        let expected = charge.map(|_| Some(Doubt::BeforeAttach));
        assert_eq!(doubts, expected.into_iter().collect::<Vec<_>>());
        assert!(found.iter().all(|it| it.message().contains("1 in flight since the attach")));
    }
}

/// This many calls in 1.5 s, which return this many events each.
fn polls(trace: &mut Trace, count: u64, args: &Args, ret: i64) {
    for _ in 0..count {
        trace.now += SECOND * 3 / 2 / count - MICRO;
        let entered = trace.now;
        trace.call_since(entered, ret, args.clone());
    }
}

#[test]
fn polling_for_nothing_is_told_with_what_it_takes() {
    let short = with_timeout(1, Timespec { sec: 0, nsec: 100_000 });
    let waited = "waited for 100us at most";
    let all = [(at_once(1), "did not wait"), (getevents_of(0, 1), "did not wait"), (short, waited)];
    for (args, how) in all {
        let mut trace = made_for(8);
        polls(&mut trace, 3000, &args, 0);
        let found = of(Name::BusyReaping, trace);
        let [finding] = &found[..] else { panic!("{found:?}") };
        assert_eq!((finding.tid, finding.doubt), (Some(7), None));
        assert_eq!(
            finding.message(),
            format!(
                "2,001 calls of io_getevents in 1.00s {how} and returned nothing: the thread spent 2.00ms in them; no \
                 request was in flight"
            )
        );
    }
    let mut trace = made_for(8);
    trace.call(1, one(POLL));
    polls(&mut trace, 3000, &at_once(1), 0);
    let found = of(Name::BusyReaping, trace);
    assert!(found[0].message().ends_with("; requests were in flight"), "{}", found[0].message());
}

#[test]
fn polling_now_and_then_or_for_something_or_waiting_is_not_busy() {
    let waits = with_timeout(1, Timespec { sec: 0, nsec: 100_001 });
    for (count, args, ret) in [
        (1400, at_once(1), 0),
        (3000, at_once(1), 1),
        (3000, waits, 0),
        // The call was interrupted.
        (3000, at_once(1), -4),
    ] {
        let mut trace = made_for(8);
        polls(&mut trace, count, &args, ret);
        assert_eq!(of(Name::BusyReaping, trace), [], "{count} {args:?} {ret}");
    }
    // One call of five returns an event.
    let mut trace = made_for(8);
    for ret in [0, 0, 0, 0, 1].into_iter().cycle().take(20_000) {
        trace.now += 100 * MICRO;
        trace.call(ret, at_once(1));
    }
    assert_eq!(of(Name::BusyReaping, trace), []);
    // After a loss the finding is made, and is unsure.
    let mut trace = made_for(8);
    trace.tell(Body::Lost { records: 1 });
    polls(&mut trace, 3000, &at_once(1), 0);
    let found = of(Name::BusyReaping, trace);
    assert_eq!(found[0].doubt, Some(Doubt::Lost));
    assert!(found[0].message().ends_with("whether requests were in flight is not known"));
}

impl Trace {
    /// A call of another thread.
    fn tell_of(&mut self, tid: u32, ret: i64, args: Args) {
        self.now += MICRO;
        let call = crate::found::call_of(self.now, ret, args);
        self.model.handle_event(&Event { time: self.now, pid: 7, tid, body: Body::Call(call) });
    }
}
