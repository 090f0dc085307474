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

use super::{
    Faults,
    attempt::Attempt,
    setups::{Site, fewer},
    sharers::move_space,
    watched::Want,
};
use crate::{
    event::{Args, Handle, SpaceId, Stack},
    model::{Doubt, Map},
};

/// A retry comes within this time; nanoseconds.
const AT_ONCE: u64 = 1_000_000_000;
/// A request that is made again and again does not come again within this time, if nothing else is done in between;
/// nanoseconds.
const NO_PERIOD: u64 = 50_000_000;
/// Contexts and threads whose requests are counted.
const MOST: usize = 4096;

/// Requests that contexts were given, and that threads made, since they met a fault; by address space.
#[derive(Debug, Default)]
pub struct Given {
    next: u64,
    newest: Map<(SpaceId, Of), Newest>,
}

/// Whose requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// Those that a context was given, by its handle.
    Context(Handle),
    /// Those that a thread made, whatever the context.
    Thread(u32),
}

/// The newest ones of a context, or of a thread.
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
    /// The newest requests that its context was given then, and its thread had made, by their numbers; or why it may have done
    /// something else since.
    other: Result<(u64, u64), Doubt>,
    /// The longest pause before a try for certain.
    pause: u64,
    /// Of an io_setup: where in the program it was called.
    stack: Option<Stack>,
    /// Of an io_setup, or a wait for completions: what it asked for.
    call: Option<Box<Args>>,
}

impl Given {
    /// The number of the newest one; those that follow are counted.
    fn newest(&mut self, space: SpaceId, of: Of) -> u64 {
        if self.newest.len() >= MOST && !self.newest.contains_key(&(space, of)) {
            // What is missing has other numbers when it is counted anew.
            self.newest.clear();
        }
        self.next += 1;
        let fresh = Newest { other: self.next, fault: 0 };
        self.newest.entry((space, of)).or_insert(fresh).other
    }

    /// A context was given a request by a thread. `fault`: it is a retry for sure, after a fault at this time.
    pub fn add(&mut self, space: SpaceId, (ctx, tid): (Handle, u32), fault: Option<u64>) {
        for of in [Of::Context(ctx), Of::Thread(tid)] {
            let Some(newest) = self.newest.get_mut(&(space, of)) else { continue };
            match fault {
                Some(time) => newest.fault = newest.fault.max(time),
                None => {
                    self.next += 1;
                    newest.other = self.next;
                }
            }
        }
    }

    /// Why the program may have done something else: the context was given more than retries, or the thread made more.
    fn others(&self, space: SpaceId, ctx: Handle, since: &Since) -> Option<Doubt> {
        since.other.err().or_else(|| self.requests(space, ctx, since))
    }

    /// The same, of requests only.
    pub(super) fn requests(&self, space: SpaceId, ctx: Handle, since: &Since) -> Option<Doubt> {
        let is_newest = |of: Of, number: u64| {
            let newest = self.newest.get(&(space, of)).filter(|it| it.fault <= since.fault);
            newest.is_some_and(|it| it.other == number)
        };
        let (of_context, of_thread) = since.other.ok()?;
        let is_so =
            is_newest(Of::Context(ctx), of_context) && is_newest(Of::Thread(since.tid), of_thread);
        (!is_so).then_some(Doubt::Submitted)
    }

    /// An address space that stood for a process has become known.
    pub fn moved(&mut self, from: SpaceId, to: SpaceId) {
        move_space(&mut self.newest, from, to);
    }

    /// A context has another handle.
    pub fn ring_moved(&mut self, space: SpaceId, from: Handle, to: Handle) {
        if let Some(it) = self.newest.remove(&(space, Of::Context(from))) {
            self.newest.insert((space, Of::Context(to)), it);
        }
    }

    /// No fault is watched.
    pub fn forget(&mut self) {
        self.newest.clear();
    }
}

impl Since {
    /// It came again then, for certain, and that returned at this time.
    pub fn came_then(&mut self, began: u64, returned: u64) {
        self.pause = self.pause.max(began.saturating_sub(self.time));
        self.time = returned;
    }

    /// Whether what began then is too late for a retry.
    pub fn is_late(&self, began: u64) -> bool {
        began > self.time.saturating_add(AT_ONCE)
    }

    /// A call failed in this thread, or a completion is seen there.
    pub fn new(tid: u32, time: u64, call: Option<&Args>) -> Self {
        let is_kept = |it: &&Args| matches!(it, Args::Getevents { .. } | Args::Setup { .. });
        let call = call.filter(is_kept).cloned().map(Box::new);
        Self { tid, fault: time, time, other: Ok((0, 0)), pause: 0, stack: None, call }
    }

    /// Where in the program the call was made.
    pub fn at(self, stack: Option<Stack>) -> Self {
        Self { stack, ..self }
    }

    /// Whether it is unknown at this time if what came after a pause was the next of a request that is made again and again:
    /// then it would have come again by now, unless the process has ended.
    pub fn is_young(&self, now: u64) -> bool {
        self.pause > NO_PERIOD && now < self.time.saturating_add(self.pause.saturating_mul(2))
    }

    /// Whether a call was made from another place in the program, as far as known.
    fn is_elsewhere(&self, stack: Option<&Stack>) -> bool {
        let both = self.stack.as_ref().zip(stack);
        both.is_some_and(|(first, later)| addresses(first) != addresses(later))
    }

    /// Of an io_setup: where the program makes that context.
    pub fn site(&self) -> Option<Site> {
        Site::of(self.call.as_deref()?, self.stack.as_ref())
    }

    /// For how many requests an io_setup is called in place of the one that failed, and that one, if it is for fewer.
    pub fn fewer(&self, attempt: &Attempt<'_>) -> Option<(u32, u32)> {
        let fewer = fewer(self.call.as_deref()?, attempt.args)?;
        (!self.is_elsewhere(attempt.stack)).then_some(fewer)
    }

    /// Something else may have been done, for this reason.
    pub fn goes_on(&mut self, doubt: Doubt) {
        self.other = self.other.and(Err(doubt));
    }

    /// The reason for doubt that other data were put into the memory of what is left.
    pub fn is_refilled(&self) -> Option<Doubt> {
        self.other.err().filter(|it| *it == Doubt::Refilled)
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
        let is_other = self.call.as_ref().is_some_and(|it| !is_same(it, attempt.args));
        let thread = self.is_of_another(attempt).then_some(Doubt::AnotherThread);
        let arguments = is_other.then_some(Doubt::OtherArguments);
        thread.or(others).or(arguments).or_else(|| self.late(attempt))
    }
}

impl Faults {
    /// A fault is known to its program from now on.
    pub(super) fn begins(&mut self, number: u64, tid: u32, time: u64) {
        let Some(watched) = self.watched.get_mut(&number) else { return };
        let of_context = self.given.newest(watched.space, Of::Context(watched.current()));
        let other = (of_context, self.given.newest(watched.space, Of::Thread(tid)));
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
        ctx: Handle,
        doubt: Option<Doubt>,
    ) -> Option<u64> {
        let watched = self.watched.get_mut(&number)?;
        let others = self.given.others(attempt.space, ctx, &watched.since);
        // When nothing is watched any more, a close of the descriptor is not seen either.
        let is_watched = watched.told.is_none() || self.owing.contains(&number);
        let doubt =
            doubt.or((watched.is_about_requests() && !is_watched).then_some(Doubt::NotWatched));
        // What may be its next one is no retry for the other faults either.
        match watched.since.why_not(attempt, others).or(doubt).or(watched.again) {
            None => {
                watched.since.came_then(attempt.entered, attempt.time);
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
            Want::Setup(..) | Want::AnySetup => {
                if let Some(watched) = self.watched.get_mut(&number) {
                    let is_elsewhere = watched.since.is_elsewhere(attempt.stack);
                    let elsewhere = is_elsewhere.then_some(Doubt::OtherPlace);
                    let late = watched.since.late(attempt);
                    watched.again = watched.again.or(elsewhere).or(late);
                }
            }
            // There is one context that it can be meant for.
            _ => (),
        }
    }
}

/// The chain of callers.
pub(super) fn addresses(stack: &Stack) -> Vec<u64> {
    stack.frames.iter().map(|it| it.address).collect()
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
