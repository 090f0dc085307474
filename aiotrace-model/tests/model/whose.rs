//! Whose completion a fault changed: two threads submit two iocbs, which are used again at once, in batches.
//! Completions are seen before io_submit returns, or after, or only when the program gets them. No two requests have
//! the same offset.

use std::collections::BTreeMap;

use aiotrace_common::abi;
use aiotrace_model::{
    event::{
        Address, Args, Body, Call, Change, Changed, Completion, Effect, Entry, Event, ExitStatus,
        Fault, Handle, IoEvent, Iocb, Syscall,
    },
    model::{Model, Rules, Settings, Thresholds},
    trace::{FaultRule, Faults},
};
use proptest::prelude::*;

use crate::told::{SECOND, process};

const CTX: Handle = Handle(0x1000);
const RULE: Fault = Fault { rule: 1, effect: Effect::Done };
/// The kernel's own result of every request.
const OWN: i64 = 512;
const EIO: i64 = -5;

/// An io_submit of one or two requests, and the io_getevents that reap them.
#[derive(Clone, Debug)]
struct Batch {
    /// The io_submit has both iocbs; otherwise only this one.
    both: bool,
    iocb: u64,
    tid: u32,
    /// Whether each request completes before the call returns.
    inline: [bool; 2],
    /// Whether each request gets a fault.
    faulted: [bool; 2],
    /// The fault is made in the ring, when the completion is seen there; otherwise in the array that io_getevents
    /// filled.
    in_ring: bool,
    /// The other thread reaps what there is before io_submit returns.
    reaped_early: bool,
    /// Completions that come after the return are reported only when they are reaped, after the fault.
    late: bool,
}

fn batch() -> impl Strategy<Value = Batch> {
    let flags = any::<[bool; 4]>();
    (flags, 1..3u64, 7..9u32, any::<[bool; 2]>(), any::<[bool; 2]>()).prop_map(
        |([both, in_ring, reaped_early, late], iocb, tid, inline, faulted)| {
            let late = late && !in_ring;
            Batch { both, iocb, tid, inline, faulted, in_ring, reaped_early, late }
        },
    )
}

/// A request of a batch.
#[derive(Clone, Copy)]
struct Request {
    index: usize,
    iocb: u64,
    offset: i64,
}

struct Trace {
    model: Model,
    now: u64,
    /// The offset of the request, by the time of its fault.
    faults: BTreeMap<u64, i64>,
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
        let mut model = Model::new(settings);
        let rule = FaultRule { text: "complete:res=EIO".into(), mechanism: "ptrace".into() };
        let rules = Faults { seed: 1, dry_run: false, rules: vec![rule] };
        model.set_rules(Rules::of(Some(&rules)));
        let mut trace = Self { model, now: SECOND, faults: BTreeMap::new() };
        trace.tell(7, process(Some(70), Change::Seen));
        let setup = Args::Setup { nr_events: 8, ctxp: Address(0), stored: Some(CTX) };
        trace.call(7, trace.now, 0, setup);
        trace
    }

    fn tell(&mut self, tid: u32, body: Body) {
        self.now += 1000;
        self.model.handle_event(&Event { time: self.now, pid: 7, tid, body });
    }

    fn call(&mut self, tid: u32, entered: u64, ret: i64, args: Args) {
        let (ring, ring_before, compat, stack, fault) = (None, None, false, None, None);
        let (entered, entry) = (Some(entered), Entry::Seen);
        let call = Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault };
        self.tell(tid, Body::Call(call));
    }

    fn completed(&mut self, tid: u32, it: Request) {
        let event = Some(event(it, OWN));
        let since = Some(0);
        let completion = Completion { ctx: CTX, event, since, until: None, discarded: false };
        self.tell(tid, Body::Completion(completion));
    }

    fn changed(&mut self, tid: u32, it: Request) {
        let changed = Changed { ctx: CTX, event: event(it, OWN), res: EIO, fault: RULE };
        self.tell(tid, Body::Changed(changed));
        self.faults.insert(self.now, it.offset);
    }

    /// These completions are seen in the ring.
    fn seen(&mut self, tid: u32, batch: &Batch, of: &[Request]) {
        for it in of {
            self.completed(tid, *it);
        }
        for it in of.iter().filter(|it| batch.in_ring && batch.faulted[it.index]) {
            self.changed(tid, *it);
        }
    }

    fn reap(&mut self, tid: u32, batch: &Batch, of: &[Request], untold: &[Request]) {
        let entered = self.now + 500;
        let all: Vec<Request> = of.iter().chain(untold).copied().collect();
        let is_faulted = |it: &Request| batch.faulted[it.index];
        for it in all.iter().filter(|it| is_faulted(it) && !batch.in_ring) {
            self.changed(tid, *it);
        }
        for it in untold {
            self.completed(tid, *it);
        }
        let given = |it: &Request| Some(event(*it, if is_faulted(it) { EIO } else { OWN }));
        let changed = (0..).zip(&all).filter(|(_, it)| is_faulted(it)).map(|(index, _)| index);
        let args = Args::Getevents {
            syscall: Syscall::Getevents,
            ctx: CTX,
            min_nr: 0,
            nr: 2,
            events: Address(0),
            timeout: Address(0),
            timeout_value: None,
            sigset: Address(0),
            sigset_value: None,
            list: all.iter().map(given).collect(),
            truncated: 0,
            changed: changed.collect(),
        };
        self.call(tid, entered, all.len() as i64, args);
    }

    fn run(&mut self, batch: &Batch, offset: &mut i64) {
        let iocbs = if batch.both { vec![1, 2] } else { vec![batch.iocb] };
        let mut next = || {
            *offset += OWN;
            *offset
        };
        let all: Vec<Request> =
            (0..).zip(iocbs).map(|(index, iocb)| Request { index, iocb, offset: next() }).collect();
        let entered = self.now + 500;
        let (mut done, after): (Vec<Request>, Vec<Request>) =
            all.iter().partition(|it| batch.inline[it.index]);
        self.seen(batch.tid, batch, &done);
        if batch.reaped_early {
            self.reap(15 - batch.tid, batch, &done, &[]);
            done.clear();
        }
        let args = Args::Submit {
            ctx: CTX,
            nr: all.len() as i64,
            iocbpp: Address(0),
            iocbs: all.iter().map(|it| Some(iocb(*it))).collect(),
            truncated: 0,
        };
        self.call(batch.tid, entered, all.len() as i64, args);
        if batch.late {
            return self.reap(batch.tid, batch, &done, &after);
        }
        self.seen(batch.tid, batch, &after);
        done.extend(after);
        self.reap(batch.tid, batch, &done, &[]);
    }
}

fn event(it: Request, res: i64) -> IoEvent {
    IoEvent { data: 0, obj: it.iocb, res, res2: 0 }
}

fn iocb(it: Request) -> Iocb {
    let value = abi::Iocb {
        opcode: 1,
        fildes: 3,
        nbytes: OWN as u64,
        offset: it.offset,
        ..Default::default()
    };
    Iocb { address: Some(Address(it.iocb)), value: Some(value), read_late: false, vectors: None }
}

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn a_fault_names_the_request_whose_completion_it_changed(
        batches in prop::collection::vec(batch(), 1..30),
    ) {
        let (mut trace, mut offset) = (Trace::new(), 0);
        for batch in &batches {
            trace.run(batch, &mut offset);
        }
        trace.tell(7, process(Some(70), Change::Exit { status: ExitStatus::Code(0) }));
        trace.model.finish(trace.now);
        let mut named = BTreeMap::new();
        while let Some(it) = trace.model.next_verdict() {
            named.insert(it.time, it.first.map_or(0, |first| first.offset));
        }
        prop_assert_eq!(named, trace.faults);
    }
}
