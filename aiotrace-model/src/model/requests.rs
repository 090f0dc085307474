//! The requests of one context: which are in flight, which completion belongs to which, and what was
//! reaped.

use std::collections::VecDeque;

use aiotrace_common::abi;

use super::{Map, early::Early, sums::Sums};
use crate::{
    any_order::AnyOrder as _,
    event::{IoEvent, Iocb, Ring},
};

/// Completions that wait to be reaped and whose time is known, at most. (A program can write anything
/// into its ring.)
const MOST_UNREAPED: usize = 65_536;
/// Requests in flight among which the content of an iocb is looked for, at most.
pub const MOST_COMPARED: usize = 256;

/// One iocb from its io_submit on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The iocb's address: the program's pointer, used again and again. The kernel copies what is there, so one
    /// iocb may be of several requests at a time.
    pub iocb: u64,
    /// `aio_data`, by which a program tells such requests apart; `None` if it was not read before the call.
    pub data: Option<u64>,
    /// `IOCB_CMD_*`; `None` if the iocb could not be read.
    pub opcode: Option<u16>,
    /// `RWF_*`
    pub rw_flags: u32,
    /// Descriptor.
    pub fd: u32,
    /// As the program gave it.
    pub offset: i64,
    /// As the program gave it.
    pub nbytes: u64,
    /// As the program gave it: of a poll, the events.
    pub buf: u64,
    /// When io_submit was entered; 0 if that was not seen.
    pub entered: u64,
    /// When it returned.
    pub returned: u64,
    /// Which io_submit of the context, so that two iocbs of one call are told from two calls.
    pub call: u64,
    /// Which iocb of the call.
    pub index: usize,
}

impl Request {
    /// From an iocb of an io_submit.
    pub fn new(
        iocb: &Iocb,
        (entered, returned): (u64, u64),
        (call, index): (u64, usize),
    ) -> Option<Self> {
        let value = iocb.value;
        Some(Self {
            iocb: iocb.address?.0,
            data: value.filter(|_| !iocb.read_late).map(|it| it.data),
            opcode: value.map(|it| it.opcode),
            rw_flags: value.map_or(0, |it| it.rw_flags),
            fd: value.map_or(0, |it| it.fildes),
            offset: value.map_or(0, |it| it.offset),
            nbytes: value.map_or(0, |it| it.nbytes),
            buf: value.map_or(0, |it| it.buf),
            entered,
            returned,
            call,
            index,
        })
    }

    /// Whether a completion with this data may be its own.
    pub fn may_be(&self, data: u64) -> bool {
        self.data.is_none_or(|own| own == data)
    }

    /// Whether the program cannot tell the completions of the two apart.
    fn is_like(&self, other: &Self) -> bool {
        self.data.zip(other.data).is_none_or(|(own, other)| own == other)
    }

    /// Whether it was submitted with this content. What was not read before the call may have been another one.
    pub fn has(&self, it: &abi::Iocb) -> bool {
        let own = (self.data, self.opcode, self.fd, self.offset, self.nbytes, self.buf);
        own == (Some(it.data), Some(it.opcode), it.fildes, it.offset, it.nbytes, it.buf)
    }

    /// Whether it changes a file.
    pub fn is_write(&self) -> bool {
        matches!(self.opcode, Some(1 | 8))
    }

    /// Whether it pends until something happens, by design.
    pub fn is_poll(&self) -> bool {
        matches!(self.opcode, Some(5))
    }
}

/// A completion, as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// What the ring says.
    pub event: IoEvent,
    /// It happened after this; 0 if that is not known. The same as `time` if it is exact.
    pub after: u64,
    /// It happened at this time, or before.
    pub time: u64,
    /// It was in the ring by this time for sure: the look at the ring that is told with `time` was over then.
    pub until: u64,
    /// It was reaped before it was seen: when it happened is not known.
    pub is_late: bool,
}

impl Completed {
    /// It is only known that it did not happen later.
    pub fn is_bound(&self) -> bool {
        self.after != self.time
    }
}

/// A request and how it completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The request.
    pub request: Request,
    /// Its completion.
    pub completed: Completed,
    /// The same iocb was in flight once more, with the same data: when io_submit was entered with it.
    pub again: Option<u64>,
}

/// Completed and not known to be reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreaped {
    /// Its place in the order of completions.
    pub place: i64,
    /// When it was seen to complete.
    pub time: u64,
    /// It completed after this; the same as `time` if that is exact.
    pub after: u64,
}

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
        let tail = (ring.tail + ring.nr - untold) % ring.nr;
        let head = if untold <= ring.unreaped() { ring.head } else { tail };
        Ring { head, tail, ..ring }
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
mod tests {
    use super::*;

    fn request(iocb: u64, entered: u64, call: u64) -> Request {
        Request {
            iocb,
            data: Some(0),
            opcode: Some(0),
            rw_flags: 0,
            fd: 3,
            offset: 0,
            nbytes: 8,
            buf: 0,
            entered,
            returned: entered + 10,
            call,
            index: 0,
        }
    }

    fn completed(obj: u64, time: u64) -> Completed {
        let event = IoEvent { data: 0, obj, res: 8, res2: 0 };
        Completed { event, after: time, time, until: time, is_late: false }
    }

    fn ring(head: u32, tail: u32) -> Ring {
        Ring { head, tail, nr: 10 }
    }

    #[test]
    fn a_completion_before_the_return_proves_acceptance() {
        let mut requests = Requests::default();
        assert_eq!(requests.complete(completed(1, 5)), None);
        let found = requests.accepted(request(1, 3, 1)).unwrap();
        assert_eq!(found.completed.time, 5);
        assert_eq!(requests.in_flight(), 0);
        assert!(requests.adds_up());
    }

    #[test]
    fn what_is_submitted_while_the_ring_is_looked_at_is_in_it() {
        // io_getevents returned at 5, io_submit was entered at 6, the ring was read at 8: the request completed in
        // between.
        let seen = Completed { after: 4, until: 8, ..completed(1, 5) };
        let mut requests = Requests::default();
        assert_eq!(requests.complete(seen), None);
        assert!(requests.accepted(request(1, 6, 1)).is_some());
        assert!(requests.adds_up());
        // Or io_submit returned before that was told.
        let mut requests = Requests::default();
        assert_eq!(requests.accepted(request(1, 6, 1)), None);
        assert!(requests.complete(seen).is_some());
        assert!(requests.adds_up());
    }

    #[test]
    fn an_iocb_that_is_used_again_by_another_thread_is_another_request() {
        // A submits at 1 and returns last; the iocb completes at 5 and is reaped; B submits it again at 7.
        let mut requests = Requests::default();
        assert_eq!(requests.complete(completed(1, 5)), None);
        assert_eq!(requests.accepted(request(1, 7, 2)), None);
        assert!(requests.accepted(request(1, 1, 1)).is_some());
        assert_eq!(requests.in_flight(), 1);
        assert_eq!(requests.complete(completed(1, 9)).unwrap().again, None);
        assert!(requests.adds_up());
    }

    #[test]
    fn after_the_trace_only_what_was_in_flight_is_taken_from_a_ring() {
        let mut requests = Requests::default();
        for iocb in [1, 2] {
            assert_eq!(requests.accepted(request(iocb, 1, iocb)), None);
        }
        // Reaped, and submitted again, when nobody recorded any more.
        let found = [2, 2, 1].map(|iocb| completed(iocb, 9).event);
        assert_eq!(requests.of_in_flight(found.iter()), 1);
        assert!(requests.complete(completed(2, 9)).is_some());
        assert_eq!(requests.as_told(ring(2, 3), 10), ring(1, 1));
        assert_eq!(requests.as_told(ring(0, 3), 10), ring(0, 1));
        assert_eq!(requests.as_told(ring(9, 1), 10), ring(9, 1));
    }

    #[test]
    fn the_same_iocb_twice_in_a_call_is_legal_and_in_two_calls_is_not() {
        let mut requests = Requests::default();
        for call in [1, 1, 2] {
            assert_eq!(requests.accepted(request(1, call, call)), None);
        }
        assert_eq!(requests.complete(completed(1, 10)).unwrap().again, None);
        assert_eq!(requests.complete(completed(1, 11)).unwrap().again, Some(2));
        assert_eq!(requests.complete(completed(1, 12)).unwrap().again, None);
    }

    #[test]
    fn requests_of_one_iocb_are_told_apart_by_their_data() {
        let with = |data, call| Request { data, ..request(1, call, call) };
        let done = |data, time| {
            let completed = completed(1, time);
            Completed { event: IoEvent { data, ..completed.event }, ..completed }
        };
        let mut requests = Requests::default();
        for (data, call) in [(Some(7), 1), (Some(8), 2), (None, 3), (Some(8), 4)] {
            assert_eq!(requests.accepted(with(data, call)), None);
        }
        let mut next = |data| {
            let found = requests.complete(done(data, 10))?;
            Some((found.request.call, found.again))
        };
        // The third may be another 8, as far as is known.
        assert_eq!(next(8), Some((2, Some(3))));
        assert_eq!(next(8), Some((4, None)));
        assert_eq!(next(9), Some((3, None)), "that is the only one whose data is not known");
        assert_eq!(next(9), None, "one whose io_submit has not returned");
        assert_eq!(requests.in_flight(), 1);
        assert_eq!(requests.accepted(with(Some(7), 5)), None, "it is not that one's, either");
        assert!(requests.accepted(with(Some(9), 6)).is_some());
        assert_eq!(requests.in_flight(), 2);
        assert_eq!(requests.of_event(&done(7, 11).event).map(|it| it.call), Some(1));
        let found = [7, 7, 7].map(|data| done(data, 11).event);
        assert_eq!(requests.of_in_flight(found.iter()), 2);
        assert_eq!(requests.of_in_flight([done(9, 11).event].iter()), 0);
        let found = requests.complete(done(7, 11)).unwrap();
        assert_eq!((found.request.call, found.again), (1, Some(5)), "these are alike");
        assert_eq!(requests.complete(done(7, 12)).unwrap().again, None);
        assert!(requests.adds_up());
    }

    #[test]
    fn whoever_moves_the_head_has_reaped() {
        let mut requests = Requests::default();
        for obj in 1..=4 {
            requests.accepted(request(obj, 1, obj));
            requests.complete(completed(obj, 5));
        }
        let mut reaped = Vec::new();
        // One completed since the look.
        requests.look(ring(2, 3), 7, |it, _| reaped.push(it.place));
        assert_eq!((reaped, requests.unreaped()), (vec![0, 1], 2));
        requests.look(ring(4, 4), 8, |_, _| ());
        assert_eq!(requests.unreaped(), 0);
        requests.look(ring(4, 6), 9, |_, _| ());
        assert!(!requests.adds_up(), "two completed that were not seen");
    }

    #[test]
    fn what_completed_and_could_not_be_read_is_not_in_flight() {
        let mut requests = Requests::default();
        for obj in 1..=3 {
            requests.accepted(request(obj, 1, obj));
        }
        requests.complete_unread(0, 5);
        requests.complete_unread(0, 5);
        assert_eq!((requests.in_flight(), requests.unknown(), requests.completed()), (1, 2, 2));
        // io_getevents tells of one, and the program uses the iocb of another again.
        let given = IoEvent { data: 0, obj: 3, res: -5, res2: 0 };
        assert_eq!(requests.given(given, 7).unwrap().request.iocb, 3);
        assert_eq!(requests.accepted(request(2, 8, 8)), None);
        assert_eq!((requests.in_flight(), requests.unknown(), requests.unread()), (2, 1, 0));
        assert_eq!(requests.given(given, 9), None, "all others were read");
        assert_eq!(requests.complete(completed(1, 9)).unwrap().again, None);
        assert_eq!(requests.complete(completed(2, 9)).unwrap().again, None);
        assert_eq!((requests.in_flight(), requests.unknown()), (0, 1));
    }

    #[test]
    fn what_is_read_after_it_was_reaped_has_no_time() {
        let mut requests = Requests::default();
        requests.accepted(request(1, 1, 1));
        requests.look(ring(1, 1), 5, |_, _| ());
        assert_eq!((requests.in_flight(), requests.unknown()), (0, 1), "one completed unseen");
        let found = requests.complete(completed(1, 9)).unwrap();
        assert!(found.completed.is_late);
        assert_eq!((requests.in_flight(), requests.unknown()), (0, 0));
        requests.accepted(request(1, 10, 2));
        assert!(!requests.complete(completed(1, 12)).unwrap().completed.is_late);
    }

    #[test]
    fn what_io_getevents_gave_is_not_told_again() {
        let mut requests = Requests::default();
        let event = |obj| completed(obj, 0).event;
        for (number, after) in [(1, 1), (2, 2)] {
            requests.accepted(request(1, number * 10, number));
            requests.behind(after);
            requests.look(ring(after, after), number * 10 + 5, |_, _| ());
            let found = requests.given(event(1), number * 10 + 5).unwrap();
            assert_eq!((found.request.call, found.again), (number, None));
            assert_eq!((requests.in_flight(), requests.unknown()), (0, 0));
        }
        assert_eq!(requests.given(event(1), 30), None);
        // Now they are read; one was overwritten.
        requests.complete_unread(0, 40);
        assert_eq!(requests.complete(completed(1, 40)), None);
        assert!(requests.adds_up());
        requests.accepted(request(1, 50, 3));
        assert_eq!(requests.complete(completed(1, 60)).unwrap().request.call, 3);
    }

    #[test]
    fn what_an_adopted_ring_holds_is_unreaped_and_nothing_more_is_guessed() {
        let mut requests = Requests::adopted(Some(ring(8, 1)), 100);
        assert_eq!((requests.unreaped(), requests.completed(), requests.in_flight()), (3, 0, 0));
        requests.look(ring(0, 2), 101, |_, _| ());
        assert_eq!(requests.unreaped(), 1, "one of the old ones is left");
        assert_eq!(requests.complete(completed(1, 101)), None);
        assert_eq!(requests.unreaped(), 2, "and the one that completed meanwhile");
    }

    #[test]
    fn what_was_in_the_ring_before_a_request_began_is_not_its_completion() {
        let undated = |obj| Completed { after: 0, ..completed(obj, 500) };
        let mut requests = Requests::adopted(Some(ring(0, 0)), 100);
        // They are read at once, after their iocbs were used again; a look tells that seven were there before.
        for obj in 1..=8 {
            assert_eq!(requests.complete(undated(obj)), None);
        }
        requests.look(ring(7, 7), 200, |_, _| ());
        assert_eq!((requests.unseen(), requests.unreaped()), (0, 1));
        assert_eq!(requests.accepted(request(1, 300, 1)), None);
        assert_eq!(requests.in_flight(), 1);
        // The eighth may be the request's own.
        assert!(requests.accepted(request(8, 300, 2)).is_some());
        // Of a call that began before the trace, nobody can tell.
        assert_eq!(requests.accepted(request(2, 0, 3)), None);
        assert_eq!(requests.in_flight(), 1);
    }

    #[test]
    fn those_beyond_what_is_recorded_are_counted() {
        let mut requests = Requests::default();
        requests.complete(completed(1, 5));
        requests.accepted_unnamed(3, 4);
        assert_eq!(requests.in_flight(), 2);
        requests.complete(completed(2, 6));
        assert_eq!(requests.in_flight(), 1);
    }
}
