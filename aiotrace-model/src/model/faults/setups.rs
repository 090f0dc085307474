//! Contexts that a program makes after an io_setup that met a fault. A loop that makes one for each of its workers calls io_setup
//! at one place, perhaps with one variable: then the next worker's call looks like a retry. And a retry may ask for fewer requests.

use super::{Faults, again::addresses, attempt::Attempt, watched::Watched};
use crate::event::{Address, Args, Stack};

/// Where a program makes a context: the variable for its handle, and the chain of callers, as far as known.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Site(Address, Option<Vec<u64>>);

impl Site {
    /// Of an io_setup.
    pub fn of(args: &Args, stack: Option<&Stack>) -> Option<Self> {
        match args {
            Args::Setup { ctxp, .. } => Some(Self(*ctxp, stack.map(addresses))),
            _ => None,
        }
    }
}

impl Faults {
    /// A context was made. `is_retry`: a fault had kept the program from that.
    pub(super) fn makes_context(&mut self, attempt: &Attempt<'_>, is_retry: bool) {
        let site = Site::of(attempt.args, attempt.stack);
        let site = site.filter(|_| !is_retry && attempt.has_succeeded());
        if let Some((history, site)) = self.history.as_mut().zip(site) {
            history.did(attempt.space, site);
        }
    }

    /// Whether the program makes contexts there at other times, too.
    pub(super) fn makes_more(&self, watched: &Watched) -> bool {
        let site = watched.since.site();
        self.history.as_ref().zip(site).is_some_and(|(it, site)| it.had(watched.space, site))
    }
}

/// How many requests the later of two io_setups asks for, and the first, if it may do with fewer in its place.
pub fn fewer(first: &Args, later: &Args) -> Option<(u32, u32)> {
    let of = |args: &Args| match args {
        Args::Setup { nr_events, ctxp, .. } => Some((*nr_events, *ctxp)),
        _ => None,
    };
    let ((first, of_first), (later, of_later)) = of(first).zip(of(later))?;
    (of_first == of_later && later < first).then_some((later, first))
}
