//! A short submit: what it left, and what became of that.

use aiotrace_common::synchronous::Does;

use super::{ContextId, ContextRef};
use crate::{
    event::Synchronous,
    model::{
        Doubt, Map,
        finding::Subject,
        owed::{Done, Owed, Place, does, reach},
        ranges::Ranges,
        requests::Request,
        unseen::Unseen,
    },
};

/// Most requests kept of one short submit.
pub(super) const MOST_OWED: usize = 1024;

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
    pub(super) is_orphan: bool,
    /// A request was submitted that could not be read: it may have been the rest.
    pub(super) unread: bool,
    /// There were more requests than are kept.
    is_cut: bool,
    /// The requests that were not accepted; `None`: submitted again, or done in another way.
    pub(super) rest: Vec<Option<Owed>>,
    /// How many requests are left.
    left: usize,
    /// What may do them without being seen.
    pub(super) unseen: Unseen,
    /// The indices of requests by what they do. Some of them may be done by now.
    places: Map<Place, Vec<usize>>,
    /// The indices of requests by the range that they read or write. Some of them may be done by now.
    ranges: Ranges<usize>,
}

impl Short {
    /// A call at a time, by a process and a thread, on a context, that was given so many requests and accepted so many;
    /// `rest`: those that it did not accept and that could be read. `None`: there are none. `watches`: synchronous calls are
    /// watched.
    pub(super) fn new(
        (time, (pid, tid), context, (given, accepted)): (u64, (u32, u32), ContextRef, (u64, u64)),
        rest: impl Iterator<Item = Request>,
        watches: bool,
    ) -> Option<Self> {
        let mut rest = rest.map(|it| Some(Owed::new(it)));
        let kept: Vec<Option<Owed>> = rest.by_ref().take(MOST_OWED).collect();
        let (rest, is_cut) = (kept, rest.next().is_some());
        if rest.is_empty() {
            return None;
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
        Some(Self {
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
        })
    }

    /// How many requests are kept, those that were done included.
    pub(super) fn kept(&self) -> usize {
        self.rest.len()
    }

    /// How many requests are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Takes a request that may be one of the rest. `is_accepted`: io_submit accepted it.
    pub(super) fn submitted(&mut self, context: ContextId, request: &Request, is_accepted: bool) {
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
        if is_accepted && does(request) == Some(Does::Sync) {
            self.rest.iter_mut().flatten().for_each(|it| it.synced_through(request.fd));
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
    pub(super) fn completed(&mut self, request: &Request, res: i64) {
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

    pub(super) fn synchronous(&mut self, call: &Synchronous, is_of_child: bool) {
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
