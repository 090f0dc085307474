//! The records of calls: what io_setup, io_submit, io_getevents, io_pgetevents, io_cancel and io_destroy were given and returned.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use super::{Call, Header, Memory, NewEntries};
use crate::{
    abi::{Iocb, Timespec},
    arch::Place,
    synchronous,
};

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
    /// Where the call was made.
    pub place: Place,
    /// How many pages follow.
    pub pages: u32,
    /// Bit n: page n could be read. The other pages are zeros.
    pub read: u32,
    /// If not 0, no page follows: the stack is that of the [`KnownStack`](super::KnownStack) with this id.
    pub known: u64,
    /// The address space, as in [`Process::space`](super::Process::space).
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
    /// The new entries of the ring that no earlier [`Ring`](super::Ring) record has.
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

/// io_getevents or io_pgetevents returns. `count` [`IoEvent`](crate::abi::IoEvent)s follow.
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
    /// Where in memory its data is, or its iovecs are; 0 if it has none.
    pub memory: u64,
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
    /// The number of iovecs that follow, as the program has them: all that the call was given, or
    /// none.
    pub vectors: u32,
}

/// The iovecs of a vectored request, read when its io_submit is entered, which is the time of the
/// record. They follow as the program has them: all of them, each of two words, which have four
/// bytes in a 32-bit call. Only recorded while fault rules are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Vectors {
    /// The record's header, which is not counted.
    pub header: Header,
    /// The index of the iocb in the call.
    pub index: u32,
    /// The number of iovecs.
    pub count: u32,
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
