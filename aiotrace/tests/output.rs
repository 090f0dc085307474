//! What the outputs write for the same events. No root needed.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "shared/schema.rs"]
mod schema;

use std::{
    io::Write,
    iter,
    sync::{Arc, Mutex},
    time::Duration,
};

use aiotrace::{
    event::{
        Address, Adopted, Args, Body, Call, Change, Changed, Completion, Effect, Entry, Event,
        ExitStatus, Fault, Gone, Handle, How, IoEvent, Iocb, Looked, Moved, Process, Refused, Ring,
        Sigset, SpaceId, Syscall, Timespec, Unfinished, Ways, Why,
    },
    model::{Model, Rules, Settings, Thresholds},
    output::{
        Cost, Ended, FaultRule, Faults, Output, Start,
        clock::Clock,
        counting::Counting,
        json::{Json, Line},
        paths::Paths,
        table::Table,
        text::{Options, Text},
    },
    source::{Losses, ProbeRuns},
    stacks::{Frame, Module, ModuleId, Place, Stack, Symbolizer, child::Function},
    trace::Machine,
};
use aiotrace_common::abi;
use jiff::tz::TimeZone;

const CTX: Handle = Handle(0x7f2c_5a3f_0000);

fn at(micros: u64, body: Body) -> Event {
    Event { time: 1_000_000_000 + micros * 1000, pid: 4711, tid: 4711, body }
}

fn call(micros: u64, ret: i64, args: Args) -> Event {
    at(
        micros,
        Body::Call(Call {
            entered: Some(1_000_000_000 + micros * 1000 - 12_345),
            entry: Entry::Seen,
            ret,
            args,
            ring: Some(Ring { head: 2, tail: 5, nr: 127 }),
            ring_before: None,
            compat: false,
            stack: None,
            fault: None,
        }),
    )
}

fn process(change: Change) -> Body {
    Body::Process(Process {
        name: b"fio\x1b[2J".to_vec(),
        thread_name: b"fio".to_vec(),
        started: Some(5),
        space: Some(SpaceId(0xabc)),
        change,
    })
}

fn iocb(change: impl FnOnce(&mut abi::Iocb)) -> Option<Iocb> {
    let mut value = abi::Iocb {
        fildes: 3,
        buf: 0x7f2c_5a20_0000,
        nbytes: 4096,
        offset: 8192,
        ..abi::Iocb::default()
    };
    change(&mut value);
    Some(Iocb {
        address: Some(Address(0x55d0_c8e4)),
        value: Some(value),
        read_late: false,
        vectors: None,
    })
}

fn io_event(data: u64, res: i64) -> IoEvent {
    IoEvent { data, obj: 0x55d0_c8e4, res, res2: 0 }
}

fn submit(micros: u64, ret: i64, iocbs: Vec<Option<Iocb>>, truncated: u64) -> Event {
    let nr = iocbs.len() as i64 + truncated as i64;
    call(micros, ret, Args::Submit { ctx: CTX, nr, iocbpp: Address(0xa0), iocbs, truncated })
}

fn getevents(micros: u64, syscall: Syscall, ret: i64, list: Vec<Option<IoEvent>>) -> Event {
    let is_p = syscall == Syscall::Pgetevents;
    call(
        micros,
        ret,
        Args::Getevents {
            syscall,
            ctx: CTX,
            min_nr: 1,
            nr: 8,
            events: Address(0xe0),
            timeout: Address(0x71),
            timeout_value: Some(Timespec { sec: 0, nsec: 500_000_000 }),
            sigset: Address(if is_p { 0x51 } else { 0 }),
            sigset_value: is_p.then_some(Sigset {
                address: Address(0x52),
                size: 8,
                mask: Some(1 << 9 | 1 << 1),
            }),
            list,
            truncated: 0,
            changed: Vec::new(),
        },
    )
}

/// A stack of the call that made a context.
fn stack() -> Stack {
    let frame = |address, module: &Arc<Module>| {
        let place = Place { module: Arc::clone(module), offset: address & 0xfff };
        Frame { address, place: Some(place) }
    };
    let [libc, program] = [(1, &b"/lib/libc.so.6"[..]), (2, b"/srv/a\x1b[31m \"b\"")]
        .map(|(id, path)| Arc::new(Module::new(ModuleId(id), path)));
    let frames = [
        frame(0x7f2c_0000_0123, &libc),
        frame(0x55d0_0000_0234, &program),
        frame(0x55d0_0000_0345, &program),
        Frame { address: 0x1234, place: None },
    ];
    Stack { frames: frames.into(), truncated: true }
}

fn symbols() -> Symbolizer {
    let function = |name: &str, file: Option<&str>| Function {
        function: Some(name.to_owned()),
        file: file.map(str::to_owned),
        line: file.map(|_| 12),
        symbol: Some(name.to_owned()),
    };
    Symbolizer::with(move |_, module, offsets| {
        let functions = match module.name() {
            b"libc.so.6" => vec![function("syscall", None)],
            _ => vec![
                function("inner", Some("src/in\x07ner.rs")),
                function("outer<\"T\">", Some("src/outer.rs")),
            ],
        };
        // Of the other places nothing is known.
        let all = [functions].into_iter().chain(iter::repeat_with(Vec::new));
        all.take(offsets.len()).map(Some).collect()
    })
}

fn with_fault(mut event: Event, rule: u32, effect: Effect) -> Event {
    if let Body::Call(call) = &mut event.body {
        call.fault = Some(Fault { rule, effect });
    }
    event
}

/// Events of fault rules, and of what the program made of the faults.
fn faults() -> Vec<Event> {
    use Effect::{Done, Missed, WouldBe};
    let one = |address, opcode, offset| {
        let mut one = iocb(|it| (it.opcode, it.offset) = (opcode, offset));
        one.as_mut().unwrap().address = Some(Address(address));
        one
    };
    let three = || (1..4).map(|it| one(0x100 * it, 1, it as i64 * 4096)).collect::<Vec<_>>();
    let event = IoEvent { obj: 0x500, ..io_event(0, 4096) };
    let changed = |effect| {
        let fault = Fault { rule: 4, effect };
        Body::Changed(Changed { ctx: CTX, event, res: -5, fault })
    };
    let mut reaped =
        getevents(370, Syscall::Getevents, 1, vec![Some(IoEvent { res: -5, ..event })]);
    if let Body::Call(Call { args: Args::Getevents { changed, .. }, .. }) = &mut reaped.body {
        changed.push(0);
    }
    let completed = Completion::exact(CTX, Some(event));
    let exit = at(400, process(Change::Exit { status: ExitStatus::Code(0) }));
    let mut all = vec![
        with_fault(submit(200, -11, vec![one(0x50, 0, 0)], 0), 1, Done),
        submit(220, 1, vec![one(0x50, 0, 0)], 0),
        with_fault(submit(240, 1, three(), 0), 2, Done),
        with_fault(getevents(260, Syscall::Getevents, 0, Vec::new()), 3, Done),
        with_fault(submit(280, 1, vec![one(0x51, 0, 0)], 0), 1, WouldBe),
        with_fault(getevents(300, Syscall::Getevents, 0, Vec::new()), 3, WouldBe),
        with_fault(submit(320, 1, vec![one(0x52, 0, 0)], 0), 2, Missed),
        submit(340, 1, vec![one(0x500, 1, 0)], 0),
        at(345, Body::Completion(completed)),
        at(350, changed(Done)),
        reaped,
        at(380, changed(WouldBe)),
        // Nothing else may have done what was left undone.
        at(390, Body::Looked(Looked::Ways { fd: 3, ways: Some(Ways::default()) })),
    ];
    all.push(exit);
    // These events belong to a program of their own.
    for event in &mut all {
        (event.pid, event.tid) = (4800, 4800);
    }
    all
}

/// Every kind of event, with the special cases of each.
fn events() -> Vec<Event> {
    let unread =
        Iocb { address: Some(Address(0x10)), value: None, read_late: false, vectors: None };
    let mut ring_reaper = submit(95, 1, vec![iocb(|_| ())], 0);
    if let Body::Call(call) = &mut ring_reaper.body {
        call.ring_before = Some(Ring { head: 2, tail: 2, nr: 127 });
        call.compat = true;
    }
    let completion = |event: Option<IoEvent>, since: Option<u64>| {
        at(
            94,
            Body::Completion(Completion { ctx: CTX, event, since, until: None, discarded: false }),
        )
    };
    let gone = |how: How, in_flight: Option<u64>| {
        let at_most = in_flight.is_some() && how != How::Destroy;
        at(103, Body::ContextGone(Gone { ctx: CTX, how, in_flight, at_most }))
    };
    let mut setup =
        call(10, 0, Args::Setup { nr_events: 32, ctxp: Address(0xc7), stored: Some(CTX) });
    for event in [&mut setup, &mut ring_reaper] {
        if let Body::Call(call) = &mut event.body {
            call.stack = Some(stack());
        }
    }
    let mut denied = submit(96, -1, vec![iocb(|_| ())], 0);
    if let Body::Call(call) = &mut denied.body {
        (call.entered, call.entry) = (None, Entry::Denied);
    }
    let mut threaded = getevents(97, Syscall::Getevents, -4, Vec::new());
    threaded.tid = 4713;
    let mut events = vec![
        at(1, process(Change::Attached)),
        at(
            1,
            Body::ContextAdopted(Adopted {
                ctx: Handle(0x7f2c_0000_0000),
                ring: Some(Ring { head: 3, tail: 8, nr: 127 }),
                charge: Some(64),
                in_flight: Some(2),
            }),
        ),
        at(2, process(Change::Seen)),
        setup,
        call(
            11,
            -11,
            Args::Setup { nr_events: 99_999, ctxp: Address(0xc7), stored: Some(Handle(0)) },
        ),
        submit(
            20,
            3,
            vec![
                iocb(|_| ()),
                iocb(|it| (it.opcode, it.data, it.rw_flags) = (1, 0x51, 0x8 | 0x1000)),
                iocb(|it| (it.opcode, it.fildes, it.buf) = (5, 9, 5)),
            ],
            0,
        ),
        submit(
            30,
            2,
            vec![
                iocb(|it| (it.opcode, it.nbytes) = (7, 2)),
                iocb(|it| it.opcode = 2),
                iocb(|it| (it.opcode, it.flags, it.resfd, it.reqprio) = (99, 3, 6, -7)),
                Some(unread.clone()),
                Some(Iocb { address: None, ..unread }),
                None,
            ],
            4000,
        ),
        getevents(
            40,
            Syscall::Getevents,
            2,
            vec![Some(io_event(0, 4096)), Some(io_event(0x51, -22))],
        ),
        getevents(50, Syscall::Pgetevents, -514, Vec::new()),
        call(
            60,
            -115,
            Args::Cancel {
                ctx: CTX,
                iocb: Address(0x55d0_c8e4),
                result: Address(0),
                value: iocb(|_| ()).and_then(|it| it.value),
            },
        ),
        call(90, 0, Args::Destroy { ctx: CTX }),
        completion(Some(io_event(0, 512)), None),
        completion(Some(io_event(0, -5)), Some(1_000_040_000)),
        completion(None, Some(0)),
        at(
            94,
            Body::Refused(Refused {
                ctx: CTX,
                index: 1,
                iocb: Some(Address(0x55d0_c8e4)),
                ret: -9,
            }),
        ),
        ring_reaper,
        denied,
        threaded,
        at(
            98,
            Body::Unfinished(Unfinished {
                entered: Some(1_000_000),
                args: Args::Destroy { ctx: CTX },
                why: Why::TraceEnds,
            }),
        ),
        at(99, Body::Lost { records: 12 }),
        at(100, process(Change::Fork { child: 4720, followed: true })),
        at(101, process(Change::Exec { path: b"/bin/\xff\"quoted\"".to_vec() })),
        at(102, process(Change::Exit { status: ExitStatus::Signal(9) })),
        gone(How::Destroy, Some(0)),
        gone(How::Exit, Some(1)),
        gone(How::Exec, None),
        at(104, Body::ContextMoved(Moved { from: CTX, to: Handle(0x7f00_0000_0000) })),
    ];
    events.append(&mut faults());
    events
}

fn rules() -> Faults {
    let rule = |text: &str, mechanism: &'static str| FaultRule {
        text: text.to_owned(),
        mechanism: mechanism.into(),
    };
    let rules = vec![
        rule("io_submit:error=EAGAIN:when=3", "fmod_ret"),
        rule("io_submit:accept=1", "ptrace"),
        rule("io_getevents:delay_exit=1ms", "ptrace"),
        rule("complete:res=EIO:path=/\"x\"*", "ptrace"),
    ];
    Faults { seed: u64::MAX, dry_run: true, rules }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn paths() -> Paths {
    Paths::with(|_, fd| (fd == 3).then(|| b"/data/t\x07able \"x\"".to_vec()))
}

fn written(make: impl FnOnce(Shared) -> Box<dyn Output>) -> String {
    let shared = Shared::default();
    let mut output = make(shared.clone());
    let clock = Clock { start: 1_000_000_000, to_wall: 1_700_000_000_000_000_000, to_boot: 0 };
    output
        .start(&Start {
            clock,
            machine: Machine {
                arch: "aarch64".into(),
                page_size: 4096,
                kernel: Some("6.12.0".to_owned()),
                host: Some("a host".to_owned()),
                boot_id: None,
            },
            probes: "syscall".into(),
            lacks: vec!["exact times".into()],
            faults: Some(rules()),
        })
        .unwrap();
    let thresholds = Thresholds::default();
    let mut model = Model::new(Settings {
        thresholds,
        exact_completions: true,
        every_call: true,
        synchronous: true,
        stops: false,
    });
    model.set_rules(Rules::of(Some(&rules())));
    let (mut findings, mut verdicts) = (0, 0);
    for event in events() {
        output.event(&event).unwrap();
        model.handle_event(&event);
    }
    model.finish(2_000_000_000);
    while let Some(finding) = model.next_finding() {
        output.finding(&finding).unwrap();
        findings += 1;
    }
    while let Some(verdict) = model.next_verdict() {
        output.verdict(&verdict).unwrap();
        verdicts += 1;
    }
    assert_eq!(verdicts, 3);
    assert!(findings > 2, "there is something to show");
    let losses = Losses { queue_full: 12, ..Losses::default() };
    let ended = Ended {
        time: 2_000_000_000,
        events: 18,
        losses,
        attached: Duration::from_secs(1),
        reason: "targets_gone".into(),
        cost: Some(Cost {
            cpu: Duration::from_millis(12),
            memory: 50 << 20,
            record_bytes: 4096,
            probes: Some(ProbeRuns { count: 40, time_ns: 20_000 }),
        }),
    };
    output.report(&ended, &model.report(), None).unwrap();
    output.flush().unwrap();
    let bytes = shared.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn text(options: Options) -> String {
    written(|out| Box::new(Text::new(out, options, paths(), TimeZone::UTC).with_symbols(symbols())))
}

#[test]
fn text_of_every_event() {
    insta::assert_snapshot!(text(Options::default()));
}

#[test]
fn verbose_text_shows_whole_lists_and_the_ring() {
    insta::assert_snapshot!(text(Options { verbose: true, ..Options::default() }));
}

#[test]
fn stacks_are_shown_below_their_calls_if_asked_for() {
    let with = text(Options { stacks: true, ..Options::default() });
    let is_of_stack = |line: &&str| line.starts_with("    ") && !line.starts_with("     ");
    let (stacks, rest): (Vec<_>, Vec<_>) = with.lines().partition(is_of_stack);
    assert_eq!(rest.join("\n"), text(Options::default()).trim_end());
    insta::assert_snapshot!(stacks.join("\n"));
}

#[test]
fn coloured_text_says_the_same() {
    let coloured = text(Options { color: true, ..Options::default() });
    assert!(coloured.contains("\x1b["));
    let codes = regex_lite::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    assert_eq!(codes.replace_all(&coloured, ""), text(Options::default()));
}

#[test]
fn json_of_every_event_is_of_the_format() {
    let json = written(|out| Box::new(Json::new(out, paths()).with_symbols(symbols())));
    for line in json.lines() {
        Line::parse(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        schema::check(line);
    }
    let is_told = |it: &&str| it.contains("\"event\":\"f");
    let told = json.lines().filter(is_told).count();
    // What was looked up is not shown.
    let shown = events().iter().filter(|it| !matches!(it.body, Body::Looked(_))).count();
    assert_eq!(json.lines().count(), shown + told + 2, "and the start and the report");
    insta::assert_snapshot!(json);
}

#[test]
fn the_summary_as_text_and_as_json() {
    insta::assert_snapshot!(written(|out| Box::new(Counting::new(Box::new(Table::new(out))))));
    let json = written(|out| Box::new(Counting::new(Box::new(Json::new(out, Paths::none())))));
    json.lines().for_each(schema::check);
    let lines: Vec<_> = json.lines().map(|line| Line::parse(line).unwrap()).collect();
    let [Line::Start(_), Line::Finding(_), .., Line::Report(report)] = lines.as_slice() else {
        panic!("{json}")
    };
    let calls = report.calls.as_ref().unwrap();
    assert_eq!(calls.iter().map(|it| it.calls).sum::<u64>(), 20);
    let injected = calls.iter().find(|it| it.call == "io_submit" && it.pid == 4800).unwrap();
    assert_eq!(injected.errors.len(), 0);
    assert_eq!((injected.injected["EAGAIN"], injected.injected["short"]), (1, 1));
    let setup = calls.iter().find(|it| it.call == "io_setup").unwrap();
    assert_eq!(setup.errors.get("EAGAIN"), Some(&1));
    assert_eq!(setup.duration_ns.as_ref().unwrap().max, 12_345);
}

/// The lines for these events, without the first ones.
fn lines(options: Options, events: &[Event]) -> Vec<String> {
    let shared = Shared::default();
    let mut text = Text::new(shared.clone(), options, Paths::none(), TimeZone::UTC);
    let clock = Clock { start: 1_000_000_000, to_wall: 0, to_boot: 0 };
    text.start(&Start {
        clock,
        machine: Machine::default(),
        probes: "syscall".into(),
        lacks: Vec::new(),
        faults: None,
    })
    .unwrap();
    events.iter().for_each(|it| text.event(it).unwrap());
    text.flush().unwrap();
    let bytes = shared.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn contexts_of_a_process_share_a_line_unless_asked_otherwise() {
    let adopted = |ctx, pid| {
        let ring = Some(Ring { head: 0, tail: 2, nr: 127 });
        let body = Body::ContextAdopted(Adopted {
            ctx: Handle(ctx),
            ring,
            charge: Some(8),
            in_flight: Some(2),
        });
        Event { pid, ..at(1, body) }
    };
    let gone = |ctx, in_flight| {
        at(
            2,
            Body::ContextGone(Gone { ctx: Handle(ctx), how: How::Exit, in_flight, at_most: false }),
        )
    };
    let events = [
        adopted(0x1000, 4711),
        adopted(0x2000, 4711),
        adopted(0x3000, 4712),
        gone(0x1000, Some(0)),
        gone(0x2000, Some(3)),
    ];
    assert_eq!(
        lines(Options::default(), &events),
        [
            "   0.000001 4711 +++ adopted 2 contexts, 16 of fs.aio-nr, 4 unreaped, 4 in flight +++",
            "   0.000001 4712/4711 +++ adopted context 0x3000, 8 of fs.aio-nr, room for 126, 2 unreaped, 2 in flight +++",
            "   0.000002 4711 +++ 2 contexts gone: the process exits, 3 requests in flight +++",
        ]
    );
    assert_eq!(lines(Options { verbose: true, ..Options::default() }, &events).len(), 5);
}

#[test]
fn what_a_poll_gives_is_a_mask_as_long_as_its_iocb_is_a_poll() {
    let poll = submit(1, 1, vec![iocb(|it| (it.opcode, it.buf, it.nbytes) = (5, 1, 0))], 0);
    let read = submit(3, 1, vec![iocb(|it| it.opcode = 0)], 0);
    let reaped = |at| getevents(at, Syscall::Getevents, 1, vec![Some(io_event(0, 0x41))]);
    let events = [poll, reaped(2), read, reaped(4)];
    let shown = lines(Options::default(), &events);
    assert!(shown[1].contains("{0x55d0c8e4 res=POLLIN|POLLRDNORM}"), "{}", shown[1]);
    assert!(shown[3].contains("{0x55d0c8e4 res=65}"), "{}", shown[3]);
    let in_part = lines(Options { in_part: true, ..Options::default() }, &events);
    assert!(in_part[1].contains("res=65"), "calls are left out, so it may be another one by now");
}

#[test]
fn the_fields_that_make_a_call_fail_are_shown() {
    let stale = |ret| {
        let fsync = iocb(|it| (it.opcode, it.key) = (2, 77));
        lines(Options::default(), &[submit(1, ret, vec![fsync], 0)]).remove(0)
    };
    let fields = "fsync fd=3 buf=0x7f2c5a200000 nbytes=4096 offset=8192";
    assert!(stale(-22).contains(&format!("{fields} key=77}}")), "{}", stale(-22));
    assert!(stale(1).contains(&format!("{fields}}}")), "{}", stale(1));
}
