//! Calls counted instead of told. See [`aiotrace_common::counts`] for who writes into which row.
//!
//! A thread remembers its rows in its slot, so a call that is only counted costs the look at the slot, and
//! no other map is searched; arrays are looked into without a call.

use aiotrace_common::{
    abi::{Abi, IoEvent, Syscall},
    counts::{
        BUCKETS, CallRow, ContextRow, CountedContext, ErrorKey, OPS, OTHER_OP, OpCounts, UNREAD_OP,
        bucket, state,
    },
    record::{ITEMS_PER_CALL, Thread},
    settings::ABSENT,
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue},
};

use super::calls::now;
use crate::{atomic, ring, settings::setting, user};

/// The loader gives it [`aiotrace_common::counts::CALL_ROWS`] where calls are counted; so for the others.
#[map]
static CALL_ROWS: Array<CallRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Rows that are nobody's; filled by the reader. Never a shared one.
#[map]
static FREE_CALL_ROWS: Queue<u32> = Queue::with_max_entries(1, 0);

#[map]
static CONTEXT_ROWS: Array<ContextRow> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// As [`FREE_CALL_ROWS`].
#[map]
static FREE_CONTEXT_ROWS: Queue<u32> = Queue::with_max_entries(1, 0);

/// Which row a context has.
#[map]
static CONTEXT_PLACES: HashMap<CountedContext, u32> = HashMap::with_max_entries(1, 0);

/// How often a call returned this, or a request resulted in it. What finds no room is counted as failed all
/// the same, in its row.
#[map]
static ERRORS: HashMap<ErrorKey, u64> = HashMap::with_max_entries(1, 0);

/// When a call was told last that need not be: see [`may_tell`].
#[map]
static LAST_TOLD: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Calls that could have been told since one was, see [`sampled`].
#[map]
static SINCE_TOLD: PerCpuArray<u32> = PerCpuArray::with_max_entries(7, 0);

/// The duration of a call whose beginning was not seen.
pub const UNSEEN: u64 = u64::MAX;

/// Time between two calls that are told on one processor although they are only counted: a program that
/// fails all the time is not slowed down much by it.
const PAUSE: u64 = 1_000_000;

const EINVAL: i64 = -22;

/// Iocbs, or events, that one function goes through. Another calls it [`PARTS`] times: 6.1 remembers no more
/// than 8,192 jumps that it has still to look at.
const PART: u32 = 64;
const PARTS: u32 = ITEMS_PER_CALL as u32 / PART;

/// Whether a call that begins is counted and not told.
#[inline(always)]
pub fn is_counted_only(thread: &Thread, syscall: Syscall) -> bool {
    if !matches!(syscall, Syscall::Submit | Syscall::Getevents | Syscall::Pgetevents) {
        return false;
    }
    if setting!(sample) == 0 || setting!(only_errors) != 0 {
        return true;
    }
    if !asks_for_requests() {
        return !sampled(syscall);
    }
    // Its iocbs may be others when it returns.
    !(matches!(syscall, Syscall::Submit) && has_request(thread) && sampled(syscall))
}

/// Whether a call that was only counted is told, now that it is known how it ended: because it was asked
/// for, or because findings need it.
#[inline(always)]
pub fn is_told_after_all(thread: &Thread, syscall: Syscall, ret: i64, took: u64) -> bool {
    let is_submit = matches!(syscall, Syscall::Submit);
    if setting!(sample) == 0 {
        let is_slow = is_submit && took >= setting!(slow_submit);
        return (ret == EINVAL || is_slow) && may_tell();
    }
    let is_wanted = if is_submit {
        let is_error = ret < (thread.args[1] as i64).max(0);
        setting!(only_errors) != 0 && is_error && (!asks_for_requests() || has_request(thread))
    } else if ret < 0 {
        setting!(only_errors) != 0 && !asks_for_requests()
    } else if setting!(only_errors) != 0 || asks_for_requests() {
        find_event(thread.args[3], ret.clamp(0, ITEMS_PER_CALL as i64) as u32) != 0
    } else {
        false
    };
    is_wanted && sampled(syscall)
}

/// Whether it depends on the requests of a call if it is told.
#[inline(always)]
fn asks_for_requests() -> bool {
    setting!(only_ops) != 0 || setting!(only_fd) != ABSENT
}

/// Whether it is the turn of this call among those of its name that could be told: one in so many, on each
/// processor. (A program that submits and reaps by turns would have one of both told only.)
#[inline(always)]
fn sampled(syscall: Syscall) -> bool {
    let Some(since) = SINCE_TOLD.get_ptr_mut(syscall as u32) else { return false };
    // SAFETY: a map value of this CPU; if two programs meet here, one call more or less is told.
    let since = unsafe { &mut *since };
    *since += 1;
    let is_its_turn = *since >= setting!(sample);
    if is_its_turn {
        *since = 0;
    }
    is_its_turn
}

/// Whether the thread's io_submit has a request that is asked for.
#[inline(always)]
fn has_request(thread: &Thread) -> bool {
    let count = (thread.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u32;
    find_request(thread.args[2], thread.abi, count) != 0
}

/// Whether one of these requests is asked for. In two steps, see [`PART`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_request(pointers: u64, abi: u32, count: u32) -> u32 {
    let mut found = 0;
    for part in 0..PARTS {
        if part * PART >= count {
            break;
        }
        let pointers = pointers.wrapping_add(u64::from(part * PART) * width(abi));
        found |= find_some_request(pointers, abi, count - part * PART);
    }
    found
}

/// Whether one of the first is, at most [`PART`] of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_some_request(pointers: u64, abi: u32, count: u32) -> u32 {
    let mut found = 0;
    for index in 0..PART {
        if index >= count {
            break;
        }
        found |= is_request(pointers.wrapping_add(u64::from(index) * width(abi)), abi);
    }
    found
}

/// Whether the request to whose iocb there is a pointer here is asked for.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_request(pointer: u64, abi: u32) -> u32 {
    let mut iocb = 0;
    let failed = user::read_pointer(&mut iocb, pointer, Abi::from_number(abi));
    if failed != 0 { 0 } else { is_meant(iocb) as u32 }
}

/// Whether one of these events is asked for. In two steps, see [`PART`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_event(events: u64, count: u32) -> u32 {
    let mut found = 0;
    for part in 0..PARTS {
        if part * PART >= count {
            break;
        }
        found |= find_some_event(event_at(events, part * PART), count - part * PART);
    }
    found
}

/// Whether one of the first is, at most [`PART`] of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_some_event(events: u64, count: u32) -> u32 {
    let mut found = 0;
    for index in 0..PART {
        if index >= count {
            break;
        }
        found |= is_event(event_at(events, index));
    }
    found
}

/// Whether the event here is asked for: by its result, and by the iocb that it belongs to, as it is now.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_event(at: u64) -> u32 {
    let mut event = core::mem::MaybeUninit::<[u64; 4]>::uninit();
    let failed = user::read_or_fail(&mut event, at);
    // SAFETY: the helper has written it; zeros if it could not read.
    let [_, iocb, res, _] = unsafe { event.assume_init() };
    let is_error = (res as i64) < 0;
    if failed != 0 || (setting!(only_errors) != 0 && !is_error) {
        return 0;
    }
    (!asks_for_requests() || is_meant(iocb)) as u32
}

/// Whether the iocb here is of a request that is asked for.
#[inline(always)]
fn is_meant(iocb: u64) -> bool {
    let mut word = 0u64;
    // Opcode, priority, descriptor.
    if user::read_or_fail(&mut word, iocb.wrapping_add(16)) != 0 {
        return false;
    }
    let (opcode, fd) = (word as u32 & 0xffff, (word >> 32) as u32);
    let ops = setting!(only_ops);
    (ops == 0 || (opcode < 32 && ops & 1 << (opcode & 31) != 0))
        && (setting!(only_fd) == ABSENT || setting!(only_fd) == fd)
}

#[inline(always)]
fn may_tell() -> bool {
    let Some(last) = LAST_TOLD.get_ptr_mut(0) else { return false };
    let time = now();
    // SAFETY: a map value of this CPU; two at a time do no harm.
    let last = unsafe { &mut *last };
    let is_time = time.wrapping_sub(*last) >= PAUSE;
    if is_time {
        *last = time;
    }
    is_time
}

/// Counts a call that is left; how long it took, or [`UNSEEN`].
#[inline(always)]
pub fn left(thread: &mut Thread, syscall: Syscall, ret: i64, (time, took): (u64, u64)) {
    let place = (syscall as u32 - 1) as usize;
    if thread.call_rows[place] == 0
        && let Ok(Some(free)) = FREE_CALL_ROWS.pop()
    {
        begin(free, thread.pid, syscall);
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
        Syscall::Submit => submitted(thread, ret, time),
        Syscall::Getevents | Syscall::Pgetevents => reaped(thread, ret, time),
        _ => (),
    }
}

#[inline(always)]
fn begin(index: u32, pid: u32, syscall: Syscall) {
    if let Some(row) = CALL_ROWS.get_ptr_mut(index) {
        // SAFETY: the row is nobody's yet, and zeros.
        let row = unsafe { &mut *row };
        (row.pid, row.syscall) = (pid, syscall as u32);
        row.state = state::USED;
    }
}

/// A number below 256, as one of which the compiler knows nothing: it would leave out the comparison by
/// which the verifier of 5.10 knows that an index is in its array.
#[inline(always)]
fn any(mut number: usize) -> usize {
    // SAFETY: nothing but the register is touched. (A line without an instruction is refused.)
    unsafe {
        core::arch::asm!("{number} &= 255", number = inout(reg) number, options(pure, nomem, nostack));
    }
    number
}

/// Into a row that nobody else writes to.
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

/// Into the row of all threads that have none.
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

/// A thread is gone: its rows are the reader's.
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

/// Counts an errno. See [`crate::records`] for why it is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_error(pid: u32, syscall: u32, ret: i64) -> u32 {
    let key = ErrorKey { pid, syscall, ret };
    if ERRORS.get_ptr(&key).is_none() {
        // Another thread may do the same.
        let _ = ERRORS.insert(&key, &0, u64::from(BPF_NOEXIST));
    }
    if let Some(count) = ERRORS.get_ptr_mut(&key) {
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(count, 1) };
    }
    0
}

/// The row of the context that the call is about. One is begun for a call that succeeded: anything can be
/// given for a handle.
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
    // Its id tells a ring that was moved.
    ring::introduce(thread, key.handle, 0, time);
    let Ok(Some(free)) = FREE_CONTEXT_ROWS.pop() else { return 0 };
    if let Some(row) = CONTEXT_ROWS.get_ptr_mut(free) {
        // SAFETY: the row is nobody's yet, and zeros.
        let row = unsafe { &mut *row };
        (row.pid, row.handle) = (thread.pid, key.handle);
        row.state = state::USED;
    }
    if CONTEXT_PLACES.insert(key, &free, u64::from(BPF_NOEXIST)).is_ok() {
        return free;
    }
    // Another thread was first. This row stays empty until the process ends.
    match CONTEXT_PLACES.get_ptr(key) {
        // SAFETY: a map value.
        Some(index) => unsafe { *index },
        None => free,
    }
}

#[inline(always)]
fn submitted(thread: &mut Thread, ret: i64, time: u64) {
    let Some(index) = context(thread, ret, time) else { return };
    let Some(row) = CONTEXT_ROWS.get_ptr_mut(index) else { return };
    // SAFETY: a map value; one of the times is as good as the other.
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
    count_requests(index, thread.args[2], thread.abi, ret.clamp(0, ITEMS_PER_CALL as i64) as u32);
    if ret > ITEMS_PER_CALL as i64 {
        let op = op(row, UNREAD_OP);
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(&raw mut (*op).requests, (ret - ITEMS_PER_CALL as i64) as u64) };
    }
}

/// Counts the first requests of a call. In two steps, see [`PART`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_requests(row: u32, pointers: u64, abi: u32, count: u32) -> u32 {
    for part in 0..PARTS {
        if part * PART >= count {
            break;
        }
        let pointers = pointers.wrapping_add(u64::from(part * PART) * width(abi));
        count_some_requests(row, pointers, abi, count - part * PART);
    }
    0
}

/// At most [`PART`] of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_some_requests(row: u32, pointers: u64, abi: u32, count: u32) -> u32 {
    for index in 0..PART {
        if index >= count {
            break;
        }
        count_request(row, pointers.wrapping_add(u64::from(index) * width(abi)), abi);
    }
    0
}

/// Bytes of a pointer to an iocb.
#[inline(always)]
fn width(abi: u32) -> u64 {
    if Abi::from_number(abi).is_32_bit() { 4 } else { 8 }
}

/// Counts one of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_request(row: u32, pointer: u64, abi: u32) -> u32 {
    if let Some(row) = CONTEXT_ROWS.get_ptr_mut(row) {
        request(row, pointer, Abi::from_number(abi));
    }
    0
}

/// From `aio_lio_opcode` to `aio_nbytes` of an iocb. Without a value to begin with: the helper writes it in
/// any case.
type Described = core::mem::MaybeUninit<[u64; 3]>;

/// The request to whose iocb there is a pointer here.
#[inline(always)]
fn request(row: *mut ContextRow, pointer: u64, abi: Abi) {
    let mut iocb = 0;
    let failed = user::read_pointer(&mut iocb, pointer, abi);
    let mut described = Described::uninit();
    let at = if failed == 0 { iocb.wrapping_add(16) } else { user::NOWHERE };
    let failed = user::read_or_fail(&mut described, at);
    // SAFETY: the helper has written it; zeros if it could not read.
    let described = unsafe { described.assume_init() };
    let opcode = described[0] as u16;
    let place = match opcode {
        _ if failed != 0 => UNREAD_OP,
        0..=8 => opcode as usize,
        _ => OTHER_OP,
    };
    let op = op(row, place);
    // SAFETY: a map value, changed by atomic additions only.
    unsafe { atomic::add(&raw mut (*op).requests, 1) };
    if place < 2 {
        // SAFETY: as above.
        unsafe { atomic::add(&raw mut (*op).asked, described[2]) };
    }
}

/// What is counted of the operation that has this place.
#[inline(always)]
fn op(row: *mut ContextRow, place: usize) -> *mut OpCounts {
    // SAFETY: the place is in the array.
    unsafe { (&raw mut (*row).ops).cast::<OpCounts>().add(place & (OPS - 1)) }
}

#[inline(always)]
fn reaped(thread: &mut Thread, ret: i64, time: u64) {
    let Some(index) = context(thread, ret, time) else { return };
    let Some(row) = CONTEXT_ROWS.get_ptr_mut(index) else { return };
    // SAFETY: a map value; one of the times is as good as the other.
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
        event(row, thread.args[3], thread.pid);
        return;
    }
    let events = ret.clamp(0, ITEMS_PER_CALL as i64) as u32;
    count_events(index, thread.args[3], thread.pid, events);
    if ret > ITEMS_PER_CALL as i64 {
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(&raw mut (*row).unread, (ret - ITEMS_PER_CALL as i64) as u64) };
    }
}

/// Counts the first events of a call. In two steps, see [`PART`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_events(row: u32, events: u64, pid: u32, count: u32) -> u32 {
    for part in 0..PARTS {
        if part * PART >= count {
            break;
        }
        count_some_events(row, event_at(events, part * PART), pid, count - part * PART);
    }
    0
}

/// At most [`PART`] of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_some_events(row: u32, events: u64, pid: u32, count: u32) -> u32 {
    for index in 0..PART {
        if index >= count {
            break;
        }
        count_event(row, event_at(events, index), pid);
    }
    0
}

/// Where the event of this index is.
#[inline(always)]
fn event_at(events: u64, index: u32) -> u64 {
    events.wrapping_add(u64::from(index) * size_of::<IoEvent>() as u64)
}

/// Counts one of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_event(row: u32, at: u64, pid: u32) -> u32 {
    if let Some(row) = CONTEXT_ROWS.get_ptr_mut(row) {
        event(row, at, pid);
    }
    0
}

/// What the event here says.
#[inline(always)]
fn event(row: *mut ContextRow, at: u64, pid: u32) {
    let mut res = 0i64;
    let at = at.wrapping_add(core::mem::offset_of!(IoEvent, res) as u64);
    let failed = user::read_or_fail(&mut res, at);
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
}
