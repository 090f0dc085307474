//! Completions whose entries could not be read in the ring: the events of io_getevents give their results; otherwise
//! they are unknown, and so not in flight, in no finding and in no latency.

use aiotrace_common::abi;
use aiotrace_model::{
    event::{
        Address, Args, Behind, Body, Call, Change, Completion, Entry, Event, Gone, Handle, How,
        IoEvent, Iocb, Ring, Syscall,
    },
    model::{Bound, Model, Name, Report, Settings, Thresholds},
};

use crate::told::{SECOND, process};

const CTX: Handle = Handle(0x1000);

struct Trace {
    model: Model,
    now: u64,
}

impl Trace {
    fn new() -> Self {
        let settings = Settings {
            thresholds: Thresholds::default(),
            exact_completions: false,
            every_call: true,
            synchronous: true,
            stops: false,
        };
        let mut trace = Self { model: Model::new(settings), now: SECOND };
        trace.tell(process(Some(70), Change::Seen));
        let setup = Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(CTX) };
        trace.call(0, setup, None);
        trace
    }

    fn tell(&mut self, body: Body) {
        self.now += 1000;
        self.model.handle_event(&Event { time: self.now, pid: 7, tid: 7, body });
    }

    fn call(&mut self, ret: i64, args: Args, at: Option<(u32, u32)>) {
        self.call_since(self.now + 500, ret, args, at);
    }

    fn call_since(&mut self, entered: u64, ret: i64, args: Args, at: Option<(u32, u32)>) {
        let entered = Some(entered);
        let ring = at.map(|(head, tail)| Ring { head, tail, nr: 10 });
        let (ring_before, compat, stack, fault) = (None, false, None, None);
        let entry = Entry::Seen;
        let call = Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault };
        self.tell(Body::Call(call));
    }

    /// Three writes.
    fn submit(&mut self, at: (u32, u32)) {
        let iocb = |address: u64| {
            let value = abi::Iocb { opcode: 1, fildes: 3, nbytes: 512, ..Default::default() };
            Some(Iocb {
                address: Some(Address(address)),
                value: Some(value),
                read_late: false,
                vectors: None,
            })
        };
        let iocbs = (1..=3).map(iocb).collect();
        let args = Args::Submit { ctx: CTX, nr: 3, iocbpp: Address(0), iocbs, truncated: 0 };
        self.call(3, args, Some(at));
    }

    /// The requests complete, and their entries cannot be read.
    fn unread(&mut self, count: usize) {
        let completion =
            Completion { ctx: CTX, event: None, since: Some(0), until: None, discarded: false };
        (0..count).for_each(|_| self.tell(Body::Completion(completion)));
    }

    fn getevents(&mut self, results: [i64; 3], at: (u32, u32)) {
        let event = |(obj, res)| Some(IoEvent { data: 0, obj, res, res2: 0 });
        let args = Args::Getevents {
            syscall: Syscall::Getevents,
            ctx: CTX,
            min_nr: 3,
            nr: 3,
            events: Address(0),
            timeout: Address(0),
            timeout_value: None,
            sigset: Address(0),
            sigset_value: None,
            list: (1..).zip(results).map(event).collect(),
            truncated: 0,
            changed: Vec::new(),
        };
        self.call(3, args, Some(at));
    }

    fn destroy(&mut self, at: (u32, u32)) -> Report {
        let entered = self.now + 500;
        let gone = Gone { ctx: CTX, how: How::Destroy, in_flight: None, at_most: false };
        self.tell(Body::ContextGone(gone));
        self.call_since(entered, 0, Args::Destroy { ctx: CTX }, Some(at));
        self.model.finish(self.now);
        let report = self.model.report();
        assert!(report.disagreements.is_empty(), "{:?}", report.disagreements);
        report
    }
}

fn found(report: &Report) -> Vec<Name> {
    report.findings.iter().map(|it| it.name).collect()
}

#[test]
fn what_nobody_could_read_is_unknown() {
    let mut trace = Trace::new();
    trace.submit((0, 0));
    trace.unread(3);
    assert_eq!(trace.model.unread(false), 3, "a loss of its own, whatever else was lost");
    let report = trace.destroy((0, 3));
    let row = &report.contexts[0];
    assert_eq!(
        (row.in_flight, row.unknown, row.done.requests, row.doubt.is_none()),
        (0, 3, 0, false)
    );
    assert!(row.complete.is_none(), "no latency is made of it");
    assert_eq!(found(&report), [], "nor is anything found");
    assert_eq!((report.sums.completed, report.sums.unknown, report.sums.discarded), (0, 3, 0));
}

#[test]
fn what_only_the_ring_tells_of_is_unknown() {
    let mut trace = Trace::new();
    trace.submit((0, 0));
    let report = trace.destroy((3, 3));
    let row = &report.contexts[0];
    assert_eq!((row.in_flight, row.unknown, found(&report)), (0, 3, vec![]));
    let unread = |is_lossless| trace.model.unread(is_lossless);
    assert_eq!((unread(true), unread(false)), (3, 0), "if records were lost, these may be those");
}

#[test]
fn io_getevents_tells_what_could_not_be_read() {
    for is_unread in [true, false] {
        let mut trace = Trace::new();
        trace.submit((0, 0));
        if is_unread {
            trace.unread(3);
        } else {
            trace.tell(Body::Behind(Behind { ctx: CTX, completions: 3 }));
        }
        trace.getevents([512, -5, 512], (3, 3));
        let report = trace.destroy((3, 3));
        let row = &report.contexts[0];
        let counts = (row.in_flight, row.unknown, row.done.requests, row.done.failed);
        assert_eq!(counts, (0, 0, 3, 1), "unread: {is_unread}");
        assert_eq!(found(&report), [Name::FailedCompletion]);
        assert_eq!(trace.model.unread(true), 0);
    }
}

#[test]
fn an_iocb_that_is_used_again_was_not_in_flight() {
    let mut trace = Trace::new();
    trace.submit((0, 0));
    trace.unread(3);
    trace.submit((3, 3));
    let event = |obj| Some(IoEvent { data: 0, obj, res: 512, res2: 0 });
    for obj in 1..=3 {
        let since = Some(trace.now);
        let completion =
            Completion { ctx: CTX, event: event(obj), since, until: None, discarded: false };
        trace.tell(Body::Completion(completion));
    }
    let report = trace.destroy((6, 6));
    let row = &report.contexts[0];
    let peak = (row.peak.number(), row.peak.bound() == Bound::AtMost);
    assert_eq!((row.in_flight, row.unknown, row.done.requests, peak), (0, 3, 3, (3, false)));
    assert_eq!(found(&report), [], "no iocb-reused-in-flight");
}
