//! What is known of an address space, and so of the processes that use it: forked children have one of their own,
//! children of vfork share it.

mod places;

use std::collections::VecDeque;

pub use self::places::Places;
use super::{
    Doubt, Map,
    appends::Appends,
    finding::{ContextId, ContextRef, Subject},
    findings::reads_past_end::Rows,
    inline::Files,
    owed::{Done, Owed, Place, does, is_vague, reach},
    polls::Polls,
    ranges::Ranges,
    requests::Request,
    unseen::Unseen,
};
use crate::event::{Handle, Synchronous, Ways};

/// Most destroyed handles remembered for an address space.
const MOST_DESTROYED: usize = 4096;
/// Handles whose rings were moved, likewise.
const MOST_MOVED: usize = 1024;
/// Short submits that wait for their rest.
const MOST_SHORT: usize = 64;
/// Most requests kept of one short submit.
const MOST_OWED: usize = 1024;
/// Most requests kept of all short submits of an address space.
const MOST_OWED_IN_ALL: usize = 4 * MOST_OWED;
/// Most cancelled iocbs remembered.
const MOST_CANCELLED: usize = 256;

/// An address space, and the processes that use it.
#[derive(Debug, Default)]
pub struct Space {
    /// The processes that use it.
    pub users: Vec<u32>,
    /// It made 32-bit calls, whose iovecs have another form.
    pub is_compat: bool,
    /// An event about it was lost.
    pub lost: bool,
    /// It was seen from its beginning on, with all its contexts.
    pub is_whole: bool,
    /// A process that is not traced was made, and shares it: it may live longer than those that are known.
    pub is_shared: bool,
    /// When a handle was used that nobody was seen to make: a ring of it was moved, perhaps, and it is not known which.
    pub strayed: Option<u64>,
    /// When each destroyed handle was destroyed.
    destroyed: Map<Handle, u64>,
    /// Where its ring was moved, by handle.
    moved: Map<Handle, Handle>,
    /// Short submits whose rest was not submitted again.
    short: VecDeque<Short>,
    /// It has made processes that are not traced, which may have ended before anybody could look.
    pub has_untraced: bool,
    /// How the requests to its files complete.
    pub files: Files,
    /// Its descriptors with pending polls.
    pub polls: Polls,
    /// Its files that are written to at their ends.
    pub appends: Appends,
    /// Rows of its reads that gave nothing.
    pub rows: Rows,
    /// Iocbs whose io_cancel worked.
    cancelled: VecDeque<Cancelled>,
    /// Contexts that ended with it, until they are reported.
    pub released: Option<Released>,
    /// The places that made contexts which ended.
    pub ended_at: Places,
    /// When its last process left it.
    pub ended: Option<u64>,
    /// The name that this had then.
    pub name: Option<Vec<u8>>,
}

/// An iocb whose io_cancel worked.
#[derive(Clone, Copy, Debug)]
pub struct Cancelled {
    /// The context: each has its own requests at an address.
    pub context: ContextId,
    /// The address of the iocb.
    pub iocb: u64,
    /// When the call returned.
    pub time: u64,
}

/// Contexts that ended with their process.
#[derive(Clone, Debug)]
pub struct Released {
    /// The process.
    pub pid: u32,
    /// Its name then: any bytes.
    pub process: Vec<u8>,
    /// The end of the first one.
    pub time: u64,
    /// How many contexts.
    pub contexts: u64,
    /// What they took from fs.aio-nr, if it is known for each.
    pub charge: Option<u64>,
    /// The process ran another program.
    pub by_exec: bool,
    /// Why they may not have ended.
    pub doubt: Option<Doubt>,
}

/// A short submit, and its requests that are still to be done.
#[derive(Debug)]
pub struct Short {
    /// When the call returned.
    pub time: u64,
    /// The thread.
    pub tid: u32,
    /// The process.
    pub pid: u32,
    /// The context.
    pub context: ContextRef,
    /// How many requests it was given.
    pub given: u64,
    /// How many of them were accepted.
    pub accepted: u64,
    /// When the watch over synchronous calls ended: the process made calls for long without doing the rest.
    pub watched: Option<u64>,
    /// The context has ended: so another context may take the rest.
    is_orphan: bool,
    /// A request was submitted that could not be read: it may have been the rest.
    unread: bool,
    /// There were more requests than are kept.
    is_cut: bool,
    /// The requests that were not accepted; `None`: submitted again, or done in another way.
    rest: Vec<Option<Owed>>,
    /// How many requests are left.
    left: usize,
    /// What may do them without being seen.
    unseen: Unseen,
    /// The indices of requests by what they do. Some of them may be done by now.
    places: Map<Place, Vec<usize>>,
    /// The indices of requests by the range that they read or write. Some of them may be done by now.
    ranges: Ranges<usize>,
}

impl Short {
    /// How many requests are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Takes a request that may be one of the rest. `is_accepted`: io_submit accepted it.
    fn submitted(&mut self, context: ContextId, request: &Request, is_accepted: bool) {
        let is_other = context != self.context.id && !self.is_orphan;
        let place = Place::of(request).map(|it| match it.lesser() {
            // An fsync does what an fdsync does, too.
            Some(lesser) if !self.places.contains_key(&it) => lesser,
            _ => it,
        });
        let mut same = place.and_then(|it| self.places.get_mut(&it));
        if is_other && let Some(same) = &same {
            let all = same.iter().filter_map(|it| Some((*it, self.rest.get(*it)?.as_ref()?)));
            // Of several equal requests, each time another one.
            let which = all.min_by_key(|(_, owed)| owed.why().is_some()).map(|it| it.0);
            if let Some(index) = which
                && let Some(Some(owed)) = self.rest.get_mut(index)
            {
                owed.doubt = Some(Doubt::OtherContext);
            }
            return;
        }
        while let Some(index) = same.as_mut().and_then(|it| it.pop()) {
            if let Some(Some(owed)) = self.rest.get_mut(index)
                && owed.is_doubtful()
            {
                return;
            }
            if self.rest.get_mut(index).and_then(Option::take).is_some() {
                self.left -= 1;
                return;
            }
        }
        if is_accepted && does(request).is_some() {
            self.covered(request, |owed| {
                let doubt = is_other.then_some(Doubt::OtherContext);
                let is_same = Place::of(&owed.request) == place;
                if is_same { Done::Not } else { owed.covered_by(request, doubt) }
            });
        }
    }

    /// Takes a completion of a request that was submitted later.
    fn completed(&mut self, request: &Request, res: i64) {
        self.covered(request, |owed| owed.completed(request, res).unwrap_or(Done::Not));
    }

    /// Applies another request to those that it may overlap.
    fn covered(&mut self, by: &Request, mut how: impl FnMut(&mut Owed) -> Done) {
        for index in self.ranges.over(reach(by)) {
            let Some(slot) = self.rest.get_mut(index) else { continue };
            if slot.as_mut().is_some_and(|it| how(it) == Done::All) {
                *slot = None;
                self.left -= 1;
            }
        }
    }

    fn synchronous(&mut self, call: &Synchronous, is_of_child: bool) {
        for slot in &mut self.rest {
            let done = slot.as_mut().map(|it| match is_of_child {
                true => it.done_by_child(call),
                false => it.done_by(call),
            });
            if done == Some(Done::All) {
                *slot = None;
                self.left -= 1;
            }
        }
    }

    /// What was dropped: the number of requests, the first one, and why that is unsure, if it is. If some requests
    /// are in doubt, only the others count.
    pub fn dropped(&self) -> (usize, Option<Subject>, Option<Doubt>) {
        let is_certain = !self.unread && !self.is_cut;
        let unseen = |it: &Owed| self.unseen.why(&it.request);
        let is_dropped = |it: &&Owed| it.why().is_none() && unseen(it).is_none() && is_certain;
        let certain = || self.rest.iter().flatten().filter(is_dropped);
        let first = |mut all: Box<dyn Iterator<Item = &Owed> + '_>| all.find_map(Owed::subject);
        match certain().count() {
            0 => {
                let all = || self.rest.iter().flatten();
                let unread = self.unread.then_some(Doubt::Unread);
                let doubt = unread
                    .or(self.is_cut.then_some(Doubt::TooMany))
                    .or_else(|| all().find_map(Owed::why))
                    .or_else(|| all().find_map(unseen));
                (self.left, first(Box::new(all())), doubt)
            }
            count => (count, first(Box::new(certain())), None),
        }
    }
}

impl Space {
    /// Why everything about this address space is unsure, if it is.
    pub fn doubt(&self) -> Option<Doubt> {
        self.lost.then_some(Doubt::Lost)
    }

    /// Notes that io_destroy ended a context.
    pub fn destroyed(&mut self, handle: Handle, time: u64) {
        if self.destroyed.len() >= MOST_DESTROYED {
            self.destroyed.clear();
        }
        self.destroyed.insert(handle, time);
    }

    /// Its ring was moved.
    pub fn moved(&mut self, from: Handle, to: Handle) {
        if self.moved.len() >= MOST_MOVED {
            self.moved.clear();
        }
        self.moved.insert(from, to);
    }

    /// Where the ring was moved that had this handle.
    pub fn moved_to(&self, handle: Handle) -> Option<Handle> {
        self.moved.get(&handle).copied()
    }

    /// The handle is another context's. When it was destroyed.
    pub fn given_again(&mut self, handle: Handle) -> Option<u64> {
        self.moved.remove(&handle);
        self.destroyed.remove(&handle)
    }

    /// When this handle was destroyed.
    pub fn when_destroyed(&self, handle: Handle) -> Option<u64> {
        self.destroyed.get(&handle).copied()
    }

    /// Adds a short submit. `watches`: synchronous calls are watched. Returns those that are not followed any longer, because there are too many.
    #[must_use]
    pub fn short(
        &mut self,
        time: u64,
        (pid, tid): (u32, u32),
        context: ContextRef,
        (given, accepted): (u64, u64),
        rest: impl Iterator<Item = Request>,
        watches: bool,
    ) -> Vec<Short> {
        let mut rest = rest.map(|it| Some(Owed::new(it)));
        let kept: Vec<Option<Owed>> = rest.by_ref().take(MOST_OWED).collect();
        let (rest, is_cut) = (kept, rest.next().is_some());
        if rest.is_empty() {
            // None of the requests could be read, so nothing can be said about them.
            return Vec::new();
        }
        let mut places: Map<Place, Vec<usize>> = Map::default();
        // Of equal requests, the first is at the end of the list, where it is taken first.
        for (index, owed) in rest.iter().enumerate().rev() {
            if let Some(place) = owed.as_ref().and_then(|it| Place::of(&it.request)) {
                places.entry(place).or_default().push(index);
            }
        }
        let mut ranges = Ranges::default();
        for (index, owed) in rest.iter().enumerate() {
            if let Some((_, range)) = owed.as_ref().and_then(Owed::span) {
                ranges.insert(range, index);
            }
        }
        let left = rest.len();
        let all = rest.iter().flatten().map(|it| &it.request);
        let unseen = if watches { Unseen::new(time, all) } else { Unseen::default() };
        // The oldest short submits are given up.
        let mut sum = left;
        let has_room = |it: &&Short| {
            sum += it.rest.len();
            sum <= MOST_OWED_IN_ALL
        };
        let room = self.short.iter().take_while(has_room).count();
        let given_up = self.short.split_off(room.min(MOST_SHORT - 1));
        self.short.push_front(Short {
            time,
            tid,
            pid,
            context,
            given,
            accepted,
            watched: None,
            is_orphan: false,
            unread: false,
            is_cut,
            rest,
            left,
            unseen,
            places,
            ranges,
        });
        given_up.into()
    }

    /// Takes requests that were submitted to a context, of which `accepted` were accepted: they may
    /// be the rest of a short submit. `unread`: some could not be read.
    pub fn submitted(
        &mut self,
        context: ContextId,
        requests: &[Request],
        accepted: usize,
        unread: bool,
    ) {
        if self.short.is_empty() {
            return;
        }
        for request in requests {
            for short in &mut self.short {
                short.submitted(context, request, request.index < accepted);
            }
        }
        self.short.iter_mut().for_each(|it| it.unread |= unread);
        self.short.retain(|it| it.left() > 0);
    }

    /// Takes a completion of a request that may have done the rest of a short submit.
    pub fn completed(&mut self, request: &Request, res: i64) {
        if !is_vague(request) || self.short.is_empty() {
            return;
        }
        let before = self.short.iter_mut().filter(|it| it.time <= request.entered);
        before.for_each(|it| it.completed(request, res));
        self.short.retain(|it| it.left() > 0);
    }

    /// By what else the file of a descriptor may be read or written was looked up; the look began then.
    pub fn has_ways(&mut self, fd: u32, time: u64, ways: Ways) {
        let ways = Ways { below: ways.below || self.has_untraced, ..ways };
        self.short.iter_mut().for_each(|it| it.unseen.looked(fd, time, ways));
    }

    /// Takes a synchronous call that may have done the rest of a short submit; `child`: a child made it that was made
    /// at this time.
    pub fn synchronous(&mut self, call: &Synchronous, time: u64, child: Option<u64>) {
        if child.is_none() {
            self.short.iter_mut().for_each(|it| it.unseen.gave_up(call, time));
        }
        let is_meant =
            |it: &&mut Short| it.watched.is_none() && child.is_none_or(|since| it.time <= since);
        self.short.iter_mut().filter(is_meant).for_each(|it| it.synchronous(call, child.is_some()));
        self.short.retain(|it| it.left() > 0);
    }

    /// Another process has made a synchronous call; `child`: it is a child, made at this time, which has the same files if
    /// that was after the short submit.
    pub fn done_elsewhere(&mut self, call: &Synchronous, child: Option<u64>) {
        for short in self.short.iter_mut().filter(|it| child.is_none_or(|since| it.time > since)) {
            short.rest.iter_mut().flatten().for_each(|it| it.done_elsewhere(call));
        }
    }

    /// A child that was made at this time has the same files, and is not watched, or goes on.
    pub fn forked(&mut self, since: u64) {
        for short in self.short.iter_mut().filter(|it| it.time <= since) {
            short.rest.iter_mut().flatten().for_each(Owed::forked);
        }
    }

    /// The descriptors of the newest short submit that are to be looked at.
    pub fn unseen_fds(&self) -> Vec<u32> {
        self.short.front().map_or_else(Vec::new, |it| it.unseen.fds().to_vec())
    }

    /// Notes that a context has ended.
    pub fn context_ended(&mut self, context: ContextId) {
        let of_it = self.short.iter_mut().filter(|it| it.context.id == context);
        of_it.for_each(|it| it.is_orphan = true);
    }

    /// Notes a call of the process: if it comes long enough after a short submit, no synchronous call will do the
    /// rest any more.
    pub fn active(&mut self, time: u64, patience: u64) {
        for short in &mut self.short {
            if time >= short.time.saturating_add(patience) {
                short.watched.get_or_insert(time);
            }
        }
    }

    /// Whether a synchronous call may still do the rest of a short submit.
    pub fn needs_synchronous(&self) -> bool {
        self.ended.is_none() && self.short.iter().any(|it| it.watched.is_none())
    }

    /// Notes an io_cancel that worked.
    pub fn cancelled(&mut self, cancelled: Cancelled) {
        self.cancelled.truncate(MOST_CANCELLED - 1);
        self.cancelled.push_front(cancelled);
    }

    /// Whether a request that completed was cancelled. (Its iocb may be used again.)
    pub fn take_cancelled(&mut self, context: ContextId, request: &Request) -> bool {
        let is_its = |it: &Cancelled| {
            it.context == context && it.iocb == request.iocb && it.time > request.entered
        };
        let place = self.cancelled.iter().position(is_its);
        place.and_then(|place| self.cancelled.remove(place)).is_some()
    }

    /// Whether the rest of a short submit is still to be done.
    pub fn has_short(&self) -> bool {
        !self.short.is_empty()
    }

    /// Takes out the short submits whose rest will not be submitted again.
    pub fn dropped(&mut self, is_meant: impl Fn(&Short) -> bool) -> Vec<Short> {
        let (meant, other): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.short).into_iter().partition(|it| is_meant(it));
        self.short = other;
        meant.into()
    }
}
