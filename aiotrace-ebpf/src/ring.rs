//! Reads the completion ring where the target sees it: in the target's memory, at the context's
//! handle.
//!
//! The probe reads head and tail, which are one aligned word of eight bytes, together with the
//! size. The kernel never clears an entry, so the entries between the tail at the last look and the
//! tail at this one are the completions in between, even if the target has reaped them itself:
//! <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/fs/aio.c?h=v6.12.117#n1132>.
//! An entry may be unreadable, because the kernel maps only 16 pages of a ring around one that was
//! touched; then the probe reads it at the next look, when the collector or the target itself has
//! touched the page:
//! <https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git/tree/mm/memory.c?h=v6.12.117#n5195>

mod entries;

use aiotrace_common::{
    abi::{Abi, RingHeader, Syscall},
    record::{
        Context, ContextKey, ContextSeen, EVENTS_PER_RECORD, Kind, Lost, Memory, NewEntries,
        RingSample, Thread, expected_at_entry, expected_records,
    },
};
use aya_ebpf::{
    macros::map,
    maps::{Array, LruHashMap},
};

use self::entries::{MOST_RECORDS, Span, send, slot};
pub use self::entries::{Moment, entry};
use crate::{atomic, lost, probes::calls, records, settings::setting, user};

/// At most 16,384 contexts; the one in which nothing completed for longest makes room.
#[map]
static CONTEXTS: LruHashMap<ContextKey, Context> = LruHashMap::with_max_entries(16_384, 0);

/// How many contexts have begun and ended. What a thread remembers of a ring is valid until this
/// number changes.
#[map]
static CHANGES: Array<u64> = Array::with_max_entries(1, 0);

#[inline(always)]
fn change() {
    if let Some(changes) = CHANGES.get_ptr_mut(0) {
        // SAFETY: a map value, changed by atomic additions only.
        unsafe { atomic::add(changes, 1) };
    }
}

/// A context was just created: its ring is empty.
#[inline(always)]
pub fn created(thread: &Thread, handle: u64) {
    if setting!(exact_completions) == 0 {
        remember(ContextKey { space: thread.space, handle }, Context::at(0, 0));
        change();
    }
}

/// A context is gone.
#[inline(always)]
pub fn destroyed(thread: &Thread, handle: u64) {
    if setting!(exact_completions) == 0 {
        let _ = CONTEXTS.remove(&ContextKey { space: thread.space, handle });
        change();
    }
}

/// io_submit begins: expects those of its requests that may complete before it returns.
#[inline(always)]
pub fn submits(thread: &Thread) {
    expect(thread, expected_at_entry(thread.args[1]));
}

/// io_submit ends: returns how many more of its requests may complete than [`submits`] expected.
/// `entered`: its entry was seen.
#[inline(always)]
pub fn submitted(thread: &Thread, entered: bool, ret: i64) -> u32 {
    let given = if entered { expected_at_entry(thread.args[1]) } else { 0 };
    let accepted = if ret > 0 { ret as u32 } else { 0 };
    accepted.wrapping_sub(given)
}

/// Notes that `more` requests of the call's context may complete.
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

/// Looks at the ring of the call's context. Sends the new entries, unless a probe on `aio_complete`
/// records completions.
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

/// [`sample`] for a record that itself carries the new entries, if there are few: those are not
/// sent here. [`submitted`] gives `more`.
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

/// The ring as it is, and its new entries, unless a probe on `aio_complete` records completions.
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

/// Reads size, head and tail, and nothing else.
#[inline(always)]
fn glance(handle: u64) -> Option<RingSample> {
    read(handle, &mut 0)
}

/// [`glance`], which also leaves the words that it read in `words`. (They are no array: the
/// compiler would fill it with zeros in a loop over its bytes.)
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
    // Read this number before the ring: it must not be newer than what the ring says.
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
    // Nothing completed since this thread last looked. (Or exactly one whole ring did: then the
    // entries that no other thread has sent are sent at the next look.)
    if is_known && thread.looked_tail == tail {
        expect(thread, more);
        return Some(sample);
    }
    let key = ContextKey { space: thread.space, handle };
    let (nr, last, seen, expected) = match CONTEXTS.get_ptr_mut(&key) {
        Some(context) => {
            // SAFETY: a map value. Threads that share the context may race; then both send the same
            // entries, and the reader recognises them by their positions.
            let context = unsafe { &mut *context };
            if more != 0 {
                // SAFETY: as in `expect`.
                unsafe { atomic::add_u32(&raw mut context.expected, user::unknown(&more)) };
            }
            let mut positions = context.positions;
            if !(is_known && thread.looked_tail == (positions >> 32) as u32) {
                // Another thread has looked in the meantime, and may have seen a later tail than
                // this one. Read the tail again, so that the distance from the other thread's tail
                // goes forward, and not around the whole ring.
                RingSample { head, tail, .. } = glance(handle)?;
            }
            if context.nr == 0 {
                context.nr = introduce(thread, handle, positions as u32, time)?;
            }
            // Take the time before other threads go on from this tail: what they see is later.
            read_at = calls::now();
            // This thread may have been stopped since it read the tail, while others sent whole
            // rings: they must not go on from its old tail. (It may also be stopped between here
            // and the store, but those are only a few instructions.)
            // SAFETY: a map value, as above.
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
    // Do not trust this look next time if the target has written another size into its ring.
    thread.looked_at = if nr == sample.nr { handle } else { 0 };
    (thread.looked_tail, thread.looked_ring, thread.looked_when) = (tail, first, changes);
    // The target can write anything into its ring, so the positions are checked.
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

/// Records a context's ring at the first look at it, and returns its size.
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

/// Leaves the entries from `first` on to the next look.
#[inline(always)]
pub fn put_back(thread: &mut Thread, first: u32) {
    thread.looked_at = 0;
    put_back_in(thread.space, thread.args[0], first);
}

/// [`put_back`], for the context with this handle in this address space. See [`records`] for why
/// this is a function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn put_back_in(space: u64, handle: u64, first: u32) -> u32 {
    let Some(context) = CONTEXTS.get_ptr_mut(&ContextKey { space, handle }) else { return 0 };
    // SAFETY: a map value. Threads that share the context may race.
    let Context { nr, positions, .. } = unsafe { &mut *context };
    let (told, seen) = (*positions as u32, (*positions >> 32) as u32);
    let distance = |from, to| RingHeader::distance(from, to, *nr);
    // Another thread that looked in the meantime and could not read, either, may already have put
    // back earlier entries. (By now this may even be another context, with a smaller ring.)
    if first < *nr && distance(told, first) + distance(first, seen) != distance(told, seen) {
        *positions = Context::positions(first, seen);
    }
    0
}
