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
//!  Synchronous + iovecs       a call that reads, writes or syncs a file without AIO, while such
//!                             calls are watched
//!  Vectors + iovecs           those of a request, while fault rules are armed; before Submitted,
//!                             same thread
//!  Gone                       a thread that made AIO calls is dead: only a header
//!  Process                    the first AIO call of a thread, fork, exec, exit
//!
//! `Ring` and `ContextSeen` come only where no probe sees completions ([`Completion`]).
//! ```
//!
//! The layout is derived: padding is a compile error, and an unknown kind is a decode error.

mod calls;
mod kept;
mod lifetime;
mod listed;
mod rings;

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

pub use self::{
    calls::{
        Cancel, Destroy, Events, Refused, RingSample, Setup, Sigset, Stack, Submit, Submitted,
        SubmittedIocb, SubmittedOne, Synchronous, Vectors,
    },
    kept::{
        Context, ContextKey, KnownStack, Lost, Owner, STACK_VARIANTS, STACK_WORDS, StackKey,
        StackWord, Thread,
    },
    lifetime::{Change, ContextGone, ContextMoved, End, Process},
    listed::{CONTEXTS_PER_WALK, Cursor, ListedContext},
    rings::{
        Changed, Completion, ContextSeen, NewEntries, Ring, expected_at_entry, expected_records,
    },
};
use crate::abi::{IoEvent, Iocb, Syscall};

/// The number of iocbs in one [`Submit`] record.
pub const IOCBS_PER_RECORD: usize = 16;

/// The number of entries in one [`Events`] or [`Ring`] record.
pub const EVENTS_PER_RECORD: usize = 128;

/// How many iocbs or events of one call are recorded; of those beyond, only the number is known.
pub const ITEMS_PER_CALL: usize = 4096;

/// How many iovecs of one request or call are recorded; of one with more, none are.
pub const MOST_VECTORS: usize = 32;

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
    Vectors = 20,
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

const _: () = {
    assert!(size_of::<Iocb>() == 64);
    assert!(size_of::<IoEvent>() == 32);
};

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
