//! What a program does, and which faults it meets.

use proptest::{collection::vec, option, prelude::*};

/// Where a program has its iocbs.
#[derive(Clone, Copy, Debug)]
pub enum Iocbs {
    /// Each request has one of its own.
    Own,
    /// So many, which are used again.
    Pool(u8),
    /// On its stack: the next batch has those of the last, which is waited for.
    Stack,
}

/// What it does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// An io_submit of requests with these operations.
    Submit {
        opcodes: Vec<u16>,
        /// They complete before io_submit returns.
        inline: bool,
        /// The last one's descriptor is not open.
        bad: bool,
        /// The first one does the same as an earlier one.
        again: Option<u8>,
    },
    /// A request in flight completes.
    Complete(u8),
    /// It reaps this many at most, with io_getevents or from the ring.
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

/// What it does with a request that was refused, or that failed.
#[derive(Clone, Copy, Debug)]
pub enum Deal {
    /// It submits what was refused again, in one call, with the same iocbs.
    AtOnce,
    /// Each alone.
    OneByOne,
    /// After so many steps, with whatever iocb is free then.
    Elsewhere { after: u8 },
    /// It forgets it.
    Drop,
    /// It does it with pread(2), pwrite(2) or fsync(2).
    Synchronously { pieces: u8 },
    /// It does the first half of it so, and forgets the rest.
    Halfway,
    /// With write(2) or read(2), whose place nobody sees.
    Somewhere,
    /// It exits with this status, so many milliseconds later.
    Exit { status: u8, after: u16 },
    /// It aborts.
    Abort,
    /// It does nothing any more.
    Hang,
}

/// What a fault rule does to a call or a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It fails.
    Error,
    /// io_submit accepts one; a completion is short.
    Short,
}

/// How it ends, if nothing ends it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exit(u8),
    Signal(u8),
    Exec,
    /// It does not: the trace is over.
    Stays,
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// Completions are told when they happen; else they are seen at the next call.
    pub exact: bool,
    /// Synchronous calls are told while the model wants them.
    pub watches: bool,
    pub iocbs: Iocbs,
    pub steps: Vec<Step>,
    /// Which io_submit calls meet a fault, from 0.
    pub submits: Vec<(u8, Made)>,
    /// Which completions do.
    pub completions: Vec<(u8, Made)>,
    /// Which io_getevents calls fail.
    pub getevents: Vec<u8>,
    /// What it does about it, by turns.
    pub deals: Vec<Deal>,
    /// Which records are lost, from 0.
    pub losses: Vec<u8>,
    pub end: End,
    /// It destroys its context before the end.
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
    let ends = (end(), any::<bool>(), vec(any::<u8>(), 0..4));
    (any::<bool>(), iocbs, vec(step(), 4..40), faults, vec(deal(), 1..6), ends).prop_map(
        |(
            exact,
            iocbs,
            steps,
            (submits, completions, getevents),
            deals,
            (end, destroys, losses),
        )| {
            Plan {
                exact,
                watches: true,
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
