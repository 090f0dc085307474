//! What a program does, and which faults it gets.

mod random;

pub use self::random::{busy_plan, dropped_log, plan};

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
    /// Something happens that is about no request.
    Meanwhile(Meanwhile),
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
    /// It does the request in pieces through this one of its other descriptors. The first ones are of the same file, if there
    /// are any.
    Through { which: u8, by: By, pieces: u8 },
    /// The other traced process does it, which opens the file for that.
    ByOther(Others),
    /// It is done without a call that is seen, if there is a way: by a mapping that was there before, or by a process that
    /// is not traced. The mapping is gone after that, or not.
    Silently { unmaps: bool },
    /// Another thread does it with a synchronous call, which began before or after the failure.
    InThread { before: bool },
    /// It exits with this status, after this many milliseconds.
    Exit { status: u8, after: u16 },
    /// It aborts.
    Abort,
    /// It does nothing any more.
    Hang,
}

/// By what the pieces of a request are done.
#[derive(Clone, Copy, Debug)]
pub enum By {
    Calls,
    Aio,
    /// One by AIO, the next one by a call, and so on.
    Both,
}

/// What the other traced process does to a file.
#[derive(Clone, Copy, Debug)]
pub enum Others {
    /// It reads, writes or syncs it with a synchronous call.
    Calls,
    /// It does so by AIO.
    Submits,
    /// It copies something into it.
    Copies,
    /// It maps it, and stores something there.
    Maps,
}

/// What happens besides the requests. The descriptor 0 is that of what failed, 1 the other one that was used last.
#[derive(Clone, Copy, Debug)]
pub enum Meanwhile {
    /// A descriptor is closed or replaced, and its number leads to that file from then on: 4 is that of the other descriptor, 5
    /// that of the own one.
    Reopen { which: u8, file: u8, how: Reopen },
    /// O_APPEND is set.
    Append { which: u8 },
    /// Other data are put into the memory of what failed.
    Refill(Refill),
    /// The other traced process does something, at the place of what failed or elsewhere.
    Other { does: Others, here: bool },
    /// The file of a descriptor is mapped.
    Map { which: u8, stores: bool },
    /// All mappings are gone.
    Unmap,
}

/// How a number gets another file.
#[derive(Clone, Copy, Debug)]
pub enum Reopen {
    Close,
    Dup2,
    CloseRange,
}

/// How data get into memory.
#[derive(Clone, Copy, Debug)]
pub enum Refill {
    Reads,
    Receives,
    Submits,
}

/// When the model's questions are answered.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// They are, while the process lives.
    pub come: bool,
    /// After so many further events.
    pub after: u8,
    /// The answer is there so many events after the look, and the model hears nothing until then.
    pub lasts: u8,
    /// All that happens reaches the model so many events later.
    pub lag: u8,
}

/// What there is besides the program.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around {
    /// A process that is not traced has this file open for writing.
    pub untraced: Option<u8>,
    /// The program has mapped this file before the trace, and what is stored there goes to the file, or not.
    pub mapped: Option<(u8, bool)>,
    /// Another process is traced.
    pub other: bool,
    /// Each read is of a file of its own, and may end with that.
    pub ends: bool,
    /// The source does not know when synchronous calls were entered.
    pub late: bool,
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
    pub looks: Looks,
    pub around: Around,
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
    /// What happens before it does so, in turn.
    pub before: Vec<Option<Meanwhile>>,
    /// What happens after that, in turn.
    pub after: Vec<Option<Meanwhile>>,
    /// Which records are lost, from 0.
    pub losses: Vec<u8>,
    pub end: End,
    /// The program destroys its context before its end.
    pub destroys: bool,
}

impl Looks {
    /// Each answer is there at once.
    pub const IN_TIME: Self = Self { come: true, after: 0, lasts: 0, lag: 0 };

    /// Whether an answer may come after something that happened in between.
    pub fn are_late(self) -> bool {
        self.after > 0 || self.lasts > 0 || self.lag > 0
    }
}

impl Plan {
    /// Whether anything is done besides the requests and what is left of them, or seen late.
    pub fn is_busy(&self) -> bool {
        let is_new = |it: &Deal| {
            matches!(
                it,
                Deal::Through { .. }
                    | Deal::ByOther(_)
                    | Deal::Silently { .. }
                    | Deal::InThread { .. }
            )
        };
        let Around { untraced, mapped, other, ends, late } = self.around;
        self.before.iter().chain(&self.after).any(Option::is_some)
            || self.steps.iter().any(|it| matches!(it, Step::Meanwhile(_)))
            || self.deals.iter().any(is_new)
            || self.looks.are_late()
            || untraced.is_some()
            || mapped.is_some()
            || other
            || ends
            || late
    }
}
