//! The completion rings, looked at when a call begins or ends. The kernel never clears an entry, so those
//! between the tail of the last look and this one are the completions in between, even if the program has
//! reaped them itself.

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

/// Records of entries sent at one look, at most: 32,768 entries, and one record more for the wrap-around. What is
/// beyond is sent at the next look.
const MOST_RECORDS: u32 = 257;
/// Contexts remembered at most. Beyond, all are forgotten: then entries may be missed, as if they had
/// been there before the attach.
const MOST: usize = 16_384;
/// Where the tails were.
#[derive(Default)]
pub struct Rings {
    /// By address space and handle. Nobody races here: all up to the one position is told.
    known: HashMap<(u64, u64), Known, foldhash::fast::RandomState>,
    /// Contexts were forgotten.
    pub(super) forgotten: u64,
}

#[derive(Clone, Copy)]
struct Known {
    /// Size; 0: not known yet.
    nr: u32,
    /// Up to there all is told.
    tail: u32,
    /// As [`Context::expected`].
    expected: u32,
}

impl Known {
    /// As [`Context::at`].
    fn at(nr: u32, tail: u32) -> Self {
        Self { nr, tail, expected: Context::at(nr, tail).expected }
    }
}

/// A place in a ring, and what the kernel wrote there.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// Number of the entry.
    pub position: u32,
    /// What is there.
    pub event: IoEvent,
}

impl New {
    /// Where its result is, from the ring's address on.
    pub fn result_at(position: u32) -> u64 {
        let entry = u64::from(position) * size_of::<IoEvent>() as u64;
        (size_of::<RingHeader>() + std::mem::offset_of!(IoEvent, res)) as u64 + entry
    }
}

impl Rings {
    /// A context that was just created: its ring is empty.
    pub fn created(&mut self, space: u64, handle: u64) {
        self.remember(space, handle, Known::at(0, 0));
    }

    /// A context that was there before us.
    pub fn adopted(&mut self, space: u64, handle: u64, ring: &RingHeader) {
        self.remember(space, handle, Known::at(ring.nr, ring.tail));
    }

    /// It is gone.
    pub fn destroyed(&mut self, space: u64, handle: u64) {
        self.known.remove(&(space, handle));
    }

    /// The address space is gone.
    pub fn left(&mut self, space: u64) {
        self.known.retain(|(of, _), _| *of != space);
    }

    /// io_submit begins with so many iocbs: as the probes have it (aiotrace-ebpf/src/ring.rs).
    pub fn submits(&mut self, space: u64, handle: u64, given: u64) {
        self.expect(space, handle, expected_at_entry(given));
    }

    /// It returns. `given`: if its begin was seen.
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

    /// What [`Self::sample`] reads of a ring.
    pub fn wanted(&self, tracee: &Tracee, handle: u64) -> Wanted {
        let known = self.known.get(&(tracee.space, handle)).filter(|it| it.nr != 0);
        let known = known.map(|it| (it.nr, it.tail));
        Wanted::Ring { at: handle, known }
    }

    /// Looks at a ring, sends the entries that are new, and shows each of them to `new`.
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
            // Less than 0: back to it. What could not be read is still to come.
            let spent = if (spent as i32) < 0 { spent } else { spent.min(are_told) };
            known.expected = known.expected.wrapping_sub(spent);
        }
        self.remember(tracee.space, handle, Known { tail: told, ..known });
        Some(RingSample { head, tail, nr, memory: Mark::Read })
    }
}

/// Entries from `first` up to, not including, `tail`. Gives the first that could not be read.
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
        // A wrap-around cuts one record in two.
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
