//! Places in a program where contexts end.

use std::collections::BTreeSet;

/// Most places remembered.
const MOST_PLACES: usize = 1024;

/// Places that make contexts which end, each known by the innermost frames of its stack.
#[derive(Debug, Default)]
pub struct Places(BTreeSet<u64>);

impl Places {
    /// Notes that a context ended that was made at this place.
    pub fn insert(&mut self, innermost: u64) {
        if self.0.len() < MOST_PLACES {
            self.0.insert(innermost);
        }
    }

    /// Whether a context of this place has ended, or may have: there were too many places to remember.
    pub fn may_have(&self, innermost: u64) -> bool {
        self.0.len() >= MOST_PLACES || self.0.contains(&innermost)
    }
}
