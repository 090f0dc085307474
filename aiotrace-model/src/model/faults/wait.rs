//! Whether an io_getevents that follows one that failed is the same wait once more. Any thread may wait on a context, and a
//! thread that has given up waits again for the next requests: only the same call, at once, and with nothing submitted
//! meanwhile, is a retry for sure.

use super::{
    Faults,
    retries::Attempt,
    watched::{Want, Watched},
};
use crate::{event::Args, model::Doubt};

/// A retry comes within this time; nanoseconds.
const AT_ONCE: u64 = 1_000_000_000;

/// A wait for completions that failed.
#[derive(Debug)]
pub struct Wait {
    args: Args,
    /// An io_submit was accepted by its context since.
    is_submitted: bool,
}

impl Wait {
    /// `None`: the call does not wait for completions.
    pub fn of(args: &Args) -> Option<Box<Self>> {
        let is_one = matches!(args, Args::Getevents { .. });
        is_one.then(|| Box::new(Self { args: args.clone(), is_submitted: false }))
    }
}

impl Faults {
    /// A context has accepted requests: who waits then may wait for these.
    pub(super) fn submitted_since(&mut self, space: u64, ctx: u64) {
        for (number, _) in self.wanting(space, Want::Reap(ctx), u64::MAX) {
            let wait = self.watched.get_mut(&number).and_then(|it| it.wait.as_mut());
            wait.into_iter().for_each(|it| it.is_submitted = true);
        }
    }
}

impl Watched {
    /// A call waits on the same context: whether this fault's thread made it. If that is no retry for sure, it is remembered why.
    pub(super) fn waits_again(&mut self, attempt: &Attempt<'_>) -> bool {
        let Some(wait) = &self.wait else { return true };
        if attempt.tid != self.tid {
            // It waits for itself, or instead of the other.
            self.doubt.get_or_insert(Doubt::AnotherThread);
            return false;
        }
        if self.retries == 0 {
            let after = attempt.entered.saturating_sub(self.time);
            self.again = match (wait.is_submitted, is_same(&wait.args, attempt.args)) {
                (true, _) => Some(Doubt::Submitted),
                (false, false) => Some(Doubt::OtherArguments),
                (false, true) => (after > AT_ONCE).then_some(Doubt::Late),
            };
        }
        true
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
        // What was not read is not known to be the same.
        (Some(Some(it)), Some(Some(later))) => (later.sec, later.nsec) <= (it.sec, it.nsec),
        _ => false,
    };
    wants == later_wants && is_no_longer
}
