//! What a program does, and which faults it gets.

use proptest::{collection::vec, option, prelude::*};

/// Where a program has its iocbs.
#[derive(Clone, Copy, Debug)]
pub enum Iocbs {
    /// Each request has one of its own.
    Own,
    /// A pool of this many, which are used again.
    Pool(u8),
    /// On the stack of the program: the next batch uses those of the last one, for which it waits.
    Stack,
}

/// The next step of a program.
#[derive(Clone, Debug)]
pub enum Step {
    /// An io_submit of requests with these operations.
    Submit {
        opcodes: Vec<u16>,
        /// The requests complete before io_submit returns.
        inline: bool,
        /// The descriptor of the last request is not open.
        bad: bool,
        /// The first request does the same as an earlier one.
        again: Option<u8>,
    },
    /// A request in flight completes.
    Complete(u8),
    /// The program reaps at most this many completions, with io_getevents or from the ring.
    Reap { most: u8, from_ring: bool },
    /// Nothing happens for this many seconds.
    Wait(u8),
    /// A log writes its header, which is always at the same place, and a record, which is at a new one.
    Log(Log),
}

/// How a log writes a record.
#[derive(Clone, Copy, Debug)]
pub enum Log {
    /// The header in an io_submit of its own, and the record after it.
    HeaderFirst,
    /// The record, and the header after it.
    RecordFirst,
    /// Both in one io_submit, the record first.
    Together,
    /// The record, an fsync, the header and another fsync, each in an io_submit of its own.
    Synced,
}

/// What the program does with a request that was refused or failed.
#[derive(Clone, Copy, Debug)]
pub enum Deal {
    /// It submits all refused requests again, in one call, with the same iocbs.
    AtOnce,
    /// It submits each of them alone.
    OneByOne,
    /// It submits it after this many steps, with any free iocb.
    Elsewhere { after: u8 },
    /// It forgets the request.
    Drop,
    /// It does the request with pread(2), pwrite(2) or fsync(2).
    Synchronously { pieces: u8 },
    /// It does the first half in this way, and forgets the rest.
    Halfway,
    /// It uses write(2) or read(2), whose offset nobody sees.
    Somewhere,
    /// It maps the file, and stores to the mapping, or reads from it.
    Map,
    /// It moves other data from or to the same place, with a synchronous call, and forgets the request.
    OtherMemory,
    /// It exits with this status, after this many milliseconds.
    Exit { status: u8, after: u16 },
    /// It aborts.
    Abort,
    /// It does nothing any more.
    Hang,
}

/// What a fault rule does to a call or a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The call or the completion fails.
    Error,
    /// io_submit accepts one; a completion is short.
    Short,
}

/// How the program ends, if nothing ends it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(u8),
    Signal(u8),
    Exec,
    /// The program does not end: the trace is over.
    Stays,
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// The source reports completions when they happen; otherwise it sees them at the next call.
    pub exact: bool,
    /// The source reports synchronous calls while the model wants them.
    pub watches: bool,
    /// The process can be looked at in time.
    pub looks: bool,
    pub iocbs: Iocbs,
    pub steps: Vec<Step>,
    /// Which io_submit calls get a fault, from 0.
    pub submits: Vec<(u8, Made)>,
    /// Which completions get a fault, from 0.
    pub completions: Vec<(u8, Made)>,
    /// Which io_getevents calls fail, from 0.
    pub getevents: Vec<u8>,
    /// What the program does about failures, in turn.
    pub deals: Vec<Deal>,
    /// Which records are lost, from 0.
    pub losses: Vec<u8>,
    pub end: End,
    /// The program destroys its context before its end.
    pub destroys: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let opcode =
        prop_oneof![4 => Just(1u16), 3 => Just(0), 1 => Just(2), 1 => Just(3), 1 => Just(8)];
    let batch = (vec(opcode, 1..5), any::<bool>(), prop::bool::weighted(0.1));
    let again = option::weighted(0.1, any::<u8>());
    prop_oneof![
        6 => (batch, again).prop_map(|((opcodes, inline, bad), again)| {
            Step::Submit { opcodes, inline, bad, again }
        }),
        3 => any::<u8>().prop_map(Step::Complete),
        3 => (0u8..6, prop::bool::weighted(0.3))
            .prop_map(|(most, from_ring)| Step::Reap { most, from_ring }),
        1 => (1u8..8).prop_map(Step::Wait),
    ]
}

fn deal() -> impl Strategy<Value = Deal> {
    prop_oneof![
        3 => Just(Deal::AtOnce),
        2 => Just(Deal::OneByOne),
        3 => (0u8..6).prop_map(|after| Deal::Elsewhere { after }),
        4 => Just(Deal::Drop),
        3 => (1u8..4).prop_map(|pieces| Deal::Synchronously { pieces }),
        1 => Just(Deal::Halfway),
        1 => Just(Deal::Somewhere),
        1 => Just(Deal::Map),
        1 => Just(Deal::OtherMemory),
        1 => (0u8..3, 0u16..8000).prop_map(|(status, after)| Deal::Exit { status, after }),
        1 => Just(Deal::Abort),
        1 => Just(Deal::Hang),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Exit(0)),
        2 => Just(End::Exit(1)),
        1 => Just(End::Signal(6)),
        1 => Just(End::Signal(9)),
        1 => Just(End::Exec),
        2 => Just(End::Stays),
    ]
}

/// A program that writes a log, and drops whatever is refused or fails. Its last records meet no fault.
pub fn dropped_log() -> impl Strategy<Value = Plan> {
    let log = prop_oneof![
        Just(Log::HeaderFirst),
        Just(Log::RecordFirst),
        Just(Log::Together),
        Just(Log::Synced)
    ];
    let step =
        prop_oneof![5 => log.clone().prop_map(Step::Log), 1 => (1u8..8).prop_map(Step::Wait)];
    let made = prop_oneof![2 => Just(Made::Error), 1 => Just(Made::Short)];
    let last = vec(log.prop_map(Step::Log), 3);
    let faults = (vec((0u8..10, made.clone()), 0..4), vec((0u8..10, made), 0..4));
    (any::<bool>(), vec(step, 1..10), last, faults, end()).prop_map(
        |(exact, mut steps, last, (mut submits, completions), end)| {
            let calls = |step: &Step| match step {
                Step::Log(Log::HeaderFirst | Log::RecordFirst) => 2,
                Step::Log(Log::Together) => 1,
                Step::Log(Log::Synced) => 4,
                _ => 0,
            };
            let count: u8 = steps.iter().map(calls).sum();
            submits.retain(|it| it.0 < count);
            steps.extend(last);
            Plan {
                exact,
                watches: true,
                looks: true,
                iocbs: Iocbs::Stack,
                steps,
                submits,
                completions,
                getevents: Vec::new(),
                deals: vec![Deal::Drop],
                losses: Vec::new(),
                end,
                destroys: true,
            }
        },
    )
}

pub fn plan() -> impl Strategy<Value = Plan> {
    let iocbs = prop_oneof![Just(Iocbs::Own), (4u8..9).prop_map(Iocbs::Pool), Just(Iocbs::Stack),];
    let made = prop_oneof![2 => Just(Made::Error), 1 => Just(Made::Short)];
    let faults =
        (vec((0u8..20, made.clone()), 0..4), vec((0u8..30, made), 0..4), vec(0u8..20, 0..2));
    let looks = prop::bool::weighted(0.9);
    let ends = (end(), any::<bool>(), vec(any::<u8>(), 0..4), looks);
    (any::<bool>(), iocbs, vec(step(), 4..40), faults, vec(deal(), 1..6), ends).prop_map(
        |(
            exact,
            iocbs,
            steps,
            (submits, completions, getevents),
            deals,
            (end, destroys, losses, looks),
        )| {
            Plan {
                exact,
                watches: true,
                looks,
                iocbs,
                steps,
                submits,
                completions,
                getevents,
                deals,
                losses,
                end,
                destroys,
            }
        },
    )
}
