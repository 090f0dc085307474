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

/// How many return addresses tell who makes a context, the innermost first: io_setup, wrappers around it, and their
/// callers.
pub const INNERMOST: usize = 4;

/// A context, from the moment it became known.
#[derive(Debug)]
pub struct Context {
    /// Its number and its handle.
    pub name: ContextRef,
    /// The process that made it, or used it last.
    pub pid: u32,
    /// What io_setup was asked for, which is what the context takes from fs.aio-nr.
    pub charge: Option<u32>,
    /// Where io_setup was called, if that was seen.
    pub stack: Option<Stack>,
    /// It existed before we attached.
    pub adopted: bool,
    /// Its requests in flight when we attached, if that could be read.
    pub in_flight_at_attach: Option<u32>,
    /// A hash of all frames of the stack that made it: contexts that leak from one place are one finding. 0: no
    /// stack.
    pub place: u64,
    /// A hash of the innermost frames only: a function that many others call has several `place`s, but one
    /// `innermost`.
    pub innermost: u64,
    /// It became known by a call on it, and nobody knows where it comes from.
    pub is_stray: bool,
    /// When it became known.
    pub since: u64,
    /// Up to this time another context had its handle; 0: none is known that had.
    pub held: u64,
    /// Another context has its handle by now: the ring at that address is not its own.
    pub is_left: bool,
    /// When the last call on it returned.
    pub used: u64,
    /// Why what is known of it may be wrong; `None`: nothing about it was lost so far.
    pub doubt: Option<Doubt>,
    /// Its ring at the last look.
    pub ring: Option<Ring>,
    /// Its requests.
    pub requests: Requests,
    /// How many events io_getevents returned from it.
    pub given: u64,
    /// The last look showed that the program reaps by itself, and the consequences were drawn.
    pub was_reaped_by_hand: bool,
    /// Most requests in flight at a time.
    pub peak: Peak,
    /// Requests completed, bytes moved, requests failed.
    pub done: Done,
    /// Number of io_submit calls so far.
    pub submits: u64,
    /// Which threads made these calls.
    pub submitter: Submitter,
    /// How many iocbs these calls were given.
    pub submitted: u64,
    /// How many of these were not accepted.
    pub refused: u64,
    /// Latencies, which are allocated with the first request: many contexts never have one.
    pub latency: Option<Box<Latency>>,
    /// Whether the program waits for each request before it submits the next one.
    pub turns: Turns,
    /// When it is looked at from outside, and what the last look found.
    pub look: Look,
    /// When it was told that it is lost.
    pub leak_told: Option<u64>,
}

/// Which threads submit to a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitter {
    /// Nobody so far.
    None,
    /// This thread.
    One(u32),
    /// Several threads.
    Many,
}

/// Requests that completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many requests completed, successfully or not.
    pub requests: u64,
    /// The bytes that they moved, as far as their results say.
    pub bytes: u64,
    /// How many of them had a negative `res`.
    pub failed: u64,
    /// How many others got a negative `res` from a fault rule. (All other numbers are those of the kernel.)
    pub made_to_fail: u64,
}

impl Done {
    /// Adds other numbers to these.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.failed += other.failed;
        self.made_to_fail += other.made_to_fail;
    }
}

/// When a context is looked at from outside, and what the last look found.
#[derive(Debug)]
pub struct Look {
    /// When looks are due.
    pub pace: Pace,
    /// The time of the last look, if the ring was not mapped then.
    pub unmapped: Option<u64>,
    /// A call on it has worked though its ring was unmapped.
    pub works_without: bool,
    /// The last look did not find the ring where it was, whatever that means.
    pub is_missing: bool,
    /// The time of the last look that found the ring.
    pub confirmed: u64,
    /// At that look, the largest number of completions that a thread waited for.
    pub awaited: Option<i64>,
}

/// Time between the first look and the second.
const FIRST_INTERVAL: u64 = SECOND;

impl Look {
    /// Whether at the last look a thread waited for more than `unreaped` completions.
    pub fn is_awaited(&self, unreaped: u32) -> bool {
        self.awaited.is_some_and(|most| most > i64::from(unreaped))
    }
}

impl Context {
    /// A context that io_setup made, or that existed before.
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

    /// The number by which the program knows it.
    pub fn handle(&self) -> Handle {
        self.name.handle
    }

    /// Whether it may be the context whose ring was moved to a handle that was used at this time; `None`: no such
    /// handle was used.
    pub fn may_have_moved(&self, strayed: Option<u64>) -> bool {
        let seen = self.since.max(self.used).max(self.look.confirmed);
        strayed.is_some_and(|time| seen <= time)
    }

    /// Notes the stack that made the context.
    pub fn made_at(&mut self, stack: Option<&Stack>) {
        self.stack = stack.cloned();
        let Some(stack) = stack else { return };
        let frames = stack.frames.iter().take(INNERMOST);
        let innermost: Vec<u64> = frames.map(|it| it.address).collect();
        self.place = FixedState::default().hash_one(stack);
        self.innermost = FixedState::default().hash_one(innermost);
    }

    /// Requests in flight, if the number is known.
    pub fn in_flight(&self) -> Option<u64> {
        let requests = &self.requests;
        if self.doubt_of_requests().is_some() {
            return None;
        }
        if !self.adopted {
            return Some(requests.in_flight());
        }
        // If the context was in use, requests may have begun and ended during the attach.
        let is_quiet = requests.accepted_so_far() + requests.completed() + requests.unseen() == 0;
        self.in_flight_at_attach.filter(|_| is_quiet).map(u64::from)
    }

    /// Notes that a thread has submitted to the context.
    pub fn submitted_by(&mut self, tid: u32) {
        self.submitter = match self.submitter {
            Submitter::None => Submitter::One(tid),
            Submitter::One(one) if one == tid => Submitter::One(one),
            Submitter::One(_) | Submitter::Many => Submitter::Many,
        };
    }

    /// The most requests that were ever in flight at a time, also of those from before the attach.
    pub fn most(&self) -> Peak {
        match self.adopted {
            true => self.peak.with_before(self.in_flight_at_attach.map(u64::from)),
            false => self.peak,
        }
    }

    /// So many requests were in flight at a time at most, if that is known.
    pub fn most_in_flight(&self) -> Option<u64> {
        let before = if self.adopted { self.in_flight_at_attach? } else { 0 };
        Some(self.peak.at_most() + u64::from(before))
    }

    /// Notes a reason for doubt; the first reason is kept.
    pub fn doubts(&mut self, doubt: Doubt) {
        self.doubt.get_or_insert(doubt);
    }

    /// Why conclusions from its requests are unsure, if they are.
    pub fn doubt_of_requests(&self) -> Option<Doubt> {
        let is_matched = self.adopted || self.requests.adds_up();
        self.doubt_of_reading().or_else(|| (!is_matched).then_some(Doubt::Unmatched))
    }

    /// Why it is unsure which requests completed, if it is.
    pub fn doubt_of_reading(&self) -> Option<Doubt> {
        self.doubt.or_else(|| self.requests.had_unread().then_some(Doubt::Unread))
    }

    /// What became of its requests; `end`: how the context ended, if it did.
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

    /// Whether the head of the ring has moved by more than io_getevents returned: then the program reaps by itself
    /// (or a thread is reaping at this moment).
    pub fn is_reaped_by_hand(&self) -> bool {
        self.requests.reaped() > self.given
    }

    /// Whether requests are in flight that end by themselves, or completions wait to be reaped.
    pub fn has_unreaped(&self) -> bool {
        self.requests.unreaped() > 0 || self.requests.iter().any(|it| !it.is_poll())
    }

    /// Notes a look at the ring.
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

    /// Notes how many events io_getevents returned, when the ring could not be read.
    pub fn reaped(&mut self, count: u64, time: u64) {
        let latency = &mut self.latency;
        self.requests.reap(count, time, |it, reaped| {
            reap(latency, it, reaped);
        });
    }

    /// Counts a request that completed.
    pub fn count(&mut self, found: &Match) {
        let res = found.completed.event.res;
        self.done.requests += 1;
        self.done.failed += u64::from(res < 0);
        // The result of a poll is a mask.
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

/// Records how long a completion waited: it was reaped before that was seen, so the time is an upper bound.
fn reap(latency: &mut Option<Box<Latency>>, it: &Unreaped, reaped: u64) {
    // A completion that was in the ring at the attach has no known beginning.
    if it.after > 0 {
        latency.get_or_insert_default().reap.record(reaped.saturating_sub(it.after), true);
    }
}
