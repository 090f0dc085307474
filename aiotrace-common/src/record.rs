//! The records in the ring buffer. Each begins with a [`Header`]; the records of a call may be
//! followed by one array ([`SubmittedIocb`] or [`IoEvent`]), and a call with a long array comes as
//! several records, all but the last marked [`flag::MORE`].
//!
//! ```text
//!  Stack + pages              io_setup and io_submit, when they are entered; before the call's other
//!                             records, same thread
//!  Submit + [SubmittedIocb]   io_submit, when it is entered
//!  Submitted + [IoEvent]      io_submit, when it returns; with the entries that are new in the ring, if
//!                             they are few
//!  SubmittedOne + [IoEvent]   in the place of both for an io_submit of one iocb, which is kept in the
//!                             thread's slot meanwhile
//!  Setup, Cancel, Destroy     when the call returns
//!  Events + [IoEvent]         io_getevents and io_pgetevents, when they return
//!  Sigset                     io_pgetevents was given a signal set; stands before Events, same thread
//!  Ring + [IoEvent]           entries new in the ring since the last look; stands before the
//!                             record of the call at which they were seen, same thread
//!  Refused                    io_submit refused an iocb; stands before Submitted, same thread
//!  Changed                    a fault: a completion was changed; stands before the record of the call that
//!                             gives it to the program, same thread
//!  Completion                 a request completed: from any thread, or none
//!  ContextSeen                first look at a context's ring; before the record of the call
//!  ContextGone, ContextMoved  from whoever ends an address space, or moves the ring
//!  Synchronous                a call that reads, writes or syncs a file without AIO, while those are watched
//!  Gone                       a thread that made AIO calls is dead: a header alone
//!  Process                    first AIO call of a thread, fork, exec, exit
//!
//! `Ring` and `ContextSeen` come only where no probe tells of completions ([`Completion`]).
//! ```
//!
//! Layout is derived: padding is a compile error, an unknown kind a decode error.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::{
    abi::{IoEvent, Iocb, Syscall, Timespec},
    synchronous,
};

/// iocbs in one [`Submit`] record.
pub const IOCBS_PER_RECORD: usize = 16;
/// Entries in one [`Events`] or [`Ring`] record.
pub const EVENTS_PER_RECORD: usize = 128;
/// iocbs or events recorded of one call; beyond, only the number is known.
pub const ITEMS_PER_CALL: usize = 4096;
/// Bytes kept of the path of a new program.
pub const PATH_BYTES: usize = 128;

/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Pages in a [`Stack`] record, at most.
pub const STACK_PAGES: usize = 5;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u16)]
#[expect(missing_docs, reason = "each names the record type it announces")]
pub enum Kind {
    Submit = 1,
    Submitted = 2,
    Setup = 3,
    Cancel = 4,
    Destroy = 5,
    Events = 6,
    Ring = 7,
    Gone = 8,
    Process = 9,
    Completion = 10,
    Refused = 11,
    ContextSeen = 12,
    ContextGone = 13,
    ContextMoved = 14,
    Stack = 15,
    Changed = 16,
    Sigset = 17,
    SubmittedOne = 18,
    Synchronous = 19,
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// More records of the same call follow.
    pub const MORE: u16 = 1;
    /// The iocbs in this record were read when the call returned.
    pub const LATE: u16 = 2;
    /// The call was left without having been entered: denied before it began, or begun before us.
    pub const NOT_ENTERED: u16 = 4;
    /// The thread has a seccomp filter (only with [`NOT_ENTERED`]).
    pub const SECCOMP: u16 = 8;
    /// The thread made an earlier AIO call that we saw (only with [`NOT_ENTERED`]).
    pub const KNOWN_THREAD: u16 = 16;
    /// The call came through the 32-bit entry.
    pub const COMPAT: u16 = 32;
    /// The request's context had ended: the completion is discarded.
    pub const DISCARDED: u16 = 64;
}

/// How a piece of user memory came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Memory {
    /// It could not be read (or there was nothing to read): the bytes mean nothing.
    Unread = 0,
    /// It was read when it should be.
    Read = 1,
    /// It could not be read when the call began, and was read when it returned.
    ReadLate = 2,
}

/// First in every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Counts the records of this thread, from 1: a gap is a loss. 0 where records are not counted.
    pub seq: u32,
    /// CLOCK_MONOTONIC, nanoseconds: when the call was entered ([`Kind::Submit`]) or left.
    pub time: u64,
    /// Process (the kernel's tgid), as our pid namespace sees it.
    pub pid: u32,
    /// Thread, likewise.
    pub tid: u32,
}

/// A call, when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Call {
    /// The record's header; its time is when the call returned.
    pub header: Header,
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC; 0 when we did not see it.
    pub entered: u64,
    /// The arguments in the registers, used or not.
    pub args: [u64; 6],
    /// What the kernel returned: a negative errno on failure.
    pub ret: i64,
    /// Which call.
    pub syscall: Syscall,
    /// The fault rule that acted, and its [`effect`](crate::fault::effect); 0 for none.
    pub fault: u32,
}

/// The ring, looked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingSample {
    /// Next entry to reap.
    pub head: u32,
    /// Next entry to be written.
    pub tail: u32,
    /// Number of entries; 0 if not known.
    pub nr: u32,
    /// Whether it could be read.
    pub memory: Memory,
}

impl RingSample {
    /// Nothing known.
    pub const UNREAD: Self = Self { head: 0, tail: 0, nr: 0, memory: Memory::Unread };
}

/// The user stack when a call was entered; followed by `pages` whole pages, from the one with `sp` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    /// The record's header; its time is when the call was entered.
    pub header: Header,
    /// The instruction after the system call.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer, if the program has one there.
    pub bp: u64,
    /// Pages that follow.
    pub pages: u32,
    /// Bit n: page n could be read. The others are zeros.
    pub read: u32,
    /// Not 0: nothing follows; the stack is that of this [`KnownStack`].
    pub known: u64,
    /// The address space, as in [`Process::space`].
    pub space: u64,
}

/// io_submit, entered; followed by `count` [`SubmittedIocb`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Submit {
    /// The record's header; its time is when the call was entered, in late records too.
    pub header: Header,
    /// ctx, nr, iocbpp
    pub args: [u64; 3],
    /// The ring at this moment (first record only).
    pub ring: RingSample,
    /// Index of the first iocb in this record.
    pub first: u32,
    /// Number of iocbs in this record.
    pub count: u32,
}

/// One iocb of an io_submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SubmittedIocb {
    /// Where it is; means nothing if `pointer` is unread.
    pub address: u64,
    /// Whether the pointer could be read.
    pub pointer: Memory,
    /// Whether the iocb could be read.
    pub memory: Memory,
    /// What it holds.
    pub iocb: Iocb,
}

/// io_submit, left; followed by the entries that are new in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Submitted {
    /// The call.
    pub call: Call,
    /// The ring at this moment.
    pub ring: RingSample,
    /// What is new in it and was not told by a [`Ring`] before this.
    pub new: NewEntries,
}

/// io_submit of one iocb, left; followed by the entries that are new in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SubmittedOne {
    /// What every io_submit tells.
    pub submitted: Submitted,
    /// The ring when the call was entered.
    pub ring_before: RingSample,
    /// The iocb, read then if it could be.
    pub iocb: SubmittedIocb,
}

/// Entries that are new in a ring; `count` [`IoEvent`]s follow the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NewEntries {
    /// When the clock was read after the tail: they were in the ring by then. (The record's time is that of the call's
    /// return, before the ring was read: what another thread submitted in between may be among them.)
    pub seen: u64,
    /// Their position in the ring.
    pub first: u32,
    /// How many entries are in this record.
    pub count: u32,
    /// How many entries after these could not be read, and are for a later look. Then there are none here.
    pub beyond: u32,
    /// Whether they could be read; if not, nothing follows.
    pub memory: Memory,
}

impl NewEntries {
    /// None.
    pub const NONE: Self = Self { seen: 0, first: 0, count: 0, beyond: 0, memory: Memory::Unread };
}

/// io_setup, left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Setup {
    /// The call.
    pub call: Call,
    /// What `*ctxp` holds after the call.
    pub handle: u64,
    /// Whether it could be read.
    pub memory: Memory,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// io_cancel, left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cancel {
    /// The call.
    pub call: Call,
    /// The ring when the call returned.
    pub ring: RingSample,
    /// The iocb.
    pub iocb: Iocb,
    /// Whether the iocb could be read.
    pub memory: Memory,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// io_destroy, left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Destroy {
    /// The call.
    pub call: Call,
    /// The ring when the call was *entered*: what it was about to discard.
    pub ring: RingSample,
}

/// io_getevents or io_pgetevents, left; followed by `count` [`IoEvent`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Events {
    /// The call.
    pub call: Call,
    /// The ring when the call returned.
    pub ring: RingSample,
    /// The timeout the program gave.
    pub timeout: Timespec,
    /// Whether the timeout could be read; unread also when there is none.
    pub timeout_memory: Memory,
    /// Index of the first event in this record.
    pub first: u32,
    /// Number of events in this record.
    pub count: u32,
    /// Whether they could be read.
    pub memory: Memory,
}

/// The signal set that io_pgetevents was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sigset {
    /// The record's header.
    pub header: Header,
    /// Where the mask is.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The mask.
    pub mask: u64,
    /// Whether address and size could be read.
    pub memory: Memory,
    /// Whether the mask could be read.
    pub mask_memory: Memory,
}

/// Entries that are new in a ring, and follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ring {
    /// The record's header.
    pub header: Header,
    /// The context's handle.
    pub handle: u64,
    /// The entries.
    pub new: NewEntries,
}

/// A request completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Completion {
    /// The record's header; not counted. The process is the one that used the context.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// What will be in the ring.
    pub event: IoEvent,
}

/// A fault: a completion has another result than the kernel gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Changed {
    /// The record's header.
    pub header: Header,
    /// The context's handle.
    pub handle: u64,
    /// What the kernel gave.
    pub event: IoEvent,
    /// The result it has now.
    pub res: i64,
    /// The fault rule, and its [`effect`](crate::fault::effect).
    pub fault: u32,
    /// Where it is among the events of the call; [`u32::MAX`]: in the ring, not reaped yet.
    pub index: u32,
}

/// A call that reads, writes or syncs a file without AIO, left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Synchronous {
    /// The record's header; not counted.
    pub header: Header,
    /// When it was entered, nanoseconds of CLOCK_MONOTONIC; 0 when we did not see it.
    pub entered: u64,
    /// Where in the file.
    pub offset: i64,
    /// Bytes asked for, or iovecs.
    pub count: u64,
    /// What the kernel returned: bytes moved, or a negative errno.
    pub ret: i64,
    /// Which call.
    pub call: synchronous::Call,
    /// The descriptor.
    pub fd: u32,
    /// Whether it is known where in the file.
    pub placed: Memory,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// An iocb was refused by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Refused {
    /// The record's header.
    pub header: Header,
    /// The iocb's address; 0 if not known.
    pub iocb: u64,
    /// The negative errno.
    pub ret: i64,
}

/// The first look at a context's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextSeen {
    /// The record's header.
    pub header: Header,
    /// The context's handle.
    pub handle: u64,
    /// [`RingHeader::id`](crate::abi::RingHeader::id): unlike the handle, it stays when the ring is
    /// moved.
    pub id: u32,
    /// Number of entries.
    pub nr: u32,
    /// Where the tail was.
    pub tail: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// Why a context ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum End {
    /// io_destroy
    Destroy = 1,
    /// The process exits.
    Exit = 2,
    /// It runs a new program.
    Exec = 3,
}

/// A context ends: from now on its handle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextGone {
    /// The record's header; not counted.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// Requests completed since the context is known, told or not.
    pub completed: u64,
    /// Why.
    pub end: End,
    /// 1: it may be [`End::Exec`] as well. Somebody who reads the memory of the process, in /proc for
    /// instance, was the last to have it, and ends it.
    pub by_other: u32,
}

/// A ring was moved with mremap(2), and the context has another handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextMoved {
    /// The record's header; not counted.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The handle until now.
    pub from: u64,
    /// The handle from now on.
    pub to: u64,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Change {
    /// A thread makes its first AIO call since the attach.
    Seen = 1,
    /// It created the process `other`.
    Fork = 2,
    /// It runs a new program.
    Exec = 3,
    /// Its last thread is gone.
    Exit = 4,
}

/// A process changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// The record's header.
    pub header: Header,
    /// When the process started, nanoseconds of CLOCK_BOOTTIME; 0 if not known.
    pub started: u64,
    /// The address space: a number that is equal for processes that share one. 0 if not known. Of
    /// the child, for a fork.
    pub space: u64,
    /// What happened.
    pub change: Change,
    /// Fork: the child. Exec: the thread that called it.
    pub other: u32,
    /// Exit: the status as wait(2) gives it.
    pub status: u32,
    /// Fork: 1 if the child is traced.
    pub followed: u32,
    /// Name of the thread, NUL-padded.
    pub thread_name: [u8; 16],
    /// Name of the process, NUL-padded.
    pub name: [u8; 16],
    /// Exec: the path as given, NUL-terminated, cut at this size.
    pub path: [u8; PATH_BYTES],
}

/// A thread's state between enter and exit, also read by the program for calls that never return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Thread {
    /// When the call was entered.
    pub entered: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// io_getevents: the timeout.
    pub timeout: Timespec,
    /// io_destroy, and io_submit of one iocb: head and tail as read when it was entered.
    pub ring_words: [u32; 2],
    /// The same: the ring's size.
    pub ring_nr: u32,
    /// The same: [`Memory`] of the two above.
    pub ring_memory: u32,
    /// io_submit of one iocb: where it is,
    pub iocb_address: u64,
    /// [`Memory`] of that,
    pub iocb_pointer: u32,
    /// [`Memory`] of the iocb,
    pub iocb_memory: u32,
    /// and the iocb.
    pub iocb: Iocb,
    /// Address space, as in [`Process::space`].
    pub space: u64,
    /// [`Syscall`] being made, 0 for none.
    pub syscall: u32,
    /// Records so far.
    pub seq: u32,
    /// As our namespace sees it.
    pub pid: u32,
    /// As our namespace sees it.
    pub tid: u32,
    /// io_getevents: [`Memory`] of the timeout.
    pub timeout_memory: u32,
    /// io_submit: index of the first iocb that could not be read, plus one; 0 if all could.
    pub unread: u32,
    /// [`Abi`](crate::abi::Abi) of the call.
    pub abi: u32,
    /// 1: the last call was left as it should be (for the program that looks for those that are
    /// left without).
    pub left: u32,
    /// The process, as the initial namespace sees it: ids of threads are used again.
    pub kernel_pid: u32,
    /// The thread, as the initial namespace sees it; 0: the slot is free.
    pub kernel_tid: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
    /// The fault rule that is to act on the call, from 1; 0 for none.
    pub verdict: u32,
    /// What became of it, as in [`Call::fault`].
    pub fault: u32,
    /// io_submit: requests that the kernel has begun to look at.
    pub submitting: u32,
    /// 1: the request that the kernel looks at is to be refused.
    pub refuse: u32,
    /// A bit for each rule that is about one of the call's requests.
    pub requests: u32,
    /// One of [`mechanism`](crate::fault::mechanism): which of them carries the verdict out.
    pub mechanism: u32,
    /// 1: the call's records are sent. Else it is only counted.
    pub told: u32,
    /// What the mechanism is to return: a negative errno.
    pub errno: i64,
    /// How many requests come before the one that is to be refused.
    pub accept: u64,
    /// Where its calls are counted, by [`Syscall`] - 1: rows of [`CallRow`](crate::counts::CallRow); 0: nowhere
    /// yet.
    pub call_rows: [u32; 6],
    /// The context of the last call that was counted, and its [`ContextRow`](crate::counts::ContextRow).
    pub context: u64,
    /// See `context`.
    pub context_row: u32,
    /// The tail of the ring at `looked_at`, when this thread looked at it last.
    pub looked_tail: u32,
    /// The handle of that context; 0: none.
    pub looked_at: u64,
    /// The first word of that ring: its id and its size.
    pub looked_ring: u64,
    /// How many contexts had begun and ended then, so that it may be another one's by now.
    pub looked_when: u64,
}

impl Thread {
    /// The call being made.
    #[inline(always)]
    pub fn call(&self) -> Option<Syscall> {
        Syscall::ALL.into_iter().find(|call| *call as u32 == self.syscall)
    }
}

/// Identity of a context on the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextKey {
    /// As in [`Process::space`].
    pub space: u64,
    /// The handle.
    pub handle: u64,
}

/// What the kernel side remembers of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Context {
    /// Ring size; 0 until the ring could be read.
    pub nr: u32,
    /// Requests that may still complete, as far as that is known; less than 0 (as `i32`) for a moment, when threads
    /// that share the context race. A program can write any tail into its ring: of more new entries than these, few
    /// are told at one look.
    pub expected: u32,
    /// Two positions in one word, so that threads that share the context always see both of one look: up to the
    /// lower one entries were told; the upper one is the tail at the last look, which is further on if entries could
    /// not be read.
    pub positions: u64,
}

impl Context {
    /// Of a ring of this size, everything up to there is told; as many requests may be in flight as it has room for.
    #[inline(always)]
    pub const fn at(nr: u32, tail: u32) -> Self {
        Self { nr, expected: nr, positions: Self::positions(tail, tail) }
    }

    /// For [`Self::positions`].
    #[inline(always)]
    pub const fn positions(told: u32, seen: u32) -> u64 {
        told as u64 | (seen as u64) << 32
    }
}

/// How many records may be told of `untold` new entries at one look, if `expected` requests may still complete, and by
/// how many these are fewer then. One record more than that is always told, and one for the wrap-around.
#[inline(always)]
pub const fn expected_records(untold: u32, expected: u32, most: u32) -> (u32, u32) {
    // A race has made them too few.
    if (expected as i32) < 0 {
        return (2, expected);
    }
    let all = most * EVENTS_PER_RECORD as u32;
    let told = if untold < all { untold } else { all };
    let spent = if told < expected { told } else { expected };
    let records = spent.div_ceil(EVENTS_PER_RECORD as u32) + 2;
    (if records < most { records } else { most }, spent)
}

/// By how much the requests that may complete grow when a call of io_submit begins that is given so many: those of a
/// large one may complete, and be reaped by another thread, before it returns. Of the others it is known then.
#[inline(always)]
pub const fn expected_at_entry(given: u64) -> u32 {
    let is_large = given > EVENTS_PER_RECORD as u64 && given as i64 > 0;
    let most = ITEMS_PER_CALL as u64;
    if !is_large {
        0
    } else if given < most {
        given as u32
    } else {
        most as u32
    }
}

/// What the kernel side knows of a kernel's `struct kioctx`, which has no way back to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Owner {
    /// As in [`Process::space`].
    pub space: u64,
    /// The handle, as far as we know.
    pub handle: u64,
    /// Process, as our namespace sees it.
    pub pid: u32,
    /// The same, as the initial namespace does.
    pub kernel_pid: u32,
    /// Requests completed since it is known, told or not.
    pub completed: u64,
    /// 1: its end was told.
    pub gone: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// Words of a [`KnownStack`] at most.
pub const STACK_WORDS: usize = 64;

/// Stacks that can be told of the same registers.
pub const STACK_VARIANTS: u64 = 4;

/// Where a call is made, as far as the registers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StackKey {
    /// As in [`Process::space`].
    pub space: u64,
    /// As in [`Stack::ip`].
    pub ip: u64,
    /// As in [`Stack::sp`].
    pub sp: u64,
    /// As in [`Stack::bp`].
    pub bp: u64,
    /// Less than [`STACK_VARIANTS`].
    pub variant: u64,
}

/// A stack that was unwound, told to the kernel side: while these words of it are the same, so are the
/// functions, and no copy is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KnownStack {
    /// For [`Stack::known`].
    pub id: u64,
    /// How many words.
    pub count: u64,
    /// All that was read of the stack to unwind it.
    pub words: [StackWord; STACK_WORDS],
}

/// A word of a stack.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StackWord {
    /// Where it is.
    pub address: u64,
    /// What it is.
    pub value: u64,
}

/// What can be lost on the kernel side; the index of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Lost {
    /// A record, because the ring buffer was full.
    BufferFull = 0,
    /// A call, because there was no slot for its thread.
    NoThreadSlot = 1,
    /// A child process that should have been followed, because the set of targets was full.
    NoTargetSlot = 2,
    /// A call that was left without having been entered, in a thread where that cannot be.
    EnterMissed = 3,
    /// A call that was entered and never left, while its thread went on or died. (A thread that is
    /// killed inside a call still leaves it, with EINTR.)
    ExitMissed = 4,
    /// A context that could not be remembered.
    NoContextSlot = 5,
}

impl Lost {
    /// All, in the order of their counters.
    pub const ALL: [Self; 6] = [
        Self::BufferFull,
        Self::NoThreadSlot,
        Self::NoTargetSlot,
        Self::EnterMissed,
        Self::ExitMissed,
        Self::NoContextSlot,
    ];
}

const _: () = {
    assert!(size_of::<Iocb>() == 64);
    assert!(size_of::<IoEvent>() == 32);
};

/// A context of some process, as `mm->ioctx_table` has it (`aiotrace ls`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ListedContext {
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// Process, as our pid namespace sees it.
    pub pid: u32,
    /// What it takes from fs.aio-nr: what io_setup was asked for.
    pub charge: u32,
    /// Requests there is room for.
    pub room: u32,
    /// Process, as the initial namespace sees it.
    pub kernel_pid: u32,
    /// Address of the `struct kioctx`.
    pub kioctx: u64,
    /// Address of the ring's `struct file`; 0 if it cannot be read.
    pub ring_file: u64,
    /// Slots taken, by requests in flight or kept free by a processor; [`u32::MAX`] if that cannot be read.
    pub taken: u32,
    /// Of these, kept free by a processor; [`u32::MAX`] if that cannot be read.
    pub kept: u32,
}

impl ListedContext {
    /// Requests in flight, exactly.
    pub fn in_flight(&self) -> Option<u32> {
        match (self.taken, self.kept) {
            (0, _) => Some(0),
            (u32::MAX, _) | (_, u32::MAX) => None,
            // They change while they are read.
            (taken, kept) => Some(taken.saturating_sub(kept)),
        }
    }

    /// Requests in flight, at most.
    pub fn in_flight_at_most(&self) -> Option<u32> {
        (self.taken != u32::MAX).then_some(self.taken)
    }
}

/// Contexts looked at of one address space in one walk; a table may have more.
pub const CONTEXTS_PER_WALK: u32 = 1024;

/// A walk over all tasks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Cursor {
    /// Number of the walk, so that an address space is looked at once in each.
    pub walk: u32,
    /// The first place of each table to look at.
    pub first: u32,
    /// Some table has more.
    pub more: u32,
    /// Contexts for which there was no room in the ring buffer.
    pub lost: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 257;

    #[test]
    fn what_was_submitted_is_told_at_once_and_what_was_not_by_and_by() {
        assert_eq!(expected_records(4096, 4096, MOST), (34, 4096));
        assert_eq!(expected_records(100, 4096, MOST), (3, 100));
        assert_eq!(expected_records(16_000, 0, MOST), (2, 0));
        assert_eq!(expected_records(16_000, 1, MOST), (3, 1));
        assert_eq!(
            expected_records(70_000, 70_000, MOST),
            (MOST, 257 * 128),
            "the rest is still expected"
        );
        let below = 0u32.wrapping_sub(5);
        assert_eq!(expected_records(100, below, MOST), (2, below), "back to 0");
    }

    #[test]
    fn a_large_call_is_expected_to_complete_before_it_returns() {
        assert_eq!([1, 128, 129, 4096, 4097].map(expected_at_entry), [0, 0, 129, 4096, 4096]);
        assert_eq!([0, u64::MAX, 1 << 63].map(expected_at_entry), [0, 0, 0]);
    }
}
