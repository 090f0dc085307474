//! The requests of a context, from their io_submit until they are reaped, and the lanes in which a timeline draws
//! them: a request has a lane for itself as long as it lives.
//!
//! A completion can come before the io_submit of its request returns, and it can be reaped before
//! that by another thread: what comes early waits here for its request.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Its number: never used again.
    pub number: u64,
    /// When its io_submit was entered.
    pub from: u64,
    /// Its lane.
    pub lane: usize,
    /// What it is: `pread fd=7`.
    pub name: String,
    /// The iocb's address, its offset, its length and its data.
    pub iocb: [u64; 4],
    /// When it completed, the time after which it did if that is not exact, and its result.
    pub completed: Option<Done>,
}

/// The completion of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// When it completed, or when that was seen.
    pub time: u64,
    /// It completed after this time; `None`: exactly at `time`.
    pub after: Option<u64>,
    /// Its result.
    pub res: i64,
}

/// A request whose life is over.
#[derive(Clone, Debug)]
pub struct Over {
    /// The request.
    pub request: Request,
    /// When it was reaped.
    pub reaped: u64,
}

/// Most requests, lanes, and most that came early, of a context.
const MOST: usize = 65_536;
/// What came early waits no longer than this: its request began before the attach. Nanoseconds.
const EARLY: u64 = 10_000_000_000;

/// The requests of a context.
#[derive(Debug, Default)]
pub struct Requests {
    live: HashMap<u64, VecDeque<Request>>,
    early: HashMap<u64, VecDeque<(Done, Option<u64>)>>,
    early_count: usize,
    /// For each lane the time at which its last request was over.
    lanes: Vec<u64>,
    /// The lanes in which there is no request.
    free: BTreeSet<usize>,
    count: usize,
    /// Requests in flight, and completions that were not reaped.
    pub in_flight: i64,
    /// See `in_flight`.
    pub unreaped: i64,
}

impl Requests {
    /// A request was accepted. Gives its lane; and, if it was reaped already, the request. `None`:
    /// there are too many.
    pub fn submitted(&mut self, mut request: Request) -> Option<(usize, Option<Over>)> {
        if self.count >= MOST {
            return None;
        }
        // It may have begun before the lane was free, in a call that returned later.
        let free = self.free.iter().copied().find(|lane| self.lanes[*lane] <= request.from);
        let lane = match free {
            Some(lane) => lane,
            None if self.lanes.len() >= MOST => return None,
            None => {
                self.lanes.push(0);
                self.lanes.len() - 1
            }
        };
        self.free.remove(&lane);
        request.lane = lane;
        self.count += 1;
        self.in_flight += 1;
        let address = request.iocb[0];
        let from = request.from;
        let waiting = self.early.get_mut(&address);
        let early = waiting.and_then(|all| {
            let place = all.iter().position(|(done, _)| done.time >= from)?;
            all.remove(place)
        });
        self.live.entry(address).or_default().push_back(request);
        let Some((done, reaped)) = early else { return Some((lane, None)) };
        self.early_count -= 1;
        self.complete(address, done);
        let over = reaped.and_then(|time| self.reap(address, time));
        Some((lane, over))
    }

    /// A request completed.
    pub fn completed(&mut self, address: u64, done: Done) {
        if self.complete(address, done) || self.early_count >= MOST {
            return;
        }
        self.early.entry(address).or_default().push_back((done, None));
        self.early_count += 1;
    }

    fn complete(&mut self, address: u64, done: Done) -> bool {
        let requests = self.live.get_mut(&address);
        let request = requests.and_then(|all| all.iter_mut().find(|it| it.completed.is_none()));
        let Some(request) = request else { return false };
        request.completed = Some(done);
        self.in_flight -= 1;
        self.unreaped += 1;
        true
    }

    /// io_getevents returned the completion of a request.
    pub fn reaped(&mut self, address: u64, time: u64) -> Option<Over> {
        if let Some(over) = self.reap(address, time) {
            return Some(over);
        }
        let early =
            self.early.get_mut(&address).and_then(|all| all.iter_mut().find(|it| it.1.is_none()));
        if let Some(early) = early {
            early.1 = Some(time);
        }
        None
    }

    fn reap(&mut self, address: u64, time: u64) -> Option<Over> {
        let all = self.live.get_mut(&address)?;
        let place = all.iter().position(|it| it.completed.is_some())?;
        let request = all.remove(place)?;
        if all.is_empty() {
            self.live.remove(&address);
        }
        self.lanes[request.lane] = time;
        self.free.insert(request.lane);
        self.count -= 1;
        self.unreaped -= 1;
        Some(Over { request, reaped: time })
    }

    /// The ring was empty at this time: the program has reaped all that had completed before, by
    /// io_getevents or by itself.
    pub fn emptied(&mut self, time: u64) -> Vec<Over> {
        let is_so = |it: &Request| it.completed.is_some_and(|done| done.time < time);
        let mut addresses: Vec<(u64, u64)> = Vec::new();
        for all in self.live.values() {
            addresses.extend(all.iter().filter(|it| is_so(it)).map(|it| (it.number, it.iocb[0])));
        }
        addresses.sort_unstable();
        // What came early and found no request by now has none.
        self.early.retain(|_, all| {
            all.retain(|(done, _)| done.time + EARLY > time);
            !all.is_empty()
        });
        self.early_count = self.early.values().map(VecDeque::len).sum();
        addresses.into_iter().filter_map(|(_, address)| self.reap(address, time)).collect()
    }

    /// All requests that live: the context ends, or the trace does.
    pub fn left(self) -> Vec<Request> {
        let mut left: Vec<Request> = self.live.into_values().flatten().collect();
        left.sort_by_key(|it| it.number);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(number: u64, from: u64) -> Request {
        Request { number, from, iocb: [0xa0, 0, 0, 0], ..Request::default() }
    }

    fn done(time: u64) -> Done {
        Done { time, after: None, res: 8 }
    }

    #[test]
    fn a_request_keeps_its_lane_until_it_is_reaped() {
        let mut all = Requests::default();
        let lanes = [1, 2].map(|it| all.submitted(request(it, it)).unwrap().0);
        assert_eq!((lanes, all.in_flight), ([0, 1], 2));
        all.completed(0xa0, done(10));
        assert_eq!((all.in_flight, all.unreaped), (1, 1));
        assert_eq!(all.reaped(0xa0, 12).unwrap().request.number, 1);
        // It began before the lane was free, in a call that returned later.
        assert_eq!(all.submitted(request(3, 11)).unwrap().0, 2);
        assert_eq!(all.submitted(request(4, 12)).unwrap().0, 0);
        assert_eq!(all.left().len(), 3);
    }

    #[test]
    fn what_comes_before_its_submit_returns_waits_for_it() {
        let mut all = Requests::default();
        all.completed(0xa0, done(10));
        assert!(all.reaped(0xa0, 11).is_none());
        let (_, over) = all.submitted(request(1, 9)).unwrap();
        assert_eq!(over.map(|it| it.reaped), Some(11));
        assert_eq!((all.in_flight, all.unreaped), (0, 0));
        // An iocb that is used again does not take the completion of the one before.
        all.completed(0xa0, done(20));
        assert!(all.submitted(request(2, 21)).unwrap().1.is_none());
        assert_eq!((all.in_flight, all.unreaped), (1, 0));
    }

    #[test]
    fn an_empty_ring_has_been_reaped() {
        let mut all = Requests::default();
        all.submitted(request(1, 1));
        all.submitted(request(2, 2));
        all.completed(0xa0, done(10));
        assert_eq!(all.emptied(10).len(), 0, "it may have been reaped after that");
        assert_eq!(all.emptied(11).iter().map(|it| it.request.number).collect::<Vec<_>>(), [1]);
    }
}
