//! The records in the ring buffer. Each begins with a [`Header`]. One array may follow the record of
//! a call ([`SubmittedIocb`] or [`IoEvent`]); a call with a long array has several records, and all
//! but the last are marked [`flag::MORE`].
//!
//! ```text
//!  Stack + pages              io_setup and io_submit, at the entry; before the other records of the
//!                             call, same thread
//!  Submit + [SubmittedIocb]   io_submit, at the entry
//!  Submitted + [IoEvent]      io_submit, at the return; with the new entries of the ring, if they are
//!                             few
//!  SubmittedOne + [IoEvent]   in place of both for an io_submit of one iocb; the thread's slot keeps
//!                             the iocb until then
//!  Setup, Cancel, Destroy     at the return of the call
//!  Events + [IoEvent]         io_getevents and io_pgetevents, at the return
//!  Sigset                     io_pgetevents was given a signal set; before Events, same thread
//!  Ring + [IoEvent]           new entries of the ring since the last look; before the record of the
//!                             call at which they were seen, same thread
//!  Refused                    io_submit refused an iocb; before Submitted, same thread
//!  Changed                    a fault: a completion was changed; before the record of the call that
//!                             gives it to the program, same thread
//!  Completion                 a request completed: from any thread, or none
//!  ContextSeen                the first look at a context's ring; before the record of the call
//!  ContextGone, ContextMoved  from any thread that ends an address space, or moves a ring
//!  Synchronous                a call that reads, writes or syncs a file without AIO, while such
//!                             calls are watched
//!  Gone                       a thread that made AIO calls is dead: only a header
//!  Process                    the first AIO call of a thread, fork, exec, exit
//!
//! `Ring` and `ContextSeen` come only where no probe sees completions ([`Completion`]).
//! ```
//!
//! The layout is derived: padding is a compile error, and an unknown kind is a decode error.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

use crate::{
    abi::{IoEvent, Iocb, Syscall, Timespec},
    synchronous,
};

/// The number of iocbs in one [`Submit`] record.
pub const IOCBS_PER_RECORD: usize = 16;
/// The number of entries in one [`Events`] or [`Ring`] record.
pub const EVENTS_PER_RECORD: usize = 128;
/// How many iocbs or events of one call are recorded; of those beyond, only the number is known.
pub const ITEMS_PER_CALL: usize = 4096;
/// How many bytes of the path of a new program are recorded.
pub const PATH_BYTES: usize = 128;

/// The size of a page in bytes.
pub const PAGE: usize = 4096;
/// The most pages that a [`Stack`] record can have.
pub const STACK_PAGES: usize = 5;

/// The type of a record.
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
    /// The call returned and was not seen entered: it was denied before it began, or began before
    /// aiotrace attached.
    pub const NOT_ENTERED: u16 = 4;
    /// The thread has a seccomp filter (only with [`NOT_ENTERED`]).
    pub const SECCOMP: u16 = 8;
    /// The thread made an earlier AIO call that was seen (only with [`NOT_ENTERED`]).
    pub const KNOWN_THREAD: u16 = 16;
    /// The call came through the 32-bit entry.
    pub const COMPAT: u16 = 32;
    /// The request's context had ended: the completion is discarded.
    pub const DISCARDED: u16 = 64;
}

/// How a piece of the target's memory was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Memory {
    /// It could not be read (or there was nothing to read): the bytes mean nothing.
    Unread = 0,
    /// It was read when it should have been.
    Read = 1,
    /// It could not be read when the call began, and was read when the call returned.
    ReadLate = 2,
}

/// The first part of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// The type of the record.
    pub kind: Kind,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Counts the records of this thread, from 1: a gap is a loss. 0 in records that are not
    /// counted.
    pub seq: u32,
    /// When the call was entered ([`Kind::Submit`]) or returned, in nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// The process (the kernel's tgid), as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// The thread, as aiotrace's pid namespace sees it.
    pub tid: u32,
}

/// A call that has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Call {
    /// The record's header; its time is when the call returned.
    pub header: Header,
    /// When the call was entered, in nanoseconds of CLOCK_MONOTONIC; 0 if its entry was not seen.
    pub entered: u64,
    /// The registers of arguments, whether the call uses them or not.
    pub args: [u64; 6],
    /// The kernel's result: a negative errno on failure.
    pub ret: i64,
    /// The call.
    pub syscall: Syscall,
    /// The fault rule that acted, and its [`effect`](crate::fault::effect); 0 for none.
    pub fault: u32,
}

/// One look at a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingSample {
    /// The next entry to reap.
    pub head: u32,
    /// The next entry to be written.
    pub tail: u32,
    /// The number of entries; 0 if unknown.
    pub nr: u32,
    /// Whether the ring could be read.
    pub memory: Memory,
}

impl RingSample {
    /// A ring that was not read.
    pub const UNREAD: Self = Self { head: 0, tail: 0, nr: 0, memory: Memory::Unread };
}

/// The user stack at the entry of a call. `pages` whole pages follow, beginning with that of `sp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    /// The record's header; its time is when the call was entered.
    pub header: Header,
    /// The address of the instruction after the system call.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer, if the program keeps it there.
    pub bp: u64,
    /// How many pages follow.
    pub pages: u32,
    /// Bit n: page n could be read. The other pages are zeros.
    pub read: u32,
    /// If not 0, no page follows: the stack is that of the [`KnownStack`] with this id.
    pub known: u64,
    /// The address space, as in [`Process::space`].
    pub space: u64,
}

/// io_submit is entered. `count` [`SubmittedIocb`]s follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Submit {
    /// The record's header; its time is when the call was entered, even in records that were read
    /// late.
    pub header: Header,
    /// The arguments ctx, nr and iocbpp.
    pub args: [u64; 3],
    /// The ring at the entry (only in the first record).
    pub ring: RingSample,
    /// The index of the first iocb in this record.
    pub first: u32,
    /// The number of iocbs in this record.
    pub count: u32,
}

/// One iocb of an io_submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SubmittedIocb {
    /// The address of the iocb; it means nothing if `pointer` is unread.
    pub address: u64,
    /// Whether the pointer could be read.
    pub pointer: Memory,
    /// Whether the iocb could be read.
    pub memory: Memory,
    /// The content of the iocb.
    pub iocb: Iocb,
}

/// io_submit returns. The new entries of the ring follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Submitted {
    /// The call.
    pub call: Call,
    /// The ring at the return.
    pub ring: RingSample,
    /// The new entries of the ring that no earlier [`Ring`] record has.
    pub new: NewEntries,
}

/// io_submit of one iocb returns. The new entries of the ring follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SubmittedOne {
    /// The part that the records of all io_submits share.
    pub submitted: Submitted,
    /// The ring at the entry of the call.
    pub ring_before: RingSample,
    /// The iocb, read at the entry if possible.
    pub iocb: SubmittedIocb,
}

/// New entries of a ring; `count` [`IoEvent`]s follow the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NewEntries {
    /// The time just after the tail was read: the entries were in the ring by then. (The record's
    /// time is that of the call's return, before the ring was read: completions of requests that
    /// another thread submitted in between may be among the entries.)
    pub seen: u64,
    /// The position of the first entry in the ring.
    pub first: u32,
    /// How many entries are in this record.
    pub count: u32,
    /// How many entries could not be read and are left to a later look. If it is not 0, this record
    /// has no entries.
    pub beyond: u32,
    /// Whether the entries could be read; if not, none follows.
    pub memory: Memory,
}

impl NewEntries {
    /// No new entries.
    pub const NONE: Self = Self { seen: 0, first: 0, count: 0, beyond: 0, memory: Memory::Unread };
}

/// io_setup returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Setup {
    /// The call.
    pub call: Call,
    /// The content of `*ctxp` after the call.
    pub handle: u64,
    /// Whether the handle could be read.
    pub memory: Memory,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// io_cancel returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cancel {
    /// The call.
    pub call: Call,
    /// The ring at the return.
    pub ring: RingSample,
    /// The content of the iocb.
    pub iocb: Iocb,
    /// Whether the iocb could be read.
    pub memory: Memory,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// io_destroy returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Destroy {
    /// The call.
    pub call: Call,
    /// The ring at the *entry* of the call: what the call was about to discard.
    pub ring: RingSample,
}

/// io_getevents or io_pgetevents returns. `count` [`IoEvent`]s follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Events {
    /// The call.
    pub call: Call,
    /// The ring at the return.
    pub ring: RingSample,
    /// The timeout that the program gave.
    pub timeout: Timespec,
    /// Whether the timeout could be read; unread also if there is none.
    pub timeout_memory: Memory,
    /// The index of the first event in this record.
    pub first: u32,
    /// The number of events in this record.
    pub count: u32,
    /// Whether the events could be read.
    pub memory: Memory,
}

/// The signal set that io_pgetevents was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sigset {
    /// The record's header.
    pub header: Header,
    /// The address of the mask.
    pub address: u64,
    /// The size of the mask in bytes.
    pub size: u64,
    /// The mask.
    pub mask: u64,
    /// Whether the address and the size could be read.
    pub memory: Memory,
    /// Whether the mask could be read.
    pub mask_memory: Memory,
}

/// New entries of a ring, which follow the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ring {
    /// The record's header.
    pub header: Header,
    /// The context's handle.
    pub handle: u64,
    /// Which entries follow.
    pub new: NewEntries,
}

/// A request completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Completion {
    /// The record's header, which is not counted. The process is the one that used the context.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// The completion that the kernel writes into the ring.
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
    /// The completion as the kernel wrote it.
    pub event: IoEvent,
    /// The new result.
    pub res: i64,
    /// The fault rule, and its [`effect`](crate::fault::effect).
    pub fault: u32,
    /// The index of the completion among the events of the call; [`u32::MAX`]: it is in the ring,
    /// and not yet reaped.
    pub index: u32,
}

/// A call that reads, writes or syncs a file without AIO returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Synchronous {
    /// The record's header, which is not counted.
    pub header: Header,
    /// When the call was entered, in nanoseconds of CLOCK_MONOTONIC; 0 if its entry was not seen.
    pub entered: u64,
    /// The position in the file.
    pub offset: i64,
    /// The number of bytes, or of iovecs, that were asked for.
    pub count: u64,
    /// The kernel's result: the number of bytes moved, or a negative errno.
    pub ret: i64,
    /// The call.
    pub call: synchronous::Call,
    /// The descriptor.
    pub fd: u32,
    /// Whether the position in the file is known.
    pub placed: Memory,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// The kernel refused an iocb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Refused {
    /// The record's header.
    pub header: Header,
    /// The address of the iocb; 0 if unknown.
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
    /// [`RingHeader::id`](crate::abi::RingHeader::id): unlike the handle, it stays the same when
    /// the ring is moved.
    pub id: u32,
    /// The number of entries.
    pub nr: u32,
    /// The tail at this look.
    pub tail: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// Why a context ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum End {
    /// io_destroy ended it.
    Destroy = 1,
    /// The process exited.
    Exit = 2,
    /// The process executed a new program.
    Exec = 3,
}

/// A context ends: from this time on its handle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextGone {
    /// The record's header, which is not counted.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// How many requests of the context have completed since the probes know it, whether recorded
    /// or not.
    pub completed: u64,
    /// Why the context ended.
    pub end: End,
    /// 1: it may be [`End::Exec`] as well. A process that read the memory of the target, in /proc
    /// for instance, was the last to hold its address space and so ended the context.
    pub by_other: u32,
}

/// A ring was moved with mremap(2), so its context has another handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextMoved {
    /// The record's header, which is not counted.
    pub header: Header,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The old handle.
    pub from: u64,
    /// The new handle.
    pub to: u64,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(u32)]
pub enum Change {
    /// A thread made its first AIO call since the attach.
    Seen = 1,
    /// The thread created the process `other`.
    Fork = 2,
    /// The thread executed a new program.
    Exec = 3,
    /// The last thread of the process is gone.
    Exit = 4,
}

/// Something happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// The record's header.
    pub header: Header,
    /// When the process started, in nanoseconds of CLOCK_BOOTTIME; 0 if unknown.
    pub started: u64,
    /// The address space: a number that processes that share one have in common; 0 if unknown. For
    /// a fork, that of the child.
    pub space: u64,
    /// What happened.
    pub change: Change,
    /// For a fork, the child. For an exec, the thread that called it.
    pub other: u32,
    /// For an exit, the status as wait(2) gives it.
    pub status: u32,
    /// For a fork, 1 if the child is traced.
    pub followed: u32,
    /// The name of the thread, padded with NULs.
    pub thread_name: [u8; 16],
    /// The name of the process, padded with NULs.
    pub name: [u8; 16],
    /// For an exec, the path as it was given, terminated by NUL and cut at this size.
    pub path: [u8; PATH_BYTES],
}

/// The state of a thread between the entry and the return of a call. aiotrace also reads it, for
/// calls that never return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Thread {
    /// When the call was entered.
    pub entered: u64,
    /// The arguments of the call.
    pub args: [u64; 6],
    /// io_getevents: the timeout.
    pub timeout: Timespec,
    /// io_destroy, and io_submit of one iocb: head and tail of the ring at the entry.
    pub ring_words: [u32; 2],
    /// As `ring_words`: the size of the ring.
    pub ring_nr: u32,
    /// As `ring_words`: the [`Memory`] of both.
    pub ring_memory: u32,
    /// io_submit of one iocb: the address of the iocb.
    pub iocb_address: u64,
    /// The [`Memory`] of `iocb_address`.
    pub iocb_pointer: u32,
    /// The [`Memory`] of `iocb`.
    pub iocb_memory: u32,
    /// The content of the iocb.
    pub iocb: Iocb,
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The [`Syscall`] that the thread is in; 0 for none.
    pub syscall: u32,
    /// How many records the thread has.
    pub seq: u32,
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// The thread, as aiotrace's pid namespace sees it.
    pub tid: u32,
    /// io_getevents: the [`Memory`] of the timeout.
    pub timeout_memory: u32,
    /// io_submit: the index, plus one, of the first iocb that could not be read; 0 if all could be
    /// read.
    pub unread: u32,
    /// The [`Abi`](crate::abi::Abi) of the call.
    pub abi: u32,
    /// 1: a trampoline or kprobe saw the last call return, so `unseen_exit` need not record it.
    pub left: u32,
    /// The process, as the initial pid namespace sees it: the kernel uses ids of threads again.
    pub kernel_pid: u32,
    /// The thread, as the initial pid namespace sees it; 0: the slot is free.
    pub kernel_tid: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
    /// The fault rule that is to act on the call, from 1; 0 for none.
    pub verdict: u32,
    /// What became of this rule's decision, as in [`Call::fault`].
    pub fault: u32,
    /// io_submit: how many requests the kernel has begun to look at.
    pub submitting: u32,
    /// 1: the request that the kernel is looking at is to be refused.
    pub refuse: u32,
    /// A bit for each rule whose conditions one of the call's requests meets.
    pub requests: u32,
    /// The [`mechanism`](crate::fault::mechanism) that carries the verdict out.
    pub mechanism: u32,
    /// 1: the call is recorded. 0: it is only counted.
    pub told: u32,
    /// The value that the mechanism returns: a negative errno.
    pub errno: i64,
    /// How many requests come before the one that is to be refused.
    pub accept: u64,
    /// The rows where the thread's calls are counted, by [`Syscall`] - 1: each is the index of a
    /// [`CallRow`](crate::counts::CallRow), or 0 if the thread has none yet.
    pub call_rows: [u32; 6],
    /// The handle in the last call that was counted.
    pub context: u64,
    /// The [`ContextRow`](crate::counts::ContextRow) of this context.
    pub context_row: u32,
    /// The tail of the ring at `looked_at`, when this thread last looked at it.
    pub looked_tail: u32,
    /// The handle of the context at which the thread last looked; 0: none.
    pub looked_at: u64,
    /// The first word of that ring: its id and its size.
    pub looked_ring: u64,
    /// How many contexts had begun and ended at that look. If the number is another one, the handle
    /// may be that of another context.
    pub looked_when: u64,
}

impl Thread {
    /// The call that the thread is in.
    #[inline(always)]
    pub fn call(&self) -> Option<Syscall> {
        Syscall::ALL.into_iter().find(|call| *call as u32 == self.syscall)
    }
}

/// The key of a context on the kernel side.
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
    /// The size of the ring; 0 until it could be read.
    pub nr: u32,
    /// How many requests may still complete, as far as the probes know; below 0 (as `i32`) for a
    /// moment, when threads that share the context race. The program can write any tail into its
    /// ring: if more entries are new than requests are expected, few of them are sent at one look.
    pub expected: u32,
    /// Two positions in one word, so that threads that share the context always see both from the
    /// same look. The lower half: entries up to there were sent. The upper half: the tail at the
    /// last look, which is further on if entries could not be read.
    pub positions: u64,
}

impl Context {
    /// A context with a ring of `nr` entries, of which all up to `tail` were sent. As many requests
    /// may be in flight as the ring has room for.
    #[inline(always)]
    pub const fn at(nr: u32, tail: u32) -> Self {
        Self { nr, expected: nr, positions: Self::positions(tail, tail) }
    }

    /// Makes [`Self::positions`] of its two halves.
    #[inline(always)]
    pub const fn positions(told: u32, seen: u32) -> u64 {
        told as u64 | (seen as u64) << 32
    }
}

/// How many records may be sent for `untold` new entries at one look, if `expected` requests may
/// still complete; and by how many this lowers `expected`. One record more than the expected
/// requests need is always sent, and one for the wrap-around.
#[inline(always)]
pub const fn expected_records(untold: u32, expected: u32, most: u32) -> (u32, u32) {
    // A race has made the number too small.
    if (expected as i32) < 0 {
        return (2, expected);
    }
    let all = most * EVENTS_PER_RECORD as u32;
    let told = if untold < all { untold } else { all };
    let spent = if told < expected { told } else { expected };
    let records = spent.div_ceil(EVENTS_PER_RECORD as u32) + 2;
    (if records < most { records } else { most }, spent)
}

/// How many more requests may complete from the entry of an io_submit that is given this many:
/// those of a large call may complete, and another thread may reap them, before it returns. The
/// requests of a small call are counted when it returns.
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

/// What the kernel side knows of a `struct kioctx`, which has no pointer back to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Owner {
    /// As in [`Process::space`].
    pub space: u64,
    /// The handle, as far as the probes know.
    pub handle: u64,
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// The process, as the initial pid namespace sees it.
    pub kernel_pid: u32,
    /// How many of its requests have completed since the probes know it, whether recorded or not.
    pub completed: u64,
    /// 1: its end was recorded.
    pub gone: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
}

/// The most words that a [`KnownStack`] can have.
pub const STACK_WORDS: usize = 64;

/// How many stacks the reader can name for the same registers.
pub const STACK_VARIANTS: u64 = 4;

/// The place of a call, as far as the registers tell.
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
    /// A number below [`STACK_VARIANTS`].
    pub variant: u64,
}

/// A stack that the reader has unwound. While these words of it are the same, so are the functions,
/// and the probes send no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KnownStack {
    /// The id for [`Stack::known`].
    pub id: u64,
    /// The number of words.
    pub count: u64,
    /// All the words of the stack that were read to unwind it.
    pub words: [StackWord; STACK_WORDS],
}

/// A word of a stack.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StackWord {
    /// The address of the word.
    pub address: u64,
    /// The value of the word.
    pub value: u64,
}

/// What the kernel side can lose; each is the index of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Lost {
    /// A record, because the ring buffer was full.
    BufferFull = 0,
    /// A call, because there was no slot for its thread.
    NoThreadSlot = 1,
    /// A child process that should have been followed, because the set of targets was full.
    NoTargetSlot = 2,
    /// A call that returned and was not seen entered, in a thread whose earlier calls were seen.
    EnterMissed = 3,
    /// A call that was entered and not seen to return, although its thread went on or died. (Even a
    /// thread that is killed inside a call returns from it, with EINTR.)
    ExitMissed = 4,
    /// A context for which there was no room.
    NoContextSlot = 5,
}

impl Lost {
    /// All causes, in the order of their counters.
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

/// A context in the `mm->ioctx_table` of a process (`aiotrace ls`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ListedContext {
    /// The address space, as in [`Process::space`].
    pub space: u64,
    /// The context's handle.
    pub handle: u64,
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// The charge: what io_setup was asked for, and what the context takes from fs.aio-nr.
    pub charge: u32,
    /// How many requests it has room for.
    pub room: u32,
    /// The process, as the initial pid namespace sees it.
    pub kernel_pid: u32,
    /// The address of the `struct kioctx`.
    pub kioctx: u64,
    /// The address of the ring's `struct file`; 0 if it cannot be read.
    pub ring_file: u64,
    /// How many slots are taken by requests in flight, or kept free by a processor; [`u32::MAX`] if
    /// unknown.
    pub taken: u32,
    /// How many of these slots a processor keeps free; [`u32::MAX`] if unknown.
    pub kept: u32,
}

impl ListedContext {
    /// The exact number of requests in flight.
    pub fn in_flight(&self) -> Option<u32> {
        match (self.taken, self.kept) {
            (0, _) => Some(0),
            (u32::MAX, _) | (_, u32::MAX) => None,
            // The kernel changes both while they are read.
            (taken, kept) => Some(taken.saturating_sub(kept)),
        }
    }

    /// An upper bound for the number of requests in flight.
    pub fn in_flight_at_most(&self) -> Option<u32> {
        (self.taken != u32::MAX).then_some(self.taken)
    }
}

/// How many places of one table are looked at in one walk; a table may have more.
pub const CONTEXTS_PER_WALK: u32 = 1024;

/// The state of the walks over all tasks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Cursor {
    /// The number of the walk: each walk looks at an address space only once.
    pub walk: u32,
    /// The first place to look at in each table.
    pub first: u32,
    /// 1: a table has more places.
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
