//! What is known of a process, or rather of its address space: forked children have their own, children
//! of vfork share it.

use std::collections::{BTreeSet, VecDeque};

use super::{
    Doubt, Map,
    appends::Appends,
    finding::{ContextRef, Subject},
    findings::reads_past_end::Rows,
    inline::Files,
    owed::{Done, Owed, Place, does, is_vectored, reach},
    polls::Polls,
    ranges::Ranges,
    requests::Request,
};
use crate::event::Synchronous;

/// Handles that were destroyed, remembered for each address space.
const MOST_DESTROYED: usize = 4096;
/// Handles whose rings were moved, likewise.
const MOST_MOVED: usize = 1024;
/// Short submits that wait for their rest.
const MOST_SHORT: usize = 64;
/// The requests of one that are kept.
const MOST_OWED: usize = 1024;
/// And those of an address space.
const MOST_OWED_IN_ALL: usize = 4 * MOST_OWED;
/// Places remembered whose contexts end.
const MOST_PLACES: usize = 1024;
/// Iocbs remembered that were asked to be cancelled.
const MOST_CANCELLED: usize = 256;

/// An address space, and who uses it.
#[derive(Debug, Default)]
pub struct Space {
    /// Its processes.
    pub users: Vec<u32>,
    /// It made calls of 32 bits, whose iovecs are others.
    pub is_compat: bool,
    /// Something of it was lost.
    pub lost: bool,
    /// It was seen from its beginning on: all its contexts were.
    pub is_whole: bool,
    /// A process that is not traced was made, and shares it: it may live longer than those that are known.
    pub is_shared: bool,
    /// When a handle was used that nobody was seen to make: a ring of it was moved, perhaps, and it is not known which.
    pub strayed: Option<u64>,
    /// When it was destroyed, by handle.
    destroyed: Map<u64, u64>,
    /// Where its ring was moved, by handle.
    moved: Map<u64, u64>,
    /// Short submits whose rest was not submitted again.
    short: VecDeque<Short>,
    /// How its requests complete.
    pub files: Files,
    /// Descriptors with polls that pend.
    pub polls: Polls,
    /// Its writes to the end of files.
    pub appends: Appends,
    /// Its reads that gave nothing.
    pub rows: Rows,
    /// What it asked to cancel.
    cancelled: VecDeque<Cancelled>,
    /// Contexts that ended with it, until that is told.
    pub released: Option<Released>,
    /// Where contexts of it were made that ended.
    pub ended_at: Places,
    /// When its last process left it.
    pub ended: Option<u64>,
    /// The name that this had then.
    pub name: Option<Vec<u8>>,
}

/// An iocb that io_cancel was called with, and it worked.
#[derive(Clone, Copy, Debug)]
pub struct Cancelled {
    /// The context, by its number: each has requests of its own at an address.
    pub context: u64,
    /// Its address.
    pub iocb: u64,
    /// When the call returned.
    pub time: u64,
}

/// Places whose contexts end, each by the innermost frames of its stack.
#[derive(Debug, Default)]
pub struct Places(BTreeSet<u64>);

impl Places {
    /// A context has ended that was made there.
    pub fn insert(&mut self, innermost: u64) {
        if self.0.len() < MOST_PLACES {
            self.0.insert(innermost);
        }
    }

    /// Whether one has, or may have: there were too many to remember.
    pub fn may_have(&self, innermost: u64) -> bool {
        self.0.len() >= MOST_PLACES || self.0.contains(&innermost)
    }
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
    /// How many.
    pub contexts: u64,
    /// What they took from fs.aio-nr, if it is known of each.
    pub charge: Option<u64>,
    /// It ran another program.
    pub by_exec: bool,
    /// Why they may not have ended.
    pub doubt: Option<Doubt>,
}

/// The rest of a short submit.
#[derive(Debug)]
pub struct Short {
    /// When the call returned.
    pub time: u64,
    /// Thread.
    pub tid: u32,
    /// Process.
    pub pid: u32,
    /// Context.
    pub context: ContextRef,
    /// How many were given and accepted.
    pub given: u64,
    /// Accepted.
    pub accepted: u64,
    /// Up to then synchronous calls were watched: the process made calls for long without doing the rest.
    pub watched: Option<u64>,
    /// Its context has ended: then another one may take the rest.
    is_orphan: bool,
    /// Something was submitted that could not be read: it may have been the rest.
    unread: bool,
    /// There were more than are kept.
    is_cut: bool,
    /// Those not submitted again, and not done otherwise.
    rest: Vec<Option<Owed>>,
    /// How many those are.
    left: usize,
    /// Which of them do this. Some may be done by now.
    places: Map<Place, Vec<usize>>,
    /// Which of them read or write this. Some may be done by now.
    ranges: Ranges<usize>,
}

impl Short {
    /// How many are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Maybe one of those. `is_accepted`: the kernel took it.
    fn submitted(&mut self, context: u64, request: &Request, is_accepted: bool) {
        let is_other = context != self.context.id && !self.is_orphan;
        let place = Place::of(request);
        let mut same = place.and_then(|it| self.places.get_mut(&it));
        if is_other && let Some(same) = &same {
            let all = same.iter().filter_map(|it| Some((*it, self.rest.get(*it)?.as_ref()?)));
            // Of equal ones each time another one.
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

    /// One that was submitted later has completed.
    fn completed(&mut self, request: &Request, res: i64) {
        self.covered(request, |owed| owed.completed(request, res).unwrap_or(Done::Not));
    }

    /// What another request makes of those that it may overlap.
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

    /// What was dropped: how many, the first, and why that is not certain, if it is not. Where some are in doubt, the
    /// others are told.
    pub fn dropped(&self) -> (usize, Option<Subject>, Option<Doubt>) {
        let is_certain = !self.unread && !self.is_cut;
        let certain = || self.rest.iter().flatten().filter(|it| it.why().is_none() && is_certain);
        let first = |mut all: Box<dyn Iterator<Item = &Owed> + '_>| all.find_map(Owed::subject);
        match certain().count() {
            0 => {
                let all = || self.rest.iter().flatten();
                let unread = self.unread.then_some(Doubt::Unread);
                let doubt = unread
                    .or(self.is_cut.then_some(Doubt::TooMany))
                    .or_else(|| all().find_map(Owed::why));
                (self.left, first(Box::new(all())), doubt)
            }
            count => (count, first(Box::new(certain())), None),
        }
    }
}

impl Space {
    /// What makes everything of it unsure.
    pub fn doubt(&self) -> Option<Doubt> {
        self.lost.then_some(Doubt::Lost)
    }

    /// io_destroy ended it.
    pub fn destroyed(&mut self, handle: u64, time: u64) {
        if self.destroyed.len() >= MOST_DESTROYED {
            self.destroyed.clear();
        }
        self.destroyed.insert(handle, time);
    }

    /// Its ring was moved.
    pub fn moved(&mut self, from: u64, to: u64) {
        if self.moved.len() >= MOST_MOVED {
            self.moved.clear();
        }
        self.moved.insert(from, to);
    }

    /// Where the ring was moved that had this handle.
    pub fn moved_to(&self, handle: u64) -> Option<u64> {
        self.moved.get(&handle).copied()
    }

    /// The handle is another context's. When it was destroyed.
    pub fn given_again(&mut self, handle: u64) -> Option<u64> {
        self.moved.remove(&handle);
        self.destroyed.remove(&handle)
    }

    /// When that handle was destroyed.
    pub fn when_destroyed(&self, handle: u64) -> Option<u64> {
        self.destroyed.get(&handle).copied()
    }

    /// io_submit accepted fewer than it was given. Gives those that are not followed any longer, as there are too many.
    #[must_use]
    pub fn short(
        &mut self,
        time: u64,
        (pid, tid): (u32, u32),
        context: ContextRef,
        (given, accepted): (u64, u64),
        rest: impl Iterator<Item = Request>,
    ) -> Vec<Short> {
        let mut rest = rest.map(|it| Some(Owed::new(it)));
        let kept: Vec<Option<Owed>> = rest.by_ref().take(MOST_OWED).collect();
        let (rest, is_cut) = (kept, rest.next().is_some());
        if rest.is_empty() {
            // None of them could be read, so nothing can be told of them.
            return Vec::new();
        }
        let mut places: Map<Place, Vec<usize>> = Map::default();
        // The first of equal ones is the last in its list.
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
        // The oldest ones are given up.
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
            places,
            ranges,
        });
        given_up.into()
    }

    /// These were submitted to a context, by its number (some that could not be read: `unread`), and so many were accepted: what
    /// was left of a short submit is not dropped.
    pub fn submitted(&mut self, context: u64, requests: &[Request], accepted: usize, unread: bool) {
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

    /// A request has completed, which may have done what was left of a short submit.
    pub fn completed(&mut self, request: &Request, res: i64) {
        if !is_vectored(request) || self.short.is_empty() {
            return;
        }
        let before = self.short.iter_mut().filter(|it| it.time <= request.entered);
        before.for_each(|it| it.completed(request, res));
        self.short.retain(|it| it.left() > 0);
    }

    /// It made a synchronous call, which may have done what was left of a short submit; or a child that was made then did.
    pub fn synchronous(&mut self, call: &Synchronous, child: Option<u64>) {
        let is_meant =
            |it: &&mut Short| it.watched.is_none() && child.is_none_or(|since| it.time <= since);
        self.short.iter_mut().filter(is_meant).for_each(|it| it.synchronous(call, child.is_some()));
        self.short.retain(|it| it.left() > 0);
    }

    /// A child that was made at this time has the same files, and is not watched, or goes on.
    pub fn forked(&mut self, since: u64) {
        for short in self.short.iter_mut().filter(|it| it.time <= since) {
            short.rest.iter_mut().flatten().for_each(Owed::forked);
        }
    }

    /// A context has ended.
    pub fn context_ended(&mut self, context: u64) {
        let of_it = self.short.iter_mut().filter(|it| it.context.id == context);
        of_it.for_each(|it| it.is_orphan = true);
    }

    /// It made a call: so long after a short submit, its rest is not done by a synchronous call any more.
    pub fn active(&mut self, time: u64, patience: u64) {
        for short in &mut self.short {
            if time >= short.time.saturating_add(patience) {
                short.watched.get_or_insert(time);
            }
        }
    }

    /// Whether a synchronous call may do the rest of a short submit.
    pub fn needs_synchronous(&self) -> bool {
        self.ended.is_none() && self.short.iter().any(|it| it.watched.is_none())
    }

    /// io_cancel worked.
    pub fn cancelled(&mut self, cancelled: Cancelled) {
        self.cancelled.truncate(MOST_CANCELLED - 1);
        self.cancelled.push_front(cancelled);
    }

    /// A request completed: whether it was cancelled. (Its iocb may be used again.)
    pub fn take_cancelled(&mut self, context: u64, request: &Request) -> bool {
        let is_its = |it: &Cancelled| {
            it.context == context && it.iocb == request.iocb && it.time > request.entered
        };
        let place = self.cancelled.iter().position(is_its);
        place.and_then(|place| self.cancelled.remove(place)).is_some()
    }

    /// Whether the rest of a short submit was not submitted again yet.
    pub fn has_short(&self) -> bool {
        !self.short.is_empty()
    }

    /// Short submits whose rest will not be submitted again.
    pub fn dropped(&mut self, is_meant: impl Fn(&Short) -> bool) -> Vec<Short> {
        let (meant, other): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.short).into_iter().partition(|it| is_meant(it));
        self.short = other;
        meant.into()
    }
}
