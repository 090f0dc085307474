//! Verdicts on faults, each with the few events that show it; and no finding blames the program, or the kernel, for
//! the faults.

use aiotrace_common::{abi, synchronous};
use aiotrace_model::{
    event::{
        Address, Args, Body, Call, Change, Changed, Completion, Effect, Entry, Event, ExitStatus,
        Fault, Handle, IoEvent, Iocb, Looked, Refused, Ring, Synchronous, Syscall, Timespec,
        Unfinished, Vectors, Ways, Why,
    },
    model::{
        Doubt, FaultRow, Half, MOST_FAULTS, Model, Name, Outcome, Question, Rules, Settings,
        Thresholds, Verdict, verdict::HUNG_AFTER,
    },
    trace::{FaultRule, Faults},
};

use crate::told::{SECOND, process};

const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const H: Handle = Handle(0x1000);
pub(crate) const EAGAIN: i64 = -11;
const EINTR: i64 = -4;
pub(crate) const EIO: i64 = -5;
const EINVAL: i64 = -22;

/// The rules of all tests, by number.
const RULES: [&str; 4] = [
    "io_setup,io_destroy,io_submit,io_getevents,io_pgetevents,io_cancel:error=EAGAIN",
    "io_submit:accept=1",
    "io_submit,io_destroy:delay_exit=1s",
    "complete:res=EIO",
];
pub(crate) const ERROR: Fault = Fault { rule: 1, effect: Effect::Done };
pub(crate) const ACCEPT: Fault = Fault { rule: 2, effect: Effect::Done };
const DELAY: Fault = Fault { rule: 3, effect: Effect::Done };
const RESULT: Fault = Fault { rule: 4, effect: Effect::Done };

/// A trace of one process: 7 in address space 70. Each event is a microsecond after the one before, and each call
/// takes half of that.
pub(crate) struct Trace {
    pub(crate) model: Model,
    pub(crate) now: u64,
    /// What a look at the files finds, before time passes or the process ends; `None`: it comes too late.
    pub(crate) ways: Option<Ways>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        let settings = Settings {
            thresholds: Thresholds::default(),
            exact_completions: true,
            every_call: true,
            synchronous: true,
            stops: false,
        };
        Self::with(settings)
    }

    fn with(settings: Settings) -> Self {
        let mut model = Model::new(settings);
        let rule = |text: &str| FaultRule { text: text.to_owned(), mechanism: "ptrace".into() };
        let rules = RULES.map(rule).into();
        model.set_rules(Rules::of(Some(&Faults { seed: 1, dry_run: false, rules })));
        let mut trace = Self { model, now: SECOND, ways: Some(Ways::default()) };
        trace.tell(process(Some(70), Change::Seen));
        trace.call(None, 0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(H) });
        trace
    }

    pub(crate) fn tell(&mut self, body: Body) {
        self.now += 1000;
        self.model.handle_event(&Event { time: self.now, pid: 7, tid: 7, body });
    }

    pub(crate) fn call(&mut self, fault: Option<Fault>, ret: i64, args: Args) {
        self.call_since(self.now + 500, fault, ret, args);
    }

    pub(crate) fn call_since(&mut self, entered: u64, fault: Option<Fault>, ret: i64, args: Args) {
        let (entered, entry) = (Some(entered), Entry::Seen);
        let (ring, ring_before, compat, stack) = (None, None, false, None);
        let call = Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault };
        self.tell(Body::Call(call));
    }

    /// A call of this thread that succeeds.
    pub(crate) fn by(&mut self, tid: u32, ret: i64, args: Args) {
        let (entered, entry) = (Some(self.now + 500), Entry::Seen);
        let (ring, ring_before, compat, stack) = (None, None, false, None);
        let fault = None;
        let call = Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault };
        self.now += 1000;
        let body = Body::Call(call);
        self.model.handle_event(&Event { time: self.now, pid: 7, tid, body });
    }

    pub(crate) fn complete(&mut self, obj: u64, res: i64) {
        let event = Some(IoEvent { data: 0, obj, res, res2: 0 });
        self.tell(Body::Completion(Completion::exact(H, event)));
    }

    pub(crate) fn changed(&mut self, obj: u64, own: i64, res: i64) {
        let event = IoEvent { data: 0, obj, res: own, res2: 0 };
        self.tell(Body::Changed(Changed { ctx: H, event, res, fault: RESULT }));
    }

    pub(crate) fn reap(&mut self, obj: u64, res: i64, is_changed: bool) {
        let event = Some(IoEvent { data: 0, obj, res, res2: 0 });
        self.call(None, 1, getevents(vec![event], if is_changed { vec![0] } else { Vec::new() }));
    }

    /// The files of all descriptors are looked at.
    pub(crate) fn looked(&mut self) {
        let Some(ways) = self.ways else { return };
        for fd in 1..10 {
            let body = Body::Looked(Looked::Ways { fd, ways: Some(ways) });
            self.model.handle_event(&Event { time: self.now, pid: 7, tid: 7, body });
        }
    }

    pub(crate) fn exit(&mut self, status: ExitStatus) {
        self.looked();
        self.tell(process(Some(70), Change::Exit { status }));
    }

    pub(crate) fn wait(&mut self, nanos: u64) {
        self.looked();
        self.now += nanos;
        self.model.handle_timeout(self.now);
    }

    pub(crate) fn verdicts(&mut self) -> Vec<Verdict> {
        std::iter::from_fn(|| self.model.next_verdict()).collect()
    }

    /// The only verdict of the trace.
    pub(crate) fn verdict(&mut self) -> Verdict {
        let mut verdicts = self.verdicts();
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        verdicts.remove(0)
    }

    pub(crate) fn told(&mut self) -> Vec<String> {
        self.verdicts().iter().map(|it| format!("{}: {}", it.what(), it.message())).collect()
    }

    fn found(&mut self) -> Vec<Name> {
        std::iter::from_fn(|| self.model.next_finding()).map(|it| it.name).collect()
    }

    fn rows(&self) -> Vec<String> {
        self.model.report().faults.iter().map(FaultRow::in_words).collect()
    }
}

fn request(address: u64, opcode: u16) -> Option<Iocb> {
    at(address, opcode, address as i64 * 512)
}

/// Where in memory the data is that belongs there in the file.
pub(crate) fn buffer(offset: i64) -> u64 {
    0x100_0000 + offset as u64
}

pub(crate) fn at(address: u64, opcode: u16, offset: i64) -> Option<Iocb> {
    let buf = if matches!(opcode, PREAD | PWRITE) { buffer(offset) } else { 0 };
    let value = abi::Iocb { opcode, fildes: 3, offset, nbytes: 512, buf, ..Default::default() };
    Some(Iocb {
        address: Some(Address(address)),
        value: Some(value),
        read_late: false,
        vectors: None,
    })
}

pub(crate) fn submit(iocbs: Vec<Option<Iocb>>) -> Args {
    submit_to(H, iocbs)
}

pub(crate) fn submit_to(ctx: Handle, iocbs: Vec<Option<Iocb>>) -> Args {
    let nr = iocbs.len() as i64;
    Args::Submit { ctx, nr, iocbpp: Address(0), iocbs, truncated: 0 }
}

fn reads(addresses: std::ops::Range<u64>) -> Args {
    submit(addresses.map(|it| request(it, PREAD)).collect())
}

pub(crate) fn getevents(list: Vec<Option<IoEvent>>, changed: Vec<u32>) -> Args {
    Args::Getevents {
        syscall: Syscall::Getevents,
        ctx: H,
        min_nr: 0,
        nr: 1,
        events: Address(0),
        timeout: Address(0),
        timeout_value: None,
        sigset: Address(0),
        sigset_value: None,
        list,
        truncated: 0,
        changed,
    }
}

fn cancel() -> Args {
    Args::Cancel { ctx: H, iocb: Address(1), result: Address(0), value: None }
}

pub(crate) fn setup(ctxp: u64) -> Args {
    Args::Setup { nr_events: 4, ctxp: Address(ctxp), stored: Some(Handle(0x2000)) }
}

const DESTROY: Args = Args::Destroy { ctx: H };

/// Every call that can get a fault, and what it returns without one.
fn calls() -> Vec<(Args, i64)> {
    let nothing = || getevents(Vec::new(), Vec::new());
    vec![(setup(8), 0), (reads(1..4), 3), (nothing(), 0), (cancel(), -115), (DESTROY, 0)]
}

#[test]
fn each_call_is_retried_and_succeeds() {
    for (args, well) in calls() {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, args.clone());
        assert_eq!(trace.verdicts(), []);
        trace.call(None, well, args.clone());
        assert_eq!(trace.verdicts(), [], "how the process goes on is not known");
        assert_eq!(trace.found(), []);
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        let name = args.syscall().name();
        assert_eq!(verdict.what(), format!("{name} EAGAIN"));
        assert_eq!(
            verdict.message(),
            "retried after 500ns, succeeded; exited with status 0 2.00us later"
        );
        assert_eq!((verdict.outcome, verdict.succeeded), (Outcome::Retried, true));
        assert_eq!((verdict.pid, verdict.tid, verdict.fault, verdict.lost), (7, 7, ERROR, 0));
        assert_eq!(
            trace.rows(),
            [format!("{name} EAGAIN x 1: 1 retried within 500ns; exited with status 0")]
        );
    }
}

#[test]
fn who_reaps_from_the_ring_may_have_read_the_result_before_it_was_changed() {
    let unsure = "unsure: the program reaps from the ring by itself, and may have read the result before it was \
                  changed; exited with status 0";
    let ring = |head, tail| Some(Ring { head, tail, nr: 10 });
    // Reaped by hand and seen later; by io_getevents; by both; by hand, and seen before.
    for (by_hand, given, is_known) in
        [(true, false, false), (false, true, false), (true, true, false), (true, false, true)]
    {
        let mut trace = Trace::new();
        let next = |trace: &mut Trace, iocb, (before, after): (Option<Ring>, Option<Ring>)| {
            let (entered, entry) = (Some(trace.now + 500), Entry::Seen);
            let args = submit(vec![request(iocb, PWRITE)]);
            let call = Call {
                entered,
                entry,
                ret: 1,
                args,
                ring: after,
                ring_before: before,
                compat: false,
                stack: None,
                fault: None,
            };
            trace.tell(Body::Call(call));
        };
        next(&mut trace, 1, (ring(0, 0), ring(0, 0)));
        trace.complete(1, 512);
        let event = IoEvent { data: 0, obj: 1, res: 512, res2: 0 };
        let effect = if is_known { Effect::Unsure } else { Effect::Done };
        let fault = Fault { rule: 4, effect };
        trace.tell(Body::Changed(Changed { ctx: H, event, res: EIO, fault }));
        if given {
            trace.reap(1, EIO, false);
        }
        next(&mut trace, 2, (ring(0, 1), ring(u32::from(given || by_hand && !is_known), 1)));
        trace.complete(2, 512);
        if by_hand && !is_known {
            next(&mut trace, 3, (ring(2, 2), ring(2, 2)));
        }
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        if given {
            assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1));
        } else {
            assert_eq!((verdict.outcome, verdict.doubt), (Outcome::Unsure, Some(Doubt::InRing)));
            assert!(verdict.message().contains(unsure), "{}", verdict.message());
        }
    }
}

#[test]
fn another_io_setup_is_not_known_to_be_a_retry() {
    let unsure = "unsure: another io_setup was called, for another number of requests or with another ctxp: \
                  perhaps in its place; exited with status 0";
    let of = |nr_events, ctxp| Args::Setup {
        nr_events,
        ctxp: Address(ctxp),
        stored: Some(Handle(0x2000)),
    };
    for (other, is_same) in [(of(4, 16), false), (of(8, 8), true)] {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, of(4, 8));
        trace.call(None, 0, other.clone());
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        assert_eq!((verdict.outcome, verdict.doubt), (Outcome::Unsure, Some(Doubt::OtherSetup)));
        assert!(verdict.message().starts_with(unsure), "{}", verdict.message());
        // An equal request is a retry, whatever thread makes it; also if the other one came first.
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, of(4, 8));
        trace.call(None, 0, other);
        trace.by(9, 0, of(4, 8));
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        // Who makes several contexts by one variable does so for several users.
        let doubt = is_same.then_some(Doubt::Used);
        let outcome = if is_same { Outcome::Unsure } else { Outcome::Retried };
        assert_eq!((verdict.outcome, verdict.succeeded), (outcome, true));
        assert_eq!((verdict.retries, verdict.doubt), (1, doubt));
    }
}

#[test]
fn a_retry_that_meets_a_fault_hands_over_to_it() {
    for (args, well) in calls() {
        let mut trace = Trace::new();
        for _ in 0..3 {
            trace.call(Some(ERROR), EAGAIN, args.clone());
        }
        trace.call(None, well, args.clone());
        trace.exit(ExitStatus::Code(0));
        let told: Vec<String> = trace.verdicts().iter().map(Verdict::message).collect();
        let next = "retried after 500ns, met the next fault";
        let last = "retried after 500ns, succeeded; exited with status 0 2.00us later";
        assert_eq!(told, [next, next, last]);
        let name = args.syscall().name();
        let row = format!("{name} EAGAIN x 3: 3 retried within 500ns; exited with status 0");
        assert_eq!(trace.rows(), [row]);
    }
}

#[test]
fn retries_that_the_kernel_refuses_are_counted() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..3));
    for _ in 0..3 {
        trace.call(None, EINVAL, reads(1..3));
    }
    trace.exit(ExitStatus::Code(1));
    assert_eq!(
        trace.told(),
        [
            "io_submit EAGAIN: retried 3 times, first after 500ns, lost 2 requests, the first (pread fd=3 \
             offset=512 nbytes=512); reported: exited with status 1 4.00us later"
        ]
    );
}

#[test]
fn requests_never_submitted_again_are_lost_also_if_the_program_says_that_all_is_well() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..4));
    trace.call(None, 1, reads(3..4));
    trace.exit(ExitStatus::Code(0));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 2));
    assert_eq!(verdict.exit(), Some(ExitStatus::Code(0)));
    assert_eq!((verdict.half, verdict.later), (Half::Lost, Some(2000)));
    assert_eq!(verdict.context.map(|it| it.handle), Some(H));
    assert_eq!(trace.rows(), ["io_submit EAGAIN x 1: 1 lost 2 requests; exited with status 0"]);
}

#[test]
fn the_sum_of_the_issue() {
    let mut trace = Trace::new();
    for _ in 0..14 {
        trace.call(Some(ERROR), EAGAIN, reads(1..4));
    }
    trace.exit(ExitStatus::Code(1));
    let row = "io_submit EAGAIN x 14: 13 retried, none succeeded, 1 lost 3 requests (reported); exited with status \
               1";
    assert_eq!(trace.rows(), [row]);
    let outcomes = [(Outcome::Retried, 13), (Outcome::Reported, 1)];
    assert_eq!(trace.model.report().faults[0].outcomes, outcomes, "it said so by its status");
}

#[test]
fn the_rest_of_a_short_submit_may_come_one_by_one_and_as_copies() {
    let mut trace = Trace::new();
    trace.call(Some(ACCEPT), 1, reads(1..4));
    trace.call(None, 1, reads(2..3));
    // A request with the same file, offset and length, in another iocb.
    trace.call(None, 1, submit(vec![at(99, PREAD, 3 * 512)]));
    assert_eq!(trace.found(), [], "no short-submit-dropped");
    trace.exit(ExitStatus::Code(0));
    let retried =
        "io_submit short: retried after 500ns, succeeded; exited with status 0 3.00us later";
    assert_eq!(trace.told(), [retried]);

    let mut trace = Trace::new();
    trace.call(Some(ACCEPT), 1, reads(1..4));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdict().lost, 2);
    assert!(!trace.found().contains(&Name::ShortSubmitDropped));
}

#[test]
fn another_request_is_no_retry() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..2));
    trace.call(None, 1, submit(vec![at(2, PREAD, 512 * 9)]));
    trace.call(None, 1, submit(vec![at(2, PWRITE, 512)]));
    // The call was entered before the fault was known.
    trace.now -= 5000;
    trace.call(None, 1, reads(1..2));
    assert_eq!(trace.verdicts(), []);
}

#[test]
fn what_loses_nothing_is_given_up_or_ends_the_program() {
    let lossless = |it: &(Args, i64)| {
        matches!(it.0.syscall(), Syscall::Setup | Syscall::Getevents | Syscall::Cancel)
    };
    for (args, _) in calls().into_iter().filter(lossless) {
        let failed = || {
            let mut trace = Trace::new();
            trace.call(Some(ERROR), EINTR, args.clone());
            trace
        };
        let mut trace = failed();
        trace.exit(ExitStatus::Code(1));
        let verdict = trace.verdict();
        assert_eq!(
            (verdict.outcome, verdict.message()),
            (Outcome::Exited, "gave up; exited with status 1 1.00us later".to_owned())
        );

        let mut trace = failed();
        trace.exit(ExitStatus::Signal(6));
        let verdict = trace.verdict();
        assert_eq!(
            (verdict.outcome, verdict.message()),
            (Outcome::Died, "gave up; died by SIGABRT 1.00us later".to_owned())
        );

        let mut trace = failed();
        (20..40).for_each(|it| trace.call(None, 1, reads(it..it + 1)));
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        assert_eq!((verdict.outcome, verdict.half), (Outcome::GaveUp, Half::GaveUp));
        let gave_up = match args.syscall() {
            Syscall::Setup => "not tried again, went on without",
            _ => "gave up",
        };
        assert_eq!(verdict.message(), format!("{gave_up}; exited with status 0 21.0us later"));

        // It need not end for that.
        let mut trace = failed();
        trace.wait(HUNG_AFTER);
        trace.call(None, 1, reads(1..2));
        trace.wait(SECOND);
        assert_eq!(trace.verdict().message(), format!("{gave_up}; still running"));
        trace.exit(ExitStatus::Code(0));
        assert_eq!(trace.verdicts(), [], "as was to be expected");
        assert!(trace.rows()[0].ends_with("; exited with status 0"), "{:?}", trace.rows());
    }
}

#[test]
fn a_context_that_is_never_destroyed_is_leaked() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EINTR, DESTROY);
    assert!(trace.model.knows(7, H), "it is alive");
    trace.call(None, 1, reads(1..2));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(
        trace.told(),
        ["io_destroy EINTR: leaked context 1 at 0x1000; exited with status 0 2.00us later"]
    );
}

#[test]
fn an_io_setup_that_failed_by_a_fault_makes_no_context() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, setup(8));
    assert!(!trace.model.knows(7, Handle(0x2000)));
    assert_eq!(trace.found(), [], "no setup-denied");
}

#[test]
fn a_process_that_stands_still_hangs_until_it_goes_on() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..3));
    trace.wait(HUNG_AFTER - 1);
    assert_eq!(trace.verdicts(), []);
    trace.wait(SECOND);
    assert_eq!(
        trace.verdict().message(),
        "not done: 2 requests, the first (pread fd=3 offset=512 nbytes=512); hung: no AIO call for 5.00s or more"
    );
    let row = "io_submit EAGAIN x 1: 1 not tried again (2 requests not done); hung: no AIO call for 5.00s or more";
    assert_eq!(trace.rows(), [row]);
    assert_eq!(trace.model.report().faults[0].lost, 2, "as in the verdict");
    trace.wait(HUNG_AFTER);
    assert_eq!(trace.verdicts(), [], "once is enough");
    trace.call(None, 2, reads(1..3));
    let verdict = trace.verdict();
    assert!(verdict.anew && verdict.succeeded);
    assert_eq!((verdict.outcome, verdict.doubt), (Outcome::Unsure, Some(Doubt::Late)));
    assert!(trace.rows()[0].starts_with("io_submit EAGAIN x 1: 1 unsure; "), "{:?}", trace.rows());
    assert_eq!(trace.model.report().faults[0].lost, 0);
}

#[test]
fn what_was_submitted_again_may_complete_while_the_process_hangs() {
    let hung = |completes: bool| {
        let mut trace = Trace::new();
        trace.call(None, 1, write(1, 0));
        trace.complete(1, 512);
        trace.changed(1, 512, EIO);
        trace.reap(1, EIO, true);
        trace.call(None, 1, write(1, 0));
        trace.wait(HUNG_AFTER + SECOND);
        if completes {
            trace.complete(1, 512);
        }
        trace.model.finish(trace.now);
        let told = trace.verdicts();
        told.iter().map(|it| (it.outcome, it.half, it.succeeded)).collect::<Vec<_>>()
    };
    let open = (Outcome::Hung, Half::Open, false);
    assert_eq!(hung(false), [open]);
    assert_eq!(hung(true), [open, (Outcome::Hung, Half::Retried, true)]);
}

#[test]
fn a_read_that_was_lost_may_come_back_before_the_process_is_killed() {
    let killed = |comes_back: bool| {
        let mut trace = Trace::new();
        trace.call(None, 1, reads(1..2));
        trace.complete(1, 512);
        trace.changed(1, 512, EIO);
        trace.reap(1, EIO, true);
        trace.wait(HUNG_AFTER);
        trace.call(None, 1, reads(2..3));
        trace.wait(SECOND);
        if comes_back {
            trace.call(None, 1, reads(1..2));
        }
        trace.exit(ExitStatus::Signal(9));
        trace.verdicts().iter().map(|it| (it.half, it.retries)).collect::<Vec<_>>()
    };
    assert_eq!(killed(false), [(Half::Lost, 0)]);
    assert_eq!(killed(true), [(Half::Lost, 0), (Half::Unsure, 1)]);
}

#[test]
fn a_hung_process_that_is_killed_has_hung() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..3));
    trace.wait(2 * HUNG_AFTER);
    trace.exit(ExitStatus::Signal(9));
    let outcomes: Vec<_> =
        trace.verdicts().iter().map(|it| (it.outcome, it.lost, it.anew)).collect();
    assert_eq!(outcomes, [(Outcome::Hung, 2, false)]);
    assert!(
        trace.rows()[0].ends_with("; hung: no AIO call for 5.00s or more"),
        "{:?}",
        trace.rows()
    );
}

#[test]
fn completions_that_are_not_reaped_after_a_failed_io_getevents_hang() {
    let mut trace = Trace::new();
    trace.call(None, 1, reads(1..2));
    trace.complete(1, 512);
    trace.call(Some(ERROR), EINTR, getevents(Vec::new(), Vec::new()));
    trace.wait(2 * HUNG_AFTER);
    assert_eq!(trace.verdict().outcome, Outcome::Hung);

    // Nothing has to be done after this fault.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EINTR, getevents(Vec::new(), Vec::new()));
    trace.wait(2 * HUNG_AFTER);
    assert_eq!(trace.verdicts(), []);
}

#[test]
fn requests_of_a_context_that_is_destroyed_are_lost_after_a_while() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..3));
    trace.call(None, 0, DESTROY);
    assert_eq!(trace.verdicts(), [], "how it exits may follow");
    trace.wait(HUNG_AFTER);
    assert_eq!(trace.verdict().outcome, Outcome::Lost);
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdicts(), []);
}

#[test]
fn a_program_that_runs_another_one_leaves_its_requests_to_that() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..3));
    trace.looked();
    trace.tell(process(Some(71), Change::Exec { path: Vec::new() }));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.lost, verdict.exit()), (Outcome::Unsure, 2, None));
    assert_eq!(verdict.doubt, Some(Doubt::Exec), "that may do them");
}

#[test]
fn the_end_of_the_trace_leaves_it_undecided() {
    for (args, _) in calls() {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, args);
        trace.model.finish(trace.now + SECOND);
        assert_eq!(trace.verdict().outcome, Outcome::Undecided);
    }
}

#[test]
fn a_retry_that_has_not_returned_is_one() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EINTR, getevents(Vec::new(), Vec::new()));
    let args = getevents(Vec::new(), Vec::new());
    let unfinished = Unfinished { entered: Some(trace.now + 1), args, why: Why::TraceEnds };
    trace.tell(Body::Unfinished(unfinished));
    trace.model.finish(trace.now);
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.retries), (Outcome::Undecided, 1));
}

#[test]
fn after_a_loss_what_was_not_seen_is_unsure_and_what_was_seen_is_not() {
    for (args, well) in calls() {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, args.clone());
        trace.tell(Body::Lost { records: 1 });
        trace.exit(ExitStatus::Code(0));
        assert_eq!(trace.verdict().outcome, Outcome::Unsure);

        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, args.clone());
        trace.tell(Body::Lost { records: 1 });
        trace.wait(3 * HUNG_AFTER);
        assert_eq!(trace.verdicts(), []);
        trace.call(None, well, args);
        trace.exit(ExitStatus::Code(0));
        assert!(trace.verdict().succeeded);
    }
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, reads(1..2));
    // This request may have been the retry.
    trace.call(None, 1, submit(vec![None]));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdict().outcome, Outcome::Unsure);
}

#[test]
fn a_completion_that_failed_by_a_fault_is_submitted_again() {
    for is_seen_changed in [false, true] {
        let mut trace = Trace::new();
        trace.call(None, 1, reads(1..2));
        // A source that looks at the ring finds there what we have written.
        if is_seen_changed {
            trace.changed(1, 512, EIO);
            trace.complete(1, EIO);
        } else {
            trace.complete(1, 512);
            trace.changed(1, 512, EIO);
        }
        trace.reap(1, EIO, true);
        trace.call(None, 1, submit(vec![at(2, PREAD, 512)]));
        assert_eq!(trace.verdicts(), []);
        trace.complete(2, 512);
        trace.reap(2, 512, false);
        assert_eq!(trace.verdicts(), []);
        assert_eq!(trace.found(), [], "no failed-completion");
        assert_eq!(trace.model.report().kinds[0].done.failed, 0);
        trace.wait(HUNG_AFTER);
        assert!(trace.told()[0].ends_with(", succeeded; still running"));
    }
}

/// Buffered writes complete like this.
#[test]
fn a_write_that_is_changed_before_its_io_submit_returns_may_be_lost() {
    for is_retried in [false, true] {
        let mut trace = Trace::new();
        let entered = trace.now + 500;
        trace.changed(1, 512, EIO);
        trace.complete(1, 512);
        trace.call_since(entered, None, 1, submit(vec![request(1, PWRITE)]));
        trace.reap(1, EIO, true);
        if is_retried {
            trace.call(None, 1, submit(vec![request(1, PWRITE)]));
            trace.complete(1, 512);
            trace.reap(1, 512, false);
        }
        trace.exit(ExitStatus::Code(0));
        let report = trace.model.report();
        assert_eq!(report.kinds[0].done.made_to_fail, 1, "also in the row of its descriptor");
        assert_eq!(report.usages[0].made_to_fail, 1);
        let told = trace.told();
        let lost = "completion EIO: lost 1 request (pwrite fd=3 offset=512 nbytes=512); exited with status 0";
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].starts_with(lost), !is_retried, "{told:?}");
        assert_eq!(told[0].contains(", succeeded; exited"), is_retried, "{told:?}");
    }
}

#[test]
fn a_retry_whose_completion_meets_a_fault_hands_over_to_it() {
    let mut trace = Trace::new();
    for _ in 0..2 {
        trace.call(None, 1, submit(vec![request(1, PWRITE)]));
        trace.complete(1, 512);
        trace.changed(1, 512, EIO);
        trace.reap(1, EIO, true);
    }
    trace.exit(ExitStatus::Code(0));
    let told = trace.told();
    assert!(told[0].ends_with("met the next fault"), "{told:?}");
    assert_eq!(
        told[1],
        "completion EIO: lost 1 request (pwrite fd=3 offset=512 nbytes=512); exited with status 0 2.00us later"
    );
}

#[test]
fn a_read_that_failed_is_lost_and_a_short_one_goes_on_with_its_rest() {
    let mut trace = Trace::new();
    trace.call(None, 1, reads(1..2));
    trace.changed(1, 512, EIO);
    (20..40).for_each(|it| trace.call(None, 1, reads(it..it + 1)));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdict().outcome, Outcome::Lost);

    let mut trace = Trace::new();
    trace.call(None, 1, reads(1..2));
    trace.complete(1, 512);
    trace.changed(1, 512, 100);
    let mut rest = at(1, PREAD, 612);
    rest.as_mut().unwrap().value.as_mut().unwrap().nbytes = 412;
    trace.call(None, 1, submit(vec![rest]));
    trace.complete(1, 412);
    // A program that reaps from the ring by itself.
    trace.wait(HUNG_AFTER);
    let verdict = trace.verdict();
    assert_eq!(verdict.what(), "completion res=100");
    assert!(verdict.succeeded);
}

#[test]
fn faults_that_are_delays_or_were_not_made_get_no_verdict() {
    let mut trace = Trace::new();
    trace.call(Some(DELAY), 1, reads(1..2));
    // The kernel's own answer.
    trace.call(Some(DELAY), EAGAIN, reads(2..3));
    trace.call(Some(Fault { effect: Effect::WouldBe, ..ERROR }), 1, reads(4..5));
    trace.call(Some(Fault { effect: Effect::Missed, ..ERROR }), 1, reads(5..6));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdicts(), []);
    assert_eq!(
        trace.rows(),
        [
            "io_submit: 1 would have been made (dry run), 1 could not be made",
            "io_submit x 2: 2 delayed"
        ]
    );
    assert_eq!(trace.found()[0], Name::SubmitEagain);
}

#[test]
fn no_finding_tells_of_a_fault() {
    let mut trace = Trace::new();
    for (args, _) in calls() {
        for errno in [EAGAIN, EINVAL, EIO, -38, -1] {
            trace.call(Some(ERROR), errno, args.clone());
        }
    }
    // The iocb at index 1 is refused, by a mechanism that makes a short io_submit.
    let refused = Refused { ctx: H, index: 1, iocb: Some(Address(2)), ret: EAGAIN };
    trace.tell(Body::Refused(refused));
    trace.call(Some(ERROR), 1, reads(1..3));
    // The call took long because of the fault.
    trace.now += SECOND;
    let entered = Some(trace.now - SECOND);
    let (entry, args, fault) = (Entry::Seen, reads(5..6), Some(DELAY));
    let (ring, ring_before, compat, stack) = (None, None, false, None);
    let call = Call { entered, entry, ret: 1, args, ring, ring_before, compat, stack, fault };
    trace.tell(Body::Call(call));
    trace.call(None, 0, DESTROY);
    for errno in [EINVAL, EAGAIN] {
        trace.call(Some(ERROR), errno, reads(1..2));
    }
    trace.call(Some(ERROR), EINVAL, DESTROY);
    assert_eq!(trace.found(), []);
    // The kernel's own EAGAIN has its finding.
    trace.call(None, 0, Args::Setup { nr_events: 4, ctxp: Address(0), stored: Some(H) });
    trace.tell(Body::Refused(refused));
    trace.call(None, 1, reads(1..3));
    assert_eq!(trace.found(), [Name::SubmitEagain]);
}

#[test]
fn faults_that_are_too_many_are_counted() {
    let mut trace = Trace::new();
    let most = MOST_FAULTS as u64;
    for it in 0..most + 10 {
        trace.call(Some(ERROR), EAGAIN, reads(it..it + 1));
    }
    assert_eq!(trace.rows(), ["io_submit EAGAIN x 4,106: 4,096 not decided yet, 10 not followed"]);
    // Faults with a verdict make room for others.
    trace.wait(2 * HUNG_AFTER);
    assert_eq!(trace.verdicts().len() as u64, most);
    trace.call(Some(ERROR), EAGAIN, reads(most + 20..most + 21));
    trace.call(None, 1, reads(most + 20..most + 21));
    trace.wait(HUNG_AFTER);
    assert!(trace.verdict().succeeded);
}

/// `pwrite(3, ..., 512, offset) = ret`
pub(crate) fn pwrite(fd: u32, offset: i64, ret: i64) -> Body {
    let (call, entered) = (synchronous::Call::Pwrite, None);
    let offset = Some(offset);
    let memory = offset.map(|it| Vectors::one(Address(buffer(it)), 512));
    Body::Synchronous(Synchronous { call, entered, fd, offset, memory, count: 512, ret })
}

pub(crate) fn write(address: u64, offset: i64) -> Args {
    submit(vec![at(address, PWRITE, offset)])
}

#[test]
fn an_iocb_that_carries_another_request_is_no_retry() {
    // The iocb is on the stack, and the next write uses it.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 512));
    trace.exit(ExitStatus::Code(0));
    let lost = "io_submit EAGAIN: lost 1 request (pwrite fd=3 offset=0 nbytes=512); exited with status 0 2.00us later";
    assert_eq!(trace.told(), [lost]);

    // Its twin puts the next one into it, and comes back to the first: or it writes there for another reason.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 512));
    trace.call(None, 1, write(1, 0));
    trace.exit(ExitStatus::Code(0));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.doubt), (Outcome::Unsure, Some(Doubt::Submitted)));

    // A server lives on, and has nothing to do for long.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 512));
    trace.wait(2 * HUNG_AFTER);
    let lost = "io_submit EAGAIN: lost 1 request (pwrite fd=3 offset=0 nbytes=512); still running";
    assert_eq!(trace.told(), [lost], "it does not hang");
    trace.exit(ExitStatus::Code(1));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.anew), (Outcome::Reported, true), "it says so at last");
    trace.exit(ExitStatus::Code(1));
    assert_eq!(trace.verdicts(), []);
}

#[test]
fn a_dropped_request_of_a_busy_program_is_told_while_it_runs() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    for it in 0..7 {
        trace.wait(SECOND);
        trace.call(None, 1, write(2 + it, 512 * (1 + it as i64)));
    }
    trace.wait(SECOND);
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Lost, 1));
    assert!(verdict.message().ends_with("; still running"), "{}", verdict.message());
    // It comes after all, or the place is written for another reason.
    trace.call(None, 1, write(1, 0));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.anew, verdict.lost), (Outcome::Unsure, true, 0));
}

#[test]
fn what_is_done_with_pwrite_is_not_lost() {
    let mut trace = Trace::new();
    assert_eq!(trace.model.settled_up_to(), Some(0), "nothing is to be watched");
    trace.now += SECOND;
    trace.call(
        Some(ACCEPT),
        1,
        submit((0..3).map(|it| at(it + 1, PWRITE, 512 * it as i64)).collect()),
    );
    let provoked = trace.now;
    assert_eq!(trace.model.settled_up_to(), None);
    trace.tell(pwrite(3, 512, 512));
    trace.tell(pwrite(3, 1024, 512));
    assert_eq!(trace.model.settled_up_to(), None, "another thread may have had a fault just now");
    trace.exit(ExitStatus::Code(0));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.lost), (Outcome::Done, 0));
    assert_eq!(
        verdict.message(),
        "2 requests done by pwrite(2) after 1.00us; exited with status 0 3.00us later"
    );
    let row = "io_submit short x 1: 1 done by pwrite(2); exited with status 0";
    assert_eq!(trace.rows(), [row]);
    trace.wait(SECOND);
    assert_eq!(trace.model.settled_up_to(), Some(provoked));

    // One request comes again, one is done with pwrite(2), and one not at all.
    let mut trace = Trace::new();
    trace.call(
        Some(ERROR),
        EAGAIN,
        submit((0..3).map(|it| at(it + 1, PWRITE, 512 * it as i64)).collect()),
    );
    trace.call(None, 1, write(1, 0));
    trace.tell(pwrite(3, 512, 512));
    trace.tell(pwrite(3, 1024, EIO));
    trace.tell(pwrite(3, 4096, 512));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(
        trace.verdict().message(),
        "retried after 500ns, 1 done by pwrite(2), lost 1 request (pwrite fd=3 offset=1024 nbytes=512); \
         exited with status 0 5.00us later"
    );
}

#[test]
fn a_write_whose_completion_failed_may_be_done_with_pwrite() {
    for is_done in [false, true] {
        let mut trace = Trace::new();
        trace.call(None, 1, write(1, 0));
        trace.complete(1, 512);
        trace.changed(1, 512, EIO);
        trace.reap(1, EIO, true);
        if is_done {
            trace.tell(pwrite(3, 0, 512));
        }
        trace.exit(ExitStatus::Code(0));
        let outcome = if is_done { Outcome::Done } else { Outcome::Lost };
        assert_eq!(trace.verdict().outcome, outcome);
    }
}

#[test]
fn what_cannot_be_told_is_unsure_and_says_why() {
    let unsure = |after: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EAGAIN, write(1, 0));
        after(&mut trace);
        trace.exit(ExitStatus::Code(0));
        let verdict = trace.verdict();
        assert_eq!(verdict.outcome, Outcome::Unsure, "{}", verdict.message());
        assert!(verdict.message().contains(verdict.doubt.unwrap().text()));
        verdict.doubt
    };
    let write_somewhere = |trace: &mut Trace| {
        let call = synchronous::Call::Write;
        let call = Synchronous {
            call,
            entered: None,
            fd: 3,
            offset: None,
            memory: None,
            count: 512,
            ret: 512,
        };
        trace.tell(Body::Synchronous(call));
    };
    assert_eq!(unsure(&write_somewhere), Some(Doubt::UnknownPlace));
    assert_eq!(unsure(&|trace| trace.tell(pwrite(4, 0, 512))), Some(Doubt::OtherDescriptor));
    let elsewhere = |trace: &mut Trace| {
        trace.call(None, 0, setup(8));
        trace.call(None, 1, submit_to(Handle(0x2000), vec![at(1, PWRITE, 0)]));
    };
    assert_eq!(unsure(&elsewhere), Some(Doubt::OtherContext));
    assert_eq!(unsure(&|trace| trace.call(None, 1, submit(vec![None]))), Some(Doubt::Unread));
    let lose = |trace: &mut Trace| trace.tell(Body::Lost { records: 1 });
    assert_eq!(unsure(&lose), Some(Doubt::Lost));

    // A context that has taken the place of one that is gone: the program has done something else.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 0, DESTROY);
    trace.call(None, 0, setup(8));
    trace.call(None, 1, submit_to(Handle(0x2000), vec![at(1, PWRITE, 0)]));
    trace.exit(ExitStatus::Code(0));
    let verdict = trace.verdict();
    assert_eq!((verdict.doubt, verdict.succeeded), (Some(Doubt::Submitted), true));

    // A poll may be done with poll(2).
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, submit(vec![request(1, 5)]));
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdict().doubt, Some(Doubt::Poll));
}

#[test]
fn where_synchronous_calls_are_not_watched_nothing_is_lost_for_sure() {
    let settings = Settings {
        thresholds: Thresholds::default(),
        exact_completions: true,
        every_call: true,
        synchronous: false,
        stops: false,
    };
    let mut trace = Trace::with(settings);
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.exit(ExitStatus::Code(0));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.doubt), (Outcome::Unsure, Some(Doubt::NotWatched)));
    assert_eq!(verdict.lost, 1, "as far as can be seen");
}

#[test]
fn whoever_is_killed_by_somebody_else_might_have_gone_on() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.exit(ExitStatus::Signal(15));
    assert_eq!(
        trace.told(),
        [
            "io_submit EAGAIN: undecided: it was killed first, not done: 1 request (pwrite fd=3 offset=0 \
          nbytes=512); died by SIGTERM 1.00us later"
        ]
    );

    // What the program has done counts.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 0));
    trace.exit(ExitStatus::Signal(9));
    let verdict = trace.verdict();
    assert_eq!((verdict.outcome, verdict.half), (Outcome::Retried, Half::Retried));

    // A crash after a successful retry is the program's own.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 0));
    trace.exit(ExitStatus::Signal(11));
    let verdict = trace.verdict();
    assert_eq!(verdict.outcome, Outcome::Died);
    assert_eq!(verdict.message(), "retried after 500ns, succeeded; died by SIGSEGV 2.00us later");
}

#[test]
fn a_program_that_has_to_be_ended_hangs() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 0));
    trace.call(Some(ERROR), EAGAIN, write(2, 512));
    trace.now += SECOND;
    trace.model.timed_out(trace.now);
    let told = trace.told();
    assert_eq!(
        told,
        [
            "io_submit EAGAIN: retried after 500ns, succeeded; hung: it had made no AIO call for 1.00s when \
             --timeout ended it 1.00s later",
            "io_submit EAGAIN: not done: 1 request (pwrite fd=3 offset=512 nbytes=512); hung: it had made no AIO \
             call for 1.00s when --timeout ended it 1.00s later"
        ]
    );
    trace.exit(ExitStatus::Signal(15));
    assert_eq!(trace.verdicts(), []);
    assert_eq!(trace.model.report().faults[0].outcomes, [(Outcome::Hung, 2)]);
    assert_eq!(trace.model.report().usages[0].calls.injected[&("io_submit", EAGAIN)], 2);
    assert!(trace.model.report().usages[0].calls.errors.is_empty());
}

#[test]
fn how_long_a_program_stood_still_is_the_same_number_in_each_line() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.wait(HUNG_AFTER);
    assert!(trace.told()[0].ends_with("; hung: no AIO call for 5.00s or more"));
    trace.now += 4 * SECOND;
    trace.model.timed_out(trace.now);
    let hung = "hung: it had made no AIO call for 9.00s when --timeout ended it";
    assert_eq!(trace.told(), [""; 0], "it was told before");
    assert!(trace.rows()[0].ends_with(hung), "{:?}", trace.rows());
}

/// The tracer may hold it in its retry, because it is behind.
#[test]
fn who_is_in_a_retry_when_the_time_is_over_is_not_hung() {
    let said = |is_inside: bool| {
        let mut trace = Trace::new();
        (0..3).for_each(|_| trace.call(Some(ERROR), EAGAIN, write(1, 0)));
        let entered = Some(trace.now + 500);
        trace.now += 2 * SECOND;
        if is_inside {
            let (args, why) = (write(1, 0), Why::Reported);
            trace.tell(Body::Unfinished(Unfinished { entered, args, why }));
        }
        trace.model.timed_out(trace.now);
        trace.told().pop().expect("a verdict")
    };
    assert!(said(true).contains("still retrying when --timeout ended it"), "{}", said(true));
    assert!(said(false).contains("hung: it had made no AIO call for 2.00s"), "{}", said(false));
}

/// Neither is it hung that tries again and again, nor did it die by itself if we killed it.
#[test]
fn a_program_that_retries_until_it_is_ended_is_told_to_do_so_and_not_to_die() {
    let nothing = || getevents(Vec::new(), Vec::new());
    let mut trace = Trace::new();
    let fails = |trace: &mut Trace| (0..4).for_each(|_| trace.call(Some(ERROR), EINTR, nothing()));
    fails(&mut trace);
    trace.model.timed_out(trace.now);
    let told = trace.told();
    let last = told.last().unwrap();
    assert_eq!(last, "io_getevents EINTR: still retrying when --timeout ended it 0ns later");
    // It ignores SIGTERM.
    fails(&mut trace);
    trace.exit(ExitStatus::Signal(9));
    assert_eq!(trace.verdicts(), []);
    let row = "io_getevents EINTR x 8: 3 retried, each met the next fault, 1 retried to the end, 4 not followed; still \
               retrying when --timeout ended it";
    assert_eq!(trace.rows(), [row]);

    // One that did not try again, and makes other calls.
    let mut other = Trace::new();
    other.call(Some(ERROR), EAGAIN, write(1, 0));
    other.call(None, 0, nothing());
    other.model.timed_out(other.now);
    let text = "io_submit EAGAIN: not done: 1 request (pwrite fd=3 offset=0 nbytes=512); it had made an AIO call within \
                1.00s when --timeout ended it 1.00us later";
    assert_eq!(other.told(), [text]);
}

#[test]
fn a_verdict_has_the_time_at_which_it_became_known() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    let time = trace.now;
    trace.wait(HUNG_AFTER + SECOND);
    let hung = trace.verdict();
    assert_eq!((hung.outcome, hung.time, hung.told), (Outcome::Hung, time, trace.now));
}

#[test]
fn what_a_fault_made_fail_is_counted_as_that() {
    let mut trace = Trace::new();
    for (iocb, opcode) in [(1, PREAD), (2, PWRITE), (3, PREAD)] {
        trace.call(None, 1, submit(vec![request(iocb, opcode)]));
        trace.complete(iocb, 512);
        if iocb < 3 {
            trace.changed(iocb, 512, if iocb == 1 { EIO } else { 100 });
        }
    }
    let report = trace.model.report();
    let of = |done: aiotrace_model::model::Done| (done.requests, done.failed, done.made_to_fail);
    assert_eq!(of(report.contexts[0].done), (3, 0, 1));
    let kinds: Vec<_> = report.kinds.iter().map(|it| (it.opcode.0, of(it.done))).collect();
    assert_eq!(kinds, [(PREAD, (2, 0, 1)), (PWRITE, (1, 0, 0))]);
}

/// A program that reaps from the ring by itself takes what a rule was about before it can be changed; and what it reaps after
/// its last call is not seen.
#[test]
fn why_a_rule_for_completions_did_not_act_on_a_program_that_reaps_by_itself() {
    let why = |trace: &Trace| trace.model.report().rules[3].why.clone().unwrap();
    let mut trace = Trace::new();
    trace.call(None, 1, submit(vec![request(1, PWRITE)]));
    assert!(why(&trace).starts_with("1 such requests were submitted"), "{}", why(&trace));
    trace.complete(1, 512);
    let event = IoEvent { data: 0, obj: 1, res: 512, res2: 0 };
    let fault = Fault { rule: 4, effect: Effect::Missed };
    trace.tell(Body::Changed(Changed { ctx: H, event, res: EIO, fault }));
    assert!(why(&trace).contains("for 1 completion, which had left the ring"), "{}", why(&trace));
}

#[test]
fn so_many_faults_of_a_second_are_looked_into() {
    let mut trace = Trace { ways: None, ..Trace::new() };
    let mut looks = 0;
    for number in 0..1000 {
        trace.call(Some(ERROR), EAGAIN, write(1, 512 * number));
        let all = std::iter::from_fn(|| trace.model.next_question());
        looks += all.filter(|it| matches!(it, Question::Ways { .. })).count();
    }
    assert_eq!(looks, 16);
    trace.exit(ExitStatus::Code(0));
    let verdicts = trace.verdicts();
    let is_sure = |it: &&Verdict| it.doubt.is_none();
    assert_eq!(
        verdicts.iter().filter(is_sure).count(),
        0,
        "no look was answered: {:?}",
        verdicts.first()
    );
}

#[test]
fn the_rest_of_a_genuine_short_submit_follows_the_same_rule() {
    let batch = || submit((0..3).map(|it| at(it + 1, PWRITE, 512 * it as i64)).collect());
    let found = |after: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new();
        trace.call(None, 1, batch());
        after(&mut trace);
        trace.exit(ExitStatus::Code(0));
        let all = std::iter::from_fn(|| trace.model.next_finding());
        let dropped: Vec<_> = all.filter(|it| it.name == Name::ShortSubmitDropped).collect();
        dropped.iter().map(|it| (it.doubt.is_some(), it.numbers()[2].1)).collect::<Vec<_>>()
    };
    let sure = |count| vec![(false, count)];
    assert_eq!(found(&|_| ()), sure(2));
    // The iocbs carry other requests.
    let reuse = |trace: &mut Trace| {
        trace.call(None, 2, submit(vec![at(2, PWRITE, 8192), at(3, PWRITE, 9216)]))
    };
    assert_eq!(found(&reuse), sure(2));
    let again = |trace: &mut Trace| {
        trace.call(None, 2, submit(vec![at(9, PWRITE, 512), at(8, PWRITE, 1024)]))
    };
    assert_eq!(found(&again), []);
    let otherwise = |trace: &mut Trace| {
        trace.tell(pwrite(3, 1024, 512));
        trace.tell(pwrite(3, 512, 512));
    };
    assert_eq!(found(&otherwise), []);
    let half = |trace: &mut Trace| trace.tell(pwrite(3, 1024, 512));
    assert_eq!(found(&half), sure(1));
    let other_file = |trace: &mut Trace| {
        trace.tell(pwrite(4, 1024, 512));
        trace.tell(pwrite(4, 512, 512));
    };
    assert_eq!(found(&other_file), [(true, 2)]);
}

#[test]
fn in_a_flood_of_faults_all_that_is_settled_is_told() {
    let mut trace = Trace::new();
    let most = MOST_FAULTS as u64;
    for it in 0..3 * most {
        trace.call(Some(ERROR), EAGAIN, reads(it..it + 1));
        trace.call(None, 1, reads(it..it + 1));
        trace.complete(it, 512);
    }
    assert_eq!(trace.verdicts().len() as u64, 2 * most);
    trace.exit(ExitStatus::Code(0));
    assert_eq!(trace.verdicts().len() as u64, most);
    let row = &trace.model.report().faults[0];
    assert_eq!((row.outcomes.clone(), row.not_followed), (vec![(Outcome::Retried, 3 * most)], 0));
}

#[test]
fn a_program_may_do_without_a_context() {
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, setup(8));
    trace.wait(HUNG_AFTER);
    let without = "io_setup EAGAIN: not tried again, went on without; still running";
    assert_eq!(trace.told(), [without]);
    trace.call(None, 0, setup(8));
    let verdict = trace.verdict();
    let told = (verdict.outcome, verdict.doubt, verdict.anew);
    assert_eq!(told, (Outcome::Unsure, Some(Doubt::Late), true), "perhaps it is for another one");

    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, setup(8));
    trace.exit(ExitStatus::Code(3));
    assert_eq!(trace.told(), ["io_setup EAGAIN: gave up; exited with status 3 1.00us later"]);
}

/// What came between an io_getevents that failed and the next one, and why that one is no retry for sure then.
#[test]
fn a_later_wait_on_the_same_context_is_not_known_to_be_a_retry() {
    let nothing = || getevents(Vec::new(), Vec::new());
    let timed = |nanos: Option<i64>| {
        let mut args = nothing();
        if let Args::Getevents { timeout, timeout_value, .. } = &mut args {
            *timeout = Address(64);
            *timeout_value = nanos.map(|nsec| Timespec { sec: 0, nsec });
        }
        args
    };
    let verdict = |first: Args, between: &dyn Fn(&mut Trace), later: Args| {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EINTR, first);
        between(&mut trace);
        trace.call(None, 0, later);
        trace.exit(ExitStatus::Code(0));
        trace.verdict()
    };
    let at_once = |_: &mut Trace| ();
    let submitted = |trace: &mut Trace| trace.call(None, 1, reads(1..2));
    let refused = |trace: &mut Trace| trace.call(None, EINVAL, reads(1..2));
    let late = |trace: &mut Trace| trace.now += 4 * SECOND;
    let wants_two = || {
        let mut args = nothing();
        if let Args::Getevents { min_nr, .. } = &mut args {
            *min_nr = 2;
        }
        args
    };
    for (it, doubt) in [
        (verdict(nothing(), &at_once, nothing()), None),
        (verdict(nothing(), &refused, nothing()), Some(Doubt::Submitted)),
        (verdict(timed(Some(900)), &at_once, timed(Some(900))), None),
        // For what is left of the time.
        (verdict(timed(Some(900)), &at_once, timed(Some(400))), None),
        (verdict(timed(Some(400)), &at_once, timed(Some(900))), Some(Doubt::OtherArguments)),
        (verdict(timed(None), &at_once, timed(None)), Some(Doubt::OtherArguments)),
        (verdict(timed(Some(900)), &at_once, nothing()), Some(Doubt::OtherArguments)),
        (verdict(nothing(), &at_once, wants_two()), Some(Doubt::OtherArguments)),
        // The first one had no timeout; what has none at all is a look, and no wait.
        (verdict(nothing(), &at_once, timed(Some(900))), None),
        (verdict(nothing(), &at_once, timed(Some(0))), Some(Doubt::OtherArguments)),
        (verdict(nothing(), &late, nothing()), Some(Doubt::Late)),
        (verdict(nothing(), &submitted, nothing()), Some(Doubt::Submitted)),
    ] {
        let half = if doubt.is_some() { Half::Unsure } else { Half::Retried };
        assert_eq!((it.half, it.doubt), (half, doubt), "{}", it.message());
        assert!(it.succeeded && it.after.is_some(), "{}", it.message());
    }
    let both = |trace: &mut Trace| {
        late(trace);
        submitted(trace);
    };
    assert_eq!(
        verdict(nothing(), &both, nothing()).message(),
        "came again after 4.00s, succeeded, unsure: the program did something else in between, so it may be its next \
         one; exited with status 0 4.00s later"
    );

    // Another thread reaps from the same context, too; then the one that got the fault comes back, or does not.
    for comes_back in [false, true] {
        let mut trace = Trace::new();
        trace.call(Some(ERROR), EINTR, nothing());
        trace.by(9, 0, nothing());
        if comes_back {
            trace.call(None, 0, nothing());
        }
        trace.exit(ExitStatus::Code(0));
        let it = trace.verdict();
        let expected = if comes_back {
            (Half::Retried, None)
        } else {
            (Half::Unsure, Some(Doubt::AnotherThread))
        };
        assert_eq!((it.half, it.doubt), expected, "{}", it.message());
    }
}

/// A program that tries again for ever has not got anywhere; one that got there at last has.
#[test]
fn retries_of_which_none_succeeded_are_summed_up_so() {
    for (is_well, retried) in
        [(false, "99 retried, none succeeded"), (true, "100 retried within 500ns")]
    {
        let mut trace = Trace::new();
        for _ in 0..100 {
            trace.call(Some(ERROR), EAGAIN, write(1, 0));
        }
        if is_well {
            trace.call(None, 1, write(1, 0));
        }
        trace.model.finish(trace.now);
        let rows = trace.rows();
        assert!(rows[0].starts_with(&format!("io_submit EAGAIN x 100: {retried}")), "{rows:?}");
    }
    // What came of the last one is known, and not told yet.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 0));
    assert_eq!(
        trace.rows(),
        ["io_submit EAGAIN x 2: 1 retried, met the next fault, 1 not decided yet"]
    );
    // The retry meets the fault of another rule, and that one is over in the end.
    let mut trace = Trace::new();
    let two = || submit(vec![at(1, PWRITE, 0), at(2, PWRITE, 512)]);
    trace.call(Some(ERROR), EAGAIN, two());
    trace.call(Some(ACCEPT), 1, two());
    trace.call(None, 1, write(2, 512));
    trace.model.finish(trace.now);
    let rows = trace.rows();
    assert_eq!(rows[0], "io_submit EAGAIN x 1: 1 retried, met the next fault");
    assert!(rows[1].contains("1 retried within "), "{rows:?}");
    // What was told to have succeeded, and is told anew, is counted once.
    let mut trace = Trace::new();
    trace.call(Some(ERROR), EAGAIN, write(1, 0));
    trace.call(None, 1, write(1, 0));
    trace.wait(2 * HUNG_AFTER);
    trace.exit(ExitStatus::Code(1));
    let row = &trace.model.report().faults[0];
    assert_eq!((row.succeeded, row.in_vain), (1, 0), "{}", row.in_words());
}
