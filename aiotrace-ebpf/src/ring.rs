//! The completion ring, as the program sees it: user memory at the context's handle.
//!
//! Head and tail are read with one aligned 8-byte read, so that they belong together. The kernel
//! never clears an entry, so the entries between the tail of the last look and this one are the
//! completions in between, even if the program has reaped them itself.

use aiotrace_common::{
    abi::{IoEvent, RingHeader},
    record::{
        Context, ContextKey, EVENTS_PER_RECORD, ITEMS_PER_CALL, Kind, Lost, Memory, Ring,
        RingSample, Thread,
    },
};
use aya_ebpf::{
    macros::map,
    maps::{LruHashMap, PerCpuArray},
};

use crate::{lost, records, user};

/// Bounded: 16,384 contexts; the one not used for longest makes room.
#[map]
static CONTEXTS: LruHashMap<ContextKey, Context> = LruHashMap::with_max_entries(16_384, 0);

#[repr(C)]
struct Scratch {
    ring: Ring,
    entries: [IoEvent; EVENTS_PER_RECORD],
    rest: Span,
}

#[map]
static RING_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2, 0);

/// Records sent of one look, at most: one more for the wrap-around.
const MOST_RECORDS: u32 = (ITEMS_PER_CALL / EVENTS_PER_RECORD) as u32 + 1;

/// Who is looking. Each program has scratch memory of its own: a kernel with preemptible
/// tracepoints may run the other one in between, but never the same one twice on a CPU.
#[derive(Clone, Copy)]
pub enum Moment {
    /// sys_enter
    Enter = 0,
    /// sys_exit
    Exit = 1,
}

/// A context that was just created: its ring is empty.
#[inline(always)]
pub fn created(thread: &Thread, handle: u64) {
    remember(ContextKey { space: thread.space, handle }, Context { nr: 0, tail: 0 });
}

/// A context that is gone.
#[inline(always)]
pub fn destroyed(thread: &Thread, handle: u64) {
    let _ = CONTEXTS.remove(&ContextKey { space: thread.space, handle });
}

/// Looks at the ring and sends the entries that are new.
#[inline(always)]
pub fn sample(thread: &mut Thread, handle: u64, moment: Moment, time: u64) -> RingSample {
    look(thread, handle, moment, time).unwrap_or(RingSample::UNREAD)
}

#[inline(always)]
fn look(thread: &mut Thread, handle: u64, moment: Moment, time: u64) -> Option<RingSample> {
    let both: u64 = user::read(handle.wrapping_add(8))?;
    let (head, tail) = (both as u32, (both >> 32) as u32);
    let key = ContextKey { space: thread.space, handle };
    let (nr, last) = match CONTEXTS.get_ptr_mut(&key) {
        Some(context) => {
            // SAFETY: a map value; threads that share the context may race, and then both send
            // the same entries: the reader knows their positions.
            let context = unsafe { &mut *context };
            if context.nr == 0 {
                context.nr = size(handle)?;
            }
            let last = context.tail;
            context.tail = tail;
            (context.nr, last)
        }
        None => {
            let nr = size(handle)?;
            remember(key, Context { nr, tail });
            (nr, tail)
        }
    };
    // The program can write anything into its ring.
    if tail < nr && last < nr && tail != last {
        send(thread, handle, moment, time, Span { nr, first: last, tail });
    }
    Some(RingSample { head, tail, nr, memory: Memory::Read })
}

#[inline(always)]
fn size(handle: u64) -> Option<u32> {
    let header: RingHeader = user::read(handle)?;
    (header.magic == RingHeader::MAGIC && header.nr != 0).then_some(header.nr)
}

#[inline(always)]
fn remember(key: ContextKey, context: Context) {
    if CONTEXTS.insert(&key, &context, 0).is_err() {
        lost::count(Lost::NoContextSlot);
    }
}

/// Entries from `first` up to, not including, `tail`.
#[derive(Clone, Copy)]
struct Span {
    nr: u32,
    first: u32,
    tail: u32,
}

#[inline(always)]
fn send(thread: &mut Thread, handle: u64, moment: Moment, time: u64, span: Span) {
    let Some(scratch) = RING_SCRATCH.get_ptr_mut(moment as u32) else {
        return;
    };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { ring, rest, .. } = unsafe { &mut *scratch };
    ring.handle = handle;
    *rest = span;
    ring.header = records::first_header(thread, Kind::Ring, 0, time);
    for left in (0..MOST_RECORDS).rev() {
        if send_entries(moment as u32, left) == 0 {
            break;
        }
    }
    thread.seq = ring.header.seq;
}

/// Sends one record of the entries in `rest` and takes them out of it; 0 when none is left.
/// `records_left`: how many records may follow. See [`records`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_entries(moment: u32, records_left: u32) -> u32 {
    let Some(scratch) = RING_SCRATCH.get_ptr_mut(moment & 1) else {
        return 0;
    };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { ring, entries, rest } = unsafe { &mut *scratch };
    let Span { nr, first, tail } = *rest;
    // A wrap-around cuts one record in two.
    let end = if first > tail { nr } else { tail };
    let count = end.saturating_sub(first).min(EVENTS_PER_RECORD as u32);
    let next = if first + count >= nr { 0 } else { first + count };
    rest.first = next;
    ring.first = first;
    ring.count = count;
    ring.beyond = 0;
    if records_left == 0 {
        ring.beyond = if tail >= next { tail - next } else { nr - next + tail };
    }
    let address = ring
        .handle
        .wrapping_add(size_of::<RingHeader>() as u64)
        .wrapping_add(u64::from(first) * size_of::<IoEvent>() as u64);
    records::next(&mut ring.header, false);
    let bytes = count as usize * size_of::<IoEvent>();
    // SAFETY: `count` is at most the array's length.
    let read = unsafe { user::read_into(&raw mut *entries, bytes as u32, address) };
    ring.memory = if read { Memory::Read } else { Memory::Unread };
    // SAFETY: the array follows the record.
    unsafe { records::emit_bytes(scratch.cast(), size_of::<Ring>() + bytes) };
    (next != tail) as u32
}
