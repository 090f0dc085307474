//! The decoded event: what every source yields and every output shows.

mod args;
mod file;
mod looked;
mod names;
mod process;
mod ring;
mod site;
mod stack;
mod vectors;

pub use aiotrace_common::abi::{IoEvent, Syscall, Timespec};
use aiotrace_common::{fault::effect, synchronous};
use serde::{Deserialize, Serialize};

pub use self::{
    args::{Args, Iocb, Sigset},
    file::{Alignment, AlignmentSource, File, FileKind, Open},
    looked::{Holder, Limit, Looked, Others, RingFound, Thread, User, Waits, Ways},
    names::{IOCB_FLAGS, POLL_EVENTS, RW_FLAGS, errno_name, opcode_name},
    process::{Change, ExitStatus, Process, SpaceId},
    ring::Ring,
    site::{SiteId, Step},
    stack::{Frame, Module, ModuleId, Place, Stack},
    vectors::{Vector, Vectors},
};

/// One fact, in the order in which things happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, nanoseconds of CLOCK_MONOTONIC; for a call, when it returned.
    pub time: u64,
    /// The process, as our pid namespace sees it.
    pub pid: u32,
    /// The thread, as our pid namespace sees it.
    pub tid: u32,
    /// What happened.
    pub body: Body,
}

impl Event {
    /// An event for a loss that may belong to any process.
    pub fn lost_somewhere(time: u64) -> Self {
        Self { time, pid: 0, tid: 0, body: Body::Lost { records: 0 } }
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// A call returned.
    Call(Call),
    /// A call has not returned, and perhaps never will.
    Unfinished(Unfinished),
    /// A request completed.
    Completion(Completion),
    /// io_submit refused an iocb. This event comes before that of the call.
    Refused(Refused),
    /// A context ended.
    ContextGone(Gone),
    /// A context has got another handle.
    ContextMoved(Moved),
    /// A context that existed before we attached.
    ContextAdopted(Adopted),
    /// Something that the model asked for was looked up.
    Looked(Looked),
    /// A fault: a completion was changed. This event comes before the call that gives the completion to the program,
    /// if one does.
    Changed(Changed),
    /// A process changed.
    Process(Process),
    /// Records of this thread never reached us; what they would have said is unknown.
    Lost {
        /// How many.
        records: u64,
    },
    /// A call that reads, writes or syncs a file without AIO; there are events only while such calls are watched.
    Synchronous(Synchronous),
    /// Requests completed whose entries could not be read in the ring: completions follow, with or without their
    /// result.
    Behind(Behind),
}

/// The number by which the program knows a context. The kernel may give it again, so it is no identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash, PartialOrd, Ord)]
pub struct Handle(pub u64);

/// A place in the program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

/// How the beginning of a call is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The beginning was seen.
    Seen,
    /// It began before we were attached.
    BeforeAttach,
    /// It never began: a seccomp filter answered in the kernel's place.
    Denied,
    /// The beginning should have been seen: there was a loss.
    Missed,
}

/// A call that returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC, if that was seen.
    pub entered: Option<u64>,
    /// How the beginning is known.
    pub entry: Entry,
    /// What the kernel returned: a negative errno on failure.
    pub ret: i64,
    /// The call and its arguments.
    pub args: Args,
    /// The ring when the call returned (io_destroy: when it was entered).
    pub ring: Option<Ring>,
    /// io_submit: the ring when the call was entered.
    pub ring_before: Option<Ring>,
    /// The call came through the 32-bit entry.
    pub compat: bool,
    /// Where in the program it was made: io_setup, and the others if that is asked for.
    pub stack: Option<Stack>,
    /// A fault rule acted on it: what it returned is not, or not only, the kernel's answer.
    pub fault: Option<Fault>,
}

impl Call {
    /// When the call was entered; if that was not seen, when it returned, which is the time of the event.
    pub fn began(&self, event: &Event) -> u64 {
        self.entered.unwrap_or(event.time)
    }
}

/// What a fault rule did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Which rule, from 1.
    pub rule: u32,
    /// What became of it.
    pub effect: Effect,
}

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// The program got it.
    Done,
    /// The completion was changed in the ring of a program that reaps by itself, and may have read the result before.
    Unsure,
    /// `--dry-run`: the program would have got the fault.
    WouldBe,
    /// The mechanism could not deliver the fault.
    Missed,
}

impl Effect {
    /// Whether the rule acted.
    pub fn is_made(self) -> bool {
        matches!(self, Self::Done | Self::Unsure)
    }
}

impl Fault {
    /// The effect in a record: see [`effect`].
    pub fn from_record(number: u32) -> Option<Self> {
        let effect = match number {
            _ if number & effect::DRY_RUN != 0 => Effect::WouldBe,
            _ if number & effect::MISSED != 0 => Effect::Missed,
            _ if number & effect::UNSURE != 0 => Effect::Unsure,
            _ => Effect::Done,
        };
        let rule = number & effect::RULE;
        (rule != 0).then_some(Self { rule, effect })
    }
}

/// A fault: a completion was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The context.
    pub ctx: Handle,
    /// The completion as the kernel wrote it.
    pub event: IoEvent,
    /// The result it has now (or would have).
    pub res: i64,
    /// The rule, and what became of it.
    pub fault: Fault,
}

/// A call that reads, writes or syncs a file without AIO, and returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synchronous {
    /// The call.
    pub call: synchronous::Call,
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC, if that was seen.
    pub entered: Option<u64>,
    /// The descriptor.
    pub fd: u32,
    /// The offset in the file; `None` if it is unknown: the call has none, and the position of the descriptor was not
    /// seen.
    pub offset: Option<i64>,
    /// Where in memory its data is, if that is known.
    #[serde(default)]
    pub memory: Option<Vectors>,
    /// Bytes asked for; for a vectored call, the number of iovecs; for mmap 1, if what is stored there goes to the file.
    pub count: u64,
    /// What the kernel returned: bytes moved, or a negative errno.
    pub ret: i64,
}

/// A call that has not returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// When it was entered, if that is known.
    pub entered: Option<u64>,
    /// The call and its arguments.
    pub args: Args,
    /// Why there is an event of the call.
    pub why: Why,
}

/// Why a call is reported as unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It was already blocked when we attached.
    BlockedAtAttach,
    /// The trace ends, and the call is still in the kernel.
    TraceEnds,
    /// A report was asked for, and the call is still in the kernel. The event is only for the report.
    Reported,
}

/// A request completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The context.
    pub ctx: Handle,
    /// The entry in its ring; `None` if it could not be read.
    pub event: Option<IoEvent>,
    /// `None`: the request completed at the event's time. Otherwise it completed before that time, and after this one
    /// (0 if that is unknown).
    pub since: Option<u64>,
    /// Set together with `since`, if the event's time is when a call returned: the ring was read a moment later,
    /// before this time, and may have had completions of that moment.
    pub until: Option<u64>,
    /// The context had ended before: the completion goes into no ring.
    pub discarded: bool,
}

impl Completion {
    /// A completion at the event's time, into the ring of its context.
    pub fn exact(ctx: Handle, event: Option<IoEvent>) -> Self {
        Self { ctx, event, since: None, until: None, discarded: false }
    }
}

/// Completions in a ring that could not be read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// The context.
    pub ctx: Handle,
    /// How many there are at the moment.
    pub completions: u32,
}

/// io_submit refused an iocb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The context.
    pub ctx: Handle,
    /// The index of the iocb in the call, from 0.
    pub index: u64,
    /// Its address, if that is known.
    pub iocb: Option<Address>,
    /// The negative errno.
    pub ret: i64,
}

/// How a context ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// io_destroy
    Destroy,
    /// The process exited.
    Exit,
    /// The process ran a new program.
    Exec,
}

/// A context ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// The context.
    pub ctx: Handle,
    /// How it ended.
    pub how: How,
    /// Requests accepted and not completed, if all of them were seen.
    pub in_flight: Option<u64>,
    /// `in_flight` is an upper bound: nobody looked at the ring between the last call and the end, and requests may
    /// have completed in the meantime.
    pub at_most: bool,
}

/// A ring was moved with mremap(2), so the context has another handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The handle until then.
    pub from: Handle,
    /// The handle from then on.
    pub to: Handle,
}

/// A context that existed before we attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The context.
    pub ctx: Handle,
    /// Its ring at that moment, if it could be read.
    pub ring: Option<Ring>,
    /// What it takes from fs.aio-nr, if that could be read.
    pub charge: Option<u32>,
    /// Its requests in flight at that moment, if that could be read.
    pub in_flight: Option<u32>,
}
