//! Measures how long requests take, from the entry of io_submit to the return of the io_getevents
//! that gives their results, by context and operation.

use aiotrace_common::{
    abi::Abi,
    counts::{LATENCIES, LatencyKey, state},
    record::{ITEMS_PER_CALL, Thread},
    started::{Key, Set, Started},
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};

use super::{
    CALL_ROWS, FREE_CALL_ROWS, begin,
    contexts::place,
    each::{self, for_each},
    share,
};
use crate::user;

/// Where latencies are measured, the loader gives this map [`aiotrace_common::started::SETS`]
/// entries.
#[map]
static STARTED: Array<Set> = Array::with_max_entries(1, 0);

/// Which of [`CALL_ROWS`] counts the latencies of a context and an operation.
#[map]
static LATENCY_PLACES: HashMap<LatencyKey, u32> = HashMap::with_max_entries(1, 0);

/// io_submit is entered: notes when its requests begin. (When it returns, they may already have
/// been reaped.) A refused request stays noted until its iocb is submitted again, or until another
/// request needs the place.
#[inline(always)]
pub fn begin_requests_of(thread: &Thread) {
    let count = (thread.args[1] as i64).clamp(0, ITEMS_PER_CALL as i64) as u32;
    begin_requests(thread.pid, thread.abi, thread.entered, thread.args[2], count);
}

for_each! {
    /// Notes when the first requests of a call begin.
    begin_requests, begin_some_requests, (pid: u32, abi: u32, time: u64), each::pointer(abi),
    |at| begin_request(pid, abi, time, at)
}

/// Notes when the request begins whose iocb the pointer at `pointer` points to.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn begin_request(pid: u32, abi: u32, time: u64, pointer: u64) -> u32 {
    let mut iocb = 0;
    if user::read_pointer(&mut iocb, pointer, Abi::from_number(abi)) == 0 {
        let mut word = 0u64;
        let failed = user::read_or_fail(&mut word, iocb.wrapping_add(16));
        let started = Started { time, op: place(word as u16, failed) as u32 };
        let key = Key::new(pid, iocb);
        if let Some(set) = STARTED.get_ptr_mut(key.set()) {
            // SAFETY: a map value.
            unsafe { Set::begin(set, key, started) };
        }
    }
    0
}

/// A request was reaped: counts its latency, if its beginning was seen.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn end_request(handle: u64, iocb: u64, pid: u32, time: u64) -> u32 {
    let key = Key::new(pid, iocb);
    let Some(set) = STARTED.get_ptr_mut(key.set()) else { return 0 };
    // SAFETY: a map value.
    let Some(Started { time: began, op }) = (unsafe { Set::take(set, key) }) else { return 0 };
    let key = LatencyKey { handle, pid, op };
    let row = match LATENCY_PLACES.get_ptr(&key) {
        // SAFETY: a map value.
        Some(row) => unsafe { *row },
        None => begin_row(&key),
    };
    if row != 0
        && let Some(row) = CALL_ROWS.get_ptr_mut(row)
    {
        share(row, 0, time.wrapping_sub(began));
    }
    0
}

/// Takes a row for these latencies; 0 if none is free.
#[inline(always)]
fn begin_row(key: &LatencyKey) -> u32 {
    let Ok(Some(free)) = FREE_CALL_ROWS.pop() else { return 0 };
    begin(free, key.pid, LATENCIES | key.op, key.handle);
    if LATENCY_PLACES.insert(key, &free, u64::from(BPF_NOEXIST)).is_ok() {
        return free;
    }
    // Another thread was first, or the map is full: give the row back to the reader, with nothing
    // in it.
    if let Some(row) = CALL_ROWS.get_ptr_mut(free) {
        // SAFETY: this thread has taken the row.
        unsafe { (*row).state = state::OVER };
    }
    // SAFETY: a map value.
    LATENCY_PLACES.get_ptr(key).map_or(0, |row| unsafe { *row })
}
