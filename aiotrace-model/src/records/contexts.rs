//! What the decoder knows of each context: enough to give events for completions and for the ends of contexts where
//! no probe sees them, and to count requests in flight.
//!
//! The model follows contexts as well, and neither can do the work of the other without giving up a source. This part
//! decides which events there are: an entry that two threads saw gives one completion; a ring that was moved is
//! recognised; contexts end with their address space. It needs records for that (positions in rings, the kernel's
//! number of an address space), which events do not have, and a recording has only events. The model knows from
//! events alone, so from a recording, too, what this part cannot know: each request, and what became of it.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use aiotrace_common::abi::RingHeader;

use super::positions::{Positions, one};
use crate::{
    any_order::AnyOrder as _,
    event::{Gone, Handle, How},
};

/// Most contexts remembered; when there are more, all are forgotten, and the number of requests in flight is unknown.
const MOST: usize = 65_536;

/// Most entries taken from a look from outside: more than the largest rings of real programs have. (A program can
/// write any tail into its ring.)
const MOST_AT_A_LOOK: u32 = 1 << 18;
/// Most contexts that wait for io_destroy to return.
const MOST_LEAVING: usize = 1024;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// All contexts, and which process uses which address space.
#[derive(Default)]
pub struct Contexts {
    known: Map<(u64, u64), Known>,
    /// By address space and id of the ring: the handle that the context had when its ring was first seen.
    by_id: Map<(u64, u32), u64>,
    /// Contexts whose handle was given to another context while io_destroy still waits.
    leaving: Vec<((u64, u64), Known)>,
    spaces: Map<u32, u64>,
    /// Address spaces that were seen from their beginning on, so that all their contexts are known.
    whole: HashSet<u64, foldhash::fast::RandomState>,
}

/// One context.
#[derive(Default)]
struct Known {
    pid: u32,
    /// When io_setup returned; 0 if that was not seen.
    created: u64,
    /// The context was seen from its creation on, and nothing was lost since: its requests can be counted.
    counted: bool,
    /// No record of its address space was lost since the context is known.
    sure: bool,
    /// A call on it succeeded. (Up to Linux 7.0 a forked child inherits the mapping of the ring, but not the
    /// context.)
    real: bool,
    accepted: u64,
    completed: u64,
    /// When the ring was last looked at and all its completions had become events.
    looked: Option<u64>,
    /// Entries that could not be read at the last look, and have given no completion since.
    untold: u32,
    /// Nothing had completed at the first look at the ring.
    fresh: bool,
    /// The id of the ring, which stays the same when the ring is moved.
    id: Option<u32>,
    /// Number of entries; 0 if unknown.
    nr: u32,
    positions: Positions,
}

/// What a first look at a ring shows.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// See [`aiotrace_common::record::ContextSeen::id`].
    pub id: u32,
    /// Number of entries.
    pub nr: u32,
    /// The position of the tail.
    pub tail: u32,
}

/// What the entries of a ring add to what is known.
pub struct Entries {
    /// When the ring was looked at before.
    pub since: Option<u64>,
    /// The entries that are new.
    pub new: Vec<Range<u32>>,
    /// How many earlier completions will never come: the thread that saw them first was overtaken by a whole ring.
    pub never: u32,
}

/// A context that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// A process that used it.
    pub pid: u32,
    /// What happened.
    pub gone: Gone,
}

impl Contexts {
    /// Adds a context that io_setup made.
    pub fn created(&mut self, space: u64, handle: u64, pid: u32, time: u64) {
        self.make_room();
        let positions = Positions::from(0);
        let looked = Some(time);
        let known = Known {
            pid,
            created: time,
            counted: true,
            sure: true,
            real: true,
            looked,
            positions,
            ..Known::default()
        };
        if let Some(old) = self.known.insert((space, handle), known) {
            self.leaving.truncate(MOST_LEAVING - 1);
            self.leaving.insert(0, ((space, handle), old));
        }
    }

    /// Makes room for one more context.
    fn make_room(&mut self) {
        if self.known.len() >= MOST {
            self.known.clear();
        }
    }

    /// Adds a context that existed before the attach.
    pub fn adopted(&mut self, space: u64, handle: u64, ring: Option<Seen>, pid: u32) {
        self.spaces.insert(pid, space);
        if let Some(ring) = ring {
            self.seen(space, handle, ring, pid);
        }
        self.count(space, handle, pid, 0);
        if let Some(known) = self.known.get_mut(&(space, handle)) {
            known.sure = true;
        }
    }

    /// The context's address space, and the entries that are next in a ring with this tail, as ranges that do not
    /// wrap around. If there are too many, new entries cannot be told from old ones: then there are no ranges.
    pub fn pending(&self, pid: u32, handle: u64, tail: u32) -> Option<(u64, [Range<u32>; 2])> {
        let space = *self.spaces.get(&pid)?;
        let known = self.known.get(&(space, handle))?;
        let nr = known.nr;
        let next = known.positions.next().filter(|next| *next < nr && tail < nr)?;
        let count = RingHeader::distance(next, tail, nr);
        let parts = if next <= tail { [next..tail, 0..0] } else { [next..nr, 0..tail] };
        (count < nr / 2 && count <= MOST_AT_A_LOOK).then_some((space, parts))
    }

    /// Notes the first look at a ring. If it is a known ring that was moved, returns the handle that it had.
    pub fn seen(&mut self, space: u64, handle: u64, ring: Seen, pid: u32) -> Option<u64> {
        let Seen { id, nr, tail } = ring;
        let before = self.remember_id((space, id), handle);
        if let Some(known) = self.known.get_mut(&(space, handle)) {
            (known.id, known.nr) = (Some(id), nr);
            return None;
        }
        // The index may be out of date: the context that it names may have ended, or have another id.
        let moved = before.filter(|from| {
            let known = self.known.get(&(space, *from));
            known.is_some_and(|it| it.id == Some(id) && it.real && it.sure)
        });
        let mut known = match moved {
            Some(from) => self.known.remove(&(space, from)).unwrap_or_default(),
            None => Known { pid, sure: true, fresh: tail == 0, ..Known::default() },
        };
        if known.positions.next().is_some_and(|next| next != tail) {
            // Some requests completed in the meantime, and their entries were not sent.
            known.counted = false;
        }
        (known.id, known.nr) = (Some(id), nr);
        known.positions = Positions::from(tail);
        self.make_room();
        self.known.insert((space, handle), known);
        moved
    }

    /// Notes which handle the ring with this id has, and returns the one it had.
    fn remember_id(&mut self, key: (u64, u32), handle: u64) -> Option<u64> {
        if self.by_id.len() >= 2 * MOST {
            self.by_id.clear();
        }
        self.by_id.insert(key, handle)
    }

    /// Notes that a probe saw a ring being moved.
    pub fn moved(&mut self, space: u64, from: u64, to: u64) {
        if let Some(known) = self.known.remove(&(space, from)) {
            self.known.insert((space, to), known);
        }
    }

    /// Notes that a process begins a program in this address space, which has no context yet.
    pub fn begins(&mut self, space: u64) {
        if self.whole.len() >= MOST {
            self.whole.clear();
        }
        self.whole.insert(space);
    }

    /// Notes that the process has a child that is not traced: the child may share the address space, and make
    /// contexts there.
    pub fn is_shared(&mut self, pid: u32) {
        if let Some(space) = self.spaces.get(&pid) {
            self.whole.remove(space);
        }
    }

    /// Notes that a call on the context succeeded, of which io_submit accepted `accepted` requests. If nobody was
    /// seen to make the context, its ring was moved before the first look at it: returns the handle that it had, if
    /// only one is possible.
    pub fn used(&mut self, space: u64, handle: u64, pid: u32, accepted: u64) -> Option<u64> {
        let is_new = self.known.get(&(space, handle)).is_none_or(|it| !it.real);
        let from = if is_new { self.unseen(space) } else { None };
        if let Some(old) = from.and_then(|from| self.known.remove(&(space, from))) {
            let new = self.known.remove(&(space, handle)).unwrap_or_default();
            let known = Known {
                counted: old.counted && new.fresh,
                completed: old.completed + new.completed,
                pid: old.pid,
                created: old.created,
                sure: new.sure,
                real: true,
                accepted: old.accepted,
                ..new
            };
            self.known.insert((space, handle), known);
        }
        self.count(space, handle, pid, accepted);
        from
    }

    /// The only context of an address space whose ring was not seen, if all contexts of the address space are known.
    fn unseen(&self, space: u64) -> Option<u64> {
        if !self.whole.contains(&space) {
            return None;
        }
        let of_space = self.known.in_any_order().filter(|((of, _), _)| *of == space);
        let mut all = of_space.filter(|(_, it)| it.real && it.id.is_none());
        let ((_, from), known) = all.next()?;
        (all.next().is_none() && known.sure && known.created != 0).then_some(*from)
    }

    fn count(&mut self, space: u64, handle: u64, pid: u32, accepted: u64) {
        if !self.known.contains_key(&(space, handle)) {
            self.make_room();
        }
        let known = self.known.entry((space, handle)).or_default();
        known.pid = pid;
        known.real = true;
        known.accepted += accepted;
    }

    /// Notes a completion that a probe saw.
    pub fn completed(&mut self, space: u64, handle: u64) {
        if let Some(known) = self.known.get_mut(&(space, handle)) {
            known.completed += 1;
        }
    }

    /// Notes a look at the ring and its tail. The record of a call may come after others that looked later.
    pub fn looked(&mut self, space: u64, handle: u64, tail: u32, time: u64) {
        let Some(known) = self.known.get_mut(&(space, handle)) else { return };
        if known.untold == 0 && known.positions.have(tail, known.nr) {
            known.looked = known.looked.max(Some(time));
        }
    }

    /// Notes how many entries in the ring could not be read yet.
    pub fn behind(&mut self, space: u64, handle: u64, untold: u32) {
        if let Some(known) = self.known.get_mut(&(space, handle)) {
            known.untold = untold;
        }
    }

    /// Notes that `count` entries from `first` on were in the ring at this time, and returns which are new.
    pub fn entries(
        &mut self,
        (space, handle): (u64, u64),
        first: u32,
        count: u32,
        seen: u64,
    ) -> Entries {
        let Some(known) = self.known.get_mut(&(space, handle)) else {
            return Entries { since: None, new: one(0..count), never: 0 };
        };
        let (new, never) = known.positions.take((first, count, seen), known.nr);
        let told = new.iter().map(|it| u64::from(it.end - it.start)).sum::<u64>();
        known.completed += told + u64::from(never);
        known.untold = known.untold.saturating_sub(count);
        Entries { since: known.looked, new, never }
    }

    /// Notes that a record of this address space was lost, after which nothing of it can be counted.
    ///
    /// 0: the address space is unknown.
    pub fn lost(&mut self, space: u64) {
        let is_meant = |of: u64| of == space || space == 0;
        for (_, known) in self.known.in_any_order_mut().filter(|((of, _), _)| is_meant(*of)) {
            (known.counted, known.sure) = (false, false);
            // Entries that were passed over may never come.
            known.positions.forget_holes();
        }
    }

    /// Notes a loss if a probe counted another number of completions than came.
    pub fn check(&mut self, space: u64, handle: u64, completed: u64) {
        if let Some(known) = self.known.get_mut(&(space, handle)) {
            known.counted &= known.completed == completed;
        }
    }

    /// Takes out a context that ended, as io_destroy or a probe says; `time`: when its end began. Returns its
    /// requests in flight.
    pub fn gone(&mut self, space: u64, handle: u64, time: u64) -> Option<u64> {
        let key = (space, handle);
        let known = match self.known.get(&key) {
            Some(known) if known.created <= time => self.known.remove(&key),
            _ => {
                // Another context has got the handle. The one that ended is the oldest before it.
                let place = self.leaving.iter().rposition(|(of, _)| *of == key);
                place.map(|place| self.leaving.remove(place).1)
            }
        };
        known.and_then(|known| known.in_flight())
    }

    /// Notes that the process uses this address space from now on. Returns the contexts that ended with the one it
    /// left.
    pub fn uses(&mut self, pid: u32, space: u64, how: How) -> Vec<Ended> {
        match self.spaces.insert(pid, space) {
            Some(old) if old != space => self.left(old, how),
            _ => Vec::new(),
        }
    }

    /// Notes that the process is dead. Returns the contexts that ended with it.
    pub fn exited(&mut self, pid: u32) -> Vec<Ended> {
        match self.spaces.remove(&pid) {
            Some(old) => self.left(old, How::Exit),
            None => Vec::new(),
        }
    }

    fn left(&mut self, space: u64, how: How) -> Vec<Ended> {
        // A child of vfork still uses the address space.
        if self.spaces.in_any_order().any(|it| *it.1 == space) {
            return Vec::new();
        }
        self.whole.remove(&space);
        // These contexts lost their handle, but not by io_destroy: their rings were unmapped.
        let leaving = self.leaving.extract_if(.., |((of, _), _)| *of == space);
        let known = self.known.extract_in_any_order(|(of, _), _| *of == space);
        let mut ended: Vec<Ended> = known
            .chain(leaving)
            .filter(|(_, known)| known.real)
            .map(|((_, handle), known)| {
                let in_flight = known.in_flight();
                let at_most = in_flight.is_some_and(|it| it > 0);
                Ended {
                    pid: known.pid,
                    gone: Gone { ctx: Handle(handle), how, in_flight, at_most },
                }
            })
            .collect();
        ended.sort_by_key(|it| it.gone.ctx.0);
        ended
    }
}

impl Known {
    /// Requests that were accepted and have not completed. A completion may be seen before its io_submit returns.
    fn in_flight(&self) -> Option<u64> {
        let completed = self.completed + u64::from(self.untold);
        let is_known = self.counted && self.positions.is_whole();
        is_known.then(|| self.accepted.saturating_sub(completed))
    }
}

#[cfg(test)]
mod tests;
