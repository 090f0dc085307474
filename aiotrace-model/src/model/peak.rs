//! Most requests of a context that were in flight at a time.
//!
//! Requests get in flight inside of io_submit only, one after the other, and when each did is not known: those that
//! complete before it returns may have been in flight together, or each before the next.

/// A number that is known, or two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    at_least: u64,
    at_most: u64,
    /// There may have been more: others were in flight at the attach, or that is unknown.
    is_open: bool,
}

/// What a number says of the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It is the number.
    Exact,
    /// It is the number, or less.
    AtMost,
    /// It is the number, or more.
    AtLeast,
}

impl Bound {
    /// How text shows it, before the number.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
        }
    }
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

    /// Of a context in which so many requests were in flight at the attach, beside those that were counted; `None`: that
    /// is unknown. When each of them completed is unknown, too.
    pub fn with_before(self, before: Option<u64>) -> Self {
        let at_least = self.at_least.max(before.unwrap_or(0));
        Self { at_least, at_most: self.at_most, is_open: before != Some(0) }
    }

    /// As many as were counted, or fewer.
    pub fn at_most(self) -> u64 {
        self.at_most
    }

    /// The number, or the one to which [`bound`](Self::bound) belongs.
    pub fn number(self) -> u64 {
        if self.is_open { self.at_least } else { self.at_most }
    }

    /// On which side of the number the truth is.
    pub fn bound(self) -> Bound {
        match self {
            Self { is_open: true, .. } => Bound::AtLeast,
            _ if self.at_least < self.at_most => Bound::AtMost,
            _ => Bound::Exact,
        }
    }

    /// Of several contexts: the most that one of them had.
    pub fn or(self, other: Self) -> Self {
        Self {
            at_least: self.at_least.max(other.at_least),
            at_most: self.at_most.max(other.at_most),
            is_open: self.is_open || other.is_open,
        }
    }
}
