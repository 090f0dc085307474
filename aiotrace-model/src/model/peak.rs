//! Most requests of a context that were in flight at a time.
//!
//! Requests get in flight inside of io_submit only, one after the other, and when each did is not known: those that
//! complete before it returns may have been in flight together, or each before the next.

/// A number that is known, or two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    at_least: u64,
    at_most: u64,
}

impl Peak {
    /// An io_submit took some requests, and returned with so many of the context in flight, after others had completed
    /// while it took place, of whatever call. `is_known`: it is known for sure what had completed.
    ///
    /// Whatever was in flight at a moment still is when the last io_submit of that moment returns, or has completed while
    /// it took place.
    pub fn submitted(&mut self, in_flight: u64, completed: u64, is_known: bool) {
        let at_least = if is_known { in_flight.max(1) } else { 1 };
        self.at_least = self.at_least.max(at_least);
        self.at_most = self.at_most.max(in_flight + completed).max(at_least);
    }

    /// As many, or fewer.
    pub fn at_most(self) -> u64 {
        self.at_most
    }

    /// It is not known whether there were as many.
    pub fn is_bound(self) -> bool {
        self.at_least < self.at_most
    }

    /// Of several contexts: the most that one of them had.
    pub fn or(self, other: Self) -> Self {
        Self {
            at_least: self.at_least.max(other.at_least),
            at_most: self.at_most.max(other.at_most),
        }
    }
}
