//! The records of completions, and how many of them may be sent at one look at a ring.

use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

use super::{EVENTS_PER_RECORD, Header, ITEMS_PER_CALL, Memory};
use crate::abi::IoEvent;

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
