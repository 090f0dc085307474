//! Counts calls instead of recording them. See [`aiotrace_common::counts`] for who writes into
//! which row.
//!
//! A thread remembers its rows in its slot, so that a call that is only counted searches no map but
//! the one for the slot; to read an array takes no call of a helper.

mod chosen;
mod contexts;
mod each;
mod latency;

use aiotrace_common::{
    abi::Syscall,
    counts::{BUCKETS, CallRow, ErrorKey, bucket, state},
    record::Thread,
};
use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, Queue},
};

pub use self::{
    chosen::{is_counted_only, is_told_after_all},
    latency::begin_requests_of,
};
use crate::atomic;

/// Where calls are counted, the loader gives this map [`aiotrace_common::counts::CALL_ROWS`]
/// entries; the same holds for the maps below.
#[map]
static CALL_ROWS: Array<CallRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Rows that belong to nobody; the reader fills this in. Rows that threads share are never in it.
#[map]
static FREE_CALL_ROWS: Queue<u32> = Queue::with_max_entries(1, 0);

/// How often a call returned this errno, or a request resulted in it. An errno for which there is
/// no room is still counted as a failure, in the row of its call.
#[map]
static ERRORS: HashMap<ErrorKey, u64> = HashMap::with_max_entries(1, 0);

/// The duration of a call whose beginning was not seen.
pub const UNSEEN: u64 = u64::MAX;

/// Counts a call that returns. `took` is how long it took, or [`UNSEEN`].
#[inline(always)]
pub fn left(thread: &mut Thread, syscall: Syscall, ret: i64, (time, took): (u64, u64)) {
    let place = (syscall as u32 - 1) as usize;
    if thread.call_rows[place] == 0
        && let Ok(Some(free)) = FREE_CALL_ROWS.pop()
    {
        begin(free, thread.pid, syscall as u32, 0);
        thread.call_rows[place] = free;
    }
    let index = thread.call_rows[place];
    if index == 0 {
        if let Some(row) = CALL_ROWS.get_ptr_mut(syscall as u32) {
            share(row, ret, took);
        }
    } else if let Some(row) = CALL_ROWS.get_ptr_mut(index) {
        // SAFETY: the row is the running thread's.
        own(unsafe { &mut *row }, ret, took);
    }
    if ret < 0 {
        count_error(thread.pid, syscall as u32, ret);
    }
    match syscall {
        Syscall::Submit => contexts::submitted(thread, ret, time),
        Syscall::Getevents | Syscall::Pgetevents => contexts::reaped(thread, ret, time),
        _ => (),
    }
}

#[inline(always)]
fn begin(index: u32, pid: u32, kind: u32, handle: u64) {
    if let Some(row) = CALL_ROWS.get_ptr_mut(index) {
        // SAFETY: the row belongs to nobody yet, and is all zeros.
        let row = unsafe { &mut *row };
        (row.pid, row.kind, row.handle) = (pid, kind, handle);
        row.state = state::USED;
    }
}

/// The number below 256, as one of which the compiler knows nothing: otherwise it would leave out
/// the comparison by which the verifier of Linux 5.10 knows that an index is inside its array.
#[inline(always)]
fn any(mut number: usize) -> usize {
    // SAFETY: only the register is touched. (An assembly line without an instruction is refused.)
    unsafe {
        core::arch::asm!("{number} &= 255", number = inout(reg) number, options(pure, nomem, nostack));
    }
    number
}

/// Counts in a row that no other thread writes to.
#[inline(always)]
fn own(row: &mut CallRow, ret: i64, took: u64) {
    row.failed += (ret < 0) as u64;
    if took == UNSEEN {
        row.unseen += 1;
        return;
    }
    row.total = row.total.wrapping_add(took);
    row.longest = row.longest.max(took);
    row.shortest_inverted = row.shortest_inverted.max(!took);
    if let Some(bucket) = row.buckets.get_mut(any(bucket(took))) {
        *bucket += 1;
    }
}

/// Counts in a row that other threads write to, too.
#[inline(always)]
fn share(row: *mut CallRow, ret: i64, took: u64) {
    // SAFETY: a map value, changed by atomic additions only.
    unsafe {
        if ret < 0 {
            atomic::add(&raw mut (*row).failed, 1);
        }
        if took == UNSEEN {
            return atomic::add(&raw mut (*row).unseen, 1);
        }
        atomic::add(&raw mut (*row).total, took);
        let bucket = any(bucket(took));
        if bucket < BUCKETS {
            let buckets = (&raw mut (*row).buckets).cast::<u64>();
            atomic::add(buckets.add(bucket), 1);
        }
    }
}

/// A thread is gone: gives its rows to the reader.
#[inline(always)]
pub fn ended(thread: &Thread) {
    for index in thread.call_rows {
        if index != 0
            && let Some(row) = CALL_ROWS.get_ptr_mut(index)
        {
            // SAFETY: the row was this thread's.
            unsafe { (*row).state = state::OVER };
        }
    }
}

/// Counts an errno. See [`crate::records`] for why this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_error(pid: u32, syscall: u32, ret: i64) -> u32 {
    let key = ErrorKey { pid, syscall, ret };
    if let Some(count) = atomic::number(&ERRORS, &key) {
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(count, 1) };
    }
    0
}
