//! What the probes count where calls are not recorded one by one (`aiotrace -c`): rows in arrays
//! that the reader has mapped.
//!
//! A [`CallRow`] belongs to one thread and one system call, so no other thread writes into it: its
//! counts are exact on every kernel, even where a probe is preempted, and the memory does not grow
//! with the number of processors. A [`ContextRow`] belongs to a process and a context; all threads
//! write to it, with atomic additions. A thread that gets no row of its own uses rows that all such
//! threads share ([`SHARED_CALL_ROWS`]).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The number of [`CallRow`]s, for calls and latencies. They take 8 MB and are enough for 2,048
/// threads that submit and reap.
pub const CALL_ROWS: u32 = 4096;
/// The first rows of calls, which threads without a row of their own share: one for each
/// [`Syscall`](crate::abi::Syscall), by its number. (Row 0 is not used.) They are changed by atomic
/// additions only.
pub const SHARED_CALL_ROWS: u32 = 7;
/// The number of [`ContextRow`]s: 1.5 MB. Contexts without a row of their own share the first.
pub const CONTEXT_ROWS: u32 = 4096;
/// How many combinations of process, call and errno are counted.
pub const ERROR_ROWS: u32 = 4096;

/// Into how many buckets the durations from one power of two to the next are divided.
const PARTS: u64 = 1 << PARTS_BITS;
const PARTS_BITS: u32 = 3;
/// Durations below 2 to this power share one bucket (64 ns: no call is so short).
const LOWEST: u32 = 6;
/// Durations from 2 to this power on share one, too (68 s).
const HIGHEST: u32 = 36;

/// The number of buckets in a histogram of durations.
pub const BUCKETS: usize = ((HIGHEST - LOWEST) as u64 * PARTS) as usize + 2;

/// The bucket of a duration in nanoseconds: eight of equal width from each power of two to the next.
#[inline(always)]
pub const fn bucket(nanos: u64) -> usize {
    if nanos < 1 << LOWEST {
        return 0;
    }
    if nanos >= 1 << HIGHEST {
        return BUCKETS - 1;
    }
    let power = log2(nanos);
    let part = (nanos >> (power - PARTS_BITS)) & (PARTS - 1);
    ((power - LOWEST) as u64 * PARTS + part + 1) as usize
}

/// The logarithm to base 2, rounded down, of a number that is not 0. It is computed by hand because
/// BPF has no instruction for it.
#[inline(always)]
const fn log2(mut value: u64) -> u32 {
    let mut power = 0;
    if value >= 1 << 32 {
        (value, power) = (value >> 32, power + 32);
    }
    if value >= 1 << 16 {
        (value, power) = (value >> 16, power + 16);
    }
    if value >= 1 << 8 {
        (value, power) = (value >> 8, power + 8);
    }
    if value >= 1 << 4 {
        (value, power) = (value >> 4, power + 4);
    }
    if value >= 1 << 2 {
        (value, power) = (value >> 2, power + 2);
    }
    power + (value >> 1) as u32
}

/// The shortest and the longest duration of a bucket.
pub const fn bounds(bucket: usize) -> (u64, u64) {
    if bucket == 0 {
        return (0, (1 << LOWEST) - 1);
    }
    if bucket >= BUCKETS - 1 {
        return (1 << HIGHEST, u64::MAX);
    }
    let place = bucket as u64 - 1;
    let power = LOWEST + (place / PARTS) as u32;
    let width = 1u64 << (power - PARTS_BITS);
    let low = (PARTS + place % PARTS) * width;
    (low, low + width - 1)
}

/// The states of a row.
pub mod state {
    /// The row belongs to nobody.
    pub const FREE: u32 = 0;
    /// The row belongs to a thread, or to a context.
    pub const USED: u32 = 1;
    /// The thread of the row is gone: the reader takes what the row has counted, and frees it.
    pub const OVER: u32 = 2;
}

/// Added to the index of an operation in [`CallRow::kind`].
pub const LATENCIES: u32 = 0x100;

/// The calls of one thread. Or the latencies of requests with one operation in one context, from
/// the entry of io_submit to the return of the io_getevents that gave their results: such a row is
/// changed by atomic additions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallRow {
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// A [`Syscall`](crate::abi::Syscall), or [`LATENCIES`] plus an index into [`ContextRow::ops`].
    pub kind: u32,
    /// One of [`state`].
    pub state: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
    /// How many calls returned an error.
    pub failed: u64,
    /// How many calls were not seen entered; they are in no bucket.
    pub unseen: u64,
    /// How many nanoseconds the other calls took together.
    pub total: u64,
    /// The longest duration; 0 in a row that several threads write to.
    pub longest: u64,
    /// The shortest duration, inverted, so that 0 means none; 0 in a row that several threads write
    /// to.
    pub shortest_inverted: u64,
    /// For latencies: the context's handle.
    pub handle: u64,
    /// The number of calls, or of requests, in each [`bucket`].
    pub buckets: [u64; BUCKETS],
}

/// The length of [`ContextRow::ops`]. The index of an operation is its opcode.
pub const OPS: usize = 16;
/// The index for unknown opcodes.
pub const OTHER_OP: usize = 14;
/// The index for iocbs that could not be read.
pub const UNREAD_OP: usize = 15;

/// Counts of requests with one operation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OpCounts {
    /// How many requests were accepted.
    pub requests: u64,
    /// The sum of `nbytes`, for pread and pwrite. (For vectored operations, `nbytes` is a number of
    /// iovecs.)
    pub asked: u64,
}

/// Counts of the requests of one context of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextRow {
    /// The process, as aiotrace's pid namespace sees it.
    pub pid: u32,
    /// One of [`state`].
    pub state: u32,
    /// The context's handle.
    pub handle: u64,
    /// When a call on the context last returned.
    pub used: u64,
    /// How many requests were accepted.
    pub accepted: u64,
    /// Fills up a cache line: often, one processor submits and another one reaps.
    pub padding: [u64; 4],
    /// The requests by opcode. These counts, and `failed`, `moved` and `unread`, need
    /// [`count_requests`](crate::settings::Settings::count_requests).
    pub ops: [OpCounts; OPS],
    /// How many events io_getevents returned.
    pub reaped: u64,
    /// How many of these events have `res` < 0.
    pub failed: u64,
    /// The sum of `res` of the other events.
    pub moved: u64,
    /// How many events could not be read.
    pub unread: u64,
    /// Fills up a cache line.
    pub more_padding: [u64; 4],
}

/// The key by which the row of a context is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CountedContext {
    /// As in [`ContextRow::handle`].
    pub handle: u64,
    /// As in [`ContextRow::pid`].
    pub pid: u64,
}

/// The key by which the row of latencies is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LatencyKey {
    /// As in [`ContextRow::handle`].
    pub handle: u64,
    /// As in [`ContextRow::pid`].
    pub pid: u32,
    /// An index into [`ContextRow::ops`].
    pub op: u32,
}

/// The key by which the count of an errno is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ErrorKey {
    /// The process.
    pub pid: u32,
    /// The [`Syscall`](crate::abi::Syscall); 0 for the result of a request.
    pub syscall: u32,
    /// The negative errno.
    pub ret: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_begins_where_the_one_before_it_ends() {
        let mut next = 0;
        for index in 0..BUCKETS {
            let (low, high) = bounds(index);
            assert_eq!(low, next, "bucket {index}");
            assert_eq!((bucket(low), bucket(high)), (index, index));
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last one ends with the largest number");
    }

    #[test]
    fn a_duration_is_known_to_an_eighth() {
        for shift in 6..36 {
            for step in 0..997u64 {
                let nanos = (1 << shift) + (step << shift) / 997;
                let (low, high) = bounds(bucket(nanos));
                assert!((low..=high).contains(&nanos), "{nanos}");
                assert!(high - low < nanos / 8 + 1, "{nanos}");
            }
        }
    }

    #[test]
    fn the_logarithm_is_that_of_the_standard_library() {
        for shift in 0..64 {
            for value in
                [1u64 << shift, (1 << shift) + 1, (1u64 << shift).wrapping_mul(2).wrapping_sub(1)]
            {
                assert_eq!(log2(value), value.ilog2(), "{value}");
            }
        }
    }

    #[test]
    fn rows_are_whole_cache_lines_where_they_should_be() {
        assert_eq!(core::mem::offset_of!(CallRow, buckets), 64);
        assert_eq!(core::mem::offset_of!(ContextRow, ops) % 64, 0);
        assert_eq!(core::mem::offset_of!(ContextRow, reaped) % 64, 0);
        assert_eq!(size_of::<ContextRow>(), 384);
    }
}
