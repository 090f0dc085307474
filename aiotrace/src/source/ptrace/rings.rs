//! The completion rings, which are looked at when a call begins or ends. The kernel never clears an entry, so the
//! entries between the tail of the last look and the tail of this one are the completions in between, even if the
//! program has reaped them by itself.

use std::collections::HashMap;

use aiotrace_common::{
    abi::{IoEvent, RingHeader},
    record::{
        Context, ContextSeen, EVENTS_PER_RECORD, Kind, Memory as Mark, NewEntries, Ring,
        RingSample, expected_at_entry, expected_records,
    },
};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{
    memory::Wanted,
    records::{Records, header},
    tracee::Tracee,
};
use crate::clock::monotonic;

/// Most records of entries written at one look: 32,768 entries, and one record more for the wrap-around. Entries
/// beyond them are written at the next look.
const MOST_RECORDS: u32 = 257;
/// Most contexts remembered; when there are more, all are forgotten. Then entries may be missed, as if they had been
/// in the ring before the attach.
const MOST: usize = 16_384;
/// The tails of all rings.
#[derive(Default)]
pub struct Rings {
    /// The rings by address space and handle. There is only one tracer thread, so all entries up to one position are
    /// recorded.
    known: HashMap<(u64, u64), Known, foldhash::fast::RandomState>,
    /// How many contexts were forgotten.
    pub(super) forgotten: u64,
}

#[derive(Clone, Copy)]
struct Known {
    /// Number of entries; 0: unknown so far.
    nr: u32,
    /// All entries up to this position are recorded.
    tail: u32,
    /// See [`Context::expected`].
    expected: u32,
}

impl Known {
    /// See [`Context::at`].
    fn at(nr: u32, tail: u32) -> Self {
        Self { nr, tail, expected: Context::at(nr, tail).expected }
    }
}

/// A position in a ring, and the completion that the kernel wrote there.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// The position of the entry.
    pub position: u32,
    /// The completion.
    pub event: IoEvent,
}

impl New {
    /// The offset of the result of an entry from the ring's address.
    pub fn result_at(position: u32) -> u64 {
        let entry = u64::from(position) * size_of::<IoEvent>() as u64;
        (size_of::<RingHeader>() + std::mem::offset_of!(IoEvent, res)) as u64 + entry
    }
}

impl Rings {
    /// Remembers a context that was just created: its ring is empty.
    pub fn created(&mut self, space: u64, handle: u64) {
        self.remember(space, handle, Known::at(0, 0));
    }

    /// Remembers a context that existed before the attach.
    pub fn adopted(&mut self, space: u64, handle: u64, ring: &RingHeader) {
        self.remember(space, handle, Known::at(ring.nr, ring.tail));
    }

    /// Forgets a context that ended.
    pub fn destroyed(&mut self, space: u64, handle: u64) {
        self.known.remove(&(space, handle));
    }

    /// Forgets the contexts of an address space that ended.
    pub fn left(&mut self, space: u64) {
        self.known.retain(|(of, _), _| *of != space);
    }

    /// io_submit begins with this many iocbs: expects completions as the probes do (aiotrace-ebpf/src/ring.rs).
    pub fn submits(&mut self, space: u64, handle: u64, given: u64) {
        self.expect(space, handle, expected_at_entry(given));
    }

    /// io_submit returns. `given`: its number of iocbs, if its beginning was seen.
    pub fn submitted(&mut self, space: u64, handle: u64, given: Option<u64>, ret: i64) {
        let accepted = ret.max(0) as u32;
        let more = accepted.wrapping_sub(given.map_or(0, expected_at_entry));
        self.expect(space, handle, more);
    }

    fn expect(&mut self, space: u64, handle: u64, more: u32) {
        if let Some(known) = self.known.get_mut(&(space, handle)) {
            known.expected = known.expected.wrapping_add(more);
        }
    }

    fn remember(&mut self, space: u64, handle: u64, known: Known) {
        if self.known.len() >= MOST && !self.known.contains_key(&(space, handle)) {
            self.forgotten += self.known.len() as u64;
            self.known.clear();
        }
        self.known.insert((space, handle), known);
    }

    /// The memory that [`Self::sample`] reads of a ring.
    pub fn wanted(&self, tracee: &Tracee, handle: u64) -> Wanted {
        let known = self.known.get(&(tracee.space, handle)).filter(|it| it.nr != 0);
        let known = known.map(|it| (it.nr, it.tail));
        Wanted::Ring { at: handle, known }
    }

    /// Looks at a ring, writes the entries that are new, and calls `new` with each of them.
    pub fn sample(
        &mut self,
        tracee: &mut Tracee,
        records: &mut Records,
        handle: u64,
        time: u64,
        new: impl FnMut(New),
    ) -> RingSample {
        self.look(tracee, records, handle, time, new).unwrap_or(RingSample::UNREAD)
    }

    fn look(
        &mut self,
        tracee: &mut Tracee,
        records: &mut Records,
        handle: u64,
        time: u64,
        new: impl FnMut(New),
    ) -> Option<RingSample> {
        let memory = tracee.memory();
        let ring: RingHeader = memory.value(handle)?;
        let RingHeader { head, tail, .. } = ring;
        let key = (tracee.space, handle);
        let known = self.known.get(&key).copied();
        let mut known = match known {
            Some(known) if known.nr != 0 => known,
            other => {
                if !ring.is_ring() {
                    return None;
                }
                let last = other.map_or(tail, |it| it.tail);
                let header = header(tracee, Kind::ContextSeen, 0, time);
                let (id, nr) = (ring.id, ring.nr);
                records.emit(&ContextSeen { header, handle, id, nr, tail: last, reserved: 0 });
                Known { nr, tail: last, expected: other.map_or(nr, |it| it.expected) }
            }
        };
        let (nr, last) = (known.nr, known.tail);
        let mut told = tail;
        // The program can write anything into its ring.
        if tail < nr && last < nr && tail != last {
            let untold = RingHeader::distance(last, tail, nr);
            let (most, spent) = expected_records(untold, known.expected, MOST_RECORDS);
            told = send(tracee, records, (handle, time), [nr, last, tail], most, new);
            let are_told = RingHeader::distance(last, told, nr);
            // Below 0, the position goes back: entries that could not be read are still to come.
            let spent = if (spent as i32) < 0 { spent } else { spent.min(are_told) };
            known.expected = known.expected.wrapping_sub(spent);
        }
        self.remember(tracee.space, handle, Known { tail: told, ..known });
        Some(RingSample { head, tail, nr, memory: Mark::Read })
    }
}

/// Writes the entries from `first` up to `tail`, which is not included. Returns the position of the first that could
/// not be read.
fn send(
    tracee: &mut Tracee,
    records: &mut Records,
    (handle, time): (u64, u64),
    [nr, mut first, tail]: [u32; 3],
    most: u32,
    mut new: impl FnMut(New),
) -> u32 {
    let seen = monotonic();
    let mut entries = [IoEvent::new_zeroed(); EVENTS_PER_RECORD];
    let mut records_left = most;
    while first != tail {
        // A range that wraps around takes two records.
        let end = if first > tail { nr } else { tail };
        let count = (end - first).min(EVENTS_PER_RECORD as u32);
        let entries = &mut entries[..count as usize];
        let entry = u64::from(first) * size_of::<IoEvent>() as u64;
        let at = handle.wrapping_add(size_of::<RingHeader>() as u64).wrapping_add(entry);
        let is_read = records_left != 0 && tracee.memory().read(at, entries.as_mut_bytes());
        records_left = records_left.saturating_sub(1);
        let header = header(tracee, Kind::Ring, 0, time);
        if !is_read {
            let beyond = RingHeader::distance(first, tail, nr);
            let none = NewEntries { seen, first, beyond, ..NewEntries::NONE };
            records.emit(&Ring { header, handle, new: none });
            return first;
        }
        let found = NewEntries { seen, first, count, beyond: 0, memory: Mark::Read };
        records.emit_with(&Ring { header, handle, new: found }, &*entries);
        for (position, event) in (first..).zip(&*entries) {
            new(New { position, event: *event });
        }
        first = if first + count >= nr { 0 } else { first + count };
    }
    first
}
