//! The completion ring, as the program sees it: user memory at the context's handle.
//!
//! Head and tail are one aligned word of eight bytes and are read together with the size. The kernel
//! never clears an entry, so the entries between the tail of the last look and this one are the
//! completions in between, even if the program has reaped them itself. An entry that cannot be read (the
//! kernel maps 16 pages of a ring around one that was touched) is read at the next look: by then the collector has
//! touched the pages, or the program itself has.

use aiotrace_common::{
    abi::{Abi, IoEvent, RingHeader, Syscall},
    record::{
        Context, ContextKey, ContextSeen, EVENTS_PER_RECORD, Kind, Lost, Memory, NewEntries, Ring,
        RingSample, Thread, expected_at_entry, expected_records,
    },
};
use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap, PerCpuArray},
};

use crate::{atomic, lost, probes::calls, records, settings::setting, user};

/// Bounded: 16,384 contexts; the one in which nothing completed for longest makes room.
#[map]
static CONTEXTS: LruHashMap<ContextKey, Context> = LruHashMap::with_max_entries(16_384, 0);

#[repr(C)]
struct Scratch {
    ring: Ring,
    entries: [IoEvent; EVENTS_PER_RECORD],
    rest: Span,
}

#[map]
static RING_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(43, 0);

/// Records sent of one look, at most: 32,768 entries, and one record more for the wrap-around. What is beyond
/// is sent at the next look.
const MOST_RECORDS: u32 = 257;

/// When a program looks. Each program has scratch memory of its own: a kernel with preemptible
/// probes may run another one in between, but never the same one twice on a CPU.
#[derive(Clone, Copy)]
pub enum Moment {
    /// The call is entered.
    Enter = 0,
    /// The call is left.
    Exit = 1,
    /// Some call is left, as the one program for all of them sees it.
    AnyExit = 2,
}

/// How many contexts have begun and ended: what a thread remembers of a ring is good until the next one does.
#[map]
static CHANGES: Array<u64> = Array::with_max_entries(1, 0);

#[inline(always)]
fn change() {
    if let Some(changes) = CHANGES.get_ptr_mut(0) {
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(changes, 1) };
    }
}

/// A context that was just created: its ring is empty.
#[inline(always)]
pub fn created(thread: &Thread, handle: u64) {
    if setting!(exact_completions) == 0 {
        remember(ContextKey { space: thread.space, handle }, Context::at(0, 0));
        change();
    }
}

/// A context that is gone.
#[inline(always)]
pub fn destroyed(thread: &Thread, handle: u64) {
    if setting!(exact_completions) == 0 {
        let _ = CONTEXTS.remove(&ContextKey { space: thread.space, handle });
        change();
    }
}

/// io_submit begins: what of its requests may complete before it returns.
#[inline(always)]
pub fn submits(thread: &Thread) {
    expect(thread, expected_at_entry(thread.args[1]));
}

/// It ends: so many more of its requests may complete than was thought. `entered`: its begin was seen.
#[inline(always)]
pub fn submitted(thread: &Thread, entered: bool, ret: i64) -> u32 {
    let given = if entered { expected_at_entry(thread.args[1]) } else { 0 };
    let accepted = if ret > 0 { ret as u32 } else { 0 };
    accepted.wrapping_sub(given)
}

/// So many more requests of the call's context may complete.
#[inline(always)]
fn expect(thread: &Thread, more: u32) {
    if more == 0 || setting!(exact_completions) != 0 || setting!(counting) != 0 {
        return;
    }
    let key = ContextKey { space: thread.space, handle: thread.args[0] };
    if let Some(context) = CONTEXTS.get_ptr_mut(&key) {
        // SAFETY: a map value; this word is changed by atomic additions only.
        unsafe { atomic::add_u32(&raw mut (*context).expected, user::unknown(&more)) };
    }
}

/// Looks at the ring of the context that the call is about and, unless a probe tells of completions, sends
/// the entries that are new.
#[inline(always)]
pub fn sample(
    thread: &mut Thread,
    moment: Moment,
    syscall: Syscall,
    abi: Abi,
    time: u64,
) -> RingSample {
    let (sample, new) = see(thread, time, 0);
    if new.first != new.tail {
        send(thread, slot(moment, syscall, abi), time, new);
    }
    sample
}

/// The same for a record that takes a few entries along: those are not sent. `more`: as [`submitted`] gives it.
#[inline(always)]
pub fn sample_and_new(
    thread: &mut Thread,
    moment: Moment,
    syscall: Syscall,
    abi: Abi,
    time: u64,
    more: u32,
) -> (RingSample, NewEntries) {
    let (sample, new) = see(thread, time, more);
    let count = new.tail.wrapping_sub(new.first);
    if new.gone == 0 && count <= EVENTS_PER_RECORD as u32 {
        return (
            sample,
            NewEntries { seen: new.seen, first: new.first, count, ..NewEntries::NONE },
        );
    }
    send(thread, slot(moment, syscall, abi), time, new);
    (sample, NewEntries::NONE)
}

/// Of [`RING_SCRATCH`].
#[inline(always)]
fn slot(moment: Moment, syscall: Syscall, abi: Abi) -> u32 {
    match moment {
        Moment::AnyExit => 42,
        _ => moment as u32 + 2 * (syscall as u32 - 1 + 7 * abi as u32),
    }
}

/// The ring now, and the entries in it that are new, unless a probe tells of completions.
#[inline(always)]
fn see(thread: &mut Thread, time: u64, more: u32) -> (RingSample, Span) {
    let mut new = Span { seen: 0, nr: 0, first: 0, tail: 0, gone: 0, spent: 0, records: 0 };
    let sample = if setting!(exact_completions) == 0 && setting!(counting) == 0 {
        look(thread, time, more, &mut new)
    } else {
        glance(thread.args[0])
    };
    (sample.unwrap_or(RingSample::UNREAD), new)
}

/// Size, head and tail, and nothing else.
#[inline(always)]
fn glance(handle: u64) -> Option<RingSample> {
    read(handle, &mut 0)
}

/// The same, and the words that this is in. (No array: the compiler fills one with zeros by a loop over its
/// bytes.)
#[inline(always)]
fn read(handle: u64, words: &mut u128) -> Option<RingSample> {
    if user::read_or_fail(words, handle) != 0 {
        return None;
    }
    let words = *words;
    let (nr, head, tail) = ((words >> 32) as u32, (words >> 64) as u32, (words >> 96) as u32);
    Some(RingSample { head, tail, nr, memory: Memory::Read })
}

#[inline(always)]
fn look(thread: &mut Thread, time: u64, more: u32, new: &mut Span) -> Option<RingSample> {
    let handle = thread.args[0];
    // Before the ring: it must not be newer than that.
    let changes = CHANGES.get(0).copied().unwrap_or(0);
    let mut words = 0;
    let Some(sample) = read(handle, &mut words) else {
        expect(thread, more);
        return None;
    };
    let (first, RingSample { mut head, mut tail, .. }) = (words as u64, sample);
    let mut read_at = 0;
    let looked = (thread.looked_at, thread.looked_ring, thread.looked_when);
    let is_known = looked == (handle, first, changes);
    // Nothing completed since this thread looked. (Or a whole ring did: what nobody else has sent of it is
    // sent at the next look.)
    if is_known && thread.looked_tail == tail {
        expect(thread, more);
        return Some(sample);
    }
    let key = ContextKey { space: thread.space, handle };
    let (nr, last, seen, expected) = match CONTEXTS.get_ptr_mut(&key) {
        Some(context) => {
            // SAFETY: a map value; threads that share the context may race, and then both send
            // the same entries: the reader knows their positions.
            let context = unsafe { &mut *context };
            if more != 0 {
                // SAFETY: as in `expect`.
                unsafe { atomic::add_u32(&raw mut context.expected, user::unknown(&more)) };
            }
            let mut positions = context.positions;
            if !(is_known && thread.looked_tail == (positions >> 32) as u32) {
                // Another thread looked meanwhile, and may have seen a later tail than this one. From its
                // tail to one that is read now, the way is forward: not around the whole ring.
                RingSample { head, tail, .. } = glance(handle)?;
            }
            if context.nr == 0 {
                context.nr = introduce(thread, handle, positions as u32, time)?;
            }
            // The time before others go on from here: what they see is later.
            read_at = calls::now();
            // This thread may have stood still since it read the tail, while others told whole rings: its tail must
            // not become the one they go on from. (Between this and the store it may, too, which is a few
            // instructions.)
            // SAFETY: as above.
            let latest = unsafe { (&raw const context.positions).read_volatile() };
            if latest != positions {
                positions = latest;
                RingSample { head, tail, .. } = glance(handle)?;
                read_at = calls::now();
            }
            context.positions = Context::positions(tail, tail);
            let (told, seen) = (positions as u32, (positions >> 32) as u32);
            (context.nr, told, seen, Some(&raw mut context.expected))
        }
        None => {
            let nr = introduce(thread, handle, tail, time)?;
            remember(key, Context::at(nr, tail));
            (nr, tail, tail, None)
        }
    };
    // Unless the program has written another size there.
    thread.looked_at = if nr == sample.nr { handle } else { 0 };
    (thread.looked_tail, thread.looked_ring, thread.looked_when) = (tail, first, changes);
    // The program can write anything into its ring.
    if tail < nr && last < nr && seen < nr {
        let untold = RingHeader::distance(last, seen, nr) + RingHeader::distance(seen, tail, nr);
        let gone = if untold < nr { 0 } else { untold - (nr - 1) };
        let (mut records, mut spent) = (MOST_RECORDS, 0);
        if let Some(expected) = expected {
            // SAFETY: a map value, as above.
            let now = unsafe { expected.read_volatile() };
            (records, spent) = expected_records(untold, now, MOST_RECORDS);
            if spent != 0 {
                // SAFETY: as above; changed by atomic additions only.
                unsafe { atomic::add_u32(expected, user::unknown(&spent.wrapping_neg())) };
            }
        }
        *new = Span { seen: read_at, nr, first: last, tail, gone, spent, records };
    }
    Some(RingSample { head, tail, nr, memory: Memory::Read })
}

/// Tells of a context's ring at the first look at it, and gives its size.
#[inline(always)]
pub fn introduce(thread: &mut Thread, handle: u64, tail: u32, time: u64) -> Option<u32> {
    let ring: RingHeader = user::read(handle)?;
    if !ring.is_ring() {
        return None;
    }
    let header = records::header(thread, Kind::ContextSeen, 0, time);
    records::emit(|record: *mut ContextSeen| {
        // SAFETY: room in the ring buffer.
        unsafe {
            *record = ContextSeen { header, handle, id: ring.id, nr: ring.nr, tail, reserved: 0 };
        }
    });
    Some(ring.nr)
}

#[inline(always)]
fn remember(key: ContextKey, context: Context) {
    if CONTEXTS.insert(&key, &context, 0).is_err() {
        lost::count(Lost::NoContextSlot);
    }
}

/// Where an entry is.
#[inline(always)]
pub fn entry(handle: u64, position: u32) -> u64 {
    handle
        .wrapping_add(size_of::<RingHeader>() as u64)
        .wrapping_add(u64::from(position) * size_of::<IoEvent>() as u64)
}

/// Entries from `first` up to, not including, `tail`.
#[derive(Clone, Copy)]
struct Span {
    /// The tail was read before this time.
    seen: u64,
    nr: u32,
    first: u32,
    tail: u32,
    /// So many of them, the first ones, were overwritten before they could be read.
    gone: u32,
    /// By so many the requests that may complete are fewer.
    spent: u32,
    /// So many records are told at most.
    records: u32,
}

#[inline(always)]
fn send(thread: &mut Thread, slot: u32, time: u64, span: Span) {
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
        // Those that could not be read are still to come.
        let told = RingHeader::distance(span.first, first, span.nr);
        if span.spent > told && span.spent as i32 > 0 {
            expect(thread, span.spent - told);
        }
    }
}

/// The entries from `first` on are to be sent at the next look.
#[inline(always)]
pub fn put_back(thread: &mut Thread, first: u32) {
    thread.looked_at = 0;
    put_back_in(thread.space, thread.args[0], first);
}

/// The same, for the context that has this handle there. See [`records`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn put_back_in(space: u64, handle: u64, first: u32) -> u32 {
    let Some(context) = CONTEXTS.get_ptr_mut(&ContextKey { space, handle }) else { return 0 };
    // SAFETY: a map value; threads that share the context may race.
    let Context { nr, positions, .. } = unsafe { &mut *context };
    let (told, seen) = (*positions as u32, (*positions >> 32) as u32);
    let distance = |from, to| RingHeader::distance(from, to, *nr);
    // Another thread that looked meanwhile, and could not read, either, may have put back earlier ones.
    // (It may be another context by now, with a smaller ring.)
    if first < *nr && distance(told, first) + distance(first, seen) != distance(told, seen) {
        *positions = Context::positions(first, seen);
    }
    0
}

/// Sends all the entries in `rest`. See [`records`].
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

/// Tells how many of the entries in `rest` were not sent. See [`records`].
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
    // SAFETY: a record alone.
    unsafe { records::emit_bytes(scratch.cast(), size_of::<Ring>()) };
    0
}

/// Sends one record of the entries in `rest` and takes them out of it; 0 when none is left, or none can be
/// read. See [`records`].
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
    // A wrap-around cuts one record in two. What was overwritten goes around to beyond the tail.
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
