//! Sends records into one ring buffer, in the order in which things happened.
//!
//! A call with a long list takes several records, and therefore a loop. The verifier walks every
//! iteration of a loop, and old verifiers (5.10, 6.1) walk it again for every way that leads there.
//! So the body of such a loop is a *global function* (`no_mangle`, with numbers as arguments),
//! which the verifier walks once, by itself, and which keeps its state in scratch maps. Inlined,
//! the loops took more than the million instructions that the verifier allows:
//! <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/include/linux/bpf.h?h=v6.12.117#n1954>

use core::ptr;

use aiotrace_common::record::{Call, Header, Kind, Lost, Thread, flag};
use aya_ebpf::{macros::map, maps::RingBuf};

use crate::{faults, lost, switches};

/// 16 MiB: enough for 80 ms at two million records of 100 bytes a second. (The reader maps the
/// pages twice, so they count twice in its memory.)
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Sends a record of fixed size. `fill` builds it in the buffer itself, because the stack has only
/// 512 bytes, and must write every field. See [`switches::wakeup`] for when the kernel wakes the
/// reader.
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

/// Sends `size` bytes, or counts a loss if the buffer has no room.
///
/// # Safety
/// `bytes` must be valid for `size` bytes; the verifier checks it.
#[inline(always)]
pub unsafe fn emit_bytes(bytes: *const u8, size: usize) {
    // SAFETY: the caller keeps to what is asked above.
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

/// The header for a series of records; [`next`] completes it for each of them. When the series is
/// over, its `seq` has to go back into the thread's slot.
#[inline(always)]
pub fn first_header(thread: &Thread, kind: Kind, flags: u16, time: u64) -> Header {
    Header { kind, flags, seq: thread.seq, time, pid: thread.pid, tid: thread.tid }
}

/// Makes the header that of the next record of the series; `more` is false for the last.
#[inline(always)]
pub fn next(header: &mut Header, more: bool) {
    header.seq = header.seq.wrapping_add(1);
    header.flags = header.flags & !flag::MORE | if more { flag::MORE } else { 0 };
}

/// Writes the part that the records of all calls share, when a call returns. It writes straight to
/// its place: a value would be built on the stack first.
///
/// # Safety
/// `to` must be valid for writes, and not in the thread's slot.
#[inline(always)]
pub unsafe fn write_call(to: *mut Call, thread: &Thread, header: Header, left: &Left) {
    // SAFETY: the caller keeps to what is asked above.
    unsafe {
        (*to).header = header;
        (*to).entered = if left.entered { thread.entered } else { 0 };
        ptr::copy_nonoverlapping(&raw const thread.args, &raw mut (*to).args, 1);
        (*to).ret = left.ret;
        (*to).syscall = left.syscall;
        (*to).fault = faults::outcome(thread);
    }
}

/// How a call returned.
pub struct Left {
    /// The call.
    pub syscall: aiotrace_common::abi::Syscall,
    /// When it returned.
    pub time: u64,
    /// Its result.
    pub ret: i64,
    /// Bits of [`aiotrace_common::record::flag`].
    pub flags: u16,
    /// Whether its entry was seen.
    pub entered: bool,
    /// Whether the probe at the tracepoint sys_exit saw it, which sees every call return and has
    /// scratch memory of its own.
    pub tells: bool,
}
