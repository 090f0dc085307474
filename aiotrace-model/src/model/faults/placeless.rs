//! Descriptors for which the place of a write says nothing: of pipes and sockets, and those with O_APPEND, where a write goes to
//! the end of the file, whatever its offset is. A look shows which they are, until fcntl(2) sets O_APPEND.

use super::{
    Faults,
    sharers::{move_space, note, of_space, without},
    watched::Watched,
};
use crate::{
    any_order::AnyOrder as _,
    event::{SpaceId, Synchronous},
    model::{Doubt, Map, requests::Request},
};

/// What is known of descriptors, by address space.
#[derive(Debug, Default)]
pub struct Placeless {
    /// Why the places of writes say nothing, if they do not, as it was looked up last.
    known: Map<(SpaceId, u32), Option<Doubt>>,
    /// When O_APPEND was set last: on one of the descriptors, or on a copy of one.
    set: Map<SpaceId, u64>,
}

/// A descriptor of a fault for which the place of a write says nothing, as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace {
    fd: u32,
    why: Doubt,
    /// A look that began then has shown that it is not so; of another file, if the descriptor was given up before.
    shown: Option<u64>,
}

impl Placeless {
    /// A look at a descriptor that began then has shown why the places of writes to it say nothing, if they do not. Returns
    /// whether that still holds.
    fn looked(&mut self, (space, fd): (SpaceId, u32), began: u64, why: Option<Doubt>) -> bool {
        let holds = why.is_some() || self.set.get(&space).is_none_or(|set| *set < began);
        if holds {
            note(&mut self.known, (space, fd), why);
        }
        holds
    }

    /// O_APPEND was set then: what was looked up before may not hold any more.
    fn appends(&mut self, space: SpaceId, time: u64) {
        self.known.retain_in_any_order(|(of, _), why| *of != space || why.is_some());
        let set = self.set.entry(space).or_default();
        *set = time.max(*set);
    }

    /// Whether O_APPEND was set, perhaps on this descriptor, and nobody has looked since.
    pub(super) fn is_stale(&self, space: SpaceId, fd: u32) -> bool {
        self.set.contains_key(&space) && !self.known.contains_key(&(space, fd))
    }

    /// The descriptors among these for which places say nothing, or may say nothing, and why.
    pub(super) fn of(&self, space: SpaceId, fds: &[u32]) -> Vec<NoPlace> {
        let why = |fd: u32| match self.known.get(&(space, fd)) {
            Some(why) => *why,
            None => self.is_stale(space, fd).then_some(Doubt::Append),
        };
        fds.iter().filter_map(|fd| Some(NoPlace { fd: *fd, why: why(*fd)?, shown: None })).collect()
    }

    /// A call gives up descriptors: their numbers may be of other files.
    pub(super) fn gave_up(&mut self, space: SpaceId, call: &Synchronous) {
        without(&mut self.known, space, call);
    }

    /// An address space that stood for a process has become known.
    pub(super) fn moved(&mut self, from: SpaceId, to: SpaceId) {
        move_space(&mut self.known, from, to);
        if let Some(time) = self.set.remove(&from) {
            self.set.insert(to, time);
        }
    }

    /// The address space is gone.
    pub(super) fn ended(&mut self, space: SpaceId) {
        of_space(&mut self.known, space);
        self.set.remove(&space);
    }
}

impl Watched {
    /// Why the places of writes say nothing, of each descriptor for which that is so.
    pub(super) fn why_placeless(&self) -> impl Iterator<Item = Doubt> {
        let is_so = |it: &&NoPlace| it.shown.is_none_or(|at| self.unseen.is_closed(it.fd, at));
        self.placeless.iter().filter(is_so).map(|it| it.why)
    }

    /// O_APPEND was set then: a write that was submitted before may have had a place, and what comes after it has none.
    fn appends(&mut self, set: u64) {
        let is_before = |it: &Request| it.is_write() && it.entered <= set;
        if self.kind.owed().any(|it| is_before(&it.1.request)) {
            self.again.get_or_insert(Doubt::Append);
        }
    }
}

impl Faults {
    /// What a descriptor leads to was looked up, from this time on: why the places of writes to it say nothing, if they do not.
    pub fn placeless(&mut self, (space, fd): (SpaceId, u32), began: u64, why: Option<Doubt>) {
        if !self.placeless.looked((space, fd), began, why) {
            return;
        }
        let is_meant = |it: &&mut Watched| it.space == space && it.written.contains(&fd);
        let is_its = |it: &&mut Watched| is_meant(it) && !it.unseen.is_closed(fd, began);
        for it in self.watched.values_mut().filter(is_its) {
            match why {
                Some(why) => {
                    it.placeless.retain(|of| of.fd != fd);
                    it.placeless.push(NoPlace { fd, why, shown: None });
                }
                None => {
                    let of_it = it.placeless.iter_mut().filter(|it| it.fd == fd);
                    of_it.for_each(|it| it.shown = it.shown.or(Some(began)));
                }
            }
        }
    }

    /// O_APPEND was set on a descriptor. Also on another one than that of a request: that may be a copy, whose flags are the
    /// same.
    pub(super) fn appends(&mut self, space: SpaceId, time: u64) {
        self.placeless.appends(space, time);
        let of_it = self.watched.values_mut().filter(|it| it.space == space);
        for it in of_it.filter(|it| !it.written.is_empty()) {
            it.again.get_or_insert(Doubt::Append);
        }
    }

    /// It has become known which requests this fault is about: perhaps O_APPEND was set since they were submitted.
    pub(super) fn was_set_since(&mut self, number: u64) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let set = self.placeless.set.get(&watched.space);
        set.into_iter().for_each(|set| watched.appends(*set));
    }
}
