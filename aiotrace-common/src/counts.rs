//! What the probes count where calls are not told one by one (`aiotrace -c`): rows in arrays that the
//! reader has mapped.
//!
//! A [`CallRow`] belongs to one thread and one system call, so that nobody else writes into it: a count is
//! exact on every kernel, also where a probe is preempted, and the memory does not grow with the
//! processors. A [`ContextRow`] belongs to a process and a context and is written by all threads, with
//! atomic additions. What finds no row of its own goes into rows that all share ([`SHARED_CALL_ROWS`]).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Rows of calls, and of latencies: 8 MB. 2,048 threads that submit and reap.
pub const CALL_ROWS: u32 = 4096;
/// The first rows of calls are for threads that have none: one for each [`Syscall`](crate::abi::Syscall), by
/// its number. (That of 0 is nobody's.) Atomic additions only.
pub const SHARED_CALL_ROWS: u32 = 7;
/// Rows of contexts: 1.5 MB. The first is for those that have none.
pub const CONTEXT_ROWS: u32 = 4096;
/// Errnos by process and call that are counted apart.
pub const ERROR_ROWS: u32 = 4096;

/// Durations are exact to one part in so many.
const PARTS: u64 = 1 << PARTS_BITS;
const PARTS_BITS: u32 = 3;
/// Below 2 to this, all durations are one (64 ns: no call is so short).
const LOWEST: u32 = 6;
/// From 2 to this on, too (68 s).
const HIGHEST: u32 = 36;

/// Buckets of a histogram of durations.
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

/// The whole logarithm of a number that is not 0. By hand: BPF has no instruction for it.
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

/// The shortest duration of a bucket, and the longest.
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

/// What a row is used for.
pub mod state {
    /// Nobody's.
    pub const FREE: u32 = 0;
    /// Somebody's.
    pub const USED: u32 = 1;
    /// Its thread is gone: the reader takes what is in it, and frees it.
    pub const OVER: u32 = 2;
}

/// Added to the place of an operation in [`CallRow::kind`].
pub const LATENCIES: u32 = 0x100;

/// The calls of one thread; or how long requests of one operation took in one context, from the entry of
/// io_submit to the return of the io_getevents that gave their results: atomic additions only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CallRow {
    /// Process, as our pid namespace sees it.
    pub pid: u32,
    /// [`Syscall`](crate::abi::Syscall), or [`LATENCIES`] and a place in [`ContextRow::ops`].
    pub kind: u32,
    /// One of [`state`].
    pub state: u32,
    /// Fills up to a multiple of eight.
    pub reserved: u32,
    /// Calls that returned an error.
    pub failed: u64,
    /// Calls whose beginning was not seen; they are in no bucket.
    pub unseen: u64,
    /// What the others took together, nanoseconds.
    pub total: u64,
    /// The longest; 0 in a row that several threads write to.
    pub longest: u64,
    /// The shortest, inverted, so that 0 is none; 0 in a row that several threads write to.
    pub shortest_inverted: u64,
    /// Of latencies: the context's handle.
    pub handle: u64,
    /// Calls, or requests, by [`bucket`].
    pub buckets: [u64; BUCKETS],
}

/// Places of [`ContextRow::ops`]: an opcode's is its number.
pub const OPS: usize = 16;
/// The place of opcodes that are not known.
pub const OTHER_OP: usize = 14;
/// The place of iocbs that could not be read.
pub const UNREAD_OP: usize = 15;

/// Requests of one operation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OpCounts {
    /// Accepted.
    pub requests: u64,
    /// `nbytes` of pread and pwrite. (Of a vectored one it is the number of vectors.)
    pub asked: u64,
}

/// The requests of one context of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextRow {
    /// Process, as our pid namespace sees it.
    pub pid: u32,
    /// One of [`state`].
    pub state: u32,
    /// The context's handle.
    pub handle: u64,
    /// When a call on it returned last.
    pub used: u64,
    /// Requests accepted.
    pub accepted: u64,
    /// Fills up a cache line: submitting and reaping are often done by different processors.
    pub padding: [u64; 4],
    /// The requests by opcode, if these are looked at; so for what follows but one.
    pub ops: [OpCounts; OPS],
    /// Events that io_getevents gave.
    pub reaped: u64,
    /// Of these, with `res` < 0.
    pub failed: u64,
    /// The sum of the others' `res`.
    pub moved: u64,
    /// Events that could not be read.
    pub unread: u64,
    /// Fills up a cache line.
    pub more_padding: [u64; 4],
}

/// Which row a context has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CountedContext {
    /// As in [`ContextRow`].
    pub handle: u64,
    /// As in [`ContextRow`].
    pub pid: u64,
}

/// Whose latencies a row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LatencyKey {
    /// As in [`ContextRow`].
    pub handle: u64,
    /// As in [`ContextRow`].
    pub pid: u32,
    /// A place in [`ContextRow::ops`].
    pub op: u32,
}

/// Whose error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ErrorKey {
    /// Process.
    pub pid: u32,
    /// [`Syscall`](crate::abi::Syscall); 0: the result of a request.
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
            for value in [1u64 << shift, (1 << shift) + 1, (1u64 << shift).wrapping_mul(2) - 1] {
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
