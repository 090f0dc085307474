//! The decoded event: what every source yields and every output shows.

mod file;
mod looked;
mod names;
mod process;
mod site;
mod stack;
mod vectors;

pub use aiotrace_common::abi::{IoEvent, Syscall, Timespec};
use aiotrace_common::{abi, fault::effect, synchronous};
use serde::{Deserialize, Serialize};

pub use self::{
    file::{Alignment, AlignmentSource, File, FileKind, Open},
    looked::{Holder, Limit, Looked, Others, RingFound, Thread, User, Waits, Ways},
    names::{IOCB_FLAGS, POLL_EVENTS, RW_FLAGS, errno_name, opcode_name},
    process::{Change, ExitStatus, Process, SpaceId},
    site::{SiteId, Step},
    stack::{Frame, Module, ModuleId, Place, Stack},
    vectors::{Vector, Vectors},
};
use crate::bounded;

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

/// A call's arguments and what they point to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Args {
    /// io_setup
    Setup {
        /// Requests asked for.
        nr_events: u32,
        /// Where the handle is stored.
        ctxp: Address,
        /// What is stored there when the call returns, if it could be read.
        stored: Option<Handle>,
    },
    /// io_destroy
    Destroy {
        /// The context.
        ctx: Handle,
    },
    /// io_submit
    Submit {
        /// The context.
        ctx: Handle,
        /// Number of pointers, as the program gave it.
        nr: i64,
        /// The array of pointers.
        iocbpp: Address,
        /// The iocbs, in order; `None` where the record of them was lost or not yet made.
        #[serde(deserialize_with = "bounded::items")]
        iocbs: Vec<Option<Iocb>>,
        /// How many more iocbs there were.
        truncated: u64,
    },
    /// io_getevents and io_pgetevents
    Getevents {
        /// [`Syscall::Getevents`] or [`Syscall::Pgetevents`]
        syscall: Syscall,
        /// The context.
        ctx: Handle,
        /// How many events the program wants at least.
        min_nr: i64,
        /// For how many events there is room.
        nr: i64,
        /// Where the events are stored.
        events: Address,
        /// The timeout argument.
        timeout: Address,
        /// What it holds, if it could be read.
        timeout_value: Option<Timespec>,
        /// io_pgetevents: the last argument.
        sigset: Address,
        /// What it holds, if it could be read.
        sigset_value: Option<Sigset>,
        /// The events returned; `None` where they could not be read.
        #[serde(deserialize_with = "bounded::items")]
        list: Vec<Option<IoEvent>>,
        /// How many more events there were.
        truncated: u64,
        /// The indices of events that a fault rule changed, from 0.
        #[serde(deserialize_with = "bounded::items")]
        changed: Vec<u32>,
    },
    /// io_cancel
    Cancel {
        /// The context.
        ctx: Handle,
        /// The iocb's address.
        iocb: Address,
        /// Unused by the kernel.
        result: Address,
        /// The iocb, if it could be read.
        value: Option<abi::Iocb>,
    },
}

impl Args {
    /// The system call that these arguments belong to.
    pub fn syscall(&self) -> Syscall {
        match self {
            Self::Setup { .. } => Syscall::Setup,
            Self::Destroy { .. } => Syscall::Destroy,
            Self::Submit { .. } => Syscall::Submit,
            Self::Getevents { syscall, .. } => *syscall,
            Self::Cancel { .. } => Syscall::Cancel,
        }
    }

    /// On which context; 0 of io_setup, which needs none.
    pub fn handle(&self) -> Handle {
        match self {
            Self::Setup { .. } => Handle(0),
            Self::Destroy { ctx }
            | Self::Submit { ctx, .. }
            | Self::Getevents { ctx, .. }
            | Self::Cancel { ctx, .. } => *ctx,
        }
    }
}

/// One iocb of an io_submit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iocb {
    /// Its address, if the pointer could be read.
    pub address: Option<Address>,
    /// Its content, if it could be read.
    pub value: Option<abi::Iocb>,
    /// It could be read only when the call returned.
    pub read_late: bool,
    /// The iovecs of a vectored request. Read only while fault rules are armed, and if there are not too many.
    #[serde(default)]
    pub vectors: Option<Vectors>,
}

/// `struct __aio_sigset` of io_pgetevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sigset {
    /// Where the mask is; 0 for none.
    pub address: Address,
    /// Its size in bytes.
    pub size: u64,
    /// The mask, if it could be read: bit n-1 is signal n.
    pub mask: Option<u64>,
}

/// A ring at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Next entry to reap.
    pub head: u32,
    /// Next entry to be written.
    pub tail: u32,
    /// Number of entries.
    pub nr: u32,
}

impl Ring {
    /// Completed and not yet reaped.
    pub fn unreaped(self) -> u32 {
        // A program can write any number into its ring.
        if self.nr == 0 || self.head >= self.nr || self.tail >= self.nr {
            return 0;
        }
        abi::RingHeader::distance(self.head, self.tail, self.nr)
    }

    /// As it would be without the last entries, so many of them.
    pub fn without(self, last: u32) -> Self {
        if self.nr == 0 || self.tail >= self.nr {
            return self;
        }
        let last = last % self.nr;
        let tail = self.tail.checked_sub(last).unwrap_or(self.nr - (last - self.tail.min(last)));
        Self { tail, ..self }
    }
}

impl From<abi::RingHeader> for Ring {
    fn from(it: abi::RingHeader) -> Self {
        Self { head: it.head, tail: it.tail, nr: it.nr }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreaped_counts_around_the_end_of_the_ring() {
        assert_eq!(Ring { head: 120, tail: 4, nr: 127 }.unreaped(), 11);
        assert_eq!(Ring { head: 5, tail: 5, nr: 127 }.unreaped(), 0);
        assert_eq!(Ring { head: 999, tail: 5, nr: 127 }.unreaped(), 0);
        let ring = |tail, nr| Ring { head: 0, tail, nr };
        assert_eq!([0, 3, 4].map(|last| ring(3, 9).without(last).tail), [3, 0, 8]);
        assert_eq!(ring(u32::MAX - 1, u32::MAX).without(7).tail, u32::MAX - 8);
        assert_eq!(ring(5, 0).without(7), ring(5, 0));
    }
}
