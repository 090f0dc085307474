//! Events that no kernel causes, and more than the model follows: it must not panic, and must count them.

use aiotrace_common::abi;
use aiotrace_model::{
    event::{
        Address, Adopted, Args, Behind, Body, Call, Change, Changed, Completion, Effect, Entry,
        Event, ExitStatus, Fault, File, FileKind, Gone, Handle, How, IoEvent, Iocb, Limit, Looked,
        Moved, Open, Process, Refused, Ring, RingFound, SpaceId, Syscall, Thread, Timespec,
        Unfinished, Waits, Why,
    },
    model::{FaultRow, MOST_CONTEXTS, MOST_REQUESTS, Model, Rules, Settings, Thresholds},
    trace::{FaultRule, Faults},
};
use proptest::{prelude::*, sample::select};

/// Times in nanoseconds since the boot: none is beyond 2^62.
fn time() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..100_000_000_000u64, 1 => 0..1u64 << 62]
}

fn pid() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..4u32, 1 => any::<u32>()]
}

fn handle() -> impl Strategy<Value = Handle> {
    prop_oneof![6 => 0..4u64, 1 => any::<u64>()].prop_map(Handle)
}

fn number() -> BoxedStrategy<i64> {
    let odd = select(vec![i64::MIN, i64::MIN + 1, -4096, -1, 1 << 32, i64::MAX - 1, i64::MAX]);
    prop_oneof![6 => -1..6i64, 2 => select(vec![-11i64, -22, -115, -38]), 1 => odd].boxed()
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..6u32, 1 => any::<u32>()]
}

fn ring() -> impl Strategy<Value = Ring> {
    (size(), size(), size()).prop_map(|(head, tail, nr)| Ring { head, tail, nr })
}

fn io_event() -> impl Strategy<Value = IoEvent> {
    (0..4u64, number()).prop_map(|(obj, res)| IoEvent { data: 0, obj, res, res2: 0 })
}

fn iocb() -> BoxedStrategy<Option<Iocb>> {
    let value = (0..9u16, 0..4u32, number(), size(), any::<bool>());
    let value = value.prop_map(|(opcode, fildes, offset, nbytes, nowait)| abi::Iocb {
        opcode,
        fildes,
        offset,
        nbytes: u64::from(nbytes),
        rw_flags: if nowait { 8 } else { 0 },
        ..Default::default()
    });
    let address = prop::option::weighted(0.9, (0..4u64).prop_map(Address));
    let iocb = (address, prop::option::weighted(0.9, value)).prop_map(|(address, value)| Iocb {
        address,
        value,
        read_late: false,
        vectors: None,
    });
    prop::option::weighted(0.9, iocb).boxed()
}

fn args() -> BoxedStrategy<Args> {
    let iocbs = prop::collection::vec(iocb(), 0..5);
    prop_oneof![
        2 => (size(), prop::option::of(handle())).prop_map(|(nr_events, stored)| {
            Args::Setup { nr_events, ctxp: Address(0), stored }
        }),
        1 => handle().prop_map(|ctx| Args::Destroy { ctx }),
        4 => (handle(), number(), iocbs, any::<u64>()).prop_map(|(ctx, nr, iocbs, truncated)| {
            Args::Submit { ctx, nr, iocbpp: Address(0), iocbs, truncated }
        }),
        2 => (handle(), number()).prop_map(|(ctx, nr)| Args::Getevents {
            syscall: Syscall::Pgetevents,
            ctx,
            min_nr: nr,
            nr,
            events: Address(0),
            timeout: Address(0),
            timeout_value: None,
            sigset: Address(0),
            sigset_value: None,
            list: vec![None],
            truncated: u64::MAX,
            changed: vec![0, u32::MAX],
        }),
        1 => (handle(), 0..4u64).prop_map(|(ctx, iocb)| {
            Args::Cancel { ctx, iocb: Address(iocb), result: Address(0), value: None }
        }),
    ]
    .boxed()
}

fn call() -> BoxedStrategy<Body> {
    let entry = select(vec![Entry::Seen, Entry::BeforeAttach, Entry::Denied, Entry::Missed]);
    let rings = (prop::option::of(ring()), prop::option::of(ring()), prop::option::of(fault()));
    (prop::option::of(time()), entry, number(), args(), rings)
        .prop_map(|(entered, entry, ret, args, (ring, ring_before, fault))| {
            let (compat, stack) = (false, None);
            Body::Call(Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault })
        })
        .boxed()
}

/// A fault of a rule that exists, or of one that does not.
fn fault() -> impl Strategy<Value = Fault> {
    let effect = select(vec![Effect::Done, Effect::Done, Effect::WouldBe, Effect::Missed]);
    (size(), effect).prop_map(|(rule, effect)| Fault { rule, effect })
}

fn rules() -> Rules {
    let texts =
        ["io_submit:error=EAGAIN", "io_submit:accept=1", "complete:res=EIO", "x:delay_exit=1"];
    let rule = |text: &str| FaultRule { text: text.to_owned(), mechanism: "ptrace".into() };
    Rules::of(Some(&Faults { seed: 0, dry_run: false, rules: texts.map(rule).into() }))
}

fn change() -> BoxedStrategy<Change> {
    prop_oneof![
        Just(Change::Attached),
        Just(Change::Seen),
        (pid(), any::<bool>()).prop_map(|(child, followed)| Change::Fork { child, followed }),
        Just(Change::Exec { path: Vec::new() }),
        Just(Change::Exit { status: ExitStatus::Code(0) }),
        Just(Change::Exit { status: ExitStatus::Signal(9) }),
    ]
    .boxed()
}

fn thread() -> impl Strategy<Value = Thread> {
    let value = any::<(i64, i64)>().prop_map(|(sec, nsec)| Timespec { sec, nsec });
    let waits = (handle(), any::<i64>(), 0..2u64, prop::option::of(value));
    let waits = waits.prop_map(|(ctx, min_nr, timeout, timeout_value)| Waits {
        ctx,
        min_nr,
        timeout: Address(timeout),
        timeout_value,
    });
    let waits = prop::option::of(waits);
    (0..3u32, 0..3u32, waits, 0..2u64).prop_map(|(pid, tid, waits, signals)| Thread {
        pid,
        tid,
        waits,
        signals,
    })
}

fn looked() -> BoxedStrategy<Looked> {
    let found = prop_oneof![
        ring().prop_map(RingFound::There),
        Just(RingFound::Unmapped),
        Just(RingFound::Unknown),
        Just(RingFound::Covered)
    ];
    let file = prop_oneof![
        Just(None),
        size().prop_map(|size| {
            let size = Some(u64::from(size));
            Some(File { kind: FileKind::Storage, size, ..File::default() })
        }),
    ];
    let open = prop_oneof![Just(Open::No), Just(Open::Unknown), Just(Open::As((1, 2)))];
    let limit =
        any::<(u64, u64)>().prop_map(|(used, limit)| Limit { used, limit, holders: Vec::new() });
    prop_oneof![
        3 => (handle(), found, any::<bool>(), prop::option::of(-1..9i64))
            .prop_map(|(ctx, found, destroying, awaited)| Looked::Ring { ctx, found, destroying, awaited }),
        1 => prop::option::of(prop::collection::vec(thread(), 0..3)).prop_map(Looked::Threads),
        1 => (0..4u32, file).prop_map(|(fd, file)| Looked::File { fd, file, until: 0 }),
        1 => (0..4u32, open).prop_map(|(fd, open)| Looked::Descriptor { fd, open, until: 0 }),
        1 => limit.prop_map(Looked::Limit),
        1 => prop::collection::vec(handle(), 0..4).prop_map(Looked::Unreferenced),
    ]
    .boxed()
}

fn body() -> BoxedStrategy<Body> {
    let space = prop::option::of(prop_oneof![0..4u64, 1000..1003u64]);
    let process = (space, change()).prop_map(|(space, change)| {
        Body::Process(Process {
            name: b"\xff".to_vec(),
            thread_name: Vec::new(),
            started: None,
            space: space.map(SpaceId),
            change,
        })
    });
    let completion = (handle(), prop::option::of(io_event()), prop::option::of(time()));
    let completion = (completion, any::<bool>()).prop_map(|((ctx, event, since), discarded)| {
        Body::Completion(Completion { ctx, event, since, until: None, discarded })
    });
    let how = select(vec![How::Destroy, How::Exit, How::Exec]);
    let gone = (handle(), how, prop::option::of(any::<u64>())).prop_map(|(ctx, how, in_flight)| {
        Body::ContextGone(Gone { ctx, how, in_flight, at_most: false })
    });
    let number_of = || prop::option::of(any::<u32>());
    let adopted = (handle(), prop::option::of(ring()), number_of(), number_of());
    let adopted = adopted.prop_map(|(ctx, ring, charge, in_flight)| {
        Body::ContextAdopted(Adopted { ctx, ring, charge, in_flight })
    });
    let refused = (handle(), any::<u64>(), number())
        .prop_map(|(ctx, index, ret)| Body::Refused(Refused { ctx, index, iocb: None, ret }));
    let changed = (handle(), io_event(), number(), fault())
        .prop_map(|(ctx, event, res, fault)| Body::Changed(Changed { ctx, event, res, fault }));
    prop_oneof![
        12 => call(),
        2 => changed,
        6 => completion,
        2 => gone,
        1 => (handle(), handle()).prop_map(|(from, to)| Body::ContextMoved(Moved { from, to })),
        1 => adopted,
        1 => refused,
        3 => looked().prop_map(Body::Looked),
        3 => process,
        1 => any::<u64>().prop_map(|records| Body::Lost { records }),
        1 => (handle(), any::<u32>())
            .prop_map(|(ctx, completions)| Body::Behind(Behind { ctx, completions })),
        1 => args().prop_map(|args| {
            Body::Unfinished(Unfinished { entered: None, args, why: Why::TraceEnds })
        }),
    ]
    .boxed()
}

fn event() -> impl Strategy<Value = Event> {
    (time(), pid(), pid(), body()).prop_map(|(time, pid, tid, body)| Event { time, pid, tid, body })
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let one = || select(vec![0, 1, 1_000_000_000, u64::MAX / 4]);
    (one(), one(), one(), one(), 0..3u64).prop_map(
        |(stuck, unreaped, slow_submit, idle, growth)| Thresholds {
            stuck,
            unreaped,
            slow_submit,
            idle,
            growth,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(crate::CASES) })]

    #[test]
    fn no_events_make_it_panic(
        thresholds in thresholds(),
        exact_completions in any::<bool>(),
        with_rules in any::<bool>(),
        events in prop::collection::vec((event(), prop::option::weighted(0.2, time())), 0..200),
        end in time(),
    ) {
        let mut model = Model::new(Settings { thresholds, exact_completions, every_call: true, synchronous: true, stops: false });
        if with_rules {
            model.set_rules(rules());
        }
        for (event, timeout) in &events {
            model.handle_event(event);
            if let Some(now) = timeout {
                model.handle_timeout(*now);
            }
            while model.next_finding().is_some() {}
            while let Some(verdict) = model.next_verdict() {
                verdict.message();
            }
            while model.next_question().is_some() {}
            model.poll_timeout();
            model.idle_contexts();
        }
        model.report();
        model.finish(end);
        while model.next_finding().is_some() {}
        let made = |it: &FaultRow| {
            let told: u64 = it.outcomes.iter().map(|it| it.1).sum();
            (it.made, told + it.not_followed)
        };
        for row in &model.report().faults {
            let (made, told) = made(row);
            prop_assert_eq!(made, told, "{}", row.in_words());
        }
    }
}

fn model() -> Model {
    Model::new(Settings {
        thresholds: Thresholds::default(),
        exact_completions: true,
        every_call: true,
        synchronous: true,
        stops: false,
    })
}

fn tell(model: &mut Model, ret: i64, args: Args) {
    let (entered, entry) = (Some(2), Entry::Seen);
    let (ring, ring_before, compat, stack) = (None, None, false, None);
    let call = Call { entered, entry, ret, args, ring, ring_before, compat, stack, fault: None };
    model.handle_event(&Event { time: 2, pid: 1, tid: 1, body: Body::Call(call) });
}

fn setup(model: &mut Model, handle: u64) {
    let stored = Some(Handle(handle));
    tell(model, 0, Args::Setup { nr_events: 1, ctxp: Address(0), stored });
}

fn submit(model: &mut Model, requests: std::ops::Range<u64>) {
    let iocb = |address| Iocb {
        address: Some(Address(address)),
        value: Some(abi::Iocb { opcode: 1, ..Default::default() }),
        read_late: false,
        vectors: None,
    };
    let iocbs: Vec<_> = requests.map(|it| Some(iocb(it))).collect();
    let (ctx, nr) = (Handle(0), iocbs.len() as i64);
    tell(model, nr, Args::Submit { ctx, nr, iocbpp: Address(0), iocbs, truncated: 0 });
}

fn gone(model: &mut Model, ctx: u64) {
    let gone = Gone { ctx: Handle(ctx), how: How::Destroy, in_flight: Some(0), at_most: false };
    model.handle_event(&Event { time: 2, pid: 1, tid: 1, body: Body::ContextGone(gone) });
    tell(model, 0, Args::Destroy { ctx: Handle(ctx) });
}

/// The number of contexts alive, from the report.
fn live(model: &Model) -> u64 {
    let report = model.report();
    let rows = report.contexts.iter().chain(&report.others);
    rows.filter(|it| it.end.is_none()).map(|it| it.contexts).sum()
}

#[test]
fn contexts_that_are_too_many_are_counted() {
    let mut model = model();
    let most = MOST_CONTEXTS as u64;
    (0..most + 10).for_each(|it| setup(&mut model, it));
    assert_eq!((live(&model), model.report().evicted), (most, 10));
    gone(&mut model, 7);
    setup(&mut model, most + 20);
    assert!(model.knows(1, Handle(most + 20)), "there is room for one again");
    assert_eq!(model.report().evicted, 10);
}

#[test]
fn contexts_of_which_only_the_end_is_not_told_are_bounded_too() {
    let mut model = model();
    let most = MOST_CONTEXTS as u64;
    // The same handle comes again and again: nobody knows whether the older contexts still exist.
    (0..most + 10).for_each(|_| setup(&mut model, 7));
    assert_eq!((live(&model), model.report().evicted), (most, 10));
}

#[test]
fn requests_that_are_too_many_are_counted() {
    let mut model = model();
    setup(&mut model, 0);
    submit(&mut model, 0..MOST_REQUESTS);
    assert_eq!(model.report().evicted, 0);
    submit(&mut model, MOST_REQUESTS..MOST_REQUESTS + 10);
    let report = model.report();
    assert_eq!((report.contexts[0].in_flight, report.evicted), (MOST_REQUESTS + 10, 10));
    assert!(report.contexts[0].doubt.is_some());
    gone(&mut model, 0);
    setup(&mut model, 0);
    submit(&mut model, 0..10);
    assert_eq!(model.report().evicted, 10, "they are followed again");
}
