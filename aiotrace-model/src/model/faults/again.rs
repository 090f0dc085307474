//! Whether what comes again after a fault is a retry for sure. A program that has dropped a request makes it anew when it next
//! has something for that place, and a thread that has given up a wait waits again for what comes next: from outside, either
//! looks like a retry that comes late.
//!
//! ```text
//!  fault --- by the same thread, within a second, and its context was given nothing else meanwhile ---> again: a retry
//!        `-- else ------------------------------------------------------------------------------------> again: unsure
//! ```
//! Retries of faults that came no later are nothing else: a program that has several requests left makes one after the other.
//! And a place that the program uses at other times, too, is its own reason for doubt ([`super::history`]).

use super::{Faults, retries::Attempt, sharers::move_space, watched::Want};
use crate::{
    event::Args,
    model::{Doubt, Map},
};

/// A retry comes within this time; nanoseconds.
const AT_ONCE: u64 = 1_000_000_000;
/// Contexts whose requests are counted.
const MOST_CONTEXTS: usize = 4096;

/// Requests that contexts were given since they met a fault, by address space and handle.
#[derive(Debug, Default)]
pub struct Given {
    next: u64,
    newest: Map<(u64, u64), Newest>,
}

/// The newest ones of a context.
#[derive(Clone, Copy, Debug)]
struct Newest {
    /// Of those that are no retry for sure: each has a number of its own.
    other: u64,
    /// Of those that are: the time of the latest fault of these.
    fault: u64,
}

/// What must have followed for something to be a retry, and after what.
#[derive(Debug)]
pub struct Since {
    /// The thread that got the fault.
    tid: u32,
    /// When it did.
    fault: u64,
    /// When it did, or when its last try for certain returned.
    time: u64,
    /// The newest request that its context was given then, by its number; or why it may have done something else since.
    other: Result<u64, Doubt>,
    /// Of a wait for completions: what it asked for.
    wait: Option<Box<Args>>,
}

impl Given {
    /// The number of the newest one of a context; those that follow are counted.
    fn newest(&mut self, space: u64, ctx: u64) -> u64 {
        if self.newest.len() >= MOST_CONTEXTS && !self.newest.contains_key(&(space, ctx)) {
            // What is missing has other numbers when it is counted anew.
            self.newest.clear();
        }
        self.next += 1;
        let fresh = Newest { other: self.next, fault: 0 };
        self.newest.entry((space, ctx)).or_insert(fresh).other
    }

    /// A context was given a request. `fault`: it is a retry for sure, after a fault at this time.
    pub fn add(&mut self, space: u64, ctx: u64, fault: Option<u64>) {
        let Some(newest) = self.newest.get_mut(&(space, ctx)) else { return };
        match fault {
            Some(time) => newest.fault = newest.fault.max(time),
            None => {
                self.next += 1;
                newest.other = self.next;
            }
        }
    }

    /// Why the program may have done something else: the context was given more than retries.
    fn others(&self, space: u64, ctx: u64, since: &Since) -> Option<Doubt> {
        let newest = self.newest.get(&(space, ctx)).filter(|it| it.fault <= since.fault);
        match since.other {
            Err(doubt) => Some(doubt),
            Ok(other) if newest.is_some_and(|it| it.other == other) => None,
            Ok(_) => Some(Doubt::Submitted),
        }
    }

    /// An address space that stood for a process has become known.
    pub fn moved(&mut self, from: u64, to: u64) {
        move_space(&mut self.newest, from, to);
    }

    /// A context has another handle.
    pub fn ring_moved(&mut self, space: u64, from: u64, to: u64) {
        if let Some(it) = self.newest.remove(&(space, from)) {
            self.newest.insert((space, to), it);
        }
    }

    /// No fault is watched.
    pub fn forget(&mut self) {
        self.newest.clear();
    }
}

impl Since {
    /// Whether what began then is too late for a retry.
    pub fn is_late(&self, began: u64) -> bool {
        began > self.time.saturating_add(AT_ONCE)
    }

    /// A call failed in this thread, or a completion is seen there; `wait`: of a call that waits for completions.
    pub fn new(tid: u32, time: u64, wait: Option<&Args>) -> Self {
        let wait = wait.filter(|it| matches!(it, Args::Getevents { .. })).cloned().map(Box::new);
        Self { tid, fault: time, time, other: Ok(0), wait }
    }

    /// Something else may have been done, for this reason.
    pub fn goes_on(&mut self, doubt: Doubt) {
        self.other = self.other.and(Err(doubt));
    }

    /// Whether another thread got the fault.
    pub fn is_of_another(&self, attempt: &Attempt<'_>) -> bool {
        self.tid != attempt.tid
    }

    fn late(&self, attempt: &Attempt<'_>) -> Option<Doubt> {
        self.is_late(attempt.entered).then_some(Doubt::Late)
    }

    /// Why it is no retry for sure. `others`: why something else may have been done.
    fn why_not(&self, attempt: &Attempt<'_>, others: Option<Doubt>) -> Option<Doubt> {
        let is_other = self.wait.as_ref().is_some_and(|it| !is_same(it, attempt.args));
        let thread = self.is_of_another(attempt).then_some(Doubt::AnotherThread);
        let arguments = is_other.then_some(Doubt::OtherArguments);
        thread.or(others).or(arguments).or_else(|| self.late(attempt))
    }
}

impl Faults {
    /// A fault is known to its program from now on.
    pub(super) fn begins(&mut self, number: u64, tid: u32, time: u64) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let other = self.given.newest(watched.space, watched.handle);
        let it = &mut watched.since;
        (it.tid, it.fault, it.time, it.other) = (tid, time, time, Ok(other));
    }

    /// The newest fault has met nothing but retries, after a fault at this time or before.
    pub(super) fn goes_on_from(&mut self, number: u64, fault: Option<u64>) {
        if let Some((watched, fault)) = self.watched.get_mut(&number).zip(fault) {
            watched.since.fault = fault;
        }
    }

    /// What a fault kept from being done comes again. If that is a retry for sure, the time of the fault; else it is remembered why
    /// not. `doubt`: what speaks against it besides.
    pub(super) fn comes_again(
        &mut self,
        number: u64,
        attempt: &Attempt<'_>,
        ctx: u64,
        doubt: Option<Doubt>,
    ) -> Option<u64> {
        let watched = self.watched.get_mut(&number)?;
        let others = self.given.others(attempt.space, ctx, &watched.since);
        match watched.since.why_not(attempt, others).or(doubt) {
            None => {
                watched.since.time = attempt.time;
                Some(watched.since.fault)
            }
            why => {
                watched.again = watched.again.or(why);
                None
            }
        }
    }

    /// The same of a call that is about no request.
    pub(super) fn is_called_again(&mut self, number: u64, attempt: &Attempt<'_>, want: Want) {
        match want {
            Want::Reap(ctx) | Want::Cancel(ctx, _) => {
                self.comes_again(number, attempt, ctx, None);
            }
            Want::Setup(..) => {
                if let Some(watched) = self.watched.get_mut(&number) {
                    watched.again = watched.again.or(watched.since.late(attempt));
                }
            }
            // There is one context that it can be meant for.
            _ => (),
        }
    }
}

/// Whether two calls wait for the same; the later one perhaps for what is left of the time.
fn is_same(first: &Args, later: &Args) -> bool {
    let of = |args: &Args| match args {
        Args::Getevents { min_nr, nr, events, timeout, timeout_value, .. } => {
            Some(((*min_nr, *nr, *events), (timeout.0 != 0).then_some(*timeout_value)))
        }
        _ => None,
    };
    let Some(((wants, timeout), (later_wants, later_timeout))) = of(first).zip(of(later)) else {
        return false;
    };
    let is_no_longer = match (timeout, later_timeout) {
        (None, None) => true,
        // After a wait without an end, one with one. (A look without a wait is something else.)
        (None, Some(Some(later))) => (later.sec, later.nsec) > (0, 0),
        // What was not read is not known to be the same.
        (Some(Some(it)), Some(Some(later))) => (later.sec, later.nsec) <= (it.sec, it.nsec),
        _ => false,
    };
    wants == later_wants && is_no_longer
}
