//! The requests of one context: which are in flight, which completion belongs to which, and what was
//! reaped.

use std::collections::VecDeque;

use aiotrace_common::abi;

pub use super::request::{Completed, Match, Request, Unreaped};
use super::{Map, early::Early, sums::Sums};
use crate::{
    any_order::AnyOrder as _,
    event::{IoEvent, Ring},
};

/// Completions that wait to be reaped and whose time is known, at most. (A program can write anything
/// into its ring.)
const MOST_UNREAPED: usize = 65_536;
/// Requests in flight among which the content of an iocb is looked for, at most.
pub const MOST_COMPARED: usize = 256;

/// All requests of a context.
#[derive(Debug, Default)]
pub struct Requests {
    /// By iocb address; those of the same address in the order of submission.
    in_flight: Map<u64, VecDeque<Request>>,
    count: u64,
    /// Accepted, but it is not known which iocbs they were.
    unnamed: u64,
    /// Completed before their io_submit returned; or submitted before we were attached.
    early: Early,
    /// Completions so far; 0 is where the tail was when the context became known.
    completed: i64,
    /// How many of these were reaped.
    reaped: i64,
    /// The same, when the context became known.
    reaped_first: i64,
    /// The ring says so many more have completed than we saw.
    unseen: i64,
    /// The source says so many more have completed, and could not be read yet.
    behind: i64,
    /// Completions of which it is not known when they came were read then: with all that the ring had.
    read_at_once: u64,
    /// Completed, and their entries could not be read: of those in flight, so many are not.
    unread: u64,
    /// Completed, and nobody will know with what result.
    unknown: u64,
    /// What io_getevents gave to the program before we saw it complete, in that order.
    given: VecDeque<IoEvent>,
    /// Where the tail was when the context became known.
    base: u32,
    unreaped: VecDeque<Unreaped>,
    /// Accepted so far.
    accepted: u64,
    /// In the ring when the context became known.
    found: u64,
    /// Taken out of `unreaped`.
    taken: u64,
    /// Not put into it: it was full.
    untimed: u64,
}

impl Requests {
    /// Of a context that is older than the trace: what is in its ring was not seen to complete.
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

    /// In flight. What completed unseen is not, whichever that is.
    pub fn in_flight(&self) -> u64 {
        (self.count + self.unnamed).saturating_sub(self.hidden())
    }

    /// Completed, and it is not known with what result: not yet, or never.
    pub fn unknown(&self) -> u64 {
        self.unknown + self.hidden()
    }

    /// Completed, their entries could not be read, and it is not known whose they were.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// The entries of some could not be read, now or before: another request of the same iocb may have been taken for
    /// theirs since.
    pub fn had_unread(&self) -> bool {
        self.unread > 0 || self.unknown > 0
    }

    /// Completions of which the ring tells, and nobody else.
    pub fn unseen(&self) -> u64 {
        (self.unseen.max(0) as u64).saturating_sub(self.given.len() as u64)
    }

    /// Completed, and it is not known which ones.
    pub fn hidden(&self) -> u64 {
        self.unread + self.unseen()
    }

    /// In flight, and known one by one.
    pub fn followed(&self) -> u64 {
        self.count
    }

    /// Completed and not known to be reaped.
    pub fn unreaped(&self) -> u64 {
        (self.completed - self.reaped).max(0) as u64
    }

    /// Completed in all.
    pub fn completed(&self) -> u64 {
        self.completed.max(0) as u64
    }

    /// Accepted since the context is known.
    pub fn accepted_so_far(&self) -> u64 {
        self.accepted
    }

    /// Reaped since the context is known, by whatever way.
    pub fn reaped(&self) -> u64 {
        (self.reaped - self.reaped_first).max(0) as u64
    }

    /// All requests in flight that are known one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Request> {
        self.in_flight.in_any_order().flat_map(|it| it.1)
    }

    /// The request in flight that this completion would be of.
    pub fn of_event(&self, event: &IoEvent) -> Option<&Request> {
        let queue = self.in_flight.get(&event.obj)?;
        queue.get(place_of(queue, event.data, u64::MAX)?)
    }

    /// The oldest request in flight of an iocb: the oldest with this data, if there is one.
    pub fn of_iocb(&self, iocb: u64, data: Option<u64>) -> Option<&Request> {
        let queue = self.in_flight.get(&iocb)?;
        queue.iter().find(|it| it.data == data).or_else(|| queue.front())
    }

    /// A request in flight that was submitted with this content, whatever address it had. Not all are looked at where
    /// they are many: whoever asks may do so often.
    pub fn same(&self, content: Option<&abi::Iocb>) -> Option<&Request> {
        let content = content?;
        self.iter().take(MOST_COMPARED).find(|it| it.has(content))
    }

    /// The completion that waits longest to be reaped.
    pub fn oldest_unreaped(&self) -> Option<&Unreaped> {
        self.unreaped.front()
    }

    /// Whether everything fits together: all completions seen, none left over.
    pub fn adds_up(&self) -> bool {
        self.unseen == 0 && self.unread == 0 && self.early.len() == 0
    }

    /// io_submit accepted it. If it has completed already, how.
    pub fn accepted(&mut self, request: Request) -> Option<Match> {
        self.accepted += 1;
        if let Some(completed) = self.early.take((request.iocb, request.data), request.entered) {
            if request.entered == 0 {
                // It may be that of the request before, which began before the trace, too.
                return None;
            }
            return Some(Match { request, completed, again: None });
        }
        let queue = self.in_flight.entry(request.iocb).or_default();
        // The program uses the iocb again, so that one was among those that completed.
        let is_its = |it: &mut Request| it.call != request.call && it.is_like(&request);
        if self.unread > 0 && queue.pop_front_if(is_its).is_some() {
            (self.unread, self.unknown, self.count) =
                (self.unread - 1, self.unknown + 1, self.count - 1);
        }
        self.count += 1;
        queue.push_back(request);
        None
    }

    /// io_submit accepted so many that are not known one by one.
    pub fn accepted_unnamed(&mut self, count: u64, entered: u64) {
        self.accepted += count;
        self.unnamed += count - self.early.take_any(count, entered);
    }

    /// A request completed; `None` if it is not known which one.
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

    /// A request completed, and its entry could not be read.
    pub fn complete_unread(&mut self, after: u64, time: u64) {
        self.completed_at(after, time);
        // The oldest is overwritten first.
        self.unread += u64::from(self.given.pop_front().is_none());
    }

    /// io_getevents gave this to the program. If it is of one that was not seen to complete, which request it was.
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
        // The oldest of those that are alike was taken.
        let again = queue.range(place..).find(|it| it.is_like(&request));
        let again = again.filter(|it| it.call != request.call).map(|it| it.entered);
        if queue.is_empty() {
            self.in_flight.remove(&completed.event.obj);
        }
        Some(Match { request, completed: *completed, again })
    }

    /// So many have completed, and could not be read yet: the ring has them.
    pub fn behind(&mut self, completions: u32) {
        self.behind = completions.into();
    }

    /// io_getevents gave so many, and the ring was not seen.
    pub fn reap(&mut self, count: u64, time: u64, each: impl FnMut(&Unreaped, u64)) {
        let count = i64::try_from(count).unwrap_or(0);
        self.reap_up_to(self.reaped + count, time, each);
    }

    /// The ring when an io_submit was entered.
    pub fn look_before(&mut self, ring: Ring, entered: u64) {
        if ring.tail < ring.nr && self.early.len() > 0 {
            self.early.completed_by(self.completed + self.ahead(ring, entered), entered);
        }
    }

    /// By how many the tail is ahead of what was told. It is a place in a ring, so the nearest one to what was
    /// told is meant; behind it, if a request completed since the look.
    fn ahead(&self, ring: Ring, time: u64) -> i64 {
        let nr = i64::from(ring.nr);
        let counted = (i64::from(self.base) + self.completed).rem_euclid(nr);
        let ahead = (i64::from(ring.tail) - counted).rem_euclid(nr);
        let is_behind = ahead > nr / 2 || (ahead > 0 && time < self.read_at_once);
        if is_behind { ahead - nr } else { ahead }
    }

    /// How many of these completions, from the first one on, are of requests in flight, by their iocbs and data.
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

    /// The ring as it would be without the completions that were not told.
    pub fn as_told(&self, ring: Ring, time: u64) -> Ring {
        if ring.nr == 0 || ring.head >= ring.nr || ring.tail >= ring.nr {
            return ring;
        }
        let untold = self.ahead(ring, time).max(0) as u32;
        let told = ring.without(untold);
        let head = if untold <= ring.unreaped() { ring.head } else { told.tail };
        Ring { head, ..told }
    }

    /// The ring was looked at: whoever moved its head has reaped.
    pub fn look(&mut self, ring: Ring, time: u64, each: impl FnMut(&Unreaped, u64)) {
        if ring.nr == 0 || ring.head >= ring.nr || ring.tail >= ring.nr {
            return;
        }
        if self.behind > 0 {
            self.unseen = self.behind;
            self.forget_given();
            // (How many were read late is not of the moment of this look, so nothing is said of when they came.)
            let place = self.completed + self.behind - i64::from(ring.unreaped());
            return self.reap_up_to(place, time, each);
        }
        let ahead = self.ahead(ring, time);
        self.unseen = ahead.max(0);
        self.forget_given();
        self.early.completed_by(self.completed + ahead, time);
        self.reap_up_to(self.completed + ahead - i64::from(ring.unreaped()), time, each);
    }

    /// What is told by now cannot come any more.
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

    /// What became of all, of a context that has not ended.
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

/// Which of the requests of one iocb completed with this data at this time: the oldest that has it, else the oldest
/// whose data is not known. If all have other data it is another request, whose io_submit has not returned.
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
