//! Sends the entries of a completion ring that are new since the last look, in records of at most
//! [`EVENTS_PER_RECORD`].

use aiotrace_common::{
    abi::{Abi, IoEvent, RingHeader, Syscall},
    record::{EVENTS_PER_RECORD, Kind, Memory, NewEntries, Ring, Thread},
};
use aya_ebpf::{macros::map, maps::PerCpuArray};

use super::{expect, put_back};
use crate::{records, user};

#[repr(C)]
struct Scratch {
    ring: Ring,
    entries: [IoEvent; EVENTS_PER_RECORD],
    rest: Span,
}

#[map]
static RING_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(43, 0);

/// How many records are sent at one look, at most: 256 of 128 entries, and one more for the
/// wrap-around. The entries beyond these 32,768 are sent at the next look.
pub const MOST_RECORDS: u32 = 257;

/// When a probe looks at a ring. Each probe has scratch memory of its own: a kernel with
/// preemptible probes may run another probe in the meantime, but never the same one twice on a CPU.
#[derive(Clone, Copy)]
pub enum Moment {
    /// At the entry of the call.
    Enter = 0,
    /// At the return of the call.
    Exit = 1,
    /// At the return of the call, in the probe at the tracepoint sys_exit: one for all calls.
    AnyExit = 2,
}

/// The index into [`RING_SCRATCH`]: 2 moments for each of 7 numbers of calls and 3 ABIs, and one
/// for [`Moment::AnyExit`].
#[inline(always)]
pub fn slot(moment: Moment, syscall: Syscall, abi: Abi) -> u32 {
    match moment {
        Moment::AnyExit => 42,
        _ => moment as u32 + 2 * (syscall as u32 - 1 + 7 * abi as u32),
    }
}

/// The address of an entry.
#[inline(always)]
pub fn entry(handle: u64, position: u32) -> u64 {
    handle
        .wrapping_add(size_of::<RingHeader>() as u64)
        .wrapping_add(u64::from(position) * size_of::<IoEvent>() as u64)
}

/// The entries from `first` up to `tail`, which is not included.
#[derive(Clone, Copy)]
pub struct Span {
    /// A time after the tail was read.
    pub seen: u64,
    pub nr: u32,
    pub first: u32,
    pub tail: u32,
    /// How many of the first entries were overwritten before they could be read.
    pub gone: u32,
    /// By how many the expected completions were lowered for these entries.
    pub spent: u32,
    /// How many records may be sent at most.
    pub records: u32,
}

/// Sends the entries of the span. Those that cannot be read are left to the next look.
#[inline(always)]
pub fn send(thread: &mut Thread, slot: u32, time: u64, span: Span) {
    let Some(scratch) = RING_SCRATCH.get_ptr_mut(slot) else {
        return;
    };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { ring, rest, .. } = unsafe { &mut *scratch };
    ring.handle = thread.args[0];
    *rest = span;
    ring.header = records::first_header(thread, Kind::Ring, 0, time);
    send_records(slot);
    thread.seq = ring.header.seq;
    let first = user::unknown(&rest.first);
    if first != span.tail {
        put_back(thread, first);
        // The entries that could not be read are still expected.
        let told = RingHeader::distance(span.first, first, span.nr);
        if span.spent > told && span.spent as i32 > 0 {
            expect(thread, span.spent - told);
        }
    }
}

/// Sends all the entries in `rest`. See [`records`] for why this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_records(slot: u32) -> u32 {
    for _ in 0..MOST_RECORDS {
        if send_entries(slot) == 0 {
            break;
        }
    }
    send_beyond(slot)
}

/// Records how many of the entries in `rest` were not sent. See [`records`] for why this is a
/// function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_beyond(slot: u32) -> u32 {
    let Some(scratch) = RING_SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { ring, rest, .. } = unsafe { &mut *scratch };
    let Span { seen, nr, first, tail, .. } = *rest;
    if first == tail {
        return 0;
    }
    let beyond = RingHeader::distance(first, tail, nr);
    ring.new = NewEntries { seen, first, count: 0, beyond, memory: Memory::Unread };
    records::next(&mut ring.header, false);
    // SAFETY: the scratch memory begins with the record.
    unsafe { records::emit_bytes(scratch.cast(), size_of::<Ring>()) };
    0
}

/// Sends one record of the entries in `rest` and takes them out of it; 0 if none is left, or if
/// they cannot be read. See [`records`] for why this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_entries(slot: u32) -> u32 {
    let Some(scratch) = RING_SCRATCH.get_ptr_mut(slot) else {
        return 0;
    };
    // SAFETY: scratch memory of this CPU and program.
    let Scratch { ring, entries, rest } = unsafe { &mut *scratch };
    let Span { seen, nr, first, tail, gone, records, .. } = *rest;
    if records == 0 {
        return 0;
    }
    rest.records = records - 1;
    // A record ends at the wrap-around. Overwritten entries may extend around the ring to beyond
    // the tail.
    let end = if gone != 0 || first > tail { nr } else { tail };
    let most = if gone != 0 { gone } else { u32::MAX };
    let count = end.saturating_sub(first).min(most).min(EVENTS_PER_RECORD as u32);
    let next = if first + count >= nr { 0 } else { first + count };
    let mut bytes = count as usize * size_of::<IoEvent>();
    ring.new.memory = Memory::Read;
    if gone != 0 {
        ring.new.memory = Memory::Unread;
        bytes = 0;
        rest.gone = gone.saturating_sub(count);
    } else {
        let address = entry(ring.handle, first);
        // SAFETY: `count` is at most the array's length.
        if !unsafe { user::read_into(&raw mut *entries, bytes as u32, address) } {
            return 0;
        }
    }
    rest.first = next;
    ring.new.seen = seen;
    ring.new.first = first;
    ring.new.count = count;
    ring.new.beyond = 0;
    records::next(&mut ring.header, false);
    // SAFETY: the array follows the record.
    unsafe { records::emit_bytes(scratch.cast(), size_of::<Ring>() + bytes) };
    (rest.gone != 0 || next != tail) as u32
}
