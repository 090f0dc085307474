//! The requests of one context: which are in flight, which completion belongs to which request, and which completions
//! were reaped.

use std::collections::VecDeque;

use aiotrace_common::abi;

pub use super::request::{Completed, Match, Request, Unreaped};
use super::{Map, early::Early, sums::Sums};
use crate::{
    any_order::AnyOrder as _,
    event::{IoEvent, Ring},
};

/// Most unreaped completions whose time is kept. (A program can write anything into its ring.)
const MOST_UNREAPED: usize = 65_536;
/// Most requests in flight that are compared with the content of an iocb.
pub const MOST_COMPARED: usize = 256;

/// All requests of a context.
#[derive(Debug, Default)]
pub struct Requests {
    /// Requests in flight by the address of the iocb; those of one address in the order of submission.
    in_flight: Map<u64, VecDeque<Request>>,
    count: u64,
    /// How many requests were accepted whose iocbs are unknown.
    unnamed: u64,
    /// Completions that came before their io_submit returned, or whose requests were submitted before the attach.
    early: Early,
    /// Number of completions so far; 0 is the position of the tail when the context became known.
    completed: i64,
    /// How many of these completions were reaped.
    reaped: i64,
    /// The value of `reaped` when the context became known.
    reaped_first: i64,
    /// How many more completions the ring shows than events came.
    unseen: i64,
    /// How many more completions the source reports that could not be read yet.
    behind: i64,
    /// When completions with no known earliest time were read last: at that moment all that the ring had was read.
    read_at_once: u64,
    /// How many requests completed whose entries could not be read: so many of those in flight are not.
    unread: u64,
    /// How many requests completed with a result that nobody will ever know.
    unknown: u64,
    /// Events that io_getevents gave to the program before the completions came, in that order.
    given: VecDeque<IoEvent>,
    /// The position of the tail when the context became known.
    base: u32,
    unreaped: VecDeque<Unreaped>,
    /// Number of requests accepted so far.
    accepted: u64,
    /// Number of completions in the ring when the context became known.
    found: u64,
    /// Number of completions taken out of `unreaped`.
    taken: u64,
    /// Number of completions that were not put into `unreaped`, because it was full.
    untimed: u64,
}

impl Requests {
    /// The requests of a context that is older than the trace: the completions in its ring were not seen.
    pub fn adopted(ring: Option<Ring>, time: u64) -> Self {
        let mut requests = Self::default();
        if let Some(ring) = ring {
            requests.base = ring.tail;
            requests.reaped = -i64::from(ring.unreaped());
            requests.reaped_first = requests.reaped;
            requests.found = ring.unreaped().into();
            requests.untimed = requests.found.saturating_sub(MOST_UNREAPED as u64);
            let places = requests.reaped..0;
            let places = places.take(MOST_UNREAPED);
            requests.unreaped.extend(places.map(|place| Unreaped { place, time, after: 0 }));
        }
        requests
    }

    /// Requests in flight. Those that completed unseen are not counted, whichever they are.
    pub fn in_flight(&self) -> u64 {
        (self.count + self.unnamed).saturating_sub(self.hidden())
    }

    /// Requests that completed with an unknown result, which may become known later, or never.
    pub fn unknown(&self) -> u64 {
        self.unknown + self.hidden()
    }

    /// Requests that completed whose entries could not be read, so that nobody knows which they are.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Whether entries could not be read, now or earlier: another request with the same iocb may have been taken for
    /// theirs since.
    pub fn had_unread(&self) -> bool {
        self.unread > 0 || self.unknown > 0
    }

    /// Completions that only the ring shows.
    pub fn unseen(&self) -> u64 {
        (self.unseen.max(0) as u64).saturating_sub(self.given.len() as u64)
    }

    /// Requests that completed, of which nobody knows which they are.
    pub fn hidden(&self) -> u64 {
        self.unread + self.unseen()
    }

    /// Requests in flight that are known one by one.
    pub fn followed(&self) -> u64 {
        self.count
    }

    /// Completions that are not known to be reaped.
    pub fn unreaped(&self) -> u64 {
        (self.completed - self.reaped).max(0) as u64
    }

    /// The number of completions so far.
    pub fn completed(&self) -> u64 {
        self.completed.max(0) as u64
    }

    /// Requests accepted since the context became known.
    pub fn accepted_so_far(&self) -> u64 {
        self.accepted
    }

    /// Completions reaped since the context became known, in whatever way.
    pub fn reaped(&self) -> u64 {
        (self.reaped - self.reaped_first).max(0) as u64
    }

    /// All requests in flight that are known one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.in_flight.in_any_order().flat_map(|it| it.1)
    }

    /// The request in flight that a completion with this event would belong to.
    pub fn of_event(&self, event: &IoEvent) -> Option<&Request> {
        let queue = self.in_flight.get(&event.obj)?;
        queue.get(place_of(queue, event.data, u64::MAX)?)
    }

    /// The oldest request in flight with this iocb and this data; the oldest with this iocb if none has the data.
    pub fn of_iocb(&self, iocb: u64, data: Option<u64>) -> Option<&Request> {
        let queue = self.in_flight.get(&iocb)?;
        queue.iter().find(|it| it.data == data).or_else(|| queue.front())
    }

    /// A request in flight that was submitted with this content, whatever its address was. If there are many
    /// requests, not all are compared: the program may ask often.
    pub fn same(&self, content: Option<&abi::Iocb>) -> Option<&Request> {
        let content = content?;
        self.iter().take(MOST_COMPARED).find(|it| it.has(content))
    }

    /// The completion that has waited longest to be reaped.
    pub fn oldest_unreaped(&self) -> Option<&Unreaped> {
        self.unreaped.front()
    }

    /// Whether everything fits together: all completions came as events, and each has its request.
    pub fn adds_up(&self) -> bool {
        self.unseen == 0 && self.unread == 0 && self.early.len() == 0
    }

    /// io_submit accepted this request. Returns its completion, if that has come already.
    pub fn accepted(&mut self, request: Request) -> Option<Match> {
        self.accepted += 1;
        if let Some(completed) = self.early.take((request.iocb, request.data), request.entered) {
            if request.entered == 0 {
                // The completion may belong to the request before it, which began before the trace, too.
                return None;
            }
            return Some(Match { request, completed, again: None });
        }
        let queue = self.in_flight.entry(request.iocb).or_default();
        // The program uses the iocb again, so its earlier request is among those that completed.
        let is_its = |it: &mut Request| it.call != request.call && it.is_like(&request);
        if self.unread > 0 && queue.pop_front_if(is_its).is_some() {
            (self.unread, self.unknown, self.count) =
                (self.unread - 1, self.unknown + 1, self.count - 1);
        }
        self.count += 1;
        queue.push_back(request);
        None
    }

    /// io_submit accepted requests that are not known one by one.
    pub fn accepted_unnamed(&mut self, count: u64, entered: u64) {
        self.accepted += count;
        self.unnamed += count - self.early.take_any(count, entered);
    }

    /// Takes a completion and returns its request; `None` if nobody knows which it is.
    pub fn complete(&mut self, mut completed: Completed) -> Option<Match> {
        completed.is_late = self.completed < self.reaped;
        self.completed_at(completed.after, completed.time);
        if let Some(place) = self.given.iter().position(|it| *it == completed.event) {
            self.given.remove(place);
            return None;
        }
        if let Some(found) = self.take(&completed) {
            return Some(found);
        }
        if self.unnamed > 0 {
            self.unnamed -= 1;
            return None;
        }
        self.early.push(self.completed - 1, completed);
        None
    }

    /// Takes a completion whose entry could not be read.
    pub fn complete_unread(&mut self, after: u64, time: u64) {
        self.completed_at(after, time);
        // The oldest entry is overwritten first.
        self.unread += u64::from(self.given.pop_front().is_none());
    }

    /// io_getevents gave this event to the program. If its completion has not come, returns the request that it
    /// belongs to.
    pub fn given(&mut self, event: IoEvent, time: u64) -> Option<Match> {
        if self.hidden() == 0 {
            return None;
        }
        let found = self.take(&Completed { event, after: 0, time, until: time, is_late: false })?;
        if self.unread > 0 {
            self.unread -= 1;
        } else {
            self.given.push_back(event);
        }
        Some(found)
    }

    fn completed_at(&mut self, after: u64, time: u64) {
        if self.unreaped.len() < MOST_UNREAPED {
            self.unreaped.push_back(Unreaped { place: self.completed, time, after });
        } else {
            self.untimed += 1;
        }
        self.completed += 1;
        if after == 0 {
            self.read_at_once = self.read_at_once.max(time);
        }
        self.unseen = (self.unseen - 1).max(0);
        self.behind = (self.behind - 1).max(0);
    }

    fn take(&mut self, completed: &Completed) -> Option<Match> {
        let queue = self.in_flight.get_mut(&completed.event.obj)?;
        let place = place_of(queue, completed.event.data, completed.until)?;
        let request = queue.remove(place)?;
        self.count -= 1;
        // The oldest of several equal requests was taken.
        let again = queue.range(place..).find(|it| it.is_like(&request));
        let again = again.filter(|it| it.call != request.call).map(|it| it.entered);
        if queue.is_empty() {
            self.in_flight.remove(&completed.event.obj);
        }
        Some(Match { request, completed: *completed, again })
    }

    /// So many requests have completed whose entries could not be read yet: they are in the ring.
    pub fn behind(&mut self, completions: u32) {
        self.behind = completions.into();
    }

    /// io_getevents returned `count` events, and the ring was not read.
    pub fn reap(&mut self, count: u64, time: u64, each: impl FnMut(&Unreaped, u64)) {
        let count = i64::try_from(count).unwrap_or(0);
        self.reap_up_to(self.reaped + count, time, each);
    }

    /// Takes the ring as it was when an io_submit was entered.
    pub fn look_before(&mut self, ring: Ring, entered: u64) {
        if ring.tail < ring.nr && self.early.len() > 0 {
            self.early.completed_by(self.completed + self.ahead(ring, entered), entered);
        }
    }

    /// By how much the tail is ahead of the completions that have come. The tail is a position in a ring, so the
    /// nearest one is meant; it is behind if a request completed since the look.
    fn ahead(&self, ring: Ring, time: u64) -> i64 {
        let nr = i64::from(ring.nr);
        let counted = (i64::from(self.base) + self.completed).rem_euclid(nr);
        let ahead = (i64::from(ring.tail) - counted).rem_euclid(nr);
        let is_behind = ahead > nr / 2 || (ahead > 0 && time < self.read_at_once);
        if is_behind { ahead - nr } else { ahead }
    }

    /// How many of these completions, from the first one on, belong to requests in flight, by their iocbs and data.
    pub fn of_in_flight<'a>(&self, completions: impl Iterator<Item = &'a IoEvent>) -> usize {
        let mut seen: Map<(u64, u64), usize> = Map::default();
        let is_ours = |it: &&IoEvent| {
            let count = seen.entry((it.obj, it.data)).or_default();
            *count += 1;
            let all = self.in_flight.get(&it.obj).into_iter().flatten();
            *count <= all.filter(|request| request.may_be(it.data)).count()
        };
        completions.take_while(is_ours).count()
    }

    /// The ring as it would be without the completions that have not come as events.
    pub fn as_told(&self, ring: Ring, time: u64) -> Ring {
        if ring.nr == 0 || ring.head >= ring.nr || ring.tail >= ring.nr {
            return ring;
        }
        let untold = self.ahead(ring, time).max(0) as u32;
        let told = ring.without(untold);
        let head = if untold <= ring.unreaped() { ring.head } else { told.tail };
        Ring { head, ..told }
    }

    /// Takes a look at the ring: its head shows how much was reaped.
    pub fn look(&mut self, ring: Ring, time: u64, each: impl FnMut(&Unreaped, u64)) {
        if ring.nr == 0 || ring.head >= ring.nr || ring.tail >= ring.nr {
            return;
        }
        if self.behind > 0 {
            self.unseen = self.behind;
            self.forget_given();
            // (The number of completions that were read late is not of the moment of this look, so it says nothing
            // about when they came.)
            let place = self.completed + self.behind - i64::from(ring.unreaped());
            return self.reap_up_to(place, time, each);
        }
        let ahead = self.ahead(ring, time);
        self.unseen = ahead.max(0);
        self.forget_given();
        self.early.completed_by(self.completed + ahead, time);
        self.reap_up_to(self.completed + ahead - i64::from(ring.unreaped()), time, each);
    }

    /// Drops events of io_getevents whose completions cannot come any more.
    fn forget_given(&mut self) {
        let surplus = self.given.len().saturating_sub(self.unseen.max(0) as usize);
        self.given.drain(..surplus);
    }

    fn reap_up_to(&mut self, place: i64, time: u64, mut each: impl FnMut(&Unreaped, u64)) {
        self.reaped = self.reaped.max(place);
        while let Some(first) = self.unreaped.pop_front_if(|it| it.place < self.reaped) {
            self.taken += 1;
            each(&first, time);
        }
    }

    /// What became of all requests, if the context has not ended.
    pub fn sums(&self) -> Sums {
        let unseen = self.unseen.max(0);
        let known = self.completed.max(0) as u64 + self.given.len() as u64;
        let beyond = (self.reaped - self.completed).clamp(0, unseen) as u64;
        let is_left = |it: &&Unreaped| it.place >= self.reaped;
        let left = self.unreaped.iter().filter(is_left).count() as u64;
        let late = self.unreaped.len() as u64 - left;
        let (reaped, left) = match self.untimed {
            0 => (self.taken + late, left),
            _ => {
                let all = self.completed.max(0) as u64 + self.found;
                (all.saturating_sub(self.unreaped()), self.unreaped())
            }
        };
        let nameless = self.hidden().saturating_sub(self.count + self.unnamed);
        Sums {
            accepted: self.accepted,
            before: self.early.len() + nameless,
            completed: known.saturating_sub(self.unread + self.unknown),
            unknown: self.unknown(),
            in_flight: self.in_flight(),
            found: self.found,
            reaped: reaped + beyond,
            unreaped: left + (unseen as u64 - beyond),
            ..Sums::default()
        }
    }
}

/// The index of the request with one iocb that completed with this data at this time: the oldest that has the data,
/// otherwise the oldest whose data is unknown. If all have other data, the completion belongs to another request,
/// whose io_submit has not returned.
fn place_of(queue: &VecDeque<Request>, data: u64, time: u64) -> Option<usize> {
    let mut unknown = None;
    for (place, it) in queue.iter().enumerate().take_while(|(_, it)| it.entered < time) {
        match it.data {
            Some(own) if own == data => return Some(place),
            Some(_) => (),
            None => unknown = unknown.or(Some(place)),
        }
    }
    unknown
}

#[cfg(test)]
mod tests;
