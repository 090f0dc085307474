//! One context over its whole life.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use super::{
    Doubt, SECOND,
    finding::ContextRef,
    findings::shallow_queue::Turns,
    latency::Latency,
    pace::Pace,
    peak::Peak,
    report::End,
    requests::{Match, Requests, Unreaped},
    sums::Sums,
};
use crate::event::{Handle, Ring, Stack};

/// Return addresses that tell who makes a context, the innermost first: io_setup, wrappers of it, and who calls these.
pub const INNERMOST: usize = 4;

/// A context, from the moment it became known.
#[derive(Debug)]
pub struct Context {
    /// What it is called.
    pub name: ContextRef,
    /// The process that made it, or used it last.
    pub pid: u32,
    /// What io_setup was asked for: what it takes from fs.aio-nr.
    pub charge: Option<u32>,
    /// Where io_setup was called, if that was seen.
    pub stack: Option<Stack>,
    /// It existed before we attached.
    pub adopted: bool,
    /// Its requests in flight when we attached, if that could be read.
    pub in_flight_at_attach: Option<u32>,
    /// A number for the place it was made at, by all frames of its stack: what leaks there is one finding. 0: no stack.
    pub place: u64,
    /// The same by the innermost frames: one function that many others call has a place for each of these.
    pub innermost: u64,
    /// It became known by a call on it, and it is not known where it comes from.
    pub is_stray: bool,
    /// When it became known.
    pub since: u64,
    /// Until then another one had its handle; 0: none is known that had.
    pub held: u64,
    /// Its handle is another one's by now: what is there is not its ring.
    pub is_left: bool,
    /// When the last call on it returned.
    pub used: u64,
    /// Why what is known of it may be otherwise; `None`: nothing of it was lost so far.
    pub doubt: Option<Doubt>,
    /// Its ring when it was looked at last.
    pub ring: Option<Ring>,
    /// Its requests.
    pub requests: Requests,
    /// What io_getevents gave.
    pub given: u64,
    /// That the program reaps by itself was seen at the last look, and what follows from it was done.
    pub was_reaped_by_hand: bool,
    /// Most requests in flight at a time.
    pub peak: Peak,
    /// Requests completed, bytes moved, requests failed.
    pub done: Done,
    /// io_submit calls so far.
    pub submits: u64,
    /// The thread that made all of these.
    pub submitter: Submitter,
    /// Requests that they were given, and of these, those that were not taken.
    pub submitted: u64,
    /// See `submitted`.
    pub refused: u64,
    /// Allocated with the first request: many contexts never see one.
    pub latency: Option<Box<Latency>>,
    /// Whether each request is waited for before the next one.
    pub turns: Turns,
    /// Looks at it from outside.
    pub look: Look,
    /// When it was told that it is lost.
    pub leak_told: Option<u64>,
}

/// Who submits to a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitter {
    /// Nobody so far.
    None,
    /// This thread.
    One(u32),
    /// Several threads.
    Many,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Requests completed, well or not.
    pub requests: u64,
    /// Bytes of those that say how many.
    pub bytes: u64,
    /// Of these, with `res` < 0.
    pub failed: u64,
}

impl Done {
    /// Both.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.failed += other.failed;
    }
}

/// When it is looked at from outside.
#[derive(Debug)]
pub struct Look {
    /// When it is due.
    pub pace: Pace,
    /// The last look found that its ring is not mapped: when.
    pub unmapped: Option<u64>,
    /// A call on it has worked though its ring was unmapped.
    pub works_without: bool,
    /// The last look did not find the ring where it was, whatever that means.
    pub is_missing: bool,
    /// The last look found the ring, and it was so then.
    pub confirmed: u64,
    /// So many completions were waited for then, by the thread that wants most.
    pub awaited: Option<i64>,
}

/// From the first look to the second.
const FIRST_INTERVAL: u64 = SECOND;

impl Look {
    /// A thread waited for more than so many when it was looked at.
    pub fn is_awaited(&self, unreaped: u32) -> bool {
        self.awaited.is_some_and(|most| most > i64::from(unreaped))
    }
}

impl Context {
    /// One that io_setup made (or that was there before).
    pub fn new(name: ContextRef, pid: u32, time: u64) -> Self {
        Self {
            name,
            pid,
            charge: None,
            stack: None,
            adopted: false,
            is_stray: false,
            in_flight_at_attach: None,
            innermost: 0,
            place: 0,
            since: time,
            held: 0,
            is_left: false,
            used: time,
            doubt: None,
            ring: None,
            requests: Requests::default(),
            given: 0,
            was_reaped_by_hand: false,
            peak: Peak::default(),
            done: Done::default(),
            submits: 0,
            submitter: Submitter::None,
            submitted: 0,
            refused: 0,
            latency: None,
            turns: Turns::default(),
            look: Look {
                pace: Pace::new(time.saturating_add(FIRST_INTERVAL), FIRST_INTERVAL),
                unmapped: None,
                works_without: false,
                is_missing: false,
                confirmed: 0,
                awaited: None,
            },
            leak_told: None,
        }
    }

    /// What the program knows it by.
    pub fn handle(&self) -> Handle {
        self.name.handle
    }

    /// Whether it may be the context whose ring was moved to where a handle was used at this time; `None`: there is
    /// none.
    pub fn may_have_moved(&self, strayed: Option<u64>) -> bool {
        let seen = self.since.max(self.used).max(self.look.confirmed);
        strayed.is_some_and(|time| seen <= time)
    }

    /// It was made there.
    pub fn made_at(&mut self, stack: Option<&Stack>) {
        self.stack = stack.cloned();
        let Some(stack) = stack else { return };
        let frames = stack.frames.iter().take(INNERMOST);
        let innermost: Vec<u64> = frames.map(|it| it.address).collect();
        self.place = FixedState::default().hash_one(stack);
        self.innermost = FixedState::default().hash_one(innermost);
    }

    /// Requests in flight, if that is known.
    pub fn in_flight(&self) -> Option<u64> {
        let requests = &self.requests;
        if self.doubt_of_requests().is_some() {
            return None;
        }
        if !self.adopted {
            return Some(requests.in_flight());
        }
        // Of one that is in use, what began and ended while we attached is not known.
        let is_quiet = requests.accepted_so_far() + requests.completed() + requests.unseen() == 0;
        self.in_flight_at_attach.filter(|_| is_quiet).map(u64::from)
    }

    /// A thread has submitted to it.
    pub fn submitted_by(&mut self, tid: u32) {
        self.submitter = match self.submitter {
            Submitter::None => Submitter::One(tid),
            Submitter::One(one) if one == tid => Submitter::One(one),
            Submitter::One(_) | Submitter::Many => Submitter::Many,
        };
    }

    /// Requests in flight at a time were never more, if that is known.
    pub fn most_in_flight(&self) -> Option<u64> {
        let before = if self.adopted { self.in_flight_at_attach? } else { 0 };
        Some(self.peak.at_most() + u64::from(before))
    }

    /// Something makes it unsure. The first reason is told.
    pub fn doubts(&mut self, doubt: Doubt) {
        self.doubt.get_or_insert(doubt);
    }

    /// Why what is concluded from its requests may be otherwise.
    pub fn doubt_of_requests(&self) -> Option<Doubt> {
        let is_matched = self.adopted || self.requests.adds_up();
        self.doubt_of_reading().or_else(|| (!is_matched).then_some(Doubt::Unmatched))
    }

    /// Why it is not known for sure what completed.
    pub fn doubt_of_reading(&self) -> Option<Doubt> {
        self.doubt.or_else(|| self.requests.had_unread().then_some(Doubt::Unread))
    }

    /// What became of its requests; `end`: how it ended, if it did.
    pub fn sums(&self, end: Option<End>) -> Sums {
        let mut sums = self.requests.sums();
        (sums.contexts, sums.submitted, sums.refused) = (1, self.submitted, self.refused);
        let Some(end) = end else {
            sums.alive = 1;
            return sums;
        };
        sums.ended = 1;
        sums.discarded = std::mem::take(&mut sums.in_flight);
        let unreaped = std::mem::take(&mut sums.unreaped);
        match end {
            End::Exit | End::Exec => sums.unknown_unreaped = unreaped,
            End::Destroyed | End::Leaked => sums.discarded_unreaped = unreaped,
        }
        sums
    }

    /// The head of the ring was moved by more than io_getevents gave: the program reaps by itself (or a thread is
    /// just reaping).
    pub fn is_reaped_by_hand(&self) -> bool {
        self.requests.reaped() > self.given
    }

    /// The ring was looked at.
    pub fn looked(&mut self, ring: Ring, time: u64) {
        if self.is_left {
            return;
        }
        self.ring = Some(ring);
        let latency = &mut self.latency;
        self.requests.look(ring, time, |it, reaped| {
            reap(latency, it, reaped);
        });
    }

    /// io_getevents gave so many, and the ring could not be read.
    pub fn reaped(&mut self, count: u64, time: u64) {
        let latency = &mut self.latency;
        self.requests.reap(count, time, |it, reaped| {
            reap(latency, it, reaped);
        });
    }

    /// A request completed.
    pub fn count(&mut self, found: &Match) {
        let res = found.completed.event.res;
        self.done.requests += 1;
        self.done.failed += u64::from(res < 0);
        // What a poll gives is a mask.
        if res > 0 && !found.request.is_poll() {
            self.done.bytes += res as u64;
        }
        let is_known = found.request.entered != 0 && !found.completed.is_late;
        let Some(entered) = is_known.then_some(found.request.entered) else { return };
        let latency = self.latency.get_or_insert_default();
        latency.submit.record(found.request.returned.saturating_sub(entered), false);
        let completed = &found.completed;
        latency.complete.record(completed.time.saturating_sub(entered), completed.is_bound());
    }
}

/// Whoever reaped it did so before that was seen.
fn reap(latency: &mut Option<Box<Latency>>, it: &Unreaped, reaped: u64) {
    // One that was there at the attach has no beginning.
    if it.after > 0 {
        latency.get_or_insert_default().reap.record(reaped.saturating_sub(it.after), true);
    }
}
