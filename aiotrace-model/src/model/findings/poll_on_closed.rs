//! poll-on-closed: the descriptor of a poll was closed while the poll pends. `polls` of [`crate::model`] finds it.

use super::Basis;
use crate::{
    model::{Severity, Subject},
    words::duration::in_words,
};

/// A pending poll whose descriptor was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollOnClosed {
    /// The poll.
    pub request: Subject,
    /// Time since its io_submit was entered, nanoseconds.
    pub age: u64,
    /// The descriptor leads to another file by now.
    pub is_reused: bool,
}

impl Basis for PollOnClosed {
    const NAME: &'static str = "poll-on-closed";
    const SEVERITY: Severity = Severity::Warning;
    const NUMBERS: &'static [&'static str] = &["age_ns", "reused"];

    fn message(&self) -> String {
        let now = match self.is_reused {
            true => "is another file's by now",
            false => "is closed",
        };
        format!(
            "{} is in flight for {}, and its descriptor {now}: the request holds the file that it had, and completes \
             when that one is ready, if ever",
            self.request.in_words(),
            in_words(self.age)
        )
    }

    fn numbers(&self) -> Vec<(&'static str, i64)> {
        vec![("age_ns", self.age as i64), ("reused", self.is_reused.into())]
    }
}
