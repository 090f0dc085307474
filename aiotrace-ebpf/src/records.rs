//! The way out: records go into one ring buffer, in the order in which things happened.
//!
//! A call with a long list takes several records, and a loop. The verifier walks through every
//! iteration of a loop, and old ones (5.10, 6.1) through every way that leads there: hence the body
//! of such a loop is a *global function* (`no_mangle`, numbers as arguments), which is verified
//! once, by itself, and keeps its state in scratch maps. Inlined, the loops took more than the
//! million instructions that are allowed.

use core::ptr;

use aiotrace_common::record::{Call, Header, Kind, Lost, Thread, flag};
use aya_ebpf::{macros::map, maps::RingBuf};

use crate::{faults, lost, switches};

/// 16 MiB: at two million records a second of 100 bytes, 80 ms of them. (Its pages are mapped twice
/// by the reader, so they count twice in its memory.)
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Sends a record of fixed size, built in the buffer itself: the stack has 512 bytes. `fill` must
/// write every field. No flags: the kernel wakes the reader only if it has caught up.
#[inline(always)]
pub fn emit<T: 'static>(fill: impl FnOnce(*mut T)) {
    match RECORDS.reserve::<T>(0) {
        Some(mut record) => {
            fill(record.as_mut_ptr());
            record.submit(switches::wakeup());
        }
        None => lost::count(Lost::BufferFull),
    }
}

/// Sends `size` bytes; counts them as lost if there is no room.
///
/// # Safety
/// `bytes` must be valid for `size`; the verifier checks it.
#[inline(always)]
pub unsafe fn emit_bytes(bytes: *const u8, size: usize) {
    // SAFETY: the caller's.
    let bytes = unsafe { core::slice::from_raw_parts(bytes, size) };
    if RECORDS.output::<[u8]>(bytes, switches::wakeup()).is_err() {
        lost::count(Lost::BufferFull);
    }
}

/// The header of this thread's next record.
#[inline(always)]
pub fn header(thread: &mut Thread, kind: Kind, flags: u16, time: u64) -> Header {
    thread.seq = thread.seq.wrapping_add(1);
    Header { kind, flags, seq: thread.seq, time, pid: thread.pid, tid: thread.tid }
}

/// The header of a series of records, to be completed by [`next`] for each of them. When the series
/// is over, its `seq` is the thread's.
#[inline(always)]
pub fn first_header(thread: &Thread, kind: Kind, flags: u16, time: u64) -> Header {
    Header { kind, flags, seq: thread.seq, time, pid: thread.pid, tid: thread.tid }
}

/// The next record of a series; the last has no `more` behind it.
#[inline(always)]
pub fn next(header: &mut Header, more: bool) {
    header.seq = header.seq.wrapping_add(1);
    header.flags = header.flags & !flag::MORE | if more { flag::MORE } else { 0 };
}

/// Writes what is common to all calls, when one returns, straight to its place: as a value it is built on the
/// stack first.
///
/// # Safety
/// `to` must be valid for writes, and not in the slot.
#[inline(always)]
pub unsafe fn write_call(to: *mut Call, thread: &Thread, header: Header, left: &Left) {
    // SAFETY: the caller's.
    unsafe {
        (*to).header = header;
        (*to).entered = if left.entered { thread.entered } else { 0 };
        ptr::copy_nonoverlapping(&raw const thread.args, &raw mut (*to).args, 1);
        (*to).ret = left.ret;
        (*to).syscall = left.syscall;
        (*to).fault = faults::outcome(thread);
    }
}

/// How a call was left.
pub struct Left {
    /// Which call.
    pub syscall: aiotrace_common::abi::Syscall,
    /// When.
    pub time: u64,
    /// With what result.
    pub ret: i64,
    /// Bits of [`aiotrace_common::record::flag`].
    pub flags: u16,
    /// Whether we saw it entered.
    pub entered: bool,
    /// Seen by the one program that sees every call left; it has scratch memory of its own.
    pub tells: bool,
}
