//! What is wrong with a rule.

use std::{fmt, ops::Range};

/// What is wrong with a rule, and where. Shown in two lines: the rule, and a mark below the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    rule: String,
    at: Range<usize>,
    why: String,
}

impl Mistake {
    pub(super) fn new(rule: &str, at: Range<usize>, why: impl Into<String>) -> Self {
        Self { rule: rule.to_owned(), at, why: why.into() }
    }

    /// Where, in bytes of the rule's text; empty for something that is missing.
    pub fn place(&self) -> Range<usize> {
        self.at.clone()
    }

    /// What is wrong, and what to do.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A terminal must not obey what stands in a rule.
        let shown = self.rule.replace(char::is_control, "\u{fffd}");
        let chars =
            |range: Range<usize>| self.rule.get(range).map_or(0, |passage| passage.chars().count());
        let column = chars(0..self.at.start);
        let width = chars(self.at.clone()).max(1);
        writeln!(f, "{shown}")?;
        write!(f, "{:column$}{:^<width$} {}", "", "", self.why)
    }
}

impl std::error::Error for Mistake {}
