//! What became of all contexts and requests. The same things are counted in more than one way, and a report whose
//! numbers do not agree says so.

use std::ops::AddAssign;

/// Numbers of contexts and of their requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Contexts that became known.
    pub contexts: u64,
    /// Contexts that have not ended.
    pub alive: u64,
    /// Contexts that have ended.
    pub ended: u64,
    /// Requests given to io_submit.
    pub submitted: u64,
    /// How many of these were accepted.
    pub accepted: u64,
    /// How many of these were not accepted.
    pub refused: u64,
    /// Requests that completed, and that were submitted before the attach, or in a call whose return was not seen.
    pub before: u64,
    /// Requests that completed with a known result.
    pub completed: u64,
    /// Requests that completed with an unknown result.
    pub unknown: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Requests that were in flight when their context ended.
    pub discarded: u64,
    /// Completions that were in a ring at the attach.
    pub found: u64,
    /// Completions that were reaped.
    pub reaped: u64,
    /// Completions that are not reaped.
    pub unreaped: u64,
    /// Completions that were not reaped when io_destroy ended their context.
    pub discarded_unreaped: u64,
    /// Completions that the process may have reaped before its end without a call.
    pub unknown_unreaped: u64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.contexts += other.contexts;
        self.alive += other.alive;
        self.ended += other.ended;
        self.submitted += other.submitted;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.before += other.before;
        self.completed += other.completed;
        self.unknown += other.unknown;
        self.in_flight += other.in_flight;
        self.discarded += other.discarded;
        self.found += other.found;
        self.reaped += other.reaped;
        self.unreaped += other.unreaped;
        self.discarded_unreaped += other.discarded_unreaped;
        self.unknown_unreaped += other.unknown_unreaped;
    }
}

/// Two ways to count the same thing that do not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The two ways: `submitted = accepted + refused`.
    pub what: &'static str,
    /// The number on the left side.
    pub left: u64,
    /// The number on the right side.
    pub right: u64,
}

impl Disagreement {
    /// The disagreement in words: `submitted = accepted + refused, but 3 is not 2`.
    pub fn in_words(&self) -> String {
        format!("{}, but {} is not {}", self.what, self.left, self.right)
    }
}

impl Sums {
    /// The ways to count that do not agree.
    pub fn disagreements(&self) -> Vec<Disagreement> {
        let ways = [
            ("contexts = alive + ended", self.contexts, self.alive + self.ended),
            ("submitted = accepted + refused", self.submitted, self.accepted + self.refused),
            (
                "accepted + before the attach = completed + unknown + in flight + discarded",
                self.accepted + self.before,
                self.completed + self.unknown + self.in_flight + self.discarded,
            ),
            (
                "completed + unknown + found at the attach = reaped + unreaped + discarded unreaped + unknown \
                 unreaped",
                self.completed + self.unknown + self.found,
                self.reaped + self.unreaped + self.discarded_unreaped + self.unknown_unreaped,
            ),
        ];
        let differ = ways.into_iter().filter(|(_, left, right)| left != right);
        differ.map(|(what, left, right)| Disagreement { what, left, right }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_agree_is_told_with_both_numbers() {
        let mut sums = Sums { submitted: 3, accepted: 2, refused: 1, ..Sums::default() };
        (sums.completed, sums.in_flight, sums.reaped) = (1, 1, 1);
        assert!(sums.disagreements().is_empty());
        sums.accepted = 1;
        let told: Vec<String> = sums.disagreements().iter().map(Disagreement::in_words).collect();
        assert_eq!(
            told,
            [
                "submitted = accepted + refused, but 3 is not 2",
                "accepted + before the attach = completed + unknown + in flight + discarded, but 1 is not 2"
            ]
        );
    }
}
