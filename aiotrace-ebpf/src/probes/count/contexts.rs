//! Counts for contexts, and for their requests.

use aiotrace_common::{
    abi::{Abi, IoEvent},
    counts::{ContextRow, CountedContext, OPS, OTHER_OP, OpCounts, UNREAD_OP, state},
    record::{ITEMS_PER_CALL, Thread},
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, Queue},
};

use super::{
    count_error,
    each::{self, for_each},
    latency::end_request,
};
use crate::{atomic, ring, settings::setting, user};

/// The loader sizes it, as [`super::CALL_ROWS`].
#[map]
static CONTEXT_ROWS: Array<ContextRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Rows that belong to nobody, as in [`super::FREE_CALL_ROWS`].
#[map]
static FREE_CONTEXT_ROWS: Queue<u32> = Queue::with_max_entries(1, 0);

/// The row of each context.
#[map]
static CONTEXT_PLACES: HashMap<CountedContext, u32> = HashMap::with_max_entries(1, 0);

/// The row of the call's context. Only a call that succeeded takes a new row: a program can pass
/// anything as a handle.
#[inline(always)]
fn context(thread: &mut Thread, ret: i64, time: u64) -> Option<u32> {
    let handle = thread.args[0];
    if thread.context != handle {
        if ret < 0 {
            return None;
        }
        let key = CountedContext { handle, pid: u64::from(thread.pid) };
        thread.context_row = match CONTEXT_PLACES.get_ptr(&key) {
            // SAFETY: a map value.
            Some(index) => unsafe { *index },
            None => begin_context(&key, thread, time),
        };
        thread.context = handle;
    }
    Some(thread.context_row)
}

#[inline(always)]
fn begin_context(key: &CountedContext, thread: &mut Thread, time: u64) -> u32 {
    // The ring's id, by which aiotrace recognises a ring that was moved.
    ring::introduce(thread, key.handle, 0, time);
    let Ok(Some(free)) = FREE_CONTEXT_ROWS.pop() else { return 0 };
    if let Some(row) = CONTEXT_ROWS.get_ptr_mut(free) {
        // SAFETY: the row belongs to nobody yet, and is all zeros.
        let row = unsafe { &mut *row };
        (row.pid, row.handle) = (thread.pid, key.handle);
        row.state = state::USED;
    }
    if CONTEXT_PLACES.insert(key, &free, u64::from(BPF_NOEXIST)).is_ok() {
        return free;
    }
    // Another thread was first. The row that was taken here stays empty until the process ends.
    match CONTEXT_PLACES.get_ptr(key) {
        // SAFETY: a map value.
        Some(index) => unsafe { *index },
        None => free,
    }
}

#[inline(always)]
pub fn submitted(thread: &mut Thread, ret: i64, time: u64) {
    let Some(index) = context(thread, ret, time) else { return };
    let Some(row) = CONTEXT_ROWS.get_ptr_mut(index) else { return };
    // SAFETY: a map value; if two threads write, either time will do.
    unsafe { (*row).used = time };
    if ret <= 0 {
        return;
    }
    // SAFETY: a map value, changed by atomic additions only.
    unsafe { atomic::add(&raw mut (*row).accepted, ret as u64) };
    if setting!(count_requests) == 0 {
        return;
    }
    let abi = Abi::from_number(thread.abi);
    if ret == 1 {
        request(row, thread.args[2], abi);
        return;
    }
    count_requests(index, thread.abi, thread.args[2], ret.clamp(0, ITEMS_PER_CALL as i64) as u32);
    if ret > ITEMS_PER_CALL as i64 {
        let op = op(row, UNREAD_OP);
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(&raw mut (*op).requests, (ret - ITEMS_PER_CALL as i64) as u64) };
    }
}

for_each! {
    /// Counts the first requests of a call.
    count_requests, count_some_requests, (row: u32, abi: u32), each::pointer(abi),
    |at| count_request(row, at, abi)
}

/// Counts the request whose iocb the pointer at `pointer` points to.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_request(row: u32, pointer: u64, abi: u32) -> u32 {
    if let Some(row) = CONTEXT_ROWS.get_ptr_mut(row) {
        request(row, pointer, Abi::from_number(abi));
    }
    0
}

/// From `aio_lio_opcode` to `aio_nbytes` of an iocb. It needs no initial value, because the helper
/// writes it in any case.
type Described = core::mem::MaybeUninit<[u64; 3]>;

/// Counts the request whose iocb the pointer at `pointer` points to.
#[inline(always)]
fn request(row: *mut ContextRow, pointer: u64, abi: Abi) {
    let mut iocb = 0;
    let failed = user::read_pointer(&mut iocb, pointer, abi);
    let mut described = Described::uninit();
    let at = if failed == 0 { iocb.wrapping_add(16) } else { user::NOWHERE };
    let failed = user::read_or_fail(&mut described, at);
    // SAFETY: the helper has written it; zeros if it could not read.
    let described = unsafe { described.assume_init() };
    let place = place(described[0] as u16, failed);
    let op = op(row, place);
    // SAFETY: a map value, changed by atomic additions only.
    unsafe { atomic::add(&raw mut (*op).requests, 1) };
    if place < 2 {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*op).asked, described[2]) };
    }
}

/// The index of an operation in `ops`, or that for iocbs that could not be read.
#[inline(always)]
pub fn place(opcode: u16, failed: u32) -> usize {
    match opcode {
        _ if failed != 0 => UNREAD_OP,
        0..=8 => opcode as usize,
        _ => OTHER_OP,
    }
}

/// The counts of the operation with this index.
#[inline(always)]
fn op(row: *mut ContextRow, place: usize) -> *mut OpCounts {
    // SAFETY: the place is in the array.
    unsafe { (&raw mut (*row).ops).cast::<OpCounts>().add(place & (OPS - 1)) }
}

#[inline(always)]
pub fn reaped(thread: &mut Thread, ret: i64, time: u64) {
    let Some(index) = context(thread, ret, time) else { return };
    let Some(row) = CONTEXT_ROWS.get_ptr_mut(index) else { return };
    // SAFETY: a map value; if two threads write, either time will do.
    unsafe { (*row).used = time };
    if ret <= 0 {
        return;
    }
    // SAFETY: a map value, changed by atomic additions only.
    unsafe { atomic::add(&raw mut (*row).reaped, ret as u64) };
    if setting!(count_requests) == 0 {
        return;
    }
    if ret == 1 {
        event(row, thread.args[3], thread.pid, time);
        return;
    }
    let events = ret.clamp(0, ITEMS_PER_CALL as i64) as u32;
    count_events(index, thread.pid, time, thread.args[3], events);
    if ret > ITEMS_PER_CALL as i64 {
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(&raw mut (*row).unread, (ret - ITEMS_PER_CALL as i64) as u64) };
    }
}

for_each! {
    /// Counts the first events of a call.
    count_events, count_some_events, (row: u32, pid: u32, time: u64), each::EVENT,
    |at| count_event(row, at, pid, time)
}

/// Counts the event at this address.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_event(row: u32, at: u64, pid: u32, time: u64) -> u32 {
    if let Some(row) = CONTEXT_ROWS.get_ptr_mut(row) {
        event(row, at, pid, time);
    }
    0
}

/// `obj` and `res` of an event. It needs no initial value, as [`Described`].
type Reaped = core::mem::MaybeUninit<[u64; 2]>;

/// Counts the event at this address.
#[inline(always)]
fn event(row: *mut ContextRow, at: u64, pid: u32, time: u64) {
    let mut read = Reaped::uninit();
    let at = at.wrapping_add(core::mem::offset_of!(IoEvent, obj) as u64);
    let failed = user::read_or_fail(&mut read, at);
    // SAFETY: the helper has written it; zeros if it could not read.
    let [iocb, res] = unsafe { read.assume_init() };
    let res = res as i64;
    // SAFETY: a map value, changed by atomic additions only.
    unsafe {
        if failed != 0 {
            atomic::add(&raw mut (*row).unread, 1);
        } else if res < 0 {
            atomic::add(&raw mut (*row).failed, 1);
        } else {
            atomic::add(&raw mut (*row).moved, res as u64);
        }
    }
    if res < 0 {
        count_error(pid, 0, res);
    }
    // SAFETY: a map value, written before its row was given away.
    let handle = unsafe { (*row).handle };
    // The row that contexts without one of their own share has no handle.
    if failed == 0 && handle != 0 {
        end_request(handle, iocb, pid, time);
    }
}
