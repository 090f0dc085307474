//! What a program did that is no retry: requests that were accepted, and contexts that were made. A program that uses a place
//! of a file again and again (a log's header, a superblock, a hot page), or syncs a file with each commit, or makes a context
//! for each of its workers in a loop, does the same without retrying anything, so its next one is no certain retry.

use std::hash::{BuildHasher as _, Hash};

use crate::event::SpaceId;

/// Bits of a set: 128 KiB each. With 100,000 different requests, one in ten is taken for one that was made before, which makes
/// a verdict unsure and never false.
const BITS: u64 = 1 << 20;

/// What was done once, and what was done again, as far as hashes tell. Its size is fixed,
/// whatever the program does.
pub struct History {
    once: Vec<u64>,
    again: Vec<u64>,
    hasher: foldhash::fast::FixedState,
}

impl Default for History {
    fn default() -> Self {
        let empty = || vec![0; (BITS / 64) as usize];
        Self { once: empty(), again: empty(), hasher: foldhash::fast::FixedState::with_seed(0) }
    }
}

impl History {
    /// This was done, and is no retry for sure.
    pub fn did(&mut self, space: SpaceId, what: impl Hash) {
        let (word, bit) = self.bit(space, what);
        if let (Some(once), Some(again)) = (self.once.get_mut(word), self.again.get_mut(word)) {
            *again |= *once & bit;
            *once |= bit;
        }
    }

    /// Whether this may have been done before.
    pub fn had(&self, space: SpaceId, what: impl Hash) -> bool {
        let (word, bit) = self.bit(space, what);
        self.once.get(word).is_some_and(|it| it & bit != 0)
    }

    /// Whether it may have been done more than once.
    pub fn had_again(&self, space: SpaceId, what: impl Hash) -> bool {
        let (word, bit) = self.bit(space, what);
        self.again.get(word).is_some_and(|it| it & bit != 0)
    }

    fn bit(&self, space: SpaceId, what: impl Hash) -> (usize, u64) {
        let bit = self.hasher.hash_one((space, what)) % BITS;
        ((bit / 64) as usize, 1 << (bit % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_known_and_what_was_done_twice() {
        let mut history = History::default();
        history.did(SpaceId(7), 0);
        assert!(history.had(SpaceId(7), 0) && !history.had_again(SpaceId(7), 0));
        assert!(!history.had(SpaceId(7), 512) && !history.had(SpaceId(8), 0));
        history.did(SpaceId(7), 0);
        assert!(history.had_again(SpaceId(7), 0));
    }
}
